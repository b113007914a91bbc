"""Agents, environments, sessions and what is attached to a session: the plain endpoints.

Source: Claude Managed Agents API reference, endpoints. Bodies and answers are passed through as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._api import Api
from ._events import Events
from ._paging import Row
from ._resource import Managed, Nested, merged

__all__ = ["Agents", "Environments", "Sessions"]


class Versions(Nested):
    """``client.agents.versions``: the stored versions of an agent."""

    _parent = "agents"
    _name = "versions"


class Agents(Managed):
    """``client.agents``. Agents are archived, never deleted."""

    _name = "agents"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.versions = Versions(api)


class Environments(Managed):
    """``client.environments``."""

    _name = "environments"

    async def delete(self, environment_id: str, /) -> Row:
        """Delete an environment."""
        return await self._api.delete(self._name, environment_id)


class SessionResources(Nested):
    """``client.sessions.resources``: files, repositories and memory attached to a session."""

    _parent = "sessions"
    _name = "resources"

    async def add(self, session_id: str, body: Mapping[str, Any] | None = None, /, **fields: Any) -> Row:
        """Attach a file: ``type="file"``, ``file_id``, ``mount_path``. Not repeated once it may be taken."""
        return await self._api.post(*self._under(session_id), body=merged(body, fields), idempotent=False)

    async def retrieve(self, session_id: str, resource_id: str, /) -> Row:
        """Fetch one resource."""
        return await self._api.get(*self._under(session_id, resource_id), query={})

    async def update(
        self, session_id: str, resource_id: str, body: Mapping[str, Any] | None = None, /, **fields: Any
    ) -> Row:
        """Replace a repository's ``authorization_token``."""
        path = self._under(session_id, resource_id)
        return await self._api.post(*path, body=merged(body, fields), idempotent=True)

    async def delete(self, session_id: str, resource_id: str, /) -> Row:
        """Detach a resource."""
        return await self._api.delete(*self._under(session_id, resource_id))


class Sessions(Managed):
    """``client.sessions``."""

    _name = "sessions"

    def __init__(self, api: Api) -> None:
        super().__init__(api)
        self.events = Events(api)
        self.resources = SessionResources(api)

    async def delete(self, session_id: str, /) -> Row:
        """Delete a session and its history; a running one is refused (interrupt it first)."""
        return await self._api.delete(self._name, session_id)
