"""BED: what ends a request of AgentCore's before its turn does, at whatever moment, and what is left of it then."""

from __future__ import annotations

import uuid
from contextlib import suppress
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core
from managed_agents_actors.testing import (
    Fault,
    FaultPlan,
    LoseRequest,
    RecordingHandler,
    RefuseWith,
    ThrowInStream,
    call_tool,
    open_agentcore_simulator,
    say,
)

from ._harness import Cut, Harness, Part, Pause, Refuse, calls, done, meta, open_harness, says, start, stop, throw, txt

AGAIN = [{"role": "user", "content": [{"text": "again"}]}]


async def forever(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    await trio.sleep_forever()
    raise AssertionError


async def echo(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    return "r"


def open_session(harness: Harness, handler: Any = echo, **options: Any) -> Any:
    return maa.open_session(bedrock_agent_core, handler=handler, **{**harness.options, **options})


# --- interrupts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ticks", range(90))
async def test_after_an_interrupt_has_returned_nothing_of_the_request_goes_on(
    ticks: int, autojump_clock: MockClock
) -> None:
    handler = RecordingHandler(echo)
    async with (
        open_harness(calls("A", "B"), calls("C"), says("done"), says("settled")) as harness,
        open_session(harness, handler) as session,
        session.subscribe() as terminals,
    ):
        await session.message("go")
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        await session.interrupt()
        run, sent = len(handler.calls), len(harness.sent)
        result = await terminals.receive()
        await trio.sleep(100)
        if result.stop_reason == "interrupted":
            assert result.terminal == "terminated"
            assert (len(handler.calls), len(harness.sent)) == (run, sent)
        else:
            assert (result.terminal, result.text) == ("end_turn", "done")
        await session.ask("again")
        assert harness.told.count(AGAIN) == 1


@pytest.mark.parametrize("ends", ["interrupt", "deadline"])
async def test_a_message_is_cut_short_while_the_harness_still_has_not_said_that_it_has_it(
    ends: str, autojump_clock: MockClock
) -> None:
    timeout = 5.0 if ends == "deadline" else None
    async with (
        open_harness(Refuse(200, "", before=Pause(9.0)), says("Hi")) as harness,
        open_session(harness, timeout=timeout) as session,
        session.subscribe() as terminals,
    ):
        began = trio.current_time()

        async def tell() -> None:
            with suppress(maa.SessionTimeout):
                await session.message("go")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell)
            await trio.sleep(5.5)
            if ends == "interrupt":
                await session.interrupt()
            result = await terminals.receive()
            assert trio.current_time() - began < 10
            if ends == "interrupt":
                assert (result.terminal, result.stop_reason, result.error) == ("terminated", "interrupted", None)
            else:
                assert result.error is not None
                assert result.error.type == "SessionTimeout"
        assert (await session.ask("again")).text == "Hi"
        assert len(harness.sent) == 2


@pytest.mark.parametrize("ends", ["interrupt", "deadline"])
async def test_a_message_that_waits_for_cancelled_calls_to_be_settled_is_given_up_unsent(
    ends: str, autojump_clock: MockClock
) -> None:
    timeout = 10.0 if ends == "deadline" else None
    settling: list[Part] = [start(), txt("Never mind."), Pause(400.0)]
    async with (
        open_harness(calls("A"), settling, says("Hi")) as harness,
        open_session(harness, forever, timeout=timeout) as session,
        session.subscribe() as terminals,
    ):
        await session.message("go")
        await trio.sleep(5)
        await session.interrupt()
        assert (await terminals.receive()).stop_reason == "interrupted"
        async with trio.open_nursery() as nursery:

            async def tell() -> None:
                with suppress(maa.SessionTimeout):
                    await session.message("never sent")

            nursery.start_soon(tell)
            await trio.sleep(11)
            if ends == "interrupt":
                await session.interrupt()
            await terminals.receive()
        await trio.sleep(1000)
        assert [body for body in harness.told if "never sent" in str(body)] == []
        assert (await session.ask("again")).text == "Hi"
        assert harness.told[-1] == AGAIN


async def test_a_crash_while_cancelled_calls_are_settled_sends_nothing_twice(autojump_clock: MockClock) -> None:
    settling: list[Part] = [start(), txt("Never mind."), Pause(20.0), done(), stop()]
    async with open_harness(calls("A"), settling, says("Hi")) as harness, maa.open_supervisor() as supervisor:
        session = await supervisor.start_session(bedrock_agent_core, handler=forever, **harness.options)
        async with session.subscribe() as terminals:
            await session.message("go")
            await trio.sleep(1)
            await session.interrupt()
            await terminals.receive()
            async with trio.open_nursery() as nursery:
                results: list[maa.SessionResult] = []

                async def ask() -> None:
                    results.append(await session.ask("again"))

                nursery.start_soon(ask)
                await trio.sleep(5)
                maa.testing.crash_session(session, RuntimeError("a defect"))
        assert [result.text for result in results] == ["Hi"]
        assert harness.told[2:] == [AGAIN]


async def test_a_harness_that_goes_on_calling_tools_is_not_settled_for_ever(autojump_clock: MockClock) -> None:
    more = [calls(f"A{number}") for number in range(20)]
    async with open_harness(calls("A"), *more) as harness, open_session(harness, forever, timeout=60.0) as session:
        with trio.move_on_after(5):
            await session.ask("go")
        await session.interrupt()
        with pytest.raises(maa.SessionTimeout):
            await session.ask("again")
    assert len(harness.sent) == 1 + 8 + 1
    assert harness.told[-1] == AGAIN


@pytest.mark.parametrize("refusals", [1, 3])
@pytest.mark.parametrize("ticks", range(0, 40, 2))
async def test_an_interrupt_that_overtakes_a_message_which_is_refused_for_now_keeps_it_from_being_sent(
    ticks: int, refusals: int, autojump_clock: MockClock
) -> None:
    throttled = Refuse(429, "ThrottlingException")
    async with (
        open_harness(*[throttled] * refusals) as harness,
        open_session(harness) as session,
        session.subscribe() as terminals,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.message, "go")
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
            await session.interrupt()
            sent = len(harness.sent)
        if ticks == 0 and sent == 0:
            return  # the session had nothing to interrupt yet
        result = await terminals.receive()
        await trio.sleep(100)
        assert (result.stop_reason == "interrupted") == (len(harness.sent) == sent)


# --- results that may not have arrived --------------------------------------------------------------------------------

LOST_ON_THE_WAY = {
    "refused": RefuseWith(500),
    "lost": LoseRequest(),
    "thrown": ThrowInStream(type="internalServerException"),
}


@pytest.mark.parametrize("lost", LOST_ON_THE_WAY)
@pytest.mark.parametrize("resume", ["documented", "echo"])
async def test_a_session_goes_on_after_results_that_did_not_arrive(
    resume: Any, lost: str, autojump_clock: MockClock
) -> None:
    handler = RecordingHandler(echo)
    plan = FaultPlan([Fault(on="invoke_harness", nth=2, action=LOST_ON_THE_WAY[lost])])
    script = [[call_tool("t"), say("done")], [say("Hi")]]
    async with (
        open_agentcore_simulator(script, transport="memory", faults=plan, resume=resume) as simulator,
        simulator.client() as client,
        maa.open_session(
            bedrock_agent_core,
            client=client,
            harness_arn=simulator.harness_arn,
            runtime_session_id=str(uuid.uuid4()),
            handler=handler,
        ) as session,
    ):
        with pytest.raises((maa.ServerError, maa.TransportError)):
            await session.ask("go")
        assert (await session.ask("again")).terminal == "end_turn"
        assert len(handler.calls) == 1


async def test_a_session_goes_on_after_a_hand_off_whose_stream_broke(autojump_clock: MockClock) -> None:
    refused = Refuse(400, "ValidationException")
    async with (
        open_harness([*calls("A"), Cut()], refused, says("settled"), says("Hi")) as harness,
        open_session(harness) as session,
    ):
        with pytest.raises(maa.StreamLost):
            await session.ask("go")
        assert (await session.ask("again")).text == "Hi"
    assert [len(messages) for messages in harness.told] == [1, 1, 2, 1]
    assert harness.told[1] == harness.told[3] == AGAIN


async def test_a_quota_that_is_used_up_is_no_sign_that_the_harness_waits_for_calls(autojump_clock: MockClock) -> None:
    unclear, used_up = Refuse(500, "InternalServerException"), [throw("serviceQuotaExceededException")]
    async with open_harness(calls("A"), unclear, used_up, says("Hi")) as harness, open_session(harness) as session:
        with pytest.raises(maa.ServerError):
            await session.ask("go")
        with pytest.raises(maa.InvalidRequestError) as caught:
            await session.ask("again")
        assert caught.value.status == 402
        assert harness.told[2:] == [AGAIN]


async def test_a_message_that_is_invalid_by_itself_is_told_to_be(autojump_clock: MockClock) -> None:
    async with open_harness(Refuse(400, "ValidationException")) as harness, open_session(harness) as session:
        with pytest.raises(maa.InvalidRequestError):
            await session.ask("go")
    assert len(harness.sent) == 1


# --- stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "cancel", "timeout", "leave"])
@pytest.mark.parametrize("at", ["tool", "stream"])
async def test_the_work_is_stopped_at_the_service_too_if_that_is_wanted(
    how: str, at: str, autojump_clock: MockClock
) -> None:
    script = calls("A") if at == "tool" else [start(), txt("Hel"), Pause()]
    async with open_harness(script) as harness:
        with trio.move_on_after(5 if how == "cancel" else 1_000):
            async with open_session(
                harness, forever, stop_on_cancel=True, timeout=5.0 if how == "timeout" else None
            ) as session:
                await session.message("go")
                await trio.sleep(2)
                if how == "stop":
                    await session.stop()
                elif how != "leave":
                    await trio.sleep(10)
        await trio.sleep(1)
    assert len(harness.stops) == 1


async def test_a_session_at_rest_is_not_stopped_at_the_service(autojump_clock: MockClock) -> None:
    async with open_harness(says("Hi")) as harness, open_session(harness, stop_on_cancel=True) as session:
        await session.ask("go")
    assert harness.stops == []


# --- defects ----------------------------------------------------------------------------------------------------------


async def test_a_defect_of_a_transport_ends_one_request_and_no_session_beside_it(autojump_clock: MockClock) -> None:
    class Broken:
        def __init__(self) -> None:
            self.defect = False

        async def __call__(self, host: str, port: int) -> trio.abc.Stream:
            if self.defect:
                raise RuntimeError("a defect")
            return await self.dial(host, port)

        dial: Any

    dialler = Broken()
    async with (
        open_harness(says("one"), says("two"), dialler=dialler) as harness,
        maa.open_supervisor(max_restarts=0) as supervisor,
    ):
        one = await supervisor.start_session(bedrock_agent_core, handler=echo, **harness.options)
        other = await supervisor.start_session(bedrock_agent_core, handler=echo, **harness.options)
        dialler.defect = True
        with pytest.raises(maa.TransportError, match="RuntimeError") as caught:
            await one.ask("go")
        assert isinstance(caught.value.__cause__, RuntimeError)
        dialler.defect = False
        assert (await other.ask("go")).text == "one"
        assert (await one.ask("go")).text == "two"


async def test_an_event_that_is_named_like_one_of_ours_is_only_reported(autojump_clock: MockClock) -> None:
    from managed_agents_actors.testing._aws_frames import event_frame

    odd = [event_frame("managed_agents.fact", {"x": 1}), event_frame("managed_agents.text_delta", {"text": "no"})]
    async with open_harness([start(), *odd, txt("Hi"), done(), stop(), meta(1, 1)]) as harness:
        result = await maa.run_session(bedrock_agent_core, handler=echo, prompt="go", **harness.options)
    assert result.text == "Hi"
    assert [event["type"] for event in result.events].count("unrecognised") == 2


async def test_a_client_of_another_region_is_refused_before_anything_is_sent(autojump_clock: MockClock) -> None:
    async with open_harness(region="us-east-1") as harness:
        with pytest.raises(maa.ConfigurationError, match="eu-west-1"):
            await maa.run_session(bedrock_agent_core, handler=echo, prompt="go", **harness.options)
    assert harness.sent == []


# --- many turns -------------------------------------------------------------------------------------------------------


async def test_a_long_session_shows_each_event_once_and_each_turn_its_own(autojump_clock: MockClock) -> None:
    seen: list[Any] = []

    class Watcher:
        async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
            return "r"

        async def handle_event(self, event: dict[str, Any], context: maa.EventContext) -> None:
            seen.append(event.get("id"))

    script = [turn for number in range(8) for turn in (calls(f"A{number}"), says(f"turn {number}"))]
    async with open_harness(*script) as harness, open_session(harness, Watcher()) as session:
        results = [await session.ask(str(number)) for number in range(8)]
    assert [result.text for result in results] == [f"turn {number}" for number in range(8)]
    assert {len(result.events) for result in results} == {11}
    ids = [event["id"] for result in results for event in result.events]
    assert [seen_id for seen_id in seen if seen_id is not None] == ids
    assert len(set(ids)) == len(ids)
