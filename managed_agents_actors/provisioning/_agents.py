"""Agents of Claude Managed Agents as images: built if absent, tagged, resolved, listed, pruned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..claude import ClaudeClient
from . import _claude
from ._cache import Cache
from ._handles import AgentHandle
from ._prune import Pruned, Version, check_keep, list_versions, prune
from ._shelves import ClaudeShelf, check_client
from ._specs import AgentSpec
from ._store import Store
from ._tags import check_tagged_base, resolve, set_tag
from ._wanted import AGENTS, wanted_agent

__all__ = ["ensure_agent", "list_agents", "prune_agents", "resolve_agent", "tag_agent"]


async def ensure_agent(
    client: ClaudeClient,
    spec: AgentSpec | Mapping[str, Any],
    *,
    name: str | None = None,
    store: Store | None = None,
    verify: bool = False,
) -> AgentHandle:
    """Give the agent that a spec describes; it is created if there is none.

    It is named ``<base>_<digest>``, by its content: another content is another agent, and none is ever changed. The
    store saves requests: what it has is not asked for again, unless ``verify`` is set. Tasks that want the same agent
    make it once. Waits for the requests; each is bounded by the client's ``timeout``.

    Args:
        client: The client.
        spec: The agent, or a mapping with the attributes of an :class:`AgentSpec`.
        name: The base, in place of the spec's name; 247 bytes at most.
        store: Remembers the handle; by default this process does.
        verify: Whether to look if the one that the store remembers is still there and not archived; if it is not, the
            agent is made anew.

    Raises:
        ConfigurationError: The spec, the name or the store cannot be used; nothing was sent.
        ProvisioningError: An agent of this name cannot be created; ``context`` says why.
        APIError: The provider refused.
        TransportError: The exchange failed; a note says if an agent may have been created.

    Source: Claude Managed Agents, "Create agent".
    """
    check_client(client, ClaudeClient)
    return await _claude.ensure(client, wanted_agent(AgentSpec.of(spec), name), Cache(store), verify=verify)


async def tag_agent(
    client: ClaudeClient, base: str, tag: str, target: AgentHandle | str, *, store: Store | None = None
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
    checked, cache = check_tagged_base(base, AGENTS), Cache(store)
    await set_tag(AGENTS, await client.account_digest(), checked, tag, target, cache)


async def resolve_agent(client: ClaudeClient, reference: str, *, store: Store | None = None) -> AgentHandle:
    """Give the version that ``base:tag`` means, and never another one. Nothing is sent.

    Args:
        client: Its account is where the tag is.
        reference: ``base:tag``; what follows the first colon is the tag.
        store: Where the tag is; by default in this process.

    Raises:
        ConfigurationError: This is no such text.
        ProvisioningError: ``context["reason"]`` is ``"unknown tag"``, ``"untracked digest"`` or ``"corrupt entry"``.
        StoreError: The store failed.
    """
    check_client(client, ClaudeClient)
    cache = Cache(store)
    return await resolve(AGENTS, await client.account_digest(), reference, cache)


async def list_agents(client: ClaudeClient, base: str, *, store: Store | None = None) -> list[Version]:
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
    checked, cache = check_tagged_base(base, AGENTS), Cache(store)
    return await list_versions(ClaudeShelf(client, AGENTS, await client.account_digest()), checked, cache)


async def prune_agents(
    client: ClaudeClient, base: str, *, keep: int, store: Store | None, dry_run: bool = False
) -> Pruned:
    """Archive the versions of a base that nobody needs, the oldest first.

    Kept are the newest, those with a tag, and those in use: by a session that has not terminated, or by another agent
    as a part of it. If the tags cannot be read, nothing is archived. An archived agent never comes back.

    Args:
        client: The client.
        base: The base; versions of longer bases are other bases' versions.
        keep: How many of the newest to keep.
        store: Where the tags are, which keep versions here, and the handles, of which those of archived agents are
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
    checked, count, cache = check_tagged_base(base, AGENTS), check_keep(keep), Cache(store)
    shelf = ClaudeShelf(client, AGENTS, await client.account_digest())
    return await prune(shelf, checked, count, cache, dry_run=dry_run)
