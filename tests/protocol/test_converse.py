"""The fold of one invocation: whatever order the harness streams in, what it means is told once, and in time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from types import FrameType
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


def delta(**payload: Any) -> Event:
    return ev("contentBlockDelta", **payload)


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


def problems(ending: Ending) -> dict[str, str | None]:
    assert isinstance(ending, HandedOff)
    return {called.use.id: called.problem for called in ending.calls}


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


@pytest.mark.parametrize("first", [[], [given_input(0, " ")]])
def test_one_id_that_begins_empty_and_then_damaged_is_damaged(first: list[Event]) -> None:
    _, _, ending = fold([start(), tool(0, "A"), *first, tool(1, "A"), given_input(1, '{"a":'), stop("tool_use")])
    assert problems(ending) == {"A": "the input is not JSON: Expecting value: line 1 column 6 (char 5)"}


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


PIECE = {"toolUse": {"input": '{"x":1}'}}


@pytest.mark.parametrize(
    "pieces",
    [
        [done(), given_input(0, '{"x":1}')],
        [given_input(7, '{"x":1}'), done()],
        [delta(contentBlockIndex=0, delta={"toolUse": {"input": {"x": 1}}}), done()],
        [delta(contentBlockIndex=0, delta={"toolUse": {}}), done()],
        [delta(contentBlockIndex=0, delta={"toolUse": '{"x":1}'})],
        [delta(contentBlockIndex=0, delta='{"x":1}')],
        [delta(contentBlockIndex=0)],
        [delta(contentBlockIndex=7, delta='{"x":1}')],
        [delta(delta=PIECE)],
        [delta(contentBlockIndex=0.0, delta=PIECE)],
        [delta(contentBlockIndex="0", delta=PIECE)],
        [delta(contentBlockIndex=False, delta=PIECE)],
        [delta(contentBlockIndex=7, delta={"text": "hm", **PIECE})],
        [delta(contentBlockIndex=7, delta={"reasoningContent": {"text": "hm"}, **PIECE})],
        [given_input(0, " "), delta(delta=PIECE)],
        [txt("hm"), given_input(0, '{"x":1}')],
        [delta(contentBlockIndex=0, delta={"reasoningContent": {}}), given_input(0, '{"x":1}')],
        [stop("tool_use"), given_input(0, '{"x":1}')],
        [stop("tool_use"), delta(delta=PIECE)],
    ],
)
def test_a_piece_of_input_that_cannot_be_added_is_a_problem_too(pieces: list[Event]) -> None:
    _, _, ending = fold([start(), tool(0, "A"), *pieces, stop("tool_use")])
    assert inputs(ending) == {"A": {}}
    assert "piece of" in (problems(ending)["A"] or "")


@pytest.mark.parametrize("more", [{"text": "hm"}, {"reasoningContent": {"text": "hm"}}])
def test_input_that_comes_with_something_else_is_input(more: dict[str, Any]) -> None:
    _, facts, ending = fold(
        [start(), tool(0, "A"), delta(contentBlockIndex=0, delta={**more, **PIECE}), stop("tool_use")]
    )
    assert (inputs(ending), problems(ending)) == ({"A": {"x": 1}}, {"A": None})
    assert (Said(("hm",)) in facts) == ("text" in more)


@pytest.mark.parametrize(
    "harmless", [delta(contentBlockIndex=0, delta={}), delta(contentBlockIndex=1), delta(contentBlockIndex=1, delta=5)]
)
def test_what_can_be_no_input_damages_none(harmless: Event) -> None:
    _, _, ending = fold([start(), txt("text", 1), tool(0, "A"), harmless, stop("tool_use")])
    assert (inputs(ending), problems(ending)) == ({"A": {}}, {"A": None})


def test_a_call_that_begins_without_an_index_is_a_problem_and_not_lost() -> None:
    begin = ev("contentBlockStart", start={"toolUse": {"toolUseId": "B", "name": "echo"}})
    _, _, ending = fold([start(), tool(0, "A"), begin, given_input(0, '{"x":1}'), stop("tool_use")])
    assert inputs(ending) == {"A": {"x": 1}, "B": {}}
    assert "without an index" in (problems(ending)["B"] or "")


def test_a_call_without_an_id_is_said_to_be_none() -> None:
    for use in ({"name": "echo"}, {"toolUseId": "A"}, "echo"):
        _, facts, ending = fold([start(), ev("contentBlockStart", contentBlockIndex=0, start={"toolUse": use})])
        assert facts == [Unrecognised("a toolUse block without a toolUseId or a name")]
        assert ending == Truncated()


def test_a_second_stop_loses_nothing_and_decides() -> None:
    events = [start(), txt("hm"), tool(1, "A"), given_input(1, '{"x":1}'), stop("tool_use")]
    _, facts, ending = fold([*events, stop("tool_use")])
    assert (inputs(ending), problems(ending)) == ({"A": {"x": 1}}, {"A": None})
    assert facts.count(Said(("hm",))) == 1
    _, facts, ending = fold([*events, stop("end_turn")])
    assert isinstance(ending, Stopped)
    assert [called.use.id for called in calls(facts)] == ["A"]


def test_a_message_whose_beginning_did_not_come_is_the_assistants() -> None:
    _, facts, ending = fold([txt("Hi"), stop("end_turn"), meta(1, 1)])
    assert facts[-1] == Said(("Hi",))
    assert isinstance(ending, Stopped)
    _, facts, ending = fold([tool(0, "S"), stop("tool_use"), txt("Hi"), stop("end_turn")])
    assert isinstance(ending, Stopped)
    assert [called.use.id for called in calls(facts)] == ["S"]
    _, _, ending = fold([ev("messageStart"), tool(0, "A"), stop("tool_use")])
    assert inputs(ending) == {"A": {}}


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


SHELLS = [start(), tool(0, "A", "shell"), tool(1, "B", "shell"), stop("tool_use")]
ENDED = [start(), txt("ok"), stop("end_turn")]


@pytest.mark.parametrize(
    "results",
    [
        [start("user"), *result(0, "A", "ra"), *result(1, "B", "rb"), stop("tool_result")],
        [start("user"), *result(0, "A", "ra")[:2], *result(0, "B", "rb"), stop("tool_result")],
        [start("user"), *result(0, "A", "ra")[:2], *result(1, "B", "rb")[:2], stop("tool_result")],
        [start("user"), *result(0, "A", "ra")[:2], *result(1, "B", "rb")[:2]],
        [*result(0, "A", "ra"), *result(1, "B", "rb"), stop("tool_result")],
        [start("user"), result(0, "A", "")[0], txt("ra"), done(), *result(1, "B", "rb"), stop("tool_result")],
        [
            *(start("user"), result(0, "A", "")[0], delta(contentBlockIndex=0, delta={"toolResult": {"text": "ra"}})),
            *(delta(contentBlockIndex=0, delta={"reasoningContent": {}}), *result(1, "B", "rb"), stop("tool_result")),
        ],
    ],
)
def test_no_result_is_lost_however_its_block_is_framed(results: list[Event]) -> None:
    _, facts, ending = fold([*SHELLS, *results, *ENDED])
    assert isinstance(ending, Stopped)
    assert [fact for fact in facts if not isinstance(fact, PreviewText)] == [
        *calls(facts),
        Answered("A", ({"type": "text", "text": "ra"},), is_error=False),
        Answered("B", ({"type": "text", "text": "rb"},), is_error=False),
        Said(("ok",)),
    ]
    assert [called.use.id for called in calls(facts)] == ["A", "B"]


@pytest.mark.parametrize("reason", ["end_turn", "tool_use"])
def test_a_result_that_comes_with_its_call_says_that_the_harness_served_it(reason: str) -> None:
    served = [start(), tool(0, "A"), given_input(0, '{"x":1}'), *result(1, "A", "r")]
    _, facts, ending = fold([*served, tool(2, "B"), stop(reason)])
    first, answer, *rest = facts
    assert isinstance(first, Called)
    assert (first.use.id, first.use.kind, first.use.input) == ("A", "builtin", {"x": 1})
    assert answer == Answered("A", ({"type": "text", "text": "r"},), is_error=False)
    assert [called.use.id for called in calls(rest)] == (["B"] if reason == "end_turn" else [])
    assert isinstance(ending, Stopped) if reason == "end_turn" else inputs(ending) == {"B": {}}
    _, _, ending = fold([*served, stop("tool_use")])
    assert ending == Truncated()


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
        (ev("messageStart"), MODEL_REQUESTED),
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


@given(st.lists(WELL_FORMED))
def test_what_is_said_is_what_was_shown_block_by_block(events: list[Event]) -> None:
    invocation = Invocation(1)
    own = [entry for event in events for entry in invocation.feed(event) if entry["type"] == OWN_EVENT]
    shown: dict[str, dict[int, str]] = {}
    said: dict[str, tuple[str, ...]] = {}
    for entry in own:
        fact = classify(entry)
        if isinstance(fact, PreviewText):
            blocks = shown.setdefault(fact.event_id, {})
            blocks[fact.index] = blocks.get(fact.index, "") + fact.text
        elif isinstance(fact, Said):
            said[entry["id"]] = fact.texts
    assert said == {message: tuple(blocks.values()) for message, blocks in shown.items() if message in said}


def work(events: list[Event]) -> int:
    """How many instructions of Python the fold of the events takes."""
    count = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        fold(events)
    finally:
        sys.settrace(before)
    return count


@pytest.mark.parametrize(
    "make",
    [
        lambda n: [start(), txt("a"), *(tool(i + 1, f"t{i}") for i in range(n)), *[txt("a")] * n, stop("end_turn")],
        lambda n: [start(), *(event for i in range(n) for event in (tool(i, f"t{i}"), *result(i, f"t{i}", "r")))],
        lambda n: [start(), *(event for _ in range(n) for event in (tool(0, "X"), given_input(0, "{}")))],
    ],
    ids=["text after calls", "calls with results", "one call begun again and again"],
)
def test_the_fold_is_linear(make: Callable[[int], list[Event]]) -> None:
    assert work(make(200)) < 15 * work(make(20))
