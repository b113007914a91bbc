"""The faults of a request of the simulated Claude API: how it refuses, lists and ends a session."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeAlias, cast

from ._claude_api import ApiCall, ApiRefusal, Route, refuse
from ._claude_sessions import remove_session
from ._fault_actions import Action, DeleteSession, TerminateSession
from ._fault_plan import FaultPlan
from ._faulted_request import FaultedRequest, Listing

__all__ = ["ClaudeFaultedRequest"]

Json: TypeAlias = dict[str, Any]

LISTING = Listing(rows="data", next="next_page", cursor="page", limit="limit", last={"next_page": None})


class ClaudeFaultedRequest(FaultedRequest):
    """A request that was admitted; making it counts it, and finds the faults that are due for it."""

    def __init__(self, plan: FaultPlan, route: Route, call: ApiCall) -> None:
        events = call.body.get("events")
        sends = [event.get("type") for event in events if isinstance(event, dict)] if isinstance(events, list) else []
        due = plan.meet(route.operation, sends=[str(kind) for kind in sends])
        self._route = route
        self._call = call
        session_id = call.ids[0] if call.ids else None
        super().__init__(plan, due, session_id=session_id, listing=LISTING, is_stream=route.handler is None)

    def refusal(self, status: int) -> ApiRefusal:
        """The refusal with this status."""
        return refuse("simulated fault", status=status)

    def cursor(self) -> str | None:
        """The cursor that the request was sent with."""
        return self._call.request.first(LISTING.cursor)

    def list_one(self, cursor: str | None) -> Json:
        """The answer to the same request for one row from a cursor on."""
        if self._route.handler is None:
            return {}
        request = self._call.request
        query = {name: values for name, values in request.query.items() if name != LISTING.cursor}
        query |= {LISTING.limit: ("1",)} | ({} if cursor is None else {LISTING.cursor: (cursor,)})
        reply = self._route.handler(replace(self._call, request=replace(request, query=query)))
        return cast("Json", reply.body)

    def end_session(self, action: Action, session_id: str) -> bool:
        """End the session in the simulator; false if there is none."""
        world = self._call.world
        if session_id not in world.sessions:
            return False
        match action:
            case DeleteSession():
                remove_session(world, session_id)
            case TerminateSession():
                world.sessions[session_id].engine.terminate()
        return True
