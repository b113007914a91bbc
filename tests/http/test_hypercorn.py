"""The transport against hypercorn, a server that shares none of our code, and whole sessions through it.

Hypercorn runs on trio in the same process, on a loopback port. What it is given is an ASGI application of a few lines.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import hypercorn
import hypercorn.trio
import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors._http.transport import OWN_CONNECTION, Transport
from managed_agents_actors.providers import claude_managed_agents

from ._asking import answer, asks
from ._loopback import SOON
from ._tls import AUTHORITY

Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]


@asynccontextmanager
async def serving(app: App, **settings: Any) -> AsyncIterator[str]:
    """Serve an application by hypercorn; yields the base URL. ``settings`` are hypercorn's."""

    async def requests_only(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)
            return
        while True:  # the lifespan's events: startup and shutdown
            await send({"type": f"{(await receive())['type']}.complete"})

    config = hypercorn.Config()
    config.errorlog = None
    config.graceful_timeout = 0.0
    config.bind = ["127.0.0.1:0"]
    for name, value in settings.items():
        setattr(config, name, value)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(SOON):
            [url] = await nursery.start(partial(hypercorn.trio.serve, requests_only, config, mode="asgi"))
            yield url
            nursery.cancel_scope.cancel()


async def body_of(receive: Receive) -> bytes:
    """The whole body of a request."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


async def respond(send: Send, *pieces: bytes, status: int = 200, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Answer: one piece with its length, others chunked."""
    if len(pieces) == 1:
        headers = (*headers, (b"content-length", b"%d" % len(pieces[0])))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


class Echo:
    """Answers what it heard: the method, the path, and the body's length and digest.

    Attributes:
        connections: How many requests came over each connection, by the client's port.
    """

    def __init__(self) -> None:
        self.connections: Counter[int] = Counter()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.connections[scope["client"][1]] += 1
        await respond(send, self.of(scope["method"], scope["path"], await body_of(receive)))

    @staticmethod
    def of(method: str, path: str, body: bytes = b"") -> bytes:
        return f"{method} {path} {len(body)} {hashlib.sha256(body).hexdigest()}".encode()


async def pieces_of(body: bytes, size: int = 50_000) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]


# --- Single requests --------------------------------------------------------------------------------------------------

BODY = bytes(range(256)) * 8192  # 2 MiB


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_method_with_and_without_a_body_over_one_connection(method: str) -> None:
    app = Echo()
    async with serving(app) as url, Transport() as transport:
        for body in (b"", b"x", BODY):
            for content in (body, pieces_of(body)):
                request = asks(method, "/a%20b", base=url, content=content)
                assert await answer(transport, request) == (200, Echo.of(method, "/a b", body))
    assert list(app.connections.values()) == [6]


@pytest.mark.parametrize("content", [BODY, b""], ids=["a body", "none"])
async def test_a_server_that_is_expected_to_say_100_is_not_waited_for(content: bytes) -> None:
    app = Echo()
    async with serving(app) as url, Transport() as transport:
        for _ in range(3):
            request = asks("POST", base=url, content=content, headers={"expect": "100-continue"})
            assert await answer(transport, request) == (200, Echo.of("POST", "/", content))
    assert list(app.connections.values()) == [3]


@pytest.mark.parametrize(
    ("method", "status", "body"),
    [("HEAD", 200, b"hello"), ("HEAD", 404, b"hello"), ("GET", 204, b""), ("GET", 304, b""), ("GET", 200, b"")],
)
async def test_an_answer_without_a_body_leaves_the_connection_in_step(method: str, status: int, body: bytes) -> None:
    ports = set()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        ports.add(scope["client"][1])
        await respond(send, body, status=status)

    async with serving(app) as url, Transport() as transport:
        for _ in range(3):
            assert await answer(transport, asks(method, base=url)) == (status, b"")
    assert len(ports) == 1


@pytest.mark.parametrize("pieces", [1, 2, 1000])
@pytest.mark.parametrize("size", [1, 1000, 70_000])
async def test_chunks_of_every_size_arrive_in_order(pieces: int, size: int) -> None:
    sent = [bytes([number % 256]) * size for number in range(pieces)]

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await respond(send, b"", *sent)

    async with serving(app) as url, Transport() as transport:
        for _ in range(2):
            assert await answer(transport, asks(base=url)) == (200, b"".join(sent))


async def test_repeated_headers_and_latin_1_come_through_both_ways() -> None:
    heard: list[tuple[bytes, bytes]] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        heard.extend(scope["headers"])
        await respond(send, b"", headers=((b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"x-name", b"caf\xe9")))

    headers = [("x-many", "1"), ("x-many", "2"), ("x-name", b"caf\xe9"), ("x-empty", "")]
    async with serving(app) as url, Transport() as transport:
        response = await transport.handle_async_request(asks(base=url, headers=headers))
        await response.aclose()
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert response.headers["x-name"] == "café"
    assert [pair for pair in heard if pair[0].startswith(b"x-")] == [
        (b"x-many", b"1"),
        (b"x-many", b"2"),
        (b"x-name", b"caf\xe9"),
        (b"x-empty", b""),
    ]


@pytest.mark.parametrize("content", [b"", b"x" * 1000, BODY * 4], ids=len)
async def test_a_refusal_before_the_body_was_read_is_heard(content: bytes) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await respond(send, b"too large", status=413)

    async with serving(app) as url, Transport() as transport:
        for _ in range(3):
            assert await answer(transport, asks("POST", base=url, content=content)) == (413, b"too large")


async def test_an_application_that_fails_in_the_middle_is_no_whole_answer() -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ZeroDivisionError

    async with serving(app) as url, Transport() as transport:
        for _ in range(2):
            with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
                await answer(transport, asks(base=url))
        assert repr(transport) == "<Transport: 0 idle connections>"


async def test_what_hypercorn_itself_refuses_is_an_answer() -> None:
    async with serving(Echo(), h11_max_incomplete_size=1000) as url, Transport() as transport:
        status, _ = await answer(transport, asks(base=url, headers={"x-long": "x" * 100_000}))
        assert 400 <= status < 500
        assert await answer(transport, asks(base=url)) == (200, Echo.of("GET", "/"))


# --- Connections ------------------------------------------------------------------------------------------------------


async def test_a_server_that_says_when_it_closes_is_believed() -> None:
    app = Echo()
    async with serving(app, keep_alive_max_requests=3) as url, Transport() as transport:
        for _ in range(10):
            assert await answer(transport, asks("POST", base=url)) == (200, Echo.of("POST", "/"))
    assert sum(app.connections.values()) == 10
    assert len(app.connections) > 2


async def test_a_server_that_closes_an_idle_connection_costs_nobody_a_request() -> None:
    app = Echo()
    async with serving(app, keep_alive_timeout=0.02) as url, Transport() as transport:
        for _ in range(5):
            assert await answer(transport, asks("POST", base=url)) == (200, Echo.of("POST", "/"))
            await trio.sleep(0.06)  # real sockets: until hypercorn has closed it
    assert len(app.connections) == 5


async def test_many_requests_at_once_get_their_own_answers_and_few_connections() -> None:
    app, most = Echo(), 10
    limiter = trio.CapacityLimiter(most)
    async with serving(app) as url, Transport() as transport:

        async def ask(number: int) -> None:
            body = bytes([number % 256]) * (number * 97 % 5000)
            content = body if number % 3 else pieces_of(body, 700)
            async with limiter:
                found = await answer(transport, asks("POST", f"/{number}", base=url, content=content))
            assert found == (200, Echo.of("POST", f"/{number}", body))

        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(ask, number)
    assert sum(app.connections.values()) == 300
    assert len(app.connections) <= most


async def test_live_streams_and_requests_share_a_transport() -> None:
    """A hundred streams are fed and read while requests go back and forth: all on one connection."""
    echo, told = Echo(), trio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] != "/stream":
            await echo(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b": attached\n\n", "more_body": True})
        await told.wait()
        await send({"type": "http.response.body", "body": b"data: {}\n\n"})

    found = []
    async with serving(app) as url, Transport() as transport:

        async def follow(task_status: trio.TaskStatus[None]) -> None:
            request = asks(path="/stream", base=url, extensions={OWN_CONNECTION: True})
            response = await transport.handle_async_request(request)
            task_status.started()
            found.append(await response.aread())

        async with trio.open_nursery() as nursery:
            for _ in range(100):
                await nursery.start(follow)
            for _ in range(20):
                assert await answer(transport, asks("POST", base=url)) == (200, Echo.of("POST", "/"))
            told.set()
        assert repr(transport) == "<Transport: 1 idle connections>"
    assert found == [b": attached\n\ndata: {}\n\n"] * 100
    assert list(echo.connections.values()) == [20]


async def test_cancelled_requests_disturb_no_other_one() -> None:
    """Requests that are given up at arbitrary moments, among others that are not."""
    app = Echo()
    async with serving(app) as url, Transport() as transport:

        async def give_up(number: int) -> None:
            with trio.move_on_after(number * 0.0001):
                await answer(transport, asks("POST", f"/given-up/{number}", base=url, content=BODY))

        async def ask(number: int) -> None:
            found = await answer(transport, asks("POST", f"/{number}", base=url, content=b"x" * number))
            assert found == (200, Echo.of("POST", f"/{number}", b"x" * number))

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(give_up, number)
                nursery.start_soon(ask, number)
        await ask(1000)


async def test_tls_by_hypercorn(tmp_path: Path) -> None:
    app = Echo()
    settings = {**AUTHORITY.files(tmp_path, "localhost"), "bind": ["localhost:0"]}
    async with serving(app, **settings) as url, Transport(ssl_context=AUTHORITY.client()) as transport:
        port = httpx.URL(url).port
        for body in (b"", BODY, b"x"):
            request = asks("POST", base=f"https://localhost:{port}", content=body)
            assert await answer(transport, request) == (200, Echo.of("POST", "/", body))
        with pytest.raises(httpx.ConnectError, match="mismatch"):
            await answer(transport, asks(base=f"https://127.0.0.1:{port}"))
    assert list(app.connections.values()) == [3]


# --- Sessions ---------------------------------------------------------------------------------------------------------


class EventsApi:
    """As much of the Claude events API as one session needs, whose agent calls one tool and says what it gave.

    Args:
        cut: The size of the pieces in which the stream is written; 0 for an event at a time.
        breaks: What happens to the first stream after its first event: nothing, its end, or a failure.
    """

    def __init__(self, *, cut: int = 0, breaks: str = "never") -> None:
        self._cut = cut
        self._breaks = breaks
        self._changed = trio.Event()
        self.events: list[Message] = []
        self.traffic: list[str] = []

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        what = f"{scope['method']} {scope['path'].removeprefix('/v1/sessions')}"
        body = await body_of(receive)
        self.traffic.append(what)
        match what:
            case "POST ":
                await self._json(send, {"id": "s1", "type": "session", "status": "idle"})
            case "GET /s1/events/stream":
                await self._stream(send)
            case "GET /s1/events":
                await self._json(send, {"data": self.events, "next_page": None})
            case "POST /s1/events":
                await self._json(send, {"data": [self._take(event) for event in json.loads(body)["events"]]})
            case _:
                await self._json(send, {"id": "s1", "type": "session", "status": "idle"})

    async def _json(self, send: Send, value: Any) -> None:
        await respond(send, json.dumps(value).encode(), headers=((b"content-type", b"application/json"),))

    async def _stream(self, send: Send) -> None:
        # Whoever has the head is promised all events after it, so the place in the history is taken first.
        seen, is_first = len(self.events), self.traffic.count("GET /s1/events/stream") == 1
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._write(send, b": attached\n\n")
        while not (is_first and seen and self._breaks != "never"):
            while seen == len(self.events):
                await self._changed.wait()
            event = self.events[seen]
            await self._write(send, f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
            seen += 1
        if self._breaks == "by failing":
            raise ZeroDivisionError
        await send({"type": "http.response.body", "body": b""})

    async def _write(self, send: Send, data: bytes) -> None:
        size = self._cut or len(data)
        for at in range(0, len(data), size):
            await send({"type": "http.response.body", "body": data[at : at + size], "more_body": True})

    def _take(self, event: Message) -> Message:
        echo = self._add(**event)
        if event["type"] == "user.message":
            self._add(type="session.status_running")
            call = self._add(type="agent.custom_tool_use", name="look_up", input={"city": "Lisböa"})
            self._add(type="session.status_idle", stop_reason={"type": "requires_action", "event_ids": [call["id"]]})
        else:
            said = f"It is {event['content'][0]['text']}."
            self._add(type="agent.message", content=[{"type": "text", "text": said}])
            self._add(type="session.status_idle", stop_reason={"type": "end_turn"})
        self._changed.set()
        self._changed = trio.Event()
        return echo

    def _add(self, **members: Any) -> Message:
        number = len(self.events)
        self.events.append({"id": f"e{number}", **members, "processed_at": f"2026-01-01T00:00:00.{number:06}Z"})
        return self.events[-1]


async def play(api: EventsApi, client: maa.ClaudeClient) -> None:
    """One session from its creation to its result, and what must be true of it whatever happened on the way."""
    calls = []

    async def look_up(name: str, arguments: Any, context: Any) -> str:
        calls.append((name, arguments))
        return "sunny"

    result = await maa.run_session(
        claude_managed_agents,
        client=client,
        agent="agent_1",
        environment="env_1",
        handler=look_up,
        prompt="go",
        reconnect=maa.ReconnectPolicy(initial=0.01, max=0.02),
    )
    assert (result.terminal, result.text) == ("end_turn", "It is sunny.")
    assert calls == [("look_up", {"city": "Lisböa"})]
    assert [event["id"] for event in result.events] == [event["id"] for event in api.events]
    assert api.traffic.count("POST /s1/events") == 2
    assert api.traffic.count("POST ") == 1


@pytest.mark.parametrize("breaks", ["never", "by ending", "by failing"])
@pytest.mark.parametrize("cut", [0, 1, 7])
async def test_a_session_with_a_tool_call(cut: int, breaks: str) -> None:
    api = EventsApi(cut=cut, breaks=breaks)
    async with serving(api) as url, maa.ClaudeClient("key", url) as client:
        await play(api, client)
    assert api.traffic.count("GET /s1/events/stream") == (1 if breaks == "never" else 2)


async def test_a_session_over_tls(tmp_path: Path) -> None:
    api = EventsApi(breaks="by failing")
    settings = AUTHORITY.files(tmp_path, "127.0.0.1")
    transport = Transport(ssl_context=AUTHORITY.client())
    async with serving(api, **settings) as url, maa.ClaudeClient("key", url, transport=transport) as client:
        await play(api, client)
    assert url.startswith("https:")
    assert api.traffic.count("GET /s1/events/stream") == 2
