"""Whatever is asked of a store, in whatever order, it answers as a dictionary would; a durable one through crashes.

A crash is a store that is left without being closed, and another one opened on its file. Every store that was opened
once is asked from time to time: none of them has an opinion of its own.
"""

from __future__ import annotations

import copy
import functools
import json
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from managed_agents_actors.provisioning import MemoryStore, SqliteStore

T = TypeVar("T")

TEXTS = st.text(st.characters(), max_size=3)  # half surrogate pairs too
KEYS = st.sampled_from(["a", "a/", "a/b", "a/\ud83d", "a0", "b", "\U0010ffff"]) | st.text(st.characters(), min_size=1)
PREFIXES = st.sampled_from(["", "a", "a/", "a/b", "\ud83d", "\U0010ffff"]) | TEXTS
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=5
)
# A few that come again, and may be equal to one another; and any other.
VALUES = st.sampled_from([0, False, 1, True, 1.0, "1", [], {}, {"a": 1, "b": 2}, {"b": 2, "a": 1}]) | JSON.filter(
    lambda value: value is not None
)


def text(value: Any) -> str:
    """Two values are equal if this is."""
    return json.dumps(value, sort_keys=True)


class Memory(RuleBasedStateMachine):
    """A store in memory beside a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Any] = {}
        self.store: Any = MemoryStore()

    def ask(self, act: Callable[..., Awaitable[T]], *args: Any) -> T:
        return trio.run(functools.partial(act, *args))

    @rule(key=KEYS, value=VALUES)
    def put(self, key: str, value: Any) -> None:
        given = copy.deepcopy(value)
        self.ask(self.store.put, key, given)
        if isinstance(given, list):
            given.append("changed")
        self.known[key] = value

    @rule(key=KEYS)
    def get(self, key: str) -> None:
        assert text(self.ask(self.store.get, key)) == text(self.known.get(key))

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        self.known.pop(key, None)
        self.ask(self.store.delete, key)

    @rule(value=VALUES)
    def delete_value(self, value: Any) -> None:
        kept = {key: known for key, known in self.known.items() if text(known) != text(value)}
        assert self.ask(self.store.delete_value, value) == len(self.known) - len(kept)
        self.known = kept

    @rule(prefix=PREFIXES)
    def items(self, prefix: str) -> None:
        found = self.ask(self.store.items, prefix)
        wanted = [(key, text(value)) for key, value in sorted(self.known.items()) if key.startswith(prefix)]
        assert [(key, text(value)) for key, value in found.items()] == wanted


class Sqlite(Memory):
    """A store in a file beside a dictionary; the process crashes, and others come."""

    @initialize()
    def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.opened: list[SqliteStore] = []
        self.crash()

    @rule()
    def crash(self) -> None:
        self.store = SqliteStore(Path(self.directory.name) / "store.db")
        self.ask(self.store.__aenter__)
        self.opened.append(self.store)

    @rule()
    def close(self) -> None:
        self.ask(self.store.__aexit__, None, None, None)
        self.opened.remove(self.store)
        self.crash()

    @rule(data=st.data())
    def go_on_with_another(self, data: st.DataObject) -> None:
        self.store = data.draw(st.sampled_from(self.opened))

    def teardown(self) -> None:
        for store in self.opened:
            self.ask(store.__aexit__, None, None, None)
        self.directory.cleanup()


def test_pro_12_a_store_in_memory_answers_as_a_dictionary_would() -> None:
    run_state_machine_as_test(Memory, settings=settings(max_examples=60, stateful_step_count=30))


def test_pro_12_a_store_in_a_file_answers_as_a_dictionary_would_through_crashes() -> None:
    run_state_machine_as_test(Sqlite, settings=settings(max_examples=20, stateful_step_count=30))
