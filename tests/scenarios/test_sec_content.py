"""SEC-01: what people, models and tools say is told to those who have asked for it; a crash tells no credential."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.testing import (
    call_tool,
    crash_session,
    open_agentcore_simulator,
    open_claude_simulator,
    say,
    wait,
)

from ._observed import Observed, observe
from ._planted import (
    API_KEYS,
    HEADER_TOKENS,
    LETTERS,
    SECRET_KEYS,
    SESSION_TOKENS,
    check,
    drawn,
    examples,
    logs,
    lookup,
)

PROVIDERS = ("claude", "agentcore")
BOTH = pytest.mark.parametrize("provider", PROVIDERS)

# Nothing that looks like a secret, which would be taken out of what is told.
SAYINGS = st.lists(drawn(LETTERS), min_size=5, max_size=5)


@asynccontextmanager
async def open_place(provider: str, script: Any, *keys: str) -> AsyncIterator[tuple[Any, dict[str, Any]]]:
    """A provider, simulated, which accepts these keys; and what a session there is opened with."""
    memory: dict[str, Any] = {"transport": "memory"}
    if provider == "claude":
        accepted: dict[str, Any] = {"api_key": keys[0]} if keys else {}
        async with open_claude_simulator(script, **memory, **accepted) as simulator, simulator.client() as client:
            named = {"agent": simulator.agent_id, "environment": simulator.environment_id}
            yield claude_managed_agents, {"client": client, **named}
        return
    signed: dict[str, Any] = {"credentials": ("AKIDEXAMPLE", *keys)} if keys else {}
    async with open_agentcore_simulator(script, **memory, **signed) as service, service.client() as caller:
        named = {"harness_arn": service.harness_arn, "runtime_session_id": "session-0123456789-0123456789-0123456789"}
        yield bedrock_agent_core, {"client": caller, **named}


def conversation(provider: str, sayings: list[str], tool: Callable[..., Any], *, log: str, content: bool) -> Observed:
    """A request with a call of a tool, and all that can be seen of it."""
    prompt, key, value, answer, _ = sayings

    async def act(observed: Observed) -> None:
        script = [call_tool("lookup", {key: [value]}), say(answer)]
        async with open_place(provider, script) as (module, options), maa.open_supervisor() as supervisor:
            session = await supervisor.start_session(module, handler=tool, name="chat", **options)
            result = await session.ask(prompt)
            assert (result.text, result.error) == (answer, None)
            observed.note("repr", session, session.status(), supervisor, supervisor.statistics())

    return observe(act, log=log, content=content)


def gives(sayings: list[str], how: str) -> Callable[..., Any]:
    """A tool that says the last of them, as its result or as an error that the model is to read."""

    async def lookup(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
        if how == "error":
            raise maa.ToolError(sayings[-1])
        return sayings[-1]

    return lookup


@BOTH
@pytest.mark.parametrize("how", ["output", "error"])
@examples(8)
@given(sayings=SAYINGS, log=logs)
def test_sec_01_what_is_said_is_in_no_event_line_and_span(
    provider: str, how: str, sayings: list[str], log: str
) -> None:
    observed = conversation(provider, sayings, gives(sayings, how), log=log, content=False)
    check(observed, sayings)
    assert "tool.stop" in observed.of(log)
    assert "execute_tool lookup" in observed.of("span")


@BOTH
@pytest.mark.parametrize("how", ["output", "error"])
@examples(4)
@given(sayings=SAYINGS, log=logs)
def test_sec_01_what_is_said_is_told_to_those_who_have_asked_for_it(
    provider: str, how: str, sayings: list[str], log: str
) -> None:
    observed = conversation(provider, sayings, gives(sayings, how), log=log, content=True)
    for place in ("event", "span", log):
        assert [said for said in sayings if said not in observed.of(place)] == [], place


@BOTH
@examples(9)
@given(sayings=SAYINGS, log=logs)
def test_sec_01_what_a_tool_raised_is_told_with_its_traceback_in_the_log_alone(
    provider: str, sayings: list[str], log: str
) -> None:
    async def lookup(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
        raise LookupError(sayings[-1]) from ValueError(input)

    observed = conversation(provider, sayings, lookup, log=log, content=False)
    assert sayings[-1] in observed.of(log)
    del observed.seen[log]
    check(observed, sayings)
    assert "LookupError" in observed.of("event")
    assert "LookupError" in observed.of("span")


@BOTH
@examples(9)
@given(API_KEYS, HEADER_TOKENS | SECRET_KEYS, SESSION_TOKENS, logs)
def test_sec_01_a_crash_shows_no_credential(provider: str, key: str, secret_key: str, token: str, log: str) -> None:
    """Not in the traceback of the defect, nor in those of what follows from it. What locals hold is another matter."""
    keys = (key,) if provider == "claude" else (secret_key, token)

    async def act(observed: Observed) -> None:
        with pytest.raises(maa.RestartIntensityExceeded) as exceeded:
            async with (
                open_place(provider, [wait(5), call_tool("lookup"), wait(5), say("Done.")], *keys) as (module, options),
                maa.open_supervisor(max_restarts=1, max_seconds=60) as supervisor,
            ):
                session = await supervisor.start_session(module, handler=lookup, name="chat", **options)
                await session.message("go")
                for _ in range(2):
                    await trio.sleep(1)
                    observed.note("repr", session, session.status(), supervisor, *supervisor.which_children())
                    crash_session(session, RuntimeError("a defect"))
                with pytest.raises(maa.SessionCrashed) as crashed:
                    await session.wait_closed()
                observed.note_error(crashed.value)
        observed.note_error(exceeded.value)

    observed = observe(act, log=log)
    check(observed, keys)
    for place in ("traceback", log):
        assert "a defect" in observed.of(place)
