"""TEL-03: what is told of turns and tokens adds up to the result, however the usage came and whoever spoke."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
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
    DelayAnswer,
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


async def tool(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
    return "found"


def user(text: str) -> dict[str, Any]:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def counted(supervisor: maa.Supervisor) -> tuple[int, int]:
    statistics = supervisor.statistics()
    return statistics.turns, statistics.usage.input_tokens


def turns(told: list[Told]) -> list[int]:
    return [about["turn"] for _, about in named(told, "session.tool_uses")]


async def tool_of_a_second(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
    await trio.sleep(1)
    return "found"


# What the agent does on the message of another client, and then on ours.
THEIRS_THEN_OURS = [[wait(1), call_tool("t"), call_tool("t"), say("theirs")], [wait(1), call_tool("t"), say("ours")]]


@asynccontextmanager
async def open_behind_theirs(supervisor: maa.Supervisor, **options: Any) -> AsyncIterator[maa.Session]:
    """A session in which another client speaks at the moment at which the block begins, and is heard first."""
    async with simulate(THEIRS_THEN_OURS) as place:
        place |= {"handler": tool_of_a_second, **options}
        session = await supervisor.start_session(claude_managed_agents, name="s", **place)
        await trio.sleep(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(place["client"].sessions.events.send, session.session_id, [user("theirs")])
            yield session


async def test_tel_03_tokens_of_a_turn_that_is_told_late_are_counted(
    told: list[Told], autojump_clock: MockClock
) -> None:
    script = [call_tools(("t", {}), Call(name="shell", kind="builtin")), say("done")]
    async with (
        open_agentcore_simulator(script, transport="memory") as simulator,
        simulator.client() as client,
        maa.open_supervisor() as supervisor,
    ):
        options: dict[str, Any] = {
            "client": client,
            "harness_arn": simulator.harness_arn,
            "runtime_session_id": "s" * 40,
        }
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

    async def stubborn(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
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


def adds_up(told: list[Told], supervisor: maa.Supervisor, result: maa.SessionResult) -> None:
    """What was told of the only request, which took two turns, is what its result says."""
    spent = result.usage.input_tokens
    assert counted(supervisor) == (2, spent)
    assert tokens(told, "session.terminal") == [spent] == [sum(tokens(told, "turn.stop"))]
    assert turns(told) == [1, 2]


async def test_tel_03_what_was_begun_on_before_our_message_is_told_by_nobody(
    told: list[Told], autojump_clock: MockClock
) -> None:
    async with maa.open_supervisor() as supervisor, open_behind_theirs(supervisor) as session:
        result = await session.ask("ours")
        assert (result.text, result.turns) == ("ours", 2)
        adds_up(told, supervisor, result)


async def test_tel_03_a_request_that_ends_behind_another_clients_tells_what_its_result_says(
    told: list[Told], autojump_clock: MockClock
) -> None:
    async with maa.open_supervisor() as supervisor, open_behind_theirs(supervisor, timeout=2.5) as session:
        with pytest.raises(maa.SessionTimeout) as failed:
            await session.ask("ours")
        result = failed.value.result
        assert (result.turns, result.usage.input_tokens > 0) == (2, True)
        adds_up(told, supervisor, result)


@pytest.mark.parametrize("after", [0.5, 1.5, 2.5, 3.5, 4.5])
async def test_tel_03_a_crash_behind_another_clients_message_changes_nothing(
    told: list[Told], autojump_clock: MockClock, after: float
) -> None:
    async with maa.open_supervisor() as supervisor, open_behind_theirs(supervisor) as session:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def crash() -> None:
                await trio.sleep(after)
                crash_session(session, RuntimeError("a defect"))

            result = await session.ask("ours")
        assert (result.text, result.turns) == ("ours", 2)
        adds_up(told, supervisor, result)


@pytest.mark.parametrize("after", [None, 0.5, 1.5])
async def test_tel_03_what_is_left_of_a_request_that_waited_is_in_nothing_of_the_next_one(
    told: list[Told], autojump_clock: MockClock, after: float | None
) -> None:
    script = [[ask("sh"), wait(1), call_tool("t"), say("the rest")], [say("ours")]]
    async with (
        simulate(script) as place,
        maa.open_supervisor() as supervisor,
        trio.open_nursery() as nursery,
    ):
        session = await supervisor.start_session(claude_managed_agents, name="s", handler=tool_of_a_second, **place)
        waiting = await session.ask("go")
        allow = {
            "type": "user.tool_confirmation",
            "tool_use_id": waiting.stop_reason["event_ids"][0],
            "result": "allow",
        }
        nursery.start_soon(place["client"].sessions.events.send, session.session_id, [allow])

        @nursery.start_soon
        async def crash() -> None:
            if after is not None:
                await trio.sleep(after)
                crash_session(session, RuntimeError("a defect"))

        result = await session.ask("ours")
        spent = [waiting.usage.input_tokens, result.usage.input_tokens]
        assert (result.text, result.turns) == ("ours", 1)
        assert counted(supervisor) == (2, sum(spent))
    assert tokens(told, "session.terminal") == spent == tokens(told, "turn.stop")


async def test_tel_03_a_bill_that_comes_between_a_wait_and_its_end_is_told_with_what_goes_on(
    told: list[Told], autojump_clock: MockClock
) -> None:
    usage = {"input_tokens": 1000, "output_tokens": 1}
    bill = {"type": "span.model_request_end", "model_request_start_id": "x", "is_error": False, "model_usage": usage}

    async def agent(turn: Any) -> None:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def bill_late() -> None:
                await trio.sleep(3)
                await turn.emit(bill)

            await turn.call_tools(Call(name="sh", kind="builtin", permission="ask"))
        await turn.say("done")

    for crashes in (False, True):
        told.clear()
        async with (
            simulate(agent) as place,
            maa.open_supervisor() as supervisor,
        ):
            session = await supervisor.start_session(claude_managed_agents, name="s", handler=tool, **place)
            async with session.subscribe() as terminals:
                waiting = await session.ask("go")
                await trio.sleep(5)
                if crashes:
                    crash_session(session, RuntimeError("a defect"))
                    await trio.sleep(1)
                await session.confirm(waiting.stop_reason["event_ids"][0], "allow")
                await terminals.receive()
                whole = await terminals.receive()
            assert counted(supervisor) == (2, whole.usage.input_tokens)
        first, second = tokens(told, "session.terminal")
        assert (first, first + second) == (waiting.usage.input_tokens, whole.usage.input_tokens)
        assert second > 1000
        assert tokens(told, "turn.stop") == [first, second]


@pytest.mark.parametrize(("after", "ended_before"), [(0.5, 1), (1.5, 2), (3, 2)])
async def test_tel_03_the_turns_before_a_session_was_resumed_are_told_by_nobody(
    told: list[Told], autojump_clock: MockClock, after: float, ended_before: int
) -> None:
    async with (
        simulate([call_tool("t"), call_tool("t"), wait(3), say("end")]) as place,
        maa.open_session(claude_managed_agents, handler=tool_of_a_second, **place) as earlier,
        maa.open_supervisor() as supervisor,
    ):
        await earlier.message("go")
        await trio.sleep(after)
        told.clear()
        session = await supervisor.start_session(
            claude_managed_agents,
            name="resumed",
            handler=tool_of_a_second,
            client=place["client"],
            session_id=earlier.session_id,
        )
        async with session.subscribe() as terminals:
            result = await terminals.receive()
        left = [measured["input_tokens"] for measured, about in named(told, "turn.stop") if "session" in about]
        ((measured, _),) = [end for end in named(told, "session.terminal") if "session" in end[1]]
        assert [about["turn"] for _, about in named(told, "turn.stop") if "session" in about] == list(
            range(ended_before + 1, 4)
        )
        each = result.usage.input_tokens // result.turns
        assert (result.turns, result.usage.input_tokens, left) == (3, 3 * each, [each] * (3 - ended_before))
        assert (measured["turns"], measured["input_tokens"]) == (3 - ended_before, sum(left))
        assert counted(supervisor) == (3 - ended_before, sum(left))


async def test_tel_03_a_deadline_while_the_log_is_read_anew_takes_nothing_from_the_result(
    told: list[Told], autojump_clock: MockClock
) -> None:
    count = 150  # so many that the log is listed on two pages
    slow = FaultPlan([Fault(on="list_events", action=DelayAnswer(seconds=30), nth=nth) for nth in (2, 4)])
    async with (
        simulate([*[call_tool("t")] * count, wait(500)], faults=slow) as place,
        maa.open_supervisor() as supervisor,
        trio.open_nursery() as nursery,
    ):
        session = await supervisor.start_session(
            claude_managed_agents, name="s", handler=tool, timeout=20, max_turns=count + 1, **place
        )

        @nursery.start_soon
        async def crash() -> None:
            await trio.sleep(15)
            crash_session(session, RuntimeError("a defect"))
            await trio.sleep(4)
            assert session.status().turns == count
            crash_session(session, RuntimeError("another one, while the second page is waited for"))

        with pytest.raises(maa.SessionTimeout) as failed:
            await session.ask("go")
        result = failed.value.result
        assert len(slow.fired) == 2
        assert result.turns == count
        assert counted(supervisor) == (count, result.usage.input_tokens)
    assert tokens(told, "session.terminal") == [result.usage.input_tokens] == [sum(tokens(told, "turn.stop"))]
