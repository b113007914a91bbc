"""No secret gets through the redaction, wherever it is; what is none comes out as it went in."""

from __future__ import annotations

import copy
import json
import math
import re
import uuid
from collections import namedtuple
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from managed_agents_actors.telemetry._redaction import MAX_DEPTH, leaks, redact

KEY = "sk-ant-api03-Zm9vYmFy_Zm9v-QUJD"
PLAIN_KEY = "sk-0123456789abcdef"
AWS_KEY_ID = "AKIAIOSFODNN7EXAMPLE"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl-_"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEow-IBAAKCAQEA\nq2ZJ\n-----END RSA PRIVATE KEY-----"

# Names that are given secrets, and names that are not.
SECRET_NAMES = [
    *("authorization", "Authorization", "Proxy-Authorization", "http.request.header.authorization"),
    *("api_key", "apiKey", "APIKEY", "X-Api-Key", "ANTHROPIC_API_KEY", "api key", "api_keys", "api_key_2"),
    *("access_key", "aws_access_key_id", "secretAccessKey", "secret-key", "session_key", "private_key", "signingKey"),
    *("token", "X-Amz-Security-Token", "sessionToken", "sessions_token", "refresh_tokens", "id_token", "TOKEN"),
    *("secret", "client_secret", "clientSecret", "secret_value", "password", "passwd", "db.password", "passphrase"),
    *("signature", "X-Amz-Signature", "cookie", "Set-Cookie", "cookies", "credential", "credentials", "jwt"),
]
HARMLESS_NAMES = [
    *("session_id", "tool_use_id", "tool_use_ids", "request_id", "span_id", "parent_id", "agent_id", "harness_id"),
    *("input_tokens", "output_tokens", "max_tokens", "cache_read_input_tokens", "tokens", "token_count", "tokenizer"),
    *("key", "keys", "cache_key", "idempotency_key", "monkey", "secret_name", "secretary", "credential_id"),
    *("password_policy", "token_endpoint", "api_key_id", "signature_version", "author", "authority", "cookie_jar_size"),
]

# Texts and what is left of them.
TEXTS = [
    ("authorization: Bearer abc", "authorization: Bearer [redacted]"),
    ("Authorization: Basic dXNlcjpwYXNz\r\nhost: x", "Authorization: Basic [redacted]\r\nhost: x"),
    ("authorization: abc", "authorization: [redacted]"),
    (
        "authorization: AWS4-HMAC-SHA256 Credential=a/b, Signature=c",
        "authorization: AWS4-HMAC-SHA256 [redacted], Signature=[redacted]",
    ),
    ("authorization: Token abc", "authorization: Token [redacted]"),
    ("the secrets: password = abc", "the secrets: password = [redacted]"),
    ("the secret: the password: abc", "the secret: [redacted] password: [redacted]"),
    ("token: password: abc", "token: password: [redacted]"),
    ("secret = password = 'abc'", "secret = password = '[redacted]'"),
    ("the password: api key=abc", "the password: api key=[redacted]"),
    ("token=db_secret=abc", "token=[redacted]"),
    ("the bearer access_token: abc", "the bearer [redacted] [redacted]"),
    ("the token: 'abc': no", "the token: '[redacted]': no"),
    ("x-api-key: abc", "x-api-key: [redacted]"),
    ("X-API-Key : abc", "X-API-Key : [redacted]"),
    ("cookie: a=b; c=d", "cookie: [redacted]"),
    ("api_key=abc", "api_key=[redacted]"),
    ("Config(api_key='a b', size=3)", "Config(api_key='[redacted]', size=3)"),
    ("Config(token=abc, size=3)", "Config(token=[redacted], size=3)"),
    ("password=a,b;c(d)e\\f]g", "password=[redacted]"),
    ("password => abc", "password => [redacted]"),
    ('{"api_key": "abc", "n": 1}', '{"api_key": "[redacted]", "n": 1}'),
    ('{"api_key":"a\\"b","n":1}', '{"api_key":"[redacted]","n":1}'),
    ('{"body": "{\\"token\\": \\"abc\\", \\"n\\": 1}"}', '{"body": "{\\"token\\": \\"[redacted]\\", \\"n\\": 1}"}'),
    ('{"token": 123, "n": 1}', '{"token": [redacted], "n": 1}'),
    ('{"cookies": ["a", "b"], "n": 1}', '{"cookies": [redacted], "n": 1}'),
    ('{"api_key": "cut o', '{"api_key": "[redacted]'),
    ("{'password': b'abc'}", "{'password': b'[redacted]'}"),
    ("[('x-api-key', 'abc'), ('a', 'b')]", "[('x-api-key', '[redacted]'), ('a', 'b')]"),
    ("[(b'Authorization', b'Bearer abc')]", "[(b'Authorization', b'Bearer [redacted]')]"),
    (f"the key {KEY} is refused", "the key [redacted] is refused"),
    (f"the key is\\n{PLAIN_KEY}", "the key is\\n[redacted]"),
    (f"?q=%2f{PLAIN_KEY}", "?q=%2f[redacted]"),
    (f"my-{PLAIN_KEY}", "my-[redacted]"),
    (f"<{AWS_KEY_ID}>", "<[redacted]>"),
    ("<ASIAIOSFODNN7EXA>", "<[redacted]>"),
    ("got Bearer abc.def~ghi, no more", "got Bearer [redacted], no more"),
    ("BEARER  abc", "BEARER  [redacted]"),
    ("Bearer\tabc", "Bearer\t[redacted]"),
    ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "Basic [redacted]"),
    ("Basic dXNlcjpwYXNz", "Basic [redacted]"),
    ("Basic abc123def", "Basic [redacted]"),
    ("basic verybasic dXNlcjpwYXNz", "basic verybasic [redacted]"),
    (f"jwt {JWT}!", "jwt [redacted]!"),
    ("https://user:p@ss:word@host/x", "https://user:[redacted]@host/x"),
    ("https://x-access-token:abc@github.com/a/b", "https://x-access-token:[redacted]@github.com/a/b"),
    ("redis://:abc@host:1/0", "redis://:[redacted]@host:1/0"),
    ("https://host/x?token=abc&n=1", "https://host/x?token=[redacted]&n=1"),
    ("/x?X-Amz-Credential=A%2Fb&X-Amz-Signature=c#d", "/x?X-Amz-Credential=[redacted]&X-Amz-Signature=[redacted]"),
    ("/x?X-Amz-Security-Token=a%2Bb%3D", "/x?X-Amz-Security-Token=[redacted]"),
    ("next=%2Fx%3Ftoken%3Dabc", "next=%2Fx%3Ftoken%3D[redacted]"),
    (f"a\n{PEM}\nb", "a\n[redacted]\nb"),
    (PEM.replace("\n", "\\n"), "[redacted]"),
    (PEM[:60], "[redacted]"),
    ("arn:aws:iam::123456789012:role/x", "arn:aws:iam::000000000000:role/x"),
    ("arn:aws:iam::123456:role/x", "arn:aws:iam::000000000000:role/x"),
    (
        "arn:aws:secretsmanager:us-east-1:123456789012:secret:prod/db",
        "arn:aws:secretsmanager:us-east-1:000000000000:secret:prod/db",
    ),
    (
        "/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A123456789012%3Aruntime%2Fx/invocations",
        "/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A000000000000%3Aruntime%2Fx/invocations",
    ),
]

HARMLESS_TEXTS = [
    *("", "end_turn", "managed_agents.tool.stop", "sesn_011CZkZAtmR3yMPDzynEDxu7", "POST /v1/sessions?beta=true"),
    *("input_tokens=5, output_tokens: 7", '{"max_tokens": 5}', "token_count=3", '{"api_keys": 3, "token": null}'),
    *(
        "task-0123456789abcdef0123",
        "a disk-encryption-settings page",
        "sk-short",
        "the sk-learn way",
        "AKIA",
        "ASIA 2025",
    ),
    *("invalid bearer token", "Bearer token expired", 'Bearer realm="x", error="invalid_token"', "Bearer ***"),
    *("a basic understanding of JavaScript", "basic read/write access", "eyJ", "eyJhbGci.json"),
    *("the secrets: what must not be shown", "Please enter your password: ", "the password:\n", "no token, sorry"),
    *("the password: {", '{"say": "the password: {\\"n\\": 1}"}'),
    *('{"type": "token", "user": "bob"}', '["a", "token", "b"]', '{"say": "password: ", "to": "bob"}'),
    *(
        "https://user@host:80/a@b",
        "https://host:8080/x",
        "10:30:00",
        "arn:aws:s3:::bucket",
        "arn:aws:iam::000000000000:x",
    ),
    *("-----BEGIN PUBLIC KEY-----", "ünïcödé …", "\ud800"),
]


class Broken:
    """What cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


class BrokenMapping(Mapping[str, Any]):
    def __getitem__(self, key: str) -> Any:
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("no")

    def __len__(self) -> int:
        return 1


@dataclass
class Login:
    user: str
    password: str


Point = namedtuple("Point", ["x", "password"])


def shown(value: Any) -> str:
    """All that a sink could make of a value that holds nothing but plain ones."""
    return f"{value!r} {as_json(value)}"


def as_json(value: Any) -> str:
    return json.dumps(value, default=lambda _: None, skipkeys=True)  # without bytes, which JSON does not have


def nested(value: Any, depth: int) -> Any:
    for _ in range(depth):
        value = [value]
    return value


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(HARMLESS_TEXTS)
harmless = st.recursive(
    plain,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(HARMLESS_NAMES), inner, max_size=4)
        | st.tuples(inner, inner, inner)
    ),
    max_leaves=12,
)
# Not of a form that gives it away: only where it stands tells that it is a secret.
secrets = st.from_regex(r"Q[A-Za-z0-9+/_.~-]{4,20}7Q", fullmatch=True)


@st.composite
def hiding_places(draw: st.DrawFn) -> tuple[Any, str]:
    """A value, and the secret that is in it."""
    secret = draw(secrets)
    name = draw(st.sampled_from(SECRET_NAMES))
    header = name.replace(" ", "-")
    key = draw(st.sampled_from([KEY, AWS_KEY_ID, JWT, PEM]))
    before, after = draw(st.sampled_from(HARMLESS_TEXTS)), draw(st.sampled_from(HARMLESS_TEXTS))
    place, hidden = draw(
        st.sampled_from(
            [
                ({name: secret}, secret),
                ({name: {"a": [secret]}}, secret),
                ({name.encode(): secret.encode()}, secret),
                ([[header, secret]], secret),
                ([(header, f"Bearer {secret}")], secret),
                ([(header.encode(), secret.encode())], secret),
                (f"{before} {name}={secret} {after}", secret),
                (f"{before}\n{name}: {secret}\n{after}", secret),
                (f"{before}{json.dumps({name: secret})}{after}", secret),
                (json.dumps({"body": json.dumps({"n": 1, name: secret}), "after": after}), secret),
                (repr({"n": after, name: secret}), secret),
                (repr([(header, secret), ("n", after)]), secret),
                (ValueError(f"{before} {name}={secret}"), secret),
                (Login(before, secret), secret),
                (Point(1, secret), secret),
                (f"{before} {key} {after}", key),
                (f"{before} {key} {after}".encode("utf-8", "surrogatepass"), key),
                ({f"{before} {key}": after}, key),
                ({f"{before} {name}={secret}": after}, secret),
                ([KeyError(key)], key),
            ]
        )
    )
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.sampled_from([[place], (before, place), {"a": place, "b": after}, {1: (place, before, None)}]))
    return place, hidden


@given(hiding_places())
def test_a_secret_is_removed_wherever_it_is(hiding_place: tuple[Any, str]) -> None:
    value, secret = hiding_place
    redacted = redact(value)
    assert secret not in shown(redacted)
    assert "redacted]" in shown(redacted)
    assert redact(redacted) == redacted
    assert leaks(as_json(redacted)) == []


@given(harmless)
@example(
    [
        ["a", "token"],
        ["a bad token", "end_turn"],
        ("role", "user"),
        {"token": None, "secret": False, "password": "", "credentials": []},
    ]
)
@example({("a", 1): {1, 2}, None: frozenset({"a"}), 2: b"\xff\x00", "password_count": 3, "passwords": 3})
@example([datetime(2025, 1, 1, tzinfo=UTC), timedelta(1), Decimal("1.5"), uuid.UUID(int=1), math.inf, 1j])
def test_what_holds_no_secret_comes_out_equal(value: Any) -> None:
    assert redact(value) == value


@given(hiding_places())
def test_the_argument_is_left_as_it_is(hiding_place: tuple[Any, str]) -> None:
    value, _ = hiding_place
    before = repr(value)
    redact(value)
    assert repr(value) == before


@pytest.mark.parametrize("name", SECRET_NAMES)
@pytest.mark.parametrize("value", ["abc", "two words", {"a": "abc"}, ["abc"], 1234, object()])
def test_what_is_given_to_a_telling_name_is_replaced(name: str, value: Any) -> None:
    counts = value == 1234 and name.endswith("s")
    expected = value if counts else "[redacted]"
    assert redact({name: value, "n": 1}) == {name: expected, "n": 1}


def test_of_a_long_key_the_end_counts() -> None:
    long = "x" * 500
    assert redact({f"{long}_api_key": "abc", f"{long}_id": "def"}) == {
        f"{long}_api_key": "[redacted]",
        f"{long}_id": "def",
    }


@pytest.mark.parametrize("name", HARMLESS_NAMES)
@pytest.mark.parametrize("value", ["abc", 5, ["abc"]])
def test_ids_and_counts_stay(name: str, value: Any) -> None:
    assert redact({name: value}) == {name: value}
    assert redact([name, str(value)]) == [name, str(value)]
    assert redact(f"{name}={value}") == f"{name}={value}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Bearer abc", "Bearer [redacted]"),
        ("bearer abc", "bearer [redacted]"),
        ("Basic abc", "Basic [redacted]"),
        ("AWS4-HMAC-SHA256 Credential=abc, Signature=def", "AWS4-HMAC-SHA256 [redacted]"),
        ("abc", "[redacted]"),
        ("abc def", "[redacted]"),
        (b"Bearer abc", b"Bearer [redacted]"),
        (["Bearer abc"], "[redacted]"),
        ("", ""),
        (None, None),
        (True, True),
    ],
)
def test_of_an_authorization_only_its_scheme_is_shown(value: Any, expected: Any) -> None:
    assert redact({"Authorization": value}) == {"Authorization": expected}


def test_a_password_that_begins_like_a_scheme_is_not_shown() -> None:
    assert redact({"password": "basic abc"}) == {"password": "[redacted]"}
    assert redact("password='basic abc'") == "password='[redacted]'"


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_secrets_are_removed_from_texts(text: str, expected: str) -> None:
    assert redact(text) == expected
    assert redact(expected) == expected
    assert redact({"reason": [text]}) == {"reason": [expected]}
    assert redact(text.encode()) == expected.encode()
    assert leaks(text) != []
    assert leaks(expected) == []


@pytest.mark.parametrize("text", HARMLESS_TEXTS)
def test_texts_that_hold_no_secret_are_left_alone(text: str) -> None:
    assert redact(text) == text
    assert leaks(text) == []


@pytest.mark.parametrize(
    "around", ["{}", "a{}", "9{}", "key:{}.", '"{}"', "a/{}/b", "ä{}ä", "\\n{}", "{}{}", "Bearer {}"]
)
def test_sec_01_an_embedded_key_is_removed(around: str) -> None:
    assert KEY[:6] not in redact(around.replace("{}", KEY))


@pytest.mark.parametrize(
    "partition", ["aws", "aws-cn", "aws-us-gov", "aws-iso", "aws-iso-b", "aws-iso-e", "aws-iso-f", "aws-eusc"]
)
def test_sec_01_the_account_in_an_arn_of_any_partition_is_zeroed(partition: str) -> None:
    arn = f"arn:{partition}:bedrock-agentcore:eu-1:123456789012:harness/h-1"
    zeroed = arn.replace("123456789012", "000000000000")
    assert redact(arn) == zeroed
    assert redact({"error": f"no access to {arn}, {arn}"}) == {"error": f"no access to {zeroed}, {zeroed}"}
    assert leaks(arn) == ["AWS account"]


@pytest.mark.parametrize(
    ("pair", "expected"),
    [
        (("authorization", "Bearer x"), ("authorization", "Bearer [redacted]")),
        (["x-api-key", "v"], ["x-api-key", "[redacted]"]),
        ((b"X-Amz-Security-Token", b"v"), (b"X-Amz-Security-Token", b"[redacted]")),
        (("Cookie", "a=b; c=d"), ("Cookie", "[redacted]")),
        (("content-type", "text/plain"), ("content-type", "text/plain")),
        (("x-api-key", "v", "more"), ("x-api-key", "v", "more")),
    ],
)
def test_sec_01_header_pairs_are_redacted(pair: Any, expected: Any) -> None:
    assert redact([pair, ("accept", "*/*")]) == [expected, ("accept", "*/*")]


# What rules begin with, contain and end with: put together at random, to find where one undoes another.
PIECES = [
    *("sk-", "sk-ant-", "a" * 16, "A" * 16, "123456789012", "0" * 12, "AKIA", "ASIA", "arn:aws:", "arn%3Aaws-cn%3A"),
    *(":", "::", "x:", "y%3A", "=", "=>", " ", "\t", "\n", "'", '"', '\\"', "\\", "\\n", ",", ";", "; ", "&", "?", "/"),
    *("(", ")", "[", "]", "{", "}", "<", "@", "://", "https://", "user", "token", "tokens", "secret", "secrets: "),
    *("password", "x-api-key", "authorization", "cookie", "credential", "Bearer ", "bearer", "basic ", "dXNlcjpwYXNz"),
    *("eyJ", ".", "-", "_", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "[redacted]", "[redacted"),
    *("null", "true", "realm=", "is", "b'", "ü", "\ud800", "%2f", ":000000000000:secret:", "value", "5", "abc"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text())
@example("AKIAAAAAAAAAAAAA1:secret:a")
@example(f"AKIA{'A' * 16}sk-{'a' * 16}")
@example("sk-aaaaaaaaaaaaaaaa-basic userbasic password=")
@example("token=sk-ant-authorization==")
@example("secret==12ASIAAAAAAAAAAAAAAAAsecret:")
@example("token::…")
@example("https://token:Basic x&}a@b")
@example("token='[redacted]abc'")
@example("token=[redacted]abc [abc")
def test_what_was_redacted_leaks_nothing_and_stays_as_it_is(text: str) -> None:
    redacted = redact(text)
    assert leaks(redacted) == []
    assert redact(redacted) == redacted


# Source: rule RD-3, spelled out anew.
@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_a_scan_of_another_make_finds_nothing_either(text: str) -> None:
    redacted = redact(text)
    assert re.search(r"(AKIA|ASIA)[A-Z0-9]{12}", redacted) is None
    assert re.search(r"(?<![a-z])sk-[A-Za-z0-9_-]{16}", redacted) is None
    assert re.search(r"arn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:(?!0{12})[0-9]{6}", redacted) is None
    assert re.search(r"Bearer +(a{16}|abc)", redacted) is None


def test_the_leaks_are_named_and_not_told() -> None:
    text = f"{PEM} https://a:b@c password=d [('token', 'e')] Bearer f Basic dXNlcjpwYXNz {JWT} {KEY} {AWS_KEY_ID}"
    assert leaks(f"{text} arn:aws:iam::123456789012:x") == [
        "private key",
        "password in a URL",
        "JSON web token",
        "API key",
        "AWS access key id",
        "AWS account",
        "named secret",
        "secret header",
        "bearer token",
        "basic credentials",
    ]


def test_it_never_raises() -> None:
    class Hostile:
        @property
        def __class__(self) -> Any:
            raise RuntimeError("no")

    broken: list[Any] = [Broken(), BrokenMapping(), Hostile(), {Broken(): 1}, [Exception(Broken())]]
    assert redact(broken) == ["[unreadable]", "[unreadable]", "[unreadable]", {"[unreadable]": 1}, ["[unreadable]"]]


def test_what_holds_itself_is_cut_off_there() -> None:
    loop: dict[str, Any] = {"a": 1}
    loop["again"] = [loop]
    assert redact(loop) == {"a": 1, "again": ["…"]}


def test_what_occurs_twice_is_no_loop() -> None:
    shared = {"token": "abc"}
    assert redact([shared, shared]) == [{"token": "[redacted]"}] * 2


def test_what_is_nested_too_deeply_is_cut_off() -> None:
    assert redact(nested("a", MAX_DEPTH)) == nested("a", MAX_DEPTH)
    assert redact(nested([KEY], MAX_DEPTH)) == nested("…", MAX_DEPTH)
    assert KEY not in repr(redact(nested(KEY, 50_000)))


def test_what_occurs_ever_so_often_is_copied_once() -> None:
    value: Any = KEY
    for _ in range(60):  # of a size that no computer holds, if each occurrence had a copy of its own
        value = [value, value]
    redacted = redact(value)
    for _ in range(60):
        (redacted, other) = redacted
        assert redacted is other
    assert redacted == "[redacted]"


def test_objects_become_texts_and_exceptions_their_messages() -> None:
    assert redact(Login("bob", "abc def")) == "Login(user='bob', password='[redacted]')"
    assert redact(ValueError(f"bad key {KEY}")) == "bad key [redacted]"
    assert redact(ValueError()) == "ValueError()"
    assert redact(MappingProxyType({"token": "abc"})) == {"token": "[redacted]"}
    assert redact(Point("abc", "def")) == ("abc", "[redacted]")


def test_a_text_of_a_class_of_its_own_becomes_a_plain_one() -> None:
    class Text(str):
        __slots__ = ()

        def __str__(self) -> str:
            return KEY

        __repr__ = __str__

    (redacted,) = redact([Text("abc")])
    assert type(redacted) is str
    assert redacted == "abc"


def test_the_copy_shares_nothing_that_can_change() -> None:
    value: Any = {"a": [1, {"b": {2}}]}
    redacted = redact(value)
    before = copy.deepcopy(redacted)
    value["a"].append(3)
    value["a"][1]["b"].add(4)
    assert redacted == before
