"""The event stream of an invocation: batches, ends, exceptions, truncation at every byte, silence, garbage."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors import _errors as errors
from managed_agents_actors.agentcore import AgentCoreClient, HarnessStream
from managed_agents_actors.testing import open_wire_server
from managed_agents_actors.testing._aws_frames import (
    GARBAGE_AWS_FRAME,
    encode_message,
    error_frame,
    event_frame,
    exception_frame,
)

from ._wire import (
    END,
    HARNESS_ARN,
    KEYS,
    MESSAGES,
    REGION,
    SESSION_ID,
    STREAM_HEAD,
    chunk,
    client_of,
    open_wire,
    sends,
)

EVENTS: list[tuple[str, dict[str, Any]]] = [
    ("messageStart", {"role": "assistant"}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Grüße 😀"}}),
    ("contentBlockDelta", {"contentBlockIndex": 0, "delta": {}}),
    ("somethingNew", {"a": [1, None]}),
    ("messageStop", {"stopReason": "end_turn"}),
]
FRAMES = [event_frame(name, members) for name, members in EVENTS]
DECODED = [{"type": name, name: members} for name, members in EVENTS]
DATA = b"".join(FRAMES)
TURN: dict[str, Any] = {"harnessArn": HARNESS_ARN, "runtimeSessionId": SESSION_ID, "messages": MESSAGES}


class Bytes:
    """A source of given pieces."""

    secrets = (KEYS[1],)

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.pieces.pop(0) if self.pieces else b""


def stream_of(*pieces: bytes) -> HarnessStream:
    return HarnessStream(Bytes(*pieces), {"x-amzn-requestid": "req-1"})


async def told(stream: HarnessStream) -> tuple[list[Any], Exception]:
    """The events, and how the stream ended."""
    events: list[Any] = []
    while True:
        try:
            batch = await stream.receive_batch()
        except (trio.EndOfChannel, errors.ManagedAgentsError) as end:
            return events, end
        assert batch
        events += batch


async def test_a_batch_is_what_has_arrived() -> None:
    async with open_wire() as wire:
        wire.replies = [sends(FRAMES[0] + FRAMES[1] + FRAMES[2][:10], FRAMES[2][10:], end=True)]
        async with client_of(wire).invoke_harness(**TURN) as stream:
            assert await stream.receive_batch() == DECODED[:2]
            assert await stream.receive_batch() == DECODED[2:3]
            for _ in range(2):
                with pytest.raises(trio.EndOfChannel):
                    await stream.receive_batch()
        with pytest.raises(trio.ClosedResourceError):
            await stream.receive_batch()
        assert stream.headers["Content-Type"] == "application/vnd.amazon.eventstream"
    assert wire.requests[0].headers["accept"] == "application/vnd.amazon.eventstream"


@pytest.mark.parametrize("size", [1, 7, len(DATA)])
async def test_whole_and_in_pieces_over_real_sockets(size: int) -> None:
    async def answer(_: Any, respond: Any) -> None:
        body = await respond.start_stream({"content-type": "application/vnd.amazon.eventstream"})
        for start in range(0, len(DATA), size):
            await body.send(DATA[start : start + size])
        await body.end()

    async with (
        open_wire_server(answer, transport="loopback") as server,
        AgentCoreClient(REGION, KEYS, server.base_url) as client,
        client.invoke_harness(**TURN) as stream,
    ):
        assert [event async for event in stream] == DECODED


async def test_cut_anywhere_it_is_truncated_unless_an_event_ends_there() -> None:
    ends = {0}
    for frame in FRAMES:
        ends.add(max(ends) + len(frame))
    for cut in range(len(DATA) + 1):
        events, end = await told(stream_of(DATA[:cut]))
        assert events == DECODED[: len([each for each in ends if 0 < each <= cut])]
        assert isinstance(end, trio.EndOfChannel if cut in ends else errors.TruncatedStream)


@given(st.lists(st.integers(0, len(DATA)), max_size=20))
def test_cuts_between_pieces_change_nothing(cuts: list[int]) -> None:
    at = [0, *sorted(cuts), len(DATA)]
    pieces = [piece for start, stop in itertools.pairwise(at) if (piece := DATA[start:stop])]

    async def main() -> None:
        events, end = await told(stream_of(*pieces))
        assert (events, type(end)) == (DECODED, trio.EndOfChannel)

    trio.run(main)


EXCEPTIONS = {
    "validationException": (400, errors.InvalidRequestError),
    "serviceQuotaExceededException": (402, errors.InvalidRequestError),
    "accessDeniedException": (403, errors.PermissionDeniedError),
    "resourceNotFoundException": (404, errors.NotFoundError),
    "modelTimeoutException": (408, errors.InvalidRequestError),
    "retryableConflictException": (409, errors.ConflictError),
    "runtimeClientError": (424, errors.ServerError),
    "modelStreamErrorException": (424, errors.ServerError),
    "throttlingException": (429, errors.RateLimitError),
    "modelNotReadyException": (429, errors.RateLimitError),
    "internalServerException": (500, errors.ServerError),
    "serviceUnavailableException": (503, errors.ServerError),
    "futureException": (200, errors.APIError),
}


@pytest.mark.parametrize("name", EXCEPTIONS)
async def test_an_exception_is_raised_after_the_events_before_it(name: str) -> None:
    status, kind = EXCEPTIONS[name]
    payload = {"message": f"no {KEYS[1]}", "reason": "r", "fieldList": [{"name": "a", "message": "b"}]}
    data = FRAMES[0] + exception_frame(name, payload) + FRAMES[1]
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        stream = stream_of(*pieces)
        events, error = await told(stream)
        assert events == DECODED[:1]
        assert isinstance(error, errors.APIError)
        assert (type(error), error.status, error.type) == (kind, status, name)
        assert (error.message, error.request_id) == ("no [redacted]", "req-1")
        assert error.body == {**payload, "message": "no [redacted]"}
        with pytest.raises(trio.EndOfChannel):
            await stream.receive()


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("An error occurred (ThrottlingException) when calling the ConverseStream operation: slow down", 429),
        ("An error occurred (throttledException) when calling the X operation", 429),
        ("litellm: Too many requests, please wait", 429),
        ("An error occurred (ValidationException) when calling the ConverseStream operation: no", 424),
        ("the throttle valve tool failed", 424),
    ],
)
async def test_throttling_that_is_only_told_in_the_text_is_throttling(message: str, kind: int) -> None:
    _, error = await told(stream_of(exception_frame("runtimeClientError", {"message": message})))
    assert isinstance(error, errors.RateLimitError if kind == 429 else errors.ServerError)
    assert (error.status, error.type, error.message) == (kind, "runtimeClientError", message)
    _, error = await told(stream_of(exception_frame("validationException", {"message": message})))
    assert type(error) is errors.InvalidRequestError


UNRECOGNISED = [
    encode_message({}, b""),
    encode_message({":message-type": "ping"}, b"\xff"),
    encode_message({":message-type": "event", ":event-type": "heartbeat"}, b"pong"),
    encode_message({":message-type": "event", ":event-type": "id"}, b'{"a":1}'),
]


async def test_what_is_no_event_of_ours_is_passed_on_and_ends_nothing() -> None:
    for frame in UNRECOGNISED:
        events, end = await told(stream_of(FRAMES[0] + frame + FRAMES[1]))
        assert [event["type"] for event in events] == ["messageStart", "unrecognised", "contentBlockDelta"]
        assert isinstance(end, trio.EndOfChannel)
    initial = encode_message({":message-type": "event", ":event-type": "initial-response"}, b"")
    events, end = await told(stream_of(initial + encode_message({":event-type": "messageStop"}, b"")))
    assert events == [{"type": "initial-response", "initial-response": {}}, {"type": "messageStop", "messageStop": {}}]


async def test_an_error_of_the_transport_is_one_of_ours() -> None:
    _, error = await told(stream_of(error_frame("InternalServerException", "broke")))
    assert isinstance(error, errors.ServerError)
    assert (error.status, error.type, error.message) == (500, "InternalServerException", "broke")
    _, error = await told(stream_of(error_frame("", "")))
    assert isinstance(error, errors.APIError)
    assert (error.status, error.type) == (200, "api_error")


@pytest.mark.parametrize(
    "garbage",
    [
        GARBAGE_AWS_FRAME,
        b"<html>" * 10,
        *(
            encode_message({":message-type": "event", ":event-type": name}, payload)
            for name in ("messageStart", "contentBlockDelta", "messageStop", "metadata", "chunk", "contentStop")
            for payload in (b"[1]", KEYS[1].encode())
        ),
    ],
)
async def test_garbage_is_a_protocol_error_after_the_events_before_it(garbage: bytes) -> None:
    stream = stream_of(FRAMES[0] + garbage + FRAMES[1])
    events, error = await told(stream)
    assert events == DECODED[:1]
    assert isinstance(error, errors.ProtocolError)
    assert error.raw
    assert KEYS[1].encode() not in error.raw
    with pytest.raises(trio.EndOfChannel):
        await stream.receive()


@pytest.mark.parametrize("kind", [b"", b"content-type: text/html\r\n", b"content-type: application/json\r\n"])
async def test_another_kind_of_answer_is_refused_with_an_excerpt(kind: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + kind + b"content-length: 5\r\n\r\nhello"
    async with open_wire() as wire:
        wire.replies = [head]
        with pytest.raises(errors.ProtocolError, match=r"content type|text/html|application/json") as caught:
            async with client_of(wire).invoke_harness(**TURN):
                pytest.fail("entered")
    assert caught.value.raw == b"hello"


@pytest.mark.parametrize("close", [False, True])
async def test_another_kind_of_answer_is_told_though_its_body_does_not_come(close: bool, autojump_clock: Any) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ntransfer-encoding: chunked\r\n\r\n"
    async with open_wire() as wire:
        wire.replies = [sends(head=head, close=close)]
        with pytest.raises(errors.ProtocolError, match="text/html") as caught:
            async with client_of(wire).invoke_harness(**TURN):
                pytest.fail("entered")
    assert caught.value.raw == b""
    assert trio.current_time() == (0 if close else 2)


@pytest.mark.parametrize("name", ["invoke_harness", "invoke_agent_runtime_command"])
@pytest.mark.parametrize("status", [400, 402, 403, 404, 409, 424, 429, 500, 503])
async def test_an_invocation_is_never_repeated(reply: Callable[..., bytes], name: str, status: int) -> None:
    parameters = TURN if name == "invoke_harness" else {"agentRuntimeArn": HARNESS_ARN, "body": {"command": "x"}}
    headers = [("x-amzn-errortype", "RetryableConflictException"), ("retry-after", "1")]
    async with open_wire() as wire:
        wire.replies = [reply('{"message": "no"}', status=status, headers=headers)]
        with pytest.raises(errors.APIError) as caught:
            async with getattr(client_of(wire), name)(**parameters):
                pytest.fail("entered")
    assert (caught.value.status, len(wire.requests)) == (status, 1)


async def test_a_lost_connection_before_the_answer_is_not_a_reason_to_invoke_again() -> None:
    async def lose(peer: Any) -> None:
        await peer.close()

    async with open_wire() as wire:
        wire.replies = [lose]
        with pytest.raises(errors.TransportError) as caught:
            async with client_of(wire).invoke_harness(**TURN):
                pytest.fail("entered")
    assert (caught.value.request_sent, len(wire.requests)) == (True, 1)


async def test_a_connection_that_breaks_is_a_lost_stream_after_its_events() -> None:
    async with open_wire() as wire:
        wire.replies = [sends(FRAMES[0] + FRAMES[1][:5], close=True)]
        async with client_of(wire).invoke_harness(**TURN) as stream:
            assert await stream.receive() == DECODED[0]
            with pytest.raises(errors.StreamLost, match="POST /harnesses/invoke"):
                await stream.receive()
            with pytest.raises(trio.EndOfChannel):
                await stream.receive()


async def test_silence_ends_a_stream(autojump_clock: Any) -> None:
    async def slow(peer: Any) -> None:
        await trio.sleep(299)  # the machine starts
        await peer.send(STREAM_HEAD + chunk(FRAMES[0]))
        await peer.more()

    async with open_wire() as wire:
        wire.replies = [slow, slow]
        client = client_of(wire)
        async with client.invoke_harness(**TURN) as stream:
            await stream.receive()
            with pytest.raises(errors.StreamIdleTimeout, match="300 s"):
                await stream.receive()
        assert trio.current_time() == 299 + 300
        with pytest.raises(errors.TransportError):
            async with client.invoke_harness(idle_timeout=100, **TURN):
                pytest.fail("entered")
        assert trio.current_time() == 599 + 100


def slowly(*, seconds: float) -> Any:
    """A reply: the whole stream, byte by byte."""

    async def reply(peer: Any) -> None:
        await peer.send(STREAM_HEAD)
        for i in range(len(DATA)):
            await trio.sleep(seconds)
            await peer.send(chunk(DATA[i : i + 1]))
        await peer.send(END)

    return reply


async def test_two_readers_are_refused(autojump_clock: Any) -> None:
    first: list[Any] = []

    async def read(stream: HarnessStream) -> None:
        first.append(await stream.receive())

    async with open_wire() as wire, trio.open_nursery() as nursery:
        wire.replies = [slowly(seconds=0.1)]
        async with client_of(wire).invoke_harness(**TURN) as stream:
            nursery.start_soon(read, stream)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError, match="event stream"):
                await stream.receive()
            await trio.sleep(60)  # until the other reader has the first event
            assert first + [event async for event in stream] == DECODED


async def test_a_reader_that_is_cancelled_loses_nothing(autojump_clock: Any) -> None:
    cancelled = 0
    seen: list[Any] = []
    async with open_wire() as wire:
        wire.replies = [slowly(seconds=0.1)]
        async with client_of(wire).invoke_harness(**TURN) as stream:
            with pytest.raises(trio.EndOfChannel):
                while True:
                    with trio.move_on_after(0.25) as scope:
                        seen += await stream.receive_batch()
                    cancelled += scope.cancelled_caught
    assert seen == DECODED
    assert cancelled > len(DATA) // 5
