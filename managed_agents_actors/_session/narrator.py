"""What a session tells of its course on the event bus, and counts, from what its machine has decided.

It outlives the session's actors, so that a request whose actor has crashed goes on as the same one. It keeps the one
scope in which all tasks of the session stand: its tags say at any time which request and turn are in progress.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, final

import trio

from .._errors import ActorGone, ManagedAgentsError
from .._model import SessionResult, Usage
from .._protocol.content import content_blocks
from .._protocol.effects import Announce, Began, Dropped, TurnBegan, TurnEnded
from .._protocol.mail import Goal, Message
from ..telemetry._bus import emit
from ..telemetry._scope import Scope, callers_tags, current_scope, standing
from ..telemetry._spans import SESSION_REQUEST, Span
from .statistics import Tally, added, tokens


@dataclass(slots=True)
class _Course:
    """A request in progress.

    Attributes:
        began: When it began, by trio's clock.
        tags: Those of everything that happens in it.
        span: Its own.
        turn: The span of the turn in progress.
        turn_began: When that one began.
        turns: How many have been counted.
        account: What was in its account when it was last looked at.
        spent: What it has cost.
        turn_spent: What of that its last turn has.
    """

    began: float
    tags: dict[str, Any]
    span: Span | None = None
    turn: Span | None = None
    turn_began: float | None = None
    turns: int = 0
    account: Usage = field(default_factory=Usage)
    spent: Usage = field(default_factory=Usage)
    turn_spent: Usage = field(default_factory=Usage)


@final
class Narrator:
    """Tells of one session.

    Args:
        tags: The caller's.
        known: What the library itself knows of the session, which wins over them.
        tally: Where it counts.

    Attributes:
        scope: Where the session's tasks stand.
        tally: As given.
        restarts: How often an actor took another one's place.
        reconnects: How often the stream was lost.
    """

    def __init__(self, tags: Mapping[str, Any], known: Mapping[str, Any], tally: Tally) -> None:
        self._tags: dict[str, Any] = {**callers_tags(tags), **known}
        self.scope = Scope(self._tags)
        self.tally = tally
        self.restarts = 0
        self.reconnects = 0
        self._is_opened = False
        self._counted = (0, 0)
        self._courses: dict[int, _Course] = {}

    def here(self) -> Scope:
        """Give the scope as it is now, for a task that belongs to the turn in which it is started."""
        return Scope(dict(self._tags), self.scope.span_id)

    def opened(self, session_id: str | None, *, resumed: bool) -> None:
        """The session exists at the provider; told once."""
        self._tags["session_id"] = session_id
        if not self._is_opened:
            self._is_opened = True
            emit("managed_agents.session.opened", metadata={"resumed": resumed}, scope=self.scope)

    def closed(self, failure: ManagedAgentsError | None) -> None:
        """The session has ended here, and with it whatever request a defect has kept from being concluded."""
        for number in list(self._courses):
            self._break_off(self._leave(number), failure)
        told = {} if failure is None else {"error_type": type(failure).__name__}
        restarts, reconnects = self._counted  # by the time it was closed before, if it was
        counts = {"restarts": self.restarts - restarts, "reconnects": self.reconnects - reconnects}
        emit("managed_agents.session.closed", counts, told, scope=self.scope)
        self._is_opened = False
        self._counted = (self.restarts, self.reconnects)

    def restarted(self) -> None:
        """An actor takes the place of one that has ended; not of a session that was closed, and is begun with anew."""
        if not self._is_opened:
            return
        self.restarts += 1
        self.tally.restarts += 1

    def reconnecting(self, attempt: int, delay: float, cause: ManagedAgentsError | None) -> None:
        """The stream is lost; the next attempt is made in so many seconds."""
        self.reconnects += 1
        self.tally.reconnects += 1
        why = {
            "error_type": None if cause is None else type(cause).__name__,
            "reason": str(cause or "the stream ended"),
        }
        emit("managed_agents.stream.reconnecting", {"delay": delay}, {"attempt": attempt, **why}, scope=self.scope)

    def tell(self, effect: Began | TurnBegan | TurnEnded | Dropped | Announce) -> None:
        """Tell of a step of a request's course."""
        match effect:
            case Began(sender=Context() as sender):
                sender.run(self._begin, effect)
            case Began():
                with standing(Scope()):  # nobody here has caused it, and what is in progress here least of all
                    self._begin(effect)
            case TurnBegan(request=number, turn=turn, spent=spent):
                self._begin_turn(number, self._course(number), turn, spent)
            case TurnEnded(request=number):
                self._end_turn(self._course(number), effect)
            case Dropped(request=number):
                self._break_off(self._leave(number), None)
            case Announce(request=number, result=result, error=error):
                # What an unfinished turn has cost is told at its end, too.
                course = self._course(number)
                course.turn_spent = added(course.turn_spent, self._count(course, result.usage))
                self._end(self._leave(number), result, error)

    # --- a request's course -----------------------------------------------------------------------------------------

    def _begin(self, effect: Began) -> None:
        """Begin a request; run where its sender stood, so that it is told as being in what the sender was doing."""
        course = self._course(effect.request)
        kind = {Message: "message", Goal: "outcome"}.get(type(effect.input), "other")
        course.span = Span.begin(
            SESSION_REQUEST,
            {"kind": kind},
            scope=Scope(course.tags, current_scope().span_id),
            content={} if effect.input is None else {"input": _said(effect.input)},
        )
        self.tally.requests += 1
        self._stand(course)

    def _course(self, number: int) -> _Course:
        """The course of a request; one whose beginning was lost with a crash has one from now on."""
        if number not in self._courses:
            self._courses[number] = _Course(trio.current_time(), {**self._session_tags(), "request": number})
        return self._courses[number]

    def _begin_turn(self, number: int, course: _Course, turn: int, account: Usage) -> None:
        self._close_turn(course)
        course.account = account
        course.tags = {**self._session_tags(), "request": number, "turn": turn}
        course.turn_began = trio.current_time()
        course.turn = Span.begin(
            "managed_agents.turn", scope=Scope(course.tags, None if course.span is None else course.span.id)
        )
        self._stand(course)

    def _end_turn(self, course: _Course, effect: TurnEnded) -> None:
        course.turns += 1
        self.tally.turns += 1
        course.turn_spent = self._count(course, effect.spent)
        ids = tuple(use.id for use in effect.calls)
        told = {"turn": effect.turn, "tool_use_ids": ids, "tools": tuple(use.name for use in effect.calls)}
        emit("managed_agents.session.tool_uses", {"tool_use_count": len(ids)}, told, scope=self.scope)

    def _close_turn(self, course: _Course) -> None:
        """The turn in progress ends: with the next one, or with its request, so that its tools are part of it."""
        if course.turn_began is not None:
            self.tally.turn_latency.add(trio.current_time() - course.turn_began)
        if course.turn is not None:
            course.turn.stop(self._which(), measurements=tokens(course.turn_spent))
        course.turn, course.turn_began, course.turn_spent = None, None, Usage()

    def _leave(self, number: int) -> _Course:
        course = self._course(number)
        self._close_turn(course)
        del self._courses[number]
        self.scope.span_id = None
        for name in ("request", "turn"):
            self._tags.pop(name, None)
        for other in self._courses.values():
            self._stand(other)
        return course

    def _end(self, course: _Course, result: SessionResult, error: ManagedAgentsError | None) -> None:
        told = {**self._which(), "terminal": result.terminal, "stop_reason": _name(result.stop_reason)}
        if isinstance(error, ActorGone):
            told["cancelled"] = True
        elif error is not None or result.error is not None:
            told["error_type"] = type(error).__name__ if error is not None else _error_type(result)
        measured: dict[str, float] = {"turns": course.turns, **tokens(course.spent)}
        content = {"text": result.text}
        if course.span is not None:
            course.span.stop(told, measurements=measured, content=content)
            return
        measured["duration"] = trio.current_time() - course.began
        emit(SESSION_REQUEST.stop, measured, {**course.tags, **told}, content=content)

    def _break_off(self, course: _Course, failure: ManagedAgentsError | None) -> None:
        """End a request that has no result."""
        why = {"cancelled": True} if failure is None else {"error_type": type(failure).__name__}
        if course.span is not None:
            course.span.stop({**self._which(), "terminal": None, "stop_reason": None, **why})

    def _session_tags(self) -> dict[str, Any]:
        """The tags of the session, without those of what is in progress in it."""
        return {name: value for name, value in self._tags.items() if name not in ("request", "turn")}

    def _which(self) -> dict[str, Any]:
        """Say which session it is: what begins with a new one does not know that yet, and its end does."""
        return {name: self._tags[name] for name in ("session_id",) if name in self._tags}

    def _count(self, course: _Course, account: Usage) -> Usage:
        """Count what is in a request's account now beyond what was there before, and give it."""
        more, course.account = added(account, course.account, sign=-1), account
        course.spent = added(course.spent, more)
        self.tally.usage = added(self.tally.usage, more)
        return more

    def _stand(self, course: _Course) -> None:
        """What happens in the session from now on happens in this request, and in its turn."""
        self._tags.update({name: course.tags[name] for name in ("request", "turn") if name in course.tags})
        span = course.turn or course.span
        self.scope.span_id = None if span is None else span.id


def _said(item: Message | Goal) -> Any:
    if isinstance(item, Message):
        return content_blocks(item.content)
    return {"description": item.outcome.description, "rubric": item.outcome.rubric}


def _name(stop_reason: Any) -> str | None:
    name = stop_reason.get("type") if isinstance(stop_reason, Mapping) else stop_reason
    return name if isinstance(name, str) else None


def _error_type(result: SessionResult) -> str | None:
    return None if result.error is None else result.error.type
