"""What the session machine asks its shell to perform: frozen values that say what to do, never how.

The mail that comes back tells what became of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from .._errors import ManagedAgentsError
from .._model import Event, SessionResult, ToolUse, TurnResult, Usage
from .mail import Goal, Input, Message, Origin, TimerKey, Token


@dataclass(frozen=True, slots=True)
class Landmark:
    """An event up to which the log is known, and when the provider processed it: a listing from then on shows it."""

    event_id: str
    at: str


@dataclass(frozen=True, slots=True)
class Attach:
    """Open a stream; then, if asked, read the history; then hand over what comes live.

    With a landmark, the history from there on is enough; a listing that does not show it is no such history, and the
    whole one is read.
    """

    generation: int
    read_history: bool
    since: Landmark | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """Read the whole history and the session's status, beside the stream."""


@dataclass(frozen=True, slots=True)
class Post:
    """Send one input, once."""

    post_id: int
    input: Input


@dataclass(frozen=True, slots=True)
class RunTool:
    """Start a custom call."""

    use: ToolUse


@dataclass(frozen=True, slots=True)
class CancelTool:
    """Stop a call that runs; its result is no longer wanted."""

    tool_use_id: str


@dataclass(frozen=True, slots=True)
class Settle:
    """Note for good that a call that was run here is closed: the provider has its result, or wants none."""

    tool_use_id: str


@dataclass(frozen=True, slots=True)
class AskPolicy:
    """Ask the confirmation policy about a gated call."""

    use: ToolUse


@dataclass(frozen=True, slots=True)
class AskGuard:
    """Ask the turn guard whether the request may go on; the number names the question."""

    number: int
    turn: TurnResult


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Start a timer, replacing one of the same key."""

    key: TimerKey
    seconds: float


@dataclass(frozen=True, slots=True)
class Backoff:
    """Start a timer whose length the reconnect policy gives for this attempt."""

    key: TimerKey
    attempt: int
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class CancelTimer:
    """Stop a timer, if it runs."""

    key: TimerKey


@dataclass(frozen=True, slots=True)
class Deliver:
    """Hand events, and the text deltas they add, to the observers, in order."""

    events: Sequence[Event]
    origin: Origin


@dataclass(frozen=True, slots=True)
class Began:
    """A request is in progress from here on; its number names it in what follows.

    ``input`` is what it began with, unless that came from elsewhere; ``sender`` is what was mailed with it.
    """

    request: int
    input: Message | Goal | None
    sender: object


@dataclass(frozen=True, slots=True)
class TurnBegan:
    """A turn of a request begins: with the request, or once the calls of the turn before have been run.

    ``spent`` is what was in the request's account when the turn before ended: what comes with its beginning is its own.
    """

    request: int
    turn: int
    spent: Usage


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """A turn of a request was counted; with the calls it made, and what is in the request's account by then."""

    request: int
    turn: int
    calls: tuple[ToolUse, ...]
    spent: Usage


@dataclass(frozen=True, slots=True)
class Dropped:
    """A request that had begun is none: the provider has dropped the input, which was not this process's."""

    request: int


@dataclass(frozen=True, slots=True)
class Announce:
    """Tell every subscriber that a request ended; the error is the failure on our side, if that was the end."""

    request: int
    result: SessionResult
    error: ManagedAgentsError | None


@dataclass(frozen=True, slots=True)
class Reply:
    """Answer a caller."""

    token: Token
    value: Any


@dataclass(frozen=True, slots=True)
class ReplyError:
    """Answer a caller with a failure."""

    token: Token
    error: ManagedAgentsError


@dataclass(frozen=True, slots=True)
class Reconnecting:
    """The stream is lost, cleanly or by a failure, and the timer for the next attempt has been started."""

    attempt: int
    cause: ManagedAgentsError | None


@dataclass(frozen=True, slots=True)
class Report:
    """Something worth a line in the log: what, and details that hold no content."""

    what: Literal["live", "unrecognised_event", "post_retry", "call_left_to_others", "looking"]
    detail: str


@dataclass(frozen=True, slots=True)
class Close:
    """End the actor: normally, or with the failure that ended the session."""

    error: ManagedAgentsError | None


Effect: TypeAlias = (
    Attach
    | Look
    | Post
    | RunTool
    | CancelTool
    | Settle
    | AskPolicy
    | AskGuard
    | SetTimer
    | Backoff
    | CancelTimer
    | Deliver
    | Began
    | TurnBegan
    | TurnEnded
    | Dropped
    | Announce
    | Reply
    | ReplyError
    | Reconnecting
    | Report
    | Close
)
