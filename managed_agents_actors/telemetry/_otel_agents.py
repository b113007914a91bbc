"""How requests to agents, their turns and their tools are told: the conventions for generative AI. Pure functions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from opentelemetry.trace import SpanKind

from ._otel_convention import Convention, Told, error_of, number, own_keys, where
from ._otel_names import EXECUTE_TOOL, INVOKE_AGENT, Attributes
from ._otel_values import content_json, input_messages, output_messages

__all__ = ["TOOL", "TURN", "request_convention", "tool_error", "total_input_tokens"]

LOCAL: Final = "local"  # the provider whose agents run in this process


def total_input_tokens(told: Told) -> int | None:
    """Count what the model was given: the providers count what came from the cache, or went there, apart."""
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    found = [count for name in names if (count := number(told, name)) is not None]
    return int(sum(found)) if found else None


def tool_error(told: Told) -> str | None:
    """Give what the error is called that a tool ended with: an error result is one."""
    is_error = told.get("is_error") and not told.get("cancelled")
    return error_of(told) or ("tool_error" if is_error else None)


def _usage(told: Told) -> Attributes:
    return {
        "gen_ai.usage.input_tokens": total_input_tokens(told),
        "gen_ai.usage.output_tokens": number(told, "output_tokens"),
        "gen_ai.usage.cache_read.input_tokens": number(told, "cache_read_input_tokens"),
        "gen_ai.usage.cache_creation.input_tokens": number(told, "cache_creation_input_tokens"),
    }


def _begin_request(told: Told) -> Attributes:
    return {
        **where(told),
        "gen_ai.operation.name": INVOKE_AGENT,
        "managed_agents.request.kind": told.get("kind"),
    }


def _end_request(told: Told) -> Attributes:
    reason = _finish_reason(told)
    return {
        **where(told),  # the session may have got its id meanwhile
        **_usage(told),
        "gen_ai.response.finish_reasons": None if reason is None else [str(reason)],
        "managed_agents.terminal": told.get("terminal"),
        "managed_agents.turn": None,  # the last one's, which is not the request's
        "managed_agents.turns": told.get("turns"),
    }


def _finish_reason(told: Told) -> Any:
    return told.get("stop_reason") or told.get("terminal")


def _request_content(told: Told) -> Attributes:
    content: Attributes = {}
    if "input" in told:
        content["gen_ai.input.messages"] = input_messages(told["input"])
    if "text" in told:
        reason = "error" if error_of(told) else _finish_reason(told)
        content["gen_ai.output.messages"] = output_messages(told["text"], reason)
    return content


def _end_turn(told: Told) -> Attributes:
    return {**where(told), **_usage(told)}  # as above


def _begin_tool(told: Told) -> Attributes:
    return {
        **where(told),
        "gen_ai.operation.name": EXECUTE_TOOL,
        "gen_ai.tool.name": told.get("tool"),
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": told.get("tool_use_id"),
        "managed_agents.tool.attempt": told.get("attempt"),
    }


def _tool_content(told: Told) -> Attributes:
    content: Attributes = {}
    if "input" in told:
        content["gen_ai.tool.call.arguments"] = content_json(told["input"])
    if "output" in told:
        content["gen_ai.tool.call.result"] = content_json(told["output"])
    return content


_REQUEST: Final = Convention(
    title=INVOKE_AGENT,
    titled_by=("agent_name",),
    kind=SpanKind.CLIENT,
    begin=_begin_request,
    end=_end_request,
    error=error_of,
    content=_request_content,
    own=own_keys("kind", "terminal", "stop_reason"),
    is_current=False,
)
_LOCAL_REQUEST: Final = replace(_REQUEST, kind=SpanKind.INTERNAL)
TURN: Final = Convention(
    title="turn",
    begin=where,
    end=_end_turn,
    error=error_of,
    own=own_keys(),
    is_current=False,
)
TOOL: Final = Convention(
    title=EXECUTE_TOOL,
    titled_by=("tool",),
    begin=_begin_tool,
    error=tool_error,
    content=_tool_content,
    own=own_keys("tool", "tool_use_id", "attempt", "is_error"),
)


def request_convention(told: Told) -> Convention:
    """Give how a request is told: one that stays in this process is another kind of span."""
    return _LOCAL_REQUEST if told.get("provider") == LOCAL else _REQUEST
