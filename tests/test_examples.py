"""Every example runs as its reader would run it, against the simulator, with warnings as errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"

# What each example must print, in this order.
EXPECTED = {
    "bedrock_agent_core.py": [
        "[ready: READY, 0 s]",
        "[endpoint ready: READY, 0 s]",
        "Let me look.",
        "There are 120 pencils and no notebooks.",
        "[end_turn; called here: stock, stock; called there: none]",
        "It is Monday.",
        "[end_turn; called here: none; called there: shell]",
        "[exit code 0: the machine is still there]",
        "[the harness is gone]",
    ],
    "provider_agnostic.py": [
        "claude_managed_agents",
        "    20 dollars are 18.40 euros.",
        "    [end_turn, 2 turns, convert{'amount': 20, 'to': 'EUR'}, True]",
        "    You are welcome.",
        "bedrock_agent_core",
        "    20 dollars are 18.40 euros.",
        "    [end_turn, 2 turns, convert{'amount': 20, 'to': 'EUR'}, True]",
        "    You are welcome.",
    ],
    "observability.py": [
        '"name": "timetable.query"',
        '"name": "execute_tool get_flight"',
        '"name": "invoke_agent"',
        '"name": "plan trip"',
        "Pack light: it is sunny. MA 204 leaves on time, from gate B12.",
        '"name": "gen_ai.execute_tool.duration"',
    ],
    "first_tool.py": ["Leave your umbrella at home.", "1 tool call, 48 output tokens"],
    "multi_turn_chat.py": ["ada: What is my name?", "  -> You told me 2 messages ago."],
    "claude_managed_agents.py": [
        'I found {"item": "pencil", "pieces": 120} and {"item": "notebook", "pieces": 0}.',
        "[called stock, stock; 48 output tokens in 2 turns]",
        "[Ada allows: cat /mnt/session/uploads/prices.csv]",
        "The file says: pencil,1.20 notebook,4.50.",
        "[interrupted: end_turn; the session goes on: True]",
        "Done: 2 x pencil reserved for Ada.",
        "You reserved two pencils.",
        "[resumed, with 1 file attached]",
        "[cleaned up]",
    ],
}


def test_every_example_is_expected_to_do_something() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.fixture(params=sorted(EXPECTED))
def output(request: pytest.FixtureRequest) -> tuple[str, str]:
    """The name of an example, and what it printed."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / request.param), "--simulate"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return request.param, run.stdout


def test_an_example_prints_what_it_promises(output: tuple[str, str]) -> None:
    name, printed = output
    rest = printed
    for line in EXPECTED[name]:
        assert line in rest, printed
        rest = rest.partition(line)[2]


def test_an_example_that_lacks_a_role_says_how_it_is_used() -> None:
    command = [sys.executable, "-W", "error", str(EXAMPLES / "bedrock_agent_core.py")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    [line] = run.stderr.splitlines()
    assert line.startswith("usage: python ")


def test_the_example_that_needs_opentelemetry_says_how_to_install_it() -> None:
    program = f"""
import runpy, sys
sys.modules["opentelemetry"] = None  # importing it now fails, as if it were not installed
runpy.run_path({str(EXAMPLES / "observability.py")!r})
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stdout) == (1, "")
    [line] = run.stderr.splitlines()
    assert line.endswith('pip install "managed-agents-actors[otel,tools]" opentelemetry-sdk')
