"""Who may ask the AgentCore simulator: signatures made by botocore, then broken in every way there is."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from trio.testing import MockClock

from ._agentcore import SESSION, send

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


async def test_names_of_a_query_are_ordered_before_their_values(aws: Any) -> None:
    async with aws() as client:
        for query in ("a=1&a-b=2", "maxResults=7&maxResults2=6", "a%C3%A9=1&a=2", "a=2&a=10&a=1"):
            assert (await send(client, "GET", f"/harnesses?{query}"))[0] == 200


@pytest.mark.parametrize(
    ("minutes", "message"),
    [
        (-20, "Signature expired: "),
        (-6, "Signature expired: "),
        (-4, None),
        (4, None),
        (6, "Signature not yet current: "),
    ],
)
async def test_a_signature_is_good_for_five_minutes_of_the_worlds_time(
    aws: Any, autojump_clock: MockClock, minutes: int, message: str | None
) -> None:
    async with aws() as client:
        await trio.sleep(50_000)  # of virtual time, which no signer reads
        at = datetime.now(UTC) + timedelta(minutes=minutes)
        headers = sign_at(client, "/harnesses", f"{at:%Y%m%dT%H%M%SZ}")
        status, body = await client.raw.request("GET", "/harnesses", None, headers)
        assert (status, body.get("message", "").startswith(message or "-")) == (
            200 if message is None else 403,
            bool(message),
        )


@pytest.mark.parametrize("date", ["20261399T000000Z", "20260101T999999Z", "2026-01-01T00:00:00Z"])
async def test_a_date_that_is_none_is_refused(aws: Any, date: str) -> None:
    async with aws() as client:
        status, body = await client.raw.request("GET", "/harnesses", None, sign_at(client, "/harnesses", date))
        assert (status, body["message"].startswith("Date in Credential scope")) == (403, True)


def sign_at(client: Any, path: str, date: str) -> dict[str, str]:
    """The headers of a request that was signed at another time."""
    simulator = client.simulator
    request = AWSRequest("GET", simulator.base_url + path)
    request.context["timestamp"] = date
    request.headers["X-Amz-Date"] = date
    request.headers["X-Amz-Security-Token"] = simulator.credentials.token
    signer = SigV4Auth(simulator.credentials, "bedrock-agentcore", simulator.region)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signed = ";".join(sorted(name.lower() for name in signer.headers_to_sign(request)))
    parts = [f"Credential={signer.scope(request)}", f"SignedHeaders={signed}"]
    parts.append(f"Signature={signer.signature(text, request)}")
    request.headers["Authorization"] = f"AWS4-HMAC-SHA256 {', '.join(parts)}"
    return {"content-type": "<absent>"} | {name.lower(): str(value) for name, value in request.headers.items()}


@pytest.mark.parametrize("name", ["x-amz-anything", "x-amz-content-sha256"])
async def test_every_header_of_awss_own_is_signed(aws: Any, name: str) -> None:
    async with aws() as client:
        method, target, headers, body = client.sign("list_harnesses", {})
        headers[name] = sha256(body).hexdigest()
        status, answered = await client.raw.request(method, target, body, headers)
        assert (status, answered["message"]) == (403, f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")


@pytest.mark.parametrize(("told", "status"), [(sha256(b"{}"), 400), (sha256(b"other"), 403), (None, 403)])
async def test_what_is_said_of_a_body_is_so(aws: Any, told: Any, status: int) -> None:
    digest = "UNSIGNED-PAYLOAD" if told is None else told.hexdigest()
    async with aws() as client:
        # 400: it was let in, and names no harness.
        answered, body = await send(client, "POST", "/harnesses", b"{}", x_amz_content_sha256=digest)
        assert (answered, "does not match what was computed" in body["message"]) == (status, status == 403)


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
