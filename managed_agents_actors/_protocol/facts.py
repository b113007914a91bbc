"""What a provider's event means, in words every provider shares: the alphabet the session machine reads.

A provider's ``classify`` turns one raw event into one fact; the raw event itself is kept beside it and never replaced.
Facts hold no wire shapes beyond ids and content blocks, and nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from .._errors import ManagedAgentsError
from .._model import Event, OutcomeResult, ResultError, Terminal, ToolUse

Blocks: TypeAlias = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Nothing:
    """An event that informs but changes nothing a session decides on."""


@dataclass(frozen=True, slots=True)
class Unrecognised:
    """An event of an unknown type or shape; ``what`` names it for the one report it gets."""

    what: str


@dataclass(frozen=True, slots=True)
class Running:
    """The provider says the session is at work; by itself no proof that it works on our input."""


@dataclass(frozen=True, slots=True)
class Activity:
    """A sign of the model at work; ``begins`` marks the start of a model request."""

    begins: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """A whole assistant message: the texts of its text blocks."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PreviewText:
    """A piece, perhaps empty, of an assistant message that is still being written; ``starts`` marks its beginning."""

    event_id: str
    index: int
    text: str
    starts: bool = False


@dataclass(frozen=True, slots=True)
class Called:
    """A tool call; ``problem`` says why its input cannot be used, if it cannot."""

    use: ToolUse
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A call got its result, from whomever."""

    tool_use_id: str
    content: Blocks
    is_error: bool


@dataclass(frozen=True, slots=True)
class Decided:
    """A gated call was allowed or denied; a verdict that is not ``"allow"`` is a denial."""

    tool_use_id: str
    verdict: str


@dataclass(frozen=True, slots=True)
class Spent:
    """A model request ended and cost these tokens; ``raw`` is how the provider counts them, if it has other names."""

    usage: Mapping[str, Any]
    raw: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Graded:
    """An outcome evaluation ended with this verdict, at this cost."""

    outcome: OutcomeResult
    usage: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class UserSpoke:
    """Input that starts or continues a turn.

    ``taken`` tells whether the provider has begun on it or only queued it; ``at`` is when, as text that sorts by time.
    """

    content: Blocks
    taken: bool
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An interrupt: of every thread, or of one; ``applied`` tells whether it has taken effect or is only queued."""

    thread_id: str | None
    applied: bool


@dataclass(frozen=True, slots=True)
class Idled:
    """The session stopped.

    ``waiting_for`` is ``None`` at the end of a turn; otherwise the ids of the calls that are waited for, perhaps none.
    ``explained`` is false when the provider gave no reason; ``at`` is when, in a form that sorts by time. ``at_work``
    is true when only this side has left the turn, and the provider may go on with it.
    """

    terminal: Terminal
    stop_reason: Any
    waiting_for: tuple[str, ...] | None
    explained: bool = True
    at: str | None = None
    at_work: bool = False


@dataclass(frozen=True, slots=True)
class ThreadStarted:
    """A thread runs; the first one named in a session's log is its primary thread."""

    thread_id: str


@dataclass(frozen=True, slots=True)
class ThreadEnded:
    """A thread's turn ended, or the thread itself did: its calls can no longer be answered."""

    thread_id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """The provider explains a failure; what follows from it comes as a status."""

    error: ResultError


@dataclass(frozen=True, slots=True)
class Broken:
    """The work on the request has broken off for good: the session goes on, the request does not.

    ``at_work`` is true when the provider may go on with it, unseen.
    """

    error: ManagedAgentsError
    at_work: bool = False


@dataclass(frozen=True, slots=True)
class Restarted:
    """The work since the session last began to run was in vain: it begins again, and nothing of it counts."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The session is over for good: terminated (its record stays) or deleted (nothing stays)."""

    how: Literal["terminated", "deleted"]


Fact: TypeAlias = (
    Nothing
    | Unrecognised
    | Running
    | Activity
    | Said
    | PreviewText
    | Called
    | Answered
    | Decided
    | Spent
    | Graded
    | UserSpoke
    | Interrupted
    | Idled
    | ThreadStarted
    | ThreadEnded
    | Failed
    | Broken
    | Restarted
    | Ended
)

Classify: TypeAlias = Callable[[Event], Fact]

# The type of an event that a provider module puts between the provider's own, to say what follows from them. It holds
# its fact, and nobody is shown it.
OWN_EVENT: Final = "managed_agents.fact"

NOTHING = Nothing()
RUNNING = Running()
ACTIVITY = Activity()
MODEL_REQUESTED = Activity(begins=True)
RESTARTED = Restarted()


def own_event(event_id: str, fact: Fact) -> Event:
    """Make an event of a provider module's own."""
    return {"type": OWN_EVENT, "id": event_id, "fact": fact}
