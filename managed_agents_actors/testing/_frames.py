"""How events become server-sent-event frames. Pure; always writes the ``event:`` line, as the hosted API does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

__all__ = ["GARBAGE_FRAME", "PING_FRAME", "encode", "pad_sse_frame", "sse_frame"]

PING_FRAME = b"event: ping\ndata: {}\n\n"
# Not JSON and not UTF-8: no decoder may take it for an event.
GARBAGE_FRAME = b'event: agent.message\ndata: {"id": \xff\xfe\n\n'


def encode(value: Any) -> bytes:
    """Compact JSON in UTF-8; all of it in ASCII if it holds half a surrogate pair, which has no other form."""
    try:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def sse_frame(event: Mapping[str, Any], *, name: str | None = None) -> bytes:
    """The frame of one event.

    Args:
        event: The data.
        name: The frame's ``event:`` line; the event's own type when left out.
    """
    return b"event: %s\ndata: %s\n\n" % ((name or str(event.get("type", "message"))).encode(), encode(event))


def pad_sse_frame(frame: bytes, size: int) -> bytes:
    """The same event in a frame of at least so many bytes, white space added."""
    end = b"\n\n"
    return frame.removesuffix(end).ljust(size - len(end)) + end
