"""Agents and environments of Claude Managed Agents: found or made, and put away.

Names of environments are unique at the server, so one is made first and looked for if that is refused. Names of agents
are not, so an agent is looked for first: among live ones of a name the oldest is the one that everybody takes.

Source: Claude Managed Agents, "Create agent", "Create environment" and their listings.
"""

from __future__ import annotations

import functools
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
)
from ..claude import ClaudeClient
from ._cache import Cache, Entry, flight
from ._handles import AgentHandle, ClaudeHandle, EnvironmentHandle
from ._order import Order, Removal
from ._progress import Course
from ._rollback import Rollback
from ._specs import EnvironmentSpec
from ._wanted import AGENTS, ENVIRONMENTS, Kind, Wanted, wanted_agent, wanted_environment

__all__ = ["archive", "collection_of", "ensure", "moment", "provision_claude", "teardown_claude"]

Row: TypeAlias = dict[str, Any]
H = TypeVar("H", AgentHandle, EnvironmentHandle)

# What a resource may answer that cannot be put away this way, or not any more.
REFUSALS = (ConflictError, InvalidRequestError, PermissionDeniedError)


async def ensure(client: ClaudeClient, wanted: Wanted[H], cache: Cache) -> H:
    """Give the handle of a version, made if there is none."""
    course = Course(f"the {wanted.kind.noun} {wanted.name}")
    key = wanted.key(await client.account_digest())
    async with flight(key), Rollback(course) as rollback:
        handle, is_kept = await _obtain(client, wanted, key, cache, course, rollback)
        if not is_kept:
            await cache.commit({key: handle})
    return handle


async def provision_claude(client: ClaudeClient, order: Order) -> ClaudeHandle:
    """Give an agent and an environment; either both are there in the end, or what this call made is gone again."""
    spec = order.environment or EnvironmentSpec()
    agent = wanted_agent(order.spec, order.name)
    environment = wanted_environment(spec, spec.name or f"{agent.base}_env")
    course, cache = order.course, order.cache
    place = await client.account_digest()
    keys = agent.key(place), environment.key(place)
    course.enter("queued", agent.name)
    # Always in this order: two calls that each hold what the other one waits for would wait for ever.
    async with flight(keys[0]), flight(keys[1]), Rollback(course) as rollback:
        found, agent_is_kept = await _obtain(client, agent, keys[0], cache, course, rollback)
        where, environment_is_kept = await _obtain(client, environment, keys[1], cache, course, rollback)
        made: dict[str, Entry] = {} if agent_is_kept else {keys[0]: found}
        await cache.commit(made if environment_is_kept else {**made, keys[1]: where})
    return ClaudeHandle(agent=found, environment=replace(where, bootstrap=spec.bootstrap))


async def _obtain(
    client: ClaudeClient, wanted: Wanted[H], key: str, cache: Cache, course: Course, rollback: Rollback
) -> tuple[H, bool]:
    """A version's handle, and whether it was remembered: else it is found, or made."""
    course.enter("look up", wanted.name)
    kept = await cache.find(key, wanted.name, wanted.kind.handle)
    if kept is not None:
        return kept, True
    rows = collection_of(client, wanted.kind)
    if wanted.kind is AGENTS:
        with course.phase("look up", wanted.name):
            live = _live(await rows.list_all(), wanted.name)
        if live:
            return _handle(wanted, live[0]), False
    with course.phase("create", wanted.name):
        try:
            with course.may_have_made(f"{wanted.kind.noun} {wanted.name}"):
                row = await rows.create(wanted.body)
        except ConflictError as conflict:
            return _handle(wanted, await _holder(client, wanted, course, conflict)), False
        id_ = row.get("id")
        if not isinstance(id_, str) or not id_:
            raise course.error(
                "may have been created, but the answer has no id; the next call looks for its name",
                reason="unexpected answer",
            )
        rollback.made(f"{wanted.kind.noun} {id_}", functools.partial(_take_back, client, wanted.kind, id_))
    return _handle(wanted, row), False


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
    rows = collection_of(client, kind)
    try:
        await rows.archive(id)
    except NotFoundError:
        return
    except REFUSALS:
        # Some servers refuse to do it twice.
        if not (await rows.retrieve(id)).get("archived_at"):
            raise


async def _remove_environment(client: ClaudeClient, id: str) -> None:
    """Delete an environment, or archive it if sessions keep it from being deleted."""
    try:
        await client.environments.delete(id)
    except NotFoundError:
        return
    except REFUSALS:
        await archive(client, ENVIRONMENTS, id)


@dataclass(slots=True)
class _Outcome:
    """What has become of one of the two."""

    told: str
    failure: Exception | None = None


async def teardown_claude(client: ClaudeClient, removal: Removal) -> None:
    """Archive an agent and delete its environment, each whatever becomes of the other."""
    handle = ClaudeHandle.from_json(removal.handle)
    begun = trio.current_time()
    unfinished = f"it took longer than {removal.timeout:g} s"
    outcomes = {"agent": _Outcome(unfinished), "environment": _Outcome(unfinished)}
    steps = {
        "agent": functools.partial(archive, client, AGENTS, handle.agent_id),
        "environment": functools.partial(_remove_environment, client, handle.environment_id),
    }

    async def settle(name: str) -> None:
        try:
            await steps[name]()
        except Exception as error:  # noqa: BLE001 -- the other one must be put away all the same; it is raised below
            outcomes[name] = _Outcome(f"{type(error).__name__}: {error}", error)
        else:
            outcomes[name] = _Outcome("ok")

    with trio.move_on_after(removal.timeout):
        async with trio.open_nursery() as nursery:
            for name in steps:
                nursery.start_soon(settle, name)
    told = {name: outcome.told for name, outcome in outcomes.items()}
    if set(told.values()) != {"ok"}:
        elapsed = trio.current_time() - begun
        context = {"phase": "teardown", "id": handle.agent_id, "elapsed": elapsed, **told}
        cause = next((outcome.failure for outcome in outcomes.values() if outcome.failure), None)
        raise ProvisioningError(
            f"could not be put away, try again: agent {handle.agent_id}: {told['agent']}; environment"
            f" {handle.environment_id}: {told['environment']}",
            context=context,
        ) from cause
    await removal.cache.gone(handle.agent, handle.environment)
