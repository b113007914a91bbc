"""Bad input is a ConfigurationError that says what was wrong, and costs no request."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from managed_agents_actors._errors import ConfigurationError
from managed_agents_actors.claude import ClaudeClient


@pytest.mark.parametrize(
    "options",
    [
        *({"max_retries": value} for value in ("2", True, 1.5, -1, None)),
        *({"anthropic_version": value} for value in (5, "é", "a\nb")),
        *({"beta": value} for value in (5, ["a"], "a\r\nx: y", "é")),
        *({"files_beta": value} for value in (5, "a\nb")),
        *({"transport": value} for value in (5, httpx.HTTPTransport())),
        *({"http_client": value} for value in (5, httpx.Client())),
        *({"base_url": value} for value in (5, "http://[::1", "http://h:99999", "http://a b")),
        *({"timeout": value} for value in ("5", True, 0, math.nan, 10**400)),
    ],
    ids=lambda options: "-".join(f"{name}={type(value).__name__}" for name, value in options.items()),
)
def test_an_unusable_setting_is_refused_when_the_client_is_made(options: dict[str, Any]) -> None:
    [name] = options
    with pytest.raises(ConfigurationError, match=name):
        ClaudeClient(**{"api_key": "test-key", "base_url": "http://api.test", **options})


@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.agents.create(5),
        lambda c: c.agents.create([1]),
        lambda c: c.agents.create({"name": "cut \ud83d"}),
        lambda c: c.agents.create({"name": "a\udcff.txt"}),
        lambda c: c.agents.create({"name": math.nan}),
        lambda c: c.agents.update("a", "x"),
        lambda c: c.agents.retrieve("\ud800"),
        lambda c: c.agents.list(page="\ud800"),
        lambda c: c.sessions.resources.add("s", [("type", "file")]),
        lambda c: c.sessions.events.send("s", 5),
        lambda c: c.sessions.events.send("s", [5]),
        lambda c: c.sessions.events.send("s", "text"),
        lambda c: c.sessions.events.send("s", {"type": "user.interrupt"}),
        lambda c: c.sessions.events.send("s", [{"type": "user.message", "content": "\ud800"}]),
        lambda c: c.sessions.events.stream("s", idle_timeout="5").__aenter__(),
        lambda c: c.files.upload(5),
        lambda c: c.files.upload(bytearray(b"x"), filename="a"),
        lambda c: c.files.upload(b"x", filename=5),
        lambda c: c.files.upload(b"x", filename="a\udcff"),
        lambda c: c.files.upload(b"x", filename="a", content_type=5),
        lambda c: c.files.upload(b"x", filename="a", purpose="\ud800"),
        lambda c: c.files.upload(Path("a\udcff")),
    ],
)
async def test_an_unusable_argument_costs_no_request(
    client: ClaudeClient, transport: Any, act: Callable[[ClaudeClient], Awaitable[Any]]
) -> None:
    with pytest.raises(ConfigurationError):
        await act(client)
    assert transport.requests == []


async def test_whole_surrogate_pairs_and_escaped_texts_are_sent(client: ClaudeClient, transport: Any) -> None:
    name = "\U0001f600 \ud83d\ude00 \\ud800"
    await client.agents.create({"name": name})
    assert transport.requests[0].json == {"name": "\U0001f600 \U0001f600 \\ud800"}
