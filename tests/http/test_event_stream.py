"""The client's event stream over a byte-level server: batches, ends, resets, silence, garbage. Time is virtual."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest
import trio
import trio.testing

from managed_agents_actors import _errors as errors
from managed_agents_actors.claude import ClaudeClient

Make = Callable[..., Any]

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def frame(id_: str, **more: Any) -> bytes:
    return f"event: agent.message\ndata: {json.dumps({'id': id_, 'type': 'agent.message', **more})}\n\n".encode()


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def sends(*pieces: bytes, close: bool = False) -> Any:
    """A reply: the head of an event stream, then the pieces, then silence or the end of the connection."""

    async def reply(peer: Any) -> None:
        await peer.send(HEAD)
        for piece in pieces:
            await peer.send(piece)
        if close:
            await peer.close()
        else:
            await peer.more()

    return reply


async def test_entering_waits_for_acceptance_and_the_request_is_an_event_streams(
    open_wire: Make, client_of: Make
) -> None:
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [sends(), sends()]
        async with client.sessions.events.stream("s/1"):
            assert len(wire.requests) == 1
        async with client.sessions.events.stream("s", deltas=True):
            pass
    lines = [request.line for request in wire.requests]
    assert lines[0] == "GET /v1/sessions/s%2F1/events/stream HTTP/1.1"
    assert lines[1] == (
        "GET /v1/sessions/s/events/stream?event_deltas%5B%5D=agent.message&event_deltas%5B%5D=agent.thinking HTTP/1.1"
    )
    assert wire.requests[0].headers["accept"] == "text/event-stream"
    assert wire.requests[0].headers["anthropic-beta"] == "managed-agents-2026-04-01"


@pytest.mark.parametrize("close", [False, True])
async def test_another_kind_of_answer_is_told_though_its_body_does_not_come(
    close: bool, open_wire: Make, client_of: Make, autojump_clock: trio.testing.MockClock
) -> None:
    async def page(peer: Any) -> None:
        await peer.send(HEAD.replace(b"text/event-stream", b"text/html"))
        await (peer.close() if close else peer.more())

    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [page]
        with pytest.raises(errors.ProtocolError, match="text/html"):
            async with client.sessions.events.stream("s"):
                pytest.fail("entered")
    assert trio.current_time() == (0 if close else 2)


async def test_a_batch_is_what_has_arrived(open_wire: Make, client_of: Make) -> None:
    two, three = frame("1") + frame("2"), frame("3")
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [sends(chunk(two) + chunk(three[:10]), chunk(three[10:]), END)]
        async with client.sessions.events.stream("s") as stream:
            assert [event["id"] for event in await stream.receive_batch()] == ["1", "2"]
            assert [event["id"] for event in await stream.receive_batch()] == ["3"]
            for _ in range(2):
                with pytest.raises(trio.EndOfChannel):
                    await stream.receive_batch()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_batch()


async def test_events_one_by_one_and_the_rest_as_a_batch(open_wire: Make, client_of: Make) -> None:
    data = b"".join(map(frame, "12345"))
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [sends(*[chunk(data[i : i + 1]) for i in range(len(data))], END), sends(chunk(data), END)]
        async with client.sessions.events.stream("s") as stream:
            assert [event["id"] async for event in stream] == list("12345")
        async with client.sessions.events.stream("s") as stream:
            assert (await stream.receive())["id"] == "1"
            assert [event["id"] for event in await stream.receive_batch()] == list("2345")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 429, 500, 503, 529])
async def test_a_refused_stream_is_an_error_on_entering_and_not_repeated(
    open_wire: Make, client_of: Make, reply: Make, status: int
) -> None:
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [
            reply('{"error": {"type": "t", "message": "no"}}', status=status, headers=[("retry-after", "9")])
        ]
        with pytest.raises(errors.APIError) as caught:
            async with client.sessions.events.stream("s"):
                pytest.fail("entered")
    assert (caught.value.status, caught.value.retry_after, len(wire.requests)) == (status, 9.0, 1)


async def test_half_an_event_at_a_clean_end_is_dropped(open_wire: Make, client_of: Make) -> None:
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [sends(chunk(frame("1") + frame("2")[:-1]), END)]
        async with client.sessions.events.stream("s") as stream:
            assert [event["id"] async for event in stream] == ["1"]


async def test_a_connection_that_breaks_is_a_lost_stream_after_its_events(open_wire: Make, client_of: Make) -> None:
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [sends(chunk(frame("1")), close=True)]
        async with client.sessions.events.stream("s") as stream:
            assert (await stream.receive())["id"] == "1"
            with pytest.raises(errors.StreamLost, match="GET /v1/sessions/s/events/stream"):
                await stream.receive()
            with pytest.raises(trio.EndOfChannel):
                await stream.receive()


async def test_a_body_without_framing_ends_cleanly_with_its_connection(open_wire: Make, client_of: Make) -> None:
    async def http10(peer: Any) -> None:
        await peer.send(b"HTTP/1.0 200 OK\r\n\r\n" + frame("1"))
        await peer.close()

    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [http10]
        async with client.sessions.events.stream("s") as stream:
            assert [event["id"] async for event in stream] == ["1"]


async def test_silence_ends_a_stream_and_a_keep_alive_is_no_silence(
    open_wire: Make, client_of: Make, autojump_clock: Any
) -> None:
    async def quiet(peer: Any) -> None:
        await peer.send(HEAD)
        for keep_alive in (b": still here\n\n", b"event: ping\ndata: {}\n\n"):
            await trio.sleep(80)
            await peer.send(chunk(keep_alive))
        await peer.more()

    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [quiet, quiet]
        async with client.sessions.events.stream("s") as stream:
            with pytest.raises(errors.StreamIdleTimeout, match="90 s"):
                await stream.receive()
        assert trio.current_time() == 80 + 80 + 90
        async with client.sessions.events.stream("s", idle_timeout=5) as stream:
            with pytest.raises(errors.StreamIdleTimeout, match="5 s"):
                await stream.receive()
        assert trio.current_time() == 250 + 5


async def test_slow_acceptance_is_bounded(open_wire: Make, client_of: Make, autojump_clock: Any) -> None:
    async def hang(peer: Any) -> None:
        await peer.more()

    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [hang]
        with pytest.raises(errors.TransportError, match="60 s"):
            async with client.sessions.events.stream("s"):
                pytest.fail("entered")
    assert trio.current_time() == 60


@pytest.mark.parametrize("garbage", [b"data: {nope\n\n", b"data: [1]\n\n", b'data: "sk-secret"\n\n'])
async def test_garbage_is_a_protocol_error_after_the_events_before_it(
    open_wire: Make, client_of: Make, garbage: bytes
) -> None:
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [sends(chunk(frame("1") + garbage + frame("2")))]
        async with client.sessions.events.stream("s") as stream:
            assert [event["id"] for event in await stream.receive_batch()] == ["1"]
            with pytest.raises(errors.ProtocolError) as caught:
                await stream.receive_batch()
            assert caught.value.raw
            assert b"sk-secret" not in caught.value.raw
            with pytest.raises(trio.EndOfChannel):
                await stream.receive_batch()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"type": "error", "error": {"type": "overloaded_error", "message": "m"}}, errors.OverloadedError),
        ({"type": "error", "error": {"type": "authentication_error", "message": "m"}}, errors.AuthenticationError),
        ({"type": "error", "error": "m"}, errors.APIError),
    ],
)
async def test_an_error_frame_is_raised_after_the_events_before_it(
    open_wire: Make, client_of: Make, data: dict[str, Any], expected: type[errors.APIError]
) -> None:
    error = f"event: error\ndata: {json.dumps(data)}\n\n".encode()
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [sends(chunk(frame("1") + error))]
        async with client.sessions.events.stream("s") as stream:
            assert (await stream.receive())["id"] == "1"
            with pytest.raises(expected) as caught:
                await stream.receive()
            assert (type(caught.value), caught.value.message, caught.value.status) == (expected, "m", 200)


async def test_two_readers_are_refused(open_wire: Make, client_of: Make) -> None:
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [sends()]
        async with client.sessions.events.stream("s") as stream, trio.open_nursery() as nursery:

            async def read() -> None:
                await stream.receive()

            nursery.start_soon(read)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await stream.receive()
            nursery.cancel_scope.cancel()


async def test_a_cancelled_receive_loses_nothing(open_wire: Make, client_of: Make, autojump_clock: Any) -> None:
    data = frame("1") + frame("2")

    async def slow(peer: Any) -> None:
        await peer.send(HEAD)
        for i in range(len(data)):
            await trio.sleep(0.1)
            await peer.send(chunk(data[i : i + 1]))
        await peer.send(END)

    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [slow]
        seen: list[str] = []
        async with client.sessions.events.stream("s") as stream:
            with pytest.raises(trio.EndOfChannel):
                while True:
                    with trio.move_on_after(0.25):
                        seen.append((await stream.receive())["id"])
    assert seen == ["1", "2"]


async def test_the_servers_reconnection_time_is_known(open_wire: Make, client_of: Make) -> None:
    async with open_wire() as wire, client_of(wire) as client:
        wire.replies = [sends(chunk(b"retry: 2500\n\n" + frame("1")))]
        async with client.sessions.events.stream("s") as stream:
            assert stream.retry is None
            await stream.receive()
            assert stream.retry == 2.5


async def test_a_hundred_streams_and_a_post_do_not_wait_for_each_other(
    open_wire: Make, client_of: Make, reply: Make
) -> None:
    async with open_wire() as wire, client_of(wire) as client, trio.open_nursery() as nursery:
        attached: list[int] = []

        async def attach() -> None:
            async with client.sessions.events.stream("s"):
                attached.append(1)
                await trio.sleep_forever()

        wire.replies = [sends()] * 100
        for _ in range(100):
            nursery.start_soon(attach)
        await trio.testing.wait_all_tasks_blocked()
        wire.replies = [reply('{"data": []}')]
        assert await client.sessions.events.send("s", []) == {"data": []}
        assert len(attached) == 100
        nursery.cancel_scope.cancel()


async def test_httpx_own_transport_serves_streams_and_is_left_clean() -> None:
    """Its body is five nested async generators; leaving after one event, or cancelled, must abandon none."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(HEAD + chunk(frame("1")) + chunk(frame("2")))
            await stream.receive_some()

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        async with ClaudeClient("sk-secret", url, transport=httpx.AsyncHTTPTransport()) as client:
            async with client.sessions.events.stream("s") as stream:
                assert (await stream.receive())["id"] == "1"
            async with client.sessions.events.stream("s") as stream:
                assert (await stream.receive())["id"] == "1"
                assert (await stream.receive())["id"] == "2"
                with trio.move_on_after(0.05) as scope:
                    await stream.receive()
                assert scope.cancelled_caught
            gc.collect()
        nursery.cancel_scope.cancel()
