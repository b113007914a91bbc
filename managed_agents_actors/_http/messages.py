"""One request and one response, as the rooms above a connection know them: plain values, cheap to make.

httpx's own take several times as long to build as a small request takes to send; they are made for foreign transports
only, by ``sender``, and for who uses our transport as one of httpx's.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

import httpx

from .url import DEFAULT_PORTS

__all__ = ["Origin", "Request", "Response", "Timeouts"]

_RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]


class Origin(NamedTuple):
    """Where connections lead; the host is as it goes on the wire."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: httpx.URL) -> Origin:
        """Give where a URL leads."""
        return cls(url.scheme, url.raw_host.decode("ascii"), url.port or DEFAULT_PORTS[url.scheme])


class Timeouts(NamedTuple):
    """How long each wait may take, in seconds; ``None`` for as long as it takes.

    Attributes:
        connect: For a new connection, TLS included.
        read: For the next bytes.
        write: For the peer to take bytes.
    """

    connect: float | None = None
    read: float | None = None
    write: float | None = None


@dataclass(slots=True, kw_only=True)
class Request:
    """What to send.

    Attributes:
        method: The HTTP method.
        url: All of the URL.
        origin: Where it goes.
        target: What of the URL is sent.
        headers: All of the headers, but the framing of a body that is no bytes.
        body: The body: whole, in pieces, or none.
        timeouts: How long its waits may take.
        own_connection: Neither borrow a connection nor give it back.
        idempotent: It may be sent again when a borrowed connection was stale.
    """

    method: str
    url: str
    origin: Origin
    target: bytes
    headers: list[tuple[bytes, bytes]] = field(repr=False)
    body: bytes | AsyncIterable[bytes] | None = field(repr=False)
    timeouts: Timeouts
    own_connection: bool
    idempotent: bool


class _Body(Protocol):
    """A response's bytes as they come, and the way to leave them."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Read them, once."""

    async def aclose(self) -> None:
        """Let go of the connection, whether or not they have been read to their end."""


class Response:
    """A response whose body has not been read.

    Attributes:
        status: The HTTP status.
        raw_headers: The headers as they came.
        body: The bytes to come.
    """

    __slots__ = ("body", "raw_headers", "status")

    def __init__(self, status: int, raw_headers: _RawHeaders, body: _Body) -> None:
        self.status = status
        self.raw_headers = raw_headers
        self.body = body

    @property
    def is_success(self) -> bool:
        """Whether the request was accepted."""
        return 200 <= self.status < 300

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers; look-ups ignore case. Made anew when asked for: a stream has no use for them once it flows."""
        return httpx.Headers(self.raw_headers)
