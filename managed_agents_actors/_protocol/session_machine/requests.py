"""One request of a session: what was asked, who waits for it, and what it has come to. Holds state, decides nothing."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ..._model import TurnResult, Usage
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
        told: How many of its turns have been told to have ended.
        accounted: What was in its account when the last of those ended, or when it was made.
        delivery: Who waits for the input's acceptance, while the input has not gone out.
        results: Who waits for the terminal.
        is_kickoff: Whether the session was opened with it.
        ledger: What it has produced.
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
    delivery: Token | None = None
    results: list[Token] = field(default_factory=list)
    is_kickoff: bool = False
    ledger: Ledger = field(default_factory=Ledger)
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

    def begin_anew(self) -> Ledger:
        """Forget what it has come to, since the log is read again from where its account began; give that account."""
        earlier, self.ledger = self.ledger, Ledger()
        self.begun = self.taken_at is not None and self.origin_id not in earlier.event_ids
        self.sent, self.echo_id = True, self.origin_id
        self.rivalled = self.running = self.paused = False
        self.reprompts = 0
        self.round.clear()
        self.boundaries.clear()
        return earlier
