"""Unique names: what stands under a name is there, or is being started, exactly once.

Every change is made without a checkpoint between looking and writing. A name whose value is being started is taken.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Generic, TypeVar, final

import trio

from .._errors import ConfigurationError
from ._replies import fresh

V = TypeVar("V")


class _Start(Generic[V]):
    """A start under way; others may wait for it."""

    __slots__ = ("decided", "error", "values")

    def __init__(self) -> None:
        self.decided = trio.Event()
        self.values: list[V] = []  # the value, once there is one; any value may be one
        self.error: Exception | None = None


@final
class Registry(Generic[V]):
    """Values by unique name."""

    def __init__(self) -> None:
        self._values: dict[str, V] = {}
        self._starts: dict[str, _Start[V]] = {}

    def __repr__(self) -> str:
        return f"<Registry {len(self._values)} names>"

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._values))

    def lookup(self, name: str) -> V | None:
        """Give what stands under a name, or ``None``; a start under way does not count."""
        return self._values.get(name)

    def register(self, name: str, value: V) -> None:
        """Put a value under a name.

        Raises:
            ConfigurationError: If the name is taken, or its value is being started.
        """
        if name in self._values or name in self._starts:
            raise ConfigurationError(f"the name {name!r} is taken; unregister what stands under it first")
        self._values[name] = value

    def unregister(self, name: str, value: V) -> None:
        """Free a name, if it still stands for this very value: who comes late takes it from no successor."""
        if name in self._values and self._values[name] is value:
            del self._values[name]

    async def start_or_get(self, name: str, start: Callable[[], Awaitable[V]]) -> V:
        """Give what stands under a name; if nothing does, start it. Of several callers at once, one starts it.

        It is started in the task of that caller. If that one is cancelled, the next one starts it anew.

        Raises:
            Exception: What the start raised, to all who waited for it; the name is free again.
        """
        while True:
            if name in self._values:
                value = self._values[name]
                await trio.lowlevel.checkpoint()
                return value
            if name not in self._starts:
                return await self._start(name, start)
            begun = self._starts[name]
            await begun.decided.wait()
            if begun.error is not None:
                raise fresh(begun.error)
            if begun.values:
                return begun.values[0]

    async def _start(self, name: str, start: Callable[[], Awaitable[V]]) -> V:
        begun = self._starts[name] = _Start()
        try:
            value = await start()
            begun.values.append(value)
            self._values[name] = value
            return value
        except Exception as error:
            begun.error = error
            raise
        finally:
            del self._starts[name]
            begun.decided.set()
