"""Who may ask the AgentCore simulator: signatures made by botocore, then broken in every way there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

SESSION = "session-of-the-tests-0000000000000000"
ARN = "arn:aws:bedrock-agentcore:us-east-1:123456789012:harness/"
LISTING: tuple[str, dict[str, Any]] = ("list_harnesses", {"maxResults": 7, "nextToken": "a+b/c=&d~e-f_g.é"})


def changed(pattern: str, to: str) -> Callable[[dict[str, str]], None]:
    """Changes the authorization header."""

    def change(headers: dict[str, str]) -> None:
        headers["authorization"] = re.sub(pattern, to, headers["authorization"])

    return change


def put(name: str, value: str) -> Callable[[dict[str, str]], None]:
    return lambda headers: headers.update({name: value})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (put("authorization", "Bearer token"), "MissingAuthenticationTokenException"),
        (put("authorization", "<absent>"), "MissingAuthenticationTokenException"),
        (changed("Signature=.", "Signature=x"), "InvalidSignatureException"),
        (changed(", Signature=.*", ""), "IncompleteSignatureException"),
        (changed("/us-east-1/", "/eu-west-1/"), "InvalidSignatureException"),
        (changed("/bedrock-agentcore/", "/bedrock/"), "InvalidSignatureException"),
        (changed("aws4_request", "aws5_request"), "InvalidSignatureException"),
        (changed("/[0-9]{8}/", "/20000101/"), "InvalidSignatureException"),
        (changed("host;", ""), "InvalidSignatureException"),
        (changed(";x-amz-date", ""), "InvalidSignatureException"),
        (changed(";x-amz-security-token", ""), "InvalidSignatureException"),
        (changed("host;x-amz-date", "x-amz-date;host"), "InvalidSignatureException"),
        (changed("host;", "accept-nothing;host;"), "InvalidSignatureException"),
        (changed("Credential=[^/]*", "Credential=AKIAOFANOTHER"), "UnrecognizedClientException"),
        (put("x-amz-security-token", "another"), "UnrecognizedClientException"),
        (put("x-amz-security-token", "<absent>"), "UnrecognizedClientException"),
        (put("host", "elsewhere.test"), "InvalidSignatureException"),
        (put("x-amz-date", "20260101T000000Z"), "InvalidSignatureException"),
    ],
)
async def test_a_broken_signature_is_refused(aws: Any, change: Any, code: str) -> None:
    async with aws() as client:
        method, target, headers, body = client.sign("list_harnesses", {"maxResults": 7})
        change(headers)
        head = await client.raw.start(method, target, body, headers)
        assert head.status_code == 403
        assert dict(head.headers)[b"x-amzn-errortype"].startswith(f"{code}:".encode())


@pytest.mark.parametrize("part", ["method", "path", "query", "body"])
async def test_nothing_that_was_signed_may_change(aws: Any, part: str) -> None:
    async with aws() as client:
        params = {"harnessName": "x", "executionRoleArn": "arn:aws:iam::123456789012:role/x"}
        operation = ("create_harness", params) if part == "body" else ("list_harnesses", {"maxResults": 7})
        method, target, headers, body = client.sign(*operation)
        match part:
            case "method":
                method = "POST"
            case "path":
                target = target.replace("/harnesses", f"/harnesses/{client.simulator.harness_id}")
            case "query":
                target = target.replace("7", "8")
            case "body":
                body = body.replace(b'"x"', b'"y"')
        status, answered = await client.raw.request(method, target, body, headers)
        assert (status, "does not match" in answered["message"]) == (403, True)


@pytest.mark.parametrize(
    ("operation", "params", "status"),
    [
        (*LISTING, 400),  # signed well, and no token of ours
        ("get_harness", {"harnessId": "nobody-0123456789"}, 404),
        ("delete_harness", {"harnessId": "nobody-0123456789", "deleteManagedMemory": True}, 404),
        (
            "list_tags_for_resource",
            {"resourceArn": f"{ARN}x-1"},
            404,
        ),
        (
            "stop_runtime_session",
            {
                "agentRuntimeArn": f"{ARN}é b",
                "runtimeSessionId": SESSION,
            },
            404,
        ),
    ],
)
@pytest.mark.parametrize("token", ["a/long+token==", None])
async def test_every_form_of_request_is_understood(
    aws: Any, operation: str, params: Any, status: int, token: str | None
) -> None:
    async with aws(credentials=("AKIDEXAMPLE", "secret/+key", token)) as client:
        assert (await client.call(operation, **params))[0] == status


async def test_the_order_of_a_query_does_not_matter(aws: Any) -> None:
    async with aws() as client:
        token = (await client.call("list_harnesses", maxResults=1))[1].get("nextToken", "none")
        method, target, headers, body = client.sign("list_harnesses", {"maxResults": 7, "nextToken": token})
        path, _, query = target.partition("?")
        turned = "&".join(reversed(query.split("&")))
        assert turned != query
        # 400: it was let in, and the token is none of ours.
        assert (await client.raw.request(method, f"{path}?{turned}", body, headers))[0] == 400


async def test_a_signature_is_good_for_its_day(aws: Any) -> None:
    async with aws() as client:
        method, target, headers, body = client.sign("list_harnesses", {})
        changed("/[0-9]{8}/", "/20000101/")(headers)
        status, answered = await client.raw.request(method, target, body, headers)
        assert (status, answered["message"].startswith("Date in Credential scope")) == (403, True)


async def test_the_region_is_the_simulators(aws: Any) -> None:
    async with aws(region="eu-central-1") as client:
        assert (await client.call("list_harnesses"))[0] == 200
        assert (await client.call("list_harnesses", options={"region": "us-east-1"}))[0] == 403
        assert ":eu-central-1:" in client.simulator.harness_arn


async def test_rotated_credentials_have_expired(aws: Any) -> None:
    for token in ("token", None):
        async with aws(credentials=("AKIDEXAMPLE", "secret", token)) as client:
            old = client.simulator.credentials
            client.simulator.rotate_credentials()
            status, body = await client.call("list_harnesses", options={"credentials": old})
            assert (status, "expired" in body["message"]) == (403, True)
            assert (await client.call("list_harnesses"))[0] == 200
            stranger = SimpleNamespace(access_key="AKIDOTHER", secret_key="x", token=None)
            assert (await client.call("list_harnesses", options={"credentials": stranger}))[0] == 403


async def test_secrets_are_not_shown(aws: Any) -> None:
    async with aws(credentials=("AKIDEXAMPLE", "very-secret", "hidden-token")) as client:
        await client.call("list_harnesses")
        shown = f"{client.simulator.credentials!r} {client.simulator.requests!r}"
        assert "AKIDEXAMPLE" in shown
        assert "very-secret" not in shown
        assert "hidden-token" not in shown
