"""A supervisor's children start in order, are what they say they are, and stop in reverse order, one by one."""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import Any

import pytest
import trio
import trio.testing

from managed_agents_actors import ActorGone, ConfigurationError
from managed_agents_actors.actors import (
    ChildCounts,
    ChildInfo,
    ChildSpec,
    Exit,
    Shutdown,
    StopSignal,
    open_supervisor,
    run_supervisor,
    stop_signal,
)


class Broken(Exception):
    """A failure of the test's own."""


# --- starting -----------------------------------------------------------------------------------------------------


async def test_children_start_one_after_the_other_and_stop_in_reverse(stage: Any, autojump_clock: Any) -> None:
    specs = [
        stage.child(child_id, start_takes=takes, cleanup=takes)
        for child_id, takes in [("db", 3), ("pool", 2), ("web", 1)]
    ]
    async with open_supervisor(specs) as supervisor:
        assert stage.log == [(3, "db up"), (5, "pool up"), (6, "web up")]
        assert [info.id for info in supervisor.which_children()] == ["db", "pool", "web"]
        stage.clear()
    assert stage.log == [(7, "web down"), (9, "pool down"), (12, "db down")]


async def test_a_child_is_what_it_gave_when_it_started(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor() as supervisor:
        child = await supervisor.start_child(stage.child("db", check=lambda: "the value"))
        assert (child.id, child.value, child.restarts) == ("db", "the value", 0)
        assert supervisor.child("db") is child
        assert repr(child) == "<Child 'db' running>"
        assert repr(supervisor) == "<Supervisor 'supervisor' 1 children>"
    assert repr(supervisor) == "<Supervisor 'supervisor' 1 children closing>"


async def test_slow_starts_overlap_and_the_order_is_that_of_the_calls(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor() as supervisor:
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(supervisor.start_child, stage.child(f"c{number}", start_takes=10 - number))
                await trio.testing.wait_all_tasks_blocked()
            assert supervisor.count_children() == ChildCounts(specs=5, active=0, starting=5, restarting=0, stopped=0)
        assert stage.log == [(10 - number, f"c{number} up") for number in reversed(range(5))]
        stage.clear()
    assert stage.events == [f"c{number} down" for number in reversed(range(5))]


async def test_a_first_start_that_fails_is_the_starters_affair(stage: Any, autojump_clock: Any) -> None:
    error = Broken("no such table")
    async with open_supervisor([stage.child("other")], max_restarts=0) as supervisor:
        stage.fail_next("db", error)
        with pytest.raises(Broken) as caught:
            await supervisor.start_child(stage.child("db"))
        assert caught.value is error
        assert [info.id for info in supervisor.which_children()] == ["other"]
        assert (await supervisor.start_child(stage.child("db"))).restarts == 0
        assert stage.events == ["other up", "db up"]


async def test_a_child_of_the_opening_that_fails_stops_those_before_it(stage: Any, autojump_clock: Any) -> None:
    async def fail(*, task_status: Any) -> None:
        raise Broken

    specs = [stage.child("db"), stage.child("pool"), ChildSpec(id="web", start=fail), stage.child("never")]
    with pytest.raises(Broken):
        async with open_supervisor(specs):
            pytest.fail("it opened")
    assert stage.events == ["db up", "pool up", "pool down", "db down"]


async def test_a_child_that_returns_without_started_has_failed_to_start() -> None:
    async def forgetful(*, task_status: Any) -> None:
        pass

    async with open_supervisor() as supervisor:
        with pytest.raises(RuntimeError, match=r"returned without having called task_status.started\(\)"):
            await supervisor.start_child(ChildSpec(id="x", start=forgetful))


async def test_started_is_called_once() -> None:
    async def eager(*, task_status: Any) -> None:
        task_status.started()
        task_status.started()

    async with open_supervisor() as supervisor:
        child = await supervisor.start_child(ChildSpec(id="x", start=eager, restart="temporary"))
        ended = await child.wait_finished()
    assert ended.kind == "crashed"
    assert "calls started() once" in str(ended.error)


async def test_a_failed_start_raises_the_one_exception_that_a_group_is_about() -> None:
    error = Broken()

    async def fail(*, task_status: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise error

    async with open_supervisor() as supervisor:
        with pytest.raises(Broken) as caught:
            await supervisor.start_child(ChildSpec(id="x", start=fail))
        assert caught.value is error


async def test_an_id_is_given_once(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("db")], name="the tree") as supervisor:
        with pytest.raises(ConfigurationError, match=r"the tree has a child 'db' already \(running\)"):
            await supervisor.start_child(stage.child("db"))
        await supervisor.terminate_child("db")
        with pytest.raises(ConfigurationError, match=r"the tree has a child 'db' already \(stopped\)"):
            await supervisor.start_child(stage.child("db"))
        assert stage.events == ["db up", "db down"]


async def test_an_unknown_child_is_named() -> None:
    async with open_supervisor() as supervisor:
        for act in (supervisor.terminate_child, supervisor.restart_child):
            with pytest.raises(ConfigurationError, match="supervisor has no child 'x'"):
                await act("x")
        for look in (supervisor.delete_child, supervisor.child):
            with pytest.raises(ConfigurationError, match="supervisor has no child 'x'"):
                look("x")


request: ContextVar[str] = ContextVar("request", default="none")


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all"])
async def test_nothing_of_the_callers_context_gets_into_a_child(stage: Any, autojump_clock: Any, strategy: Any) -> None:
    seen: list[str] = []
    request.set("opener")
    spec = stage.child("db", check=lambda: seen.append(request.get()))
    async with open_supervisor(strategy=strategy) as supervisor:
        request.set("start_child")
        child = await supervisor.start_child(spec)
        request.set("crash")
        stage.end("db", Broken())
        await child.wait_exited()
        await trio.testing.wait_all_tasks_blocked()
        request.set("terminate_child")
        await supervisor.terminate_child("db")
        request.set("restart_child")
        await supervisor.restart_child("db")
        assert child.restarts == 1
    assert seen == ["opener"] * 3


# --- ends -----------------------------------------------------------------------------------------------------------


async def _return() -> None:
    pass


async def _shut_down() -> None:
    raise Shutdown("enough")


async def _shut_down_with_a_cause() -> None:
    raise Shutdown from KeyError("cause")


async def _crash() -> None:
    raise Broken("badly")


async def _crash_in_a_nursery() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.start_soon(_crash)


async def _crash_twice() -> None:
    raise ExceptionGroup("two", [Broken("one"), KeyError("two")])


@pytest.mark.parametrize(
    ("end", "kind", "reason", "error"),
    [
        (_return, "normal", None, "None"),
        (_shut_down, "shutdown", "enough", "None"),
        (_shut_down_with_a_cause, "shutdown", None, "KeyError('cause')"),
        (_crash, "crashed", None, "Broken('badly')"),
        (_crash_in_a_nursery, "crashed", None, "Broken('badly')"),
        (_crash_twice, "crashed", None, "ExceptionGroup('two', [Broken('one'), KeyError('two')])"),
    ],
)
async def test_an_exit_says_how_a_child_ended(end: Any, kind: str, reason: Any, error: str) -> None:
    async def start(*, task_status: Any) -> None:
        task_status.started()
        await end()

    async with open_supervisor() as supervisor:
        child = await supervisor.start_child(ChildSpec(id="x", start=start, restart="temporary"))
        ended = await child.wait_finished()
        assert (ended.kind, ended.reason, repr(ended.error)) == (kind, reason, error)
        assert ended.is_abnormal is (kind == "crashed")
        assert await child.wait_exited() is ended
        assert supervisor.which_children() == ()


async def test_a_finished_transient_child_keeps_its_spec_until_it_is_deleted(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor() as supervisor:
        child = await supervisor.start_child(stage.child("db", restart="transient"))
        stage.end("db")
        assert await child.wait_finished() == Exit("normal")
        stopped = ChildInfo(id="db", state="stopped", restart="transient", restarts=0, last_exit=Exit("normal"))
        assert supervisor.which_children() == (stopped,)
        assert supervisor.count_children() == ChildCounts(specs=1, active=0, starting=0, restarting=0, stopped=1)
        supervisor.delete_child("db")
        assert supervisor.which_children() == ()


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
async def test_an_exit_signal_is_no_crash(stage: Any, autojump_clock: Any, signal: type[BaseException]) -> None:
    with pytest.raises(signal):
        async with open_supervisor([stage.child("db"), stage.child("web")], max_restarts=10) as supervisor:
            child = supervisor.child("db")
            stage.end("db", signal())
            await trio.sleep_forever()
    assert stage.events == ["db up", "web up", "db down", "web down"]
    assert child.restarts == 0
    assert (await child.wait_finished()).kind == "shutdown"


# --- stopping -------------------------------------------------------------------------------------------------------


async def test_a_child_that_heeds_its_signal_has_its_seconds(stage: Any, autojump_clock: Any) -> None:
    specs = [stage.child("patient", heeds=3, shutdown=5), stage.child("late", heeds=9, shutdown=5)]
    async with open_supervisor(specs) as supervisor:
        patient, late = supervisor.child("patient"), supervisor.child("late")
        stage.clear()
    assert stage.log == [
        (0, "told to end"),
        (5, "late down"),
        (5, "told to end"),
        (8, "patient down"),
    ]
    assert (await late.wait_exited()).reason == "cancelled"
    assert (await patient.wait_exited()).kind == "normal"


async def test_no_time_is_spent_on_who_does_not_ask_or_has_none(stage: Any, autojump_clock: Any) -> None:
    specs = [stage.child("deaf", shutdown=math.inf), stage.child("hurried", heeds=9, shutdown=0)]
    async with open_supervisor(specs):
        stage.clear()
    assert stage.now == 0
    assert stage.events == ["told to end", "hurried down", "deaf down"]


async def test_an_infinite_grace_is_waited_out(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("slow", heeds=100_000, shutdown=math.inf)]):
        pass
    assert stage.now == 100_000


async def test_the_signal_is_found_by_whatever_the_child_starts(autojump_clock: Any) -> None:
    heard: list[str] = []

    async def helper() -> None:
        await stop_signal().wait()
        heard.append("helper")

    async def start(*, task_status: Any) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(helper)
            task_status.started(stop_signal())

    async with open_supervisor() as supervisor:
        signal: StopSignal = (await supervisor.start_child(ChildSpec(id="x", start=start))).value
        assert not signal.is_set()
        assert repr(signal) == "<StopSignal>"
    assert heard == ["helper"]
    assert signal.is_set()
    assert not signal.restarting
    assert repr(signal) == "<StopSignal set>"


async def test_whoever_does_not_wait_for_the_signal_is_called_once_and_at_once_if_it_is_set(
    autojump_clock: Any,
) -> None:
    called: list[tuple[str, bool]] = []

    async def start(*, task_status: Any) -> None:
        signal = stop_signal()
        signal.call_when_set(lambda signal: called.append(("first", signal.restarting)))
        task_status.started(signal)
        await signal.wait()

    async with open_supervisor() as supervisor:
        signal: StopSignal = (await supervisor.start_child(ChildSpec(id="x", start=start))).value
        assert called == []
    assert called == [("first", False)]
    signal.request(restarting=False)
    assert called == [("first", False)]
    signal.call_when_set(lambda signal: called.append(("late", signal.restarting)))
    assert called == [("first", False), ("late", False)]


async def test_outside_of_a_supervisor_nobody_is_told_to_end(autojump_clock: Any) -> None:
    signal = stop_signal()
    with trio.move_on_after(1_000) as patience:
        await signal.wait()
    assert patience.cancelled_caught
    assert not signal.is_set()


async def test_a_stopped_child_can_be_started_again_at_its_place(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("db"), stage.child("web")]) as supervisor:
        child = supervisor.child("db")
        await supervisor.terminate_child("db")
        assert (await child.wait_finished()).reason == "cancelled"
        assert [(info.id, info.state) for info in supervisor.which_children()] == [
            ("db", "stopped"),
            ("web", "running"),
        ]
        assert await supervisor.restart_child("db") is child
        assert child.restarts == 0
        stage.clear()
    assert stage.events == ["web down", "db down"]


async def test_a_terminated_temporary_child_is_forgotten(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("db", restart="temporary")]) as supervisor:
        await supervisor.terminate_child("db")
        assert supervisor.which_children() == ()


async def test_terminating_a_stopped_child_changes_nothing(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("db")]) as supervisor:
        await supervisor.terminate_child("db")
        await supervisor.terminate_child("db")
        assert stage.events == ["db up", "db down"]


async def test_only_a_stopped_child_is_restarted_or_deleted(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("db")]) as supervisor:
        with pytest.raises(ConfigurationError, match="child 'db' is running; only a stopped one can be restarted"):
            await supervisor.restart_child("db")
        with pytest.raises(ConfigurationError, match="child 'db' is running; only a stopped one can be deleted"):
            supervisor.delete_child("db")


async def test_a_restart_by_request_that_fails_leaves_it_stopped(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("db")], max_restarts=0) as supervisor:
        await supervisor.terminate_child("db")
        stage.fail_next("db", Broken("still"))
        with pytest.raises(Broken, match="still"):
            await supervisor.restart_child("db")
        assert [info.state for info in supervisor.which_children()] == ["stopped"]
        assert (await supervisor.child("db").wait_finished()).kind == "crashed"
        await supervisor.restart_child("db")


async def test_a_closed_supervisor_starts_nothing_and_says_so(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("db")]) as supervisor:
        pass
    for attempt in (supervisor.start_child(stage.child("web")), supervisor.restart_child("db")):
        with pytest.raises(ActorGone, match="supervisor is closing, or has closed; it does not start child"):
            await attempt
    await supervisor.terminate_child("db")
    assert [info.state for info in supervisor.which_children()] == ["stopped"]


async def test_a_failing_body_stops_the_children_and_fails_as_it_did(stage: Any, autojump_clock: Any) -> None:
    error = Broken("body")
    with pytest.raises(Broken) as caught:
        async with open_supervisor([stage.child("db")]):
            raise error
    assert caught.value is error
    assert stage.events == ["db up", "db down"]


async def test_a_child_that_crashes_while_it_is_stopped_is_stopped(autojump_clock: Any) -> None:
    async def start(*, task_status: Any) -> None:
        task_status.started()
        try:
            await trio.sleep_forever()
        finally:
            raise Broken("in its clean-up")

    async with open_supervisor(max_restarts=0) as supervisor:
        child = await supervisor.start_child(ChildSpec(id="x", start=start))
        await supervisor.terminate_child("x")
        assert (await child.wait_finished()).kind == "crashed"
        await supervisor.restart_child("x")
    assert [info.restarts for info in supervisor.which_children()] == [0]


@pytest.mark.parametrize("attempt", range(30))
async def test_cancelled_from_outside_the_order_is_the_same_every_time(
    attempt: int, stage: Any, autojump_clock: Any
) -> None:
    with trio.CancelScope() as scope:
        async with open_supervisor([stage.child(child_id) for child_id in ("db", "pool", "web")]):
            stage.clear()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert stage.events == ["web down", "pool down", "db down"]


async def test_three_hundred_children_stop_in_reverse_order_of_three_hundred_starts(
    stage: Any, autojump_clock: Any
) -> None:
    ids = [f"c{number}" for number in range(300)]
    with trio.CancelScope() as scope:
        async with open_supervisor() as supervisor:
            for child_id in ids:
                await supervisor.start_child(stage.child(child_id))
            assert supervisor.count_children().active == 300
            scope.cancel()
            await trio.sleep_forever()
    assert stage.events == [f"{child_id} up" for child_id in ids] + [f"{child_id} down" for child_id in reversed(ids)]


async def test_grace_is_kept_when_cancelled_from_outside(stage: Any, autojump_clock: Any) -> None:
    with trio.CancelScope() as scope:
        async with open_supervisor([stage.child("db", heeds=2), stage.child("web", heeds=3)]):
            scope.cancel()
            await trio.sleep_forever()
    assert [(at, what) for at, what in stage.log if "down" in what] == [(3, "web down"), (5, "db down")]


# --- in a task, and one below the other -----------------------------------------------------------------------------


async def test_it_runs_in_a_nursery_until_that_is_cancelled(stage: Any, autojump_clock: Any) -> None:
    async with trio.open_nursery() as nursery:
        supervisor = await nursery.start(run_supervisor, [stage.child("db")])
        await supervisor.start_child(stage.child("web"))
        nursery.cancel_scope.cancel()
    assert stage.events == ["db up", "web up", "web down", "db down"]


def _tree(id: str, children: list[ChildSpec], **options: Any) -> ChildSpec:
    """A supervisor as the child of another one."""
    fields = {name: options.pop(name) for name in ("restart", "shutdown") if name in options}

    async def start(*, task_status: Any) -> None:
        await run_supervisor(children, name=id, task_status=task_status, **options)

    return ChildSpec(id=id, start=start, **{"shutdown": math.inf, **fields})


async def test_nested_supervisors_stop_depth_first_in_reverse_order(stage: Any, autojump_clock: Any) -> None:
    left = _tree("left", [stage.child("a", heeds=1), stage.child("b", heeds=1)])
    right = _tree("right", [stage.child("c", heeds=1), stage.child("d", heeds=1)])
    async with open_supervisor([left, right]) as supervisor:
        assert supervisor.child("left").value.child("b").id == "b"
        stage.clear()
    assert [what for what in stage.log if "down" in what[1]] == [
        (n, f"{child_id} down") for n, child_id in enumerate("dcba", 1)
    ]
    assert (await supervisor.child("left").wait_finished()).kind == "normal"


async def test_a_nested_supervisor_that_is_cancelled_still_stops_in_order(stage: Any, autojump_clock: Any) -> None:
    inner = _tree("inner", [stage.child("a", heeds=2), stage.child("b", heeds=2)], shutdown=0)
    async with open_supervisor([inner]):
        stage.clear()
    assert [(at, what) for at, what in stage.log if "down" in what] == [(2, "b down"), (4, "a down")]
