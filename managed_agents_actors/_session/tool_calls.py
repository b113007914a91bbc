"""Running one call: limit, deadline, and every way it can end turned into a result the model can read.

What a tool raises stays in the local log; the model learns only the exception's type and an id to find it by.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from .._errors import ConfigurationError, ToolError
from .._model import Content, ToolContext, ToolOutput, ToolResult, ToolUse
from .._protocol.codec import encode_json
from .._protocol.content import content_blocks
from .handlers import HandlerAdapter

# A result longer than this (characters of text) is cut: the provider moves anything over 100,000 out of the model's
# sight into a file anyway ("Limits"), and a request may not exceed 32 MB.
MAX_RESULT_CHARS = 1_000_000


class Queue:
    """Keeps the calls of one session in their order: each may ask for its place under the limit after the one before.

    trio runs tasks that become ready together in any order; tools with effects need the order the model chose.
    """

    def __init__(self) -> None:
        self._last = trio.Event()
        self._last.set()

    def join(self) -> Place:
        """Stand behind every call that has joined before."""
        before, self._last = self._last, trio.Event()
        return Place(before, self._last)


class Place:
    """A call's place in the queue."""

    def __init__(self, before: trio.Event, passed: trio.Event) -> None:
        self._before = before
        self._passed = passed

    @asynccontextmanager
    async def under(self, limiter: trio.CapacityLimiter) -> AsyncIterator[None]:
        """Wait for the turn, then for a place under the limit; the next call's turn comes once it is had."""
        try:
            await self._before.wait()
            async with limiter:
                self._passed.set()
                yield
        finally:
            self._passed.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRunner:
    """Runs calls for one session.

    Attributes:
        handler: Who runs them.
        limiter: How many run at once; it may be shared by sessions.
        timeout: Seconds for one call, from its start; ``None`` for no limit.
        expose_exceptions: Whether the model is told the message of what a tool raised.
        log: Where the details of failures go.
    """

    handler: HandlerAdapter
    limiter: trio.CapacityLimiter
    timeout: float | None
    expose_exceptions: bool
    log: Any

    async def run(self, use: ToolUse, context: ToolContext, place: Place) -> ToolResult:
        """Run a call in its turn and give its result, whatever happened. Only cancellation comes out."""
        async with place.under(self.limiter):
            output = await self._guarded(use, context)
        return ToolResult(tool_use_id=use.id, content=tuple(content_blocks(output.content)), is_error=output.is_error)

    async def _guarded(self, use: ToolUse, context: ToolContext) -> ToolOutput:
        seconds = float("inf") if self.timeout is None else self.timeout
        try:
            with trio.move_on_after(seconds) as scope:
                return _output(use.name, await self.handler.run(use, context))
        except ToolError as error:
            return ToolOutput(content=str(error) or "The tool failed.", is_error=True)
        except Exception as error:  # noqa: BLE001 -- a tool may raise anything; it must become a result
            return self._failure(use, error)
        assert scope.cancelled_caught  # noqa: S101 -- nothing else leaves the block without a value
        return ToolOutput(content=f"The tool {use.name} timed out after {seconds:g} seconds.", is_error=True)

    def _failure(self, use: ToolUse, error: Exception) -> ToolOutput:
        error_id = secrets.token_hex(4)
        self.log.warning("tool_failed", tool=use.name, tool_use_id=use.id, error_id=error_id, exc_info=error)
        told = f"{type(error).__name__}: {error}" if self.expose_exceptions else type(error).__name__
        return ToolOutput(content=f"The tool {use.name} failed with {told} (error id {error_id}).", is_error=True)


def _output(name: str, value: Any) -> ToolOutput:
    """Read what a handler gave: text, a ToolOutput, or nothing; anything else is an error the model can read."""
    match value:
        case None:
            return ToolOutput(content="(no output)")
        case str():
            return _cut(value, is_error=False)
        case ToolOutput(content=content, is_error=is_error) if isinstance(content, str) or _are_blocks(content):
            return _cut(content, is_error=is_error)
        case ToolOutput():
            problem = "a ToolOutput whose content is neither text nor content blocks"
        case _:
            problem = f"a {type(value).__name__}"
    return ToolOutput(content=f"The tool {name} gave {problem} where text was expected.", is_error=True)


def _are_blocks(content: Any) -> bool:
    try:
        blocks = content_blocks(content)
        encode_json(blocks)
    except (ConfigurationError, ValueError):
        return False
    return True


def _cut(content: Content, *, is_error: bool) -> ToolOutput:
    """Bring content to blocks whose text is within the limit; what was cut is said where the model reads it."""
    blocks = content_blocks(content or "(no output)")
    room = MAX_RESULT_CHARS
    for block in blocks:
        text = block.get("text")
        if not isinstance(text, str):
            continue
        if len(text) > room:
            block["text"] = f"{text[:room]}\n[cut: {len(text):,} characters, of which {room:,} are shown]"
            is_error = True
        room = max(0, room - len(text))
    return ToolOutput(content=blocks, is_error=is_error)
