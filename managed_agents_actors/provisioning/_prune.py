"""Versions of one base: which there are, and putting away those that nobody needs.

What is protected is established before anything is put away: if tags, versions or their uses cannot be told, nothing
is. A handle leaves the store before what it names is put away, and comes back only if that was refused, so that a store
never offers what is gone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar

from .._errors import ConfigurationError, ManagedAgentsError, ProvisioningError, StoreError
from ..telemetry import get_logger
from ._cache import Cache, Entry, flight, use_key
from ._tags import tags_of
from ._wanted import Kind

__all__ = ["Found", "Pruned", "Reason", "Shelf", "Version", "check_keep", "list_versions", "prune"]

H = TypeVar("H", bound=Entry)

Reason: TypeAlias = Literal["newest", "tagged", "in use"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A version that is there.

    Attributes:
        name: Its name, ``<base>_<digest>``.
        id: Its id.
        digest: The part of its digest that is in its name.
        created_at: When it was made.
        tags: What it is tagged as here, in alphabetical order.
        is_tracked: Whether its handle is in the store.
    """

    name: str
    id: str
    digest: str
    created_at: datetime
    tags: tuple[str, ...]
    is_tracked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What became of the versions of a base.

    Attributes:
        archived: The names of those that were put away, or would be, the oldest first.
        kept: Why each of the others was kept, by its name.
    """

    archived: tuple[str, ...]
    kept: Mapping[str, Reason]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found(Generic[H]):
    """A version as the provider lists it.

    Attributes:
        id: Its id.
        handle: Its handle.
        digest: The digest in its name.
        place: Where it lives.
        created_at: When it was made.
        is_usable: Whether it can be used, now or soon.
        row: What the provider tells of it.
    """

    id: str
    handle: H
    digest: str
    place: str
    created_at: datetime
    is_usable: bool = True
    row: Mapping[str, Any] = field(repr=False)


class Shelf(Protocol[H]):
    """Where the versions of a kind are."""

    @property
    def kind(self) -> Kind[H]:
        """What they are versions of."""
        ...

    async def versions(self, base: str) -> list[Found[H]]:
        """Look at all there are of a base that are not put away, in any order."""
        ...

    async def used(self, versions: Sequence[Found[H]]) -> Collection[str]:
        """Find out which of these are in use; their ids."""
        ...

    async def put_away(self, version: Found[H]) -> None:
        """Put one away; one that is away already is as good."""
        ...


def check_keep(keep: Any) -> int:
    """Give the number of versions to keep back.

    Raises:
        ConfigurationError: It is no positive whole number.
    """
    if not isinstance(keep, int) or isinstance(keep, bool) or keep < 1:
        raise ConfigurationError(f"keep= must be a whole number from 1, not {keep!r}")
    return keep


async def list_versions(shelf: Shelf[H], base: str, cache: Cache) -> list[Version]:
    """The versions of a base, the newest first."""
    tags = await tags_of(shelf.kind, base, cache)
    versions = []
    for found in await _newest_first(shelf, base):
        key = shelf.kind.key(found.place, base, found.digest)
        here = tags.get(found.place, {})
        versions.append(
            Version(
                name=found.handle.name,
                id=found.id,
                digest=found.digest,
                created_at=found.created_at,
                tags=tuple(sorted(tag for tag, digest in here.items() if digest == found.digest)),
                is_tracked=await cache.find(key, found.handle.name, shelf.kind.handle) is not None,
            )
        )
    return versions


async def prune(shelf: Shelf[H], base: str, keep: int, cache: Cache, *, dry_run: bool) -> Pruned:
    """Put away the versions of a base that are not among the newest, not tagged, and not in use."""
    tagged = await _tagged(shelf.kind, base, cache)
    versions = await _newest_first(shelf, base)
    # What failed to be made or to go takes no place among those that are kept to be gone back to.
    newest = list(dict.fromkeys(found.digest for found in versions if found.is_usable))[:keep]
    kept: dict[str, Reason] = {}
    idle: list[Found[H]] = []
    for found in versions:
        if found.is_usable and found.digest in newest:
            kept[found.handle.name] = "newest"
        elif found.digest in tagged:
            kept.setdefault(found.handle.name, "tagged")
        else:
            idle.append(found)
    used = await _used(shelf, idle, cache)
    kept.update((found.handle.name, "in use") for found in idle if found.id in used)
    archived: list[str] = []
    away: set[str] = set()
    for found in reversed([each for each in idle if each.id not in used]):
        try:
            reason = None if dry_run else await _put_away(shelf, base, found, cache)
        except ManagedAgentsError as error:
            name = found.handle.name
            raise ProvisioningError(
                f"{name} could not be put away ({type(error).__name__}: {error}); {len(archived)} were before it",
                context={"phase": "prune", "id": found.id, "archived": tuple(archived), "failed": name, "kept": kept},
            ) from error
        if reason is not None:
            kept[found.handle.name] = reason
            continue
        archived.append(found.handle.name)
        if not dry_run:
            away.add(found.digest)
    if away:
        await _tell_of_late_tags(shelf.kind, base, away, cache)
    return Pruned(archived=tuple(archived), kept=kept)


async def _put_away(shelf: Shelf[H], base: str, found: Found[H], cache: Cache) -> Reason | None:
    """Put one away, unless it was tagged or came into use meanwhile: then why it stays."""
    key = shelf.kind.key(found.place, base, found.digest)
    async with flight(key):
        if found.digest in await _tagged(shelf.kind, base, cache):
            return "tagged"
        if found.id in await _used(shelf, [found], cache):
            return "in use"
        async with cache.forgotten(found.handle):
            await shelf.put_away(found)
        return None


async def _used(shelf: Shelf[H], versions: Sequence[Found[H]], cache: Cache) -> Collection[str]:
    """Find out which are in use, at the provider or by what was provisioned with them."""
    used = set(await shelf.used(versions))
    for found in versions:
        if await cache.read_all(use_key(shelf.kind.noun, found.place, found.id)):
            used.add(found.id)
    return used


async def _tell_of_late_tags(kind: Kind[Any], base: str, away: Collection[str], cache: Cache) -> None:
    """Log the tags that lead to what was just put away: another process has set them meanwhile."""
    try:
        tags = await tags_of(kind, base, cache)
    except StoreError as error:
        get_logger().warning("provisioning_store_failed", operation="items", exc_info=error)
        return
    for here in tags.values():
        for tag, digest in here.items():
            if digest in away:
                get_logger().warning("provisioning_tag_of_what_is_away", base=base, tag=tag, digest=digest)


async def _newest_first(shelf: Shelf[H], base: str) -> list[Found[H]]:
    return sorted(await shelf.versions(base), key=lambda found: (found.created_at, found.id), reverse=True)


async def _tagged(kind: Kind[Any], base: str, cache: Cache) -> set[str]:
    """The digests that are tagged, wherever: another place's tag may be this one's under an older key."""
    tags = await tags_of(kind, base, cache)
    return {digest for here in tags.values() for digest in here.values()}
