"""Where what was provisioned is remembered: values of JSON under keys, and the store that lasts as long as the object.

A store knows nothing of what it keeps. What is given to it and what it gives are copies, so that nobody changes an
entry but by putting another.
"""

from __future__ import annotations

from typing import Any, Protocol, final

import trio

from .._errors import ConfigurationError
from .._protocol.codec import decode_json, encode_json
from .._protocol.digest import canonical

__all__ = ["MemoryStore", "Store", "check_key", "check_prefix", "encode_value"]


class Store(Protocol):
    """Keeps values of JSON under keys, through restarts of the process if it is a durable one.

    Several tasks, and for a durable store several processes, use one at once. Every method is atomic and, in a durable
    store, durable before it returns. When one is cancelled, nothing was written; once it writes, it is not cancelled.

    A key is any text but the empty one. A value is whatever JSON can hold but ``None``, which could not be told from
    an entry that is missing; it comes back in JSON's own types, a tuple as a list. The members of an object have no
    order.
    """

    async def get(self, key: str) -> Any:
        """The value of an entry; ``None`` if there is none.

        Raises:
            ConfigurationError: This is no key.
            StoreError: It could not be read.
        """
        ...

    async def put(self, key: str, value: Any) -> None:
        """Keep a value, in place of the one the key had.

        Raises:
            ConfigurationError: This is no key, or not what JSON can hold; nothing was written.
            StoreError: It could not be written.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove an entry, if there is one.

        Raises:
            ConfigurationError: This is no key.
            StoreError: It could not be written.
        """
        ...

    async def delete_value(self, value: Any) -> int:
        """Remove all entries with a value, whatever their keys, and give how many those were.

        Values are compared as JSON: ``True`` is not ``1``, and the order of an object's members is nothing. Whether
        ``1`` is ``1.0`` is up to the store.

        Raises:
            ConfigurationError: This is not what JSON can hold; nothing was removed.
            StoreError: It could not be written.
        """
        ...

    async def items(self, prefix: str) -> dict[str, Any]:
        """The entries whose key begins with this text, ``""`` for all, in the order of their keys.

        Raises:
            ConfigurationError: This is no text.
            StoreError: They could not be read.
        """
        ...


@final
class MemoryStore:
    """A store that lasts as long as the object; a number is equal to one that is written the same (``1``, not ``1.0``).

    What it holds is forgotten with the process: use :class:`SqliteStore` for what costs to make again.
    """

    def __init__(self) -> None:
        self._entries: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"<MemoryStore: {len(self._entries)} entries>"

    async def get(self, key: str) -> Any:
        """The value of an entry; see :meth:`Store.get`."""
        check_key(key)
        await trio.lowlevel.checkpoint()
        encoded = self._entries.get(key)
        return None if encoded is None else decode_json(encoded)

    async def put(self, key: str, value: Any) -> None:
        """Keep a value; see :meth:`Store.put`."""
        check_key(key)
        encoded = encode_value(value)
        await trio.lowlevel.checkpoint()
        self._entries[key] = encoded

    async def delete(self, key: str) -> None:
        """Remove an entry; see :meth:`Store.delete`."""
        check_key(key)
        await trio.lowlevel.checkpoint()
        self._entries.pop(key, None)

    async def delete_value(self, value: Any) -> int:
        """Remove all entries with a value; see :meth:`Store.delete_value`."""
        encoded = encode_value(value)
        await trio.lowlevel.checkpoint()
        found = [key for key, kept in self._entries.items() if kept == encoded]
        for key in found:
            del self._entries[key]
        return len(found)

    async def items(self, prefix: str) -> dict[str, Any]:
        """The entries whose key begins with a text; see :meth:`Store.items`."""
        check_prefix(prefix)
        await trio.lowlevel.checkpoint()
        return {key: decode_json(kept) for key, kept in sorted(self._entries.items()) if key.startswith(prefix)}


def check_key(key: object) -> None:
    """Refuse what is no key.

    Raises:
        ConfigurationError: It is no text, or the empty one.
    """
    if not isinstance(key, str) or not key:
        raise ConfigurationError(f"the key of an entry of a store must be a text that is not empty, not {key!r}")


def check_prefix(prefix: object) -> None:
    """Refuse what no key can begin with.

    Raises:
        ConfigurationError: It is no text.
    """
    if not isinstance(prefix, str):
        raise ConfigurationError(f'the prefix of keys of a store must be a text ("" for all entries), not {prefix!r}')


def encode_value(value: Any) -> bytes:
    """A value as the stores here keep it: values that are equal are the same bytes.

    Raises:
        ConfigurationError: It is not what JSON can hold, or ``None``.
    """
    if value is None:
        raise ConfigurationError("None is no value for a store: it means that there is no entry; use delete()")
    return encode_json(canonical(value, "the value"))
