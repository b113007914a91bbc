"""Sessions as children: found, counted, terminated, started again and deleted by name; and starts that fail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.actors import ChildSpec
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    Delay,
    Fault,
    FaultPlan,
    RecordingHandler,
    RefuseWith,
    assert_exactly_once,
    call_tool,
    say,
)

from ..channels import drained
from ._supervised import crash, created, start


async def serve(*, task_status: trio.TaskStatus[str]) -> None:
    """A child that is no session."""
    task_status.started("serving")
    await trio.sleep_forever()


def ids(supervisor: maa.Supervisor) -> list[str]:
    return [info.id for info in supervisor.which_children()]


# --- finding and counting ---------------------------------------------------------------------------------------------


async def test_sessions_are_found_and_counted_among_the_children(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, maa.open_supervisor([ChildSpec(id="web", start=serve)]) as supervisor:
        one = await start(supervisor, place, name="one")
        unnamed = await start(supervisor, place)
        another = await start(supervisor, place)
        assert ids(supervisor) == ["web", "one", "session-1", "session-2"]
        assert [unnamed.name, another.name] == ["session-1", "session-2"]
        assert supervisor.session("one") is one
        assert supervisor.child("one").restarts == 0
        assert [info.state for info in supervisor.which_children()] == ["running"] * 4
        counts = supervisor.count_children()
        assert (counts.specs, counts.active, counts.stopped) == (4, 4, 0)
        with pytest.raises(KeyError):
            supervisor.session("web")
        with pytest.raises(KeyError):
            supervisor.session("nobody")
        with pytest.raises(maa.ConfigurationError, match="nobody"):
            supervisor.child("nobody")


async def test_a_made_up_name_is_not_one_that_is_taken(simulate: Any, autojump_clock: MockClock) -> None:
    children = [ChildSpec(id="session-1", start=serve), ChildSpec(id="session-2", start=serve)]
    async with simulate() as place, maa.open_supervisor(children) as supervisor:
        assert (await start(supervisor, place)).name == "session-3"


# --- stopping and starting again --------------------------------------------------------------------------------------


async def test_a_session_is_started_again_where_it_was_left(simulate: Any, autojump_clock: MockClock) -> None:
    handler = RecordingHandler()
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    async with simulate() as place:
        async with maa.open_supervisor() as supervisor:
            session = await start(supervisor, place, handler, name="one", notify=told)
            results = [await session.ask("one")]
            await supervisor.terminate_child("one")
            assert [info.state for info in supervisor.which_children()] == ["stopped"]
            assert (session.status().phase, supervisor.session("one")) == ("closed", session)
            with pytest.raises(maa.ActorGone):
                await session.ask("meanwhile")
            await session.wait_closed()
            child = await supervisor.restart_child("one")
            assert (child.id, supervisor.session("one")) == ("one", session)
            async with session.subscribe() as terminals, session.events() as feed:
                results.append(await session.ask("two"))
                await wait_all_tasks_blocked()
                assert drained(terminals) == results[1:]
                assert (await feed.receive())["type"] == "session.status_running"
            crash(session)
            results.append(await session.ask("three"))
        assert created(place.simulator) == 1
        assert_exactly_once(
            place.simulator, *results, handler=handler, messages=["one", "two", "three"], announced=drained(hears)
        )


async def test_what_happened_meanwhile_is_read_when_it_is_started_again(
    simulate: Any, autojump_clock: MockClock
) -> None:
    handler = RecordingHandler()
    async with simulate() as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, handler, name="one")
        await session.ask("one")
        await supervisor.terminate_child("one")
        other = {"handler": RecordingHandler(), "client": place.client, "session_id": session.session_id}
        await maa.run_session(claude_managed_agents, prompt="somebody else's", **other)
        await supervisor.restart_child("one")
        assert (await session.ask("two")).text == "two"
        await wait_all_tasks_blocked()
        assert handler.events == list(place.look(session).events)


async def test_the_call_that_a_session_was_stopped_in_is_run_again(simulate: Any, autojump_clock: MockClock) -> None:
    async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        await trio.sleep(1.0)
        return f"attempt {context.attempt}"

    handler = RecordingHandler(tool)
    async with simulate([[call_tool("t"), say("One.")], [say("Two.")]]) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, handler, name="one")
        await session.message("go")
        await trio.sleep(0.5)
        await supervisor.terminate_child("one")
        await supervisor.restart_child("one")
        assert (await session.ask("on")).text == "Two."
        assert [call.context.attempt for call in handler.calls] == [1, 2]
        assert place.answers(session) == [("attempt 2", False)]


async def test_a_deleted_session_is_forgotten(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, name="one")
        with pytest.raises(maa.ConfigurationError, match="only a stopped one can be deleted"):
            supervisor.delete_child("one")
        await supervisor.terminate_child("one")
        with pytest.raises(maa.ConfigurationError, match="already"):
            await start(supervisor, place, name="one")
        supervisor.delete_child("one")
        assert ids(supervisor) == []
        with pytest.raises(KeyError):
            supervisor.session("one")
        with pytest.raises(maa.ConfigurationError, match="no child 'one'"):
            await supervisor.restart_child("one")
        again = await start(supervisor, place, name="one")
        assert again.session_id != session.session_id


async def test_what_runs_cannot_be_started_again(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, name="one")
        with pytest.raises(maa.ConfigurationError, match="has not ended"):
            await supervisor.restart_child("one")
        assert (await session.ask("go")).text == "go"


async def test_a_session_that_cannot_be_started_again_stays_stopped(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, name="one")
        await supervisor.terminate_child("one")
        await place.client.sessions.delete(session.session_id)
        await supervisor.restart_child("one")  # that it is gone is only learnt by attaching
        with pytest.raises(maa.SessionGone):
            await session.wait_closed()
        assert ids(supervisor) == []


async def test_other_children_are_the_generic_supervisors(simulate: Any, autojump_clock: MockClock) -> None:
    async with maa.open_supervisor() as supervisor:
        child = await supervisor.start_child(ChildSpec(id="web", start=serve))
        assert child.value == "serving"
        await supervisor.terminate_child("web")
        assert (await supervisor.restart_child("web")) is supervisor.child("web")
        await supervisor.terminate_child("web")
        supervisor.delete_child("web")
        assert ids(supervisor) == []
        with pytest.raises(maa.ConfigurationError):
            await supervisor.terminate_child("web")


# --- starts that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"flavour": "mint"}, TypeError),
        ({"agent": None}, TypeError),
        ({"timeout": -1}, maa.ConfigurationError),
        ({"name": ""}, maa.ConfigurationError),
        ({"name": "taken"}, maa.ConfigurationError),
        ({"name": "web"}, maa.ConfigurationError),
        ({"restart": "sometimes"}, maa.ConfigurationError),
        ({"shutdown": -1.0}, maa.ConfigurationError),
        ({"significant": True}, maa.ConfigurationError),
        ({"handler": 3}, (TypeError, maa.ConfigurationError)),
    ],
    ids=str,
)
async def test_what_cannot_be_started_costs_nothing(
    options: dict[str, Any], error: Any, simulate: Any, autojump_clock: MockClock
) -> None:
    async with simulate() as place, maa.open_supervisor([ChildSpec(id="web", start=serve)]) as supervisor:
        await start(supervisor, place, name="taken")
        requests = len(place.simulator.requests)
        given = {"handler": RecordingHandler(), **place.options, **options}
        with pytest.raises(error):
            await supervisor.start_session(claude_managed_agents, **given)
        assert ids(supervisor) == ["web", "taken"]
        assert len(place.simulator.requests) == requests
        assert (await supervisor.session("taken").ask("still there?")).text == "still there?"


@pytest.mark.parametrize("status", [400, 401, 404])
async def test_a_start_that_the_provider_refuses_leaves_nothing(
    status: int, simulate: Any, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="create_session", action=RefuseWith(status))])
    events: list[str] = []
    async with (
        simulate(faults=plan) as place,
        maa.open_supervisor(max_restarts=0, on_event=lambda name, *_: events.append(name)) as supervisor,
    ):
        with pytest.raises(maa.APIError) as refused:
            await start(supervisor, place, name="one")
        assert refused.value.status == status
        assert (ids(supervisor), events) == ([], [])
        with pytest.raises(KeyError):
            supervisor.session("one")
        session = await start(supervisor, place, name="one")
        assert (await session.ask("go")).text == "go"


async def test_slow_starts_overlap(simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="create_session", nth="every", action=Delay(3.0))])
    async with simulate(faults=plan) as place, maa.open_supervisor() as supervisor:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(lambda name: start(supervisor, place, name=name), f"number {number}")
        assert trio.current_time() - began == 3.0
        assert sorted(ids(supervisor)) == [f"number {number}" for number in range(4)]


async def test_of_two_starts_by_the_same_name_one_wins(simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="create_session", nth="every", action=Delay(3.0))])
    outcomes: list[str] = []

    async def attempt() -> None:
        try:
            await start(supervisor, place, name="one")
        except maa.ConfigurationError:
            outcomes.append("taken")
        else:
            outcomes.append("started")

    async with simulate(faults=plan) as place, maa.open_supervisor() as supervisor:
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(attempt)
        assert sorted(outcomes) == ["started", "taken"]
        assert created(place.simulator) == 1


async def test_a_cancelled_start_leaves_nothing(simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="create_session", action=Delay(3.0))])
    async with simulate(faults=plan) as place, maa.open_supervisor() as supervisor:
        with trio.move_on_after(1.0) as scope:
            await start(supervisor, place, name="one")
        assert scope.cancelled_caught
        assert ids(supervisor) == []
        with pytest.raises(KeyError):
            supervisor.session("one")
        assert (await (await start(supervisor, place, name="one")).ask("go")).text == "go"


async def test_a_start_under_way_ends_with_the_block(simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="create_session", action=Delay(3.0))])
    async with simulate(faults=plan) as place, trio.open_nursery() as nursery:

        async def attempt() -> None:
            with pytest.raises(maa.ActorGone):
                await start(supervisor, place)

        async with maa.open_supervisor() as supervisor:
            nursery.start_soon(attempt)
            await trio.sleep(1.0)


async def test_a_supervisor_that_has_closed_starts_nothing(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place:
        async with maa.open_supervisor() as supervisor:
            pass
        with pytest.raises(maa.ActorGone):
            await start(supervisor, place, name="one")
        with pytest.raises(KeyError):
            supervisor.session("one")
        assert created(place.simulator) == 0


# --- every await, cancelled -------------------------------------------------------------------------------------------

AWAITS: dict[str, Callable[[maa.Supervisor, Any], Awaitable[Any]]] = {
    "start_session": lambda supervisor, place: start(supervisor, place, name="new"),
    "start_child": lambda supervisor, _place: supervisor.start_child(ChildSpec(id="new", start=serve)),
    "terminate_child": lambda supervisor, _place: supervisor.terminate_child("running"),
    "restart_child": lambda supervisor, _place: supervisor.restart_child("stopped"),
}


@pytest.mark.parametrize("what", AWAITS)
async def test_each_await_may_be_cancelled_at_once(what: str, simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([[call_tool("t"), say("Done.")]]) as place, maa.open_supervisor() as supervisor:
        running = await start(supervisor, place, name="running")
        await start(supervisor, place, name="stopped")
        await supervisor.terminate_child("stopped")
        with trio.CancelScope() as scope:
            scope.cancel()
            await AWAITS[what](supervisor, place)
        assert scope.cancelled_caught
        await trio.sleep(10.0)
        states = {info.id: info.state for info in supervisor.which_children()}
        assert states == {"running": "running", "stopped": "stopped"}
        assert (await running.ask("go")).text == "Done."
        await supervisor.restart_child("stopped")
        assert (await supervisor.session("stopped").ask("go")).text == "Done."


async def test_a_stop_whose_caller_goes_happens_all_the_same(simulate: Any, autojump_clock: MockClock) -> None:
    class Stubborn(RecordingHandler):
        async def handle_event(self, event: dict[str, Any], context: maa.EventContext) -> None:
            await trio.sleep(5.0)

    async with simulate([[say("Done.")]]) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, Stubborn(), name="one")
        await session.ask("go")
        with trio.move_on_after(1.0) as scope:
            await supervisor.terminate_child("one")
        assert scope.cancelled_caught
        with pytest.raises(maa.ConfigurationError, match="has not ended"):
            await supervisor.restart_child("one")  # its handler is still shown events
        await session.wait_closed()
        await supervisor.restart_child("one")
        assert (await session.ask("on")).text == "on"
