"""The mail that the session machine receives: frozen values that report what happened, or what a caller wants.

Among them are the inputs that can be sent to a provider. What the machine asks for in return is in ``effects``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from .._errors import ManagedAgentsError
from .._model import Content, Event, Halt, Outcome, ToolResult, ToolUse

Origin: TypeAlias = Literal["live", "history"]
Token: TypeAlias = int  # names a caller who waits for an answer
TimerKey: TypeAlias = str | tuple[str, int]

# --- what can be sent to a provider -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Message:
    """A user message."""

    content: Content


@dataclass(frozen=True, slots=True)
class Goal:
    """An outcome to work towards."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Interrupt:
    """A wish that the session stop what it does."""


@dataclass(frozen=True, slots=True)
class RawEvent:
    """A provider event as the caller wrote it."""

    event: Event


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a call."""

    use: ToolUse
    result: ToolResult


@dataclass(frozen=True, slots=True)
class Confirmation:
    """A verdict on a gated call."""

    tool_use_id: str
    verdict: Literal["allow", "deny"]
    message: str | None = None


Input: TypeAlias = Message | Goal | Interrupt | RawEvent | Answer | Confirmation

# --- mail: from the provider --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Opened:
    """The session exists; ``blank`` when its log is known to be empty."""

    session_id: str
    blank: bool


@dataclass(frozen=True, slots=True)
class OpenFailed:
    """The session could not be opened."""

    error: ManagedAgentsError


@dataclass(frozen=True, slots=True)
class Attached:
    """A stream is connected: everything emitted from now on will come on it."""

    generation: int


@dataclass(frozen=True, slots=True)
class History:
    """A page of the listing that was begun after the stream was attached."""

    generation: int
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class HistoryRead:
    """The listing is complete; live events follow."""

    generation: int


@dataclass(frozen=True, slots=True)
class Live:
    """Events from the stream."""

    generation: int
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Detached:
    """The stream is gone: cleanly (no cause) or by a failure; or it, or its listing, never came to be.

    ``wait`` is the shortest time in seconds that the provider asked for before the next attempt, if it did.
    """

    generation: int
    cause: ManagedAgentsError | None
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """What a look at the provider found: the whole history, and the session's status if the provider tells one."""

    events: Sequence[Event]
    status: str | None


@dataclass(frozen=True, slots=True)
class LookFailed:
    """A look at the provider failed."""

    error: ManagedAgentsError


@dataclass(frozen=True, slots=True)
class Posted:
    """An input was accepted; ``echo`` is what the provider answered."""

    post_id: int
    echo: Sequence[Event]


@dataclass(frozen=True, slots=True)
class PostFailed:
    """An input was not accepted, or nobody knows whether it was."""

    post_id: int
    error: ManagedAgentsError


# --- mail: from this side -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ToolFinished:
    """A tool has given its result."""

    tool_use_id: str
    result: ToolResult


@dataclass(frozen=True, slots=True)
class PolicySpoke:
    """The confirmation policy's verdict on a gated call; ``None`` when it has none."""

    tool_use_id: str
    verdict: Literal["allow", "deny"] | None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class GuardSpoke:
    """The turn guard's verdict on the turn it was asked about; ``None`` lets the request go on."""

    number: int
    halt: Halt | None


@dataclass(frozen=True, slots=True)
class TimerFired:
    """A timer ran out."""

    key: TimerKey


@dataclass(frozen=True, slots=True)
class Say:
    """A caller's message or goal: ``delivery`` waits for its acceptance, ``result`` for its request's terminal.

    ``sender`` is handed back when the request begins; nobody here looks at it.
    """

    input: Message | Goal
    delivery: Token | None = None
    result: Token | None = None
    sender: object = None


@dataclass(frozen=True, slots=True)
class Withdraw:
    """The caller that this token named has gone: what has not been sent for it is not to be."""

    token: Token


@dataclass(frozen=True, slots=True)
class SendEvent:
    """A caller's raw event; the token waits for the provider's answer."""

    event: Event
    token: Token


@dataclass(frozen=True, slots=True)
class InterruptWanted:
    """A caller wants the current request cut short."""

    token: Token


@dataclass(frozen=True, slots=True)
class ConfirmWanted:
    """A caller decides on a gated call."""

    confirmation: Confirmation
    token: Token


@dataclass(frozen=True, slots=True)
class StopWanted:
    """The session's actor is to end: because somebody wants it to, or by the failure that is given."""

    error: ManagedAgentsError | None = None


Command: TypeAlias = Say | Withdraw | SendEvent | InterruptWanted | ConfirmWanted | StopWanted

Mail: TypeAlias = (
    Opened
    | OpenFailed
    | Attached
    | History
    | HistoryRead
    | Live
    | Detached
    | Looked
    | LookFailed
    | Posted
    | PostFailed
    | ToolFinished
    | PolicySpoke
    | GuardSpoke
    | TimerFired
    | Command
)


def tokens_of(mail: Mail) -> tuple[Token, ...]:
    """Give who waits for an answer to a piece of mail."""
    match mail:
        case Say(delivery=delivery, result=result):
            return tuple(token for token in (delivery, result) if token is not None)
        case SendEvent(token=token) | ConfirmWanted(token=token) | InterruptWanted(token=token):
            return (token,)
        case _:
            return ()
