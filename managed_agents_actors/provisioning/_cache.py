"""A store as the memory of what was made: where its entries are, what they may hold, and who may make what is missing.

An entry saves looking at the provider, never more: a store that cannot be read is one without entries, and one that
cannot be written is a line in the log. Only where tags are read or moved does a store's failure become an error.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, Self, TypeVar, final
from urllib.parse import quote

import trio

from .._errors import ConfigurationError, StoreError
from ..telemetry import get_logger
from ._store import MemoryStore, Store

__all__ = ["Cache", "Entry", "flight", "key_of"]

# Seconds for writing down what was made. The caller waits for so long at most when it is cancelled meanwhile.
COMMIT_SECONDS: Final = 5.0

# What is remembered by calls that are given no store: as long as the process lives.
PROCESS_STORE: Final = MemoryStore()

METHODS: Final = ("get", "put", "delete", "delete_value", "items")


class Entry(Protocol):
    """What is kept: a handle."""

    @property
    def name(self) -> str:
        """The name at the provider."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Its form in JSON."""
        ...

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """What :meth:`to_json` gave a form of."""
        ...


E = TypeVar("E", bound=Entry)


def key_of(*parts: str) -> str:
    """The key of an entry: its parts, whatever characters they have."""
    return "/".join(quote(part, safe="") for part in parts)


@final
class Cache:
    """The memory of what was made.

    Args:
        store: Keeps it; ``None`` for the one of this process.

    Raises:
        ConfigurationError: This is no store.
    """

    def __init__(self, store: Store | None = None) -> None:
        missing = [name for name in METHODS if store is not None and not callable(getattr(store, name, None))]
        if missing:
            raise ConfigurationError(f"store= must have {', '.join(METHODS)}; this {type(store).__name__} has not")
        self._store: Store = PROCESS_STORE if store is None else store
        self._log = get_logger()

    # --- the memory: a store's failure is a miss ----------------------------------------------------------------------

    async def find(self, key: str, name: str, handle: type[E]) -> E | None:
        """The handle of what has this name; ``None`` if it is not remembered, or not as it must be."""
        try:
            value = await self._store.get(key)
        except Exception as error:  # noqa: BLE001 -- whatever a store does, what it remembers can be made out again
            self._log.warning("provisioning_store_failed", operation="get", key=key, exc_info=error)
            return None
        if value is None:
            return None
        try:
            found = handle.from_json(value)
        except ConfigurationError as error:
            self._log.warning("provisioning_entry_unusable", key=key, problem=str(error))
            return None
        if found.name != name:
            self._log.warning("provisioning_entry_unusable", key=key, problem=f"it is of {found.name!r}")
            return None
        return found

    async def commit(self, entries: dict[str, Entry]) -> None:
        """Keep handles of what was made just now. This is not cancelled: the caller is about to give them away."""
        with trio.move_on_after(COMMIT_SECONDS, shield=True) as scope:
            for key, entry in entries.items():
                await self.keep(key, entry)
        if scope.cancelled_caught:
            self._log.warning("provisioning_store_failed", operation="put", problem="it takes too long")

    async def keep(self, key: str, entry: Entry) -> None:
        """Keep a handle."""
        try:
            await self._store.put(key, entry.to_json())
        except Exception as error:  # noqa: BLE001 -- what was made is there all the same, and is found by its name
            self._log.warning("provisioning_store_failed", operation="put", key=key, exc_info=error)

    # --- what must be certain: a store's failure is an error ----------------------------------------------------------

    async def forget(self, *entries: Entry) -> None:
        """Remove handles, under whatever keys they are, so that nobody is given one of what is gone.

        Raises:
            StoreError: The store failed; a handle may still be there.
        """
        with _fatal("forget what is gone"):
            for entry in entries:
                await self._store.delete_value(entry.to_json())

    async def gone(self, *entries: Entry) -> None:
        """Remove handles of what was put away just now. This is not cancelled: else somebody would be given them.

        Raises:
            StoreError: The store failed, or takes too long; a handle may still be there.
        """
        with trio.move_on_after(COMMIT_SECONDS, shield=True):
            await self.forget(*entries)
            return
        raise StoreError(f"the store took longer than {COMMIT_SECONDS:g} s to forget what is gone; try again")

    async def read(self, key: str) -> Any:
        """The value of an entry; ``None`` if there is none.

        Raises:
            StoreError: The store failed.
        """
        with _fatal("be read"):
            return await self._store.get(key)

    async def read_all(self, prefix: str) -> dict[str, Any]:
        """The entries whose keys begin with this.

        Raises:
            StoreError: The store failed.
        """
        with _fatal("be read"):
            return dict(await self._store.items(prefix))

    async def write(self, key: str, value: Any) -> None:
        """Keep a value.

        Raises:
            StoreError: The store failed.
        """
        with _fatal("be written"):
            await self._store.put(key, value)


@contextmanager
def _fatal(what: str) -> Iterator[None]:
    """Raise whatever a store raises as the error it is documented to raise."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        raise StoreError(f"the store could not {what}: {type(error).__name__}: {error}") from error


@dataclass(slots=True, eq=False)
class _Flight:
    lock: trio.Lock = field(default_factory=trio.Lock)
    users: int = 0


_flights: trio.lowlevel.RunVar[dict[str, _Flight]] = trio.lowlevel.RunVar("managed_agents_actors.provisioning_flights")


@asynccontextmanager
async def flight(key: str) -> AsyncIterator[None]:
    """Be the only task of this trio run that makes, tags or removes what this is the key of.

    The key names the thing at its provider, so it does not matter which stores the tasks use. Those who waited look
    again at what there is: if the one before them failed or was cancelled, the next one tries.
    """
    flights = _flights_of_this_run()
    mine = flights.setdefault(key, _Flight())
    mine.users += 1
    try:
        async with mine.lock:
            yield
    finally:
        mine.users -= 1
        if mine.users == 0:
            del flights[key]


def _flights_of_this_run() -> dict[str, _Flight]:
    try:
        return _flights.get()
    except LookupError:
        flights: dict[str, _Flight] = {}
        _flights.set(flights)
        return flights
