"""The scripted server and the HTTP/1.1 server under it: every way an answer can go, on both transports."""

from __future__ import annotations

from typing import Any, Literal

import h11
import pytest
import trio
from trio.testing import MockClock

from managed_agents_actors.testing import Request, Responder, open_claude_simulator, open_wire_server, say, sse_frame

Transport = Literal["loopback", "memory"]
on_both = pytest.mark.parametrize("transport", ["loopback", "memory"])


async def echo(request: Request, respond: Responder) -> None:
    query = {name: list(values) for name, values in request.query.items()}
    await respond.json(200, {"method": request.method, "path": request.path, "query": query, "body": request.json()})


@on_both
async def test_requests_are_read_and_the_connection_is_kept(connect: Any, transport: Transport) -> None:
    async with open_wire_server(echo, transport=transport) as server, connect(server) as client:
        for n in range(3):
            status, body = await client.request("POST", "/a%20b?x=1&x=2&empty=", {"n": n})
            assert status == 200
            assert body == {
                "method": "POST",
                "path": "/a b",
                "query": {"x": ["1", "2"], "empty": [""]},
                "body": {"n": n},
            }
        record = server.requests[-1]
        assert (record.path, record.query["x"], record.body, record.status) == ("/a b", ("1", "2"), {"n": 2}, 200)
        assert "test-key" not in repr(record)


@on_both
async def test_chunked_bodies_and_100_continue(connect: Any, transport: Transport) -> None:
    async with open_wire_server(echo, transport=transport) as server, connect(server) as client:
        head = (
            b"POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n"
            b"Content-Type: application/json\r\n\r\n"
        )
        await client.stream.send_all(head)
        assert (await client.stream.receive_some(1000)).startswith(b"HTTP/1.1 100 ")
        for byte in b'5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n':
            await client.stream.send_all(bytes([byte]))
        answer = bytes(await client.stream.receive_some(1000))
        assert answer.endswith(b'"body":{"a":1}}')


@on_both
async def test_what_is_not_http_is_refused(connect: Any, transport: Transport) -> None:
    async with open_wire_server(echo, transport=transport) as server, connect(server) as client:
        await client.stream.send_all(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await client.stream.receive_some(1000)).startswith(b"HTTP/1.1 400 ")
        assert server.requests == ()


@on_both
async def test_a_scenario_is_written_byte_by_byte(connect: Any, transport: Transport) -> None:
    connections = 0

    async def handler(request: Request, respond: Responder) -> None:
        nonlocal connections
        connections += 1
        if request.method == "POST":
            await respond.lose()
            return
        stream = await respond.start_stream({"content-type": "text/event-stream"})
        await stream.send(sse_frame({"type": "x.one", "text": "é"}))
        if connections == 1:
            await stream.reset()
        else:
            await stream.end()

    async with open_wire_server(handler, transport=transport) as server:
        async with connect(server) as client:
            await client.start("GET", "/stream")
            assert await client.next_frame() == ("x.one", '{"type":"x.one","text":"é"}'.encode())
            with pytest.raises(trio.BrokenResourceError if transport == "loopback" else h11.RemoteProtocolError):
                await client.next_frame()
        async with connect(server) as client:
            await client.start("GET", "/stream")
            assert await client.names() == ["x.one"]
            client.wire.start_next_cycle()
            with pytest.raises(h11.RemoteProtocolError):
                await client.request("POST", "/events", {})
        assert [(request.method, request.status) for request in server.requests] == [
            ("GET", 200),
            ("GET", 200),
            ("POST", None),
        ]


@on_both
async def test_a_handler_stops_when_its_client_leaves(connect: Any, transport: Transport) -> None:
    stopped = trio.Event()

    async def handler(request: Request, respond: Responder) -> None:
        await respond.start_stream()
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()

    async with open_wire_server(handler, transport=transport) as server:
        async with connect(server) as client:
            await client.start("GET", "/stream")
        with trio.fail_after(5):
            await stopped.wait()
        assert stopped.is_set()


@on_both
async def test_a_failing_handler_is_seen_by_client_and_test(connect: Any, transport: Transport) -> None:
    async def handler(request: Request, respond: Responder) -> None:
        if request.path == "/fail":
            raise AssertionError("the test expected something else")
        if request.path == "/ok":
            await respond.bytes(200, b"fine")

    with pytest.raises(ExceptionGroup) as caught:
        async with open_wire_server(handler, transport=transport) as server:
            async with connect(server) as client:
                assert (await client.request("GET", "/fail"))[0] == 500
            async with connect(server) as client:
                assert (await client.request("GET", "/forgotten"))[0] == 500
            async with connect(server) as client:
                assert await client.request("GET", "/ok") == (200, b"fine")
    assert [type(failure) for failure in caught.value.exceptions] == [AssertionError, RuntimeError]


async def test_the_bodys_exception_joins_the_handlers(connect: Any, autojump_clock: MockClock) -> None:
    async def handler(request: Request, respond: Responder) -> None:
        raise AssertionError("the server's side")

    with pytest.raises(ExceptionGroup) as caught:
        async with open_wire_server(handler) as server, connect(server) as client:
            await client.request("GET", "/")
            raise KeyError("the test's side")
    assert [type(failure) for failure in caught.value.exceptions] == [KeyError, AssertionError]


async def test_an_answer_is_given_once(connect: Any, autojump_clock: MockClock) -> None:
    async def handler(request: Request, respond: Responder) -> None:
        await respond.json(200, {})
        with pytest.raises(RuntimeError, match="answered already"):
            await respond.json(200, {})

    async with open_wire_server(handler) as server, connect(server) as client:
        assert await client.request("GET", "/") == (200, {})


@on_both
async def test_this_librarys_client_is_wired_to_either_transport(transport: Transport) -> None:
    async with (
        open_claude_simulator([say("hello")], transport=transport) as simulator,
        simulator.client() as client,
    ):
        session = await client.sessions.create(
            {"agent": simulator.agent_id, "environment_id": simulator.environment_id}
        )
        assert session["status"] == "idle"
        assert simulator.requests[-1].path == "/v1/sessions"


async def test_a_dialler_cancelled_on_the_way_leaves_no_connection_behind() -> None:
    async def never(request: Request, respond: Responder) -> None:
        raise AssertionError(request, respond)

    async with open_wire_server(never, transport="memory") as server:
        before = trio.lowlevel.current_statistics().tasks_living
        with trio.CancelScope() as scope:
            scope.cancel()
            await server.open_memory_stream("simulator.test", 80)
        assert scope.cancelled_caught
        await trio.testing.wait_all_tasks_blocked()
        assert trio.lowlevel.current_statistics().tasks_living == before
