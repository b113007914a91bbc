"""BED: requests of AgentCore's that are left before their turn is over, and what becomes of the turn then."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core
from managed_agents_actors.testing import (
    Action,
    AgentCoreSimulator,
    Delay,
    Fault,
    FaultPlan,
    RecordingHandler,
    RefuseWith,
    Turn,
    call_tools,
    crash_session,
    open_agentcore_simulator,
    say,
    wait,
)

from ._harness import Cut, Part, Pause, calls, done, meta, open_harness, says, start, stop, txt

CANCELLED = "The call was cancelled: the request it belonged to was given up."


async def echo(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    return "r"


@asynccontextmanager
async def simulated(
    agent: Any, handler: Any = echo, **options: Any
) -> AsyncIterator[tuple[AgentCoreSimulator, maa.AgentCoreClient, maa.Session]]:
    """A session of a simulated harness, by the id of 33 times "s"."""
    async with (
        open_agentcore_simulator(agent, transport="memory") as simulator,
        simulator.client() as client,
        maa.open_session(
            bedrock_agent_core,
            handler=handler,
            client=client,
            harness_arn=simulator.harness_arn,
            runtime_session_id="s" * 33,
            **options,
        ) as session,
    ):
        yield simulator, client, session


def slowly(*parts: Part) -> list[Part]:
    """A turn that says something at once, and goes on ten seconds later."""
    return [start(), txt("One moment."), Pause(10.0), *parts]


HAND_OFF = slowly(done(), stop("tool_use"), *calls("A"))


def results(messages: Any) -> dict[str, str]:
    blocks = [block["toolResult"] for block in messages[-1]["content"] if "toolResult" in block]
    return {block["toolUseId"]: "".join(item["text"] for item in block["content"]) for block in blocks}


# --- what a turn hands off after it was left --------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["interrupt", "deadline"])
async def test_a_call_that_is_handed_off_after_its_request_was_left_is_settled_before_the_next_message(
    ends: str, autojump_clock: MockClock
) -> None:
    handler = RecordingHandler(echo)
    async with (
        open_harness(HAND_OFF, says("never mind"), says("Hi")) as harness,
        maa.open_session(
            bedrock_agent_core, handler=handler, timeout=30.0 if ends == "interrupt" else 8.0, **harness.options
        ) as session,
        session.subscribe() as terminals,
    ):
        await session.message("go")
        await trio.sleep(5)
        if ends == "interrupt":
            await session.interrupt()
        left = await terminals.receive()
        assert left.text == "One moment."
        assert (await session.ask("again")).text == "Hi"
        assert results(harness.told[1]) == {"A": CANCELLED}
        assert [len(harness.sent), harness.broken_off, handler.calls] == [3, 0, []]


async def test_nothing_that_a_left_turn_says_is_shown_or_accounted_for(autojump_clock: MockClock) -> None:
    seen: list[str] = []

    class Watcher:
        async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
            return "r"

        async def handle_event(self, event: dict[str, Any], context: maa.EventContext) -> None:
            seen.append(event["type"])

    turn = slowly(txt(" There it is."), done(), stop(), meta(100, 100))
    async with (
        open_harness(turn, says("Hi")) as harness,
        maa.open_session(bedrock_agent_core, handler=Watcher(), **harness.options) as session,
        session.subscribe() as terminals,
    ):
        await session.message("go")
        await trio.sleep(5)
        await session.interrupt()
        assert (await terminals.receive()).stop_reason == "interrupted"
        shown = len(seen)
        await trio.sleep(20)
        assert len(seen) == shown
        result = await session.ask("again")
        assert (result.text, result.usage.input_tokens) == ("Hi", 12)


async def test_a_message_that_waits_for_a_left_turn_can_be_left_too(autojump_clock: MockClock) -> None:
    async with (
        open_harness(slowly(txt(" Done."), done(), stop(), meta(1, 1)), says("Hi")) as harness,
        maa.open_session(bedrock_agent_core, handler=echo, **harness.options) as session,
        session.subscribe() as terminals,
    ):
        async with trio.open_nursery() as nursery:
            for words in ("first", "second"):
                nursery.start_soon(session.message, words)
                await trio.sleep(2)
                began = trio.current_time()
                await session.interrupt()
                assert (await terminals.receive()).stop_reason == "interrupted"
                assert trio.current_time() - began < 0.5
        assert (await session.ask("third")).text == "Hi"
        assert [messages[-1]["content"] for messages in harness.told] == [[{"text": "first"}], [{"text": "third"}]]
        assert harness.at[1] - harness.at[0] == pytest.approx(10, abs=0.5)


async def test_a_stream_that_broke_out_of_sight_is_named_when_the_harness_takes_no_message(
    autojump_clock: MockClock,
) -> None:
    async def agent(turn: Turn) -> None:
        if turn.text == "go":
            await trio.sleep(5)
            await turn.call_tools(("echo", {}))
        await turn.say("Hi")

    async with simulated(agent, idle_timeout=2.0) as (simulator, client, session):
        with pytest.raises(maa.StreamIdleTimeout):
            await session.ask("go")
        await trio.sleep(10)
        with pytest.raises(maa.InvalidRequestError) as refused:
            await session.ask("again")
        assert any("stop_runtime_session" in note for note in refused.value.__notes__)
        await client.stop_runtime_session(agentRuntimeArn=simulator.harness_arn, runtimeSessionId="s" * 33)
        assert (await session.ask("anew")).text == "Hi"


# --- crashes and stops ------------------------------------------------------------------------------------------------


async def two_turns(turn: Turn) -> None:
    """One that takes a hundred seconds, and then some that take none."""
    if turn.text == "go":
        await turn.say("One moment.")
        await trio.sleep(100)
    await turn.say("Hi")


@asynccontextmanager
async def supervised(*faults: Fault, **options: Any) -> AsyncIterator[tuple[AgentCoreSimulator, maa.Session]]:
    """A session whose first request was made a second ago."""
    async with (
        open_agentcore_simulator(two_turns, transport="memory", faults=FaultPlan(faults)) as simulator,
        simulator.client() as client,
        maa.open_supervisor() as supervisor,
    ):
        session = await supervisor.start_session(
            bedrock_agent_core,
            handler=echo,
            client=client,
            harness_arn=simulator.harness_arn,
            runtime_session_id="s" * 33,
            **options,
        )
        await session.message("go")
        await trio.sleep(1)
        yield simulator, session


def asked(simulator: AgentCoreSimulator) -> list[str]:
    return [request.path.rpartition("/")[2] for request in simulator.requests]


async def test_a_message_that_waits_for_a_left_turn_survives_a_crash_and_can_be_left_then(
    autojump_clock: MockClock,
) -> None:
    async with supervised() as (simulator, session), session.subscribe() as terminals:
        await session.interrupt()
        assert (await terminals.receive()).stop_reason == "interrupted"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.message, "second")
            await trio.sleep(1)
            crash_session(session, RuntimeError("a defect"))
            await trio.sleep(1)
            began = trio.current_time()
            await session.interrupt()
            assert (await terminals.receive()).stop_reason == "interrupted"
            assert trio.current_time() - began < 2
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.message, "third")
            await trio.sleep(1)
            crash_session(session, RuntimeError("a defect"))
            assert (await terminals.receive()).text == "Hi"
        said = [message["content"][0]["text"] for message in simulator.session("s" * 33).messages]
        assert said == ["go", "One moment.", "third", "Hi"]
        assert asked(simulator) == ["invoke", "invoke"]


@pytest.mark.parametrize("ticks", range(30))
async def test_a_stop_is_sent_though_the_actor_crashes_meanwhile(ticks: int, autojump_clock: MockClock) -> None:
    async with supervised(stop_on_cancel=True) as (simulator, session):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.interrupt)
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
            with suppress(maa.ActorGone):
                crash_session(session, RuntimeError("a defect"))
        began = trio.current_time()
        assert (await session.ask("again")).text == "Hi"
        assert trio.current_time() - began < 2
        assert asked(simulator) == ["invoke", "stopruntimesession", "invoke"]


@pytest.mark.parametrize("action", [Delay(seconds=600.0), RefuseWith(status=500)])
async def test_a_stop_that_is_slow_or_fails_holds_nobody_up_for_long(action: Action, autojump_clock: MockClock) -> None:
    fault = Fault(on="stop_runtime_session", action=action, times=9)
    async with supervised(fault, stop_on_cancel=True, idle_timeout=900.0) as (_, session):
        began = trio.current_time()
        await session.interrupt()
        assert trio.current_time() - began < 7
        assert (await session.ask("again")).text == "Hi"
        # What was not stopped is waited for: the turn lasts a hundred seconds.
        assert trio.current_time() - began >= 99


async def test_a_left_turn_that_is_over_is_not_stopped_on_exit(autojump_clock: MockClock) -> None:
    async with (
        open_harness(slowly(txt(" Done."), done(), stop(), meta(1, 1))) as harness,
        maa.open_session(bedrock_agent_core, handler=echo, on_exit="interrupt", **harness.options) as session,
    ):
        await session.message("go")
        await trio.sleep(5)
        await session.interrupt()
        await trio.sleep(20)
    assert (len(harness.sent), harness.stops) == (1, [])


# --- leaving for good -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", ["deadline", "interrupt", "max_turns", "break", "exception", "stop"])
async def test_on_exit_stops_what_goes_on_at_the_harness_and_begins_nothing(
    ends: str, autojump_clock: MockClock
) -> None:
    turns: dict[str, list[Part]] = {"max_turns": calls("A"), "break": [start(), txt("One"), Cut()]}
    options: dict[str, Any] = {"max_turns": 1} if ends == "max_turns" else {}
    async with open_harness(turns.get(ends, slowly(done(), stop())), says("a second turn")) as harness:
        with pytest.RaisesGroup(ZeroDivisionError, allow_unwrapped=True) if ends == "exception" else _nothing():
            async with maa.open_session(
                bedrock_agent_core,
                handler=echo,
                timeout=4.0 if ends == "deadline" else None,
                on_exit="interrupt",
                **options,
                **harness.options,
            ) as session:
                await session.message("go")
                await trio.sleep(5)
                match ends:
                    case "interrupt":
                        await session.interrupt()
                    case "stop":
                        await session.stop()
                    case "exception":
                        raise ZeroDivisionError
        await trio.sleep(100)
        assert len(harness.stops) == 1
        assert len(harness.sent) == 1


class _nothing:  # noqa: N801 -- a context in which nothing is raised
    def __enter__(self) -> None: ...
    def __exit__(self, *_: object) -> None: ...


@pytest.mark.parametrize("how", ["stop", "leave"])
async def test_leaving_a_turn_whose_stop_takes_its_time_starts_no_other(how: str, autojump_clock: MockClock) -> None:
    slow_stop = FaultPlan([Fault(on="stop_runtime_session", action=Delay(seconds=3.0))])
    async with (
        open_agentcore_simulator([[wait(60), say("late")]], transport="memory", faults=slow_stop) as simulator,
        simulator.client() as client,
    ):
        async with maa.open_session(
            bedrock_agent_core,
            handler=echo,
            client=client,
            harness_arn=simulator.harness_arn,
            runtime_session_id="s" * 33,
            on_exit="interrupt",
        ) as session:
            await session.message("go")
            await trio.sleep(5)
            if how == "stop":
                await session.stop()
        await trio.sleep(100)
        assert [request.path.rpartition("/")[2] for request in simulator.requests] == ["invoke", "stopruntimesession"]
        assert not simulator.session("s" * 33).running


async def test_a_session_that_has_come_to_its_end_is_not_stopped_on_exit(autojump_clock: MockClock) -> None:
    async with open_harness(says("Hi")) as harness:
        async with maa.open_session(
            bedrock_agent_core, handler=echo, on_exit="interrupt", **harness.options
        ) as session:
            await session.ask("go")
        assert harness.stops == []


@pytest.mark.parametrize("ticks", range(12))
async def test_an_interrupt_that_comes_too_late_stops_nothing(ticks: int, autojump_clock: MockClock) -> None:
    async with (
        open_harness(says("Hi"), says("Hi again")) as harness,
        maa.open_session(bedrock_agent_core, handler=echo, stop_on_cancel=True, **harness.options) as session,
    ):
        async with trio.open_nursery() as nursery, session.events() as events:

            async def watch() -> None:
                async for event in events:
                    if event["type"] == "metadata":  # the last one; the end of the stream is about to come
                        for _ in range(ticks):
                            await trio.lowlevel.checkpoint()
                        await session.interrupt()
                        return

            nursery.start_soon(watch)
            result = await session.ask("go")
        assert len(harness.stops) == (result.stop_reason == "interrupted")
        assert result.terminal == ("terminated" if harness.stops else "end_turn")


# --- calls that are left to others ------------------------------------------------------------------------------------


async def test_a_call_that_is_left_to_others_beside_one_of_ours_ends_the_request(autojump_clock: MockClock) -> None:
    @maa.tool(name="echo", description="Echoes.", input_schema={"type": "object"})
    async def known() -> str:
        return "r"

    toolbox = maa.Toolbox([known], unknown_tools="leave")
    script = [[call_tools(("echo", {}), ("strange", {})), say("never")], [say("Hi")]]
    async with simulated(script, toolbox) as (_, _, session):
        began = trio.current_time()
        result = await session.ask("go")
        assert result.terminal == "requires_action"
        assert trio.current_time() - began < 60
        assert (await session.ask("again")).text == "Hi"
