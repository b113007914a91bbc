"""Sessions among other children: strategies, order, nesting, significant ones, and the ends of a supervisor's block."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.actors import ChildSpec
from managed_agents_actors.testing import RecordingHandler, assert_exactly_once, call_tool, say, wait

from ..channels import drained
from ._supervised import Defect, crash, created, start

BUSY = [[call_tool("t"), wait(1.0), say("Done.")]]


async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    await trio.sleep(1.0)
    return "r"


def service(name: str, log: list[str]) -> ChildSpec:
    """A child that is no session, and says when it comes and goes."""

    async def serve(*, task_status: trio.TaskStatus[str]) -> None:
        log.append(f"{name} up")
        task_status.started(name)
        try:
            await trio.sleep_forever()
        finally:
            log.append(f"{name} down")

    return ChildSpec(id=name, start=serve)


# --- strategies -------------------------------------------------------------------------------------------------------

# Which of three sessions are restarted when the second crashes.
RESTARTED = {"one_for_one": [0, 1, 0], "rest_for_one": [0, 1, 1], "one_for_all": [1, 1, 1]}


@pytest.mark.parametrize("strategy", RESTARTED)
async def test_requests_survive_the_restart_of_a_sibling(
    strategy: Any, simulate: Any, autojump_clock: MockClock
) -> None:
    results: dict[str, maa.SessionResult] = {}
    handlers = {name: RecordingHandler(tool) for name in ("first", "second", "third")}

    async def ask(session: maa.Session) -> None:
        results[str(session.name)] = await session.ask(f"go, {session.name}")

    async with simulate(BUSY) as place:
        async with maa.open_supervisor(strategy=strategy) as supervisor:
            sessions = [await start(supervisor, place, handler, name=name) for name, handler in handlers.items()]
            async with trio.open_nursery() as nursery:
                for session in sessions:
                    nursery.start_soon(ask, session)
                await trio.sleep(0.5)
                crash(sessions[1])
            assert [session.status().restarts for session in sessions] == RESTARTED[strategy]
            assert [info.restarts for info in supervisor.which_children()] == RESTARTED[strategy]
        assert created(place.simulator) == 3
        for name, result in results.items():
            assert_exactly_once(place.simulator, result, messages=[f"go, {name}"])
            assert place.answers(result) == [("r", False)]


async def test_sessions_are_stopped_in_reverse_order_with_other_children(
    simulate: Any, autojump_clock: MockClock
) -> None:
    log: list[str] = []

    class Noting(RecordingHandler):
        def __init__(self, name: str) -> None:
            super().__init__()
            self._name = name

        async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
            try:
                await trio.sleep_forever()
            finally:
                log.append(f"{self._name} down")
            raise AssertionError

    async with simulate(BUSY) as place, maa.open_supervisor([service("store", log)]) as supervisor:
        for name in ("one", "two"):
            session = await start(supervisor, place, Noting(name), name=name)
            await session.message("go")
        await supervisor.start_child(service("web", log))
        await trio.sleep(0.5)
        assert [info.id for info in supervisor.which_children()] == ["store", "one", "two", "web"]
    assert log == ["store up", "web up", "web down", "two down", "one down", "store down"]


async def test_a_session_that_uses_what_was_started_before_it(simulate: Any, autojump_clock: MockClock) -> None:
    log: list[str] = []
    fail = trio.Event()

    async def store(*, task_status: trio.TaskStatus[None]) -> None:
        log.append("store up")
        task_status.started()
        if log.count("store up") == 1:
            await fail.wait()
            raise Defect
        await trio.sleep_forever()

    spec = ChildSpec(id="store", start=store)
    async with simulate(BUSY) as place, maa.open_supervisor([spec], strategy="rest_for_one") as supervisor:
        session = await start(supervisor, place, tool)
        async with session.subscribe() as terminals:
            await session.message("go")
            await trio.sleep(0.5)
            fail.set()
            assert (await terminals.receive()).text == "Done."
        assert (session.status().restarts, log) == (1, ["store up", "store up"])


# --- nesting ----------------------------------------------------------------------------------------------------------


async def test_a_supervisor_of_sessions_below_another_one(simulate: Any, autojump_clock: MockClock) -> None:
    async def chats(*, task_status: trio.TaskStatus[maa.Supervisor]) -> None:
        await maa.run_supervisor(max_restarts=1, name="chats", task_status=task_status)

    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    spec = ChildSpec(id="chats", start=chats, shutdown=math.inf)
    async with simulate(BUSY) as place, maa.open_supervisor([spec], name="top") as top:
        below: maa.Supervisor = top.child("chats").value
        session = await start(below, place, tool, notify=told)
        await session.message("go")
        for _ in range(2):
            await trio.sleep(0.1)
            crash(session)
        # The lower one gives up, which the upper one takes for a crash: a new one without sessions takes its place.
        with pytest.raises(maa.SessionCrashed):
            await session.wait_closed()
        await wait_all_tasks_blocked()
        assert [result.error.type for result in drained(hears)] == ["SessionCrashed"]
        above: maa.Supervisor = top.child("chats").value
        assert above is not below
        assert (top.child("chats").restarts, above.which_children()) == (1, ())
        resumed = await start(above, place, tool, session_id=session.session_id, agent=None, environment=None)
        async with resumed.subscribe() as terminals:
            assert (await terminals.receive()).text == "Done."


async def test_a_supervisor_in_a_task(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate(BUSY) as place:
        async with trio.open_nursery() as nursery:
            supervisor = await nursery.start(maa.run_supervisor)
            session = await start(supervisor, place, tool)
            assert (await session.ask("go")).text == "Done."
            nursery.cancel_scope.cancel()
        await session.wait_closed()
        assert session.status().phase == "closed"
        assert place.look(session).open_streams == 0


# --- children that matter ---------------------------------------------------------------------------------------------


async def test_the_end_of_a_significant_session_ends_the_block(simulate: Any, autojump_clock: MockClock) -> None:
    script = [[say("One.")]]
    async with simulate(script) as place:
        async with maa.open_supervisor(auto_shutdown="any_significant") as supervisor:
            other = await start(supervisor, place)
            session = await start(supervisor, place, significant=True)
            await session.ask("go")
            await place.client.sessions.delete(session.session_id)
            await trio.sleep_forever()
        with pytest.raises(maa.SessionGone):
            await session.wait_closed()
        await other.wait_closed()


async def test_a_significant_session_that_crashes_is_restarted(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, maa.open_supervisor(auto_shutdown="any_significant") as supervisor:
        session = await start(supervisor, place, significant=True)
        crash(session)
        assert (await session.ask("go")).text == "go"


# --- the end of the block ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["left", "cancelled", "failed"])
async def test_however_the_block_ends_nobody_is_left_waiting(
    how: str, simulate: Any, autojump_clock: MockClock
) -> None:
    failure = KeyError("the body's own")
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    refused: list[str] = []

    async def ask(session: maa.Session, text: str) -> None:
        with pytest.raises(maa.ActorGone):
            await session.ask(text)
        refused.append(text)

    async def body(askers: trio.Nursery) -> maa.Session:
        async with maa.open_supervisor() as supervisor:
            session = await start(supervisor, place, tool, notify=told)
            for text in ("active", "queued"):
                askers.start_soon(ask, session, text)
                await wait_all_tasks_blocked()
            await trio.sleep(0.5)
            seen.append(session)
            match how:
                case "cancelled":
                    scope.cancel()
                    await trio.sleep_forever()
                case "failed":
                    raise failure
        return session

    seen: list[maa.Session] = []
    async with simulate(BUSY) as place, trio.open_nursery() as askers:
        before = trio.current_time()
        with trio.CancelScope() as scope:
            try:
                await body(askers)
            except KeyError as error:
                assert error is failure  # noqa: PT017 -- it comes out bare, and only in one of the cases
        assert trio.current_time() == before + 0.5
        (session,) = seen
        assert place.look(session).open_streams == 0
        await session.wait_closed()
    assert sorted(refused) == ["active", "queued"]
    assert [result.error.type for result in drained(hears)] == ["ActorGone", "ActorGone"]


async def test_a_block_that_is_left_while_an_actor_crashes(simulate: Any, autojump_clock: MockClock) -> None:
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    async with simulate(BUSY) as place:
        async with maa.open_supervisor() as supervisor:
            session = await start(supervisor, place, tool, notify=told)
            await session.message("go")
            await trio.sleep(0.5)
            crash(session)
        assert [result.error.type for result in drained(hears)] == ["SessionCrashed"]
        with pytest.raises(maa.SessionCrashed):
            await session.wait_closed()
        assert place.look(session).open_streams == 0
