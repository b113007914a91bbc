"""What only a journal in a file has: processes that die or compete; files that are damaged, locked, full or not its.

Threads and files are real here, so time is too; nothing sleeps. Processes are real where their death is the subject.
"""

from __future__ import annotations

import contextlib
import math
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from managed_agents_actors._errors import ConfigurationError, JournalError
from managed_agents_actors._model import ToolResult, ToolUse
from managed_agents_actors._session.journal import JournalEntry
from managed_agents_actors._session.sqlite_journal import SqliteJournal

PATIENCE = 60.0  # real seconds for a process to do what takes it one


def use(call: str = "c") -> ToolUse:
    return ToolUse(id=call, name="t", input={})


def result(call: str = "c", text: str = "r") -> ToolResult:
    return ToolResult(tool_use_id=call, content=({"type": "text", "text": text},))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "calls.db"


async def make(path: Path) -> None:
    """A journal with one call that has a result."""
    async with SqliteJournal(path) as journal:
        await journal.begin("s", use())
        await journal.finish("s", result())


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    """The file as another program sees it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """The file while another program writes."""
    with raw(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def overwrite(path: Path, start: int, data: bytes | None = None) -> None:
    """Damage a file from an offset on: by these bytes, or to its end."""
    content = bytearray(path.read_bytes())
    data = b"\xff" * (len(content) - start) if data is None else data
    content[start : start + len(data)] = data
    path.write_bytes(content)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def contents(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


# --- opening and closing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [b"x", None, 3, "", "a\0b"])
def test_what_is_no_path_is_refused(given: Any) -> None:
    with pytest.raises(ConfigurationError, match="path"):
        SqliteJournal(given)


@pytest.mark.parametrize("seconds", [-1, 1e9, math.inf, math.nan, True, "5"])
def test_what_is_no_timeout_is_refused(path: Path, seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="busy_timeout"):
        SqliteJournal(path, busy_timeout=seconds)


async def test_a_file_it_makes_is_its_owners_only_and_another_keeps_its_mode(path: Path) -> None:
    async with SqliteJournal(path) as journal:
        await journal.begin("s", use())
        modes = {name: mode(path.with_name(name)) for name in contents(path)}
    assert modes.keys() > {"calls.db"}, "what SQLite keeps beside the file holds results as well"
    assert set(modes.values()) == {0o600}
    await trio.Path(path).chmod(0o640)
    await make(path)
    assert mode(path) == 0o640


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory"])
async def test_special_names_of_sqlite_are_names_of_files(path: Path, name: str) -> None:
    with chdir(path.parent):
        journal = SqliteJournal(name)
    async with journal:
        await journal.begin("s", use())
    assert contents(path)[name]


async def test_a_journal_is_used_while_it_is_open(path: Path) -> None:
    journal = SqliteJournal(path)
    with pytest.raises(JournalError, match="not open"):
        await journal.begin("s", use())
    async with journal:
        with pytest.raises(JournalError, match="open already"):
            await journal.__aenter__()
        await journal.begin("s", use())
    with pytest.raises(JournalError, match="not open"):
        await journal.prune(0)
    async with journal:
        assert (await journal.begin("s", use())).attempt == 2


# --- files that cannot be used ----------------------------------------------------------------------------------------


async def test_a_file_that_is_no_database_is_left_as_it_is(path: Path) -> None:
    await trio.Path(path).write_bytes(b"precious " * 1_000)
    before = contents(path)
    with pytest.raises(JournalError, match=r"calls\.db: file is not a database; it was left as it is") as caught:
        await make(path)
    assert isinstance(caught.value.__cause__, sqlite3.DatabaseError)
    assert contents(path) == before


async def test_a_damaged_file_is_left_as_it_is(path: Path) -> None:
    await make(path)
    overwrite(path, 4096)  # all but the first page, which names the tables
    before = contents(path)
    async with SqliteJournal(path) as journal:
        with pytest.raises(JournalError, match=r"calls\.db: database disk image is malformed; it was left as it is"):
            await journal.begin("s", use())
    assert contents(path) == before


async def test_a_damaged_result_is_not_taken_for_none(path: Path) -> None:
    await make(path)
    for damaged in (b"{", b"{}", b"[]", b'{"content":[1],"is_error":false}', b'{"content":[],"is_error":0}'):
        with raw(path) as connection:
            connection.execute("UPDATE calls SET result = ?", (damaged,))
        async with SqliteJournal(path) as journal:
            with pytest.raises(JournalError, match=r"calls\.db"):
                await journal.begin("s", use())
        with raw(path) as connection:
            assert connection.execute("SELECT attempt, result FROM calls").fetchall() == [(1, damaged)]


async def test_a_newer_versions_file_is_left_as_it_is(path: Path) -> None:
    await make(path)
    with raw(path) as connection:
        connection.execute("PRAGMA user_version = 2")
    before = contents(path)
    with pytest.raises(JournalError, match=r"calls\.db: it was written by a newer version.*schema 2.*upgrade"):
        await make(path)
    assert contents(path) == before


@pytest.mark.parametrize("statement", ["CREATE TABLE theirs (a)", "PRAGMA user_version = 1"])
async def test_another_applications_file_is_left_as_it_is(path: Path, statement: str) -> None:
    with raw(path) as connection:
        connection.execute(statement)
    before = contents(path)
    with pytest.raises(JournalError, match=r"calls\.db: it is a database, but not a journal"):
        await make(path)
    assert contents(path) == before


async def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    await trio.Path(path).touch()
    await make(path)
    async with SqliteJournal(path) as journal:
        assert (await journal.begin("s", use())).result == result()


async def test_a_file_that_may_not_be_written_is_refused(path: Path) -> None:
    await make(path)
    overwrite(path, 18, b"\x03")  # the version of the format for writing: SQLite only reads a newer one
    async with SqliteJournal(path) as journal:
        with pytest.raises(JournalError, match=r"calls\.db: attempt to write a readonly database") as caught:
            await journal.begin("s", use("d"))
    assert isinstance(caught.value.__cause__, sqlite3.OperationalError)


@pytest.mark.parametrize("place", ["missing/calls.db", "."])
async def test_a_place_where_no_file_can_be_is_refused(tmp_path: Path, place: str) -> None:
    with pytest.raises(JournalError, match=f"the tool journal {tmp_path}") as caught:
        await make(tmp_path / place)
    assert isinstance(caught.value.__cause__, OSError | sqlite3.OperationalError)
    assert contents(tmp_path / "calls.db") == {}


# --- other programs that use the file ---------------------------------------------------------------------------------


async def test_a_lock_that_is_held_for_too_long_is_an_error_and_nothing_is_lost(path: Path) -> None:
    await make(path)
    async with SqliteJournal(path, busy_timeout=0) as journal:
        with locked(path), pytest.raises(JournalError, match=r"calls\.db: database is locked.*busy_timeout"):
            await journal.begin("s", use("d"))
        assert await journal.begin("s", use("d")) == JournalEntry(attempt=1)


async def test_opening_waits_for_a_lock_as_long_as_any_use_does(path: Path) -> None:
    await make(path)
    with raw(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")  # as a file is that another process is just making
    began = time.monotonic()
    with locked(path), pytest.raises(JournalError, match=r"calls\.db: database is locked.*busy_timeout"):
        await SqliteJournal(path, busy_timeout=0.1).__aenter__()
    assert time.monotonic() - began >= 0.1
    await make(path)


async def test_a_lock_is_waited_for_while_the_loop_runs(path: Path) -> None:
    found: list[JournalEntry] = []

    async def begin() -> None:
        found.append(await journal.begin("s", use()))

    async with SqliteJournal(path, busy_timeout=PATIENCE) as journal, trio.open_nursery() as nursery:
        with locked(path):
            nursery.start_soon(begin)
            await wait_all_tasks_blocked()
            assert found == []
    assert found == [JournalEntry(attempt=1)]


async def test_a_write_that_has_begun_is_not_cancelled_and_one_that_waits_its_turn_is(path: Path) -> None:
    found: list[Any] = []

    async def begin(call: str) -> None:
        found.append(await journal.begin("s", use(call)))

    async with SqliteJournal(path, busy_timeout=PATIENCE) as journal:
        async with trio.open_nursery() as nursery:
            with locked(path):
                nursery.start_soon(begin, "writes")
                await wait_all_tasks_blocked()
                nursery.start_soon(begin, "waits")
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        assert found == [JournalEntry(attempt=1)]
        assert [(await journal.begin("s", use(call))).attempt for call in ("writes", "waits")] == [2, 1]


# --- what remains -----------------------------------------------------------------------------------------------------


async def test_the_content_of_a_settled_call_is_dropped_and_the_rest_is_pruned_by_age(path: Path) -> None:
    now = 1_000.0
    async with SqliteJournal(path, clock=lambda: now) as journal:
        for call in ("settled first", "settled later", "done"):
            await journal.begin("s", use(call))
            await journal.finish("s", result(call))
        await journal.begin("s", use("running"))
        await journal.settle("s", "settled first")
        now = 1_060.0
        await journal.settle("s", "settled later")
        await journal.settle("s", "settled first")
        with raw(path) as connection:
            assert connection.execute("SELECT count(*) FROM calls WHERE result IS NOT NULL").fetchone() == (1,)
        assert [await journal.prune(seconds) for seconds in (60.1, 60, 60, 0)] == [0, 1, 0, 1]
        found = {call: (await journal.begin("s", use(call))).attempt for call in ("done", "running", "settled first")}
    assert found == {"done": 1, "running": 2, "settled first": 1}


@pytest.mark.parametrize("seconds", [-1, math.nan, True, "5"])
async def test_what_is_no_age_is_refused(path: Path, seconds: Any) -> None:
    async with SqliteJournal(path) as journal:
        with pytest.raises(ConfigurationError, match="older_than"):
            await journal.prune(seconds)


# --- processes that die, compete, or have no room ---------------------------------------------------------------------

PROGRAM = """
import resource, sys
import trio
from managed_agents_actors._errors import JournalError
from managed_agents_actors._model import ToolResult, ToolUse
from managed_agents_actors._session.sqlite_journal import SqliteJournal

def say(*words):
    print(*words, flush=True)

def use(call):
    return ToolUse(id=str(call), name="t", input={})

def result(call, text):
    return ToolResult(tool_use_id=str(call), content=({"type": "text", "text": text},))

async def write(journal):
    for call in range(1_000_000):
        await journal.begin("s", use(call))
        say("begun", call)
        await journal.finish("s", result(call, str(call) * 5_000))
        say("finished", call)
        if call % 3 == 0:
            await journal.settle("s", str(call))
            say("settled", call)

async def begin_and_hang(journal):
    await journal.begin("s", use("c"))
    say("begun c")
    await trio.sleep_forever()

async def compete(journal):
    for call in range(25):
        say((await journal.begin("s", use(call))).attempt)

async def make(journal):
    for number in range(50):
        async with SqliteJournal(sys.argv[1] + str(number)) as another:
            say((await another.begin("s", use("c"))).attempt)

async def fill(journal):
    await journal.begin("s", use("c"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    try:
        await journal.finish("s", result("c", "x" * 1_000_000))
    except JournalError as error:
        say(type(error.__cause__).__name__, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    say((await journal.begin("s", use("c"))).attempt)

async def main():
    say("ready")
    sys.stdin.readline()
    async with SqliteJournal(sys.argv[1]) as journal:
        await globals()[sys.argv[2]](journal)

trio.run(main)
"""


@contextmanager
def process(path: Path, act: str) -> Iterator[subprocess.Popen[str]]:
    """A process that does one of the program's acts with the file, as soon as it is told to go; killed when left."""
    command = [sys.executable, "-c", PROGRAM, str(path), act]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            assert running.stdout.readline() == "ready\n"
            yield running
        finally:
            running.kill()


def go(running: subprocess.Popen[str]) -> None:
    assert running.stdin is not None
    running.stdin.write("go\n")
    running.stdin.flush()


def heard(running: subprocess.Popen[str], count: int) -> list[str]:
    """The first lines a process says, and what it manages to say until it is killed; half a line is none."""
    assert running.stdout is not None
    said = [running.stdout.readline() for _ in range(count)]
    running.send_signal(signal.SIGKILL)
    said += running.stdout.readlines()
    return [line.strip() for line in said if line.endswith("\n")]


def finish(running: subprocess.Popen[str]) -> list[str]:
    out, _ = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0
    return out.splitlines()


async def test_a_call_that_ran_when_the_process_was_killed_is_offered_again(path: Path) -> None:
    with process(path, "begin_and_hang") as running:
        go(running)
        assert heard(running, 1) == ["begun c"]
    async with SqliteJournal(path) as journal:
        assert await journal.begin("s", use()) == JournalEntry(attempt=2)


@pytest.mark.parametrize("count", [1, 50, 301])
async def test_all_that_was_recorded_when_the_process_was_killed_is_known(path: Path, count: int) -> None:
    with process(path, "write") as running:
        go(running)
        said = heard(running, count)
    assert len(said) >= count
    last = {call: word for word, call in (line.split() for line in said)}
    async with SqliteJournal(path) as journal:
        for call, word in last.items():
            stages = {
                "begun": JournalEntry(attempt=2),
                "finished": JournalEntry(attempt=1, result=result(call, call * 5_000)),
                "settled": JournalEntry(attempt=1, settled=True),
            }
            # It may have died after the step that came next, before it said so; only the last call has one.
            reached = list(stages).index(word)
            possible = list(stages.values())[reached : reached + (2 if said[-1].endswith(f" {call}") else 1)]
            assert await journal.begin("s", use(call)) in possible
        assert (await journal.begin("s", use(str(len(last) + 1)))).attempt == 1
    with raw(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.parametrize(("act", "count"), [("compete", 25), ("make", 50)])
def test_processes_that_make_and_use_a_file_at_once_are_told_apart(path: Path, act: str, count: int) -> None:
    with contextlib.ExitStack() as stack:
        competitors = [stack.enter_context(process(path, act)) for _ in range(4)]
        for running in competitors:
            go(running)
        attempts = [[int(line) for line in finish(running)] for running in competitors]
    assert [sorted(of_call) for of_call in zip(*attempts, strict=True)] == [[1, 2, 3, 4]] * count


def test_a_full_disk_is_an_error_and_what_was_recorded_stays(path: Path) -> None:
    with process(path, "fill") as running:
        go(running)
        error, attempt = finish(running)
    assert error.startswith("OperationalError the tool journal")
    assert str(path) in error
    assert attempt == "2"
