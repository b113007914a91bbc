"""An SQLite file of this library's own: opened or made, told from any other file, used one transaction at a time.

All of SQLite happens in worker threads, one operation at a time per file; the loop never waits for a disk. Here a file
that cannot be used is named in an error and left as it is. What a file holds is known to its owner only.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar, final

import trio

from ._errors import ConfigurationError, ManagedAgentsError
from ._model import is_number

__all__ = [
    "DAMAGED",
    "SqliteFile",
    "SqliteFormat",
    "as_blob",
    "check_identity",
    "errors_named",
    "is_busy",
    "is_corruption",
    "make_file",
    "transaction",
]

FILE_MODE: Final = 0o600  # what is kept is the user's data
LOCK_POLL_SECONDS: Final = 0.01  # little beside the writing of a new file, the only time it is needed
MAX_BUSY_SECONDS: Final = 86_400.0  # SQLite counts milliseconds in 32 bits; nobody waits for a day
CLOSE_GRACE_SECONDS: Final = 5.0  # beyond the longest wait for a lock: time for an operation under way to end

# What an error says of a damaged file that nobody sets aside.
DAMAGED: Final = "it was left as it is: restore it, or move it away and begin a new one"

T = TypeVar("T")

# Closing any descriptor of a file drops every lock the process holds on it (POSIX), SQLite's too. So a file is made
# and let go before anything else in this process can have opened it.
_creating = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteFormat:
    """A kind of file.

    Attributes:
        noun: What such a file is, in a word.
        title: The same in full, for errors.
        application_id: A number in the file's header that tells it from any other database.
        version: Of the schema; a file of a later one is refused.
        schema: The statement that makes an empty file one of these.
        error: What is raised for all that a file does; takes the message.
    """

    noun: str
    title: str
    application_id: int
    version: int
    schema: str
    error: type[ManagedAgentsError]


@final
class SqliteFile:
    """A file on a local file system that any number of tasks and processes may use; it is opened and closed by hand.

    Args:
        path: The file; it is made if there is none, for its owner only.
        file_format: What it must be.
        busy_timeout: How many seconds to wait while other processes write. Such a wait cannot be cancelled.
        guard: Gives a context for this file, in which it is open: entered before it is touched, left after it is
            closed, both in a worker thread.

    Attributes:
        path: The file's absolute path.
        format: What it must be.
        busy_timeout: As given.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        file_format: SqliteFormat,
        *,
        busy_timeout: float,
        guard: Callable[[SqliteFile], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else None
        if not isinstance(name, str) or not name or "\0" in name:
            raise ConfigurationError(f"a {file_format.noun}'s path must be the path of a file, not {path!r}")
        if not is_number(busy_timeout) or not 0 <= busy_timeout <= MAX_BUSY_SECONDS:
            raise ConfigurationError(
                f"busy_timeout must be a number of seconds from 0 to {MAX_BUSY_SECONDS:g}, not {busy_timeout!r}"
            )
        self.path: Final = Path(name).absolute()
        self.format: Final = file_format
        self.busy_timeout: Final = busy_timeout
        self._guard = guard
        # One thread at a time: a connection has one transaction. It also orders closing after what is under way.
        self._limiter = trio.CapacityLimiter(1)
        self._connection: sqlite3.Connection | None = None
        self._opened = ExitStack()

    def __str__(self) -> str:
        return f"the {self.format.title} {self.path}"

    @property
    def is_open(self) -> bool:
        """Whether it is open."""
        return self._connection is not None

    def locate(self) -> Path:
        """Where the file really is, and what SQLite keeps beside it, if links lead there. It looks at the disk."""
        return Path(os.path.realpath(self.path))

    async def open(self) -> None:
        """Open the file, or make it. Until it has its turn it can be cancelled, then no more.

        Raises:
            ManagedAgentsError: The format's error: the file cannot be opened, is of another format, is damaged, or was
                written by a newer version; or it is open already.
        """
        await trio.to_thread.run_sync(self._open, limiter=self._limiter)

    async def close(self) -> None:
        """Close the file, in a cancelled scope too; what is under way ends first. A closed file stays as it is."""
        with trio.move_on_after(self.busy_timeout + CLOSE_GRACE_SECONDS, shield=True):
            await trio.to_thread.run_sync(self._close, limiter=self._limiter)

    async def write(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run an operation as one transaction in a thread. Until it has its turn it can be cancelled, then no more.

        Raises:
            ManagedAgentsError: The format's error: the file cannot be written, or is not open. Nothing was changed.
        """
        return await self._perform(operation, "IMMEDIATE")

    async def read(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run an operation that only looks, as :meth:`write` does; it waits for nobody who writes.

        Raises:
            ManagedAgentsError: The format's error: the file cannot be read, or is not open.
        """
        return await self._perform(operation, "DEFERRED")

    async def _perform(self, operation: Callable[[sqlite3.Connection], T], kind: Literal["IMMEDIATE", "DEFERRED"]) -> T:
        def perform() -> T:
            if self._connection is None:
                raise self.format.error(f"{self} is not open: use the {self.format.noun} inside its `async with` block")
            with errors_named(self, self.format.error), transaction(self._connection, kind):
                return operation(self._connection)

        return await trio.to_thread.run_sync(perform, limiter=self._limiter)

    def _open(self) -> None:
        if self._connection is not None:
            raise self.format.error(f"{self} is open already; one `async with` block serves any number of tasks")
        with errors_named(self, self.format.error), ExitStack() as stack:
            stack.enter_context(self._guard(self))
            connection = stack.enter_context(closing(_connect(self)))
            _prepare(connection, self.format, self.busy_timeout)
            self._opened, self._connection = stack.pop_all(), connection

    def _close(self) -> None:
        self._connection = None
        with errors_named(self, self.format.error):
            self._opened.close()


def as_blob(text: str) -> bytes:
    """A text as it is kept: as bytes, since it may hold what is no character, and SQLite's text cannot."""
    return text.encode("utf-8", "surrogatepass")


@contextmanager
def errors_named(what: object, error_type: type[ManagedAgentsError]) -> Iterator[None]:
    """Raise whatever a file does as an error of ours that names it, and says what to do."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError) as error:
        raise error_type(f"{what}: {_explained(error)}") from error


def _explained(error: Exception) -> str:
    if is_corruption(error):
        return f"{error}; {DAMAGED}"
    if is_busy(error):
        return f"{error}: another process kept it for longer than busy_timeout"
    return str(error)


def is_busy(error: Exception) -> bool:
    """Whether others hold a lock."""
    return _error_kind(error) == sqlite3.SQLITE_BUSY


def is_corruption(error: Exception) -> bool:
    """Whether the file is damaged, or no database at all."""
    return _error_kind(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)


def _error_kind(error: Exception) -> int:
    # The low byte is the kind of the error; the rest is detail.
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def make_file(path: Path) -> bool:
    """Make an empty file for its owner only, unless there is one; gives whether it was made.

    Raises:
        OSError: There can be none.
    """
    with _creating, suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, FILE_MODE))
        return True
    return False


def _connect(file: SqliteFile) -> sqlite3.Connection:
    path = file.locate()
    make_file(path)
    return sqlite3.connect(path, timeout=file.busy_timeout, isolation_level=None, check_same_thread=False)


def _prepare(connection: sqlite3.Connection, file_format: SqliteFormat, busy_timeout: float) -> None:
    with transaction(connection, "DEFERRED"):
        check_identity(connection, file_format)
    _use_wal(connection, busy_timeout)
    # In WAL mode anything less lets a power failure take the last transactions back, after others have relied on
    # them. fullfsync is what macOS needs for the same promise.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA fullfsync=ON")
    with transaction(connection, "IMMEDIATE"):
        if check_identity(connection, file_format) == 0:
            connection.execute(file_format.schema)
            connection.execute(f"PRAGMA application_id={file_format.application_id}")
            connection.execute(f"PRAGMA user_version={file_format.version}")


def check_identity(connection: sqlite3.Connection, file_format: SqliteFormat) -> int:
    """The version of the file's schema, 0 for an empty file. It only reads, so that a stranger's file stays as it is.

    It reads more than once, so it needs a transaction: in between, another process may make this file its own.

    Raises:
        ValueError: It is another application's database, or a newer version's.
    """
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    if application == version == 0:
        [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables == 0:
            return 0
    noun = file_format.noun
    if application != file_format.application_id:
        raise ValueError(f"it is a database, but not a {noun}; give the {noun} a file of its own")
    if version > file_format.version:
        raise ValueError(
            f"it was written by a newer version of this library (schema {version}, this one knows"
            f" {file_format.version}): upgrade, or use another file"
        )
    return int(version)


def _use_wal(connection: sqlite3.Connection, busy_timeout: float) -> None:
    """Switch to WAL, where readers and writers of several processes do not stop each other; wait for locks as usual.

    Source: SQLite does not call its busy handler for this switch, and fails at once.
    """
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if not is_busy(error) or time.monotonic() >= deadline:
                raise
        time.sleep(LOCK_POLL_SECONDS)


@contextmanager
def transaction(connection: sqlite3.Connection, kind: Literal["IMMEDIATE", "DEFERRED"]) -> Iterator[None]:
    """All or nothing. Who writes takes the lock at once: taken later (deferred), it could fail without waiting."""
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        # SQLite itself rolls back when the disk is full.
        if connection.in_transaction:
            connection.rollback()
        raise
