"""Certificates of an authority that nobody knows, for names and addresses under test."""

from __future__ import annotations

import functools
import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import trio
import trio.testing
import trustme

__all__ = ["AUTHORITY"]


class Authority:
    """An authority, and both ends of connections that it vouches for."""

    def __init__(self) -> None:
        self._authority = trustme.CA()

    @functools.cache  # noqa: B019 -- there is one authority, for as long as the tests run
    def client(self) -> ssl.SSLContext:
        """A context that trusts this authority alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._authority.configure_trust(context)
        return context

    @functools.cache  # noqa: B019 -- as above
    def server(self, *names: str, not_after: datetime | None = None) -> ssl.SSLContext:
        """A context for the server of these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(*names, not_after=not_after).configure_cert(context)
        return context

    def files(self, directory: Path, *names: str) -> dict[str, str]:
        """A certificate for these names and its key, as files; they are the settings of a hypercorn."""
        issued = self._authority.issue_cert(*names)
        certificate, key = directory / "certificate.pem", directory / "key.pem"
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key.write_bytes(issued.private_key_pem.bytes())
        return {"certfile": str(certificate), "keyfile": str(key)}

    def terminated(self, wire: Any) -> Callable[[str, int], Awaitable[trio.abc.Stream]]:
        """Open connections to a scripted server through a terminator: TLS before it, plain behind it."""
        context = self.server("api.test")

        async def open_stream(host: str, port: int) -> trio.abc.Stream:
            plain = await wire.open_stream(host, port)
            client, server = trio.testing.memory_stream_pair()
            wire.nursery.start_soon(_terminate, trio.SSLStream(server, context, server_side=True), plain)
            return client

        return open_stream


async def _terminate(secured: trio.abc.Stream, plain: trio.abc.Stream) -> None:
    async def pump(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
        try:
            while data := await source.receive_some(65536):
                await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # either side has left, which ends both
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, secured, plain)
        nursery.start_soon(pump, plain, secured)
    await trio.aclose_forcefully(secured)
    await trio.aclose_forcefully(plain)


AUTHORITY = Authority()
