"""One HTTP/1.1 connection over one trio stream: h11 decides, this file moves the bytes.

It carries one exchange at a time and never retries. Whatever interrupts an exchange, cancellation included, makes
the connection unfit for another one; its owner closes it with :meth:`Connection.close`, which never waits.
"""

from __future__ import annotations

import contextlib
import math
import select
from typing import Final

import h11
import httpx
import trio

from .messages import Request
from .silence import watch_over

__all__ = ["Connection", "close_now"]

MAX_HEAD_BYTES: Final = 100 * 1024  # of one status line with its headers; real ones stay under 16 KiB
READ_BYTES: Final = 64 * 1024  # per read: large enough for bulk, small enough to hold one for each of 10 000 streams


class Connection:
    """A client connection.

    Attributes:
        answered: Whether any byte of the current exchange's response has come.
        idle_since: When the last exchange ended, on trio's clock.
        patience: The shortest wait of the current exchange, in seconds; infinite if none of them is bounded.
        due: When the present wait is over, on trio's clock.
    """

    __slots__ = ("_gave_up", "_h11", "_read_timeout", "_stream", "answered", "due", "idle_since", "patience")

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._h11 = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._read_timeout: float | None = None
        self._gave_up = False
        self.answered = False
        self.idle_since = 0.0
        self.patience = self.due = math.inf

    async def exchange(self, request: Request) -> h11.Response:
        """Send a request and wait for the head of its response."""
        self.answered = False
        self._read_timeout, write = request.timeouts.read, request.timeouts.write
        self.patience = min(math.inf if each is None else each for each in (self._read_timeout, write))
        if self.patience < math.inf:
            watch_over().add(self)
        # A server may refuse early and close its reading side; its answer says more than our broken pipe.
        with contextlib.suppress(httpx.WriteError):
            await self._send(request, write)
        return await self._receive_head()

    async def receive_body(self) -> bytes:
        """Wait for the next bytes of the response's body; ``b""`` is its end."""
        event = await self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    def finish(self) -> bool:
        """End the exchange; tell whether the connection can carry another one."""
        leftover, closed = self._h11.trailing_data
        if leftover or closed or self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        self._unwatch()
        self._h11.start_next_cycle()
        self.idle_since = trio.current_time()
        return True

    def is_quiet(self) -> bool | None:
        """Tell whether the idle connection is still silent; ``None`` if its stream has no socket to ask.

        An idle connection that has something to read has been closed by the server, or is out of step.
        """
        stream = self._stream
        if isinstance(stream, trio.SSLStream):
            stream = stream.transport_stream
        return not _is_readable(stream.socket) if isinstance(stream, trio.SocketStream) else None

    async def close(self) -> None:
        """Close at once; safe in a cancelled scope."""
        self._unwatch()
        await close_now(self._stream)

    async def give_up(self) -> None:
        """End the present wait: closing the stream wakes whoever waits for it."""
        self._gave_up = True
        await close_now(self._stream)

    def _unwatch(self) -> None:
        if self.patience < math.inf:
            watch_over().discard(self)

    async def _send(self, request: Request, timeout: float | None) -> None:
        body = request.body
        try:
            data = self._h11.send(h11.Request(method=request.method, target=request.target, headers=request.headers))
            if isinstance(body, bytes) and body:
                data = (data or b"") + (self._h11.send(h11.Data(data=body)) or b"")
            elif body is not None and not isinstance(body, bytes):
                async for piece in body:
                    await self._write(data or b"", timeout)
                    data = self._h11.send(h11.Data(data=piece))
            await self._write((data or b"") + (self._h11.send(h11.EndOfMessage()) or b""), timeout)
        except h11.LocalProtocolError as exc:
            # h11's text quotes header values, a credential among them; it stays out of the message.
            raise httpx.LocalProtocolError("the request is not valid HTTP/1.1") from exc

    async def _receive_head(self) -> h11.Response:
        while True:
            event = await self._next_event()
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise httpx.RemoteProtocolError("the server changed protocols unasked")

    async def _next_event(self) -> h11.Event | type[h11.PAUSED]:
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as exc:
                raise httpx.RemoteProtocolError(str(exc)) from exc
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value]  # mypy does not narrow h11's sentinel classes
            data = await self._read()
            if not data and not self.answered:
                raise httpx.ReadError("the server closed the connection without answering")
            self.answered = True
            self._h11.receive_data(data)

    async def _read(self) -> bytes:
        timeout = self._read_timeout
        if timeout is not None:
            self.due = trio.current_time() + timeout
        try:
            return bytes(await self._stream.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            if self._gave_up:
                raise httpx.ReadTimeout(f"nothing was received for {timeout:g} s") from exc
            raise httpx.ReadError("the connection broke while receiving") from exc
        finally:
            self.due = math.inf

    async def _write(self, data: bytes, timeout: float | None) -> None:
        if timeout is not None:
            self.due = trio.current_time() + timeout
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            if self._gave_up:
                raise httpx.WriteTimeout(f"the server took no data for {timeout:g} s") from exc
            raise httpx.WriteError("the connection broke while sending") from exc
        finally:
            self.due = math.inf


async def close_now(resource: trio.abc.AsyncResource) -> None:
    """Close a stream without any farewell: never waits, and closes in a cancelled scope too."""
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(resource)


def _is_readable(sock: trio.socket.SocketType) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock.fileno()], [], [], 0)[0])  # Windows, where select has no limit on the descriptor
