"""How a connection comes about: certificates, addresses that refuse, time that runs out, proxies of the environment."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from managed_agents_actors._http.transport import IDEMPOTENT, Transport

from ._asking import answer, asks
from ._loopback import listening
from ._tls import AUTHORITY

HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


# --- TLS --------------------------------------------------------------------------------------------------------------


class Corked(trio.abc.Stream):
    """A stream that holds what is sent while it is corked, so that several TLS records arrive together."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._held = b""
        self.is_corked = False

    async def send_all(self, data: Any) -> None:
        self._held += data
        if not self.is_corked:
            held, self._held = self._held, b""
            await self._stream.send_all(held)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def aclose(self) -> None:
        await self._stream.aclose()


class TlsServer:
    """Says hello over TLS; remembers whether it ever heard a request.

    Args:
        names: Whom its certificate is for.
        surplus: What it says after each answer, in the same packet but in a TLS record of its own.
        farewell: Whether it says TLS's farewell there, and leaves the connection open.
        not_after: When its certificate expires.
    """

    def __init__(
        self, *names: str, surplus: bytes = b"", farewell: bool = False, not_after: datetime | None = None
    ) -> None:
        self._context = AUTHORITY.server(*names, not_after=not_after)
        self._surplus = surplus
        self._farewell = farewell
        self.connections = 0
        self.heard = b""

    async def __call__(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        corked = Corked(stream)
        secured = trio.SSLStream(corked, self._context, server_side=True, https_compatible=True)
        while data := await secured.receive_some(65536):
            self.heard += data
            corked.is_corked = bool(self._surplus) or self._farewell
            await secured.send_all(HELLO)
            corked.is_corked = False
            if self._surplus:
                await secured.send_all(self._surplus)
            if self._farewell:
                await secured.unwrap()

    def url(self, port: int, host: str = "127.0.0.1") -> str:
        return f"https://{host}:{port}"


async def test_a_vouched_for_server_is_spoken_to_and_its_connection_reused() -> None:
    server = TlsServer("127.0.0.1", "localhost")
    async with listening(server) as port, Transport(ssl_context=AUTHORITY.client()) as transport:
        for method in ("GET", "POST", "GET", "POST"):
            assert await answer(transport, asks(method, base=server.url(port))) == (200, b"hello")
        assert server.connections == 1
        assert await answer(transport, asks(base=server.url(port, "localhost"))) == (200, b"hello")
        assert server.connections == 2


LONG_AGO = datetime.now(tz=UTC) - timedelta(days=1)


@pytest.mark.parametrize(
    ("server", "transport", "reason"),
    [
        (TlsServer("127.0.0.1"), Transport(), "CERTIFICATE_VERIFY_FAILED"),
        (TlsServer("other.test"), Transport(ssl_context=AUTHORITY.client()), "IP address mismatch"),
        (TlsServer("127.0.0.1", not_after=LONG_AGO), Transport(ssl_context=AUTHORITY.client()), "expired"),
    ],
    ids=["an unknown issuer", "another's certificate", "an expired certificate"],
)
async def test_a_server_that_nobody_vouches_for_is_refused_before_it_hears_anything(
    server: TlsServer, transport: Transport, reason: str
) -> None:
    async with listening(server) as port:
        for _ in range(2):
            with pytest.raises(httpx.ConnectError, match=reason):
                await answer(transport, asks(base=server.url(port), headers={"x-api-key": "secret"}))
    assert (server.connections, server.heard) == (2, b"")


async def test_a_host_name_is_compared_with_the_certificate() -> None:
    server = TlsServer("other.test", "127.0.0.1")
    async with listening(server) as port:
        with pytest.raises(httpx.ConnectError, match="Hostname mismatch"):
            await answer(Transport(ssl_context=AUTHORITY.client()), asks(base=server.url(port, "localhost")))
    assert server.heard == b""


@pytest.mark.parametrize("beginning", [b"", b"\x16\x03\x03", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_a_server_that_leaves_during_the_handshake_was_not_connected_to(beginning: bytes) -> None:
    async def leave(stream: trio.SocketStream) -> None:
        await stream.receive_some(65536)
        await stream.send_all(beginning)

    async with listening(leave) as port:
        with pytest.raises(httpx.ConnectError):
            await answer(Transport(), asks(base=f"https://127.0.0.1:{port}"))


async def test_the_connect_timeout_covers_the_handshake(autojump_clock: Any) -> None:
    closed = trio.Event()

    async def open_stream(host: str, port: int) -> trio.abc.Stream:
        async def hold() -> None:
            while await server.receive_some(65536):
                pass
            closed.set()

        client, server = trio.testing.memory_stream_pair()
        nursery.start_soon(hold)
        return client

    timeouts = {"connect": 5.0, "read": 60.0, "write": 60.0, "pool": None}
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60), pytest.raises(httpx.ConnectTimeout):
            transport = Transport(open_stream=open_stream, ssl_context=AUTHORITY.client())
            await answer(transport, asks(base="https://api.test", extensions={"timeout": timeouts}))
        assert trio.current_time() == 5.0
        await closed.wait()


FORGED = HELLO.replace(b"hello", b"false")


@pytest.mark.parametrize(
    "surplus",
    [{"surplus": b"garbage"}, {"surplus": FORGED}, {"farewell": True}],
    ids=["garbage", "an answer", "a farewell"],
)
@pytest.mark.parametrize("extensions", [{}, {IDEMPOTENT: False}], ids=["may be repeated", "may not be repeated"])
async def test_what_nobody_asked_for_is_noticed_under_tls_too(
    surplus: dict[str, Any], extensions: dict[str, Any]
) -> None:
    """The surplus has left the socket with the answer, and waits decrypted or not inside the TLS stream."""
    server = TlsServer("127.0.0.1", **surplus)
    async with listening(server) as port, Transport(ssl_context=AUTHORITY.client()) as transport:
        for _ in range(3):
            request = asks(base=server.url(port), extensions=extensions)
            assert await answer(transport, request) == (200, b"hello")
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert server.connections == 3


async def test_what_nobody_asked_for_is_noticed_under_tls_on_any_stream(open_wire: Any) -> None:
    record = 16384  # the most that one holds: the forged answer begins the next one
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 16342\r\n\r\n"
    body = b"x" * (record - len(head))
    assert b" %d\r\n" % len(body) in head
    async with open_wire() as wire:
        wire.replies = [head + body + FORGED] * 2
        transport = Transport(open_stream=AUTHORITY.terminated(wire), ssl_context=AUTHORITY.client())
        for _ in range(2):
            assert await answer(transport, asks(base="https://api.test")) == (200, body)
    assert wire.opened == 2


async def test_a_connection_under_tls_is_kept_by_a_scope_that_is_cancelled(open_wire: Any) -> None:
    """Giving it back waits for nothing, so that there is nothing to cancel."""
    async with open_wire() as wire:
        wire.replies = [HELLO] * 2
        transport = Transport(open_stream=AUTHORITY.terminated(wire), ssl_context=AUTHORITY.client())
        response = await transport.handle_async_request(asks(base="https://api.test"))
        chunks = aiter(response.stream)
        assert await anext(chunks) == b"hello"
        with trio.CancelScope() as scope:
            scope.cancel()
            assert [chunk async for chunk in chunks] == []
        assert not scope.cancelled_caught
        assert await answer(transport, asks(base="https://api.test")) == (200, b"hello")
    assert wire.opened == 1


# --- Addresses --------------------------------------------------------------------------------------------------------


class Names(trio.abc.HostnameResolver):
    """Resolves every name to these addresses, in this order."""

    def __init__(self, *addresses: str) -> None:
        self._addresses = addresses

    async def getaddrinfo(self, host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*stream, (address, port)) for address in self._addresses]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> tuple[str, str]:
        raise NotImplementedError


@contextmanager
def names(*addresses: str) -> Iterator[None]:
    before = trio.socket.set_custom_hostname_resolver(Names(*addresses))
    try:
        yield
    finally:
        trio.socket.set_custom_hostname_resolver(before)


async def hello(stream: trio.SocketStream) -> None:
    while await stream.receive_some(65536):
        await stream.send_all(HELLO)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 on its loopback")
@pytest.mark.parametrize(
    "addresses", [("127.0.0.1", "127.0.0.2"), ("127.0.0.2", "127.0.0.1"), ("127.0.0.2", "127.0.0.3", "127.0.0.1")]
)
async def test_an_address_that_refuses_is_passed_over(addresses: tuple[str, ...]) -> None:
    async with listening(hello) as port, Transport() as transport:
        with names(*addresses):
            assert await answer(transport, asks(base=f"http://api.test:{port}")) == (200, b"hello")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8 on its loopback")
async def test_when_every_address_refuses_the_error_says_where_it_was_tried() -> None:
    async with listening(hello) as port:
        with names("127.0.0.2", "127.0.0.3"), pytest.raises(httpx.ConnectError, match=rf"api\.test:{port}"):
            await answer(Transport(), asks(base=f"http://api.test:{port}"))


async def test_a_name_that_nobody_knows_is_a_connect_error() -> None:
    with names(), pytest.raises(httpx.ConnectError, match=r"api\.test"):
        await answer(Transport(), asks())


# --- Proxies ----------------------------------------------------------------------------------------------------------

PROGRAM = """
import sys, httpx, trio
from managed_agents_actors._http.transport import default_transport

async def main():
    for base in sys.argv[1:]:
        async with default_transport(base) as transport:
            request = httpx.Request("GET", base + "/path", headers={"accept": "*/*"})
            response = await transport.handle_async_request(request)
            print(type(transport).__module__.split(".")[0], response.status_code, (await response.aread()).decode())

trio.run(main)
"""


async def test_what_the_environment_wants_proxied_goes_through_httpx_to_the_proxy() -> None:
    heard = []

    async def proxy(stream: trio.SocketStream) -> None:
        while head := await stream.receive_some(65536):
            heard.append(bytes(head).split(b"\r\n")[0].decode())
            await stream.send_all(HELLO)

    async with listening(proxy) as port:
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        environment |= {
            "HTTP_PROXY": f"127.0.0.1:{port}",
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = [sys.executable, "-c", PROGRAM, "http://api.test", f"http://127.0.0.1:{port}"]
        ran = await trio.run_process(command, env=environment, capture_stdout=True)
    assert ran.stdout.decode().splitlines() == ["httpx 200 hello", "managed_agents_actors 200 hello"]
    assert heard == ["GET http://api.test/path HTTP/1.1", "GET /path HTTP/1.1"]
