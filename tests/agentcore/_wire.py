"""What the tests of this client share: its keys, a byte-level server in memory, what boto3 sends, who signed."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.config
import trio
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.credentials import Credentials

from managed_agents_actors._http.transport import Transport
from managed_agents_actors.agentcore import AgentCoreClient

from ..http.conftest import Peer, Request, Wire

REGION = "eu-central-1"
BASE_URL = "http://api.test"
KEYS = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "IQoJb3JpZ2luX2VjEXAMPLETOKEN//////////wEaCXVz")

HARNESS_ID = "support_bot-A1b2C3d4E5"
HARNESS_ARN = f"arn:aws:bedrock-agentcore:{REGION}:123456789012:harness/{HARNESS_ID}"
SESSION_ID = "session-0123456789-0123456789-0123456789"
ROLE_ARN = "arn:aws:iam::123456789012:role/harness"
TOKEN = "12345678-1234-1234-1234-123456789abc"
MESSAGES = [{"role": "user", "content": [{"text": "Grüße 😀"}]}]

STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def sends(*pieces: bytes, head: bytes = STREAM_HEAD, end: bool = False, close: bool = False) -> Any:
    """A reply: the head of an event stream, the pieces as chunks, then its end, silence, or a closed connection."""

    async def reply(peer: Peer) -> None:
        await peer.send(head)
        for piece in pieces:
            await peer.send(chunk(piece))
        if end:
            await peer.send(END)
        elif close:
            await peer.close()
        else:
            await peer.more()

    return reply


@asynccontextmanager
async def open_wire() -> AsyncIterator[Wire]:
    async with trio.open_nursery() as nursery:
        yield Wire(nursery)
        nursery.cancel_scope.cancel()


def client_of(wire: Wire, **options: Any) -> AgentCoreClient:
    """A client of a scripted server, in memory."""
    options = {
        "region": REGION,
        "credentials": KEYS,
        "endpoint_url": BASE_URL,
        "transport": Transport(open_stream=wire.open_stream),
        **options,
    }
    return AgentCoreClient(**options)


def boto3_client(service: str, url: str) -> Any:
    config = botocore.config.Config(retries={"total_max_attempts": 1})
    access, secret, token = KEYS
    return boto3.client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id=access,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=config,
    )


class Raw(io.BytesIO):
    """A body as urllib3 gives it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


def sent_by_boto3(service: str, method: str, parameters: dict[str, Any], url: str = BASE_URL) -> AWSPreparedRequest:
    """The signed request that boto3 sends for these parameters; nothing leaves the process."""
    caught: list[AWSPreparedRequest] = []

    def catch(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        caught.append(request)
        return AWSResponse(request.url, 200, {}, Raw(b"{}"))

    client = boto3_client(service, url)
    client.meta.events.register("before-send", catch)
    getattr(client, method)(**parameters)
    [request] = caught
    return request


def recomputed_signature(request: Request, *, keys: tuple[str, str, str | None] = KEYS) -> str:
    """The ``authorization`` that botocore itself puts on what was received: the request line, headers and body."""
    method, target, _ = request.line.split(" ")
    scope = request.headers["authorization"].split("Credential=")[1].split(",")[0]
    signed = request.headers["authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
    _, _, region, service, _ = scope.split("/")
    assert (region, service) == (REGION, "bedrock-agentcore")
    again = AWSRequest(
        method=method,
        url=f"http://{request.headers['host']}{target}",
        headers={name: request.headers[name] for name in signed},
        data=request.body,
    )
    again.context["timestamp"] = request.headers["x-amz-date"]
    auth = SigV4Auth(Credentials(*keys), service, region)
    text = auth.string_to_sign(again, auth.canonical_request(again))
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={';'.join(signed)}, Signature=" + auth.signature(
        text, again
    )


def target_of(url: str) -> tuple[str, list[str]]:
    """The raw path and the raw query fields of a URL or a request target."""
    parts = urlsplit(url)
    return parts.path, sorted(parts.query.split("&")) if parts.query else []
