"""Names: whatever the base is, the digest is whole, the name is one the provider takes, and other bases have others."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from managed_agents_actors import ConfigurationError
from managed_agents_actors.provisioning._names import (
    CLAUDE,
    HARNESS,
    NamePolicy,
    check_base,
    compose,
    digest_in,
    fit,
)

BASES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300) | st.text("aé🙂_0", min_size=1)
DIGESTS = st.text("0123456789abcdef", min_size=8, max_size=8)
POLICIES = st.sampled_from([CLAUDE, HARNESS]) | st.builds(NamePolicy, max_bytes=st.integers(17, 60))


@given(base=BASES, digest=DIGESTS, policy=POLICIES)
def test_a_name_fits_and_ends_with_the_whole_digest(base: str, digest: str, policy: NamePolicy) -> None:
    name = compose(base, digest, policy)
    assert len(name.encode()) <= policy.max_bytes
    assert name == f"{fit(base, policy)}_{digest}"
    assert name == compose(base, digest, policy)
    assert digest_in(name, base, policy) == digest


@given(base=BASES, digest=DIGESTS)
@example(base="9-live.agent", digest="01234567")
@example(base="", digest="01234567")
def test_a_harness_has_an_identifier_for_a_name(base: str, digest: str) -> None:
    assert re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]{0,39}", compose(base, digest, HARNESS))


def test_other_characters_become_underscores_and_a_letter_comes_first() -> None:
    assert compose("9-live.agent", "01234567", HARNESS) == "a9_live_agent_01234567"
    assert compose("", "01234567", HARNESS) == "a_01234567"
    assert compose("9-live.agent", "01234567", CLAUDE) == "9-live.agent_01234567"


@given(base=st.text("ab", min_size=20, max_size=40), policy=st.just(HARNESS))
@example(base="a" * 31, policy=HARNESS)
@example(base="a" * 32, policy=HARNESS)
def test_what_fits_is_whole_and_what_does_not_fills_the_limit(base: str, policy: NamePolicy) -> None:
    name = compose(base, "01234567", policy)
    if len(base) <= 31:
        assert name == f"{base}_01234567"
    else:
        assert len(name) == 40
        assert re.fullmatch(rf"{base[:24]}_[0-9a-f]{{6}}_01234567", name)


@given(one=BASES, two=BASES, digest=DIGESTS, policy=POLICIES)
@example(one="x" * 300, two="x" * 301, digest="01234567", policy=CLAUDE)
@example(one="🙂" * 300, two="🙂" * 301, digest="01234567", policy=CLAUDE)
def test_other_bases_have_other_names(one: str, two: str, digest: str, policy: NamePolicy) -> None:
    assume(fit(one, policy) != fit(two, policy))
    assert compose(one, digest, policy) != compose(two, digest, policy)
    if not policy.identifier:
        assert (one != two) == (compose(one, digest, policy) != compose(two, digest, policy))


@given(count=st.integers(1, 120), letter=st.sampled_from("aé€🙂"), digest=DIGESTS, policy=POLICIES)
def test_no_character_is_split(count: int, letter: str, digest: str, policy: NamePolicy) -> None:
    kept = compose(letter * count, digest, policy).removesuffix(f"_{digest}")
    if len((letter * count).encode()) > policy.room and not policy.identifier:
        assert set(kept[:-7]) <= {letter}
        assert re.fullmatch(r"_[0-9a-f]{6}", kept[-7:])
        # As many characters as there is room for.
        assert policy.room - 7 - len(kept[:-7].encode()) < len(letter.encode())


@given(base=BASES, other=BASES, digest=DIGESTS, policy=POLICIES)
@example(base="a", other="a_01234567", digest="89abcdef", policy=CLAUDE)
@example(base="a", other="a_b", digest="89abcdef", policy=CLAUDE)
@example(base="a_b", other="a", digest="89abcdef", policy=CLAUDE)
def test_versions_of_other_bases_are_no_versions(base: str, other: str, digest: str, policy: NamePolicy) -> None:
    expected = digest if fit(base, policy) == fit(other, policy) else None
    assert digest_in(compose(other, digest, policy), base, policy) == expected


@pytest.mark.parametrize(
    "name", ["a", "a_", "a_0123456", "a_012345678", "a_0123456G", "a_0123456A", "a-01234567", "a_01234567\n", None, 7]
)
def test_what_has_no_digest_is_no_version(name: object) -> None:
    assert digest_in(name, "a", CLAUDE) is None


@pytest.mark.parametrize(
    "base", ["", "  ", "\n", None, 7, b"a", "a\ud83d", "a:b", "a\nb", "a\x00", "x" * 248, "é" * 124]
)
def test_what_can_be_no_base_is_refused(base: object) -> None:
    with pytest.raises(ConfigurationError, match="the name "):
        check_base(base, CLAUDE, "the name")


@pytest.mark.parametrize("base", ["x" * 247, "é" * 123 + "x", " a ", "🙂"])
def test_any_other_text_is_a_base(base: str) -> None:
    assert check_base(base, CLAUDE, "the name") == base
    assert check_base(base * 9, HARNESS, "the name") == base * 9


def test_a_policy_has_room_for_a_check() -> None:
    NamePolicy(max_bytes=17)
    with pytest.raises(ConfigurationError, match="17 are enough"):
        NamePolicy(max_bytes=16)
