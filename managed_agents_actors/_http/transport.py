"""Connections: who owns one, who may borrow one, when one is thrown away. Never httpx's or httpcore's pool.

An event stream owns a fresh connection; other requests borrow from a last-in-first-out list per origin, in constant
time however many streams live. The lists change in synchronous code only; async code closes.
"""

from __future__ import annotations

import functools
import socket
import ssl
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeAlias

import httpx
import trio

from .._errors import ConfigurationError
from .connection import Connection
from .messages import Origin, Request, Response, Timeouts
from .upload import Multipart

__all__ = ["IDEMPOTENT", "OWN_CONNECTION", "OpenStream", "Transport", "default_transport"]

OpenStream: TypeAlias = Callable[[str, int], Awaitable[trio.abc.Stream]]

OWN_CONNECTION: Final = (
    "managed_agents.own_connection"  # request extension: neither borrow a connection nor give it back
)
IDEMPOTENT: Final = (
    "managed_agents.idempotent"  # request extension: may be sent again when a borrowed connection was stale
)

# As many sessions may answer tools in one moment, and again in the next. What no later moment needs grows old at the
# bottom of the list, where each request that gives its connection back looks.
MAX_IDLE_PER_ORIGIN: Final = 1024
KEEP_ALIVE_SECONDS: Final = 30.0  # well under the 60 s after which common load balancers drop an idle connection
TCP_KEEP_ALIVE_SECONDS: Final = 60  # as the official SDK; finds a peer that vanished without a word

# Bodies that begin anew each time. Another one may go on where it was left, and half of it would be sent unnoticed.
REPEATABLE_BODIES: Final = (bytes, type(None), Multipart)


class Transport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over trio streams. All waiting is on trio's clock.

    Args:
        open_stream: Opens a byte stream to a host and port; default: TCP, trying all addresses in parallel.
        ssl_context: For ``https`` URLs; default: one shared context that verifies against certifi's roots.
    """

    def __init__(self, *, open_stream: OpenStream | None = None, ssl_context: ssl.SSLContext | None = None) -> None:
        self._open_stream: OpenStream = open_stream or _open_tcp
        self._ssl_context = ssl_context
        self._idle: dict[Origin, deque[Connection]] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<Transport: {sum(map(len, self._idle.values()))} idle connections>"

    async def send(self, request: Request) -> Response:
        """Send one request; wait for the head of its response.

        Raises:
            httpx.TransportError: The exchange failed; a connect error or timeout means nothing was sent.
        """
        if request.own_connection:
            return await self._exchange(await self._connect(request), request)
        may_repeat = request.idempotent and isinstance(request.body, REPEATABLE_BODIES)
        borrowed = await self._borrow(request.origin, unchecked=may_repeat)
        if borrowed is not None:
            try:
                return await self._exchange(borrowed, request)
            except httpx.NetworkError:
                if not may_repeat or borrowed.answered:
                    raise
        return await self._exchange(await self._connect(request), request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request of httpx's; wait for the head of its response. Raises as :meth:`send`."""
        response = await self.send(_request_of(request))
        body = response.body
        assert isinstance(body, _Body)  # noqa: S101 -- what send() gives has it
        return httpx.Response(response.status, headers=response.raw_headers, stream=body, request=request)

    async def aclose(self) -> None:
        """Close the idle connections; those in use are closed when their response is."""
        self._closed = True
        idle = [connection for connections in self._idle.values() for connection in connections]
        self._idle.clear()
        for connection in idle:
            await connection.close()

    async def _exchange(self, connection: Connection, request: Request) -> Response:
        try:
            head = await connection.exchange(request)
        except BaseException:
            await connection.close()
            raise
        origin = None if request.own_connection else request.origin
        return Response(head.status_code, head.headers.raw_items(), _Body(connection, self, origin))

    async def _borrow(self, origin: Origin, *, unchecked: bool) -> Connection | None:
        connection, stale = self._take(origin, unchecked=unchecked)
        for each in stale:
            await each.close()
        return connection

    def _take(self, origin: Origin, *, unchecked: bool) -> tuple[Connection | None, list[Connection]]:
        """Take the freshest idle connection that will do, and those found unfit on the way.

        A connection whose silence cannot be checked is lent only to a request that may be repeated.
        """
        idle = self._idle.get(origin)
        stale: list[Connection] = []
        oldest = trio.current_time() - KEEP_ALIVE_SECONDS
        while idle:
            connection = idle[-1]
            quiet = connection.is_quiet()
            if quiet is None and not unchecked and connection.idle_since > oldest:
                break
            idle.pop()
            if quiet is not False and connection.idle_since > oldest:
                return connection, stale
            stale.append(connection)
        return None, stale

    async def give_back(self, origin: Origin | None, connection: Connection) -> None:
        """Keep a connection for another request to its origin, if it has one and the connection is fit for it."""
        if origin is None or not await connection.finish() or self._closed:
            await connection.close()
            return
        idle = self._idle.setdefault(origin, deque())
        idle.append(connection)
        if len(idle) > MAX_IDLE_PER_ORIGIN or idle[0].idle_since <= trio.current_time() - KEEP_ALIVE_SECONDS:
            await idle.popleft().close()

    async def _connect(self, request: Request) -> Connection:
        timeout = request.timeouts.connect
        scheme, host, port = request.origin
        try:
            with trio.fail_after(float("inf") if timeout is None else timeout):
                connection = Connection(await self._open_stream(host, port))
                if scheme == "https":
                    await connection.start_tls(host, self._ssl_context or _default_ssl_context())
                return connection
        except trio.TooSlowError as exc:
            raise httpx.ConnectTimeout(f"could not connect to {host}:{port} within {timeout:g} s") from exc
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            reason = exc.__cause__ or exc
            raise httpx.ConnectError(f"could not connect to {host}:{port}: {reason}") from exc


class _Body(httpx.AsyncByteStream):
    """A response's body: a plain iterator, so that leaving it half read abandons no async generator.

    A read that is cancelled took nothing; the body can be read on. Whoever has it closes it.
    """

    __slots__ = ("_connection", "_open", "_origin", "_transport")

    def __init__(self, connection: Connection, transport: Transport, origin: Origin | None) -> None:
        self._connection = connection
        self._transport = transport
        self._origin = origin
        self._open = True

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._open:
            raise StopAsyncIteration
        try:
            chunk = await self._connection.receive_body()
        except httpx.TransportError:
            self._open = False
            await self._connection.close()
            raise
        if not chunk:
            await self.aclose()
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        if self._open:
            self._open = False
            await self._transport.give_back(self._origin, self._connection)


def default_transport(base_url: str) -> httpx.AsyncBaseTransport:
    """Make the transport for a base URL: ours, or httpx's own when the environment names a proxy for it.

    Raises:
        ConfigurationError: The proxy's URL is of a kind httpx cannot use.
    """
    url = httpx.URL(base_url)
    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or urllib.request.proxy_bypass(url.host):
        return Transport()
    # httpx's limits are off: a live event stream must never make another request wait for a place in its pool.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    try:
        return httpx.AsyncHTTPTransport(proxy=proxy if "://" in proxy else f"http://{proxy}", limits=limits)
    except (ValueError, ImportError) as exc:
        raise ConfigurationError(f"the environment's {url.scheme} proxy cannot be used: give an http:// URL") from exc


async def _open_tcp(host: str, port: int) -> trio.abc.Stream:
    stream = await trio.open_tcp_stream(host, port)
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_KEEPIDLE"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, TCP_KEEP_ALIVE_SECONDS)
    return stream


@functools.cache
def _default_ssl_context() -> ssl.SSLContext:
    context = httpx.create_ssl_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _request_of(request: httpx.Request) -> Request:
    """What of a request of httpx's is sent, and how."""
    url, extensions = request.url, request.extensions
    timeout: dict[str, Any] = extensions.get("timeout", {})
    return Request(
        method=request.method,
        url=str(url),
        origin=Origin.of(url),
        target=url.raw_path,
        headers=request.headers.raw,
        body=_body_of(request),
        timeouts=Timeouts(*map(timeout.get, Timeouts._fields)),
        own_connection=bool(extensions.get(OWN_CONNECTION, False)),
        idempotent=bool(extensions.get(IDEMPOTENT, request.method in {"GET", "HEAD"})),
    )


def _body_of(request: httpx.Request) -> bytes | httpx.AsyncByteStream:
    try:
        return request.content
    except httpx.RequestNotRead:
        stream = request.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise httpx.LocalProtocolError("the request's body cannot be sent from trio: it is not an async stream")
    return stream
