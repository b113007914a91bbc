"""Processes that share a store's file: those that write at once, that are killed, that find it damaged together.

The processes and their deaths are real.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from managed_agents_actors.provisioning import SqliteStore

from ..session.test_journal_sqlite import contents, finish, go, heard, raw

PROGRAM = """
import sys
import trio
from managed_agents_actors import StoreError
from managed_agents_actors.provisioning import SqliteStore

def say(*words):
    print(*words, flush=True)

async def put_when_told(path):
    name = sys.argv[3]
    async with SqliteStore(path) as store:
        say("open")
        for number, _ in enumerate(sys.stdin):
            seen = await store.get("last")
            await store.put(f"{name}/{number}", {"n": number})
            await store.put("last", f"{name} {number}")
            say(seen)

# The values are many pages, so that a death is likely to come in the middle of a write.
async def write(path):
    async with SqliteStore(path) as store:
        for number in range(1_000_000):
            await store.put(f"k{number % 7}", {"number": number, "text": str(number % 10) * 200_000})
            say("put", number)
            if number % 7 == 6:
                await store.delete("k6")
                say("deleted", number)

async def open_damaged(path):
    for number in range(20):
        try:
            async with SqliteStore(f"{path}{number}.db", busy_timeout=60) as store:
                await store.put(sys.argv[3], 1)
                say("put")
        except StoreError as error:
            say("refused", error)

say("ready")
sys.stdin.readline()
trio.run(globals()[sys.argv[2]], sys.argv[1])
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@contextmanager
def process(path: Path, act: str, name: str = "") -> Iterator[subprocess.Popen[str]]:
    """A process that does one of the program's acts with the file, as soon as it is told to go; killed when left."""
    command = [sys.executable, "-c", PROGRAM, str(path), act, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()


def told(running: subprocess.Popen[str]) -> str:
    """What a process answers to being told to go on."""
    go(running)
    assert running.stdout is not None
    return running.stdout.readline().strip()


async def test_pro_12_what_two_processes_put_in_turns_is_all_there(path: Path) -> None:
    with process(path, "put_when_told", "one") as one, process(path, "put_when_told", "two") as two:
        assert [told(one), told(two)] == ["open", "open"]
        # Each sees what the other one has just put.
        seen = [(told(one), told(two)) for _ in range(500)]
    assert seen == [(f"two {number - 1}" if number else "None", f"one {number}") for number in range(500)]
    async with SqliteStore(path) as store:
        for name in ("one", "two"):
            assert await store.items(f"{name}/") == {f"{name}/{number}": {"n": number} for number in range(500)}
        assert await store.get("last") == "two 499"


@pytest.mark.parametrize("count", [0, 1, 30, 101])
async def test_pro_12_what_a_killed_process_had_put_is_there_and_nothing_is_there_in_part(
    path: Path, count: int
) -> None:
    with process(path, "write") as running:
        go(running)
        said = [line.split() for line in heard(running, count)]
    assert len(said) >= count
    known: dict[str, int | None] = {}
    for word, number in said:
        known[f"k{int(number) % 7}"] = int(number) if word == "put" else None
    async with SqliteStore(path) as store:
        found = await store.items("")
    for value in found.values():
        assert value["text"] == str(value["number"] % 10) * 200_000
    # It may have died after the step that came next, before it said so.
    differing = {key for key in {*known, *found} if found.get(key, {}).get("number") != known.get(key)}
    assert len(differing) <= 1
    assert all(found.get(key, {}).get("number") in (None, following(said)) for key in differing)
    with raw(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert contents(path).keys() == {"store.db", "store.db-lock"}


def following(said: list[list[str]]) -> int:
    """The number of the put that comes after what was said."""
    return sum(word == "put" for word, _ in said)


def test_pro_12_of_processes_that_find_a_file_damaged_one_sets_it_aside(path: Path) -> None:
    rounds = 20
    for number in range(rounds):
        path.with_name(f"store.db{number}.db").write_bytes(b"garbage")
    names = ("one", "two", "three")
    with contextlib.ExitStack() as stack:
        competitors = [stack.enter_context(process(path, "open_damaged", name)) for name in names]
        for running in competitors:
            go(running)
        said = [finish(running) for running in competitors]
    for number, told_each in enumerate(zip(*said, strict=True)):
        file = f"store.db{number}.db"
        [refused] = [line for line in told_each if line != "put"]
        assert f"set aside, unchanged, as {path}{number}.db.corrupt-1:" in refused
        assert path.with_name(f"{file}.corrupt-1").read_bytes() == b"garbage"
        assert {each.name for each in path.parent.glob(f"{file}?*")} == {f"{file}.corrupt-1", f"{file}-lock"}
        with raw(path.with_name(file)) as connection:
            keys = {bytes(key).decode() for (key,) in connection.execute("SELECT key FROM entries")}
        assert keys == {name for name, line in zip(names, told_each, strict=True) if line == "put"}
