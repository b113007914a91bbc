"""Event dictionaries out of stream bytes: the type rule, keep-alives, failures, and recorded streams."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from managed_agents_actors._protocol.claude_stream import ClaudeStreamDecoder, DecodeFailure

CAPTURES = Path(__file__).parent.parent / "captures"
RECORDED = sorted(CAPTURES.glob("*.sse"))
LISTED = sorted(CAPTURES.glob("*.list.json"))

Events = list[dict[str, Any] | DecodeFailure]


def decode(*chunks: bytes) -> Events:
    decoder = ClaudeStreamDecoder()
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def decode_every_way(stream: bytes) -> Events:
    """Whole, byte by byte, and with trailing data: always the same."""
    events = decode(stream)
    assert decode(*(stream[at : at + 1] for at in range(len(stream)))) == events
    assert decode(stream, b"event: x\ndata: {") == events
    return events


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b'event: wrong\ndata: {"type":"right"}\n\n', {"type": "right"}),
        (b'event: message\ndata: {"type":"right"}\n\n', {"type": "right"}),
        (b'data: {"type":"right"}\n\n', {"type": "right"}),
        (b'event: name\ndata: {"id":"e"}\n\n', {"id": "e", "type": "name"}),
        (b'event: name\ndata: {"type":null}\n\n', {"type": "name"}),
        (b'event: message\ndata: {"id":"e"}\n\n', {"id": "e"}),
        (b'data: {"id":"e"}\n\n', {"id": "e"}),
        (b'event: name\ndata: {"type":7}\n\n', {"type": 7}),
        (b'data: {"type":\ndata: "right"}\n\n', {"type": "right"}),
        (b'data: {"type":"new.to.us","x":[1,{"y":null}]}\n\n', {"type": "new.to.us", "x": [1, {"y": None}]}),
    ],
)
def test_sse_02_the_data_decides_the_type(stream: bytes, expected: dict[str, Any]) -> None:
    """SSE-02: the event name only fills in for a type that is not there."""
    assert decode_every_way(stream) == [expected]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b'{"type":"error","error":{"type":"overloaded_error"}}', {"type": "overloaded_error"}),
        (b'{"error":{"type":"overloaded_error"}}', {"type": "overloaded_error"}),
        (b'{"type":"overloaded_error"}', {"type": "overloaded_error"}),
        (b'"out of order"', "out of order"),
        (b"out of order", "out of order"),
    ],
)
def test_every_shape_of_an_error_frame_is_an_error_event(data: bytes, error: object) -> None:
    assert decode_every_way(b"event: error\ndata: " + data + b"\n\n") == [{"type": "error", "error": error}]


def test_an_error_frame_with_the_data_of_another_event_is_that_event() -> None:
    assert decode_every_way(b'event: error\ndata: {"type":"agent.message"}\n\n') == [{"type": "agent.message"}]


@pytest.mark.parametrize(
    "stream",
    [
        b": hb\n\n",
        b"event: ping\ndata: {}\n\n",
        b"event: ping\ndata: not json\n\n",
        b'event: ping\ndata: {"type":"ping"}\n\n',
        b'data: {"type":"ping"}\n\n',
        b"event: x\ndata:\n\n",
        b"data\n\n",
        b"data:  \n\n",
        b'data: {"type":"unfinished"}\n',
    ],
)
def test_sse_07_keep_alives_empty_data_and_the_tail_give_nothing(stream: bytes) -> None:
    """SSE-07: and what follows them is not affected."""
    assert decode(stream) == []
    if stream.endswith(b"\n\n"):
        assert decode_every_way(stream + b'data: {"type":"a"}\n\n') == [{"type": "a"}]


@pytest.mark.parametrize("data", [b"{", b"nope", b"[1]", b'"text"', b"1", b"null", b'{"a":"\xff"}', b"[" * 200_000])
def test_undecodable_data_is_a_failure_and_the_last_thing_given(data: bytes) -> None:
    events = decode_every_way(b'data: {"type":"a"}\n\nevent: x\ndata: ' + data + b'\n\ndata: {"type":"b"}\n\n')
    assert events[0] == {"type": "a"}
    (failure,) = events[1:]
    assert isinstance(failure, DecodeFailure)
    assert "'x' frame" in failure.message
    assert data.startswith(failure.raw)
    assert 0 < len(failure.raw) <= 8192


def test_after_a_failure_later_feeds_give_nothing() -> None:
    decoder = ClaudeStreamDecoder()
    assert [type(event) for event in decoder.feed(b"data: nope\n\n")] == [DecodeFailure]
    assert decoder.feed(b'data: {"type":"a"}\n\n') == []


def test_sse_06_a_frame_over_the_cap_is_a_failure() -> None:
    """SSE-06: after the events that came before it."""
    decoder = ClaudeStreamDecoder(max_frame_bytes=100)
    event, failure = decoder.feed(b'data: {"type":"a"}\n\ndata: ' + b"x" * 200)
    assert event == {"type": "a"}
    assert isinstance(failure, DecodeFailure)
    assert "100 bytes" in failure.message
    assert decoder.feed(b'\n\ndata: {"type":"b"}\n\n') == []


def test_sse_02_the_retry_hint_is_in_seconds() -> None:
    """SSE-02: the reader of the stream takes it as the least delay."""
    decoder = ClaudeStreamDecoder()
    assert decoder.retry is None
    decoder.feed(b"retry: 1500\n\n")
    assert decoder.retry == 1.5


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_streams_decode_however_they_are_cut(path: Path) -> None:
    stream = path.read_bytes()
    events = decode_every_way(stream)
    frames = [line for line in stream.decode().splitlines() if line.startswith("data: ")]
    pings = stream.count(b"event: ping\n")
    assert events == [json.loads(line[6:]) for line in frames if '"type":"ping"' not in line]
    assert len(events) == len(frames) - pings > 0


@pytest.mark.parametrize("path", LISTED, ids=lambda path: path.name.removesuffix(".list.json"))
def test_recorded_streams_and_listings_tell_the_same_events_in_the_same_order(path: Path) -> None:
    listing = json.loads(path.read_bytes())
    stream = path.with_name(path.name.replace(".list.json", ".sse")).read_bytes()
    streamed = [event for event in decode(stream) if isinstance(event, dict)]
    assert [(event["id"], event["type"]) for event in streamed] == [(event["id"], event["type"]) for event in listing]


def test_a_recorded_reconnect_replays_nothing() -> None:
    before, after = (decode((CAPTURES / f"T2-{part}.sse").read_bytes()) for part in ("before", "after-reconnect"))
    ids = [event["id"] for event in (*before, *after) if isinstance(event, dict)]
    assert len(ids) == len(set(ids)) > 0


def test_recorded_previews_name_the_event_they_announce_and_add_up_to_its_text() -> None:
    events = [event for event in decode((CAPTURES / "T8-deltas.sse").read_bytes()) if isinstance(event, dict)]
    (announced,) = (event["event"]["id"] for event in events if event["type"] == "event_start")
    (message,) = (event for event in events if event.get("id") == announced)
    deltas = [event["delta"]["content"]["text"] for event in events if event["type"] == "event_delta"]
    assert "".join(deltas) == message["content"][0]["text"]


@pytest.mark.parametrize("name", ["x" * 101, "x" * 2_000_000])
def test_a_long_event_name_is_counted_and_not_cut(name: str) -> None:
    """Cut, it might end in half a secret that nobody could recognise."""
    (failure,) = ClaudeStreamDecoder().feed(f"event: {name}\ndata: nope\n\n".encode())
    assert isinstance(failure, DecodeFailure)
    assert len(failure.message) < 200
    assert f"named with {len(name)} characters" in failure.message
