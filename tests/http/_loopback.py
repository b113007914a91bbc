"""A listener on loopback whose connections are each served by a function, and how long a test of it may take."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

__all__ = ["SOON", "listening"]

# Seconds in which anything on real sockets is over, on a machine that does other things too.
SOON = 20.0


@asynccontextmanager
async def listening(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    """Serve each connection by ``handler``, and close it afterwards; yields the port."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            with suppress(trio.BrokenResourceError):  # a client that drops a connection resets it
                await handler(stream)

    async with trio.open_nursery() as nursery:
        with trio.fail_after(SOON):
            listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
            yield listeners[0].socket.getsockname()[1]
            nursery.cancel_scope.cancel()
