"""What the bytes of a response mean, and whether its connection is fit for another request.

The server is bytes over in-memory streams. The edge cases are those that h11 and httpcore document, and those in which
RFC 9112 lets a client choose; what this transport chooses is written down here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import httpx
import pytest
import trio
import trio.testing

from managed_agents_actors._http.transport import Transport

from ._asking import answer, asks

Make = Callable[..., Any]

MOST_HEAD_BYTES = 100 * 1024
OK = b"HTTP/1.1 200 OK\r\n"
FIVE = b"content-length: 5\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n"
END = b"\r\n"
# For what never ends by itself: time is virtual where this is used, so that a test waits for nothing and cannot hang.
PATIENT = {"timeout": {"connect": 5.0, "read": 10.0, "write": 10.0, "pool": None}}


class Means(NamedTuple):
    """Bytes that are a response, and what it says.

    Attributes:
        wire: The bytes.
        body: The body they carry.
        kept: Whether the connection may be used again.
        status: The status.
        ends: Whether the server closes after them.
        method: What was asked.
    """

    wire: bytes
    body: bytes
    kept: bool = True
    status: int = 200
    ends: bool = False
    method: str = "GET"


RESPONSES = {
    # Framing
    "content length": Means(OK + FIVE + END + b"hello", b"hello"),
    "no content": Means(OK + b"content-length: 0\r\n" + END, b""),
    "the same length twice": Means(OK + FIVE + FIVE + END + b"hello", b"hello"),
    "the same length in one line": Means(OK + b"content-length: 5, 5\r\n" + END + b"hello", b"hello"),
    "one chunk": Means(OK + CHUNKED + END + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    "chunks": Means(OK + CHUNKED + END + b"2\r\nhe\r\n1\r\nl\r\n02\r\nlo\r\n000\r\n\r\n", b"hello"),
    "a long chunk in hexadecimal": Means(OK + CHUNKED + END + b"1A\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n", b"x" * 26),
    "a chunk that looks like the end": Means(OK + CHUNKED + END + b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n"),
    "chunk extensions": Means(OK + CHUNKED + END + b'5;a;b=c;d="e f"\r\nhello\r\n0;last\r\n\r\n', b"hello"),
    "spaces after a chunk's size": Means(OK + CHUNKED + END + b"5  \r\nhello\r\n0\r\n\r\n", b"hello"),
    "trailers": Means(OK + CHUNKED + END + b"5\r\nhello\r\n0\r\nx-sum: 1\r\nx-more: 2\r\n\r\n", b"hello"),
    "chunks in other letters": Means(
        OK + b"Transfer-Encoding: Chunked\r\n" + END + b"5\r\nhello\r\n0\r\n\r\n", b"hello"
    ),
    "chunks win over a length": Means(
        OK + b"content-length: 3\r\n" + CHUNKED + END + b"5\r\nhello\r\n0\r\n\r\n", b"hello"
    ),
    "until the server closes": Means(OK + END + b"hello", b"hello", kept=False, ends=True),
    "nothing until the server closes": Means(OK + END, b"", kept=False, ends=True),
    # No body, whatever the head says
    "HEAD with a length": Means(OK + FIVE + END, b"", method="HEAD"),
    "HEAD with chunks": Means(OK + CHUNKED + END, b"", method="HEAD"),
    "HEAD with neither": Means(OK + END, b"", method="HEAD"),
    "204": Means(b"HTTP/1.1 204 No Content\r\n\r\n", b"", status=204),
    "204 with a length": Means(b"HTTP/1.1 204 No Content\r\n" + FIVE + END, b"", status=204),
    "304 with the length it would have": Means(b"HTTP/1.1 304 Not Modified\r\n" + FIVE + END, b"", status=304),
    "304 with the chunks it would have": Means(b"HTTP/1.1 304 Not Modified\r\n" + CHUNKED + END, b"", status=304),
    # Staying and leaving
    "connection: close": Means(OK + b"connection: close\r\n" + FIVE + END + b"hello", b"hello", kept=False),
    "close among others": Means(OK + b"Connection: x, Close\r\n" + FIVE + END + b"hello", b"hello", kept=False),
    "close with chunks": Means(OK + b"connection: close\r\n" + CHUNKED + END + b"0\r\n\r\n", b"", kept=False),
    "HTTP/1.0": Means(b"HTTP/1.0 200 OK\r\n" + FIVE + END + b"hello", b"hello", kept=False),
    "HTTP/1.0 with keep-alive": Means(
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n" + FIVE + END + b"hello", b"hello", kept=False
    ),
    "HTTP/1.0 until the server closes": Means(b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello", kept=False, ends=True),
    # Before the final response
    "100": Means(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + FIVE + END + b"hello", b"hello"),
    "several informational ones": Means(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"
        b"HTTP/1.1 103 Early Hints\r\nlink: </b>\r\n\r\n" + OK + FIVE + END + b"hello",
        b"hello",
    ),
    "100 before a refusal": Means(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 417 Expectation Failed\r\n" + FIVE + END + b"hello",
        b"hello",
        status=417,
    ),
    # The head's form
    "an empty reason": Means(b"HTTP/1.1 200 \r\n" + FIVE + END + b"hello", b"hello"),
    "no reason and no space for it": Means(b"HTTP/1.1 200\r\n" + FIVE + END + b"hello", b"hello"),
    "a reason in Latin-1": Means(b"HTTP/1.1 200 D\xe9j\xe0 vu\r\n" + FIVE + END + b"hello", b"hello"),
    "an unknown status": Means(b"HTTP/1.1 799 Odd\r\n" + FIVE + END + b"hello", b"hello", status=799),
    "a folded header": Means(OK + b"x-folded: one\r\n  two\r\n\tthree\r\n" + FIVE + END + b"hello", b"hello"),
    "bare line feeds": Means(b"HTTP/1.1 200 OK\ncontent-length: 5\n\nhello", b"hello"),
    "blanks around a value": Means(OK + b"content-length: \t 5 \t\r\n" + END + b"hello", b"hello"),
    "an empty value": Means(OK + b"x-empty:\r\n" + FIVE + END + b"hello", b"hello"),
    "a value in Latin-1": Means(OK + b"x-name: caf\xe9\r\n" + FIVE + END + b"hello", b"hello"),
}

BROKEN = {
    # Status lines
    "no HTTP": b"220 mail.test ESMTP\r\n\r\n",
    "another protocol's answer": b"ICY 200 OK\r\n\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x28\r\n\r\n",
    "HTTP/2": b"HTTP/2 200 OK\r\n\r\n",
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "no digits": b"HTTP/1.1 OK\r\n\r\n",
    "a sign": b"HTTP/1.1 +200 OK\r\n\r\n",
    "digits of another script": "HTTP/1.1 \uff12\uff10\uff10 OK\r\n\r\n".encode(),
    "an empty line first": b"\r\n" + OK + FIVE + END + b"hello",
    "NUL in the reason": b"HTTP/1.1 200 O\x00K\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\nhost: api.test\r\n\r\n",
    # Headers
    "NUL in a value": OK + b"x-nul: a\x00b\r\n" + FIVE + END + b"hello",
    "NUL in a name": OK + b"x\x00nul: a\r\n" + FIVE + END + b"hello",
    "a bare carriage return in a value": OK + b"x-cr: a\rb\r\n" + FIVE + END + b"hello",
    "a blank before the colon": OK + b"content-length : 5\r\n" + END + b"hello",
    "no colon": OK + b"content-length 5\r\n" + END + b"hello",
    "no name": OK + b": 5\r\n" + END + b"hello",
    "a fold that continues nothing": OK + b" folded\r\n" + FIVE + END + b"hello",
    # Lengths
    "two lengths": OK + FIVE + b"content-length: 6\r\n" + END + b"hello!",
    "two lengths in one line": OK + b"content-length: 5, 6\r\n" + END + b"hello!",
    "a negative length": OK + b"content-length: -5\r\n" + END,
    "a signed length": OK + b"content-length: +5\r\n" + END + b"hello",
    "a hexadecimal length": OK + b"content-length: 0x5\r\n" + END + b"hello",
    "a length with an underscore": OK + b"content-length: 1_0\r\n" + END + b"helloworld",
    "a length of many digits": OK + b"content-length: " + b"9" * 40 + b"\r\n" + END,
    # Encodings
    "an unknown transfer encoding": OK + b"transfer-encoding: gzip\r\n" + END,
    "more than chunks": OK + b"transfer-encoding: gzip, chunked\r\n" + END + b"0\r\n\r\n",
    "chunks twice": OK + CHUNKED + CHUNKED + END + b"0\r\n\r\n",
    # Chunks
    "no size": OK + CHUNKED + END + b"\r\nhello\r\n0\r\n\r\n",
    "a size that is none": OK + CHUNKED + END + b"xyz\r\nhello\r\n0\r\n\r\n",
    "a prefixed size": OK + CHUNKED + END + b"0x5\r\nhello\r\n0\r\n\r\n",
    "a signed size": OK + CHUNKED + END + b"+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": OK + CHUNKED + END + b"-5\r\nhello\r\n0\r\n\r\n",
    "a size of too many digits": OK + CHUNKED + END + b"f" * 40 + b"\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than its size": OK + CHUNKED + END + b"4\r\nhello\r\n0\r\n\r\n",
    "a broken trailer": OK + CHUNKED + END + b"5\r\nhello\r\n0\r\nno trailer\r\n\r\n",
    "a chunk extension without an end": OK + CHUNKED + END + b"5;" + b"a" * MOST_HEAD_BYTES,
    "trailers without an end": OK + CHUNKED + END + b"0\r\n" + b"x: y\r\n" * (MOST_HEAD_BYTES // 6 + 1),
    # Changes of protocol
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    "101 after 100": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\n\r\n",
}

CUT_SHORT = {
    "a length": OK + FIVE + END + b"hello",
    "chunks": OK + CHUNKED + END + b"2;x\r\nhe\r\n3\r\nllo\r\n0\r\nx-sum: 1\r\n\r\n",
    "after 100": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + FIVE + END + b"hello",
}


def says(pieces: Iterable[bytes], *, ends: bool = False, pause: float = 0.0) -> Any:
    """A reply in pieces, each of which is taken before the next one comes."""

    async def reply(peer: Any) -> None:
        for piece in pieces:
            await peer.send(piece)
            await trio.testing.wait_all_tasks_blocked()
            await trio.sleep(pause)
        if ends:
            await peer.close()

    return reply


def in_two(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((data[:at], data[at:]) for at in range(1, len(data)))


def in_bytes(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


# --- What is understood -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("means", RESPONSES.values(), ids=RESPONSES)
async def test_a_response_says_the_same_however_it_is_cut(means: Means, open_wire: Make, reply: Make) -> None:
    cuts = [[means.wire], in_bytes(means.wire), *in_two(means.wire)]
    async with open_wire() as wire:
        transport = Transport(open_stream=wire.open_stream)
        for opened, pieces in enumerate(cuts, 1):
            wire.replies = [says(pieces, ends=means.ends)]
            assert await answer(transport, asks(means.method)) == (means.status, means.body), pieces
            assert wire.opened == (1 if means.kept else opened), pieces
        wire.replies = [reply("next")]
        assert await answer(transport, asks()) == (200, b"next")
    assert wire.opened == (1 if means.kept else len(cuts) + 1)


async def test_a_folded_header_is_one_value_and_repeated_ones_stay_apart(open_wire: Make) -> None:
    head = OK + b"X-Folded: one\r\n  two\r\n\tthree\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n" + FIVE + END
    async with open_wire() as wire:
        wire.replies = [head + b"hello"]
        response = await Transport(open_stream=wire.open_stream).handle_async_request(asks())
        await response.aclose()
    assert response.headers["x-folded"] == "one two three"
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]


async def test_a_chunk_of_a_megabyte_in_pieces_of_every_size(open_wire: Make) -> None:
    body = bytes(range(256)) * 4096
    sizes = [*range(1, 1000), 65536, 65537, len(body)]
    chunked, start = OK + CHUNKED + END, 0
    for size in sizes:
        data = body[start : start + size]
        chunked += b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        start += size
    async with open_wire() as wire:
        wire.replies = [chunked + b"0\r\n\r\n"]
        assert await answer(Transport(open_stream=wire.open_stream), asks()) == (200, body)


# --- What is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire_bytes", BROKEN.values(), ids=BROKEN)
async def test_what_is_no_http_is_refused_and_its_connection_dropped(
    wire_bytes: bytes, open_wire: Make, reply: Make, autojump_clock: Any
) -> None:
    cuts: list[Iterable[bytes]] = [[wire_bytes]]
    if len(wire_bytes) < 1000:
        cuts.append(in_bytes(wire_bytes))
    for pieces in cuts:
        async with open_wire() as wire:
            wire.replies = [says(pieces), reply("next")]
            transport = Transport(open_stream=wire.open_stream)
            with pytest.raises(httpx.RemoteProtocolError):
                await answer(transport, asks(extensions=PATIENT))
            assert len(wire.requests) == 1  # nothing is sent again: the server did answer
            assert await answer(transport, asks()) == (200, b"next")
        assert wire.opened == 2


async def test_a_change_of_protocol_is_refused_even_if_the_request_asked_for_it(open_wire: Make, reply: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [BROKEN["101 unasked"] + b"\x81\x05hello", reply("next")]
        transport = Transport(open_stream=wire.open_stream)
        with pytest.raises(httpx.RemoteProtocolError, match="protocol"):
            await answer(transport, asks(headers={"connection": "upgrade", "upgrade": "websocket"}))
        assert await answer(transport, asks()) == (200, b"next")
    assert wire.opened == 2


@pytest.mark.parametrize("whole", CUT_SHORT.values(), ids=CUT_SHORT)
async def test_a_response_that_ends_anywhere_too_early_is_never_taken_for_a_whole_one(
    whole: bytes, open_wire: Make, reply: Make
) -> None:
    for length in range(len(whole)):
        async with open_wire() as wire:
            wire.replies = [says([whole[:length]], ends=True), reply("next")]
            transport = Transport(open_stream=wire.open_stream)
            with pytest.raises(httpx.RemoteProtocolError if length else httpx.ReadError):
                await answer(transport, asks())
            assert await answer(transport, asks()) == (200, b"next")
        assert (wire.opened, len(wire.requests)) == (2, 2)


@pytest.mark.parametrize(
    "headers",
    [
        [("x-split", "secret\r\nx-injected: b")],
        [("x-nul", "secret\x00")],
        [("x bad", "secret")],
        [("content-length", "secret")],
    ],
    ids=["a line break", "NUL", "a blank in a name", "a length that is none"],
)
async def test_a_request_that_is_no_http_is_not_sent(
    headers: list[tuple[str, str]], open_wire: Make, reply: Make
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply("next")]
        transport = Transport(open_stream=wire.open_stream)
        with pytest.raises(httpx.LocalProtocolError) as caught:
            await answer(transport, asks(headers=headers))
        assert "secret" not in str(caught.value)  # a credential is sent as a header
        assert await answer(transport, asks()) == (200, b"next")
    assert len(wire.requests) == 1


@pytest.mark.parametrize("said", [b"abc", b"abcdefg"], ids=["too little", "too much"])
async def test_a_request_whose_body_is_not_as_long_as_it_says_is_an_error(
    said: bytes, open_wire: Make, reply: Make
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply("wrong"), reply("next")]
        transport = Transport(open_stream=wire.open_stream)
        with pytest.raises(httpx.LocalProtocolError):
            await answer(transport, asks("POST", content=said, headers={"content-length": "5"}))
        wire.replies = [reply("next")]
        assert await answer(transport, asks()) == (200, b"next")
    assert wire.opened == 2


# --- How much is read -------------------------------------------------------------------------------------------------


def padded(start: bytes, size: int, *, line: int) -> bytes:
    """A head of so many bytes, its padding in header lines of ``line`` bytes."""
    head = bytearray(start)
    while (missing := size - len(head) - len(END)) > 0:
        take = missing if missing < 2 * line else line
        head += b"x: " + b"y" * (take - 5) + b"\r\n"
    return bytes(head + END)


@pytest.mark.parametrize("line", [10, 1000, MOST_HEAD_BYTES], ids=["many short lines", "long lines", "one huge line"])
async def test_a_head_may_be_of_100_kib_and_no_more(line: int, open_wire: Make, autojump_clock: Any) -> None:
    for size, is_taken in ((MOST_HEAD_BYTES, True), (MOST_HEAD_BYTES + 2, False)):
        head = padded(OK + FIVE, size, line=line)
        assert len(head) == size
        async with open_wire() as wire:
            # The last byte comes by itself: until then the head is not complete, however much is read at once.
            wire.replies = [says([head[:-1], head[-1:] + b"hello"])]
            transport = Transport(open_stream=wire.open_stream)
            if is_taken:
                assert await answer(transport, asks()) == (200, b"hello")
            else:
                with pytest.raises(httpx.RemoteProtocolError):
                    await answer(transport, asks(extensions=PATIENT))


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 ", OK + b"x-long: "], ids=["garbage", "reason", "header"])
async def test_a_line_without_an_end_is_given_up(start: bytes, open_wire: Make) -> None:
    closed = trio.Event()

    async def endless(peer: Any) -> None:
        try:
            await peer.send(start)
            while True:
                await peer.send(b"x" * 16384)
                await trio.testing.wait_all_tasks_blocked()
        finally:
            closed.set()

    async with open_wire() as wire:
        wire.replies = [endless]
        with pytest.raises(httpx.RemoteProtocolError):
            await answer(Transport(open_stream=wire.open_stream), asks())
        with trio.fail_after(5):
            await closed.wait()


async def test_the_limit_is_of_each_head_not_of_all_that_was_read(open_wire: Make) -> None:
    hints = padded(b"HTTP/1.1 103 Early Hints\r\n", 60_000, line=1000)
    trailers = padded(b"0\r\n", 60_000, line=1000)
    async with open_wire() as wire:
        wire.replies = [hints * 3 + padded(OK + CHUNKED, 60_000, line=1000) + b"5\r\nhello\r\n" + trailers] * 3
        transport = Transport(open_stream=wire.open_stream)
        for _ in range(3):
            assert await answer(transport, asks()) == (200, b"hello")
    assert wire.opened == 1


# --- How long is waited -----------------------------------------------------------------------------------------------


async def test_a_response_may_take_for_ever_as_long_as_it_comes(open_wire: Make, autojump_clock: Any) -> None:
    wire_bytes = RESPONSES["several informational ones"].wire
    async with open_wire() as wire:
        wire.replies = [says(in_bytes(wire_bytes), pause=9.0)]
        assert await answer(Transport(open_stream=wire.open_stream), asks(extensions=PATIENT)) == (200, b"hello")
    assert trio.current_time() == 9.0 * (len(wire_bytes) - 1)


async def test_silence_anywhere_in_a_response_is_a_read_timeout(
    open_wire: Make, reply: Make, autojump_clock: Any
) -> None:
    whole = CUT_SHORT["after 100"]
    for length in range(len(whole)):
        async with open_wire() as wire:
            wire.replies = [says([whole[:length]]), reply("next")]
            transport = Transport(open_stream=wire.open_stream)
            started = trio.current_time()
            with pytest.raises(httpx.ReadTimeout):
                await answer(transport, asks(extensions=PATIENT))
            assert 10.0 <= trio.current_time() - started < 10.5
            assert await answer(transport, asks(extensions=PATIENT)) == (200, b"next")
        assert (wire.opened, len(wire.requests)) == (2, 2)
