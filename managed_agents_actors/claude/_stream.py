"""A session's live events, decoded as their bytes arrive. It neither reconnects nor interprets."""

from __future__ import annotations

from collections.abc import Iterator

from .._http.errors import stream_error, unusable
from .._http.event_channel import Event, EventChannel, Source, StreamEnd
from .._protocol.claude_stream import ClaudeStreamDecoder, DecodeFailure

__all__ = ["EventStream"]


class EventStream(EventChannel):
    """The events of one connection, as dictionaries, in the order the server sent them.

    It ends once: with ``trio.EndOfChannel`` when the server closed it cleanly, which says nothing about the
    session, or with an error, after all the events that came before it. Half an event at the end is dropped.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        self._decoder = ClaudeStreamDecoder()

    @property
    def retry(self) -> float | None:
        """The shortest reconnection delay the server asked for, in seconds; ``None`` if it did not."""
        return self._decoder.retry

    def _decode(self, chunk: bytes) -> Iterator[Event | StreamEnd]:
        for item in self._decoder.feed(chunk):
            if isinstance(item, DecodeFailure):
                yield unusable(item.message, item.raw, secrets=self._source.secrets)
            elif item.get("type") == "error":
                yield stream_error(item, secrets=self._source.secrets)
            else:
                yield item

    def _at_end(self) -> None:
        """A server may close between any two bytes: the history has what was cut off."""
