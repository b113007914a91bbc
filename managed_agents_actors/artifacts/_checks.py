"""What a store may be given: each check refuses what cannot be stored, before anything is sent. Pure functions."""

from __future__ import annotations

import re
from typing import Any, Final

from .._errors import ConfigurationError
from .._http.checks import shown
from .._protocol.codec import has_lone_surrogate

__all__ = ["check_content", "check_directory", "check_name", "check_text", "check_whole_seconds"]

MAX_NAME_CHARS: Final = 255  # a name may have so many bytes on every file system that a session can have
MAX_DIRECTORY_CHARS: Final = 1_024  # quoted, it is up to five times as long, and a command has room for that

# Nothing that a shell, a path or an option parser would read as anything but a name.
_NAME: Final = re.compile(r"[A-Za-z0-9._][A-Za-z0-9._-]*")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


def check_name(value: Any) -> str:
    """Let a file's name pass; a path is none."""
    named = isinstance(value, str) and _NAME.fullmatch(value) is not None and value not in (".", "..")
    if not named or len(value) > MAX_NAME_CHARS:
        raise ConfigurationError(
            f"an artifact's name must be 1 to {MAX_NAME_CHARS} letters, digits, '.', '_' and '-', must not begin with"
            f" '-' and not be '.' or '..'; it is not {shown(value)}; nothing was sent"
        )
    return str(value)


def check_text(name: str, value: Any) -> str:
    """Let any text pass but the empty one."""
    if not isinstance(value, str) or not value or has_lone_surrogate(value):
        raise ConfigurationError(f"{name} must be text that is not empty, not {shown(value)}; nothing was sent")
    return value


def check_directory(name: str, value: Any) -> str:
    """Let an absolute path pass, without its trailing slashes."""
    path = value.rstrip("/") if isinstance(value, str) else ""
    if (
        not path.startswith("/")
        or len(path) > MAX_DIRECTORY_CHARS
        or ".." in path.split("/")
        or _CONTROL.search(path)
        or has_lone_surrogate(path)
    ):
        raise ConfigurationError(
            f"{name} must be the absolute path of a directory, such as /mnt/data, of at most {MAX_DIRECTORY_CHARS}"
            f" characters, without '..' and control characters, not {shown(value)}"
        )
    return path


def check_whole_seconds(name: str, value: Any, bounds: range) -> int:
    """Let a whole number of seconds pass that is within the bounds."""
    if not isinstance(value, int) or isinstance(value, bool) or value not in bounds:
        raise ConfigurationError(
            f"{name} must be a whole number of seconds from {bounds[0]} to {bounds[-1]}, not {shown(value)}"
        )
    return value


def check_content(value: Any, most: int | None = None) -> bytes:
    """Let bytes pass, so many at most."""
    if not isinstance(value, bytes):
        raise ConfigurationError(f"an artifact's content must be bytes, not a {type(value).__name__}; nothing was sent")
    if most is not None and len(value) > most:
        raise ConfigurationError(f"an artifact may have {most:,} bytes, not {len(value):,}; nothing was sent")
    return value
