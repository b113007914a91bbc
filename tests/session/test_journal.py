"""Both journals keep the laws of one, and the laws can be broken: a journal that breaks one is found out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from managed_agents_actors._errors import JournalError
from managed_agents_actors._model import ToolResult, ToolUse
from managed_agents_actors._session.journal import Journal, JournalEntry, MemoryJournal
from managed_agents_actors._session.sqlite_journal import SqliteJournal
from managed_agents_actors.testing._journal_suite import DurableJournalSuite, JournalSuite


class TestMemoryJournal(JournalSuite):
    @asynccontextmanager
    async def open_journal(self) -> AsyncIterator[Journal]:
        yield MemoryJournal()


class TestSqliteJournal(DurableJournalSuite):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "calls.db"

    def open_journal(self) -> AbstractAsyncContextManager[Journal]:
        return SqliteJournal(self.path)


class Deviant:
    """A journal that keeps every law; each subclass breaks one."""

    def __init__(self) -> None:
        self.inner = MemoryJournal()

    async def begin(self, session_id: str, use: ToolUse) -> JournalEntry:
        return await self.inner.begin(session_id, use)

    async def finish(self, session_id: str, result: ToolResult) -> None:
        await self.inner.finish(session_id, result)

    async def settle(self, session_id: str, tool_use_id: str) -> None:
        await self.inner.settle(session_id, tool_use_id)

    async def forget(self, session_id: str) -> None:
        await self.inner.forget(session_id)


class RunsAgain(Deviant):
    async def begin(self, session_id: str, use: ToolUse) -> JournalEntry:
        entry = await super().begin(session_id, use)
        return JournalEntry(attempt=entry.attempt + 1) if entry.result or entry.settled else entry


class LastResultStays(Deviant):
    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, ToolResult] = {}

    async def begin(self, session_id: str, use: ToolUse) -> JournalEntry:
        return replace(await super().begin(session_id, use), result=self.last.get(use.id))

    async def finish(self, session_id: str, result: ToolResult) -> None:
        await super().finish(session_id, result)
        self.last[result.tool_use_id] = result


class AwaitsInTheMiddle(Deviant):
    attempts = 0

    async def begin(self, session_id: str, use: ToolUse) -> JournalEntry:
        attempts = self.attempts
        await trio.lowlevel.checkpoint()
        self.attempts = attempts + 1
        return JournalEntry(attempt=self.attempts)


class TakesAnyResult(Deviant):
    async def finish(self, session_id: str, result: ToolResult) -> None:
        with suppress(JournalError):
            await super().finish(session_id, result)


class ForgetsTheSettled(Deviant):
    async def settle(self, session_id: str, tool_use_id: str) -> None:
        await trio.lowlevel.checkpoint()


class WritesThoughCancelled(Deviant):
    async def begin(self, session_id: str, use: ToolUse) -> JournalEntry:
        with trio.CancelScope(shield=True):
            entry = await super().begin(session_id, use)
        await trio.lowlevel.checkpoint()
        return entry


class NeverWaits(Deviant):
    async def forget(self, session_id: str) -> None:
        self.inner = MemoryJournal()


class ForgetsEverySession(Deviant):
    async def forget(self, session_id: str) -> None:
        await super().forget(session_id)
        self.inner = MemoryJournal()


class SharesCalls(Deviant):
    async def begin(self, session_id: str, use: ToolUse) -> JournalEntry:
        return await super().begin("", use)

    async def finish(self, session_id: str, result: ToolResult) -> None:
        await super().finish("", result)


@pytest.mark.parametrize(
    ("deviant", "law"),
    [
        (RunsAgain, "test_a_call_with_a_result_is_not_begun_again"),
        (RunsAgain, "test_a_settled_call_is_not_begun_again"),
        (LastResultStays, "test_the_first_result_stays"),
        (LastResultStays, "test_a_result_that_comes_after_its_call_was_settled_is_dropped"),
        (AwaitsInTheMiddle, "test_calls_that_begin_at_once_are_told_apart"),
        (TakesAnyResult, "test_a_result_of_a_call_that_never_began_is_refused"),
        (ForgetsTheSettled, "test_a_settled_call_is_not_begun_again"),
        (ForgetsTheSettled, "test_a_call_that_never_began_can_be_settled"),
        (WritesThoughCancelled, "test_what_is_cancelled_was_not_written"),
        (NeverWaits, "test_every_method_is_a_checkpoint"),
        (ForgetsEverySession, "test_a_forgotten_session_is_as_if_it_had_never_been"),
        (SharesCalls, "test_sessions_share_a_journal_but_no_calls"),
    ],
)
async def test_a_journal_that_breaks_a_law_is_found_out(deviant: type[Deviant], law: str) -> None:
    class Suite(JournalSuite):
        @asynccontextmanager
        async def open_journal(self) -> AsyncIterator[Journal]:
            yield deviant()

    check: Any = getattr(Suite(), law)
    with pytest.raises(AssertionError):
        await check()


async def test_a_journal_in_memory_drops_what_the_provider_has() -> None:
    journal = MemoryJournal()
    await journal.begin("s", ToolUse(id="c", name="t", input={}))
    await journal.finish("s", ToolResult(tool_use_id="c", content=({"type": "text", "text": "r"},)))
    await journal.settle("s", "c")
    entry = await journal.begin("s", ToolUse(id="c", name="t", input={}))
    assert entry == JournalEntry(attempt=1, settled=True)
    await journal.forget("s")
    assert repr(journal) == "<MemoryJournal: 0 sessions>"
