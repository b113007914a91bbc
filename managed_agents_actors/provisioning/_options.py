"""What the providers' own options of provisioning are, and the client that they name or make."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from .._errors import ConfigurationError
from ..agentcore import AgentCoreClient
from ..claude import ClaudeClient
from ._handles import HarnessHandle
from ._harness import check_role, region_of
from ._shelves import check_client

__all__ = [
    "AgentCoreOptions",
    "ClaudeOptions",
    "agentcore_client",
    "agentcore_options",
    "claude_client",
    "claude_options",
]

# What model_config= may have: how a client is made, if none is given.
CLAUDE_KEYS: Final = ("api_key", "base_url", "account")
AGENTCORE_KEYS: Final = ("region", "credentials", "endpoint_url")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaudeOptions:
    """Those of Claude Managed Agents."""

    client: ClaudeClient | None = None
    model_config: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCoreOptions:
    """Those of AgentCore; the role is needed to provision only."""

    client: AgentCoreClient | None = None
    execution_role_arn: str | None = None
    model_config: Mapping[str, Any] = field(default_factory=dict, repr=False)


def claude_options(provider: str, options: Mapping[str, Any]) -> ClaudeOptions:
    """Check the options of Claude Managed Agents.

    Raises:
        TypeError: One is unknown.
        ConfigurationError: One cannot be used.
    """
    given = _given(provider, options, ("client", "model_config"), CLAUDE_KEYS)
    if "client" in given:
        check_client(given["client"], ClaudeClient)
    return ClaudeOptions(**given)


def agentcore_options(provider: str, options: Mapping[str, Any], *, needs_role: bool) -> AgentCoreOptions:
    """Check the options of AgentCore.

    Raises:
        TypeError: One is unknown, or the role is missing.
        ConfigurationError: One cannot be used.
    """
    given = _given(provider, options, ("client", "execution_role_arn", "model_config"), AGENTCORE_KEYS)
    if needs_role and "execution_role_arn" not in given:
        raise TypeError("a harness needs execution_role_arn=, the ARN of the role that it runs as")
    if "execution_role_arn" in given:
        given["execution_role_arn"] = check_role(given["execution_role_arn"])
    if "client" in given:
        check_client(given["client"], AgentCoreClient)
    return AgentCoreOptions(**given)


def _given(
    provider: str, options: Mapping[str, Any], known: Collection[str], client_keys: Collection[str]
) -> dict[str, Any]:
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(
            f"{provider} knows no provisioning option {', '.join(map(repr, unknown))}; it knows {', '.join(known)}"
        )
    given = {name: value for name, value in options.items() if value is not None}
    config = given.get("model_config", {})
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"model_config= must be a mapping, not a {type(config).__name__}")
    # The same one may be given to a session, whose events carry the metadata, as those of provisioning do.
    usable = ("metadata",) if "client" in given else (*client_keys, "metadata")
    useless = sorted(str(key) for key in config if key not in usable)
    if useless:
        beside = " beside client=" if "client" in given else ""
        raise ConfigurationError(f"model_config={beside} takes {', '.join(usable)}, not {', '.join(useless)}")
    return given


@asynccontextmanager
async def claude_client(options: ClaudeOptions) -> AsyncIterator[ClaudeClient]:
    """The caller's client, which stays open, or one of our own, which does not."""
    if options.client is not None:
        yield options.client
        return
    async with ClaudeClient(**_named(options.model_config, CLAUDE_KEYS)) as client:
        yield client


@asynccontextmanager
async def agentcore_client(options: AgentCoreOptions, handle: Any = None) -> AsyncIterator[AgentCoreClient]:
    """The caller's client, which stays open, or one of our own, which does not.

    Args:
        options: The options.
        handle: A harness, or its JSON form: ours is where that is, unless the options say.
    """
    if options.client is not None:
        yield options.client
        return
    region = None if handle is None else region_of(HarnessHandle.from_json(handle).harness_arn)
    async with AgentCoreClient(**{"region": region, **_named(options.model_config, AGENTCORE_KEYS)}) as client:
        yield client


def _named(config: Mapping[str, Any], keys: Collection[str]) -> dict[str, Any]:
    return {key: config[key] for key in keys if config.get(key) is not None}
