"""The session endpoints: an agent's snapshot in an environment, and what may be changed of it afterwards."""

from __future__ import annotations

from typing import Any, TypeAlias

from ._api import Reply
from ._claude_agents import show_tools
from ._claude_api import ApiCall, Route, created_at_filter, merge_metadata, page_reply, page_request, refuse, require
from ._claude_disk import SessionDisk
from ._claude_resources import attach_resource
from ._claude_session import EngineOptions, SessionEngine
from ._claude_world import ClaudeWorld, StoredSession

__all__ = ["ROUTES", "remove_session"]

Json: TypeAlias = dict[str, Any]

MAX_INITIAL_EVENTS = 50
INITIAL_TYPES = frozenset({"user.message", "user.define_outcome"})
OVERRIDES = ("model", "system", "tools", "mcp_servers", "skills")
NOT_IN_SNAPSHOT = frozenset({"created_at", "updated_at", "archived_at", "metadata"})


def create_session(call: ApiCall) -> Reply:
    """POST /v1/sessions."""
    world = call.world
    agent = _snapshot(call)
    environment = world.environment(call.body.get("environment_id"))
    if environment["archived_at"] is not None:
        raise refuse("the environment is archived", error_code="environment_archived")
    initial = call.body.get("initial_events") or []
    require(isinstance(initial, list) and len(initial) <= MAX_INITIAL_EVENTS, "initial_events: at most 50")
    for event in initial:
        kind = event.get("type") if isinstance(event, dict) else None
        require(kind in INITIAL_TYPES, f"initial_events: {kind!r} cannot start a session")
    metadata = merge_metadata({}, call.body.get("metadata"))
    budget = _budget(call.body.get("budget"))
    session_id = world.ids.new("sesn")
    options = EngineOptions(
        agent=world.agent,
        agent_name=agent["name"],
        self_hosted=environment["config"]["type"] == "self_hosted",
        usage=world.usage,
        disk=SessionDisk(world, session_id),
    )
    engine = SessionEngine(session_id, options, clock=world.clock, ids=world.ids, background=world.background)
    engine.threads.budget = budget
    now = world.clock.now()
    fields: Json = {
        "id": session_id,
        "type": "session",
        "title": call.body.get("title"),
        "agent": agent,
        "environment_id": environment["id"],
        "vault_ids": call.body.get("vault_ids") or [],
        "metadata": metadata,
        "deployment_id": None,
        "created_at": now,
        "updated_at": now,
        "archived_at": None,
    }
    session = StoredSession(fields=fields, resources=[], engine=engine)
    session.resources += [attach_resource(world, session_id, given) for given in call.body.get("resources") or []]
    if initial:
        engine.send(initial)
    world.sessions[session_id] = session
    return Reply(session.view())


def retrieve_session(call: ApiCall) -> Reply:
    """GET /v1/sessions/{}."""
    return Reply(call.world.session(call.ids[0]).view())


def update_session(call: ApiCall) -> Reply:
    """POST /v1/sessions/{}: emits ``session.updated`` if anything changed."""
    session = call.world.session(call.ids[0])
    engine, body = session.engine, call.body
    require(engine.log.status != "terminated", "the session is terminated")
    require("vault_ids" not in body, "vault_ids: cannot be updated")
    changes: Json = {}
    if "title" in body:
        changes["title"] = body["title"]
    if body.get("metadata") is not None:
        changes["metadata"] = merge_metadata(session.fields["metadata"], body["metadata"])
    if body.get("agent") is not None:
        require(engine.log.status == "idle", "agent: the session must be idle")
        servers = body["agent"].get("mcp_servers", session.fields["agent"]["mcp_servers"])
        tools = body["agent"].get("tools", session.fields["agent"]["tools"])
        changes["agent"] = {**session.fields["agent"], "mcp_servers": servers, "tools": show_tools(tools, servers)}
    changes = {name: value for name, value in changes.items() if session.fields[name] != value}
    if "budget" in body:
        require(engine.threads.budget is not None, "budget: only for sessions created with one (budget_create_only)")
        changes["budget"] = _budget(body["budget"])
    if changes:
        session.fields |= {name: value for name, value in changes.items() if name != "budget"}
        session.fields["updated_at"] = call.world.clock.now()
        engine.log.append({"type": "session.updated", **changes})
    if "budget" in changes:
        engine.set_budget(changes["budget"])
    return Reply(session.view())


def list_sessions(call: ApiCall) -> Reply:
    """GET /v1/sessions."""
    first = call.request.first
    archived = call.flag("include_archived")
    statuses = call.request.query.get("statuses[]", ())
    agent_id, version = first("agent_id"), first("agent_version")
    require(version is None or agent_id is not None, "agent_version: only together with agent_id")

    def accept(row: Json) -> bool:
        return (
            (archived or row["archived_at"] is None)
            and (not statuses or row["status"] in statuses)
            and (agent_id is None or row["agent"]["id"] == agent_id)
            and (version is None or str(row["agent"]["version"]) == version)
            and first("deployment_id") is None
        )

    order = first("order") or "desc"
    require(order in ("asc", "desc"), f"order: must be asc or desc, not {order!r}")
    return page_reply(
        [session.view() for session in call.world.sessions.values()],
        page_request(call, default=20, most=1000, order="asc" if order == "asc" else "desc"),
        within=created_at_filter(call, "created_at"),
        accept=accept,
        backwards=True,
    )


def archive_session(call: ApiCall) -> Reply:
    """POST /v1/sessions/{}/archive."""
    session = call.world.session(call.ids[0])
    session.engine.require_not_running("archive")
    session.engine.terminate()
    session.fields["archived_at"] = session.fields["archived_at"] or call.world.clock.now()
    return Reply(session.view())


def delete_session(call: ApiCall) -> Reply:
    """DELETE /v1/sessions/{}."""
    session = call.world.session(call.ids[0])
    session.engine.require_not_running("delete")
    remove_session(call.world, call.ids[0])
    return Reply({"id": call.ids[0], "type": "session_deleted"})


def remove_session(world: ClaudeWorld, session_id: str) -> None:
    """Delete a session, whatever it is doing, and its files."""
    world.sessions.pop(session_id).engine.delete()
    for file_id, file in list(world.files.items()):
        if (file.metadata["scope"] or {}).get("id") == session_id:
            del world.files[file_id]


def _snapshot(call: ApiCall) -> Json:
    given = call.body.get("agent")
    reference = {"type": "agent", "id": given} if isinstance(given, str) else given
    if not isinstance(reference, dict) or reference.get("type") not in ("agent", "agent_with_overrides"):
        raise refuse("agent: must be an agent id or a reference to an agent")
    agent = call.world.agent_version(reference.get("id"), reference.get("version"))
    require(agent["archived_at"] is None, "agent: the agent is archived")
    snapshot = {name: value for name, value in agent.items() if name not in NOT_IN_SNAPSHOT}
    if reference["type"] == "agent_with_overrides":
        overrides = {name: reference[name] for name in OVERRIDES if name in reference}
        require(overrides.get("model", True), "agent.model: cannot be cleared (agent_model_required)")
        if "model" in overrides:
            model = overrides["model"]
            overrides["model"] = {**snapshot["model"], **({"id": model} if isinstance(model, str) else model)}
        snapshot |= overrides
        snapshot["tools"] = show_tools(snapshot["tools"], snapshot["mcp_servers"])
    return snapshot


def _budget(budget: object) -> Json | None:
    if budget is None:
        return None
    cost = budget.get("max_list_cost") if isinstance(budget, dict) else None
    amount = cost.get("amount") if isinstance(cost, dict) else None
    if not isinstance(budget, dict) or not isinstance(amount, str) or not amount.isdecimal() or int(amount) == 0:
        raise refuse("budget: needs max_list_cost with an amount in cents, as text, above 0")
    return budget


ROUTES = (
    Route(method="POST", path="/v1/sessions", operation="create_session", handler=create_session),
    Route(method="GET", path="/v1/sessions", operation="list_sessions", handler=list_sessions),
    Route(method="GET", path="/v1/sessions/{}", operation="retrieve_session", handler=retrieve_session),
    Route(method="POST", path="/v1/sessions/{}", operation="update_session", handler=update_session),
    Route(method="DELETE", path="/v1/sessions/{}", operation="delete_session", handler=delete_session),
    Route(method="POST", path="/v1/sessions/{}/archive", operation="archive_session", handler=archive_session),
)
