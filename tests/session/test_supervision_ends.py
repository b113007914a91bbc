"""How a supervised session ends: by a crash, by a stop, by its provider; and what its restart type makes of that."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    CrashSession,
    Delay,
    DeleteSession,
    Fault,
    FaultPlan,
    RefuseWith,
    RotateKey,
    TerminateSession,
    call_tool,
    say,
    wait,
)

from ..channels import drained
from ._supervised import Defect, crash, created, start

RESTART = ["permanent", "transient", "temporary"]


def ids(supervisor: maa.Supervisor) -> list[str]:
    return [info.id for info in supervisor.which_children()]


# --- crashes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", ["permanent", "transient"])
async def test_a_crash_is_healed(restart: Any, simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([[wait(1.0), say("One.")]]) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, name="one", restart=restart)
        async with session.subscribe() as terminals:
            await session.message("go")
            await trio.sleep(0.5)
            crash(session)
            assert (await terminals.receive()).text == "One."
        (info,) = supervisor.which_children()
        assert (info.id, info.state, info.restarts, session.status().restarts) == ("one", "running", 1, 1)
        assert isinstance(info.last_exit.error, maa.SessionCrashed)
        assert isinstance(info.last_exit.error.__cause__, Defect)
        assert supervisor.session("one") is session
        assert created(place.simulator) == 1


async def test_a_temporary_session_ends_with_its_crash(simulate: Any, autojump_clock: MockClock) -> None:
    failures: list[maa.SessionCrashed] = []
    async with simulate([[say("One."), wait(10.0)]]) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, name="one", restart="temporary")
        async with session.subscribe() as terminals, session.events() as feed:
            async with trio.open_nursery() as nursery:

                async def ask(text: str) -> None:
                    with pytest.raises(maa.SessionCrashed) as caught:
                        await session.ask(text)
                    failures.append(caught.value)

                nursery.start_soon(ask, "active")
                await trio.sleep(0.5)
                nursery.start_soon(ask, "queued")
                await wait_all_tasks_blocked()
                crash(session)
            with pytest.raises(maa.SessionCrashed, match="Defect") as caught:
                await session.wait_closed()
            heard = [result async for result in terminals]
            assert len([event async for event in feed]) > 0
        assert isinstance(caught.value.__cause__, Defect)
        assert [(result.terminal, result.error.type) for result in heard] == [("terminated", "SessionCrashed")] * 2
        assert heard[0].text == "One."
        assert len(failures) == 2
        assert (ids(supervisor), session.status().phase) == ([], "closed")
        with pytest.raises(KeyError):
            supervisor.session("one")
        await start(supervisor, place, name="one")


async def test_a_session_that_is_stopped_while_it_crashes_is_not_restarted(
    simulate: Any, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="send_events", sending="user.interrupt", action=Delay(1.5))])
    async with simulate([[wait(100.0)]], faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, timeout=1.0)
        async with session.subscribe() as terminals:
            with pytest.raises(maa.SessionTimeout):
                await session.ask("go")
            async with trio.open_nursery() as nursery:  # the interrupt that the timeout has set off is still on its way
                nursery.start_soon(session.stop)
                await trio.sleep(0.5)
                assert crash(session)
            heard = [result async for result in terminals]
        assert [result.error.type for result in heard] == ["SessionTimeout"]
        assert (ids(supervisor), session.status().restarts) == ([], 0)


# --- stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("restart", RESTART)
async def test_a_stop_is_for_good(restart: Any, simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([[call_tool("t")]]) as place, maa.open_supervisor() as supervisor:

        async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
            await trio.sleep_forever()
            raise AssertionError

        session = await start(supervisor, place, tool, name="one", restart=restart)
        async with session.subscribe() as terminals, trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(maa.ActorGone, match="stopped"):
                    await session.ask("go")

            nursery.start_soon(ask)
            await trio.sleep(0.5)
            began = trio.current_time()
            await session.stop()
            assert trio.current_time() == began
            assert [result.error.type for result in [r async for r in terminals]] == ["ActorGone"]
        await session.wait_closed()
        assert (ids(supervisor), session.status().phase) == ([], "closed")
        with pytest.raises(maa.ActorGone):
            await session.message("more")
        await start(supervisor, place, name="one")


async def test_several_may_stop_it_at_once(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place)
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(session.stop)
            nursery.start_soon(supervisor.terminate_child, str(session.name))
        await session.stop()
        await session.wait_closed()
        assert session.status().phase == "closed"


@pytest.mark.parametrize("who", ["tool", "handle_event"])
async def test_it_may_be_stopped_from_within(who: str, simulate: Any, autojump_clock: MockClock) -> None:
    class Suicidal:
        session: maa.Session

        async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
            if who == "tool":
                await self.session.stop()
            return "r"

        async def handle_event(self, event: dict[str, Any], context: maa.EventContext) -> None:
            if who == "handle_event" and event["type"] == "agent.custom_tool_use":
                await self.session.stop()

    handler = Suicidal()
    async with simulate([[call_tool("t"), wait(5.0), say("One.")]]) as place, maa.open_supervisor() as supervisor:
        handler.session = await start(supervisor, place, handler)
        with pytest.raises(maa.ActorGone):
            await handler.session.ask("go")
        await handler.session.wait_closed()
        assert ids(supervisor) == []


# --- ends that the provider sets --------------------------------------------------------------------------------------

# What the provider can do to a session, and what the session ends with.
GONE = {
    "deleted": (Fault(on="stream", action=DeleteSession(after_type="agent.message")), maa.SessionGone),
    "not found": (Fault(on="send_events", nth=2, action=RefuseWith(404)), maa.SessionGone),
    "refused": (Fault(on="send_events", nth=2, times=100, action=RefuseWith(401)), maa.AuthenticationError),
    "forbidden": (Fault(on="send_events", nth=2, times=100, action=RefuseWith(403)), maa.PermissionDeniedError),
}


@pytest.mark.parametrize("restart", ["transient", "temporary"])
@pytest.mark.parametrize("how", GONE)
async def test_an_end_that_is_explained_is_told_once_and_not_healed(
    how: str, restart: Any, simulate: Any, autojump_clock: MockClock
) -> None:
    fault, kind = GONE[how]
    events: list[str] = []
    script = [[call_tool("t"), say("One."), wait(1.0), say("Two.")]]
    async with (
        simulate(script, faults=FaultPlan([fault])) as place,
        maa.open_supervisor(on_event=lambda name, *_: events.append(name)) as supervisor,
    ):
        session = await start(supervisor, place, name="one", restart=restart)
        async with session.subscribe() as terminals:
            with pytest.raises(kind):
                await session.ask("go")
            with pytest.raises(kind):
                await session.wait_closed()
            heard = [result async for result in terminals]
        assert [(result.terminal, result.error.type) for result in heard] == [("terminated", kind.__name__)]
        assert ids(supervisor) == []
        assert events == ["managed_agents.supervisor.child_started", "managed_agents.supervisor.child_exited"]


@pytest.mark.parametrize("restart", ["transient", "temporary"])
async def test_a_session_that_is_terminated_ends_with_a_result(
    restart: Any, simulate: Any, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="stream", action=TerminateSession(after_type="agent.message"))])
    async with simulate([[say("One."), wait(1.0)]], faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, restart=restart)
        result = await session.ask("go")
        assert (result.terminal, result.text, result.resumable) == ("terminated", "One.", False)
        await session.wait_closed()
        assert (ids(supervisor), session.status().restarts) == ([], 0)


@pytest.mark.parametrize("how", ["deleted", "terminated"])
async def test_a_session_that_is_gone_when_its_next_actor_comes(
    how: str, simulate: Any, autojump_clock: MockClock
) -> None:
    action: Any = DeleteSession() if how == "deleted" else TerminateSession()
    plan = FaultPlan([Fault(on="stream", nth=2, action=Delay(1.0)), Fault(on="list_events", action=action)])
    async with simulate([[say("One."), wait(100.0)]], faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place)
        async with session.subscribe() as terminals, trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(maa.SessionGone):
                    await session.ask("go")

            if how == "deleted":
                nursery.start_soon(ask)
            else:
                nursery.start_soon(session.ask, "go")
            await trio.sleep(0.5)
            crash(session)
            heard = [result async for result in terminals]
        assert [result.terminal for result in heard] == ["terminated"]
        assert heard[0].text == "One."
        await session.stop()
        assert ids(supervisor) == []


async def test_a_key_that_is_refused_after_a_crash_ends_it(simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="stream", nth=2, action=RotateKey("another"))])
    async with simulate([[wait(100.0)]], faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place)
        async with session.subscribe() as terminals, trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(maa.AuthenticationError):
                    await session.ask("go")

            nursery.start_soon(ask)
            await trio.sleep(0.5)
            crash(session)
            assert [result.error.type for result in [r async for r in terminals]] == ["AuthenticationError"]
        with pytest.raises(maa.AuthenticationError):
            await session.wait_closed()
        assert ids(supervisor) == []


async def test_a_permanent_session_that_cannot_go_on_exceeds_the_intensity(
    simulate: Any, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="stream", action=DeleteSession(after_type="agent.message"))])
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    async with simulate([[say("One."), wait(1.0)]], faults=plan) as place:
        with pytest.raises(maa.RestartIntensityExceeded):
            async with maa.open_supervisor() as supervisor:
                session = await start(supervisor, place, restart="permanent", notify=told)
                with pytest.raises(maa.SessionGone):
                    await session.ask("go")
                await trio.sleep_forever()
        assert [result.error.type for result in drained(hears)] == ["SessionGone"]
        with pytest.raises(maa.SessionGone):
            await session.wait_closed()
        assert created(place.simulator) == 1


async def test_a_permanent_session_goes_on_after_a_refusal_that_passes(
    simulate: Any, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="send_events", nth=2, action=RefuseWith(403))])
    async with simulate([[call_tool("t"), say("One.")]], faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, restart="permanent")
        async with session.subscribe() as terminals:
            with pytest.raises(maa.PermissionDeniedError):
                await session.ask("go")
            await trio.sleep(10.0)
            assert session.status().restarts == 1
            assert [result.error.type for result in drained(terminals)] == ["PermissionDeniedError"]
            assert (await session.ask("on")).terminal == "end_turn"
        assert created(place.simulator) == 1


# --- too much ---------------------------------------------------------------------------------------------------------


async def test_too_many_crashes_end_every_session_with_one_terminal_for_each_request(
    simulate: Any, autojump_clock: MockClock
) -> None:
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    failures: dict[str, type] = {}

    async def ask(session: maa.Session, text: str) -> None:
        with pytest.raises(maa.ManagedAgentsError) as caught:
            await session.ask(text)
        failures[text] = type(caught.value)

    async with simulate([[wait(100.0)]]) as place, trio.open_nursery() as askers:
        with pytest.raises(maa.RestartIntensityExceeded) as exceeded:
            async with maa.open_supervisor(max_restarts=2, max_seconds=5.0) as supervisor:
                sessions = [await start(supervisor, place, name=name, notify=told) for name in ("bad", "good")]
                for session in sessions:
                    askers.start_soon(ask, session, f"{session.name} active")
                    await wait_all_tasks_blocked()
                    askers.start_soon(ask, session, f"{session.name} queued")
                for _ in range(3):
                    await trio.sleep(0.5)
                    crash(sessions[0])
                await trio.sleep_forever()
        assert isinstance(exceeded.value.__cause__, maa.SessionCrashed)
    assert failures == {
        "bad active": maa.SessionCrashed,
        "bad queued": maa.SessionCrashed,
        "good active": maa.ActorGone,
        "good queued": maa.ActorGone,
    }
    heard = drained(hears)
    assert sorted(result.error.type for result in heard) == ["ActorGone"] * 2 + ["SessionCrashed"] * 2
    assert {result.terminal for result in heard} == {"terminated"}


async def test_an_event_that_no_actor_can_bear_exceeds_the_intensity(simulate: Any, autojump_clock: MockClock) -> None:
    class Fragile:
        """The provider, with a defect."""

        def __getattr__(self, name: str) -> Any:
            return getattr(claude_managed_agents, name)

        def classify(self, event: dict[str, Any]) -> Any:
            if event["type"] == "agent.message":
                raise Defect("cannot read it")
            return claude_managed_agents.classify(event)

    provider: Any = Fragile()
    async with simulate([[say("One.")]]) as place:
        with pytest.raises(maa.RestartIntensityExceeded):
            async with maa.open_supervisor() as supervisor:
                handler = {"handler": lambda *_: "r"}
                session = await supervisor.start_session(provider, **handler, **place.options)
                await session.ask("go")
        with pytest.raises(maa.SessionCrashed, match="Defect"):
            await session.wait_closed()
        assert session.status().restarts == 3
        assert [event["type"] for event in place.inputs(session)] == ["user.message"]


async def test_crashes_that_are_far_enough_apart_are_borne_for_ever(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, maa.open_supervisor(max_restarts=1, max_seconds=5.0) as supervisor:
        session = await start(supervisor, place)
        for number in range(10):
            crash(session)
            await trio.sleep(5.1)
            assert (await session.ask(str(number))).text == str(number)
        assert session.status().restarts == 10


async def test_a_crash_by_plan_in_every_request(simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="send_events", nth="every", action=CrashSession(when="after"))])
    async with simulate(faults=plan) as place, maa.open_supervisor(max_restarts=100) as supervisor:
        session = await start(supervisor, place)
        plan.bind(session)
        answers = [(await session.ask(str(number))).text for number in range(10)]
        assert answers == [str(number) for number in range(10)]
        assert session.status().restarts == 10
