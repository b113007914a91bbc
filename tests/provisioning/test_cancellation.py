"""Cancellation: every public call, cancelled at every moment until it completes.

A call is begun in a fresh world and cancelled after n scheduling steps of the whole program, for n = 0, 1, 2, … After
each: what the call has made is gone, or remembered, or told of in the log; the store offers nothing that is gone; no
task waits for another one's lock; and the next call makes do with whatever was left.
"""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.provisioning import _cache

from ..session.test_cancellation import MAX_STEPS, Alarm
from ._world import AGENT, ENVIRONMENT, HARNESS, ROLE, open_agentcore, open_claude
from .test_tags import Kind

# Seconds; each is seen by one look.
TIMES: dict[str, float] = {"create": 1, "visible": 1, "endpoint": 2, "delete": 1}
PATIENCE = 1_000.0

UNKNOWN = "is unknown; the next call adopts it by its name"


class World:
    """A world in which one call is cancelled after so many steps."""

    def __init__(self, here: Any, steps: int, caplog: pytest.LogCaptureFixture) -> None:
        self.here, self.steps, self.caplog = here, steps, caplog
        self.client, self.store = here.client, here.store
        self.cancelled = False
        self.given: Any = None

    async def attempt(self, call: Callable[[], Awaitable[Any]]) -> None:
        """Make the call, and cancel it after this world's number of steps."""
        self.caplog.clear()
        with trio.CancelScope() as scope:
            alarm = Alarm(self.steps, scope)
            trio.lowlevel.add_instrument(alarm)
            try:
                self.given = await call()
            finally:
                trio.lowlevel.remove_instrument(alarm)
        self.cancelled = scope.cancelled_caught
        await wait_all_tasks_blocked()
        assert _cache._flights_of_this_run() == {}

    def is_told(self, name: str) -> bool:
        """Whether the log says that this may be there."""
        return any(UNKNOWN in each.getMessage() and name in each.getMessage() for each in self.caplog.records)

    async def remembered(self) -> set[str]:
        """The ids in the store."""
        entries = await self.store.items("resource/")
        return {value.get("id") or value["harness_id"] for value in entries.values()}


Trial: TypeAlias = Callable[[World], Awaitable[None]]


@asynccontextmanager
async def open_world(
    open_here: Any, steps: int, caplog: pytest.LogCaptureFixture, **options: Any
) -> AsyncIterator[World]:
    with trio.fail_after(PATIENCE):
        async with open_here(**options) as here:
            yield World(here, steps, caplog)


def sweep(open_here: Any, trial: Trial, caplog: pytest.LogCaptureFixture, **options: Any) -> int:
    """Try with every number of steps until the call completes; how many trials were cancelled."""
    caplog.set_level("WARNING", "managed_agents_actors")

    async def run(steps: int) -> bool:
        async with open_world(open_here, steps, caplog, **options) as world:
            await trial(world)
        return world.cancelled

    for steps in range(MAX_STEPS):
        if not trio.run(run, steps, clock=MockClock(autojump_threshold=0)):
            gc.collect()  # what was never closed warns when it is collected, and here a warning is an error
            return steps
    pytest.fail(f"the call did not complete within {MAX_STEPS} steps")


async def check_claude(world: World) -> None:
    """What is there is remembered, or told of; what is remembered is there."""
    agents, boxes = await world.here.agents(), await world.here.environments()
    kept = await world.remembered()
    for row in (*agents, *boxes):
        assert row["id"] in kept or world.is_told(row["name"]), row
    assert kept <= {row["id"] for row in (*agents, *boxes)}


@pytest.mark.parametrize("kind", ["agent", "environment"])
def test_ensuring(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    async def trial(world: World) -> None:
        spec: Any = AGENT if kind == "agent" else ENVIRONMENT
        ensure = partial(getattr(maa, f"ensure_{kind}"), world.client, spec, store=world.store)
        await world.attempt(ensure)
        await check_claude(world)
        handle = await ensure()
        rows = await world.here.agents() if kind == "agent" else await world.here.environments()
        assert [row["id"] for row in rows] == [handle.id]

    assert sweep(open_claude, trial, caplog) > 10


def test_provisioning_an_agent_and_an_environment(caplog: pytest.LogCaptureFixture) -> None:
    async def trial(world: World) -> None:
        provision = partial(maa.provision, claude_managed_agents, AGENT, client=world.client, store=world.store)
        await world.attempt(provision)
        await check_claude(world)
        if world.cancelled:
            # Both or none, but for one whose creation was cut off.
            untold = [row for row in await world.here.agents() if not world.is_told(row["name"])]
            untold += [row for row in await world.here.environments() if not world.is_told(row["name"])]
            assert untold == []
        handle = await provision()
        assert [row["id"] for row in await world.here.agents()] == [handle.agent_id]
        assert [row["id"] for row in await world.here.environments()] == [handle.environment_id]

    assert sweep(open_claude, trial, caplog) > 30


@pytest.mark.parametrize("way", ["new", "being deleted"])
def test_provisioning_a_harness(way: str, caplog: pytest.LogCaptureFixture) -> None:
    async def trial(world: World) -> None:
        options = {"client": world.client, "store": world.store, "execution_role_arn": ROLE, "interval": 1}
        provision = partial(maa.provision, bedrock_agent_core, HARNESS, **options)
        if way == "being deleted":
            await maa.teardown(bedrock_agent_core, await provision(), client=world.client, store=world.store)
        before = set(await world.here.harnesses())
        await world.attempt(provision)
        kept = await world.remembered()
        for harness_id, status in (await world.here.harnesses()).items():
            is_accounted_for = harness_id in kept | before or status == "DELETING" or world.is_told(harness_id[:-11])
            assert is_accounted_for, harness_id
        assert kept <= set(await world.here.harnesses())
        handle = await provision()
        assert {each for each, status in (await world.here.harnesses()).items() if status == "READY"} == {
            handle.harness_id
        }

    assert sweep(open_agentcore, trial, caplog, times=TIMES) > 50


def test_tearing_an_agent_and_an_environment_down(caplog: pytest.LogCaptureFixture) -> None:
    async def trial(world: World) -> None:
        options: dict[str, Any] = {"client": world.client, "store": world.store}
        handle = await maa.provision(claude_managed_agents, AGENT, **options)
        teardown = partial(maa.teardown, claude_managed_agents, handle, **options)
        await world.attempt(teardown)
        assert world.cancelled or await world.remembered() == set()
        await teardown()
        assert await world.remembered() == set()
        assert await world.here.agents() == await world.here.environments() == []

    assert sweep(open_claude, trial, caplog) > 10


def test_tearing_a_harness_down(caplog: pytest.LogCaptureFixture) -> None:
    async def trial(world: World) -> None:
        options: dict[str, Any] = {"client": world.client, "store": world.store}
        handle = await maa.provision(bedrock_agent_core, HARNESS, execution_role_arn=ROLE, **options)
        teardown = partial(maa.teardown, bedrock_agent_core, handle, **options)
        await world.attempt(teardown)
        assert world.cancelled or await world.remembered() == set()
        await teardown()
        assert await world.remembered() == set()
        assert set((await world.here.harnesses()).values()) <= {"DELETING"}

    assert sweep(open_agentcore, trial, caplog, times=TIMES) > 5


@pytest.mark.parametrize("name", ["agent", "environment", "harness"])
def test_pruning(name: str, caplog: pytest.LogCaptureFixture) -> None:
    async def trial(world: World) -> None:
        kind = Kind(name, world.here)
        made = [await kind.ensure(f"version {number}") for number in range(4)]
        await kind.tag("support", "live", made[1])
        await world.attempt(lambda: kind.prune(1))
        there = {version.id for version in await kind.list()}
        assert await world.remembered() <= there
        assert {getattr(made[n], "harness_id", None) or made[n].id for n in (1, 3)} <= there
        await kind.prune(1)
        assert len(await kind.list()) == 2
        assert await kind.resolve("support:live") == made[1]

    times: dict[str, Any] = {"times": {}} if name == "harness" else {}
    assert sweep(open_agentcore if name == "harness" else open_claude, trial, caplog, **times) > 10


@pytest.mark.parametrize("name", ["agent", "environment", "harness"])
@pytest.mark.parametrize("call", ["tag", "resolve", "list"])
def test_tagging_resolving_and_listing(name: str, call: str, caplog: pytest.LogCaptureFixture) -> None:
    async def trial(world: World) -> None:
        kind = Kind(name, world.here)
        one, two = await kind.ensure("one"), await kind.ensure("two")
        await kind.tag("support", "live", one)
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "tag": lambda: kind.tag("support", "live", two),
            "resolve": lambda: kind.resolve("support:live"),
            "list": kind.list,
        }
        before = await kind.entries
        await world.attempt(calls[call])
        found = await kind.resolve("support:live")
        if call == "tag":
            assert found in (one, two)
            assert world.cancelled or found == two
        else:
            assert found == one
            assert await kind.entries == before

    times: dict[str, Any] = {"times": {}} if name == "harness" else {}
    assert sweep(open_agentcore if name == "harness" else open_claude, trial, caplog, **times) > 0
