"""Lists that come in pages. The cursors are the server's and are not trusted: every listing ends.

A row with an id is delivered once per listing, in the order of its first arrival.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import trio

from .._errors import ProtocolError

__all__ = ["Page", "Pages", "Row", "RowList", "Rows"]

Row: TypeAlias = dict[str, Any]
RowList: TypeAlias = list[Row]  # a name of its own where a method called `list` hides the type

MAX_PAGES: Final = 10_000  # of the smallest default size (20) that is 200 000 rows: more is a cursor that never ends
MAX_BARREN_PAGES: Final = 20  # pages in a row that bring nothing new; real servers fill every page but the last


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list.

    Attributes:
        data: The rows.
        next_page: The cursor of the next page, for ``page=``; ``None`` on the last one.
        raw: The answer as received.
    """

    data: list[Row]
    next_page: str | None
    raw: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, raw: dict[str, Any]) -> Page:
        """Read a page from the server's answer.

        Raises:
            ProtocolError: There is no list of objects in ``data``.
        """
        rows = raw.get("data")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            seen = ", ".join(map(str, raw)) or "nothing"
            raise ProtocolError(f'a page must hold a list of objects under "data"; this one holds {seen[:200]}')
        cursor = raw.get("next_page")
        return cls([_unwrapped(row) for row in rows], cursor if isinstance(cursor, str) and cursor else None, raw)


class Pages:
    """A listing, page by page.

    It ends when there is no next cursor, when a cursor comes back and its page brings nothing new, or after
    :data:`MAX_BARREN_PAGES` pages without anything new.
    """

    def __init__(self, fetch: Callable[[str | None], Awaitable[Page]]) -> None:
        self._fetch = fetch
        self._cursor: str | None = None
        self._followed: set[str | None] = set()
        self._ids: set[str] = set()
        self._count = 0
        self._barren = 0
        self._ended = False

    async def next_page(self) -> list[Row] | None:
        """Wait for the next page's new rows; ``None`` after the last page.

        A page that failed is asked for again by the next call.

        Raises:
            ProtocolError: A page is malformed, or there are more than :data:`MAX_PAGES`.
            APIError: The server refused.
            TransportError: The exchange failed.
        """
        while not self._ended:
            page = await self._fetch(self._cursor)
            if rows := self._absorb(page):
                return rows
        await trio.lowlevel.checkpoint()
        return None

    def _absorb(self, page: Page) -> list[Row]:
        """Take a page: keep its cursor, decide whether the listing goes on, give its new rows."""
        returned = self._cursor in self._followed
        self._followed.add(self._cursor)
        self._count += 1
        rows = self._new(page.data, named_only=returned)
        self._barren = 0 if rows else self._barren + 1
        self._cursor = page.next_page
        self._ended = page.next_page is None or self._barren >= (1 if returned else MAX_BARREN_PAGES)
        if not self._ended and self._count >= MAX_PAGES:
            raise ProtocolError(f"a listing went on after {MAX_PAGES} pages; narrow it with a filter", permanent=True)
        return rows

    def _new(self, rows: Iterable[Row], *, named_only: bool) -> list[Row]:
        """The rows not delivered yet. Rows without an id are all new, but not on a page that came before."""
        new: list[Row] = []
        for row in rows:
            id_ = row.get("id")
            if not isinstance(id_, str) or not id_:
                if not named_only:
                    new.append(row)
            elif id_ not in self._ids:
                self._ids.add(id_)
                new.append(row)
        return new


class Rows(trio.abc.ReceiveChannel[Row]):
    """A listing, row by row, fetched as it is read: ``async with client.agents.open_list() as rows``."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self._ready: deque[Row] = deque()
        self._closed = False

    async def receive(self) -> Row:
        """Wait for the next row.

        Raises:
            trio.EndOfChannel: There are no more rows.
            trio.ClosedResourceError: The listing was closed.
            ManagedAgentsError: As :meth:`Pages.next_page`.
        """
        if self._closed:
            raise trio.ClosedResourceError
        if self._ready:
            await trio.lowlevel.checkpoint()
        else:
            self._ready.extend(await self._pages.next_page() or ())
        if not self._ready:
            raise trio.EndOfChannel
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Close; what was fetched ahead is dropped."""
        self._closed = True
        self._ready.clear()
        await trio.lowlevel.checkpoint()


def _unwrapped(row: Row) -> Row:
    """Some servers wrap the rows of an event list: ``{"event": {…}}``."""
    inner = row.get("event")
    return inner if isinstance(inner, dict) and "type" not in row else row
