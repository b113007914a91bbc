"""Each law can fail: a record of a case that went well, doctored so that it breaks this law, is found out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

import managed_agents_actors as maa
from managed_agents_actors.testing import Call, DropStream, Fault, RecordedRequest, Step, call_tools, say

from . import laws
from .case import Case, Conversation, Exchange, draw_case
from .faults import Mishaps
from .laws import LAWS, violations
from .play import play
from .record import Event, Execution, Life, Record

TOOL = Call(name="a", input={"seconds": 1, "text": "found", "ends": "text"})
GATED = Call(name="bash", input={"seconds": 0, "text": "listed", "verdict": "allow"}, kind="builtin", permission="ask")
FIRST: tuple[Step, ...] = (say("one"), call_tools(TOOL, TOOL, GATED), say("two"))
SECOND: tuple[Step, ...] = (call_tools(TOOL), say("three"))


def case(*faults: Fault) -> Case:
    exchanges = (Exchange("0.0 hello", FIRST, 0.0), Exchange("0.1 and now", SECOND, 1.0))
    return Case(
        seed=7,
        conversations=(Conversation("ask", exchanges, deltas=False, concurrency=8),),
        mishaps=Mishaps(faults),
        reconnect=maa.ReconnectPolicy(jitter=0.0),
        idle_timeout=90.0,
    )


@cache
def _sound() -> Record:
    return play(case(Fault(on="stream", action=DropStream(after_events=9))))


@pytest.fixture
def record() -> Record:
    """The record of two requests with three tools and a gated call, the stream dropped once."""
    return copy.deepcopy(_sound())


def test_a_sound_record_breaks_no_law(record: Record) -> None:
    assert violations(record) == []
    (held,) = record.sessions
    (life,) = held.lives
    assert len(life.results) == len(life.notified) == 2
    assert len(life.executions) == 3
    assert len(life.verdicts) == 1
    assert sum(request.path.endswith("/stream") for request in record.requests) == 2


# --- doctoring --------------------------------------------------------------------------------------------------------


def _life(record: Record) -> Life:
    return record.sessions[0].lives[0]


def _index(record: Record, kind: str) -> int:
    return next(place for place, event in enumerate(record.sessions[0].log) if event["type"] == kind)


def _replace_event(record: Record, kind: str, **fields: Any) -> None:
    """Let the server have logged something else."""
    held, place = record.sessions[0], _index(record, kind)
    held.log = (*held.log[:place], {**held.log[place], **fields}, *held.log[place + 1 :])


def _lose_event(record: Record, kind: str) -> None:
    held, place = record.sessions[0], _index(record, kind)
    held.log = (*held.log[:place], *held.log[place + 1 :])


def _double_event(record: Record, kind: str) -> None:
    held, place = record.sessions[0], _index(record, kind)
    held.log = (*held.log[: place + 1], {**held.log[place], "id": "doubled"}, *held.log[place + 1 :])


def _change_result(record: Record, **fields: Any) -> None:
    """Let the first result be another one, for everybody."""
    life = _life(record)
    changed = replace(life.results[0], **fields)
    for heard in (life.results, life.notified, life.subscribed):
        assert heard is not None
        heard[0] = changed


def _swap(events: list[Event]) -> None:
    events[3], events[4] = events[4], events[3]


def _request(record: Record, path: str, status: int) -> None:
    asked = RecordedRequest(method="POST", path=path, query={}, headers={}, body=None, at=0.0, status=status)
    record.requests = (asked, *record.requests)


def _text(text: str) -> list[Event]:
    return [{"type": "text", "text": text}]


@dataclass(frozen=True)
class Forgery:
    """One way to doctor a record, and the laws that must find it out."""

    law: str
    doctor: Callable[[Record], object]


def _run_again(record: Record) -> None:
    life = _life(record)
    life.executions.append(replace(life.executions[0], attempt=2))


def _crash(record: Record) -> None:
    """Two crashes' worth of excuses."""
    record.crashes = 2


FORGERIES = (
    Forgery("it_comes_to_an_end", lambda record: setattr(record, "hung", True)),
    Forgery("it_comes_to_an_end", lambda record: setattr(record, "escaped", RuntimeError("a defect"))),
    Forgery("nothing_ends_it_without_a_reason", lambda record: setattr(_life(record), "error", maa.StreamLost("no"))),
    Forgery("each_call_is_run_once", _run_again),
    Forgery("each_call_is_run_once", lambda record: (_crash(record), _run_again(record))),
    Forgery("each_call_is_run_once", lambda record: _life(record).executions.pop()),
    Forgery("each_call_is_run_once", lambda record: setattr(_life(record).executions[0], "attempt", 2)),
    Forgery("each_call_is_run_once", lambda record: setattr(_life(record).executions[0], "state", "cancelled")),
    Forgery("each_result_is_taken_once", lambda record: _lose_event(record, "user.custom_tool_result")),
    Forgery("each_result_is_taken_once", lambda record: _double_event(record, "user.custom_tool_result")),
    Forgery(
        "each_result_is_taken_once",
        lambda record: _replace_event(record, "user.custom_tool_result", content=_text("made up")),
    ),
    Forgery(
        "each_result_is_taken_once", lambda record: _replace_event(record, "user.custom_tool_result", is_error=True)
    ),
    Forgery("each_result_is_taken_once", lambda record: _life(record).executions.pop()),
    Forgery("each_verdict_is_given_once", lambda record: _double_event(record, "user.tool_confirmation")),
    Forgery("each_verdict_is_given_once", lambda record: _lose_event(record, "user.tool_confirmation")),
    Forgery("each_verdict_is_given_once", lambda record: _life(record).verdicts.append("sevt_other")),
    Forgery("each_message_arrives_once_and_in_order", lambda record: _double_event(record, "user.message")),
    Forgery("each_message_arrives_once_and_in_order", lambda record: _lose_event(record, "user.message")),
    Forgery("each_message_arrives_once_and_in_order", lambda record: _life(record).messages.reverse()),
    Forgery(
        "each_message_arrives_once_and_in_order",
        lambda record: _replace_event(record, "user.message", content=_text("garbled")),
    ),
    Forgery("nothing_is_refused", lambda record: _request(record, "/v1/sessions", 400)),
    Forgery("nothing_is_posted_before_the_stream", lambda record: _request(record, "/v1/sessions/s/events", 200)),
    Forgery("each_event_is_shown_once_and_in_order", lambda record: _swap(_life(record).events)),
    Forgery("each_event_is_shown_once_and_in_order", lambda record: _life(record).events.pop(3)),
    Forgery("each_event_is_shown_once_and_in_order", lambda record: _life(record).events.pop()),
    Forgery(
        "each_event_is_shown_once_and_in_order", lambda record: _life(record).events.append(_life(record).events[-1])
    ),
    Forgery("each_event_is_shown_once_and_in_order", lambda record: _swap(_life(record).read or [])),
    Forgery(
        "each_result_holds_its_own_events",
        lambda record: _change_result(record, events=_life(record).results[0].events[:-1]),
    ),
    Forgery(
        "each_result_holds_its_own_events",
        lambda record: _change_result(record, events=_life(record).results[1].events),
    ),
    Forgery("each_request_has_one_terminal", lambda record: _life(record).results.pop()),
    Forgery("each_request_has_one_terminal", lambda record: _life(record).notified.pop()),
    Forgery("each_request_has_one_terminal", lambda record: _life(record).notified.reverse()),
    Forgery("each_request_has_one_terminal", lambda record: _life(record).notified.append(_life(record).results[-1])),
    Forgery("each_request_has_one_terminal", lambda record: (_life(record).subscribed or []).pop()),
    Forgery("each_result_is_what_the_server_says", lambda record: _change_result(record, terminal="terminated")),
    Forgery("each_result_is_what_the_server_says", lambda record: _change_result(record, stop_reason=None)),
    Forgery("each_result_is_what_the_server_says", lambda record: _change_result(record, text="one\ntwo\n")),
    Forgery("each_result_is_what_the_server_says", lambda record: _change_result(record, usage=maa.Usage())),
    Forgery("each_result_is_what_the_server_says", lambda record: _change_result(record, custom_tool_uses=())),
    Forgery("the_deltas_make_up_the_text", lambda record: _life(record).deltas.pop()),
    Forgery("the_deltas_make_up_the_text", lambda record: _life(record).deltas.append("more")),
    Forgery("the_deltas_make_up_the_text", lambda record: _life(record).read.clear()),  # type: ignore[union-attr]
    Forgery("nothing_is_left", lambda record: setattr(record, "tasks_left", 1)),
    Forgery("nothing_is_left", lambda record: setattr(record.sessions[0], "open_streams", 1)),
    Forgery("nobody_complains", lambda record: record.noise.append("warning: coroutine was never awaited")),
    Forgery("nobody_complains", lambda record: record.noise.append("log: event='session_crashed' of nobody's doing")),
)


@pytest.mark.parametrize("forgery", FORGERIES, ids=[f"{n}-{each.law}" for n, each in enumerate(FORGERIES)])
def test_a_law_finds_out_a_doctored_record(record: Record, forgery: Forgery) -> None:
    law = getattr(laws, forgery.law)
    assert list(law(record)) == []
    forgery.doctor(record)
    assert list(law(record)) != []


def test_every_law_is_tested() -> None:
    assert {law.__name__ for law in LAWS} == {forgery.law for forgery in FORGERIES}


# --- what is excused --------------------------------------------------------------------------------------------------


def test_a_call_that_a_crash_cut_short_may_be_run_again(record: Record) -> None:
    record.crashes = 1
    life = _life(record)
    life.executions[0].attempt = 2
    life.executions.insert(0, Execution(life.executions[0].call_id, 1, "cancelled"))
    assert violations(record) == []


def test_a_fault_excuses_the_end_that_it_explains_and_no_other(record: Record) -> None:
    _life(record).error = maa.AuthenticationError("refused", status=401)
    record.may_end_with = (maa.AuthenticationError,)
    assert violations(record) == []
    record.may_end_with = (maa.SessionGone,)
    assert [line.partition(":")[0] for line in violations(record)] == ["nothing_ends_it_without_a_reason"]


def test_only_a_message_that_was_given_up_may_be_missing(record: Record) -> None:
    law = laws.each_message_arrives_once_and_in_order
    _lose_event(record, "user.message")
    lost = maa.TransportError("the server closed the connection")
    _change_result(record, error=maa.ResultError(type="TransportError", message=str(lost), exception=lost))
    assert list(law(record)) == []
    _change_result(record, error=maa.ResultError(type="overloaded_error", message="the provider said so"))
    assert list(law(record)) != []


# --- the cases --------------------------------------------------------------------------------------------------------


def test_a_seed_determines_the_case_and_what_comes_of_it() -> None:
    for seed in range(20):
        one, other = play(draw_case(seed)), play(draw_case(seed))
        assert _course(one) == _course(other), f"seed {seed}"


def _course(record: Record) -> list[Any]:
    began = record.requests[0].at
    asked = [(r.method, r.path, round(r.at - began, 6), r.status) for r in record.requests]
    return [asked, [[event["id"] for event in held.log] for held in record.sessions]]


def test_the_cases_have_everything_in_them() -> None:
    """A thousand seeds bring every manner, every operation and every kind of fault."""
    cases = [draw_case(seed) for seed in range(1000)]
    manners = {talk.manner for case in cases for talk in case.conversations}
    calls = {len(case.conversations) for case in cases}
    turns = {len(talk.exchanges) for case in cases for talk in case.conversations}
    struck = {fault.on for case in cases for fault in case.mishaps.faults}
    assert manners == {"run", "ask", "message", "prompt", "reopen", "supervised ask", "supervised message"}
    assert (calls, turns) == ({1, 2, 3}, {1, 2, 3, 4})
    assert struck == {"stream", "send_events", "list_events", "retrieve_session", "create_session"}
