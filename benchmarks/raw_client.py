"""The peer that does the least: HTTP by hand on trio's sockets, JSON, and nothing that keeps a session whole.

It decodes with msgspec, as the library does that it is compared with, or with the standard library's json where there
is no msgspec.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import trio

try:
    import msgspec

    decode: Callable[[bytes], Any] = msgspec.json.Decoder().decode
except ImportError:
    decode = json.loads

READ: Final = 65536


class RawConnection:
    """A connection for requests, one after the other; or, from :meth:`attach` on, for a stream."""

    def __init__(self, stream: trio.SocketStream, host: str) -> None:
        self._stream = stream
        self._host = host
        self._data = b""

    @classmethod
    async def open(cls, url: str) -> RawConnection:
        """Connect."""
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        return cls(await trio.open_tcp_stream(parts.hostname, parts.port), parts.netloc)

    async def create(self) -> str:
        """Create a session and give its id."""
        session_id: str = decode(await self._request("POST", "/v1/sessions", b"{}"))["id"]
        return session_id

    async def send(self, session_id: str, event: dict[str, Any]) -> None:
        """Send an event to a session."""
        await self._request("POST", f"/v1/sessions/{session_id}/events", json.dumps({"events": [event]}).encode())

    async def say(self, session_id: str, text: str) -> None:
        """Send a message to a session."""
        await self.send(session_id, {"type": "user.message", "content": [{"type": "text", "text": text}]})

    async def events(self, session_id: str, since: str) -> list[dict[str, Any]]:
        """List a session's events from a time on; one page."""
        path = f"/v1/sessions/{session_id}/events?limit=1000&created_at[gte]={since}"
        events: list[dict[str, Any]] = decode(await self._request("GET", path))["data"]
        return events

    async def attach(self, session_id: str) -> RawStream:
        """Make the request for a session's stream."""
        await self._send("GET", f"/v1/sessions/{session_id}/events/stream", b"")
        await self._head()
        return RawStream(self._stream, self._data)

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    async def _request(self, method: str, path: str, body: bytes = b"") -> bytes:
        await self._send(method, path, body)
        head = await self._head()
        at = head.index(b"content-length: ") + 16
        length = int(head[at : head.index(b"\r\n", at)])
        while len(self._data) < length:
            self._data += await self._receive()
        answer, self._data = self._data[:length], self._data[length:]
        return answer

    async def _send(self, method: str, path: str, body: bytes) -> None:
        head = f"{method} {path} HTTP/1.1\r\nhost: {self._host}\r\ncontent-length: {len(body)}\r\n\r\n"
        await self._stream.send_all(head.encode() + body)

    async def _head(self) -> bytes:
        while (end := self._data.find(b"\r\n\r\n")) < 0:
            self._data += await self._receive()
        head, self._data = self._data[: end + 2], self._data[end + 4 :]
        return head

    async def _receive(self) -> bytes:
        data = await self._stream.receive_some(READ)
        if not data:
            raise trio.BrokenResourceError("the server has closed the connection")
        return data


class RawStream:
    """The events of a stream."""

    def __init__(self, stream: trio.SocketStream, data: bytes) -> None:
        self._stream = stream
        self._data = data
        self._body = b""

    async def receive_batch(self) -> list[dict[str, Any]]:
        """Wait for events and give all that have arrived; none at the stream's end, however it came."""
        while True:
            events = self._events()
            if events:
                return events
            try:
                data = await self._stream.receive_some(READ)
            except trio.BrokenResourceError:
                return []
            if not data:
                return []
            self._data += data

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    def _events(self) -> list[dict[str, Any]]:
        data, start, parts = self._data, 0, [self._body]
        while (line := data.find(b"\r\n", start)) >= 0:
            end = line + 2 + int(data[start:line], 16)
            if len(data) < end + 2:
                break
            parts.append(data[line + 2 : end])
            start = end + 2
        self._data = data[start:]
        *frames, self._body = b"".join(parts).split(b"\n\n")
        return [decode(each[each.index(b"data: ") + 6 :]) for each in frames]
