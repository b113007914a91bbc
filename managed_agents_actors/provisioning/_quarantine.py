"""What becomes of a store's file that is damaged: it is set aside under a name of its own, whole, and never deleted.

Only what a store is likely to have been is set aside; any other file was named by mistake, and is left as it is.
A file that somebody has open is not moved: SQLite removes a log by its name, and would remove that of the file which
took its place. So whoever has a store open has a share of a lock, the empty file ``<path>-lock`` beside it, and only
who has all of the lock moves the file.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from pathlib import Path
from typing import Final

from .._errors import StoreError
from .._sqlite import SqliteFile, errors_named, is_busy, make_file
from ._sqlite_look import find_damage

__all__ = ["kept_in_place"]

# What SQLite keeps beside a file, under its name; it would be taken to belong to the next file of that name.
COMPANIONS: Final = ("-journal", "-wal", "-shm")

# By any of these a file that is no database any more is known to have been one: its name, or how it begins.
# Source: SQLite, "Database File Format", the header.
SUFFIXES: Final = (".db", ".sqlite", ".sqlite3")
HEADER: Final = b"SQLite format 3\0"

# How long to wait until others let go of a damaged file, before looking whether one of them has set it aside.
LOOK_AGAIN_SECONDS: Final = 0.1


@contextmanager
def kept_in_place(file: SqliteFile) -> Iterator[None]:
    """A context in which nobody moves a file that is to be opened; first, a damaged one is set aside.

    Raises:
        StoreError: The file is damaged; the message says where it is now. Or it never was a store. Or the lock cannot
            be had.
    """
    _check_may_be_a_store(file)
    deadline = time.monotonic() + file.busy_timeout
    with closing(_Lock(file)) as lock:
        lock.share()
        while (problem := find_damage(file)) is not None:
            lock.release()
            if lock.own(min(LOOK_AGAIN_SECONDS, file.busy_timeout)):
                _set_aside_if_damaged(file)
                lock.release()
            elif time.monotonic() >= deadline:
                raise StoreError(
                    f"{file} is damaged ({problem}), and was left where it is, for others have it open: open it again"
                    " once they have ended, and it will be set aside"
                )
            lock.share()
        yield


def _check_may_be_a_store(file: SqliteFile) -> None:
    """Refuse a file that was named by mistake, before anything is made beside it.

    Raises:
        StoreError: It is no database, and nothing says that it ever was one.
    """
    path = file.locate()
    with errors_named(file, StoreError):
        if not path.exists() or path.suffix.lower() in SUFFIXES or _beside(path, "-lock").exists():
            return
        if not path.is_file():
            raise OSError("it is no regular file")
        # Who has a database open loses its locks when the process closes the file, so only what is none is read.
        if find_damage(file) is None or _begins_as_database(path):
            return
    raise StoreError(
        f"{file} is no store and no database, and was left as it is: give the store a file of its own, whose name ends"
        f" in {', '.join(SUFFIXES)}"
    )


def _begins_as_database(path: Path) -> bool:
    with path.open("rb") as opened:
        return opened.read(len(HEADER)) == HEADER


class _Lock:
    """The lock of a file that may be set aside. It is SQLite's lock on an empty file, so it ends with its process."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file
        self._path = _beside(file.locate(), "-lock")
        with self._errors_named():
            make_file(self._path)
            self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)

    def share(self) -> None:
        """Keep others from owning it.

        Raises:
            StoreError: Another one owns it for longer than the file's ``busy_timeout``, or it is no lock.
        """
        with self._errors_named():
            self._wait_at_most(self._file.busy_timeout)
            self._connection.execute("BEGIN")
            # Not the beginning of a transaction takes the lock, but its first look.
            self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()

    def own(self, seconds: float) -> bool:
        """Keep others from having a share, unless some have one for longer than this; gives whether it is owned.

        Raises:
            StoreError: It is no lock.
        """
        with self._errors_named():
            self._wait_at_most(seconds)
            try:
                # In memory, since even a transaction that writes nothing has a journal.
                self._connection.execute("PRAGMA journal_mode=MEMORY")
                self._connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                return False
            return True

    def release(self) -> None:
        """Have no part of it."""
        self._connection.rollback()

    def close(self) -> None:
        """Have no part of it for good."""
        self._connection.close()

    def _wait_at_most(self, seconds: float) -> None:
        self._connection.execute(f"PRAGMA busy_timeout={round(seconds * 1_000)}")

    def _errors_named(self) -> AbstractContextManager[None]:
        return errors_named(f"the lock {self._path} of {self._file}", StoreError)


def _set_aside_if_damaged(file: SqliteFile) -> None:
    """Set a file aside, unless another process has done that since it was looked at.

    Raises:
        StoreError: It was set aside; or that could not be done.
    """
    problem = find_damage(file)
    if problem is not None:
        with errors_named(file, StoreError):
            target = _set_aside(file.locate())
        raise StoreError(
            f"{file} is damaged ({problem}). It was set aside, unchanged, as {target}: take from there what you need."
            " The next opening begins a new store"
        )


def _set_aside(path: Path) -> Path:
    """Give a file the first name that is free, with what SQLite keeps beside it; gives the name."""
    for number in itertools.count(1):
        target = _beside(path, f".corrupt-{number}")
        if not any(_beside(target, suffix).exists() for suffix in COMPANIONS) and make_file(target):
            break
    # The file goes last: a process that dies in between leaves one that still is damaged, not a log to a new file.
    for suffix in COMPANIONS:
        with suppress(FileNotFoundError):
            _beside(path, suffix).replace(_beside(target, suffix))
    return path.replace(target)


def _beside(path: Path, suffix: str) -> Path:
    return Path(f"{path}{suffix}")
