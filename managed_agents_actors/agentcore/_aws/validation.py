"""What may be sent: botocore's validation of an operation's input, and what its models say beyond that.

botocore checks required members, types, least lengths and unions; here the greatest lengths, patterns, enumerations,
ranges and what a header can carry come to it, and what the service documents without its model saying so. Whatever is
refused is told by its path, and no secret is shown.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import botocore  # type: ignore[import-untyped]  # botocore has no types
from botocore.validate import ParamValidator  # type: ignore[import-untyped]  # botocore has no types

from ..._model import is_number

__all__ = ["Problems", "Validator"]

MAX_SHOWN: Final = 100  # characters of a value; any id is shorter
MAX_TOLD: Final = 10  # problems of one input; more would bury the first

# What may be in a member of such a name is not shown, whatever the model says of it: people mistake one for another.
_SECRETIVE: Final = re.compile(r"key|secret|token|credential|password|headers|variables", re.IGNORECASE)

_HEADER_TEXT: Final = re.compile(r"[!-~]([ -~]*[!-~])?")

# The models' integers have 32 bits and their longs 64. In a document any number is allowed, but a parser that keeps
# numbers as doubles reads none that is greater than the greatest of them.
_INTEGER_BITS: Final = {"integer": 31, "long": 63}
MAX_DOCUMENT_BITS: Final = 1024

_Path: TypeAlias = str

# What the service holds a member to beyond its model: the answers name sessions of at most 100 characters, and every
# session can be invoked; an invocation has at least one message; a budget allows something.
# Source: Bedrock AgentCore API, InvokeHarness, InvokeAgentRuntimeCommand, StopRuntimeSession.
_BEYOND: Final[Mapping[_Path, Mapping[str, Any]]] = {
    ".accept": {"pattern": r"application/vnd\.amazon\.eventstream"},
    ".body.timeout": {"min": 1, "max": 3600},
    ".maxIterations": {"min": 1},
    ".maxTokens": {"min": 1},
    ".messages": {"min": 1},
    ".messages[].content": {"min": 1},
    ".qualifier": {"pattern": "[a-zA-Z][a-zA-Z0-9_]{0,47}"},
    ".runtimeSessionId": {"max": 100, "pattern": "[a-zA-Z0-9][a-zA-Z0-9-_]*"},
    ".timeoutSeconds": {"min": 1},
}
_INDEX: Final = re.compile(r"\[\d+\]")

# Whose session or command it is; beside an account's id, a runtime's own id will do. Source: as above.
_RUNTIME_ARN: Final = re.compile(r"arn:[^:\s]+:bedrock-agentcore:[a-z0-9-]+:[0-9]{12}:[a-z-]+/[!-~]+")
_RUNTIME_ID: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,47}-[a-zA-Z0-9]{10}")


class Problems:
    """What is wrong with one input, told with paths; botocore's validator reports to it."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def has_errors(self) -> bool:
        """Whether anything is wrong."""
        return bool(self._lines)

    def generate_report(self) -> str:
        """Everything that is wrong, up to :data:`MAX_TOLD`."""
        told = self._lines[:MAX_TOLD]
        if len(self._lines) > MAX_TOLD:
            told.append(f"and {len(self._lines) - MAX_TOLD} more")
        return "; ".join(told)

    def tell(self, path: _Path, what: str) -> None:
        """Note one problem of ours."""
        self._lines.append(f"{_shown_path(path)} {what}")

    def report(self, name: _Path, reason: str, **seen: Any) -> None:
        """Note one problem that botocore found; its own texts would show the value."""
        given = _kind(seen.get("param"))
        match reason:
            case "missing required field":
                self.tell(f"{name}.{seen['required_name']}", "is required and was not given")
            case "unknown field":
                known = ", ".join(seen["valid_names"])
                self.tell(f"{name}.{_text(seen['unknown_param'])}", f"is not a member; the members are: {known}")
            case "more than one input" | "empty input":
                members = ", ".join(seen["members"])
                self.tell(name, f"must hold exactly one of {members}, not {'none' if 'empty' in reason else 'more'}")
            case "invalid length":
                self.tell(name, f"must be at least {seen['min_allowed']} long, not {seen['param']}")
            case "invalid range":
                self.tell(name, f"must be at least {seen['min_allowed']}, not {seen['param']}")
            case "invalid type":
                expected = re.sub(r"<class '([\w.]+)'>", r"\1", " or ".join(seen["valid_types"]))
                self.tell(name, f"must be {expected}, not {given}")
            case _:
                self.tell(name, reason)


class Validator(ParamValidator):  # type: ignore[misc]  # botocore has no types
    """botocore's walk over an input and its shapes, with more to check at each."""

    # A list whose members have none of these is not walked. Older versions of botocore walk all.
    VALIDATED_METADATA_ATTRS = getattr(ParamValidator, "VALIDATED_METADATA_ATTRS", set()) | {"max", "pattern", "enum"}

    def validate(self, params: Any, shape: Any) -> Problems:
        """Check an input; wait for nothing."""
        problems = Problems()
        self._validate(params, shape, problems, name="")
        runtime = params.get("agentRuntimeArn")
        if isinstance(runtime, str) and not _names_runtime(runtime, by_id="accountId" in params):
            form = "arn:aws:bedrock-agentcore:<region>:<account>:harness/<id>"
            problems.tell("agentRuntimeArn", f"must be the ARN of a harness or runtime, {form}, not {_text(runtime)}")
        return problems

    def _validate_string(self, param: Any, shape: Any, errors: Problems, name: _Path) -> None:
        super()._validate_string(param, shape, errors, name)
        if not isinstance(param, str):
            return
        limits = _limits(shape, name)
        if len(param) > limits.get("max", math.inf):
            errors.tell(name, f"must be at most {limits['max']} characters long, not {len(param)}")
        elif "enum" in limits and param not in limits["enum"]:
            known = ", ".join(limits["enum"])
            told = f"must be one of {known} (all that botocore {botocore.__version__} knows)"
            errors.tell(name, f"{told}, not {_shown(param, shape, name)}")
        elif "pattern" in limits and not _compiled(limits["pattern"]).fullmatch(param):
            errors.tell(name, f"must match {limits['pattern']}, and {_shown(param, shape, name)} does not")
        elif shape.serialization.get("location") == "header" and param and not _HEADER_TEXT.fullmatch(param):
            errors.tell(name, "must be printable ASCII without spaces at its ends: it is sent as a header")

    def _validate_integer(self, param: Any, shape: Any, errors: Problems, name: _Path) -> None:
        if isinstance(param, bool):
            errors.tell(name, "must be a number, not a bool")
            return
        bits = _INTEGER_BITS[shape.type_name]
        if isinstance(param, int) and not -(1 << bits) <= param < 1 << bits:
            errors.tell(name, f"must lie between {-(1 << bits)} and {(1 << bits) - 1}")
            return
        super()._validate_integer(param, shape, errors, name)
        limits = _limits(shape, name)
        if isinstance(param, int) and param > limits.get("max", math.inf):
            errors.tell(name, f"must be at most {limits['max']}, not {param}")
        if isinstance(param, int) and "min" not in shape.metadata and param < limits.get("min", -math.inf):
            errors.tell(name, f"must be at least {limits['min']}, not {param}")

    _validate_long = _validate_integer

    def _validate_double(self, param: Any, shape: Any, errors: Problems, name: _Path) -> None:
        if not is_number(param) or math.isinf(param):
            errors.tell(name, f"must be a finite number, not {param if isinstance(param, float) else _kind(param)}")
            return
        super()._validate_double(param, shape, errors, name)
        if param > shape.metadata.get("max", math.inf):
            errors.tell(name, f"must be at most {shape.metadata['max']}, not {param}")

    _validate_float = _validate_double

    def _validate_blob(self, param: Any, shape: Any, errors: Problems, name: _Path) -> None:
        if isinstance(param, str):
            # botocore would encode it once more: what an event has as base64 text would come back as other bytes.
            errors.tell(name, "must be bytes, not a str: decode base64 text first")
        elif not isinstance(param, bytes | bytearray):
            errors.tell(name, f"must be bytes, not {_kind(param)}")
        else:
            _is_in_bounds(param, shape, errors, name, "bytes")

    def _validate_list(self, param: Any, shape: Any, errors: Problems, name: _Path) -> None:
        least = _limits(shape, _INDEX.sub("[]", name)).get("min", 0)
        if isinstance(param, list | tuple) and "min" not in shape.metadata and len(param) < least:
            errors.tell(name, f"must have at least {least} entries, not {len(param)}")
        elif _is_in_bounds(param, shape, errors, name, "entries"):
            super()._validate_list(param, shape, errors, name)

    def _validate_map(self, param: Any, shape: Any, errors: Problems, name: _Path) -> None:
        if isinstance(param, dict) and not all(isinstance(key, str) for key in param):
            errors.tell(name, "must have only strings as its keys")
            return
        if _is_in_bounds(param, shape, errors, name, "entries"):
            super()._validate_map(param, shape, errors, name)

    def _validate_document(self, params: Any, shape: Any, errors: Problems, name: _Path) -> None:
        """Any JSON value; the places within are told, which botocore does not."""
        if isinstance(params, dict):
            for key, value in params.items():
                if isinstance(key, str):
                    self._validate_document(value, shape, errors, f"{name}.{_text(key)}")
                else:
                    errors.tell(name, f"must have only strings as its keys, not {_kind(key)}")
        elif isinstance(params, list):
            for index, item in enumerate(params):
                self._validate_document(item, shape, errors, f"{name}[{index}]")
        elif isinstance(params, float) and not math.isfinite(params):
            errors.tell(name, f"must be a JSON value, not {params}")
        elif isinstance(params, int) and params.bit_length() > MAX_DOCUMENT_BITS:
            errors.tell(name, f"must be a number below 2**{MAX_DOCUMENT_BITS}, not one of {params.bit_length()} bits")
        elif not isinstance(params, str | int | float | None):
            errors.tell(name, f"must be a JSON value, not {_kind(params)}")


def _names_runtime(value: str, *, by_id: bool) -> bool:
    return bool(_RUNTIME_ARN.fullmatch(value) or (by_id and _RUNTIME_ID.fullmatch(value)))


def _limits(shape: Any, name: _Path) -> Mapping[str, Any]:
    """What the model says of a member, and what the service says beyond it."""
    limits: Mapping[str, Any] = shape.metadata
    return {**limits, **_BEYOND[name]} if name in _BEYOND else limits


def _is_in_bounds(param: Any, shape: Any, errors: Problems, name: _Path, unit: str) -> bool:
    """Whether what has a length has no more than it may have; of what has none, something else will be told."""
    if not hasattr(param, "__len__") or len(param) <= shape.metadata.get("max", math.inf):
        return True
    errors.tell(name, f"must have at most {shape.metadata['max']} {unit}, not {len(param)}")
    return False


@functools.cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)


def _shown(value: str, shape: Any, name: _Path) -> str:
    """An id, a name, an ARN: what has a form. Other text, or what may be a secret, only by its length."""
    if shape.metadata.get("sensitive") or _SECRETIVE.search(name):
        return f"a string of {len(value)} characters"
    return _text(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        return _kind(value)
    text = value if value.isidentifier() else ascii(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def _kind(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"an {name}" if name.startswith(tuple("aeiou")) else f"a {name}"


def _shown_path(path: _Path) -> str:
    return path.removeprefix(".") or "the input"
