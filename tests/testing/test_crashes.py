"""A plan crashes the actor of a session that is bound to it, at the point it names, and supervision heals it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    ClaudeSimulator,
    CrashSession,
    Fault,
    FaultPlan,
    InjectedCrash,
    RecordingHandler,
    assert_exactly_once,
    call_tools,
    open_claude_simulator,
    say,
)

SCRIPT = [[call_tools(("a", {}), ("b", {})), say("Done.")], [say("Bye.")]]

Open = Callable[..., AbstractAsyncContextManager[tuple[ClaudeSimulator, dict[str, Any]]]]


@asynccontextmanager
async def served(plan: FaultPlan) -> AsyncIterator[tuple[ClaudeSimulator, dict[str, Any]]]:
    """A simulator that plays the plan, and what a session of it is opened with."""
    async with (
        open_claude_simulator(SCRIPT, transport="memory", faults=plan) as simulator,
        simulator.client() as client,
    ):
        yield simulator, {"client": client, "agent": simulator.agent_id, "environment": simulator.environment_id}


RESULT = "user.custom_tool_result"
PLACES = {
    "before a message is taken": Fault(on="send_events", action=CrashSession()),
    "after a message is taken": Fault(on="send_events", action=CrashSession(when="after")),
    "before the second result": Fault(
        on="send_events", sending="user.custom_tool_result", nth=2, action=CrashSession()
    ),
    "after the first result": Fault(
        on="send_events", sending="user.custom_tool_result", action=CrashSession(when="after")
    ),
    "after a call came": Fault(on="stream", action=CrashSession(after_type="agent.custom_tool_use")),
    "in mid-frame": Fault(on="stream", action=CrashSession(after_bytes=500)),
    "when it reconnects": Fault(on="stream", nth=2, action=CrashSession()),
}


@pytest.mark.parametrize("place", PLACES)
async def test_a_supervised_session_survives_its_actors_crash(place: str, autojump_clock: MockClock) -> None:
    plan = FaultPlan([PLACES[place]])
    handler = RecordingHandler()
    async with served(plan) as (simulator, options):
        async with maa.open_supervisor() as supervisor:
            session = await supervisor.start_session(
                claude_managed_agents, name="one", restart="transient", handler=handler, **options
            )
            plan.bind(session)
            with trio.fail_after(1000):
                results = [await session.ask("Hello")]
                simulator.drop_streams(session.session_id)
                results.append(await session.ask("Thanks"))
            assert len(plan.fired) == 1
            assert session.status().restarts == 1
        assert_exactly_once(simulator, *results, messages=["Hello", "Thanks"])


async def test_without_a_supervisor_the_session_has_crashed(autojump_clock: MockClock) -> None:
    plan = FaultPlan([PLACES["after a call came"]])
    async with served(plan) as (_, options):
        with pytest.raises(maa.SessionCrashed, match="InjectedCrash") as crashed:
            async with maa.open_session(claude_managed_agents, handler=RecordingHandler(), **options) as session:
                plan.bind(session)
                await session.ask("Hello")
        assert isinstance(crashed.value.__cause__, InjectedCrash)


@pytest.mark.parametrize(("when", "taken"), [("before", []), ("after", ["Hello"])])
async def test_a_request_is_lost_with_the_actor_or_only_its_answer(
    when: Literal["before", "after"], taken: list[str], autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="send_events", action=CrashSession(when=when))])
    async with served(plan) as (simulator, options):
        with pytest.raises(maa.SessionCrashed):
            async with maa.open_session(claude_managed_agents, handler=RecordingHandler(), **options) as session:
                plan.bind(session)
                await session.ask("Hello")
        log = simulator.session(session.session_id).events
        assert [event["content"][0]["text"] for event in log if event["type"] == "user.message"] == taken


async def test_only_the_session_of_the_request_is_crashed(autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="send_events", nth=2, action=CrashSession())])
    async with served(plan) as (_, options), maa.open_supervisor() as supervisor:
        sessions = [
            await supervisor.start_session(claude_managed_agents, name=name, handler=RecordingHandler(), **options)
            for name in ("one", "two")
        ]
        plan.bind(*sessions)
        await sessions[0].message("Hello")
        await sessions[1].message("Hello")
        await trio.sleep(100)
        assert [session.status().restarts for session in sessions] == [0, 1]


async def test_a_session_that_has_ended_is_not_crashed(autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="retrieve_session", nth="every", action=CrashSession())])
    async with served(plan) as (_, options):
        async with maa.open_session(claude_managed_agents, handler=RecordingHandler(), **options) as session:
            plan.bind(session)
            await session.ask("Hello")
        # The request is not lost either.
        assert (await options["client"].sessions.retrieve(session.session_id))["id"] == session.session_id
        assert plan.fired == ()
