"""Secrets out of what leaves the process, known by what they are given to and by how they look. Pure functions.

The second line of defence: whoever knows a secret has taken it out of its errors, exactly, long before. What is here
knows none, and would rather remove too much. Ids stay, as they tell what belongs together.
"""

from __future__ import annotations

import datetime
import functools
import numbers
import uuid
from collections.abc import Mapping, Sized
from typing import Any, Final, TypeAlias

from ._secrets import REMOVED, Sort, leaks, masked, sort_of, without_secrets

__all__ = ["leaks", "redact"]

MAX_DEPTH: Final = 100  # of a value that is shown; what is deeper is cut off
LONGEST_NAME: Final = 80  # characters; of a longer key its end is read as a name

CUT_OFF: Final = "…"
UNREADABLE: Final = "[unreadable]"

# What is shown in one way only, and holds no text of anybody's.
_SCALARS: Final = (type(None), numbers.Number, datetime.date, datetime.time, datetime.timedelta, uuid.UUID)
_COMMON_SCALARS: Final = frozenset({type(None), bool, int, float})

_MAPPINGS: Final = (dict, Mapping)  # the common one first: the other takes longer to ask
_SETS: Final = (set, frozenset)
_CONTAINERS: Final = (dict, list, tuple, set, frozenset, Mapping)
_BYTES: Final = (bytes, bytearray)
_TEXTS: Final = (str, bytes, bytearray)

# What has been copied, by its id: itself, so that the id stays its own, and its copy.
Seen: TypeAlias = dict[int, tuple[Any, Any]]


def redact(value: Any) -> Any:
    """Copy a value without the secrets in it. Never raises, whatever it is given, and does not change it.

    Removed is what is given to a name that tells of a secret, be it a key, the first of a pair as in a list of headers,
    or within a text; and, anywhere in a text, keys of the provider and of AWS, bearer tokens and their like, passwords
    in URLs, private keys, and AWS account numbers in ARNs. Counts of tokens stay, and so do ids, of sessions, requests
    and all else: they are no secrets, and without them nobody could tell what belongs together.

    Args:
        value: Anything. What is no mapping, list, tuple, set, text, bytes, number, time or UUID is replaced by its text
            form, as nobody knows how else it would be shown; an exception by its message, without its traceback.

    Returns:
        The copy, made of plain values only; equal to what was given, if that was so too and held no secret.
    """
    return _copy(value, 0, {})


def _copy(value: Any, depth: int, seen: Seen) -> Any:
    try:
        kind = type(value)
        if kind is str:
            return without_secrets(value)
        if kind in _COMMON_SCALARS:
            return value
        if isinstance(value, _CONTAINERS):
            return _copy_once(value, depth, seen)
        if isinstance(value, _BYTES):
            return without_secrets(value.decode("latin-1")).encode("latin-1")
        return value if isinstance(value, _SCALARS) else without_secrets(_text_form(value))
    except Exception:  # noqa: BLE001 -- an object of the caller's may do anything when it is looked at
        return UNREADABLE


def _text_form(value: Any) -> str:
    text = value if isinstance(value, str) else isinstance(value, BaseException) and str(value)
    return str.__str__(text or repr(value))  # a plain one, whatever a subclass makes of it


def _copy_once(value: Any, depth: int, seen: Seen) -> Any:
    """Copy what has members: once, however often it occurs; within itself it is cut off."""
    known = seen.get(id(value))
    if known is not None:
        return known[1]
    if depth >= MAX_DEPTH:
        return CUT_OFF
    seen[id(value)] = value, CUT_OFF
    copied = _copy_members(value, depth + 1, seen)
    seen[id(value)] = value, copied
    return copied


def _copy_members(value: Any, depth: int, seen: Seen) -> Any:
    if isinstance(value, _MAPPINGS):
        return dict([_entry(key, member, depth, seen) for key, member in value.items()])
    if isinstance(value, _SETS):
        kind = set if isinstance(value, set) else frozenset
        return kind([_copy(member, depth, seen) for member in value])
    names = getattr(value, "_fields", None)  # of a named tuple
    members: list[Any]
    if names is not None:
        members = [_entry(name, member, depth, seen)[1] for name, member in zip(names, value, strict=True)]
    elif len(value) == 2 and _is_header(*value):
        members = [*_entry(value[0], value[1], depth, seen)]
    else:
        members = [_copy(member, depth, seen) for member in value]
    return members if isinstance(value, list) else tuple(members)


def _is_header(name: Any, value: Any) -> bool:
    """Whether two members may be the name of a header and its value, and not just two texts."""
    return isinstance(name, _TEXTS) and isinstance(value, _TEXTS) and len(name.split()) == 1


def _entry(key: Any, value: Any, depth: int, seen: Seen) -> tuple[Any, Any]:
    """A key and its value, or the two of a pair: what the one is called decides whether the other is shown."""
    shown: Any
    if isinstance(key, str):
        shown, sort = _read_name(str.__str__(key))
    elif isinstance(key, _BYTES):
        name, sort = _read_name(key.decode("latin-1"))
        shown = name.encode("latin-1")
    else:
        shown, sort = _copy(key, depth, seen), ""
    if sort and _may_be_secret(value, sort):
        return shown, _masked(value, sort)
    return shown, _copy(value, depth, seen)


def _may_be_secret(value: Any, sort: Sort) -> bool:
    """Whether it can be one: it is no flag, is not how many there are, and is not empty."""
    if value is None or value is True or value is False:
        return False
    if isinstance(value, numbers.Number):
        return sort != "secrets"
    return not isinstance(value, Sized) or len(value) > 0


def _masked(value: Any, sort: Sort) -> Any:
    if isinstance(value, _BYTES):
        return masked(value.decode("latin-1"), sort).encode("latin-1")
    return masked(str.__str__(value), sort) if isinstance(value, str) else REMOVED


def _read_name(name: str) -> tuple[str, Sort]:
    """A name as it can be shown, and what sort of thing is given to it."""
    if len(name) <= LONGEST_NAME:
        return _read_short_name(name)
    return without_secrets(name), sort_of(name[-LONGEST_NAME:])


@functools.lru_cache(maxsize=2048)  # the keys of events are few, and the same over and over
def _read_short_name(name: str) -> tuple[str, Sort]:
    return without_secrets(name), sort_of(name)
