"""What a session's agent stores, as a value and as the contract of a store: the floor's part of the artifacts.

Contexts hand stores out, so the contract is known everywhere; what keeps it lives above.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

__all__ = ["Artifact", "ArtifactList", "ArtifactStore"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A file that a session's agent stores, or was given.

    Attributes:
        name: Its name.
        size: Its size in bytes; ``None`` if the provider tells none.
        ref: Where it is: the id of a file, or a path in the session's machine.
        created_at: When it was made or, where only that is kept, last written: an ISO 8601 time; ``None`` if unknown.
        raw: What the provider says of it, as received.
    """

    name: str
    size: int | None
    ref: str
    created_at: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


ArtifactList: TypeAlias = list[Artifact]  # a name of its own where a method called `list` hides the type


class ArtifactStore(Protocol):
    """What one session's agent stores, by name."""

    async def list(self) -> ArtifactList:
        """List what there is, the newest first; a name that is there several times is listed as often."""
        ...

    async def fetch(self, name: str, /) -> bytes:
        """Give the content of the newest artifact of this name that the provider gives out.

        Raises:
            ArtifactNotFound: There is none.
        """
        ...

    async def put(self, name: str, data: bytes, /) -> Artifact:
        """Give the agent a file. It is there whole or not at all."""
        ...

    async def delete(self, name: str, /) -> None:
        """Delete the newest artifact of this name.

        Raises:
            ArtifactNotFound: There is none.
        """
        ...
