"""Files over real sockets: uploads and downloads in bounded memory, and what is left when they break off."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from managed_agents_actors import _errors as errors
from managed_agents_actors.claude import ClaudeClient

Make = Callable[..., Any]
MEGABYTE = 1024 * 1024


@asynccontextmanager
async def serving(serve: Callable[[trio.SocketStream], Any]) -> AsyncIterator[ClaudeClient]:
    """A client of a server on loopback that handles each connection with ``serve``."""
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        async with ClaudeClient("sk-secret", f"http://127.0.0.1:{listener.socket.getsockname()[1]}") as client:
            yield client
        nursery.cancel_scope.cancel()


async def test_a_large_upload_needs_little_memory_and_arrives_whole(tmp_path: Path, reply: Make) -> None:
    path = tmp_path / "big.bin"
    with path.open("wb") as file:
        file.truncate(50 * MEGABYTE)
    head, received = b"", 0

    async def serve(stream: trio.SocketStream) -> None:
        nonlocal head, received
        while b"\r\n\r\n" not in head:
            head += await stream.receive_some(1024)
        head, _, rest = head.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        received = len(rest)
        while received < length:
            received += len(await stream.receive_some(MEGABYTE))
        await stream.send_all(reply('{"id": "file_1"}'))

    async with serving(serve) as client:
        tracemalloc.start()
        try:
            assert await client.files.upload(path) == {"id": "file_1"}
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert 50 * MEGABYTE < received < 50 * MEGABYTE + 1024
    assert peak < 8 * MEGABYTE


async def test_the_form_of_an_upload(open_wire: Make, reply: Make, tmp_path: Path, client_of: Make) -> None:
    path = tmp_path / "report.CSV"
    path.write_bytes(b"a,b\r\n")
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [reply()] * 4
        await client.files.upload(path, purpose="agent", expires_in_seconds=3600)
        await client.files.upload(b"\x00", filename='a"\r\nb.dat')
        await client.files.upload(b"{}", filename="x", content_type="application/json")
        await client.files.upload(str(path), filename="other.png")
    first = wire.requests[0]
    kind, _, boundary = first.headers["content-type"].partition("; boundary=")
    assert (first.line, kind) == ("POST /v1/files HTTP/1.1", "multipart/form-data")
    assert first.body.decode() == (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nagent\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="expires_in_seconds"\r\n\r\n3600\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="report.CSV"\r\n'
        f"Content-Type: text/csv\r\n\r\na,b\r\n\r\n--{boundary}--\r\n"
    )
    parts = [request.body.split(b"\r\n")[1:3] for request in wire.requests[1:]]
    assert parts == [
        [
            b'Content-Disposition: form-data; name="file"; filename="a%22%0D%0Ab.dat"',
            b"Content-Type: application/octet-stream",
        ],
        [b'Content-Disposition: form-data; name="file"; filename="x"', b"Content-Type: application/json"],
        [b'Content-Disposition: form-data; name="file"; filename="other.png"', b"Content-Type: image/png"],
    ]


async def test_an_upload_that_was_not_taken_is_sent_again_from_the_start(
    open_wire: Make, reply: Make, client_of: Make
) -> None:
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [reply(status=429, headers=[("retry-after-ms", "1")]), reply('{"id": "f"}')]
        assert await client.files.upload(b"content", filename="x.txt") == {"id": "f"}
    assert wire.requests[0].body == wire.requests[1].body


async def test_an_upload_that_cannot_be_made_sends_nothing(open_wire: Make, client_of: Make, tmp_path: Path) -> None:
    async with open_wire() as wire, client_of(wire) as client:
        with pytest.raises(errors.ConfigurationError, match="filename="):
            await client.files.upload(b"x")
        with pytest.raises(errors.ConfigurationError, match="content_type"):
            await client.files.upload(b"x", filename="x", content_type="a\r\nb: c")
        with pytest.raises(FileNotFoundError):
            await client.files.upload(tmp_path / "absent")
    assert wire.opened == 0


async def test_an_upload_whose_server_takes_nothing_is_given_up(tmp_path: Path) -> None:
    path = tmp_path / "big.bin"
    with path.open("wb") as file:
        file.truncate(50 * MEGABYTE)
    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, deaf, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with ClaudeClient("sk-secret", url, timeout=0.2) as client:
            with pytest.raises(errors.TransportError, match=r"0\.2 s"):
                await client.files.upload(path)
        nursery.cancel_scope.cancel()


def names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]


async def deaf(stream: trio.SocketStream) -> None:
    await trio.sleep_forever()


async def test_a_download_into_memory_and_to_a_path(
    open_wire: Make, reply: Make, client_of: Make, tmp_path: Path
) -> None:
    path = tmp_path / "out.bin"
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [reply(b"\x00\xff"), reply(b"\x00\xff\x01")]
        assert await client.files.download("f") == b"\x00\xff"
        assert await client.files.download_to("f", path) == 3
    assert path.read_bytes() == b"\x00\xff\x01"
    assert wire.requests[0].line == "GET /v1/files/f/content HTTP/1.1"
    assert wire.requests[0].headers["anthropic-beta"] == "managed-agents-2026-04-01"
    assert names(tmp_path) == ["out.bin"]


async def test_a_download_that_breaks_off_leaves_what_was_there(
    open_wire: Make, reply: Make, client_of: Make, tmp_path: Path
) -> None:
    path = tmp_path / "out.bin"
    path.write_bytes(b"before")

    async def broken(peer: Any) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345")
        await peer.close()

    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [broken, broken, reply(b'{"error": "no"}', status=400)]
        with pytest.raises(errors.TruncatedStream):
            await client.files.download_to("f", path)
        with pytest.raises(errors.TruncatedStream):
            await client.files.download("f")
        with pytest.raises(errors.InvalidRequestError):
            await client.files.download_to("f", path)
    assert path.read_bytes() == b"before"
    assert names(tmp_path) == ["out.bin"]


async def test_a_cancelled_download_leaves_what_was_there(open_wire: Make, client_of: Make, tmp_path: Path) -> None:
    path = tmp_path / "out.bin"

    async def stalls(peer: Any) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345")
        await trio.sleep_forever()

    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [stalls]
        with trio.move_on_after(0.2) as scope:
            await client.files.download_to("f", path)
    assert scope.cancelled_caught
    assert names(tmp_path) == []
