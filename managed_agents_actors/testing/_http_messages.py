"""What a server under test hears: one request, whole, and the record that is kept of it.

Values only. Credentials are blanked in the record, never in the request itself. A body is JSON as the standard has it:
what only Python reads, or no stack is deep enough for, is none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["RecordedRequest", "Request"]

SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie", "x-amz-security-token"})

# Levels of lists and objects in a body. No request of either API has a fifth of it; Python's own readers and writers
# give up at some hundreds, according to what called them.
MAX_NESTING = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request.

    Attributes:
        method: Upper case.
        path: Percent-decoded, without the query.
        query: Every value of every parameter, in order.
        headers: Names in lower case; repeated headers joined with ``", "``.
        body: The whole body.
        target: Path and query exactly as they came in the request line.
    """

    method: str
    path: str
    query: Mapping[str, tuple[str, ...]]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    target: str = field(default="", repr=False)

    @classmethod
    def parse(cls, *, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> Request:
        """Build a request from what the HTTP parser read."""
        url = urlsplit(target.decode("latin-1"))
        joined: dict[str, str] = {}
        for raw_name, raw_value in headers:
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        query = parse_qs(url.query, keep_blank_values=True) if url.query else {}
        return cls(
            method=method.decode("latin-1").upper(),
            path=unquote(url.path),
            query={name: tuple(values) for name, values in query.items()},
            headers=joined,
            body=body,
            target=target.decode("latin-1"),
        )

    def first(self, name: str) -> str | None:
        """The first value of a query parameter, or ``None``."""
        values = self.query.get(name)
        return values[0] if values else None

    def json(self) -> Any:
        """The decoded JSON body; ``None`` for an empty one.

        Raises:
            ValueError: The body is not JSON, or nested more than 100 levels deep.
        """
        if not self.body:
            return None
        try:
            value = json.loads(self.body, parse_float=_finite, parse_constant=_refuse_constant)
        except RecursionError as exc:
            raise ValueError("the body is nested too deeply") from exc
        _require_shallow(value)
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedRequest:
    """A request in the wire log.

    Attributes:
        method: Upper case.
        path: Percent-decoded, without the query.
        query: Every value of every parameter.
        headers: Names in lower case; credentials are replaced by ``"<removed>"``.
        body: The decoded JSON, or the number of bytes of any other body, or ``None`` if there was none.
        at: When it was read, in seconds of trio's clock.
        status: The status it was answered with; ``None`` while it is unanswered, and for ever if the answer was lost.
    """

    method: str
    path: str
    query: Mapping[str, tuple[str, ...]]
    headers: Mapping[str, str]
    body: Any
    at: float
    status: int | None = None

    @classmethod
    def of(cls, request: Request, *, at: float) -> RecordedRequest:
        """The record of a request that was just read."""
        try:
            body = request.json()
        except ValueError:
            body = len(request.body)
        headers = {name: "<removed>" if name in SECRET_HEADERS else value for name, value in request.headers.items()}
        return cls(method=request.method, path=request.path, query=request.query, headers=headers, body=body, at=at)


def _finite(text: str) -> float:
    """A number; one that is too large for any is refused, for no JSON could give it back."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is too large")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _require_shallow(value: Any) -> None:
    """Let a value pass whose lists and objects are nested no deeper than is allowed; looked at level by level."""
    level = _containers([value])
    for _ in range(MAX_NESTING):
        level = [inner for each in level for inner in _containers(each.values() if isinstance(each, dict) else each)]
    if level:
        raise ValueError("the body is nested too deeply")


def _containers(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if isinstance(value, dict | list)]
