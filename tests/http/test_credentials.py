"""A refused credential: replaced by a fresh one, once per call, whatever the call; or told, and never shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from managed_agents_actors import _errors as errors
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.claude import ClaudeClient

Make = Callable[..., Any]
Act = Callable[[ClaudeClient], Awaitable[Any]]


class Keys:
    """A callable key: gives one after the other, at last always the same; knows how often it was asked."""

    def __init__(self, *keys: str) -> None:
        self.keys = list(keys)
        self.asked = 0

    async def __call__(self) -> str:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        return self.keys.pop(0) if len(self.keys) > 1 else self.keys[0]


async def read_stream(client: ClaudeClient) -> list[Any]:
    async with client.sessions.events.stream("s") as stream:
        return [event async for event in stream]


CALLS: dict[str, Act] = {
    "get": lambda client: client.agents.retrieve("a"),
    "post": lambda client: client.agents.create(name="n"),
    "post without repetition": lambda client: client.sessions.events.send("s", [{"type": "t"}], retry=False),
    "delete": lambda client: client.sessions.delete("s"),
    "upload": lambda client: client.files.upload(b"content", filename="f"),
    "download": lambda client: client.files.download("f"),
    "stream": read_stream,
}


def client_of(wire: Any, key: Any, **options: Any) -> ClaudeClient:
    return ClaudeClient(key, "http://api.test", transport=Transport(open_stream=wire.open_stream), **options)


def keys_sent(wire: Any) -> list[str]:
    return [request.headers["x-api-key"] for request in wire.requests]


@pytest.mark.parametrize("act", CALLS.values(), ids=CALLS)
async def test_any_call_is_sent_again_at_once_with_a_fresh_key(
    open_wire: Make, reply: Make, act: Act, autojump_clock: Any
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=401), reply()]
        await act(client_of(wire, keys := Keys("old", "new", "newest")))
    assert keys_sent(wire) == ["old", "new"]
    assert keys.asked == 2
    first, second = wire.requests
    assert (second.line, second.body, second.at) == (first.line, first.body, 0.0)
    assert second.headers == {**first.headers, "x-api-key": "new"}


@pytest.mark.parametrize("act", CALLS.values(), ids=CALLS)
async def test_a_second_refusal_is_the_calls_error(open_wire: Make, reply: Make, act: Act) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=401)] * 9
        with pytest.raises(errors.AuthenticationError):
            await act(client_of(wire, keys := Keys("old", "new", "newer", "newest")))
    assert keys_sent(wire) == ["old", "new"]
    assert keys.asked == 2


@pytest.mark.parametrize("act", CALLS.values(), ids=CALLS)
async def test_a_key_that_comes_back_the_same_is_not_sent_again(open_wire: Make, reply: Make, act: Act) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=401)] * 9
        with pytest.raises(errors.AuthenticationError):
            await act(client_of(wire, keys := Keys("same")))
        assert (keys_sent(wire), keys.asked) == (["same"], 2)
        with pytest.raises(errors.AuthenticationError):
            await act(client_of(wire, "a-string"))
    assert keys_sent(wire) == ["same", "a-string"]


@pytest.mark.parametrize("status", [400, 403, 404, 409])
async def test_no_other_refusal_asks_for_a_key(open_wire: Make, reply: Make, status: int) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=status)]
        with pytest.raises(errors.APIError):
            await client_of(wire, keys := Keys("old", "new")).agents.retrieve("a")
    assert keys.asked == 1


async def test_what_follows_a_fresh_key_is_repeated_as_usual_and_no_second_one_is_asked_for(
    open_wire: Make, reply: Make, autojump_clock: Any
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=401), reply(status=429, headers=[("retry-after", "7")]), reply('{"id": "a"}')]
        client = client_of(wire, Keys("old", "new", "newest"))
        assert await client.agents.create(name="n") == {"id": "a"}
        assert keys_sent(wire) == ["old", "new", "newest"]
        first, second, third = (request.at for request in wire.requests)
        assert (first, second) == (0.0, 0.0)
        assert 7.0 <= third <= 8.0, "not before its time, and with some jitter on top"

        wire.replies = [reply(status=401), reply(status=429, headers=[("retry-after", "7")]), reply(status=401)]
        with pytest.raises(errors.AuthenticationError):
            await client_of(wire, Keys("a", "b", "c", "d")).agents.create(name="n")
    assert keys_sent(wire)[3:] == ["a", "b", "c"]


async def test_a_refusal_after_a_repetition_is_given_a_fresh_key_too(
    open_wire: Make, reply: Make, autojump_clock: Any
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(status=529), reply(status=401), reply()]
        await client_of(wire, Keys("a", "b", "c"), max_retries=1).agents.retrieve("a")
    assert keys_sent(wire) == ["a", "b", "c"]


async def test_each_of_many_calls_asks_once_more_at_most(open_wire: Make, reply: Make) -> None:
    async def call() -> None:
        with pytest.raises(errors.AuthenticationError):
            await client.agents.retrieve("a")

    async with open_wire() as wire:
        wire.replies = [reply(status=401)] * 40
        client = client_of(wire, keys := Keys(*map(str, range(100))))
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(call)
    assert (keys.asked, len(wire.requests)) == (40, 40)


async def test_a_fresh_key_that_cannot_be_had_now_is_no_refusal(open_wire: Make, reply: Make) -> None:
    answers = iter(["old"])

    async with open_wire() as wire:
        wire.replies = [reply(status=401)]
        with pytest.raises(errors.TransportError, match="api_key= failed with StopIteration") as caught:
            await client_of(wire, lambda: next(answers)).agents.create(name="n")
    assert caught.value.request_sent is False


async def test_the_wait_for_a_fresh_key_is_within_the_calls_time(
    open_wire: Make, reply: Make, autojump_clock: Any
) -> None:
    asked: list[float] = []

    async def slow() -> str:
        asked.append(trio.current_time())
        if len(asked) == 2:
            await trio.sleep_forever()
        return "old"

    async with open_wire() as wire:
        wire.replies = [reply(status=401)]
        with pytest.raises(errors.TransportError, match="did not finish within 9 s"):
            await client_of(wire, slow, timeout=9.0).agents.retrieve("a")
    assert (asked, trio.current_time()) == ([0.0, 0.0], 9.0)


async def test_an_error_shows_neither_the_refused_key_nor_the_fresh_one(open_wire: Make, reply: Make) -> None:
    body = '{"error": {"type": "authentication_error", "message": "sk-ant-fresh is as bad as sk-ant-stale"}}'
    async with open_wire() as wire:
        wire.replies = [reply(status=401), reply(body, status=401)]
        with pytest.raises(errors.AuthenticationError, match="is as bad as") as caught:
            await client_of(wire, Keys("sk-ant-stale", "sk-ant-fresh")).agents.retrieve("a")
    assert "sk-ant" not in f"{caught.value!r} {vars(caught.value)}"
