"""Everything the simulated API remembers: agents, environments, sessions and files, by id.

Only the look-ups that every endpoint shares are here; what a request does to the world is the endpoint's file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from ._api import Clock, Ids
from ._background import Background
from ._claude_api import refuse
from ._claude_session import SessionEngine
from ._script import Agent

__all__ = ["ClaudeWorld", "StoredFile", "StoredSession"]

Json: TypeAlias = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class StoredSession:
    """A session: the fields clients set, and the engine that runs it.

    Attributes:
        fields: ``title``, ``metadata``, ``agent`` and the like, as shown.
        resources: Its resources, as shown.
        engine: Its running part.
    """

    fields: Json
    resources: list[Json]
    engine: SessionEngine

    def view(self) -> Json:
        """The session object."""
        engine = self.engine
        usage = engine.log.usage
        return {
            **self.fields,
            "status": engine.log.status,
            "resources": self.resources,
            "budget": engine.threads.budget,
            "outcome_evaluations": engine.outcomes.all,
            "stats": {"active_seconds": usage.active_seconds, "duration_seconds": usage.duration_seconds},
            "usage": usage.snapshot(),
        }


@dataclass(slots=True, kw_only=True)
class StoredFile:
    """A file and its content."""

    metadata: Json
    content: bytes = field(repr=False)


class ClaudeWorld:
    """The state behind one simulator.

    Attributes:
        clock: Tells the time in timestamps.
        ids: Makes ids.
        background: Where turns run.
        agent: Plays every session's agent.
        usage: What a model request reports.
        agents: Every version of every agent, oldest first.
        environments: By id.
        sessions: By id.
        files: By id.
    """

    def __init__(self, *, background: Background, agent: Agent, usage: Mapping[str, int]) -> None:
        self.clock = Clock()
        self.ids = Ids()
        self.background = background
        self.agent = agent
        self.usage = dict(usage)
        self.agents: dict[str, list[Json]] = {}
        self.environments: dict[str, Json] = {}
        self.sessions: dict[str, StoredSession] = {}
        self.files: dict[str, StoredFile] = {}

    def agent_version(self, agent_id: object, version: object = None) -> Json:
        """An agent, its latest version unless one is named."""
        versions = self.agents.get(agent_id) if isinstance(agent_id, str) else None
        if not versions:
            raise refuse(f"agent {agent_id!r} does not exist", status=404)
        if version is None:
            return versions[-1]
        if not isinstance(version, int) or not 1 <= version <= len(versions):
            raise refuse(f"agent {agent_id!r} has no version {version!r}", status=404)
        return versions[version - 1]

    def environment(self, environment_id: object) -> Json:
        """An environment."""
        found = self.environments.get(environment_id) if isinstance(environment_id, str) else None
        if found is None:
            code = "environment_not_found"
            raise refuse(f"environment {environment_id!r} does not exist", status=404, error_code=code)
        return found

    def session(self, session_id: str) -> StoredSession:
        """A session."""
        found = self.sessions.get(session_id)
        if found is None:
            raise refuse(f"session {session_id!r} does not exist", status=404)
        return found

    def file(self, file_id: object) -> StoredFile:
        """A file."""
        found = self.files.get(file_id) if isinstance(file_id, str) else None
        if found is None:
            raise refuse(f"file {file_id!r} does not exist", status=404)
        return found
