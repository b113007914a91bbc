"""Where requests go: a transport, ours unless one is given, or an application's own httpx client."""

from __future__ import annotations

from typing import TypeAlias

import httpx

from .._errors import ConfigurationError
from .transport import default_transport

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
        self._client = http_client
        self._transport = transport
        if transport is None and http_client is None:
            self._transport = default_transport(base_url)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Send a request; wait for the head of the response.

        Transports are called directly: httpx's client costs twice as much as the rest of a small request.
        Redirects are never followed: they are answers like any other.
        """
        if self._transport is not None:
            return await self._transport.handle_async_request(request)
        assert self._client is not None  # noqa: S101 - one of the two is set, see __init__
        # The client's own settings would carry the credential to another host, or replace it.
        return await self._client.send(request, stream=True, follow_redirects=False, auth=None)

    async def aclose(self) -> None:
        """Close the transport."""
        if self._transport is not None:
            await self._transport.aclose()
