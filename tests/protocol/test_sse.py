"""The event-stream decoder against the standard: corner cases by hand, everything else against an oracle."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations_with_replacement, pairwise
from time import process_time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from managed_agents_actors._protocol.sse import DecodeFailure, SSEDecoder, SSEFrame

Frames = list[SSEFrame | DecodeFailure]
BOM = b"\xef\xbb\xbf"


def decode(*chunks: bytes, max_frame_bytes: int = 1 << 20) -> Frames:
    decoder = SSEDecoder(max_frame_bytes=max_frame_bytes)
    return [frame for chunk in chunks for frame in decoder.feed(chunk)]


def cuts(stream: bytes) -> Iterator[list[bytes]]:
    """The stream whole, in two at every offset, byte by byte, and with empty chunks in between."""
    yield [stream]
    yield from ([stream[:at], stream[at:]] for at in range(len(stream) + 1))
    singles = [stream[at : at + 1] for at in range(len(stream))]
    yield singles
    yield [chunk for single in singles for chunk in (b"", single)]


def message(data: bytes) -> SSEFrame:
    return SSEFrame("message", data)


CORNERS: dict[str, tuple[bytes, list[SSEFrame]]] = {
    "common form": (b"event: x\ndata: y\n\n", [SSEFrame("x", b"y")]),
    "two frames": (b"event: x\ndata: y\n\ndata: z\n\n", [SSEFrame("x", b"y"), message(b"z")]),
    "bare CR": (b"event: x\rdata: y\r\rdata: z\r\r", [SSEFrame("x", b"y"), message(b"z")]),
    "CRLF": (b"event: x\r\ndata: y\r\n\r\n", [SSEFrame("x", b"y")]),
    "mixed line ends": (b"event: x\r\ndata: y\n\r\ndata: z\r\n\n", [SSEFrame("x", b"y"), message(b"z")]),
    "LF then CR are two line ends": (b"data: y\n\rdata: z\n\n", [message(b"y"), message(b"z")]),
    "many blank lines": (b"\n\n\ndata: y\n\n\n\ndata: z\n\n\n", [message(b"y"), message(b"z")]),
    "BOM": (BOM + b"data: y\n\n", [message(b"y")]),
    "only the first BOM": (BOM + BOM + b"data: y\n\ndata: z\n\n", [message(b"z")]),
    "no BOM later": (b"data: a\n\n" + BOM + b"data: y\n\n", [message(b"a")]),
    "data without colon": (b"data\n\n", [message(b"")]),
    "data without colon twice": (b"data\ndata\n\n", [message(b"\n")]),
    "data with nothing after the colon": (b"data:\n\n", [message(b"")]),
    "no space": (b"event:x\ndata:y\n\n", [SSEFrame("x", b"y")]),
    "one space only": (b"data:  y \n\n", [message(b" y ")]),
    "tab is no space": (b"data:\ty\n\n", [message(b"\ty")]),
    "several data lines": (b"data: a\ndata: b\ndata:\ndata: c\n\n", [message(b"a\nb\n\nc")]),
    "several data lines after an event": (b"event: x\ndata: a\ndata: b\n\n", [SSEFrame("x", b"a\nb")]),
    "last event name wins": (b"event: x\nevent: y\ndata: z\n\n", [SSEFrame("y", b"z")]),
    "empty event name": (b"event: \ndata: z\n\n", [message(b"z")]),
    "the event name does not outlive its frame": (b"event: x\n\ndata: y\n\n", [message(b"y")]),
    "data before event": (b"data: y\nevent: x\n\n", [SSEFrame("x", b"y")]),
    "colons in values": (b"event: a:b\ndata: :c: d\n\n", [SSEFrame("a:b", b":c: d")]),
    "comments": (b": hb\n\n:\n\n:data: no\ndata: y\n: hb\n\n", [message(b"y")]),
    "unknown fields": (b"foo: x\nDATA: x\n data: x\ndatax: x\ndata: y\n\n", [message(b"y")]),
    "no phantom event after an id": (b"id: 1\n\n: ping\n\nretry: 5\n\n", []),
    "event without data": (b"event: x\n\n", []),
    "emoji": ("event: 🦑\ndata: 🦑\n\n".encode(), [SSEFrame("🦑", "🦑".encode())]),
    "bytes that are not UTF-8 stay as they are": (b"data: \xff\n\n", [message(b"\xff")]),
    "event name that is not UTF-8": (b"event: \xff\ndata: y\n\n", [SSEFrame("�", b"y")]),
    "the standard's own example": (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
        [message(b"first event"), message(b"second event"), message(b" third event")],
    ),
    "the standard's own example of empty data": (
        b"data\n\ndata\ndata\n\ndata:",
        [message(b""), message(b"\n")],
    ),
}


@pytest.mark.parametrize(("stream", "expected"), CORNERS.values(), ids=CORNERS)
def test_sse_02_grammar_corners(stream: bytes, expected: list[SSEFrame]) -> None:
    """SSE-02: whole, in two at every offset, byte by byte, and with the start of another frame behind it."""
    for chunks in cuts(stream):
        assert decode(*chunks) == expected
    if stream.endswith((b"\n", b"\r")):
        for chunks in cuts(stream + b"event: more\ndata: unfinished\n"):
            assert decode(*chunks) == expected


def test_sse_01_every_split_point() -> None:
    """SSE-01: cut at every pair of offsets, the frames are those of the uncut stream."""
    stream = "event: a\ndata: {}\n\nevent: b\r\ndata: 🦑\r\ndata: two\r\n\r\ndata: c\r\r\n\n".encode()
    expected = [SSEFrame("a", b"{}"), SSEFrame("b", "🦑\ntwo".encode()), message(b"c")]
    for start, end in combinations_with_replacement(range(len(stream) + 1), 2):
        assert decode(stream[:start], stream[start:end], stream[end:]) == expected


def test_sse_02_a_frame_is_dispatched_at_its_bare_cr() -> None:
    """SSE-02: nobody waits for the LF that may follow a CR."""
    decoder = SSEDecoder()
    assert decoder.feed(b"data: y\r\r") == [message(b"y")]
    assert decoder.feed(b"\ndata: z\r\n\r") == [message(b"z")]


def test_sse_02_id_and_retry() -> None:
    """SSE-02: kept when their frame is complete; malformed ones are ignored."""
    decoder = SSEDecoder()
    decoder.feed(b"id: 7\nretry: 2500\n")
    assert (decoder.last_event_id, decoder.retry) == ("", None)
    decoder.feed(b"\n")
    assert (decoder.last_event_id, decoder.retry) == ("7", 2.5)
    decoder.feed(b"id: a\0b\nretry: 1e3\n\nretry: -1\n\nretry:\n\nretry: " + b"9" * 5000 + b"\n\n")
    assert (decoder.last_event_id, decoder.retry) == ("7", 2.5)
    decoder.feed(b"id\nretry: 0\n\n")
    assert (decoder.last_event_id, decoder.retry) == ("", 0.0)


def seconds_to_decode(megabytes: int) -> float:
    stream = b"event: x\ndata: " + b"y" * (megabytes << 20) + b"\n\n"
    started = process_time()
    frames = decode(*(stream[at : at + 4096] for at in range(0, len(stream), 4096)), max_frame_bytes=1 << 30)
    elapsed = process_time() - started
    assert frames == [SSEFrame("x", b"y" * (megabytes << 20))]
    return elapsed


def test_sse_05_a_huge_frame_is_linear() -> None:
    """SSE-05: four times the bytes cost far less than the sixteenfold of a decoder that scans again."""
    best = min(seconds_to_decode(8) / max(seconds_to_decode(2), 1e-4) for _ in range(3))
    assert best < 10


@pytest.mark.parametrize("size", [9, 10, 11, 12])
def test_sse_06_the_cap_holds_however_the_stream_is_cut(size: int) -> None:
    """SSE-06: a frame of the cap passes, a larger one is the last thing the decoder gives."""
    stream = b"data: a\n\n" + b"data: ".ljust(size, b"x") + b"\n\ndata: b\n\n"
    for chunks in cuts(stream):
        frames = decode(*chunks, max_frame_bytes=10)
        assert frames[0] == message(b"a")
        if size <= 10:
            assert frames[1:] == [message(b"x" * (size - 6)), message(b"b")]
        else:
            (failure,) = frames[1:]
            assert isinstance(failure, DecodeFailure)
            assert "10 bytes" in failure.message
            assert failure.raw.startswith(b"data: xxx")


def test_sse_06_an_endless_line_is_cut_off() -> None:
    """SSE-06: memory stays bounded, the excerpt too, and the decoder is dead afterwards."""
    decoder = SSEDecoder(max_frame_bytes=10_000)
    (failure,) = (frame for _ in range(100) for frame in decoder.feed(b"data: " + b"x" * 1000))
    assert isinstance(failure, DecodeFailure)
    assert len(failure.raw) <= 8192
    assert decoder.feed(b"\n\ndata: y\n\n") == []


def test_sse_07_an_unterminated_tail_is_never_dispatched() -> None:
    """SSE-07: comments give nothing, and neither does a frame without its blank line."""
    for chunks in cuts(b": hb\n\n: hb\n\nevent: x\ndata: y\n"):
        assert decode(*chunks) == []


def oracle(stream: bytes) -> list[SSEFrame]:
    """The standard's algorithm, line by line over the whole stream, as literally as Python allows."""
    text = stream.removeprefix(BOM).decode("latin-1").replace("\r\n", "\n").replace("\r", "\n")
    frames: list[SSEFrame] = []
    event = data = ""
    for line in text.split("\n")[:-1]:
        if line == "":
            if data != "":
                name = event.encode("latin-1").decode("utf-8", "replace")
                frames.append(SSEFrame(name or "message", data[:-1].encode("latin-1")))
            event = data = ""
            continue
        if line.startswith(":"):
            continue
        field, value = line.split(":", 1) if ":" in line else (line, "")
        value = value.removeprefix(" ")
        if field == "event":
            event = value
        elif field == "data":
            data += value + "\n"
    return frames


FIELDS = [b"data", b"event", b"id", b"retry", b":", b" ", b"x", b"1", b"\0", BOM, b"\xff", b"\xc3\xa9"]
LINE_ENDS = [b"\n", b"\r", b"\r\n", b"\n\n"]
LINES = [b"data: x\n", b"event: y\n", b": c\n", b"data: z\n\n", b"event: e\ndata: d\n\n"]
pieces = st.sampled_from([*FIELDS, *LINE_ENDS, *LINES])


@settings(deadline=None)  # machines are shared
@given(st.lists(pieces, max_size=30).map(b"".join), st.lists(st.integers(0, 200), max_size=6))
@example(b"data: x\n\r\ndata: y\r\n\n", [8])
def test_any_stream_decodes_as_the_standard_says(stream: bytes, offsets: list[int]) -> None:
    marks = [0, *sorted(min(offset, len(stream)) for offset in offsets), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(marks)]
    assert decode(stream) == decode(*chunks) == oracle(stream)


@settings(deadline=None)  # machines are shared
@given(st.binary(max_size=200))
def test_any_bytes_decode_as_the_standard_says(stream: bytes) -> None:
    assert decode(*(stream[at : at + 1] for at in range(len(stream)))) == oracle(stream)
