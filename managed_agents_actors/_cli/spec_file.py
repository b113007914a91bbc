"""What is to be provisioned, read from a file of YAML or JSON: a spec, and where it lives.

Nothing is sent from here. Whatever is wrong is an error that names the file and the key, and shows nothing of the rest
of the file, which may hold what nobody else is to see.
"""

from __future__ import annotations

import json
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from .._errors import ConfigurationError
from ..provisioning import AgentSpec, EnvironmentSpec

__all__ = ["AgentFile", "naming", "read_agent_file", "read_environment_file"]

MAX_BYTES: Final = 1024 * 1024  # far above any prompt and any set of tools; whatever is larger is another file

AGENT_KEYS: Final = tuple(each.name for each in fields(AgentSpec))
ENVIRONMENT_KEYS: Final = tuple(each.name for each in fields(EnvironmentSpec))
# Where the agent lives; one file serves both providers, and Claude Managed Agents has no use for these.
PLACE_KEYS: Final = ("environment", "execution_role_arn")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFile:
    """What a file says of an agent.

    Attributes:
        spec: The agent.
        environment: Where its own tools run; ``None`` if the file does not say.
        execution_role_arn: The role of its harness, unchecked; ``None`` if the file does not say.
    """

    spec: AgentSpec
    environment: EnvironmentSpec | None
    execution_role_arn: Any


def read_agent_file(path: Path) -> AgentFile:
    """Read an agent.

    Raises:
        ConfigurationError: The file cannot be read, or holds no agent.
    """
    members = _read_mapping(path)
    with naming(path):
        _check_keys("an agent", members, (*AGENT_KEYS, *PLACE_KEYS))
        spec = AgentSpec.of({key: value for key, value in members.items() if key not in PLACE_KEYS})
        environment = members.get("environment")
        with naming("environment"):
            where = None if environment is None else _environment(environment)
    return AgentFile(spec=spec, environment=where, execution_role_arn=members.get("execution_role_arn"))


def read_environment_file(path: Path) -> EnvironmentSpec:
    """Read an environment.

    Raises:
        ConfigurationError: The file cannot be read, or holds no environment.
    """
    members = _read_mapping(path)
    with naming(path):
        return _environment(members)


@contextmanager
def naming(place: Path | str) -> Iterator[None]:
    """Put the place that is at fault in front of what is wrong."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error}") from error


def _environment(members: Any) -> EnvironmentSpec:
    if not isinstance(members, Mapping):
        raise ConfigurationError(f"an environment is a mapping, not a {type(members).__name__}")
    # Elsewhere other keys are configuration, too; here they would be typing errors that nobody finds.
    _check_keys("an environment", members, ENVIRONMENT_KEYS)
    return EnvironmentSpec.of(members)


def _check_keys(what: str, members: Mapping[Any, Any], known: Collection[str]) -> None:
    unknown = [str(key) for key in members if key not in known]
    if unknown:
        raise ConfigurationError(f"{what} has {', '.join(known)}, not {', '.join(unknown)}")


def _read_mapping(path: Path) -> Mapping[Any, Any]:
    decode = _FORMATS.get(path.suffix.lower())
    if decode is None:
        raise ConfigurationError(f"{path}: the name must end in {', '.join(_FORMATS)}")
    try:
        kind = path.stat().st_mode
        if not stat.S_ISREG(kind) and not stat.S_ISDIR(kind):
            # Opening a pipe waits until somebody writes to it.
            raise ConfigurationError(f"{path} cannot be read: it is no regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        raise ConfigurationError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    with naming(path):
        if len(data) > MAX_BYTES:
            raise ConfigurationError(f"a file may have {MAX_BYTES} bytes; this one has more")
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"it is not text in UTF-8: byte {error.start} cannot be part of it") from error
        found = decode(text)
        if not isinstance(found, Mapping):
            raise ConfigurationError(f"it must hold one mapping, not a {type(found).__name__}")
        return found


def _decode_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"it is not JSON: {error.msg}, line {error.lineno}, column {error.colno}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; thousands of brackets
        raise ConfigurationError(f"it is not JSON that can be used: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _refuse_twice(key for key, _ in pairs)
    return dict(pairs)


def _refuse_twice(keys: Iterable[str]) -> None:
    """Both readers would take the last value, and say nothing of the others."""
    for key, count in Counter(keys).items():
        if count > 1:
            raise ConfigurationError(f"the key {key!r} is there {count} times")


def _decode_yaml(text: str) -> Any:
    try:
        import yaml
    except ImportError as error:
        raise ConfigurationError(
            'reading YAML needs PyYAML: pip install "managed-agents-actors[yaml]"; JSON is read without'
        ) from error

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 -- PyYAML's own signature
            _refuse_twice(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)  # noqa: S506 -- as safe as the loader that it is made from
    except yaml.YAMLError as error:
        # Its own text shows the lines around the place.
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"
        problem = getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
        raise ConfigurationError(f"it is not YAML: {_QUOTED.sub(_hidden, problem)}{where}") from None
    except RecursionError:  # thousands of brackets
        raise ConfigurationError("it is not YAML that can be used: it is nested too deeply") from None
    except (ValueError, LookupError, AttributeError, TypeError):  # PyYAML's ways to say no; the texts show the value
        raise ConfigurationError(
            "it is not YAML that can be used: a value is not what its form or its tag says, such as a day that no month"
            " has"
        ) from None


_QUOTED: Final = re.compile(r"""'[^']*'|"[^"]*\"""")


def _hidden(quoted: re.Match[str]) -> str:
    """What PyYAML may quote: what it knows itself, or one character; not tags and aliases, which are the file's.

    A password without quotation marks may look like one of those.
    """
    text = quoted[0]
    return text if len(text) <= len("'x'") or text.startswith("'<") else "…"


_FORMATS: Final[Mapping[str, Callable[[str], Any]]] = {
    ".yaml": _decode_yaml,
    ".yml": _decode_yaml,
    ".json": _decode_json,
}
