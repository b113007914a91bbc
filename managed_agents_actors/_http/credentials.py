"""What authenticates a call: a credential for each attempt and, once in the call's life, a fresh one for a refused one.

A 401 says that the server did not act, so any call may be sent again with another credential, whether or not it may
be repeated otherwise. A credential that comes back the same cannot help and is not sent again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

__all__ = ["Authenticate", "Credential", "Keyring", "Outgoing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What a credential may depend on: a signature covers all of it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The headers that authenticate one attempt, and what of them must never be shown."""

    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)


Authenticate: TypeAlias = Callable[[Outgoing], Awaitable[Credential]]


class Keyring:
    """The credentials of one call."""

    def __init__(self, authenticate: Authenticate) -> None:
        self._authenticate = authenticate
        self._refreshed = False

    async def give(self, outgoing: Outgoing) -> Credential:
        """Ask for the credential of an attempt."""
        return await self._authenticate(outgoing)

    async def refresh(self, refused: Credential, outgoing: Outgoing) -> Credential | None:
        """Ask again in place of a credential that was refused; ``None`` if that was done before or changes nothing."""
        if self._refreshed:
            return None
        self._refreshed = True
        fresh = await self._authenticate(outgoing)
        if fresh.secrets == refused.secrets:
            return None
        # The server may still name the one it refused.
        return replace(fresh, secrets=(*fresh.secrets, *refused.secrets))
