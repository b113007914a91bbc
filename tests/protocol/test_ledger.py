"""The account of a request: deltas are the text and nothing else, turns are counted, usage is summed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors._model import Event, OutcomeResult, ToolUse
from managed_agents_actors._protocol.facts import (
    NOTHING,
    Answered,
    Called,
    Fact,
    Graded,
    PreviewText,
    Said,
    Spent,
    UserSpoke,
)
from managed_agents_actors._protocol.ledger import Ledger

texts = st.text(min_size=1, max_size=8)
messages = st.lists(st.lists(texts, max_size=3).map(tuple), max_size=6)


def said(event_id: str, *pieces: str) -> tuple[Event, Fact]:
    return {"type": "agent.message", "id": event_id}, Said(pieces)


def preview(event_id: str, piece: str, index: int = 0) -> tuple[Event, Fact]:
    return {"type": "event_delta"}, PreviewText(event_id, index, piece)


def fill(*steps: tuple[Event, Fact]) -> tuple[Ledger, str]:
    ledger = Ledger()
    return ledger, "".join(ledger.absorb(event, fact) for event, fact in steps)


def text_of(ledger: Ledger) -> str:
    return ledger.result("sesn_1", "end_turn", None).text


@given(messages)
def test_without_previews_the_text_is_the_messages_set_apart(said_in_order: list[tuple[str, ...]]) -> None:
    ledger, deltas = fill(*(said(str(number), *pieces) for number, pieces in enumerate(said_in_order)))
    whole = "\n".join("\n".join(pieces) for pieces in said_in_order if pieces)
    assert deltas == text_of(ledger) == whole


@given(messages, st.data())
def test_previews_that_match_change_nothing(said_in_order: list[tuple[str, ...]], data: st.DataObject) -> None:
    steps: list[tuple[Event, Fact]] = []
    for number, pieces in enumerate(said_in_order):
        # A preview is a prefix of its message, block by block, and may stop anywhere.
        shown = data.draw(st.integers(0, len(pieces)))
        for index, piece in enumerate(pieces[:shown]):
            cut = data.draw(st.integers(0, len(piece)))
            ends_here = index == shown - 1
            steps += [preview(str(number), piece[:cut], index)]
            steps += [] if ends_here else [preview(str(number), piece[cut:], index)]
        steps.append(said(str(number), *pieces))
    ledger, deltas = fill(*steps)
    assert deltas == text_of(ledger) == "\n".join("\n".join(pieces) for pieces in said_in_order if pieces)


@given(
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from("abc"), st.lists(texts, max_size=2).map(tuple)).map(lambda x: said(x[0], *x[1])),
            st.tuples(st.sampled_from("abc"), st.text(max_size=4), st.integers(0, 2)).map(lambda x: preview(*x)),
            st.just(None),
        ),
        max_size=20,
    )
)
def test_whatever_is_previewed_the_deltas_concatenate_to_exactly_the_text(steps: list[Any]) -> None:
    ledger, deltas = Ledger(), []
    for step in steps:
        if step is None:
            ledger.end_turn()
        else:
            deltas.append(ledger.absorb(*step))
    result = ledger.result("sesn_1", "end_turn", None)
    assert "".join(deltas) == result.text
    assert result.last_text in result.text


def test_a_preview_that_does_not_match_stays_and_the_message_follows_it() -> None:
    ledger, deltas = fill(preview("e1", "Hallo"), said("e1", "Hello"))
    assert deltas == text_of(ledger) == "Hallo\nHello"


def test_the_rest_of_a_previewed_message_is_the_delta_of_its_message() -> None:
    ledger = Ledger()
    assert ledger.absorb(*preview("e1", "")) == ""
    assert ledger.absorb(*preview("e1", "He")) == "He"
    assert ledger.absorb(*said("e1", "Hello")) == "llo"
    assert ledger.absorb(*said("e2", "you")) == "\nyou"


def test_last_text_is_the_text_of_the_last_turn() -> None:
    ledger, _ = fill(said("e1", "one"))
    ledger.end_turn()
    assert ledger.result(None, "end_turn", None).last_text == "one"
    ledger.absorb(*said("e2", "two"))
    ledger.absorb(*said("e3", "three"))
    assert ledger.result(None, "end_turn", None).last_text == "two\nthree"
    ledger.end_turn()
    result = ledger.result(None, "end_turn", None)
    assert (result.last_text, result.text, result.turns) == ("two\nthree", "one\ntwo\nthree", 2)
    ledger.end_turn()
    assert ledger.result(None, "end_turn", None).last_text == ""


@given(st.lists(st.dictionaries(st.sampled_from(["input_tokens", "output_tokens", "speed"]), st.integers(0, 99))))
def test_usage_is_the_sum_and_keeps_what_was_given(spent: list[dict[str, int]]) -> None:
    ledger, _ = fill(*(({}, Spent(usage)) for usage in spent))
    usage = ledger.usage
    assert usage.input_tokens == sum(given.get("input_tokens", 0) for given in spent)
    assert usage.output_tokens == sum(given.get("output_tokens", 0) for given in spent)
    assert list(usage.raw) == spent


@pytest.mark.parametrize("count", [None, "7", 1.5, True, [1]])
def test_a_count_that_is_no_integer_counts_as_nothing(count: Any) -> None:
    ledger, _ = fill(({}, Spent({"input_tokens": count, "output_tokens": 2})))
    assert (ledger.usage.input_tokens, ledger.usage.output_tokens) == (0, 2)


def test_the_grading_of_an_outcome_is_kept_and_its_cost_counted() -> None:
    first, last = OutcomeResult(result="needs_revision"), OutcomeResult(result="satisfied", iteration=1)
    ledger, _ = fill(({}, Graded(first, {"input_tokens": 3})), ({}, Graded(last, None)))
    result = ledger.result(None, "end_turn", None)
    assert (result.outcome, result.usage.input_tokens) == (last, 3)


def test_calls_are_kept_apart_by_who_runs_them_and_the_transcript_tells_it_all() -> None:
    mine = ToolUse(id="c1", name="lookup", input={"q": 1})
    theirs = ToolUse(id="c2", name="bash", input={}, kind="builtin")
    block = {"type": "text", "text": "hi"}
    ledger, _ = fill(
        ({}, UserSpoke((block,), taken=True)),
        said("e1", "let me look"),
        ({}, Called(mine)),
        ({}, Called(theirs)),
        ({}, Answered("c1", (block,), is_error=True)),
        ({}, NOTHING),
    )
    result = ledger.result(None, "end_turn", None)
    assert (result.custom_tool_uses, result.server_tool_uses) == ((mine,), (theirs,))
    assert ledger.custom_tool_names == {"lookup"}
    assert [entry["role"] for entry in result.transcript] == ["user", "assistant", "assistant", "assistant", "user"]
    answer = {"type": "tool_result", "tool_use_id": "c1", "content": [block], "is_error": True}
    assert result.transcript[-1]["content"] == [answer]


def test_a_snapshot_does_not_change_with_what_follows() -> None:
    ledger, _ = fill(said("e1", "one"))
    ledger.record({"type": "x"})
    before = ledger.result(None, "end_turn", None)
    seen = ledger.turn_result("sesn_1", "end_turn", None)
    ledger.absorb(*said("e2", "two"))
    ledger.record({"type": "y"})
    assert (before.text, seen.text, before.events) == ("one", "one", ({"type": "x"},))
