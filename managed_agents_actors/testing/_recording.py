"""A handler that keeps what it was given, around a handler of one's own or alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import trio

from .._model import EventContext, ToolContext, ToolUse
from .._session.handlers import Handler, HandlerAdapter, ToolCallFunction

__all__ = ["RecordedCall", "RecordingHandler"]

Event: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedCall:
    """A call that a handler was given.

    Attributes:
        name: The tool.
        input: Its arguments.
        context: What came with it.
        at: When it began, in seconds of trio's clock.
    """

    name: str
    input: dict[str, Any]
    context: ToolContext
    at: float

    @property
    def id(self) -> str:
        """The call's id."""
        return self.context.tool_use_id


class RecordingHandler:
    """A handler that passes everything on and keeps it.

    Attributes:
        calls: The calls that were begun, in order.
        finished: The ids of those that gave a result or raised, in order; a cancelled call did neither.
        events: The provider's events that it was shown, in order.
        deltas: The text deltas between them.

    Args:
        handler: Runs the calls; alone, every call gives ``"ok"``.
    """

    def __init__(self, handler: Handler | ToolCallFunction | None = None) -> None:
        self.calls: list[RecordedCall] = []
        self.finished: list[str] = []
        self.events: list[Event] = []
        self.deltas: list[str] = []
        self._inner = HandlerAdapter(_ok if handler is None else handler)
        # A handler without these is another one than a handler with empty ones.
        for optional in ("handle_confirmation", "owns", "unknown_tools"):
            if hasattr(handler, optional):
                setattr(self, optional, getattr(handler, optional))

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: ToolContext) -> Any:
        """Keep a call and pass it on."""
        self.calls.append(RecordedCall(name=name, input=input, context=context, at=trio.current_time()))
        use = ToolUse(id=context.tool_use_id, name=name, input=input, thread_id=context.thread_id)
        try:
            result = await self._inner.run(use, context)
        except Exception:
            self.finished.append(context.tool_use_id)
            raise
        self.finished.append(context.tool_use_id)
        return result

    async def handle_event(self, event: Event, context: EventContext) -> None:
        """Keep an event and pass it on."""
        if event["type"] == "managed_agents.text_delta":
            self.deltas.append(event["text"])
        else:
            self.events.append(event)
        if self._inner.watch is not None:
            await self._inner.watch(event, context)


async def _ok(name: str, input: Mapping[str, Any], context: ToolContext) -> str:  # noqa: ARG001 - the form of a handler
    return "ok"
