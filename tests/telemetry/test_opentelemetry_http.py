"""HTTP requests as OpenTelemetry is told of them: a span for each attempt, by the conventions for HTTP and for AWS."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode

from managed_agents_actors import TransportError, telemetry

from ._traced import CLAUDE, begin_request, begin_turn, http, traced

AWS = {
    "method": "POST",
    "path": "/harnesses/invoke",
    "scheme": "https",
    "host": "bedrock-agentcore.us-east-1.amazonaws.com",
    "port": 443,
    "attempt": 1,
    "operation": "InvokeHarness",
    "service": "bedrock-agentcore",
}


def test_a_request_tells_where_it_went_and_what_came_back() -> None:
    with traced() as world:
        world.attach()
        turn = begin_turn(begin_request())
        with http(**CLAUDE, parent_id=turn, path="/v1/sessions/sesn_1/events?limit=5", attempt=3) as told:
            told.update(status=200, request_id="req_1")
        telemetry.emit("managed_agents.turn.stop", {"duration": 1.0}, {"span_id": turn})
        span = world.span("POST")
        assert (span.kind, span.status.status_code) == (SpanKind.CLIENT, StatusCode.UNSET)
        assert world.parent("POST") == "turn"
        assert dict(span.attributes or {}) == {
            "http.request.method": "POST",
            "http.request.resend_count": 2,
            "http.response.status_code": 200,
            "url.full": "https://api.anthropic.com/v1/sessions/sesn_1/events",
            "server.address": "api.anthropic.com",
            "server.port": 443,
            "anthropic.request.id": "req_1",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.conversation.id": "sesn_1",
            "gen_ai.agent.id": "agent_1",
            "anthropic.session.id": "sesn_1",
            "managed_agents.session.name": "customer-42",
            "managed_agents.request.number": 1,
            "customer": "acme",
        }


def test_a_call_of_agent_core_is_named_by_its_operation() -> None:
    with traced() as world:
        world.attach()
        with telemetry.span("managed_agents.agent_core.request", AWS) as told:
            told.update(status=200, request_id="aws-1")
        span = world.span("POST InvokeHarness")
        assert span.kind is SpanKind.CLIENT
        assert dict(span.attributes or {}) == {
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "url.full": "https://bedrock-agentcore.us-east-1.amazonaws.com/harnesses/invoke",
            "server.address": "bedrock-agentcore.us-east-1.amazonaws.com",
            "server.port": 443,
            "rpc.system": "aws-api",
            "rpc.service": "bedrock-agentcore",
            "rpc.method": "InvokeHarness",
            "aws.request_id": "aws-1",
        }


@pytest.mark.parametrize(
    ("where", "url"),
    [
        ({"scheme": "https", "host": "localhost", "port": 8080}, "https://localhost:8080/v1"),
        ({"scheme": "http", "host": "localhost", "port": 80}, "http://localhost/v1"),
        ({"scheme": "http", "host": "::1", "port": 8080}, "http://[::1]:8080/v1"),
        ({"scheme": "http", "host": "localhost", "port": None}, "http://localhost/v1"),
        ({"host": None}, None),
        ({"path": None}, None),
    ],
    ids=str,
)
def test_the_address_of_a_request(where: dict[str, Any], url: str | None) -> None:
    with traced() as world:
        world.attach()
        with http(**{"path": "/v1", **where}):
            pass
        assert (world.span("POST").attributes or {}).get("url.full") == url


@pytest.mark.parametrize(
    ("ended", "error"),
    [
        ({"status": 204}, None),
        ({"status": 302}, None),
        ({"status": 404, "error_type": "NotFoundError"}, "404"),
        ({"status": 529, "error_type": "OverloadedError"}, "529"),
        ({"error_type": "ProtocolError"}, "ProtocolError"),
        ({"cancelled": True}, None),
    ],
    ids=str,
)
def test_how_a_request_ends(ended: dict[str, Any], error: str | None) -> None:
    with traced() as world:
        world.attach()
        with http() as told:
            told.update(ended)
        span = world.span("POST")
        assert (span.attributes or {}).get("error.type") == error
        assert span.status.status_code is (StatusCode.ERROR if error else StatusCode.UNSET)
        assert span.status.description is None
        assert (span.attributes or {}).get("http.response.status_code") == ended.get("status")


def test_a_request_that_never_arrived_is_told_by_the_type_of_its_error() -> None:
    with traced() as world:
        world.attach()
        with pytest.raises(TransportError), http():
            raise TransportError("the name could not be resolved", request_sent=False)
        span = world.span("POST")
        assert (span.attributes or {})["error.type"] == "TransportError"
        assert span.status.status_code is StatusCode.ERROR


def test_a_request_of_which_nothing_is_known_is_called_as_its_events_are() -> None:
    with traced() as world:
        world.attach()
        with telemetry.span("managed_agents.request"):
            pass
        assert world.names == ["managed_agents.request"]
        assert dict(world.span("managed_agents.request").attributes or {}) == {}
