"""Outcomes: a goal instead of a prompt, graded until it is met, and refused before anything is sent if it is none."""

from __future__ import annotations

import types
from typing import Any

import pytest
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.providers.contract import Capabilities
from managed_agents_actors.testing import grade, open_claude_simulator, say

GOAL: dict[str, Any] = {"description": "a report", "rubric": "- has a title"}
DEFINED = {
    "type": "user.define_outcome",
    "description": "a report",
    "rubric": {"type": "text", "content": GOAL["rubric"]},
}


def _graded(w: Any, result: str, iteration: int, explanation: str = "because") -> Any:
    return w.event(
        "span.outcome_evaluation_end",
        outcome_evaluation_start_id="x",
        outcome_id="outc_1",
        iteration=iteration,
        result=result,
        explanation=explanation,
        usage={"input_tokens": 7, "output_tokens": 3},
    )


def _revised(w: Any) -> list[Any]:
    return [
        w.run(),
        w.msg("m1", "a draft"),
        _graded(w, "needs_revision", 0, "no title"),
        w.msg("m2", "with a title"),
        _graded(w, "satisfied", 1, "all there"),
        w.idle("end"),
    ]


def _check_revised(result: maa.SessionResult) -> None:
    assert (result.terminal, result.turns, result.last_text) == ("end_turn", 1, "a draft\nwith a title")
    assert result.outcome == maa.OutcomeResult(result="satisfied", explanation="all there", iteration=1)
    assert (result.usage.input_tokens, result.usage.output_tokens) == (14, 6)


@pytest.mark.parametrize("form", ["mapping", "value"])
async def test_out_01_satisfied_after_revision(
    w: Any, play: Any, mode: str, form: str, autojump_clock: MockClock
) -> None:
    given: dict[str, Any] = {**GOAL, "max_iterations": 3}
    outcome = given if form == "mapping" else maa.Outcome(**given)
    # What is asked of a live session is the outcome itself.
    options = {"prompt": maa.Outcome(**given)} if mode == "ask" else {"prompt": None, "outcome": outcome}
    script = w.Script().stream(w.OK, w.Posts(1), *_revised(w))
    played = await play(script, **options)
    _check_revised(played.result)
    assert played.script.posts == [{**DEFINED, "max_iterations": 3}]
    assert played.served.traffic == ["create", "stream", "user.define_outcome"]


async def test_out_01_asked_of_a_live_session(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.idle("end"), w.Posts(2), *_revised(w))
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
    ):
        talk = await session.ask("go")
        _check_revised(await session.ask(maa.Outcome(**GOAL, max_iterations=20)))
    assert talk.outcome is None
    assert script.posts[1] == {**DEFINED, "max_iterations": 20}


@pytest.mark.parametrize("verdict", ["max_iterations_reached", "failed", "interrupted", "made_up_later"])
async def test_out_01_the_last_verdict_is_told_verbatim(
    w: Any, serve: Any, verdict: str, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), _graded(w, verdict, 4), w.idle("end"))
    async with serve(script) as served:
        result = await maa.run_session(claude_managed_agents, handler=w.Recorder(), outcome=GOAL, **served.options)
    assert result.outcome == maa.OutcomeResult(result=verdict, explanation="because", iteration=4)
    assert result.terminal == "end_turn"


async def test_out_01_with_the_simulator(w: Any, autojump_clock: MockClock) -> None:
    script = [say("a draft"), grade("needs_revision", "no title"), say("with a title"), grade("satisfied", "all there")]
    handler = w.Recorder()
    async with open_claude_simulator(script, transport="memory") as simulator, simulator.client() as client:
        result = await maa.run_session(
            claude_managed_agents,
            handler=handler,
            outcome=GOAL,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
        )
        log = simulator.session(str(result.session_id)).events
    assert (result.terminal, result.turns) == ("end_turn", 1)
    assert result.outcome is not None
    assert (result.outcome.result, result.outcome.explanation) == ("satisfied", "all there")
    assert [event["id"] for event in handler.events] == [event["id"] for event in log]


# --- OUT-03 -----------------------------------------------------------------------------------------------------------

BAD_OUTCOMES: dict[str, Any] = {
    "no mapping": "a report",
    "a list": [("description", "x"), ("rubric", "y")],
    "empty": {},
    "no rubric": {"description": "x"},
    "no description": {"rubric": "x"},
    "unknown field": {**GOAL, "iterations": 3},
    "empty description": {**GOAL, "description": ""},
    "blank description": {**GOAL, "description": " \n"},
    "description of another type": {**GOAL, "description": 3},
    "empty rubric": {**GOAL, "rubric": ""},
    "rubric without a type": {**GOAL, "rubric": {"file_id": "file_1"}},
    "rubric of another type": {**GOAL, "rubric": 3},
    "no iterations": {**GOAL, "max_iterations": 0},
    "too many iterations": {**GOAL, "max_iterations": 21},
    "negative iterations": {**GOAL, "max_iterations": -1},
    "iterations as text": {**GOAL, "max_iterations": "3"},
    "iterations as a truth value": {**GOAL, "max_iterations": True},
    "iterations as a float": {**GOAL, "max_iterations": 3.0},
}


@pytest.mark.parametrize("name", BAD_OUTCOMES)
@pytest.mark.parametrize("how", ["run", "open"])
async def test_out_03_validation(w: Any, serve: Any, name: str, how: str, autojump_clock: MockClock) -> None:
    async with serve(w.Script()) as served:
        given = {"handler": w.Recorder(), "outcome": BAD_OUTCOMES[name], **served.options}
        with pytest.raises(maa.ConfigurationError, match="outcome"):
            if how == "run":
                await maa.run_session(claude_managed_agents, **given)
            else:
                async with maa.open_session(claude_managed_agents, **given):
                    pytest.fail("entered")
        assert served.server.requests == ()


@pytest.mark.parametrize("how", ["run", "open"])
async def test_out_03_a_provider_without_outcomes(w: Any, serve: Any, how: str, autojump_clock: MockClock) -> None:
    names = {name: getattr(claude_managed_agents, name) for name in claude_managed_agents.__all__}
    names |= {"NAME": "plain", "CAPABILITIES": Capabilities(outcomes=False, confirmations=True)}
    provider: Any = types.SimpleNamespace(**names)
    async with serve(w.Script()) as served:
        given = {"handler": w.Recorder(), "outcome": GOAL, **served.options}
        with pytest.raises(maa.ConfigurationError, match="plain has no outcomes; use prompt="):
            if how == "run":
                await maa.run_session(provider, **given)
            else:
                async with maa.open_session(provider, **given):
                    pytest.fail("entered")
        assert served.server.requests == ()


@pytest.mark.parametrize("bound", [1, 20])
async def test_out_03_bounds_are_accepted(w: Any, serve: Any, bound: int, autojump_clock: MockClock) -> None:
    posts = await _posted(w, serve, {**GOAL, "max_iterations": bound})
    assert posts == [{**DEFINED, "max_iterations": bound}]


async def test_out_03_a_file_rubric_goes_as_it_is(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    rubric = {"type": "file", "file_id": "file_1"}
    assert await _posted(w, serve, {**GOAL, "rubric": rubric}) == [{**DEFINED, "rubric": rubric}]


@pytest.mark.parametrize("form", ["left out", "none"])
async def test_out_03_no_max_iterations_is_never_on_the_wire(
    w: Any, serve: Any, form: str, autojump_clock: MockClock
) -> None:
    posts = await _posted(w, serve, GOAL if form == "left out" else {**GOAL, "max_iterations": None})
    assert posts == [DEFINED]
    assert "max_iterations" not in posts[0]


async def test_out_03_an_outcome_goes_before_a_prompt(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    assert await _posted(w, serve, GOAL, prompt="go") == [DEFINED]


async def _posted(w: Any, serve: Any, outcome: Any, **options: Any) -> list[Any]:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), _graded(w, "satisfied", 0), w.idle("end"))
    async with serve(script) as served:
        given = {"handler": w.Recorder(), "outcome": outcome, **served.options, **options}
        await maa.run_session(claude_managed_agents, **given)
    posts: list[Any] = script.posts
    return posts


# --- OUT-04 -----------------------------------------------------------------------------------------------------------


async def test_out_04_outcome_on_a_resumed_session(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    past = [w.user("before"), w.run(), w.msg("m0", "earlier"), w.use(100, 100), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *(new := _revised(w))).listing(past)
    handler = w.Recorder()
    async with serve(script) as served:
        result = await maa.run_session(claude_managed_agents, handler=handler, outcome=GOAL, **served.resume)
        assert served.traffic == ["stream", "list", "user.define_outcome"]
    _check_revised(result)
    assert script.posts == [DEFINED]
    assert list(result.events) == new
    assert handler.events == past + new


async def test_out_04_it_waits_until_the_session_is_idle(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    past = [w.user("before"), w.run(), w.msg("m0", "still at it")]
    script = w.Script().stream(w.OK, w.Pause(5), w.idle("end"), w.Posts(1), *_revised(w)).listing(past)
    async with serve(script) as served:
        began = autojump_clock.current_time()
        result = await maa.run_session(claude_managed_agents, handler=w.Recorder(), outcome=GOAL, **served.resume)
        assert [round(at - began, 6) for at in script.post_times] == [5]
    _check_revised(result)
    assert script.posts == [DEFINED]
