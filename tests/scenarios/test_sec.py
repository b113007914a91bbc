"""SEC-01: a credential is in no event, line, span, metric, repr and error, wherever a Claude server says it again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import open_wire_server

from ._observed import Observed, observe
from ._planted import (
    API_KEYS,
    FORMS,
    HEADER_TOKENS,
    TEXTS,
    ask,
    check,
    examples,
    forms,
    logs,
    lookup,
    said_again,
    several,
)
from ._script import DROP, HANG, NOW, OK, Pause, Posts, Script, Status

SCHEMES = st.sampled_from(["x-api-key", "bearer"])


def refusal(status: int, said: str, headers: Mapping[str, str] | None = None) -> Status:
    """A refusal that says it in its message, in a member of its own, in its kind, as a key and as its id."""
    error = {"type": f"error {said}", "message": f"bad {said}!", "details": {"given": [said], said: 1}}
    return Status(status, headers or {}, json.dumps({"type": "error", "error": error, "request_id": said}).encode())


def frame(name: str, data: str) -> bytes:
    return f"event: {name}\ndata: {data}\n\n".encode()


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": f"e-{kind}", "type": kind, "processed_at": NOW, **fields}


def storm(said: str) -> Script:
    """A session whose server says it wherever something can go wrong, three requests long."""
    failed = {"type": f"kind {said}", "message": f"could not clone with {said}", "retry_status": {"type": "exhausted"}}
    named = json.dumps({"type": "error", "error": {"type": f"kind {said}", "message": said, said: said}})
    script = Script()
    script.stream(refusal(503, said, {"request-id": said}))
    script.stream(Status(200, {"content-type": f"text/{said}", "request-id": said}, said.encode()))
    for data in (f'{{"a": "{said}', f'"{said}"', f"[{said}]"):
        script.stream(OK, frame("x", data), HANG)
    for damaged in (frame(said, "{"), frame("error", said), frame("error", json.dumps(said)), frame("error", named)):
        script.stream(OK, damaged, HANG)
    script.listing(refusal(500, said)).listing([event(said), event("session.error", error=failed)])
    script.answers(refusal(529, said), 200, refusal(400, said))
    begun = (OK, Posts(2), event("session.status_running"), event(f"{said} seen"), frame(said, "{}"))
    over = event("session.status_idle", stop_reason={"type": "retries_exhausted"})
    again = {**event("session.error", error=failed), "id": "again"}
    script.stream(*begun, again, over, Posts(3), Pause(1), DROP)
    script.stream(refusal(404, said, {"request-id": said}))
    return script


def session_options(tokens: Sequence[str]) -> dict[str, Any]:
    """What a session is created with: one secret in each of the fields that the API gives back to nobody."""
    names = ("authorization_token", "access_token", "refresh_token", "client_secret", "token", "secret_value")
    fields = dict(zip(names, tokens, strict=True))
    repository = {"type": "github_repository", "authorization_token": fields.pop("authorization_token")}
    return {"agent": "a", "environment": "e", "resources": [repository, {"type": "new", "auth": {"deep": [fields]}}]}


@examples(20)
@given(API_KEYS, several(HEADER_TOKENS, 6), SCHEMES, forms, logs)
def test_sec_01_what_a_server_says_again_all_the_time_is_nowhere(
    key: str, tokens: list[str], scheme: str, form: str, log: str
) -> None:
    async def act(observed: Observed) -> None:
        async with (
            open_wire_server(storm(said_again(form, key, *tokens))) as server,
            server.client(api_key=key, auth_scheme=scheme) as client,
            maa.open_supervisor() as supervisor,
        ):
            options = {"client": client, **session_options(tokens)}
            session = await supervisor.start_session(claude_managed_agents, handler=lookup, name="chat", **options)
            for _ in range(3):
                await ask(session, observed)
            await trio.sleep(60)
            observed.note("repr", client, client.sessions, claude_managed_agents.parse_options(options))
            observed.note("repr", session, session.status(), session._home.options)
            observed.note("repr", supervisor, supervisor.statistics(), *supervisor.which_children())

    check(observe(act, log=log), [key, *tokens], "event", "span", log, "error", "result")


STATUSES = (301, 307, 400, 401, 403, 404, 409, 413, 422, 429, 500, 503, 529)


@examples(25)
@given(API_KEYS, several(TEXTS, 6), st.sampled_from(STATUSES), forms, logs)
def test_sec_01_a_session_that_is_refused_with_its_secrets_shows_none(
    key: str, tokens: list[str], status: int, form: str, log: str
) -> None:
    said = said_again(form, key, *tokens)
    headers = {"location": f"http://{FORMS[form](key)}/", "request-id": FORMS[form](key)}
    answers = [refusal(status, said, headers), Status(status, headers, b""), Status(status, headers, said.encode())]

    async def act(observed: Observed) -> None:
        for answer in answers:
            script = Script().creates(*[answer] * 3)
            async with open_wire_server(script) as server, server.client(api_key=key) as client:
                options = {"client": client, **session_options(tokens)}
                with pytest.raises(maa.APIError) as refused:
                    await maa.run_session(claude_managed_agents, prompt="go", handler=lookup, **options)
                observed.note_error(refused.value)

    check(observe(act, log=log), [key, *tokens], "event", "span", log, "error", "traceback")
