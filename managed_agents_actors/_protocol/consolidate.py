"""The log of a session, put together from a stream and a listing that overlap: each event once, and what they imply.

Events are matched by id alone, and never by an empty one. ``SessionLog`` is the provider's side of the truth (is it
idle, which calls are open), read from events only; what this process has done about it is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final, Literal, TypeAlias

from .._model import Event, ResultError, ToolUse
from .facts import (
    Answered,
    Broken,
    Called,
    Classify,
    Decided,
    Ended,
    Fact,
    Failed,
    Idled,
    Interrupted,
    Running,
    ThreadEnded,
    UserSpoke,
)

Status: TypeAlias = Literal["unknown", "idle", "running", "terminated", "deleted"]


# The facts that say something of the session's state. Most events are others, such as what the agent says.
_TELLING: Final = frozenset(
    {Answered, Broken, Called, Decided, Ended, Failed, Idled, Interrupted, Running, ThreadEnded, UserSpoke}
)


class Admission(Enum):
    """What an event is to a log that may have met it before."""

    NEW = "new"
    UPDATED = "updated"  # the same id again, now processed by the provider; before, it was only queued
    KNOWN = "known"


class SeenEvents:
    """Remembers ids, as an upsert: an event that was queued when first met counts once more when it is processed.

    One entry per event with an id: the price of matching a stream against listings, 100 to 150 bytes each.

    Attributes:
        latest: The event that was recorded last, of those that the provider has processed.
    """

    __slots__ = ("_processed", "latest")

    def __init__(self) -> None:
        self._processed: dict[str, bool] = {}
        self.latest: Event | None = None

    def __len__(self) -> int:
        return len(self._processed)

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._processed

    def anchors(self, event: Event) -> bool:
        """Whether an event of a listing is known at this place: what the listing shows before it has been met, too.

        An input that was only queued when it was met is listed elsewhere once it is processed.
        """
        processed = self._processed.get(str(event.get("id")))
        return processed is True or (processed is False and not str(event.get("type")).startswith("user."))

    def union(self, other: SeenEvents) -> SeenEvents:
        """Give everything that either has recorded."""
        both = SeenEvents()
        both._processed = {**self._processed, **other._processed}
        both.latest = other.latest or self.latest
        return both

    def admit(self, event: Event) -> Admission:
        """Record the event and say whether it is new. An event without an id is always new and never recorded."""
        event_id = event.get("id")
        if not isinstance(event_id, str) or not event_id:
            return Admission.NEW
        processed = event.get("processed_at") is not None
        before = self._processed.get(event_id)
        if before is None:
            self._processed[event_id] = processed
            if processed:
                self.latest = event
            return Admission.NEW
        if processed and not before:
            self._processed[event_id] = True
            self.latest = event
            return Admission.UPDATED
        return Admission.KNOWN


class SessionLog:
    """What the provider's events say of the session now: a fold over facts, in server order.

    Attributes:
        status: The provider's last word on the session.
        stopped: The last idle, while it stands.
        waiting_for: The calls named by the idle that stands; ``None`` unless the session waits for an action.
        calls: The open calls by id, in order of arrival: not answered, not interrupted, their thread still there.
        verdicts: Confirmations the log holds for open calls.
        error: The provider's last explanation of a failure since work last began.
        doomed: Whether the last word was a failure that the session does not survive.
        unread_input: Whether input stands in the log that no status has followed yet.
    """

    __slots__ = (
        "_answered",
        "calls",
        "doomed",
        "error",
        "status",
        "stopped",
        "unread_input",
        "verdicts",
        "waiting_for",
    )

    def __init__(self) -> None:
        self.status: Status = "unknown"
        self.stopped: Idled | None = None
        self.waiting_for: tuple[str, ...] | None = None
        self.calls: dict[str, ToolUse] = {}
        self.verdicts: dict[str, str] = {}
        self.error: ResultError | None = None
        self.doomed = False
        self.unread_input = False
        self._answered: dict[str, bool] = {}

    def knows(self, tool_use_id: str) -> bool:
        """Whether the call was seen in the turn that is open, answered or not."""
        return tool_use_id in self._answered

    def has_answer(self, tool_use_id: str) -> bool:
        """Whether the call was answered in the turn that is open."""
        return self._answered.get(tool_use_id, False)

    def absorb(self, fact: Fact) -> tuple[str, ...]:
        """Fold one fact in; return the ids of the calls that are closed by it."""
        if type(fact) not in _TELLING:
            return ()
        match fact:
            case Called(use=use):
                self.calls[use.id] = use
                self._answered.setdefault(use.id, False)
            case Answered(tool_use_id=call_id):
                # Known even if its call was never listed: an idle that names it is then waited through.
                self._answered[call_id] = True
                return self._close([call_id])
            case Decided(tool_use_id=call_id, verdict=verdict):
                self.verdicts[call_id] = verdict
            case Running():
                self._run()
            case UserSpoke():
                self.unread_input = True
            case Idled():
                return self._idle(fact)
            case Interrupted(thread_id=thread_id, applied=True):
                return self._close([i for i, use in self.calls.items() if thread_id in (None, use.thread_id)])
            case ThreadEnded(thread_id=thread_id):
                return self._close([i for i, use in self.calls.items() if use.thread_id == thread_id])
            case Broken():
                return self._break_off()
            case Failed(error=error):
                self.error = error
                self.doomed = error.retry_status == "terminal"
            case Ended(how=how):
                self.status, self.waiting_for = how, None
                return self._close(list(self.calls))
            case _:
                pass
        return ()

    def close(self, call_ids: Iterable[str]) -> tuple[str, ...]:
        """Close calls that something told apart from the log's own order has ended; return those that were open."""
        return self._close(list(call_ids))

    def repeat(self, fact: Fact) -> None:
        """Fold in a fact that a listing shows again: what stood before it in the listing has been dealt with."""
        if isinstance(fact, Running | Idled):
            self.unread_input = False

    def _run(self) -> None:
        self.status, self.stopped, self.waiting_for, self.error = "running", None, None, None
        self.unread_input = self.doomed = False

    def _idle(self, idle: Idled) -> tuple[str, ...]:
        self.status, self.stopped, self.unread_input, self.doomed = "idle", idle, False, False
        if idle.waiting_for is not None:
            self.waiting_for = idle.waiting_for
            return ()
        if not idle.explained and self.calls:
            # Some servers pause without a word on why: while a call is open, that is a pause and not an end.
            self.waiting_for = ()
            return ()
        self.waiting_for = None
        closed = self._close(list(self.calls))
        self._answered.clear()
        return closed

    def _break_off(self) -> tuple[str, ...]:
        self.status, self.stopped, self.waiting_for = "idle", None, None
        self.unread_input = self.doomed = False
        closed = self._close(list(self.calls))
        self._answered.clear()
        return closed

    def _close(self, call_ids: list[str]) -> tuple[str, ...]:
        closed = tuple(i for i in call_ids if self.calls.pop(i, None) is not None)
        for call_id in call_ids:
            self.verdicts.pop(call_id, None)
        return closed


def fold(history: Iterable[Event], classify: Classify) -> SessionLog:
    """Give the state a whole history implies. Queued events that come back processed count at both places."""
    log, seen = SessionLog(), SeenEvents()
    for event in history:
        if seen.admit(event) is not Admission.KNOWN:
            log.absorb(classify(event))
    return log


def dedupe(events: Iterable[Event], seen: SeenEvents) -> list[Event]:
    """Give the events that ``seen`` has not met, in order, and record them. Events without an id always pass."""
    return [event for event in events if seen.admit(event) is Admission.NEW]


def unanswered_tool_uses(history: Iterable[Event], classify: Classify) -> list[ToolUse]:
    """Give the custom calls of a history that can still be answered, in order."""
    return [use for use in fold(history, classify).calls.values() if use.kind == "custom"]
