"""Pages of a list and the opaque cursors between them. Pure.

A cursor names the row it stands at, so that a list may grow, and remembers its list's order: another order is refused.
So is a row that is gone, unless the list can tell where it stood.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["InvalidCursor", "Page", "PageRequest", "read_page"]

Row = dict[str, Any]


class InvalidCursor(ValueError):
    """The cursor is not one of this list's, or does not fit the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """Which page is wanted.

    Attributes:
        limit: Rows at most.
        cursor: Where to go on; ``None`` for the first page.
        order: Of the rows as given (``"asc"``), or reversed.
    """

    limit: int
    cursor: str | None = None
    order: Literal["asc", "desc"] = "asc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The rows of a page and the cursors to its neighbours."""

    rows: list[Row]
    next_page: str | None
    prev_page: str | None


def read_page(
    rows: Sequence[Row],
    request: PageRequest,
    *,
    locate: Callable[[str], int | None] | None = None,
    within: Callable[[Row], bool] = lambda _row: True,
    accept: Callable[[Row], bool] = lambda _row: True,
) -> Page:
    """One page of ``rows``, which are in ascending order.

    Args:
        rows: Every row of the list; each has an ``"id"``.
        request: Which page.
        locate: The index of the row with an id, if the caller knows it faster than a search; of one that is gone, in
            a list that is only read forwards, the index of the row before it: -1 if there is none.
        within: The time range; a cursor that stands outside of it is refused.
        accept: Which rows the other filters let through; they may change from page to page.

    Raises:
        InvalidCursor: The cursor does not fit.
    """
    find = locate or (lambda row_id: next((n for n, row in enumerate(rows) if row["id"] == row_id), None))
    forward = 1 if request.order == "asc" else -1
    start = 0 if forward == 1 else len(rows) - 1
    backwards = False
    if request.cursor is not None:
        anchor, backwards = _decode(request.cursor, request.order)
        position = find(anchor)
        if position is None or (position >= 0 and not within(rows[position])):
            raise InvalidCursor("the page cursor points at a row this request does not contain")
        start = position - forward if backwards else position + forward
    step = -forward if backwards else forward
    taken, more = _take(rows, start, step, request.limit, lambda row: within(row) and accept(row))
    if backwards:
        taken.reverse()
    has_next, has_previous = (bool(taken), more) if backwards else (more, request.cursor is not None)
    return Page(
        rows=taken,
        next_page=_encode(taken[-1]["id"], request.order, "after") if has_next and taken else None,
        prev_page=_encode(taken[0]["id"], request.order, "before") if has_previous and taken else None,
    )


def _take(
    rows: Sequence[Row], start: int, step: int, limit: int, accept: Callable[[Row], bool]
) -> tuple[list[Row], bool]:
    taken: list[Row] = []
    for index in range(start, len(rows) if step == 1 else -1, step):
        if not accept(rows[index]):
            continue
        if len(taken) == limit:
            return taken, True
        taken.append(rows[index])
    return taken, False


def _encode(row_id: str, order: str, side: Literal["after", "before"]) -> str:
    return base64.urlsafe_b64encode(json.dumps([order, side, row_id]).encode()).decode()


def _decode(cursor: str, order: str) -> tuple[str, bool]:
    try:
        made_for, side, row_id = json.loads(base64.urlsafe_b64decode(cursor.encode()))
    except (ValueError, TypeError) as exc:
        raise InvalidCursor("the page cursor is not one this list gave") from exc
    if side not in ("after", "before") or not isinstance(row_id, str):
        raise InvalidCursor("the page cursor is not one this list gave")
    if made_for != order:
        raise InvalidCursor(f"the page cursor was made for order={made_for!r}, not {order!r}")
    return row_id, side == "before"
