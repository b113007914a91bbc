"""The tool journal in an SQLite file: what was recorded is still known after a crash of the process or of the machine.

All of SQLite happens in worker threads, one operation at a time per journal; the loop never waits for a disk. A file
that cannot be used is named in the error and left as it is: the record of an effect is never thrown away here.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, TypeVar, final

import trio

from .._errors import ConfigurationError, JournalError
from .._model import ToolResult, ToolUse, is_number
from .._protocol.codec import decode_json, encode_json
from .journal import NEVER_BEGUN, JournalEntry, never_begun

__all__ = ["SqliteJournal"]

APPLICATION_ID: Final = 0x6D61616A  # "maaj", in the file's header: tells a journal from any other database
SCHEMA_VERSION: Final = 1

# Ids are bytes: a provider's id may hold what is no character, and SQLite's text cannot. A result is kept from its
# recording until the call is settled.
SCHEMA: Final = """
CREATE TABLE calls (
    session_id BLOB NOT NULL,
    tool_use_id BLOB NOT NULL,
    attempt INTEGER NOT NULL,
    result BLOB,
    settled_at REAL,
    PRIMARY KEY (session_id, tool_use_id)
)
"""

FILE_MODE: Final = 0o600  # results are the user's data
LOCK_POLL_SECONDS: Final = 0.01  # little beside the writing of a new file, the only time it is needed
MAX_BUSY_SECONDS: Final = 86_400.0  # SQLite counts milliseconds in 32 bits; nobody waits for a day
CLOSE_GRACE_SECONDS: Final = 5.0  # beyond the longest wait for a lock: time for an operation under way to end

T = TypeVar("T")

# Closing any descriptor of a file drops every lock the process holds on it (POSIX), SQLite's too. So a file is made
# and let go before another journal of this process can have opened it.
_creating = threading.Lock()


@final
class SqliteJournal:
    """A durable journal: ``async with SqliteJournal("calls.db") as journal``.

    Any number of sessions and processes may use one file, on a local file system. A file it makes can be read and
    written by its owner only. Results are dropped when the provider has them; :meth:`prune` drops what remains of
    such calls.

    Args:
        path: The file; it is made if there is none.
        busy_timeout: How many seconds to wait while other processes write. Such a wait cannot be cancelled.
        clock: Gives the time of day in seconds; all processes that prune one file should agree on it.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0, clock: Callable[[], float] = time.time
    ) -> None:
        name = os.fspath(path) if isinstance(path, str | os.PathLike) else None
        if not isinstance(name, str) or not name or "\0" in name:
            raise ConfigurationError(f"a journal's path must be the path of a file, not {path!r}")
        if not is_number(busy_timeout) or not 0 <= busy_timeout <= MAX_BUSY_SECONDS:
            raise ConfigurationError(
                f"busy_timeout must be a number of seconds from 0 to {MAX_BUSY_SECONDS:g}, not {busy_timeout!r}"
            )
        self._path = Path(name).absolute()
        self._busy_timeout = busy_timeout
        self._clock = clock
        # One thread at a time: a connection has one transaction. It also orders closing after what is under way.
        self._limiter = trio.CapacityLimiter(1)
        self._connection: sqlite3.Connection | None = None

    def __repr__(self) -> str:
        return f"SqliteJournal({str(self._path)!r})"

    @property
    def is_open(self) -> bool:
        """Whether it is inside of its ``async with``."""
        return self._connection is not None

    async def __aenter__(self) -> Self:
        """Open the file, or make it.

        Raises:
            JournalError: It cannot be opened, is no journal, is damaged, or was written by a newer version.
        """
        await trio.to_thread.run_sync(self._open, limiter=self._limiter)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with trio.move_on_after(self._busy_timeout + CLOSE_GRACE_SECONDS, shield=True):
            await trio.to_thread.run_sync(self._close, limiter=self._limiter)

    async def begin(self, session_id: str, use: ToolUse) -> JournalEntry:
        """Record that a call is about to start; see :meth:`Journal.begin`."""
        return await self._perform(functools.partial(_begin, session_id, use.id))

    async def finish(self, session_id: str, result: ToolResult) -> None:
        """Record a call's result; see :meth:`Journal.finish`."""
        await self._perform(functools.partial(_finish, session_id, result))

    async def settle(self, session_id: str, tool_use_id: str) -> None:
        """Record that the provider has the answer; see :meth:`Journal.settle`."""
        await self._perform(functools.partial(_settle, session_id, tool_use_id, self._clock()))

    async def forget(self, session_id: str) -> None:
        """Drop everything about a session; see :meth:`Journal.forget`."""
        await self._perform(functools.partial(_forget, session_id))

    async def prune(self, older_than: float) -> int:
        """Drop the calls that were settled at least so many seconds ago, and return how many those were.

        A call that was dropped would run again if a listing of the provider's still showed it as unanswered: let
        them stay for longer than any listing lags behind. A day is ample.

        Raises:
            ConfigurationError: This is no number of seconds.
            JournalError: The file cannot be written.
        """
        if not is_number(older_than) or older_than < 0:
            raise ConfigurationError(f"older_than must be a number of seconds from 0, not {older_than!r}")
        return await self._perform(functools.partial(_prune, self._clock() - older_than))

    async def _perform(self, operation: Callable[[sqlite3.Connection], T]) -> T:
        """Run an operation as one transaction in a thread. Until it has its turn it can be cancelled, then no more."""

        def perform() -> T:
            if self._connection is None:
                raise JournalError(f"{self!r} is not open: use it inside its `async with` block")
            with self._errors_named(), _transaction(self._connection):
                return operation(self._connection)

        return await trio.to_thread.run_sync(perform, limiter=self._limiter)

    def _open(self) -> None:
        if self._connection is not None:
            raise JournalError(f"{self!r} is open already; one `async with` block serves any number of sessions")
        with self._errors_named():
            self._connection = _connect(self._path, self._busy_timeout)

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with self._errors_named():
                connection.close()

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        """Raise whatever the file did as an error that names it."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            raise JournalError(f"the tool journal {self._path}: {_explained(error)}") from error


def _explained(error: Exception) -> str:
    # The low byte is the kind of the error; the rest is detail.
    match getattr(error, "sqlite_errorcode", 0) & 0xFF:
        case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
            return f"{error}; it was left as it is: restore it, or move it away and begin a new one"
        case sqlite3.SQLITE_BUSY:
            return f"{error}: another process kept it for longer than busy_timeout"
        case _:
            return str(error)


def _connect(path: Path, busy_timeout: float) -> sqlite3.Connection:
    with _creating, suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, FILE_MODE))
    connection = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, busy_timeout)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, busy_timeout: float) -> None:
    with _transaction(connection, "DEFERRED"):
        _check_identity(connection)
    _use_wal(connection, busy_timeout)
    # In WAL mode anything less lets a power failure take the last transactions back: a call that was begun would be
    # unknown, and its effect would happen twice. fullfsync is what macOS needs for the same promise.
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA fullfsync=ON")
    with _transaction(connection):
        if _check_identity(connection) == 0:
            connection.execute(SCHEMA)
            connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version={SCHEMA_VERSION}")


def _check_identity(connection: sqlite3.Connection) -> int:
    """The version of the file's schema, 0 for an empty file. It only reads, so that a stranger's file stays as it is.

    It reads more than once, so it needs a transaction: in between, another process may make this file a journal.

    Raises:
        ValueError: It is another application's database, or a newer version's.
    """
    [application] = connection.execute("PRAGMA application_id").fetchone()
    [version] = connection.execute("PRAGMA user_version").fetchone()
    [tables] = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application == version == tables == 0:
        return 0
    if application != APPLICATION_ID:
        raise ValueError("it is a database, but not a journal; give the journal a file of its own")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"it was written by a newer version of this library (schema {version}, this one knows {SCHEMA_VERSION}):"
            " upgrade, or use another file"
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
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() >= deadline:
                raise
        time.sleep(LOCK_POLL_SECONDS)


@contextmanager
def _transaction(
    connection: sqlite3.Connection, kind: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE"
) -> Iterator[None]:
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


def _begin(session_id: str, tool_use_id: str, connection: sqlite3.Connection) -> JournalEntry:
    connection.execute(
        "INSERT INTO calls (session_id, tool_use_id, attempt) VALUES (?, ?, 1) ON CONFLICT DO UPDATE"
        " SET attempt = attempt + 1 WHERE result IS NULL AND settled_at IS NULL",
        (_key(session_id), _key(tool_use_id)),
    )
    return _read(session_id, tool_use_id, connection)


def _finish(session_id: str, result: ToolResult, connection: sqlite3.Connection) -> None:
    entry = _read(session_id, result.tool_use_id, connection)
    if entry.attempt == 0:
        raise never_begun(session_id, result.tool_use_id)
    if entry.result is None and not entry.settled:
        connection.execute(
            "UPDATE calls SET result = ? WHERE session_id = ? AND tool_use_id = ?",
            (_encoded(result), _key(session_id), _key(result.tool_use_id)),
        )


def _settle(session_id: str, tool_use_id: str, now: float, connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO calls (session_id, tool_use_id, attempt, settled_at) VALUES (?, ?, 0, ?) ON CONFLICT DO UPDATE"
        " SET result = NULL, settled_at = excluded.settled_at WHERE settled_at IS NULL",
        (_key(session_id), _key(tool_use_id), now),
    )


def _forget(session_id: str, connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM calls WHERE session_id = ?", (_key(session_id),))


def _prune(until: float, connection: sqlite3.Connection) -> int:
    return connection.execute("DELETE FROM calls WHERE settled_at <= ?", (until,)).rowcount


def _read(session_id: str, tool_use_id: str, connection: sqlite3.Connection) -> JournalEntry:
    row = connection.execute(
        "SELECT attempt, result, settled_at FROM calls WHERE session_id = ? AND tool_use_id = ?",
        (_key(session_id), _key(tool_use_id)),
    ).fetchone()
    if row is None:
        return NEVER_BEGUN
    attempt, encoded, settled_at = row
    result = None if encoded is None else _decoded(tool_use_id, encoded)
    return JournalEntry(attempt=attempt, result=result, settled=settled_at is not None)


def _key(id_: str) -> bytes:
    return id_.encode("utf-8", "surrogatepass")


def _encoded(result: ToolResult) -> bytes:
    return encode_json({"content": result.content, "is_error": result.is_error})


def _decoded(tool_use_id: str, encoded: bytes) -> ToolResult:
    """Read a result back.

    Raises:
        ValueError: It is not what was written: the file is damaged where SQLite does not see it.
    """
    match decode_json(encoded):
        case {"content": list(content), "is_error": bool(is_error)} if all(type(block) is dict for block in content):
            return ToolResult(tool_use_id=tool_use_id, content=tuple(content), is_error=is_error)
    raise ValueError(f"the result of call {tool_use_id!r} is damaged; it was left as it is")
