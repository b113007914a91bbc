"""The demonstration: it passes as users run it, tells what happened, and fails whenever something is wrong.

Scenarios are played over in-memory streams and virtual time; only the command itself runs on loopback.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from trio.testing import MockClock

from managed_agents_actors._cli import main
from managed_agents_actors._cli.demo import SCENARIO, DemoTool, Scenario, play
from managed_agents_actors.testing import DropStream, EndStream, Fault, FaultPlan, Turn, open_claude_simulator

Play = Callable[[Scenario], Awaitable[tuple[list[str], list[dict[str, Any]]]]]

COMMAND = [sys.executable, "-W", "error", "-m", "managed_agents_actors"]


@pytest.fixture
def play_in_memory() -> Play:
    """Plays a scenario over in-memory streams; gives the problems and the notes."""

    async def play_scenario(scenario: Scenario) -> tuple[list[str], list[dict[str, Any]]]:
        notes: list[dict[str, Any]] = []
        async with open_claude_simulator(
            scenario.script, faults=FaultPlan(scenario.faults), transport="memory"
        ) as simulator:
            problems = await play(scenario, simulator, lambda note: notes.append(dict(note)))
        return problems, notes

    return play_scenario


def without_delays(**changes: Any) -> Scenario:
    """The scenario as a run that takes no time."""

    async def agent(turn: Turn) -> None:
        weather, flight = await turn.call_tools(("get_forecast", {}), ("get_flight", {}))
        await turn.say(f"Pack light: {weather.text}. {flight.text}.")

    tools = {name: DemoTool(seconds=0, text=tool.text) for name, tool in SCENARIO.tools.items()}
    return replace(SCENARIO, script=agent, tools=tools, **changes)


@pytest.fixture(scope="module")
def printed() -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, "demo"], capture_output=True, text=True, timeout=60, check=False)


def test_the_demo_passes_and_tells_the_story(printed: subprocess.CompletedProcess[str]) -> None:
    assert (printed.returncode, printed.stderr) == (0, "")
    story = [
        "you       I fly to Lisbon",
        "agent     calls get_forecast(city='Lisbon', day='Friday')",
        "agent     calls get_flight(number='MA 204')",
        "tool      get_flight starts",
        "tool      get_forecast ran for 0.2",
        "session   result taken by the server: 24 degrees and sunny",
        "stream    LOST",
        "tool      get_flight ran for 0.5",
        "stream    BACK",
        "actor     CRASHED",
        "actor     RESTARTED",
        "session   result taken by the server: MA 204",
        f"agent     {SCENARIO.text}",
        "result    end_turn after 2 turns, 240 input and 48 output tokens",
        "passed    the stream was lost, the actor crashed",
    ]
    places = [printed.stdout.find(line) for line in story]
    assert -1 not in places, printed.stdout
    assert places == sorted(places)


def test_a_pipe_gets_no_colours_and_readable_lines(printed: subprocess.CompletedProcess[str]) -> None:
    assert "\x1b" not in printed.stdout
    assert printed.stdout.isascii()
    assert max(map(len, printed.stdout.splitlines())) <= 100


def test_json_is_one_object_per_line_with_events_and_result() -> None:
    run = subprocess.run([*COMMAND, "demo", "--json"], capture_output=True, text=True, timeout=60, check=True)
    notes = [json.loads(line) for line in run.stdout.splitlines()]
    types = [note["type"] for note in notes]
    assert {"event", "tool", "drop", "reconnected", "crash", "restarted", "result"} == set(types)
    assert types.index("drop") < types.index("reconnected") < types.index("crash") < types.index("restarted")
    assert [note["at"] for note in notes] == sorted(note["at"] for note in notes)
    assert (types[-1], notes[-1]["ok"], notes[-1]["problems"]) == ("result", True, [])
    assert notes[-1]["events"] == types.count("event")
    assert notes[-1]["text"].endswith(SCENARIO.text)


async def test_what_is_recovered_is_what_was_lost(play_in_memory: Play, autojump_clock: MockClock) -> None:
    problems, notes = await play_in_memory(SCENARIO)
    assert problems == []
    drop, back = [note for note in notes if note["type"] in ("drop", "reconnected")]
    assert drop["tools_running"] == ["get_flight"]
    assert back["recovered"] == ["session.thread_status_idle", "session.usage", "session.status_idle"]
    assert back["seconds"] == pytest.approx(0.4, abs=0.02)
    before = notes[: notes.index(back)]
    recovered = [note["event"]["type"] for note in before if note.get("origin") == "history"]
    assert recovered == back["recovered"]


async def test_a_result_waits_until_the_stream_is_back(play_in_memory: Play, autojump_clock: MockClock) -> None:
    _, notes = await play_in_memory(SCENARIO)
    order = [
        note["type"] if note["type"] != "event" else note["event"]["type"]
        for note in notes
        if note["type"] in ("drop", "reconnected")
        or note.get("phase") == "finished"
        or note.get("event", {}).get("type") == "user.custom_tool_result"
    ]
    assert order == ["tool", "user.custom_tool_result", "drop", "tool", "reconnected", "user.custom_tool_result"]


@pytest.mark.parametrize(
    ("nth", "after_events"), [*((1, count) for count in (0, 1, 3, 5, 6, 7, 8, 9, 11, 12)), (2, 0), (2, 1), (2, 4)]
)
@pytest.mark.parametrize("action", [DropStream, EndStream])
async def test_wherever_the_stream_is_lost_nothing_is(
    action: type[DropStream | EndStream], nth: int, after_events: int, play_in_memory: Play, autojump_clock: MockClock
) -> None:
    """On the first stream, before the actor crashes; or on the second, which its successor attached."""
    faults = (Fault(on="stream", action=action(after_events=after_events), nth=nth), *SCENARIO.faults[1:])
    problems, _ = await play_in_memory(replace(SCENARIO, faults=faults))
    assert problems == []


@pytest.mark.parametrize(
    ("kept", "missing"), [(slice(1), "the actor never crashed"), (slice(1, None), "the stream was never lost")]
)
async def test_what_was_never_lost_is_no_demonstration(
    kept: slice, missing: str, play_in_memory: Play, autojump_clock: MockClock
) -> None:
    problems, _ = await play_in_memory(replace(SCENARIO, faults=SCENARIO.faults[kept]))
    assert problems == [missing]


async def test_a_drop_that_was_planned_but_never_came_is_noticed(
    play_in_memory: Play, autojump_clock: MockClock
) -> None:
    late = (Fault(on="stream", action=DropStream(after_events=10_000)), *SCENARIO.faults[1:])
    problems, _ = await play_in_memory(replace(SCENARIO, faults=late))
    assert problems == ["the stream was never lost"]


async def test_another_answer_is_noticed(play_in_memory: Play, autojump_clock: MockClock) -> None:
    problems, notes = await play_in_memory(replace(SCENARIO, text="Stay at home."))
    assert problems == [f"the final text is {SCENARIO.text!r}, not 'Stay at home.'"]
    assert (notes[-1]["ok"], notes[-1]["problems"]) == (False, problems)


async def test_a_tool_that_runs_twice_is_noticed(play_in_memory: Play, autojump_clock: MockClock) -> None:
    async def agent(turn: Turn) -> None:
        await turn.say("Let me look.")
        await turn.call_tools(("get_forecast", {}), ("get_flight", {}))
        await turn.call_tools(("get_flight", {}))
        await turn.say(SCENARIO.text)

    problems, _ = await play_in_memory(replace(SCENARIO, script=agent))
    ran, wanted = ["get_flight", "get_flight", "get_forecast"], ["get_flight", "get_forecast"]
    assert problems == [f"the tools that ran are {ran}, not {wanted}, each once"]


async def test_a_session_that_does_not_end_is_noticed(play_in_memory: Play, autojump_clock: MockClock) -> None:
    tools = {**SCENARIO.tools, "get_flight": DemoTool(seconds=float("inf"), text="")}
    problems, notes = await play_in_memory(replace(SCENARIO, tools=tools))
    assert problems[0].startswith("the request ended with 'terminated' (ResultError(type='SessionTimeout'")
    assert not notes[-1]["ok"]


def test_a_wrong_result_is_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo"], scenario=without_delays(faults=())) == 1
    assert "FAILED    the stream was never lost" in capsys.readouterr().out


def test_a_wrong_result_is_exit_status_1_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--json"], scenario=without_delays(faults=(), text="no")) == 1
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (result["ok"], len(result["problems"])) == (False, 3)
