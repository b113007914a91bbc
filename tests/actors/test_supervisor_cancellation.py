"""Every await of a supervisor's surface is cancelled once: before it began, in its middle, and as it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from managed_agents_actors.actors import ChildSpec, Supervisor, open_supervisor, run_supervisor

settled = trio.testing.wait_all_tasks_blocked


class Broken(Exception):
    """A failure of the test's own."""


def _states(supervisor: Supervisor) -> dict[str, str]:
    return {info.id: info.state for info in supervisor.which_children()}


async def test_a_cancelled_start_is_undone(stage: Any, autojump_clock: Any) -> None:
    async def start(*, task_status: Any) -> None:
        try:
            await trio.sleep(10)
        finally:
            with trio.move_on_after(2, shield=True):
                await trio.sleep_forever()
            stage.note("undone")

    async with open_supervisor() as supervisor:
        with trio.move_on_after(3):
            await supervisor.start_child(ChildSpec(id="a", start=start))
        assert stage.log == [(5, "undone")]
        assert _states(supervisor) == {}
        await supervisor.start_child(stage.child("a"))


async def test_a_cancelled_restart_leaves_it_stopped(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("a", start_takes=5)]) as supervisor:
        await supervisor.terminate_child("a")
        with trio.move_on_after(3):
            await supervisor.restart_child("a")
        assert stage.now == 8
        assert _states(supervisor) == {"a": "stopped"}


async def test_a_cancelled_terminate_only_stops_waiting(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("a", heeds=9, shutdown=5)]) as supervisor:
        with trio.move_on_after(1):
            await supervisor.terminate_child("a")
        assert stage.now == 1
        assert _states(supervisor) == {"a": "running"}
        await trio.sleep(10)
        assert stage.log[-1] == (5, "a down")
        assert _states(supervisor) == {"a": "stopped"}


async def test_a_cancelled_opening_stops_what_it_had_started(stage: Any, autojump_clock: Any) -> None:
    with trio.move_on_after(4) as scope:
        async with open_supervisor([stage.child("a", cleanup=1), stage.child("b", start_takes=10)]):
            pytest.fail("it opened")
    assert scope.cancelled_caught
    assert stage.log == [(0, "a up"), (5, "a down")]


async def test_a_cancelled_wait_changes_nothing(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("a")]) as supervisor:
        child = supervisor.child("a")
        for wait in (child.wait_exited, child.wait_finished):
            with trio.move_on_after(1) as scope:
                await wait()
            assert scope.cancelled_caught
        stage.end("a", Broken())
        assert (await child.wait_exited()).kind == "crashed"
        await settled()
        assert child.restarts == 1


CALLS: list[Callable[[Supervisor, Any], Awaitable[Any]]] = [
    lambda supervisor, stage: supervisor.start_child(stage.child("new")),
    lambda supervisor, _stage: supervisor.restart_child("stopped"),
    lambda supervisor, _stage: supervisor.terminate_child("a"),
    lambda supervisor, _stage: supervisor.terminate_child("stopped"),
    lambda supervisor, _stage: supervisor.child("stopped").wait_exited(),
    lambda supervisor, _stage: supervisor.child("stopped").wait_finished(),
    lambda _supervisor, stage: run_supervisor([stage.child("new")]),
]


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_that_is_cancelled_already_does_nothing(stage: Any, autojump_clock: Any, call: Any) -> None:
    async with open_supervisor([stage.child("a"), stage.child("stopped")]) as supervisor:
        await supervisor.terminate_child("stopped")
        stage.clear()
        with trio.CancelScope() as scope:
            scope.cancel()
            await call(supervisor, stage)
        assert scope.cancelled_caught
        await settled()
        assert stage.log == []
        assert _states(supervisor) == {"a": "running", "stopped": "stopped"}


@pytest.mark.parametrize("call", CALLS[:-1])
async def test_every_call_is_a_checkpoint(stage: Any, autojump_clock: Any, call: Any) -> None:
    async with open_supervisor([stage.child("a"), stage.child("stopped")]) as supervisor:
        await supervisor.terminate_child("stopped")
        with trio.testing.assert_checkpoints():
            await call(supervisor, stage)


@pytest.mark.parametrize("attempt", range(20))
async def test_cancelled_at_the_very_moment_it_starts_it_is_there_or_it_is_not(
    attempt: int, stage: Any, autojump_clock: Any
) -> None:
    """The child serves, and ends, in the same turn of the scheduler in which its starter is cancelled."""

    async def start(*, task_status: Any) -> None:
        await gate.wait()
        task_status.started()

    gate = trio.Event()
    got: list[Any] = []
    async with open_supervisor() as supervisor, trio.open_nursery() as nursery:

        async def starter(scope: trio.CancelScope) -> None:
            with scope:
                got.append(await supervisor.start_child(ChildSpec(id="a", start=start, restart="transient")))

        scope = trio.CancelScope()
        nursery.start_soon(starter, scope)
        await settled()
        gate.set()
        scope.cancel()
        await settled()
        assert _states(supervisor) == ({"a": "stopped"} if got else {})
