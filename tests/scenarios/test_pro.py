"""PRO: provisioning is done once: by name, in one place, by one task, whatever the store does."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.testing import Delay, Fault, open_agentcore_simulator

from ..provisioning._world import (
    AGENT,
    ENVIRONMENT,
    OTHER_ACCOUNT,
    OTHER_ROLE,
    ROLE,
    AgentCore,
    Failing,
    open_agentcore,
    open_claude,
    provision_claude,
    provision_harness,
)

# Each way to make something: where, how, and the requests that make it.
WAYS: dict[str, tuple[Any, Callable[..., Awaitable[Any]], list[str]]] = {
    "agent": (
        open_claude,
        lambda here, **options: maa.ensure_agent(here.client, AGENT, **{"store": here.store, **options}),
        ["GET /agents", "POST /agents"],
    ),
    "environment": (
        open_claude,
        lambda here, **options: maa.ensure_environment(here.client, ENVIRONMENT, **{"store": here.store, **options}),
        ["POST /environments"],
    ),
    "both": (open_claude, provision_claude, ["GET /agents", "POST /agents", "POST /environments"]),
    "harness": (open_agentcore, provision_harness, ["POST "]),
}


def made(here: Any) -> list[str]:
    """The requests that made or looked for something; looks at what is waited for are left out."""
    return [line for line in here.traffic if not line.startswith("GET /support")]


# --- PRO-01 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_pro_01_a_miss_creates_and_the_next_call_sends_nothing(way: str, autojump_clock: MockClock) -> None:
    open_world, ensure, requests = WAYS[way]
    async with open_world() as here:
        first = await ensure(here)
        assert made(here) == requests
        sent = len(here.traffic)
        assert await ensure(here) == first
        assert len(here.traffic) == sent
    for handle in (first.agent, first.environment) if way == "both" else (first,):
        base, _, digest = handle.name.rpartition("_")
        assert base in ("support", "support_env", "box")
        assert (digest, len(digest)) == (handle.digest, 8)
        assert set(digest) <= set("0123456789abcdef")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("junk", ["junk", 7, [], {"id": "x"}, {"id": 1, "name": 2, "digest": 3}])
async def test_pro_01_a_malformed_value_is_healed(way: str, junk: Any, autojump_clock: MockClock) -> None:
    open_world, ensure, requests = WAYS[way]
    async with open_world() as here:
        first = await ensure(here)
        entries = await here.store.items("")
        for key in entries:
            await here.store.put(key, junk)
        assert await ensure(here) == first
        # What was there is found again by its name, and written down again.
        assert await here.store.items("") == entries
        assert made(here)[len(requests) :].count("POST /agents") == 0
        sent = len(here.traffic)
        await ensure(here)
        assert len(here.traffic) == sent


async def test_pro_01_a_handle_of_something_else_is_healed(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        one = await maa.ensure_agent(here.client, AGENT, store=here.store)
        two = await maa.ensure_agent(here.client, AGENT, name="other", store=here.store)
        for key in await here.store.items(""):
            await here.store.put(key, two.to_json())
        assert await maa.ensure_agent(here.client, AGENT, store=here.store) == one
        assert one.to_json() in (await here.store.items("")).values()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("operation", ["get", "put"])
async def test_pro_01_a_store_that_fails_never_blocks(
    way: str, operation: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    open_world, ensure, _ = WAYS[way]
    store = Failing(operation)
    async with open_world() as here:
        first = await ensure(here, store=store)
        assert await ensure(here, store=store) == first
    assert any(f"no disk to {operation}" in str(record.exc_info) for record in caplog.records)


@pytest.mark.parametrize("letter", ["x", "é"])
async def test_pro_01_names_of_247_bytes_are_whole_and_248_are_refused(letter: str, autojump_clock: MockClock) -> None:
    size = len(letter.encode())
    fits, long = letter * (247 // size), letter * (247 // size) + "x" * (248 - 247 // size * size)
    async with open_claude() as here:
        for ensure, spec in ((maa.ensure_agent, AGENT), (maa.ensure_environment, ENVIRONMENT)):
            handle = await ensure(here.client, spec, name=fits, store=here.store)  # type: ignore[arg-type]
            assert handle.name == f"{fits}_{handle.digest}"
            sent = len(here.traffic)
            with pytest.raises(maa.ConfigurationError, match="248 bytes"):
                await ensure(here.client, spec, name=long, store=here.store)  # type: ignore[arg-type]
            assert len(here.traffic) == sent
        # The name that an environment takes from its agent is no reason to refuse the agent.
        handle = await provision_claude(here, name=fits)
        assert handle.agent.name == f"{fits}_{handle.agent.digest}"
        assert re.fullmatch(rf"{letter}+_[0-9a-f]{{6}}_{handle.environment.digest}", handle.environment.name)
        assert len(handle.environment.name.encode()) in range(256 - size + 1, 257)
        sent = len(here.traffic)
        with pytest.raises(maa.ConfigurationError, match="environment has 248 bytes"):
            await provision_claude(here, environment=maa.EnvironmentSpec(name=long))
        assert len(here.traffic) == sent


async def test_pro_01_a_harness_keeps_31_letters_of_its_name(autojump_clock: MockClock) -> None:
    async with open_agentcore(times={}) as here:
        whole = await provision_harness(here, name="x" * 31)
        cut, other = [await provision_harness(here, name="x" * 31 + letter) for letter in "xy"]
    assert whole.name == f"{'x' * 31}_{whole.digest}"
    for handle in (cut, other):
        assert len(handle.name) == 40
        assert handle.name.startswith("x" * 24 + "_")
        assert handle.name.endswith(f"_{handle.digest}")
    assert len({whole.name, cut.name, other.name}) == 3


# --- PRO-02 -----------------------------------------------------------------------------------------------------------


async def test_pro_02_another_role_or_account_is_another_harness(autojump_clock: MockClock) -> None:
    async with open_agentcore(times={}) as here:
        handles = [
            await provision_harness(here, execution_role_arn=role) for role in (ROLE, OTHER_ROLE, OTHER_ACCOUNT, ROLE)
        ]
        assert len(await here.harnesses()) == len(await here.store.items("")) == 3
    assert len({handle.name for handle in handles}) == 3
    assert handles[0] == handles[3]


async def test_pro_02_another_region_or_endpoint_is_another_harness(autojump_clock: MockClock) -> None:
    store = maa.MemoryStore()
    places: list[dict[str, Any]] = [{"control_endpoint_url": f"http://{name}.test"} for name in ("a", "b", "a")]
    for count, options in enumerate(places, 1):
        # Each simulator is a world of its own; the third time a handle of the first is given.
        async with open_agentcore(times={}, **options) as here:
            await provision_harness(here, store=store)
            assert made(here) == (["POST "] if count < 3 else [])
    assert len(await store.items("")) == 2
    elsewhere = open_agentcore_simulator(transport="memory", region="eu-west-1")
    async with elsewhere as simulator, simulator.client(**places[0]) as client:
        there = AgentCore(simulator, client, store)
        await provision_harness(there)
        assert made(there) == ["POST "]
    assert len(await store.items("")) == 3


async def test_pro_02_another_key_or_base_url_is_another_agent(autojump_clock: MockClock) -> None:
    store = maa.MemoryStore()
    async with open_claude() as here:
        first = await provision_claude(here, store=store)
        here.simulator.rotate_key("another-key")
        async with here.simulator.client() as other:
            # The key may be of another account. This one is not, so everything is found again.
            sent = len(here.traffic)
            assert await provision_claude(here, client=other, store=store) == first
            assert made(here)[sent:] == ["GET /agents", "POST /environments", "GET /environments"]
        assert len(await store.items("resource/")) == 4
        async with here.simulator.client(base_url="http://elsewhere.test") as elsewhere:
            assert await provision_claude(here, client=elsewhere, store=store) == first
        assert len(await store.items("resource/")) == 6


async def test_pro_02_a_named_account_outlives_its_key(autojump_clock: MockClock) -> None:
    async with open_claude(account="prod") as here:
        handle = await maa.ensure_agent(here.client, AGENT, store=here.store)
        await maa.tag_agent(here.client, "support", "live", handle, store=here.store)
        here.simulator.rotate_key("another-key")
        sent = len(here.traffic)
        async with here.simulator.client(account="prod") as other:
            assert await maa.resolve_agent(other, "support:live", store=here.store) == handle
            assert await maa.ensure_agent(other, AGENT, store=here.store) == handle
        async with here.simulator.client(account="stage") as stranger:
            with pytest.raises(maa.ProvisioningError, match="unknown"):
                await maa.resolve_agent(stranger, "support:live", store=here.store)
        assert len(here.traffic) == sent


# --- PRO-03 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
async def test_pro_03_an_entry_outlives_the_task_that_made_it(way: str, autojump_clock: MockClock) -> None:
    open_world, ensure, requests = WAYS[way]
    async with open_world() as here:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(functools.partial(ensure, here, store=None))
        sent = len(here.traffic)
        await ensure(here, store=None)
        assert len(here.traffic) == sent
        assert made(here) == requests


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stores", ["one", "many"])
async def test_pro_03_ten_at_once_create_one(way: str, stores: str, autojump_clock: MockClock) -> None:
    open_world, ensure, requests = WAYS[way]
    handles = []
    async with open_world() as here:

        async def one() -> None:
            handles.append(await ensure(here, store=here.store if stores == "one" else maa.MemoryStore()))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(one)
        creations = [line for line in made(here) if line.startswith("POST")]
        if stores == "one":
            assert made(here) == requests
        assert creations.count("POST /agents") <= 1
        ids = {json.dumps(handle.to_json()) for handle in handles}
    assert (len(handles), len(ids)) == (10, 1)


@pytest.mark.parametrize("way", WAYS)
async def test_pro_03_if_the_first_is_cancelled_the_next_one_creates(way: str, autojump_clock: MockClock) -> None:
    open_world, ensure, _ = WAYS[way]
    operation = {"agent": "list_agents", "environment": "create_environment", "both": "create_agent"}.get(
        way, "create_harness"
    )
    handles = []
    async with open_world(Fault(on=operation, action=Delay(5))) as here:

        async def second() -> None:
            handles.append(await ensure(here))

        async with trio.open_nursery() as nursery:
            with trio.move_on_after(1) as first:
                nursery.start_soon(second)
                await ensure(here)
        assert first.cancelled_caught
        rows = await here.harnesses() if way == "harness" else await here.agents() + await here.environments()
    assert len(handles) == 1
    assert len(rows) == (2 if way == "both" else 1)
