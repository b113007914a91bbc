"""The log of a harness's session, which the service itself does not keep: written here, read by the session's actor.

It holds the service's events and what follows from them, in order, as far back as the request before the last: an actor
that takes a crashed one's place reads it again. Its length is bounded by what a request needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, final

import trio

from .._model import Event
from .._protocol.facts import Fact, own_event

# Events that may wait for the session's actor; with more the stream is not read on, and the service waits, by TCP.
MOST_UNREAD: Final = 1_024

# Of those, how many are given at once: a part of what a live reader's buffer holds.
MOST_AT_ONCE: Final = 256


@final
class HarnessLog:
    """Entries, each at a place that never changes."""

    def __init__(self) -> None:
        self._entries: list[Event] = []
        self._first = 0  # the place of the first entry that is still there
        self._turn_began = 0
        self._cursor: int | None = None
        self._moved = trio.Event()
        self._own_events = 0

    @property
    def end(self) -> int:
        """The place of the next entry."""
        return self._first + len(self._entries)

    @property
    def unread(self) -> int:
        """How many entries wait to be read."""
        return self.end - (self._first if self._cursor is None else self._cursor)

    def entries(self, begin: int = 0) -> list[Event]:
        """Give the entries that are still there, from a place on."""
        return self._entries[max(0, begin - self._first) :]

    async def read(self, cursor: int) -> list[Event]:
        """Wait for entries from a place on, and give some. What came before it counts as read."""
        self._cursor = cursor
        self._wake()
        while self.end <= cursor:
            await self._moved.wait()
        return self.entries(cursor)[:MOST_AT_ONCE]

    async def wait_for_room(self) -> None:
        """Wait until the reader has caught up."""
        while self.unread > MOST_UNREAD:
            await self._moved.wait()

    async def wait_until_read(self) -> None:
        """Wait until the reader has taken all there is."""
        while self.unread:
            await self._moved.wait()

    def append(self, events: Sequence[Event]) -> None:
        """Write events down."""
        self._entries += events
        self._wake()

    def say(self, *facts: Fact) -> list[Event]:
        """Write down what follows from something, and give the entries."""
        events = []
        for fact in facts:
            self._own_events += 1
            events.append(own_event(f"own.{self._own_events}", fact))
        self.append(events)
        return events

    def begin_turn(self) -> None:
        """Another request begins: what came before the last one is history, unless it has not been read yet."""
        first = self._turn_began if self._cursor is None else min(self._turn_began, self._cursor)
        del self._entries[: first - self._first]
        self._first = first
        self._turn_began = self.end

    def _wake(self) -> None:
        self._moved.set()
        self._moved = trio.Event()
