"""The tool journal in an SQLite file: what was recorded is still known after a crash of the process or of the machine.

What a journal keeps of a call, and how, is all that is here. A file that cannot be used is named in the error and left
as it is: the record of an effect is never thrown away.
"""

from __future__ import annotations

import functools
import os
import sqlite3
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, final

from .._errors import ConfigurationError, JournalError
from .._model import ToolResult, ToolUse, is_number
from .._protocol.codec import decode_json, encode_json
from .._sqlite import SqliteFile, SqliteFormat, as_blob
from .journal import NEVER_BEGUN, JournalEntry, never_begun

__all__ = ["SqliteJournal"]

# A result is kept from its recording until the call is settled.
JOURNAL: Final = SqliteFormat(
    noun="journal",
    title="tool journal",
    application_id=0x6D61616A,  # "maaj"
    version=1,
    schema="""
        CREATE TABLE calls (
            session_id BLOB NOT NULL,
            tool_use_id BLOB NOT NULL,
            attempt INTEGER NOT NULL,
            result BLOB,
            settled_at REAL,
            PRIMARY KEY (session_id, tool_use_id)
        )
    """,
    error=JournalError,
)


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
        self._file = SqliteFile(path, JOURNAL, busy_timeout=busy_timeout)
        self._clock = clock

    def __repr__(self) -> str:
        return f"SqliteJournal({str(self._file.path)!r})"

    @property
    def is_open(self) -> bool:
        """Whether it is inside of its ``async with``."""
        return self._file.is_open

    async def __aenter__(self) -> Self:
        """Open the file, or make it.

        Raises:
            JournalError: It cannot be opened, is no journal, is damaged, or was written by a newer version.
        """
        await self._file.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._file.close()

    async def begin(self, session_id: str, use: ToolUse) -> JournalEntry:
        """Record that a call is about to start; see :meth:`Journal.begin`."""
        return await self._file.write(functools.partial(_begin, session_id, use.id))

    async def finish(self, session_id: str, result: ToolResult) -> None:
        """Record a call's result; see :meth:`Journal.finish`."""
        await self._file.write(functools.partial(_finish, session_id, result))

    async def settle(self, session_id: str, tool_use_id: str) -> None:
        """Record that the provider has the answer; see :meth:`Journal.settle`."""
        await self._file.write(functools.partial(_settle, session_id, tool_use_id, self._clock()))

    async def forget(self, session_id: str) -> None:
        """Drop everything about a session; see :meth:`Journal.forget`."""
        await self._file.write(functools.partial(_forget, session_id))

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
        return await self._file.write(functools.partial(_prune, self._clock() - older_than))


def _begin(session_id: str, tool_use_id: str, connection: sqlite3.Connection) -> JournalEntry:
    connection.execute(
        "INSERT INTO calls (session_id, tool_use_id, attempt) VALUES (?, ?, 1) ON CONFLICT DO UPDATE"
        " SET attempt = attempt + 1 WHERE result IS NULL AND settled_at IS NULL",
        (as_blob(session_id), as_blob(tool_use_id)),
    )
    return _read(session_id, tool_use_id, connection)


def _finish(session_id: str, result: ToolResult, connection: sqlite3.Connection) -> None:
    entry = _read(session_id, result.tool_use_id, connection)
    if entry.attempt == 0:
        raise never_begun(session_id, result.tool_use_id)
    if entry.result is None and not entry.settled:
        connection.execute(
            "UPDATE calls SET result = ? WHERE session_id = ? AND tool_use_id = ?",
            (_encoded(result), as_blob(session_id), as_blob(result.tool_use_id)),
        )


def _settle(session_id: str, tool_use_id: str, now: float, connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO calls (session_id, tool_use_id, attempt, settled_at) VALUES (?, ?, 0, ?) ON CONFLICT DO UPDATE"
        " SET result = NULL, settled_at = excluded.settled_at WHERE settled_at IS NULL",
        (as_blob(session_id), as_blob(tool_use_id), now),
    )


def _forget(session_id: str, connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM calls WHERE session_id = ?", (as_blob(session_id),))


def _prune(until: float, connection: sqlite3.Connection) -> int:
    return connection.execute("DELETE FROM calls WHERE settled_at <= ?", (until,)).rowcount


def _read(session_id: str, tool_use_id: str, connection: sqlite3.Connection) -> JournalEntry:
    row = connection.execute(
        "SELECT attempt, result, settled_at FROM calls WHERE session_id = ? AND tool_use_id = ?",
        (as_blob(session_id), as_blob(tool_use_id)),
    ).fetchone()
    if row is None:
        return NEVER_BEGUN
    attempt, encoded, settled_at = row
    result = None if encoded is None else _decoded(tool_use_id, encoded)
    return JournalEntry(attempt=attempt, result=result, settled=settled_at is not None)


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
