"""What is asked of a supervisor at an awkward moment still has one clear outcome."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

from managed_agents_actors import ActorGone, ConfigurationError, RestartIntensityExceeded
from managed_agents_actors.actors import ChildSpec, Exit, Supervisor, open_supervisor, run_supervisor, stop_signal

settled = trio.testing.wait_all_tasks_blocked


class Broken(Exception):
    """A failure of the test's own."""


def _states(supervisor: Supervisor) -> dict[str, str]:
    return {info.id: info.state for info in supervisor.which_children()}


# --- terminating at an awkward moment -------------------------------------------------------------------------------


async def test_terminated_while_it_starts_again(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("a", start_takes=5)]) as supervisor:
        child = supervisor.child("a")
        stage.end("a", Broken())
        await trio.sleep(2)
        assert _states(supervisor) == {"a": "restarting"}
        await supervisor.terminate_child("a")
        assert (await child.wait_finished()).reason == "cancelled"
        await trio.sleep(100)
        assert stage.log == [(5, "a up"), (5, "a down")]
        assert _states(supervisor) == {"a": "stopped"}


async def test_terminated_while_it_waits_for_its_turn_to_restart(stage: Any, autojump_clock: Any) -> None:
    specs = [stage.child("a"), stage.child("b", start_takes=5), stage.child("c")]
    async with open_supervisor(specs, strategy="rest_for_one") as supervisor:
        stage.clear()
        stage.end("b", Broken())
        await trio.sleep(2)
        assert _states(supervisor) == {"a": "running", "b": "restarting", "c": "restarting"}
        await supervisor.terminate_child("c")
        await trio.sleep(10)
        assert _states(supervisor) == {"a": "running", "b": "running", "c": "stopped"}
        assert stage.log == [(5, "b down"), (5, "c down"), (10, "b up")]


async def test_terminating_overrules_a_restart_with_the_siblings(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("a", heeds=3), stage.child("b")], strategy="one_for_all") as supervisor:
        stage.end("b", Broken())
        await trio.sleep(1)
        assert stage.events[-1] == "told to restart"
        await supervisor.terminate_child("a")
        assert stage.now == 3
        await settled()
        assert _states(supervisor) == {"a": "stopped", "b": "running"}


async def test_terminated_while_it_starts_the_starter_is_told(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:

        async def starter() -> None:
            with pytest.raises(ActorGone, match="child 'a' was stopped before it had started"):
                await supervisor.start_child(stage.child("a", start_takes=5))
            stage.note("refused")

        nursery.start_soon(starter)
        await trio.sleep(1)
        await supervisor.terminate_child("a")
        assert _states(supervisor) == {}
        await settled()
        assert stage.log == [(1, "refused")]


async def test_terminated_while_its_restart_waits_behind_another(stage: Any, autojump_clock: Any) -> None:
    specs = [stage.child("a"), stage.child("b"), stage.child("c", heeds=5, shutdown=9)]
    async with open_supervisor(specs, strategy="rest_for_one", max_restarts=1) as supervisor:
        stage.end("b", Broken())
        await trio.sleep(1)
        stage.end("a", Broken())  # c is still being taken down for b
        await trio.sleep(1)
        await supervisor.terminate_child("a")
        stage.clear()
        await trio.sleep(10)
        assert stage.log == [(5, "c down"), (5, "b up"), (5, "c up")]
        assert _states(supervisor) == {"a": "stopped", "b": "running", "c": "running"}


async def test_a_child_that_serves_after_it_was_told_to_end_has_not_started(stage: Any, autojump_clock: Any) -> None:
    async def start(*, task_status: Any) -> None:
        with trio.move_on_after(3, shield=True):
            await trio.sleep_forever()
        task_status.started()
        await trio.sleep_forever()

    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:

        async def starter() -> None:
            with pytest.raises(ActorGone, match="child 'a' was stopped before it had started"):
                await supervisor.start_child(ChildSpec(id="a", start=start))
            stage.note("refused")

        nursery.start_soon(starter)
        await trio.sleep(1)
        await supervisor.terminate_child("a")
        assert _states(supervisor) == {}
        await settled()
        assert stage.log == [(3, "refused")]


async def test_terminated_by_several_at_once(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("a", heeds=2)]) as supervisor:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(supervisor.terminate_child, "a")
        assert stage.log == [(0, "a up"), (0, "told to end"), (2, "a down")]


async def test_a_child_may_terminate_itself_and_is_not_made_to_wait(stage: Any, autojump_clock: Any) -> None:
    box: list[Supervisor] = []

    async def start(*, task_status: Any) -> None:
        signal = stop_signal()
        task_status.started()
        await trio.sleep(1)
        with trio.move_on_after(100, shield=True):
            await box[0].terminate_child("a")
        assert signal.is_set()
        stage.note("asked")
        await trio.sleep_forever()

    async with open_supervisor() as supervisor:
        box.append(supervisor)
        child = await supervisor.start_child(ChildSpec(id="a", start=start, shutdown=5))
        assert (await child.wait_finished()).reason == "cancelled"
        stage.note("stopped")
        assert _states(supervisor) == {"a": "stopped"}
    assert stage.log == [(1, "asked"), (6, "stopped")]


async def test_a_body_may_terminate_children_while_the_supervisor_gives_up(stage: Any, autojump_clock: Any) -> None:
    with pytest.raises(RestartIntensityExceeded):
        specs = [stage.child("a", heeds=9, shutdown=5), stage.child("b")]
        async with open_supervisor(specs, max_restarts=0) as supervisor:
            stage.clear()
            stage.end("b", Broken())
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    await supervisor.terminate_child("a")
                stage.note("body over")
    assert stage.log == [(0, "b down"), (0, "told to end"), (5, "a down"), (5, "body over")]


async def test_a_grandchild_may_terminate_the_supervisor_above_it(stage: Any, autojump_clock: Any) -> None:
    box: list[Supervisor] = []

    async def start(*, task_status: Any) -> None:
        task_status.started()
        await box[0].terminate_child("inner")

    async def inner(*, task_status: Any) -> None:
        await run_supervisor(task_status=task_status)

    async with open_supervisor() as top:
        box.append(top)
        child = await top.start_child(ChildSpec(id="inner", start=inner, shutdown=math.inf))
        await child.value.start_child(ChildSpec(id="x", start=start))
        assert (await child.wait_finished()) == Exit("normal")


async def test_deleted_while_it_starts(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.start_child, stage.child("a", start_takes=5))
        await trio.sleep(1)
        with pytest.raises(ConfigurationError, match="child 'a' is starting; only a stopped one can be deleted"):
            supervisor.delete_child("a")


async def test_crashed_while_the_supervisor_closes(stage: Any, autojump_clock: Any) -> None:
    specs = [stage.child("a"), stage.child("b"), stage.child("c", heeds=5)]
    async with trio.open_nursery() as nursery:

        async def saboteur() -> None:
            await trio.sleep(2)
            stage.end("a", Broken())

        nursery.start_soon(saboteur)
        async with open_supervisor(specs, max_restarts=0) as supervisor:
            stage.clear()
    assert stage.log == [(0, "told to end"), (2, "a down"), (5, "c down"), (5, "b down")]
    assert (await supervisor.child("a").wait_finished()).kind == "crashed"


# --- starting at an awkward moment ----------------------------------------------------------------------------------


async def test_nothing_is_started_by_a_closing_supervisor(stage: Any, autojump_clock: Any) -> None:
    refused: list[str] = []
    box: list[Supervisor] = []

    async def start(*, task_status: Any) -> None:
        signal = stop_signal()
        task_status.started()
        await signal.wait()
        for attempt in (box[0].start_child(stage.child("late")), box[0].restart_child("a")):
            with pytest.raises(ActorGone) as caught:
                await attempt
            refused.append(str(caught.value))

    async with open_supervisor([stage.child("a")]) as supervisor:
        box.append(supervisor)
        await supervisor.start_child(ChildSpec(id="b", start=start))
    assert len(refused) == 2
    assert stage.events == ["a up", "a down"]


async def test_a_start_that_the_closing_overtakes_is_refused(stage: Any, autojump_clock: Any) -> None:
    async with trio.open_nursery() as nursery:
        async with open_supervisor() as supervisor:

            async def starter() -> None:
                with pytest.raises(ActorGone, match="was stopped before it had started"):
                    await supervisor.start_child(stage.child("slow", start_takes=50))
                stage.note("refused")

            nursery.start_soon(starter)
            await trio.sleep(1)
        assert stage.now == 1
    assert stage.log == [(1, "refused")]


@pytest.mark.parametrize("phase", ["starting", "serving"])
async def test_a_child_may_start_another(stage: Any, autojump_clock: Any, phase: str) -> None:
    box: list[Supervisor] = []

    async def start(*, task_status: Any) -> None:
        if phase == "serving":
            task_status.started()
        await box[0].start_child(stage.child("second"))
        if phase == "starting":
            task_status.started()
        await trio.sleep_forever()

    async with open_supervisor() as supervisor:
        box.append(supervisor)
        await supervisor.start_child(ChildSpec(id="first", start=start))
        await settled()
        assert _states(supervisor) == {"first": "running", "second": "running"}
        await supervisor.terminate_child("first")
        assert _states(supervisor) == {"first": "stopped", "second": "running"}


async def test_what_starts_while_its_group_falls_starts_again_with_it(stage: Any, autojump_clock: Any) -> None:
    began: list[float] = []

    async def slow(*, task_status: Any) -> None:
        began.append(stage.now)
        await trio.sleep(5)
        task_status.started("served")
        await trio.sleep_forever()

    async with open_supervisor([stage.child("a")], strategy="rest_for_one") as supervisor:
        async with trio.open_nursery() as nursery:

            async def starter() -> None:
                child = await supervisor.start_child(ChildSpec(id="slow", start=slow))
                assert (stage.now, child.value, child.restarts) == (7, "served", 0)

            nursery.start_soon(starter)
            await trio.sleep(2)
            stage.end("a", Broken())
        assert began == [0, 2]
        assert _states(supervisor) == {"a": "running", "slow": "running"}


async def test_what_fails_to_start_in_a_falling_group_fails_its_starter_only(stage: Any, autojump_clock: Any) -> None:
    async def fragile(*, task_status: Any) -> None:
        await trio.sleep(3)
        raise Broken("fragile")

    specs = [stage.child("a", start_takes=1), stage.child("b", start_takes=1)]
    async with open_supervisor(specs, strategy="one_for_all", max_restarts=1) as supervisor:
        async with trio.open_nursery() as nursery:

            async def starter() -> None:
                with pytest.raises(Broken, match="fragile"):
                    await supervisor.start_child(ChildSpec(id="fragile", start=fragile))

            nursery.start_soon(starter)
            await trio.sleep(1)
            stage.end("a", Broken())
        assert stage.now == 2 + 1 + 1 + 1 + 3  # opened, then a, b and the fragile one anew
        assert _states(supervisor) == {"a": "running", "b": "running"}


async def test_a_child_that_waits_for_a_fallen_sibling_to_start_does_not_hang(stage: Any, autojump_clock: Any) -> None:
    """The second child starts only while the first serves; that one falls again while the second is started anew."""
    serving = False
    lives = iter([1, 2, math.inf])

    async def first(*, task_status: Any) -> None:
        nonlocal serving
        serving = True
        try:
            task_status.started()
            stage.note("first")
            await trio.sleep(next(lives))
            raise Broken
        finally:
            serving = False

    async def second(*, task_status: Any) -> None:
        began = trio.current_time()
        while trio.current_time() < began + 3:
            await trio.sleep(0.5)
            if not serving:
                await trio.sleep_forever()
        task_status.started()
        await trio.sleep_forever()

    specs = [ChildSpec(id="first", start=first), ChildSpec(id="second", start=second)]
    with trio.fail_after(100):
        async with open_supervisor(specs, strategy="rest_for_one", max_restarts=3) as supervisor:
            assert stage.log == [(0, "first"), (1, "first"), (3, "first")]
            assert stage.now == 6
            assert _states(supervisor) == {"first": "running", "second": "running"}


async def test_closed_in_the_middle_of_a_restart_of_several(stage: Any, autojump_clock: Any) -> None:
    specs = [stage.child("a", heeds=1), stage.child("b", start_takes=4), stage.child("c", heeds=2)]
    async with open_supervisor(specs, strategy="one_for_all") as supervisor:
        children = [supervisor.child(name) for name in "abc"]
        stage.clear()
        stage.end("b", Broken())
        await trio.sleep(2 + 1 + 2)  # c and a are down, a is up again, b is starting
        assert _states(supervisor) == {"a": "running", "b": "restarting", "c": "restarting"}
        stage.clear()
    assert stage.log == [(9, "told to end"), (10, "a down")]
    assert [(await child.wait_finished()).kind for child in children] == ["normal", "shutdown", "normal"]


async def test_closed_while_siblings_are_taken_down(stage: Any, autojump_clock: Any) -> None:
    specs = [stage.child("a", heeds=4), stage.child("b"), stage.child("c", heeds=3)]
    async with open_supervisor(specs, strategy="one_for_all"):
        stage.clear()
        stage.end("b", Broken())
        await trio.sleep(1)
    assert stage.log == [
        (0, "b down"),
        (0, "told to restart"),
        (3, "c down"),
        (3, "told to end"),
        (7, "a down"),
    ]


async def test_a_supervisor_that_is_cancelled_restarts_nothing(stage: Any, autojump_clock: Any) -> None:
    with trio.CancelScope() as scope:
        async with open_supervisor([stage.child("a"), stage.child("b")]) as supervisor:
            child = supervisor.child("a")
            scope.cancel()
            with trio.CancelScope(shield=True):
                stage.end("a", Broken())
                await trio.sleep(10)
            assert stage.events == ["a up", "b up", "a down"]
    assert scope.cancelled_caught
    assert (child.restarts, (await child.wait_finished()).kind) == (0, "shutdown")
    assert stage.log[-1] == (10, "b down")


async def test_a_crash_in_a_start_that_is_cancelled_from_outside_is_no_error_of_the_supervisor() -> None:
    async def start(*, task_status: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise Broken

    with trio.CancelScope() as scope:
        async with open_supervisor() as supervisor, trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.start_child, ChildSpec(id="a", start=start))
            await settled()
            scope.cancel()
    assert scope.cancelled_caught


async def test_a_child_that_resists_cancellation_is_waited_for_in_its_turn(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("a"), stage.child("stubborn", cleanup=60)]):
        stage.clear()
    assert stage.log == [(60, "stubborn down"), (60, "a down")]
