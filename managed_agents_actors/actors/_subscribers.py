"""Fan-out of rare, precious values: the publisher never waits, and no subscriber that is still there misses one.

What a slow subscriber has not taken is kept for it. That buffer has no bound of its own: it holds one entry per
published value, which are terminals, and a value is worth more than the bytes.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar, final

import trio

T = TypeVar("T")


class _Outlet(Generic[T]):
    """A channel that belongs to somebody else, perhaps full, perhaps closed."""

    __slots__ = ("_backlog", "_channel", "_draining", "_wake", "gone")

    def __init__(self, channel: trio.MemorySendChannel[T]) -> None:
        self._channel = channel
        self._backlog: deque[T] = deque()
        self._wake = trio.Event()
        self._draining = trio.Lock()  # two at once would hand the head over twice
        self.gone = False

    def publish(self, value: T) -> None:
        if self.gone:
            return
        if not self._backlog:
            try:
                self._channel.send_nowait(value)
            except trio.WouldBlock:
                pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.gone = True
                return
            else:
                return
        self._backlog.append(value)
        self._wake.set()

    async def drain(self) -> None:
        """Hand over the backlog, waiting for the channel."""
        async with self._draining:
            try:
                while self._backlog:
                    await self._channel.send(self._backlog[0])
                    self._backlog.popleft()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                self.gone = True
                self._backlog.clear()

    async def pump(self) -> None:
        while not self.gone:
            await self._wake.wait()
            self._wake = trio.Event()
            await self.drain()


@final
class Subscribers(Generic[T]):
    """Everyone who wants to hear of each published value."""

    __slots__ = ("_channels", "_closed", "_outlets", "_pumps")

    def __init__(self) -> None:
        self._channels: dict[trio.MemorySendChannel[T], None] = {}
        self._outlets: list[_Outlet[T]] = []
        self._pumps: trio.Nursery | None = None
        self._closed = False

    def attach(self, channel: trio.MemorySendChannel[T]) -> None:
        """Add a channel of the caller's. It is never closed from here; a full one is filled by :meth:`pump`."""
        outlet = _Outlet(channel)
        self._outlets.append(outlet)
        if self._pumps is not None:
            self._pumps.start_soon(outlet.pump)

    @contextmanager
    def subscribe(self) -> Iterator[trio.MemoryReceiveChannel[T]]:
        """Hear of every value published inside the block. The channel ends when the publisher does."""
        send, receive = trio.open_memory_channel[T](math.inf)
        if self._closed:
            send.close()
        else:
            self._channels[send] = None
        try:
            with receive:
                yield receive
        finally:
            self._channels.pop(send, None)
            send.close()

    def publish(self, value: T) -> None:
        """Tell every subscriber. Never blocks, never raises."""
        for channel in list(self._channels):
            try:
                channel.send_nowait(value)
            except trio.BrokenResourceError:
                del self._channels[channel]
        for outlet in self._outlets:
            outlet.publish(value)
        self._outlets = [outlet for outlet in self._outlets if not outlet.gone]

    def close(self) -> None:
        """End every subscription made here, after what was published has been received."""
        self._closed = True
        for channel in self._channels:
            channel.close()
        self._channels.clear()

    async def pump(self) -> None:
        """Fill attached channels that were full, until cancelled."""
        async with trio.open_nursery() as nursery:
            for outlet in self._outlets:
                nursery.start_soon(outlet.pump)
            self._pumps = nursery
            try:
                await trio.sleep_forever()
            finally:
                self._pumps = None

    async def flush(self, grace: float) -> None:
        """Hand on what attached channels have not taken, for at most ``grace`` seconds, even under cancellation."""
        with trio.move_on_after(grace, shield=True):
            async with trio.open_nursery() as nursery:
                for outlet in self._outlets:
                    nursery.start_soon(outlet.drain)
