"""Credentials go to the one host they are for, and into no error."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from managed_agents_actors import _errors as errors
from managed_agents_actors.claude import ClaudeClient


@pytest.mark.parametrize("scheme", ["x-api-key", "bearer"])
async def test_a_redirect_is_never_followed_and_no_other_credential_is_applied(scheme: str) -> None:
    seen: list[tuple[str, str | None]] = []
    header = "authorization" if scheme == "bearer" else "x-api-key"

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, request.headers.get(header)))
        return httpx.Response(307, headers={"location": "http://evil.test/x"})

    transport = httpx.MockTransport(answer)
    options: Any = {"follow_redirects": True, "auth": ("other", "password")}
    async with httpx.AsyncClient(transport=transport, **options) as application:
        client = ClaudeClient("sk-secret", "http://api.test", http_client=application, auth_scheme=scheme)
        with pytest.raises(errors.APIError, match=r"evil\.test") as caught:
            await client.agents.list()
    assert caught.value.status == 307
    assert seen == [("api.test", "Bearer sk-secret" if scheme == "bearer" else "sk-secret")]


async def test_an_error_that_echoes_a_credential_of_the_body_does_not_show_it(
    client: ClaudeClient, transport: Any
) -> None:
    resource = {"type": "github_repository", "authorization_token": "ghp_0123/456"}
    echo = {"error": {"type": "invalid_request_error", "message": "bad token ghp_0123/456", "given": resource}}
    transport.replies = [(400, echo)]
    with pytest.raises(errors.InvalidRequestError) as caught:
        await client.sessions.create(agent="a", resources=[resource])
    assert transport.requests[0].json["resources"] == [resource]
    assert "ghp" not in f"{caught.value} {vars(caught.value)}"
    assert "bad token [redacted]" in caught.value.message
