"""Secrets out of whatever is shown: exact, escaped, or cut off at the end of an excerpt. Pure functions.

Values are decoded first and redacted then, keys included; texts are redacted before they are cut. A secret of fewer
than :data:`MIN_SECRET_CHARS` characters is left alone: removing it would make every message unreadable.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["redact", "redacted", "secrets_in"]

MIN_SECRET_CHARS: Final = 6  # shorter ones are made up for tests, and occur in ordinary words
MAX_DEPTH: Final = 100  # of a value that is shown; real error bodies nest three levels

REMOVED: Final = "[redacted]"

# The write-only fields of the provider's API and of what it connects to.
# Source: Claude Managed Agents API reference, session resources and vault credentials.
_SECRET_FIELDS: Final = frozenset(
    {"authorization_token", "access_token", "refresh_token", "client_secret", "token", "secret_value"}
)


def redact(text: str, secrets: Sequence[str]) -> str:
    """Remove every occurrence of the secrets: plain, escaped as in JSON or a URL, or begun at the text's end."""
    for secret in sorted(secrets, key=len, reverse=True):  # one may begin with another
        if len(secret) >= MIN_SECRET_CHARS:
            text = re.sub("".join(_forms(secret)), REMOVED, text)
            text = _without_beginning(text, secret)
    return text


def redacted(value: Any, secrets: Sequence[str], *, depth: int = 0) -> Any:
    """Copy a JSON value with the secrets removed from every string and key."""
    if isinstance(value, str):
        return redact(value, secrets)
    if depth == MAX_DEPTH and isinstance(value, dict | list):
        return "…"
    if isinstance(value, dict):
        return {redact(key, secrets): redacted(member, secrets, depth=depth + 1) for key, member in value.items()}
    return [redacted(member, secrets, depth=depth + 1) for member in value] if isinstance(value, list) else value


def secrets_in(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Find the values of a request's write-only credential fields, at any depth."""
    found: list[str] = []
    left: list[Any] = [body]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            found.extend(member for key, member in value.items() if key in _SECRET_FIELDS and isinstance(member, str))
            left.extend(value.values())
        elif isinstance(value, list | tuple):
            left.extend(value)
    return tuple(found)


def _forms(secret: str) -> Iterator[str]:
    """Give a pattern for each character: itself or an escape of it, JSON within JSON included."""
    for character in re.sub(r"\\+", r"\\", secret):
        code = ord(character)
        if character == "\\":
            yield r"(?:\\{1,64}+|%5[Cc])"
        elif character.isascii() and (character.isalnum() or character in "-_."):
            yield re.escape(character)  # no encoder escapes these
        else:
            percent = "".join(f"%{byte:02x}" for byte in character.encode("utf-8", "replace"))
            yield rf"(?:\\{{0,64}}+(?:{re.escape(character)}|u(?i:{code:04x}))|(?i:{percent}))"


def _without_beginning(text: str, secret: str) -> str:
    """Remove what the text's end holds of a secret, if an excerpt was cut in the middle of it."""
    shown = text.rstrip("\ufffd")  # half a character
    for length in range(min(len(secret), len(shown)), MIN_SECRET_CHARS - 1, -1):
        if shown.endswith(secret[:length]):
            return shown[:-length] + REMOVED
    return text
