"""The binary event-stream decoder against botocore's: the same messages however the stream is cut, and no wrong one."""

from __future__ import annotations

import sys
import tracemalloc
from binascii import crc32
from collections.abc import Iterator
from itertools import pairwise
from struct import pack
from types import FrameType

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from managed_agents_actors._protocol.event_stream import (
    MAX_HEADERS_BYTES,
    MAX_PAYLOAD_BYTES,
    EventStreamDecoder,
    EventStreamMessage,
)
from managed_agents_actors._protocol.sse import DecodeFailure

from ._typed_headers import TypedHeader, encode_message

Messages = list[EventStreamMessage | DecodeFailure]


def decode(*chunks: bytes) -> Messages:
    decoder = EventStreamDecoder()
    return [message for chunk in chunks for message in decoder.feed(chunk)]


def oracle(stream: bytes) -> list[EventStreamMessage]:
    buffer = EventStreamBuffer()
    buffer.add_data(stream)
    return [EventStreamMessage(message.headers, message.payload) for message in buffer]


def singles(stream: bytes) -> list[bytes]:
    return [stream[at : at + 1] for at in range(len(stream))]


def cuts(stream: bytes) -> Iterator[list[bytes]]:
    """The stream whole, in two at every offset, byte by byte, and with empty chunks in between."""
    yield [stream]
    yield from ([stream[:at], stream[at:]] for at in range(len(stream) + 1))
    yield singles(stream)
    yield [chunk for single in singles(stream) for chunk in (b"", single)]


def raw_message(block: bytes, payload: bytes = b"", *, total: int | None = None, headers: int | None = None) -> bytes:
    """A message of any block of headers, under any declared lengths; its checksums are right."""
    declared = 16 + len(block) + len(payload) if total is None else total
    lengths = pack(">II", declared, len(block) if headers is None else headers)
    checked = lengths + pack(">I", crc32(lengths)) + block + payload
    return checked + pack(">I", crc32(checked))


def typed(value: object) -> object:
    """A value that differs from an equal one of another type: 1 and True are two header values."""
    return type(value).__name__, value


def exactly(messages: Messages) -> list[object]:
    return [
        message
        if isinstance(message, DecodeFailure)
        else ([(name, typed(value)) for name, value in message.headers.items()], typed(message.payload))
        for message in messages
    ]


# Bytes that others published: the test vectors of the encoding.
VECTORS: dict[str, tuple[bytes, EventStreamMessage]] = {
    "empty": (
        b"\x00\x00\x00\x10\x00\x00\x00\x00\x05\xc2H\xeb}\x98\xc8\xff",
        EventStreamMessage({}, b""),
    ),
    "payload without headers": (
        b"\x00\x00\x00\x1d\x00\x00\x00\x00\xfdR\x8cZ{'foo':'bar'}\xc3e96",
        EventStreamMessage({}, b"{'foo':'bar'}"),
    ),
    "payload and a header": (
        (
            b"\x00\x00\x00=\x00\x00\x00 \x07\xfd\x83\x96\x0ccontent-type\x07\x00\x10application/json"
            b"{'foo':'bar'}\x8d\x9c\x08\xb1"
        ),
        EventStreamMessage({"content-type": "application/json"}, b"{'foo':'bar'}"),
    ),
}

EVERY_TYPE = {
    ":message-type": "event",
    "": "",
    "🦑": "🦑" * 9,
    "true": True,
    "false": False,
    "byte": TypedHeader("byte", -128),
    "short": TypedHeader("short", 0x7FFF),
    "integer": TypedHeader("integer", -1),
    "long": TypedHeader("long", -(1 << 63)),
    "bytes": b"\0\xff" * 20,
    "time": TypedHeader("timestamp", 1_767_225_600_000),
    "uuid": TypedHeader("uuid", bytes(range(16))),
}
EVERY_VALUE = {name: value.value if isinstance(value, TypedHeader) else value for name, value in EVERY_TYPE.items()}


@pytest.mark.parametrize(("stream", "expected"), VECTORS.values(), ids=VECTORS)
def test_published_vectors(stream: bytes, expected: EventStreamMessage) -> None:
    for chunks in cuts(stream):
        assert decode(*chunks) == [expected]
    for chunks in cuts(stream + stream[:-1]):
        assert decode(*chunks) == [expected]


def test_every_header_type_however_it_is_cut() -> None:
    stream = encode_message(EVERY_TYPE, b"payload")
    expected = [EventStreamMessage(EVERY_VALUE, b"payload")]
    assert exactly(oracle(stream)) == exactly([*expected])
    for chunks in cuts(stream):
        assert exactly(decode(*chunks)) == exactly([*expected])


def test_pending_says_whether_a_stream_may_end_here() -> None:
    first, second = encode_message({"a": "b"}, b"one"), encode_message({}, b"two")
    stream = first + second
    for at in range(len(stream) + 1):
        decoder = EventStreamDecoder()
        messages = decoder.feed(stream[:at])
        assert len(messages) == (at >= len(first)) + (at >= len(stream))
        assert decoder.pending == at - (len(first) if at >= len(first) else 0) - (
            len(second) if at == len(stream) else 0
        )
        assert len(messages + decoder.feed(stream[at:])) == 2
        assert decoder.pending == 0


def test_every_corrupt_byte_is_a_failure_and_never_a_wrong_message() -> None:
    sound = encode_message({":message-type": "event", "n": TypedHeader("short", 7)}, b'{"a":1}')
    before, after = encode_message({}, b"before"), encode_message({}, b"after")
    for at in range(len(sound)):
        for flipped in (0x01, 0x80, 0xFF):
            corrupt = sound[:at] + bytes([sound[at] ^ flipped]) + sound[at + 1 :]
            stream = before + corrupt + after
            for chunks in ([stream], singles(stream)):
                message, failure = decode(*chunks)
                assert message == EventStreamMessage({}, b"before")
                assert isinstance(failure, DecodeFailure)
                assert "checksum" in failure.message
                assert failure.raw
                assert corrupt.startswith(failure.raw[: len(corrupt)])


MALFORMED: dict[str, tuple[bytes, str]] = {
    "shorter than its frame": (raw_message(b"", total=15), "15 bytes cannot hold 0 bytes of headers"),
    "no length at all": (raw_message(b"", total=0), "0 bytes cannot hold"),
    "headers longer than the message": (raw_message(b"\1a\0", headers=4), "19 bytes cannot hold 4 bytes of headers"),
    "a name without a type": (raw_message(b"\1a"), "end within a name"),
    "a name cut off": (raw_message(b"\5ab"), "end within a name"),
    "a length cut off": (raw_message(b"\1a\7\0"), "end within a value"),
    "a string cut off": (raw_message(b"\1a\7\0\2b"), "end within a value"),
    "bytes cut off": (raw_message(b"\1a\6\0\2b", b"b"), "end within a value"),
    "a byte cut off": (raw_message(b"\1a\2"), "end within a value"),
    "a short cut off": (raw_message(b"\1a\3\0"), "end within a value"),
    "an integer cut off": (raw_message(b"\1a\4\0\0\0"), "end within a value"),
    "a long cut off": (raw_message(b"\1a\5" + bytes(7)), "end within a value"),
    "a timestamp cut off": (raw_message(b"\1a\x08" + bytes(7)), "end within a value"),
    "a UUID cut off": (raw_message(b"\1a\x09" + bytes(15)), "end within a value"),
    "an unknown type": (raw_message(b"\1a\x0a\0"), "unknown type 10"),
    "a name twice": (raw_message(b"\1a\0\1b\0\1a\1"), "two headers of one name"),
    "a name that is not UTF-8": (raw_message(b"\1\xff\0"), "not UTF-8"),
    "a string that is not UTF-8": (raw_message(b"\1a\7\0\1\xff"), "not UTF-8"),
    "an answer that is no event stream": (b"<html><body>Bad gateway</body></html>", "no AWS event stream"),
}


@pytest.mark.parametrize(("stream", "reason"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_messages_are_the_last_thing_given(stream: bytes, reason: str) -> None:
    sound = encode_message({"a": "b"}, b"sound")
    for chunks in cuts(sound + stream + sound):
        decoder = EventStreamDecoder()
        first, failure = (message for chunk in chunks for message in decoder.feed(chunk))
        assert first == EventStreamMessage({"a": "b"}, b"sound")
        assert isinstance(failure, DecodeFailure)
        assert reason in failure.message
        assert failure.raw[:12] == stream[:12]
        assert decoder.pending == 0
        assert decoder.feed(sound) == []


def test_an_excerpt_is_bounded() -> None:
    corrupt = bytearray(encode_message({}, b"x" * 100_000))
    corrupt[-1] ^= 1
    (failure,) = decode(bytes(corrupt))
    assert isinstance(failure, DecodeFailure)
    assert failure.raw == bytes(corrupt[:8192])


def declared(headers: int, payload: int) -> bytes:
    """The prelude of a message of these lengths, and nothing more."""
    return raw_message(b"", total=16 + headers + payload, headers=headers)[:12]


@pytest.mark.parametrize(
    ("headers", "payload", "reason"),
    [
        (MAX_HEADERS_BYTES + 1, 0, f"headers of an event-stream message exceed {MAX_HEADERS_BYTES} bytes"),
        (0, MAX_PAYLOAD_BYTES + 1, f"payload of an event-stream message exceeds {MAX_PAYLOAD_BYTES} bytes"),
        (0, 0xFFFFFFFF - 16, "payload of an event-stream message exceeds"),
    ],
)
def test_what_is_too_large_is_refused_at_its_prelude(headers: int, payload: int, reason: str) -> None:
    for chunks in cuts(declared(headers, payload)):
        (failure,) = decode(*chunks)
        assert isinstance(failure, DecodeFailure)
        assert reason in failure.message


def test_the_largest_message_passes() -> None:
    value = bytes(MAX_HEADERS_BYTES // 2 - 5)
    stream = encode_message({"a": value, "b": value}, bytes(MAX_PAYLOAD_BYTES))
    assert len(stream) == 16 + MAX_HEADERS_BYTES + MAX_PAYLOAD_BYTES
    messages = decode(*(stream[at : at + 65536] for at in range(0, len(stream), 65536)))
    assert messages == [EventStreamMessage({"a": value, "b": value}, bytes(MAX_PAYLOAD_BYTES))]


def test_messages_with_equal_headers_share_nothing() -> None:
    """Equal blocks of headers are read once; whoever changes one message changes no other."""
    decoder = EventStreamDecoder()
    stream = encode_message({"a": "b"})
    (first,) = decoder.feed(stream)
    assert isinstance(first, EventStreamMessage)
    first.headers["a"] = "changed"
    assert decoder.feed(stream * 2) == [EventStreamMessage({"a": "b"}, b"")] * 2


def test_many_different_headers_are_all_read() -> None:
    """More blocks than are remembered, in an order in which some come again."""
    names = [str(number % 150) for number in range(400)]
    assert decode(b"".join(encode_message({name: name}) for name in names)) == [
        EventStreamMessage({name: name}, b"") for name in names
    ]


@pytest.mark.parametrize("size", [900, 5000])
def test_a_stream_whose_every_header_is_new_does_not_grow_the_decoder(size: int) -> None:
    decoder = EventStreamDecoder()
    tracemalloc.start()
    try:
        for number in range(1000):
            assert len(decoder.feed(encode_message({"id": str(number) * (size // 4)}))) == 1
        assert tracemalloc.get_traced_memory()[0] < 300_000
    finally:
        tracemalloc.stop()


class Work:
    """Counts what is allocated within the block, freed or not: each copy of the data costs its size."""

    def __enter__(self) -> Work:
        self.bytes = 0
        tracemalloc.start()
        self._held = 0
        sys.setprofile(self._count)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        self._count()
        tracemalloc.stop()

    def _count(self, frame: FrameType | None = None, event: str = "", argument: object = None) -> None:
        held, peak = tracemalloc.get_traced_memory()
        self.bytes += max(0, peak - self._held)
        tracemalloc.reset_peak()
        self._held = held


def test_one_large_message_is_copied_a_fixed_number_of_times() -> None:
    """In 4 KiB pieces; a decoder that copies what it holds at each of them would allocate 128 times the message."""
    stream = encode_message({"a": "b"}, b"x" * (1 << 20))
    chunks = [stream[at : at + 4096] for at in range(0, len(stream), 4096)]
    decoder = EventStreamDecoder()
    with Work() as work:
        messages = [message for chunk in chunks for message in decoder.feed(chunk)]
    assert messages == [EventStreamMessage({"a": "b"}, b"x" * (1 << 20))]
    assert work.bytes < 5 * len(stream)


def work_per_message(count: int) -> float:
    stream = encode_message({"a": "b"}, b"x" * 1000) * count
    decoder = EventStreamDecoder()
    with Work() as work:
        messages = decoder.feed(stream)
    assert len(messages) == count
    return work.bytes / count


def test_many_messages_in_one_chunk_are_linear() -> None:
    """Of twenty times as many, each costs the same; were each cut off the rest, it would cost twenty times as much."""
    assert work_per_message(2000) < 1.5 * work_per_message(100)


integers = st.one_of(
    *(
        st.builds(TypedHeader, st.just(kind), st.integers(-(1 << bits), (1 << bits) - 1))
        for kind, bits in (("byte", 7), ("short", 15), ("integer", 31), ("long", 63), ("timestamp", 63))
    )
)
uuids = st.builds(TypedHeader, st.just("uuid"), st.binary(min_size=16, max_size=16))
text = st.text(max_size=20)
header_values = st.one_of(text, st.binary(max_size=40), st.booleans(), integers, uuids)
headers = st.dictionaries(text, header_values, max_size=6)
messages = st.builds(encode_message, headers, st.binary(max_size=60))


@settings(deadline=None)  # machines are shared
@given(st.lists(messages, max_size=6).map(b"".join), st.lists(st.integers(0, 2000), max_size=8), st.data())
def test_any_stream_decodes_as_botocore_decodes_it(stream: bytes, offsets: list[int], data: st.DataObject) -> None:
    cut_off = stream[: data.draw(st.integers(0, len(stream)))]
    for whole in (stream, cut_off):
        marks = [0, *sorted(min(offset, len(whole)) for offset in offsets), len(whole)]
        chunks = [whole[start:end] for start, end in pairwise(marks)]
        expected = exactly([*oracle(whole)])
        assert exactly(decode(whole)) == exactly(decode(*chunks)) == exactly(decode(*singles(whole))) == expected


@settings(deadline=None)  # machines are shared
@given(st.binary(max_size=40), st.binary(max_size=10))
def test_any_header_block_is_read_as_botocore_reads_it_or_refused(block: bytes, payload: bytes) -> None:
    """botocore reads some values that are cut off; this decoder may refuse, but never read anything else."""
    stream = raw_message(block, payload)
    (message,) = decode(*singles(stream))
    assert decode(stream) == [message]
    if isinstance(message, EventStreamMessage):
        assert exactly([message]) == exactly([*oracle(stream)])


@settings(deadline=None)  # machines are shared
@given(st.binary(max_size=200))
def test_any_bytes_give_one_failure_as_soon_as_there_is_a_prelude(stream: bytes) -> None:
    for chunks in ([stream], singles(stream)):
        found = decode(*chunks)
        assert len(found) == (len(stream) >= 12)
        assert all(isinstance(failure, DecodeFailure) and stream.startswith(failure.raw) for failure in found)
