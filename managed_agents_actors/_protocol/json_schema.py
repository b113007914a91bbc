"""A validator for the part of JSON Schema that tool inputs use; a model can act on its reports.

Checked are the keywords of :func:`validate`. Every other one (``format``, ``if``, ``dependentSchemas``) is
left to the tool, and so is a pattern that Python cannot compile. References must be inlined first.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any

__all__ = ["MAX_PROBLEMS", "validate"]

# A model mends a handful at a time; a long array of a wrong element type must not fill its context.
MAX_PROBLEMS = 10
# Enough to show the allowed values of any sensible enum.
_MAX_SHOWN = 500

_IS_TYPE: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool)) or (isinstance(value, float) and value.is_integer())
    ),
}


def validate(instance: Any, schema: Mapping[str, Any]) -> list[str]:
    """Check a decoded JSON value against a schema.

    Keywords: type (a name or a list), enum, const, properties, required, additionalProperties,
    patternProperties, propertyNames, items, prefixItems, anyOf, oneOf, allOf, not, uniqueItems, pattern,
    multipleOf, and the bounds minimum, maximum, exclusiveMinimum, exclusiveMaximum, minLength, maxLength,
    minItems, maxItems, minProperties, maxProperties.

    Returns:
        What is wrong, at most ``MAX_PROBLEMS`` lines that each name the place; empty if the value is valid.
    """
    try:
        return list(islice(_problems(instance, schema, ""), MAX_PROBLEMS))
    except RecursionError:
        return ["input: nested too deeply"]


def _problems(value: Any, schema: Any, path: str) -> Iterator[str]:
    where = path or "input"
    if schema is False:
        yield f"{where}: not allowed"
    if not isinstance(schema, Mapping):
        return
    allowed = schema.get("type")
    names = [allowed] if isinstance(allowed, str) else allowed or []
    if names and not any(_IS_TYPE.get(name, _anything)(value) for name in names):
        yield f"{where}: expected {' or '.join(names)}, got {_type_name(value)}"
        return
    if "enum" in schema and _identity(value) not in [_identity(option) for option in schema["enum"]]:
        yield f"{where}: must be one of {_shown(schema['enum'])}"
    if "const" in schema and _identity(value) != _identity(schema["const"]):
        yield f"{where}: must be {_shown(schema['const'])}"
    yield from _combinations(value, schema, path)
    if isinstance(value, str):
        yield from _string(value, schema, where)
    elif _IS_TYPE["number"](value):
        yield from _number(value, schema, where)
    elif isinstance(value, list):
        yield from _array(value, schema, path)
    elif isinstance(value, Mapping):
        yield from _object(value, schema, path)


def _combinations(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[str]:
    where = path or "input"
    for part in schema.get("allOf", ()):
        yield from _problems(value, part, path)
    for keyword in ("anyOf", "oneOf"):
        if keyword not in schema:
            continue
        found = [next(_problems(value, part, path), None) for part in schema[keyword]]
        fitting = found.count(None)
        if fitting == 0:
            reasons = "; ".join(dict.fromkeys(problem for problem in found if problem))
            yield f"{where}: fits none of the alternatives ({reasons})"
        elif fitting > 1 and keyword == "oneOf":
            yield f"{where}: fits {fitting} of the alternatives, expected exactly one"
    if "not" in schema and next(_problems(value, schema["not"], path), None) is None:
        yield f"{where}: must not match {_shown(schema['not'])}"


def _string(value: str, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    yield from _size(len(value), schema, where, ("minLength", "maxLength", "characters"))
    if "pattern" in schema and _matches(schema["pattern"], value) is False:
        yield f"{where}: must match the pattern {_shown(schema['pattern'])}"


def _matches(pattern: str, text: str) -> bool | None:
    """Whether the pattern occurs in the text; ``None`` for one of another dialect, as JavaScript's is."""
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return None


def _number(value: float, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    if "minimum" in schema and not value >= schema["minimum"]:
        yield f"{where}: must be at least {schema['minimum']}"
    if "maximum" in schema and not value <= schema["maximum"]:
        yield f"{where}: must be at most {schema['maximum']}"
    if "exclusiveMinimum" in schema and not value > schema["exclusiveMinimum"]:
        yield f"{where}: must be greater than {schema['exclusiveMinimum']}"
    if "exclusiveMaximum" in schema and not value < schema["exclusiveMaximum"]:
        yield f"{where}: must be less than {schema['exclusiveMaximum']}"
    if "multipleOf" in schema and not _is_multiple(value, schema["multipleOf"]):
        yield f"{where}: must be a multiple of {schema['multipleOf']}"


def _is_multiple(value: float, step: float) -> bool:
    if isinstance(value, int) and isinstance(step, int):
        return value % step == 0
    if not math.isfinite(value):
        return False
    # Decimal steps are not exact in binary: 0.3 is a multiple of 0.1 to everyone but the processor.
    quotient = value / step
    return math.isclose(quotient, round(quotient), rel_tol=1e-9, abs_tol=1e-9)


def _array(value: list[Any], schema: Mapping[str, Any], path: str) -> Iterator[str]:
    where = path or "input"
    yield from _size(len(value), schema, where, ("minItems", "maxItems", "items"))
    if schema.get("uniqueItems") is True and len({_identity(item) for item in value}) < len(value):
        yield f"{where}: items must be unique"
    prefix = schema.get("prefixItems", ())
    for index, item in enumerate(value):
        part = prefix[index] if index < len(prefix) else schema.get("items", True)
        yield from _problems(item, part, f"{where}[{index}]")


def _object(value: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[str]:
    where = path or "input"
    yield from _size(len(value), schema, where, ("minProperties", "maxProperties", "properties"))
    properties = schema.get("properties") or {}
    patterns = schema.get("patternProperties") or {}
    for name in schema.get("required") or ():
        if name not in value:
            yield f"{_join(path, name)}: missing, but required"
    for name, item in value.items():
        inner = _join(path, name)
        if "propertyNames" in schema:
            yield from _problems(name, schema["propertyNames"], inner)
        parts = [properties[name]] if name in properties else []
        for pattern, part in patterns.items():
            matches = _matches(pattern, name)
            if matches is not False:
                parts.append(part if matches else True)
        if not parts and schema.get("additionalProperties", True) is False:
            known = f"; known are {', '.join(properties)}" if properties else ""
            yield f"{inner}: unknown property{known}"
        for part in parts or [schema.get("additionalProperties", True)]:
            if part is not False:
                yield from _problems(item, part, inner)


def _size(size: int, schema: Mapping[str, Any], where: str, words: tuple[str, str, str]) -> Iterator[str]:
    least, most, noun = words
    if size < schema.get(least, 0):
        yield f"{where}: has {size} {noun}, expected at least {schema[least]}"
    if size > schema.get(most, math.inf):
        yield f"{where}: has {size} {noun}, expected at most {schema[most]}"


def _identity(value: Any) -> Any:
    """A hashable stand-in, equal when two JSON values are: ``1`` and ``1.0`` are, ``1`` and true are not."""
    if isinstance(value, bool):
        return ("boolean", value)
    if isinstance(value, list | tuple):
        return ("array", tuple(_identity(item) for item in value))
    if isinstance(value, Mapping):
        return ("object", frozenset((key, _identity(item)) for key, item in value.items()))
    return value


def _anything(value: Any) -> bool:
    """An unknown type name constrains nothing."""
    del value
    return True


def _type_name(value: Any) -> str:
    return next((name for name in ("integer", *_IS_TYPE) if _IS_TYPE[name](value)), type(value).__name__)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"
