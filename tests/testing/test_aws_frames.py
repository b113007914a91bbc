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


@settings(deadline=None)  # machines are shared
@given(st.dictionaries(st.text(max_size=20), st.text(), max_size=6), st.binary(max_size=100))
def test_botocore_reads_what_is_written(headers: dict[str, str], payload: bytes) -> None:
    assert by_botocore(encode_message(headers, payload)) == (headers, payload)


def test_the_longest_that_there_is() -> None:
    headers = {"n" * 255: "v" * 0xFFFF}
    assert by_botocore(encode_message(headers)) == (headers, b"")


REFUSED = [
    ("n" * 256, "v", "at most 255 bytes"),
    ("é" * 128, "v", "at most 255 bytes"),
    ("n", "v" * 0x10000, "at most 65535 bytes long, not 65536"),
    ("n", "é" * 0x8000, "at most 65535 bytes long, not 65536"),
]


@pytest.mark.parametrize(("name", "value", "reason"), REFUSED)
def test_what_has_no_form_on_the_wire_is_refused(name: str, value: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        encode_message({name: value})
