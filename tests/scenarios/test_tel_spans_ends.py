"""TEL-03: how the spans of whole sessions end, for both providers: once, whatever happens, with what it came to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors._protocol.effects import Began, TurnBegan
from managed_agents_actors._session.narrator import Narrator
from managed_agents_actors._session.statistics import Tally
from managed_agents_actors.testing import (
    Delay,
    DelayAnswer,
    DropStream,
    EndStream,
    Fault,
    FaultPlan,
    LoseRequest,
    RefuseWith,
    call_tool,
    crash_session,
    say,
    spend,
    wait,
)

from ..telemetry._traced import Traced
from ._traces import BOTH, Open, Place, http_spans, open_agent_core, open_claude, own_span, spans_of, told, tracing

ONE_TOOL = [call_tool("lookup"), say("Done.")]
LONG = [call_tool("lookup"), wait(1), say("One."), call_tool("lookup"), wait(1), say("Two."), wait(1), say("Three.")]

# Everything takes some time, requests too.
SLOW = Fault(on="any", nth="every", action=DelayAnswer(0.01))
DROPS = [
    Fault(on="stream", nth=number, action=action(after_events=2))
    for number, action in enumerate((DropStream, EndStream, DropStream, DropStream), 1)
]
PROVIDERS = {"claude": "anthropic", "agentcore": "aws.bedrock"}


async def lookup(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    await trio.sleep(3)
    return "found"


def ended(span: ReadableSpan) -> tuple[str, str | None, bool]:
    """How a span ended: its status, its error, and whether it was cancelled."""
    attributes = told(span)
    return (
        span.status.status_code.name,
        attributes.get("error.type"),
        attributes.get("managed_agents.cancelled", False),
    )


WELL = ("UNSET", None, False)
CANCELLED = ("UNSET", None, True)


def failed(error: str) -> tuple[str, str, bool]:
    return ("ERROR", error, False)


# --- whatever happens to the stream and the actor ---------------------------------------------------------------------


@BOTH
async def test_tel_03_losses_and_a_crash_are_within_the_one_request(
    open_place: Open, autojump_clock: MockClock
) -> None:
    faults = [*DROPS, SLOW] if open_place is open_claude else [SLOW]
    with tracing() as world:
        async with open_place(LONG, faults=FaultPlan(faults)) as place, maa.open_supervisor() as supervisor:
            session = await supervisor.start_session(place.provider, handler=lookup, **place.options)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, world, session)
                await trio.sleep(2)
                crash_session(session, RuntimeError("a defect"))
            assert session.status().restarts == 1
        (request,) = spans_of(world, "invoke_agent")
        assert request.parent == world.span("ask").context
        turns = spans_of(world, "turn")
        assert [told(span)["managed_agents.turn"] for span in turns] == [1, 2, 3]
        assert [span.parent for span in turns] == [request.context] * 3
        tools = spans_of(world, "execute_tool")
        assert [span.parent for span in tools] == [turns[0].context, turns[0].context, turns[1].context]
        assert [ended(span) for span in tools] == [CANCELLED, WELL, WELL]
        assert [told(span)["managed_agents.tool.attempt"] for span in tools] == [1, 2, 1]
        events = [event.name for span in turns for event in span.events]
        assert events.count("managed_agents.stream.reconnecting") == (3 if place.name == "claude" else 0)
        assert {ended(span) for span in (request, *turns, *http_spans(world))} <= {WELL, CANCELLED}
        assert all((span.end_time or 0) > (span.start_time or 0) > 0 for span in spans_of(world))
        everything = {span.context.span_id for span in spans_of(world)}
        assert {span.parent.span_id for span in spans_of(world) if span.parent} <= everything


async def ask(world: Traced, session: maa.Session) -> None:
    with own_span(world, "ask"):
        assert (await session.ask("go")).turns == 3


async def test_tel_03_a_request_whose_end_a_defect_has_kept_back_ends_with_its_session() -> None:
    with tracing() as world:
        for failure in (None, maa.SessionCrashed("a defect", result=None)):
            narrator = Narrator({}, {"provider": "claude_managed_agents"}, Tally())
            narrator.tell(Began(1, None, None))
            narrator.tell(TurnBegan(1, 1, maa.Usage()))
            narrator.closed(failure)
            narrator.closed(failure)
        assert [ended(span) for span in spans_of(world, "invoke_agent")] == [CANCELLED, failed("SessionCrashed")]
        assert len(spans_of(world)) == 4


# --- how a request ends -----------------------------------------------------------------------------------------------

Act = Callable[[Place], Awaitable[object]]


async def by_its_caller(place: Place) -> None:
    with trio.move_on_after(1):
        await place.run(lookup)


async def by_its_deadline(place: Place) -> None:
    with pytest.raises(maa.SessionTimeout):
        await place.run(lookup, timeout=1)


async def by_the_limit_of_turns(place: Place) -> None:
    with pytest.raises(maa.MaxTurnsExceeded):
        await place.run(lookup, max_turns=1)


async def by_its_guard(place: Place) -> None:
    with pytest.raises(maa.TurnHalted):
        await place.run(lookup, turn_guard=lambda _turn: maa.Halt(reason="enough"))


async def by_being_stopped(place: Place) -> None:
    async with maa.open_session(place.provider, handler=lookup, prompt="go", **place.options) as session:
        await trio.sleep(1)
        await session.stop()


async def by_being_interrupted(place: Place) -> None:
    async with maa.open_session(place.provider, handler=lookup, prompt="go", **place.options) as session:
        await trio.sleep(1)
        await session.interrupt()


async def by_a_crash(place: Place) -> None:
    with pytest.raises(maa.SessionCrashed):
        async with maa.open_session(place.provider, handler=lookup, prompt="go", **place.options) as session:
            await trio.sleep(1)
            crash_session(session, RuntimeError("a defect"))
            await trio.sleep(1)


async def well_although_a_tool_is_late(place: Place) -> None:
    await place.run(lookup, tool_timeout=1)


async def well_although_a_tool_fails(place: Place) -> None:
    def raises(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        raise LookupError("no such customer")

    async def fails(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        return raises(name, input, context)

    await place.run(fails)


async def well_although_a_tool_says_no(place: Place) -> None:
    async def refuses(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        raise maa.ToolError("no such customer")

    await place.run(refuses)


@BOTH
@pytest.mark.parametrize(
    ("end", "request_ended", "tool_ended"),
    [
        (by_its_caller, CANCELLED, CANCELLED),
        (by_being_stopped, CANCELLED, CANCELLED),
        (by_being_interrupted, WELL, CANCELLED),
        (by_its_deadline, failed("SessionTimeout"), CANCELLED),
        (by_the_limit_of_turns, failed("MaxTurnsExceeded"), None),
        (by_its_guard, failed("TurnHalted"), None),
        (by_a_crash, failed("SessionCrashed"), CANCELLED),
        (well_although_a_tool_is_late, WELL, failed("timeout")),
        (well_although_a_tool_fails, WELL, failed("LookupError")),
        (well_although_a_tool_says_no, WELL, failed("tool_error")),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_tel_03_a_request_ends(
    open_place: Open, end: Act, request_ended: Any, tool_ended: Any, autojump_clock: MockClock
) -> None:
    with tracing() as world:
        async with open_place(ONE_TOOL) as place:
            await end(place)
        assert ended(world.span("invoke_agent")) == request_ended
        assert {ended(span) for span in spans_of(world, "execute_tool")} <= {tool_ended, CANCELLED}
        assert tool_ended is None or tool_ended in {ended(span) for span in spans_of(world, "execute_tool")}
        assert {ended(span) for span in spans_of(world, "turn")} == {WELL}
        assert not [event for span in spans_of(world) for event in span.events if event.name == "exception"]


@BOTH
async def test_tel_03_messages_that_wait_when_a_session_is_stopped_are_cancelled_requests(
    open_place: Open, autojump_clock: MockClock
) -> None:
    with tracing() as world:
        async with (
            open_place(ONE_TOOL) as place,
            maa.open_session(place.provider, handler=lookup, prompt="go", **place.options) as session,
        ):
            await trio.sleep(1)
            with own_span(world, "send"):
                assert await session.message("next") == "queued"
            await session.stop()
        first, second = spans_of(world, "invoke_agent")
        assert (ended(first), ended(second)) == (CANCELLED, CANCELLED)
        assert second.parent == world.span("send").context
        assert (second.end_time or 0) >= (second.start_time or 0)


# --- how an HTTP request ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("open_place", "operation"), [(open_claude, "create_session"), (open_agent_core, "invoke_harness")]
)
async def test_tel_03_every_attempt_of_a_request_is_a_span_with_its_status(
    open_place: Open, operation: str, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on=operation, action=RefuseWith(429, retry_after=1), times=2)])
    with tracing() as world:
        async with open_place([say("Done.")], faults=plan) as place:
            await place.run(lookup)
        refused, again, taken = http_spans(world)[:3]
        assert [ended(span) for span in (refused, again, taken)] == [failed("429"), failed("429"), WELL]
        assert [told(span)["http.response.status_code"] for span in (refused, again, taken)] == [429, 429, 200]
        assert ended(world.span("invoke_agent")) == WELL


@pytest.mark.parametrize("open_place", [open_claude, open_agent_core], ids=["claude", "agentcore"])
async def test_tel_03_a_request_that_breaks_off_is_an_error_and_so_is_what_it_was_for(
    open_place: Open, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="any", action=LoseRequest(), nth="every")])
    with tracing() as world:
        async with open_place([say("Done.")], faults=plan) as place:
            with pytest.raises(maa.TransportError) as caught:
                await place.run(lookup)
        assert ended(world.span("invoke_agent")) == failed(type(caught.value).__name__)
        assert {ended(span)[0] for span in http_spans(world)} == {"ERROR"}
        assert {told(span)["error.type"] for span in http_spans(world)} <= {"ReadError", "RemoteProtocolError"}


async def test_tel_03_a_stream_that_nobody_can_go_on_with_ends_its_request(autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="invoke_harness", action=DropStream(after_events=3))])
    with tracing() as world:
        async with open_agent_core([wait(1), say("A first part, and another.")], faults=plan) as place:
            with pytest.raises(maa.TransportError) as caught:
                await place.run(lookup)
        assert ended(world.span("invoke_agent")) == failed(type(caught.value).__name__)
        (turn,) = spans_of(world, "turn")
        assert [event.name for event in turn.events][:1] == ["managed_agents.stream.error"]
        assert [ended(span) for span in http_spans(world)] == [WELL]  # of a stream, the head is all that is waited for


async def test_tel_03_a_request_that_takes_too_long_is_an_error_and_one_that_is_cancelled_is_none(
    autojump_clock: MockClock,
) -> None:
    plan = FaultPlan([Fault(on="create_session", action=Delay(30), nth="every")])
    with tracing() as world:
        async with open_claude([say("Done.")], faults=plan, client={"timeout": 5}) as place:
            with trio.move_on_after(1):
                await place.run(lookup)
            with pytest.raises(maa.TransportError, match="within 5 s"):
                await place.run(lookup)
        cancelled, overdue = http_spans(world)
        assert (ended(cancelled), ended(overdue)) == (CANCELLED, failed("timeout"))
        assert [(span.end_time or 0) - (span.start_time or 0) for span in (cancelled, overdue)] == [10**9, 5 * 10**9]
        assert [ended(span) for span in spans_of(world, "invoke_agent")] == [CANCELLED, failed("TransportError")]


# --- what it took, and whose it was -----------------------------------------------------------------------------------


def tokens(span: ReadableSpan) -> tuple[int, ...]:
    """Those of a span: given in all, made, read from the cache, put there."""
    names = ("input_tokens", "output_tokens", "cache_read.input_tokens", "cache_creation.input_tokens")
    return tuple(told(span)[f"gen_ai.usage.{name}"] for name in names)


@BOTH
async def test_tel_03_the_tokens_of_a_request_are_those_of_its_result_and_of_its_turns(
    open_place: Open, autojump_clock: MockClock
) -> None:
    more = {"input_tokens": 7, "output_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 0}
    script = [[call_tool("lookup"), spend(**more), say("One.")], [say("Two.")]]
    usage = {"input_tokens": 100, "output_tokens": 40, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 2}
    with tracing() as world:
        async with open_place(script, usage=usage) as place, maa.open_supervisor() as supervisor:
            session = await supervisor.start_session(place.provider, handler=lookup, **place.options)
            results = [await session.ask("go"), await session.ask("on")]
        found = [tokens(span) for span in spans_of(world, "invoke_agent")]
        assert found == [
            (
                r.usage.input_tokens + r.usage.cache_read_input_tokens + r.usage.cache_creation_input_tokens,
                r.usage.output_tokens,
                r.usage.cache_read_input_tokens,
                r.usage.cache_creation_input_tokens,
            )
            for r in results
        ]
        first, second, third = (tokens(span) for span in spans_of(world, "turn"))
        assert (first, second) == ((122, 40, 20, 2), (10, 5, 3, 0))
        assert found == [tuple(map(sum, zip(first, second, strict=True))), third]


@BOTH
async def test_tel_03_every_span_tells_the_backend_and_the_session_a_new_one_too(
    open_place: Open, autojump_clock: MockClock
) -> None:
    with tracing() as world:
        async with open_place(ONE_TOOL) as place:
            result = await place.run(lookup)
        spans = spans_of(world)
        assert {told(span)["gen_ai.provider.name"] for span in spans} == {PROVIDERS[place.name]}
        nameless = [span for span in spans if "gen_ai.conversation.id" not in told(span)]
        # The request that makes the session cannot say which it is; nothing makes one of AgentCore's.
        assert [span.name for span in nameless] == (["POST"] if place.name == "claude" else [])
        known = [span for span in spans if span not in nameless]
        assert {told(span)["gen_ai.conversation.id"] for span in known} == {result.session_id}
        assert {span.name.partition(" ")[0] for span in known} >= {"invoke_agent", "turn", "execute_tool", "POST"}
        operations = {told(span).get("gen_ai.operation.name") for span in spans}
        assert operations == {"invoke_agent", "execute_tool", None}
        assert {span.status.status_code for span in spans} == {StatusCode.UNSET}
