"""A fully scripted server: the test writes every byte that matters, this file only carries it.

For scenarios no simulator would produce: a listing that never ends, a stream that replays, a second POST that is lost.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from ._clients import connect_client
from ._given import require_callable
from ._http_messages import RecordedRequest
from ._http_server import Handler, HttpServer, TransportName, open_http_server, require_transport

if TYPE_CHECKING:
    from ..claude import ClaudeClient

__all__ = ["WireServer", "open_wire_server"]


class WireServer:
    """A server whose every answer is the test's own.

    Attributes:
        base_url: Where it is reached.
    """

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self.base_url = server.base_url

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The requests read so far, in order of arrival."""
        return self._server.requests

    async def open_memory_stream(self, host: str, port: int) -> trio.abc.Stream:
        """Connect in memory: returns the client's end. Waits for one scheduling round."""
        return await self._server.open_memory_stream(host, port)

    def client(self, **options: Any) -> ClaudeClient:
        """A Claude client that talks to this server, whichever the transport; ``options`` are the client's own."""
        return connect_client(self._server, options)


@asynccontextmanager
async def open_wire_server(handler: Handler, *, transport: TransportName = "memory") -> AsyncIterator[WireServer]:
    """Serve ``handler`` until the block is left.

    Args:
        handler: ``async handler(request, respond)``; called for every request.
        transport: ``"memory"`` (virtual time) or ``"loopback"`` (real sockets).

    Raises:
        ConfigurationError: There is no such transport, or the handler is no function.
        BaseExceptionGroup: On leaving, if the handler failed; holds the failures.
    """
    require_transport(transport)
    require_callable("handler", handler, "an async function of a request and a responder")
    async with open_http_server(handler, transport=transport) as server:
        yield WireServer(server)
