"""What every provisioning store must do, as tests: subclass, say how a store is opened, run it under pytest-trio.

The library's own stores are held to the same classes. A failed expectation is an ``AssertionError`` that says what was
expected; nothing here needs pytest to be installed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import trio
import trio.testing

from .._errors import ConfigurationError, ManagedAgentsError, StoreError
from ..provisioning._store import Store
from ._expect import expect
from ._store_processes import put_at_once

__all__ = ["DurableStoreSuite", "StoreSuite"]

LARGE_CHARS: Final = 1_000_000  # more than any resource's description
CONCURRENT: Final = 8  # tasks at once

# Each is a value of its own; those that are nothing much are no missing entries.
VALUES: Final[tuple[Any, ...]] = (
    *(False, True, 0, 1, -1, 2**80, 0.1, 1e300, "", "1", "true", "null", [], [[]], {}, {"": {}}),
    'line\nquote" nul\0 \N{GRINNING FACE} \ud83d',
    [None, False, {"none": None, "nested": {"list": [1, [2.5, {}]]}}],
    {"a": 1, "b": [2, 3]},
    {"a": 1, "b": [3, 2]},
    {"a": 1},
    {"a": True},
    {"a": None},
)
NO_VALUES: Final[tuple[Any, ...]] = (None, math.nan, [math.inf], {"a": object()}, b"bytes", {1, 2})
NO_KEYS: Final[tuple[Any, ...]] = ("", None, 1, b"key", ("k",))

# In the order of their characters. A store may expect nothing of keys.
KEYS: Final = (
    *("\0", " ", "%", "*", "?", "A", "_", "a", "a b'\";--", "a%", "a*", "a/b", "aa", "b", "x" * 5_000),
    *("\ud83d", "\uffff", "\N{GRINNING FACE}"),
)
PREFIXES: Final = ("", "\0", "%", "*", "?", "_", "a", "a%", "a*", "a/", "A", "ab", "b", "x" * 4_999, "\ud83d", "z")

PROCESS_PUTS: Final = 500  # of each process


class StoreSuite:
    """The laws of a store, for a subclass that opens one.

    class TestMyStore(StoreSuite):
        def open_store(self):
            return open_my_store()
    """

    def open_store(self) -> AbstractAsyncContextManager[Store]:
        """Open a store that has no entries yet; each test opens one."""
        raise NotImplementedError("a store suite says how its store is opened")

    async def test_there_is_nothing_under_a_key_that_was_never_put(self) -> None:
        """Nothing is ``None``."""
        async with self.open_store() as store:
            await store.put("another", 1)
            expect(await store.get("k"), None)

    async def test_a_value_comes_back_as_it_was(self) -> None:
        """All of JSON, half a surrogate pair included; ``False``, ``0`` and the like are values, too."""
        async with self.open_store() as store:
            for value in VALUES:
                await store.put("k", value)
                expect(_json(await store.get("k")), _json(value))
                expect(_json(await store.items("k")), _json({"k": value}))

    async def test_a_value_comes_back_in_types_of_json(self) -> None:
        """A tuple is a list there."""
        async with self.open_store() as store:
            await store.put("k", {"a": (1, (2,))})
            expect(await store.get("k"), {"a": [1, [2]]})
            expect(await store.delete_value({"a": [1, (2,)]}), 1)

    async def test_a_large_value_is_kept(self) -> None:
        """It comes back whole."""
        async with self.open_store() as store:
            await store.put("k", {"text": "\N{SNOWMAN}" * LARGE_CHARS})
            expect(await store.get("k") == {"text": "\N{SNOWMAN}" * LARGE_CHARS}, wanted=True)

    async def test_the_last_value_stays(self) -> None:
        """To put is to replace, whatever was there."""
        async with self.open_store() as store:
            for value in (1, {"a": 1, "b": 2}, {"a": 2}, "text"):
                await store.put("k", value)
                expect(await store.get("k"), value)
            expect(await store.items(""), {"k": "text"})

    async def test_a_value_that_was_given_can_be_changed(self) -> None:
        """The store has a copy."""
        value = {"list": [1], "more": {}}
        async with self.open_store() as store:
            await store.put("k", value)
            _spoil(value)
            expect(await store.get("k"), {"list": [1], "more": {}})

    async def test_a_value_that_came_back_can_be_changed(self) -> None:
        """The store keeps its own."""
        async with self.open_store() as store:
            await store.put("k", {"list": [1], "more": {}})
            _spoil(await store.get("k"))
            _spoil((await store.items(""))["k"])
            expect(await store.get("k"), {"list": [1], "more": {}})
            expect(await store.items(""), {"k": {"list": [1], "more": {}}})

    async def test_what_was_deleted_is_gone(self) -> None:
        """Only that; and what is not there can be deleted."""
        async with self.open_store() as store:
            await store.put("k", 1)
            await store.put("k2", 1)
            for _ in range(2):
                await store.delete("k")
                expect(await store.get("k"), None)
                expect(await store.items(""), {"k2": 1})
            await store.put("k", 2)
            expect(await store.get("k"), 2)

    async def test_all_entries_with_a_value_are_deleted_at_once(self) -> None:
        """Whatever their keys are, and in whatever order an object was written; others stay."""
        async with self.open_store() as store:
            for key in ("a", "b", "c/d"):
                await store.put(key, {"id": "x", "version": [1, 2]})
            await store.put("reordered", {"version": [1, 2], "id": "x"})
            await store.put("another", {"id": "x"})
            expect(await store.delete_value({"id": "x", "version": [2, 1]}), 0)
            expect(await store.delete_value({"id": "x", "version": [1, 2]}), 4)
            expect(await store.items(""), {"another": {"id": "x"}})
            expect(await store.delete_value({"id": "x", "version": [1, 2]}), 0)

    async def test_values_that_differ_are_told_apart(self) -> None:
        """``True`` is not ``1``, no text is a number, no part is the whole."""
        async with self.open_store() as store:
            for number, value in enumerate(VALUES):
                await store.put(str(number), value)
            for number, value in enumerate(VALUES):
                expect(await store.delete_value(value), 1, f"the entries with {value!a}")
                expect(await store.get(str(number)), None)
            expect(await store.items(""), {})

    async def test_keys_may_be_any_text(self) -> None:
        """Each has an entry of its own."""
        async with self.open_store() as store:
            for key in KEYS:
                await store.put(key, ascii(key))
            for key in KEYS:
                expect(await store.get(key), ascii(key))
                await store.delete(key)
                expect(await store.get(key), None)

    async def test_entries_are_found_by_how_their_keys_begin(self) -> None:
        """Letter by letter: no letter stands for others, and capitals are not small. They come in order."""
        async with self.open_store() as store:
            for key in reversed(KEYS):
                await store.put(key, ascii(key))
            for prefix in PREFIXES:
                wanted = [(key, ascii(key)) for key in KEYS if key.startswith(prefix)]
                expect(list((await store.items(prefix)).items()), wanted)

    async def test_what_is_no_value_is_refused(self) -> None:
        """Nothing is written then; ``None`` could not be told from a missing entry."""
        around: list[Any] = []
        around.append(around)
        async with self.open_store() as store:
            await store.put("k", 1)
            for value in (*NO_VALUES, around):
                await _refused(ConfigurationError, store.put, "k", value)
                await _refused(ConfigurationError, store.delete_value, value)
            expect(await store.items(""), {"k": 1})

    async def test_what_is_no_key_is_refused(self) -> None:
        """By every method."""
        async with self.open_store() as store:
            for key in NO_KEYS:
                await _refused(ConfigurationError, store.get, key)
                await _refused(ConfigurationError, store.put, key, 1)
                await _refused(ConfigurationError, store.delete, key)
                if key != "":
                    await _refused(ConfigurationError, store.items, key)
            expect(await store.items(""), {})

    async def test_tasks_that_put_at_once_lose_nothing(self) -> None:
        """Each entry is there, and one that all of them put has the value of one."""
        async with self.open_store() as store:
            async with trio.open_nursery() as nursery:
                for number in range(CONCURRENT):
                    nursery.start_soon(store.put, f"own/{number}", number)
                    nursery.start_soon(store.put, "shared", number)
            expect(await store.items("own/"), {f"own/{number}": number for number in range(CONCURRENT)})
            expect(await store.get("shared") in range(CONCURRENT), wanted=True)

    async def test_an_entry_is_deleted_once(self) -> None:
        """Of those who delete a value at once, one is told of each entry."""
        counts: list[int] = []

        async def delete(store: Store) -> None:
            counts.append(await store.delete_value("v"))

        async with self.open_store() as store:
            for number in range(CONCURRENT):
                await store.put(str(number), "v")
            async with trio.open_nursery() as nursery:
                for _ in range(CONCURRENT):
                    nursery.start_soon(delete, store)
        expect(sum(counts), CONCURRENT)

    async def test_every_method_is_a_checkpoint(self) -> None:
        """Also when there is nothing to do."""
        async with self.open_store() as store:
            for act in _each_method(store) * 2:
                with trio.testing.assert_checkpoints():
                    await act()

    async def test_what_is_cancelled_was_not_written(self) -> None:
        """A caller that was cancelled can rely on it."""
        async with self.open_store() as store:
            await store.put("k", "old")
            for act in _each_method(store):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await act()
                expect(scope.cancelled_caught, wanted=True)
            expect(await store.items(""), {"k": "old"})


class DurableStoreSuite(StoreSuite):
    """The laws of a store that outlives its process: :meth:`open_store` opens what the same test wrote before.

    class TestMyStore(DurableStoreSuite):
        @pytest.fixture(autouse=True)
        def place(self, tmp_path):
            self.path = tmp_path / "entries"

        def open_store(self):
            return open_my_store(self.path)

        def store_program(self):
            return f"import mine; open_store = lambda: mine.open_my_store({str(self.path)!r})"
    """

    def store_program(self) -> str:
        """Python source that defines ``open_store()``, with which another process opens the same store."""
        raise NotImplementedError("a durable store suite says how another process opens its store")

    async def test_what_was_put_is_known_after_opening_again(self) -> None:
        """And what was deleted is not."""
        async with self.open_store() as store:
            for number, value in enumerate(VALUES):
                await store.put(str(number), value)
            await store.put("deleted", "x")
            await store.delete("deleted")
            await store.put("k", "first")
            await store.put("k2", "first")
            await store.delete_value("first")
            await store.put("k", "second")
        for _ in range(2):
            async with self.open_store() as store:
                wanted = {"k": "second", **{str(number): value for number, value in enumerate(VALUES)}}
                expect(_json(await store.items("")), _json(wanted))

    async def test_what_was_put_is_known_to_others_at_once(self) -> None:
        """Nothing waits for a store to be closed: its process may die first."""
        async with self.open_store() as first, self.open_store() as second:
            for one, other in ((first, second), (second, first)):
                await one.put("k", "v")
                expect(await other.items(""), {"k": "v"})
                await other.put("k", "v2")
                await other.put("k2", "v2")
                expect(await one.get("k"), "v2")
                expect(await one.delete_value("v2"), 2)
                expect(await other.get("k"), None)

    async def test_processes_that_put_at_once_lose_nothing(self) -> None:
        """Each of their entries is there."""
        names = ("one", "two")
        async with self.open_store() as store:
            await store.put("before", 0)
            wanted = await put_at_once(self.store_program(), names, PROCESS_PUTS)
            found = await store.items("")
            expect([key for key in ("before", *wanted) if key not in found], [], "the entries that are missing")
            expect(found == {"before": 0, **wanted}, wanted=True)

    async def test_a_closed_store_says_so(self) -> None:
        """It neither hangs nor pretends to have kept anything."""
        async with self.open_store() as store:
            await store.put("k", 1)
        for act in _each_method(store):
            await _refused(StoreError, act)

    async def test_it_is_closed_in_a_cancelled_scope_too(self) -> None:
        """What was put until then is kept."""
        with trio.CancelScope() as scope:
            async with self.open_store() as store:
                await store.put("k", 1)
                scope.cancel()
        await _refused(StoreError, store.get, "k")
        async with self.open_store() as store:
            expect(await store.get("k"), 1)


def _json(value: Any) -> str:
    """A value so that ``True`` is not ``1``."""
    return json.dumps(value, sort_keys=True)


def _spoil(value: Any) -> None:
    value["list"].append(2)
    value["more"]["a"] = 1
    value["b"] = 1


def _each_method(store: Store) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: store.get("k"),
        lambda: store.put("k", "new"),
        lambda: store.delete_value("old"),
        lambda: store.delete("k"),
        lambda: store.items(""),
    ]


async def _refused(error: type[ManagedAgentsError], function: Callable[..., Awaitable[object]], *args: Any) -> None:
    try:
        found = await function(*args)
    except error:
        return
    raise AssertionError(f"expected a {error.__name__}, found {ascii(found)[:500]}")
