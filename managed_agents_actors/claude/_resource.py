"""What the resources have in common: lists in three forms, and create, retrieve, update, archive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from ._api import Api
from ._checks import check_fields, check_time
from ._paging import Page, Pages, Row, RowList, Rows

__all__ = ["Collection", "Managed", "Nested", "Resource", "merged"]

# The ends of a time range, as the official SDK spells them and as the wire does; what is compared is the endpoint's.
TIME_RANGE: Final = {f"created_at_{bound}": f"created_at[{bound}]" for bound in ("gt", "gte", "lt", "lte")}


class Resource:
    """A group of endpoints."""

    _page_size: ClassVar[int | None] = None  # None leaves it to the server

    def __init__(self, api: Api) -> None:
        self._api = api

    async def _page(self, path: tuple[str, ...], query: Mapping[str, Any]) -> Page:
        return await self._fetch(path, on_the_wire(query))

    def _pages(self, path: tuple[str, ...], query: Mapping[str, Any]) -> Pages:
        fields = on_the_wire(query)

        async def fetch(cursor: str | None) -> Page:
            return await self._fetch(path, fields if cursor is None else {**fields, "page": cursor})

        return Pages(fetch)

    async def _fetch(self, path: tuple[str, ...], fields: Mapping[str, Any]) -> Page:
        sized = {"limit": self._page_size, **fields}
        return Page.of(await self._api.get(*path, query=sized, betas=self._betas(fields)))

    def _betas(self, query: Mapping[str, Any]) -> tuple[str | None, ...] | None:  # noqa: ARG002 - for files, which look
        """The beta values of a listing; ``None`` for the client's own."""
        return None


class Collection(Resource):
    """Endpoints under ``/v1/<name>``."""

    _name: ClassVar[str]

    async def list(self, **query: Any) -> Page:
        """Fetch one page; ``page=`` asks for the one after a page's ``next_page``."""
        return await self._page((self._name,), query)

    async def list_all(self, **query: Any) -> RowList:
        """Fetch all pages; the rows, each once."""
        return await collected(self._pages((self._name,), query))

    def open_list(self, **query: Any) -> Rows:
        """Open the list as a channel of rows, fetched as they are read; use it with ``async with``."""
        return Rows(self._pages((self._name,), query))


class Nested(Resource):
    """Endpoints under ``/v1/<parent>/<parent id>/<name>``."""

    _parent: ClassVar[str]
    _name: ClassVar[str]

    async def list(self, parent_id: str, /, **query: Any) -> Page:
        """Fetch one page; ``page=`` asks for the one after a page's ``next_page``."""
        return await self._page(self._under(parent_id), query)

    async def list_all(self, parent_id: str, /, **query: Any) -> RowList:
        """Fetch all pages; the rows, each once."""
        return await collected(self._pages(self._under(parent_id), query))

    def open_list(self, parent_id: str, /, **query: Any) -> Rows:
        """Open the list as a channel of rows, fetched as they are read; use it with ``async with``."""
        return Rows(self._pages(self._under(parent_id), query))

    def pages(self, parent_id: str, /, **query: Any) -> Pages:
        """List page by page: ``await pages.next_page()`` gives rows, then ``None``."""
        return self._pages(self._under(parent_id), query)

    def _under(self, parent_id: str, *rest: str) -> tuple[str, ...]:
        return (self._parent, parent_id, self._name, *rest)


class Managed(Collection):
    """A collection whose objects are created, updated and archived."""

    async def create(self, body: Mapping[str, Any] | None = None, /, **fields: Any) -> Row:
        """Create an object from a mapping, keyword fields, or both (fields win).

        Creating is not idempotent: it is repeated only if it was certainly not taken.
        """
        return await self._api.post(self._name, body=merged(body, fields), idempotent=False)

    async def retrieve(self, id: str, /, **query: Any) -> Row:
        """Fetch one object."""
        return await self._api.get(self._name, id, query=query)

    async def update(self, id: str, body: Mapping[str, Any] | None = None, /, **fields: Any) -> Row:
        """Change the named fields; ``None`` clears one.

        An update that names the ``version`` it expects is not repeated once it may have been taken: it would
        conflict with itself. Source: Claude Managed Agents API, update semantics.
        """
        changes = merged(body, fields)
        return await self._api.post(self._name, id, body=changes, idempotent="version" not in changes)

    async def archive(self, id: str, /) -> Row:
        """Archive an object for good."""
        return await self._api.post(self._name, id, "archive", body={}, idempotent=True)


def merged(body: Mapping[str, Any] | None, fields: Mapping[str, Any]) -> Row:
    """Make one body of a mapping and keyword fields, without touching either.

    Raises:
        ConfigurationError: It is no mapping.
    """
    if body is not None:
        check_fields("the body", body)
    return {**(body or {}), **fields}


def on_the_wire(query: Mapping[str, Any]) -> Row:
    """Name a listing's fields as the wire does: ``created_at_gte=t`` is ``created_at[gte]=t`` there.

    Raises:
        ConfigurationError: An end of the time range is no point in time.
    """
    for name in TIME_RANGE.keys() & query.keys():
        if query[name] is not None:
            check_time(name, query[name])
    return {TIME_RANGE.get(name, name): value for name, value in query.items()}


async def collected(pages: Pages) -> RowList:
    """Read a listing to its end."""
    rows: RowList = []
    while (page := await pages.next_page()) is not None:
        rows += page
    return rows
