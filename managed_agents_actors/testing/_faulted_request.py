"""Plays a plan's faults on a request of a simulated API, on its answer and on its session, whosever API it is.

What an API calls its refusals, its listings and its sessions is said by a subclass. What befalls an open stream is
played by its feed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias, cast

import trio

from .._errors import ActorGone
from .._session.handle import Session
from ._api import Reply
from ._crash import crash_session
from ._fault_actions import (
    Action,
    CrashSession,
    Delay,
    DelayAnswer,
    InjectedCrash,
    LoopCursors,
    LoseAnswer,
    LoseRequest,
    RefuseWith,
    RotateKey,
    SessionAction,
    ShortenListing,
    Split,
    TruncateAnswer,
)
from ._fault_plan import DueFault, FaultPlan
from ._frames import encode
from ._http_server import Responder

__all__ = ["FaultedRequest", "Listing"]

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """What a listing's answer and request call their parts.

    Attributes:
        rows: The rows, in the answer.
        next: The cursor of the next page, in the answer.
        cursor: The cursor, in the request.
        limit: The rows per page, in the request.
        last: What the last page's answer has in place of a cursor.
    """

    rows: str
    next: str
    cursor: str
    limit: str
    last: Mapping[str, Any] = field(default_factory=dict)


class FaultedRequest(ABC):
    """A request that was admitted, and the faults that are due for it.

    Attributes:
        on_stream: Those that befall the stream it opens.
    """

    def __init__(
        self, plan: FaultPlan, due: Sequence[DueFault], *, session_id: str | None, listing: Listing, is_stream: bool
    ) -> None:
        self._plan = plan
        self._due = due
        self._session_id = session_id
        self._listing = listing
        self._is_stream = is_stream
        self.on_stream = [self._reaching_session(fault) for fault in due] if is_stream else []

    @abstractmethod
    def refusal(self, status: int) -> Exception:
        """The refusal with this status."""

    @abstractmethod
    def cursor(self) -> str | None:
        """The cursor that the request was sent with."""

    @abstractmethod
    def list_one(self, cursor: str | None) -> Json:
        """The answer to the same request for one row from a cursor on."""

    @abstractmethod
    def end_session(self, action: Action, session_id: str) -> bool:
        """End the session in the simulator; false if there is none."""

    async def suffer(self, respond: Responder, headers: Json, rotate_key: Callable[[str], None]) -> bool:
        """Play what comes before acting.

        Returns:
            Whether the request is lost: it must not be acted on.

        Raises:
            Exception: The request is refused, with the API's own refusal.
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
                    raise self.refusal(status)
                case LoseRequest():
                    fault.fire()
                    await respond.lose()
                    return True
                case CrashSession(when="before") if not self._is_stream:
                    if self._befall_session(fault):
                        await respond.lose()
                        return True
                case CrashSession():
                    pass  # after the request, or on its stream
                case SessionAction() if not self._is_stream:
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
        headers = {"content-type": reply.content_type, **reply.headers, **headers}
        for fault in self._due:
            if isinstance(fault.action, TruncateAnswer) and body:
                fault.fire()
                after = len(body) // 2 if fault.action.after_bytes is None else fault.action.after_bytes
                await respond.truncated(reply.status, body, headers, after_bytes=min(after, len(body) - 1))
                return
        await respond.bytes(reply.status, body, headers)

    def _altered(self, reply: Reply, fault: DueFault) -> Reply:
        rows, next_page = self._listing.rows, self._listing.next
        match fault.action:
            case ShortenListing(rows=count):
                fault.fire()
                body = cast("Json", reply.body)
                kept = {name: value for name, value in body.items() if name != next_page}
                return replace(reply, body={**kept, rows: body[rows][:count], **self._listing.last})
            case LoopCursors(length=length):
                cursors = [] if self._is_stream else self._circle(length)
                if not cursors:
                    return reply
                fault.fire()
                here = self.cursor()
                place = cursors.index(here) + 1 if here in cursors else 0
                return replace(reply, body={**cast("Json", reply.body), next_page: cursors[place % len(cursors)]})
            case _:
                return reply

    def _circle(self, length: int) -> list[str]:
        """The first cursors of this listing when it is read row by row; a shorter listing has fewer."""
        cursors: list[str] = []
        while len(cursors) < length:
            cursor = self.list_one(cursors[-1] if cursors else None).get(self._listing.next)
            if cursor is None:
                break
            cursors.append(cursor)
        return cursors

    def _reaching_session(self, fault: DueFault) -> DueFault:
        """The fault as a stream plays it: what befalls the session does so when it fires."""
        if isinstance(fault.action, SessionAction):
            return replace(fault, fire=partial(self._befall_session, fault))
        return fault

    def _befall_session(self, fault: DueFault) -> bool:
        """Crash or end the session; false if there is none that could be."""
        action = fault.action
        if isinstance(action, CrashSession):
            crashed = [_crash(session) for session in self._plan.take_to_crash(self._session_id)]
            happened = any(crashed)
        else:
            happened = self._session_id is not None and self.end_session(action, self._session_id)
        if happened:
            fault.fire()
        return happened


def _crash(session: Session) -> bool:
    """Crash a session's actor; false if none runs."""
    try:
        crash_session(session, InjectedCrash("a fault plan crashed the session's actor"))
    except ActorGone:
        return False
    return True
