"""SEC-01: what is broken below the APIs: answers that are no HTTP, credentials that are none, ids that are paths."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import managed_agents_actors as maa
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.agentcore._loading import load
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.testing import Request, Responder, open_wire_server, run_in_virtual_time

from ._harness import ARN, REGION
from ._observed import Observed, observe
from ._planted import API_KEYS, HEADER_TOKENS, SECRET_KEYS, SESSION_TOKENS, check, examples, logs, lookup

# Heads and bodies that no HTTP has, each with a place for what is said again.
BROKEN = {
    "status line": "HTTP/1.1 abc {}\r\n\r\n",
    "another protocol": "{0} {0}\r\n\r\n",
    "header line": "HTTP/1.1 200 OK\r\n{} is no header\r\n\r\n",
    "header value": "HTTP/1.1 200 OK\r\nx-name: {}\0\r\n\r\n",
    "length": "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
    "framing": "HTTP/1.1 200 OK\r\ntransfer-encoding: {}\r\n\r\n",
    "chunk": "HTTP/1.1 400 Bad\r\ntransfer-encoding: chunked\r\n\r\n{}\r\n",
    "encoding": "HTTP/1.1 200 OK\r\ncontent-encoding: {}\r\ncontent-length: 2\r\n\r\n{{}}",
    "half a body": "HTTP/1.1 400 Bad\r\ncontent-length: 900\r\n\r\n{}",
    "waiting time": "HTTP/1.1 429 Busy\r\nretry-after: {0}\r\ndate: {0}\r\ncontent-length: 0\r\n\r\n",
}
PROVIDERS = st.sampled_from(["claude", "agentcore"])


@asynccontextmanager
async def open_broken(answer: bytes) -> AsyncIterator[Transport]:
    """A way to a server that answers so, whatever it is sent."""

    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await stream.aclose()

    async def connect(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        client, server = trio.testing.memory_stream_pair()
        nursery.start_soon(serve, server)
        return client

    async with trio.open_nursery() as nursery:
        yield Transport(open_stream=connect)


@asynccontextmanager
async def open_options(provider: str, transport: Transport, *secrets: str) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    """A provider, and what a session of it is opened with."""
    if provider == "claude":
        async with maa.ClaudeClient(secrets[0], "http://api.test", transport=transport) as client:
            yield claude_managed_agents, {"client": client, "agent": "a", "environment": "e"}
        return
    load()  # a thread would let virtual time pass
    keys = ("AKIDEXAMPLE", *secrets)
    async with maa.AgentCoreClient(REGION, keys, "http://api.test", transport=transport) as client:
        yield bedrock_agent_core, {"client": client, "harness_arn": ARN, "runtime_session_id": str(uuid.uuid4())}


@pytest.mark.parametrize("how", BROKEN)
@examples(6)
@given(PROVIDERS, HEADER_TOKENS | SECRET_KEYS, SESSION_TOKENS, logs)
def test_sec_01_an_answer_that_is_no_http_shows_no_secret_in_it(
    how: str, provider: str, secret: str, token: str, log: str
) -> None:
    async def act(observed: Observed) -> None:
        for said in (secret, token) if provider == "agentcore" else (secret,):
            async with (
                open_broken(BROKEN[how].format(said).encode()) as transport,
                open_options(provider, transport, secret, token) as (module, options),
            ):
                with pytest.raises(maa.ManagedAgentsError) as failed:
                    await maa.run_session(module, prompt="go", handler=lookup, **options)
                observed.note_error(failed.value)

    observed = observe(act, log=log)
    check(observed, [secret, token] if provider == "agentcore" else [secret])
    assert "_errors." in observed.of("traceback")


# --- credentials that are none ----------------------------------------------------------------------------------------


@examples(15)
@given(API_KEYS, st.sampled_from([" ", "\n", "\r\n", "ä", "\0"]), st.integers(0, 20), logs)
def test_sec_01_a_credential_that_cannot_be_one_is_refused_unseen(key: str, wrong: str, at: int, log: str) -> None:
    broken = f"{key[:at]}{wrong}{key[at:]}"
    claude: dict[str, Any] = {"agent": "a", "environment": "e"}
    harness: dict[str, Any] = {"harness_arn": ARN, "runtime_session_id": str(uuid.uuid4())}

    async def current() -> str:
        return broken

    attempts: list[Callable[[], Awaitable[Any]]] = [
        lambda: run(claude_managed_agents, **claude, model_config={"api_key": broken}),
        lambda: run(claude_managed_agents, **claude, model_config={"api_key": current}),
        lambda: run(claude_managed_agents, **claude, model_config={"api_key": key, "base_url": f"http://u:{key}@h"}),
        lambda: run(claude_managed_agents, **claude, model_config={"api_key": {"key": key}}),
        lambda: run(claude_managed_agents, **claude, model_config=[key]),
        lambda: run(claude_managed_agents, **claude, resources=[key]),
        lambda: run(bedrock_agent_core, **harness, model_config={"credentials": ("AKIDEXAMPLE", broken)}),
        lambda: run(bedrock_agent_core, **harness, model_config={"credentials": ("AKIDEXAMPLE", key, broken)}),
        lambda: run(bedrock_agent_core, **harness, model_config={"credentials": key}),
        lambda: run(bedrock_agent_core, **harness, tools=[key]),
    ]

    async def act(observed: Observed) -> None:
        load()
        for attempt in attempts:
            with pytest.raises(maa.ConfigurationError) as refused:
                await attempt()
            observed.note_error(refused.value)

    check(observe(act, log=log), [key])


async def run(module: Any, **options: Any) -> maa.SessionResult:
    return await maa.run_session(module, prompt="go", handler=lookup, **options)


@examples(10)
@given(API_KEYS, logs)
def test_sec_01_why_a_key_could_not_be_had_is_told_by_its_kind_alone(secret: str, log: str) -> None:
    """What the application's own code raised is the cause, as ever: only a traceback shows it."""

    def key() -> str:
        raise LookupError(f"the vault refused {secret}")

    async def act(observed: Observed) -> None:
        async with maa.ClaudeClient(key) as client:
            with pytest.raises(maa.TransportError) as failed:
                await run(claude_managed_agents, client=client, agent="a", environment="e")
        assert isinstance(failed.value.__cause__, LookupError)
        observed.note("error", failed.value, vars(failed.value))
        observed.note("repr", client)

    observed = observe(act, log=log)
    check(observed, [secret])
    assert "api_key= failed with LookupError" in observed.of("error")


# --- ids that are paths -----------------------------------------------------------------------------------------------

# What a server, or a proxy before it, may take for a way through its paths.
STEPS = ("..", ".", "/", "\\", "%2f", "%2F", "%2e%2e", "%", "?", "#", ";", "&x=1", "@", ":", " ", "\0", "\n", "ü", "a")
ids = st.lists(st.sampled_from(STEPS), max_size=6).map("".join)


@asynccontextmanager
async def open_target(targets: list[str]) -> AsyncIterator[Any]:
    """A server that has nothing, and notes where it was looked for."""

    async def handle(request: Request, respond: Responder) -> None:
        targets.append(request.target)
        await respond.json(404, {"error": {"type": "not_found_error", "message": "no"}})

    async with open_wire_server(handle) as server:
        yield server


def segments(target: str) -> list[str]:
    return [unquote(part) for part in target.partition("?")[0].split("/")]


CLAUDE_CALLS: list[tuple[Callable[[maa.ClaudeClient, str], Awaitable[Any]], str]] = [
    (lambda client, it: client.agents.retrieve(it), "/v1/agents/*"),
    (lambda client, it: client.agents.archive(it), "/v1/agents/*/archive"),
    (lambda client, it: client.agents.versions.list(it), "/v1/agents/*/versions"),
    (lambda client, it: client.environments.update(it, {}), "/v1/environments/*"),
    (lambda client, it: client.environments.delete(it), "/v1/environments/*"),
    (lambda client, it: client.sessions.retrieve(it), "/v1/sessions/*"),
    (lambda client, it: client.sessions.delete(it), "/v1/sessions/*"),
    (lambda client, it: client.sessions.events.send(it, []), "/v1/sessions/*/events"),
    (lambda client, it: client.sessions.events.list(it), "/v1/sessions/*/events"),
    (lambda client, it: client.sessions.resources.delete("s", it), "/v1/sessions/s/resources/*"),
    (lambda client, it: client.sessions.resources.retrieve(it, "r"), "/v1/sessions/*/resources/r"),
    (lambda client, it: client.files.delete(it), "/v1/files/*"),
    (lambda client, it: run(claude_managed_agents, client=client, session_id=it), "/v1/sessions/*/events/stream"),
]


@pytest.mark.parametrize(("call", "path"), CLAUDE_CALLS, ids=[path for _, path in CLAUDE_CALLS])
@examples(25)
@given(ids)
def test_sec_01_an_id_is_one_segment_of_the_path_or_nothing_is_sent(call: Any, path: str, id: str) -> None:
    targets: list[str] = []

    async def act() -> None:
        async with open_target(targets) as server, server.client() as client:
            refused = (maa.ConfigurationError, maa.NotFoundError, maa.SessionGone)
            with pytest.raises(refused) as caught:
                await call(client, id)
            assert bool(targets) is not isinstance(caught.value, maa.ConfigurationError)

    run_in_virtual_time(act)
    whole = [part.replace("*", id) for part in path.split("/")]
    assert all(segments(target) == whole for target in targets)
    assert id not in ("", ".", "..") or not targets


HARNESS_CALLS: list[Callable[[maa.AgentCoreClient, str], Awaitable[Any]]] = [
    lambda client, it: client.get_harness(harnessId=it),
    lambda client, it: client.delete_harness(harnessId=it),
    lambda client, it: client.update_harness(harnessId=it),
    lambda client, it: client.get_harness_endpoint(harnessId="notes-0123456789", endpointName=it),
    lambda client, it: client.stop_runtime_session(agentRuntimeArn=ARN, runtimeSessionId=f"{'s' * 33}{it}"),
    lambda client, it: client.run_command(ARN, "s" * 40, "ls", qualifier=it),
    lambda client, it: run(bedrock_agent_core, client=client, harness_arn=f"{ARN}{it}", runtime_session_id="s" * 40),
    lambda client, it: run(bedrock_agent_core, client=client, harness_arn=ARN, runtime_session_id=f"{'s' * 33}{it}"),
    lambda client, it: run(bedrock_agent_core, client=client, harness_arn=ARN, session_id=f"{'s' * 33}{it}"),
]


@pytest.mark.parametrize("call", HARNESS_CALLS, ids=range(len(HARNESS_CALLS)))
@examples(25)
@given(ids.filter(lambda it: re.fullmatch("a*", it) is None))
def test_sec_01_what_is_no_id_of_a_harness_is_refused_before_anything_is_sent(call: Any, id: str) -> None:
    targets: list[str] = []

    async def act() -> None:
        load()
        async with open_target(targets) as server:
            way = Transport(open_stream=server.open_memory_stream)
            async with maa.AgentCoreClient(REGION, ("AKIDEXAMPLE", "k"), server.base_url, transport=way) as client:
                with pytest.raises(maa.ConfigurationError):
                    await call(client, id)

    run_in_virtual_time(act)
    assert targets == []


@examples(25)
@given(ids)
def test_sec_01_the_arn_of_a_runtime_is_one_segment_of_the_path_or_nothing_is_sent(id: str) -> None:
    arn = f"arn:aws:bedrock-agentcore:{REGION}:123456789012:runtime/{id}"
    targets: list[str] = []

    async def act() -> None:
        load()
        async with open_target(targets) as server:
            way = Transport(open_stream=server.open_memory_stream)
            async with maa.AgentCoreClient(REGION, ("AKIDEXAMPLE", "k"), server.base_url, transport=way) as client:
                with pytest.raises((maa.ConfigurationError, maa.NotFoundError)):
                    await client.run_command(arn, "s" * 40, "ls")

    run_in_virtual_time(act)
    assert all(segments(target) == ["", "runtimes", arn, "commands"] for target in targets)
