"""JSON, both ways, behind two functions, so that the choice of a codec is made in one place.

Decoding is liberal and exact: big integers stay integers, lone surrogates survive. With the extra ``fast`` msgspec
decodes first; what it refuses is left to the standard library, so that the results are the same. Encoding is strict:
every JSON parser reads what it emits, except that many refuse a lone surrogate: what is sent is checked for one, or rid
of it. Both fail with ``ValueError`` and nothing else, whatever the input's depth.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, TypeAlias

__all__ = ["decode_json", "decode_json_exactly", "encode_json", "has_lone_surrogate", "without_lone_surrogates"]

JSON: TypeAlias = bytes | bytearray | memoryview | str

_decoder = json.JSONDecoder()
_encode = json.JSONEncoder(ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode
_encode_unescaped = json.JSONEncoder(ensure_ascii=False).encode


def _fast_decoder() -> Callable[[JSON], Any] | None:
    try:
        import msgspec
    except ImportError:
        return None
    return msgspec.json.Decoder().decode


_decode_fast: Final = _fast_decoder()


def decode_json(data: JSON) -> Any:
    """Decode one JSON text.

    Args:
        data: The text, or its UTF-8 bytes.

    Raises:
        ValueError: It is not JSON, not UTF-8, or nested too deeply to hold.
    """
    if _decode_fast is None:
        return decode_json_exactly(data)
    try:
        return _decode_fast(data)
    except (ValueError, RecursionError):
        return decode_json_exactly(data)


def decode_json_exactly(data: JSON) -> Any:
    """Decode one JSON text with the standard library; what :func:`decode_json` gives is what this gives."""
    text = data if isinstance(data, str) else str(data, "utf-8", "surrogatepass")
    try:
        try:
            value, end = _decoder.raw_decode(text)
        except json.JSONDecodeError:
            value, end = None, -1
        # To look for white space around it costs as much again, and there is hardly ever any.
        return value if end == len(text) else _decoder.decode(text)
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error


def encode_json(value: Any) -> bytes:
    """Encode a value as compact ASCII.

    All other characters are escaped, so that a lone surrogate survives too.

    Raises:
        ValueError: The value holds NaN, an infinity, itself, or something JSON has no form for.
    """
    try:
        return _encode(value).encode("ascii")
    except (RecursionError, TypeError) as error:
        raise ValueError(f"not encodable as JSON: {error}") from error


def has_lone_surrogate(value: Any) -> bool:
    """Whether a value that can be encoded holds half a surrogate pair, which is no character.

    Source: the hosted API answers 400 to such a body, "no low surrogate in string".
    """
    try:
        _encode_unescaped(value).encode("utf-16-le", "surrogatepass").decode("utf-16-le")
    except UnicodeDecodeError:
        return True
    return False


def without_lone_surrogates(text: str) -> str:
    """The text with each half of a surrogate pair replaced by U+FFFD; whole pairs become the character they mean."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
