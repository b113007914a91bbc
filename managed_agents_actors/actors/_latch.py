"""A flag that is set once, and that tasks can wait for.

It is what ``trio.Event`` is, and a fifth of its memory as long as nobody waits: most of those of a child that just
serves are waited for at its end, if ever.
"""

from __future__ import annotations

from typing import final

import trio


@final
class Latch:
    """Not set at first."""

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: trio.Event | None = None

    def is_set(self) -> bool:
        """Whether it has been set."""
        return self._is_set

    def set(self) -> None:
        """Set it for good, and wake whoever waits."""
        self._is_set = True
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        """Wait until it is set; a checkpoint even if it is."""
        if self._is_set:
            await trio.lowlevel.checkpoint()
            return
        if self._event is None:
            self._event = trio.Event()
        await self._event.wait()
