"""Hand-offs: every call is run once, however often and however piecemeal a harness hands it off."""

from __future__ import annotations

from typing import Any

import pytest

from managed_agents_actors._errors import ConfigurationError
from managed_agents_actors._model import ToolResult, ToolUse
from managed_agents_actors._protocol.converse_inputs import CANCELLED, ID_REUSED, tool_result_blocks
from managed_agents_actors._protocol.facts import Called
from managed_agents_actors._protocol.handoffs import MAX_REPEATS, Handoffs


def called(*ids: str) -> tuple[Called, ...]:
    return tuple(Called(ToolUse(id=call_id, name="t", input={})) for call_id in ids)


def said(call_id: str, text: str = "r", *, is_error: bool = False) -> ToolResult:
    return ToolResult(tool_use_id=call_id, content=({"type": "text", "text": text},), is_error=is_error)


def answers(handoffs: Handoffs) -> list[ToolResult]:
    return [result for _, result in handoffs.answers()]


def test_the_harness_is_answered_when_every_call_has_its_result_in_the_order_of_the_calls() -> None:
    handoffs = Handoffs()
    assert handoffs.hand_off(called("A", "B")) == "ask"
    handoffs.answer(said("B"))
    assert not handoffs.is_answered
    handoffs.answer(said("A"))
    assert handoffs.is_answered
    assert answers(handoffs) == [said("A"), said("B")]
    handoffs.taken()
    assert not handoffs.is_answered


def test_the_first_result_stands_and_one_for_nothing_is_no_result() -> None:
    handoffs = Handoffs()
    handoffs.hand_off(called("A"))
    handoffs.answer(said("other"))
    handoffs.answer(said("A", "first"))
    handoffs.answer(said("A", "second"))
    assert answers(handoffs) == [said("A", "first")]


def test_a_call_that_has_a_result_is_answered_with_it_when_it_is_handed_off_again() -> None:
    handoffs = Handoffs()
    handoffs.hand_off(called("A", "B"))
    handoffs.answer(said("A"))
    handoffs.answer(said("B"))
    handoffs.taken()
    assert handoffs.hand_off(called("B")) == "repeat"
    assert answers(handoffs) == [said("B")]
    assert handoffs.unanswered(called("B", "C")) == list(called("C"))


def call(name: str, **given: Any) -> Called:
    return Called(ToolUse(id="A", name=name, input=given))


@pytest.mark.parametrize("other", [call("delete", x=1), call("add", x=2), call("delete")])
def test_another_call_of_an_answered_id_is_refused_and_never_answered_with_the_old_result(other: Called) -> None:
    handoffs = Handoffs()
    handoffs.hand_off([call("add", x=1)])
    handoffs.answer(said("A", "1"))
    handoffs.taken()
    assert handoffs.unanswered([other]) == []
    found = [handoffs.hand_off([other]) for _ in range(MAX_REPEATS + 1)]
    assert found == ["repeat"] * MAX_REPEATS + ["nothing"]
    assert handoffs.answers() == [(other.use, said("A", ID_REUSED, is_error=True))]


@pytest.mark.parametrize("again", [call("add", x=1), call("add")])
def test_a_repetition_may_leave_the_input_out(again: Called) -> None:
    handoffs = Handoffs()
    handoffs.hand_off([call("add", x=1)])
    handoffs.answer(said("A", "1"))
    handoffs.taken()
    assert handoffs.hand_off([again]) == "repeat"
    assert handoffs.answers() == [(call("add", x=1).use, said("A", "1"))]


def test_with_a_new_call_beside_it_only_the_new_one_is_run() -> None:
    handoffs = Handoffs()
    handoffs.hand_off(called("A"))
    handoffs.answer(said("A"))
    handoffs.taken()
    assert handoffs.hand_off(called("A", "B")) == "ask"
    handoffs.answer(said("B"))
    assert answers(handoffs) == [said("A"), said("B")]


def test_a_hand_off_that_names_nothing_is_of_what_has_not_been_acknowledged() -> None:
    handoffs = Handoffs()
    handoffs.hand_off(called("A", "B"))
    handoffs.answer(said("A"))
    handoffs.answer(said("B"))
    handoffs.taken()
    handoffs.acknowledged.add("A")
    assert handoffs.hand_off(()) == "repeat"
    assert answers(handoffs) == [said("B")]
    handoffs.acknowledged.add("B")
    assert handoffs.hand_off(()) == "nothing"


def test_the_same_results_are_not_sent_for_ever() -> None:
    handoffs = Handoffs()
    handoffs.hand_off(called("A"))
    handoffs.answer(said("A"))
    found = [handoffs.hand_off(called("A")) for _ in range(MAX_REPEATS + 1)]
    assert found == ["repeat"] * MAX_REPEATS + ["nothing"]


def test_a_harness_that_takes_many_calls_one_by_one_is_answered_for_each() -> None:
    ids = [str(number) for number in range(20)]
    handoffs = Handoffs()
    handoffs.hand_off(called(*ids))
    for call_id in ids:
        handoffs.answer(said(call_id))
    assert [handoffs.hand_off(called(call_id)) for call_id in ids] == ["repeat"] * 20
    assert [handoffs.hand_off(called("0")) for _ in range(MAX_REPEATS)] == ["repeat"] * (MAX_REPEATS - 1) + ["nothing"]


def test_a_new_call_makes_room_for_repetitions_again() -> None:
    handoffs = Handoffs()
    handoffs.hand_off(called("A"))
    handoffs.answer(said("A"))
    for _ in range(MAX_REPEATS):
        assert handoffs.hand_off(called("A")) == "repeat"
    assert handoffs.hand_off(called("B")) == "ask"
    handoffs.answer(said("B"))
    assert handoffs.hand_off(called("A")) == "repeat"


def test_what_has_no_result_is_told_to_be_cancelled() -> None:
    handoffs = Handoffs()
    handoffs.hand_off(called("A", "B"))
    handoffs.answer(said("B"))
    assert answers(handoffs) == [said("A", CANCELLED, is_error=True), said("B")]


def test_what_may_not_have_arrived_is_known_until_the_harness_has_gone_on_to_an_end() -> None:
    handoffs = Handoffs()
    handoffs.hand_off(called("A"))
    handoffs.answer(said("A"))
    handoffs.taken()
    handoffs.begin_turn()
    assert handoffs.recall()
    assert answers(handoffs) == [said("A")]
    handoffs.taken()
    handoffs.served()
    handoffs.begin_turn()
    assert not handoffs.recall()
    assert handoffs.hand_off(called("A")) == "ask"


def test_calls_whose_hand_off_was_cut_off_are_recalled_as_cancelled() -> None:
    handoffs = Handoffs()
    handoffs.doubt(called("A"))
    assert handoffs.recall()
    assert answers(handoffs) == [said("A", CANCELLED, is_error=True)]


def test_another_hand_off_settles_all_doubt() -> None:
    handoffs = Handoffs()
    handoffs.hand_off(called("A"))
    handoffs.answer(said("A"))
    handoffs.taken()
    handoffs.hand_off(called("B"))
    handoffs.answer(said("B"))
    assert handoffs.recall()
    assert answers(handoffs) == [said("B")]


@pytest.mark.parametrize("calls", [(), called("A")])
def test_another_turn_knows_nothing_of_the_last(calls: tuple[Called, ...]) -> None:
    handoffs = Handoffs()
    handoffs.hand_off(called("A"))
    handoffs.answer(said("A"))
    handoffs.forget()
    assert handoffs.pending == {}
    assert handoffs.hand_off(calls) == ("ask" if calls else "nothing")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ({"type": "image", "source": {"data": b"x"}}, "'image' block .* not encodable as JSON"),
        ({"type": "json", "json": float("nan")}, "'json' block"),
        ({"type": "json", "json": {1, 2}}, "'json' block"),
        ({"type": "json", "json": 10**5000}, "'json' block"),
        ({"type": "text", "text": 5}, "must hold text, not a int"),
        ({"type": "text", "text": None}, "must hold text, not a NoneType"),
        ({"type": "text"}, "must hold text"),
        ("text", "a str is none"),
    ],
)
def test_a_result_that_is_neither_text_nor_json_is_a_typed_error(block: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        tool_result_blocks(ToolResult(tool_use_id="A", content=({"type": "text", "text": "fine"}, block)))


def test_what_is_no_text_goes_as_json_and_nothing_as_words() -> None:
    blocks = ({"type": "text", "text": "a\ud800"}, {"type": "json", "json": [1]}, {"type": "text", "text": ""})
    assert tool_result_blocks(ToolResult(tool_use_id="A", content=blocks)) == [
        {"text": "a\ufffd"},
        {"text": '{"type":"json","json":[1]}'},
    ]
    assert tool_result_blocks(ToolResult(tool_use_id="A", content=())) == [{"text": "(no output)"}]
