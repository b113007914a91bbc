"""The endpoints of a session's events and threads: send, list, stream, archive."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from ._api import Reply
from ._claude_api import ApiCall, Route, created_at_filter, page_reply, page_request, refuse, require
from ._claude_feed import ClaudeFeed
from ._claude_status import Thread
from ._claude_world import StoredSession
from ._fault_plan import DueFault

__all__ = ["ROUTES", "open_feed"]

Json: TypeAlias = dict[str, Any]

PREVIEWABLE = frozenset({"agent.message", "agent.thinking"})
# What the official tool runner asks for, and the default its authors note.
MAX_EVENTS_PER_PAGE = 1000
THREAD_STATUSES = frozenset({"running", "idle", "rescheduling", "terminated"})


def send_events(call: ApiCall) -> Reply:
    """POST /v1/sessions/{}/events."""
    return Reply({"data": call.world.session(call.ids[0]).engine.send(call.body.get("events"))})


def list_events(call: ApiCall) -> Reply:
    """GET /v1/sessions/{}/events."""
    log = call.world.session(call.ids[0]).engine.log
    types = frozenset(call.request.query.get("types[]", ()))
    require("session.deleted" not in types, "types: session.deleted cannot be listed")
    return page_reply(
        log.rows(),
        page_request(call, default=MAX_EVENTS_PER_PAGE, most=MAX_EVENTS_PER_PAGE),
        locate=log.locate,
        within=created_at_filter(call, "processed_at"),
        accept=lambda event: not types or event["type"] in types,
    )


def open_feed(call: ApiCall, faults: Sequence[DueFault]) -> ClaudeFeed:
    """What a stream request will carry; it is not attached yet.

    Raises:
        ApiRefusal: There is no such session or thread, or it asks for previews that do not exist.
    """
    session = call.world.session(call.ids[0])
    thread_id = None
    if len(call.ids) > 1:
        thread = _thread(session, call.ids[1])
        thread_id = None if thread is session.engine.threads.primary else thread.id
    wanted = call.request.query.get("event_deltas[]", ())
    require(len(wanted) <= 100, "event_deltas: at most 100 values")
    unknown = set(wanted) - PREVIEWABLE
    require(not unknown, f"event_deltas: no previews of {sorted(unknown)}")
    return ClaudeFeed(previews=frozenset(wanted), thread_id=thread_id, faults=faults, past=_past(session, thread_id))


def _past(session: StoredSession, thread_id: str | None) -> Sequence[Json]:
    events = session.engine.log.events
    return events if thread_id is None else [event for event in events if event.get("session_thread_id") == thread_id]


def list_threads(call: ApiCall) -> Reply:
    """GET /v1/sessions/{}/threads."""
    session = call.world.session(call.ids[0])
    statuses = call.request.query.get("statuses[]", ())
    require(THREAD_STATUSES.issuperset(statuses), f"statuses: must be of {sorted(THREAD_STATUSES)}")
    return page_reply(
        [_show(session, thread) for thread in session.engine.threads.by_id.values()],
        page_request(call, default=1000, most=1000, order="asc"),
        accept=lambda thread: not statuses or thread["status"] in statuses,
    )


def retrieve_thread(call: ApiCall) -> Reply:
    """GET /v1/sessions/{}/threads/{}."""
    session = call.world.session(call.ids[0])
    return Reply(_show(session, _thread(session, call.ids[1])))


def archive_thread(call: ApiCall) -> Reply:
    """POST /v1/sessions/{}/threads/{}/archive."""
    session = call.world.session(call.ids[0])
    thread = _thread(session, call.ids[1])
    session.engine.archive_thread(thread.id)
    return Reply(_show(session, thread))


def list_thread_events(call: ApiCall) -> Reply:
    """GET /v1/sessions/{}/threads/{}/events: all of the session's for the primary thread."""
    session = call.world.session(call.ids[0])
    thread = _thread(session, call.ids[1])
    primary = thread is session.engine.threads.primary
    return page_reply(
        session.engine.log.rows(),
        page_request(call, default=MAX_EVENTS_PER_PAGE, most=MAX_EVENTS_PER_PAGE, order="asc"),
        locate=session.engine.log.locate,
        accept=lambda event: primary or event.get("session_thread_id") == thread.id,
    )


def _thread(session: StoredSession, thread_id: str) -> Thread:
    thread = session.engine.threads.by_id.get(thread_id)
    if thread is None:
        raise refuse(f"thread {thread_id!r} does not exist", status=404)
    return thread


def _show(session: StoredSession, thread: Thread) -> Json:
    engine = session.engine
    primary = thread is engine.threads.primary
    agent = session.fields["agent"]
    if not primary:
        agent = {**{key: value for key, value in agent.items() if key not in {"id", "version"}}, "type": "inline"}
    return {
        "id": thread.id,
        "type": "session_thread",
        "session_id": engine.id,
        "parent_thread_id": None if primary else engine.threads.primary.id,
        "workflow_run_id": None,
        "agent": {**agent, "name": thread.agent_name},
        "status": thread.status,
        "stats": None,
        "usage": engine.log.usage.snapshot() if primary else None,
        "created_at": thread.created_at,
        "updated_at": thread.archived_at or thread.created_at,
        "archived_at": thread.archived_at,
    }


EVENTS, THREADS = "/v1/sessions/{}/events", "/v1/sessions/{}/threads"
ROUTES = (
    Route(method="POST", path=EVENTS, operation="send_events", handler=send_events),
    Route(method="GET", path=EVENTS, operation="list_events", handler=list_events),
    Route(method="GET", path=f"{EVENTS}/stream", operation="stream", handler=None),
    Route(method="GET", path=THREADS, operation="list_threads", handler=list_threads),
    Route(method="GET", path=f"{THREADS}/{{}}", operation="retrieve_thread", handler=retrieve_thread),
    Route(method="POST", path=f"{THREADS}/{{}}/archive", operation="archive_thread", handler=archive_thread),
    Route(method="GET", path=f"{THREADS}/{{}}/events", operation="list_thread_events", handler=list_thread_events),
    Route(method="GET", path=f"{THREADS}/{{}}/stream", operation="stream_thread", handler=None),
)
