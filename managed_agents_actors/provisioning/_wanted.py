"""What is to be made at a provider: its name, and the request that makes it. Pure.

Sources: Claude Managed Agents, "Create agent" and "Create environment"; Bedrock AgentCore, "CreateHarness".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from .._errors import ConfigurationError
from .._protocol.digest import canonical, digest, short_digest
from .._protocol.tool_schema import inline_function
from ._cache import Entry, key_of
from ._handles import AgentHandle, EnvironmentHandle, HarnessHandle
from ._names import CLAUDE, HARNESS, NamePolicy, check_base, compose, fit
from ._specs import AgentSpec, EnvironmentSpec

__all__ = [
    "AGENTS",
    "ENVIRONMENTS",
    "HARNESSES",
    "Kind",
    "Wanted",
    "wanted_agent",
    "wanted_environment",
    "wanted_harness",
]

H = TypeVar("H", bound=Entry)

# What an environment is without a configuration of its own.
OPEN_CLOUD: Final[Mapping[str, Any]] = {"type": "cloud", "networking": {"type": "unrestricted"}}

ANTHROPIC_PREFIX: Final = ("anthropic:",)
BEDROCK_PREFIXES: Final = ("bedrock:", "amazon_bedrock:")


@dataclass(frozen=True, slots=True)
class Kind(Generic[H]):
    """A kind of thing that has versions.

    Attributes:
        noun: What it is called, in keys and in messages.
        policy: How its names are made.
        handle: What names one.
    """

    noun: str
    policy: NamePolicy
    handle: type[H]

    def key(self, place: str, base: str, digest: str) -> str:
        """Where a store keeps the handle of a version in a place: an account, and where its API is."""
        return key_of("resource", self.noun, place, fit(base, self.policy), digest)

    def key_for(self, place: str, handle: H) -> str:
        """Where a store keeps this handle of a version in a place."""
        return self.key(place, handle.name.removesuffix(f"_{handle.digest}"), handle.digest)


AGENTS: Final = Kind("agent", CLAUDE, AgentHandle)
ENVIRONMENTS: Final = Kind("environment", CLAUDE, EnvironmentHandle)
HARNESSES: Final = Kind("harness", HARNESS, HarnessHandle)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted(Generic[H]):
    """A version that is to be there.

    Attributes:
        kind: What it is.
        base: What people call it.
        digest: The part of its digest that is in its name.
        body: The request that makes it.
    """

    kind: Kind[H]
    base: str
    digest: str
    body: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its name."""
        return compose(self.base, self.digest, self.kind.policy)

    def key(self, place: str) -> str:
        """Where a store keeps its handle."""
        return self.kind.key(place, self.base, self.digest)


def wanted_agent(spec: AgentSpec, name: str | None = None) -> Wanted[AgentHandle]:
    """An agent of Claude Managed Agents.

    Args:
        spec: What it is.
        name: What it is called, if not as the spec says.

    Raises:
        ConfigurationError: It cannot be one; nothing was sent.
    """
    base = check_base(spec.name if name is None else name, CLAUDE, "the name of the agent")
    version = short_digest(spec.digest)
    if spec.model is None:
        raise ConfigurationError("an agent of Claude Managed Agents needs a model: give AgentSpec(model=…)")
    own = {
        "name": compose(base, version, CLAUDE),
        "model": _model(spec.model, ANTHROPIC_PREFIX),
        "system": spec.system_prompt,
        "tools": list(spec.tools),
    }
    return Wanted(kind=AGENTS, base=base, digest=version, body=_with_settings(own, spec.settings, tuple(own)))


def wanted_environment(spec: EnvironmentSpec, name: str) -> Wanted[EnvironmentHandle]:
    """An environment of Claude Managed Agents.

    Args:
        spec: What it is.
        name: What it is called.

    Raises:
        ConfigurationError: It cannot be one; nothing was sent.
    """
    base = check_base(name, CLAUDE, "the name of the environment")
    version = short_digest(spec.digest)
    body = {"name": compose(base, version, CLAUDE), "config": spec.wire_config or dict(OPEN_CLOUD)}
    return Wanted(kind=ENVIRONMENTS, base=base, digest=version, body=body)


def wanted_harness(
    spec: AgentSpec, environment: EnvironmentSpec | None, execution_role_arn: str, name: str | None = None
) -> Wanted[HarnessHandle]:
    """A harness of AgentCore. Its names are unique in an account and region, so all that it is must be in its digest.

    Args:
        spec: What it is.
        environment: Where its own tools run.
        execution_role_arn: As which role.
        name: What it is called, if not as the spec says.

    Raises:
        ConfigurationError: It cannot be one; nothing was sent.
    """
    base = check_base(spec.name if name is None else name, HARNESS, "the name of the harness")
    where = None if environment is None else environment.digest
    version = short_digest(digest({"agent": spec.digest, "environment": where, "role": execution_role_arn}))
    own: dict[str, Any] = {
        "harnessName": compose(base, version, HARNESS),
        "executionRoleArn": execution_role_arn,
        "systemPrompt": [{"text": spec.system_prompt}],
    }
    if spec.model is not None:
        model = _model(spec.model, BEDROCK_PREFIXES)
        own["model"] = {"bedrockModelConfig": {"modelId": model}} if isinstance(model, str) else model
    if spec.tools:
        own["tools"] = [_harness_tool(tool) for tool in canonical(spec.tools)]
    if environment is not None and environment.config:
        own["environment"] = environment.config
    body = _with_settings(own, spec.settings, (*own, "model", "tools", "environment"))
    return Wanted(kind=HARNESSES, base=base, digest=version, body=body)


def _model(model: str | Mapping[str, Any], prefixes: Sequence[str]) -> Any:
    """A model as the provider calls it: its id without one prefix that names the provider; a mapping as it is."""
    if not isinstance(model, str):
        return model
    bare = next((model.removeprefix(prefix) for prefix in prefixes if model.startswith(prefix)), model)
    if not bare:
        raise ConfigurationError(f"model={model!r} names a provider, but no model")
    return bare


def _harness_tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    if "input_schema" in tool:
        return inline_function(tool["name"], tool["description"], tool["input_schema"])
    return tool


def _with_settings(own: dict[str, Any], settings: Mapping[str, Any], taken: Sequence[str]) -> dict[str, Any]:
    """The request with what the spec adds to it, which is nothing that the spec says elsewhere."""
    twice = [name for name in settings if name in taken]
    if twice:
        raise ConfigurationError(
            f"settings= must not hold {', '.join(twice)}: the other attributes of the spec say that"
        )
    body: dict[str, Any] = canonical({**own, **settings})  # what a spec holds is read-only, and no JSON
    return body
