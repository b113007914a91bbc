"""A session's events: sending, history, and the live stream.

Source: Claude Managed Agents API reference, session events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any, Final

from .._http.checks import check_seconds
from .._http.errors import request_id_of, unusable
from .._http.exchange import Incoming
from ..telemetry import emit
from ._checks import rows_of
from ._paging import Page, Row
from ._resource import Nested
from ._stream import EventStream, showable

__all__ = ["Events"]

NO_CONTENT: Final = 204
DELTA_TYPES: Final = ("agent.message", "agent.thinking")  # the only types the server previews


class Events(Nested):
    """``client.sessions.events``.

    Its lists take ``order``, ``types``, ``limit`` and a time range: ``created_at_gte=`` (``gt``, ``lt``, ``lte``) is
    compared with each event's ``processed_at``. Times are not unique: to go on after an event, list from its own
    time, inclusive, and skip what is known by id.
    """

    _parent = "sessions"
    _name = "events"
    # What the official SDK asks for, so every server takes it; a session that reconnects needs few requests.
    _page_size = 1000

    async def _fetch(self, path: tuple[str, ...], fields: Mapping[str, Any]) -> Page:
        call = self._api.call("GET", *path, query={"limit": self._page_size, **fields}, idempotent=True)
        answer = await self._api.exchange.answer(call)
        page = Page.of(answer.value)
        return replace(page, data=[showable(row, answer.secrets) for row in page.data])

    async def send(self, session_id: str, events: Sequence[Mapping[str, Any]], *, retry: bool = True) -> Row:
        """Queue events for a session; all are taken or none. Returns once they are queued.

        Sending is not idempotent: it is repeated only if it was certainly not taken (no connection, 429, 529).

        Args:
            session_id: The session.
            events: The events, such as ``{"type": "user.message", "content": [...]}``.
            retry: Whether to repeat at all.

        Returns:
            ``{"data": [...]}`` with the queued events and their ids; ``{}`` from servers that answer nothing.

        Raises:
            ConfigurationError: This is no list of events; nothing was sent.
        """
        body = {"events": rows_of("events", events)}
        return await self._api.post(*self._under(session_id), body=body, idempotent=False, retry=retry)

    @asynccontextmanager
    async def stream(
        self, session_id: str, *, deltas: bool = False, idle_timeout: float | None = None
    ) -> AsyncIterator[EventStream]:
        """Attach to the live events: ``async with client.sessions.events.stream(id) as stream``.

        Entering waits until the server has accepted: every event after that is delivered, none from before.
        Attaching is not repeated here; when to come back is the caller's policy.

        Args:
            session_id: The session.
            deltas: Whether previews of messages and thinking are sent as they are written.
            idle_timeout: The longest silence in seconds, keep-alives count as sound; default: the client's.

        Raises:
            APIError: The server refused.
            TransportError: The exchange failed, or the server did not answer in time.
        """
        silence = self._api.idle_timeout if idle_timeout is None else idle_timeout
        check_seconds(idle_timeout=silence)
        call = self._api.call(
            "GET",
            *self._under(session_id, "stream"),
            query={"event_deltas": DELTA_TYPES if deltas else ()},
            headers={"accept": "text/event-stream", "cache-control": "no-store"},
            retry=False,
            own_connection=True,
            silence=silence,
        )
        async with aclosing(await self._api.exchange.open(call)) as incoming:
            await _check_is_stream(incoming)
            about = {"session_id": session_id}
            request_id = request_id_of(incoming.headers, incoming.secrets)
            emit("managed_agents.stream.connected", metadata={**about, "request_id": request_id})
            stream = EventStream(incoming, about)
            try:
                yield stream
            finally:
                stream.close()


async def _check_is_stream(incoming: Incoming) -> None:
    """Refuse an accepted answer that is something else: a proxy's page, or nothing.

    Raises:
        ProtocolError: It is no event stream.
    """
    kind = incoming.headers.get("content-type", "")
    if incoming.body.response.status == NO_CONTENT:
        raise unusable("the event stream was answered with nothing (204)", b"", secrets=incoming.secrets)
    if kind and not kind.lower().startswith("text/event-stream"):
        excerpt = await incoming.beginning()
        raise unusable(f"the event stream was answered with {kind}", excerpt, secrets=incoming.secrets)
