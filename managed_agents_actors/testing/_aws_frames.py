"""How events become messages of an AWS event stream. Pure, and without botocore: the simulator's side of the wire.

Source: AWS, "Event stream encoding" (vnd.amazon.eventstream), and for the headers of an event, an exception and an
error, Smithy, "Amazon Event Stream specification".
"""

from __future__ import annotations

from binascii import crc32
from collections.abc import Mapping
from struct import pack
from typing import Any, Final

from .._errors import ConfigurationError
from ._frames import encode
from ._given import refuse_given

__all__ = [
    "GARBAGE_AWS_FRAME",
    "encode_message",
    "error_frame",
    "event_frame",
    "exception_frame",
]

_PRELUDE_BYTES, _CHECKSUM_BYTES = 12, 4
_JSON = "application/json"

_MAX_NAME_BYTES = 0xFF
_MAX_VALUE_BYTES = 0xFFFF
# The number of the one type of value that the service's headers have: text.
_TEXT = 7


def encode_message(headers: Mapping[str, str], payload: bytes = b"") -> bytes:
    """One whole message, checksums included.

    Args:
        headers: The headers, written in their order.
        payload: The payload, written as it is.

    Raises:
        ConfigurationError: A header's name or value is too long for the wire.
    """
    block = b"".join(_header(name, value) for name, value in headers.items())
    lengths = pack(">II", _PRELUDE_BYTES + len(block) + len(payload) + _CHECKSUM_BYTES, len(block))
    checked = b"".join([lengths, pack(">I", crc32(lengths)), block, payload])
    return checked + pack(">I", crc32(checked))


def event_frame(type: str, payload: Mapping[str, Any]) -> bytes:
    """The message of one event: its type in a header, its members as they are in the payload."""
    headers = {":event-type": type, ":content-type": _JSON, ":message-type": "event"}
    return encode_message(headers, encode(payload))


def exception_frame(type: str, payload: Mapping[str, Any]) -> bytes:
    """The message of one exception that the service models or, for a test, does not; most have a ``message``."""
    headers = {":exception-type": type, ":content-type": _JSON, ":message-type": "exception"}
    return encode_message(headers, encode(payload))


def error_frame(code: str, message: str) -> bytes:
    """The message of an error that no service models: the transport's own, all of it in headers."""
    return encode_message({":error-code": code, ":error-message": message, ":message-type": "error"})


def _header(name: str, value: str) -> bytes:
    encoded, data = name.encode(), value.encode()
    if len(encoded) > _MAX_NAME_BYTES:
        raise refuse_given("a header's name", f"at most {_MAX_NAME_BYTES} bytes long", name)
    if len(data) > _MAX_VALUE_BYTES:
        raise ConfigurationError(f"a header's value must be at most {_MAX_VALUE_BYTES} bytes long, not {len(data)}")
    return pack(">B", len(encoded)) + encoded + pack(">BH", _TEXT, len(data)) + data


# Sound but for its last byte, which belongs to the message's checksum: no decoder may take it for an event.
_SOUND = event_frame("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "garbage"}})
GARBAGE_AWS_FRAME: Final = _SOUND[:-1] + bytes([_SOUND[-1] ^ 0xFF])
