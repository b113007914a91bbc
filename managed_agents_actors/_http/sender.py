"""Where requests go: a transport, ours unless one is given, or an application's own httpx client."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

import httpx

from .._errors import ConfigurationError
from .messages import Request, Response
from .transport import IDEMPOTENT, OWN_CONNECTION, Transport, default_transport

__all__ = ["HTTPClient", "HTTPTransport", "Sender"]

HTTPTransport: TypeAlias = httpx.AsyncBaseTransport
HTTPClient: TypeAlias = httpx.AsyncClient


class Sender:
    """Sends single requests. A transport is closed with it; an application's client stays the application's."""

    def __init__(self, base_url: str, *, transport: HTTPTransport | None, http_client: HTTPClient | None) -> None:
        if transport is not None and http_client is not None:
            raise ConfigurationError("give transport= or http_client=, not both: each decides where requests go")
        if not isinstance(transport, HTTPTransport | None):
            raise ConfigurationError(f"transport= must be an httpx.AsyncBaseTransport, not {type(transport).__name__}")
        if not isinstance(http_client, HTTPClient | None):
            raise ConfigurationError(f"http_client= must be an httpx.AsyncClient, not {type(http_client).__name__}")
        self._transport = transport
        self._send: Callable[[Request], Awaitable[Response]]
        if http_client is not None:
            self._send = _by_client(http_client)
        else:
            self._transport = transport = transport or default_transport(base_url)
            self._send = transport.send if isinstance(transport, Transport) else _by_transport(transport)

    async def __call__(self, request: Request) -> Response:
        """Send a request; wait for the head of the response.

        Transports are called directly: httpx's client costs twice as much as the rest of a small request.
        Redirects are never followed: they are answers like any other.
        """
        return await self._send(request)

    async def aclose(self) -> None:
        """Close the transport."""
        if self._transport is not None:
            await self._transport.aclose()


def _by_client(client: HTTPClient) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        # The client's own settings would carry the credential to another host, or replace it.
        return _response_of(await client.send(_httpx_request(request), stream=True, follow_redirects=False, auth=None))

    return send


def _by_transport(transport: HTTPTransport) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        return _response_of(await transport.handle_async_request(_httpx_request(request)))

    return send


def _httpx_request(request: Request) -> httpx.Request:
    """A request of ours as one of httpx's."""
    body = request.body
    extensions = {
        "timeout": {**request.timeouts._asdict(), "pool": None},
        OWN_CONNECTION: request.own_connection,
        IDEMPOTENT: request.idempotent,
    }
    content = {"content": body} if isinstance(body, bytes | None) else {"stream": body}
    return httpx.Request(request.method, request.url, headers=request.headers, extensions=extensions, **content)


def _response_of(response: httpx.Response) -> Response:
    """A response of httpx's as one of ours."""
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise httpx.LocalProtocolError("the response's body cannot be read from trio: give an async transport")
    return Response(response.status_code, response.headers.raw, stream)
