"""Both stores keep the laws of one, and the laws can be broken: a store that breaks one is found out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from managed_agents_actors import ConfigurationError
from managed_agents_actors.provisioning import MemoryStore, SqliteStore, Store
from managed_agents_actors.testing import DurableStoreSuite, StoreSuite

from ._deviants import Deviant, open_rewriting_store


class TestMemoryStore(StoreSuite):
    @asynccontextmanager
    async def open_store(self) -> AsyncIterator[Store]:
        yield MemoryStore()


class TestSqliteStore(DurableStoreSuite):
    @pytest.fixture(autouse=True)
    def place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "store.db"

    def open_store(self) -> AbstractAsyncContextManager[Store]:
        return SqliteStore(self.path)

    def store_program(self) -> str:
        return (
            "from managed_agents_actors.provisioning import SqliteStore\n"
            f"def open_store(): return SqliteStore({str(self.path)!r})"
        )


class KeepsWhatItWasGiven(Deviant):
    def __init__(self) -> None:
        super().__init__()
        self.given: dict[str, Any] = {}

    async def put(self, key: str, value: Any) -> None:
        await super().put(key, value)
        self.given[key] = value

    async def get(self, key: str) -> Any:
        await super().get(key)
        return self.given.get(key)


class GivesWhatItKeeps(Deviant):
    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[str, Any] = {}

    async def get(self, key: str) -> Any:
        return self.kept.setdefault(key, await super().get(key))


class ForgetsToOverwrite(Deviant):
    async def put(self, key: str, value: Any) -> None:
        if await self.get(key) is None:
            await super().put(key, value)


class Merges(Deviant):
    async def put(self, key: str, value: Any) -> None:
        old = await self.get(key)
        await super().put(key, {**old, **value} if type(old) is type(value) is dict else value)


class TakesThePrefixFromAnywhere(Deviant):
    async def items(self, prefix: str) -> dict[str, Any]:
        found = await super().items("") if isinstance(prefix, str) else await super().items(prefix)
        return {key: value for key, value in found.items() if prefix in key}


class TakesCapitalsForSmall(Deviant):
    async def items(self, prefix: str) -> dict[str, Any]:
        found = await super().items("")
        return {key: value for key, value in found.items() if key.lower().startswith(prefix.lower())}


class HasNoOrder(Deviant):
    async def items(self, prefix: str) -> dict[str, Any]:
        return dict(reversed((await super().items(prefix)).items()))


class TakesNothingMuchForNothing(Deviant):
    async def get(self, key: str) -> Any:
        return await super().get(key) or None


class TakesTrueForOne(Deviant):
    async def delete_value(self, value: Any) -> int:
        found = [key for key, kept in (await self.items("")).items() if kept == value]
        for key in found:
            await self.delete(key)
        return len(found)


class DeletesOne(Deviant):
    async def delete_value(self, value: Any) -> int:
        found = [key for key, kept in (await self.items("")).items() if kept == value]
        for key in found[:1]:
            await self.delete(key)
        return len(found)


class KnowsTheOrderOfMembers(Deviant):
    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}

    async def put(self, key: str, value: Any) -> None:
        await super().put(key, value)
        self.texts[key] = json.dumps(value)

    async def delete_value(self, value: Any) -> int:
        await trio.lowlevel.checkpoint()
        found = [key for key, text in self.texts.items() if text == json.dumps(value)]
        for key in found:
            del self.texts[key]
            await self.delete(key)
        return len(found)


class TakesNone(Deviant):
    async def put(self, key: str, value: Any) -> None:
        await super().put(key, value if value is not None else "None")


class TakesAnyKey(Deviant):
    async def get(self, key: str) -> Any:
        return await super().get(str(key) or "''")


class MissesAWriteInBetween(Deviant):
    async def put(self, key: str, value: Any) -> None:
        before = await self.items("")
        fresh = MemoryStore()
        for old, kept in (*before.items(), (key, value)):
            await fresh.put(old, kept)
        self.inner = fresh


class WritesThoughCancelled(Deviant):
    async def put(self, key: str, value: Any) -> None:
        with trio.CancelScope(shield=True):
            await super().put(key, value)
        await trio.lowlevel.checkpoint()


class NeverWaits(Deviant):
    async def delete(self, key: str) -> None:
        if not isinstance(key, str) or not key:
            raise ConfigurationError("no key")


@pytest.mark.parametrize(
    ("deviant", "law"),
    [
        (KeepsWhatItWasGiven, "test_a_value_that_was_given_can_be_changed"),
        (KeepsWhatItWasGiven, "test_a_value_comes_back_in_types_of_json"),
        (GivesWhatItKeeps, "test_a_value_that_came_back_can_be_changed"),
        (ForgetsToOverwrite, "test_the_last_value_stays"),
        (ForgetsToOverwrite, "test_a_value_comes_back_as_it_was"),
        (Merges, "test_the_last_value_stays"),
        (TakesThePrefixFromAnywhere, "test_entries_are_found_by_how_their_keys_begin"),
        (TakesCapitalsForSmall, "test_entries_are_found_by_how_their_keys_begin"),
        (HasNoOrder, "test_entries_are_found_by_how_their_keys_begin"),
        (TakesNothingMuchForNothing, "test_a_value_comes_back_as_it_was"),
        (TakesTrueForOne, "test_values_that_differ_are_told_apart"),
        (DeletesOne, "test_all_entries_with_a_value_are_deleted_at_once"),
        (DeletesOne, "test_an_entry_is_deleted_once"),
        (KnowsTheOrderOfMembers, "test_all_entries_with_a_value_are_deleted_at_once"),
        (TakesNone, "test_what_is_no_value_is_refused"),
        (TakesAnyKey, "test_what_is_no_key_is_refused"),
        (MissesAWriteInBetween, "test_tasks_that_put_at_once_lose_nothing"),
        (WritesThoughCancelled, "test_what_is_cancelled_was_not_written"),
        (NeverWaits, "test_every_method_is_a_checkpoint"),
        (NeverWaits, "test_what_was_deleted_is_gone"),
    ],
)
async def test_a_store_that_breaks_a_law_is_found_out(deviant: type[Deviant], law: str) -> None:
    class Suite(StoreSuite):
        @asynccontextmanager
        async def open_store(self) -> AsyncIterator[Store]:
            yield deviant()

    check: Any = getattr(Suite(), law)
    with pytest.raises(AssertionError):
        await check()


@pytest.mark.parametrize(
    ("law", "said"),
    [
        ("test_what_was_put_is_known_to_others_at_once", "expected {'k': 'v'}, found {}"),
        ("test_processes_that_put_at_once_lose_nothing", "the entries that are missing"),
        ("test_a_closed_store_says_so", "expected a StoreError"),
        ("test_it_is_closed_in_a_cancelled_scope_too", "expected a StoreError"),
    ],
)
async def test_a_durable_store_that_breaks_a_law_is_found_out(tmp_path: Path, law: str, said: str) -> None:
    class Suite(DurableStoreSuite):
        def open_store(self) -> AbstractAsyncContextManager[Store]:
            return open_rewriting_store(tmp_path / "store.json")

        def store_program(self) -> str:
            return (
                f"import pathlib, sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
                "from _deviants import open_rewriting_store\n"
                f"def open_store(): return open_rewriting_store(pathlib.Path({str(tmp_path / 'store.json')!r}))"
            )

    check: Any = getattr(Suite(), law)
    with pytest.raises(AssertionError, match=said):
        await check()


def test_a_store_in_memory_shows_how_much_it_holds_and_not_what() -> None:
    store = MemoryStore()
    trio.run(store.put, "k", "secret")
    assert repr(store) == "<MemoryStore: 1 entries>"
