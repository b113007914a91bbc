"""From message to event, exception or failure; for what the service defines, beside botocore's own parser."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.model import ServiceModel, StructureShape
from botocore.parsers import EventStreamJSONParser
from botocore.session import Session
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from managed_agents_actors._model import Event
from managed_agents_actors._protocol.aws_events import StreamException, read_event
from managed_agents_actors._protocol.event_stream import EventStreamDecoder, EventStreamMessage, HeaderValue
from managed_agents_actors._protocol.sse import DecodeFailure
from managed_agents_actors.testing._aws_frames import encode_message, error_frame, event_frame, exception_frame

Outcome = Event | StreamException | DecodeFailure


KNOWN = frozenset({"messageStart", "messageStop", "contentBlockStart"})


def read(headers: dict[str, HeaderValue], payload: bytes = b"") -> Outcome:
    return read_event(EventStreamMessage(headers, payload), known=KNOWN)


def unrecognised(headers: dict[str, Any], payload: Any) -> Event:
    return {"type": "unrecognised", "unrecognised": {"headers": headers, "payload": payload}}


def read_stream(*chunks: bytes) -> list[Outcome]:
    decoder = EventStreamDecoder()
    found = [message for chunk in chunks for message in decoder.feed(chunk)]
    return [item if isinstance(item, DecodeFailure) else read_event(item, known=KNOWN) for item in found]


def event(name: HeaderValue, payload: bytes) -> Outcome:
    return read({":message-type": "event", ":event-type": name}, payload)


def exception(payload: bytes) -> StreamException:
    found = read({":message-type": "exception", ":exception-type": "runtimeClientError"}, payload)
    assert isinstance(found, StreamException)
    return found


def failure(found: Outcome) -> DecodeFailure:
    assert isinstance(found, DecodeFailure)
    return found


def test_a_stream_of_everything_however_it_is_cut() -> None:
    delta = {"contentBlockIndex": 0, "delta": {"text": "🦑"}}
    stream = (
        event_frame("contentBlockDelta", delta)
        + event_frame("somethingNew", {"type": "mine", "a": [1, None]})
        + exception_frame("validationException", {"message": "no", "reason": "CannotParse", "fieldList": []})
        + error_frame("Busy", "later")
    )
    expected = [
        {"type": "contentBlockDelta", "contentBlockDelta": delta},
        {"type": "somethingNew", "somethingNew": {"type": "mine", "a": [1, None]}},
        StreamException(
            "validationException", "no", {"message": "no", "reason": "CannotParse", "fieldList": []}, "exception"
        ),
        StreamException("Busy", "later", {}, "error"),
    ]
    singles = [stream[at : at + 1] for at in range(len(stream))]
    for chunks in ([stream], singles, [stream, b"\0\0\0"], [*singles, *singles[:-1]][: len(singles) + 11]):
        assert read_stream(*chunks) == expected


@pytest.fixture(scope="module")
def harness_stream() -> StructureShape:
    """What botocore knows of the events of InvokeHarness."""
    loader = Session().get_component("data_loader")
    service = ServiceModel(loader.load_service_model("bedrock-agentcore", "service-2"), "bedrock-agentcore")
    shape = service.operation_model("InvokeHarness").get_event_stream_output()
    assert isinstance(shape, StructureShape)
    return shape


EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockStart", {"contentBlockIndex": 1, "start": {"toolUse": {"toolUseId": "t_1", "name": "lookup"}}}),
    ("contentBlockDelta", {"contentBlockIndex": 1, "delta": {"toolUse": {"input": '{"a":'}}}),
    ("contentBlockDelta", {"contentBlockIndex": 2, "delta": {"toolResult": [{"text": "é"}, {"text": "\U0001f991"}]}}),
    ("contentBlockStop", {"contentBlockIndex": 1}),
    ("messageStop", {"stopReason": "a_new_reason"}),
    (
        "metadata",
        {"usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}, "metrics": {"latencyMs": 1 << 40}},
    ),
]


@pytest.mark.parametrize(("name", "payload"), EVENTS)
def test_what_botocore_knows_is_read_as_botocore_reads_it(
    name: str, payload: dict[str, Any], harness_stream: StructureShape
) -> None:
    stream = event_frame(name, payload)
    buffer = EventStreamBuffer()
    buffer.add_data(stream)
    (message,) = buffer
    parsed = EventStreamJSONParser().parse(message.to_response_dict(), harness_stream)
    (found,) = read_stream(stream)
    assert found == {"type": name, **parsed}


def test_an_event_keeps_what_botocore_drops_or_refuses() -> None:
    """Unknown members, an empty union, a number no float holds."""
    payload = {"contentBlockIndex": 10**30, "start": {}, "later": {"a": "b"}}
    assert event("contentBlockStart", json.dumps(payload).encode()) == {
        "type": "contentBlockStart",
        "contentBlockStart": payload,
    }


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b" ", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a":"\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "a JSON list, expected an object"),
        (b"null", "a JSON NoneType, expected an object"),
        (b'"text"', "a JSON str, expected an object"),
    ],
)
def test_a_known_event_that_is_no_json_object_is_a_failure(payload: bytes, reason: str) -> None:
    found = failure(event("messageStart", payload))
    assert reason in found.message
    assert "'messageStart'" in found.message
    assert found.raw == payload[:8192]


@pytest.mark.parametrize("payload", [b"ping", b"[1]", b"null", b"{", b"\xff"])
def test_an_unknown_event_that_is_no_json_object_is_kept_as_it_came(payload: bytes) -> None:
    shown = {"base64": base64.b64encode(payload).decode()} if payload == b"\xff" else payload.decode()
    headers = {":message-type": "event", ":event-type": "heartbeat"}
    assert event("heartbeat", payload) == unrecognised(headers, shown)


@pytest.mark.parametrize("name", ["messageStart", "heartbeat", "initial-response", "n" * 5000])
def test_an_event_without_a_payload_says_nothing(name: str) -> None:
    assert event(name, b"") == {"type": name, name: {}}


@pytest.mark.parametrize("name", ["", "type", "id", 7, True])
def test_an_event_without_a_usable_name_is_kept_as_it_came(name: HeaderValue) -> None:
    """Every event gets a type, and an id, of its own."""
    headers = {":message-type": "event", ":event-type": name}
    assert event(name, b'{"a":1}') == unrecognised(headers, '{"a":1}')


FRAMES_BOTOCORE_TAKES = {
    "a message without headers": encode_message({}, b""),
    "a known event without a payload": encode_message({":message-type": "event", ":event-type": "messageStart"}, b""),
    "an event without a name": encode_message({":message-type": "event"}, b"{}"),
    "an unknown event without a payload": encode_message({":message-type": "event", ":event-type": "ping"}, b""),
    "an unknown event of text": encode_message({":message-type": "event", ":event-type": "ping"}, b"pong"),
    "an initial response": encode_message({":message-type": "event", ":event-type": "initial-response"}, b""),
    "a message of an unknown type": encode_message({":message-type": "ping"}, b""),
}


@pytest.mark.parametrize("frame", FRAMES_BOTOCORE_TAKES.values(), ids=FRAMES_BOTOCORE_TAKES)
def test_what_botocore_takes_is_no_failure(frame: bytes, harness_stream: StructureShape) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(frame)
    (message,) = buffer
    assert EventStreamJSONParser().parse(message.to_response_dict(), harness_stream) in ({}, {"messageStart": {}})
    (found,) = read_stream(frame)
    assert isinstance(found, dict)


@pytest.mark.parametrize(
    ("payload", "message", "members"),
    [
        (b'{"message":"out of memory"}', "out of memory", {"message": "out of memory"}),
        (b'{"Message":"out of memory"}', "out of memory", {"Message": "out of memory"}),
        (b'{"reason":"X"}', '{"reason":"X"}', {"reason": "X"}),
        (b'{"message":{"a":1}}', '{"message":{"a":1}}', {"message": {"a": 1}}),
        (b'{"message":""}', '{"message":""}', {"message": ""}),
        (b"plain text \xff", "plain text �", {}),
        (b'["a"]', '["a"]', {}),
        (b"", "", {}),
        (b"{}", "{}", {}),
    ],
)
def test_an_exception_says_what_it_can(payload: bytes, message: str, members: dict[str, Any]) -> None:
    assert exception(payload) == StreamException("runtimeClientError", message, members, "exception")


def test_the_text_of_an_exception_that_is_no_json_is_bounded() -> None:
    assert exception(b"x" * 100_000).message == "x" * 8192


def test_an_exception_that_botocore_does_not_know_keeps_its_name() -> None:
    (found,) = read_stream(exception_frame("somethingNewException", {"message": "new"}))
    assert found == StreamException("somethingNewException", "new", {"message": "new"}, "exception")


@pytest.mark.parametrize("name", [{}, {":exception-type": 7}])
def test_an_exception_without_a_name_is_still_an_exception(name: dict[str, HeaderValue]) -> None:
    found = read({":message-type": "exception", **name}, b'{"message":"no"}')
    assert found == StreamException("", "no", {"message": "no"}, "exception")


def test_an_error_is_read_from_its_headers_and_else_from_its_payload() -> None:
    headers: dict[str, HeaderValue] = {":message-type": "error", ":error-code": "Busy"}
    assert read({**headers, ":error-message": "later"}, b"") == StreamException("Busy", "later", {}, "error")
    assert read(headers, b'{"message":"m"}') == StreamException("Busy", "m", {"message": "m"}, "error")
    assert read(headers, b"text") == StreamException("Busy", "text", {}, "error")
    assert read(headers, b"") == StreamException("Busy", "", {}, "error")


def test_a_message_that_does_not_say_its_type_is_what_its_headers_name() -> None:
    assert read({":event-type": "messageStop"}, b"{}") == {"type": "messageStop", "messageStop": {}}
    found = read({":exception-type": "runtimeClientError"}, b"{}")
    assert found == StreamException("runtimeClientError", "{}", {}, "exception")
    found = read({":error-code": "Busy", ":error-message": "later"})
    assert found == StreamException("Busy", "later", {}, "error")


@pytest.mark.parametrize(
    ("headers", "shown"),
    [
        ({}, {}),
        (
            {"content-type": "application/json", "n": b"\xff"},
            {"content-type": "application/json", "n": {"base64": "/w=="}},
        ),
        *(({":message-type": kind, ":event-type": "messageStart"},) * 2 for kind in ("", "Event", "ping", 1)),
    ],
)
def test_a_message_that_is_nothing_known_is_kept_as_it_came(headers: dict[str, HeaderValue], shown: Any) -> None:
    assert read(headers, b'{"a":1}') == unrecognised(shown, '{"a":1}')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # machines are shared
@given(st.text(min_size=1, max_size=20), st.dictionaries(st.text(), json_values, max_size=4))
def test_every_event_comes_back_whole(name: str, payload: dict[str, Any]) -> None:
    assume(name not in {"type", "id"})
    assert read_stream(event_frame(name, payload)) == [{"type": name, name: payload}]


header_names = st.sampled_from(
    [":message-type", ":event-type", ":exception-type", ":error-code", ":error-message", "x"]
)
payloads = st.binary() | json_values.map(lambda value: json.dumps(value).encode())
header_values = (
    st.sampled_from(["event", "exception", "error", "type", "", *sorted(KNOWN)])
    | st.integers()
    | st.binary()
    | st.text()
)


@settings(deadline=None)  # machines are shared
@given(st.dictionaries(header_names, header_values), payloads)
def test_every_message_gives_one_of_the_three(headers: dict[str, HeaderValue], payload: bytes) -> None:
    found = read(headers, payload)
    if isinstance(found, DecodeFailure):
        assert headers[":event-type"] in KNOWN
    elif isinstance(found, dict) and found["type"] == "unrecognised":
        assert json.dumps(found)
    elif isinstance(found, dict):
        name = found["type"]
        assert set(found) == {"type", name}
        assert found[name] == (json.loads(payload) if payload else {})
    else:
        assert isinstance(found, StreamException)
