"""The harness endpoints: create, get, list, update, delete, their versions and tags.

Source: Amazon Bedrock AgentCore API reference (control plane), CreateHarness and its neighbours.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

import trio

from ._agentcore_api import ApiCall, Route, invalid, not_found, page_reply, refuse
from ._agentcore_tools import named_tools
from ._agentcore_world import (
    DEFAULT_ENDPOINT,
    AgentCoreWorld,
    Lifecycle,
    StoredHarness,
    StoredVersion,
)
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
# The one kind of environment there is.
RUNTIME = "agentCoreRuntimeEnvironment"
MAX_TAGS = 50
BUDGETS = ("maxIterations", "maxTokens", "timeoutSeconds")


def create_harness(call: ApiCall) -> Reply:
    """POST /harnesses."""
    world, params = call.world, call.params
    name = params["harnessName"]
    if any(harness.name == name for harness in world.harnesses.values()):
        raise refuse(409, f"A harness with the name {name} already exists")
    number = world.ids.new("harness").removeprefix("harness_")
    harness_id = f"{name}-{number.zfill(10)}"
    settings = _fill_in({**DEFAULTS, **_settings(params, WRAPPED | SETTABLE)})
    now = world.clock.now()
    harness = StoredHarness(
        id=harness_id,
        number=int(number),
        name=name,
        arn=world.arn(f"harness/{harness_id}"),
        runtime_arn=world.arn(f"runtime/harness_{harness_id}"),
        life=Lifecycle(created_at=now, updated_at=now),
        versions=[StoredVersion(settings=settings, life=Lifecycle(created_at=now, updated_at=now))],
        tags=dict(params.get("tags", {})),
    )
    failure = world.take_failure("create_harness")
    for life in (harness.life, harness.versions[0].life):
        life.begin("CREAT", world.times["create"], now, failing=failure)
    if failure is None:
        _add_default_endpoint(world, harness, max(world.times["create"], world.times["endpoint"]))
    world.harnesses[harness.id] = harness
    return Reply({"harness": _show(harness)}, status=201)


def _add_default_endpoint(world: AgentCoreWorld, harness: StoredHarness, seconds: float) -> None:
    endpoint = world.new_endpoint(harness, DEFAULT_ENDPOINT, target=1)
    endpoint.visible_from = trio.current_time() + world.times["visible"]
    endpoint.life.begin("CREAT", seconds, world.clock.now(), failing=None, done=endpoint.go_live)


def get_harness(call: ApiCall) -> Reply:
    """GET /harnesses/{}?harnessVersion=N."""
    harness = call.world.harness(call.params["harnessId"])
    version = int(call.params["harnessVersion"]) if "harnessVersion" in call.params else None
    if version is not None and version > harness.latest:
        raise not_found(f"Version {version} of harness {harness.id}")
    return Reply({"harness": _show(harness, version)})


def list_harnesses(call: ApiCall) -> Reply:
    """GET /harnesses."""
    rows = [(harness.number, _summary(harness)) for harness in call.world.harnesses.values()]
    return page_reply(call, "harnesses", rows)


def list_versions(call: ApiCall) -> Reply:
    """GET /harnesses/{}/versions."""
    harness = call.world.harness(call.params["harnessId"])
    # The newest first: its place is before the others', and so will be that of any to come.
    rows = [(-version, _version(harness, version)) for version in range(harness.latest, 0, -1)]
    return page_reply(call, "harnessVersions", rows)


def update_harness(call: ApiCall) -> Reply:
    """PATCH /harnesses/{}: what is absent stays; what is given replaces the whole of its member.

    An update that fails afterwards makes no version, and changes nothing that is served.
    """
    world, params = call.world, call.params
    harness = world.harness(params["harnessId"])
    if harness.life.status not in {"READY", "UPDATE_FAILED"}:
        raise refuse(409, f"Harness {harness.id} cannot be updated while it is {harness.life.status}")
    before = harness.versions[-1].settings
    settings = {**before, **_settings(params, SETTABLE), "environment": _patched(before, params)}
    for name in WRAPPED & params.keys():
        settings[name] = params[name].get("optionalValue")
    settings = _fill_in({name: value for name, value in settings.items() if value is not None})
    failure = world.take_failure("update_harness")
    now, seconds = world.clock.now(), world.times["update"]
    harness.life.begin("UPDAT", seconds, now, failing=failure)
    if failure is None:
        version = StoredVersion(settings=settings, life=Lifecycle(created_at=now, updated_at=now))
        version.life.begin("UPDAT", seconds, now, failing=None)
        harness.versions.append(version)
        _let_default_follow(harness, seconds, now)
    return Reply({"harness": _show(harness)})


def _patched(settings: Json, params: Json) -> Json:
    """The environment after a change: a member of it that is absent stays, which is not documented."""
    before, given = settings["environment"][RUNTIME], params.get("environment", {}).get(RUNTIME, {})
    return {RUNTIME: {**before, **given}}


def _let_default_follow(harness: StoredHarness, seconds: float, now: str) -> None:
    """The DEFAULT endpoint is to serve the latest version; one that is still being made is ready no sooner for it."""
    default = harness.endpoints[DEFAULT_ENDPOINT]
    default.target = harness.latest
    if default.life.status != "CREATING":
        default.life.begin("UPDAT", seconds, now, failing=None, done=default.go_live)


def delete_harness(call: ApiCall) -> Reply:
    """DELETE /harnesses/{}: it goes with its endpoints and its sessions, even while it is being made or changed.

    What the service says to that last is not documented.
    """
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
    """POST /tags/{}: of a harness or an endpoint."""
    tags = call.world.tags(call.params["resourceArn"])
    after = {**tags, **call.params["tags"]}
    if len(after) > MAX_TAGS:
        raise refuse(402, f"A resource has at most {MAX_TAGS} tags, and this one would have {len(after)}")
    tags.update(after)
    return Reply(b"", status=204)


def untag_resource(call: ApiCall) -> Reply:
    """DELETE /tags/{}?tagKeys=…."""
    tags = call.world.tags(call.params["resourceArn"])
    for key in call.params["tagKeys"]:
        tags.pop(key, None)
    return Reply(b"", status=204)


def list_tags(call: ApiCall) -> Reply:
    """GET /tags/{}."""
    return Reply({"tags": dict(call.world.tags(call.params["resourceArn"]))})


def _fill_in(settings: Json) -> Json:
    """A configuration with every default, checked as far as its members depend on each other.

    Raises:
        ServiceRefusal: They contradict; 400.
    """
    check_budgets(settings)
    environment = settings.get("environment", {}).get(RUNTIME, {})
    lifetimes = {**LIFETIMES, **environment.get("lifecycleConfiguration", {})}
    if not lifetimes["idleRuntimeSessionTimeout"] <= lifetimes["maxLifetime"] <= LIFETIMES["maxLifetime"]:
        raise invalid("idleRuntimeSessionTimeout must not exceed maxLifetime, nor that 28800 seconds")
    runtime = {"networkConfiguration": {"networkMode": "PUBLIC"}, **environment, "lifecycleConfiguration": lifetimes}
    return {
        **settings,
        "environment": {RUNTIME: runtime},
        "tools": named_tools(settings.get("tools", [])),
    }


def check_budgets(settings: Json) -> None:
    """Let budgets pass that leave room for anything.

    Raises:
        ServiceRefusal: One does not; 400.
    """
    for name in BUDGETS:
        if settings.get(name, 1) < 1:
            raise invalid(f"{name} must be at least 1", fields=[(name, "must be at least 1")])


def _settings(params: Json, names: set[str]) -> Json:
    return {name: value for name, value in params.items() if name in names}


def _show(harness: StoredHarness, version: int | None = None) -> Json:
    """A harness with one of its versions and that one's status; without, with the latest and the harness's own."""
    stored = harness.versions[(version or harness.latest) - 1]
    life = harness.life if version is None else stored.life
    name = harness.runtime_arn.rpartition("/")[2]
    runtime = {"agentRuntimeArn": harness.runtime_arn, "agentRuntimeName": name[:-11], "agentRuntimeId": name}
    environment = {**stored.settings["environment"][RUNTIME], **runtime}
    return {
        **stored.settings,
        **_names(harness),
        "harnessVersion": str(version or harness.latest),
        **life.view(),
        "environment": {RUNTIME: environment},
    }


def _summary(harness: StoredHarness) -> Json:
    """As the list of harnesses has it: without why it failed."""
    life = {name: value for name, value in harness.life.view().items() if name != "failureReason"}
    return {**_names(harness), "harnessVersion": str(harness.latest), **life}


def _version(harness: StoredHarness, version: int) -> Json:
    return {**_names(harness), "harnessVersion": str(version), **harness.versions[version - 1].life.view()}


def _names(harness: StoredHarness) -> Json:
    return {"harnessId": harness.id, "harnessName": harness.name, "arn": harness.arn}


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
