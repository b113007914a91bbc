"""A store that is only read: it says what is there, and leaves no trace, not even where it could.

Threads and files are real here, so time is too; nothing sleeps.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import trio

from managed_agents_actors import StoreError
from managed_agents_actors.provisioning import SqliteStore

from ..session.test_journal_sqlite import contents, raw
from ._store_files import ENTRIES, lost_end, make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


async def test_what_is_there_is_read_and_nothing_is_made(path: Path) -> None:
    await make(path)
    path.with_name("store.db-lock").unlink()
    before = contents(path)
    async with SqliteStore(path, read_only=True) as store:
        assert repr(store) == f"SqliteStore({str(path)!r}, read_only=True)"
        assert await store.get("k/001") == ENTRIES["k/001"]
        assert await store.get("k/more") is None
        assert await store.items("") == ENTRIES
        assert contents(path) == before
    assert contents(path) == before == {"store.db": before["store.db"]}


@pytest.mark.parametrize("is_empty", [True, False])
async def test_a_file_that_is_not_there_is_an_empty_store_and_stays_so(path: Path, is_empty: bool) -> None:
    if is_empty:
        await trio.Path(path).touch()
    before = contents(path)
    async with SqliteStore(path, read_only=True) as store:
        assert await store.get("k") is None
        assert await store.items("") == {}
        assert contents(path) == before
        # It is looked at anew each time.
        await make(path)
        assert await store.items("") == ENTRIES


async def test_a_folder_that_cannot_be_written_to_will_do(path: Path) -> None:
    await make(path)
    path.with_name("store.db-lock").unlink()
    path.parent.chmod(0o500)
    try:
        async with SqliteStore(path, read_only=True) as store:
            assert await store.items("") == ENTRIES
    finally:
        path.parent.chmod(0o700)


async def test_what_a_writer_has_just_put_is_seen(path: Path) -> None:
    async with SqliteStore(path, read_only=True) as reader:
        for number in range(3):
            async with SqliteStore(path) as writer:
                await writer.put("k", number)
                assert await reader.get("k") == number  # in the log
            assert await reader.get("k") == number  # in the file


async def test_what_changes_while_it_is_read_is_read_again(path: Path) -> None:
    await make(path)
    seen = []
    async with SqliteStore(path, read_only=True) as store:

        def operation(connection: sqlite3.Connection) -> object:
            seen.append(connection.execute("SELECT count(*) FROM entries").fetchone()[0])
            if len(seen) < 3:
                with raw(path) as other:
                    other.execute("DELETE FROM entries WHERE key = (SELECT min(key) FROM entries)")
            return seen[-1]

        assert await store._file.read(operation) == len(ENTRIES) - 2  # the one way to write in the middle of a look
    assert seen[0] == len(ENTRIES)


async def test_a_file_that_never_rests_is_an_error(path: Path) -> None:
    await make(path)
    async with SqliteStore(path, read_only=True) as store:

        def operation(_connection: sqlite3.Connection) -> None:
            with raw(path) as other:
                other.execute("PRAGMA journal_mode = DELETE")
                other.execute("INSERT INTO entries VALUES (hex(randomblob(8)), '1')")

        with pytest.raises(StoreError, match=r"store\.db: it changed in each of 100 looks"):
            await store._file.read(operation)


async def test_nothing_can_be_written(path: Path) -> None:
    await make(path)
    before = contents(path)
    async with SqliteStore(path, read_only=True) as store:
        for act in (store.put("k", 1), store.delete("k"), store.delete_value(1)):
            with pytest.raises(StoreError, match=r"store\.db was opened to be read only"):
                await act
    assert contents(path) == before


async def test_it_is_read_while_it_is_open(path: Path) -> None:
    store = SqliteStore(path, read_only=True)
    with pytest.raises(StoreError, match="is not open"):
        await store.get("k")
    async with store:
        with pytest.raises(StoreError, match="open already"):
            await store.__aenter__()
    with pytest.raises(StoreError, match="is not open"):
        await store.items("")


@pytest.mark.parametrize("act", ["open", "get", "put"])
async def test_whatever_is_cancelled_leaves_it_as_it_was(path: Path, act: str) -> None:
    store = SqliteStore(path, read_only=True)
    with trio.CancelScope() as scope:
        if act == "open":
            scope.cancel()
        async with store:
            scope.cancel()
            await (store.get("k") if act == "get" else store.put("k", 1))
    assert scope.cancelled_caught
    async with store:
        assert await store.get("k") is None


async def test_damage_is_told_and_nothing_is_set_aside(path: Path) -> None:
    await make(path)
    lost_end(path)
    before = contents(path)
    with pytest.raises(StoreError, match=r"store\.db: .*; it was left as it is"):
        await SqliteStore(path, read_only=True).__aenter__()
    await trio.Path(path).write_bytes(b"precious " * 1_000)
    with pytest.raises(StoreError, match=r"store\.db: file is not a database; it was left as it is"):
        await SqliteStore(path, read_only=True).__aenter__()
    assert contents(path).keys() == before.keys()


async def test_another_applications_database_is_told(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE theirs (a)")
    before = contents(path)
    with pytest.raises(StoreError, match="it is a database, but not a store"):
        await SqliteStore(path, read_only=True).__aenter__()
    assert contents(path) == before
