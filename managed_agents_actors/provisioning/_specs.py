"""What is to be provisioned, as values: frozen, checked when they are made, and known by a digest of their content.

A name is no part of that content, nor is the place: the same agent under another name is the same agent. A spec keeps
copies that nobody can change, at any depth. Its errors name keys and types, and show no value: some are secrets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, TypeVar

from .._errors import ConfigurationError
from .._protocol.codec import has_lone_surrogate
from .._protocol.digest import canonical, digest
from .._protocol.tool_schema import custom_tool
from ._runtimes import Bootstrap, Runtime, bootstrap, check_runtimes, required_hosts

__all__ = ["AgentSpec", "EnvironmentSpec"]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Spec:
    """What specs have in common: they can be copied and pickled, which read-only mappings cannot."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), {each.name: _thawed(getattr(self, each.name)) for each in fields(self)})


@dataclass(frozen=True, kw_only=True, eq=False)
class AgentSpec(_Spec):
    """An agent: what it is told, what it thinks with, what it can call.

    Two specs are equal if their content is; the name is none of it. What they hold, at any depth, is read-only:
    mappings that cannot be changed, and tuples. :func:`copy.deepcopy` and :mod:`pickle` take them.

    Attributes:
        name: What it is called; versions are named ``<name>_<digest>``.
        system_prompt: What it is told.
        model: A model's id, with or without the provider's prefix (``"anthropic:claude-opus-5-5"``), or the provider's
            own mapping, which is passed through.
        tools: A :class:`~managed_agents_actors.Toolbox`, or a list of tools. One with an ``input_schema`` is this
            process's own and is declared as each provider wants it; others are the provider's own and are passed
            through.
        terminal_tool: The name of the tool that ends a run, for an application that uses one.
        settings: Further members of the provider's create request, passed through, such as ``mcp_servers``.

    Raises:
        ConfigurationError: One of them cannot be used.
    """

    name: str
    system_prompt: str
    model: str | Mapping[str, Any] | None = field(default=None, repr=False)  # it may hold a key, as tools may
    tools: Any = field(default=(), repr=False)
    terminal_tool: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        _check_text("system_prompt", self.system_prompt)
        if self.terminal_tool is not None:
            _check_text("terminal_tool", self.terminal_tool)
        if not isinstance(self.model, str | Mapping | None) or self.model == "":
            raise ConfigurationError(f"model= must be a model's id or a mapping, not {_kind_of(self.model)}")
        _keep(self, "model", _sendable("model=", self.model))
        _keep(self, "tools", [_tool(f"tools[{place}]", tool) for place, tool in enumerate(_listed_tools(self.tools))])
        _keep(self, "settings", _mapping("settings=", self.settings))

    @classmethod
    def of(cls, value: Any) -> AgentSpec:
        """A spec from itself or from a mapping with its attributes.

        Raises:
            ConfigurationError: It is neither, or cannot be used.
        """
        return _spec_of(cls, value, required={"name", "system_prompt"})

    @cached_property
    def digest(self) -> str:
        """The digest of its content, as 64 lowercase hexadecimal digits; the same for every provider."""
        names = ("system_prompt", "model", "tools", "terminal_tool", "settings")
        return digest({name: getattr(self, name) for name in names})

    def with_runtimes(self, environment: EnvironmentSpec) -> AgentSpec:
        """The agent, told how to install what an environment declares; itself if that is nothing."""
        found = environment.bootstrap
        if found is None:
            return self
        return replace(self, system_prompt=f"{self.system_prompt}\n\n{found.instructions}")

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, AgentSpec) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)


@dataclass(frozen=True, kw_only=True, eq=False)
class EnvironmentSpec(_Spec):
    """Where an agent's own tools run.

    Two specs are equal if their content is; the name is none of it. What they hold is read-only, as in an
    :class:`AgentSpec`.

    Attributes:
        name: What it is called; ``None`` takes a name from the agent.
        runtimes: The language runtimes it is to have: :class:`Runtime` values, or mappings. They never go to the
            provider: :attr:`bootstrap` says how the agent comes by them.
        config: The provider's own configuration of it, passed through. Of Claude Managed Agents, a ``networking`` whose
            type is ``limited`` also gets the hosts that installing the runtimes needs; nothing else is added to.

    Raises:
        ConfigurationError: One of them cannot be used.
    """

    name: str | None = None
    runtimes: Sequence[Runtime | Mapping[str, Any]] = ()
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.name is not None:
            _check_text("name", self.name)
        _keep(self, "runtimes", check_runtimes(self.runtimes))
        _keep(self, "config", _mapping("config=", self.config))

    @classmethod
    def of(cls, value: Any) -> EnvironmentSpec:
        """A spec from itself or from a mapping: ``name``, ``runtimes``, ``config``; other keys are configuration too.

        Raises:
            ConfigurationError: It is neither, or cannot be used.
        """
        if isinstance(value, Mapping):
            own = {key: value[key] for key in ("name", "runtimes") if key in value}
            config = {key: member for key, member in value.items() if key not in ("name", "runtimes", "config")}
            return cls(**own, config={**config, **_mapping("config=", value.get("config", {}))})
        return _spec_of(cls, value, required=set())

    @cached_property
    def digest(self) -> str:
        """The digest of its content, as 64 lowercase hexadecimal digits."""
        runtimes = [
            {"language": runtime.language, "version": runtime.version, "via": runtime.via} for runtime in self._runtimes
        ]
        return digest({"runtimes": runtimes, "config": self.config})

    @property
    def bootstrap(self) -> Bootstrap | None:
        """How its machine comes by the runtimes; ``None`` if it declares none."""
        return bootstrap(self._runtimes)

    @property
    def wire_config(self) -> dict[str, Any]:
        """The configuration as it is sent: a limited network may reach what the runtimes are installed from."""
        config: dict[str, Any] = canonical(self.config)
        networking, hosts = config.get("networking"), required_hosts(self._runtimes)
        if hosts and isinstance(networking, dict) and networking.get("type") == "limited":
            allowed = networking.get("allowed_hosts") or []
            if isinstance(allowed, list) and all(isinstance(host, str) for host in allowed):  # else it is refused
                networking["allowed_hosts"] = list(dict.fromkeys((*allowed, *hosts)))
        return config

    @property
    def _runtimes(self) -> tuple[Runtime, ...]:
        return check_runtimes(self.runtimes)

    def __eq__(self, other: object) -> bool:
        return self.digest == other.digest if isinstance(other, EnvironmentSpec) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)


S = TypeVar("S", AgentSpec, EnvironmentSpec)


def _keep(spec: AgentSpec | EnvironmentSpec, name: str, value: Any) -> None:
    """Put our own copy of a value in place of the caller's; the way a frozen dataclass has for that."""
    object.__setattr__(spec, name, _frozen(value))


def _frozen(value: Any) -> Any:
    """A value of JSON's own types as one that nobody can change."""
    match value:
        case dict():
            return MappingProxyType({name: _frozen(member) for name, member in value.items()})
        case list():
            return tuple(_frozen(member) for member in value)
        case _:
            return value


def _thawed(value: Any) -> Any:
    """A frozen value in types that can be copied and pickled."""
    match value:
        case Mapping():
            return {name: _thawed(member) for name, member in value.items()}
        case tuple():
            return [_thawed(member) for member in value]
        case _:
            return value


def _remade(cls: type[S], members: dict[str, Any]) -> S:
    return cls(**members)


def _spec_of(cls: type[S], value: Any, *, required: set[str]) -> S:
    if isinstance(value, cls):
        return value
    known = [each.name for each in fields(cls)]
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"expected {cls.__name__} or a mapping, not a {type(value).__name__}")
    unknown = sorted(str(key) for key in value if key not in known)
    missing = sorted(required - set(value))
    if unknown or missing:
        wrong = f"has no {', '.join(missing)}" if missing else f"has {', '.join(unknown)}"
        raise ConfigurationError(f"{cls.__name__} takes {', '.join(known)}; this one {wrong}")
    return cls(**value)


def _check_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ConfigurationError(f"{name}= must be a non-empty text, not {_kind_of(value)}")
    _sendable(f"{name}=", value)


def _sendable(name: str, value: Any) -> Any:
    """A copy of a value that every provider can read: half a surrogate pair is no character."""
    copied = canonical(value, name)
    if has_lone_surrogate(copied):
        raise ConfigurationError(f"{name} holds half a surrogate pair, which is no character and cannot be sent")
    return copied


def _kind_of(value: Any) -> str:
    """What a value that cannot be used is, without what it says."""
    return "an empty one" if isinstance(value, str) else f"a {type(value).__name__}"


def _mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} must be a mapping, not a {type(value).__name__}")
    copied: dict[str, Any] = _sendable(name, value)
    return copied


def _listed_tools(tools: Any) -> Sequence[Any]:
    declared = getattr(tools, "custom_tools", None)
    if callable(declared):
        tools = declared()
    if not isinstance(tools, Sequence) or isinstance(tools, str | bytes):
        raise ConfigurationError(f"tools= must be a Toolbox or a list of tools, not a {type(tools).__name__}")
    return tools


def _tool(place: str, tool: Any) -> dict[str, Any]:
    """One tool: of this process's own, its name, description and schema, checked; any other as it is."""
    declared = _mapping(place, tool)
    seen = ", ".join(declared) or "nothing"
    if "input_schema" not in declared and declared.get("type") != "custom":
        if not isinstance(declared.get("type"), str):
            raise ConfigurationError(
                f"a tool has an input_schema, or a type that the provider knows; {place} has {seen}"
            )
        return declared
    unknown = sorted(declared.keys() - {"type", "name", "description", "input_schema"})
    if unknown or declared.get("type", "custom") != "custom":
        raise ConfigurationError(
            f"a tool of one's own has a name, a description, an input_schema, and no type but 'custom'; {place} has"
            f" {seen}"
        )
    missing = [key for key in ("name", "description", "input_schema") if key not in declared]
    if missing:
        raise ConfigurationError(f"{place} has no {', '.join(missing)}")
    _check_text(f"{place}['name']", declared["name"])
    return custom_tool(declared["name"], declared["description"], declared["input_schema"])
