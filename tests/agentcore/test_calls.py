"""What becomes of a call: answers, refusals by AWS's codes, repetitions signed anew, pages. Time is virtual."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from botocore.credentials import Credentials

from managed_agents_actors import _errors as errors
from managed_agents_actors.agentcore import AgentCoreClient, _harnesses

from ._wire import (
    HARNESS_ARN,
    HARNESS_ID,
    KEYS,
    MESSAGES,
    ROLE_ARN,
    SESSION_ID,
    client_of,
    open_wire,
    recomputed_signature,
    sends,
)

Make = Callable[..., bytes]
Act = Callable[[AgentCoreClient], Awaitable[Any]]

STOP: dict[str, Any] = {"agentRuntimeArn": HARNESS_ARN, "runtimeSessionId": SESSION_ID}
CALLS: dict[str, Act] = {
    "get": lambda client: client.get_harness(harnessId=HARNESS_ID),
    "create": lambda client: client.create_harness(harnessName="a", executionRoleArn=ROLE_ARN),
    "update": lambda client: client.update_harness(harnessId=HARNESS_ID),
    "delete": lambda client: client.delete_harness(harnessId=HARNESS_ID),
    "stop": lambda client: client.stop_runtime_session(**STOP),
}

CODES = [
    (400, "ValidationException", errors.InvalidRequestError),
    (401, "UnauthorizedException", errors.AuthenticationError),
    (402, "ServiceQuotaExceededException", errors.InvalidRequestError),
    (403, "AccessDeniedException", errors.PermissionDeniedError),
    (403, "ExpiredTokenException", errors.AuthenticationError),
    (403, "UnrecognizedClientException", errors.AuthenticationError),
    (404, "ResourceNotFoundException", errors.NotFoundError),
    (409, "ConflictException", errors.ConflictError),
    (424, "RuntimeClientError", errors.ServerError),
]


@pytest.mark.parametrize(("status", "code", "kind"), CODES)
@pytest.mark.parametrize("place", ["header", "header with address", "__type", "code"])
async def test_a_refusal_has_awss_code(reply: Make, status: int, code: str, kind: type, place: str) -> None:
    headers = [("x-amzn-requestid", "req-1")]
    body: dict[str, Any] = {"Message" if place == "code" else "message": "no", "reason": "r"}
    if place.startswith("header"):
        address = ":http://internal.amazon.com/coral/x/" if "address" in place else ""
        headers.append(("x-amzn-errortype", code + address))
    else:
        body[place] = f"com.amazon.agentcore#{code}" if place == "__type" else code
    async with open_wire() as wire:
        wire.replies = [reply(json.dumps(body), status=status, headers=headers)]
        with pytest.raises(errors.APIError) as caught:
            await client_of(wire).get_harness(harnessId=HARNESS_ID)
    error = caught.value
    assert (type(error), error.status, error.type) == (kind, status, code)
    assert (error.message, error.request_id, error.body) == ("no", "req-1", body)
    assert len(wire.requests) == 1


async def test_a_refusal_without_a_code_is_told_by_its_status(reply: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [reply("<html>gateway</html>", status=403)]
        with pytest.raises(errors.PermissionDeniedError, match="gateway") as caught:
            await client_of(wire).list_harnesses()
    assert caught.value.type == "api_error"


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_is_repeated_with_its_token_and_a_new_signature(
    reply: Make, name: str, autojump_clock: Any
) -> None:
    credentials = Credentials(*KEYS)

    async def rotate_and_fail(peer: Any) -> None:
        credentials.secret_key = "another-secret-key"
        await peer.send(reply(status=503))

    async def lose(peer: Any) -> None:
        await peer.close()

    async with open_wire() as wire:
        wire.replies = [lose, rotate_and_fail, reply()]
        await CALLS[name](client_of(wire, credentials=credentials))
    first, second, third = wire.requests
    assert first.line == second.line == third.line
    assert first.body == second.body == third.body
    for request, secret in ((first, KEYS[1]), (second, KEYS[1]), (third, "another-secret-key")):
        keys = (KEYS[0], secret, KEYS[2])
        assert request.headers["authorization"] == recomputed_signature(request, keys=keys)


@pytest.mark.parametrize(("status", "code"), [(409, "RetryableConflictException"), (429, "ThrottlingException")])
async def test_what_will_do_later_is_repeated(reply: Make, status: int, code: str, autojump_clock: Any) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=status, headers=[("x-amzn-errortype", code)]), reply()]
        await client_of(wire).stop_runtime_session(**STOP)
        wire.replies = [reply(status=status, headers=[("x-amzn-errortype", code)])]
        with pytest.raises(errors.APIError):
            await client_of(wire, max_retries=0).stop_runtime_session(**STOP)
    assert len(wire.requests) == 3


@pytest.mark.parametrize(
    "body", ["<html>", "[]", '{"harness": 5}', '{"harness": {"createdAt": "soon"}}', '{"harness": {"tools": 5}}']
)
async def test_an_answer_of_another_form_is_a_protocol_error(reply: Make, body: str) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(body)]
        with pytest.raises(errors.ProtocolError, match=r"GET /harnesses/") as caught:
            await client_of(wire).get_harness(harnessId=HARNESS_ID)
    assert caught.value.raw == body.encode()


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (lambda client: client.list_all_harnesses(), "GET /harnesses was accepted, but its answer is empty"),
        (
            lambda client: client.list_harness_versions(harnessId=HARNESS_ID),
            f"GET /harnesses/{HARNESS_ID}/versions was",
        ),
        (CALLS["get"], f"GET /harnesses/{HARNESS_ID} was accepted"),
        (CALLS["create"], "POST /harnesses was accepted"),
    ],
)
async def test_an_empty_answer_is_a_protocol_error_where_something_is_required(
    reply: Make, act: Act, what: str
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply("")]
        with pytest.raises(errors.ProtocolError, match=what):
            await act(client_of(wire))


@pytest.mark.parametrize("name", ["delete", "stop"])
async def test_an_empty_answer_is_one_where_nothing_is_required(reply: Make, name: str) -> None:
    async with open_wire() as wire:
        wire.replies = [reply("")]
        answer = await CALLS[name](client_of(wire))
    assert answer in ({}, {"statusCode": 200})


async def test_a_page_without_rows_is_no_empty_page(reply: Make) -> None:
    """Who looks for a name among the rows must not take it for the name's absence."""
    async with open_wire() as wire:
        wire.replies = [reply('{"harnesses": [], "nextToken": "t"}'), reply("{}")]
        with pytest.raises(errors.ProtocolError, match="ListHarnesses answered without harnesses"):
            await client_of(wire).list_all_harnesses()


async def test_a_call_is_bounded(autojump_clock: Any) -> None:
    async def hang(peer: Any) -> None:
        await peer.more()

    async with open_wire() as wire:
        wire.replies = [hang]
        with pytest.raises(errors.TransportError, match="60 s"):
            await client_of(wire).list_harnesses()
    assert trio.current_time() == 60


LISTS = {
    "list_all_harnesses": ("harnesses", {}),
    "list_all_harness_endpoints": ("endpoints", {"harnessId": HARNESS_ID}),
    "list_all_harness_versions": ("harnessVersions", {"harnessId": HARNESS_ID}),
}


@pytest.mark.parametrize("name", LISTS)
async def test_a_listing_is_read_to_its_end(reply: Make, name: str) -> None:
    key, parameters = LISTS[name]
    pages = [
        {key: [{"harnessName": "a"}], "nextToken": "t/1"},
        {key: [], "nextToken": "t2"},
        {key: [{"harnessName": "b"}]},
    ]
    async with open_wire() as wire:
        wire.replies = [reply(json.dumps(page)) for page in pages]
        rows = await getattr(client_of(wire), name)(maxResults=1, **parameters)
    assert rows == [{"harnessName": "a"}, {"harnessName": "b"}]
    queries = [request.line.split("?")[1].split(" ")[0] for request in wire.requests]
    assert queries == ["maxResults=1", "maxResults=1&nextToken=t%2F1", "maxResults=1&nextToken=t2"]


async def test_a_listing_that_goes_round_is_an_error(reply: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(json.dumps({"harnesses": [], "nextToken": token})) for token in "aba"]
        with pytest.raises(errors.ProtocolError, match="same nextToken") as caught:
            await client_of(wire).list_all_harnesses()
    assert caught.value.permanent


async def test_a_listing_that_never_ends_is_an_error(reply: Make) -> None:
    pages = [reply(json.dumps({"harnesses": [], "nextToken": str(n)})) for n in range(_harnesses.MAX_PAGES + 1)]
    async with open_wire() as wire:
        wire.replies = list(pages)
        with pytest.raises(errors.ProtocolError, match="1000 pages"):
            await client_of(wire).list_all_harnesses()
    assert len(wire.requests) == _harnesses.MAX_PAGES


async def read(context: Any) -> list[Any]:
    async with context as stream:
        return [event async for event in stream]


WAITS: dict[str, Act] = {
    **CALLS,
    "list": lambda client: client.list_all_harnesses(),
    "invoke": lambda client: read(
        client.invoke_harness(harnessArn=HARNESS_ARN, runtimeSessionId=SESSION_ID, messages=MESSAGES)
    ),
    "command": lambda client: client.run_command(HARNESS_ARN, SESSION_ID, "ls"),
    "wait for a harness": lambda client: client.wait_until_harness_ready(HARNESS_ID),
    "wait for an endpoint": lambda client: client.wait_until_endpoint_ready(HARNESS_ID),
    "wait for a deletion": lambda client: client.wait_until_harness_deleted(HARNESS_ID),
    "wait for the deletion of an endpoint": lambda client: client.wait_until_endpoint_deleted(HARNESS_ID, "prod"),
}


class CancelledAt:
    """A scope that is cancelled at the nth time the task yields."""

    def __init__(self, count: int) -> None:
        self.scope = trio.CancelScope()
        self.left = count
        self.task: Any = None

    def before_task_step(self, task: Any) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


@pytest.mark.parametrize("name", WAITS)
async def test_it_can_be_cancelled_at_each_await(reply: Make, name: str, autojump_clock: Any) -> None:
    rows = {"harness": {"status": "CREATING"}, "endpoint": {"status": "CREATING"}, "harnesses": []}
    harness = reply(json.dumps(rows))
    streams = name in {"invoke", "command"}
    count, finished = 0, False
    while not finished and count < 60:
        count += 1
        instrument = CancelledAt(count)
        async with open_wire() as wire:
            wire.replies = [sends(end=True)] if streams else [harness] * 500
            async with client_of(wire) as client:
                instrument.task = trio.lowlevel.current_task()
                trio.lowlevel.add_instrument(instrument)
                try:
                    with instrument.scope:
                        await WAITS[name](client)
                except (errors.TruncatedStream, errors.ProvisioningError):
                    pass
                finally:
                    trio.lowlevel.remove_instrument(instrument)
                finished = not instrument.scope.cancelled_caught
                # Whatever was cut short, the client still works.
                wire.replies = [harness]
                await client.get_harness(harnessId=HARNESS_ID)
    assert count > 3


def tool(url: str, **headers: str) -> dict[str, Any]:
    return {"type": "remote_mcp", "config": {"remoteMcp": {"url": url, "headers": headers}}}


def model(**members: Any) -> dict[str, Any]:
    return {"model": {"liteLlmModelConfig": {"modelId": "m", **members}}}


# What a call is given, and what of it must not be shown when the service says it again.
CREDENTIALS: list[tuple[dict[str, Any], list[str]]] = [
    ({"tools": [tool("http://m", Authorization="Bearer mcp-0123456789")]}, ["mcp-0123456789"]),
    ({"tools": [tool("https://me:pw-123@m/x?token=tok-12345&region=us-east-1#frag-12345")]}, ["pw-123", "tok-12345"]),
    ({"tools": [tool("https://m/api/0123456789abcdef01/sse?k=a%2Fb%3D12345")]}, ["0123456789abcdef01", "a/b=12345"]),
    (model(apiBase="https://m/?key=base-12345"), ["base-12345"]),
    (model(additionalParams={"api_key": "sk-123456", "deep": [{"auth": ["hunter"]}]}), ["sk-123456", "hunter"]),
    ({"environmentVariables": {"DB": "pg://u:pw-12345@h", "API_TOKEN": "opensesame"}}, ["pw-12345", "opensesame"]),
]


@pytest.mark.parametrize(("given", "hidden"), CREDENTIALS)
async def test_what_a_harness_connects_with_is_not_shown(reply: Make, given: dict[str, Any], hidden: list[str]) -> None:
    async def echo(peer: Any) -> None:
        said = {"message": f"{wire.requests[-1].body.decode()} {' '.join(hidden)}"}
        await peer.send(reply(json.dumps(said), status=400))

    async with open_wire() as wire:
        wire.replies = [echo]
        with pytest.raises(errors.InvalidRequestError) as caught:
            await client_of(wire).update_harness(harnessId=HARNESS_ID, **given)
    shown = f"{caught.value} {vars(caught.value)}"
    assert "[redacted]" in shown
    for secret in hidden:
        assert secret not in shown


async def test_what_is_no_credential_is_shown(reply: Make) -> None:
    """Short and common values, and whatever people and models write, would be missed in every other error."""
    given = {
        "environmentVariables": {"STAGE": "production", "AWS_REGION": "us-east-1", "LEVEL": "DEBUG", "N": "x9-y8"},
        "tools": [
            tool("https://mcp.example/v1/sse?region=eu-west-1", Accept="application/json"),
            {
                "type": "inline_function",
                "name": "fetch",
                "config": {
                    "inlineFunction": {
                        "description": "d",
                        "inputSchema": {
                            "headers": {"Authorization": "written-by-people-1"},
                            "url": "https://a/?t=b-123456",
                        },
                    }
                },
            },
        ],
    }
    message = "production us-east-1 DEBUG x9-y8 mcp.example v1 eu-west-1 application/json written-by-people-1 b-123456"
    async with open_wire() as wire:
        wire.replies = [reply(json.dumps({"message": message}), status=400)] * 2
        client = client_of(wire)
        with pytest.raises(errors.InvalidRequestError) as caught:
            await client.create_harness(harnessName="a", executionRoleArn=ROLE_ARN, **given)
        assert caught.value.message == message
        call = {"toolUseId": "a", "name": "fetch", "input": {"headers": {"Authorization": "written-by-people-1"}}}
        with pytest.raises(errors.InvalidRequestError) as caught:
            await read(
                client.invoke_harness(
                    harnessArn=HARNESS_ARN,
                    runtimeSessionId=SESSION_ID,
                    messages=[{"role": "assistant", "content": [{"toolUse": call}]}],
                )
            )
        assert caught.value.message == message


async def test_secrets_are_in_no_error_repr_or_log(reply: Make, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    access, secret, token = KEYS
    bearer = "Bearer mcp-0123456789"
    seen: list[str] = []

    async def echo(peer: Any) -> None:
        request = wire.requests[-1]
        canonical = f"{request.headers} {secret} {request.body.decode()}"
        await peer.send(reply(json.dumps({"message": canonical}), status=400))

    tools = [{"type": "remote_mcp", "config": {"remoteMcp": {"url": "http://m", "headers": {"Authorization": bearer}}}}]
    async with open_wire() as wire:
        client = client_of(wire)
        wire.replies = [echo]
        with pytest.raises(errors.InvalidRequestError) as caught:
            await client.update_harness(harnessId=HARNESS_ID, tools=tools)
        seen += [str(caught.value), repr(vars(caught.value)), repr(client), repr(vars(client))]
        wire.replies = [sends(b"\0" * 12 + token.encode())]
        with pytest.raises(errors.ProtocolError) as broken:
            await read(client.invoke_harness(harnessArn=HARNESS_ARN, runtimeSessionId=SESSION_ID, messages=MESSAGES))
        wire.replies = [reply(json.dumps({"harness": {"environmentVariables": {"KEY": bearer}}}))]
        answer = await client.get_harness(harnessId=HARNESS_ID)
        assert answer["harness"]["environmentVariables"]["KEY"] == bearer
        seen += [repr(vars(broken.value)), caplog.text]
    assert access in seen[0]
    signatures = [request.headers["authorization"].rpartition("=")[2] for request in wire.requests]
    for shown in seen:
        for hidden in (secret, token, bearer, *signatures):
            assert hidden not in shown
    assert wire.requests[0].body.decode().count(bearer) == 1
