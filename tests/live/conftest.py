"""A server of the Claude Managed Agents API, whichever the environment names, and what the live tests need of it.

MAA_LIVE_BASE_URL      where it is; without it every live test is skipped
MAA_LIVE_API_KEY       its key
MAA_LIVE_AUTH_SCHEME   x-api-key (default) or bearer
MAA_LIVE_MODEL         the model of the agent that is created
"""

from __future__ import annotations

import os
import socket
import struct
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.providers import claude_managed_agents

SYSTEM = (
    "You take part in a test of a client. Do exactly what the message asks, and call the tools it names with exactly"
    " the inputs it names. When it asks for several calls at once, make them in one response, in parallel. Never make a"
    " call that was not asked for, never repeat a call. When all is done, say in one sentence what the tools returned."
)
TOOLS = [
    {
        "type": "custom",
        "name": "lookup",
        "description": "Look up the value that belongs to a key. Quick and safe.",
        "input_schema": {
            "type": "object",
            "properties": {"key": {"type": "string", "description": "The key."}},
            "required": ["key"],
        },
    }
]

# Closing a socket with this set sends a reset instead of an orderly end.
LINGER_NONE = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

# Seconds for one request of a real model; a server under load may take a while.
TIMEOUT = 180.0


class Whim(Exception):
    """The model did something other than what it was asked for; nothing is wrong with the client."""


class Lookup:
    """The handler: gives ``value-of-<key>``, after waiting for ``gate`` if it is told to.

    Attributes:
        gate: Calls wait for it.
        arrived: Set when the first call has arrived.
        all_arrived: Set when three have.
        keys: The keys of the calls, in order of arrival.
        runs: How often each call ran.
        cancelled: Calls that were cancelled while they ran.
    """

    def __init__(self, *, held: bool = False) -> None:
        self.gate = trio.Event()
        if not held:
            self.gate.set()
        self.arrived = trio.Event()
        self.all_arrived = trio.Event()
        self.keys: list[str] = []
        self.runs: Counter[str] = Counter()
        self.cancelled: list[str] = []

    async def __call__(self, name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
        self.runs[context.tool_use_id] += 1
        self.keys.append(str(input.get("key")))
        self.arrived.set()
        if len(self.keys) == 3:
            self.all_arrived.set()
        try:
            await self.gate.wait()
        except trio.Cancelled:
            self.cancelled.append(context.tool_use_id)
            raise
        return f"value-of-{input.get('key')}"


@dataclass(frozen=True, kw_only=True)
class Server:
    """The server under test."""

    base_url: str
    api_key: str = field(repr=False)
    auth_scheme: str
    model: str

    def client(self, **options: Any) -> maa.ClaudeClient:
        return maa.ClaudeClient(self.api_key, self.base_url, auth_scheme=self.auth_scheme, **options)


@pytest.fixture
def server() -> Server:
    """The server that the environment names; skips the test if it names none."""
    base_url = os.environ.get("MAA_LIVE_BASE_URL")
    if not base_url:
        pytest.skip("MAA_LIVE_BASE_URL is not set: no server to test against")
    return Server(
        base_url=base_url,
        api_key=os.environ.get("MAA_LIVE_API_KEY") or "none",
        auth_scheme=os.environ.get("MAA_LIVE_AUTH_SCHEME") or "x-api-key",
        model=os.environ.get("MAA_LIVE_MODEL") or "claude-haiku-5-5",
    )


@pytest.fixture
async def options(server: Server) -> AsyncIterator[dict[str, Any]]:
    """An agent and an environment, as the options of a session."""
    name = f"live-test-{uuid.uuid4().hex[:8]}"
    async with server.client() as client:
        agent = await client.agents.create(name=name, model=server.model, system=SYSTEM, tools=TOOLS)
        environment = await client.environments.create(name=name, config={"type": "cloud"})
        yield {"agent": agent, "environment": environment, "timeout": TIMEOUT}
        # Not every server has these endpoints, and none of them is what is tested.
        with suppress(maa.ManagedAgentsError):
            await client.environments.delete(environment["id"])
        with suppress(maa.ManagedAgentsError):
            await client.agents.archive(agent["id"])


OpenSession = Callable[..., AbstractAsyncContextManager[maa.Session]]


@pytest.fixture
def open_session(server: Server, options: dict[str, Any]) -> OpenSession:
    """Opens a session with a handler; ``transport=`` is the client's."""

    @asynccontextmanager
    async def open_with(handler: Any, *, transport: Any = None) -> AsyncIterator[maa.Session]:
        async with (
            server.client(transport=transport) as client,
            maa.open_session(claude_managed_agents, client=client, handler=handler, **options) as session,
        ):
            yield session

    return open_with


@pytest.fixture
def answers(server: Server) -> Callable[[str], Any]:
    """Counts, from the server's own history, the answers to each custom call of a session."""

    async def count(session_id: str) -> dict[str, int]:
        async with server.client() as client:
            events = await client.sessions.events.list_all(session_id)
        calls = dict.fromkeys((e["id"] for e in events if e["type"] == "agent.custom_tool_use"), 0)
        for event_id in {e["id"] for e in events if e["type"] == "user.custom_tool_result"}:
            answer = next(e for e in events if e["id"] == event_id)
            calls[answer["custom_tool_use_id"]] += 1
        return calls

    return count


class CuttingProxy:
    """A TCP proxy on loopback that can reset what it carries. It knows no HTTP and no TLS: it only moves bytes.

    Attributes:
        port: Where it listens.
        cut_after: Resets a connection once it has carried so many bytes to the client, once.
        cuts: How many connections it has reset.
    """

    def __init__(self, listener: trio.SocketListener, host: str, port: int) -> None:
        self.port: int = listener.socket.getsockname()[1]
        self.cut_after: int | None = None
        self.cuts = 0
        self._target = (host, port)
        self._open: set[trio.SocketStream] = set()

    def cut(self) -> None:
        """Reset every open connection."""
        for client in list(self._open):
            self._reset(client)

    async def serve(self, client: trio.SocketStream) -> None:
        """Carry one connection."""
        self._open.add(client)
        try:
            async with await trio.open_tcp_stream(*self._target) as upstream, trio.open_nursery() as nursery:
                nursery.start_soon(self._carry, client, upstream, nursery.cancel_scope)
                await self._carry_back(upstream, client)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # cut, or left by one of its ends
        finally:
            self._open.discard(client)
            client.socket.close()

    async def _carry(self, source: trio.SocketStream, target: trio.SocketStream, scope: trio.CancelScope) -> None:
        while data := await source.receive_some(65536):
            await target.send_all(data)
        scope.cancel()

    async def _carry_back(self, upstream: trio.SocketStream, client: trio.SocketStream) -> None:
        carried = 0
        while data := await upstream.receive_some(256):
            await client.send_all(data)
            carried += len(data)
            if self.cut_after is not None and carried >= self.cut_after:
                self.cut_after = None
                self._reset(client)

    def _reset(self, client: trio.SocketStream) -> None:
        self.cuts += 1
        self._open.discard(client)
        client.setsockopt(*LINGER_NONE)
        client.socket.close()


class StreamsThrough(httpx.AsyncBaseTransport):
    """Sends event streams through a proxy, and everything else directly."""

    def __init__(self, proxy: CuttingProxy) -> None:
        async def connect(_host: str, _port: int) -> trio.abc.Stream:
            # Below TLS: the client still shakes hands with the real server, through the proxy.
            return await trio.open_tcp_stream("127.0.0.1", proxy.port)

        self._streams = Transport(open_stream=connect)
        self._others = Transport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        chosen = self._streams if request.url.path.endswith("/events/stream") else self._others
        return await chosen.handle_async_request(request)

    async def aclose(self) -> None:
        await self._streams.aclose()
        await self._others.aclose()


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[CuttingProxy]:
    """A proxy in front of the server."""
    url = httpx.URL(server.base_url)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    cutting = CuttingProxy(listener, url.host, url.port or (443 if url.scheme == "https" else 80))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, cutting.serve, [listener])
        yield cutting
        nursery.cancel_scope.cancel()


@pytest.fixture
def streams_through() -> type[StreamsThrough]:
    """The transport that sends event streams through a proxy."""
    return StreamsThrough


@pytest.fixture
def lookup() -> type[Lookup]:
    """The handler's class."""
    return Lookup


@pytest.fixture
def whim() -> type[Whim]:
    """What a scenario raises when the model did not do as it was asked."""
    return Whim


@pytest.fixture
def twice(whim: type[Whim]) -> Callable[..., Any]:
    """Plays a scenario, and once more if the model had a whim."""

    async def play(scenario: Callable[[], Any]) -> None:
        try:
            await scenario()
        except whim:
            await scenario()

    return play
