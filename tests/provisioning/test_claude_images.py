"""Agents and environments that are found, made, or cannot be: what the listing shows decides, on whatever page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import pytest
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.testing import Fault, LoseAnswer, LoseRequest, RefuseWith, TruncateAnswer

from ._world import AGENT, ENVIRONMENT, Claude, open_claude

Ensure: TypeAlias = Callable[[Claude], Awaitable[Any]]

CONFLICT = Fault(on="create_agent", action=RefuseWith(409))


def agent(here: Claude) -> Awaitable[maa.AgentHandle]:
    return maa.ensure_agent(here.client, AGENT, store=here.store)


def environment(here: Claude) -> Awaitable[maa.EnvironmentHandle]:
    return maa.ensure_environment(here.client, ENVIRONMENT, store=here.store)


async def fill(here: Claude, count: int = 25) -> None:
    """More agents and environments than a page has; whoever lists sees these first."""
    for number in range(count):
        await here.client.agents.create(name=f"support_{number}", model="m")
        await here.client.environments.create(name=f"box_{number}")


@pytest.mark.parametrize("ensure", [agent, environment])
async def test_what_is_on_another_page_is_found(ensure: Ensure, autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        first = await ensure(here)
        await fill(here)
        here.store = maa.MemoryStore()
        assert await ensure(here) == first
        assert [line for line in here.traffic if line.startswith("POST /agents")].count("POST /agents") <= 26


async def test_among_agents_of_one_name_the_oldest_is_taken(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        first = await agent(here)
        await here.client.agents.create(name=first.name, model="m")
        here.store = maa.MemoryStore()
        assert (await agent(here)).id == first.id
        await here.client.agents.archive(first.id)
        here.store = maa.MemoryStore()
        assert (await agent(here)).id not in ("", first.id)
        assert len(await here.agents()) == 1


async def test_an_archived_agent_is_not_found_and_its_name_is_free(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        first = await agent(here)
        await here.client.agents.archive(first.id)
        here.store = maa.MemoryStore()
        second = await agent(here)
        assert (second.name, second.id == first.id) == (first.name, False)


async def test_an_agent_that_is_refused_for_its_name_is_looked_for_again(autojump_clock: MockClock) -> None:
    async with open_claude() as elsewhere:
        name = (await agent(elsewhere)).name
    shown = False

    def bend(line: str, code: int, body: Any) -> tuple[int, Any]:
        nonlocal shown
        if line == "GET /v1/agents" and not shown:  # somebody made it a moment later
            shown = True
            return code, {"data": [], "next_page": None}
        return code, body

    async with open_claude(Fault(on="create_agent", action=RefuseWith(409), nth=2), bend=bend) as here:
        theirs = await here.client.agents.create(name=name, model="m")
        assert (await agent(here)).id == theirs["id"]


@pytest.mark.parametrize("archived", [True, False])
async def test_an_agent_s_name_that_cannot_be_had_is_reported(archived: bool, autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on="create_agent", action=RefuseWith(409), nth=2 if archived else 1)) as here:
        first = await agent(here) if archived else None
        if first is not None:
            await here.client.agents.archive(first.id)
        here.store = maa.MemoryStore()
        with pytest.raises(maa.ProvisioningError, match="archived" if archived else "nothing that is listed") as caught:
            await agent(here)
        context = caught.value.context
        assert (context["phase"], context["reason"]) == ("create", "archived" if archived else "name conflict")
        assert first is None or first.id in str(caught.value)
        assert isinstance(caught.value.__cause__, maa.ConflictError)
        assert await here.store.items("") == {}


async def test_an_archived_environment_keeps_its_name(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        first = await environment(here)
        await here.client.environments.archive(first.id)
        await fill(here)
        here.store = maa.MemoryStore()
        with pytest.raises(
            maa.ProvisioningError, match=f"belongs to {first.id}, which is archived; delete that"
        ) as caught:
            await environment(here)
        context = caught.value.context
        assert (context["phase"], context["reason"], context["id"]) == ("create", "archived", first.name)
        await here.client.environments.delete(first.id)
        assert (await environment(here)).name == first.name


async def test_an_environment_s_name_that_nobody_has_is_reported(autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on="create_environment", action=RefuseWith(409))) as here:
        with pytest.raises(maa.ProvisioningError, match="nothing that is listed") as caught:
            await environment(here)
        assert caught.value.context["reason"] == "name conflict"


@pytest.mark.parametrize("answer", [{}, {"id": None}, {"id": 7}, {"id": ""}, {"agent": {"id": "x"}}])
@pytest.mark.parametrize(("ensure", "path"), [(agent, "/v1/agents"), (environment, "/v1/environments")])
async def test_an_answer_without_an_id_is_reported_and_not_remembered(
    ensure: Ensure, path: str, answer: Any, autojump_clock: MockClock
) -> None:
    def bend(line: str, code: int, body: Any) -> tuple[int, Any]:
        return code, answer if line == f"POST {path}" else body

    async with open_claude(bend=bend) as here:
        with pytest.raises(maa.ProvisioningError, match="no id; the next call looks for its name") as caught:
            await ensure(here)
        assert (caught.value.context["phase"], caught.value.context["reason"]) == ("create", "unexpected answer")
        assert await here.store.items("") == {}
        # It is there all the same, and the next call takes it.
        handle = await ensure(here)
        rows = await (here.agents() if ensure is agent else here.environments())
        assert [row["id"] for row in rows] == [handle.id]


@pytest.mark.parametrize(
    ("action", "is_unknown"),
    [(LoseAnswer(), True), (TruncateAnswer(), True), (RefuseWith(500), True), (RefuseWith(400), False)],
)
@pytest.mark.parametrize(("ensure", "operation"), [(agent, "create_agent"), (environment, "create_environment")])
async def test_a_creation_without_an_answer_is_noted_and_adopted_later(
    ensure: Ensure, operation: str, action: Any, is_unknown: bool, autojump_clock: MockClock
) -> None:
    async with open_claude(Fault(on=operation, action=action)) as here:
        with pytest.raises(maa.ManagedAgentsError) as caught:
            await ensure(here)
        notes = getattr(caught.value, "__notes__", [])
        assert ["was created is unknown; the next call adopts it by its name" in note for note in notes] == (
            [True] if is_unknown else []
        )
        handle = await ensure(here)
        rows = await (here.agents() if ensure is agent else here.environments())
        assert [row["id"] for row in rows] == [handle.id]


async def test_a_listing_that_fails_creates_nothing(autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on="list_agents", action=LoseRequest(), nth="every")) as here:
        with pytest.raises(maa.TransportError):
            await agent(here)
        assert [line for line in here.traffic if line.startswith("POST")] == []


async def test_an_environment_without_any_name_is_env(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        handle = await maa.ensure_environment(here.client, {}, store=here.store)
        assert handle.name == f"env_{handle.digest}"
        [row] = await here.environments()
        assert row["config"]["networking"] == {"type": "unrestricted"}


@pytest.mark.parametrize(
    ("ensure", "spec", "options", "told"),
    [
        (maa.ensure_agent, None, {}, "expected AgentSpec"),
        (maa.ensure_agent, {"name": "a", "system_prompt": "s"}, {}, "needs a model"),
        (maa.ensure_agent, {"name": "a", "system_prompt": "s", "model": "anthropic:"}, {}, "but no model"),
        (maa.ensure_agent, AGENT, {"name": ""}, "non-empty text"),
        (maa.ensure_agent, AGENT, {"store": "file.db"}, "store="),
        (
            maa.ensure_agent,
            {"name": "a", "system_prompt": "s", "model": "m", "settings": {"system": "x", "tools": []}},
            {},
            "system, tools",
        ),
        (maa.ensure_environment, None, {}, "expected EnvironmentSpec"),
        (maa.ensure_environment, {"runtimes": ["go"]}, {}, "runtime"),
        (maa.ensure_environment, {}, {"name": 7}, "non-empty text"),
        (maa.ensure_environment, {}, {"store": object()}, "store="),
    ],
)
async def test_bad_input_sends_nothing(
    ensure: Any, spec: Any, options: Any, told: str, autojump_clock: MockClock
) -> None:
    async with open_claude() as here:
        with pytest.raises(maa.ConfigurationError, match=told):
            await ensure(here.client, spec, **options)
        with pytest.raises(maa.ConfigurationError, match="must be a ClaudeClient"):
            await ensure(object(), spec, **options)
        assert here.traffic == []


async def test_settings_go_into_the_request_as_they_are(autojump_clock: MockClock) -> None:
    settings = {"metadata": {"team": "ops"}, "description": "Helps."}
    spec = {"name": "a", "system_prompt": "s", "model": "m", "settings": settings}
    async with open_claude() as here:
        await maa.ensure_agent(here.client, spec, store=here.store)
        [row] = await here.agents()
    assert (row["metadata"], row["description"]) == (settings["metadata"], "Helps.")


@pytest.mark.parametrize("ensure", [maa.ensure_agent, maa.ensure_environment])
async def test_other_bases_of_one_spec_have_entries_of_their_own(ensure: Any, autojump_clock: MockClock) -> None:
    spec = AGENT if ensure is maa.ensure_agent else ENVIRONMENT
    async with open_claude() as here:
        one, two = [await ensure(here.client, spec, name=name, store=here.store) for name in ("one", "two")]
        assert one.digest == two.digest
        assert one.id != two.id
        assert len(await here.store.items("")) == 2
