"""An interrupt around the moment at which a call is handed over, at either provider: the session is free afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.testing import Turn, open_agentcore_simulator, open_claude_simulator, run_in_virtual_time

# The actor takes a call up and its task begins within these of trio's steps, in an order that is trio's to choose.
TICKS = 16
SEEDS = 6


async def agent(turn: Turn) -> None:
    await trio.sleep(1)
    await turn.call_tools(("echo", {"text": turn.text}))
    await turn.say("Hi")


async def interrupt_after(provider: Any, ticks: int) -> list[str]:
    ran: list[str] = []

    async def echo(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        ran.append(input["text"])
        await trio.sleep(1)
        return "r"

    is_claude = provider is claude_managed_agents
    open_simulator: Any = open_claude_simulator if is_claude else open_agentcore_simulator
    async with open_simulator(agent, transport="memory") as simulator, simulator.client() as client:
        where = (
            {"agent": simulator.agent_id, "environment": simulator.environment_id}
            if is_claude
            else {"harness_arn": simulator.harness_arn, "runtime_session_id": "s" * 33}
        )
        async with (
            maa.open_session(provider, client=client, handler=echo, **where) as session,
            session.subscribe() as terminals,
        ):
            await session.message("first")
            await trio.sleep(1)
            for _ in range(ticks):
                await trio.lowlevel.checkpoint()
            await session.interrupt()
            await terminals.receive()
            assert (await session.ask("second")).text == "Hi"
    return ran


@pytest.mark.parametrize("provider", [claude_managed_agents, bedrock_agent_core], ids=["claude", "agentcore"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_after_an_interrupt_the_next_call_runs(provider: Any, seed: int) -> None:
    for ticks in range(TICKS):
        ran = run_in_virtual_time(interrupt_after, provider, ticks, seed=seed)
        assert ran in (["second"], ["first", "second"])
