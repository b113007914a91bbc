"""When nothing moves: is that the provider at work, or does somebody wait for what can never come?

A session that is quiet although somebody waits is looked into after a while: history and status are read again, and
only then a conclusion is drawn. So no server, however it misbehaves, leaves a request hanging.
"""

from __future__ import annotations

from ..._errors import UnresolvedRequiresAction
from ..effects import CancelTimer, SetTimer
from .calls import Calls
from .conversation import Conversation
from .core import Core
from .requests import Request
from .turns import Turns

# Looks without news after which a provider that has all it asked for, or an input it never began on, is given up.
# It may be slow; half a minute of nothing is not that.
BARREN_LOOKS = 3

# Quiet (seconds) before a provider that is at work is asked whether it still is; after each answer without news twice
# as long, up to eight times. Providers run tools of their own for minutes, and losing sight of one is rare.
PROBE_AFTER = 120.0
MOST_PATIENCE = 8


class Quiet:
    """Watches for waits that nobody here can end.

    Attributes:
        turns: Where a conclusion that ends a turn goes.
    """

    __slots__ = (
        "_armed",
        "_barren",
        "_calls",
        "_conversation",
        "_core",
        "_due",
        "_moved",
        "_probed",
        "_probing",
        "turns",
    )

    def __init__(self, core: Core, calls: Calls, conversation: Conversation, turns: Turns) -> None:
        self._core = core
        self._calls = calls
        self._conversation = conversation
        self._armed = False
        self._due = False
        self._barren = 0
        self._probing = self._moved = self._probed = False
        self.turns = turns

    def surface_action(self) -> None:
        """End a request that waits for nothing but confirmations nobody here can give, and calls left to others."""
        request = self._conversation.active
        if request is not None and self._is_stalled() and self._needs_action():
            self._surface(request)

    def watch(self) -> None:
        """See whether the session is stalled now; called after every mail."""
        if self._core.looking:
            return  # what the look finds decides
        if not self._probing and self._is_out_of_sight():
            self._probing, self._moved = True, False
            self._core.emit(SetTimer("probe", self._patience()))
        if not self._is_stalled():
            self._disarm()
        elif not self._armed:
            self._armed = True
            self._core.emit(SetTimer("stall", self._core.settings.unresolved_after))

    def broken(self) -> None:
        """Something moves."""
        self._moved = True
        self._due = self._probed = False
        self._barren = 0
        self._disarm()

    def _disarm(self) -> None:
        if self._armed:
            self._armed = False
            self._core.emit(CancelTimer("stall"))

    def lasted(self) -> None:
        """It has been quiet for long enough: look."""
        self._armed, self._due = False, True
        self._core.look()

    def probe(self) -> None:
        """A provider that is at work may have been quiet for long: if so, look."""
        self._probing = False
        if not self._moved and self._is_out_of_sight():
            self._probed = True
            self._core.look()

    def looked(self, status: str | None) -> None:
        """A look is over: if it brought nothing new, draw the conclusion that the state allows."""
        if self._probed:
            self._probed = False
            self._barren += 1
            if status == "idle":
                self._lost_sight()
            return
        if not self._due or not self._is_stalled():
            return
        self._due = False
        self._barren += 1
        if status in ("running", "rescheduling"):
            return
        request, log = self._conversation.active, self._core.log
        if request is None:
            log.status, log.unread_input = "idle", False  # no event said so, but the session itself was asked
            self._conversation.stopped()
        elif log.waiting_for is not None:
            self._resolve_wait(request, log.waiting_for)
        elif log.stopped is not None:
            # A provider that has not stopped since it got the input may only be slow to begin.
            if request.begun or request.running or request.paused or self._barren >= BARREN_LOOKS:
                self.turns.end(request, log.stopped.terminal, log.stopped.stop_reason)
        else:
            log.unread_input = False
            self._conversation.drop_foreign(request)

    def _lost_sight(self) -> None:
        """The session says that it is idle, and no event has ever told why."""
        request, log = self._conversation.active, self._core.log
        log.status, log.unread_input = "idle", False
        if log.calls:
            log.waiting_for = ()  # as for a stop that says nothing while a call is open
        elif request is not None and request.input is not None:
            self.turns.end(request, "end_turn", None)
        elif request is not None:
            self._conversation.drop_foreign(request)

    def _patience(self) -> float:
        error = self._core.log.error
        puzzled = error is not None and error.retry_status != "retrying"
        first = self._core.settings.unresolved_after if puzzled else PROBE_AFTER
        return first * min(1 << self._barren, MOST_PATIENCE)

    def _is_out_of_sight(self) -> bool:
        """Whether somebody waits for a provider that is at work, as far as is known, while nothing is done here."""
        waits = self._conversation.active is not None or bool(self._conversation.queue)
        return waits and self._core.log.status in ("running", "unknown") and self._nothing_is_under_way()

    def _nothing_is_under_way(self) -> bool:
        core, request = self._core, self._conversation.active
        if not core.connection.live or core.looking or len(core.outbox) or self._calls.running:
            return False
        busy = any(self._calls.is_busy(call_id) for call_id in core.log.calls)
        return request is None or not (request.boundaries or busy)

    def _is_stalled(self) -> bool:
        """Whether the provider is quiet, nothing is under way here, and yet somebody waits."""
        request, log = self._conversation.active, self._core.log
        if not self._nothing_is_under_way():
            return False
        if request is None:
            return bool(self._conversation.queue)
        return log.status == "idle" or (log.unread_input and request.input is None and not request.begun)

    def _needs_action(self) -> bool:
        """Whether all that is waited for is known, and part of it is a confirmation that nobody here can give."""
        waited = self._core.log.waiting_for
        if not waited or not all(self._core.log.knows(call_id) for call_id in waited):
            return False
        still_open = [call_id for call_id in waited if call_id in self._core.log.calls]
        gated = [call_id for call_id in still_open if call_id in self._calls.unanswerable]
        return bool(gated) and all(i in self._calls.unanswerable or i in self._calls.left for i in still_open)

    def _surface(self, request: Request) -> None:
        result = request.ledger.result(self._core.session_id, "requires_action", self._stop_reason())
        self._conversation.finish(request, result)

    def _resolve_wait(self, request: Request, waited: tuple[str, ...]) -> None:
        log = self._core.log
        still_open = [log.calls[call_id] for call_id in waited or log.calls if call_id in log.calls]
        # A provider that wants all results at once takes none while another client's is missing.
        patience = BARREN_LOOKS if all(use.id in self._calls.results for use in still_open) else 1
        lost = [use for use in still_open if self._calls.is_lost(use.id, patience=patience)]
        if lost:
            for use in lost:
                self._calls.post_again(use)
        elif still_open:
            self._surface(request)
        elif self._barren >= BARREN_LOOKS or not waited or not all(log.knows(call_id) for call_id in waited):
            reason = self._stop_reason()
            known = bool(waited) and all(log.knows(call_id) for call_id in waited)
            why = (
                "calls that have all been answered" if known else "calls that neither its stream nor its history knows"
            )
            message = f"the session waits for {why}, and nothing moves: {reason!r}"
            self._conversation.fail(
                request, lambda result: UnresolvedRequiresAction(message, result=result, stop_reason=reason)
            )

    def _stop_reason(self) -> object:
        stopped = self._core.log.stopped
        return stopped.stop_reason if stopped is not None else None
