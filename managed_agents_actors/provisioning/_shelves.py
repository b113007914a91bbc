"""Where the versions of a base are at each provider, what uses them, and how one is put away.

Sources: Claude Managed Agents, "List agents", "List sessions", ``multiagent``; Bedrock AgentCore, ListHarnesses and
ListHarnessEndpoints.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from .._errors import ConfigurationError, NotFoundError, ProtocolError
from ..agentcore import AgentCoreClient
from ..claude import ClaudeClient
from ._claude import archive, collection_of, live_sessions, moment
from ._handles import AgentHandle, EnvironmentHandle, HarnessHandle
from ._harness import DELETING, account_of, delete, place_of
from ._names import digest_in
from ._prune import Found
from ._wanted import AGENTS, HARNESSES, Kind

__all__ = ["ClaudeShelf", "HarnessShelf", "check_client"]

C = TypeVar("C", bound=ClaudeClient | AgentCoreClient)
H = TypeVar("H", AgentHandle, EnvironmentHandle)

DEFAULT_ENDPOINT: Final = "DEFAULT"

# A harness that cannot be invoked, nor will be.
BROKEN: Final = frozenset({"CREATE_FAILED", "DELETE_FAILED"})


def check_client(client: Any, kind: type[C]) -> C:
    """Give a client back.

    Raises:
        ConfigurationError: It is none of this kind.
    """
    if not isinstance(client, kind):
        raise ConfigurationError(f"the client must be a {kind.__name__}, not a {type(client).__name__}")
    return client


@dataclass(frozen=True, slots=True)
class ClaudeShelf(Generic[H]):
    """The agents, or the environments, of an account."""

    client: ClaudeClient
    kind: Kind[H]
    place: str

    async def versions(self, base: str) -> list[Found[H]]:
        """Look at all there are of a base that are not archived."""
        found = []
        for row in await collection_of(self.client, self.kind).list_all():
            id_, name = row.get("id"), row.get("name")
            digest = digest_in(name, base, self.kind.policy)
            if digest is not None and isinstance(id_, str) and not row.get("archived_at"):
                handle = self.kind.handle(id=id_, name=str(name), digest=digest)
                made = _made_at(row.get("created_at"), id_)
                found.append(Found(id=id_, handle=handle, digest=digest, place=self.place, created_at=made, row=row))
        return found

    async def used(self, versions: Sequence[Found[H]]) -> Collection[str]:
        """Find out which are in use: by a session that has not terminated, or by another agent as a part of it."""
        if not versions:
            return ()
        used: set[str] = set()
        for session in await live_sessions(self.client):
            agent = session.get("agent")
            shown = (agent.get("id"), agent.get("multiagent")) if isinstance(agent, Mapping) else agent
            used.update(_texts((session.get("environment_id"), shown)))
        if self.kind is AGENTS:
            for row in await self.client.agents.list_all():
                used.update(text for text in _texts(row.get("multiagent")) if text != row.get("id"))
        return used

    async def put_away(self, version: Found[H]) -> None:
        """Archive one."""
        await archive(self.client, self.kind, version.id)


@dataclass(frozen=True, slots=True)
class HarnessShelf:
    """The harnesses of an account."""

    client: AgentCoreClient
    kind: Kind[HarnessHandle] = HARNESSES

    async def versions(self, base: str) -> list[Found[HarnessHandle]]:
        """Look at all there are of a base that are not being deleted."""
        found = []
        for row in await self.client.list_all_harnesses():
            id_, name, arn, status = (row.get(key) for key in ("harnessId", "harnessName", "arn", "status"))
            digest = digest_in(name, base, self.kind.policy)
            if digest is None or not isinstance(id_, str) or not isinstance(arn, str) or status == DELETING:
                continue
            handle = HarnessHandle(harness_id=id_, harness_arn=arn, name=str(name), digest=digest)
            found.append(
                Found(
                    id=id_,
                    handle=handle,
                    digest=digest,
                    place=place_of(self.client, account_of(arn)),
                    created_at=_made_at(row.get("createdAt"), id_),
                    is_usable=status not in BROKEN,
                    row=row,
                )
            )
        return found

    async def used(self, versions: Sequence[Found[HarnessHandle]]) -> Collection[str]:
        """Find out which have an endpoint that somebody made: it is there to be invoked."""
        used = set()
        for version in versions:
            try:
                endpoints = await self.client.list_all_harness_endpoints(harnessId=version.id)
            except NotFoundError:
                continue
            if any(endpoint.get("endpointName") != DEFAULT_ENDPOINT for endpoint in endpoints):
                used.add(version.id)
        return used

    async def put_away(self, version: Found[HarnessHandle]) -> None:
        """Begin to delete one."""
        await delete(self.client, version.id)


def _made_at(value: Any, id: str) -> datetime:
    made = moment(value)
    if made is None:
        raise ProtocolError(f"{id} is listed without the time it was made at; nobody can say which versions are older")
    return made


def _texts(value: Any) -> Iterator[str]:
    """Every text in a value, at any depth: an id is told apart from whatever else is there."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for member in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(member)
