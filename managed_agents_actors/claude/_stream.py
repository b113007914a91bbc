"""A session's live events, decoded in batches as their bytes arrive. It neither reconnects nor interprets."""

from __future__ import annotations

from collections import deque
from typing import Any, Protocol

import trio

from .._errors import APIError, TransportError
from .._http.errors import stream_error, unusable
from .._protocol.claude_stream import ClaudeStreamDecoder, DecodeFailure

__all__ = ["EventStream"]

Event = dict[str, Any]


class Source(Protocol):
    """Where the bytes come from."""

    secrets: tuple[str, ...]

    async def receive(self) -> bytes:
        """Wait for bytes; ``b""`` is the end."""


class EventStream(trio.abc.ReceiveChannel[Event]):
    """The events of one connection, as dictionaries, in the order the server sent them.

    It ends once: with ``trio.EndOfChannel`` when the server closed it cleanly, which says nothing about the
    session, or with an error, after all the events that came before it. Half an event at the end is dropped.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._decoder = ClaudeStreamDecoder()
        self._ready: deque[Event] = deque()
        self._failure: APIError | TransportError | None = None
        self._ended = False
        self._closed = False
        self._reading = False

    @property
    def retry(self) -> float | None:
        """The shortest reconnection delay the server asked for, in seconds; ``None`` if it did not."""
        return self._decoder.retry

    async def receive(self) -> Event:
        """Wait for the next event. Raises as :meth:`receive_batch`."""
        await self._fill()
        return self._ready.popleft()

    async def receive_batch(self) -> list[Event]:
        """Wait for events and take all that have arrived: at least one, one wake-up for a whole read.

        Raises:
            trio.EndOfChannel: The server closed the stream.
            trio.ClosedResourceError: The stream was left or closed here.
            trio.BusyResourceError: Another task is receiving.
            APIError: The server reported an error on the stream.
            StreamLost: The connection broke.
            StreamIdleTimeout: The server was silent for too long.
            ProtocolError: A frame could not be decoded, or is too large.
        """
        await self._fill()
        batch = list(self._ready)
        self._ready.clear()
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
                await self._read()
        finally:
            self._reading = False

    async def _read(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this event stream is closed")
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._ended:
            raise trio.EndOfChannel
        try:
            chunk = await self._source.receive()
        except TransportError:
            self._ended = True
            raise
        if chunk:
            self._take(self._decoder.feed(chunk))
        else:
            self._ended = True

    def _take(self, items: list[Event | DecodeFailure]) -> None:
        for item in items:
            if isinstance(item, DecodeFailure):
                self._failure = unusable(item.message, item.raw, secrets=self._source.secrets)
            elif item.get("type") == "error":
                self._failure = stream_error(item, secrets=self._source.secrets)
            else:
                self._ready.append(item)
                continue
            self._ended = True
            return
