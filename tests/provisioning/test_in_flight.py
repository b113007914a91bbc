"""A creation that is under way when its call ends: it is answered, and what it made is taken back."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.testing import Delay, DelayAnswer, Fault, RefuseWith

from ._world import AGENT, ENVIRONMENT, Bent, open_agentcore, open_claude, provision_claude, provision_harness

UNKNOWN = "is unknown; the next call adopts it by its name"
ACTIONS = pytest.mark.parametrize("action", [Delay(5), DelayAnswer(5), DelayAnswer(19)])


@ACTIONS
@pytest.mark.parametrize("operation", ["create_agent", "create_environment"])
async def test_a_cancelled_call_leaves_no_agent_and_no_environment(
    operation: str, action: Any, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_claude(Fault(on=operation, action=action)) as here:
        with trio.move_on_after(1) as scope:
            await provision_claude(here)
        assert scope.cancelled_caught
        assert trio.current_time() == (1 + 18 if action == DelayAnswer(19) else 5)
        assert await here.agents() == await here.environments() == []
        assert await here.store.items("") == {}
    assert UNKNOWN not in caplog.text


@ACTIONS
async def test_a_call_that_runs_out_of_time_leaves_no_harness(action: Any, autojump_clock: MockClock) -> None:
    async with open_agentcore(Fault(on="create_harness", action=action)) as here:
        with pytest.raises(maa.ProvisioningError, match="within 2 s: create of") as caught:
            await provision_harness(here, timeout=2)
        assert caught.value.context["elapsed"] == 2
        assert getattr(caught.value, "__notes__", []) == []
        assert set((await here.harnesses()).values()) == {"DELETING"}


@pytest.mark.parametrize("kind", ["agent", "environment"])
async def test_ensuring_one_that_is_cancelled_leaves_none(kind: str, autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on=f"create_{kind}", action=DelayAnswer(3))) as here:
        spec: Any = AGENT if kind == "agent" else ENVIRONMENT
        with trio.move_on_after(1):
            await getattr(maa, f"ensure_{kind}")(here.client, spec, store=here.store)
        assert await here.agents() == await here.environments() == []


async def test_a_creation_that_is_not_answered_is_told_of(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_claude(Fault(on="create_environment", action=DelayAnswer(10_000))) as here:
        with trio.move_on_after(1) as scope:
            await provision_claude(here)
        # The agent is taken back in what is left of the 30 s.
        assert (scope.cancelled_caught, trio.current_time()) == (True, 21)
        assert await here.agents() == []
        [row] = await here.environments()
        assert any(UNKNOWN in each.getMessage() and row["name"] in each.getMessage() for each in caplog.records)
        assert (await provision_claude(here)).environment_id == row["id"]


async def test_taking_back_and_waiting_for_an_answer_share_their_time(autojump_clock: MockClock) -> None:
    faults = (
        Fault(on="create_environment", action=Delay(10_000)),
        Fault(on="archive_agent", action=Delay(10_000), nth="every"),
    )
    async with open_claude(*faults) as here:
        with pytest.raises(maa.ProvisioningError) as caught:
            await provision_claude(here, timeout=10)
        assert (trio.current_time(), caught.value.context["elapsed"]) == (40, 10)
        assert sorted("may be left behind" in note for note in caught.value.__notes__) == [False, True]


async def test_the_time_in_the_error_is_without_that_of_taking_back(autojump_clock: MockClock) -> None:
    async with open_agentcore(Fault(on="delete_harness", action=Delay(8))) as here:
        with pytest.raises(maa.ProvisioningError) as caught:
            await provision_harness(here, timeout=100)
        assert (trio.current_time(), caught.value.context["elapsed"]) == (108, 100)
        assert getattr(caught.value, "__notes__", []) == []


async def test_a_creation_that_is_refused_late_is_no_creation(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(Bent):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "POST":
                await trio.sleep(5)
            return await super().handle_async_request(request)

    async with open_agentcore(Fault(on="create_harness", action=RefuseWith(400)), times={}) as here:
        transport = Late(here.simulator, lambda _line, code, body: (code, body))
        async with here.simulator.client(transport=transport) as client:
            with pytest.raises(maa.ProvisioningError) as caught:
                await provision_harness(here, client=client, timeout=2)
        assert (trio.current_time(), getattr(caught.value, "__notes__", [])) == (5, [])
    assert "provisioning_creation_failed" in caplog.text


async def test_a_call_that_is_cancelled_before_creates_nothing(autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        with trio.move_on_at(-math.inf) as scope:
            await provision_claude(here)
        assert (scope.cancelled_caught, here.traffic) == (True, [])


@pytest.mark.parametrize("error", [httpx.ReadError("cut"), httpx.ConnectError("nobody listens")])
async def test_only_of_what_was_sent_it_is_unknown_if_it_was_made(
    error: httpx.TransportError, autojump_clock: MockClock
) -> None:
    class Broken(Bent):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.method == "POST":
                raise error
            return await super().handle_async_request(request)

    is_sent = isinstance(error, httpx.ReadError)
    async with open_claude() as here:
        transport = Broken(here.simulator, lambda _line, code, body: (code, body))
        async with here.simulator.client(transport=transport) as client:
            with pytest.raises(maa.TransportError) as caught:
                await maa.ensure_agent(client, AGENT, store=here.store)
    assert caught.value.request_sent is is_sent
    assert [UNKNOWN in note for note in getattr(caught.value, "__notes__", [])] == ([True] if is_sent else [])
