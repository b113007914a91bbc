"""What is told of a request's course: that it has begun, each of its turns, and its end, each exactly once.

What is told of a request adds up to its result, turns and tokens alike, less the turns that had ended before it was
taken up here: those of an earlier result that it goes on from, and those of a past that was only read. What stands in
no result is told of by nobody. So a turn is not told of while it may be work on somebody else's input: when the
request's own is taken, its account begins anew; if it ends before that, its result has those turns, and they are told.

A request has a number from when it is told of. What a machine before this one has told is not told again, though the
log is read anew.
"""

from __future__ import annotations

from ..._errors import ManagedAgentsError
from ..._model import SessionResult, Usage
from ..effects import Announce, Began, Dropped, TurnBegan, TurnEnded
from .calls import Calls
from .core import Core
from .handover import Handover
from .requests import Request


class Progress:
    """Tells of requests.

    Attributes:
        numbered: How many have been told to have begun.
    """

    __slots__ = ("_calls", "_core", "numbered")

    def __init__(self, core: Core, calls: Calls, handover: Handover | None) -> None:
        self._core = core
        self._calls = calls
        self.numbered = 0 if handover is None else handover.numbered

    def begun(self, request: Request | None) -> None:
        """The request has begun, and with it its first turn."""
        if request is not None and not request.number and not self._core.replaying:
            self._number(request)
            self.begin_turn(request)

    def go_on(self, request: Request | None) -> None:
        """The next turn begins, if it does: with the results of all calls that the turn before has made."""
        self.begun(request)
        if request is None or self._core.replaying or request.turn > request.told or request.boundaries:
            return
        if self._core.log.calls.keys() <= self._calls.results.keys():
            self.begin_turn(request)

    def begin_turn(self, request: Request) -> None:
        """The turn after the last one that has ended begins, or begins anew."""
        request.turn = request.told + 1
        self._core.emit(TurnBegan(request.number, request.turn, request.accounted))

    def end_turn(self, request: Request) -> None:
        """Count a turn: it has ended."""
        self.begun(request)
        ledger = request.ledger
        ledger.end_turn()
        if self._core.replaying:
            request.told, request.accounted = ledger.turns, ledger.spent
        elif ledger.turns > request.told:
            request.untold.append(TurnEnded(request.number, ledger.turns, ledger.turn_calls, ledger.spent))
            if not request.rivalled:
                self._tell_turns(request)

    def started_over(self, request: Request) -> None:
        """What was taken for the request's was another one's: its account has begun anew, and its turns with it."""
        if request.turn > 1:
            self.begin_turn(request)

    def ended(self, request: Request, result: SessionResult, error: ManagedAgentsError | None) -> None:
        """The request has ended: its terminal is announced."""
        if not request.number:
            self._number(request)
            if request.ledger.spent != Usage():  # a turn has it, if only the one that was not told of in time
                self.begin_turn(request)
        self._tell_turns(request)
        self._core.flush()
        self._core.emit(Announce(request.number, result, error))

    def dropped(self, request: Request) -> None:
        """The request is none."""
        if request.number:
            self._core.emit(Dropped(request.number))

    def _number(self, request: Request) -> None:
        self.numbered += 1
        request.number = self.numbered
        request.turn = request.told
        self._core.flush()
        self._core.emit(Began(request.number, request.input, request.sender))

    def _tell_turns(self, request: Request) -> None:
        """Tell of the turns that have ended, each after its beginning."""
        for turn in request.untold:
            if request.turn == request.told:
                self.begin_turn(request)
            request.told, request.accounted = turn.turn, turn.spent
            self._core.flush()
            self._core.emit(turn)
        request.untold.clear()
