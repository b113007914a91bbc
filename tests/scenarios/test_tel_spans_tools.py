"""TEL-03: what OpenTelemetry is told within the tools of whole sessions, for both providers, whatever they use."""

from __future__ import annotations

from typing import Any

import httpx
import trio
from opentelemetry import context as otel_context
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.testing import call_tool, call_tools, say

from ._traces import (
    BOTH,
    PATIENCE,
    Open,
    open_agent_core,
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


async def lookup(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    await trio.sleep(1)
    return "found"


@BOTH
async def test_tel_03_what_tools_trace_is_in_them_in_threads_and_in_nurseries_too(open_place: Open) -> None:
    # Threads and virtual time do not mix: this takes as long as it takes.
    script = [call_tools(*((name, {}) for name in ("awaited", "threaded", "spread"))), say("Done.")]

    async def step(number: int) -> None:
        with own_span(world, f"step {number}"):
            await trio.to_thread.run_sync(query, f"query of step {number}")

    def query(name: str) -> None:
        with own_span(world, name):
            pass

    @maa.tool
    async def awaited() -> str:
        """Waits."""
        with own_span(world, "query"):
            await trio.sleep(0.01)
        return "found"

    @maa.tool
    def threaded() -> str:
        """Works in a thread."""
        query("query in a thread")
        return "found"

    @maa.tool
    async def spread() -> str:
        """Starts tasks of its own."""
        async with trio.open_nursery() as nursery:
            for number in (1, 2):
                nursery.start_soon(step, number)
        return "found"

    with tracing() as world:
        async with open_place(script) as place:
            await place.run(maa.Toolbox([awaited, threaded, spread]))
        named = ("query", "query in a thread", "step 1", "step 2", "query of step 1", "query of step 2")
        assert {name: within(world, world.span(name)).removeprefix("invoke_agent > turn > ") for name in named} == {
            "query": "execute_tool awaited",
            "query in a thread": "execute_tool threaded",
            "step 1": "execute_tool spread",
            "step 2": "execute_tool spread",
            "query of step 1": "execute_tool spread > step 1",
            "query of step 2": "execute_tool spread > step 2",
        }
        ours = spans_of(world, "invoke_agent", "turn", "execute_tool", "POST", "GET")
        assert all((span.end_time or 0) > (span.start_time or 0) for span in ours)


@BOTH
async def test_tel_03_requests_of_any_client_that_a_tool_uses_are_in_it(
    open_place: Open, autojump_clock: MockClock
) -> None:
    async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        await claude.client.agents.retrieve(claude.simulator.agent_id)
        await agent_core.client.get_harness(harnessId=agent_core.simulator.harness_id)
        with own_span(world, "query"):
            await others.environments.retrieve(claude.simulator.environment_id)
        return "found"

    with tracing() as world:
        async with (
            open_place(ONE_TOOL) as place,
            open_claude([]) as claude,
            open_agent_core([]) as agent_core,
            httpx.AsyncClient(transport=Transport(open_stream=claude.simulator.open_memory_stream)) as http_client,
            maa.ClaudeClient("test-key", claude.client.base_url, http_client=http_client) as others,
        ):
            await place.run(tool)
        (run,) = spans_of(world, "execute_tool")
        shown = tree(world, run).replace(claude.simulator.agent_id, "*").replace(claude.simulator.environment_id, "*")
        assert shown == outline("""
            execute_tool lookup
              -> GET /v1/agents/*
              -> GET GetHarness
              query
                -> GET /v1/environments/*
        """)


@BOTH
async def test_tel_03_a_session_that_a_tool_runs_is_in_it(open_place: Open, autojump_clock: MockClock) -> None:
    async def delegate(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        before = otel_context.get_current()
        await place.run(lookup if context.user == "outer" else delegate, context=context.user)
        assert otel_context.get_current() is before
        return "found"

    with tracing() as world:
        async with open_place(ONE_TOOL) as place:
            await place.run(delegate, context="outer")
        outer, inner = spans_of(world, "execute_tool")
        assert within(world, outer) == "invoke_agent > turn"
        assert within(world, inner) == "invoke_agent > turn > execute_tool lookup > invoke_agent > turn"
        (ids, others) = ({told(span)["gen_ai.conversation.id"] for span in group} for group in ([outer], [inner]))
        assert not ids & others


async def test_tel_03_a_message_that_a_tool_sends_to_its_own_session_is_in_it(autojump_clock: MockClock) -> None:
    sessions: list[maa.Session] = []

    async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        return await sessions[0].message("and then?")

    with tracing() as world, trio.fail_after(PATIENCE):
        async with (
            open_claude([ONE_TOOL, [say("Then.")]]) as place,
            maa.open_session(place.provider, handler=tool, **place.options) as session,
            session.subscribe() as terminals,
        ):
            sessions.append(session)
            await session.ask("go")
            await terminals.receive()
            await terminals.receive()
        first, second = spans_of(world, "invoke_agent")
        assert (within(world, first), within(world, second)) == ("", "invoke_agent > turn > execute_tool lookup")
