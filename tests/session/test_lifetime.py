"""How a live session ends, what it shows until then, how much it takes, and the deadlines of its requests. LIF-01."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    Delay,
    DropStream,
    Fault,
    FaultPlan,
    RefuseWith,
    call_tool,
    open_claude_simulator,
    say,
    spend,
    wait,
)

from ..channels import drained


def _user(text: str) -> dict[str, Any]:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


# --- stop and wait_closed ---------------------------------------------------------------------------------------------


async def test_stop_ends_what_is_under_way_with_one_terminal_each(
    tools: Any, simulate: Any, autojump_clock: MockClock
) -> None:
    handler = tools(1000)
    refused: list[str] = []
    async with simulate([[call_tool("t")]]) as place:
        async with place.open(handler) as session, session.subscribe() as terminals:
            async with trio.open_nursery() as nursery:

                async def caller(text: str) -> None:
                    with pytest.raises(maa.ActorGone, match="stopped"):
                        await session.ask(text)
                    refused.append(text)

                nursery.start_soon(caller, "busy")
                await wait_all_tasks_blocked()
                nursery.start_soon(caller, "queued")
                await wait_all_tasks_blocked()
                began = trio.current_time()
                await session.stop()
                assert trio.current_time() == began
            heard = [result async for result in terminals]
            assert session.status().phase == "closed"
            await session.stop()
            await session.wait_closed()
        assert place.look(session).open_streams == 0
        # The session at the provider stays as it is.
        assert [event["type"] for event in place.inputs(session)] == ["user.message"]
        assert len(place.look(session).pending) == 1
    assert sorted(refused) == ["busy", "queued"]
    assert [(r.terminal, r.error.type) for r in heard if r.error] == [("terminated", "ActorGone")] * 2
    assert [call_id for call_id, _at in handler.cancelled] == handler.started


async def test_wait_closed_waits_for_the_end(simulate: Any, autojump_clock: MockClock) -> None:
    ended: list[float] = []
    async with simulate() as place, place.open() as session:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def waiter() -> None:
                await session.wait_closed()
                ended.append(trio.current_time() - began)

            for _ in range(3):
                nursery.start_soon(waiter)
            await trio.sleep(5)
            await session.stop()
    assert ended == [5, 5, 5]


async def test_leaving_the_block_stops_the_session_which_can_be_resumed(
    tools: Any, simulate: Any, autojump_clock: MockClock
) -> None:
    async with simulate([[say("one")], [say("two")]]) as place:
        async with place.open() as session:
            await session.ask("go")
        assert place.look(session).open_streams == 0
        options = {"handler": tools(), "client": place.client, "session_id": session.session_id}
        async with maa.open_session(claude_managed_agents, **options) as resumed:
            assert (await resumed.ask("on")).text == "two"
        assert resumed.session_id == session.session_id


async def test_the_failure_of_the_body_comes_out_bare(simulate: Any, autojump_clock: MockClock) -> None:
    failure = KeyError("the caller's own")
    async with simulate([[wait(100)]]) as place:
        with pytest.raises(KeyError) as caught:
            async with place.open() as session:
                await session.message("go")
                raise failure
        assert place.look(session).open_streams == 0
    assert caught.value is failure


# --- after the end ----------------------------------------------------------------------------------------------------

CALLS: dict[str, Callable[[maa.Session], Awaitable[Any]]] = {
    "message": lambda session: session.message("x"),
    "ask": lambda session: session.ask("x"),
    "send_event": lambda session: session.send_event(_user("x")),
    "interrupt": lambda session: session.interrupt(),
    "confirm": lambda session: session.confirm("u", "allow"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("when", ["stopped", "left"])
async def test_calls_after_the_end_say_so(call: str, when: str, simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place:
        async with place.open() as session:
            await session.ask("go")
            if when == "stopped":
                await session.stop()
                with pytest.raises(maa.ActorGone):
                    await CALLS[call](session)
        with pytest.raises(maa.ActorGone):
            await CALLS[call](session)
        await session.stop()
        await session.wait_closed()
        async with session.subscribe() as terminals:
            with pytest.raises(trio.EndOfChannel):
                await terminals.receive()
        async with session.events() as feed:
            with pytest.raises(trio.EndOfChannel):
                await feed.receive()
    assert session.status().phase == "closed"


# --- status and repr --------------------------------------------------------------------------------------------------


async def test_status_tells_where_a_session_stands(tools: Any, simulate: Any, autojump_clock: MockClock) -> None:
    script = [[spend(input_tokens=10), call_tool("t"), say("done")]]
    async with simulate(script) as place:
        async with place.open(tools(5), name="customer-42") as session, session.subscribe() as terminals:
            await wait_all_tasks_blocked()
            assert (session.name, session.session_id) == ("customer-42", session.status().session_id)
            shown = session.status()
            assert (shown.phase, shown.busy, shown.turns, shown.queued_messages) == ("live", False, 0, 0)
            assert (shown.reconnects, shown.restarts, shown.mailbox_depth, shown.tools_running) == (0, 0, 0, ())
            assert repr(session) == f"<Session 'customer-42' {session.session_id} live>"
            await session.message("go")
            await session.message("next")
            await trio.sleep(1)
            shown = session.status()
            assert (shown.busy, shown.turns, shown.queued_messages) == (True, 1, 1)
            assert shown.tools_running == place.look(session).pending
            assert shown.usage.input_tokens == 10
            assert repr(session) == f"<Session 'customer-42' {session.session_id} live busy>"
            await terminals.receive()
            await terminals.receive()
            shown = session.status()
            assert (shown.busy, shown.turns, shown.queued_messages, shown.tools_running) == (False, 1, 0, ())
        assert session.status().phase == "closed"
        assert repr(session) == f"<Session 'customer-42' {session.session_id} closed>"


async def test_status_while_the_stream_is_attached_and_lost(simulate: Any, autojump_clock: MockClock) -> None:
    faults = FaultPlan(
        [
            Fault(on="stream", action=Delay(2.0), nth=1),
            Fault(on="stream", action=DropStream(after_events=0), nth=1),
            Fault(on="stream", action=RefuseWith(503), nth=2),
        ]
    )
    policy = maa.ReconnectPolicy(initial=4.0, jitter=0.0)
    async with simulate(faults=faults) as place, place.open(reconnect=policy) as session:
        assert repr(session) == f"<Session {session.session_id} attaching>"
        await trio.sleep(3)
        assert (session.status().phase, session.status().reconnects) == ("reconnecting", 0)
        await trio.sleep(4)  # the second stream was refused
        assert (session.status().phase, session.status().reconnects) == ("reconnecting", 1)
        assert await session.message("meanwhile") == "queued"
        async with session.subscribe() as terminals:
            assert (await terminals.receive()).text == "meanwhile"
        assert (session.status().phase, session.status().reconnects) == ("live", 2)


# --- pressure ---------------------------------------------------------------------------------------------------------


async def test_more_messages_than_may_wait_are_refused(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([[wait(10), say("one")]]) as place, place.open() as session:
        await session.message("busy")
        for number in range(256):
            assert await session.message(str(number)) == "queued"
        with pytest.raises(maa.MailboxFull, match="256 messages wait"):
            await session.message("too many")
        with pytest.raises(maa.MailboxFull, match="256 messages wait"):
            await session.ask("too many")
        assert session.status().queued_messages == 256
        async with session.subscribe() as terminals:
            texts = [(await terminals.receive()).text for _ in range(257)]
        assert texts == ["one", *map(str, range(256))]


async def test_more_callers_than_the_mailbox_holds_are_all_answered(simulate: Any, autojump_clock: MockClock) -> None:
    answered: list[int] = []
    async with simulate() as place, place.open() as session, trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()

        async def caller(number: int) -> None:
            await session.interrupt()
            answered.append(number)

        for number in range(1000):
            nursery.start_soon(caller, number)
    assert sorted(answered) == list(range(1000))


# --- LIF-01: deadlines ------------------------------------------------------------------------------------------------

SLOW_TOOL = [spend(input_tokens=10, output_tokens=5), say("partial"), call_tool("t"), say("never")]


async def test_lif_01_deadline_while_a_tool_hangs(tools: Any, simulate: Any, autojump_clock: MockClock) -> None:
    handler = tools(4)
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    async with simulate(SLOW_TOOL) as place:
        began = trio.current_time()
        with pytest.raises(maa.SessionTimeout, match=r"within 0\.3 seconds") as caught:
            await maa.run_session(
                claude_managed_agents, handler=handler, prompt="go", timeout=0.3, notify=told, **place.options
            )
        assert round(trio.current_time() - began, 6) == 0.3
        result = caught.value.result
        assert [(call_id, round(at - began, 6)) for call_id, at in handler.cancelled] == [(handler.started[0], 0.3)]
        await wait_all_tasks_blocked()
        seen = place.look(result)
        assert seen.open_streams == 0
        # The provider is told to stop, once, and gets no answer.
        assert [e["type"] for e in place.inputs(result)][:2] == ["user.message", "user.interrupt"]
        assert sum(request.path.endswith("/events") for request in place.simulator.requests) == 2
        assert seen.status == "idle"
    assert isinstance(caught.value, TimeoutError)
    assert (result.terminal, result.text, result.resumable) == ("terminated", "partial", True)
    assert result.usage.input_tokens >= 10
    assert [event["id"] for event in result.events] == [event["id"] for event in seen.events][: len(result.events)]
    assert drained(hears) == [result]


async def test_lif_01_each_request_of_a_live_session_has_its_own_deadline(
    tools: Any, simulate: Any, autojump_clock: MockClock
) -> None:
    script = [[say("one")], SLOW_TOOL, [wait(0.2), say("three")]]
    async with (
        simulate(script) as place,
        place.open(tools(4), timeout=0.3) as session,
        session.subscribe() as terminals,
    ):
        await session.ask("one")
        await trio.sleep(10)
        began = trio.current_time()
        with pytest.raises(maa.SessionTimeout) as caught:
            await session.ask("two")
        assert round(trio.current_time() - began, 6) == 0.3
        third = await session.ask("three")
        heard = drained(terminals)
    assert third.text == "three"
    assert [(r.text, r.terminal) for r in heard] == [
        ("one", "end_turn"),
        ("partial", "terminated"),
        ("three", "end_turn"),
    ]
    assert caught.value.result == heard[1]


async def test_lif_01_the_wait_in_the_queue_is_not_counted(simulate: Any, autojump_clock: MockClock) -> None:
    script = [[wait(0.2), say("one")], [wait(0.2), say("two")]]
    async with simulate(script) as place, place.open(timeout=0.3) as session:
        await session.message("one")
        assert (await session.ask("two")).text == "two"


@pytest.mark.parametrize("operation", ["create_session", "stream", "send_events"])
async def test_lif_01_the_deadline_of_a_run_holds_wherever_the_provider_is_slow(
    tools: Any, operation: str, simulate: Any, autojump_clock: MockClock
) -> None:
    faults = FaultPlan([Fault(on=operation, action=Delay(50.0))])
    async with simulate([say("hi")], faults=faults) as place:
        began = trio.current_time()
        with pytest.raises(maa.SessionTimeout):
            await maa.run_session(claude_managed_agents, handler=tools(), prompt="go", timeout=5.0, **place.options)
        took = trio.current_time() - began
    assert 5 <= took <= 7  # two seconds of grace for the interrupt, where one is needed


async def test_the_caller_may_set_a_deadline_of_its_own(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([[wait(100), say("late")]]) as place, place.open() as session:
        with pytest.raises(trio.TooSlowError), trio.fail_after(5):
            await session.ask("go")
        # The request goes on: its terminal is for the subscribers.
        async with session.subscribe() as terminals:
            assert (await terminals.receive()).text == "late"


async def test_a_session_over_real_sockets(
    tools: Any,
) -> None:
    async with (
        open_claude_simulator([call_tool("t"), say("done")], transport="loopback") as simulator,
        simulator.client() as client,
        maa.open_session(
            claude_managed_agents,
            handler=tools(),
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
        ) as session,
    ):
        result = await session.ask("go")
        await session.interrupt()
        assert (result.terminal, result.last_text) == ("end_turn", "done")
        assert simulator.session(session.session_id).open_streams == 1
