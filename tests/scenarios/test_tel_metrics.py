"""TEL-03: the metrics of whole sessions, for both providers: what they are called and count, as the statistics do."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.testing import (
    Delay,
    DropStream,
    Fault,
    FaultPlan,
    RefuseWith,
    call_tools,
    crash_session,
    say,
    spend,
    wait,
)

from ..telemetry._traced import Traced
from ._traces import BOTH, Open, Place, open_claude, tracing

SCRIPT = [call_tools(("slow", {}), ("fast", {})), spend(input_tokens=7, output_tokens=5), wait(1), say("Done.")]
USAGE = {"input_tokens": 100, "output_tokens": 40, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 2}
PROVIDERS = {"claude": "anthropic", "agentcore": "aws.bedrock"}
UNITS = {
    "gen_ai.client.token.usage": "{token}",
    "gen_ai.client.operation.duration": "s",
    "gen_ai.invoke_agent.duration": "s",
    "gen_ai.execute_tool.duration": "s",
    "managed_agents.turn.duration": "s",
    "managed_agents.stream.reconnects": "{reconnect}",
    "managed_agents.session.restarts": "{restart}",
    "managed_agents.session.terminals": "{terminal}",
    "managed_agents.sessions": "{session}",
    "managed_agents.session.mailbox_depth": "{message}",
    "managed_agents.session.mailbox_depth.max": "{message}",
}

Points = dict[tuple[Any, ...], Any]


async def tools(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    await trio.sleep(3 if name == "slow" else 2)
    return "found"


def points(world: Traced, name: str, *by: str) -> Points:
    """What a metric is now, by the values of some of its attributes, in place of all others."""
    found = world.metric(name)
    told = {tuple(attributes.get(each) for each in by): point for attributes, point in found}
    assert len(told) == len(found)
    return told


def values(world: Traced, name: str, *by: str) -> Points:
    """The same of one that counts."""
    return {key: point.value for key, point in points(world, name, *by).items()}


def sums(world: Traced, name: str, *by: str) -> Points:
    """How often something was measured, and what it came to in all."""
    return {key: (point.count, point.sum) for key, point in points(world, name, *by).items()}


async def start(place: Place, supervisor: maa.Supervisor, **options: Any) -> maa.Session:
    return await supervisor.start_session(place.provider, **{"handler": tools, **place.options, **options})


# --- one known session ------------------------------------------------------------------------------------------------


@BOTH
async def test_tel_03_the_metrics_of_a_known_session_are_what_its_supervisor_says(
    open_place: Open, autojump_clock: MockClock
) -> None:
    provider = PROVIDERS["claude" if open_place is open_claude else "agentcore"]
    with tracing() as world:
        async with open_place([SCRIPT], usage=USAGE) as place, maa.open_supervisor() as supervisor:
            session = await start(place, supervisor)
            results = [await session.ask("go"), await session.ask("on")]
            said = supervisor.statistics()
            assert values(world, "managed_agents.sessions", "managed_agents.session.phase") == {("live",): 1}
        assert [result.turns for result in results] == [2, 1]
        # A response takes 122 tokens and gives 40; the one after the tools 29, of which 22 are the cache's, and 5.
        assert sums(world, "gen_ai.client.token.usage", "gen_ai.token.type") == {
            ("input",): (2, 122 + 29 + 122),
            ("output",): (2, 40 + 5 + 40),
        }
        tool_times = sums(world, "gen_ai.execute_tool.duration", "gen_ai.tool.name")
        assert tool_times == {("slow",): (1, 3), ("fast",): (1, 2)}
        ((turns, turn_seconds),) = sums(world, "managed_agents.turn.duration").values()
        assert (turns, turn_seconds) == (3, 4)
        assert sums(world, "gen_ai.invoke_agent.duration") == {(): (2, 4)}
        assert sums(world, "gen_ai.client.operation.duration") == {(): (2, 4)}
        assert values(world, "managed_agents.session.terminals", "managed_agents.terminal") == {("end_turn",): 2}
        for name in UNITS:
            assert {attributes["gen_ai.provider.name"] for attributes, _ in world.metric(name)} <= {provider}

        assert (said.requests, said.turns) == (2, turns)
        assert (said.tool_latency.count, said.tool_latency.mean, said.tool_latency.max) == (2, 2.5, 3)
        assert (said.turn_latency.count, said.turn_latency.mean * 3) == (turns, turn_seconds)
        spent = sums(world, "gen_ai.client.token.usage", "gen_ai.token.type")
        read = said.usage.input_tokens + said.usage.cache_read_input_tokens + said.usage.cache_creation_input_tokens
        assert (spent["input",][1], spent["output",][1]) == (read, said.usage.output_tokens)


@BOTH
async def test_tel_03_every_metric_has_its_name_and_its_unit(open_place: Open, autojump_clock: MockClock) -> None:
    drop = Fault(on="stream", nth=2, action=DropStream(after_events=1))
    faults = FaultPlan([drop] if open_place is open_claude else [])
    with tracing() as world:
        async with open_place([SCRIPT], faults=faults) as place, maa.open_supervisor() as supervisor:
            session = await start(place, supervisor)
            await session.ask("go")
            crash_session(session, RuntimeError("a defect"))
            await trio.sleep(1)
            await session.ask("on")
            await trio.sleep(1)
            data = world.reader.get_metrics_data()
        assert data is not None
        ((metrics,),) = [[scope.metrics for scope in resource.scope_metrics] for resource in data.resource_metrics]
        units = {metric.name: metric.unit for metric in metrics}
        # AgentCore's sessions have no stream that could be lost.
        unheard = [] if open_place is open_claude else ["managed_agents.stream.reconnects"]
        assert units == {name: unit for name, unit in UNITS.items() if name not in unheard}


@BOTH
async def test_tel_03_ends_are_counted_by_what_they_were(open_place: Open, autojump_clock: MockClock) -> None:
    async def late(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        if name == "slow":
            raise maa.ToolError("not today")
        return await tools(name, input, context)

    with tracing() as world:
        async with open_place(SCRIPT) as place:
            await place.run(late, tool_timeout=1)
            with trio.move_on_after(1):
                await place.run(tools)
            with pytest.raises(maa.SessionTimeout):
                await place.run(tools, timeout=1.5)
        by = ("managed_agents.terminal", "managed_agents.cancelled", "error.type")
        assert values(world, "managed_agents.session.terminals", *by) == {
            ("end_turn", None, None): 1,
            ("terminated", True, None): 1,
            ("terminated", None, "SessionTimeout"): 1,
        }
        # What was cancelled is no error: its time is that of a tool that ended well.
        assert sums(world, "gen_ai.execute_tool.duration", "gen_ai.tool.name", "error.type") == {
            ("slow", "tool_error"): (1, 0),
            ("fast", "timeout"): (1, 1),
            ("slow", None): (2, 2.5),
            ("fast", None): (2, 2.5),
        }
        assert sums(world, "gen_ai.invoke_agent.duration", "error.type") == {
            (None,): (2, 3),
            ("SessionTimeout",): (1, 1.5),
        }


# --- what can only be seen by looking ---------------------------------------------------------------------------------


async def test_tel_03_sessions_are_counted_by_the_phase_that_they_are_in(autojump_clock: MockClock) -> None:
    plan = FaultPlan(
        [
            Fault(on="create_session", action=Delay(2)),
            Fault(on="stream", nth=1, action=Delay(2)),
            Fault(on="stream", nth=1, action=DropStream(after_events=1)),
            Fault(on="archive_session", action=Delay(2)),
        ]
    )
    seen: list[str] = []

    async def look(supervisor: maa.Supervisor) -> None:
        while True:
            told = values(world, "managed_agents.sessions", "managed_agents.session.phase")
            said = supervisor.statistics()
            assert told == {(phase,): count for phase, count in said.phases.items()}
            seen.append(*[phase for (phase,) in told] or ["none"])
            await trio.sleep(1)

    with tracing() as world:
        async with (
            open_claude([[wait(100)]], faults=plan) as place,
            maa.open_supervisor() as supervisor,
            trio.open_nursery() as nursery,
        ):
            await trio.sleep(0.5)
            nursery.start_soon(look, supervisor)
            await trio.sleep(0.7)
            steady = maa.ReconnectPolicy(initial=2.0, jitter=0.0)
            session = await start(place, supervisor, prompt="go", reconnect=steady, on_exit="archive")
            await trio.sleep(6)
            await session.stop()
            await trio.sleep(1)
            nursery.cancel_scope.cancel()
    phases = [(phase, len(list(group))) for phase, group in itertools.groupby(seen)]
    assert phases[:-1] == [("none", 1), ("opening", 2), ("attaching", 2), ("reconnecting", 2), ("live", 2)]
    assert phases[-1] >= ("none", 3)  # one that is being archived has ended


async def test_tel_03_the_mail_that_waits_is_counted_over_all_sessions_and_for_the_deepest(
    autojump_clock: MockClock,
) -> None:
    seen: set[tuple[int, int]] = set()

    class Looker(trio.abc.Instrument):
        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            said = supervisor.statistics()
            told = [
                values(world, f"managed_agents.session.mailbox_depth{which}", "gen_ai.provider.name")["anthropic",]
                for which in ("", ".max")
            ]
            assert told == [said.mailbox_depth, said.deepest_mailbox]
            seen.add((said.mailbox_depth, said.deepest_mailbox))

    with tracing() as world:
        async with open_claude([]) as place, maa.open_supervisor() as supervisor:
            sessions = [await start(place, supervisor) for _ in range(2)]
            looker = Looker()
            trio.lowlevel.add_instrument(looker)
            async with trio.open_nursery() as nursery:
                for session, messages in zip(sessions, (5, 3), strict=True):
                    for _ in range(messages):
                        nursery.start_soon(session.message, "hello")
            trio.lowlevel.remove_instrument(looker)
    assert max(seen) == (8, 5)
    assert min(seen) == (0, 0)


async def test_tel_03_sessions_are_looked_at_from_another_thread_while_they_live() -> None:
    # The thread that exports: it takes as long as it takes, so there is no virtual time here.
    async def short(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        await trio.sleep(0.05)
        return "found"

    def look() -> int:
        return sum(values(world, "managed_agents.sessions", "managed_agents.session.phase").values())

    async def keep_looking() -> None:
        while True:
            found.append(await trio.to_thread.run_sync(look))

    found: list[int] = []
    with tracing() as world:
        async with open_claude(SCRIPT[:1]) as place, trio.open_nursery() as nursery:
            nursery.start_soon(keep_looking)
            for _ in range(3):
                async with trio.open_nursery() as sessions:
                    for _ in range(5):
                        sessions.start_soon(place.run, short)
            nursery.cancel_scope.cancel()
        assert look() == 0
    assert max(found) == 5


# --- what stays counted -----------------------------------------------------------------------------------------------


async def test_tel_03_reconnects_and_restarts_are_those_of_the_statistics_also_of_sessions_that_have_ended(
    autojump_clock: MockClock,
) -> None:
    drops = [Fault(on="stream", nth=number, action=DropStream(after_events=1)) for number in (1, 2)]
    refusal = Fault(on="stream", nth=3, action=RefuseWith(529))
    with tracing() as world:
        async with (
            open_claude([SCRIPT], faults=FaultPlan([*drops, refusal])) as place,
            maa.open_supervisor() as supervisor,
        ):
            session = await start(place, supervisor, name="chat")
            await session.ask("go")
            crash_session(session, RuntimeError("a defect"))
            await trio.sleep(1)
            await session.ask("on")
            await supervisor.terminate_child("chat")
            await supervisor.restart_child("chat")  # somebody wants it again, which is no restart
            await session.ask("and on")
            await session.stop()
            said = supervisor.statistics()
        reconnects = values(world, "managed_agents.stream.reconnects", "error.type")
        assert reconnects == {("StreamLost",): 2, ("OverloadedError",): 1}
        assert values(world, "managed_agents.session.restarts") == {(): 1}
        assert (said.reconnects, said.restarts, said.sessions) == (3, 1, 0)
        ((turns, seconds),) = sums(world, "managed_agents.turn.duration").values()
        assert (said.turn_latency.count, said.turn_latency.mean * turns) == (turns, seconds)
