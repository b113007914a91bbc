"""Who watches that peers do not fall silent: one task for all connections, in place of a timer for each receive.

A wait that has to be guarded says until when; the task wakes when the first of them may be over and closes those that
are. A deadline of its own for each wait would cost a quiet stream more than everything else.
"""

from __future__ import annotations

import math
from typing import Final, Protocol

import trio

__all__ = ["Watched", "watch_over"]

# Seconds between two looks, for each connection looked at. Looking at one takes about a hundredth of that, so that the
# watch takes no more than a hundredth of the time, whatever goes on; with 10 000 connections it is exact to 0.2 s.
SPACING: Final = 20e-6


class Watched(Protocol):
    """What is watched.

    Attributes:
        patience: The shortest of its waits, in seconds.
        due: When the present wait is over, on trio's clock; infinite while it does not wait.
    """

    patience: float
    due: float

    async def give_up(self) -> None:
        """End the present wait. Never waits itself, and fails with nothing."""


class SilenceWatch:
    """The connections of one event loop that are watched, and the task that does it while there are any."""

    def __init__(self) -> None:
        self._watched: set[Watched] = set()
        self._sleep: trio.CancelScope | None = None

    def add(self, connection: Watched) -> None:
        """Watch a connection."""
        self._watched.add(connection)
        due = trio.current_time() + connection.patience
        if self._sleep is None:
            self._sleep = trio.CancelScope(deadline=due)
            trio.lowlevel.spawn_system_task(self._run)
        elif due < self._sleep.deadline:
            self._sleep.deadline = due

    def discard(self, connection: Watched) -> None:
        """Watch it no longer. The task ends with the last one."""
        self._watched.discard(connection)
        if not self._watched and self._sleep is not None:
            self._sleep.cancel()

    async def _run(self) -> None:
        try:
            while self._sleep is not None:
                with self._sleep:
                    await trio.sleep_forever()
                await trio.lowlevel.checkpoint()  # whoever's bytes came in the same moment takes them first
                now = trio.current_time()
                for connection in [each for each in self._watched if each.due <= now]:
                    self._watched.discard(connection)
                    await connection.give_up()
                self._sleep = self._next_sleep(trio.current_time())
        finally:
            self._sleep = None

    def _next_sleep(self, now: float) -> trio.CancelScope | None:
        """Until the first wait may be over; one that has not begun yet lasts the whole of its patience."""
        if not self._watched:
            return None
        first = min(now + each.patience if each.due == math.inf else each.due for each in self._watched)
        return trio.CancelScope(deadline=max(first, now + SPACING * len(self._watched)))


_watch: Final[trio.lowlevel.RunVar[SilenceWatch]] = trio.lowlevel.RunVar("managed_agents_actors.silence_watch")


def watch_over() -> SilenceWatch:
    """Give the watch of the event loop that runs."""
    try:
        return _watch.get()
    except LookupError:
        watch = SilenceWatch()
        _watch.set(watch)
        return watch
