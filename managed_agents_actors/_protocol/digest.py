"""What a value is, apart from how it was written: its canonical form, and the digest of that.

Two values with the same JSON meaning have the same digest, whatever the order or the type of their keys. A number is
what is written: ``1`` and ``1.0`` differ. A digest names a resource, so this form never changes: another one would make
every resource a new one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from .._errors import ConfigurationError
from .codec import encode_json

__all__ = ["DIGEST_CHARS", "canonical", "digest", "short_digest"]

# Of a digest in a name: 32 bits tell the versions of one thing apart, and leave room for its name.
DIGEST_CHARS: Final = 8


def canonical(value: Any, what: str = "the value") -> Any:
    """A copy of a value in JSON's own types, its keys text and in order.

    Args:
        value: Mappings, sequences, text, numbers, truth values, ``None`` and enumerations of those.
        what: What it is, for the message.

    Raises:
        ConfigurationError: JSON cannot hold it, or two of its keys are the same text.
    """
    try:
        form = _canonical(value, what)
        encode_json(form)
    except RecursionError as error:
        raise ConfigurationError(f"{what} is not what JSON can hold: it is nested too deeply") from error
    except ValueError as error:
        raise ConfigurationError(f"{what} is not what JSON can hold: {error}") from error
    return form


def digest(value: Any, what: str = "the value") -> str:
    """The SHA-256 of a value's canonical form, as 64 lowercase hexadecimal digits.

    Raises:
        ConfigurationError: As for :func:`canonical`.
    """
    return hashlib.sha256(encode_json(canonical(value, what))).hexdigest()


def short_digest(full: str) -> str:
    """The part of a digest that names a resource."""
    return full[:DIGEST_CHARS]


def _canonical(value: Any, what: str) -> Any:
    match value:
        case Enum():
            return _canonical(value.value, what)
        case Mapping():
            members: dict[str, Any] = {}
            for key, member in value.items():
                name = _key(key, what)
                if name in members:
                    raise ConfigurationError(f"{what} has the key {name!r} twice, as values of two types")
                members[name] = _canonical(member, f"{what}[{name!r}]")
            return dict(sorted(members.items()))
        case list() | tuple():
            return [_canonical(member, f"{what}[{place}]") for place, member in enumerate(value)]
        case str() | bool() | int() | float() | None:
            return value
        case _:
            raise ConfigurationError(f"{what} is a {type(value).__name__}, which JSON has no form for")


def _key(key: Any, what: str) -> str:
    """A key as JSON writes it."""
    match key:
        case Enum():
            return _key(key.value, what)
        case str():
            return key
        case bool():
            return "true" if key else "false"
        case None:
            return "null"
        case int() | float():
            return repr(key)
        case _:
            raise ConfigurationError(f"{what} has a key of type {type(key).__name__}; keys must be text")
