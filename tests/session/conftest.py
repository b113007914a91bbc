"""Shared by the tests of sessions: a simulator in memory with a client of it, and a bound on virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import ClaudeSimulator, SimulatedSession, open_claude_simulator

# Virtual seconds after which a test that waits for what never comes fails, instead of running for ever.
PATIENCE = 1_000.0


class Tools:
    """A handler whose tool takes a while; knows what was started, and what was cancelled and when."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds
        self.started: list[str] = []
        self.cancelled: list[tuple[str, float]] = []

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        self.started.append(context.tool_use_id)
        try:
            await trio.sleep(self._seconds)
        except trio.Cancelled:
            self.cancelled.append((context.tool_use_id, trio.current_time()))
            raise
        return "r"


@dataclass(frozen=True)
class Place:
    """A simulator, a client of it, and what a new session there is opened with."""

    simulator: ClaudeSimulator
    client: maa.ClaudeClient

    @property
    def options(self) -> dict[str, Any]:
        return {
            "client": self.client,
            "agent": self.simulator.agent_id,
            "environment": self.simulator.environment_id,
        }

    def open(self, handler: Any = None, **options: Any) -> AbstractAsyncContextManager[maa.Session]:
        """Open a new session here."""
        return maa.open_session(claude_managed_agents, handler=handler or Tools(), **{**self.options, **options})

    def look(self, session: maa.Session | maa.SessionResult) -> SimulatedSession:
        """The session as the simulator sees it."""
        return self.simulator.session(str(session.session_id))

    def inputs(self, session: maa.Session | maa.SessionResult) -> list[dict[str, Any]]:
        """What the session was told by its clients, in order."""
        return [event for event in self.look(session).events if event["type"].startswith("user.")]

    def answers(self, session: maa.Session | maa.SessionResult) -> list[tuple[str, bool]]:
        """The text of each tool result, and whether it is an error."""
        return [
            ("".join(block.get("text", "") for block in event["content"]), event["is_error"])
            for event in self.inputs(session)
            if event["type"] == "user.custom_tool_result"
        ]


@pytest.fixture
def tools() -> type[Tools]:
    """The handler above."""
    return Tools


@pytest.fixture
def simulate() -> Callable[..., AbstractAsyncContextManager[Place]]:
    """`async with simulate(script) as place`: a simulator in memory, gone after at most `PATIENCE` virtual seconds."""

    @asynccontextmanager
    async def opened(script: Any = None, **options: Any) -> AsyncIterator[Place]:
        with trio.fail_after(PATIENCE):
            async with (
                open_claude_simulator(script, transport="memory", **options) as simulator,
                simulator.client() as client,
            ):
                yield Place(simulator, client)

    return opened
