"""A stream and a listing that overlap become one log: each event once, and the state that the whole implies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors._model import Event
from managed_agents_actors._protocol.claude_events import classify
from managed_agents_actors._protocol.consolidate import Admission, SeenEvents, dedupe, fold, unanswered_tool_uses


def event(kind: str, event_id: str | None = None, processed: str | None = "t", **fields: Any) -> Event:
    return {"type": kind, "id": event_id, "processed_at": processed, **fields}


def call(call_id: str, kind: str = "agent.custom_tool_use", **fields: Any) -> Event:
    return event(kind, call_id, name="lookup", input={}, **fields)


def answer(call_id: str) -> Event:
    return event("user.custom_tool_result", custom_tool_use_id=call_id, content=[])


def idle(reason: str = "end_turn", *named: str) -> Event:
    return event("session.status_idle", stop_reason={"type": reason, "event_ids": list(named)})


RUNNING = event("session.status_running")


def open_calls(*history: Event) -> list[str]:
    return [use.id for use in unanswered_tool_uses(history, classify)]


def test_an_event_is_new_once_updated_once_and_known_from_then_on() -> None:
    seen = SeenEvents()
    queued, processed = event("user.message", "e1", None), event("user.message", "e1")
    met = [seen.admit(each) for each in (queued, queued, processed, processed, queued)]
    assert met == [Admission.NEW, Admission.KNOWN, Admission.UPDATED, Admission.KNOWN, Admission.KNOWN]


@pytest.mark.parametrize("event_id", [None, "", 7, ["e1"], {}])
def test_an_event_without_a_usable_id_is_never_taken_for_another(event_id: Any) -> None:
    seen = SeenEvents()
    assert [seen.admit({"type": "x", "id": event_id}) for _ in range(2)] == [Admission.NEW, Admission.NEW]
    assert len(seen) == 0
    assert seen.admit({"type": "x"}) is Admission.NEW


@given(st.lists(st.integers(0, 9).map(lambda n: event("x", f"e{n}"))), st.integers(0, 9))
def test_dedupe_gives_each_event_once_and_in_order(events: list[Event], cut: int) -> None:
    seen = SeenEvents()
    once = dedupe(events[:cut], seen) + dedupe(events, seen)
    assert [each["id"] for each in once] == list(dict.fromkeys(each["id"] for each in events))
    assert len(seen) == len(once)


@given(st.data())
def test_a_log_folds_to_the_same_state_however_stream_and_listing_overlap(data: st.DataObject) -> None:
    stops = [idle(), idle("requires_action", "c0"), event("user.interrupt")]
    kinds = [RUNNING, call("c"), answer("c0"), answer("c1"), *stops]
    drawn = data.draw(st.lists(st.sampled_from(kinds), max_size=12))
    log = [{**each, "id": f"c{number}"} for number, each in enumerate(drawn)]
    cut = data.draw(st.integers(0, len(log)))
    overlap = data.draw(st.integers(0, cut))
    whole, merged = fold(log, classify), fold([*log[:cut], *log[overlap:]], classify)
    assert (whole.status, whole.waiting_for, whole.calls) == (merged.status, merged.waiting_for, merged.calls)


def test_a_call_is_open_until_it_is_answered_by_whomever() -> None:
    assert open_calls(call("c1"), call("c2"), answer("c1")) == ["c2"]
    assert open_calls(call("c1"), event("agent.tool_result", tool_use_id="c1")) == []


def test_only_custom_calls_are_given() -> None:
    assert open_calls(call("c1", "agent.tool_use"), call("c2", "agent.mcp_tool_use"), call("c3")) == ["c3"]


@pytest.mark.parametrize(
    ("thread", "left"), [(None, []), ("sthr_1", ["c1", "c3"]), ("sthr_2", ["c1", "c2"]), ("sthr_9", ["c1", "c2", "c3"])]
)
def test_an_interrupt_closes_the_calls_of_its_thread_or_all(thread: str | None, left: list[str]) -> None:
    calls = [call("c1"), call("c2", session_thread_id="sthr_1"), call("c3", session_thread_id="sthr_2")]
    assert open_calls(*calls, event("user.interrupt", session_thread_id=thread)) == left


def test_an_interrupt_that_is_only_queued_closes_nothing_until_it_is_applied() -> None:
    queued = event("user.interrupt", "e1", None)
    assert open_calls(call("c1"), queued) == ["c1"]
    assert open_calls(call("c1"), queued, event("user.interrupt", "e1")) == []


@pytest.mark.parametrize(
    ("ending", "left"),
    [
        (event("session.thread_status_terminated", session_thread_id="sthr_1"), ["c1"]),
        (event("session.thread_status_idle", session_thread_id="sthr_1", stop_reason={"type": "end_turn"}), ["c1"]),
        (
            event("session.thread_status_idle", session_thread_id="sthr_1", stop_reason={"type": "requires_action"}),
            ["c1", "c2"],
        ),
        (event("session.thread_status_idle", session_thread_id="sthr_1"), ["c1", "c2"]),
    ],
)
def test_the_end_of_a_thread_closes_its_calls_and_a_pause_does_not(ending: Event, left: list[str]) -> None:
    assert open_calls(call("c1"), call("c2", session_thread_id="sthr_1"), ending) == left


@pytest.mark.parametrize("kind", ["session.status_terminated", "session.deleted"])
def test_the_end_of_the_session_closes_everything(kind: str) -> None:
    log = fold([RUNNING, call("c1"), event(kind)], classify)
    assert (log.status, log.calls) == (kind.rpartition("_")[2].rpartition(".")[2], {})


def test_an_idle_that_waits_keeps_its_calls_and_any_other_closes_them() -> None:
    log = fold([call("c1"), idle("requires_action", "c1", "c2")], classify)
    assert (log.waiting_for, list(log.calls)) == (("c1", "c2"), ["c1"])
    assert (log.knows("c1"), log.knows("c2")) == (True, False)
    for reason in ("end_turn", "retries_exhausted", "novelty"):
        log = fold([call("c1"), idle(reason)], classify)
        assert (log.waiting_for, log.calls, log.status) == (None, {}, "idle")


def test_an_idle_that_says_nothing_is_a_pause_while_a_call_is_open_and_an_end_otherwise() -> None:
    mute = event("session.status_idle")
    assert fold([call("c1"), mute], classify).waiting_for == ()
    assert fold([call("c1"), answer("c1"), mute], classify).waiting_for is None


def test_work_ends_the_wait_the_error_and_the_unread_input() -> None:
    history = [
        event("user.message", "e1", None, content="hi"),
        event("session.error", error={"type": "overloaded", "message": "busy"}),
        idle("requires_action", "c1"),
    ]
    assert fold(history[:1], classify).unread_input
    log = fold(history, classify)
    assert log.error is not None
    assert log.error.type == "overloaded"
    log = fold([*history, RUNNING], classify)
    assert (log.status, log.unread_input) == ("running", False)
    assert (log.stopped, log.waiting_for, log.error) == (None, None, None)


def test_a_verdict_stands_while_its_call_is_open() -> None:
    gated = call("c1", "agent.tool_use", evaluated_permission="ask")
    verdict = event("user.tool_confirmation", tool_use_id="c1", result="allow")
    log = fold([gated, verdict], classify)
    assert log.verdicts == {"c1": "allow"}
    assert fold([gated, verdict, event("agent.tool_result", tool_use_id="c1")], classify).verdicts == {}


def test_an_answer_to_a_call_that_was_never_listed_is_known() -> None:
    log = fold([answer("c1"), idle("requires_action", "c1")], classify)
    assert log.knows("c1")
    assert log.has_answer("c1")
