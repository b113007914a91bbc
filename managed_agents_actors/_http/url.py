"""URLs of calls: path segments that stay segments, the provider's way to write a query. Pure functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import httpx

from .._errors import ConfigurationError

__all__ = ["DEFAULT_PORTS", "base_url_of", "join_url"]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def base_url_of(value: Any, *, name: str = "base_url", example: str = "https://api.anthropic.com") -> str:
    """Check a base URL and drop its trailing slashes.

    Args:
        value: The URL.
        name: What an error calls it.
        example: One that an error can show.

    Raises:
        ConfigurationError: It is not an http(s) URL with a host, or holds a query, fragment or credential.
    """
    parts = urlsplit(value if _is_url(value) else "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{name} must be a URL such as {example}")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(f"{name} must be scheme, host and path only: no query, fragment or user:password")
    return str(value).rstrip("/")


def join_url(base_url: str, path: Sequence[str], query: Mapping[str, Any]) -> str:
    """Join a base URL, path segments and a query.

    A query field that is ``None`` is left out; ``types=["a", "b"]`` becomes ``types[]=a&types[]=b``,
    ``created_at={"gte": t}`` becomes ``created_at[gte]=t``, and ``True`` becomes ``true``.
    Source: Claude Managed Agents API, query encoding.

    Raises:
        ConfigurationError: A segment is empty, not a string, or a step in the path (``.`` or ``..``); or a text
            is not Unicode.
    """
    for segment in path:
        if not isinstance(segment, str) or segment in ("", ".", ".."):
            raise ConfigurationError(f"{segment!r} cannot be an id in /{'/'.join(map(str, path))}; nothing was sent")
    fields = [(name, _text(value)) for name, value in _flat(query) if value is not None]
    try:
        url = "/".join([base_url, *(quote(segment, safe="") for segment in path)])
        encoded = urlencode(fields, quote_via=quote)
    except UnicodeEncodeError as exc:
        raise ConfigurationError("an id or a query field holds half a surrogate pair; nothing was sent") from exc
    return f"{url}?{encoded}" if encoded else url


def _is_url(value: Any) -> bool:
    """Whether httpx can send to it; white space is no part of a URL."""
    if not isinstance(value, str) or any(character.isspace() for character in value):
        return False
    try:
        httpx.URL(value)
        return urlsplit(value).port != 0  # it raises for a port that is none
    except (httpx.InvalidURL, ValueError):
        return False


def _flat(query: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in query.items():
        if isinstance(value, Mapping):
            yield from ((f"{name}[{key}]", member) for key, member in value.items())
        elif isinstance(value, Sequence | set | frozenset) and not isinstance(value, str):
            array = name if name.endswith("[]") else f"{name}[]"
            yield from ((array, member) for member in value)
        else:
            yield name, value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else str(value)
