"""The spans of sessions as OpenTelemetry is told of them: their tree, their attributes, and how each of them ends."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from managed_agents_actors import telemetry

from ._traced import CLAUDE, begin_request, begin_turn, end_request, end_turn, new_number, tool, traced

USAGE = {"input_tokens": 100, "output_tokens": 40, "cache_read_input_tokens": 20, "cache_creation_input_tokens": 3}


def test_tel_03_spans_have_their_parents_and_durations() -> None:
    with traced() as world:
        world.attach()
        with world.tracer_provider.get_tracer("web").start_as_current_span("GET /chat"):
            request = begin_request()
        turn = begin_turn(request)
        with tool(turn, "lookup"):
            pass
        end_turn(turn)
        end_request(request)
        assert world.names == ["GET /chat", "execute_tool lookup", "turn", "invoke_agent"]
        assert world.parent("execute_tool lookup") == "turn"
        assert world.parent("turn") == "invoke_agent"
        assert world.parent("invoke_agent") == "GET /chat"
        kinds = {name: world.span(name).kind for name in world.names[1:]}
        assert kinds == {
            "execute_tool lookup": SpanKind.INTERNAL,
            "turn": SpanKind.INTERNAL,
            "invoke_agent": SpanKind.CLIENT,
        }
        assert (world.seconds("invoke_agent"), world.seconds("turn")) == (2.5, 1.5)
        assert {world.span(name).status.status_code for name in world.names} == {StatusCode.UNSET}


def test_a_request_tells_whose_it_is_and_what_it_took() -> None:
    with traced() as world:
        world.attach()
        request = begin_request(agent_name="Support", turn=1)
        end_request(request, measurements={"duration": 2.5, "turns": 2, **USAGE}, turn=2)
        assert dict(world.span("invoke_agent Support").attributes or {}) == {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.conversation.id": "sesn_1",
            "gen_ai.agent.id": "agent_1",
            "gen_ai.agent.name": "Support",
            "anthropic.session.id": "sesn_1",
            "managed_agents.session.name": "customer-42",
            "managed_agents.request.number": 1,
            "managed_agents.request.kind": "message",
            "managed_agents.turn": 1,
            "managed_agents.turns": 2,
            "managed_agents.terminal": "end_turn",
            "gen_ai.response.finish_reasons": ("end_turn",),
            "gen_ai.usage.input_tokens": 123,
            "gen_ai.usage.output_tokens": 40,
            "gen_ai.usage.cache_read.input_tokens": 20,
            "gen_ai.usage.cache_creation.input_tokens": 3,
            "customer": "acme",
        }


def test_a_session_that_gets_its_id_during_its_first_request_tells_it_at_the_end() -> None:
    with traced() as world:
        world.attach()
        end_request(begin_request({"provider": "claude_managed_agents"}))
        attributes = world.span("invoke_agent").attributes or {}
        assert attributes["gen_ai.conversation.id"] == attributes["anthropic.session.id"] == "sesn_1"


@pytest.mark.parametrize(
    ("provider", "told", "kind"),
    [
        ("claude_managed_agents", "anthropic", SpanKind.CLIENT),
        ("bedrock_agent_core", "aws.bedrock", SpanKind.CLIENT),
        ("local", "local", SpanKind.INTERNAL),
        ("my_provider", "my_provider", SpanKind.CLIENT),
    ],
)
def test_tel_03_the_provider_is_the_backend(provider: str, told: str, kind: SpanKind) -> None:
    with traced() as world:
        world.attach()
        tags = {"provider": provider, "session_id": "s1"}
        end_request(begin_request(tags), tags)
        span = world.span("invoke_agent")
        attributes = span.attributes or {}
        assert (attributes["gen_ai.provider.name"], span.kind) == (told, kind)
        assert attributes["gen_ai.conversation.id"] == "s1"
        assert ("anthropic.session.id" in attributes) == (told == "anthropic")


def test_tel_03_a_turn_tells_its_tokens() -> None:
    with traced() as world:
        world.attach()
        end_turn(begin_turn(new_number()), **USAGE)
        attributes = dict(world.span("turn").attributes or {})
        assert attributes["managed_agents.turn"] == 1
        assert attributes["gen_ai.usage.input_tokens"] == 123
        assert attributes["gen_ai.usage.output_tokens"] == 40
        assert attributes["customer"] == "acme"


def test_what_is_not_measured_is_not_told() -> None:
    with traced() as world:
        world.attach()
        end_turn(begin_turn(new_number()), input_tokens=None, output_tokens=True)
        assert not [name for name in world.span("turn").attributes or {} if name.startswith("gen_ai.usage")]


@pytest.mark.parametrize(
    ("ended", "reasons", "error"),
    [
        ({"stop_reason": "retries_exhausted", "terminal": "terminated"}, ("retries_exhausted",), None),
        ({"stop_reason": None, "terminal": "requires_action"}, ("requires_action",), None),
        ({"error_type": "SessionTimeout"}, ("end_turn",), "SessionTimeout"),
        ({"cancelled": True}, ("end_turn",), None),
        ({"cancelled": True, "error_type": "Cancelled"}, ("end_turn",), None),
    ],
    ids=["by the provider", "for an answer", "by an error", "by a stop", "by a stop that is told as an error"],
)
def test_how_a_request_ends(ended: dict[str, Any], reasons: tuple[str, ...], error: str | None) -> None:
    with traced() as world:
        world.attach()
        end_request(begin_request(), **ended)
        span = world.span("invoke_agent")
        attributes = span.attributes or {}
        assert attributes["gen_ai.response.finish_reasons"] == reasons
        assert attributes.get("error.type") == error
        assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
        assert span.status.description is None
        assert attributes.get("managed_agents.cancelled") == (True if "cancelled" in ended else None)


def test_a_tool_tells_what_it_is() -> None:
    with traced() as world:
        world.attach()
        with tool(new_number(), attempt=2) as told:
            told["is_error"] = False
        span = world.span("execute_tool lookup")
        assert span.status.status_code is StatusCode.UNSET
        assert dict(span.attributes or {}) == {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.conversation.id": "sesn_1",
            "gen_ai.agent.id": "agent_1",
            "gen_ai.tool.name": "lookup",
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": "toolu_lookup",
            "anthropic.session.id": "sesn_1",
            "managed_agents.session.name": "customer-42",
            "managed_agents.request.number": 1,
            "managed_agents.turn": 1,
            "managed_agents.tool.attempt": 2,
            "customer": "acme",
        }


@pytest.mark.parametrize(
    ("ended", "error"),
    [
        ({"is_error": True, "error_type": "tool_error"}, "tool_error"),
        ({"is_error": True}, "tool_error"),
        ({"is_error": True, "error_type": "timeout"}, "timeout"),
        ({"error_type": "timeout"}, "timeout"),
        ({"cancelled": True}, None),
        ({"is_error": True, "cancelled": True}, None),
    ],
)
def test_how_a_tool_ends(ended: dict[str, Any], error: str | None) -> None:
    with traced() as world:
        world.attach()
        with tool(new_number()) as told:
            told.update(ended)
        span = world.span("execute_tool lookup")
        assert (span.attributes or {}).get("error.type") == error
        assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)


def test_a_tool_that_raises_is_told_by_the_type_of_what_it_raised() -> None:
    with traced() as world:
        world.attach()
        with pytest.raises(LookupError), tool(new_number()):
            raise LookupError("no such customer")
        telemetry.emit("managed_agents.tool.start", {}, {"tool": "other", "span_id": 7_000_000})
        telemetry.emit("managed_agents.tool.exception", {}, {"tool": "other", "span_id": 7_000_000})
        for name, error in (("execute_tool lookup", "LookupError"), ("execute_tool other", "_OTHER")):
            span = world.span(name)
            assert (span.attributes or {})["error.type"] == error
            assert span.status.status_code is StatusCode.ERROR
            assert span.events == ()


def test_a_span_of_the_applications_own_has_what_it_tells_as_attributes() -> None:
    with traced() as world:
        world.attach()
        about = {"table": "customers", "limit": 10, "ratio": 0.5, "is_dry": True, "input": "a file", "skipped": None}
        with telemetry.span("myapp.lookup", about) as told:
            told["rows"] = [1, 2]
        with pytest.raises(KeyError), telemetry.span("myapp.store"):
            raise KeyError("k")
        span = world.span("myapp.lookup")
        assert (span.kind, span.status.status_code) == (SpanKind.INTERNAL, StatusCode.UNSET)
        assert dict(span.attributes or {}) == {
            "table": "customers",
            "limit": 10,
            "ratio": 0.5,
            "is_dry": True,
            "input": "a file",
            "rows": (1, 2),
        }
        failed = world.span("myapp.store")
        assert failed.status.status_code is StatusCode.ERROR
        assert dict(failed.attributes or {}) == {"error.type": "KeyError"}


def test_what_happens_within_a_span_is_told_as_its_event() -> None:
    with traced() as world:
        world.attach()
        request = begin_request()
        within = {**CLAUDE, "parent_id": request, "turn": 1}
        reconnecting = {**within, "attempt": 2, "error_type": "StreamLost", "reason": "the connection was reset"}
        telemetry.emit("managed_agents.stream.reconnecting", {"delay": 0.5}, reconnecting)
        telemetry.emit("managed_agents.stream.error", {"duration": 3.0, "events": 7}, {**within, "error_type": "X"})
        telemetry.emit("managed_agents.journal.replayed", {}, {**within, "tool": "lookup", "tool_use_id": "toolu_1"})
        uses = {**within, "tool_use_ids": ["toolu_1"], "tools": ["lookup"]}
        telemetry.emit("managed_agents.session.tool_uses", {"tool_use_count": 1}, uses)
        telemetry.emit("managed_agents.stream.event", {}, {**within, "type": "agent.message"})
        telemetry.emit("managed_agents.stream.reconnecting", {"delay": 9}, {"parent_id": request + 1_000_000})
        telemetry.emit("managed_agents.stream.reconnecting", {"delay": 9}, {})
        end_request(request)
        told = [(event.name, dict(event.attributes or {})) for event in world.span("invoke_agent").events]
    assert told == [
        (
            "managed_agents.stream.reconnecting",
            {
                "error.type": "StreamLost",
                "managed_agents.stream.attempt": 2,
                "managed_agents.stream.delay": 0.5,
                "managed_agents.stream.reason": "the connection was reset",
                "managed_agents.turn": 1,
            },
        ),
        (
            "managed_agents.stream.error",
            {
                "error.type": "X",
                "managed_agents.stream.duration": 3.0,
                "managed_agents.stream.events": 7,
                "managed_agents.turn": 1,
            },
        ),
        (
            "managed_agents.journal.replayed",
            {"gen_ai.tool.name": "lookup", "gen_ai.tool.call.id": "toolu_1", "managed_agents.turn": 1},
        ),
        (
            "managed_agents.session.tool_uses",
            {
                "managed_agents.tool.count": 1,
                "managed_agents.tool.call.ids": ("toolu_1",),
                "managed_agents.tool.names": ("lookup",),
                "managed_agents.turn": 1,
            },
        ),
    ]


def test_an_end_without_a_beginning_is_passed_over_and_a_beginning_is_told_once() -> None:
    with traced() as world:
        number = new_number()
        telemetry.emit("managed_agents.turn.start", {}, {"span_id": number})
        world.attach()
        end_turn(number)
        end_request(new_number())
        telemetry.emit("managed_agents.tool.stop", {"duration": 1.0}, {})
        assert world.names == []
        telemetry.emit("managed_agents.turn.start", {}, {"span_id": number})
        telemetry.emit("managed_agents.turn.start", {}, {"span_id": number})
        end_turn(number)
        end_turn(number)
        assert world.names == ["turn"]


def test_spans_without_a_beginning_of_their_parent_are_roots() -> None:
    with traced() as world:
        world.attach()
        with tool(new_number()):
            pass
        assert world.span("execute_tool lookup").parent is None
