"""Stores that are built to be wrong: one to be spoilt by its subclasses, and one in a file that knows of no others.

Processes import this file by itself, so it needs nothing of the tests.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from managed_agents_actors.provisioning import MemoryStore, Store


class Deviant:
    """A store that keeps every law; each subclass breaks one."""

    def __init__(self) -> None:
        self.inner = MemoryStore()

    async def get(self, key: str) -> Any:
        return await self.inner.get(key)

    async def put(self, key: str, value: Any) -> None:
        await self.inner.put(key, value)

    async def delete(self, key: str) -> None:
        await self.inner.delete(key)

    async def delete_value(self, value: Any) -> int:
        return await self.inner.delete_value(value)

    async def items(self, prefix: str) -> dict[str, Any]:
        return await self.inner.items(prefix)


class RewritesItsFile(Deviant):
    """With every put it writes all that it knows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    async def put(self, key: str, value: Any) -> None:
        await super().put(key, value)
        self.path.write_text(json.dumps(await self.items("")))


@asynccontextmanager
async def open_rewriting_store(path: Path) -> AsyncIterator[Store]:
    """It reads its file once."""
    store = RewritesItsFile(path)
    if path.exists():  # noqa: ASYNC240 -- a bad store may block
        for key, value in json.loads(path.read_text()).items():  # noqa: ASYNC240 -- likewise
            await store.inner.put(key, value)
    yield store
