"""How events become messages of an AWS event stream. Pure, and without botocore: the simulator's side of the wire.

Source: AWS, "Event stream encoding" (vnd.amazon.eventstream), and for the headers of an event, an exception and an
error, Smithy, "Amazon Event Stream specification".
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Mapping
from struct import pack
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from .._errors import ConfigurationError
from ._frames import encode
from ._given import refuse_given

__all__ = [
    "GARBAGE_AWS_FRAME",
    "TypedHeader",
    "encode_message",
    "error_frame",
    "event_frame",
    "exception_frame",
]

_PRELUDE_BYTES, _CHECKSUM_BYTES = 12, 4
_JSON = "application/json"

# Each integer type of a header value: its number on the wire and its size in bytes.
_INTEGERS: Final = {"byte": (2, 1), "short": (3, 2), "integer": (4, 4), "long": (5, 8), "timestamp": (8, 8)}
_MAX_NAME_BYTES = 0xFF
_MAX_VALUE_BYTES = 0xFFFF
_UUID_BYTES = 16


class TypedHeader(NamedTuple):
    """A header value of a type that Python's own types do not tell.

    Attributes:
        type: The type's name in the encoding.
        value: An integer within the type's size (a timestamp is in milliseconds since the epoch); the 16 bytes of a
            ``"uuid"``.
    """

    type: Literal["byte", "short", "integer", "long", "timestamp", "uuid"]
    value: int | bytes


# What a header's value may be. Text is a string, bytes are a byte array, a boolean is itself.
HeaderInput: TypeAlias = str | bytes | bool | TypedHeader


def encode_message(headers: Mapping[str, HeaderInput], payload: bytes = b"") -> bytes:
    """One whole message, checksums included.

    Args:
        headers: The headers, written in their order.
        payload: The payload, written as it is.

    Raises:
        ConfigurationError: A header has no form on the wire: too long, out of its type's range, or of no known type.
    """
    block = b"".join(_header(name, value) for name, value in headers.items())
    lengths = pack(">II", _PRELUDE_BYTES + len(block) + len(payload) + _CHECKSUM_BYTES, len(block))
    checked = b"".join([lengths, pack(">I", crc32(lengths)), block, payload])
    return checked + pack(">I", crc32(checked))


def event_frame(type: str, payload: Mapping[str, Any]) -> bytes:
    """The message of one event: its type in a header, its members as they are in the payload."""
    headers: dict[str, HeaderInput] = {":event-type": type, ":content-type": _JSON, ":message-type": "event"}
    return encode_message(headers, encode(payload))


def exception_frame(type: str, payload: Mapping[str, Any]) -> bytes:
    """The message of one exception that the service models or, for a test, does not; most have a ``message``."""
    headers: dict[str, HeaderInput] = {":exception-type": type, ":content-type": _JSON, ":message-type": "exception"}
    return encode_message(headers, encode(payload))


def error_frame(code: str, message: str) -> bytes:
    """The message of an error that no service models: the transport's own, all of it in headers."""
    return encode_message({":error-code": code, ":error-message": message, ":message-type": "error"})


def _header(name: str, value: HeaderInput) -> bytes:
    encoded = name.encode()
    if len(encoded) > _MAX_NAME_BYTES:
        raise refuse_given("a header's name", f"at most {_MAX_NAME_BYTES} bytes long", name)
    return pack(">B", len(encoded)) + encoded + _value(value)


def _value(value: HeaderInput) -> bytes:
    """The type's number and the value."""
    if isinstance(value, bool):
        return b"\0" if value else b"\1"
    if isinstance(value, str | bytes):
        data, kind = (value.encode(), 7) if isinstance(value, str) else (value, 6)
        if len(data) > _MAX_VALUE_BYTES:
            raise ConfigurationError(f"a header's value must be at most {_MAX_VALUE_BYTES} bytes long, not {len(data)}")
        return pack(">BH", kind, len(data)) + data
    if not isinstance(value, TypedHeader):
        raise refuse_given("a header's value", "text, bytes, a boolean or a TypedHeader", value)
    return _typed(*value)


def _typed(type: str, value: int | bytes) -> bytes:
    if type in _INTEGERS and isinstance(value, int):
        kind, size = _INTEGERS[type]
        try:
            return pack(">B", kind) + value.to_bytes(size, "big", signed=True)
        except OverflowError as error:
            raise refuse_given(f"a header's {type}", f"an integer of {size} bytes", value) from error
    if type == "uuid" and isinstance(value, bytes) and len(value) == _UUID_BYTES:
        return b"\x09" + value
    raise refuse_given("a header's value", "an integer of a known type, or a UUID's 16 bytes", (type, value))


# Sound but for its last byte, which belongs to the message's checksum: no decoder may take it for an event.
_SOUND = event_frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "garbage"}})
GARBAGE_AWS_FRAME: Final = _SOUND[:-1] + bytes([_SOUND[-1] ^ 0xFF])
