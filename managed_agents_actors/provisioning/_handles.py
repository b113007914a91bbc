"""What was provisioned, as plain frozen values that go straight into a session's options, and into a store as JSON.

A handle holds what names the thing at its provider and which content it is, nothing that can change.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from .._errors import ConfigurationError
from ._runtimes import Bootstrap

__all__ = ["AgentHandle", "ClaudeHandle", "EnvironmentHandle", "HarnessHandle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Handle:
    """What handles have in common: their JSON form."""

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """The handle that :meth:`to_json` gave a form of; a handle is itself.

        Raises:
            ConfigurationError: It is none.
        """
        if isinstance(value, cls):
            return value
        names = [each.name for each in fields(cls) if each.init and each.metadata.get("json", True)]
        members = value if isinstance(value, Mapping) else {}
        if set(members) != set(names) or not all(isinstance(member, str) and member for member in members.values()):
            raise ConfigurationError(f"a {cls.__name__} has {', '.join(names)}, each a text; this is {_seen(value)}")
        return cls(**members)

    def to_json(self) -> dict[str, Any]:
        """Its form in JSON."""
        names = [each.name for each in fields(self) if each.metadata.get("json", True)]
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentHandle(_Handle):
    """An agent of Claude Managed Agents: ``run_session(…, agent=handle)``.

    Attributes:
        id: Its id.
        name: Its name.
        digest: The digest of its content in its name.
    """

    id: str
    name: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentHandle(_Handle):
    """An environment of Claude Managed Agents: ``run_session(…, environment=handle)``.

    Attributes:
        id: Its id.
        name: Its name.
        digest: The digest of its content in its name.
        bootstrap: How its machine comes by the runtimes that its spec declares; ``None`` if there are none, or if it
            was found by a tag and no spec was at hand. No part of its JSON form.
    """

    id: str
    name: str
    digest: str
    bootstrap: Bootstrap | None = field(default=None, compare=False, repr=False, metadata={"json": False})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaudeHandle:
    """An agent with an environment: ``run_session(…, agent=handle, environment=handle)``, or ``**handle.options``.

    Attributes:
        agent: The agent.
        environment: The environment.
    """

    agent: AgentHandle
    environment: EnvironmentHandle

    @property
    def agent_id(self) -> str:
        """The agent's id."""
        return self.agent.id

    @property
    def environment_id(self) -> str:
        """The environment's id."""
        return self.environment.id

    @property
    def options(self) -> dict[str, Any]:
        """What a session is told to use it."""
        return {"agent": self.agent, "environment": self.environment}

    @classmethod
    def from_json(cls, value: Any) -> ClaudeHandle:
        """The handle that :meth:`to_json` gave a form of; a handle is itself.

        Raises:
            ConfigurationError: It is none.
        """
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping) or set(value) != {"agent", "environment"}:
            raise ConfigurationError(f"a ClaudeHandle has agent and environment; this is {_seen(value)}")
        return cls(
            agent=AgentHandle.from_json(value["agent"]), environment=EnvironmentHandle.from_json(value["environment"])
        )

    def to_json(self) -> dict[str, Any]:
        """Its form in JSON."""
        return {"agent": self.agent.to_json(), "environment": self.environment.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True)
class HarnessHandle(_Handle):
    """A harness of AgentCore: ``run_session(…, harness=handle)``, or ``**handle.options``.

    Attributes:
        harness_id: Its id.
        harness_arn: Its ARN.
        name: Its name.
        digest: The digest of its content in its name.
    """

    harness_id: str
    harness_arn: str
    name: str
    digest: str

    @property
    def options(self) -> dict[str, Any]:
        """What a session is told to use it."""
        return {"harness": self}


def _seen(value: Any) -> str:
    """What something is that is no handle, without what it says."""
    kind = f"a {type(value).__name__}"
    if not isinstance(value, Mapping):
        return kind
    members = (f"{name} (a {type(member).__name__})" for name, member in value.items())
    return f"{kind} with {', '.join(members) or 'nothing'}"
