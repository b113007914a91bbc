"""The store in an SQLite file: what was provisioned is still known after a crash of the process or of the machine.

Nothing of a store is thrown away: a file that is damaged, so far that it is no database any more, too, is set aside
when it is opened; what never was a store is left alone.
"""

from __future__ import annotations

import functools
import os
import sqlite3
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self, final

from .._errors import StoreError
from .._protocol.codec import decode_json
from .._sqlite import SqliteFile, SqliteFormat, as_blob
from ._quarantine import kept_in_place
from ._sqlite_look import SqliteReader
from ._store import check_key, check_prefix, encode_value

__all__ = ["SqliteStore"]

# Entries are few and small: one with a certain value is found by looking at them all.
STORE: Final = SqliteFormat(
    noun="store",
    title="provisioning store",
    application_id=0x6D616173,  # "maas"
    version=1,
    schema="CREATE TABLE entries (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL) WITHOUT ROWID",
    error=StoreError,
)

AFTER_ANY_TEXT: Final = b"\xff"  # no text has this byte as UTF-8


@final
class SqliteStore:
    """A durable store: ``async with SqliteStore("provisioned.db") as store``.

    Any number of tasks and processes may use one file, on a local file system. A file it makes can be read and written
    by its owner only. Beside it is an empty one, ``<path>-lock``, which tells who has it open. A number is equal to one
    that is written the same (``1``, not ``1.0``).

    Args:
        path: The file; it is made if there is none.
        busy_timeout: How many seconds to wait while other processes write. Such a wait cannot be cancelled.
        read_only: Whether only to look: nothing is made or set aside, not even the file beside it, a file that is not
            there is an empty store, and whatever writes is a :class:`StoreError`.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str], *, busy_timeout: float = 5.0, read_only: bool = False) -> None:
        file = SqliteFile(path, STORE, busy_timeout=busy_timeout, guard=kept_in_place)
        self._path: Final = file.path
        self._file: Final = SqliteReader(file) if read_only else file
        self._read_only: Final = read_only

    def __repr__(self) -> str:
        return f"SqliteStore({str(self._path)!r}{', read_only=True' if self._read_only else ''})"

    async def __aenter__(self) -> Self:
        """Open the file, or make it. All of it is looked at.

        A damaged one is set aside as ``<path>.corrupt-<n>``, unchanged; that is an error once, and the next opening
        begins a new store. It is left where it is while another process has it open, if it was opened to be read only,
        and if nothing says that it was a store: it has no file of that name with ``-lock``, does not begin as SQLite's
        files do, and its name does not end in ``.db``, ``.sqlite`` or ``.sqlite3``.

        Raises:
            StoreError: It cannot be opened, is no store, is damaged, or was written by a newer version.
        """
        await self._file.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._file.close()

    async def get(self, key: str) -> Any:
        """The value of an entry; see :meth:`Store.get`."""
        check_key(key)
        return await self._file.read(functools.partial(_get, key))

    async def put(self, key: str, value: Any) -> None:
        """Keep a value; see :meth:`Store.put`."""
        check_key(key)
        await self._file.write(functools.partial(_put, key, encode_value(value)))

    async def delete(self, key: str) -> None:
        """Remove an entry; see :meth:`Store.delete`."""
        check_key(key)
        await self._file.write(functools.partial(_delete, key))

    async def delete_value(self, value: Any) -> int:
        """Remove all entries with a value; see :meth:`Store.delete_value`."""
        return await self._file.write(functools.partial(_delete_value, encode_value(value)))

    async def items(self, prefix: str) -> dict[str, Any]:
        """The entries whose key begins with a text; see :meth:`Store.items`."""
        check_prefix(prefix)
        return await self._file.read(functools.partial(_items, prefix))


def _get(key: str, connection: sqlite3.Connection) -> Any:
    row = connection.execute("SELECT value FROM entries WHERE key = ?", (as_blob(key),)).fetchone()
    return None if row is None else _decoded(key, row[0])


def _put(key: str, encoded: bytes, connection: sqlite3.Connection) -> None:
    connection.execute("INSERT OR REPLACE INTO entries (key, value) VALUES (?, ?)", (as_blob(key), encoded))


def _delete(key: str, connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM entries WHERE key = ?", (as_blob(key),))


def _delete_value(encoded: bytes, connection: sqlite3.Connection) -> int:
    return connection.execute("DELETE FROM entries WHERE value = ?", (encoded,)).rowcount


def _items(prefix: str, connection: sqlite3.Connection) -> dict[str, Any]:
    # UTF-8 puts texts in the order of their characters, as Python does.
    first = as_blob(prefix)
    rows = connection.execute(
        "SELECT key, value FROM entries WHERE key >= ? AND key < ? ORDER BY key", (first, first + AFTER_ANY_TEXT)
    )
    found = {}
    for blob, encoded in rows:
        key = str(blob, "utf-8", "surrogatepass")
        found[key] = _decoded(key, encoded)
    return found


def _decoded(key: str, encoded: bytes) -> Any:
    """Read a value back.

    Raises:
        ValueError: It is not what was written: the file is damaged where SQLite does not see it.
    """
    with suppress(ValueError):
        value = decode_json(encoded)
        if value is not None:
            return value
    raise ValueError(f"the value of {key!r} is damaged; it was left as it is")
