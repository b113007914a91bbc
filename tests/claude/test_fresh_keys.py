"""A live session whose key expires on the way goes on with the next one, and ends when there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import ClaudeSimulator, call_tool, open_claude_simulator, say, wait

PATIENCE = 1_000.0  # virtual seconds


class Keys:
    """A callable key: the expired ones it was told of first, then the one the server takes."""

    def __init__(self, good: str) -> None:
        self.good = good
        self.expired: list[str] = []

    def __call__(self) -> str:
        return self.expired.pop(0) if self.expired else self.good


@asynccontextmanager
async def open_place(script: Any, handler: Any) -> AsyncIterator[tuple[ClaudeSimulator, Keys, maa.Session]]:
    with trio.fail_after(PATIENCE):
        async with open_claude_simulator(script, transport="memory") as simulator:
            keys = Keys(simulator.api_key)
            async with (
                simulator.client(api_key=keys) as client,
                maa.open_session(
                    claude_managed_agents,
                    client=client,
                    agent=simulator.agent_id,
                    environment=simulator.environment_id,
                    handler=handler,
                ) as session,
            ):
                yield simulator, keys, session


def refused(simulator: ClaudeSimulator) -> list[str]:
    """The requests whose key was refused."""
    return [f"{request.method} {request.path[-6:]}" for request in simulator.requests if request.status == 401]


async def no_tools(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    raise AssertionError("no tool is called")


async def test_a_session_whose_key_expired_before_it_comes_back_goes_on(autojump_clock: Any) -> None:
    async with open_place([wait(10), say("done")], no_tools) as (simulator, keys, session):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def expire() -> None:
                await trio.sleep(5)
                keys.expired = ["expired"]
                simulator.drop_streams(str(session.session_id))

            result = await session.ask("Hello")
        assert result.text == "done"
        assert session.status().reconnects == 1
    assert refused(simulator) == ["GET stream"]


async def test_a_result_that_meets_an_expired_key_is_taken_once(autojump_clock: Any) -> None:
    async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        keys.expired = ["expired"]
        return "r"

    async with open_place([call_tool("t"), say("done")], tool) as (simulator, keys, session):
        result = await session.ask("Hello")
        assert result.text == "done"
        events = simulator.session(str(session.session_id)).events
    assert refused(simulator) == ["POST events"]
    assert sum(event["type"] == "user.custom_tool_result" for event in events) == 1


async def test_a_session_whose_fresh_key_is_refused_too_ends_with_its_cause(autojump_clock: Any) -> None:
    async with open_place([wait(10), say("done")], no_tools) as (simulator, keys, session):
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def expire() -> None:
                await trio.sleep(5)
                keys.expired = ["expired-1", "expired-2"]
                simulator.drop_streams(str(session.session_id))

            with pytest.raises(maa.AuthenticationError):
                await session.ask("Hello")
        with pytest.raises(maa.AuthenticationError):
            await session.wait_closed()
    assert refused(simulator) == ["GET stream", "GET stream"]
