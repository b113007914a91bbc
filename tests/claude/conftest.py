"""A scripted transport at httpx's own seam: it records requests and answers with what the script says."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import trio

from managed_agents_actors.claude import ClaudeClient


@dataclass
class Recorded:
    """One request: method, target with its query, headers, body."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Scripted(httpx.AsyncBaseTransport):
    """Answers each request with the next of ``replies``: ``(status, body)``, or a body for 200; at the end ``{}``."""

    replies: list[Any] = field(default_factory=list)
    requests: list[Recorded] = field(default_factory=list)
    closed: bool = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        stream = request.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        body = b"".join([chunk async for chunk in stream])
        self.requests.append(Recorded(request.method, request.url.raw_path.decode(), dict(request.headers), body))
        reply = self.replies.pop(0) if self.replies else {}
        status, answer = reply if isinstance(reply, tuple) else (200, reply)
        return httpx.Response(status, stream=httpx.ByteStream(answer if isinstance(answer, bytes) else _dump(answer)))

    async def aclose(self) -> None:
        self.closed = True


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


@pytest.fixture
def transport() -> Scripted:
    """The scripted transport."""
    return Scripted()


@pytest.fixture
def make_client(transport: Scripted) -> Callable[..., ClaudeClient]:
    """Makes clients over the scripted transport."""

    def make(**options: Any) -> ClaudeClient:
        return ClaudeClient(
            **{"api_key": "sk-secret", "base_url": "http://api.test", "transport": transport, **options}
        )

    return make


@pytest.fixture
def client(make_client: Callable[..., ClaudeClient]) -> ClaudeClient:
    """A client with default settings."""
    return make_client()
