"""A session whose actor crashes goes on as if nothing had happened, wherever the crash strikes.

Every conversation is held twice: once undisturbed, and once with crashes. Both must come to the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

import managed_agents_actors as maa
from managed_agents_actors.testing import (
    Call,
    CrashSession,
    Fault,
    ask,
    builtin,
    call_tool,
    call_tools,
    fail,
    grade,
    say,
    subagent_call,
    think,
    wait,
)

from ._supervised import Course, Talk, converse

TWO_TOOLS = [think(), say("Let me see.", chunks=["Let ", "me see."]), call_tools(("a", {}), ("b", {})), say("Done.")]

# The same with a pace, so that a crash at a moment strikes one thing or another.
SLOWLY = [
    think(),
    say("Let me see.", chunks=["Let ", "me ", "see."], pace=0.2),
    wait(0.2),
    call_tools(("a", {"n": 1}), ("b", {"n": 2})),
    wait(0.3),
    say("Done."),
]


async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    await trio.sleep(1.0)
    return f"{name} ran"


class Deciding:
    """A handler with a policy that takes a while."""

    def __init__(self, verdict: Any) -> None:
        self._verdict = verdict

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        return await tool(name, input, context)

    async def handle_confirmation(self, use: maa.ToolUse, context: maa.ToolContext) -> Any:
        await trio.sleep(0.4)
        return self._verdict


async def patient_guard(turn: maa.TurnResult) -> None:
    await trio.sleep(0.4)


def differs(seen: Course, calm: Course) -> bool:
    """Whether anything is other than in the undisturbed course."""
    return bool(seen.problems) or seen.accounts != calm.accounts


# --- at every event ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deltas", [False, True], ids=["messages", "deltas"])
@pytest.mark.parametrize("place", ["sent", "shown", "shown twice"])
def test_a_crash_at_any_event_of_a_turn_with_two_tools_changes_nothing(place: str, deltas: bool) -> None:
    talk = Talk(script=[TWO_TOOLS, [say("Bye.")]], handler=tool, options={"deltas": deltas})
    calm = converse(talk)
    assert (calm.problems, calm.restarts) == ([], 0)
    count = len(calm.accounts[0]["events"])
    problems = {}
    for index in range(count):
        match place:
            case "sent":
                crashing = replace(talk, faults=[Fault(on="stream", action=CrashSession(after_events=index))])
            case "shown":
                crashing = replace(talk, crash_after=[index + 1])
            case _:
                crashing = replace(talk, crash_after=[index + 1, index + 3])
        seen = converse(crashing, seed=index)
        if seen.restarts == 0 or differs(seen, calm):
            problems[index] = seen
    assert count == 25
    assert problems == {}


# --- at every moment --------------------------------------------------------------------------------------------------

REPROMPTED = {"terminal_tool": "finish", "require_terminal_tool": True}
GOAL = maa.Outcome(description="A goal.", rubric="Met or not.")

# What a session can be about when its actor crashes.
TALKS = {
    "two tools": Talk(script=[SLOWLY, [wait(0.3), say("Bye.")]], handler=tool),
    "a policy that allows": Talk(
        script=[[call_tools(Call(name="bash", kind="builtin", permission="ask"), ("a", {})), wait(0.3), say("Done.")]],
        handler=Deciding("allow"),
    ),
    "a policy that denies": Talk(
        script=[[ask("bash"), wait(0.3), say("Done.")]], handler=Deciding(maa.Deny(message="no"))
    ),
    "a guard": Talk(script=[SLOWLY], handler=tool, options={"turn_guard": patient_guard}),
    "a reprompt": Talk(
        script=[
            [wait(0.3), say("Done, I think.")],
            [wait(0.3), call_tool("finish"), say("Done.")],
            [call_tool("finish"), say("Bye.")],
        ],
        handler=tool,
        options=REPROMPTED,
    ),
    "an outcome": Talk(
        script=[[wait(0.3), call_tool("a"), grade("satisfied", "It is met."), say("Done.")]],
        handler=tool,
        says=(GOAL, "Thanks"),
        usage={"input_tokens": 0, "output_tokens": 0},
    ),
    "a sub-agent": Talk(script=[[subagent_call("helper", "a"), wait(0.3), say("Done.")]], handler=tool),
    "tools of the provider's": Talk(
        script=[[builtin("bash"), wait(0.3), call_tool("a"), builtin("bash"), say("Done.")]], handler=tool
    ),
    "errors of the provider's": Talk(
        script=[
            [wait(0.3), fail("model_overloaded_error", "retrying"), wait(0.3), say("Done.")],
            [wait(0.3), fail("model_overloaded_error", "exhausted")],
        ],
    ),
    "the same said thrice": Talk(
        script=[[wait(0.3), say("1")], [call_tool("a"), say("2")], [wait(0.3), say("3")]],
        handler=tool,
        says=("again", "again", "again"),
    ),
}


@pytest.mark.parametrize("about", TALKS)
def test_a_crash_at_any_moment_changes_nothing(about: str) -> None:
    talk = replace(TALKS[about], latency=0.2)
    calm = converse(talk)
    assert calm.problems == []
    moments = [round(0.15 * step + 0.05, 2) for step in range(int(calm.took / 0.15) + 1)]
    problems = {
        moment: seen
        for number, moment in enumerate(moments)
        if differs(seen := converse(replace(talk, crash_at=[moment]), seed=number), calm)
    }
    assert problems == {}


@settings(max_examples=40)
@given(
    about=st.sampled_from(sorted(TALKS)),
    moments=st.lists(st.integers(0, 400).map(lambda n: n / 100), min_size=2, max_size=3).map(sorted),
    deltas=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_several_crashes_change_no_more_than_one(about: str, moments: list[float], deltas: bool, seed: int) -> None:
    talk = replace(TALKS[about], latency=0.2)
    talk = replace(talk, options={**(talk.options or {}), "deltas": deltas})
    seen = converse(replace(talk, crash_at=moments), seed=seed)
    assert not differs(seen, converse(talk)), seen
