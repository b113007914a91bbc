"""What a crash makes of tool calls: of one that runs, of one that is done, of one that nobody wants any more."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.testing import (
    CrashSession,
    Delay,
    Fault,
    FaultPlan,
    RecordingHandler,
    RefuseWith,
    ask,
    call_tool,
    call_tools,
    say,
    wait,
)

from ._supervised import attempts, crash, slow, start

RESULT = "user.custom_tool_result"
NOT_RUN_AGAIN = "The tool t was interrupted and is not run again; whether it had an effect is not known."


# --- a call that was running ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("crashes", [1, 2])
async def test_a_call_that_ran_is_run_again_and_told_so(crashes: int, simulate: Any, autojump_clock: MockClock) -> None:
    handler = slow(1.0)
    async with simulate([[call_tool("t"), say("Done.")]]) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, handler)
        await session.message("go")
        for _ in range(crashes):
            await trio.sleep(0.5)
            assert crash(session)
        async with session.subscribe() as terminals:
            result = await terminals.receive()
        assert attempts(handler) == list(range(1, crashes + 2))
        assert {call.id for call in handler.calls} == {result.custom_tool_uses[0].id}
        assert place.answers(session) == [(f"attempt {crashes + 1}", False)]
        assert result.text == "Done."


async def test_a_call_that_ran_fails_if_that_is_wanted(simulate: Any, autojump_clock: MockClock) -> None:
    handler = slow(1.0)
    async with simulate([[call_tool("t"), say("Done.")]]) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, handler, on_interrupted="fail")
        await session.message("go")
        await trio.sleep(0.5)
        crash(session)
        async with session.subscribe() as terminals:
            result = await terminals.receive()
        assert (attempts(handler), result.text) == ([1], "Done.")
        assert place.answers(session) == [(NOT_RUN_AGAIN, True)]


async def test_only_the_call_that_was_cut_off_runs_again(simulate: Any, autojump_clock: MockClock) -> None:
    async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        await trio.sleep(input["seconds"])
        return name

    handler = RecordingHandler(tool)
    calls = [("quick", {"seconds": 0.1}), ("slow", {"seconds": 1.0}), ("later", {"seconds": 1.0})]
    async with simulate([[call_tools(*calls), say("Done.")]]) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, handler, max_tool_concurrency=2)
        await session.message("go")
        await trio.sleep(0.05)
        assert len(handler.calls) == 2
        await trio.sleep(0.5)
        crash(session)
        async with session.subscribe() as terminals:
            await terminals.receive()
        seen = [(call.name, call.context.attempt) for call in handler.calls]
        assert seen[:3] == [("quick", 1), ("slow", 1), ("later", 1)]
        assert sorted(seen[3:]) == [("later", 2), ("slow", 2)]
        assert sorted(place.answers(session)) == [("later", False), ("quick", False), ("slow", False)]


# --- a call that was done ---------------------------------------------------------------------------------------------

# Where the actor crashes between a tool's return and the provider's word that it has the result.
BETWEEN = {
    "before the provider took it": [Fault(on="send_events", sending=RESULT, action=CrashSession())],
    "after the provider took it": [Fault(on="send_events", sending=RESULT, action=CrashSession(when="after"))],
    "twice before": [Fault(on="send_events", sending=RESULT, action=CrashSession(), times=2)],
    "twice after": [Fault(on="send_events", sending=RESULT, action=CrashSession(when="after"), times=2)],
}


@pytest.mark.parametrize("on_interrupted", ["rerun", "fail"])
@pytest.mark.parametrize("when", BETWEEN)
async def test_a_result_is_sent_again_and_its_call_not_run_again(
    when: str, on_interrupted: str, simulate: Any, autojump_clock: MockClock
) -> None:
    plan, handler = FaultPlan(BETWEEN[when]), slow(0.1)
    async with (
        simulate([[call_tool("t"), say("Done.")]], faults=plan) as place,
        maa.open_supervisor() as supervisor,
    ):
        session = await start(supervisor, place, handler, on_interrupted=on_interrupted)
        plan.bind(session)
        result = await session.ask("go")
        assert session.status().restarts >= 1
        assert attempts(handler) == [1]
        assert place.answers(session) == [("attempt 1", False)]
        assert (result.text, result.turns) == ("Done.", 2)


async def test_a_journal_of_ones_own_sees_every_step(simulate: Any, autojump_clock: MockClock) -> None:
    steps: list[str] = []

    inner = maa.MemoryJournal()

    class Listening:
        async def begin(self, session_id: str, use: maa.ToolUse) -> maa.JournalEntry:
            entry = await inner.begin(session_id, use)
            steps.append(f"begin {entry.attempt}")
            return entry

        async def finish(self, session_id: str, result: maa.ToolResult) -> None:
            await inner.finish(session_id, result)
            steps.append("finish")

        async def settle(self, session_id: str, tool_use_id: str) -> None:
            await inner.settle(session_id, tool_use_id)
            steps.append("settle")

        async def forget(self, session_id: str) -> None:
            await inner.forget(session_id)
            steps.append("forget")

    async with simulate([[call_tool("t"), say("Done.")]]) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, slow(1.0), journal=Listening())
        await session.message("go")
        await trio.sleep(0.5)
        crash(session)
        async with session.subscribe() as terminals:
            await terminals.receive()
        assert steps == ["begin 1", "begin 2", "finish", "settle"]


# --- a call that nobody wants any more --------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0.0, 1.0], ids=["taken", "on its way"])
async def test_an_interrupted_call_is_not_run_again(delay: float, simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="send_events", sending="user.interrupt", action=Delay(delay))])
    handler = slow(100.0)
    script = [[call_tool("t"), say("never")], [say("Next.")]]
    async with simulate(script, faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, handler)
        async with session.subscribe() as terminals, trio.open_nursery() as nursery:
            await session.message("go")
            await trio.sleep(0.5)
            nursery.start_soon(session.interrupt)
            await trio.sleep(0.5)
            crash(session)
            interrupted = await terminals.receive()
        assert (interrupted.terminal, interrupted.text) == ("end_turn", "")
        assert (await session.ask("and?")).text == "Next."
        assert attempts(handler) == [1]
        assert [event["type"] for event in place.inputs(session)].count("user.interrupt") == 1


async def test_a_call_of_a_request_that_timed_out_is_not_run_again(simulate: Any, autojump_clock: MockClock) -> None:
    handler = slow(100.0)
    plan = FaultPlan([Fault(on="send_events", sending="user.interrupt", action=Delay(1.0))])
    script = [[call_tool("t"), say("never")], [say("Next.")]]
    async with simulate(script, faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, handler, timeout=3.0)
        with pytest.raises(maa.SessionTimeout):
            await session.ask("go")
        crash(session)
        assert (await session.ask("and?")).text == "Next."
        assert attempts(handler) == [1]


# --- calls that are gated ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", ["allow", "deny"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_confirmation_may_be_given_after_a_crash(
    verdict: Any, when: Any, simulate: Any, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="send_events", sending="user.tool_confirmation", action=CrashSession(when=when))])
    async with (
        simulate([[ask("bash"), say("Done.")]], faults=plan) as place,
        maa.open_supervisor() as supervisor,
    ):
        session = await start(supervisor, place)
        result = await session.ask("go")
        assert result.terminal == "requires_action"
        crash(session)
        await trio.sleep(0.1)
        plan.bind(session)
        async with session.subscribe() as terminals:
            await session.confirm(result.stop_reason["event_ids"][0], verdict)
            end = await terminals.receive()
        assert session.status().restarts == 2
        assert (end.terminal, end.text) == ("end_turn", "Done.")
        assert end.events[: len(result.events)] == result.events
        assert [event["type"] for event in place.inputs(session)].count("user.tool_confirmation") == 1


async def test_a_policy_that_was_asked_is_asked_again(simulate: Any, autojump_clock: MockClock) -> None:
    asked: list[float] = []

    class Careful(RecordingHandler):
        async def handle_confirmation(self, use: maa.ToolUse, context: maa.ToolContext) -> str:
            asked.append(trio.current_time())
            await trio.sleep(1.0)
            return "allow"

    async with simulate([[ask("bash"), wait(0.5), say("Done.")]]) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, Careful())
        await session.message("go")
        await trio.sleep(0.5)
        crash(session)
        async with session.subscribe() as terminals:
            assert (await terminals.receive()).text == "Done."
        assert len(asked) == 2
        # Once it has been told to the provider, the verdict is the provider's to know.
        crash(session)
        await trio.sleep(5.0)
        assert len(asked) == 2
        assert [event["type"] for event in place.inputs(session)].count("user.tool_confirmation") == 1


@pytest.mark.parametrize("storm", [0, 3])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_verdict_that_was_on_its_way_is_looked_up_and_the_policy_not_asked_anew(
    when: Any, storm: int, simulate: Any, autojump_clock: MockClock
) -> None:
    class Careful(RecordingHandler):
        asked = 0

        async def handle_confirmation(self, use: maa.ToolUse, context: maa.ToolContext) -> str:
            self.asked += 1
            return "allow"

    faults = [Fault(on="send_events", sending="user.tool_confirmation", action=CrashSession(when=when))]
    if storm:
        faults.append(Fault(on="list_events", action=RefuseWith(429, retry_after=30.0), times=storm))
    plan, careful = FaultPlan(faults), Careful()
    async with simulate([[ask("bash"), say("Done.")]], faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, careful)
        plan.bind(session)
        assert (await session.ask("go")).text == "Done."
        posted = [r.status for r in place.simulator.requests if r.body and "tool_confirmation" in str(r.body)]
    assert careful.asked == 1
    assert posted.count(200) == 1
    assert 400 not in posted
