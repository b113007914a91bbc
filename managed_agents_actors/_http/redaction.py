"""Secrets out of whatever is shown: exact, escaped, or cut off at the end of an excerpt. Pure functions.

Values are decoded first and redacted then, keys included; texts are redacted before they are cut. A secret of fewer
than :data:`MIN_SECRET_CHARS` characters is left alone: removing it would make every message unreadable. The work grows
with what is shown and what is hidden, not with their product.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

__all__ = ["redact", "redacted", "secrets_in"]

MIN_SECRET_CHARS: Final = 6  # shorter ones are made up for tests, and occur in ordinary words
MAX_DEPTH: Final = 100  # of a value that is shown; real error bodies nest three levels
MAX_LAYERS: Final = 3  # of escapes that are seen through: JSON within JSON within a URL

REMOVED: Final = "[redacted]"

# The write-only fields of the provider's API and of what it connects to.
# Source: Claude Managed Agents API reference, session resources and vault credentials.
_SECRET_FIELDS: Final = frozenset(
    {"authorization_token", "access_token", "refresh_token", "client_secret", "token", "secret_value"}
)

_CONTINUED: Final = r"%[89ABab][0-9A-Fa-f]"
# What stands for a character: JSON's escapes, each within any number of others, and a URL's, of a whole character each.
_ESCAPE: Final = re.compile(
    r"\\++u[Dd][89ABab][0-9A-Fa-f]{2}\\++u[Dd][C-Fc-f][0-9A-Fa-f]{2}"
    r"|\\++u[0-9A-Fa-f]{4}"
    r"|\\++"
    r"|%(?:[0-7][0-9A-Fa-f]"
    rf"|[CDcd][0-9A-Fa-f]{_CONTINUED}|[Ee][0-9A-Fa-f](?:{_CONTINUED}){{2}}|[Ff][0-7](?:{_CONTINUED}){{3}})"
)
# Without their backslash, JSON's names of these are letters; so they are read as those wherever they are.
_NAMED: Final = {"\n": "n", "\r": "r", "\t": "t", "\b": "b", "\f": "f"}

# What an excerpt ends with that was cut within a character.
_UNFINISHED: Final = re.compile(r"(?:\ufffd+|(?:%[0-9A-Fa-f]{0,2}){1,3}|\\u?[0-9A-Fa-f]{0,3})\Z")
_LONGEST_UNFINISHED: Final = 9


def redact(text: str, secrets: Sequence[str]) -> str:
    """Remove every occurrence of the secrets: plain, escaped as in JSON or a URL, or begun at the text's end."""
    return _Hidden(secrets).out_of(text)


def redacted(value: Any, secrets: Sequence[str]) -> Any:
    """Copy a JSON value with the secrets removed from every string and key."""
    return _copy(value, _Hidden(secrets), depth=0)


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


class _Hidden:
    """Secrets, by how each begins: one look at a place of a text tells which of them may be there."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = set(secrets)

    def out_of(self, text: str) -> str:
        """The text without what it holds of them."""
        spans = sorted(
            (places[start], places[end])
            for depth, (layer, places) in enumerate(_layers(text))
            for start, end in _occurrences(layer, self._read if depth else self._plain)
        )
        kept: list[str] = []
        done = 0
        for start, end in spans:
            if start >= done:
                kept += (text[done:start], REMOVED)
            done = max(done, end)
        return "".join((*kept, text[done:]))

    @functools.cached_property
    def _plain(self) -> Mapping[str, Sequence[str]]:
        return _by_beginning(self._secrets)

    @functools.cached_property
    def _read(self) -> Mapping[str, Sequence[str]]:
        """As they read where escapes have been taken off: their own ones too, or not."""
        return _by_beginning({_named(layer.replace("\\", "")) for each in self._secrets for layer, _ in _layers(each)})


def _by_beginning(secrets: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for secret in secrets:
        if len(secret) >= MIN_SECRET_CHARS:
            found.setdefault(secret[:MIN_SECRET_CHARS], []).append(secret)
    return found


def _occurrences(text: str, secrets: Mapping[str, Sequence[str]]) -> Iterator[tuple[int, int]]:
    """Where a secret begins and ends in the text, or begins and is cut off by the text's end."""
    cut = _UNFINISHED.search(text, max(0, len(text) - _LONGEST_UNFINISHED))
    end = len(text) if cut is None else cut.start()
    for start in range(len(text) - MIN_SECRET_CHARS + 1) if secrets else ():
        for secret in secrets.get(text[start : start + MIN_SECRET_CHARS], ()):
            if text.startswith(secret, start):
                yield start, start + len(secret)
            elif MIN_SECRET_CHARS <= end - start < len(secret) and secret.startswith(text[start:end]):
                yield start, len(text)


def _layers(text: str) -> Iterator[tuple[str, Sequence[int]]]:
    """The text, then the text with its escapes taken off, once and again; with the place of each character in it."""
    places: Sequence[int] = range(len(text) + 1)
    yield text, places
    for _ in range(MAX_LAYERS):
        if _ESCAPE.search(text) is None:
            return
        text, places = _unescaped(text, places)
        yield text, places


def _unescaped(text: str, places: Sequence[int]) -> tuple[str, Sequence[int]]:
    pieces: list[str] = []
    at: list[int] = []
    done = 0
    for escape in _ESCAPE.finditer(text):
        start, end = escape.span()
        meant = _meaning(escape[0])
        pieces += (text[done:start], meant)
        at += places[done:start]
        at += [places[start]] * len(meant)
        done = end
    at += places[done:]
    return _named("".join((*pieces, text[done:]))), at


def _meaning(escape: str) -> str:
    """The character that an escape stands for; of a backslash nothing, as it may be of any escape around it."""
    if escape[0] == "%":
        return bytes.fromhex(escape.replace("%", "")).decode("utf-8", "replace")
    codes = escape.replace("\\", "").replace("u", "")
    return bytes.fromhex(codes).decode("utf-16-be", "replace")


def _named(text: str) -> str:
    for character, name in _NAMED.items():
        text = text.replace(character, name)
    return text


def _copy(value: Any, hidden: _Hidden, *, depth: int) -> Any:
    if isinstance(value, str):
        return hidden.out_of(value)
    if depth == MAX_DEPTH and isinstance(value, dict | list):
        return "…"
    if isinstance(value, dict):
        return {hidden.out_of(key): _copy(member, hidden, depth=depth + 1) for key, member in value.items()}
    return [_copy(member, hidden, depth=depth + 1) for member in value] if isinstance(value, list) else value
