"""How a harness of the AgentCore simulator comes to be, changes, fails and goes, in virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from managed_agents_actors import ConfigurationError

from ._agentcore import ROLE, SESSION, inline, send

TIMES = {"create": 11, "visible": 20, "endpoint": 151, "update": 15, "delete": 120}


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


@pytest.mark.parametrize("fails", [False, True])
async def test_an_endpoint_that_is_being_made_is_ready_no_sooner_for_an_update(
    aws: Any, autojump_clock: MockClock, fails: bool
) -> None:
    async with aws(lifecycle={"endpoint": 60, "update": 5}) as client:
        name = await create(client)
        if fails:
            client.simulator.fail_next("update_harness")
        await client.call("update_harness", **name, maxTokens=5)
        await trio.sleep(59)
        assert await endpoint_of(client, name) == "CREATING"
        await trio.sleep(2)
        _, body = await client.call("get_harness_endpoint", **name, endpointName="DEFAULT")
        seen = body["endpoint"]
        version = "1" if fails else "2"
        assert (seen["status"], seen["liveVersion"], seen["targetVersion"]) == ("READY", version, version)


async def test_an_update_that_fails_leaves_what_is_served_as_it_is(aws: Any, autojump_clock: MockClock) -> None:
    async with aws(lifecycle={"update": 5}) as client:
        name = {"harnessId": client.simulator.harness_id}
        client.simulator.fail_next("update_harness", "no permission")
        await client.call("update_harness", **name, maxTokens=5)
        assert (await status_of(client, name), await endpoint_of(client, name)) == ("UPDATING", "READY")
        await trio.sleep(6)
        assert (await status_of(client, name), await endpoint_of(client, name)) == ("UPDATE_FAILED", "READY")
        _, body = await client.call("list_harness_versions", **name)
        assert [(each["harnessVersion"], each["status"]) for each in body["harnessVersions"]] == [("1", "READY")]
        _, body = await client.call("get_harness", **name, harnessVersion="1")
        assert (body["harness"]["status"], "failureReason" in body["harness"]) == ("READY", False)


async def test_each_version_has_a_status_of_its_own(aws: Any, autojump_clock: MockClock) -> None:
    async with aws(lifecycle={"update": 5}) as client:
        client.simulator.fail_next("create_harness", "no permission")
        name = await create(client)
        _, body = await client.call("list_harness_versions", **name)
        (failed,) = body["harnessVersions"]
        assert (failed["status"], failed["failureReason"]) == ("CREATE_FAILED", "no permission")
        _, body = await client.call("list_harnesses")
        assert [("failureReason" in each, each["status"]) for each in body["harnesses"]] == [
            (False, "READY"),
            (False, "CREATE_FAILED"),
        ]
        name = {"harnessId": client.simulator.harness_id}
        await client.call("update_harness", **name, maxTokens=5)
        for seconds, expected in ((0, ["UPDATING", "READY"]), (6, ["READY", "READY"])):
            await trio.sleep(seconds)
            _, body = await client.call("list_harness_versions", **name)
            assert [each["status"] for each in body["harnessVersions"]] == expected
            _, body = await client.call("get_harness", **name, harnessVersion="1")
            assert body["harness"]["status"] == "READY"


async def test_an_update_keeps_the_members_of_the_environment_that_it_does_not_name(aws: Any) -> None:
    lifetimes = {"idleRuntimeSessionTimeout": 60, "maxLifetime": 100}
    mounts = [{"sessionStorage": {"mountPath": "/mnt/data"}}]
    given = {"lifecycleConfiguration": lifetimes, "filesystemConfigurations": mounts}
    async with aws(harness={"environment": {"agentCoreRuntimeEnvironment": given}}) as client:
        for change in ({"agentCoreRuntimeEnvironment": {"filesystemConfigurations": []}}, {}):
            _, body = await client.call(
                "update_harness",
                options={"validate": False},
                harnessId=client.simulator.harness_id,
                environment=change,
            )
            environment = body["harness"]["environment"]["agentCoreRuntimeEnvironment"]
            assert (environment["lifecycleConfiguration"], environment["filesystemConfigurations"]) == (lifetimes, [])


async def test_a_harness_can_be_deleted_while_it_is_being_made(aws: Any, autojump_clock: MockClock) -> None:
    async with aws(lifecycle={"create": 11, "delete": 5}) as client:
        name = await create(client)
        assert (await client.call("delete_harness", **name))[1]["harness"]["status"] == "DELETING"
        await trio.sleep(6)
        assert await status_of(client, name) == 404


async def test_a_page_goes_on_where_a_row_was_that_is_gone(aws: Any) -> None:
    async with aws() as client:
        made = [await create(client, f"h{n}") for n in range(4)]
        _, page = await client.call("list_harnesses", maxResults=2)
        assert [row["harnessName"] for row in page["harnesses"]] == ["simulated_harness", "h0"]
        for gone in (made[0], made[1]):
            await client.call("delete_harness", **gone)
        await create(client, "later")
        _, rest = await client.call("list_harnesses", nextToken=page["nextToken"])
        assert [row["harnessName"] for row in rest["harnesses"]] == ["h2", "h3", "later"]
        for gone in ({"harnessId": client.simulator.harness_id}, made[2], made[3]):
            await client.call("delete_harness", **gone)
        assert (await client.call("list_harnesses", nextToken=page["nextToken"]))[0] == 200
        name = made[2] | (await create(client, "another"))
        await client.call("create_harness_endpoint", **name, endpointName="prod")
        for foreign in ("list_harness_versions", "list_harness_endpoints"):
            status, body = await client.call(foreign, **name, nextToken=page["nextToken"])
            assert (status, "nextToken" in body["message"]) == (400, True)


async def test_a_version_that_is_made_meanwhile_is_on_no_later_page(aws: Any) -> None:
    async with aws() as client:
        name = {"harnessId": client.simulator.harness_id}
        for tokens in (1, 2):
            await client.call("update_harness", **name, maxTokens=tokens)
        _, page = await client.call("list_harness_versions", **name, maxResults=1)
        await client.call("update_harness", **name, maxTokens=3)
        _, rest = await client.call("list_harness_versions", **name, nextToken=page["nextToken"])
        assert [row["harnessVersion"] for row in rest["harnessVersions"]] == ["2", "1"]


async def test_an_endpoint_has_tags_of_its_own(aws: Any) -> None:
    async with aws(harness={"tags": {"team": "a"}}) as client:
        name = {"harnessId": client.simulator.harness_id}
        _, body = await client.call("create_harness_endpoint", **name, endpointName="prod", tags={"stage": "live"})
        arn = {"resourceArn": body["endpoint"]["arn"]}
        await client.call("tag_resource", **arn, tags={"more": "1"})
        assert (await client.call("list_tags_for_resource", **arn))[1] == {"tags": {"stage": "live", "more": "1"}}
        of_harness = await client.call("list_tags_for_resource", resourceArn=client.simulator.harness_arn)
        assert of_harness[1] == {"tags": {"team": "a"}}
        await client.call("delete_harness_endpoint", **name, endpointName="prod")
        assert (await client.call("list_tags_for_resource", **arn))[0] == 404


async def test_a_resource_has_so_many_tags_and_no_more(aws: Any) -> None:
    async with aws() as client:
        arn = {"resourceArn": client.simulator.harness_arn}
        assert (await client.call("tag_resource", **arn, tags={f"k{n}": "1" for n in range(50)}))[0] == 204
        status, body = await client.call("tag_resource", **arn, tags={"k1": "2", "one-more": "1"})
        assert (status, "at most 50" in body["message"]) == (402, True)
        assert (await client.call("tag_resource", **arn, tags={"k1": "2"}))[0] == 204
        _, body = await client.call("list_tags_for_resource", **arn)
        assert (len(body["tags"]), body["tags"]["k1"]) == (50, "2")


async def test_a_token_is_remembered_when_what_it_made_is_gone(aws: Any) -> None:
    async with aws() as client:
        token = {"clientToken": "t" * 40}
        name = await create(client, **token)
        await client.call("delete_harness", **name)
        assert (await create(client, **token), await status_of(client, name)) == (name, 404)


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
        ("update_harness", {"harnessId": "{id}", "tools": [inline(), inline()]}, 400, "used twice"),
        ("update_harness", {"harnessId": "{id}", "tools": [{"type": "inline_function"}]}, 400, "inlineFunction"),
        (
            "update_harness",
            {"harnessId": "{id}", "tools": [{**inline(), "config": {"remoteMcp": {"url": "https://a"}}}]},
            400,
            "inlineFunction",
        ),
        ("update_harness", {"harnessId": "{id}", "tools": [{"type": "remote_mcp"}]}, 400, "remoteMcp"),
        ("update_harness", {"harnessId": "{id}", "maxTokens": 1 << 31}, 400, "of type integer"),
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


async def test_unknown_members_are_dropped_silently(aws: Any) -> None:
    body = {"harnessName": "a", "executionRoleArn": ROLE, "memory": {"memoryArn": "x"}, "a": 1}
    async with aws() as client:
        status, answered = await send(client, "POST", "/harnesses", json.dumps(body).encode())
        assert (status, answered["harness"]["memory"], "a" in answered["harness"]) == (201, {}, False)


@pytest.mark.parametrize(
    ("body", "reason", "message"),
    [
        (b"{", "CannotParse", "not valid JSON"),
        (b"[1]", "CannotParse", "must be a JSON object"),
        (b'{"systemPrompt": "bare"}', "FieldValidationFailed", "'systemPrompt' failed to satisfy constraint"),
        (b'{"maxIterations": true}', "FieldValidationFailed", "must be of type integer"),
        (b'{"maxIterations": 2147483648}', "FieldValidationFailed", "must be of type integer"),
        (b'{"maxIterations": -2147483649}', "FieldValidationFailed", "must be of type integer"),
        (b'{"model": {"bedrockModelConfig": {"modelId": "x", "temperature": NaN}}}', "CannotParse", "not valid JSON"),
        (b'{"model": {"bedrockModelConfig": {"modelId": "x", "topP": 1e999}}}', "CannotParse", "not valid JSON"),
        (b"[" * 100_000, "CannotParse", "not valid JSON"),
        (b'{"tools": ' + b"[" * 100 + b"]" * 100 + b"}", "CannotParse", "not valid JSON"),
    ],
)
async def test_a_body_of_another_form_is_refused(aws: Any, body: bytes, reason: str, message: str) -> None:
    async with aws() as client:
        status, answered = await send(client, "POST", "/harnesses", body)
        assert (status, answered["reason"], message in answered["message"]) == (400, reason, True)


async def test_unnamed_tools_are_named_by_their_types_and_places(aws: Any) -> None:
    unnamed = {key: value for key, value in inline().items() if key != "name"}
    async with aws() as client:
        tools = [{"type": "agentcore_browser"}, unnamed, {"type": "agentcore_code_interpreter"}]
        _, body = await client.call("update_harness", harnessId=client.simulator.harness_id, tools=tools)
        named = [tool["name"] for tool in body["harness"]["tools"]]
        assert named == ["browser_0", "inline_function_1", "code_interpreter_2"]


@pytest.mark.parametrize(
    ("harness", "words"),
    [
        ({"maxIterations": 0}, "at least 1"),
        ({"tools": [inline(), inline()]}, "used twice"),
        ({"harnessName": "with-hyphen"}, "regular expression"),
        ({"tools": {1, 2}}, "not JSON serializable"),
    ],
)
async def test_the_first_harness_is_one_that_the_service_would_take(aws: Any, harness: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"harness=.*{words}"):
        async with aws(harness=harness):
            pass


async def test_there_is_nothing_at_other_paths(aws: Any) -> None:
    async with aws() as client:
        assert (await send(client, "POST", "/agents", b"{}"))[0] == 404
