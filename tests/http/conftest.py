"""A byte-level server over in-memory streams: it answers each request with the next reply of its script."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing

from managed_agents_actors._http.credentials import Credential, Outgoing
from managed_agents_actors._http.exchange import Call, Exchange
from managed_agents_actors._http.retry import BACKOFF, RetryPolicy
from managed_agents_actors._http.sender import Sender
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.claude import ClaudeClient

SECRET = "sk-ant-secret-0123456789"


@dataclass
class Request:
    """One request as it came over the wire."""

    line: str
    headers: dict[str, str]
    body: bytes
    at: float
    connection: int


Reply = bytes | Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one connection."""

    def __init__(self, stream: trio.abc.Stream, number: int) -> None:
        self.stream = stream
        self.number = number
        self.buffer = b""

    async def request(self) -> Request | None:
        while b"\r\n\r\n" not in self.buffer:
            if not await self.more():
                return None
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        line, *rest = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (each.split(": ", 1) for each in rest)}
        length = int(headers.get("content-length", 0))
        while len(self.buffer) < length:
            if not await self.more():
                return None
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        return Request(line, headers, body, trio.current_time(), self.number)

    async def more(self) -> bytes:
        data = await self.stream.receive_some(65536)
        self.buffer += data
        return bytes(data)

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def close(self) -> None:
        await self.stream.aclose()


@dataclass
class Wire:
    """The server: replies in, requests out. A reply may be bytes, or a function that acts on the connection."""

    nursery: trio.Nursery
    replies: list[Reply] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    opened: int = 0
    refuse: int = 0  # connections to refuse first
    connect_seconds: float = 0.0

    async def open_stream(self, host: str, port: int) -> trio.abc.Stream:
        self.opened += 1
        await trio.sleep(self.connect_seconds)
        if self.refuse:
            self.refuse -= 1
            raise ConnectionRefusedError(111, "Connection refused")
        client, server = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self.serve, Peer(server, self.opened))
        return client

    async def serve(self, peer: Peer) -> None:
        try:
            while (request := await peer.request()) is not None:
                self.requests.append(request)
                reply = self.replies.pop(0)
                if callable(reply):
                    await reply(peer)
                else:
                    await peer.send(reply)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    def exchange(self, **changes: Any) -> Exchange:
        """An exchange with no jitter in its backoff: 0.5 s, 1 s, 2 s."""
        transport = changes.pop("transport", None) or Transport(open_stream=self.open_stream)

        async def authenticate(_: Outgoing) -> Credential:
            return Credential(headers={"x-api-key": SECRET}, secrets=(SECRET,))

        options = {
            "connect_timeout": 5.0,
            "retry": RetryPolicy(backoff=BACKOFF, draw=lambda: 0.0),
            "authenticate": authenticate,
        }
        return Exchange(
            base_url="http://api.test",
            send=Sender("http://api.test", transport=transport, http_client=None),
            **(options | changes),
        )


def _reply(body: bytes | str = b"{}", status: int = 200, headers: Iterable[tuple[str, Any]] = ()) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, f"content-length: {len(data)}", "", ""]).encode() + data


@pytest.fixture
def reply() -> Callable[..., bytes]:
    """Makes the bytes of a response with a content length."""
    return _reply


@pytest.fixture
def call() -> Callable[..., Call]:
    """Makes a call: a GET unless told otherwise."""

    def make(method: str = "GET", *path: str, **options: Any) -> Call:
        options = {"idempotent": method == "GET", "timeout": 60.0, **options}
        return Call(method=method, path=path or ("v1", "things"), **options)

    return make


@pytest.fixture
def secret() -> str:
    """The credential every request of an exchange carries."""
    return SECRET


@asynccontextmanager
async def _open_wire() -> AsyncIterator[Wire]:
    async with trio.open_nursery() as nursery:
        yield Wire(nursery)
        nursery.cancel_scope.cancel()


@pytest.fixture
def open_wire() -> Callable[[], Any]:
    """Opens a scripted server: ``async with open_wire() as wire``."""
    return _open_wire


@pytest.fixture
def client_of() -> Callable[[Any], ClaudeClient]:
    """Makes a client of a scripted server."""

    def make(wire: Any) -> ClaudeClient:
        return ClaudeClient("sk-secret", "http://api.test", transport=Transport(open_stream=wire.open_stream))

    return make
