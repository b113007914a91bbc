"""Tags: names of people's own for versions, such as ``support:prod``, that can be moved. They live in a store alone.

A tag leads to exactly the version it was set on, or to an error: nothing is ever taken in its place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from .._errors import ConfigurationError, ProvisioningError, StoreError
from .._protocol.digest import DIGEST_CHARS
from ._cache import Cache, Entry, flight, key_of
from ._names import check_base, check_label, compose, fit
from ._wanted import Kind

__all__ = ["check_tagged_base", "resolve", "set_tag", "tags_of"]

E = TypeVar("E", bound=Entry)

DIGEST: Final = re.compile(rf"[0-9a-f]{{{DIGEST_CHARS}}}")


def check_tagged_base(base: Any, kind: Kind[Any]) -> str:
    """Give a base back that can be part of ``base:tag``.

    Raises:
        ConfigurationError: It cannot.
    """
    return check_base(base, kind.policy, f"the base of the {kind.noun}")


async def set_tag(kind: Kind[E], place: str, base: str, tag: str, target: E | str, cache: Cache) -> None:
    """Let a tag mean a version from now on.

    Args:
        kind: What it is a version of.
        place: Where that lives.
        base: Its base, checked.
        tag: The tag.
        target: Its handle, which is remembered if it was not, or its digest.
        cache: Where tags are.

    Raises:
        ConfigurationError: One of them cannot be used.
        ProvisioningError: Nothing is remembered under this digest.
        StoreError: The store failed.
    """
    check_label(tag, "a tag")
    digest = _digest_of(kind, base, target)
    key = kind.key(place, base, digest)
    async with flight(key):
        if not isinstance(target, str):
            await cache.write(key, target.to_json())
        elif await _tracked(kind, base, digest, key, cache) is None:
            raise _unresolved(f"{base}:{tag} cannot be set", "untracked digest", digest, phase="tag")
        await cache.write(_key(kind, place, base, tag), digest)


async def resolve(kind: Kind[E], place: str, reference: str, cache: Cache) -> E:
    """The version that a tag means.

    Args:
        kind: What it is a version of.
        place: Where that lives.
        reference: ``<base>:<tag>``; what follows the first colon is the tag.
        cache: Where tags are.

    Raises:
        ConfigurationError: This is no such text.
        ProvisioningError: The tag is unknown, or its version is not remembered; ``context["reason"]`` says which.
        StoreError: The store failed.
    """
    base, colon, tag = reference.partition(":") if isinstance(reference, str) else ("", "", "")
    if not colon or not tag.strip():
        raise ConfigurationError(f"a version is named <base>:<tag>, not {reference!r}")
    checked = check_tagged_base(base, kind)
    check_label(tag, "a tag")
    digest = await cache.read(_key(kind, place, checked, tag))
    if digest is None:
        raise _unresolved(f"{reference} is unknown here", "unknown tag", None)
    if not _is_digest(digest):
        raise _unresolved(f"{reference} is not a digest in the store", "corrupt entry", digest)
    found = await _tracked(kind, checked, digest, kind.key(place, checked, digest), cache)
    if found is None:
        raise _unresolved(f"{reference} has no handle in the store", "untracked digest", digest)
    return found


async def tags_of(kind: Kind[Any], base: str, cache: Cache) -> Mapping[str, Mapping[str, str]]:
    """All tags of a base: for each place, each tag and the digest it means.

    Raises:
        StoreError: The store failed, or an entry is damaged: nobody can say which version is tagged.
    """
    found: dict[str, dict[str, str]] = {}
    for key, digest in (await cache.read_all(key_of("tag", kind.noun, fit(base, kind.policy), ""))).items():
        place, _, tag = key.rpartition("/")
        if not _is_digest(digest):
            raise StoreError(f"the tag {unquote(tag)!r} of {base!r} is {digest!r} in the store, which is no digest")
        found.setdefault(unquote(place.rpartition("/")[2]), {})[unquote(tag)] = digest
    return found


def _key(kind: Kind[Any], place: str, base: str, tag: str) -> str:
    # The place comes after the base: what is tagged in any place is not to be put away in another.
    return key_of("tag", kind.noun, fit(base, kind.policy), place, tag)


async def _tracked(kind: Kind[E], base: str, digest: str, key: str, cache: Cache) -> E | None:
    """The handle under a key, as it must be; ``None`` if there is none."""
    value = await cache.read(key)
    if value is None:
        return None
    try:
        found = kind.handle.from_json(value)
    except ConfigurationError as error:
        raise _unresolved(f"the entry of {base}:{digest} is damaged", "corrupt entry", digest) from error
    if found.name != compose(base, digest, kind.policy):
        raise _unresolved(f"the entry of {base}:{digest} is of {found.name}", "corrupt entry", digest)
    return found


def _digest_of(kind: Kind[E], base: str, target: E | str) -> str:
    digest = target if isinstance(target, str) else getattr(target, "digest", None)
    if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
        what = f"a {kind.handle.__name__}, or a digest of {DIGEST_CHARS} hexadecimal digits"
        raise ConfigurationError(f"what is tagged must be {what}, not {target!r}")
    name = compose(base, digest, kind.policy)
    if not isinstance(target, str) and (not isinstance(target, kind.handle) or target.name != name):
        raise ConfigurationError(f"{target!r} is no {kind.noun} of the base {base!r}; that would be named {name}")
    return digest


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and DIGEST.fullmatch(value) is not None


def _unresolved(message: str, reason: str, digest: Any, *, phase: str = "resolve") -> ProvisioningError:
    context = {"phase": phase, "reason": reason, "digest": digest}
    return ProvisioningError(f"{message} ({reason}): set the tag on a handle", context=context)
