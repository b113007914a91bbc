"""What a supervisor tells: its hook hears of every start, exit and restart; its log of what calls for attention."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
import trio.testing

from managed_agents_actors import RestartIntensityExceeded
from managed_agents_actors.actors import Exit, Shutdown, open_supervisor

settled = trio.testing.wait_all_tasks_blocked


class Broken(Exception):
    """A failure of the test's own."""


class Hook:
    """Remembers what it was told, and fails when it is to."""

    def __init__(self, failing: bool = False) -> None:
        self.heard: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
        self._failing = failing

    def __call__(self, name: str, measurements: dict[str, Any], metadata: dict[str, Any]) -> None:
        self.heard.append((name, measurements, metadata))
        if self._failing:
            raise Broken("hook")


async def test_the_hook_hears_of_starts_exits_and_restarts(stage: Any, autojump_clock: Any) -> None:
    hook = Hook()
    async with open_supervisor(name="tree", on_event=hook) as supervisor:
        await supervisor.start_child(stage.child("a", start_takes=2))
        await trio.sleep(3)
        error = Broken()
        stage.end("a", error)
        await trio.sleep(10)
    of = {"supervisor": "tree", "child": "a"}
    assert hook.heard == [
        ("managed_agents.supervisor.child_started", {"duration": 2, "restarts": 0}, of),
        (
            "managed_agents.supervisor.child_exited",
            {"duration": 5, "restarts": 0},
            {**of, "exit": Exit("crashed", error=error)},
        ),
        ("managed_agents.supervisor.child_restarted", {"duration": 2, "restarts": 1}, of),
        (
            "managed_agents.supervisor.child_exited",
            {"duration": 10, "restarts": 1},
            {**of, "exit": Exit("shutdown", "cancelled")},
        ),
    ]


async def test_the_hook_hears_that_it_was_too_much(stage: Any, autojump_clock: Any) -> None:
    hook = Hook()
    with pytest.raises(RestartIntensityExceeded) as caught:
        async with open_supervisor([stage.child("a")], max_restarts=0, on_event=hook):
            stage.end("a", Broken())
            await trio.sleep_forever()
    name, measurements, metadata = hook.heard[-1]
    assert name == "managed_agents.supervisor.intensity_exceeded"
    assert measurements["restarts"] == 0
    assert metadata == {"supervisor": "supervisor", "child": "a", "error": caught.value}


async def test_a_failed_first_start_is_told_to_the_starter_alone(
    stage: Any, autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hook = Hook()
    async with open_supervisor(on_event=hook) as supervisor:
        stage.fail_next("a", Broken())
        with pytest.raises(Broken):
            await supervisor.start_child(stage.child("a"))
    assert hook.heard == []
    assert caplog.records == []


async def test_a_hook_that_fails_is_detached_and_told_of_once(
    stage: Any, autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hook = Hook(failing=True)
    async with open_supervisor([stage.child("a"), stage.child("b")], on_event=hook) as supervisor:
        assert supervisor.count_children().active == 2
    assert [name for name, *_ in hook.heard] == ["managed_agents.supervisor.child_started"]
    assert [record.levelname for record in caplog.records if "event_hook_detached" in record.message] == ["WARNING"]


async def test_crashes_and_restarts_are_logged(
    stage: Any, autojump_clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with open_supervisor([stage.child("a")], name="tree"):
        stage.end("a", Broken("why"))
        await settled()
    crash, restart = caplog.records
    assert (crash.levelname, crash.message) == ("ERROR", "event='child_crashed' supervisor='tree' child='a'")
    assert crash.exc_info is not None
    assert str(crash.exc_info[1]) == "why"
    assert restart.levelname == "WARNING"
    assert restart.message == "event='supervisor.child_restarted' supervisor='tree' child='a' duration=0.0 restarts=1"


@pytest.mark.parametrize("end", [None, Shutdown("done")])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
async def test_an_end_as_it_should_be_is_not_logged(
    stage: Any, autojump_clock: Any, restart: Any, end: Any, caplog: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    async with open_supervisor([stage.child("a", restart=restart), stage.child("b")]) as supervisor:
        child = supervisor.child("a")
        stage.end("a", end)
        await child.wait_finished()
    assert caplog.records == []


async def test_a_child_that_resists_cancellation_is_named(stage: Any, autojump_clock: Any, caplog: Any) -> None:
    async with open_supervisor([stage.child("quick", cleanup=9), stage.child("stubborn", cleanup=11)]):
        pass
    assert [record.message for record in caplog.records] == [
        "event='child_resists_cancellation' supervisor='supervisor' child='stubborn'"
    ]
