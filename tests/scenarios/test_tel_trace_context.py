"""TEL-03: what of a trace leaves the process: the headers that carry it on, and what was said only if asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from opentelemetry import baggage
from opentelemetry import context as otel_context
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes, http_attributes, server_attributes, url_attributes
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.testing import Fault, FaultPlan, RefuseWith, call_tools, say

from ..telemetry._traced import Traced
from ._traces import BOTH, Open, http_spans, open_agent_core, open_claude, own_span, spans_of, told, tracing

REMOTE = {"traceparent": f"00-{'a1' * 16}-{'b2' * 8}-01", "tracestate": "vendor=from-far-away"}
TWO_TOOLS = [
    call_tools(("lookup", {"email": "ann@example.com"}), ("lookup", {"email": "bob@example.com"})),
    say("Bye!"),
]
SAID = ("How are they doing?", "ann@example.com", "bob@example.com", "she is well", "Bye!")


async def lookup(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
    await trio.sleep(1)
    if input["email"] == "bob@example.com":
        await trio.sleep(1)  # what is posted at one moment may arrive in any order
        raise LookupError("bob@example.com is nobody")
    return "she is well"


def carried(headers: Mapping[str, str]) -> dict[str, str]:
    """What of a request's headers carries a trace on."""
    return {name: value for name, value in headers.items() if name in ("traceparent", "tracestate", "baggage")}


def parents(world: Traced) -> list[str]:
    """The header that each HTTP request would tell its span by, in order."""
    contexts = [span.context for span in http_spans(world)]
    return [f"00-{each.trace_id:032x}-{each.span_id:016x}-{each.trace_flags:02x}" for each in contexts]


# --- the headers ------------------------------------------------------------------------------------------------------


@BOTH
async def test_tel_03_each_request_carries_its_own_span_on(open_place: Open, autojump_clock: MockClock) -> None:
    refused = "send_events" if open_place is open_claude else "invoke_harness"
    plan = FaultPlan([Fault(on=refused, action=RefuseWith(429, retry_after=1))])
    with tracing() as world:
        # That AgentCore's simulator takes them means that their signatures are good, with these headers too.
        async with open_place(TWO_TOOLS, faults=plan) as place:
            result = await place.run(lookup)
            requests = place.simulator.requests
        assert result.terminal == "end_turn"
        assert [carried(request.headers) for request in requests] == [
            {"traceparent": parent} for parent in parents(world)
        ]
        paths = [told(span)["url.full"].partition("/")[2].partition("/")[2] for span in http_spans(world)]
        assert [path.partition("/")[2] for path in paths] == [request.path.lstrip("/") for request in requests]
        assert [request.status for request in requests].count(429) == 1


@BOTH
async def test_tel_03_a_trace_from_elsewhere_goes_on_with_its_state_and_nothing_else(
    open_place: Open, autojump_clock: MockClock
) -> None:
    remote = TraceContextTextMapPropagator().extract(REMOTE)
    with tracing() as world:
        async with open_place(TWO_TOOLS) as place:
            token = otel_context.attach(baggage.set_baggage("customer", "acme", remote))
            try:
                await place.run(lookup)
            finally:
                otel_context.detach(token)
            requests = place.simulator.requests
        assert [carried(request.headers) for request in requests] == [
            {"traceparent": parent, "tracestate": REMOTE["tracestate"]} for parent in parents(world)
        ]
        assert {f"{span.context.trace_id:x}" for span in spans_of(world)} == {"a1" * 16}


@BOTH
async def test_tel_03_the_trace_stays_here_if_it_shall(open_place: Open, autojump_clock: MockClock) -> None:
    with tracing(propagate=False) as world:
        async with open_place(TWO_TOOLS) as place:
            with own_span(world, "GET /chat"):
                await place.run(lookup)
            requests = place.simulator.requests
        assert [carried(request.headers) for request in requests] == [{}] * len(http_spans(world)) != []


@pytest.mark.parametrize(
    "given",
    [
        {"traceParent": f"00-{'c3' * 16}-{'d4' * 8}-00"},
        {"traceParent": f"00-{'c3' * 16}-{'d4' * 8}-00", "traceState": "own=1"},
        {"baggage": "own=1"},
    ],
    ids=["a parent", "a parent and its state", "neither"],
)
async def test_tel_03_what_a_caller_gives_itself_is_not_mixed_with_what_is_traced(
    given: dict[str, str], autojump_clock: MockClock
) -> None:
    message = {"role": "user", "content": [{"text": "go"}]}
    with tracing() as world:
        async with open_agent_core([say("Done.")]) as place:
            token = otel_context.attach(TraceContextTextMapPropagator().extract(REMOTE))
            try:
                session_id = place.options["runtime_session_id"]
                arn = place.simulator.harness_arn
                async with place.client.invoke_harness(
                    harnessArn=arn, runtimeSessionId=session_id, messages=[message], **given
                ) as stream:
                    async for _ in stream:
                        pass
            finally:
                otel_context.detach(token)
            (request,) = place.simulator.requests
        traced_on = {"traceparent": parents(world)[0], "tracestate": REMOTE["tracestate"]}
        own = {name.lower(): value for name, value in given.items()}
        assert carried(request.headers) == (own if "traceparent" in own else {**traced_on, **own})


# --- what was said ----------------------------------------------------------------------------------------------------


@BOTH
async def test_tel_03_what_was_said_is_in_no_span(open_place: Open, autojump_clock: MockClock) -> None:
    with tracing() as world:
        async with open_place(TWO_TOOLS) as place:
            result = await place.run(lookup, prompt="How are they doing?", expose_exceptions=True)
        assert result.text == "Bye!"
        everything = "".join(span.to_json() for span in spans_of(world))
        assert [text for text in SAID if text in everything] == []


@BOTH
async def test_tel_03_what_was_said_is_where_the_conventions_have_it_if_asked_for(
    open_place: Open, autojump_clock: MockClock
) -> None:
    with tracing(content=True) as world:
        async with open_place(TWO_TOOLS) as place:
            await place.run(lookup, prompt="How are they doing?")
        request = told(world.span("invoke_agent"))
        assert json.loads(request["gen_ai.input.messages"]) == [
            {"role": "user", "parts": [{"type": "text", "content": "How are they doing?"}]}
        ]
        assert json.loads(request["gen_ai.output.messages"]) == [
            {"role": "assistant", "parts": [{"type": "text", "content": "Bye!"}], "finish_reason": "stop"}
        ]
        ann, bob = spans_of(world, "execute_tool")
        assert json.loads(told(ann)["gen_ai.tool.call.arguments"]) == {"email": "ann@example.com"}
        assert json.loads(told(bob)["gen_ai.tool.call.arguments"]) == {"email": "bob@example.com"}
        assert json.loads(told(ann)["gen_ai.tool.call.result"]) == [{"type": "text", "text": "she is well"}]
        assert "gen_ai.tool.call.result" not in told(bob)
        assert [(event.name, dict(event.attributes or {})) for event in bob.events] == [
            ("exception", {"exception.type": "LookupError", "exception.message": "bob@example.com is nobody"})
        ]
        places = {span.name.partition(" ")[0] for span in spans_of(world) if any(t in span.to_json() for t in SAID)}
        assert places == {"invoke_agent", "execute_tool"}


@BOTH
async def test_tel_03_names_that_look_like_the_conventions_are_theirs(
    open_place: Open, autojump_clock: MockClock
) -> None:
    modules = (gen_ai_attributes, http_attributes, server_attributes, url_attributes, error_attributes)
    theirs = {value for module in modules for value in vars(module).values() if isinstance(value, str)}
    with tracing(content=True) as world:
        async with open_place(TWO_TOOLS) as place:
            await place.run(lookup)
        used = {name for span in spans_of(world) for name in told(span)}
    ours = ("managed_agents.", "anthropic.", "rpc.", "aws.")
    assert len(used & theirs) > 20
    assert {name for name in used if not name.startswith(ours)} <= theirs


async def test_tel_03_an_outcome_and_a_partial_answer_are_told_too(autojump_clock: MockClock) -> None:
    outcome = maa.Outcome(description="The report is written.", rubric="It has three parts.")
    with tracing(content=True) as world:
        async with open_claude([say("A first part."), *TWO_TOOLS]) as place:
            with pytest.raises(maa.SessionTimeout):
                await place.run(lookup, prompt=None, outcome=outcome, timeout=0.5)
        request = told(world.span("invoke_agent"))
        assert request["managed_agents.request.kind"] == "outcome"
        ((part,),) = [message["parts"] for message in json.loads(request["gen_ai.input.messages"])]
        assert part == {"type": "outcome", "description": outcome.description, "rubric": outcome.rubric}
        (answer,) = json.loads(request["gen_ai.output.messages"])
        assert answer["parts"] == [{"type": "text", "content": "A first part."}]
        assert answer["finish_reason"] == "error"
