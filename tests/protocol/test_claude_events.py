"""Every event has one meaning, and no JSON at all makes the reader fail."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors._model import Event, OutcomeResult, ToolUse
from managed_agents_actors._protocol.claude_events import KNOWN_TYPES, classify
from managed_agents_actors._protocol.facts import (
    Activity,
    Answered,
    Called,
    Decided,
    Ended,
    Fact,
    Failed,
    Graded,
    Idled,
    Interrupted,
    Nothing,
    PreviewText,
    Running,
    Said,
    Spent,
    ThreadEnded,
    ThreadStarted,
    Unrecognised,
    UserSpoke,
)

FIELDS = (
    "id", "type", "content", "text", "name", "input", "processed_at", "session_thread_id", "stop_reason", "event_ids",
    "error", "message", "retry_status", "model_usage", "usage", "input_tokens", "tool_use_id", "custom_tool_use_id",
    "mcp_tool_use_id", "is_error", "result", "explanation", "iteration", "event", "event_id", "delta", "index",
    "evaluated_permission", "description",
)  # fmt: skip
kinds = st.sampled_from([*sorted(KNOWN_TYPES), "text", "requires_action", "end_turn", ""])
words = st.one_of(kinds, st.text(max_size=5))
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), words)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)),
    max_leaves=12,
)
events = st.dictionaries(st.sampled_from(FIELDS), values, max_size=8)


@given(events)
def test_no_json_makes_the_reader_fail(event: Event) -> None:
    assert isinstance(classify(event), Fact)


@given(st.sampled_from(sorted(KNOWN_TYPES)), events)
def test_no_known_event_of_an_odd_shape_makes_the_reader_fail(kind: str, event: Event) -> None:
    given = {**event, "type": kind}
    before = repr(given)
    assert isinstance(classify(given), Fact)
    assert repr(given) == before


@given(st.text())
def test_an_unknown_type_is_named(kind: str) -> None:
    fact = classify({"type": kind})
    assert (fact == Unrecognised(kind)) is (kind not in KNOWN_TYPES)


@pytest.mark.parametrize("kind", [None, 7, [], {}])
def test_an_event_without_a_type_is_unrecognised(kind: Any) -> None:
    assert isinstance(classify({"type": kind}), Unrecognised)
    assert isinstance(classify({}), Unrecognised)


def blocks(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


@pytest.mark.parametrize(
    ("event", "fact"),
    [
        ({"type": "session.status_running"}, Running()),
        ({"type": "session.status_rescheduled"}, Running()),
        ({"type": "session.status_terminated"}, Ended("terminated")),
        ({"type": "session.deleted"}, Ended("deleted")),
        ({"type": "agent.thinking"}, Activity()),
        ({"type": "span.model_request_start"}, Activity(begins=True)),
        ({"type": "span.model_request_end", "model_usage": {"input_tokens": 1}}, Spent({"input_tokens": 1})),
        ({"type": "span.model_request_end", "usage": {"input_tokens": 1}}, Spent({"input_tokens": 1})),
        ({"type": "span.model_request_end"}, Activity()),
        ({"type": "agent.message", "content": blocks("a", "b")}, Said(("a", "b"))),
        ({"type": "agent.message", "content": "bare"}, Said(("bare",))),
        ({"type": "agent.message", "content": [{"type": "image"}, {"type": "text"}, 7]}, Said(())),
        ({"type": "agent.message"}, Said(())),
        ({"type": "user.tool_confirmation", "tool_use_id": "c", "result": "allow"}, Decided("c", "allow")),
        ({"type": "user.tool_confirmation", "tool_use_id": "c"}, Decided("c", "deny")),
        ({"type": "user.interrupt", "processed_at": None}, Interrupted(None, applied=False)),
        (
            {"type": "user.interrupt", "processed_at": "t", "session_thread_id": "sthr_1"},
            Interrupted("sthr_1", applied=True),
        ),
        ({"type": "session.thread_status_running", "session_thread_id": "sthr_1"}, ThreadStarted("sthr_1")),
        ({"type": "session.thread_status_running"}, Nothing()),
        ({"type": "session.thread_status_terminated", "session_thread_id": "sthr_1"}, ThreadEnded("sthr_1")),
        ({"type": "session.thread_status_idle", "session_thread_id": "sthr_1"}, Nothing()),
        (
            {"type": "session.thread_status_idle", "session_thread_id": "s", "stop_reason": {"type": "end_turn"}},
            ThreadEnded("s"),
        ),
        (
            {"type": "session.thread_status_idle", "session_thread_id": "s", "stop_reason": "requires_action"},
            Nothing(),
        ),
        (
            {"type": "event_start", "event": {"id": "e1", "type": "agent.message"}},
            PreviewText("e1", 0, "", starts=True),
        ),
        (
            {"type": "event_delta", "event_id": "e1", "delta": {"index": 2, "content": {"text": "x"}}},
            PreviewText("e1", 2, "x"),
        ),
        ({"type": "event_delta", "event_id": "e1", "delta": {"content": {"text": "x"}}}, PreviewText("e1", 0, "x")),
        (
            {"type": "span.outcome_evaluation_end", "result": "satisfied", "explanation": "good", "iteration": 2},
            Graded(OutcomeResult(result="satisfied", explanation="good", iteration=2), None),
        ),
        (
            {"type": "span.outcome_evaluation_end", "usage": {"input_tokens": 1}},
            Graded(OutcomeResult(result="unknown"), {"input_tokens": 1}),
        ),
    ],
)
def test_each_event_has_its_meaning(event: Event, fact: Fact) -> None:
    assert classify(event) == fact


@pytest.mark.parametrize(
    "kind",
    ["agent.thread_message_sent", "session.thread_created", "session.usage", "system.message", "workflow_run.created"],
)
def test_what_only_informs_means_nothing(kind: str) -> None:
    assert classify({"type": kind, "id": "e1"}) == Nothing()


@pytest.mark.parametrize(
    ("kind", "whose"),
    [("agent.custom_tool_use", "custom"), ("agent.tool_use", "builtin"), ("agent.mcp_tool_use", "mcp")],
)
def test_a_call_is_read_with_all_that_decides_on_it(kind: str, whose: Any) -> None:
    event = {
        "type": kind,
        "id": "c1",
        "name": "lookup",
        "input": {"q": 1},
        "evaluated_permission": "ask",
        "session_thread_id": "sthr_1",
    }
    use = ToolUse(id="c1", name="lookup", input={"q": 1}, kind=whose, permission="ask", thread_id="sthr_1", raw=event)
    assert classify(event) == Called(use)


@pytest.mark.parametrize("given", [None, "{}", 7, [1]])
def test_a_call_whose_input_is_no_object_has_a_problem(given: Any) -> None:
    fact = classify({"type": "agent.custom_tool_use", "id": "c1", "name": "lookup", "input": given})
    assert isinstance(fact, Called)
    assert fact.problem is not None
    assert type(given).__name__ in fact.problem


@pytest.mark.parametrize("missing", ["id", "name"])
@pytest.mark.parametrize("value", [None, "", 7])
def test_a_call_that_cannot_be_named_is_unrecognised(missing: str, value: Any) -> None:
    event = {"type": "agent.tool_use", "id": "c1", "name": "lookup", "input": {}, missing: value}
    assert isinstance(classify(event), Unrecognised)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("user.custom_tool_result", "custom_tool_use_id"),
        ("user.tool_result", "tool_use_id"),
        ("agent.tool_result", "tool_use_id"),
        ("agent.mcp_tool_result", "mcp_tool_use_id"),
    ],
)
def test_an_answer_names_its_call(kind: str, key: str) -> None:
    event = {"type": kind, key: "c1", "content": blocks("x"), "is_error": True}
    assert classify(event) == Answered("c1", tuple(blocks("x")), is_error=True)
    assert classify({"type": kind, key: "c1"}) == Answered("c1", (), is_error=False)
    assert isinstance(classify({"type": kind}), Unrecognised)


@pytest.mark.parametrize(("processed", "taken"), [(None, False), ("2026-11-22T16:05:30Z", True)])
def test_input_is_taken_once_it_is_processed(processed: str | None, taken: bool) -> None:
    said = classify({"type": "user.message", "content": blocks("hi"), "processed_at": processed})
    goal = classify({"type": "user.define_outcome", "description": "a goal", "processed_at": processed})
    assert isinstance(said, UserSpoke)
    assert isinstance(goal, UserSpoke)
    assert (said.content, said.taken) == (tuple(blocks("hi")), taken)
    assert (goal.content, goal.taken) == (tuple(blocks("a goal")), taken)


@pytest.mark.parametrize(
    ("reason", "terminal", "waiting_for", "explained"),
    [
        ({"type": "end_turn"}, "end_turn", None, True),
        ("end_turn", "end_turn", None, True),
        ({"type": "requires_action", "event_ids": ["c1", "", 7, "c2"]}, "requires_action", ("c1", "c2"), True),
        ({"type": "requires_action"}, "requires_action", (), True),
        ({"type": "requires_action", "event_ids": "c1"}, "requires_action", (), True),
        ({"type": "budget_reached"}, "end_turn", None, True),
        ({"type": "retries_exhausted"}, "terminated", None, True),
        ({"type": "novelty"}, "terminated", None, True),
        ({}, "terminated", None, False),
        (None, "terminated", None, False),
        (7, "terminated", None, False),
    ],
)
def test_an_idle_says_how_the_turn_stopped(reason: Any, terminal: Any, waiting_for: Any, explained: bool) -> None:
    fact = classify({"type": "session.status_idle", "stop_reason": reason})
    assert isinstance(fact, Idled)
    assert (fact.terminal, fact.stop_reason, fact.waiting_for) == (terminal, reason, waiting_for)
    assert fact.explained is explained


@pytest.mark.parametrize(
    ("error", "kind", "message", "retry"),
    [
        ({"type": "a", "message": "busy", "retry_status": {"type": "retrying"}}, "a", "busy", "retrying"),
        ({"type": "overloaded", "retry_status": "terminal"}, "overloaded", "no message", "terminal"),
        ("bare", "unknown_error", "bare", None),
        (None, "unknown_error", "no error object came with it", None),
        ({}, "unknown_error", "no message", None),
    ],
)
def test_an_error_is_explained_whatever_its_shape(error: Any, kind: str, message: str, retry: str | None) -> None:
    fact = classify({"type": "session.error", "error": error})
    assert isinstance(fact, Failed)
    assert (fact.error.type, fact.error.message, fact.error.retry_status) == (kind, message, retry)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "event_start"},
        {"type": "event_start", "event": {"id": ""}},
        {"type": "event_delta", "event_id": "e1"},
        {"type": "event_delta", "event_id": "e1", "delta": {"content": "x"}},
        {"type": "event_delta", "delta": {"content": {"text": "x"}}},
        {"type": "user.tool_confirmation", "result": "allow"},
    ],
)
def test_an_event_whose_meaning_hangs_on_what_is_missing_is_unrecognised(event: Event) -> None:
    assert isinstance(classify(event), Unrecognised)
