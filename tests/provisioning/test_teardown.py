"""Teardown: what others use stays, what goes is offered to nobody, and what was refused is remembered."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.testing import Delay, Fault, LoseAnswer, RefuseWith, TerminateSession

from ._world import AGENT, Failing, open_agentcore, open_claude, provision_claude, provision_harness

OTHER = replace(AGENT, system_prompt="Be brief.")


def put_away(here: Any, handle: Any, **options: Any) -> Any:
    return maa.teardown(claude_managed_agents, handle, **{"client": here.client, "store": here.store, **options})


async def test_an_environment_goes_with_the_last_agent_that_was_provisioned_with_it(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "managed_agents_actors")
    async with open_claude() as here:
        one, two = await provision_claude(here), await provision_claude(here, OTHER)
        assert one.environment == two.environment
        await put_away(here, one)
        assert [row["id"] for row in await here.agents()] == [two.agent_id]
        assert [row["id"] for row in await here.environments()] == [two.environment_id]
        assert "provisioning_environment_kept" in caplog.text
        assert "used_by='another agent'" in caplog.text
        # It is still remembered: the next call does not make another one.
        assert (await provision_claude(here, OTHER)) == two
        await put_away(here, one)  # twice is fine
        assert await here.environments() != []
        await put_away(here, two)
        assert await here.agents() == await here.environments(include_archived=True) == []
        assert await here.store.items("") == {}


async def test_whoever_is_given_an_environment_by_the_store_uses_it_too(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        one = await provision_claude(here)
        agent = await maa.ensure_agent(here.client, OTHER, store=here.store)
        sent = len(here.traffic)
        two = await provision_claude(here, OTHER)  # both are remembered, that they belong together is not
        assert (two.agent, len(here.traffic)) == (agent, sent)
        await put_away(here, one)
        assert [row["id"] for row in await here.environments()] == [two.environment_id]


async def test_an_agent_that_was_pruned_uses_nothing(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        await provision_claude(here)
        two = await provision_claude(here, OTHER)
        await maa.prune_agents(here.client, "support", keep=1, store=here.store)
        await put_away(here, two)
        assert await here.environments() == []


async def test_an_environment_is_kept_for_a_session_that_has_not_terminated(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "managed_agents_actors")
    fault = Fault(on="retrieve_session", action=TerminateSession())
    async with open_claude(fault) as here:
        handle = await provision_claude(here)
        session = await here.client.sessions.create(agent=here.simulator.agent_id, environment_id=handle.environment_id)
        await put_away(here, handle)
        assert await here.agents() == []
        assert [row["id"] for row in await here.environments()] == [handle.environment_id]
        assert f"used_by='the session {session['id']}'" in caplog.text
        await here.client.sessions.retrieve(session["id"])  # it terminates
        await put_away(here, handle)
        assert await here.environments() == []


async def test_what_a_run_has_left_idle_keeps_no_environment(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        handle = await provision_claude(here)
        session = await here.client.sessions.create(agent=handle.agent_id, environment_id=handle.environment_id)
        assert session["status"] == "idle"
        await put_away(here, handle)
        assert await here.environments() == []


async def test_a_session_of_another_version_goes_on(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        one, two = await provision_claude(here), await provision_claude(here, OTHER)
        await put_away(here, one)
        session = await here.client.sessions.create(agent=two.agent_id, environment_id=two.environment_id)
        assert session["environment_id"] == two.environment_id


async def test_without_its_uses_nothing_is_put_away(autojump_clock: MockClock) -> None:
    store = Failing("items")
    async with open_claude() as here:
        handle = await provision_claude(here, store=store)
        before = await store.inner.items("")
        with pytest.raises(maa.StoreError, match="no disk to items"):
            await put_away(here, handle, store=store)
        assert len(await here.agents()) == len(await here.environments()) == 1
        assert await store.inner.items("") == before


async def test_without_the_sessions_the_environment_stays(autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on="list_sessions", action=RefuseWith(403))) as here:
        handle = await provision_claude(here)
        with pytest.raises(maa.ProvisioningError, match="PermissionDeniedError") as caught:
            await put_away(here, handle)
        assert caught.value.context["agent"] == "ok"
        assert len(await here.environments()) == 1
        await put_away(here, handle)
        assert await here.environments() == []


async def test_a_use_that_cannot_be_written_down_is_a_line_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    store = Failing("put")
    async with open_claude() as here:
        handle = await provision_claude(here, store=store)
        assert [row["id"] for row in await here.agents()] == [handle.agent_id]
    assert any("use/environment/" in each.getMessage() for each in caplog.records)


async def test_nobody_is_given_what_is_being_put_away(autojump_clock: MockClock) -> None:
    faults = [Fault(on=on, action=Delay(2)) for on in ("archive_agent", "delete_environment")]
    async with open_claude(*faults) as here:
        old = await provision_claude(here)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put_away, here, old)
            await trio.sleep(1)
            new = await provision_claude(here)
            assert trio.current_time() == 2
        assert new.agent_id != old.agent_id
        assert [row["id"] for row in await here.agents()] == [new.agent_id]
        assert [row["id"] for row in await here.environments()] == [new.environment_id]


async def test_nobody_is_given_a_harness_that_is_being_put_away(autojump_clock: MockClock) -> None:
    async with open_agentcore(Fault(on="delete_harness", action=Delay(2)), times={"delete": 5}) as here:
        old = await provision_harness(here)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: maa.teardown(bedrock_agent_core, old, client=here.client, store=here.store),
            )
            await trio.sleep(1)
            new = await provision_harness(here)
        assert new.harness_id != old.harness_id
        assert await here.harnesses() == {new.harness_id: "READY"}


@pytest.mark.parametrize("action", [RefuseWith(403), RefuseWith(500), LoseAnswer()])
async def test_only_what_was_certainly_refused_is_remembered_again(action: Any, autojump_clock: MockClock) -> None:
    is_refused = action == RefuseWith(403)
    on = "archive_agent", "delete_environment", "archive_environment"
    async with open_claude(*(Fault(on=each, action=action, nth="every") for each in on)) as here:
        handle = await provision_claude(here)
        entries = await here.store.items("")
        with pytest.raises(maa.ProvisioningError, match="try again"):
            await put_away(here, handle)
        assert await here.store.items("") == (entries if is_refused else {})
    async with open_agentcore(Fault(on="delete_harness", action=action, nth="every"), times={}) as there:
        harness = await provision_harness(there)
        entries = await there.store.items("")
        with pytest.raises(maa.ProvisioningError, match="try again"):
            await maa.teardown(bedrock_agent_core, harness, client=there.client, store=there.store)
        assert await there.store.items("") == (entries if is_refused else {})


async def test_what_was_not_remembered_is_not_remembered_again(autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on="archive_agent", action=RefuseWith(403), nth="every")) as here:
        handle = await provision_claude(here)
        elsewhere = maa.MemoryStore()
        with pytest.raises(maa.ProvisioningError):
            await put_away(here, handle, store=elsewhere)
        assert await elsewhere.items("") == {}


async def test_an_agent_that_could_not_be_archived_still_uses_its_environment(autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on="archive_agent", action=RefuseWith(403), nth=1)) as here:
        one = await provision_claude(here)
        await trio.sleep(1)
        await maa.ensure_agent(here.client, OTHER, store=here.store)
        other = await provision_claude(here, OTHER, name="other", environment={"name": one.environment.name[:-9]})
        assert other.environment_id == one.environment_id
        with pytest.raises(maa.ProvisioningError):
            await maa.prune_agents(here.client, "support", keep=1, store=here.store)
        await put_away(here, other)
        assert [row["id"] for row in await here.environments()] == [one.environment_id]


async def test_an_environment_that_an_agent_was_provisioned_with_is_not_pruned(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        box = {"name": "box", "config": {"type": "cloud"}}
        handle = await provision_claude(here, environment=box)
        await trio.sleep(1)
        newer = await maa.ensure_environment(here.client, {**box, "description": "newer"}, store=here.store)
        for dry_run in (True, False):
            pruned = await maa.prune_environments(here.client, "box", keep=1, store=here.store, dry_run=dry_run)
            assert (pruned.archived, dict(pruned.kept)) == (
                (),
                {newer.name: "newest", handle.environment.name: "in use"},
            )
        await put_away(here, handle)
        assert [row["id"] for row in await here.environments()] == [newer.id]
