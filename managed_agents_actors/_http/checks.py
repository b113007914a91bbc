"""The settings every client has: each check refuses what cannot be one, before anything is sent. Pure functions."""

from __future__ import annotations

from typing import Any

from .._errors import ConfigurationError
from .._model import is_number

__all__ = ["check_retries", "check_seconds", "shown"]


def check_seconds(**times: Any) -> None:
    """Refuse what is no positive number of seconds; infinity is one."""
    for name, value in times.items():
        if not is_number(value) or not value > 0:
            raise ConfigurationError(f"{name} must be a positive number of seconds, not {shown(value)}")


def check_retries(value: Any) -> None:
    """Refuse what is no number of repetitions."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ConfigurationError(f"max_retries must be a whole number from 0, not {shown(value)}")


def shown(value: object) -> str:
    """A value if it is short, else its type; a body may hold secrets."""
    return ascii(value)[:100] if isinstance(value, int | float | str) else f"a {type(value).__name__}"
