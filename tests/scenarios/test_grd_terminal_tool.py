"""The terminal tool: asked for when the agent ends without having called it, so often and no more. GRD-04."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents

GO = {"type": "user.message", "content": [{"type": "text", "text": "go"}]}


def _kinds(played: Any) -> list[str]:
    return [event["type"] for event in played.script.posts]


SUBMIT: dict[str, Any] = {"terminal_tool": "submit", "require_terminal_tool": True}


def _talks(w: Any, turns: int) -> list[Any]:
    """An agent that only talks: one message for each of as many prompts."""
    steps: list[Any] = [w.OK]
    for turn in range(1, turns + 1):
        steps += [w.Posts(turn), w.run(), w.msg(f"m{turn}", f"talk {turn}"), w.idle("end")]
    return steps


def _is_reprompt(event: dict[str, Any]) -> bool:
    return event["type"] == "user.message" and "submit" in event["content"][0]["text"]


async def test_grd_04_missing_terminal_tool(w: Any, play: Any, autojump_clock: MockClock) -> None:
    played = await play(w.Script().stream(*_talks(w, 3)), **SUBMIT)
    result = played.result
    assert (result.terminal, result.stop_reason, result.turns) == ("end_turn", "no_terminal_tool", 3)
    assert (result.last_text, result.error, result.resumable) == ("talk 3", None, True)
    kickoff, *reprompts = played.script.posts
    assert kickoff == GO
    assert len(reprompts) == 2
    assert all(_is_reprompt(event) for event in reprompts)


@pytest.mark.parametrize("max_reprompts", [0, 1, 4])
async def test_grd_04_as_many_reprompts_as_allowed(
    w: Any, play: Any, max_reprompts: int, autojump_clock: MockClock
) -> None:
    played = await play(w.Script().stream(*_talks(w, max_reprompts + 1)), max_reprompts=max_reprompts, **SUBMIT)
    assert (played.result.stop_reason, played.result.turns) == ("no_terminal_tool", max_reprompts + 1)
    assert len(played.script.posts) == max_reprompts + 1


async def test_grd_04_produced_on_reprompt(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        *_talks(w, 1),
        *(w.Posts(2), w.run(), w.ctu("u1", "submit", {"answer": 42}), w.idle("req", "u1")),
        *(w.Posts(3), w.res("u1"), w.run(), w.idle("end")),
    )
    played = await play(script, **SUBMIT)
    result = played.result
    assert (result.terminal, result.stop_reason, result.turns) == ("end_turn", {"type": "end_turn"}, 3)
    assert [(use.name, use.input) for use in result.custom_tool_uses] == [("submit", {"answer": 42})]
    assert _kinds(played) == ["user.message", "user.message", "user.custom_tool_result"]


async def test_grd_04_called_earlier(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        *(w.OK, w.Posts(1), w.run(), w.ctu("u1", "submit"), w.idle("req", "u1")),
        *(w.Posts(2), w.res("u1"), w.run(), w.ctu("u2", "other"), w.idle("req", "u2")),
        *(w.Posts(3), w.res("u2"), w.run(), w.msg("m1", "bye"), w.idle("end")),
    )
    played = await play(script, **SUBMIT)
    assert (played.result.stop_reason, played.result.turns) == ({"type": "end_turn"}, 3)
    assert _kinds(played) == ["user.message", "user.custom_tool_result", "user.custom_tool_result"]


async def test_grd_04_not_required_is_not_asked_for(w: Any, play: Any, autojump_clock: MockClock) -> None:
    played = await play(w.Script().stream(*_talks(w, 1)), terminal_tool="submit")
    assert (played.result.stop_reason, played.result.turns) == ({"type": "end_turn"}, 1)
    assert played.script.posts == [GO]


@pytest.mark.parametrize("reason", ["budget_reached", "retries_exhausted", "made_up"])
async def test_grd_04_an_end_that_is_not_the_agents_own_is_not_answered(
    w: Any, play: Any, reason: str, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "x"), w.idle(reason))
    played = await play(script, **SUBMIT)
    assert played.result.stop_reason == {"type": reason}
    assert played.script.posts == [GO]


async def test_grd_04_reprompts_count_as_turns(w: Any, play: Any, autojump_clock: MockClock) -> None:
    played = await play(w.Script().stream(*_talks(w, 2)), max_turns=2, max_reprompts=5, **SUBMIT)
    assert isinstance(played.error, maa.MaxTurnsExceeded)
    assert played.error.result.turns == 2
    assert _kinds(played) == ["user.message", "user.message"]


async def test_grd_04_asked_for_anew_in_every_request(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    async with (
        serve(w.Script().stream(*_talks(w, 4))) as served,
        maa.open_session(
            claude_managed_agents, handler=w.Recorder(), max_reprompts=1, **SUBMIT, **served.options
        ) as session,
    ):
        one, two = await session.ask("one"), await session.ask("two")
        assert [_is_reprompt(event) for event in served.script.posts] == [False, True, False, True]
    assert [(r.stop_reason, r.turns, r.last_text) for r in (one, two)] == [
        ("no_terminal_tool", 2, "talk 2"),
        ("no_terminal_tool", 2, "talk 4"),
    ]
