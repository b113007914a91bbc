"""The tool calls of a turn and what is still awaited of each: their events are made here, and sent elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import trio

from ._claude_inputs import Awaits
from ._script import Call, ToolAnswer

__all__ = ["INTERRUPTED", "Batch", "PendingCall", "awaited", "denial", "needs_worker", "result_event", "use_event"]

Event: TypeAlias = dict[str, Any]

# The text the hosted API closes an interrupted call with (documented).
INTERRUPTED = "Tool execution was interrupted before completion. Please retry."
WORKER_TOOLS = frozenset({"bash", "read", "write", "edit", "glob", "grep"})
# The policy that leads to each permission; a plain refusal can only come from the automatic one.
EVALUATIONS: dict[str, Event] = {
    "allow": {"type": "always_allow"},
    "ask": {"type": "always_ask"},
    "deny": {"type": "auto", "evaluated_permission": {"type": "deny", "reason_code": "high_risk"}},
}


class Batch:
    """The calls of one model response; over when every one has its answer."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._answers: dict[str, ToolAnswer] = {}
        self._order: list[str] = []
        self.over = trio.Event()

    def expect(self, call_id: str) -> None:
        """Give the next call its place in the order."""
        self._order.append(call_id)

    def settle(self, call_id: str, name: str, content: Sequence[Mapping[str, Any]], *, is_error: bool) -> None:
        """Note the answer to a call."""
        self._answers[call_id] = ToolAnswer(id=call_id, name=name, content=tuple(content), is_error=is_error)
        if len(self._answers) == self._size:
            self.over.set()

    def answers(self) -> list[ToolAnswer]:
        """The answers, in the order of the calls."""
        return [self._answers[call_id] for call_id in self._order]


@dataclass(slots=True, kw_only=True)
class PendingCall:
    """A call that waits for a client.

    Attributes:
        id: The id of its event.
        call: As the agent made it.
        batch: The model response it belongs to.
        awaits: What settles it.
        thread_id: The sub-agent's thread; ``None`` for the primary.
        worker: Whether a worker runs it once it is allowed.
    """

    id: str
    call: Call
    batch: Batch
    awaits: Awaits
    thread_id: str | None
    worker: bool

    def settle(self, content: Sequence[Mapping[str, Any]], *, is_error: bool) -> None:
        """Give the batch this call's answer."""
        self.batch.settle(self.id, self.call.name, content, is_error=is_error)


def needs_worker(call: Call, *, self_hosted: bool) -> bool:
    """Whether a self-hosted worker has to run the call."""
    return self_hosted and call.kind == "builtin" and call.name in WORKER_TOOLS


def awaited(call: Call, *, self_hosted: bool) -> Awaits | None:
    """What a fresh call waits for; ``None`` when the server deals with it alone."""
    if call.kind == "custom":
        return "custom_result"
    if call.permission == "ask":
        return "confirmation"
    if call.permission == "allow" and needs_worker(call, self_hosted=self_hosted):
        return "tool_result"
    return None


def use_event(call: Call, *, thread_id: str | None) -> Event:
    """The event that announces a call."""
    event: Event = {"name": call.name, "input": dict(call.input)}
    if thread_id is not None:
        event["session_thread_id"] = thread_id
    if call.kind == "custom":
        return {"type": "agent.custom_tool_use", **event}
    event |= {"evaluated_permission": call.permission, "evaluation": EVALUATIONS[call.permission]}
    if call.kind == "mcp":
        return {"type": "agent.mcp_tool_use", "mcp_server_name": call.server, **event}
    return {"type": "agent.tool_use", **event}


def result_event(call: Call, call_id: str, text: str, *, is_error: bool) -> Event:
    """The event with which the server itself answers a call."""
    content = [{"type": "text", "text": text}]
    if call.kind == "custom":
        kind, id_field = "user.custom_tool_result", "custom_tool_use_id"
    elif call.kind == "mcp":
        kind, id_field = "agent.mcp_tool_result", "mcp_tool_use_id"
    else:
        kind, id_field = "agent.tool_result", "tool_use_id"
    return {"type": kind, id_field: call_id, "content": content, "is_error": is_error}


def denial(call: Call, message: str | None = None) -> str:
    """The text of a refused call's result."""
    return message or f"Permission to use {call.name} has been denied."
