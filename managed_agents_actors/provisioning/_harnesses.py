"""Harnesses of AgentCore as images: built if absent, tagged, resolved, listed, pruned.

Names are unique in an account and region, so the execution role is a part of what a harness is. Which account a tag is
of is told by the role, too: a store alone cannot know.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from .._errors import ConfigurationError
from ..agentcore import AgentCoreClient
from . import _harness
from ._cache import Cache
from ._handles import HarnessHandle
from ._harness import account_of, check_role, place_of, region_of
from ._progress import Course, OnProgress, check_limit
from ._prune import Pruned, Version, check_keep, list_versions, prune
from ._shelves import HarnessShelf, check_client
from ._specs import AgentSpec, EnvironmentSpec
from ._store import Store
from ._tags import check_tagged_base, resolve, set_tag
from ._wanted import HARNESSES, wanted_harness

__all__ = ["PROVISION_SECONDS", "ensure_harness", "list_harnesses", "prune_harnesses", "resolve_harness", "tag_harness"]

PROVISION_SECONDS: Final = 365.0  # one is usable after two and a half minutes; its name may have to become free first


async def ensure_harness(
    client: AgentCoreClient,
    spec: AgentSpec | Mapping[str, Any],
    *,
    execution_role_arn: str,
    environment: EnvironmentSpec | Mapping[str, Any] | None = None,
    name: str | None = None,
    store: Store | None = None,
    timeout: float = PROVISION_SECONDS,
    interval: float | None = None,
    on_progress: OnProgress | None = None,
    verify: bool = False,
) -> HarnessHandle:
    """Give the harness that a spec describes; it is created if there is none. Waits until it can be invoked.

    It is named ``<base>_<digest>``, by its content, its environment and its role: another one of them is another
    harness, and none is ever changed. The store saves requests: what it has is not asked for again, unless ``verify``
    is set. Tasks that want the same harness make it once. One that somebody else is making is waited for; one that is
    being deleted, until its name is free. What this call created and cannot be used is deleted again, which may take
    30 s beyond ``timeout``.

    Args:
        client: The client.
        spec: The agent, or a mapping with the attributes of an :class:`AgentSpec`.
        execution_role_arn: The role that it runs as.
        environment: Where its own tools run; its configuration goes into the request as it is.
        name: The base, in place of the spec's name; what is beyond 31 letters is cut.
        store: Remembers the handle; by default this process does.
        timeout: The longest that all of it may take, in seconds.
        interval: Seconds between two looks; by default a twelfth of ``timeout``, 0.05 at least and 5 at most.
        on_progress: Called with a :class:`Progress` at every look; may be async.
        verify: Whether to look if the one that the store remembers is ready; if it is not, or is being deleted or gone,
            it is waited for, or made anew.

    Raises:
        ConfigurationError: An argument cannot be used; nothing was sent.
        ProvisioningError: It did not become usable, or not in time: ``context`` has ``phase``, ``id``, ``status``,
            ``elapsed`` and ``polls``, and a note says what may be left behind.
        APIError: The service refused.
        TransportError: The exchange failed; a note says if a harness may have been created.

    Source: Bedrock AgentCore control plane, CreateHarness, HarnessStatus.
    """
    check_client(client, AgentCoreClient)
    checked, role = AgentSpec.of(spec), check_role(execution_role_arn)
    where = None if environment is None else EnvironmentSpec.of(environment)
    wanted = wanted_harness(checked, where, role, name)
    limit = check_limit(timeout)
    course = Course(f"the harness {wanted.name}", timeout=limit, interval=interval, on_progress=on_progress)
    cache = Cache(store)
    return await course.within_deadline(lambda: _harness.ensure_usable(client, wanted, cache, course, verify=verify))


async def tag_harness(
    client: AgentCoreClient,
    base: str,
    tag: str,
    target: HarnessHandle | str,
    *,
    execution_role_arn: str,
    store: Store | None = None,
) -> None:
    """Let ``base:tag`` mean this version from now on. Nothing is sent: tags are in the store.

    Args:
        client: Where the tag is.
        base: The base of the version, without a colon.
        tag: The tag.
        target: The version's handle, which the store remembers from now on, or the digest of one it remembers.
        execution_role_arn: A role of the account that the tag is of.
        store: Where the tag is; by default in this process.

    Raises:
        ConfigurationError: One of them cannot be used, or the handle is of another region or account.
        ProvisioningError: The store does not remember a version with this digest.
        StoreError: The store failed.
    """
    check_client(client, AgentCoreClient)
    checked, role, cache = check_tagged_base(base, HARNESSES), check_role(execution_role_arn), Cache(store)
    if isinstance(target, HarnessHandle):
        there, here = (region_of(target.harness_arn), account_of(target.harness_arn)), (client.region, account_of(role))
        if there != here:
            raise ConfigurationError(
                f"the harness is in {there[0]}, account {there[1]}; the tag would be in {here[0]}, account {here[1]}"
            )
    await set_tag(HARNESSES, place_of(client, account_of(role)), checked, tag, target, cache)


async def resolve_harness(
    client: AgentCoreClient, reference: str, *, execution_role_arn: str, store: Store | None = None
) -> HarnessHandle:
    """Give the version that ``base:tag`` means, and never another one. Nothing is sent.

    Args:
        client: Where the tag is.
        reference: ``base:tag``; what follows the first colon is the tag.
        execution_role_arn: A role of the account that the tag is of.
        store: Where the tag is; by default in this process.

    Raises:
        ConfigurationError: This is no such text, or no role.
        ProvisioningError: ``context["reason"]`` is ``"unknown tag"``, ``"untracked digest"`` or ``"corrupt entry"``.
        StoreError: The store failed.
    """
    check_client(client, AgentCoreClient)
    role, cache = check_role(execution_role_arn), Cache(store)
    return await resolve(HARNESSES, place_of(client, account_of(role)), reference, cache)


async def list_harnesses(client: AgentCoreClient, base: str, *, store: Store | None = None) -> list[Version]:
    """Give the versions of a base that are not being deleted, the newest first. Waits for all pages of the listing.

    Args:
        client: The client.
        base: The base.
        store: Where the tags are; by default in this process.

    Raises:
        ConfigurationError: This is no base.
        StoreError: The tags cannot be read.
        APIError: The service refused.
        TransportError: The exchange failed.
    """
    check_client(client, AgentCoreClient)
    checked, cache = check_tagged_base(base, HARNESSES), Cache(store)
    return await list_versions(HarnessShelf(client), checked, cache)


async def prune_harnesses(
    client: AgentCoreClient, base: str, *, keep: int, store: Store | None, dry_run: bool = False
) -> Pruned:
    """Begin to delete the versions of a base that nobody needs, the oldest first. Their managed memory goes with them.

    Kept are the newest, those with a tag, and those in use: with an endpoint besides ``DEFAULT``. One that could not be
    created, or not be deleted, is never among the newest. If the tags cannot be read, nothing is deleted.

    Args:
        client: The client.
        base: The base; versions of longer bases are other bases' versions.
        keep: How many of the newest to keep.
        store: Where the tags are, which keep versions here, and the handles, of which those of deleted harnesses are
            removed; ``None`` for the store of this process. Nothing else knows the tags, so it must be said.
        dry_run: Only say what would be deleted.

    Raises:
        ConfigurationError: An argument cannot be used; nothing was deleted.
        StoreError: The tags cannot be read; nothing was deleted.
        ProvisioningError: One could not be deleted: ``context`` has ``archived``, ``failed`` and ``kept``.
        APIError: The service refused to tell what there is; nothing was deleted.
        TransportError: It could not be asked; nothing was deleted.
    """
    check_client(client, AgentCoreClient)
    checked, count, cache = check_tagged_base(base, HARNESSES), check_keep(keep), Cache(store)
    return await prune(HarnessShelf(client), checked, count, cache, dry_run=dry_run)
