"""What ``ensure`` would come to: looked up at the provider and told, with nothing changed there."""

from __future__ import annotations

from typing import Any, Final

from ..agentcore import AgentCoreClient
from ..claude import ClaudeClient
from ..provisioning._claude import collection_of
from ..provisioning._harness import ADOPTABLE, DELETING
from ..provisioning._wanted import ENVIRONMENTS, Wanted

__all__ = ["find_status", "outlook"]

ACTIVE, ARCHIVED = "active", "archived"  # what Claude Managed Agents has no statuses for
USABLE: Final = ADOPTABLE | {ACTIVE}


async def find_status(client: ClaudeClient | AgentCoreClient, wanted: Wanted[Any]) -> str | None:
    """The status of what has a version's name at the provider; ``None`` if nothing has it.

    Of several a usable one counts. Waits for all pages of the listing.

    Raises:
        APIError: The provider refused.
        TransportError: The exchange failed.
    """
    if isinstance(client, AgentCoreClient):
        harnesses = await client.list_all_harnesses()
        statuses = [str(row.get("status")) for row in harnesses if row.get("harnessName") == wanted.name]
    else:
        # An archived environment keeps its name; an archived agent is in nobody's way.
        rows = await collection_of(client, wanted.kind).list_all(include_archived=wanted.kind is ENVIRONMENTS)
        named = [row for row in rows if row.get("name") == wanted.name]
        statuses = [ARCHIVED if row.get("archived_at") else ACTIVE for row in named]
    return min(statuses, key=lambda status: status not in USABLE, default=None)


def outlook(status: str | None, *, is_tracked: bool, verify: bool) -> str:
    """What would be done about something that is wanted, in words.

    Args:
        status: Of what has its name at the provider.
        is_tracked: Whether the store has its handle.
        verify: Whether what the store has would be looked at before it is believed.
    """
    if is_tracked and status in USABLE:
        return f"the store has it; {'it would be looked at, and is there' if verify else 'nothing would be sent'}"
    if is_tracked and not verify:
        return f"the store has it and would be believed, but at the provider it is {status or 'gone'}"
    if status is None:
        return "it would be created"
    if status in USABLE:
        return "it exists; it would be taken as it is"
    if status == DELETING:
        return "it would be created as soon as the one that is being deleted is gone"
    return f"it would fail: the name belongs to one that is {status}"
