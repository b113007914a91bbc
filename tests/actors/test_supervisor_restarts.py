"""Who is restarted after a crash, in which order, how often, and what a supervisor does when it is too often."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
import trio.testing

from managed_agents_actors import ConfigurationError, RestartIntensityExceeded
from managed_agents_actors.actors import ChildSpec, Shutdown, open_supervisor, run_supervisor


class Broken(Exception):
    """A failure of the test's own."""


settled = trio.testing.wait_all_tasks_blocked


# --- strategies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("one_for_one", ["b down", "b up"]),
        ("rest_for_one", ["b down", "d down", "c down", "b up", "c up", "d up"]),
        ("one_for_all", ["b down", "d down", "c down", "a down", "a up", "b up", "c up", "d up"]),
    ],
)
async def test_a_crash_takes_along_whom_the_strategy_says(
    stage: Any, autojump_clock: Any, strategy: Any, expected: list[str]
) -> None:
    async with open_supervisor([stage.child(name) for name in "abcd"], strategy=strategy) as supervisor:
        children = [supervisor.child(name) for name in "abcd"]
        stage.clear()
        stage.end("b", Broken())
        await settled()
        assert stage.events == expected
        assert [child.restarts for child in children] == [int(f"{name} up" in expected) for name in "abcd"]
        assert supervisor.count_children().active == 4
        stage.clear()
    assert stage.events == ["d down", "c down", "b down", "a down"]


async def test_siblings_are_told_that_they_come_back_and_have_their_seconds(stage: Any, autojump_clock: Any) -> None:
    specs = [stage.child("a", heeds=2), stage.child("b"), stage.child("c", heeds=3, start_takes=1)]
    async with open_supervisor(specs, strategy="one_for_all") as supervisor:
        stage.clear()
        began = stage.now
        stage.end("b", Broken())
        await trio.sleep(10)
        assert [(at - began, what) for at, what in stage.log] == [
            (0, "b down"),
            (0, "told to restart"),
            (3, "c down"),
            (3, "told to restart"),
            (5, "a down"),
            (5, "a up"),
            (5, "b up"),
            (6, "c up"),
        ]
        assert supervisor.child("c").restarts == 1


async def test_a_temporary_sibling_does_not_come_back(stage: Any, autojump_clock: Any) -> None:
    specs = [stage.child("a", restart="temporary", heeds=0), stage.child("b")]
    async with open_supervisor(specs, strategy="one_for_all") as supervisor:
        a = supervisor.child("a")
        stage.end("b", Broken())
        assert (await a.wait_finished()).kind == "normal"
        await settled()
        assert stage.events == ["a up", "b up", "b down", "told to end", "a down", "b up"]
        assert [info.id for info in supervisor.which_children()] == ["b"]


async def test_a_stopped_sibling_stays_stopped(stage: Any, autojump_clock: Any) -> None:
    specs = [stage.child("done", restart="transient"), stage.child("terminated"), stage.child("c")]
    async with open_supervisor(specs, strategy="one_for_all") as supervisor:
        stage.end("done")
        await supervisor.terminate_child("terminated")
        stage.clear()
        stage.end("c", Broken())
        await settled()
        assert stage.events == ["c down", "c up"]
        assert [info.state for info in supervisor.which_children()] == ["stopped", "stopped", "running"]


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
@pytest.mark.parametrize("end", [None, Shutdown(), Broken()])
async def test_only_what_the_restart_type_says_is_started_again(
    stage: Any, autojump_clock: Any, restart: Any, end: Any
) -> None:
    again = restart == "permanent" or (restart == "transient" and isinstance(end, Broken))
    async with open_supervisor([stage.child("a", restart=restart)]) as supervisor:
        child = supervisor.child("a")
        stage.end("a", end)
        await child.wait_exited()
        await settled()
        assert stage.events == ["a up", "a down"] + ["a up"] * again
        assert child.restarts == again
        assert supervisor.count_children().specs == (restart != "temporary")


async def test_a_shutdown_while_starting_again_obeys_the_restart_type(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor([stage.child("a", restart="transient")]) as supervisor:
        child = supervisor.child("a")
        stage.fail_next("a", Shutdown("the session is gone"))
        stage.end("a", Broken())
        ended = await child.wait_finished()
        assert (ended.kind, ended.reason) == ("shutdown", "the session is gone")


async def test_the_handle_stays_and_its_value_is_the_present_runs(stage: Any, autojump_clock: Any) -> None:
    values = iter("xy")
    async with open_supervisor() as supervisor:
        child = await supervisor.start_child(stage.child("a", start_takes=2, check=lambda: next(values)))
        assert child.value == "x"
        stage.end("a", Broken("first"))
        ended = await child.wait_exited()
        assert repr(ended.error) == "Broken('first')"
        assert [info.state for info in supervisor.which_children()] == ["restarting"]
        assert supervisor.count_children().restarting == 1
        assert child.value is None
        await trio.sleep(3)
        assert (child.value, child.restarts) == ("y", 1)
        assert supervisor.child("a") is child
        assert supervisor.which_children()[0].last_exit is ended


# --- restarts that fail, and too many of them -----------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
async def test_a_restart_that_fails_is_counted_and_tried_again(stage: Any, autojump_clock: Any, strategy: Any) -> None:
    specs = [stage.child("a"), stage.child("b"), stage.child("c")]
    async with open_supervisor(specs, strategy=strategy, max_restarts=3) as supervisor:
        stage.fail_next("b", Broken("one"), Broken("two"))
        stage.end("b", Broken("zero"))
        await settled()
        # Three restarts, of which one succeeded: the limit is reached, not exceeded.
        assert [info.state for info in supervisor.which_children()] == ["running"] * 3
        assert supervisor.child("b").restarts == 1
        assert repr(supervisor.which_children()[1].last_exit.error) == "Broken('two')"  # type: ignore[union-attr]
        stage.clear()
    assert stage.events == ["c down", "b down", "a down"]


@pytest.mark.parametrize("strategy", ["one_for_one", "rest_for_one", "one_for_all"])
async def test_one_failed_restart_too_many_is_the_end(stage: Any, autojump_clock: Any, strategy: Any) -> None:
    specs = [stage.child("a"), stage.child("b"), stage.child("c")]
    with pytest.raises(RestartIntensityExceeded) as caught:
        async with open_supervisor(specs, strategy=strategy, max_restarts=3) as supervisor:
            stage.fail_next("b", Broken("one"), Broken("two"), Broken("three"))
            stage.end("b", Broken("zero"))
            await trio.sleep_forever()
    assert repr(caught.value.__cause__) == "Broken('three')"
    assert [info.state for info in supervisor.which_children()] == ["stopped"] * 3
    assert stage.events[-1] == "a down"
    assert "c up" not in stage.events[3:]


async def test_one_crash_more_than_is_borne_within_the_window_is_the_end(stage: Any, autojump_clock: Any) -> None:
    with pytest.raises(RestartIntensityExceeded) as caught:
        async with open_supervisor(
            [stage.child("a"), stage.child("b"), stage.child("c")], max_restarts=2, max_seconds=10, name="tree"
        ) as supervisor:
            child = supervisor.child("b")
            for seconds in (0, 5, 6, 5):  # at 0, 5, 11 and 16: three in 5 to 15 would be too many
                await trio.sleep(seconds)
                stage.end("b", Broken(str(stage.now)))
                await settled()
            assert child.restarts == 4
            await trio.sleep(5)  # 21: the third within 11 to 21, both ends counted
            stage.clear()
            stage.end("b", Broken("last"))
            try:
                await trio.sleep_forever()
            finally:
                stage.note("body cancelled")
    assert stage.log == [(21, what) for what in ("b down", "body cancelled", "c down", "a down")]
    assert str(caught.value) == (
        "tree gave up: child 'b' ended (crashed), and would have had to be restarted, "
        "the last of more than 2 restarts within 10 s"
    )
    assert repr(caught.value.__cause__) == "Broken('last')"
    assert (await child.wait_finished()).kind == "crashed"


async def test_the_intensity_is_the_supervisors_not_the_childs(stage: Any, autojump_clock: Any) -> None:
    with pytest.raises(RestartIntensityExceeded, match="child 'd'"):
        async with open_supervisor([stage.child(name) for name in "abcd"], max_restarts=3):
            for name in "abcd":
                stage.end(name, Broken())
                await settled()
            pytest.fail("four crashes of four children are four crashes")


async def test_children_that_fall_together_are_counted_once_if_they_restart_together(
    stage: Any, autojump_clock: Any
) -> None:
    specs = [stage.child(name) for name in "abc"]
    async with open_supervisor(specs, strategy="one_for_all", max_restarts=1) as supervisor:
        for name in "abc":
            stage.end(name, Broken())
        await settled()
        assert supervisor.count_children().active == 3
        assert stage.events[-3:] == ["a up", "b up", "c up"]


async def test_a_permanent_child_that_keeps_returning_is_too_much_too(stage: Any, autojump_clock: Any) -> None:
    with pytest.raises(RestartIntensityExceeded, match=r"child 'a' ended \(normal\)") as caught:
        async with open_supervisor([stage.child("a")], max_restarts=0):
            stage.end("a")
            await trio.sleep_forever()
    assert caught.value.__cause__ is None


async def test_a_child_that_always_crashes_at_once_leaves_others_their_turn() -> None:
    async def start(*, task_status: Any) -> None:
        task_status.started()
        raise Broken

    turns = 0
    with pytest.raises(RestartIntensityExceeded):
        async with open_supervisor([ChildSpec(id="a", start=start)], max_restarts=50):
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1
    assert turns > 40  # one for each restart, but for those before the body began


async def test_a_crash_of_the_opening_that_is_too_much_ends_the_opening(stage: Any, autojump_clock: Any) -> None:
    specs = [stage.child("a"), stage.child("slow", start_takes=10), stage.child("never")]

    async def saboteur() -> None:
        await trio.sleep(3)
        stage.end("a", Broken())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(saboteur)
        with pytest.raises(RestartIntensityExceeded):
            async with open_supervisor(specs, max_restarts=0):
                pytest.fail("it opened")
    assert stage.log == [(0, "a up"), (3, "a down")]


async def test_a_body_that_fails_while_the_supervisor_gives_up_is_not_lost(stage: Any, autojump_clock: Any) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with open_supervisor([stage.child("a")], max_restarts=0):
            stage.end("a", Broken())
            try:
                await trio.sleep_forever()
            finally:
                raise KeyError("body")
    assert caught.group_contains(KeyError)
    assert caught.group_contains(RestartIntensityExceeded)


# --- one below the other --------------------------------------------------------------------------------------------


def _tree(name: str, children: list[ChildSpec], restart: Any = "permanent", **options: Any) -> ChildSpec:
    async def start(*, task_status: Any) -> None:
        await run_supervisor(children, name=name, task_status=task_status, **options)

    return ChildSpec(id=name, start=start, restart=restart, shutdown=math.inf)


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_giving_up_is_a_crash_for_the_supervisor_above(stage: Any, autojump_clock: Any, restart: Any) -> None:
    inner = _tree("inner", [stage.child("a"), stage.child("b")], restart=restart, max_restarts=1)
    async with open_supervisor([inner, stage.child("c")], max_restarts=1) as top:
        child = top.child("inner")
        before = child.value
        for _ in range(2):
            stage.end("b", Broken())
            await settled()
        assert child.restarts == 1
        assert child.value is not before
        assert stage.events[-3:] == ["a down", "a up", "b up"]
        ended = top.which_children()[0].last_exit
        assert ended is not None
        assert isinstance(ended.error, RestartIntensityExceeded)
        assert "c down" not in stage.events


async def test_limits_multiply_and_the_last_word_is_raised(stage: Any, autojump_clock: Any) -> None:
    inner = _tree("inner", [stage.child("a")], max_restarts=2)
    crashes = 0
    with pytest.raises(RestartIntensityExceeded, match="top gave up: child 'inner'") as caught:
        async with open_supervisor([inner], name="top", max_restarts=2):
            while True:
                stage.end("a", Broken())
                crashes += 1
                await settled()
    assert crashes == (2 + 1) * (2 + 1)
    assert "inner gave up: child 'a'" in str(caught.value.__cause__)


# --- auto shutdown ----------------------------------------------------------------------------------------------------


async def test_any_significant_end_ends_the_block_quietly(stage: Any, autojump_clock: Any) -> None:
    specs = [stage.child("db"), stage.child("job", restart="transient", significant=True)]
    async with open_supervisor(specs, auto_shutdown="any_significant") as supervisor:
        stage.end("job", Broken())
        await settled()
        assert supervisor.child("job").restarts == 1
        stage.clear()
        stage.end("job")
        await trio.sleep_forever()
    assert stage.events == ["job down", "db down"]


async def test_all_significant_children_must_have_ended(stage: Any, autojump_clock: Any) -> None:
    jobs = [stage.child(name, restart="temporary", significant=True) for name in "xyz"]
    async with open_supervisor([stage.child("db"), *jobs], auto_shutdown="all_significant") as supervisor:
        stage.end("y")
        stage.end("x", Broken())
        await settled()
        assert [info.id for info in supervisor.which_children()] == ["db", "z"]
        stage.end("z")
        await trio.sleep_forever()
    assert stage.events[-1] == "db down"


async def test_a_significant_child_that_is_terminated_has_not_ended_by_itself(stage: Any, autojump_clock: Any) -> None:
    job = stage.child("job", restart="transient", significant=True)
    async with open_supervisor([stage.child("db"), job], auto_shutdown="any_significant") as supervisor:
        await supervisor.terminate_child("job")
        await settled()
        assert supervisor.count_children().active == 1
    assert stage.events == ["db up", "job up", "job down", "db down"]


async def test_significant_children_need_a_supervisor_that_cares(stage: Any, autojump_clock: Any) -> None:
    async with open_supervisor() as supervisor:
        with pytest.raises(
            ConfigurationError, match="child 'x' is significant, but supervisor has auto_shutdown='never'"
        ):
            await supervisor.start_child(stage.child("x", restart="temporary", significant=True))
        assert supervisor.which_children() == ()


async def test_a_job_that_ends_during_the_opening_ends_the_block_after_it(stage: Any, autojump_clock: Any) -> None:
    async def job(*, task_status: Any) -> None:
        task_status.started()

    specs = [
        ChildSpec(id="job", start=job, restart="temporary", significant=True),
        stage.child("db", start_takes=3),
    ]
    async with open_supervisor(specs, auto_shutdown="any_significant"):
        stage.note("body")
        await trio.sleep_forever()
    assert stage.log == [(3, "db up"), (3, "body"), (3, "db down")]


async def test_a_task_supervisor_whose_job_is_done_returns(stage: Any, autojump_clock: Any) -> None:
    job = stage.child("job", restart="transient", significant=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: run_supervisor([job], auto_shutdown="any_significant", task_status=task_status)
        )
        stage.end("job")
    assert stage.events == ["job up", "job down"]
