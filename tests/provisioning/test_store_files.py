"""What only a store in a file has: files that are made, linked, locked, not there, or not its.

Threads and files are real here, so time is too; nothing sleeps.
"""

from __future__ import annotations

import math
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from managed_agents_actors import ConfigurationError, StoreError
from managed_agents_actors.provisioning import SqliteStore

from ..session.test_journal_sqlite import PATIENCE, contents, locked, mode, raw
from ._store_files import ENTRIES, files, look, lost_end, make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


# --- opening and closing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [b"x", None, 3, "", "a\0b"])
def test_what_is_no_path_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="a store's path must be the path of a file"):
        SqliteStore(given)


@pytest.mark.parametrize("seconds", [-1, 1e9, math.inf, math.nan, True, "5"])
def test_what_is_no_timeout_is_refused(path: Path, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="busy_timeout"):
        SqliteStore(path, busy_timeout=seconds)


async def test_all_that_it_makes_is_its_owners_only(path: Path) -> None:
    async with SqliteStore(path) as store:
        await store.put("k", 1)
        modes = {name: mode(path.with_name(name)) for name in contents(path)}
    assert modes.keys() > {"store.db", "store.db-lock"}
    assert set(modes.values()) == {0o600}
    assert contents(path).keys() == {"store.db", "store.db-lock"}


async def test_a_store_is_used_while_it_is_open(path: Path) -> None:
    store = SqliteStore(path)
    assert repr(store) == f"SqliteStore({str(path)!r})"
    with pytest.raises(StoreError, match=r"store\.db is not open"):
        await store.get("k")
    async with store:
        with pytest.raises(StoreError, match="open already"):
            await store.__aenter__()
        await store.put("k", 1)
    with pytest.raises(StoreError, match="not open"):
        await store.items("")
    async with store:
        assert await store.get("k") == 1


async def test_an_opening_that_is_cancelled_makes_nothing(path: Path) -> None:
    store = SqliteStore(path)
    with trio.CancelScope() as scope:
        scope.cancel()
        await store.__aenter__()
    assert scope.cancelled_caught
    assert contents(path) == {}
    async with store:
        await store.put("k", 1)


async def test_a_link_leads_to_one_store_with_one_lock(tmp_path: Path) -> None:
    path = tmp_path / "real" / "store.db"
    path.parent.mkdir()
    link = tmp_path / "link.db"
    link.symlink_to(path)
    async with SqliteStore(link) as one, SqliteStore(path) as other:
        await one.put("k", 1)
        assert await other.get("k") == 1
    assert mode(path) == 0o600
    await trio.Path(path).write_bytes(b"garbage")
    with pytest.raises(StoreError, match=r"link\.db is damaged.*as .*store\.db\.corrupt-1:"):
        await look(link)
    assert files(path) == {"store.db.corrupt-1": b"garbage"}
    assert await look(link) == {}


def test_nobody_needs_sqlite_who_uses_no_file() -> None:
    program = (
        "import sys, managed_agents_actors.testing, managed_agents_actors.provisioning\n"
        "assert 'sqlite3' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# --- files that are not its -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", ["CREATE TABLE theirs (a)", "PRAGMA user_version = 1"])
async def test_another_applications_file_is_left_as_it_is(path: Path, statement: str) -> None:
    with raw(path) as connection:
        connection.execute(statement)
    before = files(path)
    with pytest.raises(StoreError, match=r"store\.db: it is a database, but not a store; give the store a file of its"):
        await look(path)
    assert files(path) == before


async def test_another_applications_file_is_left_as_it_is_though_it_is_damaged(path: Path) -> None:
    await make(path)
    with raw(path) as connection:
        connection.execute("PRAGMA application_id = 7")
    lost_end(path)
    before = files(path)
    with pytest.raises(StoreError, match=r"store\.db: it is a database, but not a store"):
        await look(path)
    assert files(path) == before


async def test_a_newer_versions_file_is_left_as_it_is(path: Path) -> None:
    await make(path)
    with raw(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = files(path)
    with pytest.raises(StoreError, match=r"store\.db: it was written by a newer version.*schema 2.*upgrade"):
        await look(path)
    assert files(path) == before


async def test_a_lock_that_is_another_file_is_left_as_it_is(path: Path) -> None:
    await trio.Path(path.with_name("store.db-lock")).write_bytes(b"precious " * 1_000)
    before = contents(path)
    with pytest.raises(StoreError, match=r"the lock .*store\.db-lock of the .*store\.db: file is not a database"):
        await look(path)
    assert contents(path) == before


@pytest.mark.parametrize("place", ["missing/store.db", "."])
async def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, place: str) -> None:
    (tmp_path / "inner").mkdir()
    with pytest.raises(StoreError, match=f"the provisioning store {tmp_path}") as caught:
        await look(tmp_path / "inner" / place)
    assert isinstance(caught.value.__cause__, OSError | sqlite3.OperationalError)


async def test_an_empty_file_becomes_a_store(path: Path) -> None:
    await trio.Path(path).touch()
    await make(path)
    assert await look(path) == ENTRIES


# --- other programs that use the file ---------------------------------------------------------------------------------


async def test_who_only_reads_waits_for_nobody(path: Path) -> None:
    await make(path)
    async with SqliteStore(path, busy_timeout=0) as store:
        with locked(path) as connection:
            connection.execute("DELETE FROM entries")
            assert await store.get("k/000") == ENTRIES["k/000"]
            assert await store.items("") == ENTRIES


async def test_a_lock_that_is_held_for_too_long_is_an_error_and_nothing_is_lost(path: Path) -> None:
    await make(path)
    async with SqliteStore(path, busy_timeout=0) as store:
        with locked(path):
            for act in (store.put("k/000", 1), store.delete("k/000"), store.delete_value(ENTRIES["k/000"])):
                with pytest.raises(StoreError, match=r"store\.db: database is locked.*busy_timeout"):
                    await act
        assert await store.items("") == ENTRIES
        await store.put("k/000", 1)


async def test_a_write_that_has_begun_is_not_cancelled_and_one_that_waits_its_turn_is(path: Path) -> None:
    async with SqliteStore(path, busy_timeout=PATIENCE) as store:
        async with trio.open_nursery() as nursery:
            with locked(path):
                nursery.start_soon(store.put, "writes", 1)
                await wait_all_tasks_blocked()
                nursery.start_soon(store.put, "waits", 1)
                nursery.start_soon(store.get, "writes")
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        assert await store.items("") == {"writes": 1}
