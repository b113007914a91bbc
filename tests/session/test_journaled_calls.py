"""What a journal is for: a session that is taken up again knows which calls ran, which were cut off, which are done."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    Delay,
    Fault,
    FaultPlan,
    call_tool,
    call_tools,
    say,
)

from ._supervised import attempts, slow

RESULT = "user.custom_tool_result"
ONE_CALL = [call_tool("t"), say("Done.")]
NOT_RUN_AGAIN = "The tool t was interrupted and is not run again; whether it had an effect is not known."
NOT_RECORDED = "The tool t was not run: the call could not be recorded."


class Journal:
    """A journal in memory that can be slow, and can fail; it notes what it was told.

    Attributes:
        steps: What was recorded, in order.
        slow: Seconds that a step takes, by its name.
        broken: The steps that fail.
    """

    def __init__(self, *, broken: tuple[str, ...] = (), **slow: float) -> None:
        self._inner = maa.MemoryJournal()
        self.steps: list[str] = []
        self.slow = slow
        self.broken = set(broken)

    async def _step(self, name: str) -> None:
        await trio.sleep(self.slow.get(name, 0.0))
        if name in self.broken:
            raise maa.JournalError("the disk is full")
        self.steps.append(name)

    async def begin(self, session_id: str, use: maa.ToolUse) -> maa.JournalEntry:
        await self._step("begin")
        return await self._inner.begin(session_id, use)

    async def finish(self, session_id: str, result: maa.ToolResult) -> None:
        await self._step("finish")
        await self._inner.finish(session_id, result)

    async def settle(self, session_id: str, tool_use_id: str) -> None:
        await self._step("settle")
        await self._inner.settle(session_id, tool_use_id)

    async def forget(self, session_id: str) -> None:
        await self._step("forget")
        await self._inner.forget(session_id)


async def run(place: Any, handler: Any, **options: Any) -> maa.SessionResult:
    return await maa.run_session(claude_managed_agents, handler=handler, **{**place.options, **options})


async def resume(place: Any, session_id: str, handler: Any, **options: Any) -> maa.SessionResult:
    """Take a session up again as another process would, and wait for the end of what it does."""
    given = {"client": place.client, "session_id": session_id, **options}
    return await maa.run_session(claude_managed_agents, handler=handler, **given)


async def cut_off(place: Any, handler: Any, seconds: float, **options: Any) -> str:
    """Run a session until its process dies; give the session's id."""
    async with maa.open_session(claude_managed_agents, handler=handler, **{**place.options, **options}) as session:
        await session.message("go")
        await trio.sleep(seconds)
    return session.session_id


# --- taken up again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["run", "open"])
async def test_a_call_that_was_cut_off_is_run_again_and_told_so(
    how: str, simulate: Any, autojump_clock: MockClock
) -> None:
    journal, first, second = Journal(), slow(10.0), slow(1.0)
    async with simulate([ONE_CALL]) as place:
        if how == "open":
            session_id = await cut_off(place, first, 1.0, journal=journal)
        else:
            with trio.move_on_after(1.0):
                await run(place, first, journal=journal, prompt="go")
            session_id = first.calls[0].context.session_id
        result = await resume(place, session_id, second, journal=journal)
        assert (attempts(first), attempts(second)) == ([1], [2])
        assert place.answers(result) == [("attempt 2", False)]
        assert (result.terminal, result.text) == ("end_turn", "Done.")
    assert journal.steps == ["begin", "begin", "finish", "settle"]


async def test_a_call_that_was_cut_off_fails_if_that_is_wanted(simulate: Any, autojump_clock: MockClock) -> None:
    journal, second = Journal(), slow(1.0)
    async with simulate([ONE_CALL]) as place:
        session_id = await cut_off(place, slow(10.0), 1.0, journal=journal)
        result = await resume(place, session_id, second, journal=journal, on_interrupted="fail")
        assert (attempts(second), result.text) == ([], "Done.")
        assert place.answers(result) == [(NOT_RUN_AGAIN, True)]


async def test_a_call_that_never_began_is_no_interrupted_one(simulate: Any, autojump_clock: MockClock) -> None:
    journal, first, second = Journal(), slow(10.0), slow(0.0)
    options = {"journal": journal, "on_interrupted": "fail"}
    async with simulate([[call_tools(("t", {}), ("t", {})), say("Done.")]]) as place:
        session_id = await cut_off(place, first, 1.0, max_tool_concurrency=1, **options)
        result = await resume(place, session_id, second, **options)
        assert (len(first.calls), attempts(second)) == (1, [1])
        assert sorted(place.answers(result)) == [(NOT_RUN_AGAIN, True), ("attempt 1", False)]


@pytest.mark.parametrize("on_interrupted", ["rerun", "fail"])
async def test_a_result_that_was_not_accepted_is_sent_again(
    on_interrupted: str, simulate: Any, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="send_events", sending=RESULT, action=Delay(50.0))])
    journal, first, second = Journal(), slow(0.1), slow(0.1)
    async with simulate([ONE_CALL], faults=plan) as place:
        session_id = await cut_off(place, first, 1.0, journal=journal)
        assert journal.steps == ["begin", "finish"]
        result = await resume(place, session_id, second, journal=journal, on_interrupted=on_interrupted)
        assert (attempts(first), attempts(second)) == ([1], [])
        assert place.answers(result) == [("attempt 1", False)]
        assert result.text == "Done."


async def test_a_call_that_was_settled_never_runs_though_a_listing_lags(
    simulate: Any, autojump_clock: MockClock
) -> None:
    journal, second = Journal(), slow(0.0)
    async with simulate([ONE_CALL]) as place:
        session_id = await cut_off(place, slow(10.0), 1.0)
        (call_id,) = place.simulator.session(session_id).pending
        await journal.settle(session_id, call_id)
        result = await resume(place, session_id, second, journal=journal)
        assert attempts(second) == []
        ((text, is_error),) = place.answers(result)
        assert (text, is_error) == ("The tool t has been answered already.", True)


async def test_sessions_share_a_journal(simulate: Any, autojump_clock: MockClock) -> None:
    journal, handler = maa.MemoryJournal(), slow(1.0)
    async with simulate([ONE_CALL]) as place:
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(lambda: run(place, handler, journal=journal))
        assert attempts(handler) == [1, 1, 1]
        assert repr(journal) == "<MemoryJournal: 3 sessions>"


async def test_without_a_journal_nothing_is_known_afterwards(simulate: Any, autojump_clock: MockClock) -> None:
    second = slow(0.0)
    async with simulate([ONE_CALL]) as place:
        session_id = await cut_off(place, slow(10.0), 1.0)
        await resume(place, session_id, second)
        assert attempts(second) == [1]


async def test_a_journal_on_disk_outlives_its_process(tmp_path: Any, simulate: Any) -> None:
    started = trio.Event()

    async def hang(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        started.set()
        await trio.sleep_forever()
        raise AssertionError

    second = slow(0.0)
    async with simulate([ONE_CALL]) as place:
        async with (
            maa.SqliteJournal(tmp_path / "calls.db") as journal,
            maa.open_session(claude_managed_agents, handler=hang, journal=journal, **place.options) as session,
        ):
            await session.message("go")
            await started.wait()
        async with maa.SqliteJournal(tmp_path / "calls.db") as journal:
            await resume(place, session.session_id, second, journal=journal)
        assert attempts(second) == [2]


# --- a journal that is in trouble -------------------------------------------------------------------------------------


async def test_a_call_that_cannot_be_recorded_is_not_run(
    simulate: Any, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    handler = slow(0.0)
    async with simulate([ONE_CALL]) as place:
        result = await run(place, handler, journal=Journal(broken=("begin",)))
        assert (attempts(handler), result.text) == ([], "Done.")
        assert place.answers(result) == [(NOT_RECORDED, True)]
    assert "journal_failed" in caplog.text
    assert "the disk is full" in caplog.text


@pytest.mark.parametrize("step", ["finish", "settle"])
async def test_a_result_that_cannot_be_recorded_is_sent_all_the_same(
    step: str, simulate: Any, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.WARNING, "managed_agents_actors")
    handler = slow(0.0)
    async with simulate([ONE_CALL]) as place:
        result = await run(place, handler, journal=Journal(broken=(step,)))
        assert (attempts(handler), result.text) == ([1], "Done.")
        assert place.answers(result) == [("attempt 1", False)]
    assert "journal_failed" in caplog.text


async def test_a_slow_journal_delays_its_calls_and_nothing_else(simulate: Any, autojump_clock: MockClock) -> None:
    journal, handler = Journal(begin=2.0, finish=3.0, settle=50.0), slow(1.0)
    async with simulate([[*ONE_CALL], [say("Next.")]]) as place, place.open(handler, journal=journal) as session:
        began = trio.current_time()
        assert (await session.ask("go")).text == "Done."
        assert (handler.calls[0].at - began, trio.current_time() - began) == (2.0, 6.0)
        assert (await session.ask("on")).text == "Next."
        assert trio.current_time() - began == 6.0


async def test_a_session_does_not_wait_for_a_journal_that_hangs(
    simulate: Any, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with simulate([ONE_CALL]) as place:
        began = trio.current_time()
        result = await run(place, slow(0.0), journal=Journal(finish=1e6))
        assert result.text == "Done."
        assert trio.current_time() - began < 10.0
    assert "journal_too_slow" in caplog.text


# --- cancelled --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "interrupt", "cancellation"])
async def test_a_result_that_is_there_is_recorded_though_its_session_ends(
    how: str, simulate: Any, autojump_clock: MockClock
) -> None:
    journal, second = Journal(finish=2.0), slow(0.0)
    async with simulate([[*ONE_CALL]]) as place:
        with trio.move_on_after(2.0 if how == "cancellation" else 100.0):
            async with place.open(slow(1.0), journal=journal) as session:
                await session.message("go")
                await trio.sleep(2.0)
                assert journal.steps == ["begin"]
                if how == "interrupt":
                    await session.interrupt()
                    await trio.sleep(5.0)
        assert [step for step in journal.steps if step != "settle"][:2] == ["begin", "finish"]
        if how != "interrupt":
            result = await resume(place, session.session_id, second, journal=journal)
            assert attempts(second) == []
            assert place.answers(result) == [("attempt 1", False)]


async def test_a_call_that_is_cancelled_while_it_is_being_recorded_never_ran(
    simulate: Any, autojump_clock: MockClock
) -> None:
    journal, first, second = Journal(begin=10.0), slow(0.0), slow(0.0)
    async with simulate([[*ONE_CALL]]) as place:
        session_id = await cut_off(place, first, 1.0, journal=journal)
        journal.slow.clear()
        await resume(place, session_id, second, journal=journal, on_interrupted="fail")
        assert (attempts(first), attempts(second)) == ([], [1])
