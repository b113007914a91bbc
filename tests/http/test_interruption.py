"""Exchanges that do not go their way: early answers, peers that leave, cancellation, and what idle connections cost.

Every answer names what was asked, so that an answer that was taken from another request's connection is seen.
"""

from __future__ import annotations

import socket
import struct
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from managed_agents_actors import _http
from managed_agents_actors._http.transport import IDEMPOTENT, MAX_IDLE_PER_ORIGIN, OWN_CONNECTION, Transport
from managed_agents_actors._http.upload import BytesFile, FilePart, Multipart

from ._asking import BASE, answer, asks
from ._loopback import listening
from ._tls import AUTHORITY

Make = Callable[..., Any]

LARGE = 8 * 1024 * 1024  # more than the sockets of one connection hold
HURRIED = {"timeout": {"connect": 5.0, "read": 10.0, "write": 0.2, "pool": None}}
REFUSAL = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo large"


def echo_of(wire: Any) -> Any:
    """A reply that names what was asked, a few bytes at a time."""

    async def echo(peer: Any) -> None:
        path = wire.requests[-1].line.split()[1]
        data = f"HTTP/1.1 200 OK\r\ncontent-length: {len(path)}\r\n\r\n{path}".encode()
        for at in range(0, len(data), 11):
            if at:
                await trio.testing.wait_all_tasks_blocked()
            await peer.send(data[at : at + 11])

    return echo


@asynccontextmanager
async def serving(handler: Callable[[Any], Awaitable[None]]) -> AsyncIterator[tuple[Transport, str]]:
    """Serve each connection on loopback by ``handler``; yields a transport and the base URL."""
    async with listening(handler) as port, Transport() as transport:
        yield transport, f"http://127.0.0.1:{port}"


@asynccontextmanager
async def serving_tls(handler: Callable[[Any], Awaitable[None]]) -> AsyncIterator[tuple[Transport, str]]:
    """As :func:`serving`, over TLS."""

    async def serve(stream: trio.SocketStream) -> None:
        context = AUTHORITY.server("127.0.0.1")
        await handler(trio.SSLStream(stream, context, server_side=True, https_compatible=True))

    async with listening(serve) as port, Transport(ssl_context=AUTHORITY.client()) as transport:
        yield transport, f"https://127.0.0.1:{port}"


async def read_head(stream: trio.abc.ReceiveStream) -> bytes:
    """Read at least a head; what came of the body with it is lost. ``b""`` if the peer has left."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = await stream.receive_some(4096)
        if not data:
            return b""
        head += data
    return head


def whole(data: bytes) -> dict[str, Any]:
    """A body as one piece, as an option of a request."""
    return {"content": data}


def in_pieces(data: bytes) -> dict[str, Any]:
    """A body that is sent as it comes, as options of a request; it can be sent again."""
    file = FilePart(file=BytesFile(data), size=len(data), filename="data", content_type="text/plain")
    form = Multipart(file, {})
    return {"stream": form, "headers": {"host": "api.test", "content-length": str(form.length)}}


# --- Early answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 10, 100_000, LARGE])
@pytest.mark.parametrize("form", [whole, in_pieces])
@pytest.mark.parametrize("leaves", ["at once", "half, and reads on", "half, and reads no more"])
async def test_a_refusal_is_heard_though_the_body_was_not_taken(
    size: int, form: Callable[[bytes], dict[str, Any]], leaves: str
) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(REFUSAL)
        if leaves != "at once":
            await stream.send_eof()
        if leaves == "half, and reads on":
            while await stream.receive_some(65536):
                pass
        if leaves == "half, and reads no more":
            await trio.testing.wait_all_tasks_blocked(0.05)  # the client is held up by now

    async with serving(refuse) as (transport, base):
        for _ in range(2):  # the first one's connection is not used again
            request = asks("POST", base=base, **form(bytes(size)))
            assert await answer(transport, request) == (413, b"too large")
        assert repr(transport) == "<Transport: 0 idle connections>"


@pytest.mark.parametrize("size", [10, LARGE])
@pytest.mark.parametrize("form", [whole, in_pieces])
async def test_a_refusal_is_heard_under_tls_though_the_connection_broke(
    form: Callable[[bytes], dict[str, Any]], size: int
) -> None:
    async def refuse(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(REFUSAL if size < LARGE else REFUSAL.replace(b"connection: close\r\n", b""))

    async with serving_tls(refuse) as (transport, base):
        for _ in range(2):
            assert await answer(transport, asks("POST", base=base, **form(bytes(size)))) == (413, b"too large")
        assert repr(transport) == "<Transport: 0 idle connections>"


@pytest.mark.parametrize("served", [serving, serving_tls])
@pytest.mark.parametrize("form", [whole, in_pieces])
async def test_a_refusal_is_heard_when_the_server_takes_no_more_and_stays(
    form: Callable[[bytes], dict[str, Any]], served: Make
) -> None:
    async def refuse(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(REFUSAL.replace(b"connection: close\r\n", b""))
        await trio.sleep_forever()

    async with served(refuse) as (transport, base):
        request = asks("POST", base=base, **form(bytes(LARGE)), extensions=HURRIED)
        assert await answer(transport, request) == (413, b"too large")
        assert repr(transport) == "<Transport: 0 idle connections>"


@pytest.mark.parametrize("served", [serving, serving_tls])
async def test_an_answer_that_begins_and_does_not_go_on_ends_with_the_patience(served: Make) -> None:
    async def begin(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await stream.send_all(REFUSAL[:20])
        await trio.sleep_forever()

    async with served(begin) as (transport, base):
        with pytest.raises(httpx.ReadTimeout):
            await answer(transport, asks("POST", base=base, content=bytes(LARGE), extensions=HURRIED))


@pytest.mark.parametrize("form", [whole, in_pieces])
async def test_a_refusal_that_promises_to_go_on_is_not_believed_when_the_body_was_not_taken(
    form: Callable[[bytes], dict[str, Any]],
) -> None:
    async def refuse(stream: trio.SocketStream) -> None:
        await read_head(stream)
        await stream.send_all(REFUSAL.replace(b"connection: close\r\n", b""))

    async with serving(refuse) as (transport, base):
        for _ in range(2):
            assert await answer(transport, asks("POST", base=base, **form(bytes(LARGE)))) == (413, b"too large")
            assert repr(transport) == "<Transport: 0 idle connections>"


async def test_an_answer_before_the_request_s_end_does_not_keep_the_connection(open_wire: Make, reply: Make) -> None:
    """The server answers at the head, and the body's producer fails before it has given everything."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"some"
        raise ZeroDivisionError

    async with open_wire() as wire:
        wire.replies = [reply("early"), reply("next")]
        transport = Transport(open_stream=wire.open_stream)
        with pytest.raises(ZeroDivisionError):
            await answer(transport, asks("POST", content=failing()))
        assert await answer(transport, asks()) == (200, b"next")
    assert wire.opened == 2


@pytest.mark.parametrize("served", [serving, serving_tls])
async def test_a_server_that_takes_nothing_and_says_nothing_is_given_up_by_the_write_timeout(served: Make) -> None:
    async def hold(stream: trio.abc.Stream) -> None:
        await read_head(stream)
        await trio.sleep_forever()

    async with served(hold) as (transport, base):
        with pytest.raises(httpx.WriteTimeout):
            await answer(transport, asks("POST", base=base, content=bytes(LARGE), extensions=HURRIED))


# --- Peers that leave -------------------------------------------------------------------------------------------------


async def test_a_peer_that_closed_its_half_is_answered_and_not_used_again() -> None:
    ports = set()

    async def half(stream: trio.SocketStream) -> None:
        ports.add(stream.socket.getpeername()[1])
        await read_head(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        await stream.send_eof()
        assert await stream.receive_some() == b""  # the client closes, and sends nothing more

    async with serving(half) as (transport, base):
        for method in ("GET", "POST", "GET"):
            assert await answer(transport, asks(method, base=base)) == (200, b"hello")
            await trio.testing.wait_all_tasks_blocked(0.01)
    assert len(ports) == 3


@pytest.mark.parametrize("moment", ["with the answer", "later"])
@pytest.mark.parametrize(
    "surplus",
    [
        b"\r\n",
        b"garbage",
        b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged",
        b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 6\r\nconnection: close\r\n\r\nforged",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["a line", "garbage", "an answer", "408", "100"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_what_nobody_asked_for_answers_nothing(method: str, surplus: bytes, moment: str) -> None:
    connections = 0

    async def talk(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        hello = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
        while await read_head(stream):
            if moment == "with the answer":
                await stream.send_all(hello + surplus)
            else:
                await stream.send_all(hello)
                await trio.testing.wait_all_tasks_blocked(0.01)
                await stream.send_all(surplus)

    async with serving(talk) as (transport, base):
        for _ in range(3):
            assert await answer(transport, asks(method, base=base)) == (200, b"hello")
            await trio.testing.wait_all_tasks_blocked(0.03)
    assert connections == 3


@pytest.mark.parametrize("left", ["without a word", "after a word", "after a word, by a reset"])
@pytest.mark.parametrize(
    ("method", "extensions", "may_repeat"),
    [
        ("GET", {}, True),
        ("HEAD", {}, True),
        ("POST", {}, False),
        ("DELETE", {}, False),
        ("POST", {IDEMPOTENT: True}, True),
        ("GET", {IDEMPOTENT: False}, False),
    ],
)
async def test_a_connection_that_was_stale_is_replaced_only_for_what_may_be_sent_twice(
    method: str, extensions: dict[str, Any], may_repeat: bool, left: str
) -> None:
    """The server takes the second request on a connection and leaves: nobody knows what became of it."""
    heard: Counter[str] = Counter()

    async def leave_at_the_second(stream: trio.SocketStream) -> None:
        await read_head(stream)
        heard["first"] += 1
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        if await read_head(stream):
            heard["second"] += 1
            await stream.send_all(b"" if left == "without a word" else b"HTTP/1.1 2")
            if left == "after a word, by a reset":
                await trio.testing.wait_all_tasks_blocked(0.02)  # the word is heard by now
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with serving(leave_at_the_second) as (transport, base):
        assert await answer(transport, asks(base=base)) == (200, b"")
        again = asks(method, base=base, extensions=extensions)
        if left != "without a word":
            with pytest.raises(httpx.RemoteProtocolError if left == "after a word" else httpx.ReadError):
                await answer(transport, again)
        elif may_repeat:
            assert await answer(transport, again) == (200, b"")
        else:
            with pytest.raises(httpx.ReadError):
                await answer(transport, again)
    repeated = may_repeat and left == "without a word"
    assert heard == {"first": 2 if repeated else 1, "second": 1}


@pytest.mark.parametrize("extensions", [{}, {OWN_CONNECTION: True}], ids=["borrowing", "owning"])
async def test_a_new_connection_that_breaks_is_not_replaced(extensions: dict[str, Any], open_wire: Make) -> None:
    async def leave(peer: Any) -> None:
        await peer.close()

    async with open_wire() as wire:
        wire.replies = [leave, leave]
        with pytest.raises(httpx.ReadError):
            await answer(Transport(open_stream=wire.open_stream), asks(extensions=extensions))
    assert (wire.opened, len(wire.requests)) == (1, 1)


class Endless(httpx.AsyncByteStream):
    """A body that is an async generator, and tells when it is unwound."""

    def __init__(self) -> None:
        self.is_unwound = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 65536
        finally:
            self.is_unwound = True


CHUNKED = {"host": "api.test", "transfer-encoding": "chunked"}


async def test_a_body_that_is_a_generator_is_unwound_when_its_sending_breaks() -> None:
    async def leave(host: str, port: int) -> trio.abc.Stream:
        client, server = trio.testing.memory_stream_pair()
        await server.aclose()
        return client

    body = Endless()
    with pytest.raises(httpx.ReadError):
        await answer(Transport(open_stream=leave), asks("POST", stream=body, headers=CHUNKED))
    assert body.is_unwound


async def test_a_body_that_is_a_generator_is_unwound_when_its_sending_is_cancelled() -> None:
    async def hold(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    body = Endless()
    async with serving(hold) as (transport, base):
        with trio.move_on_after(0.1) as scope:
            await answer(transport, asks("POST", base=base, stream=body, headers=CHUNKED))
    assert scope.cancelled_caught
    assert body.is_unwound


async def once() -> AsyncIterator[bytes]:
    """A body that can be read once."""
    yield b"01234"
    yield b"56789"


@pytest.mark.parametrize(
    ("body", "may_repeat"),
    [(whole(b"0123456789"), True), (in_pieces(b"0123456789"), True), ({"content": once()}, False)],
    ids=["whole", "in pieces", "once"],
)
async def test_a_body_that_can_be_read_once_is_not_sent_again(body: dict[str, Any], may_repeat: bool) -> None:
    heard = 0

    async def leave_at_the_second(stream: trio.SocketStream) -> None:
        nonlocal heard
        heard += (await read_head(stream)).startswith(b"PUT")
        await stream.send_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        heard += (await read_head(stream)).startswith(b"PUT")

    async with serving(leave_at_the_second) as (transport, base):
        assert await answer(transport, asks(base=base)) == (204, b"")
        request = asks("PUT", base=base, **body, extensions={IDEMPOTENT: True})
        if may_repeat:
            assert await answer(transport, request) == (204, b"")
        else:
            with pytest.raises(httpx.ReadError):
                await answer(transport, request)
    assert heard == (2 if may_repeat else 1)


async def test_a_body_that_can_be_read_once_is_given_no_connection_that_cannot_be_checked(
    open_wire: Make, reply: Make
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply("first"), reply("second")]
        transport = Transport(open_stream=wire.open_stream)
        assert await answer(transport, asks()) == (200, b"first")
        request = asks("PUT", content=once(), headers={"content-length": "10"}, extensions={IDEMPOTENT: True})
        assert await answer(transport, request) == (200, b"second")
    assert [each.connection for each in wire.requests] == [1, 2]


async def test_origins_share_nothing(open_wire: Make) -> None:
    async with open_wire() as wire:
        transport = Transport(open_stream=wire.open_stream)
        for _ in range(2):
            for base in ("http://api.test", "http://api.test:8080", "http://other.test"):
                wire.replies = [echo_of(wire)]
                assert await answer(transport, asks(path="/x", base=base)) == (200, b"/x")
    assert [request.connection for request in wire.requests] == [1, 2, 3, 1, 2, 3]


async def test_a_body_that_breaks_lets_go_of_its_connection_by_itself(open_wire: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nno size\r\n"]
        response = await Transport(open_stream=wire.open_stream).handle_async_request(asks())
        with pytest.raises(httpx.RemoteProtocolError):
            await response.aread()
        await trio.testing.wait_all_tasks_blocked()
        assert not wire.nursery.child_tasks


# --- Cancellation -----------------------------------------------------------------------------------------------------


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when a task is about to take its n-th step."""

    def __init__(self, task: trio.lowlevel.Task, step: int, scope: trio.CancelScope) -> None:
        self._task = task
        self._left = step
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left == 0:
                self._scope.cancel()


@contextmanager
def cancelled_at(step: int) -> Iterator[trio.CancelScope]:
    """Cancel the block when this task has waited so many times."""
    with trio.CancelScope() as scope:
        instrument = CancelAtStep(trio.lowlevel.current_task(), step, scope)
        trio.lowlevel.add_instrument(instrument)
        try:
            yield scope
        finally:
            trio.lowlevel.remove_instrument(instrument)


@pytest.mark.parametrize("form", [whole, in_pieces])
@pytest.mark.parametrize("extensions", [{}, {OWN_CONNECTION: True}], ids=["borrowing", "owning"])
@pytest.mark.parametrize("is_warm", [False, True], ids=["new connection", "idle connection"])
@pytest.mark.parametrize("is_secured", [False, True], ids=["plain", "TLS"])
async def test_a_request_cancelled_at_any_await_leaves_nothing_behind(
    is_secured: bool,
    is_warm: bool,
    extensions: dict[str, Any],
    form: Callable[[bytes], dict[str, Any]],
    open_wire: Make,
) -> None:
    base = BASE.replace("http:", "https:") if is_secured else BASE
    body = b"x" * 200_000
    for step in range(1, 1000):
        async with open_wire() as wire:
            open_stream = AUTHORITY.terminated(wire) if is_secured else wire.open_stream
            transport = Transport(open_stream=open_stream, ssl_context=AUTHORITY.client())
            if is_warm:
                wire.replies = [echo_of(wire)]
                assert await answer(transport, asks(base=base)) == (200, b"/")
            with cancelled_at(step) as scope:
                wire.replies = [echo_of(wire)]
                options = {**form(body), "extensions": {IDEMPOTENT: True, **extensions}}
                assert await answer(transport, asks("PUT", "/cancelled", base=base, **options)) == (200, b"/cancelled")
            await trio.testing.wait_all_tasks_blocked()
            for path in ("/next", "/and-the-next"):
                wire.replies = [echo_of(wire)]
                assert await answer(transport, asks(path=path, base=base)) == (200, path.encode())
            await trio.testing.wait_all_tasks_blocked()
            # Whatever was opened is idle, and once the transport is closed nothing is left.
            tasks = len(wire.nursery.child_tasks)
            assert tasks == (2 if is_secured else 1), step
            await transport.aclose()
            await trio.testing.wait_all_tasks_blocked()
            assert not wire.nursery.child_tasks
        if not scope.cancelled_caught:
            break
    assert step > 10


# --- What idle connections and live streams cost ----------------------------------------------------------------------


@contextmanager
def counting_calls() -> Iterator[Counter[str]]:
    """Count what the http module calls: work, on a machine of any speed."""
    home, calls = str(Path(_http.__file__).parent), Counter[str]()

    def profile(frame: FrameType, event: str, argument: object) -> None:
        if event in {"call", "c_call"} and frame.f_code.co_filename.startswith(home):
            calls[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        yield calls
    finally:
        sys.setprofile(before)


async def silent(peer: Any) -> None:
    """A live stream's answer: its head, and then nothing."""
    await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    await trio.sleep_forever()


async def test_a_request_costs_the_same_beside_500_live_streams_and_a_full_set(open_wire: Make, reply: Make) -> None:
    timeouts = {"timeout": {"connect": 5.0, "read": 60.0, "write": 60.0, "pool": None}}
    costs = []
    async with open_wire() as wire, AsyncExitStack() as streams:
        transport = Transport(open_stream=wire.open_stream)

        async def measured() -> None:
            wire.replies = [reply()]
            with counting_calls() as calls:
                await answer(transport, asks(extensions={IDEMPOTENT: True, **timeouts}))
            costs.append(calls)

        async def open_streams(count: int) -> None:
            wire.replies = [silent] * count
            for _ in range(count):
                response = await transport.handle_async_request(asks(extensions={OWN_CONNECTION: True, **timeouts}))
                streams.push_async_callback(response.aclose)

        await open_streams(1)
        wire.replies = [reply()]
        await answer(transport, asks(extensions=timeouts))
        await measured()
        await open_streams(499)
        assert wire.opened == 501
        await measured()
        wire.replies = [reply()] * MAX_IDLE_PER_ORIGIN
        responses = [await transport.handle_async_request(asks()) for _ in range(MAX_IDLE_PER_ORIGIN)]
        for response in responses:
            await response.aread()
        assert repr(transport) == f"<Transport: {MAX_IDLE_PER_ORIGIN} idle connections>"
        await measured()
        assert wire.opened == 500 + MAX_IDLE_PER_ORIGIN
    assert costs[0] == costs[1] == costs[2]


class Steps(trio.abc.Instrument):
    """Counts the steps of this task."""

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self._task


@pytest.mark.parametrize(("served", "steps"), [(serving, 2), (serving_tls, 5)])
async def test_a_small_request_on_an_idle_connection_takes_no_step_too_many(served: Make, steps: int) -> None:
    """One to send it and one to receive the answer; under TLS each takes two, and one finds that nothing is left."""

    async def talk(stream: trio.abc.Stream) -> None:
        while await read_head(stream):
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async with served(talk) as (transport, base):
        for _ in range(3):
            counted = Steps()
            trio.lowlevel.add_instrument(counted)
            assert await answer(transport, asks("POST", base=base, content=b"{}")) == (200, b"{}")
            trio.lowlevel.remove_instrument(counted)
        assert counted.count == steps


async def test_500_live_streams_do_not_hold_a_post_up() -> None:
    """On real sockets: the streams have a connection each, and all POSTs one between them."""
    kinds: Counter[str] = Counter()

    async def talk(stream: trio.SocketStream) -> None:
        kind = ""
        while head := await read_head(stream):
            if not kind:
                kind = head.split()[0].decode()
                kinds[kind] += 1
            if kind == "GET":
                await stream.send_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            else:
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    async with serving(talk) as (transport, base), AsyncExitStack() as streams:
        for _ in range(500):
            response = await transport.handle_async_request(asks(base=base, extensions={OWN_CONNECTION: True}))
            streams.push_async_callback(response.aclose)
        for _ in range(20):
            assert await answer(transport, asks("POST", base=base, content=b"{}")) == (200, b"{}")
        assert kinds == {"GET": 500, "POST": 1}
        assert repr(transport) == "<Transport: 1 idle connections>"


async def test_connections_over_the_bound_are_closed_the_oldest_first(open_wire: Make, reply: Make) -> None:
    closed = []

    async def notes(peer: Any) -> None:
        await peer.send(reply())
        if not await peer.more():
            closed.append(peer.number)

    surplus = 5
    async with open_wire() as wire:
        transport = Transport(open_stream=wire.open_stream)
        count = MAX_IDLE_PER_ORIGIN + surplus
        wire.replies = [notes] * count
        responses = [await transport.handle_async_request(asks()) for _ in range(count)]
        for number, response in enumerate(responses, 1):
            await response.aread()
            await trio.testing.wait_all_tasks_blocked()
            assert len(closed) == max(0, number - MAX_IDLE_PER_ORIGIN)
        assert closed == list(range(1, surplus + 1))
        await transport.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert sorted(closed) == list(range(1, count + 1))


async def test_a_closed_transport_keeps_nothing(open_wire: Make, reply: Make) -> None:
    """A response that was open when the transport was closed can be read, and its connection goes with it."""
    async with open_wire() as wire:
        wire.replies = [reply("late")]
        transport = Transport(open_stream=wire.open_stream)
        response = await transport.handle_async_request(asks())
        await transport.aclose()
        assert await response.aread() == b"late"
        await trio.testing.wait_all_tasks_blocked()
        assert not wire.nursery.child_tasks
