"""Environments of Claude Managed Agents as images: built if absent, tagged, resolved, listed, pruned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from ..claude import ClaudeClient
from . import _claude
from ._cache import Cache
from ._handles import EnvironmentHandle
from ._prune import Pruned, Version, check_keep, list_versions, prune
from ._shelves import ClaudeShelf, check_client
from ._specs import EnvironmentSpec
from ._store import Store
from ._tags import check_tagged_base, resolve, set_tag
from ._wanted import ENVIRONMENTS, wanted_environment

__all__ = [
    "ensure_environment",
    "list_environments",
    "prune_environments",
    "resolve_environment",
    "tag_environment",
]

# The base of one that nobody has named.
UNNAMED: Final = "env"


async def ensure_environment(
    client: ClaudeClient,
    spec: EnvironmentSpec | Mapping[str, Any],
    *,
    name: str | None = None,
    store: Store | None = None,
    verify: bool = False,
) -> EnvironmentHandle:
    """Give the environment that a spec describes; it is created if there is none.

    It is named ``<base>_<digest>``, by its content: another content is another environment, and none is ever changed.
    The store saves requests: what it has is not asked for again, unless ``verify`` is set. Tasks that want the same one
    make it once. Waits for the requests; each is bounded by the client's ``timeout``.

    Args:
        client: The client.
        spec: The environment, or a mapping with the attributes of an :class:`EnvironmentSpec`.
        name: The base, in place of the spec's name; 247 bytes at most. Without either it is ``"env"``.
        store: Remembers the handle; by default this process does.
        verify: Whether to look if the one that the store remembers is still there and not archived; if it is not, the
            environment is made anew. An archived one keeps its name: that is an error.

    Returns:
        The handle, with the ``bootstrap`` of the runtimes that the spec declares.

    Raises:
        ConfigurationError: The spec, the name or the store cannot be used; nothing was sent.
        ProvisioningError: An environment of this name cannot be created; ``context`` says why.
        APIError: The provider refused.
        TransportError: The exchange failed; a note says if an environment may have been created.

    Source: Claude Managed Agents, "Create environment".
    """
    check_client(client, ClaudeClient)
    checked = EnvironmentSpec.of(spec)
    base = checked.name or UNNAMED if name is None else name
    handle = await _claude.ensure(client, wanted_environment(checked, base), Cache(store), verify=verify)
    return replace(handle, bootstrap=checked.bootstrap)


async def tag_environment(
    client: ClaudeClient, base: str, tag: str, target: EnvironmentHandle | str, *, store: Store | None = None
) -> None:
    """Let ``base:tag`` mean this version from now on. Nothing is sent: tags are in the store.

    Args:
        client: Its account is where the tag is.
        base: The base of the version, without a colon.
        tag: The tag.
        target: The version's handle, which the store remembers from now on, or the digest of one it remembers.
        store: Where the tag is; by default in this process.

    Raises:
        ConfigurationError: One of them cannot be used.
        ProvisioningError: The store does not remember a version with this digest.
        StoreError: The store failed.
    """
    check_client(client, ClaudeClient)
    checked, cache = check_tagged_base(base, ENVIRONMENTS), Cache(store)
    await set_tag(ENVIRONMENTS, await client.account_digest(), checked, tag, target, cache)


async def resolve_environment(client: ClaudeClient, reference: str, *, store: Store | None = None) -> EnvironmentHandle:
    """Give the version that ``base:tag`` means, and never another one. Nothing is sent.

    Args:
        client: Its account is where the tag is.
        reference: ``base:tag``; what follows the first colon is the tag.
        store: Where the tag is; by default in this process.

    Returns:
        The handle, without ``bootstrap``: no spec is at hand.

    Raises:
        ConfigurationError: This is no such text.
        ProvisioningError: ``context["reason"]`` is ``"unknown tag"``, ``"untracked digest"`` or ``"corrupt entry"``.
        StoreError: The store failed.
    """
    check_client(client, ClaudeClient)
    cache = Cache(store)
    return await resolve(ENVIRONMENTS, await client.account_digest(), reference, cache)


async def list_environments(client: ClaudeClient, base: str, *, store: Store | None = None) -> list[Version]:
    """Give the versions of a base that are not archived, the newest first. Waits for all pages of the listing.

    Args:
        client: The client.
        base: The base.
        store: Where the tags are; by default in this process.

    Raises:
        ConfigurationError: This is no base.
        StoreError: The tags cannot be read.
        APIError: The provider refused.
        TransportError: The exchange failed.
    """
    check_client(client, ClaudeClient)
    checked, cache = check_tagged_base(base, ENVIRONMENTS), Cache(store)
    return await list_versions(ClaudeShelf(client, ENVIRONMENTS, await client.account_digest()), checked, cache)


async def prune_environments(
    client: ClaudeClient, base: str, *, keep: int, store: Store | None, dry_run: bool = False
) -> Pruned:
    """Archive the versions of a base that nobody needs, the oldest first.

    Kept are the newest, those with a tag, and those in use: by a session that has not terminated, or by an agent that
    was provisioned with it, as the store says. If the tags cannot be read, nothing is archived. An archived environment
    never comes back, and keeps its name.

    Args:
        client: The client.
        base: The base; versions of longer bases are other bases' versions.
        keep: How many of the newest to keep.
        store: Where the tags are, which keep versions here, and the handles, of which those of what is archived are
            removed; ``None`` for the store of this process. Nothing else knows the tags, so it must be said.
        dry_run: Only say what would be archived.

    Raises:
        ConfigurationError: An argument cannot be used; nothing was archived.
        StoreError: The tags cannot be read; nothing was archived.
        ProvisioningError: One could not be archived: ``context`` has ``archived``, ``failed`` and ``kept``.
        APIError: The provider refused to tell what there is; nothing was archived.
        TransportError: It could not be asked; nothing was archived.
    """
    check_client(client, ClaudeClient)
    checked, count, cache = check_tagged_base(base, ENVIRONMENTS), check_keep(keep), Cache(store)
    shelf = ClaudeShelf(client, ENVIRONMENTS, await client.account_digest())
    return await prune(shelf, checked, count, cache, dry_run=dry_run)
