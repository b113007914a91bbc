"""The least of an HTTP server on plain asyncio protocols: what is measured is its client."""

from __future__ import annotations

import asyncio
import socket
import struct
from abc import abstractmethod
from collections.abc import Callable
from typing import Final

BACKLOG: Final = 8192
RESET: Final = struct.pack("ii", 1, 0)


def chunk(data: bytes) -> bytes:
    """Give a chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class HttpConnection(asyncio.Protocol):
    """A client's connection: requests one after the other, each answered at once."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._data = b""
        self._room = asyncio.Event()
        self._room.set()

    @abstractmethod
    def answer(self, method: str, target: str, body: bytes) -> None:
        """Answer a request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def pause_writing(self) -> None:
        """Hold up whoever waits for room."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Let them go on."""
        self._room.set()

    def data_received(self, data: bytes) -> None:
        """Take the requests that are complete."""
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[: end + 2].lower()
            at = head.find(b"\r\ncontent-length:")
            length = int(head[at + 17 : head.index(b"\r\n", at + 2)]) if at >= 0 else 0
            body_at = end + 4
            if len(self._data) < body_at + length:
                return
            method, target, _ = self._data[: self._data.index(b"\r\n")].decode("ascii").split(" ")
            body, self._data = self._data[body_at : body_at + length], self._data[body_at + length :]
            self.answer(method, target, body)

    def reply(self, body: bytes) -> None:
        """Answer with JSON."""
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(head + body)

    async def write_all(self, pieces: list[bytes]) -> None:
        """Write pieces one by one, as there is room."""
        for piece in pieces:
            self.transport.write(piece)
            await self._room.wait()

    def reset(self) -> None:
        """Reset the connection, as a router does that has forgotten it: its client is told no end."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.transport.abort()


async def serve(connect: Callable[[], HttpConnection]) -> None:
    """Serve until killed; say where, on the first line of the output."""
    listener = await asyncio.get_running_loop().create_server(connect, "127.0.0.1", 0, backlog=BACKLOG)
    print(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", flush=True)
    await listener.serve_forever()
