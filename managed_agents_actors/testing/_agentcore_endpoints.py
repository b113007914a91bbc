"""The endpoints of a harness: names that each serve one version; ``DEFAULT`` follows the latest.

Source: Amazon Bedrock AgentCore API reference (control plane), CreateHarnessEndpoint and its neighbours.
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeAlias

from ._agentcore_api import ApiCall, Route, invalid, page_reply, refuse
from ._agentcore_world import DEFAULT_ENDPOINT, StoredEndpoint, StoredHarness
from ._api import Reply

__all__ = ["ROUTES"]

Json: TypeAlias = dict[str, Any]

MAX_ENDPOINTS = 10


def create_endpoint(call: ApiCall) -> Reply:
    """POST /harnesses/{}/endpoints."""
    world, params = call.world, call.params
    harness = world.harness(params["harnessId"])
    name = params["endpointName"]
    if name in harness.endpoints or harness.life.status not in {"READY", "UPDATING", "UPDATE_FAILED"}:
        raise refuse(409, f"Endpoint {name} exists already, or harness {harness.id} is {harness.life.status}")
    if len(harness.endpoints) >= MAX_ENDPOINTS:
        raise refuse(402, f"Harness {harness.id} has {MAX_ENDPOINTS} endpoints")
    endpoint = world.new_endpoint(harness, name, target=_version(harness, params))
    endpoint.description = params.get("description")
    endpoint.tags.update(params.get("tags", {}))
    failure = world.take_failure("create_harness_endpoint")
    endpoint.life.begin("CREAT", world.times["endpoint"], world.clock.now(), failing=failure, done=endpoint.go_live)
    return Reply({"endpoint": _show(harness, endpoint)}, status=201)


def get_endpoint(call: ApiCall) -> Reply:
    """GET /harnesses/{}/endpoints/{}."""
    harness, endpoint = _find(call)
    return Reply({"endpoint": _show(harness, endpoint)})


def list_endpoints(call: ApiCall) -> Reply:
    """GET /harnesses/{}/endpoints."""
    harness = call.world.harness(call.params["harnessId"])
    seen = [endpoint for endpoint in harness.endpoints.values() if endpoint.visible]
    return page_reply(call, "endpoints", [(endpoint.number, _show(harness, endpoint)) for endpoint in seen])


def update_endpoint(call: ApiCall) -> Reply:
    """PATCH /harnesses/{}/endpoints/{}."""
    harness, endpoint = _find(call)
    _require_changeable(endpoint)
    if endpoint.name == DEFAULT_ENDPOINT and "targetVersion" in call.params:
        raise refuse(409, "The DEFAULT endpoint always serves the latest version")
    failure = call.world.take_failure("update_harness_endpoint")
    if failure is None:
        endpoint.target = _version(harness, call.params, otherwise=endpoint.target)
        endpoint.description = call.params.get("description", endpoint.description)
    endpoint.life.begin(
        "UPDAT", call.world.times["update"], call.world.clock.now(), failing=failure, done=endpoint.go_live
    )
    return Reply({"endpoint": _show(harness, endpoint)})


def delete_endpoint(call: ApiCall) -> Reply:
    """DELETE /harnesses/{}/endpoints/{}: all but ``DEFAULT``, which goes with its harness."""
    harness, endpoint = _find(call)
    if endpoint.name == DEFAULT_ENDPOINT:
        raise refuse(409, "The DEFAULT endpoint is deleted with its harness")
    if endpoint.life.status == "DELETING":
        raise refuse(409, f"Endpoint {endpoint.name} is being deleted")
    failure = call.world.take_failure("delete_harness_endpoint")
    remove = partial(harness.endpoints.pop, endpoint.name, None)
    endpoint.life.begin("DELET", call.world.times["delete"], call.world.clock.now(), failing=failure, done=remove)
    return Reply({"endpoint": _show(harness, endpoint)})


def _find(call: ApiCall) -> tuple[StoredHarness, StoredEndpoint]:
    harness = call.world.harness(call.params["harnessId"])
    return harness, call.world.endpoint(harness, call.params["endpointName"])


def _require_changeable(endpoint: StoredEndpoint) -> None:
    if endpoint.life.status not in {"READY", "UPDATE_FAILED"}:
        raise refuse(409, f"Endpoint {endpoint.name} cannot be updated while it is {endpoint.life.status}")


def _version(harness: StoredHarness, params: Json, *, otherwise: int | None = None) -> int:
    version = int(params.get("targetVersion", otherwise or harness.latest))
    if version > harness.latest:
        raise invalid(f"Harness {harness.id} has no version {version}", fields=[("targetVersion", "does not exist")])
    return version


def _show(harness: StoredHarness, endpoint: StoredEndpoint) -> Json:
    view: Json = {
        "harnessId": harness.id,
        "harnessName": harness.name,
        "endpointName": endpoint.name,
        "arn": endpoint.arn,
        **endpoint.life.view(),
        "targetVersion": str(endpoint.target),
    }
    if endpoint.live is not None:
        view["liveVersion"] = str(endpoint.live)
    if endpoint.description is not None:
        view["description"] = endpoint.description
    return view


ENDPOINTS = "/harnesses/{}/endpoints"
ROUTES = (
    Route(method="POST", path=ENDPOINTS, operation="create_harness_endpoint", handler=create_endpoint),
    Route(method="GET", path=ENDPOINTS, operation="list_harness_endpoints", handler=list_endpoints),
    Route(method="GET", path=f"{ENDPOINTS}/{{}}", operation="get_harness_endpoint", handler=get_endpoint),
    Route(method="PATCH", path=f"{ENDPOINTS}/{{}}", operation="update_harness_endpoint", handler=update_endpoint),
    Route(method="DELETE", path=f"{ENDPOINTS}/{{}}", operation="delete_harness_endpoint", handler=delete_endpoint),
)
