"""Running one call: limit, deadline, and every way it can end turned into a result the model can read.

What a tool raises stays in the local log; the model learns only the exception's type and an id to find it by.
"""

from __future__ import annotations

import math
import secrets
from dataclasses import dataclass, field, replace
from typing import Any

import trio

from .._errors import ConfigurationError, ToolError
from .._model import ToolContext, ToolOutput, ToolResult, ToolUse
from .._protocol.codec import encode_json, without_lone_surrogates
from .._protocol.content import content_blocks
from ..telemetry import emit
from ..telemetry._spans import span
from .handlers import HandlerAdapter
from .journal import Journal, JournalEntry, MemoryJournal
from .statistics import Tally

# A result longer than this (characters of text) is cut: the provider moves anything over 100,000 out of the model's
# sight into a file anyway ("Limits"), and a request may not exceed 32 MB.
MAX_RESULT_CHARS = 1_000_000

# A result larger than this in all (bytes on the wire, images included) would be refused with its whole request: the
# limit of a request is 32 MB ("Limits"), and its envelope needs some room too.
MAX_RESULT_BYTES = 30_000_000


# Seconds for which a result is still recorded when its call is cancelled at that moment.
JOURNAL_GRACE = 5.0

# Seconds that a journal may take to record that a call begins, before the call is given up: it holds up other calls.
JOURNAL_PATIENCE = 30.0

# What the model is told of calls that do not run.
NOT_RECORDED = "The tool {name} was not run: the call could not be recorded."
INTERRUPTED = "The tool {name} was interrupted and is not run again; whether it had an effect is not known."
SETTLED = "The tool {name} has been answered already."


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

    async def come_up(self) -> None:
        """Wait for the turn; no checkpoint if it has come."""
        if not self._before.is_set():
            await self._before.wait()

    def leave(self) -> None:
        """Let the next call have its turn. Who has joined the queue comes here, whatever becomes of it."""
        self._passed.set()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRunner:
    """Runs calls for one session.

    Attributes:
        handler: Who runs them.
        limiter: How many run at once; it may be shared by sessions.
        timeout: Seconds for one call, from its start; ``None`` for no limit.
        expose_exceptions: Whether the model is told the message of what a tool raised.
        journal: Where each call is recorded, before it starts and when it has its result.
        reruns: Whether a call that was cut off is run again; if not, it fails.
        log: Where the details of failures go.
        tally: Where it is counted how long they take.
        queue: Where they stand until they may ask for a place under the limit.
    """

    handler: HandlerAdapter
    limiter: trio.CapacityLimiter
    timeout: float | None
    expose_exceptions: bool
    journal: Journal
    reruns: bool
    log: Any
    tally: Tally
    queue: Queue = field(default_factory=Queue)

    async def run(self, use: ToolUse, context: ToolContext, place: Place) -> ToolResult:
        """Run a call in its turn and give its result, whatever happened. Only cancellation comes out.

        A call that the journal knows a result of is not run again.
        """
        try:
            await place.come_up()
            # A checkpoint, so that a cancelled call does not run even if its tool never waits.
            async with self.limiter:
                place.leave()
                return await self._run(use, context)
        finally:
            place.leave()

    async def _run(self, use: ToolUse, context: ToolContext) -> ToolResult:
        try:
            entry = _known(await self._begin(context.session_id, use))
        except Exception as error:  # noqa: BLE001 -- without a record the call must not have effects
            self._not_recorded(use.id, error)
            return _result(use, ToolOutput(content=NOT_RECORDED.format(name=use.name), is_error=True))
        if entry.result is not None:
            emit("managed_agents.journal.replayed", metadata={"tool": use.name, "tool_use_id": use.id})
            return entry.result
        if entry.settled:
            return _result(use, ToolOutput(content=SETTLED.format(name=use.name), is_error=True))
        if entry.attempt > 1 and not self.reruns:
            output = ToolOutput(content=INTERRUPTED.format(name=use.name), is_error=True)
        else:
            context = context if entry.attempt == context.attempt else replace(context, attempt=entry.attempt)
            output = await self._timed(use, context)
        result = _result(use, output)
        await self._record(context.session_id, result)
        return result

    async def _begin(self, session_id: str, use: ToolUse) -> JournalEntry:
        if isinstance(self.journal, MemoryJournal):
            return self.journal.begin_now(session_id, use)
        with trio.fail_after(JOURNAL_PATIENCE):
            return await self.journal.begin(session_id, use)

    async def _record(self, session_id: str, result: ToolResult) -> None:
        """Record a result. The call has had its effects: a cancellation may not come between."""
        try:
            if isinstance(self.journal, MemoryJournal):
                self.journal.finish_now(session_id, result)
                return
            with trio.move_on_after(JOURNAL_GRACE, shield=True) as patience:
                await self.journal.finish(session_id, result)
        except Exception as error:  # noqa: BLE001 -- the result is in hand, and is still to be delivered
            self._not_recorded(result.tool_use_id, error)
            return
        if patience.cancelled_caught:
            self.log.error("journal_too_slow", tool_use_id=result.tool_use_id, seconds=JOURNAL_GRACE)

    def settle_now(self, session_id: str, tool_use_id: str) -> bool:
        """Record that the provider has the result of a call, or wants none, if that takes no waiting; say whether."""
        if isinstance(self.journal, MemoryJournal):
            self.journal.settle_now(session_id, tool_use_id)
            return True
        return False

    async def settle(self, session_id: str, tool_use_id: str) -> None:
        """Record that the provider has the result of a call, or wants none any more."""
        try:
            with trio.move_on_after(JOURNAL_GRACE, shield=True):
                await self.journal.settle(session_id, tool_use_id)
        except Exception as error:  # noqa: BLE001 -- the record stays longer than needed, no more
            self._not_recorded(tool_use_id, error)

    def _not_recorded(self, tool_use_id: str, error: Exception) -> None:
        self.log.error("journal_failed", tool_use_id=tool_use_id, exc_info=error)

    async def _timed(self, use: ToolUse, context: ToolContext) -> ToolOutput:
        began = trio.current_time()
        try:
            return await self._guarded(use, context)
        except Exception as error:  # noqa: BLE001 -- a tool may raise anything; it must become a result
            return self._failure(use, error)
        finally:
            self.tally.tool_latency.add(trio.current_time() - began)

    async def _guarded(self, use: ToolUse, context: ToolContext) -> ToolOutput:
        """Run a call as a span. What its tool raises comes out, unless that is an answer."""
        seconds = math.inf if self.timeout is None else self.timeout
        about = {"tool": use.name, "tool_use_id": use.id, "attempt": context.attempt}
        block = span("managed_agents.tool", about, content={"input": use.input})
        with block as told:
            try:
                with trio.move_on_after(seconds) as limit:
                    output = _fitting(use.name, await self.handler.run(use, context))
                if limit.cancelled_caught:
                    told["error_type"] = "timeout"
                    late = f"The tool {use.name} timed out after {seconds:g} seconds."
                    output = ToolOutput(content=late, is_error=True)
            except ToolError as error:
                output = ToolOutput(content=_text_of(error) or "The tool failed.", is_error=True)
            told["is_error"] = output.is_error
            if output.is_error:
                told.setdefault("error_type", "tool_error")
            block.result = {"output": output.content}
        return output

    def _failure(self, use: ToolUse, error: Exception) -> ToolOutput:
        error_id = secrets.token_hex(4)
        self.log.warning("tool_failed", tool=use.name, tool_use_id=use.id, error_id=error_id, exc_info=error)
        told = f"{type(error).__name__}: {_text_of(error)}" if self.expose_exceptions else type(error).__name__
        return ToolOutput(content=f"The tool {use.name} failed with {told} (error id {error_id}).", is_error=True)


def _known(entry: Any) -> JournalEntry:
    if not isinstance(entry, JournalEntry):
        raise TypeError(f"a journal's begin() gives a JournalEntry, not a {type(entry).__name__}")
    return entry


def _result(use: ToolUse, output: ToolOutput) -> ToolResult:
    return ToolResult(tool_use_id=use.id, content=tuple(content_blocks(output.content)), is_error=output.is_error)


def _text_of(error: Exception) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 -- an exception of the user's may not even have a text
        return type(error).__name__


def _fitting(name: str, value: Any) -> ToolOutput:
    """Bring what a handler gave to blocks that a provider takes; what cannot be brought there is an error result."""
    match value:
        case None:
            return ToolOutput(content="(no output)")
        case str():
            value = ToolOutput(content=value)
        case ToolOutput(is_error=bool()):
            pass
        case ToolOutput():
            return _unfit(name, "a ToolOutput whose is_error is not a bool")
        case _:
            return _unfit(name, f"a {type(value).__name__}")
    try:
        output = _cut(value)
        size = len(encode_json(output.content))
    except (ConfigurationError, ValueError):
        return _unfit(name, "a ToolOutput whose content is neither text nor content blocks")
    if size > MAX_RESULT_BYTES:
        return _unfit(name, f"{size:,} bytes, of which {MAX_RESULT_BYTES:,} can be sent,")
    return output


def _unfit(name: str, what: str) -> ToolOutput:
    return ToolOutput(content=f"The tool {name} gave {what} where text was expected.", is_error=True)


def _cut(output: ToolOutput) -> ToolOutput:
    """Bring the text of an output within the limit; what was cut is said where the model reads it."""
    blocks = content_blocks("(no output)" if output.content == "" else output.content)
    room, is_error = MAX_RESULT_CHARS, output.is_error
    for block in blocks:
        text = block.get("text")
        if block["type"] == "text" and not isinstance(text, str):
            raise ConfigurationError("a text block needs a text")
        if not isinstance(text, str):
            continue
        block["text"] = text = without_lone_surrogates(text)
        if len(text) > room:
            block["text"] = f"{text[:room]}\n[cut: {len(text):,} characters, of which {room:,} are shown]"
            is_error = True
        room = max(0, room - len(text))
    return ToolOutput(content=blocks, is_error=is_error)
