"""How a harness of the AgentCore simulator comes to be, changes, fails and goes, in virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from trio.testing import MockClock

from managed_agents_actors import ConfigurationError

ROLE = "arn:aws:iam::123456789012:role/Harness"
TIMES = {"create": 11, "visible": 20, "endpoint": 151, "update": 15, "delete": 120}
SESSION = "session-of-the-tests-0000000000000000"


async def create(client: Any, name: str = "orders", **params: Any) -> dict[str, Any]:
    status, body = await client.call("create_harness", harnessName=name, executionRoleArn=ROLE, **params)
    assert status == 201, body
    return {"harnessId": body["harness"]["harnessId"]}


async def status_of(client: Any, name: dict[str, Any]) -> str | int:
    status, body = await client.call("get_harness", **name)
    return body["harness"]["status"] if status == 200 else status


async def endpoint_of(client: Any, name: dict[str, Any], endpoint: str = "DEFAULT") -> str | int:
    status, body = await client.call("get_harness_endpoint", **name, endpointName=endpoint)
    return body["endpoint"]["status"] if status == 200 else status


async def test_ready_is_not_invokable(aws: Any, autojump_clock: MockClock) -> None:
    async with aws(lifecycle=TIMES) as client:
        began = trio.current_time()
        name = await create(client)
        arn = (await client.call("get_harness", **name))[1]["harness"]["arn"]
        seen = []
        for at in (1, 12, 21, 150, 152):
            await trio.sleep(began + at - trio.current_time())
            given = [{"role": "user", "content": [{"text": "go"}]}]
            head = await client.start("invoke_harness", harnessArn=arn, runtimeSessionId=SESSION, messages=given)
            invoked = head.status_code
            while type(await client.raw.next_event()).__name__ == "Data":
                pass
            client.raw.wire.start_next_cycle()
            seen.append((at, await status_of(client, name), await endpoint_of(client, name), invoked))
        assert seen == [
            (1, "CREATING", 404, 404),
            (12, "READY", 404, 404),
            (21, "READY", "CREATING", 400),
            (150, "READY", "CREATING", 400),
            (152, "READY", "READY", 200),
        ]


async def test_an_update_makes_a_version_that_default_follows(aws: Any, autojump_clock: MockClock) -> None:
    async with aws(lifecycle=TIMES) as client:
        name = {"harnessId": client.simulator.harness_id}
        await client.call("create_harness_endpoint", **name, endpointName="prod")
        await trio.sleep(200)
        memory = {"optionalValue": {"disabled": {}}}
        status, body = await client.call("update_harness", **name, systemPrompt=[{"text": "Be kind."}], memory=memory)
        assert (status, body["harness"]["memory"]) == (200, {"disabled": {}})
        assert (await client.call("update_harness", **name, maxTokens=1))[0] == 409
        await trio.sleep(10)
        _, body = await client.call("get_harness_endpoint", **name, endpointName="DEFAULT")
        endpoint = body["endpoint"]
        assert (endpoint["status"], endpoint["liveVersion"], endpoint["targetVersion"]) == ("UPDATING", "1", "2")
        await trio.sleep(10)
        _, body = await client.call("list_harness_endpoints", **name)
        assert [(each["endpointName"], each["liveVersion"]) for each in body["endpoints"]] == [
            ("DEFAULT", "2"),
            ("prod", "1"),
        ]
        _, body = await client.call("get_harness", **name)
        assert (body["harness"]["status"], body["harness"]["harnessVersion"]) == ("READY", "2")
        await client.call("update_harness", **name, memory={})
        assert "memory" not in (await client.call("get_harness", **name))[1]["harness"]


async def test_a_deleted_harness_goes_slowly_with_all_it_has(aws: Any, autojump_clock: MockClock) -> None:
    async with aws(lifecycle={"delete": 120}) as client:
        name = {"harnessId": client.simulator.harness_id}
        await client.invoke("go")
        await client.call("delete_harness", **name)
        assert (await status_of(client, name), await endpoint_of(client, name)) == ("DELETING", "DELETING")
        status, body = await client.call("create_harness", harnessName="simulated_harness", executionRoleArn=ROLE)
        assert (status, "already exists" in body["message"]) == (409, True)
        assert (await client.call("delete_harness", **name))[0] == 409
        await trio.sleep(121)
        assert await status_of(client, name) == 404
        assert client.simulator.session(SESSION).messages == ()
        again = await create(client, "simulated_harness")
        assert again != name


@pytest.mark.parametrize(
    ("operation", "status"),
    [("create_harness", "CREATE_FAILED"), ("update_harness", "UPDATE_FAILED"), ("delete_harness", "DELETE_FAILED")],
)
async def test_a_change_may_fail_afterwards(aws: Any, autojump_clock: MockClock, operation: str, status: str) -> None:
    async with aws(lifecycle=TIMES) as client:
        client.simulator.fail_next(operation, "no permission")
        name = await create(client)
        await trio.sleep(200)
        if operation != "create_harness":
            await client.call(operation, **name)
            await trio.sleep(200)
        _, body = await client.call("get_harness", **name)
        harness = body["harness"]
        assert (harness["status"], harness["failureReason"], harness["harnessVersion"]) == (
            status,
            "no permission",
            "1",
        )
        assert await endpoint_of(client, name) == (404 if operation == "create_harness" else "READY")
        # One failure is for one change.
        await client.call("delete_harness", **name)
        await trio.sleep(200)
        assert await status_of(client, name) == 404


@pytest.mark.parametrize("verb", ["create", "update", "delete"])
async def test_the_change_of_an_endpoint_may_fail(aws: Any, autojump_clock: MockClock, verb: str) -> None:
    async with aws() as client:
        name = {"harnessId": client.simulator.harness_id}
        client.simulator.fail_next(f"{verb}_harness_endpoint")
        for each in dict.fromkeys(["create", verb]):
            await client.call(f"{each}_harness_endpoint", **name, endpointName="prod")
        assert await endpoint_of(client, name, "prod") == f"{verb.upper()}_FAILED"


async def test_fail_next_knows_what_can_fail(aws: Any) -> None:
    async with aws() as client:
        with pytest.raises(ConfigurationError, match="fail_next: operation must be one of"):
            client.simulator.fail_next("get_harness")


@pytest.mark.parametrize(
    ("operation", "params", "status", "message"),
    [
        ("create_harness", {"harnessName": "with-hyphen", "executionRoleArn": ROLE}, 400, "regular expression"),
        ("create_harness", {"harnessName": "a", "executionRoleArn": "role"}, 400, "executionRoleArn"),
        ("create_harness", {"harnessName": "a"}, 400, "Member must not be null"),
        ("create_harness", {"harnessName": 7, "executionRoleArn": ROLE}, 400, "of type string"),
        ("create_harness", {"harnessName": "a", "executionRoleArn": ROLE, "clientToken": "short"}, 400, "33"),
        ("create_harness", {"harnessName": "a", "executionRoleArn": ROLE, "maxIterations": 0}, 400, "at least 1"),
        (
            "create_harness",
            {
                "harnessName": "a",
                "executionRoleArn": ROLE,
                "memory": {"disabled": {}, "managedMemoryConfiguration": {}},
            },
            400,
            "exactly one",
        ),
        (
            "create_harness",
            {"harnessName": "a", "executionRoleArn": ROLE, "tools": [{"type": "remote_mcp", "name": "shell"}]},
            400,
            "reserved",
        ),
        ("create_harness", {"harnessName": "a", "executionRoleArn": ROLE, "tools": [{"type": "mine"}]}, 400, "enum"),
        ("list_harnesses", {"maxResults": 101}, 400, "less than or equal to 100"),
        ("list_harnesses", {"maxResults": 0}, 400, "greater than or equal to 1"),
        ("list_harnesses", {"nextToken": "bogus"}, 400, "nextToken"),
        ("get_harness", {"harnessId": "short"}, 400, "regular expression"),
        ("get_harness_endpoint", {"harnessId": "{id}", "endpointName": "with-hyphen"}, 400, "regular expression"),
        ("get_harness_endpoint", {"harnessId": "{id}", "endpointName": "nobody"}, 404, "nobody"),
        ("get_harness", {"harnessId": "{id}", "harnessVersion": "2"}, 404, "Version 2"),
        ("create_harness_endpoint", {"harnessId": "{id}", "endpointName": "a", "targetVersion": "2"}, 400, "version 2"),
        ("create_harness_endpoint", {"harnessId": "{id}", "endpointName": "DEFAULT"}, 409, "exists"),
        ("delete_harness_endpoint", {"harnessId": "{id}", "endpointName": "DEFAULT"}, 409, "with its harness"),
        (
            "update_harness_endpoint",
            {"harnessId": "{id}", "endpointName": "DEFAULT", "targetVersion": "1"},
            409,
            "latest",
        ),
    ],
)
async def test_what_is_not_as_the_model_says_is_refused(
    aws: Any, operation: str, params: Any, status: int, message: str
) -> None:
    async with aws() as client:
        given = {name: client.simulator.harness_id if value == "{id}" else value for name, value in params.items()}
        answered, body = await client.call(operation, options={"validate": False}, **given)
        assert (answered, message in body["message"]) == (status, True), body
        if status == 400 and "regular expression" in message:
            assert body["reason"] == "FieldValidationFailed"


async def post(client: Any, path: str, body: bytes) -> tuple[int, Any]:
    """Send a body that no SDK would write, signed."""
    url = client.simulator.base_url + path
    request = AWSRequest("POST", url, data=body, headers={"content-type": "application/json"})
    SigV4Auth(client.simulator.credentials, "bedrock-agentcore", client.simulator.region).add_auth(request)
    headers = {name.lower(): str(value) for name, value in request.prepare().headers.items()}
    status, answered = await client.raw.request("POST", path, body, headers)
    return status, answered


async def test_unknown_members_are_dropped_silently(aws: Any) -> None:
    body = {"harnessName": "a", "executionRoleArn": ROLE, "memory": {"memoryArn": "x"}, "a": 1}
    async with aws() as client:
        status, answered = await post(client, "/harnesses", json.dumps(body).encode())
        assert (status, answered["harness"]["memory"], "a" in answered["harness"]) == (201, {}, False)


@pytest.mark.parametrize(
    ("body", "reason", "message"),
    [
        (b"{", "CannotParse", "not valid JSON"),
        (b"[1]", "CannotParse", "must be a JSON object"),
        (b'{"systemPrompt": "bare"}', "FieldValidationFailed", "'systemPrompt' failed to satisfy constraint"),
        (b'{"maxIterations": true}', "FieldValidationFailed", "must be of type integer"),
    ],
)
async def test_a_body_of_another_form_is_refused(aws: Any, body: bytes, reason: str, message: str) -> None:
    async with aws() as client:
        status, answered = await post(client, "/harnesses", body)
        assert (status, answered["reason"], message in answered["message"]) == (400, reason, True)


async def test_there_is_nothing_at_other_paths(aws: Any) -> None:
    async with aws() as client:
        assert (await post(client, "/agents", b"{}"))[0] == 404
