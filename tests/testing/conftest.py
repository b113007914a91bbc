"""Shared by the tests of the simulators: the official SDK, and an HTTP client spoken by hand."""

from __future__ import annotations

import functools
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlsplit

import anthropic
import boto3
import botocore.session
import h11
import pytest
import trio
from botocore.auth import SigV4Auth
from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.config import Config
from botocore.eventstream import EventStreamBuffer
from botocore.model import ServiceModel
from botocore.serialize import create_serializer

from managed_agents_actors.testing import (
    AgentCoreSimulator,
    ClaudeSimulator,
    Fault,
    FaultPlan,
    WireServer,
    open_agentcore_simulator,
    open_claude_simulator,
)

HEADERS = {
    "host": "simulator.test",
    "x-api-key": "test-key",
    "anthropic-version": "2023-06-01",
    "anthropic-beta": "managed-agents-2026-04-01",
}


class RawClient:
    """One connection, spoken to in HTTP/1.1 by hand."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.wire = h11.Connection(h11.CLIENT)
        self.buffer = b""

    async def next_event(self) -> Any:
        while (event := self.wire.next_event()) is h11.NEED_DATA:
            self.wire.receive_data(bytes(await self.stream.receive_some(65536)))
        return event

    async def start(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> h11.Response:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {**HEADERS, "content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
        kept = [(name, value) for name, value in lines.items() if value != "<absent>"]
        await self.stream.send_all(
            (self.wire.send(h11.Request(method=method, target=target, headers=kept)) or b"")
            + (self.wire.send(h11.Data(data=data)) or b"")
            + (self.wire.send(h11.EndOfMessage()) or b"")
        )
        head = await self.next_event()
        if not isinstance(head, h11.Response):
            raise ConnectionError(f"no answer: {head!r}")
        return head

    async def request(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        head = await self.start(method, target, body, headers)
        content = b""
        while isinstance(part := await self.next_event(), h11.Data):
            content += part.data
        if not isinstance(part, h11.EndOfMessage):
            raise ConnectionError(f"cut off: {part!r}")
        self.wire.start_next_cycle()
        kind = dict(head.headers).get(b"content-type", b"")
        return head.status_code, json.loads(content) if kind == b"application/json" else content

    async def next_frame(self) -> tuple[str, bytes] | None:
        """The next frame of a stream that was started, as name and data; ``None`` at its clean end."""
        while b"\n\n" not in self.buffer:
            part = await self.next_event()
            if isinstance(part, h11.EndOfMessage):
                return None
            if not isinstance(part, h11.Data):
                raise ConnectionError(f"cut off: {part!r}")
            self.buffer += part.data
        frame, _, self.buffer = self.buffer.partition(b"\n\n")
        name, _, data = frame.partition(b"\n")
        return name.removeprefix(b"event: ").decode(), data.removeprefix(b"data: ")

    async def names(self) -> list[str]:
        """The names of all frames up to the clean end."""
        names = []
        while (frame := await self.next_frame()) is not None:
            names.append(frame[0])
        return names

    async def events_until(self, event_type: str) -> list[dict[str, Any]]:
        """The events of a stream that was started, up to the first of this type."""
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["type"] != event_type:
            frame = await self.next_frame()
            if frame is None:
                raise ConnectionError(f"the stream ended before {event_type}")
            if frame[0] != "ping":
                seen.append(json.loads(frame[1]))
                assert frame[0] == seen[-1]["type"]
        return seen


Server = ClaudeSimulator | AgentCoreSimulator | WireServer
Connect = Callable[[Server], AbstractAsyncContextManager[RawClient]]


@pytest.fixture
def connect() -> Connect:
    """Opens a raw connection to a server, on whichever transport it runs."""

    @asynccontextmanager
    async def open_raw(server: Server) -> AsyncIterator[RawClient]:
        host, _, port = server.base_url.removeprefix("http://").partition(":")
        stream = (
            await trio.open_tcp_stream(host, int(port))
            if port
            else await server.open_memory_stream("simulator.test", 80)
        )
        try:
            yield RawClient(stream)
        finally:
            await trio.aclose_forcefully(stream)

    return open_raw


@pytest.fixture
def sdk() -> Callable[[ClaudeSimulator], anthropic.AsyncAnthropic]:
    """The official SDK's client of a simulator; use it as an async context manager."""

    def make(simulator: ClaudeSimulator) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(api_key=simulator.api_key, base_url=simulator.base_url, max_retries=0)

    return make


@pytest.fixture
def start(connect: Connect) -> Callable[..., Any]:
    """Creates a session over a raw connection and gives its id."""

    async def create(client: RawClient, simulator: ClaudeSimulator, **fields: Any) -> str:
        body = {"agent": simulator.agent_id, "environment_id": simulator.environment_id, **fields}
        status, session = await client.request("POST", "/v1/sessions", body)
        assert status == 200, session
        return str(session["id"])

    return create


@pytest.fixture
def message() -> Callable[[str], dict[str, Any]]:
    """A user message event."""
    return lambda text: {"type": "user.message", "content": [{"type": "text", "text": text}]}


# No watched session lasts longer, in virtual seconds: a test that hangs fails instead.
PATIENCE = 10_000.0


@dataclass
class Watched:
    """A session, a raw client that sends to it, and a raw client that listens to it."""

    simulator: ClaudeSimulator
    client: Any
    listener: Any
    session_id: str
    message: Callable[[str], dict[str, Any]]

    @property
    def path(self) -> str:
        return f"/v1/sessions/{self.session_id}/events"

    async def send(self, text: str = "go") -> tuple[int, Any]:
        status, body = await self.client.request("POST", self.path, {"events": [self.message(text)]})
        return status, body

    async def list(self, query: str = "") -> tuple[int, Any]:
        status, body = await self.client.request("GET", f"{self.path}{query}")
        return status, body

    async def listen(self) -> None:
        head = await self.listener.start("GET", f"{self.path}/stream")
        assert head.status_code == 200

    async def emit(self, *types: str) -> None:
        for kind in types:
            await self.simulator.emit(self.session_id, {"type": kind})

    async def hear(self, count: int) -> list[str]:
        return [(await self.listener.next_frame())[0] for _ in range(count)]


Watch = Callable[..., AbstractAsyncContextManager[Watched]]


@pytest.fixture
def watch(connect: Any, start: Any, message: Any) -> Watch:
    """`async with watch(Fault(...), script=...)`: a fresh session of a simulator with this plan."""

    @asynccontextmanager
    async def open_watched(
        *faults: Fault, transport: Literal["loopback", "memory"] = "memory", script: Any = None
    ) -> AsyncIterator[Watched]:
        async with (
            open_claude_simulator(script, faults=FaultPlan(faults), transport=transport) as simulator,
            connect(simulator) as client,
            connect(simulator) as listener,
        ):
            with trio.fail_after(PATIENCE):
                yield Watched(simulator, client, listener, await start(client, simulator), message)

    return open_watched


# A session id as clients choose them: at least 33 characters.
SESSION = "session-of-the-tests-0000000000000000"
AWS_SERVICES = ("bedrock-agentcore", "bedrock-agentcore-control")


@functools.cache
def aws_operation(name: str) -> Any:
    """botocore's model of an operation, by its name in snake case."""
    loader = botocore.session.Session().get_component("data_loader")
    models = [ServiceModel(loader.load_service_model(service, "service-2"), service) for service in AWS_SERVICES]
    camel = "".join(part.title() for part in name.split("_"))
    return next(model for model in models if camel in model.operation_names).operation_model(camel)


@dataclass
class AwsClient:
    """A raw connection to the AgentCore simulator, for virtual time: botocore writes and signs, and reads frames."""

    simulator: AgentCoreSimulator
    raw: RawClient
    buffer: EventStreamBuffer = field(default_factory=EventStreamBuffer)

    def sign(self, operation: str, params: dict[str, Any], **options: Any) -> tuple[str, str, dict[str, str], bytes]:
        """Method, target, headers and body of a request; validate=False sends what no SDK would."""
        serializer = create_serializer("rest-json", include_validation=options.get("validate", True))
        request_dict = serializer.serialize_to_request(params, aws_operation(operation))
        prepare_request_dict(request_dict, endpoint_url=self.simulator.base_url, context={}, user_agent="tests")
        request = create_request_object(request_dict)
        credentials = options.get("credentials", self.simulator.credentials)
        service, region = options.get("service", "bedrock-agentcore"), options.get("region", self.simulator.region)
        SigV4Auth(credentials, service, region).add_auth(request)
        prepared = request.prepare()
        url = urlsplit(prepared.url)
        target = url.path + (f"?{url.query}" if url.query else "")
        headers = {"host": url.netloc, **{name.lower(): _text(value) for name, value in prepared.headers.items()}}
        body = prepared.body or b""
        return prepared.method, target, headers, body if isinstance(body, bytes) else body.encode()

    async def start(self, operation: str, *, options: dict[str, Any] | None = None, **params: Any) -> h11.Response:
        """Send a request and give the head of its answer."""
        method, target, headers, body = self.sign(operation, params, **(options or {}))
        return await self.raw.start(method, target, body, headers)

    async def call(self, operation: str, *, options: dict[str, Any] | None = None, **params: Any) -> tuple[int, Any]:
        """Status and JSON of an answer."""
        head = await self.start(operation, options=options, **params)
        content = b""
        while isinstance(part := await self.raw.next_event(), h11.Data):
            content += part.data
        if not isinstance(part, h11.EndOfMessage):
            raise ConnectionError(f"cut off: {part!r}")
        self.raw.wire.start_next_cycle()
        return head.status_code, json.loads(content) if content else None

    async def invoke(self, *messages: Any, **params: Any) -> list[tuple[str, Any]]:
        """Invoke the simulator's harness; text is a user's message. Gives every event by name and payload."""
        await self.begin(*messages, **params)
        return await self.rest()

    async def begin(self, *messages: Any, **params: Any) -> None:
        """Invoke the simulator's harness, and read the head only."""
        given = [user_text(message) if isinstance(message, str) else message for message in messages]
        defaults = {"harnessArn": self.simulator.harness_arn, "runtimeSessionId": SESSION}
        head = await self.start("invoke_harness", **{**defaults, "messages": given, **params})
        assert head.status_code == 200, (await self.raw.next_event()).data
        assert dict(head.headers)[b"content-type"] == b"application/vnd.amazon.eventstream"

    async def rest(self) -> list[tuple[str, Any]]:
        """Every event up to the clean end of the body."""
        events: list[tuple[str, Any]] = []
        while (event := await self.next_event()) is not None:
            events.append(event)
        self.raw.wire.start_next_cycle()
        return events

    async def next_event(self) -> tuple[str, Any] | None:
        """The next event, an exception's name after a "!"; None at the clean end."""
        while (message := next(self.buffer, None)) is None:
            part = await self.raw.next_event()
            if isinstance(part, h11.EndOfMessage):
                return None
            if not isinstance(part, h11.Data):
                raise ConnectionError(f"cut off: {part!r}")
            self.buffer.add_data(bytes(part.data))
        headers = message.headers
        name = headers.get(":event-type") or f"!{headers[':exception-type']}"
        return name, json.loads(message.payload)


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode()


def user_text(text: str) -> dict[str, Any]:
    """A user's message."""
    return {"role": "user", "content": [{"text": text}]}


@pytest.fixture
def aws(connect: Any) -> Callable[..., AbstractAsyncContextManager[AwsClient]]:
    """`async with aws(script, **options)`: a connection to a simulator in memory; `.simulator` is the simulator."""

    @asynccontextmanager
    async def open_aws(script: Any = None, **options: Any) -> AsyncIterator[AwsClient]:
        async with (
            open_agentcore_simulator(script, **{"transport": "memory", **options}) as simulator,
            connect(simulator) as raw,
        ):
            with trio.fail_after(PATIENCE * 10):
                yield AwsClient(simulator, raw)

    return open_aws


@dataclass
class Boto:
    """boto3's clients of both planes; call them in threads."""

    data: Any
    control: Any


@pytest.fixture
def boto() -> Iterator[Callable[..., Boto]]:
    """Makes boto3's clients of a simulator."""
    made: list[Any] = []

    def make(simulator: AgentCoreSimulator, credentials: Any = None) -> Boto:
        keys = credentials or simulator.credentials
        session = boto3.Session(
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            aws_session_token=keys.token,
            region_name=simulator.region,
        )
        config = Config(retries={"total_max_attempts": 1}, read_timeout=20)
        clients = [session.client(name, endpoint_url=simulator.base_url, config=config) for name in AWS_SERVICES]
        made.extend(clients)
        return Boto(*clients)

    yield make
    for client in made:
        client.close()
