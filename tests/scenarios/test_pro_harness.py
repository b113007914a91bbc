"""PRO: a harness is waited for, adopted, or taken back; what it is seen to be is what is told."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core
from managed_agents_actors.provisioning import Progress
from managed_agents_actors.testing import Delay, Fault, LoseRequest, RefuseWith

from ..provisioning._world import ROLE, TIMES, bend_status, create, open_agentcore, provision_harness, request

CONTEXT = {"phase", "id", "status", "elapsed", "polls"}


# --- PRO-05 -----------------------------------------------------------------------------------------------------------


async def test_pro_05_a_harness_is_waited_for_until_it_can_be_invoked(autojump_clock: MockClock) -> None:
    seen: list[Progress] = []
    async with open_agentcore() as here:
        handle = await provision_harness(here, on_progress=seen.append)
        assert trio.current_time() == 155
        assert await here.harnesses() == {handle.harness_id: "READY"}
        result = await maa.run_session(
            bedrock_agent_core,
            handler=lambda *_: "r",
            client=here.client,
            runtime_session_id="session-of-the-tests-0000000000000000",
            **handle.options,
        )
        assert result.terminal == "end_turn"
    phases = list(dict.fromkeys((each.phase, each.status) for each in seen))
    assert phases == [
        ("ready", "CREATING"),
        ("ready", "READY"),
        ("endpoint ready", "not found"),
        ("endpoint ready", "CREATING"),
        ("endpoint ready", "READY"),
    ]
    assert {each.id for each in seen} == {handle.harness_id}
    assert [each.elapsed for each in seen] == sorted(each.elapsed for each in seen)
    assert [each.polls for each in seen if each.phase == "ready"] == [1, 2, 3, 4]


@pytest.mark.parametrize("status", ["DELETING", "CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED", "FROZEN"])
async def test_pro_05_what_leads_nowhere_is_told_by_its_name(status: str, autojump_clock: MockClock) -> None:
    async with open_agentcore(bend=bend_status(status)) as here:
        with pytest.raises(maa.ProvisioningError, match=f"is {status}") as caught:
            await provision_harness(here)
        context = caught.value.context
        assert set(context) >= CONTEXT
        assert (context["phase"], context["status"], context["elapsed"], context["polls"]) == ("ready", status, 0, 1)
        assert context["id"] in await here.harnesses()
        assert set((await here.harnesses()).values()) == {"DELETING"}
        assert await here.store.items("") == {}


async def test_pro_05_a_creation_that_fails_is_told_and_taken_back(autojump_clock: MockClock) -> None:
    async with open_agentcore() as here:
        here.simulator.fail_next("create_harness", "no permission")
        with pytest.raises(maa.ProvisioningError, match="is CREATE_FAILED: no permission") as caught:
            await provision_harness(here)
        assert (caught.value.context["failure_reason"], trio.current_time()) == ("no permission", 15)
        assert set((await here.harnesses()).values()) == {"DELETING"}


@pytest.mark.parametrize("age", [0, 12, 200])
async def test_pro_05_one_that_is_there_is_adopted_and_waited_for(age: float, autojump_clock: MockClock) -> None:
    async with open_agentcore() as here:
        harness_id = await create(here)
        await trio.sleep(age)
        handle = await provision_harness(here)
        assert handle.harness_id == harness_id
        assert await here.harnesses() == {harness_id: "READY"}
        assert max(age, 151) <= trio.current_time() <= max(age, 151) + 5


@pytest.mark.parametrize("how", ["error", "deadline", "cancelled"])
async def test_pro_05_what_was_adopted_is_never_deleted(how: str, autojump_clock: MockClock) -> None:
    bend = bend_status("FROZEN") if how == "error" else None
    async with open_agentcore(bend=bend) as here:
        harness_id = await create(here)
        with trio.move_on_after(30 if how == "cancelled" else 1000) as scope:
            with pytest.raises(maa.ProvisioningError if how != "cancelled" else trio.Cancelled) as caught:
                await provision_harness(here, timeout=60)
            if how == "cancelled":
                raise caught.value
        assert scope.cancelled_caught == (how == "cancelled")
        assert [line for line in here.traffic if line.startswith("DELETE")] == []
        assert harness_id in await here.harnesses()


class Foreign(Exception):
    """What no client of ours raises."""


@pytest.mark.parametrize("how", ["error", "exception", "interrupt", "cancelled", "deadline"])
@pytest.mark.parametrize("after", [3, 60])
async def test_pro_05_what_was_created_is_taken_back(how: str, after: float, autojump_clock: MockClock) -> None:
    broken = False

    def bend(line: str, code: int, body: Any) -> tuple[int, Any]:
        if broken and line.startswith("GET") and how == "exception":
            raise Foreign("a proxy's defect")
        if broken and line.startswith("GET") and how == "error":
            return 403, {"message": "no"}
        return code, body

    def progress(_: Progress) -> None:
        if broken and how == "interrupt":
            raise KeyboardInterrupt

    expected: dict[str, Any] = {
        "error": maa.PermissionDeniedError,
        "exception": Foreign,
        "deadline": maa.ProvisioningError,
    }
    expected |= {"interrupt": KeyboardInterrupt, "cancelled": trio.Cancelled}
    async with open_agentcore(bend=bend) as here:

        async def break_soon(scope: trio.CancelScope) -> None:
            nonlocal broken
            await trio.sleep(after)
            broken = True
            if how == "cancelled":
                scope.cancel()

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                nursery.start_soon(break_soon, scope)
                with pytest.raises(expected[how]) as caught:
                    await provision_harness(here, timeout=after if how == "deadline" else 365, on_progress=progress)
                assert getattr(caught.value, "__notes__", []) == []
                if how == "cancelled":
                    raise caught.value
        broken = False
        assert set((await here.harnesses()).values()) == {"DELETING"}
        assert await here.store.items("") == {}


@pytest.mark.parametrize("action", [RefuseWith(500), RefuseWith(403), LoseRequest(), Delay(10_000)])
async def test_pro_05_a_rollback_has_30_seconds_and_is_reported_if_it_fails(
    action: Any, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    fault = Fault(on="delete_harness", action=action, nth="every")
    async with open_agentcore(fault, bend=bend_status("FROZEN")) as here:
        with pytest.raises(maa.ProvisioningError, match="is FROZEN") as caught:
            await provision_harness(here)
        [harness_id] = await here.harnesses()
    [note] = caught.value.__notes__
    assert "may be left behind" in note
    assert harness_id in note
    assert harness_id in caplog.text
    # What is refused for good is given up at once; the rest is tried again and again.
    assert trio.current_time() == (0 if action == RefuseWith(403) else 30)
    assert len([line for line in here.traffic if line.startswith("DELETE")]) >= (1 if action == RefuseWith(403) else 3)


async def test_pro_05_a_rollback_is_shielded_and_the_deadline_s_error_tells_of_it(autojump_clock: MockClock) -> None:
    async with open_agentcore(Fault(on="delete_harness", action=Delay(12))) as here:
        with trio.move_on_after(50) as scope:
            await provision_harness(here)
        # One attempt of 10 seconds was given up; the next one succeeded.
        assert (scope.cancelled_caught, trio.current_time()) == (True, 60)
        assert set((await here.harnesses()).values()) == {"DELETING"}
    async with open_agentcore(Fault(on="delete_harness", action=RefuseWith(403))) as here:
        with pytest.raises(maa.ProvisioningError, match="within 50 s") as caught:
            await provision_harness(here, timeout=50)
        [note] = caught.value.__notes__
        assert "may be left behind" in note


async def test_pro_05_one_that_somebody_else_makes_after_a_deletion_is_adopted(autojump_clock: MockClock) -> None:
    async with open_agentcore(times={**TIMES, "delete": 12}) as here:
        body, made = await request(), []
        await here.client.delete_harness(harnessId=await create(here, body))

        async def somebody_else() -> None:
            await trio.sleep(13)  # it is gone, and nobody has looked yet
            made.append(await create(here, body))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(somebody_else)
            handle = await provision_harness(here)
        assert [handle.harness_id] == made
        assert await here.harnesses() == {handle.harness_id: "READY"}


# --- PRO-07 -----------------------------------------------------------------------------------------------------------


async def test_pro_07_a_deletion_that_fails_is_reported_as_it_was_seen(autojump_clock: MockClock) -> None:
    async with open_agentcore(times={"delete": 12}) as here:
        harness_id = await create(here)
        here.simulator.fail_next("delete_harness", "memory in use")
        await here.client.delete_harness(harnessId=harness_id)
        with pytest.raises(maa.ProvisioningError, match="is DELETE_FAILED") as caught:
            await provision_harness(here)
        context = caught.value.context
        assert (context["phase"], context["status"], context["elapsed"]) == ("deleted", "DELETE_FAILED", 15)
        with pytest.raises(maa.ProvisioningError, match=f"belongs to {harness_id}, which is DELETE_FAILED") as caught:
            await provision_harness(here)
        assert caught.value.context["status"] == "DELETE_FAILED"
        assert isinstance(caught.value.__cause__, maa.ConflictError)


@pytest.mark.parametrize("action", [RefuseWith(500), LoseRequest()])
async def test_pro_07_a_listing_that_fails_is_logged_and_says_nothing(
    action: Any, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # The first listing finds it; the repetitions of the next by the client and by its transport are used up as well.
    fault = Fault(on="list_harnesses", action=action, nth=2, times=4)
    async with open_agentcore(fault, times={"delete": 12}) as here:
        await here.client.delete_harness(harnessId=await create(here))
        caplog.clear()
        await provision_harness(here)
        assert trio.current_time() >= 12
        assert [line for line in here.traffic if line == "POST "] == ["POST "] * 3
    assert [record.levelname for record in caplog.records if "provisioning_look_failed" in record.message] == [
        "WARNING"
    ]


async def test_pro_07_a_harness_on_another_page_is_not_gone(autojump_clock: MockClock) -> None:
    async with open_agentcore(times={"delete": 12}) as here:
        for number in range(100):  # a page of the service has a hundred, and this one comes after them
            await here.client.create_harness(harnessName=f"other_{number}", executionRoleArn=ROLE)
        await here.client.delete_harness(harnessId=await create(here))
        seen: list[Progress] = []
        handle = await provision_harness(here, on_progress=seen.append)
        statuses = [each.status for each in seen if each.phase == "deleted"]
        assert statuses == ["DELETING", "DELETING", "DELETING", "not found"]
        assert (await here.harnesses())[handle.harness_id] == "READY"


@pytest.mark.parametrize("after", [1, 12, 100])
async def test_pro_05_one_that_its_maker_takes_back_is_made_again(after: float, autojump_clock: MockClock) -> None:
    """Another process made it, and is cancelled while both wait for it."""
    async with open_agentcore() as here, trio.open_nursery() as nursery:
        old = await create(here)

        async def take_back() -> None:
            await trio.sleep(after)
            await here.client.delete_harness(harnessId=old)

        nursery.start_soon(take_back)
        handle = await provision_harness(here, timeout=600)
        assert handle.harness_id != old
        assert await here.harnesses() == {handle.harness_id: "READY"}


async def test_pro_05_one_that_goes_for_ever_ends_with_the_time(autojump_clock: MockClock) -> None:
    async with open_agentcore(bend=bend_status("DELETING")) as here:
        await create(here)
        with pytest.raises(maa.ProvisioningError, match="within 60 s"):
            await provision_harness(here, timeout=60)
        assert trio.current_time() == 60
        assert len(here.traffic) < 60


async def test_pro_05_of_two_of_a_name_a_usable_one_is_taken(autojump_clock: MockClock) -> None:
    def bend(line: str, code: int, body: Any) -> tuple[int, Any]:
        for row in list(body.get("harnesses", ())) if line.startswith("GET") else ():
            if row["harnessName"].startswith("support"):
                failed = {**row, "harnessId": "failed", "arn": f"{row['arn']}x", "status": "CREATE_FAILED"}
                body["harnesses"].insert(0, failed)
        return code, body

    async with open_agentcore(bend=bend, times={}) as here:
        harness_id = await create(here)
        assert (await provision_harness(here)).harness_id == harness_id
