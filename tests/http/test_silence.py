"""Silence: how long a peer may say nothing, whoever else is watched, and that the watch costs nobody a byte."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import trio
import trio.testing
import trustme
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors._http.silence import SilenceWatch
from managed_agents_actors._http.transport import Transport

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
URL = "http://api.test/"

Serve = Callable[[trio.abc.Stream], Awaitable[None]]


def get(url: str = URL, **timeouts: float) -> httpx.Request:
    """A request whose waits are bounded."""
    return httpx.Request("GET", url, extensions={"timeout": timeouts})


def serving(nursery: trio.Nursery, serve: Serve) -> Transport:
    """A transport whose every connection leads to a server."""

    async def open_stream(host: str, port: int) -> trio.abc.Stream:
        client, server = trio.testing.memory_stream_pair()
        nursery.start_soon(serve, server)
        return client

    return Transport(open_stream=open_stream)


def watching() -> list[trio.lowlevel.Task]:
    """The tasks of the watch that runs, if there is one."""
    root = trio.lowlevel.current_root_task()
    assert root is not None
    return [task for nursery in root.child_nurseries for task in nursery.child_tasks if "SilenceWatch" in task.name]


async def test_a_silent_peer_is_left_when_its_time_is_over(nursery: trio.Nursery, autojump_clock: Any) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(HEAD)
        for _ in range(3):
            await trio.sleep(59)
            await stream.send_all(b"1\r\nx\r\n")

    response = await serving(nursery, serve).handle_async_request(get(read=60.0))
    with pytest.raises(httpx.ReadTimeout, match="60 s"):
        async for _ in response.stream:
            pass
    assert trio.current_time() == 3 * 59 + 60


async def test_a_head_that_does_not_come_is_silence(nursery: trio.Nursery, autojump_clock: Any) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()

    with pytest.raises(httpx.ReadTimeout):
        await serving(nursery, serve).handle_async_request(get(read=7.0))
    assert trio.current_time() == 7


async def test_time_in_which_nobody_reads_is_no_silence(nursery: trio.Nursery, autojump_clock: Any) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(HEAD + b"1\r\na\r\n")
        await trio.sleep(1000)
        await stream.send_all(b"1\r\nb\r\n0\r\n\r\n")

    response = await serving(nursery, serve).handle_async_request(get(read=60.0))
    chunks = response.stream.__aiter__()
    assert await anext(chunks) == b"a"
    await trio.sleep(990)
    assert await anext(chunks) == b"b"


async def test_a_peer_that_takes_nothing_is_left(nursery: trio.Nursery, autojump_clock: Any) -> None:
    class Full(trio.abc.Stream):
        def __init__(self) -> None:
            self.closed = trio.Event()

        async def send_all(self, data: Any) -> None:
            await self.closed.wait()
            raise trio.ClosedResourceError

        async def wait_send_all_might_not_block(self) -> None:
            await self.closed.wait()

        async def receive_some(self, max_bytes: int | None = None) -> bytes:
            raise AssertionError("nothing was sent yet")

        async def aclose(self) -> None:
            self.closed.set()
            await trio.lowlevel.checkpoint()

    async def open_stream(host: str, port: int) -> trio.abc.Stream:
        return Full()

    with pytest.raises(httpx.WriteTimeout, match="5 s"):
        await Transport(open_stream=open_stream).handle_async_request(get(write=5.0, read=60.0))
    assert trio.current_time() == 5


async def test_silence_within_tls_is_heard(nursery: trio.Nursery, autojump_clock: Any) -> None:
    authority = trustme.CA()
    server_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("api.test").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)

    async def serve(server: trio.abc.Stream) -> None:
        stream = trio.SSLStream(server, server_context, server_side=True, https_compatible=True)
        await stream.receive_some()
        await stream.send_all(HEAD)
        await trio.sleep_forever()

    async def open_stream(host: str, port: int) -> trio.abc.Stream:
        client, server = trio.testing.memory_stream_pair()
        nursery.start_soon(serve, server)
        return client

    transport = Transport(open_stream=open_stream, ssl_context=client_context)
    response = await transport.handle_async_request(get("https://api.test/", read=60.0))
    with pytest.raises(httpx.ReadTimeout):
        await anext(response.stream.__aiter__())
    assert trio.current_time() == 60
    nursery.cancel_scope.cancel()


async def attached_by_socket(near: socket.socket, far: socket.socket) -> httpx.Response:
    """The response to a request over one end of a pair of sockets, whose other end has sent its head already."""

    async def open_stream(host: str, port: int) -> trio.abc.Stream:
        near.setblocking(False)
        return trio.SocketStream(trio.socket.from_stdlib_socket(near))

    far.sendall(HEAD)
    return await Transport(open_stream=open_stream).handle_async_request(get(read=60.0))


async def test_a_socket_is_woken_whose_peer_is_silent(autojump_clock: Any) -> None:
    near, far = socket.socketpair()
    with near, far:
        response = await attached_by_socket(near, far)
        with pytest.raises(httpx.ReadTimeout):
            await anext(response.stream.__aiter__())
    assert trio.current_time() == 60


async def test_bytes_that_have_come_when_a_busy_process_looks_again_are_no_silence(mock_clock: Any) -> None:
    for _ in range(10):  # tasks that are due together run in any order
        near, far = socket.socketpair()
        with near, far:
            response = await attached_by_socket(near, far)
            received: list[bytes] = []
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def receive(response: httpx.Response = response, received: list[bytes] = received) -> None:
                    received.append(await anext(response.stream.__aiter__()))

                await trio.testing.wait_all_tasks_blocked()
                far.sendall(b"1\r\na\r\n")
                mock_clock.jump(61)
            assert received == [b"a"]
            await response.aclose()


async def test_the_watch_lasts_as_long_as_there_is_something_to_watch(
    nursery: trio.Nursery, autojump_clock: Any
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(HEAD)

    transport = serving(nursery, serve)
    unbounded = await transport.handle_async_request(get())
    assert not watching()
    first, second = [await transport.handle_async_request(get(read=60.0)) for _ in range(2)]
    assert len(watching()) == 1
    await first.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert len(watching()) == 1
    await second.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert not watching()
    third = await transport.handle_async_request(get(read=60.0))
    assert len(watching()) == 1
    await third.aclose()
    await unbounded.aclose()


class Peer:
    """One that is watched: it waits from a time on, and notes when it was given up."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.due = float("inf")
        self.ended = 0.0
        self.gave_up = trio.Event()

    async def give_up(self) -> None:
        self.ended = trio.current_time()
        self.gave_up.set()


@given(
    peers=st.lists(
        st.tuples(st.floats(0, 100), st.floats(0.5, 100), st.lists(st.floats(0.1, 50), max_size=4)),
        min_size=1,
        max_size=30,
    )
)
def test_each_is_given_up_when_due_and_not_before(peers: list[tuple[float, float, list[float]]]) -> None:
    """Each begins, is heard of a few times in less than its patience, and is then silent."""

    async def live(watch: SilenceWatch, peer: Peer, begins: float, sounds: list[float]) -> None:
        await trio.sleep(begins)
        watch.add(peer)
        for wait in sounds:
            peer.due = trio.current_time() + peer.patience
            await trio.sleep(min(wait, peer.patience / 2))
        peer.due = trio.current_time() + peer.patience
        await peer.gave_up.wait()
        assert peer.due <= peer.ended <= peer.due + 0.001

    async def main() -> None:
        watch = SilenceWatch()
        async with trio.open_nursery() as nursery:
            for begins, patience, sounds in peers:
                nursery.start_soon(live, watch, Peer(patience), begins, sounds)
        assert not watching()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
