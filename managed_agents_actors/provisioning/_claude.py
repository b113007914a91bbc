"""Agents and environments of Claude Managed Agents: found or made, and put away.

Names of environments are unique at the server, so one is made first and looked for if that is refused. Names of agents
are not, so an agent is looked for first: among live ones of a name the oldest is the one that everybody takes. Agents
share environments, so the store knows which agent was provisioned with which, and the last one takes it along.

Source: Claude Managed Agents, "Create agent", "Create environment" and their listings.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar

import trio

from .._errors import (
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ProvisioningError,
    StoreError,
)
from ..claude import ClaudeClient
from ..telemetry import get_logger
from ._cache import Cache, Entry, flight, use_key
from ._handles import AgentHandle, ClaudeHandle, EnvironmentHandle
from ._names import CLAUDE, fit
from ._order import Order, Removal
from ._progress import Course
from ._rollback import Rollback
from ._specs import EnvironmentSpec
from ._wanted import AGENTS, ENVIRONMENTS, Kind, Wanted, wanted_agent, wanted_environment

__all__ = ["archive", "collection_of", "ensure", "live_sessions", "moment", "provision_claude", "teardown_claude"]

Row: TypeAlias = dict[str, Any]
Settle: TypeAlias = Callable[[str, Callable[[], Awaitable[None]]], Awaitable[None]]
H = TypeVar("H", AgentHandle, EnvironmentHandle)

# What a resource may answer that cannot be put away this way, or not any more.
REFUSALS = (ConflictError, InvalidRequestError, PermissionDeniedError)

TERMINATED = "terminated"


async def ensure(client: ClaudeClient, wanted: Wanted[H], cache: Cache, *, verify: bool) -> H:
    """Give the handle of a version, made if there is none."""
    course = Course(f"the {wanted.kind.noun} {wanted.name}")
    key = wanted.key(await client.account_digest())
    async with flight(key), Rollback(course) as rollback:
        handle, is_kept = await _obtain(client, wanted, key, cache, course, rollback, verify=verify)
        if not is_kept:
            await cache.commit({key: handle})
    return handle


async def provision_claude(client: ClaudeClient, order: Order) -> ClaudeHandle:
    """Give an agent and an environment; either both are there in the end, or what this call made is gone again."""
    spec = order.environment or EnvironmentSpec()
    agent = wanted_agent(order.spec, order.name)
    environment = wanted_environment(spec, spec.name or fit(f"{agent.base}_env", CLAUDE))
    course, cache = order.course, order.cache
    place = await client.account_digest()
    keys = agent.key(place), environment.key(place)
    course.enter("queued", agent.name)
    # Always in this order: two calls that each hold what the other one waits for would wait for ever.
    async with flight(keys[0]), flight(keys[1]), Rollback(course) as rollback:
        obtain = functools.partial(_obtain, client, cache=cache, course=course, rollback=rollback, verify=order.verify)
        found, agent_is_kept = await obtain(agent, keys[0])
        where, environment_is_kept = await obtain(environment, keys[1])
        use = use_key(ENVIRONMENTS.noun, place, where.id, found.id)
        use_is_kept = await cache.find(use, found.name, AgentHandle) == found
        made: dict[str, Entry] = {keys[0]: found, keys[1]: where, use: found}
        is_kept = {keys[0]: agent_is_kept, keys[1]: environment_is_kept, use: use_is_kept}
        await cache.commit({key: entry for key, entry in made.items() if not is_kept[key]})
    return ClaudeHandle(agent=found, environment=replace(where, bootstrap=spec.bootstrap))


async def _obtain(
    client: ClaudeClient,
    wanted: Wanted[H],
    key: str,
    cache: Cache,
    course: Course,
    rollback: Rollback,
    *,
    verify: bool,
) -> tuple[H, bool]:
    """A version's handle, and whether it was remembered: else it is found, or made."""
    course.enter("look up", wanted.name)
    kept = await cache.find(key, wanted.name, wanted.kind.handle)
    if kept is not None:
        if not verify or await _is_live(client, wanted.kind, kept.id):
            return kept, True
        await cache.lose(kept)
    rows = collection_of(client, wanted.kind)
    if wanted.kind is AGENTS:
        with course.phase("look up", wanted.name):
            live = _live(await rows.list_all(), wanted.name)
        if live:
            return _handle(wanted, live[0]), False
    with course.phase("create", wanted.name):
        try:
            row = await rollback.create(functools.partial(_create, client, wanted, course, rollback))
        except ConflictError as conflict:
            return _handle(wanted, await _holder(client, wanted, course, conflict)), False
    return _handle(wanted, row), False


async def _create(client: ClaudeClient, wanted: Wanted[H], course: Course, rollback: Rollback) -> Row:
    """Make a resource, and say how that is undone."""
    with course.may_have_made(f"{wanted.kind.noun} {wanted.name}"):
        row: Row = await collection_of(client, wanted.kind).create(wanted.body)
    id_ = row.get("id")
    if not isinstance(id_, str) or not id_:
        raise course.error(
            "may have been created, but the answer has no id; the next call looks for its name",
            reason="unexpected answer",
        )
    rollback.made(f"{wanted.kind.noun} {id_}", functools.partial(_take_back, client, wanted.kind, id_))
    return row


async def _is_live(client: ClaudeClient, kind: Kind[Any], id: str) -> bool:
    """Whether a resource is there, and not archived."""
    try:
        return not (await collection_of(client, kind).retrieve(id)).get("archived_at")
    except NotFoundError:
        return False


async def _holder(client: ClaudeClient, wanted: Wanted[H], course: Course, conflict: ConflictError) -> Row:
    """The live resource whose name was refused because it is taken."""
    rows = await collection_of(client, wanted.kind).list_all(include_archived=True)
    live = _live(rows, wanted.name)
    if live:
        return live[0]
    archived = [row["id"] for row in rows if _is_named(row, wanted.name)]
    if archived:
        raise course.error(
            f"cannot be created: its name belongs to {archived[0]}, which is archived; delete that one if it can be, or"
            " change the name or the content",
            reason="archived",
        ) from conflict
    raise course.error(
        "cannot be created: its name is taken, but nothing that is listed has it", reason="name conflict"
    ) from conflict


def _live(rows: list[Row], name: str) -> list[Row]:
    """The rows of this name that are not archived, the oldest first."""
    live = [row for row in rows if _is_named(row, name) and not row.get("archived_at")]
    return sorted(live, key=lambda row: (moment(row.get("created_at")) or datetime.max.replace(tzinfo=UTC), row["id"]))


def _is_named(row: Row, name: str) -> bool:
    return row.get("name") == name and isinstance(row.get("id"), str)


def moment(value: Any) -> datetime | None:
    """The point in time that a provider tells; ``None`` if it is none."""
    try:
        told = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    if not isinstance(told, datetime):
        return None
    return told.astimezone(UTC) if told.tzinfo is not None else told.replace(tzinfo=UTC)


def _handle(wanted: Wanted[H], row: Row) -> H:
    return wanted.kind.handle(id=row["id"], name=wanted.name, digest=wanted.digest)


def collection_of(client: ClaudeClient, kind: Kind[Any]) -> Any:
    """The endpoints of a kind."""
    return client.agents if kind is AGENTS else client.environments


# --- away ------------------------------------------------------------------------------------------------------------


async def _take_back(client: ClaudeClient, kind: Kind[Any], id: str) -> None:
    """Undo a creation: nothing can use it yet, so an environment goes for good; agents can only be archived."""
    await (client.agents.archive(id) if kind is AGENTS else client.environments.delete(id))


async def archive(client: ClaudeClient, kind: Kind[Any], id: str) -> None:
    """Archive a resource; one that is archived already, or gone, is as good."""
    try:
        await collection_of(client, kind).archive(id)
    except NotFoundError:
        return
    except REFUSALS:
        # Some servers refuse to do it twice.
        if await _is_live(client, kind, id):
            raise


async def _remove_environment(client: ClaudeClient, id: str) -> None:
    """Delete an environment, or archive it if sessions keep it from being deleted."""
    try:
        await client.environments.delete(id)
    except NotFoundError:
        return
    except REFUSALS:
        await archive(client, ENVIRONMENTS, id)


async def live_sessions(client: ClaudeClient) -> list[Row]:
    """The sessions that have not terminated: what they use is in use."""
    return [session for session in await client.sessions.list_all() if session.get("status") != TERMINATED]


@dataclass(slots=True)
class _Outcome:
    """What has become of one of the two."""

    told: str
    failure: Exception | None = None


async def teardown_claude(client: ClaudeClient, removal: Removal) -> None:
    """Archive an agent and delete its environment, unless that is used; each whatever becomes of the other."""
    handle = ClaudeHandle.from_json(removal.handle)
    begun = trio.current_time()
    unfinished = f"it took longer than {removal.timeout:g} s"
    outcomes = {"agent": _Outcome(unfinished), "environment": _Outcome(unfinished)}

    async def settle(name: str, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Exception as error:  # noqa: BLE001 -- the other one must be put away all the same; it is raised below
            outcomes[name] = _Outcome(f"{type(error).__name__}: {error}", error)
        else:
            outcomes[name] = _Outcome("ok")

    with trio.move_on_after(removal.timeout):
        await _put_away(client, handle, removal.cache, settle)
    told = {name: outcome.told for name, outcome in outcomes.items() if outcome.told != "ok"}
    if not told:
        return
    failures = [outcome.failure for outcome in outcomes.values() if outcome.failure is not None]
    if len(failures) == len(told) and all(isinstance(failure, StoreError) for failure in failures):
        raise failures[0]
    elapsed = trio.current_time() - begun
    context = {"phase": "teardown", "id": handle.agent_id, "elapsed": elapsed}
    context |= {name: outcome.told for name, outcome in outcomes.items()}
    raise ProvisioningError(
        f"could not be put away, try again: agent {handle.agent_id}: {context['agent']}; environment"
        f" {handle.environment_id}: {context['environment']}",
        context=context,
    ) from (failures[0] if failures else None)


async def _put_away(client: ClaudeClient, handle: ClaudeHandle, cache: Cache, settle: Settle) -> None:
    """Put both away, while nobody is given them; what uses the environment is read before anything is done."""
    place = await client.account_digest()
    keys = AGENTS.key_for(place, handle.agent), ENVIRONMENTS.key_for(place, handle.environment)
    own = use_key(ENVIRONMENTS.noun, place, handle.environment_id, handle.agent_id)

    async def put_agent_away() -> None:
        async with cache.forgotten(handle.agent):
            await archive(client, AGENTS, handle.agent_id)

    async def put_environment_away() -> None:
        use = "another agent" if others else await _session_in(client, handle)
        if use is not None:
            get_logger().info("provisioning_environment_kept", id=handle.environment_id, used_by=use)
            return
        async with cache.forgotten(handle.environment):
            await _remove_environment(client, handle.environment_id)

    # In the order in which they are provisioned.
    async with flight(keys[0]), flight(keys[1]):
        others = set(await cache.read_all(use_key(ENVIRONMENTS.noun, place, handle.environment_id))) - {own}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(settle, "agent", put_agent_away)
            nursery.start_soon(settle, "environment", put_environment_away)


async def _session_in(client: ClaudeClient, handle: ClaudeHandle) -> str | None:
    """A session that still uses an environment; ``None`` if there is none.

    An idle one of the agent itself is none: every run leaves one behind, and the agent is not to be used again.
    """
    for session in await live_sessions(client):
        agent = session.get("agent")
        is_own = isinstance(agent, Mapping) and agent.get("id") == handle.agent_id
        if session.get("environment_id") == handle.environment_id and not (is_own and session.get("status") == "idle"):
            return f"the session {session.get('id')}"
    return None
