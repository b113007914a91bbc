"""The client's settings, its headers, and the request each endpoint makes."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from managed_agents_actors import _errors as errors
from managed_agents_actors._config import configure, reset_configuration
from managed_agents_actors.claude import ClaudeClient

MA = "managed-agents-2026-04-01"
Make = Callable[..., ClaudeClient]


@pytest.mark.parametrize(
    ("act", "line", "body"),
    [
        (lambda c: c.agents.create({"name": "n"}, model="m"), "POST /v1/agents", {"name": "n", "model": "m"}),
        (lambda c: c.agents.retrieve("a/1", version=2), "GET /v1/agents/a%2F1?version=2", None),
        (lambda c: c.agents.update("a", system=None), "POST /v1/agents/a", {"system": None}),
        (lambda c: c.agents.archive("a"), "POST /v1/agents/a/archive", {}),
        (lambda c: c.environments.create(name="e"), "POST /v1/environments", {"name": "e"}),
        (lambda c: c.environments.retrieve("e"), "GET /v1/environments/e", None),
        (lambda c: c.environments.update("e", {"name": "f"}), "POST /v1/environments/e", {"name": "f"}),
        (lambda c: c.environments.archive("e"), "POST /v1/environments/e/archive", {}),
        (lambda c: c.environments.delete("e"), "DELETE /v1/environments/e", None),
        (lambda c: c.sessions.create({"agent": "a"}), "POST /v1/sessions", {"agent": "a"}),
        (lambda c: c.sessions.retrieve("s"), "GET /v1/sessions/s", None),
        (lambda c: c.sessions.update("s", title="t"), "POST /v1/sessions/s", {"title": "t"}),
        (lambda c: c.sessions.archive("s"), "POST /v1/sessions/s/archive", {}),
        (lambda c: c.sessions.delete("../x"), "DELETE /v1/sessions/..%2Fx", None),
        (
            lambda c: c.sessions.events.send("s", [{"type": "t"}]),
            "POST /v1/sessions/s/events",
            {"events": [{"type": "t"}]},
        ),
        (lambda c: c.sessions.resources.add("s", type="file"), "POST /v1/sessions/s/resources", {"type": "file"}),
        (lambda c: c.sessions.resources.retrieve("s", "r"), "GET /v1/sessions/s/resources/r", None),
        (lambda c: c.sessions.resources.update("s", "r", x=1), "POST /v1/sessions/s/resources/r", {"x": 1}),
        (lambda c: c.sessions.resources.delete("s", "r"), "DELETE /v1/sessions/s/resources/r", None),
    ],
)
async def test_each_endpoint(
    client: ClaudeClient, transport: Any, act: Callable[[ClaudeClient], Awaitable[Any]], line: str, body: Any
) -> None:
    transport.replies = [{"id": "it"}]
    assert await act(client) == {"id": "it"}
    [request] = transport.requests
    assert f"{request.method} {request.target}" == line
    assert (request.json if request.body else None) == body
    shown = {name: request.headers.get(name) for name in ("x-api-key", "anthropic-version", "anthropic-beta", "accept")}
    assert shown == {
        "x-api-key": "sk-secret",
        "anthropic-version": "2023-06-01",
        "anthropic-beta": MA,
        "accept": "application/json",
    }
    assert request.headers.get("content-type") == ("application/json" if body is not None else None)


@pytest.mark.parametrize(
    ("act", "target"),
    [
        (lambda c: c.agents.list(include_archived=True), "/v1/agents?include_archived=true"),
        (lambda c: c.agents.versions.list("a", limit=3), "/v1/agents/a/versions?limit=3"),
        (lambda c: c.environments.list(page="p"), "/v1/environments?page=p"),
        (lambda c: c.sessions.list(statuses=["idle"]), "/v1/sessions?statuses%5B%5D=idle"),
        (lambda c: c.sessions.resources.list("s"), "/v1/sessions/s/resources"),
        (lambda c: c.sessions.events.list("s"), "/v1/sessions/s/events?limit=1000"),
        (
            lambda c: c.sessions.events.list("s", limit=5, types=["a", "b"], created_at={"gte": "t"}),
            "/v1/sessions/s/events?limit=5&types%5B%5D=a&types%5B%5D=b&created_at%5Bgte%5D=t",
        ),
        (
            lambda c: c.sessions.events.list("s", created_at_gte="2026-01-31T12:00:00.5Z", created_at_lt=None),
            "/v1/sessions/s/events?limit=1000&created_at%5Bgte%5D=2026-01-31T12%3A00%3A00.5Z",
        ),
        (
            lambda c: c.agents.list(created_at_lte=datetime(2026, 1, 31, tzinfo=UTC)),
            "/v1/agents?created_at%5Blte%5D=2026-01-31T00%3A00%3A00%2B00%3A00",
        ),
        (lambda c: c.files.list(ids=["f"]), "/v1/files?ids%5B%5D=f"),
    ],
)
async def test_each_list(
    client: ClaudeClient, transport: Any, act: Callable[[ClaudeClient], Awaitable[Any]], target: str
) -> None:
    transport.replies = [{"data": [{"id": "1"}], "next_page": "more"}]
    page = await act(client)
    assert (page.data, page.next_page) == ([{"id": "1"}], "more")
    assert transport.requests[0].target == target


@pytest.mark.parametrize("files_beta", [None, "files-api-2025-04-14"])
async def test_files_have_beta_values_of_their_own(transport: Any, make_client: Make, files_beta: str | None) -> None:
    client = make_client(files_beta=files_beta)
    transport.replies = [{}, {"data": []}, {"data": []}, {}, b"", {}]
    await client.files.upload(b"x", filename="x.txt")
    await client.files.list()
    await client.files.list(scope_id="s")
    await client.files.retrieve_metadata("f")
    await client.files.download("f")
    await client.files.delete("f")
    both = f"{files_beta},{MA}" if files_beta else MA
    seen = [request.headers.get("anthropic-beta") for request in transport.requests]
    assert seen == [files_beta, files_beta, both, files_beta, both, files_beta]


async def test_settings_change_the_headers(transport: Any, make_client: Make) -> None:
    client = make_client(auth_scheme="bearer", anthropic_version="2026-10-21", beta="x,y")
    await client.agents.retrieve("a")
    headers = transport.requests[0].headers
    assert headers["authorization"] == "Bearer sk-secret"
    assert "x-api-key" not in headers
    assert (headers["anthropic-version"], headers["anthropic-beta"]) == ("2026-10-21", "x,y")


async def test_settings_come_from_configure_too(transport: Any) -> None:
    configure(api_key="sk-configured", base_url="http://configured.test/prefix/", auth_scheme="bearer")
    try:
        client = ClaudeClient(transport=transport)
    finally:
        reset_configuration()
    await client.agents.retrieve("a")
    assert repr(client) == "ClaudeClient(base_url='http://configured.test/prefix')"
    assert transport.requests[0].target == "/prefix/v1/agents/a"
    assert transport.requests[0].headers["authorization"] == "Bearer sk-configured"


async def test_a_callable_key_is_asked_before_every_attempt(
    transport: Any, make_client: Make, autojump_clock: Any
) -> None:
    keys = iter(["one", "two", "three"])

    async def current() -> str:
        return next(keys)

    client = make_client(api_key=current)
    transport.replies = [(529, {}), {}, {}]
    await client.agents.retrieve("a")
    assert [request.headers["x-api-key"] for request in transport.requests] == ["one", "two"]
    await make_client(api_key=lambda: "plain").agents.retrieve("a")
    assert transport.requests[-1].headers["x-api-key"] == "plain"


@pytest.mark.parametrize("key", ["", "sk\n", " sk", "sk-é", 7, b"sk"])
async def test_a_key_that_cannot_be_one_is_refused_unseen(transport: Any, make_client: Make, key: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="api_key") as caught:
        make_client(api_key=key)
    assert repr(key) not in str(caught.value)
    with pytest.raises(errors.ConfigurationError, match="api_key"):
        await make_client(api_key=lambda: key).agents.retrieve("a")
    assert transport.requests == []


@pytest.mark.parametrize(
    "options",
    [
        {"auth_scheme": "basic"},
        {"base_url": "api.test"},
        {"timeout": 0},
        {"connect_timeout": -1},
        {"idle_timeout": float("nan")},
        {"max_retries": -1},
    ],
)
def test_an_unusable_setting_is_refused(make_client: Make, options: dict[str, Any]) -> None:
    with pytest.raises(errors.ConfigurationError, match=next(iter(options))):
        make_client(**options)


async def test_no_repr_shows_the_key(transport: Any, client: ClaudeClient) -> None:
    transport.replies = [(401, {"error": {"type": "authentication_error", "message": "bad sk-secret"}})]
    with pytest.raises(errors.AuthenticationError) as caught:
        await client.agents.retrieve("a")
    parts = [
        client,
        client.agents,
        client.sessions.events,
        client.files,
        vars(client),
        vars(client.agents),
        caught.value,
    ]
    assert "sk-secret" not in repr(parts)


@pytest.mark.parametrize("id_", ["", ".", ".."])
async def test_an_unusable_id_is_refused_before_sending(client: ClaudeClient, transport: Any, id_: str) -> None:
    with pytest.raises(errors.ConfigurationError):
        await client.sessions.delete(id_)
    assert transport.requests == []


async def test_a_body_that_is_not_json_is_refused_before_sending(client: ClaudeClient, transport: Any) -> None:
    with pytest.raises(errors.ConfigurationError, match="not encodable"):
        await client.agents.create(name=object())
    assert transport.requests == []


@pytest.mark.parametrize(
    ("act", "attempts"),
    [
        (lambda c: c.agents.create(name="n"), 1),
        (lambda c: c.agents.update("a", name="n"), 3),
        (lambda c: c.agents.update("a", name="n", version=1), 1),
        (lambda c: c.agents.archive("a"), 3),
        (lambda c: c.sessions.create(agent="a"), 1),
        (lambda c: c.sessions.delete("s"), 3),
        (lambda c: c.sessions.events.send("s", []), 1),
        (lambda c: c.sessions.events.list("s"), 3),
        (lambda c: c.sessions.resources.add("s"), 1),
        (lambda c: c.sessions.resources.update("s", "r"), 3),
        (lambda c: c.files.upload(b"", filename="f"), 1),
        (lambda c: c.files.download("f"), 3),
        (lambda c: c.files.delete("f"), 3),
    ],
)
async def test_only_what_is_safe_to_repeat_is_repeated(
    client: ClaudeClient,
    transport: Any,
    autojump_clock: Any,
    act: Callable[[ClaudeClient], Awaitable[Any]],
    attempts: int,
) -> None:
    transport.replies = [(500, {})] * 9
    with pytest.raises(errors.ServerError):
        await act(client)
    assert len(transport.requests) == attempts


async def test_send_without_retry_is_made_once(client: ClaudeClient, transport: Any) -> None:
    transport.replies = [(429, {})]
    with pytest.raises(errors.RateLimitError):
        await client.sessions.events.send("s", [], retry=False)
    assert len(transport.requests) == 1


async def test_send_takes_an_empty_answer(client: ClaudeClient, transport: Any) -> None:
    transport.replies = [(202, b"")]
    assert await client.sessions.events.send("s", [{"type": "user.interrupt"}]) == {}


async def test_the_callers_mapping_is_not_changed(client: ClaudeClient) -> None:
    body = {"name": "n"}
    await client.agents.create(body, model="m")
    assert body == {"name": "n"}


async def test_leaving_the_client_closes_its_transport_and_refuses_calls(transport: Any, make_client: Make) -> None:
    async with make_client() as client:
        await client.agents.retrieve("a")
    assert transport.closed
    with pytest.raises(errors.ConfigurationError, match="closed"):
        await client.agents.retrieve("a")


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("https://api.test", "HTTPS://API.test:443/", True),
        ("http://api.test/v", "http://api.test:80/v", True),
        ("http://api.test", "http://api.test:", True),
        ("http://[::1]", "http://[::1]:80", True),
        ("http://api.test:8080", "http://API.TEST:08080", True),
        ("http://api.test", "https://api.test", False),
        ("http://api.test", "http://api.test:443", False),
        ("http://api.test/v", "http://api.test/V", False),
        ("http://[::1]", "http://[::1]:81", False),
    ],
)
async def test_an_account_is_the_same_however_its_url_is_written(
    one: str, other: str, is_same: bool, make_client: Make
) -> None:
    digests = [await make_client(base_url=url).account_digest() for url in (one, other)]
    assert (digests[0] == digests[1]) == is_same


async def test_an_account_keeps_its_digest() -> None:
    # Each of these is in somebody's store.
    digest = await ClaudeClient("key", base_url="https://api.anthropic.com").account_digest()
    assert digest == hashlib.sha256(b"https://api.anthropic.com\0key\0key").hexdigest()[:16]


async def test_an_applications_own_client_is_used_and_left_open(transport: Any, make_client: Make) -> None:
    async with httpx.AsyncClient(transport=transport) as own:
        async with make_client(transport=None, http_client=own) as client:
            await client.agents.retrieve("a")
        assert not own.is_closed
    assert transport.requests[0].target == "/v1/agents/a"
    with pytest.raises(errors.ConfigurationError, match="not both"):
        make_client(http_client=own)
