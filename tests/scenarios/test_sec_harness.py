"""SEC-01: what a harness is reached and connects with is shown nowhere, wherever the service says it again."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeAlias
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import managed_agents_actors as maa
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.agentcore._loading import load
from managed_agents_actors.providers import bedrock_agent_core
from managed_agents_actors.provisioning import AgentSpec
from managed_agents_actors.testing import Request, Responder, open_wire_server
from managed_agents_actors.testing._aws_frames import encode_message, error_frame, event_frame, exception_frame

from ._harness import ARN, REGION, STREAM, says, start
from ._observed import Observed, observe
from ._planted import (
    HEADER_TOKENS,
    SECRET_KEYS,
    SESSION_TOKENS,
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

ROLE = "arn:aws:iam::123456789012:role/Harness"
GATEWAY = f"arn:aws:bedrock-agentcore:{REGION}:123456789012:gateway/notes-0123456789"
PROVIDER = f"arn:aws:bedrock-agentcore:{REGION}:123456789012:token-vault/default/oauth2credentialprovider/notes"

Handler: TypeAlias = Callable[[Request, Responder], Awaitable[None]]


@asynccontextmanager
async def open_client(handler: Handler, secret_key: str, token: str) -> AsyncIterator[maa.AgentCoreClient]:
    """A client, with these keys, of a service that answers so."""
    load()  # a thread would let virtual time pass
    async with open_wire_server(handler) as server:
        way = Transport(open_stream=server.open_memory_stream)
        keys = ("AKIDEXAMPLE", secret_key, token)
        async with maa.AgentCoreClient(REGION, keys, server.base_url, transport=way) as client:
            yield client


def connected(held: Sequence[str]) -> dict[str, Any]:
    """The tools and the model of a harness: a secret in each of the places that can hold one."""
    bearer, plain, address, gateway, parameter, base = held
    headers = {"X-Upstream": f"Bearer {bearer}", "X-Tenant": plain}
    mcp = {"remoteMcp": {"url": f"https://mcp.example/sse?key={quote(address, safe='')}", "headers": headers}}
    oauth = {"providerArn": PROVIDER, "scopes": ["read"], "customParameters": {"audience": gateway}}
    own = {"agentCoreGateway": {"gatewayArn": GATEWAY, "outboundAuth": {"oauth": oauth}}}
    llm = f"https://me:{quote(base, safe='')}@llm.example"
    model = {"modelId": "m", "apiBase": llm, "additionalParams": {"x": [parameter]}}
    return {
        "tools": [
            {"type": "remote_mcp", "name": "mcp", "config": mcp},
            {"type": "agentcore_gateway", "name": "gateway", "config": own},
        ],
        "model": {"liteLlmModelConfig": model},
    }


# --- sessions ---------------------------------------------------------------------------------------------------------


def refused(status: int, said: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
    body = {"message": f"canonical {said}", "details": [said], said: 1, "__type": f"ns#{said}"}
    return status, headers, json.dumps(body).encode()


def damaged(said: str) -> list[list[bytes]]:
    """Streams that break, or hold what nobody knows."""
    whole = encode_message({":event-type": said, ":message-type": "event"}, said.encode())
    unread = encode_message({":event-type": "contentBlockDelta", ":message-type": "event"}, said.encode())
    odd = encode_message({":exception-type": "oddException", ":message-type": "exception"}, said.encode())
    return [
        [exception_frame("validationException", {"message": said, "reason": said, said: [said]})],
        [exception_frame(said, {"message": "no"})],
        [error_frame(said, said)],
        [odd],
        [whole[:-1] + b"\0"],
        [said.encode() * 9],
        [unread],
        [event_frame(said, {said: 1}), encode_message({":message-type": said}, said.encode()), *says("Done.")[1:]],
    ]


def storm(said: str) -> list[Any]:
    """What each invocation is answered with, where something goes wrong wherever it can."""
    named = {"x-amzn-requestid": said}
    return [
        refused(400, said, {**named, "x-amzn-errortype": f"{said}:http://x"}),
        refused(403, said, {**named, "x-amzn-errortype": "InvalidSignatureException"}),
        refused(424, said, named),
        (301, {"location": said}, b""),
        (502, {}, said.encode()),
        (200, {"content-type": f"text/{said}", **named}, said.encode()),
        *([start(), *parts] for parts in damaged(said)),
    ]


@examples(12)
@given(SECRET_KEYS, SESSION_TOKENS, several(HEADER_TOKENS, 6), forms, logs)
def test_sec_01_what_a_service_says_again_all_the_time_is_nowhere(
    secret_key: str, token: str, held: list[str], form: str, log: str
) -> None:
    said = said_again(form, secret_key, token, *held)

    async def act(observed: Observed) -> None:
        answers = storm(said)

        async def handle(request: Request, respond: Responder) -> None:
            answer = answers.pop(0) if "/stopruntimesession" not in request.path else (200, {}, b"{}")
            if isinstance(answer, list):
                body = await respond.start_stream({**STREAM, "x-amzn-requestid": said})
                for part in answer:
                    await body.send(part)
                await body.end()
            else:
                await respond.bytes(answer[0], answer[2], answer[1])

        async with open_client(handle, secret_key, token) as client, maa.open_supervisor() as supervisor:
            options = {"client": client, "harness_arn": ARN, "runtime_session_id": str(uuid.uuid4()), **connected(held)}
            session = await supervisor.start_session(
                bedrock_agent_core, handler=lookup, name="chat", invoke_retries=0, **options
            )
            while answers:
                await ask(session, observed)
            observed.note("repr", client, bedrock_agent_core.parse_options(options))
            observed.note("repr", session, session.status(), session._home.options)
            observed.note("repr", supervisor, supervisor.statistics(), *supervisor.which_children())

    check(observe(act, log=log), [secret_key, token, *held], "event", log, "error", "traceback")


# --- provisioning -----------------------------------------------------------------------------------------------------


def harness(status: str, **more: Any) -> dict[str, Any]:
    times = {"createdAt": 1, "updatedAt": 1, "executionRoleArn": ROLE}
    named = {"harnessId": "notes-0123456789", "harnessName": "notes", "arn": ARN}
    return {"harness": {**named, **times, "status": status, **more}}


def provisioned(ending: str, said: str) -> Handler:
    """The control plane, which creates a harness, or refuses to, and says how that has ended."""

    async def handle(request: Request, respond: Responder) -> None:
        path = request.path.removeprefix("/harnesses")
        if request.method == "POST" and ending == "refused":
            await respond.json(400, {"message": said})
        elif request.method == "POST":
            await respond.json(201, harness("CREATING"))
        elif request.method == "DELETE":
            await respond.json(500, {"message": said})
        elif not path:
            await respond.json(200, {"harnesses": []})
        elif ending == "look refused":
            await respond.json(403, {"message": said})
        else:
            failing = ending == "failed" and "/endpoints" not in path
            await respond.json(200, harness("CREATE_FAILED" if failing else "CREATING", failureReason=said))

    return handle


@examples(12)
@given(
    SECRET_KEYS,
    SESSION_TOKENS,
    several(TEXTS, 3),
    several(HEADER_TOKENS, 6),
    st.sampled_from(["refused", "failed", "look refused", "too slow"]),
    forms,
    logs,
)
def test_sec_01_what_is_provisioned_with_secrets_shows_none_however_that_ends(
    secret_key: str, token: str, values: list[str], held: list[str], ending: str, form: str, log: str
) -> None:
    variables = {"DATABASE_URL": values[0], "SIGNING_KEY": values[1], "OTHER": values[2]}
    parts = connected(held)

    async def act(observed: Observed) -> None:
        handle = provisioned(ending, said_again(form, secret_key, token, *values, *held))
        async with open_client(handle, secret_key, token) as client:
            spec = AgentSpec(name="notes", system_prompt="Help.", settings={"environmentVariables": variables}, **parts)
            options: dict[str, Any] = {"client": client, "execution_role_arn": ROLE, "timeout": 60.0}
            with pytest.raises(maa.ManagedAgentsError) as failed:
                await maa.provision(bedrock_agent_core, spec, **options)
            observed.note_error(failed.value)

    check(observe(act, log=log), [secret_key, token, *values, *held], "error", "traceback")
