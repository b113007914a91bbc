"""Whatever is asked of a journal, in whatever order, it answers as a dictionary would; a durable one through crashes.

A crash is a journal that is left without being closed, and another one opened on its file.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from managed_agents_actors._errors import JournalError
from managed_agents_actors._model import ToolResult, ToolUse
from managed_agents_actors._session.journal import Journal, JournalEntry, MemoryJournal
from managed_agents_actors._session.sqlite_journal import SqliteJournal

T = TypeVar("T")

SESSIONS = st.sampled_from(["", "s", "\ud83d"])
CALLS = st.sampled_from(["", "c", "d"])
TEXTS = st.text(st.characters(), max_size=3)  # half surrogate pairs too


@dataclass
class Known:
    """What a journal ought to know of a call."""

    attempt: int = 0
    result: ToolResult | None = None
    settled_at: float | None = None

    @property
    def entry(self) -> JournalEntry:
        return JournalEntry(attempt=self.attempt, result=self.result, settled=self.settled_at is not None)


class Memory(RuleBasedStateMachine):
    """A journal in memory beside a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[tuple[str, str], Known] = {}
        self.now = 1_000.0
        self.journal: Any = MemoryJournal()

    def ask(self, act: Callable[..., Awaitable[T]], *args: Any) -> T:
        return trio.run(functools.partial(act, *args))

    def known_of(self, session: str, call: str) -> Known:
        return self.known.setdefault((session, call), Known())

    @rule(session=SESSIONS, call=CALLS)
    def begin(self, session: str, call: str) -> None:
        known = self.known_of(session, call)
        if known.result is None and known.settled_at is None:
            known.attempt += 1
        journal: Journal = self.journal
        assert self.ask(journal.begin, session, ToolUse(id=call, name="t", input={})) == known.entry

    @rule(session=SESSIONS, call=CALLS, text=TEXTS, is_error=st.booleans())
    def finish(self, session: str, call: str, text: str, is_error: bool) -> None:
        known = self.known_of(session, call)
        result = ToolResult(tool_use_id=call, content=({"type": "text", "text": text},), is_error=is_error)
        if not known.attempt:
            with pytest.raises(JournalError):
                self.ask(self.journal.finish, session, result)
            return
        self.ask(self.journal.finish, session, result)
        if known.result is None and known.settled_at is None:
            known.result = result

    @rule(session=SESSIONS, call=CALLS)
    def settle(self, session: str, call: str) -> None:
        known = self.known_of(session, call)
        known.result = None
        if known.settled_at is None:
            known.settled_at = self.now
        self.ask(self.journal.settle, session, call)

    @rule(session=SESSIONS)
    def forget(self, session: str) -> None:
        self.known = {key: known for key, known in self.known.items() if key[0] != session}
        self.ask(self.journal.forget, session)


class Sqlite(Memory):
    """A journal in a file beside a dictionary; time passes, and the process crashes."""

    @initialize()
    def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.opened: list[SqliteJournal] = []
        self.reopen()

    def reopen(self) -> None:
        self.journal = SqliteJournal(Path(self.directory.name) / "calls.db", clock=lambda: self.now)
        self.ask(self.journal.__aenter__)
        self.opened.append(self.journal)

    @rule()
    def crash(self) -> None:
        self.reopen()

    @rule()
    def close(self) -> None:
        self.ask(self.journal.__aexit__, None, None, None)
        self.reopen()

    @rule(seconds=st.sampled_from([0.5, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(older_than=st.sampled_from([0, 0.5, 10.0, 1e9]))
    def prune(self, older_than: float) -> None:
        until = self.now - older_than
        old = [key for key, known in self.known.items() if known.settled_at is not None and known.settled_at <= until]
        for key in old:
            del self.known[key]
        assert self.ask(self.journal.prune, older_than) == len(old)

    def teardown(self) -> None:
        for journal in self.opened:
            self.ask(journal.__aexit__, None, None, None)
        self.directory.cleanup()


def test_a_journal_in_memory_answers_as_a_dictionary_would() -> None:
    run_state_machine_as_test(Memory, settings=settings(max_examples=60, stateful_step_count=30))


def test_a_journal_in_a_file_answers_as_a_dictionary_would_through_crashes() -> None:
    run_state_machine_as_test(Sqlite, settings=settings(max_examples=20, stateful_step_count=30))
