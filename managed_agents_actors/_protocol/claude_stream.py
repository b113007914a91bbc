"""The event stream of Claude Managed Agents: bytes in, raw event dictionaries out.

The type of an event is the ``type`` of its data; the SSE event name only fills in where the data has none.
Keep-alives give nothing. What cannot be decoded becomes a :class:`DecodeFailure` and ends the stream: nothing
is dropped silently.

Source: Claude Managed Agents, "Stream session events"; servers differ in event names, keep-alives and error
shapes.
"""

from __future__ import annotations

from typing import Any

from .codec import decode_json
from .sse import MAX_FRAME_BYTES, MAX_SHOWN_NAME, DecodeFailure, SSEDecoder, SSEFrame

__all__ = ["ClaudeStreamDecoder", "DecodeFailure"]


class ClaudeStreamDecoder:
    """Incremental decoder of one event stream of a session."""

    def __init__(self, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._sse = SSEDecoder(max_frame_bytes=max_frame_bytes)
        self._dead = False

    @property
    def retry(self) -> float | None:
        """The reconnection time the server asked for, in seconds; ``None`` if it did not."""
        return self._sse.retry

    def feed(self, chunk: bytes) -> list[dict[str, Any] | DecodeFailure]:
        """Take the next bytes and give the events they complete.

        A failure is the last item of the last list that is not empty: later feeds give nothing.
        """
        if self._dead:
            return []
        events: list[dict[str, Any] | DecodeFailure] = []
        for frame in self._sse.feed(chunk):
            event = frame if isinstance(frame, DecodeFailure) else _event(frame)
            if event is not None:
                events.append(event)
            if isinstance(event, DecodeFailure):
                self._dead = True
                break
        return events


def _event(frame: SSEFrame) -> dict[str, Any] | DecodeFailure | None:
    """The event of one frame, ``None`` for a keep-alive."""
    name, data = frame
    if name == "ping" or not data or data.isspace():
        return None
    if name == "error":
        return _error(data)
    try:
        value = decode_json(data)
    except ValueError as error:
        return DecodeFailure.of(f"the data of {_named(name)} is not JSON: {error}", data)
    if not isinstance(value, dict):
        seen = type(value).__name__
        return DecodeFailure.of(f"the data of {_named(name)} is a JSON {seen}, expected an object", data)
    kind = value.get("type")
    if kind == "ping":
        return None
    if kind is None and name != "message":
        value["type"] = name
    return value


def _named(name: str) -> str:
    """The frame by its event name, which is never cut: half a secret could not be recognised as one."""
    return f"a {name!r} frame" if len(name) <= MAX_SHOWN_NAME else f"a frame named with {len(name)} characters"


def _error(data: bytes) -> dict[str, Any]:
    """The error event of an ``event: error`` frame.

    Documented is ``{"type": "error", "error": {…}}``; the inner object alone, a bare string and plain text
    are taken for that inner error. An event of another type keeps it: the data decides.
    """
    try:
        value = decode_json(data)
    except ValueError:
        value = data.decode("utf-8", "replace")
    if not isinstance(value, dict):
        return {"type": "error", "error": value}
    kind = value.get("type")
    if isinstance(kind, str) and kind.endswith("_error"):
        return {"type": "error", "error": value}
    return value if kind is not None else {**value, "type": "error"}
