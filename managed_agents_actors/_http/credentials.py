"""What authenticates a call: a credential for each attempt and, once in the call's life, a fresh one for a refused one.

A refused credential says that the server did not act, so any call may be sent again with another credential, whether
or not it may be repeated otherwise. A credential that comes back the same cannot help and is not sent again, unless
what was refused is only the age of a signature.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

__all__ = ["Authenticate", "Credential", "Keyring", "Outgoing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """The headers that authenticate one attempt, and what of them must never be shown.

    Attributes:
        headers: Added to the request's.
        secrets: What must never be shown.
        key: What the headers were made with, where they are new each time; by default the secrets.
    """

    headers: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    key: tuple[str, ...] = field(default=(), repr=False)

    def is_same_as(self, other: Credential) -> bool:
        """Whether the server can tell the two apart only by their age."""
        return (self.key or self.secrets) == (other.key or other.secrets)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """What a credential may depend on: a signature covers all of it; one that was refused calls for another."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None = field(repr=False)
    refused: Credential | None = None


Authenticate: TypeAlias = Callable[[Outgoing], Awaitable[Credential]]


class Keyring:
    """The credentials of one call."""

    def __init__(self, authenticate: Authenticate) -> None:
        self._authenticate = authenticate
        self._refreshed = False

    async def give(self, outgoing: Outgoing) -> Credential:
        """Ask for the credential of an attempt."""
        return await self._authenticate(outgoing)

    async def refresh(self, refused: Credential, outgoing: Outgoing, *, aged: bool = False) -> Credential | None:
        """Ask again in place of a credential that was refused; ``None`` if that was done before or changes nothing.

        Args:
            refused: The credential.
            outgoing: The request.
            aged: Whether only a signature was too old, so that a new one helps, be it with the same key.
        """
        if self._refreshed:
            return None
        self._refreshed = True
        fresh = await self._authenticate(replace(outgoing, refused=refused))
        if fresh.is_same_as(refused) and not aged:
            return None
        # The server may still name the one it refused.
        return replace(fresh, secrets=(*fresh.secrets, *refused.secrets))
