"""The encoder of AWS event-stream messages: botocore reads what it writes; what has no form is refused."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.eventstream import ChecksumMismatch, EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from managed_agents_actors import ConfigurationError
from managed_agents_actors._protocol.event_stream import EventStreamDecoder
from managed_agents_actors._protocol.sse import DecodeFailure
from managed_agents_actors.testing._aws_frames import (
    GARBAGE_AWS_FRAME,
    TypedHeader,
    encode_message,
    error_frame,
    event_frame,
    exception_frame,
)


def by_botocore(stream: bytes) -> tuple[dict[str, Any], bytes]:
    buffer = EventStreamBuffer()
    buffer.add_data(stream)
    (message,) = buffer
    return message.headers, message.payload


def test_an_event_has_the_headers_of_the_service_and_the_bare_payload() -> None:
    assert by_botocore(event_frame("messageStart", {"role": "assistant", "é": [1, None]})) == (
        {":event-type": "messageStart", ":content-type": "application/json", ":message-type": "event"},
        '{"role":"assistant","é":[1,null]}'.encode(),
    )


def test_an_exception_names_itself_in_its_own_header() -> None:
    assert by_botocore(exception_frame("runtimeClientError", {"message": "no"})) == (
        {":exception-type": "runtimeClientError", ":content-type": "application/json", ":message-type": "exception"},
        b'{"message":"no"}',
    )


def test_an_error_is_all_headers() -> None:
    assert by_botocore(error_frame("InternalError", "")) == (
        {":error-code": "InternalError", ":error-message": "", ":message-type": "error"},
        b"",
    )


def test_garbage_is_refused_by_both_decoders() -> None:
    with pytest.raises(ChecksumMismatch):
        by_botocore(GARBAGE_AWS_FRAME)
    (failure,) = EventStreamDecoder().feed(GARBAGE_AWS_FRAME)
    assert isinstance(failure, DecodeFailure)


def test_the_published_vector() -> None:
    """The encoding's test vectors hold this message."""
    assert encode_message({"content-type": "application/json"}, b"{'foo':'bar'}") == (
        b"\x00\x00\x00=\x00\x00\x00 \x07\xfd\x83\x96\x0ccontent-type\x07\x00\x10application/json{'foo':'bar'}"
        b"\x8d\x9c\x08\xb1"
    )


BOUNDS = {"byte": 7, "short": 15, "integer": 31, "long": 63, "timestamp": 63}


@settings(deadline=None)  # machines are shared
@given(
    st.dictionaries(
        st.text(max_size=20),
        st.text()
        | st.binary()
        | st.booleans()
        | st.sampled_from(sorted(BOUNDS)).flatmap(
            lambda kind: st.builds(
                TypedHeader, st.just(kind), st.integers(-(1 << BOUNDS[kind]), (1 << BOUNDS[kind]) - 1)
            )
        )
        | st.builds(TypedHeader, st.just("uuid"), st.binary(min_size=16, max_size=16)),
        max_size=6,
    ),
    st.binary(max_size=100),
)
def test_botocore_reads_what_is_written(headers: dict[str, Any], payload: bytes) -> None:
    plain = {name: value.value if isinstance(value, TypedHeader) else value for name, value in headers.items()}
    found = by_botocore(encode_message(headers, payload))
    assert found == (plain, payload)
    assert [type(value) for value in found[0].values()] == [type(value) for value in plain.values()]


def test_the_longest_that_there_is() -> None:
    headers = {"n" * 255: "v" * 0xFFFF}
    assert by_botocore(encode_message(headers)) == (headers, b"")


REFUSED: list[tuple[str, Any, str]] = [
    ("n" * 256, "v", "at most 255 bytes"),
    ("é" * 128, "v", "at most 255 bytes"),
    ("n", "v" * 0x10000, "at most 65535 bytes long, not 65536"),
    ("n", bytes(0x10000), "at most 65535 bytes long, not 65536"),
    ("n", 7, "text, bytes, a boolean or a TypedHeader, not 7"),
    ("n", None, "a TypedHeader, not None"),
    ("n", ("short", 1), "a TypedHeader, not"),
    ("n", TypedHeader("byte", 128), "byte must be an integer of 1 bytes, not 128"),
    ("n", TypedHeader("long", 1 << 63), "integer of 8 bytes"),
    ("n", TypedHeader("uuid", bytes(15)), "a UUID's 16 bytes"),
    ("n", TypedHeader("uuid", 16), "a UUID's 16 bytes"),
    ("n", TypedHeader("short", b"\0\1"), "an integer of a known type"),
    ("n", TypedHeader("double", 1), "an integer of a known type"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("name", "value", "reason"), REFUSED)
def test_what_has_no_form_on_the_wire_is_refused(name: str, value: Any, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        encode_message({name: value})
