"""What a server under test hears: one request, whole, and the record that is kept of it.

Values only. Credentials are blanked in the record, never in the request itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

__all__ = ["RecordedRequest", "Request"]

SECRET_HEADERS = frozenset({"authorization", "x-api-key", "cookie", "x-amz-security-token"})


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
            ValueError: The body is not JSON.
        """
        return json.loads(self.body) if self.body else None


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
