"""The turns of the request in progress: where one ends, and whether the request ends with it.

A turn ends when the session stops, for good or for a call, and also when the model goes on after calls that no stop
was ever told of. After each the guard may halt, and the limit is checked; then the request goes on or is concluded.
"""

from __future__ import annotations

from typing import Any

from ..._errors import ManagedAgentsError, MaxTurnsExceeded, TurnHalted
from ..._model import Halt, Terminal, TurnResult
from ..effects import AskGuard, Backoff
from ..facts import Idled
from ..mail import Message
from .conversation import Conversation
from .core import Core
from .requests import REPROMPT, Request


class Turns:
    """Judges every stop of the session.

    Attributes:
        only_duplicate: Whether nothing but a second answer to a call has come since the last stop. A provider may
            run an empty cycle after one, and its stop ends nothing.
    """

    __slots__ = ("_asked", "_asked_about", "_conversation", "_core", "only_duplicate")

    def __init__(self, core: Core, conversation: Conversation) -> None:
        self._core = core
        self._conversation = conversation
        self._asked = 0
        self._asked_about: TurnResult | None = None
        self.only_duplicate = False

    def stopped(self, idle: Idled) -> None:
        """The session is idle: see what that means for the request in progress."""
        request = self._conversation.active
        if request is None:
            return
        if self._core.log.waiting_for is not None:
            if request.round:
                self.end(request, "requires_action", idle.stop_reason)
        elif self._core.replaying:
            self.end(request, idle.terminal, idle.stop_reason)
        elif not _is_under_way(request) or _precedes(idle, request):
            # Said before the provider had begun on this request; if it is its end after all, a look will tell.
            request.paused = request.sent
        elif self.only_duplicate:
            self.only_duplicate = False
        else:
            self.end(request, idle.terminal, idle.stop_reason)

    def broke(self, error: ManagedAgentsError) -> None:
        """The work on the request has broken off: nothing is left of it at the provider that could be cut short."""
        request = self._conversation.active
        if request is None:
            return
        request.round.clear()
        if self._core.replaying:
            self._conversation.retire(request)
        else:
            self._conversation.progress.end_turn(request)
            self._conversation.give_up(request, error)

    def model_goes_on(self, request: Request) -> None:
        """A model request begins: if calls were open before and all are answered, a turn ended unsaid."""
        if request.round and request.round.isdisjoint(self._core.log.calls):
            self.end(request, "requires_action", None)

    def end(self, request: Request, terminal: Terminal, stop_reason: Any) -> None:
        """A turn is over."""
        request.round.clear()
        self._conversation.progress.end_turn(request)
        if self._core.replaying:
            if terminal != "requires_action":
                self._conversation.retire(request)
            return
        if not self._core.settings.has_guard or request.ledger.turns <= request.passed:
            self._passed(request, request.ledger.turns, terminal, stop_reason)
            return
        turn = request.ledger.turn_result(self._core.session_id or "", terminal, stop_reason)
        request.boundaries.append(turn)
        self.ask_guard()

    def ask_guard(self) -> None:
        """Ask the guard about the first turn that waits for it, unless that has been done."""
        request = self._conversation.active
        turn = request.boundaries[0] if request is not None and request.boundaries else None
        if turn is not None and turn is not self._asked_about:
            self._asked += 1
            self._asked_about = turn
            self._core.flush()
            self._core.emit(AskGuard(self._asked, turn))

    def guard_spoke(self, number: int, halt: Halt | None) -> None:
        """The guard has given its verdict on the turn it was asked about; then it is asked about the next one."""
        request = self._conversation.active
        if request is None or not request.boundaries or number != self._asked:
            return  # the request ended while its guard was thinking
        turn = request.boundaries.popleft()
        if halt is not None:
            reason = halt.reason
            message = f"the turn guard halted the request after turn {turn.turns}: {reason!r}"
            self._conversation.fail(request, lambda result: TurnHalted(message, result=result, reason=reason))
            return
        request.passed = turn.turns
        self._passed(request, turn.turns, turn.terminal, turn.stop_reason)
        self.ask_guard()

    def _passed(self, request: Request, number: int, terminal: Terminal, stop_reason: Any) -> None:
        if terminal != "requires_action":
            self._conclude(request, terminal, stop_reason)
        elif number >= self._core.settings.max_turns:
            self._fail_max_turns(request)

    def _fail_max_turns(self, request: Request) -> None:
        allowed = self._core.settings.max_turns
        message = f"the request wants another turn after {allowed}; raise max_turns if it may go on"
        self._conversation.fail(request, lambda result: MaxTurnsExceeded(message, result=result))

    def _conclude(self, request: Request, terminal: Terminal, stop_reason: Any) -> None:
        """The request's last turn is over, unless the terminal tool has to be asked for."""
        settings = self._core.settings
        if self._lacks_terminal_tool(request, stop_reason):
            if request.reprompts < settings.max_reprompts:
                self._reprompt(request)
                return
            terminal, stop_reason = "end_turn", "no_terminal_tool"
        error = self._core.log.error if terminal == "terminated" else None
        result = request.ledger.result(self._core.session_id, terminal, stop_reason, error=error)
        self._conversation.finish(request, result)

    def _lacks_terminal_tool(self, request: Request, stop_reason: Any) -> bool:
        settings = self._core.settings
        cut = request.interrupted_after is not None and request.ledger.turns > request.interrupted_after
        ended_by_itself = _name(stop_reason) == "end_turn" and not cut and request.input is not None
        was_called = settings.terminal_tool in request.ledger.custom_tool_names
        return settings.require_terminal_tool and ended_by_itself and not was_called

    def _reprompt(self, request: Request) -> None:
        if request.ledger.turns >= self._core.settings.max_turns:
            self._fail_max_turns(request)
            return
        request.reprompts += 1
        request.begun = request.running = request.sent = request.paused = False
        prompt = Message(REPROMPT.format(tool=self._core.settings.terminal_tool))
        delivery = self._core.outbox.add(prompt, perhaps_sent=self._core.reread)
        request.post_id = delivery.id
        if self._core.reread:
            self._core.emit(Backoff(("post", delivery.id), delivery.attempts))


def _is_under_way(request: Request) -> bool:
    """Whether the provider is at work on the request: it shows work, or runs with nobody else's input about."""
    return request.begun or (request.running and not request.rivalled)


def _precedes(idle: Idled, request: Request) -> bool:
    """Whether the stop is older than the provider's taking of the request, wherever a listing shows it."""
    return idle.at is not None and request.taken_at is not None and idle.at < request.taken_at


def _name(stop_reason: Any) -> str | None:
    """The bare name of a stop reason, for providers that wrap it and for those that do not."""
    if isinstance(stop_reason, dict):
        kind = stop_reason.get("type")
        return kind if isinstance(kind, str) else None
    return stop_reason if isinstance(stop_reason, str) else None
