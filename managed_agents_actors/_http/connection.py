"""One HTTP/1.1 connection over one trio stream: h11 decides, this file moves the bytes.

It carries one exchange at a time and never retries. Whatever interrupts an exchange, cancellation included, makes
the connection unfit for another one; its owner closes it with :meth:`Connection.close`, which never waits.
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import ssl
from collections.abc import AsyncGenerator
from typing import Final

import h11
import httpx
import trio

from .carrier import Carrier
from .messages import Request
from .silence import watch_over

__all__ = ["Connection"]

MAX_HEAD_BYTES: Final = 100 * 1024  # of one status line with its headers; real ones stay under 16 KiB
READ_BYTES: Final = 64 * 1024  # per read: large enough for bulk, small enough to hold one for each of 10 000 streams
ANSWER_SECONDS: Final = 5.0  # for each piece of an answer that came before the peer ceased to take the request


class Connection:
    """A client connection.

    Attributes:
        answered: Whether any byte of the current exchange's response has come.
        idle_since: When the last exchange ended, on trio's clock.
        patience: The shortest wait of the current exchange, in seconds; infinite if none of them is bounded.
        due: When the present wait is over, on trio's clock.
    """

    __slots__ = (
        "_can_send",
        "_carrier",
        "_gave_up",
        "_h11",
        "_is_sending",
        "_read_timeout",
        "_stream",
        "answered",
        "due",
        "idle_since",
        "patience",
    )

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._carrier: Carrier | None = None
        self._h11 = h11.Connection(our_role=h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._read_timeout: float | None = None
        self._can_send = True
        self._gave_up = self._is_sending = False
        self.answered = False
        self.idle_since = 0.0
        self.patience = self.due = math.inf

    async def start_tls(self, host: str, context: ssl.SSLContext) -> None:
        """Speak TLS from now on; if that fails, or is interrupted, the connection is closed."""
        self._carrier = Carrier(self._stream)
        secured = trio.SSLStream(self._carrier, context, server_hostname=host, https_compatible=True)
        self._stream = secured
        try:
            await secured.do_handshake()
        except BaseException:
            await self.close()
            raise

    async def exchange(self, request: Request) -> h11.Response:
        """Send a request and wait for the head of its response."""
        self.answered = False
        self._read_timeout, write = request.timeouts.read, request.timeouts.write
        self.patience = min(math.inf if each is None else each for each in (self._read_timeout, write))
        if self.patience < math.inf:
            watch_over().add(self)
        # A server may refuse early and close its reading side; its answer says more than our broken pipe.
        self._is_sending = True
        with contextlib.suppress(httpx.WriteError):
            await self._send(request, write)
        self._is_sending = False
        return await self._receive_head()

    async def receive_body(self) -> bytes:
        """Wait for the next bytes of the response's body; ``b""`` is its end."""
        event = await self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def finish(self) -> bool:
        """End the exchange; tell whether the connection can carry another one. Waits for nothing."""
        leftover, closed = self._h11.trailing_data
        is_over = self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE
        if not (is_over and self._can_send) or leftover or closed:
            return False
        if self._carrier is not None and not await self._carrier.is_used_up(self._stream):
            return False
        self._unwatch()
        self._h11.start_next_cycle()
        self.idle_since = trio.current_time()
        return True

    def is_quiet(self) -> bool | None:
        """Tell whether the idle connection is still silent; ``None`` if its stream has no socket to ask.

        An idle connection that has something to read has been closed by the server, or is out of step.
        """
        sock = self._socket
        return None if sock is None else not _is_readable(sock)

    async def close(self) -> None:
        """Close at once; safe in a cancelled scope."""
        self._unwatch()
        await _close_now(self._stream)

    async def give_up(self) -> None:
        """End the present wait: closing the stream wakes whoever waits for it.

        A peer that takes no more of a request may have answered it. Then only our half is closed, which ends the
        sending; the answer can still be read.
        """
        sock = self._socket
        if self._is_sending and self._can_send and sock is not None and _is_readable(sock):
            self._can_send = False
            with contextlib.suppress(OSError):  # the peer has just left
                sock.shutdown(socket.SHUT_WR)
            self._read_timeout = self.patience = min(self.patience, ANSWER_SECONDS)
            self.due = trio.current_time() + self.patience
            watch_over().add(self)
        else:
            self._gave_up = True
            await _close_now(self._stream)

    @property
    def _socket(self) -> trio.socket.SocketType | None:
        stream = self._stream if self._carrier is None else self._carrier.stream
        return stream.socket if isinstance(stream, trio.SocketStream) else None

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
                pieces = body.__aiter__()
                try:
                    async for piece in pieces:
                        await self._write(data or b"", timeout)
                        data = self._h11.send(h11.Data(data=piece))
                finally:
                    if isinstance(pieces, AsyncGenerator):
                        await pieces.aclose()
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
            if self._carrier is not None:
                self._carrier.check()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._can_send = False
            if self._gave_up:
                raise httpx.WriteTimeout(f"the server took no data for {timeout:g} s") from exc
            raise httpx.WriteError("the connection broke while sending") from exc
        finally:
            self.due = math.inf


async def _close_now(resource: trio.abc.AsyncResource) -> None:
    """Close a stream without any farewell: never waits, and closes in a cancelled scope too."""
    with trio.CancelScope(shield=True):
        await trio.aclose_forcefully(resource)


def _is_readable(sock: trio.socket.SocketType) -> bool:
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock.fileno(), select.POLLIN)
        return bool(poll.poll(0))
    return bool(select.select([sock.fileno()], [], [], 0)[0])  # Windows, where select has no limit on the descriptor
