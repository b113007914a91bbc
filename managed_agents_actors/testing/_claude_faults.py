"""Plays a plan's faults on the requests of the simulated Claude API, on their answers and on their sessions.

What befalls an open stream is played by its feed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, cast

import trio

from .._errors import ActorGone
from .._session.handle import Session
from ._claude_api import ApiCall, Reply, Route, refuse
from ._claude_sessions import remove_session
from ._crash import crash_session
from ._fault_actions import (
    Action,
    CrashSession,
    Delay,
    DelayAnswer,
    DeleteSession,
    InjectedCrash,
    LoopCursors,
    LoseAnswer,
    LoseRequest,
    RefuseWith,
    RotateKey,
    SessionAction,
    ShortenListing,
    Split,
    TerminateSession,
    TruncateAnswer,
)
from ._fault_plan import DueFault, FaultPlan
from ._frames import encode
from ._http_server import Responder

__all__ = ["FaultedRequest", "meet_faults"]

Json: TypeAlias = dict[str, Any]


def meet_faults(plan: FaultPlan, route: Route, call: ApiCall) -> FaultedRequest:
    """Count a request and give it with the faults that are due for it."""
    events = call.body.get("events")
    sends = [event.get("type") for event in events if isinstance(event, dict)] if isinstance(events, list) else []
    return FaultedRequest(plan, route, call, plan.meet(route.operation, sends=[str(kind) for kind in sends]))


class FaultedRequest:
    """A request that was admitted, and the faults that are due for it.

    Attributes:
        on_stream: Those that befall the stream it opens.
    """

    def __init__(self, plan: FaultPlan, route: Route, call: ApiCall, due: Sequence[DueFault]) -> None:
        self._plan = plan
        self._route = route
        self._call = call
        self._due = due
        self._is_stream = route.handler is None
        self.on_stream = [self._reaching_session(fault) for fault in due] if self._is_stream else []

    async def suffer(self, respond: Responder, headers: Json, rotate_key: Callable[[str], None]) -> bool:
        """Play what comes before acting.

        Returns:
            Whether the request is lost: it must not be acted on.

        Raises:
            ApiRefusal: The request is refused.
        """
        for fault in self._due:
            match fault.action:
                case Delay(seconds=seconds):
                    fault.fire()
                    await trio.sleep(seconds)
                case Split(sizes=sizes, pause=pause):
                    fault.fire()
                    respond.split(sizes, pause)
                case RotateKey(key=key):
                    fault.fire()
                    rotate_key(key)
                case RefuseWith(status=status, retry_after=retry_after):
                    fault.fire()
                    if retry_after is not None:
                        headers["retry-after"] = f"{retry_after:g}"
                    raise refuse("simulated fault", status=status)
                case LoseRequest():
                    fault.fire()
                    await respond.lose()
                    return True
                case CrashSession(when="before") if not self._is_stream:
                    if self._befall_session(fault):
                        await respond.lose()
                        return True
                case DeleteSession() | TerminateSession() if not self._is_stream:
                    self._befall_session(fault)
        return False

    async def suffer_after(self, respond: Responder) -> bool:
        """Play what comes between acting and answering.

        Returns:
            Whether the answer is lost.
        """
        for fault in self._due:
            match fault.action:
                case DelayAnswer(seconds=seconds):
                    fault.fire()
                    await trio.sleep(seconds)
                case LoseAnswer():
                    fault.fire()
                    await respond.lose()
                    return True
                case CrashSession(when="after") if not self._is_stream:
                    self._befall_session(fault)
        return False

    async def answer(self, reply: Reply, respond: Responder, headers: Json) -> None:
        """Send the answer, or as much of it as the faults let through."""
        for fault in self._due:
            reply = self._altered(reply, fault)
        body = reply.body if isinstance(reply.body, bytes) else encode(reply.body)
        headers = {"content-type": reply.content_type, **headers}
        for fault in self._due:
            if isinstance(fault.action, TruncateAnswer) and body:
                fault.fire()
                after = len(body) // 2 if fault.action.after_bytes is None else fault.action.after_bytes
                await respond.truncated(200, body, headers, after_bytes=min(after, len(body) - 1))
                return
        await respond.bytes(200, body, headers)

    def _altered(self, reply: Reply, fault: DueFault) -> Reply:
        match fault.action:
            case ShortenListing(rows=rows):
                fault.fire()
                body = cast("Json", reply.body)
                return replace(reply, body={**body, "data": body["data"][:rows], "next_page": None})
            case LoopCursors(length=length):
                cursors = [] if self._route.handler is None else self._circle(self._route.handler, length)
                if not cursors:
                    return reply
                fault.fire()
                here = self._call.request.first("page")
                place = cursors.index(here) + 1 if here in cursors else 0
                return replace(reply, body={**cast("Json", reply.body), "next_page": cursors[place % len(cursors)]})
            case _:
                return reply

    def _circle(self, handler: Callable[[ApiCall], Reply], length: int) -> list[str]:
        """The first cursors of this listing when it is read row by row; a shorter listing has fewer."""
        request = self._call.request
        query = {name: values for name, values in request.query.items() if name != "page"} | {"limit": ("1",)}
        cursors: list[str] = []
        while len(cursors) < length:
            reply = handler(replace(self._call, request=replace(request, query=query)))
            cursor = cast("Json", reply.body)["next_page"]
            if cursor is None:
                break
            cursors.append(cursor)
            query["page"] = (cursor,)
        return cursors

    def _reaching_session(self, fault: DueFault) -> DueFault:
        """The fault as a stream plays it: what befalls the session does so when it fires."""
        if isinstance(fault.action, SessionAction):
            return replace(fault, fire=partial(self._befall_session, fault))
        return fault

    def _befall_session(self, fault: DueFault) -> bool:
        """Crash or end the session; false if there is none that could be."""
        action = fault.action
        session_id = self._call.ids[0] if self._call.ids else None
        if isinstance(action, CrashSession):
            crashed = [_crash(session) for session in self._plan.take_to_crash(session_id)]
            happened = any(crashed)
        else:
            happened = self._end_session(action, session_id)
        if happened:
            fault.fire()
        return happened

    def _end_session(self, action: Action, session_id: str | None) -> bool:
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


def _crash(session: Session) -> bool:
    """Crash a session's actor; false if none runs."""
    try:
        crash_session(session, InjectedCrash("a fault plan crashed the session's actor"))
    except ActorGone:
        return False
    return True
