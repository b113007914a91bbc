"""An event stream of the simulated Claude API: server-sent events, and which of a session's events it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ._fault_plan import DueFault
from ._feed import Encoding, Feed, repeated
from ._frames import GARBAGE_FRAME, PING_FRAME, pad_sse_frame, sse_frame
from ._stream_faults import Frame

__all__ = ["PREVIEW_TYPES", "ClaudeFeed", "event_frame"]

# What is streamed and never logged.
PREVIEW_TYPES = frozenset({"event_start", "event_delta"})
# The hosted API pings a quiet stream about this often (observed).
PING_SECONDS = 15.0
ENCODING = Encoding(
    garbage=GARBAGE_FRAME,
    pad=pad_sse_frame,
    ping=PING_FRAME,
    ping_seconds=PING_SECONDS,
    unrepeated=PREVIEW_TYPES,
)


def event_frame(event: Mapping[str, Any]) -> Frame:
    """The frame of an event, as a feed takes it."""
    return Frame(sse_frame(event), str(event.get("type", "message")))


class ClaudeFeed(Feed):
    """What one stream of a session still has to carry.

    Attributes:
        previews: The event types whose deltas the client asked for.
        thread_id: The one thread the stream is about; ``None`` for a session's stream.

    Args:
        faults: What befalls it.
        past: The events before its first.
    """

    def __init__(
        self,
        *,
        previews: frozenset[str],
        thread_id: str | None = None,
        faults: Sequence[DueFault] = (),
        past: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        kept = repeated(faults)
        super().__init__(ENCODING, faults=faults, past=[event_frame(event) for event in past[len(past) - kept :]])
        self.previews = previews
        self.thread_id = thread_id
