"""A request as the service's own model reads it: its members gathered from path, query, headers and body, and checked.

The models are botocore's, loaded at the first use. Unlike botocore's own validation this one knows maxima, patterns
and values; unlike it, a member that nobody knows is dropped silently, as the service does (observed).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast
from urllib.parse import unquote

from ._agentcore_api import invalid
from ._http_messages import Request

__all__ = ["read_input"]

Json: TypeAlias = dict[str, Any]
# A botocore shape: its classes are not to be imported before a simulator runs.
Shape: TypeAlias = Any

SERVICES = ("bedrock-agentcore", "bedrock-agentcore-control")
JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "blob": (str,),
    "timestamp": (str, int, float),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "structure": (dict,),
    "map": (dict,),
    "list": (list,),
}
# The bits of an integer's size, its sign apart.
INTEGER_BITS: Mapping[str, int] = {"integer": 31, "long": 63}


def read_input(operation: str, request: Request, ids: Sequence[str]) -> Json:
    """A request's members by their names in the model; what the model does not know is left out.

    Args:
        operation: Its name in snake case, such as ``"create_harness"``.
        request: As it was read.
        ids: The segments of its path that name something, still escaped.

    Raises:
        ServiceRefusal: It is not what the model says; 400.
    """
    model = _operation(operation)
    if model.input_shape is None:
        return {}
    given = _gather(model, request, ids)
    problems: list[tuple[str, str]] = []
    kept = _Reading(problems).read(model.input_shape, given, "")
    if problems:
        named = "; ".join(f"Value at '{path}' failed to satisfy constraint: {what}" for path, what in problems)
        count = len(problems)
        raise invalid(
            f"{count} validation error{'s' if count > 1 else ''} detected: {named}",
            reason="FieldValidationFailed",
            fields=problems,
        )
    return cast("Json", kept)


@functools.cache
def _operation(name: str) -> Any:
    models = _models()
    camel = "".join(part.title() for part in name.split("_"))
    return next(model for model in models if camel in model.operation_names).operation_model(camel)


@functools.cache
def _models() -> tuple[Any, ...]:
    import botocore.session  # type: ignore[import-untyped]  # botocore has no types
    from botocore.model import ServiceModel  # type: ignore[import-untyped]  # as above

    loader = botocore.session.Session().get_component("data_loader")
    return tuple(ServiceModel(loader.load_service_model(name, "service-2"), name) for name in SERVICES)


def _gather(model: Any, request: Request, ids: Sequence[str]) -> Json:
    """The members as they came, wherever they did; those that are text on the wire are given their type."""
    shape = model.input_shape
    named = re.findall(r"\{([^}]+)\}", model.http["requestUri"])
    path = {name: unquote(value) for name, value in zip(named, ids, strict=True)}
    payload = shape.serialization.get("payload")
    body = _body(request)
    given: Json = {}
    for name, member in shape.members.items():
        wire = member.serialization.get("name", name)
        match member.serialization.get("location"):
            case "uri":
                value: Any = path[wire]
            case "querystring" if member.type_name == "list":
                value = list(request.query.get(wire, ())) or None
            case "querystring":
                value = _typed(member, request.first(wire))
            case "header":
                value = request.headers.get(wire.lower())
            case _:
                value = body if name == payload else body.get(wire)
        if value is not None:
            given[name] = value
    return given


def _body(request: Request) -> Json:
    try:
        body = request.json()
    except ValueError as exc:
        raise invalid("The request body is not valid JSON", reason="CannotParse") from exc
    if body is not None and not isinstance(body, dict):
        raise invalid("The request body must be a JSON object", reason="CannotParse")
    return body or {}


def _typed(shape: Shape, text: str | None) -> Any:
    if text is not None and shape.type_name == "integer" and re.fullmatch(r"-?[0-9]{1,9}", text):
        return int(text)
    if shape.type_name == "boolean" and text in {"true", "false"}:
        return text == "true"
    return text


class _Reading:
    """One walk over a value beside its shape; what is wrong is noted, with its path."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self._problems = problems

    def read(self, shape: Shape, value: Any, path: str) -> Any:
        """The value without what its shape does not know."""
        if getattr(shape, "is_document_type", False):
            return value
        kind = shape.type_name
        if not _is_a(kind, value):
            self._problems.append((path, f"Member must be of type {kind}"))
            return value
        self._problems += [(path, problem) for problem in _constraints(shape, value)]
        match kind:
            case "structure":
                return self._read_structure(shape, value, path)
            case "list":
                return [self.read(shape.member, item, f"{path}.{n + 1}.member") for n, item in enumerate(value)]
            case "map":
                for key in value:
                    self.read(shape.key, key, f"{path}.key")
                return {key: self.read(shape.value, item, f"{path}.{key}") for key, item in value.items()}
        return value

    def _read_structure(self, shape: Shape, value: Json, path: str) -> Json:
        known = {name: item for name, item in value.items() if name in shape.members and item is not None}
        for name in shape.required_members:
            if name not in known:
                self._problems.append((f"{path}.{name}".lstrip("."), "Member must not be null"))
        # A member that is unknown is dropped, and nothing then says that the union is empty (observed).
        if getattr(shape, "is_tagged_union", False) and len(known) > 1:
            self._problems.append((path, f"Member must have exactly one of {', '.join(sorted(known))}"))
        return {
            name: self.read(shape.members[name], item, f"{path}.{name}".lstrip(".")) for name, item in known.items()
        }


def _is_a(kind: str, value: object) -> bool:
    if not isinstance(value, JSON_TYPES[kind]) or (isinstance(value, bool) and kind != "boolean"):
        return False
    if kind not in INTEGER_BITS:
        return True
    most = 1 << INTEGER_BITS[kind]
    return isinstance(value, int) and -most <= value < most


def _constraints(shape: Shape, value: Any) -> Iterator[str]:
    limits = shape.metadata
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value < limits.get("min", value):
            yield f"Member must have value greater than or equal to {limits['min']}"
        if value > limits.get("max", value):
            yield f"Member must have value less than or equal to {limits['max']}"
        return
    if isinstance(value, str | list | dict):
        if len(value) < limits.get("min", 0):
            yield f"Member must have length greater than or equal to {limits['min']}"
        if len(value) > limits.get("max", len(value)):
            yield f"Member must have length less than or equal to {limits['max']}"
    if isinstance(value, str):
        if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
            yield f"Member must satisfy regular expression pattern: {limits['pattern']}"
        if "enum" in limits and value not in limits["enum"]:
            yield f"Member must satisfy enum value set: [{', '.join(limits['enum'])}]"
