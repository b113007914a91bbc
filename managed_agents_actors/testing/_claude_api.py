"""What every endpoint of the simulated Claude API shares: routes, calls, refusals, metadata and pages.

The routes' handlers are plain functions: they decide on the state at once and return a reply or raise a refusal;
sending, losing and delaying are the simulator's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ._api import ApiRoute, Clock, Reply
from ._http_messages import Request
from ._paging import InvalidCursor, PageRequest, read_page

if TYPE_CHECKING:
    from ._claude_world import ClaudeWorld

__all__ = [
    "BETA",
    "ApiCall",
    "ApiRefusal",
    "Route",
    "created_at_filter",
    "merge_metadata",
    "page_reply",
    "page_request",
    "refuse",
    "require",
]

Json: TypeAlias = dict[str, Any]

# The beta header value of every managed-agents endpoint.
BETA = "managed-agents-2026-04-01"

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}


class ApiRefusal(Exception):
    """An error answer: status, message and an optional machine-readable code."""

    def __init__(self, status: int, message: str, *, error_code: str | None = None) -> None:
        self.status = status
        self.message = message
        self.error_code = error_code
        super().__init__(message)

    def body(self, request_id: str) -> Json:
        """The error body as it is sent."""
        error: Json = {"type": ERROR_TYPES.get(self.status, "api_error"), "message": self.message}
        if self.error_code:
            error["details"] = {"error_code": self.error_code}
        return {"type": "error", "error": error, "request_id": request_id}


def refuse(message: str, *, status: int = 400, error_code: str | None = None) -> ApiRefusal:
    """The refusal to raise; 400 unless told otherwise."""
    return ApiRefusal(status, message, error_code=error_code)


def require(condition: object, message: str) -> None:
    """Refuse the request with 400 unless ``condition`` holds."""
    if not condition:
        raise refuse(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiCall:
    """One request that was routed, authorised and decoded.

    Attributes:
        world: The state it acts on.
        request: As it was read.
        ids: The ids in the path, in order.
        body: The decoded JSON object; empty for none.
    """

    world: ClaudeWorld
    request: Request
    ids: tuple[str, ...]
    body: Json = field(default_factory=dict)

    def flag(self, name: str) -> bool:
        """A boolean query parameter; false when absent."""
        value = self.request.first(name) or "false"
        require(value in {"true", "false"}, f"{name}: must be true or false, not {value!r}")
        return value == "true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route(ApiRoute[ApiCall]):
    """An endpoint of the Claude API.

    Attributes:
        beta: Whether the managed-agents beta header is required.
    """

    beta: bool = True


def merge_metadata(current: dict[str, str], patch: dict[str, str | None] | None) -> dict[str, str]:
    """Metadata after a patch: ``None`` deletes a key.

    Raises:
        ApiRefusal: More than 16 pairs, or a pair that is too long or not text.
    """
    merged = dict(current)
    for key, value in (patch or {}).items():
        merged.pop(key, None)
        if value is not None:
            require(
                isinstance(value, str) and len(value) <= 512, f"metadata.{key}: must be text of at most 512 characters"
            )
            require(len(key) <= 64, f"metadata.{key}: keys have at most 64 characters")
            merged[key] = value
    require(len(merged) <= 16, f"metadata: at most 16 pairs, got {len(merged)}")
    return merged


def page_request(call: ApiCall, *, default: int, most: int, order: Literal["asc", "desc"] | None = None) -> PageRequest:
    """The page a list request asks for; ``order`` fixes the order of lists that have no such parameter."""
    raw = call.request.first("limit")
    require(raw is None or re.fullmatch(r"[0-9]{1,9}", raw), f"limit: must be a whole number, not {raw!r}")
    limit = default if raw is None else int(raw)
    require(1 <= limit <= most, f"limit: must be from 1 to {most}, not {limit}")
    wanted = order or call.request.first("order") or "asc"
    if wanted not in {"asc", "desc"}:
        raise refuse(f"order: must be asc or desc, not {wanted!r}")
    direction: Literal["asc", "desc"] = "asc" if wanted == "asc" else "desc"
    return PageRequest(limit=limit, cursor=call.request.first("page"), order=direction)


def page_reply(
    rows: Sequence[Json],
    wanted: PageRequest,
    *,
    locate: Callable[[str], int | None] | None = None,
    within: Callable[[Json], bool] = lambda _row: True,
    accept: Callable[[Json], bool] = lambda _row: True,
    backwards: bool = False,
) -> Reply:
    """The answer to a list request; ``backwards`` adds ``prev_page``."""
    try:
        page = read_page(rows, wanted, locate=locate, within=within, accept=accept)
    except InvalidCursor as exc:
        raise refuse(f"page: {exc}") from exc
    body: Json = {"data": page.rows, "next_page": page.next_page}
    if backwards:
        body["prev_page"] = page.prev_page
    return Reply(body)


def created_at_filter(call: ApiCall, field_name: str) -> Callable[[Json], bool]:
    """The test of the ``created_at[gt|gte|lt|lte]`` parameters, comparing a row's ``field_name``."""
    bounds: list[tuple[Callable[[str, str], bool], str]] = []
    for suffix, compare in COMPARISONS.items():
        raw = call.request.first(f"created_at[{suffix}]")
        if raw is None:
            continue
        try:
            moment = datetime.fromisoformat(raw)
        except ValueError as exc:
            raise refuse(f"created_at[{suffix}]: must be an ISO 8601 time, not {raw!r}") from exc
        bounds.append((compare, Clock.show(moment if moment.tzinfo else moment.replace(tzinfo=UTC))))

    def accept(row: Json) -> bool:
        at = row.get(field_name)
        return all(at is not None and compare(at, bound) for compare, bound in bounds)

    return accept


COMPARISONS: dict[str, Callable[[str, str], bool]] = {
    "gt": str.__gt__,
    "gte": str.__ge__,
    "lt": str.__lt__,
    "lte": str.__le__,
}
