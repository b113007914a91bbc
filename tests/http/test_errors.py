"""Every failed exchange becomes the right error, with what it said and without what it must not show."""

from __future__ import annotations

import email.utils
import json
import sys
from types import FrameType
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from managed_agents_actors import _errors as errors
from managed_agents_actors._http.errors import (
    status_failure,
    stream_error,
    stream_failure,
    transport_failure,
    unusable,
)
from managed_agents_actors._http.redaction import redact, redacted, secrets_in


def failure(status: int, body: Any = b"", **headers: str) -> Any:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return status_failure(status, named, raw, secrets=("sk-secret",))


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (301, errors.APIError),
        (400, errors.InvalidRequestError),
        (401, errors.AuthenticationError),
        (402, errors.InvalidRequestError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (408, errors.InvalidRequestError),
        (409, errors.ConflictError),
        (410, errors.NotFoundError),
        (412, errors.ConflictError),
        (413, errors.InvalidRequestError),
        (422, errors.InvalidRequestError),
        (429, errors.RateLimitError),
        (500, errors.ServerError),
        (503, errors.ServerError),
        (504, errors.ServerError),
        (529, errors.OverloadedError),
        (599, errors.ServerError),
    ],
)
def test_each_status_has_its_class(status: int, expected: type) -> None:
    body = {"type": "error", "error": {"type": "some_error", "message": "no"}, "request_id": "req_body"}
    error = failure(status, body).error
    assert type(error) is expected
    assert (error.status, error.type, error.message, error.request_id) == (status, "some_error", "no", "req_body")
    assert error.body == body


@pytest.mark.parametrize(
    ("body", "type_", "message"),
    [
        (b"", "api_error", "HTTP 500 with no message"),
        (b"<html>Bad gateway</html>", "api_error", "<html>Bad gateway</html>"),
        ({"error": "just text"}, "api_error", "just text"),
        ("just a string", "api_error", "just a string"),
        ({"message": "other shape", "type": "x_error"}, "x_error", "other shape"),
        ({"error": {"type": 7, "message": None}}, "api_error", "HTTP 500 with no message"),
        ([1, 2], "api_error", "HTTP 500 with no message"),
        ({"error": None}, "api_error", "HTTP 500 with no message"),
        (b"\xff\xfe", "api_error", "\ufffd\ufffd"),
    ],
)
def test_any_shape_of_body_gives_a_message(body: Any, type_: str, message: str) -> None:
    error = failure(500, body).error
    assert (error.type, error.message) == (type_, message)


def test_the_request_id_header_comes_first() -> None:
    assert failure(500, {"request_id": "req_body"}, request_id="req_header").error.request_id == "req_header"


def test_text_is_bounded() -> None:
    error = failure(502, b"<html>" + b"x" * 60_000).error
    assert len(str(error)) < 1_200
    assert len(error.body) < 1_200


def test_a_redirect_says_where_to() -> None:
    assert "https://other.example" in failure(307, location="https://other.example").error.message


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry_after": "3"}, 3.0),
        ({"retry_after": "0.25"}, 0.25),
        ({"retry_after": "-4"}, 0.0),
        ({"retry_after": "nan"}, None),
        ({"retry_after": "inf"}, None),
        ({"retry_after": "soon"}, None),
        ({"retry_after_ms": "1500", "retry_after": "9"}, 1.5),
        ({"retry_after_ms": "x", "retry_after": "9"}, 9.0),
        ({"retry_after": "Sun, 22 Nov 2026 10:00:07 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 7.0),
        ({"retry_after": "Sun, 22 Nov 2026 09:00:00 GMT", "date": "Sun, 22 Nov 2026 10:00:00 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], expected: float | None) -> None:
    assert failure(429, **headers).error.retry_after == expected


def test_a_retry_after_date_without_a_server_clock_uses_ours() -> None:
    waited = failure(429, retry_after=email.utils.formatdate(usegmt=True)).error.retry_after
    assert waited is not None
    assert 0 <= waited <= 2


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("FALSE", False), ("maybe", None)])
def test_the_servers_word_on_repeating(value: str, expected: bool | None) -> None:
    assert failure(500, x_should_retry=value).should_retry is expected


def test_secrets_are_removed_everywhere() -> None:
    body = {"error": {"message": "bad key sk-secret", "details": {"key": ["sk-secret"]}}}
    error = failure(401, body).error
    shown = f"{error} {error!r} {error.message} {error.body} {error.args}"
    assert "sk-secret" not in shown
    assert "[redacted]" in error.message
    event = {"type": "error", "error": {"type": "api_error", "message": "sk-secret"}, "list": ["sk-secret"]}
    assert "sk-secret" not in repr(vars(stream_error(event, secrets=["sk-secret"])))
    assert event["list"] == ["sk-secret"], "the caller's event is not touched"
    assert b"sk-secret" not in unusable("m", b"<sk-secret>", secrets=["sk-secret"]).raw
    assert redact("", [""]) == ""


@pytest.mark.parametrize(
    ("type_", "expected"),
    [
        ("overloaded_error", errors.OverloadedError),
        ("rate_limit_error", errors.RateLimitError),
        ("authentication_error", errors.AuthenticationError),
        ("permission_error", errors.PermissionDeniedError),
        ("not_found_error", errors.NotFoundError),
        ("api_error", errors.ServerError),
        ("timeout_error", errors.ServerError),
        ("invalid_request_error", errors.InvalidRequestError),
        ("brand_new_error", errors.APIError),
    ],
)
def test_an_error_frame_has_the_class_of_its_type(type_: str, expected: type) -> None:
    frame = {"type": "error", "error": {"type": type_, "message": "m"}, "request_id": "req_1"}
    error = stream_error(frame)
    assert type(error) is expected
    assert (error.status, error.type, error.message, error.request_id) == (200, type_, "m", "req_1")


def test_an_error_frame_may_be_a_bare_string() -> None:
    error = stream_error({"type": "error", "error": "went away"})
    assert (type(error), error.message) == (errors.APIError, "went away")


@pytest.mark.parametrize(
    ("exc", "expected", "sent"),
    [
        (httpx.ConnectError("x"), errors.TransportError, False),
        (httpx.ConnectTimeout("x"), errors.TransportError, False),
        (httpx.PoolTimeout("x"), errors.TransportError, False),
        (httpx.ProxyError("x"), errors.TransportError, False),
        (httpx.ReadError("x"), errors.TransportError, True),
        (httpx.ReadTimeout("x"), errors.TransportError, True),
        (httpx.WriteError("x"), errors.TransportError, True),
        (httpx.RemoteProtocolError("illegal status line"), errors.ProtocolError, True),
        (httpx.RemoteProtocolError("peer closed without sending complete message body"), errors.TruncatedStream, True),
    ],
)
def test_only_a_failed_connection_is_certainly_unsent(exc: httpx.HTTPError, expected: type, sent: bool) -> None:
    error: Any = transport_failure(exc, "GET /x").error
    assert (type(error), error.request_sent, error.__cause__) == (expected, sent, exc)
    assert "GET /x" in str(error)


def test_a_broken_stream_is_lost_and_a_silent_one_idle() -> None:
    assert type(stream_failure(httpx.ReadTimeout("x"), "s").error) is errors.StreamIdleTimeout
    assert type(stream_failure(httpx.ReadError("x"), "s").error) is errors.StreamLost
    assert type(stream_failure(httpx.RemoteProtocolError("x"), "s").error) is errors.StreamLost


KEY = "sk-ant-abc/def+ghi=="
KEY_FORMS = [
    KEY,
    KEY.replace("/", "\\/"),
    KEY.replace("+", "\\u002B").replace("=", "\\u003d"),
    KEY.replace("/", "\\\\\\/"),  # JSON within JSON
    KEY.replace("/", "%2F").replace("=", "%3d"),
]


@pytest.mark.parametrize("form", KEY_FORMS)
def test_a_secret_is_removed_however_it_is_escaped(form: str) -> None:
    shown = [
        status_failure(401, {}, f'{{"error": {{"message": "bad {form}!", "{form}": 1}}}}'.encode(), secrets=[KEY]),
        status_failure(401, {"request-id": f"req-{form}"}, f"<html>{form}</html>".encode(), secrets=[KEY]),
        status_failure(307, {"location": f"http://other/?key={form}"}, b"", secrets=[KEY]),
        transport_failure(httpx.ReadError(form), "GET /x", secrets=[KEY]),
        stream_failure(httpx.ReadError(form), "GET /x", secrets=[KEY]),
    ]
    for item in shown:
        text = f"{item.error} {vars(item.error)}"
        assert "[redacted]" in text
        assert "abc" not in text
        assert "def" not in text
    lost = unusable(f"a {form!r} frame", f'["{form}"]'.encode(), secrets=[KEY])
    assert b"def" not in lost.raw
    assert "abc" not in str(lost)


def test_a_secret_is_removed_before_an_excerpt_is_cut() -> None:
    for filling in range(450, 520):
        assert b"sk-ant" not in unusable("m", b"e" * filling + KEY.encode() + b"e" * 600, secrets=[KEY]).raw
    for filling in range(960, 1010):
        text = "e" * filling + KEY + "e" * 600
        assert "sk-ant" not in str(status_failure(500, {}, text.encode(), secrets=[KEY]).error)
        assert "sk-ant" not in str(unusable(text, b"", secrets=[KEY]))


@pytest.mark.parametrize("length", range(6, len(KEY)))
def test_the_beginning_of_a_secret_at_the_end_of_what_was_read_is_removed(length: int) -> None:
    assert redact(f"key {KEY[:length]}", [KEY]) == "key [redacted]"
    assert redact(f"key {KEY[:length]}\ufffd", [KEY]) == "key [redacted]"


def test_the_longer_secret_goes_first_and_a_very_short_one_stays() -> None:
    assert redact("secret-and-more, secret-k", ["secret", "secret-and-more", "k", ""]) == "[redacted], [redacted]-k"


def test_a_secret_of_backslashes_costs_no_time() -> None:
    secret = "\\" * 40 + "x"
    assert redact("\\" * 60_000 + "y", [secret]).endswith("y")
    assert "x" not in redact(f"a{secret}b", [secret])


FORMS = {
    "plain": lambda text: text,
    "JSON": lambda text: json.dumps(text, ensure_ascii=False)[1:-1],
    "ASCII JSON": lambda text: json.dumps(text)[1:-1],
    "JSON in JSON": lambda text: json.dumps(json.dumps(text))[3:-3],
    "JSON with all slashes escaped": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "URL": lambda text: quote(text, safe=""),
    "JSON in a URL": lambda text: quote(json.dumps(text)[1:-1]),
}
characters = st.characters(codec="utf-8", exclude_characters="<>")


@given(st.text(characters, min_size=8, max_size=20), st.sampled_from(sorted(FORMS)))
@example("sk-%41/+=", "JSON with all slashes escaped")
@example('{"key": "%41"}', "ASCII JSON")
@example("-----BEGIN-----\nMIIE\t🦑\n", "JSON in a URL")
def test_no_form_of_a_secret_is_left(secret: str, form: str) -> None:
    shown = FORMS[form](secret)
    left = redact(f"<{shown}>", [secret])
    if len(secret.replace("\\", "")) >= 6:
        # A backslash beside it may be of another text's escape.
        assert left.replace("\\", "").replace("%5C", "") == "<[redacted]>"
        assert redacted([{f"<{shown}>": [shown]}], [secret])[0].keys() == {left}
    else:
        assert secret not in left


@given(st.text(characters, max_size=40), st.lists(st.text(characters, min_size=6), max_size=3))
def test_what_holds_no_secret_stays_as_it_is(text: str, secrets: list[str]) -> None:
    if not any(secret[:6] in text for secret in secrets) and not {"%", "\\"} & set(text):
        assert redact(text, secrets) == text
        assert redacted({text: [text, 5, None]}, secrets) == {text: [text, 5, None]}


def work(text: str, secrets: list[str]) -> int:
    """How many instructions of Python it takes to make an error of a refusal."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        status_failure(400, {}, json.dumps({"message": text, "list": ["text"] * 20}).encode(), secrets=secrets)
    finally:
        sys.settrace(before)
    return count


def test_many_and_long_secrets_cost_next_to_nothing() -> None:
    """Fifty variables of 5000 characters are what a harness may have; each of them is looked for in every text."""
    many = [f"{number:06d}" + "s3cret/+=" * 555 for number in range(50)]
    assert work("x" * 1_000, many) < 1.2 * work("x" * 1_000, ["another-secret"])
    assert work("x" * 4_000, many) < 5 * work("x" * 1_000, many)
    assert many[0] not in redact(f"bad {many[0]}", many)


def test_an_excerpt_that_is_cut_within_a_character_shows_no_beginning() -> None:
    for cut in ("%", "%2", "%C3", "\\", "\\u", "\\u00e", "\ufffd"):
        assert redact(f"key sk-ant-{cut}", ["sk-ant-ä-and-more"]) == "key [redacted]"


def test_an_error_body_nested_deeply_is_cut_off() -> None:
    body = b'{"a":' * 400 + b'"sk-secret"' + b"}" * 400
    assert "sk-secret" not in repr(failure(500, body).error.body)


def test_the_credentials_of_a_body_are_found() -> None:
    body = {
        "resources": [{"type": "github_repository", "authorization_token": "ghp_12345"}, {"token": 5}],
        "auth": {"refresh": {"refresh_token": "r-12345", "client_secret": "c-12345"}, "access_token": "a-12345"},
        "secret_value": "v-12345",
        "title": "plain",
    }
    assert sorted(secrets_in(body)) == ["a-12345", "c-12345", "ghp_12345", "r-12345", "v-12345"]
