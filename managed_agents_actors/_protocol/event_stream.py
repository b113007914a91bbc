"""Binary event streams of AWS: bytes in, messages out.

The decoder knows nothing of JSON or of any service. It is linear in the bytes it is fed, holds at most one
unfinished message, refuses one that is too large as soon as its prelude is there, and gives none whose checksums
have not been verified.

Source: AWS, "Event stream encoding" (vnd.amazon.eventstream). A message is its prelude (total length, length of the
headers, CRC32 of these two), the headers, the payload, and the CRC32 of all before; numbers are big-endian.
"""

from __future__ import annotations

from binascii import crc32
from struct import Struct
from typing import Final, NamedTuple, TypeAlias

from .sse import DecodeFailure

__all__ = [
    "MAX_HEADERS_BYTES",
    "MAX_PAYLOAD_BYTES",
    "EventStreamDecoder",
    "EventStreamMessage",
    "HeaderValue",
]

# What the AWS SDKs for Python take: nothing that they can read is refused here.
MAX_HEADERS_BYTES: Final = 128 * 1024
MAX_PAYLOAD_BYTES: Final = 24 * 1024 * 1024

_PRELUDE: Final = Struct(">III")
_CHECKSUM: Final = Struct(">I")
_CHECKED_PRELUDE_BYTES: Final = 8  # the two lengths: what the prelude's own checksum covers
_FRAMING_BYTES: Final = _PRELUDE.size + _CHECKSUM.size

# The types of header values, by their number on the wire.
_TRUE, _FALSE, _BYTE_ARRAY, _STRING, _UUID = 0, 1, 6, 7, 9
_INTEGER_BYTES: Final = {2: 1, 3: 2, 4: 4, 5: 8, 8: 8}  # byte, short, integer, long, timestamp
_UUID_BYTES: Final = 16

# A stream repeats a handful of header blocks of some 100 bytes, one for each type of event. The bounds keep a stream
# whose every block is new, or huge, from growing the decoder: at most 64 KiB of blocks are kept.
_KNOWN_BLOCKS: Final = 64
_KNOWN_BLOCK_BYTES: Final = 1024

# A timestamp is an integer: milliseconds since the epoch. A UUID is its 16 bytes.
HeaderValue: TypeAlias = bool | int | str | bytes


class EventStreamMessage(NamedTuple):
    """One verified message: a named tuple, because it is built several times faster than a frozen dataclass.

    Attributes:
        headers: Its headers by name, in the order of the wire; the message's own dictionary.
        payload: Its payload, undecoded.
    """

    headers: dict[str, HeaderValue]
    payload: bytes


class EventStreamDecoder:
    """Incremental decoder of one event stream."""

    def __init__(self) -> None:
        self._held = bytearray()  # one unfinished message, from its first byte
        self._needed = _PRELUDE.size  # the length of it at which there is something to look at
        self._known_headers: dict[bytes, dict[str, HeaderValue]] = {}
        self._dead = False

    @property
    def pending(self) -> int:
        """The bytes held of a message that is not complete: 0 where a stream may end."""
        return len(self._held)

    def feed(self, chunk: bytes) -> list[EventStreamMessage | DecodeFailure]:
        """Take the next bytes of the stream and give the messages they complete.

        What cannot be decoded gives a :class:`DecodeFailure` after the messages that preceded it; the decoder is
        then dead, and later feeds give nothing.
        """
        if self._dead:
            return []
        data = chunk
        if self._held:
            self._held += chunk
            if len(self._held) < self._needed:
                return []
            data = bytes(self._held)
        messages: list[EventStreamMessage | DecodeFailure] = []
        at = 0
        try:
            while (message := self._message_at(data, at)) is not None:
                messages.append(message[0])
                at = message[1]
        except _Malformed as error:
            self._dead = True
            messages.append(DecodeFailure.of(str(error), data[at:]))
            at = len(data)
        self._held = bytearray(memoryview(data)[at:])
        return messages

    def _message_at(self, data: bytes, at: int) -> tuple[EventStreamMessage, int] | None:
        """The message that begins here and where it ends; ``None`` while some of it is missing.

        Each byte is copied into what it becomes and otherwise only looked at, however many messages lie in the data.
        """
        if len(data) - at < _PRELUDE.size:
            self._needed = _PRELUDE.size
            return None
        total, headers_length, checksum = _PRELUDE.unpack_from(data, at)
        if crc32(data[at : at + _CHECKED_PRELUDE_BYTES]) != checksum:
            raise _Malformed("the checksum of an event-stream prelude is wrong: damaged, or no AWS event stream")
        self._check_lengths(total, headers_length)
        end = at + total
        if end > len(data):
            self._needed = total
            return None
        checked = end - _CHECKSUM.size
        (expected,) = _CHECKSUM.unpack_from(data, checked)
        if crc32(memoryview(data)[at:checked]) != expected:
            raise _Malformed(f"the checksum of an event-stream message of {total} bytes is wrong")
        start = at + _PRELUDE.size
        payload = start + headers_length
        return EventStreamMessage(self._headers(data[start:payload]), data[payload:checked]), end

    @staticmethod
    def _check_lengths(total: int, headers: int) -> None:
        """Refuse, before any of it is held, what cannot be a message or would be too large a one."""
        payload = total - headers - _FRAMING_BYTES
        if payload < 0:
            raise _Malformed(f"an event-stream message of {total} bytes cannot hold {headers} bytes of headers")
        if headers > MAX_HEADERS_BYTES:
            raise _Malformed(f"the headers of an event-stream message exceed {MAX_HEADERS_BYTES} bytes: {headers}")
        if payload > MAX_PAYLOAD_BYTES:
            raise _Malformed(f"the payload of an event-stream message exceeds {MAX_PAYLOAD_BYTES} bytes: {payload}")

    def _headers(self, block: bytes) -> dict[str, HeaderValue]:
        """The headers of one block, which most often is one that was seen before."""
        known = self._known_headers.get(block)
        if known is None:
            known = _read_headers(block)
            if len(block) <= _KNOWN_BLOCK_BYTES:
                if len(self._known_headers) == _KNOWN_BLOCKS:
                    self._known_headers.clear()
                self._known_headers[block] = known
        return known.copy()


class _Malformed(ValueError):
    """The bytes are no message; the text says what was seen."""


def _read_headers(block: bytes) -> dict[str, HeaderValue]:
    headers: dict[str, HeaderValue] = {}
    at = 0
    while at < len(block):
        name_end = at + 1 + block[at]
        if name_end >= len(block):
            raise _Malformed("the headers of an event-stream message end within a name")
        name = _text(block[at + 1 : name_end])
        value, at = _value_at(block, name_end + 1, block[name_end])
        if at > len(block):
            raise _Malformed("the headers of an event-stream message end within a value")
        if name in headers:
            raise _Malformed("an event-stream message has two headers of one name")
        headers[name] = value
    return headers


def _value_at(block: bytes, at: int, kind: int) -> tuple[HeaderValue, int]:
    """The value that begins here and where it ends; the end lies behind the block if the value is cut off."""
    if kind in {_STRING, _BYTE_ARRAY}:
        start = at + 2
        end = start + int.from_bytes(block[at:start], "big")
        value = block[start:end]
        return (_text(value) if kind == _STRING else value), end
    if kind in _INTEGER_BYTES:
        end = at + _INTEGER_BYTES[kind]
        return int.from_bytes(block[at:end], "big", signed=True), end
    if kind in {_TRUE, _FALSE}:
        return kind == _TRUE, at
    if kind == _UUID:
        return block[at : at + _UUID_BYTES], at + _UUID_BYTES
    raise _Malformed(f"a header of an event-stream message has the unknown type {kind}")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise _Malformed(f"a header of an event-stream message is not UTF-8: {error.reason}") from error
