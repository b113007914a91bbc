"""The tool journal: what is known of each call this process was asked to run, kept outside the session that runs it.

A call is recorded before it starts and when it has a result, so that whoever takes a session up again can tell a call
that never began from one that was cut off, and neither from one that is done. What a session makes of that is its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, final

import trio

from .._errors import JournalError
from .._model import ToolResult, ToolUse

__all__ = ["Journal", "JournalEntry", "MemoryJournal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """What a journal knows of a call.

    Attributes:
        attempt: How often the call was begun, this time included; 0 for one that was settled without ever beginning.
        result: The call's result, if it has one and the provider was not yet known to have it. It is not run again.
        settled: Whether the provider has an answer to the call: there is nothing left to run or to send.
    """

    attempt: int
    result: ToolResult | None = None
    settled: bool = False


class Journal(Protocol):
    """Keeps tool calls through crashes: of a session's actor, and for a durable one of the process.

    Many sessions, and several tasks of each, use one journal at once. Every method is atomic and, in a durable
    journal, durable before it returns. When one is cancelled, nothing was written; once it writes, it is not cancelled.
    A call is named by its session and its id together.
    """

    async def begin(self, session_id: str, use: ToolUse) -> JournalEntry:
        """Record that a call is about to start, and say what is known of it.

        A call that has a result, or is settled, is not begun: its attempt stays, and it must not be run. Any other
        one is on its next attempt; above 1, an earlier attempt was cut off and may have had effects.

        Raises:
            JournalError: It could not be recorded; the call must not be run.
        """
        ...

    async def finish(self, session_id: str, result: ToolResult) -> None:
        """Record a call's result. The first one stays; for a settled call it is no longer needed.

        Raises:
            JournalError: The call never began, or the result could not be recorded.
        """
        ...

    async def settle(self, session_id: str, tool_use_id: str) -> None:
        """Record that the provider has the answer to a call. The result may be dropped; that it was answered stays.

        A call that never began here is settled too: somebody else may have answered it, and a listing that lags
        behind must not make it run after all.

        Raises:
            JournalError: It could not be recorded.
        """
        ...

    async def forget(self, session_id: str) -> None:
        """Drop everything about a session, which will not be taken up again.

        Raises:
            JournalError: It could not be recorded.
        """
        ...


@final
class MemoryJournal:
    """A journal that lasts as long as the object: through crashes of sessions, not of the process.

    It holds the results the provider does not have yet, and a few words for each call it does, until the session is
    forgotten. Sessions may share one.
    """

    def __init__(self) -> None:
        self._sessions: dict[str, dict[str, JournalEntry]] = {}

    def __repr__(self) -> str:
        return f"<MemoryJournal: {len(self._sessions)} sessions>"

    async def begin(self, session_id: str, use: ToolUse) -> JournalEntry:
        """Record that a call is about to start; see :meth:`Journal.begin`."""
        await trio.lowlevel.checkpoint()
        return self.begin_now(session_id, use)

    def begin_now(self, session_id: str, use: ToolUse) -> JournalEntry:
        """The same, without a checkpoint."""
        calls = self._sessions.setdefault(session_id, {})
        entry = calls.get(use.id, NEVER_BEGUN)
        if entry.result is None and not entry.settled:
            calls[use.id] = entry = JournalEntry(attempt=entry.attempt + 1)
        return entry

    async def finish(self, session_id: str, result: ToolResult) -> None:
        """Record a call's result; see :meth:`Journal.finish`."""
        await trio.lowlevel.checkpoint()
        self.finish_now(session_id, result)

    def finish_now(self, session_id: str, result: ToolResult) -> None:
        """The same, without a checkpoint."""
        entry = self._sessions.get(session_id, {}).get(result.tool_use_id, NEVER_BEGUN)
        if entry.attempt == 0:
            raise never_begun(session_id, result.tool_use_id)
        if entry.result is None and not entry.settled:
            self._sessions[session_id][result.tool_use_id] = JournalEntry(attempt=entry.attempt, result=result)

    async def settle(self, session_id: str, tool_use_id: str) -> None:
        """Record that the provider has the answer; see :meth:`Journal.settle`."""
        await trio.lowlevel.checkpoint()
        self.settle_now(session_id, tool_use_id)

    def settle_now(self, session_id: str, tool_use_id: str) -> None:
        """The same, without a checkpoint."""
        calls = self._sessions.setdefault(session_id, {})
        entry = calls.get(tool_use_id, NEVER_BEGUN)
        calls[tool_use_id] = JournalEntry(attempt=entry.attempt, settled=True)

    async def forget(self, session_id: str) -> None:
        """Drop everything about a session; see :meth:`Journal.forget`."""
        await trio.lowlevel.checkpoint()
        self._sessions.pop(session_id, None)


NEVER_BEGUN = JournalEntry(attempt=0)


def never_begun(session_id: str, tool_use_id: str) -> JournalError:
    """The error of finishing a call that the journal does not know to have begun."""
    return JournalError(
        f"call {tool_use_id!r} of session {session_id!r} has a result, but never began (or was forgotten):"
        " begin() comes before finish()"
    )
