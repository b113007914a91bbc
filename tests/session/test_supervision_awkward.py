"""Awkward moments: names, stale handles, crowds that give up, reprompts across a crash, calls to be settled."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.testing import DropStream, Fault, FaultPlan, RecordingHandler, call_tool, say

from ._supervised import crash, start


async def slow(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    await trio.sleep(1.0)
    return "r"


class SlowObserver:
    """Takes two seconds over each event."""

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        return "r"

    async def handle_event(self, event: dict[str, Any], context: maa.EventContext) -> None:
        await trio.sleep(2.0)


# --- names and handles ------------------------------------------------------------------------------------------------


async def test_a_terminated_temporary_session_frees_its_name(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, maa.open_supervisor() as supervisor:
        await start(supervisor, place, name="one", restart="temporary")
        await supervisor.terminate_child("one")
        await trio.sleep(1.0)
        with pytest.raises(KeyError):
            supervisor.session("one")
        assert (await (await start(supervisor, place, name="one")).ask("go")).text == "go"


async def test_a_stale_handle_stops_nobody_else(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, maa.open_supervisor() as supervisor:
        old = await start(supervisor, place, SlowObserver(), name="one")
        await old.ask("go")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervisor.terminate_child, "one")
            await trio.sleep(0.5)
            supervisor.delete_child("one")
            new = await start(supervisor, place, name="one")
            nursery.start_soon(old.stop)
        assert (await new.ask("still here?")).text == "still here?"


async def test_a_supervisor_that_has_closed_reopens_nothing(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place:
        async with maa.open_supervisor() as supervisor:
            session = await start(supervisor, place, name="one")
            await supervisor.terminate_child("one")
        with pytest.raises(maa.ActorGone):
            await supervisor.restart_child("one")
        await session.wait_closed()
        await session.stop()
        with pytest.raises(maa.ActorGone):
            await session.ask("go")


async def test_a_task_that_a_tool_has_left_behind_may_ask(simulate: Any, autojump_clock: MockClock) -> None:
    answers: list[str] = []

    async with simulate([[call_tool("t"), say("One.")], [say("Two.")]]) as place, trio.open_nursery() as nursery:

        async def later() -> None:
            await trio.sleep(10.0)
            answers.append((await session.ask("again")).text)

        async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
            nursery.start_soon(later)
            return "r"

        async with place.open(tool) as session:
            await session.ask("go")
            await trio.sleep(20.0)
    assert answers == ["Two."]


# --- giving up --------------------------------------------------------------------------------------------------------


async def test_what_a_crowd_gave_up_waiting_for_is_not_sent(simulate: Any, autojump_clock: MockClock) -> None:
    """More callers than the mailbox has room for give up while there is no stream."""
    away = maa.ReconnectPolicy(initial=20.0, jitter=0.0)
    async with simulate() as place, place.open(reconnect=away) as session, trio.open_nursery() as crowd:
        await session.ask("go")
        place.simulator.drop_streams(session.session_id)
        await trio.sleep(0.1)

        async def give_up() -> None:
            with trio.move_on_after(1.0):
                await session.send_event({"type": "system.message", "content": [{"type": "text", "text": "x"}]})

        for _ in range(400):
            crowd.start_soon(give_up)
        await trio.sleep(60.0)
        assert not [event for event in place.look(session).events if event["type"] == "system.message"]


# --- guards and reprompts ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [0.01, 0.4, 1.0, 1.6, 2.2, 2.8, 3.4])
@pytest.mark.parametrize("guarded", [False, True])
async def test_a_reprompted_request_ends_as_without_a_crash(
    guarded: bool, moment: float, simulate: Any, autojump_clock: MockClock
) -> None:
    script = [[say("a")], [call_tool("other"), say("b")], [say("c")]]
    judged: list[int] = []

    async def guard(turn: maa.TurnResult) -> None:
        await trio.sleep(0.3)
        judged.append(turn.turns)

    options: dict[str, Any] = {"terminal_tool": "final", "require_terminal_tool": True, "max_reprompts": 2}
    if guarded:
        options["turn_guard"] = guard
    async with simulate(script) as place, maa.open_supervisor(max_restarts=9) as supervisor:
        session = await start(supervisor, place, slow, **options)
        async with session.subscribe() as terminals, trio.open_nursery() as nursery:

            async def crash_then() -> None:
                await trio.sleep(moment)
                crash(session)

            nursery.start_soon(crash_then)
            result = await session.ask("go")
            await trio.sleep(10.0)
            assert terminals.statistics().current_buffer_used == 1
        said = [event for event in place.inputs(session) if event["type"] == "user.message"]
        assert (result.text, result.turns, result.stop_reason) == ("a\nb\nc", 4, "no_terminal_tool")
        assert len(said) == 3, "each reprompt once"
    # A verdict that a crash has cut off is asked for again; one that was given is not.
    assert sorted(set(judged)) == ([1, 2, 3, 4] if guarded else [])
    assert len(judged) <= 5


async def test_an_interrupted_reprompt_stays_part_of_its_request(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([[say("a")], [call_tool("other"), say("b")]]) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, slow, terminal_tool="final", require_terminal_tool=True)
        async with session.subscribe() as terminals, trio.open_nursery() as nursery:

            async def cut_and_crash() -> None:
                await trio.sleep(0.5)
                await session.interrupt()
                crash(session)

            nursery.start_soon(cut_and_crash)
            result = await session.ask("go")
            await trio.sleep(10.0)
            assert terminals.statistics().current_buffer_used == 1
        assert result.turns > 1


# --- the journal ------------------------------------------------------------------------------------------------------


async def test_every_call_is_settled_once_it_is_answered(simulate: Any, autojump_clock: MockClock) -> None:
    journal = maa.MemoryJournal()
    plan = FaultPlan([Fault(on="stream", action=DropStream(after_type="user.custom_tool_result"))])
    script = [[call_tool("t"), say("x")] for _ in range(5)]
    async with simulate(script, faults=plan) as place, maa.open_supervisor(max_restarts=100) as supervisor:
        handler = RecordingHandler(slow)
        session = await start(supervisor, place, handler, journal=journal)
        for _ in range(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(session.ask, "go")
                await trio.sleep(1.05)
                crash(session)
        await trio.sleep(5.0)
        for call in handler.calls:
            entry = await journal.begin(
                session.session_id, maa.ToolUse(id=call.context.tool_use_id, name="t", input={})
            )
            assert entry.settled, "its result is in no memory any more, and it never runs again"
