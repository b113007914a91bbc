"""Waiting until what was begun has ended: a harness or an endpoint is ready, or is gone.

The service has no events for it: it is asked again and again, until a deadline. A status that will never become the
one waited for ends the wait at once.

Source: Bedrock AgentCore control plane API reference, HarnessStatus and HarnessEndpointStatus.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, TypeAlias

import trio

from .._errors import (
    NotFoundError,
    PermissionDeniedError,
    ProvisioningError,
    RateLimitError,
    ServerError,
    TransportError,
)
from .._http.checks import check_seconds
from ._harnesses import Harnesses

__all__ = ["Waits"]

READY: Final = "READY"
ON_THE_WAY: Final = frozenset({"CREATING", "UPDATING"})
ABSENT: Final = "not found"
# On the way to being gone: what was begun a moment ago may not show yet, and what failed before it may still show.
DELETABLE: Final = ON_THE_WAY | {READY, "CREATE_FAILED", "UPDATE_FAILED", "DELETING"}

WAIT_SECONDS: Final = 600.0  # a harness is ready after seconds, its endpoint after minutes, and deleted after minutes
INTERVAL_SECONDS: Final = 5.0

Row: TypeAlias = dict[str, Any]
Look: TypeAlias = Callable[[], Awaitable[Row | None]]


class Waits(Harnesses):
    """The waits of a client. Times are in seconds.

    Each raises ``ProvisioningError`` when the deadline has passed, or the status tells that waiting is useless; its
    ``context`` has the last status. A look that failed in passing counts as none.
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

        async def look() -> Row:
            return _row(await self.get_harness(harnessId=harness_id), "harness")

        wait = _Wait("ready", f"the harness {harness_id}", look, waits_on=ON_THE_WAY)
        return await wait.until(READY, timeout=timeout, interval=interval)

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
        harness = _Wait(
            "ready", f"the harness {harness_id}", self._harness_look(harness_id), waits_on=ON_THE_WAY | {READY}
        )
        wait = _Wait(
            "ready",
            f"the endpoint {endpoint_name} of the harness {harness_id}",
            self._endpoint_look(harness_id, endpoint_name),
            waits_on=ON_THE_WAY | {ABSENT},
            made_with=harness,
        )
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
        look = self._harness_look(harness_id)
        wait = _Wait("deleted", f"the harness {harness_id}", look, waits_on=DELETABLE)
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
        look = self._endpoint_look(harness_id, endpoint_name)
        what = f"the endpoint {endpoint_name} of the harness {harness_id}"
        wait = _Wait("deleted", what, look, waits_on=DELETABLE)
        await wait.until(ABSENT, timeout=timeout, interval=interval)

    def _harness_look(self, harness_id: str) -> Look:
        async def look() -> Row | None:
            try:
                return _row(await self.get_harness(harnessId=harness_id), "harness")
            except NotFoundError:
                return None

        return look

    def _endpoint_look(self, harness_id: str, endpoint_name: str) -> Look:
        async def look() -> Row | None:
            try:
                answer = await self.get_harness_endpoint(harnessId=harness_id, endpointName=endpoint_name)
            except NotFoundError:
                return None
            return _row(answer, "endpoint")

        return look


class _Wait:
    """One wait: what it looks at and what it has seen.

    Args:
        phase: What is waited for.
        what: What is looked at.
        look: Looks; ``None`` if there is nothing.
        waits_on: The statuses that may become the one waited for.
        made_with: The wait for what this is made with: while there is nothing, that is looked at too.
    """

    def __init__(
        self, phase: str, what: str, look: Look, *, waits_on: frozenset[str], made_with: _Wait | None = None
    ) -> None:
        self._phase = phase
        self._what = what
        self._look = look
        self._waits_on = waits_on
        self._made_with = made_with
        self._status: str | None = None
        self._polls = 0
        self._begun = trio.current_time()

    async def until(self, wanted: str, *, timeout: float, interval: float) -> Row:
        """Look until the status is the wanted one; give what was seen then."""
        check_seconds(timeout=timeout, interval=interval)
        failure: Exception | None = None
        with trio.move_on_after(timeout):
            while True:
                try:
                    row = await self.look_for(wanted)
                except (TransportError, RateLimitError, ServerError) as exc:
                    failure = exc
                else:
                    if self._status == wanted:
                        return row
                await trio.sleep(interval)
        last = f"last seen {self._status}" if self._status else "never seen"
        raise self._error(f"was not {self._phase} within {timeout:g} s; {last}") from failure

    async def look_for(self, wanted: str) -> Row:
        """Look once; raises when the status will never become the wanted one."""
        self._polls += 1
        row = await self._look()
        self._status = ABSENT if row is None else str(row.get("status"))
        seen = row or {}
        if self._status != wanted and self._status not in self._waits_on:
            raise self._error(f"is {self._status}", reason=seen.get("failureReason"))
        if row is None and self._made_with is not None:
            # Who may not see it learns nothing from it, and waits.
            with suppress(PermissionDeniedError):
                await self._made_with.look_for(wanted)
        return seen

    def _error(self, what: str, *, reason: Any = None) -> ProvisioningError:
        context = {
            "phase": self._phase,
            "id": self._what,
            "status": self._status,
            "failure_reason": reason,
            "elapsed": trio.current_time() - self._begun,
            "polls": self._polls,
        }
        return ProvisioningError(f"{self._what} {what}{f': {reason}' if reason else ''}", context=context)


def _row(answer: Row, key: str) -> Row:
    row = answer.get(key)
    return row if isinstance(row, dict) else {}
