"""One request of a session: what was asked, who waits for it, and what it has come to. Holds state, decides nothing."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ..._model import TurnResult, Usage
from ..effects import TurnEnded
from ..ledger import Ledger
from ..mail import Goal, Message, Token

REPROMPT = (
    "You ended your turn without calling the `{tool}` tool. Call it now with your final answer; "
    "this request is complete only when that tool has been called."
)


@dataclass(slots=True, eq=False)
class Request:
    """A request in progress, or one that waits for its turn.

    Attributes:
        input: What starts it; ``None`` for a turn that was not started from here.
        sender: What was mailed with it.
        number: Its number, once it has been told that it began; 0 until then.
        turn: The number of its latest turn that has been told to have begun.
        told: How many of its turns have been told to have ended, those included that had before it was taken up here.
        accounted: What was in its account when the last of those ended.
        untold: Turns that have ended and are told of once it is known that they are its own.
        delivery: Who waits for the input's acceptance, while the input has not gone out.
        results: Who waits for the terminal.
        is_kickoff: Whether the session was opened with it.
        ledger: What it has produced.
        earlier: What it had produced when an earlier machine ended, until that is read again.
        post_id: The delivery that carries its input, once there is one.
        sent: Whether the input has left this process.
        echo_id: The event that is its latest input in the log, once known: its own, or the last reprompt.
        origin_id: The event that is its own input in the log, once known.
        taken_at: When the provider took its input, in a form that sorts by time, once known.
        rivalled: Whether somebody else's input stands before or beside it, so that work may be on that.
        running: Whether the session runs since the input was sent, which by itself is no work on it.
        begun: Whether the provider has shown work on it.
        paused: Whether the session has stopped since the input was sent, though nothing showed work on it.
        interrupted_after: The turns that were over when a caller cut it short, if one did.
        passed: The turns that the guard has let pass.
        reprompts: How often the terminal tool was asked for.
        round: Calls of the turn that is open.
        boundaries: Turns that wait for the guard's verdict, in order; it is asked about the first.
    """

    input: Message | Goal | None = None
    sender: object = None
    number: int = 0
    turn: int = 0
    told: int = 0
    accounted: Usage = field(default_factory=Usage)
    untold: list[TurnEnded] = field(default_factory=list)
    delivery: Token | None = None
    results: list[Token] = field(default_factory=list)
    is_kickoff: bool = False
    ledger: Ledger = field(default_factory=Ledger)
    earlier: Ledger | None = None
    post_id: int | None = None
    sent: bool = False
    echo_id: str | None = None
    origin_id: str | None = None
    taken_at: str | None = None
    rivalled: bool = False
    running: bool = False
    begun: bool = False
    paused: bool = False
    interrupted_after: int | None = None
    passed: int = 0
    reprompts: int = 0
    round: set[str] = field(default_factory=set)
    boundaries: deque[TurnResult] = field(default_factory=deque)

    @property
    def known(self) -> Ledger:
        """All that it is known to have produced, also while only a part of that is read again."""
        return self.ledger if self.earlier is None else self.earlier

    def begin_anew(self) -> None:
        """Come to everything once more, since the log is read again from where its account began."""
        self.earlier, self.ledger = self.known, Ledger()
        self.begun = self.taken_at is not None and self.origin_id not in self.earlier.event_ids
        self.sent, self.echo_id = True, self.origin_id
        self.running = self.paused = False
        self.reprompts = 0
        self._forget_turns()

    def start_over(self) -> None:
        """Forget what it has come to: that was work on somebody else's input, and its own begins now."""
        self.ledger = Ledger()
        self.rivalled = False
        self.told, self.accounted = 0, Usage()
        self.passed = 0
        self.interrupted_after = None if self.interrupted_after is None else 0
        self._forget_turns()

    def _forget_turns(self) -> None:
        self.untold.clear()
        self.round.clear()
        self.boundaries.clear()
