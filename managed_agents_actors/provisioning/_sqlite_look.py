"""Looking into an SQLite file of this library's own without using it: no byte of it is changed.

Whether a file is damaged is found out so, and so it is read by those who are only to read. A writer that comes in
between is never waited for, and never goes unnoticed: what was read while it wrote is read again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias, TypeVar, final

import trio

from .._sqlite import DAMAGED, SqliteFile, check_identity, errors_named, is_corruption, transaction

__all__ = ["SqliteReader", "find_damage", "look"]

T = TypeVar("T")

# Size and time of a file and of what SQLite keeps beside it; ``None`` where there is none.
State: TypeAlias = tuple[tuple[int, int] | None, ...]

LOOKS: Final = 100  # a look takes less than a millisecond; a writer that changes the file in all of them never rests


def look(file: SqliteFile, operation: Callable[[sqlite3.Connection], T], *, is_at_rest: bool = False) -> T:
    """Run an operation that only looks, on a file that need not be open.

    It changes no byte of the file or of its log; a connection that may write, when closed, would write the one into
    the other.

    Args:
        file: The file.
        operation: What to do.
        is_at_rest: Whether nobody writes meanwhile, which the caller sees to. Then no lock is taken, and nothing is
            made beside the file. Source: SQLite, "URI Filenames", ``immutable``.

    Raises:
        sqlite3.Error: It cannot be read, or is damaged.
        ValueError: It is another application's database, or a newer version's.
    """
    address = f"{file.path.as_uri()}?mode=ro{'&immutable=1' if is_at_rest else ''}"
    with (
        closing(sqlite3.connect(address, timeout=file.busy_timeout, isolation_level=None, uri=True)) as connection,
        transaction(connection, "DEFERRED"),
    ):
        check_identity(connection, file.format)
        return operation(connection)


def find_damage(file: SqliteFile) -> str | None:
    """What is damaged in a file, if anything is; ``None`` also if there is none, or one of another format.

    Everything else that is wrong with a file is told by opening it.
    """
    try:
        return look(file, _damage)
    except ValueError:
        return None
    except sqlite3.Error as error:
        return str(error) if is_corruption(error) else None


def _damage(connection: sqlite3.Connection) -> str | None:
    [found] = connection.execute("PRAGMA quick_check(1)").fetchone()
    return None if found == "ok" else " ".join(str(found).split())


@final
class SqliteReader:
    """A file that is only read, as it is at each look; one that is not there is an empty one.

    No lock and no log is made, so that a folder that cannot be written to will do.

    Args:
        file: The file, which is not opened.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._is_open = False
        self._limiter = trio.CapacityLimiter(1)

    async def open(self) -> None:
        """Look at all of the file. Until it has its turn it can be cancelled, then no more.

        Raises:
            ManagedAgentsError: The format's error: the file cannot be read, is of another format, is damaged, or was
                written by a newer version; or it is open already.
        """
        await trio.to_thread.run_sync(self._open, limiter=self._limiter)

    async def close(self) -> None:
        """Look no more."""
        self._is_open = False
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run an operation that only looks, in a thread. Until it has its turn it can be cancelled, then no more.

        Raises:
            ManagedAgentsError: The format's error: the file cannot be read, or is not open.
        """

        def perform() -> T:
            if not self._is_open:
                noun = self._file.format.noun
                raise self._file.format.error(f"{self._file} is not open: use the {noun} inside its `async with` block")
            with errors_named(self._file, self._file.format.error):
                return self._look(operation)

        return await trio.to_thread.run_sync(perform, limiter=self._limiter)

    async def write(self, _operation: Callable[[sqlite3.Connection], Any]) -> NoReturn:
        """Refuse to write.

        Raises:
            ManagedAgentsError: The format's error, always.
        """
        await trio.lowlevel.checkpoint()
        raise self._file.format.error(f"{self._file} was opened to be read only: nothing can be written to it")

    def _open(self) -> None:
        error = self._file.format.error
        if self._is_open:
            raise error(f"{self._file} is open already; one `async with` block serves any number of tasks")
        with errors_named(self._file, error):
            problem = self._look(_damage)
        if problem is not None:
            raise error(f"{self._file}: {problem}; {DAMAGED}")
        self._is_open = True

    def _look(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        for _ in range(LOOKS):
            before = self._state()
            with suppress(_Changed):
                return self._look_once(operation, before)
        raise OSError(f"it changed in each of {LOOKS} looks at it; try again")

    def _look_once(self, operation: Callable[[sqlite3.Connection], T], before: State) -> T:
        content, *beside = before
        if not content or not content[0]:
            return self._look_at_nothing(operation)
        # What is in a log or a journal is a part of the file; to read that, SQLite needs its locks.
        is_at_rest = not any(size for size, _ in filter(None, beside))
        try:
            found = look(self._file, operation, is_at_rest=is_at_rest)
        except (sqlite3.Error, ValueError):
            if self._state() != before:
                raise _Changed from None
            raise
        if is_at_rest and self._state() != before:
            raise _Changed
        return found

    def _look_at_nothing(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.execute(self._file.format.schema)
            return operation(connection)

    def _state(self) -> State:
        path = self._file.locate()
        return tuple(_size_and_time(Path(f"{path}{suffix}")) for suffix in ("", "-wal", "-journal"))


class _Changed(Exception):
    """Somebody wrote to the file while it was read."""


def _size_and_time(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns
