"""PRO: one deadline bounds every wait, request, connection and repetition of a call."""

from __future__ import annotations

import itertools

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.provisioning import Progress
from managed_agents_actors.testing import Delay, DelayAnswer, Fault, LoseRequest, RefuseWith

from ..provisioning._world import TIMES, create, open_agentcore, open_claude, provision_claude, provision_harness

CONTEXT = {"phase", "id", "status", "elapsed", "polls"}


# --- PRO-06 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeout", "phase", "status"),
    [(7, "ready", "CREATING"), (17, "endpoint ready", "not found"), (100, "endpoint ready", "CREATING")],
)
async def test_pro_06_the_deadline_s_error_names_how_far_it_came(
    timeout: float, phase: str, status: str, autojump_clock: MockClock
) -> None:
    async with open_agentcore() as here:
        with pytest.raises(
            maa.ProvisioningError, match=f"within {timeout:g} s: {phase} of .* last seen {status}"
        ) as caught:
            await provision_harness(here, timeout=timeout)
        context = caught.value.context
        assert trio.current_time() == timeout
        assert (context["phase"], context["status"], context["elapsed"]) == (phase, status, timeout)
        assert context["id"] in await here.harnesses()
        assert context["polls"] >= 1


@pytest.mark.parametrize(
    ("timeout", "interval", "expected"), [(365, None, 5), (60, None, 5), (24, None, 2), (0.12, None, 0.05), (60, 7, 7)]
)
async def test_pro_06_looks_are_an_interval_apart(
    timeout: float, interval: float | None, expected: float, autojump_clock: MockClock
) -> None:
    seen: list[Progress] = []
    async with open_agentcore(times={"create": 10_000}) as here:
        with pytest.raises(maa.ProvisioningError):
            await provision_harness(here, timeout=timeout, interval=interval, on_progress=seen.append)
    assert {round(b.elapsed - a.elapsed, 9) for a, b in itertools.pairwise(seen)} == {expected}


async def test_pro_06_both_waits_share_the_deadline(autojump_clock: MockClock) -> None:
    async with open_agentcore(times={**TIMES, "delete": 100}) as here:
        await here.client.delete_harness(harnessId=await create(here))
        with pytest.raises(maa.ProvisioningError, match="endpoint ready") as caught:
            await provision_harness(here, timeout=200)
        assert trio.current_time() == 200
        assert caught.value.context["elapsed"] == 200
        # What was created after the deletion is taken back, too.
        assert set((await here.harnesses()).values()) == {"DELETING"}
    async with open_agentcore(times={**TIMES, "delete": 100}) as here:
        await here.client.delete_harness(harnessId=await create(here))
        begun = trio.current_time()
        handle = await provision_harness(here)
        assert trio.current_time() - begun == 255
        assert await here.harnesses() == {handle.harness_id: "READY"}


async def test_pro_06_time_is_counted_from_the_beginning_of_the_call(autojump_clock: MockClock) -> None:
    async with open_agentcore(times={"create": 11, "delete": 12}) as here:
        await here.client.delete_harness(harnessId=await create(here))
        here.simulator.fail_next("create_harness", "no permission")
        await trio.sleep(2)
        with pytest.raises(maa.ProvisioningError, match="is CREATE_FAILED") as caught:
            await provision_harness(here)
        context = caught.value.context
        # Two looks at the deletion, the next at the creation; the wait for that began in between.
        assert (context["elapsed"], context["polls"], trio.current_time()) == (25, 4, 27)


async def test_pro_06_the_time_of_a_deletion_that_never_ends(autojump_clock: MockClock) -> None:
    async with open_agentcore(times={"delete": 10_000}) as here:
        harness_id = await create(here)
        await here.client.delete_harness(harnessId=harness_id)
        with pytest.raises(maa.ProvisioningError, match=r"deleted of .* last seen DELETING") as caught:
            await provision_harness(here, timeout=60)
        context = caught.value.context
        name = harness_id.rpartition("-")[0]
        assert (context["phase"], context["id"], context["status"], context["elapsed"]) == (
            "deleted",
            name,
            "DELETING",
            60,
        )
        assert await here.harnesses() == {harness_id: "DELETING"}


async def test_pro_06_with_nothing_left_it_is_not_created_again(autojump_clock: MockClock) -> None:
    async with open_agentcore(times={"delete": 57}) as here:
        await here.client.delete_harness(harnessId=await create(here))
        with pytest.raises(maa.ProvisioningError, match=r"3 s are left.*not created again") as caught:
            await provision_harness(here, timeout=63, interval=4)
        assert caught.value.context["reason"] == "no time left"
        assert [line for line in here.traffic if line == "POST "] == ["POST ", "POST "]
        assert await here.harnesses() == {}
        assert trio.current_time() == 60


@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="create_harness", action=Delay(10_000), nth="every"),
        Fault(on="create_harness", action=DelayAnswer(10_000), nth="every"),
        Fault(on="get_harness", action=Delay(10_000), nth="every"),
        Fault(on="get_harness", action=RefuseWith(429, retry_after=2), nth="every"),
        Fault(on="get_harness", action=RefuseWith(500), nth="every"),
        Fault(on="get_harness", action=LoseRequest(), nth="every"),
        Fault(on="get_harness_endpoint", action=Delay(10_000), nth="every"),
    ],
)
async def test_pro_06_no_request_and_no_repetition_outlasts_the_deadline(
    fault: Fault, autojump_clock: MockClock
) -> None:
    async with open_agentcore(fault, times={}) as here:
        with pytest.raises(maa.ProvisioningError, match="within 20 s") as caught:
            await provision_harness(here, timeout=20)
        # A creation is waited for a while longer: its answer says what is to be taken back.
        assert trio.current_time() == (40 if fault.on == "create_harness" else 20)
        assert caught.value.context["elapsed"] == 20
        assert set(caught.value.context) >= CONTEXT
        notes = getattr(caught.value, "__notes__", [])
        if fault.on == "create_harness":
            assert [note for note in notes if "is unknown; the next call adopts it by its name" in note] == notes != []
        else:
            assert notes == []
            assert set((await here.harnesses()).values()) <= {"DELETING"}
        if isinstance(fault.action, RefuseWith):
            assert isinstance(caught.value.__cause__, maa.RateLimitError | maa.ServerError)


async def test_pro_06_an_unknown_creation_is_adopted_by_the_next_call(autojump_clock: MockClock) -> None:
    async with open_agentcore(Fault(on="create_harness", action=DelayAnswer(10_000))) as here:
        with pytest.raises(maa.ProvisioningError):
            await provision_harness(here, timeout=20)
        [harness_id] = await here.harnesses()
        assert (await provision_harness(here)).harness_id == harness_id


async def test_pro_06_connecting_counts_too(autojump_clock: MockClock) -> None:
    async def open_stream(host: str, port: int) -> trio.abc.Stream:
        await trio.sleep_forever()

    transport = Transport(open_stream=open_stream)
    async with open_agentcore(transport=transport, connect_timeout=50) as here:
        with pytest.raises(maa.ProvisioningError, match="within 20 s: create of") as caught:
            await provision_harness(here, timeout=20)
        assert (trio.current_time(), caught.value.context["elapsed"]) == (40, 20)
    async with open_claude(transport=Transport(open_stream=open_stream)) as there:
        with pytest.raises(maa.ProvisioningError, match="within 7 s: look up of support"):
            await provision_claude(there, timeout=7)
        assert trio.current_time() == 47


@pytest.mark.parametrize(
    ("operation", "phase"), [("list_agents", "look up"), ("create_agent", "create"), ("create_environment", "create")]
)
async def test_pro_06_claude_has_one_deadline_too(operation: str, phase: str, autojump_clock: MockClock) -> None:
    async with open_claude(Fault(on=operation, action=Delay(10_000))) as here:
        with pytest.raises(maa.ProvisioningError, match=f"within 10 s: {phase} of support") as caught:
            await provision_claude(here, timeout=10)
        assert trio.current_time() == (10 if operation == "list_agents" else 30)
        assert (caught.value.context["elapsed"], caught.value.context["phase"]) == (10, phase)
        notes = getattr(caught.value, "__notes__", [])
        assert ["is unknown" in note for note in notes] == ([] if operation == "list_agents" else [True])
        # Nothing is left, nothing is in the way.
        assert await here.agents() == await here.environments() == []
        await provision_claude(here)
