"""A stream of events as a channel: batches as their bytes arrive, and an end that is told once.

It knows no format: what decodes the bytes gives it events, and errors of ours where the stream failed. It neither
reconnects nor interprets.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TypeAlias

import trio

from .._errors import APIError, TransportError
from ..telemetry._bus import emit, is_heard
from ..telemetry._spans import current_time

__all__ = ["Event", "EventChannel", "Source", "StreamEnd"]

Event: TypeAlias = dict[str, Any]
StreamEnd: TypeAlias = APIError | TransportError


class Source(Protocol):
    """Where the bytes come from."""

    secrets: tuple[str, ...]

    async def receive(self) -> bytes:
        """Wait for bytes; ``b""`` is the end."""


class EventChannel(trio.abc.ReceiveChannel[Event]):
    """The events of one connection, as dictionaries, in the order the server sent them.

    It ends once: with ``trio.EndOfChannel`` when the server closed it cleanly, or with an error, after all the events
    that came before it. Its beginning, its events and its end are told on the event bus.

    Args:
        source: Where the bytes come from.
        about: What is told of it.
    """

    def __init__(self, source: Source, about: Mapping[str, Any]) -> None:
        self._source = source
        self._about = about
        self._began = current_time()
        self._count = 0
        self._ready: list[Event] = []
        self._failure: StreamEnd | None = None
        self._ended = False
        self._closed = False
        self._reading = False

    @abstractmethod
    def _decode(self, chunk: bytes) -> Iterable[Event | StreamEnd]:
        """The events that these bytes complete; an error ends the stream."""

    @abstractmethod
    def _usage(self, event: Event) -> Mapping[str, Any] | None:
        """The tokens that an event says were spent, by the names that ours have; ``None`` if it says nothing of it."""

    @abstractmethod
    def _at_end(self) -> StreamEnd | None:
        """What is wrong with the body's end being here, if anything."""

    async def receive(self) -> Event:
        """Wait for the next event. Raises as :meth:`receive_batch`."""
        await self._fill()
        return self._ready.pop(0)

    async def receive_batch(self) -> list[Event]:
        """Wait for events and take all that have arrived: at least one, one wake-up for a whole read.

        Raises:
            trio.EndOfChannel: The server closed the stream.
            trio.ClosedResourceError: The stream was left or closed here.
            trio.BusyResourceError: Another task is receiving.
            APIError: The server reported an error on the stream.
            StreamLost: The connection broke.
            StreamIdleTimeout: The server was silent for too long.
            ProtocolError: What came could not be decoded, or is too large.
        """
        await self._fill()
        batch, self._ready = self._ready, []
        return batch

    async def aclose(self) -> None:
        """Stop receiving; the connection is released when the stream's ``async with`` is left."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """Stop receiving, without a checkpoint."""
        self._closed = True
        self._ready.clear()

    async def _fill(self) -> None:
        """Return with at least one event ready, or raise how the stream ended."""
        if self._reading:
            raise trio.BusyResourceError("another task is receiving from this event stream")
        self._reading = True
        try:
            if self._ready:
                await trio.lowlevel.checkpoint()
            while not self._ready:
                self._check_flows()
                try:
                    chunk = await self._source.receive()
                except TransportError as error:
                    self._end(error)
                    raise
                if chunk:
                    self._take(self._decode(chunk))
                else:
                    self._failure = self._at_end()
                    self._end(self._failure)
        finally:
            self._reading = False

    def _check_flows(self) -> None:
        """Raise how the stream ended, if it has."""
        if self._closed:
            raise trio.ClosedResourceError("this event stream is closed")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._ended:
            raise trio.EndOfChannel

    def _take(self, items: Iterable[Event | StreamEnd]) -> None:
        is_heard_of = is_heard("managed_agents.stream.event")
        for item in items:
            if not isinstance(item, dict):
                self._failure = item
                self._end(item)
                return
            self._ready.append(item)
            self._count += 1
            if is_heard_of:
                usage = self._usage(item)
                counts = {name: n for name, n in (usage or {}).items() if isinstance(n, int)}
                spent = {"usage": counts} if counts else {}
                told = {**self._about, "type": item.get("type"), **spent}
                emit("managed_agents.stream.event", metadata=told, content={"event": item})

    def _end(self, error: StreamEnd | None) -> None:
        self._ended = True
        measured = {"duration": current_time() - self._began, "events": self._count}
        if error is None:
            emit("managed_agents.stream.done", measured, self._about)
        else:
            why = {"error_type": type(error).__name__, "reason": str(error)}
            emit("managed_agents.stream.error", measured, {**self._about, **why})
