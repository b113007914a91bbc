"""What a supervisor counts: the sessions that live, and what all that there ever were have done."""

from __future__ import annotations

from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors._session.statistics import Tally, added, statistics_of
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import DropStream, Fault, FaultPlan, call_tool, crash_session, say, wait

SCRIPT = [[call_tool("lookup"), say("One.")], [wait(1), say("Two.")]]


async def start(supervisor: maa.Supervisor, place: Any, name: str, handler: Any, **options: Any) -> maa.Session:
    given = {**place.options, **options}
    return await supervisor.start_session(claude_managed_agents, name=name, handler=handler, **given)


async def test_an_idle_supervisor_has_nothing_to_count(autojump_clock: MockClock) -> None:
    async with maa.open_supervisor() as supervisor:
        statistics = supervisor.statistics()
    assert (statistics.sessions, dict(statistics.phases), statistics.requests) == (0, {}, 0)
    assert statistics.tool_latency == maa.Latency()
    assert statistics.usage == maa.Usage()


async def test_requests_turns_tools_and_tokens_are_counted_over_all_sessions(
    simulate: Any, tools: Any, autojump_clock: MockClock
) -> None:
    async with simulate(SCRIPT) as place, maa.open_supervisor() as supervisor:
        first = await start(supervisor, place, "first", tools(2.0))
        second = await start(supervisor, place, "second", tools(6.0))
        results = [await first.ask("go"), await second.ask("go"), await second.ask("on")]
        statistics = supervisor.statistics()
        assert (statistics.sessions, dict(statistics.phases), statistics.busy) == (2, {"live": 2}, 0)
        assert (statistics.requests, statistics.turns) == (3, sum(result.turns for result in results)) == (3, 5)
        assert (statistics.tool_latency.count, statistics.tool_latency.max, statistics.tool_latency.mean) == (2, 6, 4)
        assert 2 <= statistics.tool_latency.p50 <= 2.5
        assert statistics.tool_latency.p99 == 6
        assert statistics.turn_latency.count == 5
        assert statistics.turn_latency.max >= 6
        spent = statistics.usage
        assert spent.input_tokens == sum(result.usage.input_tokens for result in results) > 0
        assert spent.output_tokens == sum(result.usage.output_tokens for result in results) > 0
        await first.stop()
        later = supervisor.statistics()
        assert (later.sessions, later.requests, later.turns, later.usage) == (1, 3, 5, spent)


async def test_what_goes_on_now_is_seen(simulate: Any, tools: Any, autojump_clock: MockClock) -> None:
    async with simulate(SCRIPT) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, "one", tools(5.0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.ask, "go")
            await trio.sleep(1)
            await session.message("next")
            statistics = supervisor.statistics()
            assert (statistics.busy, statistics.tools_running, statistics.queued_messages) == (1, 1, 1)
            assert (statistics.mailbox_depth, statistics.deepest_mailbox) == (0, 0)


async def test_reconnects_and_restarts_stay_counted(simulate: Any, tools: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="stream", action=DropStream(after_events=2))])
    async with simulate(SCRIPT, faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, "one", tools(3.0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.ask, "go")
            await trio.sleep(2)
            assert supervisor.statistics().reconnects == 1
            crash_session(session, RuntimeError("a defect"))
        assert (await session.ask("on")).text == "Two."
        statistics = supervisor.statistics()
        assert (statistics.reconnects, statistics.restarts, statistics.requests, statistics.turns) == (1, 1, 2, 3)
        await session.stop()
        assert supervisor.statistics().restarts == 1


async def test_a_session_that_reconnects_is_in_another_phase(
    simulate: Any, tools: Any, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="stream", action=DropStream(after_events=2))])
    steady = maa.ReconnectPolicy(initial=9.0, jitter=0.0)
    async with simulate(SCRIPT, faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, "one", tools(0.0), reconnect=steady)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.ask, "go")
            await trio.sleep(5)
            assert dict(supervisor.statistics().phases) == {"reconnecting": 1}


@given(st.lists(st.floats(0.001, 86_400), min_size=1))
def test_percentiles_are_right_to_a_quarter(seconds: list[float]) -> None:
    tally = Tally()
    for each in seconds:
        tally.tool_latency.add(each)
    latency = statistics_of(tally, []).tool_latency
    in_order = sorted(seconds)
    assert (latency.count, latency.max) == (len(seconds), in_order[-1])
    for share, found in ((0.5, latency.p50), (0.95, latency.p95), (0.99, latency.p99)):
        exact = in_order[max(0, -(-int(share * 100) * len(seconds) // 100) - 1)]
        assert exact <= found <= min(exact * 1.25 + 1e-9, latency.max)
    assert latency.mean * latency.count == sum(seconds) or abs(latency.mean * latency.count - sum(seconds)) < 1e-3


@given(st.floats(0, 0.001), st.floats(86_400, 1e9))
def test_what_is_outside_of_all_classes_is_counted(short: float, long: float) -> None:
    tally = Tally()
    tally.turn_latency.add(short)
    assert tally.turn_latency.latency().p99 == short
    tally.turn_latency.add(long)
    assert tally.turn_latency.latency().p99 == tally.turn_latency.latency().max == long


def test_an_account_that_was_taken_back_costs_nothing() -> None:
    before, now = maa.Usage(input_tokens=5, output_tokens=7), maa.Usage(input_tokens=9, output_tokens=2)
    assert added(now, before, sign=-1) == maa.Usage(input_tokens=4)
    assert added(now, before) == maa.Usage(input_tokens=14, output_tokens=9)
