"""What the kit is given, looked at before anything runs: one function per kind of value, all with the same words.

A value that is not as it must be is refused with what it is for, what was expected and what was seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import fields
from functools import partial
from typing import Any, TypeAlias

import trio

from .._errors import ConfigurationError

__all__ = [
    "Check",
    "checked",
    "members",
    "refuse_given",
    "require_a",
    "require_callable",
    "require_fields",
    "require_no_trio",
    "require_number",
    "require_one_of",
    "require_text",
    "require_whole",
]

# Looks at a value, and says under the given name if it will not do.
Check: TypeAlias = Callable[[str, object], None]

CHECK = "check"


def refuse_given(name: str, wanted: str, seen: object) -> ConfigurationError:
    """The refusal of a value; a class in place of its object is told apart."""
    made = f"the class {seen.__name__}; make one of it" if isinstance(seen, type) else repr(seen)
    return ConfigurationError(f"{name} must be {wanted}, not {made}")


def require_whole(name: str, value: object, *, least: int | None = None, most: int | None = None) -> None:
    """Let whole numbers pass, within the bounds."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not _lies_within(value, least, most):
        raise refuse_given(name, f"a whole number{_bounds(least, most)}", value)


def require_number(name: str, value: object, *, least: float, most: float | None = None) -> None:
    """Let finite numbers pass, within the bounds."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not _lies_within(value, least, most):
        raise refuse_given(name, f"a finite number{_bounds(least, most)}", value)


def require_text(name: str, value: object) -> None:
    """Let any text pass but the empty one."""
    if not isinstance(value, str) or not value:
        raise refuse_given(name, "text that is not empty", value)


def require_one_of(name: str, value: object, known: Collection[str]) -> None:
    """Let one of these names pass."""
    if not isinstance(value, str) or value not in known:
        raise refuse_given(name, f"one of {', '.join(map(repr, sorted(known)))}", value)


def require_a(name: str, value: object, kind: type) -> None:
    """Let an instance of this class pass."""
    if not isinstance(value, kind):
        raise refuse_given(name, f"a {kind.__name__}", value)


def members(name: str, values: object, wanted: str, *, each: Check, least: int = 0) -> tuple[Any, ...]:
    """The members of a collection, every one of them checked, with at least so many."""
    if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping | type):
        raise refuse_given(name, wanted, values)
    found = tuple(values)
    if len(found) < least:
        raise refuse_given(name, wanted, values)
    for member in found:
        each(f"each of {name}", member)
    return found


def require_callable(name: str, value: object, wanted: str) -> None:
    """Let pass what can be called."""
    if not callable(value):
        raise refuse_given(name, wanted, value)


def require_no_trio(what: str) -> None:
    """Refuse to be called from inside of trio.

    Raises:
        ConfigurationError: A trio runs.
    """
    if trio.lowlevel.in_trio_run():
        raise ConfigurationError(f"{what} starts a trio for each try: call it from a plain function, outside of trio")


def checked(check: Callable[..., None], *, or_none: bool = False, **options: Any) -> Mapping[str, Check]:
    """The metadata of a dataclass's field that :func:`require_fields` is to check.

    Args:
        check: Any of this file's, or one of its form.
        or_none: Whether ``None`` will do too.
        options: The check's own.
    """
    rule = partial(check, **options)
    return {CHECK: partial(_unless_none, rule) if or_none else rule}


def require_fields(thing: Any) -> None:
    """Check a dataclass's fields as their metadata says.

    Raises:
        ConfigurationError: A field's value will not do.
    """
    for field in fields(thing):
        if CHECK in field.metadata:
            field.metadata[CHECK](f"{type(thing).__name__}: {field.name}", getattr(thing, field.name))


def _unless_none(rule: Check, name: str, value: object) -> None:
    if value is not None:
        rule(name, value)


def _lies_within(value: Any, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _bounds(least: float | None, most: float | None) -> str:
    if least is None:
        return ""
    return f" from {least:g}" if most is None else f" from {least:g} to {most:g}"
