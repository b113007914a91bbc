"""PRO: an agent without an environment is taken back; what is put away is put away whole, or told of."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.testing import Delay, Fault, LoseRequest, RefuseWith

from ..provisioning._world import AGENT, open_agentcore, open_claude, provision_claude, provision_harness

# --- PRO-09 -----------------------------------------------------------------------------------------------------------


async def test_pro_09_without_an_environment_the_agent_is_archived(autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on="create_environment", action=RefuseWith(400))) as here:
        with pytest.raises(maa.InvalidRequestError, match="simulated fault") as caught:
            await provision_claude(here)
        assert getattr(caught.value, "__notes__", []) == []
        assert await here.agents() == []
        assert len(await here.agents(include_archived=True)) == 1
        assert await here.store.items("") == {}
        # Nothing of it is in the way of the next call.
        handle = await provision_claude(here)
        assert [row["id"] for row in await here.agents()] == [handle.agent_id]


async def test_pro_09_an_agent_that_was_found_is_not_archived(autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on="create_environment", action=RefuseWith(400))) as here:
        agent = await maa.ensure_agent(here.client, AGENT, store=maa.MemoryStore())
        with pytest.raises(maa.InvalidRequestError):
            await provision_claude(here)
        assert [row["id"] for row in await here.agents()] == [agent.id]


@pytest.mark.parametrize("action", [RefuseWith(400), RefuseWith(500), LoseRequest(), Delay(10_000)])
async def test_pro_09_an_agent_that_cannot_be_archived_is_reported(
    action: Any, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    faults = (
        Fault(on="create_environment", action=RefuseWith(400)),
        Fault(on="archive_agent", action=action, nth="every"),
    )
    async with open_claude(*faults) as here:
        with pytest.raises(maa.InvalidRequestError, match="simulated fault") as caught:
            await provision_claude(here)
        [row] = await here.agents()
    [note] = caught.value.__notes__
    assert "may be left behind" in note
    assert row["id"] in note
    assert row["id"] in caplog.text
    assert trio.current_time() == (0 if action == RefuseWith(400) else 30)


async def test_pro_09_teardown_may_be_done_twice(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        handle = await provision_claude(here)
        for form in (handle, json.loads(json.dumps(handle.to_json()))):
            await maa.teardown(claude_managed_agents, form, client=here.client, store=here.store)
            assert await here.agents() == await here.environments(include_archived=True) == []
            assert await here.store.items("") == {}
        again = await provision_claude(here)
        assert again.agent_id != handle.agent_id
    async with open_agentcore() as there:
        harness = await provision_harness(there)
        for form in (harness, json.loads(json.dumps(harness.to_json()))):
            await maa.teardown(bedrock_agent_core, form, client=there.client, store=there.store)
            assert await there.harnesses() == {harness.harness_id: "DELETING"}
            assert await there.store.items("") == {}
        await trio.sleep(121)
        await maa.teardown(bedrock_agent_core, harness, client=there.client, store=there.store)


@pytest.mark.parametrize("failing", [["archive_agent"], ["delete_environment", "archive_environment"]])
async def test_pro_09_teardown_attempts_both_and_a_refused_one_keeps_the_cache(
    failing: list[str], autojump_clock: MockClock
) -> None:
    faults = [Fault(on=operation, action=RefuseWith(403), nth="every") for operation in failing]
    async with open_claude(*faults) as here:
        handle = await provision_claude(here)
        entries = await here.store.items("")
        refused = handle.agent if "archive_agent" in failing else handle.environment
        with pytest.raises(maa.ProvisioningError, match="try again") as caught:
            await maa.teardown(claude_managed_agents, handle, client=here.client, store=here.store)
        told = {name: caught.value.context[name] == "ok" for name in ("agent", "environment")}
        assert told == {"agent": "archive_agent" not in failing, "environment": "archive_agent" in failing}
        assert isinstance(caught.value.__cause__, maa.PermissionDeniedError)
        assert len(await here.agents()) + len(await here.environments()) == 1
        assert await here.store.items("") == {
            key: value for key, value in entries.items() if value == refused.to_json()
        }


async def test_pro_09_an_environment_that_cannot_be_deleted_is_archived(autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on="delete_environment", action=RefuseWith(409), nth="every")) as here:
        handle = await provision_claude(here)
        await maa.teardown(claude_managed_agents, handle, client=here.client, store=here.store)
        assert await here.environments() == []
        assert len(await here.environments(include_archived=True)) == 1
        assert await here.store.items("") == {}


@pytest.mark.parametrize("operation", ["archive_agent", "delete_environment"])
async def test_pro_09_teardown_has_a_deadline(operation: str, autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on=operation, action=Delay(10_000))) as here:
        handle = await provision_claude(here)
        with pytest.raises(maa.ProvisioningError, match="longer than 10 s") as caught:
            await maa.teardown(claude_managed_agents, handle, client=here.client, store=here.store, timeout=10)
        assert trio.current_time() == 10
        told = sorted(caught.value.context[name] for name in ("agent", "environment"))
        assert told == ["it took longer than 10 s", "ok"]
        # Whether that one is there nobody knows: it is not offered.
        assert await here.store.items("") == {}
        await maa.teardown(claude_managed_agents, handle, client=here.client, store=here.store)
        assert await here.agents() == await here.environments() == []
    async with open_agentcore(Fault(on="delete_harness", action=Delay(10_000))) as there:
        harness = await provision_harness(there)
        with pytest.raises(maa.ProvisioningError, match="longer than 10 s") as caught:
            await maa.teardown(bedrock_agent_core, harness, client=there.client, store=there.store, timeout=10)
        assert caught.value.context["elapsed"] == 10
        assert await there.store.items("") == {}
