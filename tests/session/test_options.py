"""Options: each is checked before anything is sent, and a bad one is told by its name. LIF-07."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import Request, Responder, open_wire_server, say


async def handler(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
    return "r"


class NotAHandler:
    """An object without a `handle_tool_call`."""


class CallFieldHandler:
    """An object whose `handle_tool_call` cannot be called."""

    handle_tool_call = "soon"


# What is wrong, the options that are, and what the message must name.
UNUSABLE: dict[str, tuple[dict[str, Any], str]] = {
    "no handler at all": ({"handler": None}, "handler="),
    "a handler that is a number": ({"handler": 3}, "handler="),
    "a handler that is a class": ({"handler": NotAHandler}, "handler="),
    "an object that handles nothing": ({"handler": NotAHandler()}, "handler="),
    "an object with something else in its place": ({"handler": CallFieldHandler()}, "handler="),
    "a guard that is no function": ({"turn_guard": "halt"}, "turn_guard="),
    "a terminal tool is required but none named": ({"require_terminal_tool": True}, "terminal_tool="),
    "a terminal tool without a name": ({"terminal_tool": ""}, "terminal_tool="),
    "a terminal tool that is a function": ({"terminal_tool": handler}, "terminal_tool="),
    "no turns": ({"max_turns": 0}, "max_turns="),
    "negative turns": ({"max_turns": -1}, "max_turns="),
    "turns as a float": ({"max_turns": 1.5}, "max_turns="),
    "turns as a truth value": ({"max_turns": True}, "max_turns="),
    "turns as nothing": ({"max_turns": None}, "max_turns="),
    "negative reprompts": ({"max_reprompts": -1}, "max_reprompts="),
    "no concurrency": ({"max_tool_concurrency": 0}, "max_tool_concurrency="),
    "concurrency as text": ({"max_tool_concurrency": "8"}, "max_tool_concurrency="),
    "concurrency as a semaphore": ({"max_tool_concurrency": trio.Semaphore(1)}, "max_tool_concurrency="),
    "no time": ({"timeout": 0}, "timeout="),
    "negative time": ({"timeout": -1.0}, "timeout="),
    "time that is no number": ({"timeout": float("nan")}, "timeout="),
    "time as text": ({"timeout": "600"}, "timeout="),
    "time as a truth value": ({"timeout": True}, "timeout="),
    "no time for tools": ({"tool_timeout": 0}, "tool_timeout="),
    "no quiet": ({"unresolved_after": 0}, "unresolved_after="),
    "quiet for ever": ({"unresolved_after": None}, "unresolved_after="),
    "reconnect as a mapping": ({"reconnect": {"initial": 1}}, "reconnect="),
    "reconnect as nothing": ({"reconnect": None}, "reconnect="),
    "notify as a function": ({"notify": print}, "notify="),
    "metadata as a list": ({"telemetry_metadata": ["x"]}, "telemetry_metadata="),
    "an outcome that is none": ({"outcome": "a report"}, "outcome="),
    "an empty prompt": ({"prompt": ""}, "content"),
    "a prompt without blocks": ({"prompt": []}, "content"),
    "a prompt of nonsense": ({"prompt": [{"text": "no type"}]}, "content"),
    "a prompt that is a number": ({"prompt": 3}, "content"),
    "a client of another kind": ({"client": object()}, "client="),
    "an agent without an id": ({"agent": {"name": "x"}}, "agent="),
    "an agent with an empty id": ({"agent": ""}, "agent="),
    "an environment without an id": ({"environment": 3}, "environment="),
    "an empty session id": ({"session_id": ""}, "session_id="),
    "a session id of another kind": ({"session_id": 3}, "session_id="),
    "a model config that is a key": ({"model_config": "a key"}, "model_config="),
}

WRONG_NAMES: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown option": ({"max_turn": 3}, "'max_turn'"),
    "two unknown options": ({"b": 1, "a": 2}, "'a', 'b'"),
    "another provider's option": ({"harness_arn": "arn:aws:x"}, "'harness_arn'"),
    "no agent": ({"agent": None}, "agent="),
    "no environment": ({"environment": None}, "environment="),
}


async def _refuse_everything(request: Request, respond: Responder) -> None:
    await respond.json(500, {})


async def _try(how: str, options: dict[str, Any]) -> tuple[BaseException, int]:
    """What a call with these options raises, and how many requests it costs."""
    async with open_wire_server(_refuse_everything) as server, server.client() as client:
        given = {"handler": handler, "client": client, "agent": "a", "environment": "e", **options}
        with pytest.raises((maa.ManagedAgentsError, TypeError)) as caught:
            if how == "run":
                await maa.run_session(claude_managed_agents, **given)
            else:
                async with maa.open_session(claude_managed_agents, **given):
                    pytest.fail("entered")
        return caught.value, len(server.requests)


@pytest.mark.parametrize("how", ["run", "open"])
@pytest.mark.parametrize("what", UNUSABLE)
async def test_lif_07_a_bad_option_costs_nothing(what: str, how: str, autojump_clock: MockClock) -> None:
    options, named = UNUSABLE[what]
    error, requests = await _try(how, options)
    assert type(error) is maa.ConfigurationError
    assert named in str(error)
    assert requests == 0


@pytest.mark.parametrize("how", ["run", "open"])
@pytest.mark.parametrize("what", WRONG_NAMES)
async def test_lif_07_an_unknown_or_missing_option_is_named(what: str, how: str, autojump_clock: MockClock) -> None:
    options, named = WRONG_NAMES[what]
    error, requests = await _try(how, options)
    assert type(error) is TypeError
    assert named in str(error)
    assert requests == 0


async def test_lif_07_a_missing_handler(autojump_clock: MockClock) -> None:
    with pytest.raises(TypeError, match="handler"):
        await maa.run_session(claude_managed_agents, agent="a", environment="e")  # type: ignore[call-arg]  # the defect that is tested


@pytest.mark.parametrize("provider", [None, "claude", maa, object()])
async def test_lif_07_a_provider_that_is_none(provider: Any, autojump_clock: MockClock) -> None:
    with pytest.raises(maa.ConfigurationError, match="first argument must be a provider module"):
        await maa.run_session(provider, handler=handler)


@pytest.mark.parametrize("name", ["", 3])
async def test_lif_07_a_bad_name(name: Any, autojump_clock: MockClock) -> None:
    error, requests = await _try("open", {"name": name})
    assert (type(error), requests) == (maa.ConfigurationError, 0)
    assert "name=" in str(error)


async def test_lif_07_a_run_has_no_name(autojump_clock: MockClock) -> None:
    error, requests = await _try("run", {"name": "customer-42"})
    assert (type(error), requests) == (TypeError, 0)
    assert "'name'" in str(error)


@pytest.mark.parametrize(
    "options",
    [
        {"initial": -1.0},
        {"initial": 31.0},
        {"multiplier": 0.5},
        {"jitter": -0.1},
        {"jitter": 1.1},
        {"healthy_after": -1.0},
        {"max_attempts": 0},
    ],
)
def test_lif_07_a_bad_reconnect_policy(options: dict[str, Any]) -> None:
    with pytest.raises(maa.ConfigurationError, match="reconnect"):
        maa.ReconnectPolicy(**options)


@pytest.mark.parametrize("how", ["run", "open"])
async def test_an_infinite_timeout_is_no_timeout(how: str, simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([say("hi")]) as place:
        given = {"handler": handler, "timeout": float("inf"), "tool_timeout": float("inf"), **place.options}
        if how == "run":
            result = await maa.run_session(claude_managed_agents, **given)
        else:
            async with maa.open_session(claude_managed_agents, **given) as session:
                result = await session.ask("go")
    assert result.text == "hi"


async def test_metadata_and_context_reach_the_handler(simulate: Any, autojump_clock: MockClock) -> None:
    seen: list[maa.EventContext] = []
    user = object()

    class Watching:
        async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
            return "r"

        async def handle_event(self, event: Any, context: maa.EventContext) -> None:
            seen.append(context)

    async with simulate([say("hi")]) as place:
        result = await maa.run_session(
            claude_managed_agents,
            handler=Watching(),
            context=user,
            telemetry_metadata={"tenant": "t1", "region": "mine"},
            model_config={"metadata": {"region": "theirs"}},
            **place.options,
        )
    assert {context.session_id for context in seen} == {result.session_id}
    assert all(context.user is user for context in seen)
    assert all(context.metadata == {"tenant": "t1", "region": "theirs"} for context in seen)
    assert {context.provider for context in seen} == {"claude_managed_agents"}


class SynchronousJournal:
    def begin(self, session_id: str, use: maa.ToolUse) -> None: ...

    finish = settle = forget = begin


@pytest.mark.parametrize(
    "journal",
    [maa.MemoryJournal, maa.SqliteJournal, maa.SqliteJournal("never-opened"), SynchronousJournal(), object(), "path"],
    ids=["class", "sqlite class", "not open", "synchronous", "object", "path"],
)
async def test_what_is_no_journal_is_refused_before_anything_is_sent(
    journal: Any, simulate: Any, autojump_clock: MockClock
) -> None:
    async with simulate() as place:
        with pytest.raises(maa.ConfigurationError, match="journal"):
            async with place.open(journal=journal):
                pass
        assert place.simulator.requests == ()


@pytest.mark.parametrize("option", [{"on_interrupted": "maybe"}, {"on_exit": "burn"}])
async def test_a_choice_that_does_not_exist_is_refused(
    option: dict[str, str], simulate: Any, autojump_clock: MockClock
) -> None:
    async with simulate() as place:
        with pytest.raises(maa.ConfigurationError, match=next(iter(option))):
            async with place.open(**option):
                pass
