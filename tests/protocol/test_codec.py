"""JSON both ways: exact, lossless, and failing with ValueError only."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from managed_agents_actors._protocol.codec import (
    decode_json,
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
