"""The fold of one invocation: whatever order the harness streams in, what it means is told once, and in time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors._model import Event
from managed_agents_actors._protocol.converse import Ending, HandedOff, Invocation, Stopped, Truncated, classify
from managed_agents_actors._protocol.facts import (
    ACTIVITY,
    MODEL_REQUESTED,
    NOTHING,
    OWN_EVENT,
    Answered,
    Called,
    Fact,
    PreviewText,
    Said,
    Spent,
    Unrecognised,
)


def ev(kind: str, **payload: Any) -> Event:
    return {"type": kind, kind: payload}


def start(role: str = "assistant") -> Event:
    return ev("messageStart", role=role)


def txt(text: str, index: int = 0) -> Event:
    return ev("contentBlockDelta", contentBlockIndex=index, delta={"text": text})


def tool(index: int, call_id: str, name: str = "echo", **more: str) -> Event:
    return ev(
        "contentBlockStart", contentBlockIndex=index, start={"toolUse": {"toolUseId": call_id, "name": name, **more}}
    )


def given_input(index: int, part: str) -> Event:
    return ev("contentBlockDelta", contentBlockIndex=index, delta={"toolUse": {"input": part}})


def result(index: int, call_id: str, text: str, status: str = "success") -> list[Event]:
    return [
        ev(
            "contentBlockStart", contentBlockIndex=index, start={"toolResult": {"toolUseId": call_id, "status": status}}
        ),
        ev("contentBlockDelta", contentBlockIndex=index, delta={"toolResult": [{"text": text}]}),
        done(index),
    ]


def done(index: int = 0) -> Event:
    return ev("contentBlockStop", contentBlockIndex=index)


def stop(reason: str) -> Event:
    return ev("messageStop", stopReason=reason)


def meta(put: int, got: int, **more: int) -> Event:
    usage = {"inputTokens": put, "outputTokens": got, "totalTokens": put + got, **more}
    return ev("metadata", usage=usage, metrics={"latencyMs": 5})


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def fold(events: Iterable[Event]) -> tuple[list[Event], list[Fact], Ending]:
    """The raw events as they went into the log, what followed from them, and the end."""
    invocation = Invocation(1)
    log = [entry for event in events for entry in invocation.feed(event)]
    last, ending = invocation.end()
    log += last
    ids = [entry["id"] for entry in log]
    assert len(set(ids)) == len(ids)
    raw = [{key: value for key, value in entry.items() if key != "id"} for entry in log if entry["type"] != OWN_EVENT]
    return raw, [classify(entry) for entry in log if entry["type"] == OWN_EVENT], ending


def calls(facts: Iterable[Fact]) -> list[Called]:
    return [fact for fact in facts if isinstance(fact, Called)]


def inputs(ending: Ending) -> dict[str, Any]:
    assert isinstance(ending, HandedOff)
    return {called.use.id: called.use.input for called in ending.calls}


# --- one message ------------------------------------------------------------------------------------------------------


def test_a_turn_of_text() -> None:
    events = [start(), txt("Hel"), txt("lo"), done(), stop("end_turn"), meta(12, 7)]
    raw, facts, ending = fold(events)
    assert raw == events
    assert facts == [PreviewText("1.m1", 0, "Hel"), PreviewText("1.m1", 0, "lo"), Said(("Hello",))]
    assert isinstance(ending, Stopped)
    assert (ending.fact.terminal, ending.fact.stop_reason, ending.fact.waiting_for) == ("end_turn", "end_turn", None)


def test_text_blocks_are_told_apart_even_at_one_index() -> None:
    _, facts, _ = fold([start(), txt("one"), done(), txt("two"), done(), txt("three", 1), stop("end_turn")])
    assert facts[-1] == Said(("one", "two", "three"))
    assert [fact.index for fact in facts if isinstance(fact, PreviewText)] == [0, 1, 2]


def test_reasoning_is_no_text() -> None:
    reasoning = ev("contentBlockDelta", contentBlockIndex=0, delta={"reasoningContent": {"text": "hmm"}})
    _, facts, _ = fold([start(), reasoning, txt("still thinking"), done(), txt("said"), stop("end_turn")])
    assert facts[-1] == Said(("said",))


def test_a_hand_off_gives_the_call_at_the_end_and_not_before() -> None:
    events = [
        start(),
        tool(0, "A"),
        given_input(0, '{"x":'),
        given_input(0, "1}"),
        done(),
        stop("tool_use"),
        meta(1, 1),
    ]
    _, facts, ending = fold(events)
    assert facts == []
    assert inputs(ending) == {"A": {"x": 1}}
    assert isinstance(ending, HandedOff)
    assert [(called.use.name, called.use.kind, called.problem) for called in ending.calls] == [("echo", "custom", None)]


def test_an_index_that_is_used_again_does_not_mix_two_calls() -> None:
    _, _, ending = fold(
        [start(), tool(0, "A"), given_input(0, '{"a":1}'), tool(0, "B"), given_input(0, '{"b":2}'), stop("tool_use")]
    )
    assert inputs(ending) == {"A": {"a": 1}, "B": {"b": 2}}


def test_calls_that_are_written_side_by_side_keep_their_own_input() -> None:
    _, _, ending = fold(
        [
            *(start(), tool(0, "A"), tool(1, "B"), given_input(1, '{"b":'), given_input(0, '{"a":')),
            *(given_input(1, "2}"), given_input(0, "1}"), done(1), done(0), stop("tool_use")),
        ]
    )
    assert inputs(ending) == {"A": {"a": 1}, "B": {"b": 2}}


@pytest.mark.parametrize("again", ['{"a":1}', "", '{"a":'])
def test_one_id_at_two_indices_is_one_call_with_the_input_that_can_be_read(again: str) -> None:
    pieces = [given_input(1, again)] if again else []
    _, _, ending = fold([start(), tool(0, "A"), given_input(0, '{"a":1}'), tool(1, "A"), *pieces, stop("tool_use")])
    assert inputs(ending) == {"A": {"a": 1}}


@pytest.mark.parametrize(
    ("parts", "given", "problem"),
    [
        ((), {}, None),
        (("  ",), {}, None),
        (('{"x": "é🙂"}',), {"x": "é🙂"}, None),
        (('{"x":',), {}, "the input is not JSON"),
        (("[1]",), {}, "the input must be a JSON object, but a list arrived"),
        (("null",), {}, "the input must be a JSON object, but a NoneType arrived"),
        (("{}{}",), {}, "the input is not JSON"),
        (('{"x": NaN}',), {}, "the input is"),
        (('{"x": 1e999}',), {}, "the input is"),
        (('{"x": "\\ud800"}',), {}, "the input has half a surrogate pair"),
        (('{"x": ' + "[" * 99 + "]" * 99 + "}",), {"x": nested(99)}, None),
        (('{"x": ' + "[" * 100 + "]" * 100 + "}",), {}, "the input is nested deeper than 100"),
        (('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}",), {}, "the input is"),
    ],
)
def test_damaged_input_is_a_problem_and_never_an_empty_input(parts: Any, given: Any, problem: str | None) -> None:
    _, _, ending = fold([start(), tool(0, "A"), *(given_input(0, part) for part in parts), stop("tool_use")])
    assert isinstance(ending, HandedOff)
    (called,) = ending.calls
    assert called.use.input == given
    assert (called.problem or "").startswith(problem or "")
    assert (called.problem is None) == (problem is None)


@pytest.mark.parametrize(
    "pieces",
    [
        [done(), given_input(0, '{"x":1}')],
        [given_input(7, '{"x":1}'), done()],
        [ev("contentBlockDelta", contentBlockIndex=0, delta={"toolUse": {"input": {"x": 1}}}), done()],
        [ev("contentBlockDelta", contentBlockIndex=0, delta={"toolUse": {}}), done()],
    ],
)
def test_a_piece_of_input_that_cannot_be_added_is_a_problem_too(pieces: list[Event]) -> None:
    _, _, ending = fold([start(), tool(0, "A"), *pieces, stop("tool_use")])
    assert isinstance(ending, HandedOff)
    (called,) = ending.calls
    assert called.problem is not None
    assert "piece of" in called.problem


def test_a_message_whose_beginning_did_not_come_is_the_assistants() -> None:
    _, facts, ending = fold([txt("Hi"), stop("end_turn"), meta(1, 1)])
    assert facts[-1] == Said(("Hi",))
    assert isinstance(ending, Stopped)
    _, _, ending = fold([tool(0, "S"), stop("tool_use"), txt("Hi"), stop("end_turn")])
    assert isinstance(ending, Stopped)


def test_text_is_told_in_the_order_in_which_it_comes() -> None:
    _, facts, _ = fold([start(), txt("a"), txt("b", 1), txt("c"), txt("d"), stop("end_turn")])
    assert facts[-1] == Said(("a", "b", "cd"))
    assert [(fact.index, fact.text) for fact in facts if isinstance(fact, PreviewText)] == [
        (0, "a"), (1, "b"), (2, "c"), (2, "d"),
    ]  # fmt: skip


@pytest.mark.parametrize("name", [OWN_EVENT, "managed_agents.text_delta"])
def test_no_event_of_the_wire_passes_for_one_of_ours(name: str) -> None:
    (entry,) = Invocation(1).feed(ev(name, x=1))
    assert entry == {"type": "unrecognised", "unrecognised": {name: {"x": 1}}, "id": "1.1"}
    assert classify(entry) == Unrecognised("unrecognised")


@pytest.mark.parametrize(
    ("name", "more", "ours"),
    [
        ("echo", {}, True),
        ("echo", {"type": "tool_use"}, True),
        ("echo", {"type": "server_tool_use"}, False),
        ("echo", {"type": "mcp_tool_use"}, False),
        ("echo", {"serverName": "jira"}, False),
        ("echo", {"type": "something_new"}, False),
        ("shell", {}, False),
        ("file_operations", {}, False),
    ],
)
def test_only_what_can_be_an_inline_function_is_handed_off(name: str, more: dict[str, str], ours: bool) -> None:
    _, facts, ending = fold([start(), tool(0, "S", name, **more), tool(1, "A"), stop("tool_use")])
    assert isinstance(ending, HandedOff)
    assert [called.use.id for called in ending.calls] == (["S", "A"] if ours else ["A"])
    assert [called.use.id for called in calls(facts)] == ([] if ours else ["S"])


@pytest.mark.parametrize("reason", ["max_tokens", "timeout_exceeded", "hook_stopped", "partial_turn", "something_new"])
def test_any_other_stop_ends_the_turn_and_is_kept(reason: str) -> None:
    _, facts, ending = fold([start(), tool(0, "A"), done(), stop(reason)])
    assert isinstance(ending, Stopped)
    assert (ending.fact.terminal, ending.fact.stop_reason) == ("terminated", reason)
    assert [called.use.kind for called in calls(facts)] == ["builtin"]


# --- several messages -------------------------------------------------------------------------------------------------

SERVED: list[Event] = [
    *(start(), txt("Let me see."), done(), tool(1, "S", "shell"), given_input(1, '{"cmd":"ls"}'), done(1)),
    *(stop("tool_use"), start("user"), *result(0, "S", "a.txt"), stop("tool_result")),
    *(start(), txt("One file."), done(), stop("end_turn"), meta(3, 4)),
]


def test_what_the_harness_serves_itself_is_told_with_its_result_and_never_handed_off() -> None:
    raw, facts, ending = fold(SERVED)
    assert raw == SERVED
    assert isinstance(ending, Stopped)
    told = [fact for fact in facts if not isinstance(fact, PreviewText)]
    (served,) = calls(facts)
    assert (served.use.id, served.use.kind, served.use.input) == ("S", "builtin", {"cmd": "ls"})
    answer = Answered("S", ({"type": "text", "text": "a.txt"},), is_error=False)
    assert told == [Said(("Let me see.",)), served, answer, Said(("One file.",))]


def test_the_last_stop_decides() -> None:
    _, facts, ending = fold([start(), tool(0, "S"), stop("tool_use"), start(), tool(0, "A"), stop("tool_use")])
    assert inputs(ending) == {"A": {}}
    assert [called.use.id for called in calls(facts)] == ["S"]


def test_an_error_of_a_server_tool_is_an_error() -> None:
    _, facts, _ = fold([start(), tool(0, "S"), stop("tool_use"), start("user"), *result(0, "S", "no", "error")])
    assert Answered("S", ({"type": "text", "text": "no"},), is_error=True) in facts


def test_the_copy_of_a_result_of_ours_is_only_noted() -> None:
    acknowledged: set[str] = set()
    invocation = Invocation(2, acknowledged)
    events = [start("user"), *result(0, "A", "x"), stop("tool_result"), start(), txt("ok"), stop("end_turn")]
    facts = [classify(entry) for event in events for entry in invocation.feed(event) if entry["type"] == OWN_EVENT]
    assert acknowledged == {"A"}
    assert [type(fact) for fact in facts] == [PreviewText, Said]


# --- ends that are none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "blank"),
    [
        ([], True),
        ([ev("hookEvent", hookEventId="h", name="n", type="after_invocation")], True),
        ([start(), txt("Hel")], True),
        ([start(), stop("tool_use"), start()], False),
        ([start(), stop("tool_use"), start("user"), *result(0, "S", "x"), stop("tool_result")], False),
    ],
)
def test_a_stream_without_the_end_of_its_turn_is_truncated(events: list[Event], blank: bool) -> None:
    invocation = Invocation(1)
    for event in events:
        invocation.feed(event)
    assert invocation.is_blank == blank
    assert invocation.end() == ([], Truncated())


@pytest.mark.parametrize("cut", range(len(SERVED)))
def test_a_turn_that_is_cut_anywhere_is_truncated_or_the_whole(cut: int) -> None:
    _, _, ending = fold(SERVED[:cut])
    whole = any(event == stop("end_turn") for event in SERVED[:cut])
    assert isinstance(ending, Stopped if whole else Truncated)


# --- one event --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "fact"),
    [
        (start(), MODEL_REQUESTED),
        (start("user"), NOTHING),
        (txt("x"), ACTIVITY),
        (tool(0, "A"), ACTIVITY),
        (done(), ACTIVITY),
        (stop("end_turn"), NOTHING),
        (ev("hookEvent", name="n"), NOTHING),
        (ev("somethingNew", x=1), Unrecognised("somethingNew")),
        ({"type": "messageStart"}, Unrecognised("messageStart")),
        ({}, Unrecognised("None")),
        (ev("metadata", metrics={}), NOTHING),
    ],
)
def test_what_an_event_means(event: Event, fact: Fact) -> None:
    assert classify(event) == fact


def test_usage_has_our_names_and_keeps_theirs() -> None:
    spent = classify(meta(12, 7, cacheReadInputTokens=3, cacheWriteInputTokens=4))
    assert isinstance(spent, Spent)
    assert spent.usage == {
        "input_tokens": 12,
        "output_tokens": 7,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 4,
    }
    assert spent.raw == meta(12, 7, cacheReadInputTokens=3, cacheWriteInputTokens=4)["metadata"]["usage"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KINDS = (
    "messageStart",
    "contentBlockStart",
    "contentBlockDelta",
    "contentBlockStop",
    "messageStop",
    "metadata",
    "hookEvent",
)
FIELDS = (
    "role",
    "contentBlockIndex",
    "start",
    "delta",
    "stopReason",
    "toolUse",
    "toolResult",
    "text",
    "reasoningContent",
)
PAYLOAD = st.dictionaries(st.sampled_from(FIELDS), JSON | st.dictionaries(st.sampled_from(FIELDS), JSON), max_size=4)
WELL_FORMED = st.sampled_from(
    [start(), start("user"), txt("x"), txt("y", 1), tool(0, "A"), tool(1, "B"), given_input(0, "{"),
     given_input(1, "}"), done(), done(1), stop("tool_use"), stop("end_turn"), meta(1, 2), *result(0, "A", "r")]
)  # fmt: skip


@given(
    st.lists(
        WELL_FORMED
        | st.builds(lambda kind, payload: {"type": kind, kind: payload}, st.sampled_from(KINDS), PAYLOAD | JSON)
    )
)
def test_nothing_that_arrives_breaks_the_fold(events: list[Event]) -> None:
    raw, facts, ending = fold(events)
    assert raw == events
    ids = [called.use.id for called in (*calls(facts), *(ending.calls if isinstance(ending, HandedOff) else ()))]
    assert all(ids)
    shown = "".join(fact.text for fact in facts if isinstance(fact, PreviewText))
    said = "".join(text for fact in facts if isinstance(fact, Said) for text in fact.texts)
    assert shown.startswith(said) or said in shown
