"""A store's file that is damaged is set aside, whole, once and under a name that is free; what cannot be moved is left.

Threads, files and the deaths of processes are real here; nothing sleeps.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from managed_agents_actors import StoreError
from managed_agents_actors.provisioning import SqliteStore

from ..session.test_journal_sqlite import PATIENCE, contents, overwrite, raw
from ._store_files import ENTRIES, files, look, lost_end, make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


def garbage(path: Path) -> None:
    path.write_bytes(b"precious " * 1_000)


def few_bytes(path: Path) -> None:
    path.write_bytes(b"tiny")


def cut(length: int) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        os.truncate(path, length)

    return damage


def lost_page(path: Path) -> None:
    overwrite(path, 3 * 4096, b"\xff" * 4096)


DAMAGES = [garbage, few_bytes, cut(20_000), cut(5_000), cut(300), lost_page, lost_end]
NAMES = ["garbage", "few bytes", "cut", "cut in the second page", "cut in the first page", "lost page", "lost end"]


@pytest.mark.parametrize("damage", DAMAGES, ids=NAMES)
async def test_pro_12_a_damaged_file_is_set_aside_whole_and_the_next_opening_begins_a_new_one(
    path: Path, damage: Callable[[Path], None]
) -> None:
    await make(path)
    damage(path)
    before = await trio.Path(path).read_bytes()
    with pytest.raises(StoreError) as caught:
        await look(path)
    for part in (f"the provisioning store {path} is damaged", f"set aside, unchanged, as {path}.corrupt-1:", "next"):
        assert part in str(caught.value)
    assert "store.db" not in contents(path)
    assert contents(path)["store.db.corrupt-1"] == before
    await make(path)
    assert await look(path) == ENTRIES
    assert contents(path)["store.db.corrupt-1"] == before


async def test_pro_12_what_a_killed_process_left_beside_a_damaged_file_is_set_aside_with_it(path: Path) -> None:
    await make(path)
    program = f"""
import os, trio
from managed_agents_actors.provisioning import SqliteStore
async def main():
    async with SqliteStore({str(path)!r}) as store:
        await store.put("k/000", "new")
        os.kill(os.getpid(), 9)
trio.run(main)
"""
    await trio.run_process([sys.executable, "-c", program], check=False)
    lost_page(path)
    before = contents(path)
    assert before["store.db-wal"]
    with pytest.raises(StoreError, match="set aside"):
        await look(path)
    after = contents(path)
    assert after["store.db.corrupt-1"] == before["store.db"]
    assert after["store.db.corrupt-1-wal"] == before["store.db-wal"]
    assert after.keys() == {"store.db-lock", "store.db.corrupt-1", "store.db.corrupt-1-wal", "store.db.corrupt-1-shm"}
    assert await look(path) == {}


async def test_a_file_that_is_set_aside_takes_no_others_name(path: Path) -> None:
    taken = {"store.db.corrupt-1": b"first", "store.db.corrupt-2-wal": b"another's"}
    for name, content in taken.items():
        await trio.Path(path.with_name(name)).write_bytes(content)
    for number in (3, 4):
        await trio.Path(path).write_bytes(b"garbage %d" % number)
        with pytest.raises(StoreError, match=rf"as .*store\.db\.corrupt-{number}:"):
            await look(path)
        taken[f"store.db.corrupt-{number}"] = b"garbage %d" % number
        assert files(path) == taken


async def test_a_damaged_file_that_another_has_open_is_left_until_that_is_closed(path: Path) -> None:
    await make(path)
    async with SqliteStore(path) as other:
        assert await other.get("k/000")
        lost_page(path)
        before = await trio.Path(path).read_bytes()
        with pytest.raises(StoreError, match=r"is damaged .* and was left where it is, for others have it open"):
            await SqliteStore(path, busy_timeout=0.05).__aenter__()
        assert contents(path)["store.db"] == before
    with pytest.raises(StoreError, match="set aside"):
        await look(path)
    assert contents(path)["store.db.corrupt-1"] == before


async def test_of_all_who_find_a_file_damaged_at_once_one_sets_it_aside_and_the_others_share_a_new_one(
    path: Path,
) -> None:
    await make(path)
    with raw(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # where who writes keeps others from looking
    lost_page(path)
    damaged = contents(path)["store.db"]
    send, receive = trio.open_memory_channel[SqliteStore | StoreError](5)

    async def use(number: int) -> None:
        try:
            async with SqliteStore(path, busy_timeout=PATIENCE) as store:
                await store.put(str(number), number)
                await send.send(store)
                await trio.sleep_forever()
        except StoreError as error:
            await send.send(error)

    async with trio.open_nursery() as nursery:
        with raw(path) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            for number in range(5):
                nursery.start_soon(use, number)
            await wait_all_tasks_blocked(cushion=0.1)  # each thread is at its look by then
        became = [await receive.receive() for _ in range(5)]
        opened = [each for each in became if isinstance(each, SqliteStore)]
        assert [str(each).count("store.db.corrupt-1:") for each in became if isinstance(each, StoreError)] == [1]
        assert contents(path)["store.db.corrupt-1"] == damaged
        assert [len(await store.items("")) for store in opened] == [4] * 4
        with raw(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        garbage(path)
        with pytest.raises(StoreError, match="others have it open"):
            await SqliteStore(path, busy_timeout=0).__aenter__()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", ["notes.txt", "support.yaml", "letters"])
async def test_a_file_that_never_was_a_store_is_left_as_it_is_with_nothing_beside_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    garbage(path)
    before = contents(path)
    with pytest.raises(StoreError, match=rf"{name} is no store and no database, and was left as it is"):
        await look(path)
    assert contents(path) == before


async def test_a_link_with_a_stores_name_makes_no_store_of_where_it_leads(tmp_path: Path) -> None:
    path, link = tmp_path / "notes.txt", tmp_path / "store.db"
    garbage(path)
    link.symlink_to(path)
    with pytest.raises(StoreError, match="is no store and no database"):
        await look(link)
    assert contents(path).keys() == {"notes.txt", "store.db"}


@pytest.mark.parametrize("name", ["store.DB", "store.sqlite", "store.sqlite3"])
async def test_a_name_of_a_database_is_enough_to_be_set_aside(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    garbage(path)
    with pytest.raises(StoreError, match="set aside"):
        await look(path)
    assert contents(path).keys() == {f"{name}.corrupt-1", f"{name}-lock"}


@pytest.mark.parametrize("damage", [garbage, cut(300), lost_end])
async def test_a_store_of_any_name_is_set_aside(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """By the lock beside it it is known, or by how it begins."""
    path = tmp_path / "provisioned"
    await make(path)
    damage(path)
    if damage is not garbage:
        path.with_name("provisioned-lock").unlink()
    with pytest.raises(StoreError, match="set aside"):
        await look(path)
    assert contents(path).keys() >= {"provisioned.corrupt-1", "provisioned-lock"}
    assert "provisioned" not in contents(path)


async def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(StoreError, match="pipe: it is no regular file"):
        await look(path)
    assert [each.name for each in await trio.Path(tmp_path).iterdir()] == ["pipe"]


async def test_damage_that_is_met_later_is_an_error_and_the_file_is_left(path: Path) -> None:
    await make(path)
    async with SqliteStore(path) as store:
        lost_end(path)
        before = contents(path)
        for act in (store.get("k/050"), store.put("k/050", 1), store.delete("k/050"), store.items("")):
            with pytest.raises(StoreError, match=r"store\.db: database disk image is malformed; it was left as it is"):
                await act
        with pytest.raises(StoreError, match=r"store\.db: database disk image is malformed"):
            await store.delete_value(1)
        assert contents(path)["store.db"] == before["store.db"]
    assert not list(path.parent.glob("*corrupt*"))


@pytest.mark.parametrize("damaged", [b"{", b"\xff", b"null", b""])
async def test_a_damaged_value_is_not_taken_for_none(path: Path, damaged: bytes) -> None:
    await make(path)
    with raw(path) as connection:
        connection.execute("UPDATE entries SET value = ? WHERE key = ?", (damaged, b"k/001"))
    async with SqliteStore(path) as store:
        for act in (store.get("k/001"), store.items("k/00")):
            with pytest.raises(StoreError, match=r"store\.db: the value of 'k/001' is damaged; it was left as it is"):
                await act
        assert await store.items("k/09")
        await store.put("k/001", 1)
        assert await store.get("k/001") == 1
