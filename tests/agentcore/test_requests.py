"""Every operation's request is the one boto3 sends for the same parameters, and its signature is over what was sent."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import botocore.loaders
import botocore.session
import pytest
from botocore.model import ServiceModel

from managed_agents_actors.agentcore import AgentCoreClient
from managed_agents_actors.agentcore._hosts import default_url
from managed_agents_actors.testing._aws_frames import event_frame

from ._wire import (
    BASE_URL,
    HARNESS_ARN,
    HARNESS_ID,
    MESSAGES,
    REGION,
    ROLE_ARN,
    SESSION_ID,
    TOKEN,
    client_of,
    open_wire,
    recomputed_signature,
    sends,
    sent_by_boto3,
    target_of,
)

DATA, CONTROL = "bedrock-agentcore", "bedrock-agentcore-control"

HARNESS: dict[str, Any] = {
    "executionRoleArn": ROLE_ARN,
    "clientToken": TOKEN,
    "model": {"bedrockModelConfig": {"modelId": "us.anthropic.claude", "temperature": 0.5, "maxTokens": 1000}},
    "systemPrompt": [{"text": "Be kind. \u2028 ünïcode"}],
    "tools": [
        {
            "type": "inline_function",
            "name": "look_up",
            "config": {
                "inlineFunction": {
                    "description": "Finds.",
                    "inputSchema": {
                        "type": "object",
                        "properties": {"q": {"type": ["string", "null"], "default": None}},
                    },
                }
            },
        },
        {
            "type": "remote_mcp",
            "name": "docs",
            "config": {"remoteMcp": {"url": "https://mcp.example", "headers": {"Authorization": "Bearer mcp-secret"}}},
        },
    ],
    "allowedTools": ["@builtin", "look_up"],
    "environmentVariables": {"A": "", "B": "2"},
    "truncation": {"strategy": "sliding_window", "config": {"slidingWindow": {"messagesCount": 20}}},
    "maxIterations": 5,
}

CASES: list[tuple[str, str, dict[str, Any]]] = [
    (CONTROL, "create_harness", {"harnessName": "support_bot", "tags": {"a b": "c/d=e"}, **HARNESS}),
    (CONTROL, "get_harness", {"harnessId": HARNESS_ID}),
    (CONTROL, "get_harness", {"harnessId": HARNESS_ID, "harnessVersion": "12"}),
    (CONTROL, "list_harnesses", {}),
    (CONTROL, "list_harnesses", {"maxResults": 100, "nextToken": "a/b+c=&d%20~é*'()!"}),
    (CONTROL, "update_harness", {"harnessId": HARNESS_ID, "memory": {"optionalValue": {"disabled": {}}}, **HARNESS}),
    (CONTROL, "delete_harness", {"harnessId": HARNESS_ID, "clientToken": TOKEN, "deleteManagedMemory": False}),
    (CONTROL, "list_harness_versions", {"harnessId": HARNESS_ID, "maxResults": 1}),
    (
        CONTROL,
        "create_harness_endpoint",
        {"harnessId": HARNESS_ID, "endpointName": "prod", "targetVersion": "3", "clientToken": TOKEN},
    ),
    (CONTROL, "get_harness_endpoint", {"harnessId": HARNESS_ID, "endpointName": "DEFAULT"}),
    (CONTROL, "list_harness_endpoints", {"harnessId": HARNESS_ID, "nextToken": "x"}),
    (
        CONTROL,
        "update_harness_endpoint",
        {"harnessId": HARNESS_ID, "endpointName": "prod", "description": "d", "clientToken": TOKEN},
    ),
    (CONTROL, "delete_harness_endpoint", {"harnessId": HARNESS_ID, "endpointName": "prod", "clientToken": TOKEN}),
    (
        DATA,
        "stop_runtime_session",
        {"agentRuntimeArn": HARNESS_ARN, "runtimeSessionId": SESSION_ID, "qualifier": "prod", "clientToken": TOKEN},
    ),
    (
        DATA,
        "invoke_harness",
        {"harnessArn": HARNESS_ARN, "runtimeSessionId": SESSION_ID, "messages": MESSAGES, "actorId": "a/b:c"},
    ),
    (
        DATA,
        "invoke_harness",
        {
            "harnessArn": HARNESS_ARN,
            "qualifier": "prod",
            "runtimeSessionId": SESSION_ID,
            "runtimeUserId": "user  17",
            "traceId": "Root=1-5759e988-bd862e3fe1be46a994272793",
            "traceParent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "traceState": "a=b",
            "baggage": "c=d",
            "messages": [
                {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t1", "name": "n", "input": {}}}]},
                {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "r"}]}}]},
                {"role": "assistant", "content": [{"reasoningContent": {"redactedContent": b"\0\xff"}}]},
            ],
            "timeoutSeconds": 60,
        },
    ),
    (
        DATA,
        "invoke_agent_runtime_command",
        {
            "agentRuntimeArn": HARNESS_ARN,
            "runtimeSessionId": SESSION_ID,
            "accept": "application/vnd.amazon.eventstream",
            "accountId": "123456789012",
            "body": {"command": "ls -l | grep 'ä'", "timeout": 60},
        },
    ),
]


async def send(client: AgentCoreClient, method: str, parameters: dict[str, Any]) -> Any:
    call = getattr(client, method)(**parameters)
    if not method.startswith("invoke"):
        return await call
    async with call as stream:
        return [event async for event in stream]


@pytest.mark.parametrize("base", [BASE_URL, "http://api.test:8080/a/prefix"])
@pytest.mark.parametrize(("service", "method", "parameters"), CASES, ids=[case[1] for case in CASES])
async def test_a_request_is_boto3s_and_its_signature_is_over_what_was_sent(
    reply: Any, service: str, method: str, parameters: dict[str, Any], base: str
) -> None:
    expected = sent_by_boto3(service, method, parameters, base)
    streams = method.startswith("invoke")
    async with open_wire() as wire:
        wire.replies = [sends(end=True) if streams else reply()]
        await send(client_of(wire, endpoint_url=base), method, parameters)
    [request] = wire.requests
    verb, target, _ = request.line.split(" ")
    assert (verb, target_of(target)) == (expected.method, target_of(expected.url))
    assert request.body == (expected.body or b"")
    theirs = {name.lower(): _text(value) for name, value in expected.headers.items()}
    ignored = {"user-agent", "amz-sdk-invocation-id", "amz-sdk-request", "authorization", "x-amz-date"}
    ignored |= set() if request.body else {"content-length"}  # HTTP wants none where there is no body
    assert {name: value for name, value in theirs.items() if name not in ignored}.items() <= request.headers.items()
    ours = request.headers.keys() - theirs.keys()
    assert ours <= {"host", "accept", "accept-encoding", "content-length"}
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["authorization"] == recomputed_signature(request)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def test_every_operation_on_harnesses_is_covered() -> None:
    """A new one in botocore's models is a task for this client."""
    loader = botocore.loaders.create_loader()
    names: set[str] = set()
    for service in (DATA, CONTROL):
        model = ServiceModel(loader.load_service_model(service, "service-2"))
        names |= {botocore.xform_name(name) for name in model.operation_names}
    known = {method for _, method, _ in CASES}
    assert {name for name in names if "harness" in name} <= known
    assert known <= names


def test_the_hosts_are_those_of_the_endpoint_rules() -> None:
    resolve = botocore.session.get_session().create_client
    data = botocore.loaders.create_loader().load_data("partitions")
    regions = {min(partition["regions"], key=len) for partition in data["partitions"]} | {"us-east-1", REGION}
    for region in sorted(regions - {"aws-global", "aws-cn-global"}):
        for service in (DATA, CONTROL):
            client = resolve(service, region_name=region, aws_access_key_id="a", aws_secret_access_key="b")
            assert default_url(service, region) == client.meta.endpoint_url


async def test_each_plane_is_asked_at_its_own_place(reply: Any) -> None:
    async with open_wire() as wire:
        client = client_of(wire, endpoint_url="http://data.test", control_endpoint_url="http://control.test")
        wire.replies = [reply(), reply()]
        await client.list_harnesses()
        await client.stop_runtime_session(agentRuntimeArn=HARNESS_ARN, runtimeSessionId=SESSION_ID)
    assert [request.headers["host"] for request in wire.requests] == ["control.test", "data.test"]


async def test_tokens_are_made_where_they_are_not_given(reply: Any) -> None:
    async with open_wire() as wire:
        client = client_of(wire)
        wire.replies = [reply(), reply(), reply(), sends(end=True)]
        for _ in range(2):
            await client.create_harness(harnessName="a", executionRoleArn=ROLE_ARN)
        await client.delete_harness(harnessId=HARNESS_ID)
        await send(client, "invoke_agent_runtime_command", {"agentRuntimeArn": HARNESS_ARN, "body": {"command": "x"}})
    tokens = [json.loads(request.body)["clientToken"] for request in wire.requests[:2]]
    tokens.append(wire.requests[2].line.split("clientToken=")[1].split(" ")[0])
    tokens.append(wire.requests[3].headers["x-amzn-bedrock-agentcore-runtime-session-id"])
    assert {len(token) for token in tokens} == {36}
    assert len(set(tokens)) == 4


async def test_an_answer_is_boto3s_without_its_metadata(reply: Any) -> None:
    harness = {"harnessId": HARNESS_ID, "createdAt": "2026-01-31T12:00:00Z", "memory": {}, "somethingNew": 1}
    headers = [("x-amzn-bedrock-agentcore-runtime-session-id", SESSION_ID)]
    async with open_wire() as wire:
        client = client_of(wire)
        wire.replies = [reply(json.dumps({"harness": harness})), reply("", headers=headers)]
        answer = await client.get_harness(harnessId=HARNESS_ID)
        stopped = await client.stop_runtime_session(agentRuntimeArn=HARNESS_ARN, runtimeSessionId=SESSION_ID)
    assert answer["harness"].pop("createdAt").isoformat() == "2026-01-31T12:00:00+00:00"
    assert answer == {"harness": {"harnessId": HARNESS_ID, "memory": {}}}
    assert stopped == {"runtimeSessionId": SESSION_ID, "statusCode": 200}


async def test_a_large_request_is_encoded_and_signed_in_a_thread(reply: Any) -> None:
    messages = [{"role": "user", "content": [{"text": "x" * 10_000}]}] * 30
    async with open_wire() as wire:
        wire.replies = [sends(event_frame("messageStop", {"stopReason": "end_turn"}), end=True)]
        parameters = {"harnessArn": HARNESS_ARN, "runtimeSessionId": SESSION_ID, "messages": messages}
        [event] = await send(client_of(wire), "invoke_harness", parameters)
    assert event["messageStop"] == {"stopReason": "end_turn"}
    assert json.loads(wire.requests[0].body) == {"messages": messages}
    assert wire.requests[0].headers["authorization"] == recomputed_signature(wire.requests[0])


def test_importing_the_package_does_not_import_botocore() -> None:
    program = (
        "import sys, managed_agents_actors.agentcore as a; a.AgentCoreClient('us-east-1', ('a', 'b'));"
        "print(*sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {name for name in run.stdout.split() if name.partition(".")[0] in {"botocore", "boto3"}}
    assert "managed_agents_actors.agentcore._loading" in run.stdout.split()


def test_the_first_call_loads_botocore_in_a_thread() -> None:
    """In a process of its own: here it is loaded."""
    program = """
import sys, threading, trio
from managed_agents_actors import ConfigurationError
from managed_agents_actors.agentcore import AgentCoreClient
import importlib.abc
class Watch(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *rest):
        if name == "botocore.model":
            print("main" if threading.current_thread() is threading.main_thread() else "thread")
sys.meta_path.insert(0, Watch())
async def main():
    async with AgentCoreClient("us-east-1", ("a", "b")) as client, trio.open_nursery() as nursery:
        async def call():
            try: await client.get_harness()
            except ConfigurationError: print("refused")
        for _ in range(3): nursery.start_soon(call)
trio.run(main)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["thread", "refused", "refused", "refused"]
