"""One call: what is repeated and after how long, what bounds its time, and what an odd answer becomes.

The server is bytes over in-memory streams; time is virtual, so waits are asserted exactly.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import trio

from managed_agents_actors import _errors as errors
from managed_agents_actors._http.credentials import Credential, Outgoing
from managed_agents_actors._http.exchange import Call
from managed_agents_actors._http.retry import RetryPolicy

Make = Callable[..., Any]


async def drop(peer: Any) -> None:
    await peer.close()


async def half(peer: Any) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{")
    await peer.close()


async def hang(peer: Any) -> None:
    await trio.sleep_forever()


async def test_an_answer_is_decoded_and_the_request_carries_its_headers(
    open_wire: Make, reply: Make, call: Make
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply('{"a": 1}')]
        made = call("POST", "v1", "x/../y", body=b"[]", query={"q": True}, headers={"x-test": "1"})
        assert await wire.exchange().json(made) == {"a": 1}
    [request] = wire.requests
    assert request.line == "POST /v1/x%2F..%2Fy?q=true HTTP/1.1"
    assert request.body == b"[]"
    shown = {name: request.headers[name] for name in ("host", "x-test", "accept-encoding", "content-length")}
    assert shown == {"host": "api.test", "x-test": "1", "accept-encoding": "identity", "content-length": "2"}


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504, 529, 429])
async def test_a_safe_call_is_repeated_with_growing_waits(
    open_wire: Make, reply: Make, call: Make, autojump_clock: Any, status: int
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=status), reply(status=status), reply('{"ok": 1}')]
        assert await wire.exchange().json(call()) == {"ok": 1}
    assert [request.at for request in wire.requests] == [0.0, 0.5, 1.5]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 412, 413, 422, 301])
async def test_a_refusal_is_not_repeated(open_wire: Make, reply: Make, call: Make, status: int) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=status)]
        with pytest.raises(errors.APIError) as caught:
            await wire.exchange().json(call())
    assert caught.value.status == status
    assert len(wire.requests) == 1


@pytest.mark.parametrize("status", [408, 500, 503])
async def test_an_unsafe_call_is_not_repeated_when_it_may_have_been_taken(
    open_wire: Make, reply: Make, call: Make, status: int
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=status, headers=[("x-should-retry", "true")])]
        with pytest.raises(errors.APIError):
            await wire.exchange().json(call("POST"))
    assert len(wire.requests) == 1


@pytest.mark.parametrize("lose", [drop, half])
async def test_an_unsafe_call_is_not_repeated_when_its_answer_was_lost(open_wire: Make, call: Make, lose: Any) -> None:
    async with open_wire() as wire:
        wire.replies = [lose]
        with pytest.raises(errors.TransportError) as caught:
            await wire.exchange().json(call("POST"))
    assert caught.value.request_sent
    assert len(wire.requests) == 1


@pytest.mark.parametrize("status", [429, 529])
async def test_an_unsafe_call_is_repeated_when_it_was_certainly_not_taken(
    open_wire: Make, reply: Make, call: Make, autojump_clock: Any, status: int
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=status), reply('{"ok": 1}')]
        assert await wire.exchange().json(call("POST")) == {"ok": 1}
    assert [request.at for request in wire.requests] == [0.0, 0.5]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_failed_connection_is_tried_again(
    open_wire: Make, reply: Make, call: Make, autojump_clock: Any, method: str
) -> None:
    async with open_wire() as wire:
        wire.refuse, wire.replies = 2, [reply('{"ok": 1}')]
        assert await wire.exchange().json(call(method)) == {"ok": 1}
    assert trio.current_time() == 1.5


async def test_no_connection_at_all_says_that_nothing_was_sent(
    open_wire: Make, call: Make, autojump_clock: Any
) -> None:
    async with open_wire() as wire:
        wire.refuse = 9
        with pytest.raises(errors.TransportError, match=r"api\.test:80.*refused") as caught:
            await wire.exchange().json(call("POST"))
    assert caught.value.request_sent is False
    assert wire.opened == 3


async def test_a_lost_answer_is_asked_for_again_if_safe(
    open_wire: Make, reply: Make, call: Make, autojump_clock: Any
) -> None:
    async with open_wire() as wire:
        wire.replies = [drop, half, reply('{"ok": 1}')]
        assert await wire.exchange().json(call()) == {"ok": 1}
    assert len(wire.requests) == 3


async def test_the_server_may_forbid_a_repetition(open_wire: Make, reply: Make, call: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=503, headers=[("x-should-retry", "false")])]
        with pytest.raises(errors.ServerError):
            await wire.exchange().json(call())
    assert len(wire.requests) == 1


async def test_the_server_may_ask_for_a_repetition(
    open_wire: Make, reply: Make, call: Make, autojump_clock: Any
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=400, headers=[("x-should-retry", "true")]), reply()]
        assert await wire.exchange().json(call()) == {}
    assert len(wire.requests) == 2


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ([("retry-after", "7")], 7.0),
        ([("retry-after-ms", "2500"), ("retry-after", "9")], 2.5),
        ([("retry-after", "0")], 0.5),
        ([("retry-after", "3600")], 30.0),
    ],
)
async def test_retry_after_is_honoured_up_to_its_cap(
    open_wire: Make, reply: Make, call: Make, autojump_clock: Any, headers: list[tuple[str, str]], wait: float
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=429, headers=headers), reply()]
        await wire.exchange().json(call("POST"))
    assert [request.at for request in wire.requests] == [0.0, wait]


async def test_a_wait_that_outlasts_the_deadline_is_not_begun(
    open_wire: Make, reply: Make, call: Make, autojump_clock: Any
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=429, headers=[("retry-after", "20")])]
        with pytest.raises(errors.RateLimitError) as caught:
            await wire.exchange().json(call("POST", timeout=10.0))
    assert caught.value.retry_after == 20.0
    assert trio.current_time() == 0.0


@pytest.mark.parametrize("retries", [0, 1, 4])
async def test_attempts_are_bounded(
    open_wire: Make, reply: Make, call: Make, autojump_clock: Any, retries: int
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=529)] * 9
        with pytest.raises(errors.OverloadedError):
            await wire.exchange(retry=RetryPolicy(max_retries=retries)).json(call())
    assert len(wire.requests) == retries + 1


async def test_jitter_only_shortens_the_wait(open_wire: Make, reply: Make, call: Make, autojump_clock: Any) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=500), reply()]
        await wire.exchange(retry=RetryPolicy(draw=lambda: 1.0)).json(call())
    assert wire.requests[1].at == 0.375


async def test_a_call_without_retry_is_made_once(open_wire: Make, reply: Make, call: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=429)]
        with pytest.raises(errors.RateLimitError):
            await wire.exchange().json(call(retry=False))
    assert len(wire.requests) == 1


async def test_the_whole_call_is_bounded(open_wire: Make, call: Make, autojump_clock: Any) -> None:
    async with open_wire() as wire:
        wire.replies = [hang]
        told = r"GET /v1/things did not finish within 60 s; whether it took effect is unknown"
        with pytest.raises(errors.TransportError, match=told) as caught:
            await wire.exchange().json(call())
    assert caught.value.request_sent
    assert trio.current_time() == 60.0


async def test_a_body_that_trickles_does_not_outlast_the_call(open_wire: Make, call: Make, autojump_clock: Any) -> None:
    async def trickle(peer: Any) -> None:
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
        while True:
            await peer.send(b" ")
            await trio.sleep(1)

    async with open_wire() as wire:
        wire.replies = [trickle]
        with pytest.raises(errors.TransportError, match="did not finish"):
            await wire.exchange().json(call())
    assert trio.current_time() == 60.0


async def test_a_slow_connection_is_given_up_and_was_not_sent(open_wire: Make, call: Make, autojump_clock: Any) -> None:
    async with open_wire() as wire:
        wire.connect_seconds = 100.0
        with pytest.raises(errors.TransportError, match="within 5 s") as caught:
            await wire.exchange().json(call("POST", retry=False))
    assert caught.value.request_sent is False
    assert trio.current_time() == 5.0


@pytest.mark.parametrize("after", [0, 1])
async def test_a_credential_that_never_comes_means_that_nothing_was_sent(
    open_wire: Make, reply: Make, call: Make, autojump_clock: Any, after: int
) -> None:
    """Unless an earlier attempt was."""
    given: list[Outgoing] = []

    async def authenticate(outgoing: Outgoing) -> Credential:
        given.append(outgoing)
        if len(given) > after:
            await trio.sleep_forever()
        return Credential(headers={}, secrets=())

    async with open_wire() as wire:
        wire.replies = [reply(status=503)]
        exchange = wire.exchange(authenticate=authenticate)
        with pytest.raises(
            errors.TransportError, match="within 60 s" if after else "credential did not come"
        ) as caught:
            await exchange.json(call())
    assert (caught.value.request_sent, len(wire.requests)) == (bool(after), after)
    assert trio.current_time() == 60


async def test_what_fails_in_place_of_a_refused_credential_tells_of_the_refusal(
    open_wire: Make, reply: Make, call: Make
) -> None:
    async def authenticate(outgoing: Outgoing) -> Credential:
        if outgoing.refused is not None:
            raise errors.ConfigurationError("there are no others")
        return Credential(headers={}, secrets=("sk-secret",))

    async with open_wire() as wire:
        wire.replies = [reply('{"message": "expired: sk-secret"}', status=401)]
        with pytest.raises(errors.ConfigurationError, match="there are no others") as caught:
            await wire.exchange(authenticate=authenticate).json(call())
    [note] = caught.value.__notes__
    assert "401 api_error: expired: [redacted]" in note


async def test_silence_is_bounded_where_a_call_says_so(open_wire: Make, call: Make, autojump_clock: Any) -> None:
    async with open_wire() as wire:
        wire.replies = [hang]
        with pytest.raises(errors.TransportError, match="nothing was received for 7 s"):
            await wire.exchange().json(call("POST", timeout=None, silence=7.0))
    assert trio.current_time() == 7.0


@pytest.mark.parametrize("body", ["", "<html>", "[1]", '"x"', "{", "null"])
async def test_an_accepted_call_must_answer_an_object(
    open_wire: Make, reply: Make, call: Make, body: str, secret: str
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(f"{body}{secret}" if body == "<html>" else body)]
        with pytest.raises(errors.ProtocolError, match="was accepted") as caught:
            await wire.exchange().json(call())
    assert len(wire.requests) == 1
    assert caught.value.raw[:6] == body.encode()[:6]


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 204 No Content\r\n\r\n", b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n"]
)
async def test_an_empty_answer_is_an_empty_object_where_allowed(open_wire: Make, call: Make, head: bytes) -> None:
    async with open_wire() as wire:
        wire.replies = [head]
        assert await wire.exchange().json(call("POST"), may_be_empty=True) == {}


async def test_what_is_not_http_is_a_protocol_error(open_wire: Make, call: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [b"SSH-2.0-OpenSSH_9.6\r\n\r\n"]
        with pytest.raises(errors.ProtocolError):
            await wire.exchange().json(call("POST"))


async def test_an_endless_header_is_a_protocol_error(open_wire: Make, call: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000]
        with pytest.raises(errors.ProtocolError):
            await wire.exchange().json(call("POST"))


@pytest.mark.parametrize("encode", [gzip.compress, zlib.compress])
async def test_a_compressed_answer_is_understood(open_wire: Make, reply: Make, call: Make, encode: Any) -> None:
    body = b'{"a": "' + b"x" * 3_000_000 + b'"}'
    name = "gzip" if encode is gzip.compress else "deflate"
    async with open_wire() as wire:
        wire.replies = [reply(encode(body), headers=[("content-encoding", name)])]
        assert len((await wire.exchange().json(call()))["a"]) == 3_000_000


@pytest.mark.parametrize(("encoding", "body"), [("br", b"{}"), ("gzip", b"not gzip")])
async def test_an_encoding_we_cannot_undo_is_an_error(
    open_wire: Make, reply: Make, call: Make, encoding: str, body: bytes
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(body, headers=[("content-encoding", encoding)])]
        with pytest.raises(errors.TransportError):
            await wire.exchange().json(call("POST"))


async def test_an_error_body_is_read_to_its_bound_only(open_wire: Make, reply: Make, call: Make) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(b"x" * 5_000_000, status=400)]
        with pytest.raises(errors.InvalidRequestError) as caught:
            await wire.exchange().json(call())
    assert len(caught.value.body) < 1_200


async def test_an_error_whose_body_breaks_off_keeps_its_status(open_wire: Make, call: Make) -> None:
    async def broken(peer: Any) -> None:
        await peer.send(b"HTTP/1.1 403 No\r\ncontent-length: 10\r\n\r\n{")
        await peer.close()

    async with open_wire() as wire:
        wire.replies = [broken]
        with pytest.raises(errors.PermissionDeniedError):
            await wire.exchange().json(call())


async def test_no_error_shows_the_credential(open_wire: Make, reply: Make, call: Make, secret: str) -> None:
    async with open_wire() as wire:
        exchange = wire.exchange()
        for answer in (
            reply(f'{{"error": "{secret}"}}', status=401),
            reply(secret),
            f"HTTP/9 {secret}\r\n\r\n".encode(),
        ):
            wire.replies = [answer]
            with pytest.raises(errors.ManagedAgentsError) as caught:
                await exchange.json(call("POST"))
            assert secret not in f"{caught.value!r} {caught.value} {vars(caught.value)}"


async def test_a_closed_exchange_refuses(open_wire: Make, call: Make) -> None:
    async with open_wire() as wire:
        exchange = wire.exchange()
        exchange.close()
        with pytest.raises(errors.ConfigurationError, match="closed"):
            await exchange.json(call())
    assert wire.opened == 0


async def test_an_empty_id_is_refused_before_sending(open_wire: Make) -> None:
    async with open_wire() as wire:
        with pytest.raises(errors.ConfigurationError):
            await wire.exchange().json(Call(method="GET", path=("v1", "")))
    assert wire.opened == 0
