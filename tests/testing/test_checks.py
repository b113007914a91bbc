"""Each check of the evidence finds what is wrong with a doctored record, and nothing in a true one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    RecordingHandler,
    SessionEvidence,
    assert_exactly_once,
    call_tools,
    grade,
    open_claude_simulator,
    run_in_virtual_time,
    say,
)

SCRIPT = [[say("Let me see."), call_tools(("a", {}), ("b", {})), say("Done.")], [say("Bye.")]]


async def converse() -> SessionEvidence:
    """Two requests of one session, with everything that can be known of them."""
    handler = RecordingHandler()
    messages = ("Hello", "Thanks")
    async with open_claude_simulator(SCRIPT, transport="memory") as simulator, simulator.client() as client:
        async with (
            maa.open_session(
                claude_managed_agents,
                client=client,
                agent=simulator.agent_id,
                environment=simulator.environment_id,
                handler=handler,
            ) as session,
            session.subscribe() as terminals,
        ):
            results = await session.ask("Hello"), await session.ask("Thanks")
            announced = terminals.receive_nowait(), terminals.receive_nowait()
        assert_exactly_once(simulator, *results, handler=handler, messages=messages, announced=announced)
        with pytest.raises(AssertionError, match=r"(?s)^not exactly once:\n\* .*messages .*'Thanks'\], expected \[\]"):
            assert_exactly_once(simulator, *results, messages=[])
        other = replace(results[0], session_id="sesn_other")
        with pytest.raises(AssertionError, match=r"the results of one session, got those of \['sesn_00000001'"):
            assert_exactly_once(simulator, results[1], other)
        return SessionEvidence(
            log=simulator.session(session.session_id).events,
            results=results,
            ran=tuple(call.id for call in handler.calls),
            shown=tuple(handler.events),
            messages=messages,
            announced=announced,
        )


@pytest.fixture(scope="module")
def truth() -> SessionEvidence:
    return run_in_virtual_time(converse)


def test_nothing_is_wrong_with_the_truth(truth: SessionEvidence) -> None:
    assert truth.problems() == []
    assert replace(truth, ran=None, shown=None, messages=None, announced=None).problems() == []


def without(events: tuple[Any, ...], kind: str) -> tuple[Any, ...]:
    """The events without the first one of this type."""
    at = next(n for n, event in enumerate(events) if event["type"] == kind)
    return events[:at] + events[at + 1 :]


def in_first_result(truth: SessionEvidence, **changes: Any) -> SessionEvidence:
    return replace(truth, results=(replace(truth.results[0], **changes), truth.results[1]))


def id_of(truth: SessionEvidence, kind: str) -> str:
    return str(next(event["id"] for event in truth.log if event["type"] == kind))


DOCTORED: dict[str, tuple[Callable[[SessionEvidence], SessionEvidence], str]] = {
    "a call ran twice": (lambda t: replace(t, ran=(*t.ran, t.ran[0])), "ran 2 times, expected once"),
    "a call never ran": (lambda t: replace(t, ran=t.ran[1:]), "was answered and never ran"),
    "an unknown call ran": (lambda t: replace(t, ran=(*t.ran, "x")), "the handler ran x, which is no call of"),
    "an answer is missing": (
        lambda t: replace(t, log=without(t.log, "user.custom_tool_result")),
        "has 0 answers in the server's log, expected one",
    ),
    "an answer came twice": (
        lambda t: replace(
            t, log=(*t.log, {**next(e for e in t.log if e["type"] == "user.custom_tool_result"), "id": "again"})
        ),
        "has 2 answers in the server's log, expected one",
    ),
    "a message came twice": (
        lambda t: replace(t, log=(*t.log, {**next(e for e in t.log if e["type"] == "user.message"), "id": "again"})),
        r"has the messages \['Hello', 'Thanks', 'Hello'\], expected \['Hello', 'Thanks'\]",
    ),
    "a message is lost": (
        lambda t: replace(t, log=without(t.log, "user.message")),
        r"has the messages \['Thanks'\], expected \['Hello', 'Thanks'\]",
    ),
    "a result lacks an event": (
        lambda t: in_first_result(t, events=without(t.results[0].events, "agent.message")),
        r"missing from the results, of \d+ events 1: sevt_\d+ \(agent.message\)",
    ),
    "a result has an event twice": (
        lambda t: in_first_result(t, events=(*t.results[0].events, t.results[0].events[3])),
        r"more than once in the results, of \d+ events 1: sevt_\d+ \(",
    ),
    "a result has an unknown event": (
        lambda t: in_first_result(t, events=(*t.results[0].events, {"id": "sevt_x", "type": "x"})),
        r"in the results, unknown to the server, of \d+ events 1: sevt_x",
    ),
    "a result's events are in another order": (
        lambda t: in_first_result(t, events=(t.results[0].events[1], t.results[0].events[0], *t.results[0].events[2:])),
        r"the events are in another order in the results: at 0 sevt_\d+, expected sevt_\d+",
    ),
    "a result's event was changed": (
        lambda t: in_first_result(t, events=({**t.results[0].events[0], "extra": True}, *t.results[0].events[1:])),
        r"other in the results than in the server's log: sevt_\d+",
    ),
    "the observer lacks an event": (
        lambda t: replace(t, shown=without(t.shown, "agent.message")),
        r"missing from what the observer was shown, of \d+ events 1: ",
    ),
    "the observer lacks all": (
        lambda t: replace(t, shown=()),
        r"missing from what the observer was shown, of \d+ events \d+: .*, …",
    ),
    "a terminal came twice": (
        lambda t: replace(t, announced=(*t.announced, t.announced[0])),
        r"announced were \['end_turn', 'end_turn', 'end_turn'\], expected \['end_turn', 'end_turn'\]",
    ),
    "a terminal is missing": (lambda t: replace(t, announced=t.announced[:1]), r"announced were \['end_turn'\], exp"),
    "terminals came in another order": (
        lambda t: replace(t, announced=t.announced[::-1]),
        "but with other results",
    ),
    "the text is another": (
        lambda t: in_first_result(t, text="Done."),
        r"the text of request 1 is 'Done.', expected the server's 'Let me see.\\nDone.'",
    ),
    "the usage is another": (
        lambda t: in_first_result(t, usage=replace(t.results[0].usage, input_tokens=1)),
        "the results' input_tokens are 121, expected the server's 360",
    ),
}


@pytest.mark.parametrize("name", DOCTORED)
def test_a_doctored_record_is_found_out(name: str, truth: SessionEvidence) -> None:
    doctor, complaint = DOCTORED[name]
    problems = doctor(truth).problems()
    assert re.search(complaint, "\n".join(problems))


async def test_a_call_that_an_interrupt_closed_need_not_run(autojump_clock: object) -> None:
    async with (
        open_claude_simulator([call_tools(("other", {})), say("Done.")], transport="memory") as simulator,
        simulator.client() as client,
        maa.open_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=maa.Toolbox([], unknown_tools="leave"),
        ) as session,
    ):
        result = await session.ask("Hello")
        assert result.terminal == "requires_action"
        assert_exactly_once(simulator, result, messages=["Hello"])
        await session.interrupt()
        evidence = SessionEvidence(log=simulator.session(session.session_id).events, results=(result,), ran=())
        assert not any("ran" in problem for problem in evidence.problems())


async def test_the_usage_of_a_grader_counts(autojump_clock: Any) -> None:
    async with (
        open_claude_simulator([say("x"), grade()], transport="memory") as simulator,
        simulator.client() as client,
    ):
        handler = RecordingHandler()
        result = await maa.run_session(
            claude_managed_agents,
            handler=handler,
            outcome=maa.Outcome(description="d", rubric="r"),
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
        )
        assert_exactly_once(simulator, result, handler=handler)
