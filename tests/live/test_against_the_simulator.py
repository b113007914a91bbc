"""The live suite itself is tested: it passes against a server that is known to be right, and skips without one."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from managed_agents_actors.testing import ClaudeSimulator, Turn, open_claude_simulator

SUITE = str(Path(__file__).parent / "test_custom_tools.py")


async def obedient_agent(turn: Turn) -> None:
    """A model without whims: it does what the suite's messages ask for."""
    returned: list[str] = []
    for order in re.findall(r"Round \d: call lookup for (.+?)(?:,? all at once)?\. ", turn.text):
        keys = [returned[-1]] if "returned" in order else re.split(r", | and ", order)
        found = await turn.call_tools(*(("lookup", {"key": key}) for key in keys))
        returned += [answer.text for answer in found]
    await turn.say(f"The tools returned: {', '.join(returned)}." if returned else "Hello.")


@pytest.fixture
async def simulator() -> AsyncIterator[ClaudeSimulator]:
    async with open_claude_simulator(obedient_agent) as simulator:
        yield simulator


async def run_suite(environment: dict[str, str]) -> tuple[int, str]:
    """Run the suite as its user would; gives the exit status and what it printed."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAA_LIVE_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", SUITE]
    with trio.fail_after(120):
        run = await trio.run_process(
            command, env={**inherited, **environment}, capture_stdout=True, stderr=None, check=False
        )
    return run.returncode, run.stdout.decode()


@pytest.mark.parametrize("scheme", ["x-api-key", "bearer"])
async def test_the_suite_passes_against_the_simulator(scheme: str, simulator: ClaudeSimulator) -> None:
    status, printed = await run_suite(
        {
            "MAA_LIVE_BASE_URL": simulator.base_url,
            "MAA_LIVE_API_KEY": simulator.api_key,
            "MAA_LIVE_AUTH_SCHEME": scheme,
            "MAA_LIVE_MODEL": "claude-haiku-5-5",
        }
    )
    assert status == 0, printed
    assert re.search(r"^\d+ passed in", printed, re.MULTILINE), printed


async def test_without_a_server_every_live_test_is_skipped_with_a_reason() -> None:
    status, printed = await run_suite({})
    assert status == 0, printed
    assert "MAA_LIVE_BASE_URL is not set" in printed
    assert re.search(r"^\d+ skipped in", printed, re.MULTILINE), printed
