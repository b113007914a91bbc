"""Messages with headers of every type of the encoding; the service and its simulator send text alone."""

from __future__ import annotations

from binascii import crc32
from collections.abc import Mapping
from struct import pack
from typing import Literal, NamedTuple, TypeAlias

# Each integer type of a header's value: its number on the wire and its size in bytes.
INTEGERS = {"byte": (2, 1), "short": (3, 2), "integer": (4, 4), "long": (5, 8), "timestamp": (8, 8)}


class TypedHeader(NamedTuple):
    """A value of a type that Python's own types do not tell; of a UUID, its 16 bytes."""

    type: Literal["byte", "short", "integer", "long", "timestamp", "uuid"]
    value: int | bytes


HeaderInput: TypeAlias = str | bytes | bool | TypedHeader


def encode_message(headers: Mapping[str, HeaderInput], payload: bytes = b"") -> bytes:
    """One whole message, checksums included."""
    block = b"".join(pack(">B", len(name.encode())) + name.encode() + _value(value) for name, value in headers.items())
    lengths = pack(">II", 16 + len(block) + len(payload), len(block))
    checked = lengths + pack(">I", crc32(lengths)) + block + payload
    return checked + pack(">I", crc32(checked))


def _value(value: HeaderInput) -> bytes:
    """The type's number and the value."""
    match value:
        case bool():
            return b"\0" if value else b"\1"
        case bytes():
            return pack(">BH", 6, len(value)) + value
        case str():
            return pack(">BH", 7, len(value.encode())) + value.encode()
        case TypedHeader(type="uuid", value=bytes(data)):
            return b"\x09" + data
        case TypedHeader(type=kind, value=int(number)):
            code, size = INTEGERS[kind]
            return pack(">B", code) + number.to_bytes(size, "big", signed=True)
    raise TypeError(value)
