"""A session's live events, decoded as their bytes arrive. It neither reconnects nor interprets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._http.errors import stream_error, unusable
from .._http.event_channel import Event, EventChannel, Source, StreamEnd
from .._http.redaction import redacted
from .._protocol.claude_events import KNOWN_TYPES, usage_of
from .._protocol.claude_stream import ClaudeStreamDecoder, DecodeFailure
from ..telemetry._scope import NO_TAGS

__all__ = ["EventStream", "showable"]


class EventStream(EventChannel):
    """The events of one connection, as dictionaries, in the order the server sent them.

    It ends once: with ``trio.EndOfChannel`` when the server closed it cleanly, which says nothing about the
    session, or with an error, after all the events that came before it. Half an event at the end is dropped.
    """

    def __init__(self, source: Source, about: Mapping[str, Any] = NO_TAGS) -> None:
        super().__init__(source, about)
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
                yield showable(item, self._source.secrets)

    def _usage(self, event: Event) -> Mapping[str, Any] | None:
        return usage_of(event)

    def _at_end(self) -> None:
        """A server may close between any two bytes: the history has what was cut off."""


def showable(event: Event, secrets: Sequence[str]) -> Event:
    """Give an event without the secrets in what of it is logged and told.

    That is the type of one that this library does not know, and what a session's error says. Content stays as it is.
    """
    kind = event.get("type")
    is_known = isinstance(kind, str) and kind in KNOWN_TYPES
    if is_known and kind != "session.error":
        return event
    name = "error" if is_known else "type"
    return {**event, name: redacted(event[name], secrets)} if name in event else event
