"""Ids stay single path segments, whatever they contain, and queries are written as the provider reads them."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors._errors import ConfigurationError
from managed_agents_actors._http.url import base_url_of, join_url

BASE = "https://api.test/prefix"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text not in (".", "..")))
def test_an_id_is_one_segment_on_the_wire(id_: str) -> None:
    target = httpx.URL(join_url(BASE, ("v1", "sessions", id_, "events"), {})).raw_path.decode()
    assert [unquote(part) for part in target.split("/")] == ["", "prefix", "v1", "sessions", id_, "events"]
    assert "?" not in target


@pytest.mark.parametrize("id_", ["", ".", "..", None, 7])
def test_what_cannot_be_an_id_is_refused(id_: object) -> None:
    with pytest.raises(ConfigurationError, match="cannot be an id"):
        join_url(BASE, ("v1", id_), {})  # type: ignore[arg-type]  # the subject


def test_queries() -> None:
    query = {
        "types": ["a.b", "c"],
        "ids[]": ("x",),
        "created_at": {"gte": datetime(2026, 1, 2, tzinfo=UTC), "lt": None},
        "include_archived": True,
        "raw": False,
        "limit": 5,
        "page": None,
        "cursor": "a+b&c=d",
        "none": [],
    }
    pairs = parse_qsl(urlsplit(join_url(BASE, ("v1",), query)).query)
    assert pairs == [
        ("types[]", "a.b"),
        ("types[]", "c"),
        ("ids[]", "x"),
        ("created_at[gte]", "2026-01-02T00:00:00+00:00"),
        ("include_archived", "true"),
        ("raw", "false"),
        ("limit", "5"),
        ("cursor", "a+b&c=d"),
    ]


def test_a_base_url_loses_only_its_trailing_slashes() -> None:
    assert base_url_of("http://127.0.0.1:8080/x//") == "http://127.0.0.1:8080/x"


@pytest.mark.parametrize(
    "url",
    [
        *("", "api.test", "ftp://api.test", "https://", "https://a?b=c", "https://a#f", "https://me:pw@a", None, 5),
        *("http://[::1", "http://h:99999", "http://h:x", "http://a b", "http://a\r\nb", " http://a", "http://a/\x00"),
    ],
)
def test_what_is_not_a_base_url_is_refused_without_being_shown(url: object) -> None:
    with pytest.raises(ConfigurationError) as caught:
        base_url_of(url)
    assert "pw" not in str(caught.value).replace("user:password", "")


def test_a_bad_base_url_is_named_as_its_caller_says() -> None:
    with pytest.raises(ConfigurationError, match=r"^base_url must be a URL such as https://api\.anthropic\.com$"):
        base_url_of("api.test")
    with pytest.raises(ConfigurationError, match=r"^here must be a URL such as http://h$"):
        base_url_of("api.test", name="here", example="http://h")


@pytest.mark.parametrize(
    ("path", "query"), [(("v1", "\ud800"), {}), (("v1",), {"page": "\udcff"}), (("v1",), {"a": ["\ud800"]})]
)
def test_half_a_surrogate_pair_is_refused(path: tuple[str, ...], query: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="nothing was sent"):
        join_url(BASE, path, query)
