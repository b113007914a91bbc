"""What an invocation's messages ask for, given what the session waits for. Pure.

An answer to a hand-off is judged by one of two contracts, or by either. ``"documented"``: the harness holds the
pending call, and only the matching result counts. ``"echo"``, as the service was before: the harness holds nothing,
so the assistant's message comes back with the results. What the service does with a user's text during a hand-off, be
it beside the results, is not documented: it is refused here.

Source: Amazon Bedrock AgentCore developer guide, harness, inline functions ("return of control").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ._agentcore_tools import ToolSet

__all__ = ["Contract", "HandOff", "StreamRefusal", "require_resumable", "results_in", "text_of"]

Json: TypeAlias = Mapping[str, Any]
Contract: TypeAlias = Literal["both", "echo", "documented"]


class StreamRefusal(Exception):
    """The invocation ends in an exception within its stream.

    Attributes:
        type: The exception's name on the wire.
        message: What it says.
    """

    def __init__(self, type: str, message: str) -> None:
        self.type = type
        self.message = message
        super().__init__(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOff:
    """What a session waits for.

    Attributes:
        pending: The calls whose results it waits for.
        later: Calls of the same response that are handed off after these.
        names: The names of the tools that are called.
        declared: Whether those were declared when they were handed off.
    """

    pending: Collection[str] = ()
    later: Collection[str] = ()
    names: Collection[str] = ()
    declared: bool = False


def results_in(messages: Sequence[Json]) -> list[Json]:
    """The tool results that a client sent."""
    return _blocks(messages, "user", "toolResult")


def text_of(messages: Sequence[Json]) -> str:
    """The text of the last message."""
    return "".join(block.get("text", "") for block in messages[-1]["content"]) if messages else ""


def require_resumable(
    messages: Sequence[Json], waits_for: HandOff, *, contract: Contract, tools: ToolSet, history: int
) -> None:
    """Let messages pass that start a turn, or that answer the pending hand-off.

    Args:
        messages: A conversation, as the client sent it.
        waits_for: What the session waits for.
        contract: How an answer is judged.
        tools: The tools that this invocation knows.
        history: How many messages the harness holds already.

    Raises:
        StreamRefusal: They do neither.
    """
    results = results_in(messages)
    if waits_for.pending and (not results or _blocks(messages, "user", "text")):
        raise _refuse(f"The session waits for the results of {_names(waits_for.pending)}, not for a new message.")
    if not results:
        return
    if any("json" in block for result in results for block in result["content"]):
        raise StreamRefusal("runtimeClientError", "content_type=<json_> | unsupported type")
    echoed = [block["toolUseId"] for block in _blocks(messages, "assistant", "toolUse")]
    answered = [result["toolUseId"] for result in results]
    if contract == "echo":
        _require_pair(echoed, answered, at=history + len(messages) - 1)
    missing_tools = tools.missing(waits_for.names, declared=waits_for.declared)
    if missing_tools:
        raise _refuse(f"The pending tool {_names(missing_tools)} is unavailable: send the same tools again.")
    _require_matching(answered, waits_for)


def _require_pair(echoed: list[str], answered: list[str], *, at: int) -> None:
    """The model's own rules for a conversation that ends in an assistant's calls and their results."""
    if len(set(echoed)) < len(echoed):
        raise _model_error(f"messages.{at - 1}.content contain duplicate Ids: {_names(echoed)}")
    if len(answered) > len(echoed):
        raise _model_error(
            f"The number of toolResult blocks at messages.{at}.content exceeds the number of toolUse blocks of "
            "previous turn."
        )
    if set(echoed) != set(answered):
        raise _model_error(
            f"Expected toolResult blocks at messages.{at}.content for the following Ids: {_names(echoed)}"
        )


def _require_matching(answered: list[str], waits_for: HandOff) -> None:
    counted = [name for name in answered if name not in waits_for.later]
    strange = sorted(set(counted) - set(waits_for.pending))
    if strange:
        raise _refuse(f"No pending call is answered by the toolResult of {_names(strange)}: it is stale or unknown.")
    if len(set(counted)) < len(counted):
        raise _refuse(f"A call can be answered once: duplicate toolResult of {_names(counted)}.")
    missing = [name for name in waits_for.pending if name not in counted]
    if missing:
        raise _refuse(f"The toolResult of {_names(missing)} is missing.")


def _blocks(messages: Sequence[Json], role: str, kind: str) -> list[Json]:
    found = [message["content"] for message in messages if message["role"] == role]
    return [block[kind] for content in found for block in content if kind in block]


def _names(names: Collection[str]) -> str:
    return ", ".join(names)


def _refuse(message: str) -> StreamRefusal:
    return StreamRefusal("validationException", message)


def _model_error(message: str) -> StreamRefusal:
    text = f"An error occurred (ValidationException) when calling the ConverseStream operation: {message}"
    return StreamRefusal("runtimeClientError", text)
