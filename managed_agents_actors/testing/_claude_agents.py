"""The agent endpoints: versions that never change, and tools shown with every default filled in."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from ._api import Reply
from ._claude_api import ApiCall, Route, created_at_filter, merge_metadata, page_reply, page_request, refuse, require

__all__ = ["ROUTES", "show_tools"]

Json: TypeAlias = dict[str, Any]

BUILTIN_TOOLS = ("bash", "read", "write", "edit", "glob", "grep", "web_fetch", "web_search")
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
MAX_TOOLS = 256
LISTS = ("tools", "mcp_servers", "skills")


def create_agent(call: ApiCall) -> Reply:
    """POST /v1/agents."""
    agent: Json = {
        "id": call.world.ids.new("agent"),
        "type": "agent",
        "version": 1,
        **_fields(call.body, {"description": None, "system": None, "multiagent": None, "metadata": {}}),
        "created_at": call.world.clock.now(),
        "archived_at": None,
    }
    agent["updated_at"] = agent["created_at"]
    call.world.agents[agent["id"]] = [agent]
    return Reply(agent)


def retrieve_agent(call: ApiCall) -> Reply:
    """GET /v1/agents/{}?version=N."""
    version = call.request.first("version")
    require(version is None or version.isdecimal(), f"version: must be a whole number, not {version!r}")
    return Reply(call.world.agent_version(call.ids[0], None if version is None else int(version)))


def update_agent(call: ApiCall) -> Reply:
    """POST /v1/agents/{}: a real change makes a new version."""
    current = call.world.agent_version(call.ids[0])
    require(current["archived_at"] is None, "the agent is archived")
    expected = call.body.get("version")
    if expected is not None and expected != current["version"]:
        raise refuse(f"version {expected!r} is not the latest, {current['version']} is", status=409)
    for name in ("name", "model"):
        require(name not in call.body or call.body[name], f"{name}: cannot be cleared")
    updated = {**current, **_fields(call.body, current)}
    if updated == current:
        return Reply(current)
    updated |= {"version": current["version"] + 1, "updated_at": call.world.clock.now()}
    call.world.agents[call.ids[0]].append(updated)
    return Reply(updated)


def archive_agent(call: ApiCall) -> Reply:
    """POST /v1/agents/{}/archive."""
    agent = call.world.agent_version(call.ids[0])
    agent["archived_at"] = agent["archived_at"] or call.world.clock.now()
    return Reply(agent)


def list_agents(call: ApiCall) -> Reply:
    """GET /v1/agents."""
    archived = call.flag("include_archived")
    return page_reply(
        [versions[-1] for versions in call.world.agents.values()],
        page_request(call, default=20, most=100, order="desc"),
        within=created_at_filter(call, "created_at"),
        accept=lambda agent: archived or agent["archived_at"] is None,
    )


def list_versions(call: ApiCall) -> Reply:
    """GET /v1/agents/{}/versions."""
    call.world.agent_version(call.ids[0])
    rows = [{**agent, "id": str(agent["version"])} for agent in call.world.agents[call.ids[0]]]
    reply = page_reply(rows, page_request(call, default=20, most=100, order="desc"))
    if isinstance(reply.body, dict):
        # Versions share their agent's id; the page was cut by version number.
        reply.body["data"] = [{**row, "id": call.ids[0]} for row in reply.body["data"]]
    return reply


def _fields(body: Json, current: Json) -> Json:
    """The settable fields after a request; what it leaves out stays as it is."""
    name = body.get("name", current.get("name"))
    require(isinstance(name, str) and 1 <= len(name) <= 256, "name: required, at most 256 characters")
    system = body.get("system", current.get("system")) or None
    require(system is None or len(system) <= 100_000, "system: at most 100000 characters")
    description = body.get("description", current.get("description")) or None
    require(description is None or len(description) <= 2_048, "description: at most 2048 characters")
    fields = {
        "name": name,
        "model": _model(body["model"]) if "model" in body else current.get("model"),
        "description": description,
        "system": system,
        "multiagent": body.get("multiagent", current.get("multiagent")),
        "metadata": merge_metadata(current.get("metadata", {}), body.get("metadata")),
        "execution_identity": body.get("execution_identity")
        or current.get("execution_identity", {"type": "service_account"}),
        **{key: body[key] or [] if key in body else current.get(key, []) for key in LISTS},
    }
    require(fields["model"], "model: required")
    fields["skills"] = [{"version": "1", **skill} for skill in fields["skills"]]
    fields["tools"] = show_tools(fields["tools"], fields["mcp_servers"])
    return fields


def _model(model: object) -> Json:
    given = {"id": model} if isinstance(model, str) else model
    if not isinstance(given, dict) or not isinstance(given.get("id"), str) or not given["id"]:
        raise refuse("model: must be a model id or an object with one")
    effort = given.get("effort") or "high"
    shown = effort if isinstance(effort, dict) else {"type": effort}
    return {"inference_geo": None, "speed": "standard", **given, "effort": shown}


def show_tools(tools: object, servers: list[Json]) -> list[Json]:
    """An agent's tools as the API shows them, with every default.

    Raises:
        ApiRefusal: A tool is malformed, named twice, or names a server that is not there (or the other way round).
    """
    if not isinstance(tools, list) or len(tools) > MAX_TOOLS:
        raise refuse(f"tools: must be a list of at most {MAX_TOOLS}")
    shown = [_show_tool(tool) for tool in tools]
    names = [tool["name"] for tool in shown if tool["type"] == "custom"]
    require(len(names) == len(set(names)), "tools: custom tool names must be unique")
    used = {tool["mcp_server_name"] for tool in shown if tool["type"] == "mcp_toolset"}
    known = {server.get("name") for server in servers}
    require(used == known, f"mcp_servers: toolsets name {sorted(used)}, the servers are {sorted(map(str, known))}")
    return shown


def _show_tool(tool: object) -> Json:
    kind = str(tool.get("type")) if isinstance(tool, dict) else None
    if not isinstance(tool, dict) or kind not in {"custom", "agent_toolset_20260401", "mcp_toolset"}:
        raise refuse(f"tools: unknown tool type {kind!r}")
    if kind == "custom":
        return _check_custom_tool(tool)
    policy = {"type": "always_allow" if kind == "agent_toolset_20260401" else "always_ask"}
    default = {"enabled": True, "permission_policy": policy, **(tool.get("default_config") or {})}
    given = {config.get("name"): config for config in tool.get("configs") or []}
    if kind == "mcp_toolset":
        require(isinstance(tool.get("mcp_server_name"), str), "tools: an mcp_toolset needs its mcp_server_name")
        configs = [{**default, **config} for config in given.values()]
        return {"type": kind, "mcp_server_name": tool["mcp_server_name"], "default_config": default, "configs": configs}
    unknown = set(given) - set(BUILTIN_TOOLS)
    require(not unknown, f"tools: no built-in tools {sorted(map(str, unknown))}")
    configs = [{"type": name, **default, "name": name, **given.get(name, {})} for name in BUILTIN_TOOLS]
    return {"type": kind, "default_config": default, "configs": configs}


def _check_custom_tool(tool: Json) -> Json:
    name = tool.get("name")
    if not isinstance(name, str) or not TOOL_NAME.fullmatch(name):
        raise refuse(f"tools: {name!r} is no custom tool name: 1 to 128 of A-Z a-z 0-9 _ -")
    taken = name in BUILTIN_TOOLS or name.startswith("mcp__")
    require(not taken, f"tools: the name {name!r} is reserved")
    require(isinstance(tool.get("description"), str), f"tools: {name} needs a description")
    schema = tool.get("input_schema")
    if not isinstance(schema, dict) or schema.get("type") != "object":
        raise refuse(f'tools: {name} needs an input_schema of type "object"')
    rejected = {"oneOf", "anyOf", "allOf", "$ref"} & set(schema)
    require(not rejected, f"tools: {name}.input_schema must not use {sorted(rejected)} at its top level")
    return tool


ROUTES = (
    Route(method="POST", path="/v1/agents", operation="create_agent", handler=create_agent),
    Route(method="GET", path="/v1/agents", operation="list_agents", handler=list_agents),
    Route(method="GET", path="/v1/agents/{}", operation="retrieve_agent", handler=retrieve_agent),
    Route(method="POST", path="/v1/agents/{}", operation="update_agent", handler=update_agent),
    Route(method="POST", path="/v1/agents/{}/archive", operation="archive_agent", handler=archive_agent),
    Route(method="GET", path="/v1/agents/{}/versions", operation="list_agent_versions", handler=list_versions),
)
