"""Connections: reuse, staleness, ownership, and that an interrupted request harms no other one."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from managed_agents_actors import _errors as errors
from managed_agents_actors._http.body import ResponseBody
from managed_agents_actors._http.messages import Response
from managed_agents_actors._http.transport import KEEP_ALIVE_SECONDS, MAX_IDLE_PER_ORIGIN, Transport, default_transport

Make = Callable[..., Any]


@contextmanager
def proxy_environment(variables: dict[str, str]) -> Iterator[None]:
    """The process environment with only these proxy variables, put back afterwards."""
    before = dict(os.environ)
    for name in before:
        if name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def test_safe_requests_share_one_connection(open_wire: Make, reply: Make, call: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [reply()] * 5
        exchange = wire.exchange()
        for _ in range(5):
            await exchange.json(call())
    assert wire.opened == 1


async def test_an_unsafe_request_is_not_given_a_connection_that_cannot_be_checked(
    open_wire: Make, reply: Make, call: Make
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply()] * 3
        exchange = wire.exchange()
        await exchange.json(call())
        await exchange.json(call("POST"))
        await exchange.json(call())
    assert [request.connection for request in wire.requests] == [1, 2, 2]


async def test_a_stale_connection_is_replaced_without_a_wait(
    open_wire: Make, reply: Make, call: Make, autojump_clock: Any
) -> None:
    async def answer_and_close(peer: Any) -> None:
        await peer.send(reply())
        await peer.close()

    async with open_wire() as wire:
        wire.replies = [answer_and_close, reply('{"second": 1}')]
        exchange = wire.exchange()
        await exchange.json(call())
        await trio.testing.wait_all_tasks_blocked()
        assert await exchange.json(call()) == {"second": 1}
    assert (wire.opened, trio.current_time()) == (2, 0.0)


async def test_an_idle_connection_expires(open_wire: Make, reply: Make, call: Make, autojump_clock: Any) -> None:
    async with open_wire() as wire:
        wire.replies = [reply()] * 3
        exchange = wire.exchange()
        await exchange.json(call())
        await trio.sleep(KEEP_ALIVE_SECONDS - 1)
        await exchange.json(call())
        await trio.sleep(KEEP_ALIVE_SECONDS)
        await exchange.json(call())
    assert [request.connection for request in wire.requests] == [1, 1, 2]


@pytest.mark.parametrize("header", [("connection", "close"), ("x", "y")])
async def test_a_connection_with_a_farewell_or_a_surplus_is_not_reused(
    open_wire: Make, reply: Make, call: Make, header: tuple[str, str]
) -> None:
    surplus = b"" if header[0] == "connection" else b"HTTP/1.1 200 OK\r\n\r\n"
    async with open_wire() as wire:
        wire.replies = [reply(headers=[header]) + surplus, reply()]
        exchange = wire.exchange()
        await exchange.json(call())
        await exchange.json(call())
    assert wire.opened == 2


async def test_idle_connections_are_bounded(open_wire: Make, reply: Make, call: Make, autojump_clock: Any) -> None:
    async def slow(peer: Any) -> None:
        await trio.sleep(1)
        await peer.send(reply())

    count = MAX_IDLE_PER_ORIGIN + 10
    async with open_wire() as wire:
        wire.replies = [slow] * count
        transport = Transport(open_stream=wire.open_stream)
        exchange = wire.exchange(transport=transport)
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(exchange.json, call())
        assert repr(transport) == f"<Transport: {MAX_IDLE_PER_ORIGIN} idle connections>"
        await transport.aclose()
        assert repr(transport) == "<Transport: 0 idle connections>"


async def test_what_only_a_burst_needed_is_closed_by_those_who_come_later(
    open_wire: Make, reply: Make, call: Make, autojump_clock: Any
) -> None:
    async def slow(peer: Any) -> None:
        await trio.sleep(1)
        await peer.send(reply())

    async with open_wire() as wire:
        wire.replies = [slow] * 10 + [reply()] * 40
        transport = Transport(open_stream=wire.open_stream)
        exchange = wire.exchange(transport=transport)
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(exchange.json, call())
        idle = []
        for _ in range(40):
            await exchange.json(call())
            idle.append(repr(transport))
            await trio.sleep(1)
    assert idle[28] == "<Transport: 10 idle connections>"
    assert idle[-1] == "<Transport: 1 idle connections>"
    assert wire.opened == 10


async def test_a_stream_owns_a_connection_and_never_shares_it(open_wire: Make, reply: Make, call: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(), reply("abc"), reply()]
        exchange = wire.exchange()
        await exchange.json(call())
        async with aclosing(await exchange.open(call(own_connection=True))) as incoming:
            assert await incoming.receive() == b"abc"
            assert await incoming.receive() == b""
        await exchange.json(call())
    assert [request.connection for request in wire.requests] == [1, 2, 1]


async def test_cancelling_at_every_step_harms_no_later_request(
    open_wire: Make, reply: Make, call: Make, autojump_clock: Any
) -> None:
    """The request takes 7 steps of one second; it is cancelled in each of them."""

    async def slow(peer: Any) -> None:
        for piece in (b"HTTP/1.1 ", b"200 OK\r\n", b"content-length: 12\r\n\r\n", b'{"a":', b' "bcd"', b"}"):
            await trio.sleep(1)
            await peer.send(piece)

    async with open_wire() as wire:
        wire.connect_seconds = 1.0
        exchange = wire.exchange()
        finished = 0
        for seconds in [step + 0.5 for step in range(8)]:
            wire.replies = [slow, reply('{"fine": 1}')]
            with trio.move_on_after(seconds) as scope:
                assert await exchange.json(call("POST", retry=False)) == {"a": "bcd"}
                finished += 1
            if scope.cancelled_caught and seconds < 1:
                wire.replies.pop(0)  # it was cancelled while connecting: nothing was sent
            assert await exchange.json(call("POST", retry=False)) == {"fine": 1}
            assert not wire.replies
        assert finished == 1


async def test_leaving_a_stream_half_read_closes_its_connection(open_wire: Make, call: Make) -> None:
    closed = trio.Event()

    async def endless(peer: Any) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        assert await peer.more() == b""
        closed.set()

    async with open_wire() as wire:
        wire.replies = [endless]
        async with aclosing(await wire.exchange().open(call(own_connection=True))) as incoming:
            assert await incoming.receive() == b"abc"
        with trio.fail_after(5):
            await closed.wait()


async def test_an_early_refusal_is_heard_while_sending(open_wire: Make, reply: Make, call: Make) -> None:
    class Refusing(trio.abc.Stream):
        """A server that answers at once and breaks the connection while it is being written to."""

        def __init__(self) -> None:
            self.answer = reply('{"error": {"type": "request_too_large", "message": "too large"}}', status=413)

        async def send_all(self, data: Any) -> None:
            raise trio.BrokenResourceError

        async def wait_send_all_might_not_block(self) -> None:
            await trio.lowlevel.checkpoint()

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            await trio.lowlevel.checkpoint()
            answer, self.answer = self.answer, b""
            return bytes(answer)

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async def open_stream(host: str, port: int) -> trio.abc.Stream:
        return Refusing()

    async with open_wire() as wire:
        with pytest.raises(errors.InvalidRequestError, match="too large"):
            await wire.exchange(transport=Transport(open_stream=open_stream)).json(call("POST", body=b"x"))


async def test_real_sockets_are_checked_before_an_unsafe_request(reply: Make) -> None:
    """The server closes each connection after an answer that promised to keep it."""
    served = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal served
        async with stream:
            await stream.receive_some()
            served += 1
            await stream.send_all(reply())

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        transport = Transport()
        for _ in range(3):
            request = httpx.Request("POST", f"http://127.0.0.1:{port}/", content=b"{}")
            assert await (await transport.handle_async_request(request)).aread() == b"{}"
            await trio.sleep(0.02)  # real sockets: until the kernel has delivered the server's close
        await transport.aclose()
        nursery.cancel_scope.cancel()
    assert served == 3


async def test_real_sockets_are_reused_by_unsafe_requests(reply: Make) -> None:
    connections = 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        async with stream:
            while await stream.receive_some():
                await stream.send_all(reply())

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
        transport = Transport()
        for _ in range(3):
            response = await transport.handle_async_request(httpx.Request("POST", url, content=b"{}"))
            await response.aread()
        await transport.aclose()
        nursery.cancel_scope.cancel()
    assert connections == 1


async def test_a_reset_by_the_server_is_a_transport_error() -> None:
    async def serve(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
        with pytest.raises(httpx.ReadError):
            await Transport().handle_async_request(httpx.Request("POST", url))
        nursery.cancel_scope.cancel()


async def test_tls_is_verified_and_a_failed_handshake_sent_nothing(open_wire: Make, call: Make) -> None:
    async def plain(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 This is not TLS\r\n\r\n")

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, plain, 0, host="127.0.0.1"))
        url = f"https://127.0.0.1:{listener.socket.getsockname()[1]}/"
        with pytest.raises(httpx.ConnectError, match=r"127\.0\.0\.1"):
            await Transport(ssl_context=ssl.create_default_context()).handle_async_request(httpx.Request("GET", url))
        nursery.cancel_scope.cancel()


async def test_a_foreign_transports_generators_are_not_abandoned() -> None:
    """A body of nested async generators, left in the middle, is unwound at once and in order."""
    unwound: list[str] = []

    async def inner() -> AsyncIterator[bytes]:
        try:
            yield b"one"
            yield b"two"
            await trio.sleep_forever()
        finally:
            unwound.append("inner")

    class Nested(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for chunk in inner():
                    yield chunk
            finally:
                unwound.append("outer")

    body = ResponseBody(Response(200, [], Nested()))
    assert await body.receive() == b"one"
    await body.aclose()
    assert unwound == ["inner", "outer"]


async def test_the_default_transport_is_ours_unless_a_proxy_is_set() -> None:
    with proxy_environment({}):
        assert isinstance(default_transport("https://api.test"), Transport)
    with proxy_environment({"HTTPS_PROXY": "proxy.test:3128", "NO_PROXY": "internal.test"}):
        proxied = default_transport("https://api.test")
        assert isinstance(proxied, httpx.AsyncHTTPTransport)
        assert isinstance(default_transport("https://internal.test"), Transport)
        assert isinstance(default_transport("http://api.test"), Transport)
        await proxied.aclose()
    with (
        proxy_environment({"ALL_PROXY": "gopher://proxy.test"}),
        pytest.raises(errors.ConfigurationError, match="proxy"),
    ):
        default_transport("https://api.test")
