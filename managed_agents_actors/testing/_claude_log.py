"""A session's event log, its open streams, and the accounting that is read off the log.

Appending an event is the only way it comes to exist: it gets its id and time, enters the log and goes to every stream.
Nothing here decides what happens next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import trio

from ._api import Clock, Ids
from ._claude_feed import PREVIEW_TYPES, ClaudeFeed, event_frame

__all__ = ["EventLog", "Usage"]

Event: TypeAlias = dict[str, Any]

STATUS_BY_EVENT = {
    "session.status_running": "running",
    "session.status_idle": "idle",
    "session.status_rescheduled": "rescheduling",
    "session.status_terminated": "terminated",
}


class Usage:
    """What a session has spent."""

    def __init__(self) -> None:
        self._tokens = dict.fromkeys(("input_tokens", "output_tokens", "cache_read_input_tokens"), 0)
        self._cache_creation = 0
        self._active = 0.0
        self._opened = trio.current_time()
        self._running_since: float | None = None

    def add(self, request: Mapping[str, int]) -> None:
        """Add one model request."""
        for name in self._tokens:
            self._tokens[name] += request.get(name, 0)
        self._cache_creation += request.get("cache_creation_input_tokens", 0)

    def note_status(self, status: str) -> None:
        """Start or stop the running time."""
        now = trio.current_time()
        if self._running_since is not None:
            self._active += now - self._running_since
        self._running_since = now if status == "running" else None

    @property
    def active_seconds(self) -> float:
        """Seconds with a thread running, so far."""
        running = 0.0 if self._running_since is None else trio.current_time() - self._running_since
        return round(self._active + running, 6)

    @property
    def duration_seconds(self) -> float:
        """Seconds since the session was created."""
        return round(trio.current_time() - self._opened, 6)

    def snapshot(self) -> Event:
        """The usage object as the API shows it."""
        return {
            **self._tokens,
            "cache_creation": {"ephemeral_5m_input_tokens": self._cache_creation, "ephemeral_1h_input_tokens": 0},
            "list_cost": {"amount": "0", "currency": "USD"},
            "active_seconds": self.active_seconds,
            "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
        }


class EventLog:
    """The events of one session.

    Attributes:
        events: Everything that was processed, in order.
        queue: Client input that was not processed yet.
        status: The session's status, as the last status event said.
        usage: The running account.
    """

    def __init__(self, clock: Clock, ids: Ids) -> None:
        self._clock = clock
        self._ids = ids
        self._positions: dict[str, int] = {}
        self._feeds: dict[ClaudeFeed, None] = {}  # in order of attachment
        self.events: list[Event] = []
        self.queue: deque[Event] = deque()
        self.status = "idle"
        self._status_changed = trio.Event()
        self.usage = Usage()

    def new_event_id(self) -> str:
        """An id for an event that is still to be appended."""
        return self._ids.new("sevt")

    def append(self, event: Mapping[str, Any]) -> Event:
        """Process an event: give it what it lacks of id and time, log it and stream it."""
        full: Event = {"id": event.get("id") or self.new_event_id(), **event}
        if full.get("processed_at") is None:
            full["processed_at"] = self._clock.now()
        self._positions[full["id"]] = len(self.events)
        self.events.append(full)
        if full["type"] in STATUS_BY_EVENT:
            self.status = STATUS_BY_EVENT[full["type"]]
            self.usage.note_status(self.status)
            self._status_changed.set()
            self._status_changed = trio.Event()
        self.broadcast(full)
        return full

    def emit(self, event: Mapping[str, Any]) -> None:
        """Any event: previews are only streamed, the rest is appended."""
        if event.get("type") in PREVIEW_TYPES:
            self.broadcast(event)
        else:
            self.append(event)

    def enqueue(self, event: Event, *, announce: bool) -> None:
        """Queue client input; announced, the streams show it unprocessed now and processed later."""
        self.queue.append(event)
        if announce:
            self.broadcast(event)

    def broadcast(self, event: Mapping[str, Any], feeds: Iterable[ClaudeFeed] | None = None) -> None:
        """Stream an event without logging it."""
        feeds = self._feeds if feeds is None else feeds
        if not feeds:
            return
        frame = event_frame(event)
        for feed in feeds:
            if feed.thread_id is None or feed.thread_id == event.get("session_thread_id"):
                feed.push(frame)

    async def wait_not_running(self) -> None:
        """Wait until the session rests or is over."""
        while self.status in {"running", "rescheduling"}:
            await self._status_changed.wait()
        await trio.lowlevel.checkpoint()

    def rows(self) -> list[Event]:
        """The listing: what was processed, then what is queued."""
        return [*self.events, *self.queue] if self.queue else self.events

    def locate(self, event_id: str) -> int | None:
        """The index of an event in :meth:`rows`."""
        position = self._positions.get(event_id)
        if position is not None:
            return position
        return next((len(self.events) + n for n, event in enumerate(self.queue) if event["id"] == event_id), None)

    def attach(self, feed: ClaudeFeed) -> None:
        """Let a stream see every event from now on."""
        self._feeds[feed] = None

    def detach(self, feed: ClaudeFeed) -> None:
        """The stream is gone."""
        self._feeds.pop(feed, None)

    def feeds(self) -> tuple[ClaudeFeed, ...]:
        """The open streams."""
        return tuple(self._feeds)
