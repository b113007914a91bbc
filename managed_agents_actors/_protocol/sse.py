"""Server-sent events: bytes in, frames out, by the rules of the WHATWG HTML standard, section 9.2.6.

The decoder knows nothing of JSON or of any provider. It is linear in the bytes it is fed, holds at most one
unfinished frame, and never dispatches a frame whose blank line has not arrived or that has no ``data`` field.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["MAX_FRAME_BYTES", "DecodeFailure", "SSEDecoder", "SSEFrame"]

# The largest body the provider takes in one request is 32 MB, and an event echoes at most what was sent.
MAX_FRAME_BYTES = 32 * 1024 * 1024
# Enough of a bad frame to recognise it in a log, little enough to keep. Whoever shows it removes secrets and cuts it
# further; with this margin none of them is cut before.
EXCERPT_BYTES = 8 * 1024

MAX_SHOWN_NAME = 100  # of an event name in a message; real ones stay under 40 characters
# 9 digits of milliseconds are eleven days; a longer reconnection time is noise, and int() refuses huge ones.
_MAX_RETRY_DIGITS = 9

_BOM = b"\xef\xbb\xbf"
_BLANK_LINE = b"\n\n"


class SSEFrame(NamedTuple):
    """One dispatched event: a named tuple, because it is built several times faster than a frozen dataclass.

    Attributes:
        event: The event's name, ``"message"`` if the frame has none.
        data: Its ``data`` lines joined by LF, undecoded; empty if the field was there without a value.
    """

    event: str
    data: bytes


@dataclass(frozen=True, slots=True)
class DecodeFailure:
    """What came cannot be decoded: the last thing its decoder gives.

    Attributes:
        message: What was seen and what was expected.
        raw: The beginning of the offending bytes.
    """

    message: str
    raw: bytes

    @classmethod
    def of(cls, message: str, data: bytes | bytearray) -> DecodeFailure:
        """A failure with a bounded excerpt of the offending bytes."""
        return cls(message, bytes(data[:EXCERPT_BYTES]))


class SSEDecoder:
    """Incremental decoder of one event stream.

    Attributes:
        last_event_id: The last ``id`` received, in a frame that was complete.
        retry: The reconnection time the server asked for, in seconds; ``None`` if it did not.
    """

    def __init__(self, *, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.last_event_id = ""
        self.retry: float | None = None
        self._max_frame_bytes = max_frame_bytes
        self._start: bytes | None = b""  # the stream's first bytes, until they are or are not a BOM
        self._after_cr = False
        self._buffer = bytearray()  # one unfinished frame, line ends normalised to LF; holds no blank line
        self._dead = False

    def feed(self, data: bytes) -> list[SSEFrame | DecodeFailure]:
        """Take the next bytes of the stream and give the frames they complete.

        A frame over the cap gives a :class:`DecodeFailure` after the frames that preceded it; the decoder is
        then dead, and later feeds give nothing.
        """
        if self._dead:
            return []
        blocks = self._complete_blocks(self._normalised(data))
        frames: list[SSEFrame | DecodeFailure] = []
        for block in blocks:
            if len(block) > self._max_frame_bytes:
                return [*frames, self._die(block)]
            frame = self._frame(block)
            if frame is not None:
                frames.append(frame)
        # The buffer may end in the first half of its blank line, which does not belong to the frame.
        if len(self._buffer) > self._max_frame_bytes + 1:
            frames.append(self._die(self._buffer))
        return frames

    def _normalised(self, data: bytes) -> bytes:
        """The bytes without the stream's BOM and with every line end as LF.

        A CR that ends a chunk ends its line at once; the LF that may open the next chunk is then dropped.
        """
        if self._start is not None:
            data = self._start + data
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._start = data
                return b""
            self._start = None
            data = data.removeprefix(_BOM)
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if b"\r" in data:
            self._after_cr = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data

    def _complete_blocks(self, data: bytes) -> list[bytes]:
        """Append to the buffer and take out every block that a blank line ends."""
        if not self._buffer:
            *blocks, rest = data.split(_BLANK_LINE)
            self._buffer += rest
            return blocks
        unscanned = len(self._buffer) - 1  # what lies before was searched when it came
        self._buffer += data
        if self._buffer.find(_BLANK_LINE, unscanned) < 0:
            return []
        *blocks, rest = bytes(self._buffer).split(_BLANK_LINE)
        self._buffer = bytearray(rest)
        return blocks

    def _frame(self, block: bytes) -> SSEFrame | None:
        """Interpret the lines of one block; ``None`` if it has nothing to dispatch."""
        lines = block.split(b"\n")
        # The form nearly every frame has, without a loop: "event: <name>" LF "data: <one line>".
        if len(lines) == 2 and len(lines[0]) <= MAX_SHOWN_NAME and lines[1].startswith(b"data: "):
            known = _event_name(lines[0])
            if known is not None:
                return SSEFrame(known, lines[1][6:])
        name = b""
        data: list[bytes] = []
        for line in lines:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value
            elif field == b"id" and b"\0" not in value:
                self.last_event_id = value.decode("utf-8", "replace")
            elif field == b"retry" and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
                self.retry = int(value) / 1000
        if not data:
            return None
        return SSEFrame(name.decode("utf-8", "replace") or "message", b"\n".join(data))

    def _die(self, frame: bytes | bytearray) -> DecodeFailure:
        self._dead = True
        failure = DecodeFailure.of(f"an event-stream frame exceeds {self._max_frame_bytes} bytes", frame)
        self._buffer = bytearray()
        return failure


@functools.lru_cache(maxsize=64)  # a provider has some forty event types, and servers few names for them
def _event_name(line: bytes) -> str | None:
    """The name in the line of an event's name; ``None`` for another line."""
    return line[7:].decode("utf-8", "replace") if line.startswith(b"event: ") and len(line) > 7 else None
