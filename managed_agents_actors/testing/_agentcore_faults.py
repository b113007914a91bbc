"""The faults of a request of the simulated AgentCore API: how it refuses, lists and undoes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, cast

from ._agentcore_api import ApiCall, Route, ServiceRefusal, refuse
from ._api import Reply
from ._fault_actions import Action, EndStream, ThrowInStream
from ._fault_plan import DueFault, FaultPlan
from ._faulted_request import FaultedRequest, Listing

__all__ = ["LISTED", "SENT", "AgentCoreFaultedRequest"]

Json: TypeAlias = dict[str, Any]

# What each listing calls its rows.
LISTED = {
    "list_harnesses": "harnesses",
    "list_harness_endpoints": "endpoints",
    "list_harness_versions": "harnessVersions",
}
# The kinds of content that an invocation can send.
SENT = frozenset({"text", "toolUse", "toolResult", "reasoningContent"})


class AgentCoreFaultedRequest(FaultedRequest):
    """A request that was admitted; making it counts it, and finds the faults that are due for it.

    Attributes:
        undo: Takes back what was done for its stream; to be set once something was.
        is_committed: Whether a message of its stream is complete; to be set with ``undo``.
    """

    def __init__(self, plan: FaultPlan, route: Route, call: ApiCall) -> None:
        messages = call.params.get("messages", ())
        sends = {kind for message in messages for block in message["content"] for kind in block}
        due = plan.meet(route.operation, sends=sends)
        self.undo: Callable[[], object] = lambda: None
        self.is_committed: Callable[[], bool] = lambda: True
        self._route = route
        self._call = call
        listing = Listing(
            rows=LISTED.get(route.operation, ""), next="nextToken", cursor="nextToken", limit="maxResults"
        )
        session_id = call.params.get("runtimeSessionId")
        super().__init__(plan, due, session_id=session_id, listing=listing, is_stream=route.handler is None)
        self.on_stream = [self._undoing(fault) for fault in self.on_stream]

    def refusal(self, status: int) -> ServiceRefusal:
        """The refusal with this status."""
        return refuse(status, "simulated fault")

    def cursor(self) -> str | None:
        """The cursor that the request was sent with."""
        return self._call.params.get("nextToken")

    def list_one(self, cursor: str | None) -> Json:
        """The answer to the same request for one row from a cursor on."""
        handler = cast("Callable[[ApiCall], Reply]", self._route.handler)  # every listing has one
        params = {**self._call.params, "maxResults": 1, "nextToken": cursor}
        given = {name: value for name, value in params.items() if value is not None}
        return cast("Json", handler(replace(self._call, params=given)).body)

    def end_session(self, action: Action, session_id: str) -> bool:  # noqa: ARG002 - there is one way to end one
        """End the session's microVM; false if there is none."""
        session = self._call.world.find_session(session_id)
        return session is not None and session.stop()

    def _undoing(self, fault: DueFault) -> DueFault:
        if isinstance(fault.action, ThrowInStream | EndStream):
            return replace(fault, fire=partial(self._fail, fault))
        return fault

    def _fail(self, fault: DueFault) -> None:
        """A turn that throws is not committed, nor one whose stream ends before any message is complete."""
        fault.fire()
        if isinstance(fault.action, ThrowInStream) or not self.is_committed():
            self.undo()
