"""What a caller may give: each check refuses what cannot be sent, before anything is. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from .._errors import ConfigurationError
from .._http.checks import shown
from .._protocol.codec import has_lone_surrogate

__all__ = ["check_fields", "check_header", "check_text", "check_time", "rows_of"]


def check_header(name: str, value: Any) -> None:
    """Refuse what cannot be a header's value."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ConfigurationError(f"{name} must be a string of printable ASCII characters, not {shown(value)}")


def check_text(name: str, value: Any) -> None:
    """Refuse what is no text, or is none to the provider."""
    if not isinstance(value, str) or has_lone_surrogate(value):
        raise ConfigurationError(f"{name} must be a string of Unicode characters, not {shown(value)}")


def check_time(name: str, value: Any) -> None:
    """Refuse what is no point in time. A text goes as it is; a ``datetime`` without a zone could mean several."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(
            f"{name} must be an ISO 8601 time such as 2026-01-31T12:00:00Z, or a datetime with a zone,"
            f" not {shown(value)}; nothing was sent"
        ) from exc


def check_fields(name: str, value: Any) -> None:
    """Refuse what is no object."""
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} must be a mapping, not {shown(value)}; nothing was sent")


def rows_of(name: str, value: Any) -> list[dict[str, Any]]:
    """Copy a list of objects, as ``name``."""
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise ConfigurationError(f"{name} must be a list of mappings, not {shown(value)}; nothing was sent")
    for row in value:
        check_fields(f"each of {name}", row)
    return [dict(row) for row in value]
