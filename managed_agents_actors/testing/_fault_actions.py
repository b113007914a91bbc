"""What can go wrong: one frozen value per kind of fault, in families that say what it can befall.

Values only: when a fault is due is the plan's business, what it does to a connection or a session the server's. Every
value prints as the expression that makes it, but for a key, and is looked at when it is made.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal

from .._errors import ConfigurationError
from ._given import (
    checked,
    refuse_given,
    require_a,
    require_fields,
    require_number,
    require_one_of,
    require_text,
    require_whole,
)

__all__ = [
    "FAMILIES",
    "Action",
    "CrashSession",
    "Delay",
    "DelayAnswer",
    "DelayEvents",
    "DeleteSession",
    "DropStream",
    "EndStream",
    "GarbageFrame",
    "HugeFrame",
    "InjectedCrash",
    "ListingAction",
    "LoopCursors",
    "LoseAnswer",
    "LoseRequest",
    "PauseStream",
    "RefuseWith",
    "RepeatEvents",
    "RequestAction",
    "RotateKey",
    "SessionAction",
    "ShortenListing",
    "Split",
    "StallStream",
    "StreamAction",
    "TerminateSession",
    "ThrowInStream",
    "TruncateAnswer",
    "show",
]


class InjectedCrash(Exception):
    """What :class:`CrashSession` raises in a session's actor."""


SECONDS = checked(require_number, least=0)
FROM_ONE = checked(require_whole, least=1)
COUNT = checked(require_whole, least=0)
COUNT_OR_NONE = checked(require_whole, or_none=True, least=0)


def show(value: Any) -> str:
    """The expression that makes this dataclass; what has its default is left out, what is secret is masked."""
    given = [f"{each.name}={_shown(value, each)}" for each in fields(value) if not _has_default(value, each)]
    return f"{type(value).__name__}({', '.join(given)})"


def _shown(value: Any, of: Field[Any]) -> str:
    return repr(getattr(value, of.name) if of.repr else "***")


def _has_default(value: Any, of: Field[Any]) -> bool:
    return of.default is not MISSING and bool(getattr(value, of.name) == of.default)


@dataclass(frozen=True, slots=True, repr=False)
class Action:
    """Anything a fault can do."""

    __repr__ = show

    def __post_init__(self) -> None:
        require_fields(self)


@dataclass(frozen=True, slots=True, repr=False)
class RequestAction(Action):
    """Befalls a request of any operation, a stream's included."""


@dataclass(frozen=True, slots=True, repr=False)
class RefuseWith(RequestAction):
    """Answer with this error status instead of acting; ``retry_after`` in seconds becomes the header."""

    status: int = field(metadata=checked(require_whole, least=400, most=599))
    retry_after: float | None = field(default=None, metadata=checked(require_number, or_none=True, least=0))


@dataclass(frozen=True, slots=True, repr=False)
class LoseRequest(RequestAction):
    """Close the connection without acting, as if the request were lost on its way."""


@dataclass(frozen=True, slots=True, repr=False)
class LoseAnswer(RequestAction):
    """Act on the request, then close the connection without an answer."""


@dataclass(frozen=True, slots=True, repr=False)
class Delay(RequestAction):
    """Wait so many seconds before acting."""

    seconds: float = field(metadata=SECONDS)


@dataclass(frozen=True, slots=True, repr=False)
class DelayAnswer(RequestAction):
    """Act, then wait so many seconds before answering; of a stream, before its head."""

    seconds: float = field(metadata=SECONDS)


@dataclass(frozen=True, slots=True, repr=False)
class RotateKey(RequestAction):
    """From this request on only ``key`` is accepted, of AWS as session token: 401 (403) until the client learns it."""

    key: str = field(repr=False, metadata=checked(require_text))


def _require_pieces(name: str, value: object) -> None:
    if not isinstance(value, tuple) or not value:
        raise refuse_given(name, "a tuple of whole numbers from 1", value)
    for size in value:
        require_whole(f"each of {name}", size, least=1)


@dataclass(frozen=True, slots=True, repr=False)
class Split(RequestAction):
    """Cut the answer into pieces as it goes to the wire, head, body and framing alike.

    Attributes:
        sizes: The bytes of each piece, over and over.
        pause: Seconds after each piece, so that the peer reads it alone.
    """

    sizes: tuple[int, ...] = field(default=(1,), metadata=checked(_require_pieces))
    pause: float = field(default=0.001, metadata=SECONDS)


@dataclass(frozen=True, slots=True, repr=False)
class TruncateAnswer(RequestAction):
    """Act, then end the connection in the middle of the answer's body.

    Attributes:
        after_bytes: How much of the body is sent, at most all but its last byte; half of it when left out.
    """

    after_bytes: int | None = field(default=None, metadata=COUNT_OR_NONE)


@dataclass(frozen=True, slots=True, repr=False)
class ListingAction(RequestAction):
    """Befalls a page of a listing."""


@dataclass(frozen=True, slots=True, repr=False)
class ShortenListing(ListingAction):
    """Show only the first ``rows`` rows and call it the last page; the next listing has the rest."""

    rows: int = field(default=1, metadata=COUNT)


@dataclass(frozen=True, slots=True, repr=False)
class LoopCursors(ListingAction):
    """Send the client in a circle: the next page is always one of these ``length`` cursors, in turn."""

    length: int = field(default=1, metadata=FROM_ONE)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StreamAction(Action):
    """Befalls an open stream at a place of its body: at its start, unless one of these names another.

    Attributes:
        after_events: Once it has carried so many events. Pings are none, nor what other faults add.
        after_type: Only events of this type count; with it, ``after_events`` is 1 unless given.
        after_bytes: Once its body has carried exactly so many bytes, in the middle of a frame if need be.
    """

    after_events: int = field(default=0, metadata=COUNT)
    after_type: str | None = field(default=None, metadata=checked(require_text, or_none=True))
    after_bytes: int | None = field(default=None, metadata=COUNT_OR_NONE)

    def __post_init__(self) -> None:
        require_fields(self)
        if self.after_bytes is not None and (self.after_type is not None or self.after_events):
            raise ConfigurationError(f"{type(self).__name__}: give a place by events or by bytes, not by both")
        if self.after_type is not None and self.after_events == 0:
            object.__setattr__(self, "after_events", 1)

    @property
    def has_place(self) -> bool:
        """Whether a place other than the stream's start was given."""
        return self.after_events > 0 or self.after_bytes is not None


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DropStream(StreamAction):
    """Tear the connection: a reset on loopback, an end in mid-body in memory."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class EndStream(StreamAction):
    """End the body cleanly, without a terminal event."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StallStream(StreamAction):
    """Fall silent: no events, no pings, the connection stays open."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class PauseStream(StreamAction):
    """Fall silent for so many seconds, pings included, then go on."""

    seconds: float = field(metadata=SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DelayEvents(StreamAction):
    """From here on hold every event back for so many seconds; pings go on."""

    seconds: float = field(metadata=SECONDS)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class GarbageFrame(StreamAction):
    """Send one frame that cannot be decoded, then go on."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class HugeFrame(StreamAction):
    """Pad the next event's frame with white space to ``size`` bytes: the same event, legal up to the client's limit."""

    size: int = field(metadata=FROM_ONE)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class RepeatEvents(StreamAction):
    """Send the last ``count`` events once more; at the start of a stream, the last ones before it."""

    count: int = field(default=1, metadata=FROM_ONE)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ThrowInStream(StreamAction):
    """Send an exception within the stream and end it: what the invocation did is undone, and may be asked for again.

    Attributes:
        type: The exception's name on the wire, modelled by the service or not.
        message: What it says.
        as_error: Whether it comes as an error of the stream's own encoding, which no service models.
    """

    type: str = field(default="throttlingException", metadata=checked(require_text))
    message: str = field(default="simulated fault", metadata=checked(require_text))
    as_error: bool = field(default=False, metadata=checked(require_a, kind=bool))

    def __post_init__(self) -> None:
        # Named, because slots make another class than the one whose body this is.
        StreamAction.__post_init__(self)
        if self.after_bytes is not None:
            raise ConfigurationError("ThrowInStream: an exception comes between events; give a place by events")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SessionAction(StreamAction):
    """Befalls the session itself: on a stream at its place, on any other operation before the request is acted on."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DeleteSession(SessionAction):
    """The session is deleted, whatever it is doing."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class TerminateSession(SessionAction):
    """The session is terminated, whatever it is doing."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class CrashSession(SessionAction):
    """Raise :class:`InjectedCrash` in the actor of the session, in this process, if it was bound to the plan.

    Attributes:
        when: Of a request: before it is acted on, so that it is lost too; or after, so that only its answer is.
    """

    when: Literal["before", "after"] = field(
        default="before", metadata=checked(require_one_of, known=("before", "after"))
    )


# Kinds of kinds: none of them does anything by itself.
FAMILIES = (Action, RequestAction, ListingAction, StreamAction, SessionAction)
