"""Laws of the paging and of the multipart reader, and examples of what they refuse."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from managed_agents_actors.testing._multipart import MultipartError, parse_multipart
from managed_agents_actors.testing._paging import InvalidCursor, PageRequest, read_page

ORDERS = st.sampled_from(["asc", "desc"])


def rows_of(count: int) -> list[dict[str, Any]]:
    return [{"id": f"row_{n}", "even": n % 2 == 0} for n in range(count)]


@given(count=st.integers(0, 40), limit=st.integers(1, 10), order=ORDERS, even=st.booleans())
def test_pages_give_every_row_once_in_order(count: int, limit: int, order: Literal["asc", "desc"], even: bool) -> None:
    rows = rows_of(count)
    expected = [row for row in rows if row["even"] or not even]
    if order == "desc":
        expected.reverse()
    seen: list[dict[str, Any]] = []
    pages = []
    cursor = None
    while True:
        request = PageRequest(limit=limit, cursor=cursor, order=order)
        page = read_page(rows, request, accept=lambda row: row["even"] or not even)
        assert (page.prev_page is None) == (not pages)
        pages.append(page.rows)
        seen += page.rows
        cursor, previous = page.next_page, page.prev_page
        if cursor is None:
            break
    assert seen == expected
    assert len(pages) == max(1, -(-len(expected) // limit))
    while previous is not None:
        pages.pop()
        request = PageRequest(limit=limit, cursor=previous, order=order)
        page = read_page(rows, request, accept=lambda row: row["even"] or not even)
        assert page.rows == pages[-1]
        previous = page.prev_page


@given(cursor=st.text())
@example(cursor="WyJhc2MiLCAiYWZ0ZXIiLCAicm93XzkiXQ==")
@example(cursor="bnVsbA==")
@example(cursor="W1tdLCBbXSwgW11d")
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        read_page(rows_of(3), PageRequest(limit=1, cursor=cursor))


NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\%'), min_size=1, max_size=20)
PARTS = st.lists(st.tuples(NAMES, st.none() | NAMES, st.binary(max_size=200)), min_size=1, max_size=5)


@given(parts=PARTS, boundary=st.from_regex(r"[A-Za-z0-9'_-]{1,40}", fullmatch=True), preamble=st.booleans())
@example(parts=[("file", "a.bin", b"\r\n--")], boundary="b", preamble=False)
@example(parts=[("file", "a.bin", b"")], boundary="b", preamble=True)
def test_a_form_is_read_back(parts: list[tuple[str, str | None, bytes]], boundary: str, preamble: bool) -> None:
    delimiter = b"--" + boundary.encode()
    assume(all(delimiter not in data for _, _, data in parts))
    body = b"preamble\r\n" if preamble else b""
    for name, filename, data in parts:
        extra = "" if filename is None else f'; filename="{filename}"'
        body += (
            delimiter + f'\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode() + data + b"\r\n"
        )
    body += delimiter + b"--\r\n"
    read = parse_multipart(f'multipart/form-data; boundary="{boundary}"', body)
    assert [(part.name, part.filename, part.data) for part in read] == parts


@given(body=st.binary(max_size=100))
def test_bytes_without_a_closing_boundary_are_no_form(body: bytes) -> None:
    assume(b"--b--" not in body)
    with pytest.raises(MultipartError, match="closing boundary"):
        parse_multipart("multipart/form-data; boundary=b", body)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain", b"--b--"),
        ("", b"--b--"),
        ("multipart/form-data", b"--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\nno blank line\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--b\r\n\r\nno name\r\n--b--"),
        ("multipart/form-data; boundary=b", b"--bx\r\nA: 1\r\n\r\n\r\n--b--"),
        ("multipart/form-data; boundary=b", b"\r\n--b" * 1003 + b"--"),
    ],
)
def test_what_is_no_form_is_refused(content_type: str, body: bytes) -> None:
    with pytest.raises(MultipartError):
        parse_multipart(content_type, body)


def test_quoted_and_bare_names_are_read() -> None:
    head = b'Content-Type: text/csv\r\ncontent-disposition: form-data; name=file; filename="a%22b.csv"'
    (part,) = parse_multipart("multipart/form-data; boundary=b", b"--b\r\n" + head + b"\r\n\r\nx\r\n--b--")
    assert (part.name, part.filename, part.content_type, part.data) == ("file", 'a"b.csv', "text/csv", b"x")
