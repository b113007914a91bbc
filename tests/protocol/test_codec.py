"""JSON both ways: exact, lossless, and failing with ValueError only."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from managed_agents_actors._protocol import codec
from managed_agents_actors._protocol.codec import (
    decode_json,
    decode_json_exactly,
    encode_json,
    has_lone_surrogate,
    without_lone_surrogates,
)

any_text = st.text(alphabet=st.characters())  # lone surrogates included
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)  # machines are shared
@given(json_values)
def test_what_is_encoded_decodes_to_the_same(value: object) -> None:
    encoded = encode_json(value)
    assert encoded.isascii()
    for data in (encoded, bytearray(encoded), memoryview(encoded), encoded.decode()):
        assert decode_json(data) == value


def test_encoding_is_compact() -> None:
    assert encode_json({"a": [1, "é"], "b": None}) == rb'{"a":[1,"\u00e9"],"b":null}'


def test_big_integers_stay_exact() -> None:
    assert decode_json(b"123456789012345678901234567890") == 123456789012345678901234567890


@pytest.mark.parametrize("data", [rb'"\ud800"', '"\ud800"', b'"\xed\xa0\x80"'])
def test_lone_surrogates_are_accepted(data: bytes | str) -> None:
    assert decode_json(data) == "\ud800"


def outcome(decode: Callable[[bytes], Any], data: bytes) -> str:
    """What comes of it, to the last digit and in order."""
    try:
        return repr(decode(data))
    except ValueError as error:
        return f"{type(error).__name__}: {error}"


CURIOUS = [
    *[
        b"-0",
        b"-0.0",
        b"1e5",
        b"1e999",
        b"-1e999",
        b"NaN",
        b"-Infinity",
        b"18446744073709551616",
        b"0.1e-400",
        b"9" * 400,
    ],
    *[
        b'{"a":1,"b":2,"a":3}',
        b' {"a" : 1 }\n',
        b'"\\u0000"',
        rb'"\ud83d\ude00"',
        rb'"\ude00\ud83d"',
        b'"\t"',
        b'"\xc3"',
    ],
    *[b"\xef\xbb\xbf1", b"01", b"1.", b"[1,]", b'{"a":1}x', b"tru", b" ", b"2.2250738585072011e-308"],
]


@pytest.mark.parametrize("data", CURIOUS, ids=repr)
def test_the_fast_decoder_gives_what_the_exact_one_gives(data: bytes) -> None:
    assert outcome(decode_json, data) == outcome(decode_json_exactly, data)


@settings(deadline=None, max_examples=500)  # machines are shared
@given(st.data())
def test_the_fast_decoder_gives_the_same_also_for_what_is_damaged(data: st.DataObject) -> None:
    given_json = data.draw(json_values.map(encode_json) | json_values.map(lambda value: json.dumps(value).encode()))
    at = data.draw(st.integers(0, len(given_json)))
    damaged = given_json[:at] + data.draw(st.binary(max_size=2)) + given_json[at + data.draw(st.integers(0, 2)) :]
    for each in (given_json, damaged):
        assert outcome(decode_json, each) == outcome(decode_json_exactly, each)


@given(st.floats(allow_nan=False), st.sampled_from(["r", ".25e", ".17g", ".3f"]))
def test_the_fast_decoder_reads_numbers_to_the_last_digit(number: float, form: str) -> None:
    text = repr(number) if form == "r" else format(number, form)
    assert outcome(decode_json, text.encode()) == outcome(decode_json_exactly, text.encode())


def test_the_fast_decoder_is_there_to_be_compared() -> None:
    assert codec._decode_fast is not None


def test_without_the_extra_everything_is_decoded_all_the_same() -> None:
    program = (
        "import sys; sys.modules['msgspec'] = None\n"
        "from managed_agents_actors._protocol import codec\n"
        "assert codec._decode_fast is None\n"
        "print(codec.decode_json(b'{\"a\": [1e999, 123456789012345678901234567890]}'))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "{'a': [inf, 123456789012345678901234567890]}\n"


def circular() -> list[object]:
    value: list[object] = []
    value.append(value)
    return value


def nested(depth: int) -> list[object]:
    value: list[object] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "data", [b"", b"{", b"nope", b'"\xff"', b"1 2", b"[" * 200_000, b'{"a":' * 200_000, b"9" * 5000]
)
def test_what_is_not_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        decode_json(data)


@pytest.mark.parametrize("value", [math.nan, math.inf, [-math.inf], {"a": object()}, b"x", circular(), nested(200_000)])
def test_what_json_has_no_form_for_is_a_value_error(value: object) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        encode_json(value)


@settings(deadline=None)  # machines are shared
@given(any_text)
def test_a_text_without_lone_surrogates_has_none_and_is_else_the_same(text: str) -> None:
    cleaned = without_lone_surrogates(text)
    assert not has_lone_surrogate(cleaned)
    assert cleaned.encode().decode() == cleaned
    if not has_lone_surrogate(text):
        assert cleaned == decode_json(encode_json(text))
    assert without_lone_surrogates(cleaned) is cleaned


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("a\ud800b", "a\ufffdb"),
        ("\udcff", "\ufffd"),
        ("cut \ud83d", "cut \ufffd"),
        ("\ud800\ud800\udc00\udc00", "\ufffd\U00010000\ufffd"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ufffd \U0001f600 é", "\ufffd \U0001f600 é"),
    ],
)
def test_each_half_of_a_pair_becomes_one_replacement_character(text: str, cleaned: str) -> None:
    assert without_lone_surrogates(text) == cleaned


@pytest.mark.parametrize("value", ["\ud800", ["\udcff"], {"a": {"\ud83d": 1}}, ["\udc00\ud800"]])
def test_a_lone_surrogate_is_found_at_any_depth(value: object) -> None:
    assert has_lone_surrogate(value)


@pytest.mark.parametrize("value", ["\ud83d\ude00", "\\\\ud800", {"\U0001f600": ["\ufffd", None, 1.5]}])
def test_what_every_parser_reads_has_none(value: object) -> None:
    assert not has_lone_surrogate(value)
