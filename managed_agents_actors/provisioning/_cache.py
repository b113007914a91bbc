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

from .._errors import ConfigurationError, ManagedAgentsError, StoreError
from ..telemetry import get_logger
from ._progress import changed_nothing
from ._store import MemoryStore, Store

__all__ = ["Cache", "Entry", "flight", "key_of", "use_key"]

# Seconds for one reading or writing, and for writing down all that a call made: a store that hangs is one that fails.
STORE_SECONDS: Final = 5.0

# What is remembered by calls that are given no store: as long as the process lives.
PROCESS_STORE: Final = MemoryStore()

METHODS: Final = ("get", "put", "delete", "delete_value", "items")


class Entry(Protocol):
    """What is kept: a handle."""

    @property
    def name(self) -> str:
        """The name at the provider."""
        ...

    @property
    def digest(self) -> str:
        """The digest in the name."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Its form in JSON."""
        ...

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """What :meth:`to_json` gave a form of."""
        ...


E = TypeVar("E", bound=Entry)


def use_key(noun: str, place: str, used_id: str, user_id: str = "") -> str:
    """Where it is kept, as the user's handle, that one thing was provisioned with another: both are forgotten at once.

    Without a user: what the keys of all users begin with.
    """
    return key_of("use", noun, place, used_id, user_id)


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
            with trio.fail_after(STORE_SECONDS):
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
        with trio.move_on_after(STORE_SECONDS, shield=True) as scope:
            for key, entry in entries.items():
                await self._keep(key, entry)
        if scope.cancelled_caught:
            self._log.warning("provisioning_store_failed", operation="put", problem="it takes too long")

    async def _keep(self, key: str, entry: Entry) -> None:
        try:
            await self._store.put(key, entry.to_json())
        except Exception as error:  # noqa: BLE001 -- what was made is there all the same, and is found by its name
            self._log.warning("provisioning_store_failed", operation="put", key=key, exc_info=error)

    async def lose(self, entry: Entry) -> None:
        """Remove the handle of what was found to be gone."""
        try:
            await self.forget(entry)
        except StoreError as error:
            self._log.warning("provisioning_store_failed", operation="delete_value", exc_info=error)

    # --- what must be certain: a store's failure is an error ----------------------------------------------------------

    async def forget(self, entry: Entry) -> None:
        """Remove a handle, under whatever keys it is, so that nobody is given one of what is gone.

        Raises:
            StoreError: The store failed, or takes too long; the handle may still be there.
        """
        with _fatal("forget what is put away"):
            await self._store.delete_value(entry.to_json())

    @asynccontextmanager
    async def forgotten(self, entry: Entry) -> AsyncIterator[None]:
        """Put away within this what a handle names: nobody is given it from now on.

        Only if it is certain that it is still there, because putting it away was refused or not even asked for, the
        handle is remembered again, wherever it was: what it uses, too, is in use then.

        Raises:
            StoreError: The store failed, or takes too long; nothing was put away.
        """
        value = entry.to_json()
        were = [key for key, kept in (await self.read_all("")).items() if kept == value]
        await self.forget(entry)
        try:
            yield
        except ManagedAgentsError as error:
            if changed_nothing(error):
                await self.commit(dict.fromkeys(were, entry))
            raise

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
    """Raise whatever a store raises as the error it is documented to raise, and wait for it no longer than is said."""
    try:
        with trio.fail_after(STORE_SECONDS):
            yield
    except StoreError:
        raise
    except trio.TooSlowError as error:
        raise StoreError(f"the store could not {what} within {STORE_SECONDS:g} s; try again") from error
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
