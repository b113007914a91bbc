"""A store in a file as these tests know it: what is in it, and what is beside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from managed_agents_actors.provisioning import SqliteStore

from ..session.test_journal_sqlite import contents, overwrite

ENTRIES = {f"k/{number:03}": {"number": number, "text": "t" * 300} for number in range(100)}


async def make(path: Path) -> None:
    """A store of some pages."""
    async with SqliteStore(path) as store:
        for key, value in ENTRIES.items():
            await store.put(key, value)


async def look(path: Path) -> dict[str, Any]:
    """What is in the store."""
    async with SqliteStore(path) as store:
        return await store.items("")


def files(path: Path) -> dict[str, bytes]:
    """What is there, without the lock, which is empty whenever it is there."""
    found = contents(path)
    assert found.pop("store.db-lock", b"") == b""
    return found


def lost_end(path: Path) -> None:
    """Damage the file in all but its first page, which says what it is."""
    overwrite(path, 4096)
