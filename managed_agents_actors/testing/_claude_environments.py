"""The environment endpoints: unique names, and a configuration whose type never changes."""

from __future__ import annotations

from typing import Any, TypeAlias

from ._api import Reply
from ._claude_api import ApiCall, Route, merge_metadata, page_reply, page_request, refuse, require

__all__ = ["ROUTES"]

Json: TypeAlias = dict[str, Any]

EMPTY_PACKAGES: Json = {manager: [] for manager in ("apt", "cargo", "gem", "go", "npm", "pip")}


def create_environment(call: ApiCall) -> Reply:
    """POST /v1/environments."""
    name = call.body.get("name")
    require(isinstance(name, str) and name, "name: required")
    _require_free(call, name)
    environment: Json = {
        "id": call.world.ids.new("env"),
        "type": "environment",
        "name": name,
        "description": call.body.get("description"),
        "config": _config(call.body.get("config") or {"type": "cloud"}, {}),
        "metadata": merge_metadata({}, call.body.get("metadata")),
        "scope": call.body.get("scope") or "organization",
        "created_at": call.world.clock.now(),
        "archived_at": None,
    }
    environment["updated_at"] = environment["created_at"]
    call.world.environments[environment["id"]] = environment
    return Reply(environment)


def retrieve_environment(call: ApiCall) -> Reply:
    """GET /v1/environments/{}."""
    return Reply(call.world.environment(call.ids[0]))


def update_environment(call: ApiCall) -> Reply:
    """POST /v1/environments/{}: what is left out stays."""
    environment = call.world.environment(call.ids[0])
    changes: Json = {"updated_at": call.world.clock.now()}
    name = call.body.get("name") or environment["name"]
    if name != environment["name"]:
        _require_free(call, name)
        changes["name"] = name
    if "description" in call.body:
        changes["description"] = call.body["description"]
    if call.body.get("config"):
        changes["config"] = _config(call.body["config"], environment["config"])
    # An empty value deletes a key here, as null does everywhere.
    patch = {key: value or None for key, value in (call.body.get("metadata") or {}).items()}
    changes["metadata"] = merge_metadata(environment["metadata"], patch)
    environment.update(changes)
    return Reply(environment)


def archive_environment(call: ApiCall) -> Reply:
    """POST /v1/environments/{}/archive."""
    environment = call.world.environment(call.ids[0])
    environment["archived_at"] = environment["archived_at"] or call.world.clock.now()
    return Reply(environment)


def delete_environment(call: ApiCall) -> Reply:
    """DELETE /v1/environments/{}."""
    environment = call.world.environment(call.ids[0])
    del call.world.environments[environment["id"]]
    return Reply({"id": environment["id"], "type": "environment_deleted"})


def list_environments(call: ApiCall) -> Reply:
    """GET /v1/environments."""
    archived = call.flag("include_archived")
    return page_reply(
        list(call.world.environments.values()),
        page_request(call, default=20, most=100, order="desc"),
        accept=lambda environment: archived or environment["archived_at"] is None,
    )


def _require_free(call: ApiCall, name: object) -> None:
    if any(environment["name"] == name for environment in call.world.environments.values()):
        raise refuse(f"an environment named {name!r} exists already", status=409)


def _config(given: Json, current: Json) -> Json:
    kind = given.get("type")
    require(kind in ("cloud", "self_hosted"), f"config.type: must be cloud or self_hosted, not {kind!r}")
    if current and current["type"] != kind:
        raise refuse("config.type: cannot be changed", error_code="invalid_config_type_change")
    if kind == "self_hosted":
        return {"type": "self_hosted"}
    packages = {**EMPTY_PACKAGES, **current.get("packages", {}), **(given.get("packages") or {})}
    network = given.get("networking") or current.get("networking") or {"type": "unrestricted"}
    if network.get("type") == "limited":
        limits = {"allow_mcp_servers": False, "allow_package_managers": False, "allowed_hosts": []}
        network = {**limits, **network}
    return {"type": "cloud", "networking": network, "packages": {**packages, "type": "packages"}}


ROUTES = (
    Route(method="POST", path="/v1/environments", operation="create_environment", handler=create_environment),
    Route(method="GET", path="/v1/environments", operation="list_environments", handler=list_environments),
    Route(method="GET", path="/v1/environments/{}", operation="retrieve_environment", handler=retrieve_environment),
    Route(method="POST", path="/v1/environments/{}", operation="update_environment", handler=update_environment),
    Route(method="DELETE", path="/v1/environments/{}", operation="delete_environment", handler=delete_environment),
    Route(
        method="POST", path="/v1/environments/{}/archive", operation="archive_environment", handler=archive_environment
    ),
)
