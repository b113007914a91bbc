"""Where a session's events go as they come: to the handler, in order and all of them; to live readers, best effort.

Neither ever blocks the actor. The handler's queue is bounded by holding up the stream's reader; a live reader that
falls behind loses the oldest events and is told how many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, final

import trio

from .._model import Event, EventContext
from .._protocol.mail import Origin
from ..actors._latch import Latch
from .handlers import HandlerAdapter

# Events that may wait for the handler before the stream is read more slowly: several seconds of a fast model's output.
WATCH_QUEUE = 1024

# Events a live reader may be behind. At about 1 KB each this is some megabytes for a reader that has stopped reading.
FEED_BUFFER = 4096

# The queue of all who do not want to see events: an empty deque of its own takes 0.7 KB of a session.
_NOTHING: Final[deque[tuple[Event, EventContext]]] = deque(maxlen=0)

EVENTS_DROPPED = "managed_agents.events_dropped"


@final
class Watcher:
    """Shows every event to the handler, one at a time, from a task of its own.

    Attributes:
        task: The task that shows them.
        failures: How often the handler failed to take an event.
    """

    __slots__ = ("_arrived", "_context", "_log", "_patience", "_queue", "_scope", "_show", "_taken", "failures", "task")

    def __init__(self, handler: HandlerAdapter, context: Callable[[Origin], EventContext], log: Any) -> None:
        self._show = handler.watch
        self._context = context
        self._log = log
        self._queue: deque[tuple[Event, EventContext]] = deque() if self.is_wanted else _NOTHING
        self._arrived = Latch()
        self._taken: trio.lowlevel.ParkingLot | None = None  # there once somebody has had to wait for room
        self._patience: float | None = None
        self._scope: trio.CancelScope | None = None
        self.task: trio.lowlevel.Task | None = None
        self.failures = 0

    @property
    def is_wanted(self) -> bool:
        """Whether the handler wants to see events; if not, there is nothing to run."""
        return self._show is not None

    def put(self, events: Sequence[Event], origin: Origin) -> None:
        """Queue events. Never blocks; the bound is kept by :meth:`wait_for_room`, plus what one read can bring."""
        if self._show is not None:
            context = self._context(origin)
            self._queue.extend([(event, context) for event in events])
            self._arrived.set()

    async def wait_for_room(self) -> None:
        """Wait until the queue is below its bound: what reads more events does this first."""
        while len(self._queue) >= WATCH_QUEUE:
            if self._taken is None:
                self._taken = trio.lowlevel.ParkingLot()
            await self._taken.park()

    def end(self, patience: float) -> None:
        """Nothing more will be put in: :meth:`run` returns when all has been shown.

        Args:
            patience: Seconds that one event may still take; when one takes longer, it and the rest are dropped.
        """
        self._patience = patience
        if self._scope is not None:
            self._scope.deadline = trio.current_time() + patience
        self._arrived.set()

    async def run(self) -> None:
        """Show events as they come, in order, until the end or cancellation."""
        self.task = trio.lowlevel.current_task()
        self._scope = trio.CancelScope()
        with self._scope:
            while self._patience is None:
                await self._arrived.wait()
                self._arrived = Latch()
                while self._queue and self._patience is None:
                    await self._show_next()
        while self._queue and self._patience is not None and not self._scope.cancelled_caught:
            with trio.move_on_after(self._patience) as self._scope:
                await self._show_next()
        if self._queue:
            self._log.warning("handle_event_abandoned", events=len(self._queue))
            self._queue.clear()

    async def _show_next(self) -> None:
        event, context = self._queue[0]
        try:
            if self._show is not None:
                await self._show(event, context)
        except Exception as error:  # noqa: BLE001 -- an observer's defect must not touch the session
            self.failures += 1
            self._log.warning("handle_event_failed", event_type=str(event.get("type")), exc_info=error)
        self._queue.popleft()
        if self._taken is not None:
            self._taken.unpark()


@final
class EventFeed(trio.abc.ReceiveChannel[Event]):
    """One live reader's view of a session's events and text deltas."""

    def __init__(self, capacity: int = FEED_BUFFER) -> None:
        self._buffer: deque[Event] = deque(maxlen=capacity)
        self._dropped = 0
        self._wake = trio.lowlevel.ParkingLot()
        self._ended = False
        self._closed = False

    def put(self, events: Sequence[Event]) -> None:
        """Add events, dropping the oldest when the reader is too far behind."""
        for event in events:
            self._dropped += len(self._buffer) == self._buffer.maxlen
            self._buffer.append(event)
        self._wake.unpark_all()

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._wake.unpark_all()

    async def receive(self) -> Event:
        """Wait for the next event.

        After a loss the next thing received is ``{"type": "managed_agents.events_dropped", "count": n}``.

        Raises:
            trio.EndOfChannel: The session ended and everything has been received.
            trio.ClosedResourceError: The feed was closed by its reader.
        """
        await trio.lowlevel.checkpoint()
        while True:
            if self._closed:
                raise trio.ClosedResourceError
            if self._dropped:
                count, self._dropped = self._dropped, 0
                return {"type": EVENTS_DROPPED, "count": count}
            if self._buffer:
                return self._buffer.popleft()
            if self._ended:
                raise trio.EndOfChannel
            await self._wake.park()

    async def aclose(self) -> None:
        """Stop reading."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Stop reading, at once."""
        self._closed = True
        self._buffer.clear()
        self._wake.unpark_all()


@final
class Feeds:
    """All live readers of a session."""

    __slots__ = ("_ended", "_feeds")

    def __init__(self) -> None:
        self._feeds: dict[EventFeed, None] = {}
        self._ended = False

    @contextmanager
    def open(self) -> Iterator[EventFeed]:
        """Read from now on, for as long as the block lasts."""
        feed = EventFeed()
        self._feeds[feed] = None
        if self._ended:
            feed.end()
        try:
            yield feed
        finally:
            del self._feeds[feed]
            feed.close()

    def put(self, events: Sequence[Event]) -> None:
        """Give events to every reader."""
        for feed in self._feeds:
            feed.put(events)

    def end(self) -> None:
        """The session is over."""
        self._ended = True
        for feed in self._feeds:
            feed.end()
