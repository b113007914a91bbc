"""What of a call's parameters is a credential, and must be shown nowhere. Pure functions.

Only what a harness connects with is looked at, never what people and models write: messages, tool inputs, schemas.
Under a name that does not speak of secrets, a short value or one of plain words is none: it would be missed in errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

__all__ = ["secrets_in"]

# Members that hold credentials, whatever their keys are.
# Source: Bedrock AgentCore API, HarnessRemoteMcpConfig, EnvironmentVariablesMap, OAuthCredentialProvider, and
# additionalParams of the model configurations.
_HOLDERS: Final = frozenset({"headers", "environmentVariables", "customParameters", "additionalParams"})

# Addresses that may carry them. Source: Bedrock AgentCore API, HarnessRemoteMcpConfig and the model configurations,
# whose members of these names are marked sensitive.
_ADDRESSES: Final = frozenset({"url", "apiBase"})

_WRITTEN: Final = frozenset({"messages", "systemPrompt", "inputSchema"})

_SECRETIVE: Final = re.compile(r"auth|cookie|credential|key|pass|pwd|secret|session|signature|token", re.IGNORECASE)

_SCHEMES: Final = re.compile(r"basic|bearer|digest|token", re.IGNORECASE)

# "production", "us-east-1", "application/json", "DEBUG": words, perhaps with a small number.
_WORD: Final = r"(?:[a-z]+|[A-Z]+|[A-Z][a-z]+)?[0-9]{0,3}"
_WORDS: Final = re.compile(rf"{_WORD}(?:[-_./: ]{_WORD})*")
LONGEST_WORDS: Final = 24  # characters; random letters are rarely a secret below it
SHORTEST_SECRET: Final = 8  # characters; what is guessed at once protects nothing
SHORTEST_SEGMENT: Final = 16  # of an address's path: one that grants access cannot be guessed


def secrets_in(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Find the credentials in the parameters of an operation, at any depth; each once."""
    return tuple(dict.fromkeys(_found(parameters)))


def _found(parameters: Mapping[str, Any]) -> Iterator[str]:
    left: list[Any] = [parameters]
    while left:
        value = left.pop()
        if isinstance(value, list | tuple):
            left.extend(value)
        elif isinstance(value, Mapping):
            for name, member in value.items():
                if name in _HOLDERS:
                    yield from _held(member)
                elif name in _ADDRESSES and isinstance(member, str):
                    yield from _in_address(member)
                elif name not in _WRITTEN:
                    left.append(member)


def _held(holder: Any) -> Iterator[str]:
    """The credentials among the texts of a holder."""
    left: list[tuple[str, Any]] = [("", holder)]
    while left:
        name, value = left.pop()
        if isinstance(value, Mapping):
            left.extend((str(key), member) for key, member in value.items())
        elif isinstance(value, list | tuple):
            left.extend((name, member) for member in value)
        elif isinstance(value, str) and _may_be_secret(name, value):
            yield value
            # Of "Bearer …" or "Basic …" the second part is the credential.
            scheme, _, credential = value.partition(" ")
            if credential and (_SECRETIVE.search(name) or _SCHEMES.fullmatch(scheme)):
                yield credential
            if "://" in value:
                yield from _in_address(value)


def _in_address(address: str) -> Iterator[str]:
    """User, password, fragment and the values of the query; of the path, what cannot be guessed."""
    try:
        parts = urlsplit(address)
        user, password = parts.username, parts.password
    except ValueError:
        yield address
        return
    fields = [field.partition("=") for field in f"{parts.query}&{parts.fragment}".split("&")]
    named = [("password", user or ""), ("password", password or "")]
    named += [(name, value if separator else name) for name, separator, value in fields]
    named += [("", segment) for segment in parts.path.split("/") if len(segment) >= SHORTEST_SEGMENT]
    for name, value in named:
        if _may_be_secret(name, value):
            yield from (value, unquote(value))


def _may_be_secret(name: str, value: str) -> bool:
    if _SECRETIVE.search(name):
        return bool(value)
    return len(value) >= SHORTEST_SECRET and not (len(value) <= LONGEST_WORDS and _WORDS.fullmatch(value))
