"""The handle of a live session: what each of its methods waits for, gives and raises, and what its session shows."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.testing import (
    Delay,
    Fault,
    FaultPlan,
    ask,
    call_tool,
    call_tools,
    say,
    think,
    wait,
)

from ..channels import drained


def _user(text: str) -> dict[str, Any]:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


# --- message and ask --------------------------------------------------------------------------------------------------


async def test_a_message_is_delivered_or_queued(simulate: Any, autojump_clock: MockClock) -> None:
    slow = FaultPlan([Fault(on="send_events", action=Delay(2.0), nth=1)])
    async with simulate([[wait(3), say("one")]], faults=slow) as place, place.open() as session:
        await wait_all_tasks_blocked()
        began = trio.current_time()
        assert await session.message("first") == "delivered"
        assert trio.current_time() - began == 2  # not before the provider has it
        assert await session.message("second") == "queued"
        assert await session.message("third") == "queued"
        assert trio.current_time() - began == 2
        assert session.status().queued_messages == 2
        async with session.subscribe() as terminals:
            assert [(await terminals.receive()).text for _ in range(3)] == ["one", "second", "third"]
        assert [event["content"] for event in place.inputs(session)] == [
            _user(text)["content"] for text in ("first", "second", "third")
        ]


async def test_ask_gives_what_subscribers_hear(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([call_tool("t"), say("done")]) as place, place.open() as session:
        async with session.subscribe() as one, session.subscribe() as two:
            result = await session.ask([{"type": "text", "text": "go"}])
            assert drained(one) == drained(two) == [result]
        assert (result.session_id, result.turns, result.last_text) == (session.session_id, 2, "done")


@pytest.mark.parametrize("content", ["", [], 3, None, [{"text": "no type"}], ["text"]])
@pytest.mark.parametrize("method", ["message", "ask"])
async def test_content_that_cannot_be_sent_is_refused_here(
    content: Any, method: str, simulate: Any, autojump_clock: MockClock
) -> None:
    async with simulate() as place, place.open() as session:
        with pytest.raises(maa.ConfigurationError, match="content"):
            await getattr(session, method)(content)
        assert (await session.ask("fine")).text == "fine"
        assert len(place.inputs(session)) == 1


async def test_every_caller_gets_an_error_of_its_own(simulate: Any, autojump_clock: MockClock) -> None:
    errors: list[BaseException] = []
    async with simulate([[wait(100)]]) as place, place.open() as session, trio.open_nursery() as nursery:

        async def caller() -> None:
            with pytest.raises(maa.ActorGone) as caught:
                await session.ask("go")
            errors.append(caught.value)

        for _ in range(3):
            nursery.start_soon(caller)
        await wait_all_tasks_blocked()
        await session.stop()
    assert len({id(error) for error in errors}) == 3


# --- send_event -------------------------------------------------------------------------------------------------------


async def test_send_event_gives_the_providers_echo(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, place.open() as session, session.subscribe() as terminals:
        (echo,) = await session.send_event(_user("raw"))
        assert (echo["type"], echo["content"]) == ("user.message", _user("raw")["content"])
        assert (await terminals.receive()).text == "raw"
        assert echo["id"] in [event["id"] for event in place.inputs(session)]


@pytest.mark.parametrize("event", [{}, {"type": 3}, [], "user.message", None])
async def test_what_is_no_event_is_refused_here(event: Any, simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, place.open() as session:
        with pytest.raises(maa.ConfigurationError, match='"type"'):
            await session.send_event(event)
        assert place.inputs(session) == []


async def test_an_event_the_provider_refuses_raises_and_harms_nothing(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, place.open() as session:
        with pytest.raises(maa.InvalidRequestError) as caught:
            await session.send_event({"type": "made.up"})
        assert caught.value.status == 400
        assert (await session.ask("fine")).text == "fine"


# --- interrupt --------------------------------------------------------------------------------------------------------


async def test_an_interrupt_cancels_the_running_tools_at_once(
    tools: Any, simulate: Any, autojump_clock: MockClock
) -> None:
    handler = tools(100)
    slow = FaultPlan([Fault(on="send_events", action=Delay(2.0), nth=2)])
    async with (
        simulate([call_tools(("a", {}), ("b", {})), say("never")], faults=slow) as place,
        place.open(handler) as session,
        session.subscribe() as terminals,
    ):
        await session.message("go")
        await trio.sleep(1)
        assert session.status().tools_running == tuple(sorted(handler.started))
        began = trio.current_time()
        await session.interrupt()
        assert trio.current_time() - began == 2  # waits until the provider has it
        assert sorted(handler.cancelled) == sorted((call_id, began) for call_id in handler.started)
        assert session.status().tools_running == ()
        result = await terminals.receive()
        assert (result.terminal, result.stop_reason, result.error) == ("end_turn", {"type": "end_turn"}, None)
        kinds = [event["type"] for event in place.inputs(session)]
        assert kinds[:2] == ["user.message", "user.interrupt"]
        again = await session.ask("again")
        assert (again.text, again.turns) == ("again", 1)
        assert drained(terminals) == [again]


async def test_an_interrupt_cuts_the_models_own_work(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([[say("begun"), wait(1000), say("never")]]) as place, place.open() as session:
        await session.message("go")
        await trio.sleep(1)
        async with session.subscribe() as terminals:
            await session.interrupt()
            result = await terminals.receive()
    assert (result.terminal, result.text) == ("end_turn", "begun")


async def test_an_interrupt_without_a_request_does_nothing(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, place.open() as session:
        await session.ask("go")
        await wait_all_tasks_blocked()
        requests = len(place.simulator.requests)
        await session.interrupt()
        assert len(place.simulator.requests) == requests


async def test_queued_messages_go_out_after_an_interrupt(tools: Any, simulate: Any, autojump_clock: MockClock) -> None:
    async with (
        simulate([[call_tool("t")]]) as place,
        place.open(tools(1000)) as session,
        session.subscribe() as terminals,
    ):
        await session.message("go")
        assert await session.message("next") == "queued"
        await wait_all_tasks_blocked()
        await session.interrupt()
        first, second = await terminals.receive(), await terminals.receive()
    assert (first.text, second.text) == ("", "next")


# --- confirm ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("verdict", "message"), [("allow", None), ("deny", None), ("deny", "no shell")])
async def test_confirm_lets_the_session_go_on(
    verdict: Any, message: str | None, simulate: Any, autojump_clock: MockClock
) -> None:
    async with (
        simulate([ask("bash"), say("done")]) as place,
        place.open() as session,
        session.subscribe() as terminals,
    ):
        waiting = await session.ask("go")
        assert waiting.terminal == "requires_action"
        (use,) = waiting.server_tool_uses
        await session.confirm(use.id, verdict, message)
        assert await terminals.receive() == waiting
        result = await terminals.receive()
        (sent,) = [event for event in place.inputs(session) if event["type"] == "user.tool_confirmation"]
    assert (sent["tool_use_id"], sent["result"], sent.get("deny_message")) == (use.id, verdict, message)
    assert (result.terminal, result.last_text) == ("end_turn", "done")


async def test_confirm_raises_what_the_provider_refuses(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([ask("bash"), say("done")]) as place, place.open() as session:
        waiting = await session.ask("go")
        with pytest.raises(maa.InvalidRequestError):
            await session.confirm("sevt_unknown", "allow")
        assert place.look(session).pending == (waiting.server_tool_uses[0].id,)


@pytest.mark.parametrize("args", [("maybe",), ("allow", "with a message")])
async def test_confirm_refuses_nonsense_here(args: Any, simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, place.open() as session:
        with pytest.raises(maa.ConfigurationError):
            await session.confirm("sevt_1", *args)
        assert place.inputs(session) == []


# --- subscribe and events ---------------------------------------------------------------------------------------------


async def test_a_subscription_hears_what_ends_inside_its_block(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, place.open() as session:
        await session.ask("before")
        async with session.subscribe() as terminals:
            inside = [await session.ask(str(number)) for number in range(5)]
            assert drained(terminals) == inside
        await session.ask("after")
        with pytest.raises(trio.ClosedResourceError):
            terminals.receive_nowait()


async def test_events_are_raw_and_live_with_the_text_deltas_between(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([say("one two")]) as place:
        async with place.open() as session, session.events() as feed:
            result = await session.ask("go")
            await session.stop()
            seen = [event async for event in feed]
        log = place.look(session).events
    assert [event["id"] for event in seen if "id" in event] == [event["id"] for event in log]
    deltas = [event for event in seen if event["type"] == "managed_agents.text_delta"]
    assert "".join(event["text"] for event in deltas) == result.text == "one two"


async def test_a_reader_of_events_that_falls_behind_is_told_how_many_it_lost(
    simulate: Any, autojump_clock: MockClock
) -> None:
    async with (
        simulate([[*[think()] * 5_000, say("done")]]) as place,
        place.open() as session,
        session.events() as feed,
    ):
        result = await session.ask("go")
        first = await feed.receive()
        await session.stop()
        rest = [event async for event in feed]
    assert first["type"] == "managed_agents.events_dropped"
    assert len(rest) == 4096
    deltas = sum(event["type"] == "managed_agents.text_delta" for event in rest)
    assert first["count"] + len(rest) - deltas == len(result.events)
    assert [e["id"] for e in rest if "id" in e] == [e["id"] for e in result.events][-(4096 - deltas) :]


async def test_a_feed_is_closed_when_its_block_is_left(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, place.open() as session:
        async with session.events() as feed:
            pass
        with pytest.raises(trio.ClosedResourceError):
            await feed.receive()


@pytest.mark.parametrize("how", ["full", "closed"])
async def test_a_notify_channel_that_is_full_or_closed_holds_up_nothing(
    how: str, simulate: Any, autojump_clock: MockClock
) -> None:
    told, hears = trio.open_memory_channel[maa.SessionResult](0)
    if how == "closed":
        hears.close()
    results, heard = [], []
    async with simulate() as place:
        async with place.open(notify=told) as session:
            began = trio.current_time()
            results = [await session.ask(str(number)) for number in range(5)]
            assert trio.current_time() == began
            if how == "full":
                heard = [await hears.receive() for _ in range(5)]
        # The caller's channel is the caller's to close.
        if how == "full":
            assert hears.statistics().open_send_channels == 1
    assert heard == (results if how == "full" else [])
