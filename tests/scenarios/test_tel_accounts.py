"""TEL-03: what is told of turns and tokens adds up to the result, however the usage came and whoever spoke."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors import telemetry
from managed_agents_actors._protocol.effects import Began, Dropped, TurnBegan
from managed_agents_actors._protocol.mail import Message
from managed_agents_actors._session.narrator import Narrator
from managed_agents_actors._session.statistics import Tally
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.telemetry._scope import standing
from managed_agents_actors.testing import (
    Call,
    DropStream,
    Fault,
    FaultPlan,
    ask,
    call_tool,
    call_tools,
    crash_session,
    open_agentcore_simulator,
    open_claude_simulator,
    say,
    wait,
)

Told = tuple[str, dict[str, Any], dict[str, Any]]


@pytest.fixture
def told() -> Iterator[list[Told]]:
    events: list[Told] = []

    def listen(name: str, measurements: Any, metadata: Any) -> None:
        events.append((name.removeprefix("managed_agents."), dict(measurements), dict(metadata)))

    with telemetry.attach(listen, ("managed_agents.session", "managed_agents.turn")):
        yield events


def named(told: list[Told], name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    return [(measured, about) for each, measured, about in told if each == name]


def tokens(told: list[Told], name: str) -> list[int]:
    return [measured["input_tokens"] for measured, _ in named(told, name)]


@asynccontextmanager
async def simulate(script: Any, **options: Any) -> AsyncIterator[dict[str, Any]]:
    """A Claude simulator in memory: what a new session there is opened with."""
    async with open_claude_simulator(script, transport="memory", **options) as simulator, simulator.client() as client:
        yield {"client": client, "agent": simulator.agent_id, "environment": simulator.environment_id}


async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    return "found"


def user(text: str) -> dict[str, Any]:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


async def test_tel_03_tokens_of_a_turn_that_is_told_late_are_counted(
    told: list[Told], autojump_clock: MockClock
) -> None:
    script = [call_tools(("t", {}), Call(name="shell", kind="builtin")), say("done")]
    async with (
        open_agentcore_simulator(script, transport="memory") as simulator,
        simulator.client() as client,
        maa.open_supervisor() as supervisor,
    ):
        options = {"client": client, "harness_arn": simulator.harness_arn, "runtime_session_id": "s" * 40}
        session = await supervisor.start_session(bedrock_agent_core, handler=tool, **options)
        spent = (await session.ask("go")).usage.input_tokens
        assert supervisor.statistics().usage.input_tokens == spent
    assert tokens(told, "session.terminal") == [spent]
    assert sum(tokens(told, "turn.stop")) == spent


async def test_tel_03_tokens_that_came_while_the_stream_was_away_are_counted(
    told: list[Told], autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="stream", action=DropStream(after_type="agent.custom_tool_use"))])
    async with simulate([call_tool("t"), say("done")], faults=plan) as place:
        result = await maa.run_session(claude_managed_agents, handler=tool, prompt="go", **place)
    assert tokens(told, "session.terminal") == [result.usage.input_tokens] == [sum(tokens(told, "turn.stop"))]


async def test_tel_03_a_request_that_goes_on_tells_what_it_cost_from_then_on(
    told: list[Told], autojump_clock: MockClock
) -> None:
    async with (
        simulate([ask("sh"), say("done")]) as place,
        maa.open_session(claude_managed_agents, handler=tool, unresolved_after=1, **place) as session,
        session.subscribe() as terminals,
    ):
        waiting = await session.ask("go")
        await session.confirm(waiting.stop_reason["event_ids"][0], "allow")
        await terminals.receive()
        whole = await terminals.receive()
    first, second = tokens(told, "session.terminal")
    assert (first, first + second) == (waiting.usage.input_tokens, whole.usage.input_tokens)
    assert second > 0


async def test_tel_03_the_turn_in_which_a_request_fails_has_its_tokens(
    told: list[Told], autojump_clock: MockClock
) -> None:
    async with simulate([say("a"), call_tool("t"), wait(100), say("z")]) as place:
        with pytest.raises(maa.SessionTimeout) as failed:
            await maa.run_session(claude_managed_agents, handler=tool, prompt="go", timeout=5, **place)
    spent = failed.value.result.usage.input_tokens
    assert spent > 0
    assert tokens(told, "session.terminal") == [spent] == [sum(tokens(told, "turn.stop"))]


async def test_tel_03_what_another_client_has_begun_is_in_nothing_of_ours(
    told: list[Told], autojump_clock: MockClock
) -> None:
    script = [[wait(2), say("1")], [say("2")], [say("3")]]
    async with (
        simulate(script) as place,
        maa.open_session(claude_managed_agents, handler=tool, prompt="kick", **place) as session,
        session.subscribe() as terminals,
    ):
        await trio.sleep(1)
        for text in ("theirs", "theirs, too"):
            await place["client"].sessions.events.send(session.session_id, [user(text)])
        for _ in range(3):
            await terminals.receive()
    begun = [about for _, about in named(told, "session.request_started")]
    assert [(about["request"], about["kind"]) for about in begun] == [(1, "message"), (2, "other"), (3, "other")]
    assert all("turn" not in about and "parent_id" not in about for about in begun)
    assert all(count > 0 for count in tokens(told, "session.terminal"))


async def test_tel_03_a_request_from_elsewhere_is_apart_from_one_that_waits(told: list[Told]) -> None:
    # Ours begins with opening the session; what another client says before it has gone out is a request of its own.
    narrator = Narrator({"customer": "c-42"}, {"provider": "p"}, Tally())
    with standing(narrator.scope):
        narrator.tell(Began(1, Message("ours"), None))
        narrator.tell(TurnBegan(1, 1, maa.Usage()))
        narrator.tell(Began(2, None, None))
        narrator.tell(Dropped(2))
        telemetry.emit("managed_agents.session.afterwards")
    _, (_, theirs) = named(told, "session.request_started")
    assert {key: theirs.get(key) for key in ("request", "kind", "turn", "parent_id", "customer")} == {
        "request": 2,
        "kind": "other",
        "turn": None,
        "parent_id": None,
        "customer": "c-42",
    }
    ((_, ended),) = named(told, "session.terminal")
    assert (ended["span_id"], ended["cancelled"]) == (theirs["span_id"], True)
    ((_, after),) = named(told, "session.afterwards")
    assert (after["request"], after["turn"]) == (1, 1)


async def test_tel_02_a_tool_that_outlives_its_request_still_tells_of_that_one(autojump_clock: MockClock) -> None:
    cleaned: list[Any] = []

    async def stubborn(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            telemetry.emit("app.cleaned")
        raise AssertionError

    async with (
        simulate([[call_tool("t")], [wait(9), say("2")]]) as place,
        maa.open_session(claude_managed_agents, handler=stubborn, **place) as session,
        trio.open_nursery() as nursery,
    ):
        with telemetry.attach(lambda _name, _measured, about: cleaned.append(about.get("request")), "app"):
            nursery.start_soon(session.ask, "one")
            await trio.sleep(1)
            await session.interrupt()
            await session.ask("two")
    assert cleaned == [1]


async def test_tel_03_a_session_that_is_closed_and_begun_with_anew_tells_its_restarts_once(
    told: list[Told], autojump_clock: MockClock
) -> None:
    async with simulate(None) as place, maa.open_supervisor() as supervisor:
        session = await supervisor.start_session(claude_managed_agents, handler=tool, name="s", **place)
        for _ in range(2):
            crash_session(session, RuntimeError("a defect"))
            await session.ask("go")
            await supervisor.terminate_child("s")
            await supervisor.restart_child("s")
        assert supervisor.statistics().restarts == 2
    assert [measured["restarts"] for measured, _ in named(told, "session.closed")] == [1, 1, 0]
