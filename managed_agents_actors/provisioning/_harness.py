"""Harnesses of AgentCore: found or made, waited for until they can be invoked, and put away.

A harness is usable minutes after it was accepted, and its name free minutes after it was deleted; all waits of a call
share its one deadline. What is not known to become usable is reported as it was seen, never waited for.

Source: Bedrock AgentCore control plane API reference, CreateHarness, HarnessStatus and DeleteHarness.
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Any, Final

import trio

from .._errors import (
    APIError,
    ConfigurationError,
    ConflictError,
    NotFoundError,
    ProvisioningError,
    TransportError,
)
from ..agentcore import AgentCoreClient
from ..agentcore._waits import ABSENT, ON_THE_WAY, READY, Row, Wait, endpoint_ready, harness_ready, row_of
from ._cache import Cache, flight
from ._handles import HarnessHandle
from ._order import Order, Removal
from ._progress import Course
from ._rollback import Rollback
from ._wanted import HARNESSES, Wanted, wanted_harness

__all__ = [
    "account_of",
    "check_role",
    "delete",
    "ensure_usable",
    "place_of",
    "provision_harness",
    "region_of",
    "teardown_harness",
]

ROLE_ARN: Final = re.compile(r"arn:aws(?:-[^:]+)?:iam::([0-9]{12}):role/.+")
PLACE_CHARS: Final = 16

# Statuses of a harness that another call, or another process, is about to have or has: it is taken as it is.
ADOPTABLE: Final = ON_THE_WAY | {READY}
DELETING: Final = "DELETING"


def check_role(value: Any) -> str:
    """Give the ARN of an execution role back, without the white space around it.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(value, str) or not ROLE_ARN.fullmatch(value.strip()):
        raise ConfigurationError(
            "execution_role_arn= must be the ARN of a role, such as arn:aws:iam::123456789012:role/Harness, not"
            f" {'another text' if isinstance(value, str) else f'a {type(value).__name__}'}"
        )
    return value.strip()


def region_of(arn: str) -> str | None:
    """The region in an ARN; ``None`` if there is none."""
    return (*arn.split(":"), "", "", "", "")[3] or None


def account_of(arn: str) -> str:
    """The account in an ARN; an empty text if there is none."""
    return (*arn.split(":"), "", "", "", "")[4]


def place_of(client: AgentCoreClient, account: str) -> str:
    """What tells where a harness lives: its region, where the control plane is, its account."""
    place = "\0".join((client.region, client.control_endpoint_url, account))
    return hashlib.sha256(place.encode()).hexdigest()[:PLACE_CHARS]


async def provision_harness(client: AgentCoreClient, order: Order) -> HarnessHandle:
    """Give a harness that can be invoked."""
    wanted = wanted_harness(order.spec, order.environment, order.options.execution_role_arn, order.name)
    return await ensure_usable(client, wanted, order.cache, order.course, verify=order.verify)


async def ensure_usable(
    client: AgentCoreClient, wanted: Wanted[HarnessHandle], cache: Cache, course: Course, *, verify: bool
) -> HarnessHandle:
    """Give the handle of a version that can be invoked. What this call made is gone again if it cannot be."""
    key = wanted.key(place_of(client, account_of(wanted.body["executionRoleArn"])))
    course.tell_as("managed_agents.agent_core.provision")
    course.enter("queued", wanted.name)
    async with flight(key), Rollback(course) as rollback:
        course.enter("look up", wanted.name)
        kept = await cache.find(key, wanted.name, HarnessHandle)
        if kept is not None:
            if not verify or await _is_ready(client, kept.harness_id):
                return kept
            await cache.lose(kept)
        while True:
            handle = _handle(wanted, await _made_or_found(client, wanted, course, rollback), course)
            try:
                await _wait_until_usable(client, handle.harness_id, course)
            except (NotFoundError, ProvisioningError) as error:
                # Who made the one that was adopted has taken it back: its name is about to be free.
                is_going = isinstance(error, NotFoundError) or error.context.get("status") in (
                    DELETING,
                    ABSENT,
                )
                if rollback.has_made or not is_going:
                    raise
                await trio.sleep(course.interval)
            else:
                break
        await cache.commit({key: handle})
    return handle


async def _is_ready(client: AgentCoreClient, harness_id: str) -> bool:
    """Whether a harness is there, and not on its way to or from somewhere."""
    try:
        return row_of(await client.get_harness(harnessId=harness_id), "harness").get("status") == READY
    except NotFoundError:
        return False


async def _wait_until_usable(client: AgentCoreClient, harness_id: str, course: Course) -> None:
    """Wait until a harness, and then its endpoint, is ready."""
    for wait in (harness_ready, endpoint_ready):
        with course.phase("ready" if wait is harness_ready else "endpoint ready", harness_id):
            until = wait(client, harness_id, on_look=course.look, begun=course.begun).until
            await until(READY, interval=course.interval)


async def _made_or_found(
    client: AgentCoreClient, wanted: Wanted[HarnessHandle], course: Course, rollback: Rollback
) -> Row:
    """A harness of the name, on its way or ready: a new one, or the one that has the name already."""
    while True:
        with course.phase("create", wanted.name):
            try:
                return await rollback.create(functools.partial(_create, client, wanted, course, rollback))
            except ConflictError as conflict:
                holder = await _holder(client, wanted.name, course, conflict)
        if holder.get("status") != DELETING:
            return holder
        successor = await _wait_until_free(client, wanted.name, course)
        if successor:
            return successor
        if course.remaining < course.interval:
            raise course.error(
                f"is gone, but of the time for the call {course.remaining:g} s are left, less than from one look to the"
                f" next ({course.interval:g} s): it was not created again",
                reason="no time left",
            )


async def _create(client: AgentCoreClient, wanted: Wanted[HarnessHandle], course: Course, rollback: Rollback) -> Row:
    """Ask for a harness, and say how that is undone."""
    with course.may_have_made(f"harness {wanted.name}"):
        row = row_of(await client.create_harness(**wanted.body), "harness")
    harness_id = row.get("harnessId")
    if isinstance(harness_id, str) and harness_id:
        rollback.made(f"harness {harness_id}", functools.partial(delete, client, harness_id))
    return row


async def _holder(client: AgentCoreClient, name: str, course: Course, conflict: ConflictError) -> Row:
    """The harness whose name was refused because it is taken, if there is anything to be made of it."""
    row = await _row_named(client, name)
    if row is None:
        raise course.error(
            "cannot be created: its name is taken, but nothing that is listed has it", reason="name conflict"
        ) from conflict
    status = row.get("status")
    if status not in ADOPTABLE and status != DELETING:
        raise course.error(
            f"cannot be created: its name belongs to {row.get('harnessId')}, which is {status}; delete that one",
            reason="name conflict",
            status=status,
        ) from conflict
    return row


async def _row_named(client: AgentCoreClient, name: str) -> Row | None:
    """The harness of a name, on whatever page of the listing; a usable one, if a name is listed twice."""
    rows = [row for row in await client.list_all_harnesses() if row.get("harnessName") == name]
    return min(rows, key=lambda row: row.get("status") not in ADOPTABLE, default=None)


async def _wait_until_free(client: AgentCoreClient, name: str, course: Course) -> Row:
    """Wait until a name is free: an empty row; or until another harness has taken it: that one."""

    async def look() -> Row | None:
        return await _row_named(client, name)

    with course.phase("deleted", name):
        wait = Wait(
            "deleted",
            f"the harness {name}",
            look,
            id=name,
            waits_on=frozenset({DELETING}),
            on_look=course.look,
            begun=course.begun,
        )
        return await wait.until(ABSENT, *ADOPTABLE, interval=course.interval)


def _handle(wanted: Wanted[HarnessHandle], row: Row, course: Course) -> HarnessHandle:
    harness_id, arn = row.get("harnessId"), row.get("arn")
    if not isinstance(harness_id, str) or not harness_id or not isinstance(arn, str) or not arn:
        seen = ", ".join(sorted(row)) or "nothing"
        raise course.error(
            f"was answered without its harnessId or its arn, but with {seen}; the next call looks for its name",
            reason="unexpected answer",
        )
    return HarnessHandle(harness_id=harness_id, harness_arn=arn, name=wanted.name, digest=wanted.digest)


# --- away ------------------------------------------------------------------------------------------------------------


async def delete(client: AgentCoreClient, harness_id: str) -> None:
    """Begin to delete a harness; one that is being deleted, or gone, is as good.

    Raises:
        ConflictError: It cannot be deleted now.
    """
    try:
        await client.delete_harness(harnessId=harness_id)
    except NotFoundError:
        return
    except ConflictError:
        try:
            row = row_of(await client.get_harness(harnessId=harness_id), "harness")
        except NotFoundError:
            return
        if row.get("status") != DELETING:
            raise


async def teardown_harness(client: AgentCoreClient, removal: Removal) -> None:
    """Forget a harness, and begin to delete it."""
    handle = HarnessHandle.from_json(removal.handle)
    if region_of(handle.harness_arn) != client.region:
        # Its id would not be found, and that is what it looks like when it is deleted.
        raise ConfigurationError(
            f"the harness {handle.harness_arn} is in another region than the client: {client.region}"
        )
    begun = trio.current_time()
    key = HARNESSES.key_for(place_of(client, account_of(handle.harness_arn)), handle)
    try:
        with trio.fail_after(removal.timeout):
            async with flight(key), removal.cache.forgotten(handle):
                await delete(client, handle.harness_id)
    except (APIError, TransportError, trio.TooSlowError) as error:
        told = f"{type(error).__name__}: {error}"
        if isinstance(error, trio.TooSlowError):
            told = f"it took longer than {removal.timeout:g} s"
        elapsed = trio.current_time() - begun
        raise ProvisioningError(
            f"the harness {handle.harness_id} could not be put away, try again: {told}",
            context={"phase": "teardown", "id": handle.harness_id, "elapsed": elapsed, "harness": told},
        ) from error
