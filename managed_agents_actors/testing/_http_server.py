"""A small HTTP/1.1 server over trio streams, for tests: it can lose an answer, end a body early and tear a connection.

It serves loopback sockets and in-memory streams with the same code, so a scenario runs in real or in virtual time. It
knows no API: one handler decides every answer. A failing handler is answered with 500, and its failure is raised when
the server closes.
"""

from __future__ import annotations

import json as jsonlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count, cycle
from typing import Any, Literal, TypeAlias, get_args

import h11  # comes with httpx (through httpcore), a dependency of this library
import trio
import trio.testing

from ._background import Background, open_background
from ._given import require_one_of
from ._http_messages import RecordedRequest, Request

__all__ = [
    "Handler",
    "HttpServer",
    "Responder",
    "StreamResponse",
    "TransportName",
    "open_http_server",
    "require_transport",
]

TransportName: TypeAlias = Literal["loopback", "memory"]

# Twice the provider's limit for a JSON body (32 MB), so that the limit itself can be tested.
MAX_BODY_BYTES = 64 * 1024 * 1024
# Request line and headers: four times what common servers accept.
MAX_HEAD_BYTES = 64 * 1024
# One socket read; larger reads gain nothing on loopback.
READ_BYTES = 64 * 1024
# The wire log of a long benchmark stays within tens of megabytes.
MAX_RECORDED_REQUESTS = 100_000

# What a process remembers of one server, such as what was provisioned there, is not to be taken for another's.
_NUMBERS = count(1)


class PeerGone(Exception):
    """The client closed the connection while it was being answered: not a defect."""


class HttpServer:
    """A running server.

    Attributes:
        transport: ``"loopback"`` or ``"memory"``.
        base_url: Where it is reached; ``http://simulator.test`` for the in-memory transport.
        own_url: The same, but of the in-memory transport with a number, which no other server of this process has.
        background: Where it runs its connections; whatever else belongs to the server may run there too.
    """

    def __init__(self, handler: Handler, background: Background, transport: TransportName) -> None:
        self.transport = transport
        self.base_url = "http://simulator.test"
        self.own_url = f"http://simulator-{next(_NUMBERS)}.test"
        self.background = background
        self._handler = handler
        self._records: dict[int, RecordedRequest] = {}
        self._heard = 0

    @property
    def requests(self) -> tuple[RecordedRequest, ...]:
        """The requests read so far, in order of arrival."""
        return tuple(self._records.values())

    async def open_memory_stream(self, host: str, port: int) -> trio.abc.Stream:  # noqa: ARG002 - the form of a dialler
        """Connect in memory: returns the client's end. Waits for one scheduling round."""
        await trio.lowlevel.checkpoint()  # first: cancelled later, nobody would close the client's end
        client, server = trio.testing.memory_stream_pair()
        self.background.start_soon(self.serve, server)
        return client

    async def serve_guarded(self, stream: trio.abc.Stream) -> None:
        """Serve one connection; its failure is kept for the end, and the listener goes on."""
        await self.background.run(self.serve, stream)

    async def serve(self, stream: trio.abc.Stream) -> None:
        """Serve one connection until it ends."""
        connection = _Connection(self, stream)
        try:
            while (request := await connection.read_request()) is not None:
                await self._answer(request, connection)
                if not connection.start_next_cycle():
                    return
        except (PeerGone, trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            await trio.aclose_forcefully(stream)

    async def _answer(self, request: Request, connection: _Connection) -> None:
        self._heard += 1
        number = self._heard
        self._records[number] = RecordedRequest.of(request, at=trio.current_time())
        if len(self._records) > MAX_RECORDED_REQUESTS:
            del self._records[next(iter(self._records))]
        responder = Responder(connection, lambda status: self._note(number, status))
        try:
            with connection.peer_scope:
                await self._handler(request, responder)
                responder.require_answer(request)
        except Exception:
            await responder.give_up()
            raise
        finally:
            await connection.stop_watching()

    def _note(self, number: int, status: int) -> None:
        if number in self._records:
            self._records[number] = replace(self._records[number], status=status)


class _Connection:
    """One connection: the HTTP parser, the stream under it and the watch for the peer's leaving."""

    def __init__(self, server: HttpServer, stream: trio.abc.Stream) -> None:
        self._background = server.background
        self._stream = stream
        self._wire = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._pieces: tuple[Iterator[int], float] | None = None
        self.peer_scope = trio.CancelScope()
        self._watch_scope: trio.CancelScope | None = None
        self._watch_over = trio.Event()

    async def read_request(self) -> Request | None:
        """The next request, whole; ``None`` when the peer has closed or sent what is not HTTP."""
        try:
            head = await self._next_event()
            if not isinstance(head, h11.Request):
                return None
            body = bytearray()
            while isinstance(part := await self._next_event(), h11.Data):
                body += part.data
                if len(body) > MAX_BODY_BYTES:
                    await self.write(*_whole(413, b"the body is over the limit", {"connection": "close"}))
                    return None
        except h11.RemoteProtocolError as exc:
            if self._wire.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
                await self.write(*_whole(exc.error_status_hint, str(exc).encode(), {"connection": "close"}))
            return None
        headers = [(bytes(name), bytes(value)) for name, value in head.headers]
        return Request.parse(method=head.method, target=head.target, headers=headers, body=bytes(body))

    async def _next_event(self) -> Any:
        while (event := self._wire.next_event()) is h11.NEED_DATA:
            if self._wire.they_are_waiting_for_100_continue:
                await self.write(h11.InformationalResponse(status_code=100, headers=[]))
            self._wire.receive_data(bytes(await self._stream.receive_some(READ_BYTES)))
        return event

    async def write(self, *events: h11.Event) -> None:
        """Send HTTP events in one write, or in the pieces that were asked for."""
        data = b"".join(self._wire.send(event) or b"" for event in events)
        try:
            if self._pieces is None:
                await self._stream.send_all(data)
            else:
                await self._write_pieces(memoryview(data), *self._pieces)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise PeerGone from exc

    async def _write_pieces(self, data: memoryview, sizes: Iterator[int], pause: float) -> None:
        while data:
            size = next(sizes)
            await self._stream.send_all(data[:size])
            await trio.sleep(pause)
            data = data[size:]

    def split(self, sizes: Sequence[int], pause: float) -> None:
        """Write what answers the present request in pieces of these sizes, over and over, with a pause after each."""
        self._pieces = cycle(sizes), pause

    def start_next_cycle(self) -> bool:
        """Make ready for another request; false when the connection cannot carry one."""
        if self._wire.our_state is not h11.DONE or self._wire.their_state is not h11.DONE:
            return False
        self._wire.start_next_cycle()
        self._pieces = None
        self.peer_scope = trio.CancelScope()
        return True

    def watch_peer(self) -> None:
        """Cancel the running handler when the peer closes: a quiet stream would not notice otherwise."""
        self._watch_scope, self._watch_over = trio.CancelScope(), trio.Event()
        self._background.start_soon(self._watch, self._watch_scope, self._watch_over)

    async def _watch(self, scope: trio.CancelScope, over: trio.Event) -> None:
        try:
            with scope:
                if data := await self._stream.receive_some(READ_BYTES):
                    # A pipelined request: it is kept, and the watch ends, so that no more than one read is buffered.
                    self._wire.receive_data(bytes(data))
                else:
                    self.peer_scope.cancel()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.peer_scope.cancel()
        finally:
            over.set()

    async def stop_watching(self) -> None:
        """Give the stream's reading side back; waits for the watch to end, which it does at once."""
        if self._watch_scope is not None:
            self._watch_scope.cancel()
            with trio.CancelScope(shield=True):  # bounded: the watch was just cancelled and never shields
                await self._watch_over.wait()
            self._watch_scope = None

    async def close(self, *, torn: bool) -> None:
        """Close the connection; torn, a socket's peer sees a reset instead of an end."""
        if torn and isinstance(self._stream, trio.SocketStream):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._wire.send_failed()
        await trio.aclose_forcefully(self._stream)


class Responder:
    """Answers one request, once."""

    def __init__(self, connection: _Connection, note: Callable[[int], None]) -> None:
        self._connection = connection
        self._note = note
        self._stream: StreamResponse | None = None
        self.answered = False

    async def json(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Answer with a JSON body."""
        encoded = jsonlib.dumps(body, separators=(",", ":")).encode()
        await self.bytes(status, encoded, {"content-type": "application/json", **(headers or {})})

    async def truncated(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, after_bytes: int
    ) -> None:
        """Announce the whole body, send so many bytes of it and close the connection."""
        self._claim()
        self._note(status)
        head, data, _ = _whole(status, body, headers)
        await self._connection.write(head, h11.Data(data=data.data[:after_bytes]))
        await self._connection.close(torn=False)

    async def bytes(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Answer with a whole body."""
        self._claim()
        self._note(status)
        await self._connection.write(*_whole(status, body, headers))

    def split(self, sizes: Sequence[int], pause: float) -> None:
        """Let whatever answers this request go out in pieces of these sizes, over and over, with a pause after each."""
        self._connection.split(sizes, pause)

    async def start_stream(self, headers: Mapping[str, str] | None = None, *, status: int = 200) -> StreamResponse:
        """Send the head of a chunked response; the handler is cancelled when the peer leaves."""
        self._claim()
        self._note(status)
        await self._connection.write(h11.Response(status_code=status, headers=_encode(headers)))
        self._connection.watch_peer()
        self._stream = StreamResponse(self._connection)
        return self._stream

    async def lose(self) -> None:
        """Close the connection without an answer, as if it were lost after the request was acted on."""
        self._claim()
        await self._connection.close(torn=False)

    def require_answer(self, request: Request) -> None:
        """The handler is done: it must have answered."""
        if not self.answered:
            raise RuntimeError(f"the handler did not answer {request.method} {request.path}")

    async def give_up(self) -> None:
        """The handler failed: answer 500 if nothing was sent yet, else tear the connection."""
        if not self.answered:
            with suppress(PeerGone):
                await self.bytes(500, b"the handler of the server under test failed")
        else:
            await self._connection.close(torn=True)

    def _claim(self) -> None:
        if self.answered:
            raise RuntimeError("the request was answered already")
        self.answered = True


class StreamResponse:
    """The body of a response that is sent in pieces. Ends by :meth:`end` or :meth:`reset`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def send(self, data: bytes) -> None:
        """Send one piece."""
        await self._connection.write(h11.Data(data=data))

    async def end(self) -> None:
        """End the body cleanly; the connection stays usable."""
        await self._connection.write(h11.EndOfMessage())

    async def reset(self) -> None:
        """Tear the connection: the peer sees a reset (loopback) or an end in mid-body (memory)."""
        await self._connection.close(torn=True)


Handler: TypeAlias = Callable[[Request, Responder], Awaitable[None]]


def require_transport(name: object) -> None:
    """Let the name of a transport pass.

    Raises:
        ConfigurationError: There is no such transport.
    """
    require_one_of("transport=", name, get_args(TransportName))


@asynccontextmanager
async def open_http_server(handler: Handler, *, transport: TransportName = "loopback") -> AsyncIterator[HttpServer]:
    """Serve ``handler`` until the block is left.

    Args:
        handler: Called for every request, once it was read whole.
        transport: ``"loopback"`` listens on a free port of 127.0.0.1; ``"memory"`` takes connections from
            :meth:`HttpServer.open_memory_stream` only.

    Raises:
        BaseExceptionGroup: On leaving, if a handler failed; holds the failures.
    """
    async with open_background() as background:
        server = HttpServer(handler, background, transport)
        if transport == "loopback":
            listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
            server.base_url = server.own_url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            background.start_soon(trio.serve_listeners, server.serve_guarded, listeners)
        yield server


def _whole(
    status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> tuple[h11.Response, h11.Data, h11.EndOfMessage]:
    head = _encode({**(headers or {}), "content-length": str(len(body))})
    return h11.Response(status_code=status, headers=head), h11.Data(data=body), h11.EndOfMessage()


def _encode(headers: Mapping[str, str] | None) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (headers or {}).items()]
