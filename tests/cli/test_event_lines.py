"""Events as lines for people: the gist of each kind, within the width, and nothing that could steer a terminal."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors._cli.event_lines import TextLines, json_line
from managed_agents_actors._protocol.claude_events import KNOWN_TYPES

CALL = {"type": "agent.custom_tool_use", "id": "1", "name": "look", "input": {"at": "the sky", "for": 2}}
STOP = {"type": "requires_action", "event_ids": ["1", "2"]}


def lines(*events: Any, width: int = 100, colour: bool = False) -> list[str]:
    render = TextLines(colour=colour, width=lambda: width)
    return [line for event in events for line in render(event).splitlines()]


def gist(*events: Any) -> str:
    """What the last of these events is said to be about."""
    return lines(*events)[-1].partition(events[-1]["type"])[2].strip()


def text(value: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": value}]


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ({"type": "user.message", "content": text("Hello")}, "Hello"),
        ({"type": "user.message", "content": [*text("See"), {"type": "image", "source": {}}]}, "See [image]"),
        ({"type": "user.define_outcome", "description": "A report"}, "A report"),
        ({"type": "agent.message", "content": text("one\n two\t\xa0three")}, "one two three"),
        ({"type": "agent.thinking"}, ""),
        (CALL, "look(at='the sky', for=2)"),
        ({**CALL, "evaluated_permission": "ask"}, "look(at='the sky', for=2) needs a confirmation"),
        ({**CALL, "session_thread_id": "sthr_1"}, "[sthr_1] look(at='the sky', for=2)"),
        ({"type": "user.tool_confirmation", "tool_use_id": "1", "result": "deny"}, "deny look"),
        ({"type": "agent.tool_result", "tool_use_id": "1", "content": text("blue")}, "look: blue"),
        ({"type": "user.custom_tool_result", "custom_tool_use_id": "2", "content": text("x")}, "2: x"),
        ({"type": "agent.tool_result", "tool_use_id": "1", "is_error": True, "content": text("x")}, "look failed: x"),
        ({"type": "session.status_idle", "stop_reason": {"type": "end_turn"}, "stop_details": None}, "end_turn"),
        ({"type": "session.status_idle", "stop_reason": STOP}, "requires_action: look, 2"),
        (
            {"type": "session.error", "error": {"type": "busy", "message": "no", "retry_status": {"type": "retrying"}}},
            "busy: no (retrying)",
        ),
        (
            {
                "type": "span.model_request_end",
                "is_error": False,
                "model_usage": {"input_tokens": 7, "output_tokens": 3},
            },
            "7 input and 3 output tokens",
        ),
        (
            {"type": "span.model_request_end", "is_error": True, "model_usage": {}},
            "0 input and 0 output tokens, is_error=True",
        ),
        ({"type": "span.outcome_evaluation_end", "result": "failed", "explanation": "too short"}, "failed: too short"),
        ({"type": "span.outcome_evaluation_end", "result": "satisfied"}, "satisfied"),
        ({"type": "event_delta", "event_id": "9", "delta": {"content": {"text": "wri"}}}, "wri"),
        ({"type": "agent.dreamt", "of": ["sheep"], "deeply": None}, "of=['sheep']"),
    ],
)
def test_the_gist_of_an_event(event: dict[str, Any], told: str) -> None:
    assert gist(CALL, event) == told


@pytest.mark.parametrize(
    ("time", "shown"),
    [
        ({"processed_at": "2026-01-31T12:34:56.789Z"}, "12:34:56"),
        ({"processed_at": None}, "(queued)"),
        ({}, ""),
        ({"processed_at": "now"}, "?"),
        ({"processed_at": 12}, "?"),
    ],
)
def test_the_time_is_the_events_own(time: dict[str, Any], shown: str) -> None:
    [line] = lines({"type": "user.interrupt", **time})
    assert line == f"{shown:<8}  user.interrupt"


def test_what_is_said_is_wrapped_and_all_else_is_cut() -> None:
    said = {"type": "agent.message", "content": text("word " * 30)}
    shown = lines({**CALL, "input": {"text": "x" * 500}}, said, width=80)
    assert shown[0] == f"{'':8}  {'agent.custom_tool_use':<24}  look(text='" + "x" * 30 + "..."
    assert shown[1:] == [
        f"{'':8}  {'agent.message':<24}  " + "word " * 8 + "word",
        *[" " * 36 + "word " * 8 + "word"] * 2,
        " " * 36 + "word word word",
    ]
    assert max(map(len, shown)) == 80


def test_a_text_without_end_ends() -> None:
    shown = " ".join(lines({"type": "agent.message", "content": text("x" * 1_000_000)}))
    assert shown.endswith("and 990000 characters, which --json shows")


def test_a_narrow_terminal_is_no_crash() -> None:
    assert len(lines({"type": "agent.message", "content": text("word " * 10)}, width=1)) == 2


def test_colours_change_nothing_but_the_colour() -> None:
    events = [
        CALL,
        {"type": "session.error", "error": {}},
        {"type": "agent.message", "content": text("a " * 99)},
        {"type": ""},
    ]
    coloured = lines(*events, colour=True)
    assert "\x1b[31msession.error " in coloured[1]
    assert [re.sub(r"\x1b\[\d+m", "", line).rstrip() for line in coloured] == lines(*events)


STEERING = "\x1b[2J\x1b]0;title\x07\x9b31m\r\b\x00\u202e\u2066\x7f"


@pytest.mark.parametrize(
    "event",
    [
        {"type": STEERING},
        {"type": "user.message", "content": text(STEERING)},
        {"type": "user.message", "content": [{"type": STEERING}]},
        {"type": "agent.message", "content": text(STEERING), "session_thread_id": STEERING},
        {**CALL, "name": STEERING, "input": {STEERING: STEERING}},
        {"type": "agent.tool_result", "tool_use_id": STEERING, "content": text(STEERING)},
        {"type": "session.error", "error": {"type": STEERING, "message": STEERING}},
        {"type": "session.status_idle", "stop_reason": {"type": STEERING, "event_ids": [STEERING]}},
        {"type": "session.status_idle", "stop_reason": STEERING, "processed_at": STEERING},
        {"type": "span.model_request_end", "model_usage": {"input_tokens": STEERING}},
        {"type": "agent.dreamt", STEERING: {STEERING: [STEERING]}},
    ],
)
def test_nothing_steers_the_terminal(event: dict[str, Any]) -> None:
    rendered = TextLines(colour=False, width=lambda: 200)(event)
    assert rendered.removesuffix("\n").isprintable()
    assert "\\x1b[2J" in rendered


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
MEMBERS = re.findall(
    r"\w+",
    "id name input content processed_at session_thread_id tool_use_id custom_tool_use_id result is_error stop_reason"
    " usage model_usage error event event_id delta description explanation",
)


@given(st.sampled_from(sorted(KNOWN_TYPES)) | JSON, st.dictionaries(st.sampled_from(MEMBERS), JSON), st.integers(0, 90))
def test_no_event_of_whatever_shape_is_a_crash(kind: Any, members: dict[str, Any], width: int) -> None:
    event = {"type": kind, **members}
    shown = lines(event, width=width)
    assert shown
    assert all(line.isprintable() for line in shown)
    printed = json_line(event)
    assert printed.isascii()
    assert printed.count("\n") == 1
    assert repr(json.loads(printed)) == repr(event)
