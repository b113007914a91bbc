"""The harness endpoints: create, get, list, update, delete, their versions and tags.

Source: Amazon Bedrock AgentCore API reference (control plane), CreateHarness and its neighbours.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

import trio

from ._agentcore_api import ApiCall, Route, invalid, not_found, page_reply, refuse
from ._agentcore_world import DEFAULT_ENDPOINT, AgentCoreWorld, Lifecycle, StoredEndpoint, StoredHarness
from ._api import Reply

__all__ = ["BUDGETS", "ROUTES", "check_budgets", "create_harness"]

Json: TypeAlias = dict[str, Any]

# What a version is made of.
DEFAULTS: Json = {
    "model": {"bedrockModelConfig": {"modelId": "global.anthropic.claude-sonnet-4-6"}},
    "systemPrompt": [],
    "tools": [],
    "skills": [],
    "allowedTools": ["*"],
    "truncation": {"strategy": "sliding_window", "config": {"slidingWindow": {"messagesCount": 150}}},
    "memory": {"managedMemoryConfiguration": {"strategies": ["SEMANTIC", "SUMMARIZATION"], "eventExpiryDuration": 30}},
    "maxIterations": 75,
    "timeoutSeconds": 3600,
}
# What an update wraps, so that it can be cleared.
WRAPPED = {"memory", "environmentArtifact", "authorizerConfiguration"}
SETTABLE = {*DEFAULTS, "executionRoleArn", "environment", "environmentVariables", "hooks", "maxTokens"} - WRAPPED
LIFETIMES = {"idleRuntimeSessionTimeout": 900, "maxLifetime": 28800}
RESERVED = {"shell", "file_operations", "builtin"}
UNNAMED = {
    "remote_mcp": "mcp",
    "agentcore_gateway": "gateway",
    "agentcore_browser": "browser",
    "agentcore_code_interpreter": "code_interpreter",
    "inline_function": "inline_function",
}
BUDGETS = ("maxIterations", "maxTokens", "timeoutSeconds")


def create_harness(call: ApiCall) -> Reply:
    """POST /harnesses."""
    world, params = call.world, call.params
    name = params["harnessName"]
    if any(harness.name == name for harness in world.harnesses.values()):
        raise refuse(409, f"A harness with the name {name} already exists")
    number = world.ids.new("harness").removeprefix("harness_")
    suffix = number.zfill(10)
    now = world.clock.now()
    harness = StoredHarness(
        id=f"{name}-{suffix}",
        name=name,
        arn=world.arn(f"harness/{name}-{suffix}"),
        runtime_arn=world.arn(f"runtime/harness_{name}-{suffix}"),
        life=Lifecycle(created_at=now, updated_at=now),
        versions=[_fill_in({**DEFAULTS, **_settings(params, WRAPPED | SETTABLE)})],
        version_times=[now],
        tags=dict(params.get("tags", {})),
    )
    failure = world.take_failure("create_harness")
    harness.life.begin("CREAT", world.times["create"], now, failing=failure)
    if failure is None:
        seconds = max(world.times["create"], world.times["endpoint"])
        _add_default_endpoint(world, harness, seconds)
    world.harnesses[harness.id] = harness
    return Reply({"harness": _show(harness)}, status=201)


def _add_default_endpoint(world: AgentCoreWorld, harness: StoredHarness, seconds: float) -> None:
    now = world.clock.now()
    endpoint = StoredEndpoint(
        name=DEFAULT_ENDPOINT,
        life=Lifecycle(created_at=now, updated_at=now),
        target=1,
        visible_from=trio.current_time() + world.times["visible"],
    )
    endpoint.life.begin("CREAT", seconds, now, failing=None, done=endpoint.go_live)
    harness.endpoints[DEFAULT_ENDPOINT] = endpoint


def get_harness(call: ApiCall) -> Reply:
    """GET /harnesses/{}?harnessVersion=N."""
    harness = call.world.harness(call.params["harnessId"])
    version = int(call.params.get("harnessVersion", harness.latest))
    if version > harness.latest:
        raise not_found(f"Version {version} of harness {harness.id}")
    return Reply({"harness": _show(harness, version)})


def list_harnesses(call: ApiCall) -> Reply:
    """GET /harnesses."""
    rows = [(harness.id, _summary(harness, harness.latest)) for harness in call.world.harnesses.values()]
    return page_reply(call, "harnesses", rows)


def list_versions(call: ApiCall) -> Reply:
    """GET /harnesses/{}/versions."""
    harness = call.world.harness(call.params["harnessId"])
    rows = [(str(version), _version(harness, version)) for version in range(harness.latest, 0, -1)]
    return page_reply(call, "harnessVersions", rows)


def update_harness(call: ApiCall) -> Reply:
    """PATCH /harnesses/{}: what is absent stays; what is given replaces the whole of its member."""
    world, params = call.world, call.params
    harness = world.harness(params["harnessId"])
    if harness.life.status not in {"READY", "UPDATE_FAILED"}:
        raise refuse(409, f"Harness {harness.id} cannot be updated while it is {harness.life.status}")
    settings = {**harness.versions[-1], **_settings(params, SETTABLE)}
    for name in WRAPPED & params.keys():
        settings[name] = params[name].get("optionalValue")
    settings = _fill_in({name: value for name, value in settings.items() if value is not None})
    failure = world.take_failure("update_harness")
    now, seconds = world.clock.now(), world.times["update"]
    default = harness.endpoints[DEFAULT_ENDPOINT]
    if failure is None:
        harness.versions.append(settings)
        harness.version_times.append(now)
        default.target = harness.latest
    harness.life.begin("UPDAT", seconds, now, failing=failure)
    default.life.begin("UPDAT", seconds, now, failing=None, done=default.go_live)
    return Reply({"harness": _show(harness)})


def delete_harness(call: ApiCall) -> Reply:
    """DELETE /harnesses/{}: it goes with its endpoints and its sessions."""
    world = call.world
    harness = world.harness(call.params["harnessId"])
    if harness.life.status == "DELETING":
        raise refuse(409, f"Harness {harness.id} is being deleted")
    now, seconds = world.clock.now(), world.times["delete"]
    failure = world.take_failure("delete_harness")
    harness.life.begin("DELET", seconds, now, failing=failure, done=partial(world.remove_harness, harness))
    if failure is None:
        for endpoint in harness.endpoints.values():
            endpoint.life.begin("DELET", seconds, now, failing=None)
    return Reply({"harness": _show(harness)})


def tag_resource(call: ApiCall) -> Reply:
    """POST /tags/{}."""
    call.world.harness_by_arn(call.params["resourceArn"]).tags.update(call.params["tags"])
    return Reply(b"", status=204)


def untag_resource(call: ApiCall) -> Reply:
    """DELETE /tags/{}?tagKeys=…."""
    tags = call.world.harness_by_arn(call.params["resourceArn"]).tags
    for key in call.params["tagKeys"]:
        tags.pop(key, None)
    return Reply(b"", status=204)


def list_tags(call: ApiCall) -> Reply:
    """GET /tags/{}."""
    return Reply({"tags": dict(call.world.harness_by_arn(call.params["resourceArn"]).tags)})


def _fill_in(settings: Json) -> Json:
    """A configuration with every default, checked as far as its members depend on each other.

    Raises:
        ServiceRefusal: They contradict; 400.
    """
    check_budgets(settings)
    environment = settings.get("environment", {}).get("agentCoreRuntimeEnvironment", {})
    lifetimes = {**LIFETIMES, **environment.get("lifecycleConfiguration", {})}
    if not lifetimes["idleRuntimeSessionTimeout"] <= lifetimes["maxLifetime"] <= LIFETIMES["maxLifetime"]:
        raise invalid("idleRuntimeSessionTimeout must not exceed maxLifetime, nor that 28800 seconds")
    runtime = {"networkConfiguration": {"networkMode": "PUBLIC"}, **environment, "lifecycleConfiguration": lifetimes}
    return {
        **settings,
        "environment": {"agentCoreRuntimeEnvironment": runtime},
        "tools": _named_tools(settings.get("tools", [])),
    }


def check_budgets(settings: Json) -> None:
    """Let budgets pass that leave room for anything.

    Raises:
        ServiceRefusal: One does not; 400.
    """
    for name in BUDGETS:
        if settings.get(name, 1) < 1:
            raise invalid(f"{name} must be at least 1", fields=[(name, "must be at least 1")])


def _named_tools(tools: list[Json]) -> list[Json]:
    named = [{"name": f"{UNNAMED[tool['type']]}_{n}", **tool} for n, tool in enumerate(tools)]
    names = [tool["name"] for tool in named]
    for name in names:
        if name in RESERVED or names.count(name) > 1:
            raise invalid(f"The tool name {name} is reserved or used twice", fields=[("tools", "names must be unique")])
    return named


def _settings(params: Json, names: set[str]) -> Json:
    return {name: value for name, value in params.items() if name in names}


def _show(harness: StoredHarness, version: int | None = None) -> Json:
    number = version or harness.latest
    settings = harness.versions[number - 1]
    name = harness.runtime_arn.rpartition("/")[2]
    runtime = {"agentRuntimeArn": harness.runtime_arn, "agentRuntimeName": name[:-11], "agentRuntimeId": name}
    environment = {**settings["environment"]["agentCoreRuntimeEnvironment"], **runtime}
    return {
        **settings,
        **_summary(harness, number),
        **harness.life.view(),
        "environment": {"agentCoreRuntimeEnvironment": environment},
    }


def _summary(harness: StoredHarness, version: int) -> Json:
    life = {name: value for name, value in harness.life.view().items() if name != "failureReason"}
    names = {"harnessId": harness.id, "harnessName": harness.name, "arn": harness.arn}
    return {**names, "harnessVersion": str(version), **life}


def _version(harness: StoredHarness, version: int) -> Json:
    # Only the latest version can still be in the making.
    life = {} if version == harness.latest else {"status": "READY"}
    return {**_summary(harness, version), **life, "createdAt": harness.version_times[version - 1]}


ROUTES = (
    Route(method="POST", path="/harnesses", operation="create_harness", handler=create_harness),
    Route(method="GET", path="/harnesses", operation="list_harnesses", handler=list_harnesses),
    Route(method="GET", path="/harnesses/{}", operation="get_harness", handler=get_harness),
    Route(method="PATCH", path="/harnesses/{}", operation="update_harness", handler=update_harness),
    Route(method="DELETE", path="/harnesses/{}", operation="delete_harness", handler=delete_harness),
    Route(method="GET", path="/harnesses/{}/versions", operation="list_harness_versions", handler=list_versions),
    Route(method="POST", path="/tags/{}", operation="tag_resource", handler=tag_resource),
    Route(method="DELETE", path="/tags/{}", operation="untag_resource", handler=untag_resource),
    Route(method="GET", path="/tags/{}", operation="list_tags_for_resource", handler=list_tags),
)
