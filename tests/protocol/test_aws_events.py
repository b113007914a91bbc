"""From message to event, exception or failure; for what the service defines, beside botocore's own parser."""

from __future__ import annotations

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
from managed_agents_actors.testing._aws_frames import error_frame, event_frame, exception_frame

Outcome = Event | StreamException | DecodeFailure


def read(headers: dict[str, HeaderValue], payload: bytes = b"") -> Outcome:
    return read_event(EventStreamMessage(headers, payload))


def read_stream(*chunks: bytes) -> list[Outcome]:
    decoder = EventStreamDecoder()
    found = [message for chunk in chunks for message in decoder.feed(chunk)]
    return [item if isinstance(item, DecodeFailure) else read_event(item) for item in found]


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
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"a":"\xff"}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "a JSON list, expected an object"),
        (b"null", "a JSON NoneType, expected an object"),
        (b'"text"', "a JSON str, expected an object"),
    ],
)
def test_an_event_that_is_no_json_object_is_a_failure(payload: bytes, reason: str) -> None:
    found = failure(event("messageStart", payload))
    assert reason in found.message
    assert "'messageStart'" in found.message
    assert found.raw == payload[:8192]


@pytest.mark.parametrize("name", ["", "type", 7, True, b"messageStart"])
def test_an_event_without_a_usable_name_is_a_failure(name: HeaderValue) -> None:
    assert "no usable name" in failure(event(name, b"{}")).message
    assert "no usable name" in failure(read({":message-type": "event"}, b"{}")).message


def test_a_name_of_any_length_is_not_cut_in_a_message() -> None:
    assert "an event named with 5000 characters" in failure(event("n" * 5000, b"")).message


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


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/json"}])
def test_a_message_that_names_nothing_is_a_failure(headers: dict[str, HeaderValue]) -> None:
    found = failure(read(headers, b'{"a":1}'))
    assert "does not say what it is" in found.message
    assert found.raw == b'{"a":1}'


@pytest.mark.parametrize("kind", ["", "Event", "other", 1, b"event"])
def test_a_message_of_an_unknown_type_is_a_failure(kind: HeaderValue) -> None:
    found = failure(read({":message-type": kind, ":event-type": "messageStart"}, b"{}"))
    assert "neither an event nor an exception nor an error" in found.message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # machines are shared
@given(st.text(min_size=1, max_size=20), st.dictionaries(st.text(), json_values, max_size=4))
def test_every_event_comes_back_whole(name: str, payload: dict[str, Any]) -> None:
    assume(name != "type")
    assert read_stream(event_frame(name, payload)) == [{"type": name, name: payload}]


header_names = st.sampled_from(
    [":message-type", ":event-type", ":exception-type", ":error-code", ":error-message", "x"]
)
payloads = st.binary() | json_values.map(lambda value: json.dumps(value).encode())
header_values = st.sampled_from(["event", "exception", "error", "type", ""]) | st.integers() | st.binary() | st.text()


@settings(deadline=None)  # machines are shared
@given(
    st.dictionaries(header_names, header_values),
    st.binary() | json_values.map(lambda value: json.dumps(value).encode()),
)
def test_every_message_gives_one_of_the_three(headers: dict[str, HeaderValue], payload: bytes) -> None:
    found = read(headers, payload)
    if isinstance(found, dict):
        name = found["type"]
        assert set(found) == {"type", name}
        assert found[name] == json.loads(payload)
    else:
        assert isinstance(found, StreamException | DecodeFailure)
