"""Waiting until what was begun has ended: a harness or an endpoint is ready, or is gone.

The service has no events for it: it is asked again and again, until a deadline. A status that will never become the
one waited for ends the wait at once.

Source: Bedrock AgentCore control plane API reference, HarnessStatus and HarnessEndpointStatus.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import trio

from .._errors import (
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
    ProvisioningError,
    RateLimitError,
    ServerError,
    TransportError,
)
from .._http.checks import check_seconds
from ._harnesses import Harnesses

__all__ = ["ABSENT", "ON_THE_WAY", "READY", "Row", "Seen", "Wait", "Waits", "endpoint_ready", "harness_ready", "row_of"]

READY: Final = "READY"
ON_THE_WAY: Final = frozenset({"CREATING", "UPDATING"})
ABSENT: Final = "not found"
# On the way to being gone: what was begun a moment ago may not show yet, and what failed before it may still show.
DELETABLE: Final = ON_THE_WAY | {READY, "CREATE_FAILED", "UPDATE_FAILED", "DELETING"}

# A look that failed so may succeed the next time.
PASSING: Final = (TransportError, RateLimitError, ServerError)

WAIT_SECONDS: Final = 600.0  # a harness is ready after seconds, its endpoint after minutes, and deleted after minutes
INTERVAL_SECONDS: Final = 5.0

Row: TypeAlias = dict[str, Any]
Look: TypeAlias = Callable[[], Awaitable[Row | None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a look at something saw.

    Attributes:
        status: Its status; ``None`` if the look failed.
        polls: How many looks this wait has taken, this one included.
        failure: Why the look failed, in passing.
    """

    status: str | None
    polls: int
    failure: Exception | None = None


OnLook: TypeAlias = Callable[[Seen], Awaitable[None]]


class Waits(Harnesses):
    """The waits of a client. Times are in seconds.

    Each raises ``ProvisioningError`` when the deadline has passed, or the status tells that waiting is useless; its
    ``context`` has the last status. A look that failed in passing counts as none; ``ProtocolError`` says that something
    else than the service answered, and is raised at once.
    """

    async def wait_until_harness_ready(
        self, harness_id: str, *, timeout: float = WAIT_SECONDS, interval: float = INTERVAL_SECONDS
    ) -> Row:
        """Wait until a harness is ``READY``. It can be invoked only when its endpoint is, too.

        Args:
            harness_id: The harness.
            timeout: The longest wait.
            interval: Between two looks.

        Returns:
            The harness.

        Raises:
            ProvisioningError: It failed, is being deleted, has an unknown status, or took too long.
            APIError: The service refused to tell: there is no such harness, or it may not be seen.
        """
        return await harness_ready(self, harness_id).until(READY, timeout=timeout, interval=interval)

    async def wait_until_endpoint_ready(
        self,
        harness_id: str,
        endpoint_name: str = "DEFAULT",
        *,
        timeout: float = WAIT_SECONDS,
        interval: float = INTERVAL_SECONDS,
    ) -> Row:
        """Wait until an endpoint is ``READY``: from then on the harness can be invoked through it.

        An endpoint that does not exist counts as one that is still being created, since the service makes ``DEFAULT``
        a while after its harness; unless the harness, if it may be seen, has failed or is going or gone itself.

        Args:
            harness_id: The harness.
            endpoint_name: The endpoint.
            timeout: The longest wait.
            interval: Between two looks.

        Returns:
            The endpoint.

        Raises:
            ProvisioningError: It failed, is being deleted, has an unknown status, or took too long; or there is none,
                and its harness is no longer one that will have it.
            APIError: The service refused to tell.
        """
        wait = endpoint_ready(self, harness_id, endpoint_name)
        return await wait.until(READY, timeout=timeout, interval=interval)

    async def wait_until_harness_deleted(
        self, harness_id: str, *, timeout: float = WAIT_SECONDS, interval: float = INTERVAL_SECONDS
    ) -> None:
        """Wait until a harness whose deletion was begun is gone: only then is its name free.

        Any status but ``DELETE_FAILED`` and an unknown one is waited on: it may be that of before the deletion.

        Args:
            harness_id: The harness.
            timeout: The longest wait.
            interval: Between two looks.

        Raises:
            ProvisioningError: The deletion failed, the status is unknown, or it took too long.
            APIError: The service refused to tell.
        """
        look = _harness_look(self, harness_id)
        wait = Wait("deleted", f"the harness {harness_id}", look, id=harness_id, waits_on=DELETABLE)
        await wait.until(ABSENT, timeout=timeout, interval=interval)

    async def wait_until_endpoint_deleted(
        self,
        harness_id: str,
        endpoint_name: str,
        *,
        timeout: float = WAIT_SECONDS,
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        """Wait until an endpoint whose deletion was begun is gone: only then is its name free.

        Any status but ``DELETE_FAILED`` and an unknown one is waited on: it may be that of before the deletion.

        Args:
            harness_id: The harness.
            endpoint_name: The endpoint.
            timeout: The longest wait.
            interval: Between two looks.

        Raises:
            ProvisioningError: The deletion failed, the status is unknown, or it took too long.
            APIError: The service refused to tell.
        """
        look = _endpoint_look(self, harness_id, endpoint_name)
        what = f"the endpoint {endpoint_name} of the harness {harness_id}"
        wait = Wait("deleted", what, look, id=harness_id, waits_on=DELETABLE)
        await wait.until(ABSENT, timeout=timeout, interval=interval)


def harness_ready(client: Harnesses, harness_id: str, **how: Any) -> Wait:
    """The wait until a harness is ready; ``how`` goes to :class:`Wait`."""

    async def look() -> Row:
        return row_of(await client.get_harness(harnessId=harness_id), "harness")

    return Wait("ready", f"the harness {harness_id}", look, id=harness_id, waits_on=ON_THE_WAY, **how)


def endpoint_ready(client: Harnesses, harness_id: str, endpoint_name: str = "DEFAULT", **how: Any) -> Wait:
    """The wait until an endpoint is ready, or its harness will never have it; ``how`` goes to :class:`Wait`."""
    what = f"the harness {harness_id}"
    harness = Wait("ready", what, _harness_look(client, harness_id), id=harness_id, waits_on=ON_THE_WAY | {READY})
    return Wait(
        "endpoint ready",
        f"the endpoint {endpoint_name} of {what}",
        _endpoint_look(client, harness_id, endpoint_name),
        id=harness_id,
        waits_on=ON_THE_WAY | {ABSENT},
        made_with=harness,
        **how,
    )


def _harness_look(client: Harnesses, harness_id: str) -> Look:
    async def look() -> Row | None:
        try:
            return row_of(await client.get_harness(harnessId=harness_id), "harness")
        except NotFoundError:
            return None

    return look


def _endpoint_look(client: Harnesses, harness_id: str, endpoint_name: str) -> Look:
    async def look() -> Row | None:
        try:
            answer = await client.get_harness_endpoint(harnessId=harness_id, endpointName=endpoint_name)
        except NotFoundError:
            return None
        return row_of(answer, "endpoint")

    return look


class Wait:
    """One wait: what it looks at and what it has seen.

    Args:
        phase: What is waited for; its last word says what the thing was not, if it takes too long.
        what: What is looked at.
        look: Looks; ``None`` if there is nothing.
        id: Its id, or what is known of it.
        waits_on: The statuses that may become the one waited for.
        made_with: The wait for what this is made with: while there is nothing, that is looked at too.
        on_look: Is told of every look.
        begun: When what this wait is a part of began, on trio's clock; by default now.
    """

    def __init__(
        self,
        phase: str,
        what: str,
        look: Look,
        *,
        id: str,
        waits_on: frozenset[str],
        made_with: Wait | None = None,
        on_look: OnLook | None = None,
        begun: float | None = None,
    ) -> None:
        self._phase = phase
        self._what = what
        self._look = look
        self._id = id
        self._waits_on = waits_on
        self._made_with = made_with
        self._on_look = on_look
        self._status: str | None = None
        self._polls = 0
        self._begun = trio.current_time() if begun is None else begun

    async def until(self, *wanted: str, interval: float, timeout: float = math.inf) -> Row:
        """Look until the status is a wanted one; give what was seen then."""
        check_seconds(timeout=timeout, interval=interval)
        failure: Exception | None = None
        with trio.move_on_after(timeout):
            while True:
                try:
                    row = await self.look_for(*wanted)
                except ProtocolError:
                    raise  # what answers so is not the service, and will not become it
                except PASSING as exc:
                    failure = exc
                else:
                    if self._status in wanted:
                        return row
                await trio.sleep(interval)
        last = f"last seen {self._status}" if self._status else "never seen"
        goal = self._phase.rpartition(" ")[2]
        raise self._error(f"was not {goal} within {timeout:g} s; {last}") from failure

    async def look_for(self, *wanted: str) -> Row:
        """Look once; raises when the status will never become a wanted one."""
        self._polls += 1
        try:
            row = await self._look()
        except PASSING as failure:
            await self._tell(failure)
            raise
        self._status = ABSENT if row is None else str(row.get("status"))
        await self._tell()
        seen = row or {}
        if self._status not in wanted and self._status not in self._waits_on:
            raise self._error(f"is {self._status}", reason=seen.get("failureReason"))
        if row is None and self._made_with is not None:
            # Who may not see it learns nothing from it, and waits.
            with suppress(PermissionDeniedError):
                await self._made_with.look_for(*wanted)
        return seen

    async def _tell(self, failure: Exception | None = None) -> None:
        if self._on_look is not None:
            status = None if failure is not None else self._status
            await self._on_look(Seen(status=status, polls=self._polls, failure=failure))

    def _error(self, what: str, *, reason: Any = None) -> ProvisioningError:
        context = {
            "phase": self._phase,
            "id": self._id,
            "status": self._status,
            "failure_reason": reason,
            "elapsed": trio.current_time() - self._begun,
            "polls": self._polls,
        }
        return ProvisioningError(f"{self._what} {what}{f': {reason}' if reason else ''}", context=context)


def row_of(answer: Row, key: str) -> Row:
    """The object in an answer; an empty one if there is none."""
    row = answer.get(key)
    return row if isinstance(row, dict) else {}
