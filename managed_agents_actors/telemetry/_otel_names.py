"""What the bridge to OpenTelemetry calls what it tells: the semantic conventions' names, and ours for what they lack.

A name that is not here is a type error wherever it is used. Names only: which span has which is said elsewhere.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias, TypedDict

__all__ = ["EXECUTE_TOOL", "INVOKE_AGENT", "OTHER_ERROR", "SCOPE", "Attributes", "MetricName", "Operation"]

SCOPE: Final = "managed_agents_actors"

# Source: OpenTelemetry semantic conventions 1.41, generative AI (status: development, so names may still move).
Operation: TypeAlias = Literal["invoke_agent", "execute_tool"]
INVOKE_AGENT: Final = "invoke_agent"
EXECUTE_TOOL: Final = "execute_tool"

# Source: the same, error.type: what an error is called whose kind is not known.
OTHER_ERROR: Final = "_OTHER"

# The functional form, because the names have dots. What is None is not told.
Attributes = TypedDict(
    "Attributes",
    {
        # Generative AI.
        "gen_ai.operation.name": Operation,
        "gen_ai.provider.name": Any,
        "gen_ai.conversation.id": Any,
        "gen_ai.agent.id": Any,
        "gen_ai.agent.name": Any,
        "gen_ai.usage.input_tokens": int | float | None,
        "gen_ai.usage.output_tokens": int | float | None,
        "gen_ai.usage.cache_read.input_tokens": int | float | None,
        "gen_ai.usage.cache_creation.input_tokens": int | float | None,
        "gen_ai.response.finish_reasons": list[Any] | None,
        "gen_ai.tool.name": Any,
        "gen_ai.tool.type": Literal["function"],
        "gen_ai.tool.call.id": Any,
        "gen_ai.token.type": Literal["input", "output"],
        # The same, what people, models and tools say.
        "gen_ai.input.messages": str | None,
        "gen_ai.output.messages": str | None,
        "gen_ai.tool.call.arguments": str | None,
        "gen_ai.tool.call.result": str | None,
        # HTTP, errors, and calls of AWS.
        "http.request.method": Any,
        "http.request.resend_count": int | None,
        "http.response.status_code": Any,
        "server.address": Any,
        "server.port": Any,
        "url.full": str | None,
        "error.type": str | None,
        "exception.type": str,
        "exception.message": str,
        "rpc.system": Literal["aws-api"],
        "rpc.service": Any,
        "rpc.method": Any,
        "aws.request_id": Any,
        # As Anthropic's own SDK names them.
        "anthropic.session.id": Any,
        "anthropic.request.id": Any,
        # Ours.
        "managed_agents.session.name": Any,
        "managed_agents.session.phase": str,
        "managed_agents.request.number": Any,
        "managed_agents.request.kind": Any,
        "managed_agents.turn": Any,
        "managed_agents.turns": Any,
        "managed_agents.terminal": Any,
        "managed_agents.cancelled": bool | None,
        "managed_agents.tool.attempt": Any,
        "managed_agents.tool.count": Any,
        "managed_agents.tool.names": Any,
        "managed_agents.tool.call.ids": Any,
        "managed_agents.stream.attempt": Any,
        "managed_agents.stream.delay": Any,
        "managed_agents.stream.duration": Any,
        "managed_agents.stream.events": Any,
        "managed_agents.stream.reason": Any,
    },
    total=False,
)

MetricName: TypeAlias = Literal[
    "gen_ai.client.token.usage",
    "gen_ai.client.operation.duration",
    "gen_ai.invoke_agent.duration",
    "gen_ai.execute_tool.duration",
    "managed_agents.turn.duration",
    "managed_agents.stream.reconnects",
    "managed_agents.session.restarts",
    "managed_agents.session.terminals",
    "managed_agents.sessions",
    "managed_agents.session.mailbox_depth",
    "managed_agents.session.mailbox_depth.max",
]
