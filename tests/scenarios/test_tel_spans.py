"""TEL-03: what OpenTelemetry is told of whole sessions, for both providers: each span in what it happened in."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from opentelemetry import context as otel_context
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors import telemetry
from managed_agents_actors.testing import call_tool, call_tools, say, wait

from ..telemetry._traced import traced
from ._traces import (
    BOTH,
    Open,
    Place,
    http_spans,
    open_claude,
    outline,
    own_span,
    spans_of,
    told,
    tracing,
    tree,
    within,
)

ONE_TOOL = [call_tool("lookup"), say("Done.")]
TWO_TOOLS = [call_tools(("slow", {}), ("fast", {})), wait(1), say("Done.")]

RUN = {
    "claude": """
        GET /chat
          -> invoke_agent
            turn
              -> POST /v1/sessions
              -> GET /v1/sessions/*/events/stream
              -> POST /v1/sessions/*/events
              execute_tool slow
              execute_tool fast
              -> POST /v1/sessions/*/events
            turn
              -> POST /v1/sessions/*/events
    """,
    "agentcore": """
        GET /chat
          -> invoke_agent
            turn
              -> POST InvokeHarness
              execute_tool slow
              execute_tool fast
            turn
              -> POST InvokeHarness
    """,
}


async def two_tools(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    await trio.sleep(3 if name == "slow" else 2)
    return "found"


async def lookup(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    await trio.sleep(1)
    return "found"


# --- the tree ---------------------------------------------------------------------------------------------------------


@BOTH
async def test_tel_03_a_run_is_a_tree_of_spans(open_place: Open, autojump_clock: MockClock) -> None:
    with tracing() as world:
        async with open_place(TWO_TOOLS) as place:
            with own_span(world, "GET /chat"):
                await place.run(two_tools)
        assert tree(world) == outline(RUN[place.name])
        first, second = spans_of(world, "turn")
        assert (world.seconds("execute_tool slow"), world.seconds("execute_tool fast")) == (3, 2)
        assert (world.seconds("invoke_agent"), told(first)["managed_agents.turn"]) == (4, 1)
        assert told(second)["managed_agents.turn"] == 2


@BOTH
async def test_tel_03_without_a_span_of_the_callers_a_run_is_a_trace_of_its_own(
    open_place: Open, autojump_clock: MockClock
) -> None:
    with tracing() as world:
        async with open_place(TWO_TOOLS) as place:
            await place.run(two_tools)
            await place.run(two_tools)
        run = "\n".join(line[2:] for line in outline(RUN[place.name]).splitlines()[1:])
        assert tree(world) == f"{run}\n{run}"
        assert len({span.context.trace_id for span in spans_of(world)}) == 2


@BOTH
async def test_tel_03_results_that_are_ready_at_one_moment_are_posted_within_the_request(
    open_place: Open, autojump_clock: MockClock
) -> None:
    with tracing() as world:
        async with open_place([call_tools(*[("lookup", {})] * 4), say("Done.")]) as place:
            with own_span(world, "GET /chat"):
                await place.run(lookup)
        assert {within(world, span) for span in http_spans(world)} == {"GET /chat > invoke_agent > turn"}


@BOTH
async def test_tel_03_a_run_leaves_what_was_current_in_its_callers_task(
    open_place: Open, autojump_clock: MockClock
) -> None:
    with tracing() as world, own_span(world, "GET /chat"):
        async with open_place(TWO_TOOLS) as place:
            before = otel_context.get_current()
            await place.run(two_tools)
            with pytest.raises(maa.SessionTimeout):
                await place.run(two_tools, timeout=1)
            assert otel_context.get_current() is before


# --- whose request it is ----------------------------------------------------------------------------------------------


async def start(place: Place, supervisor: maa.Supervisor, **options: Any) -> maa.Session:
    return await supervisor.start_session(place.provider, handler=lookup, name="chat", **place.options, **options)


@BOTH
async def test_tel_03_a_request_is_in_the_span_of_its_asker_also_if_it_has_waited(
    open_place: Open, autojump_clock: MockClock
) -> None:
    script = [[wait(2), say("One.")], [call_tool("lookup"), say("Two.")], [wait(1), say("Three.")]]

    async def ask(session: maa.Session, content: str) -> None:
        with own_span(world, f"ask {content}"):
            await session.ask(content)

    with tracing() as world:
        async with open_place(script) as place, maa.open_supervisor() as supervisor:
            with own_span(world, "POST /chats"):
                session = await start(place, supervisor)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ask, session, "first")
                await trio.sleep(1)
                nursery.start_soon(ask, session, "second")
            async with session.subscribe() as terminals:
                with own_span(world, "send"):
                    await session.message("third")
                await terminals.receive()
        requests = spans_of(world, "invoke_agent")
        assert [within(world, span) for span in requests] == ["ask first", "ask second", "send"]
        assert [told(span)["managed_agents.request.number"] for span in requests] == [1, 2, 3]
        (tool,) = spans_of(world, "execute_tool")
        assert within(world, tool) == "ask second > invoke_agent > turn"
        turns = [within(world, span) for span in spans_of(world, "turn")]
        assert turns == [f"{asker} > invoke_agent" for asker in ("ask first", "ask second", "ask second", "send")]


@BOTH
async def test_tel_03_what_a_session_is_started_with_is_in_the_span_of_who_starts_it(
    open_place: Open, autojump_clock: MockClock
) -> None:
    with tracing() as world:
        async with open_place(ONE_TOOL) as place, maa.open_supervisor() as supervisor:
            with own_span(world, "POST /chats"):
                session = await start(place, supervisor, prompt="begin")
            async with session.subscribe() as terminals:
                await terminals.receive()
            async with maa.open_session(place.provider, handler=lookup, **place.options) as other:
                with own_span(world, "ask"):
                    await other.ask("begin")
        assert [within(world, span) for span in spans_of(world, "invoke_agent")] == ["POST /chats", "ask"]
        (begun, _) = spans_of(world, "execute_tool")
        assert within(world, begun) == "POST /chats > invoke_agent > turn"


async def test_tel_03_a_request_of_another_client_is_in_no_span_of_a_caller_here(autojump_clock: MockClock) -> None:
    message = {"type": "user.message", "content": [{"type": "text", "text": "from elsewhere"}]}
    with tracing() as world:
        async with open_claude([[say("One.")], ONE_TOOL]) as place, maa.open_supervisor() as supervisor:
            with own_span(world, "POST /chats"):
                session = await start(place, supervisor)
            with own_span(world, "ask"):
                await session.ask("mine")
            async with session.subscribe() as terminals:
                with own_span(world, "elsewhere"):
                    await place.client.sessions.events.send(session.session_id, [message])
                await terminals.receive()
        mine, foreign = spans_of(world, "invoke_agent")
        assert (within(world, mine), within(world, foreign)) == ("ask", "")
        assert told(foreign)["managed_agents.request.kind"] == "other"
        assert told(foreign)["gen_ai.conversation.id"] == session.session_id
        assert tree(world, foreign) == outline("""
            -> invoke_agent
              turn
                execute_tool lookup
              turn
                -> POST /v1/sessions/*/events
        """)


@BOTH
async def test_tel_03_sessions_side_by_side_never_mix_their_spans(open_place: Open, autojump_clock: MockClock) -> None:
    async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        await trio.sleep(1 + context.user % 7 / 10)
        with own_span(world, f"query {context.user}"):
            await trio.sleep(context.user % 3)
        return "found"

    async def serve(place: Place, number: int) -> None:
        await trio.sleep(number % 4 / 10)
        with own_span(world, f"caller {number}"):
            await place.run(tool, context=number, telemetry_metadata={"customer": number})

    with tracing() as world:
        async with open_place(ONE_TOOL) as place, trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(serve, place, number)
        outlines = set()
        for number in range(20):
            root = world.span(f"caller {number}")
            outlines.add(tree(world, root).replace(f"caller {number}\n", "").replace(f"query {number}", "query"))
            trace = [span for span in spans_of(world) if span.context.trace_id == root.context.trace_id]
            assert {told(span).get("customer", number) for span in trace} == {number}
            assert len({told(span)["gen_ai.conversation.id"] for span in trace if span.name.startswith("turn")}) == 1
        (the_same,) = outlines
        assert the_same.count("execute_tool lookup\n        query") == 1
        assert len(spans_of(world)) == 20 * (the_same.count("\n") + 2)


@BOTH
async def test_tel_03_two_bridges_are_told_the_same(open_place: Open, autojump_clock: MockClock) -> None:
    async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        before = otel_context.get_current()
        with telemetry.span("app.query"):
            await trio.sleep(2 if name == "slow" else 1)
        assert otel_context.get_current() is before
        return "found"

    with tracing() as world, tracing() as other:
        before = otel_context.get_current()
        async with open_place(TWO_TOOLS) as place:
            with telemetry.span("app.request"):
                await place.run(tool)
        assert otel_context.get_current() is before
        expected = RUN[place.name].replace("GET /chat", "app.request")
        for name in ("slow", "fast"):
            expected = expected.replace(f"execute_tool {name}\n", f"execute_tool {name}\n{' ' * 16}app.query\n")
        assert tree(world) == tree(other) == outline(expected)
        assert not {s.context.trace_id for s in spans_of(world)} & {s.context.trace_id for s in spans_of(other)}


async def test_tel_03_a_bridge_that_comes_late_tells_what_begins_from_then_on(autojump_clock: MockClock) -> None:
    async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        world.attach()
        return "found"

    with traced() as world:
        async with open_claude(ONE_TOOL) as place:
            with own_span(world, "GET /chat"):
                await place.run(tool)
        assert tree(world) == outline("""
            GET /chat
              turn
                -> POST /v1/sessions/*/events
        """)
