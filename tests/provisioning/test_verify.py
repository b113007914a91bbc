"""``verify``: what the store remembers is looked at, and made anew if it is not there any more."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.testing import Fault, RefuseWith

from ._world import (
    AGENT,
    ENVIRONMENT,
    HARNESS,
    ROLE,
    Failing,
    open_agentcore,
    open_claude,
    provision_claude,
    provision_harness,
)


async def test_what_is_live_is_kept_and_looked_at_only_if_that_is_asked_for(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        handle = await provision_claude(here)
        sent = len(here.traffic)
        assert await provision_claude(here) == handle
        assert here.traffic[sent:] == []
        assert await provision_claude(here, verify=True) == handle
        ids = [f"GET /agents/{handle.agent_id}", f"GET /environments/{handle.environment_id}"]
        assert here.traffic[sent:] == ids
    async with open_agentcore(times={}) as there:
        harness = await provision_harness(there)
        sent = len(there.traffic)
        assert await provision_harness(there, verify=True) == harness
        assert there.traffic[sent:] == [f"GET /{harness.harness_id}"]


async def test_an_agent_that_was_archived_is_made_anew(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        old = await maa.ensure_agent(here.client, AGENT, store=here.store)
        await here.client.agents.archive(old.id)
        assert await maa.ensure_agent(here.client, AGENT, store=here.store) == old  # the store is believed
        new = await maa.ensure_agent(here.client, AGENT, store=here.store, verify=True)
        assert [row["id"] for row in await here.agents()] == [new.id]
        assert await maa.ensure_agent(here.client, AGENT, store=here.store) == new


async def test_an_environment_that_was_deleted_is_made_anew(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        old = await maa.ensure_environment(here.client, ENVIRONMENT, store=here.store)
        await here.client.environments.delete(old.id)
        new = await maa.ensure_environment(here.client, ENVIRONMENT, store=here.store, verify=True)
        assert [row["id"] for row in await here.environments()] == [new.id] != [old.id]
        assert await maa.ensure_environment(here.client, ENVIRONMENT, store=here.store) == new
        # An archived one has the name for good.
        await here.client.environments.archive(new.id)
        with pytest.raises(maa.ProvisioningError, match="which is archived"):
            await maa.ensure_environment(here.client, ENVIRONMENT, store=here.store, verify=True)


async def test_what_is_gone_uses_no_environment(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        old = await provision_claude(here)
        await here.client.agents.archive(old.agent_id)
        new = await provision_claude(here, verify=True)
        assert (new.environment == old.environment, new.agent == old.agent) == (True, False)
        uses = await here.store.items("use/")
        assert list(uses.values()) == [new.agent.to_json()]


@pytest.mark.parametrize("way", ["being deleted", "gone"])
async def test_a_harness_that_was_deleted_is_made_anew(way: str, autojump_clock: MockClock) -> None:
    async with open_agentcore() as here:
        options: dict[str, Any] = {"execution_role_arn": ROLE, "store": here.store}
        old = await maa.ensure_harness(here.client, HARNESS, **options)
        await here.client.delete_harness(harnessId=old.harness_id)
        if way == "gone":
            await trio.sleep(200)
        assert await maa.ensure_harness(here.client, HARNESS, **options) == old
        new = await maa.ensure_harness(here.client, HARNESS, verify=True, **options)
        assert await here.harnesses() == {new.harness_id: "READY"}
        assert new.harness_id != old.harness_id


async def test_what_cannot_be_looked_at_is_an_error(autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on="retrieve_agent", action=RefuseWith(403))) as here:
        handle = await maa.ensure_agent(here.client, AGENT, store=here.store)
        with pytest.raises(maa.PermissionDeniedError):
            await maa.ensure_agent(here.client, AGENT, store=here.store, verify=True)
        assert await maa.ensure_agent(here.client, AGENT, store=here.store) == handle


async def test_a_store_that_cannot_forget_what_is_gone_is_a_line_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Failing("delete_value")
    async with open_claude() as here:
        old = await maa.ensure_agent(here.client, AGENT, store=store)
        await here.client.agents.archive(old.id)
        new = await maa.ensure_agent(here.client, AGENT, store=store, verify=True)
        assert [row["id"] for row in await here.agents()] == [new.id]
        assert await maa.ensure_agent(here.client, AGENT, store=store) == new
    assert "no disk to delete_value" in caplog.text
