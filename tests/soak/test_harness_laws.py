"""Each law of AgentCore's cases can fail: a record of a case that went well, doctored, is found out."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest

import managed_agents_actors as maa
from managed_agents_actors.testing import Call, EndStream, Fault, RefuseWith, Step, ThrowInStream, call_tools, say

from . import harness_laws
from .case import MANNERS
from .faults import Mishaps
from .harness_case import HarnessCase, HarnessExchange, HarnessTalk, draw_harness_case
from .harness_laws import HARNESS_LAWS, harness_violations
from .harness_play import play_harness
from .harness_reading import MOST_REFUSALS, RESTARTED, TEXT_DELTA
from .harness_record import Attempt, HarnessLife, HarnessRecord, HeldHarness
from .record import Event, Execution

TOOL = Call(name="a", input={"seconds": 1, "text": "found", "ends": "text"})
OWN = Call(name="shell", input={"seconds": 0, "text": "listed"}, kind="builtin", result="listed")
FIRST: tuple[Step, ...] = (say("one"), call_tools(TOOL, TOOL, OWN), say("two"))
SECOND: tuple[Step, ...] = (call_tools(TOOL), say("three"))


def case(*faults: Fault, **changed: Any) -> HarnessCase:
    exchanges = (
        HarnessExchange("0.0 hello", FIRST, 0.0, ("one", "two")),
        HarnessExchange("0.1 and now", SECOND, 1.0, ("three",)),
    )
    talk = HarnessTalk("ask", exchanges, concurrency=8, stop_on_cancel=False, invoke_retries=1)
    return HarnessCase(
        seed=7,
        talks=(replace(talk, **changed),),
        mishaps=Mishaps(faults),
        resume="both",
        hand_off="together",
        idle_timeout=120.0,
        reconnect=maa.ReconnectPolicy(jitter=0.0),
    )


@cache
def _sound() -> HarnessRecord:
    return play_harness(case(Fault(on="invoke_harness", action=EndStream(after_events=3))))


@pytest.fixture
def record() -> HarnessRecord:
    """The record of two requests with three tools of ours, the first stream ended early once."""
    return copy.deepcopy(_sound())


def test_a_sound_record_breaks_no_law(record: HarnessRecord) -> None:
    assert harness_violations(record) == []
    (held,) = record.sessions
    (life,) = held.lives
    assert [attempt.text for attempt in held.attempts] == ["0.0 hello", "0.0 hello", None, "0.1 and now", None]
    assert len(life.notified) == 2
    assert len(life.executions) == 3
    assert sum(event["type"] == RESTARTED for event in life.seen) == 1


# --- doctoring --------------------------------------------------------------------------------------------------------


def _held(record: HarnessRecord) -> HeldHarness:
    return record.sessions[0]


def _life(record: HarnessRecord) -> HarnessLife:
    return _held(record).lives[0]


def _fail(record: HarnessRecord, error: Exception, number: int = 0) -> None:
    """Let a request end with an error, for everybody."""
    life = _life(record)
    life.outcomes[number].result, life.outcomes[number].error = None, error
    told = maa.ResultError(type=type(error).__name__, message=str(error), exception=error)
    for heard in (life.notified, life.subscribed):
        assert heard is not None
        heard[number] = replace(heard[number], error=told)


def _change_result(record: HarnessRecord, **fields: Any) -> None:
    """Let the first result be another one, for everybody."""
    life = _life(record)
    assert life.outcomes[0].result is not None
    assert life.subscribed is not None
    changed = life.outcomes[0].result = replace(life.outcomes[0].result, **fields)
    life.notified[0] = life.subscribed[0] = changed


def _send_again(record: HarnessRecord, place: int) -> None:
    """Let an invocation be sent once more, though it was accepted."""
    attempts = _held(record).attempts
    attempts.insert(place, copy.deepcopy(attempts[place]))


def _answer(record: HarnessRecord, **fields: Any) -> None:
    """Let the first result have been sent otherwise."""
    attempt = _held(record).attempts[2]
    attempt.messages[-1]["content"][0]["toolResult"].update(fields)


def _without_results(attempt: Attempt) -> None:
    attempt.messages[-1]["content"].pop()


def _run_again(record: HarnessRecord) -> None:
    runs = _life(record).executions
    runs.append(replace(runs[0], attempt=2))


def _swap(events: list[Event]) -> None:
    events[-3], events[-2] = events[-2], events[-3]


def _places(record: HarnessRecord, kind: str) -> list[int]:
    return [place for place, event in enumerate(_life(record).seen) if event["type"] == kind]


def _forget_delta(record: HarnessRecord) -> None:
    life = _life(record)
    del life.seen[_places(record, TEXT_DELTA)[-1]]
    life.read = [*life.seen]


def _forget_restart(record: HarnessRecord) -> None:
    life = _life(record)
    del life.seen[_places(record, RESTARTED)[0]]
    life.read = [*life.seen]


def _say_less(record: HarnessRecord) -> None:
    """Let the script have been another one."""
    held = _held(record)
    first, *rest = held.talk.exchanges
    held.talk = replace(held.talk, exchanges=(replace(first, said=("one",)), *rest))


def _forget_message(record: HarnessRecord) -> None:
    held = _held(record)
    held.conversation = held.conversation[1:]


def _double_message(record: HarnessRecord) -> None:
    held = _held(record)
    held.conversation = (held.conversation[0], *held.conversation)


@dataclass(frozen=True)
class Forgery:
    """One way to doctor a record, and the law that must find it out."""

    law: str
    doctor: Callable[[HarnessRecord], object]


FORGERIES = (
    Forgery("it_comes_to_an_end", lambda record: setattr(record, "hung", True)),
    Forgery("it_comes_to_an_end", lambda record: setattr(record, "escaped", RuntimeError("a defect"))),
    Forgery("nothing_ends_a_request_without_a_reason", lambda record: _fail(record, maa.StreamLost("no"))),
    Forgery("each_request_ends_as_the_wire_says", lambda record: _fail(record, maa.StreamLost("no"))),
    Forgery("each_request_ends_as_the_wire_says", lambda record: _held(record).attempts.pop()),
    Forgery("each_request_ends_as_the_wire_says", lambda record: setattr(_held(record).attempts[-1], "end", "torn")),
    Forgery(
        "each_request_ends_as_the_wire_says",
        lambda record: _fail(record, maa.SessionTimeout("late", result=_life(record).notified[0])),
    ),
    Forgery("a_session_can_be_used_again", lambda record: _fail(record, maa.ActorGone("gone"), 1)),
    Forgery("a_session_can_be_used_again", lambda record: setattr(_life(record), "ended", maa.StreamLost("no"))),
    Forgery("what_may_be_accepted_is_not_sent_again", lambda record: _send_again(record, 1)),
    Forgery("what_may_be_accepted_is_not_sent_again", lambda record: _send_again(record, 2)),
    Forgery("what_may_be_accepted_is_not_sent_again", lambda record: _send_again(record, 0)),
    Forgery(
        "what_may_be_accepted_is_not_sent_again",
        lambda record: _held(record).attempts.append(copy.deepcopy(_held(record).attempts[1])),
    ),
    Forgery("each_message_arrives_once_and_in_order", _forget_message),
    Forgery("each_message_arrives_once_and_in_order", _double_message),
    Forgery(
        "each_message_arrives_once_and_in_order",
        lambda record: _held(record).attempts[0].messages[0]["content"].append({"text": "more"}),
    ),
    Forgery("each_call_is_run_once", _run_again),
    Forgery("each_call_is_run_once", lambda record: _life(record).executions.pop()),
    Forgery("each_call_is_run_once", lambda record: _life(record).executions.append(Execution("other", 1))),
    Forgery("each_call_is_run_once", lambda record: setattr(_life(record).executions[0], "attempt", 2)),
    Forgery("each_call_is_run_once", lambda record: setattr(_life(record).executions[0], "state", "cancelled")),
    Forgery(
        "each_call_is_run_once",
        lambda record: _life(record).executions.insert(
            0, replace(_life(record).executions[0], state="cancelled", answer=None)
        ),
    ),
    Forgery("each_result_is_sent_when_it_is_asked_for", lambda record: _answer(record, toolUseId="other")),
    Forgery("each_result_is_sent_when_it_is_asked_for", lambda record: _without_results(_held(record).attempts[2])),
    Forgery("each_result_is_what_the_tool_said", lambda record: _answer(record, content=[{"text": "made up"}])),
    Forgery("each_result_is_what_the_tool_said", lambda record: _answer(record, status="error")),
    Forgery("each_result_is_what_the_tool_said", lambda record: _life(record).executions.pop()),
    Forgery("each_event_is_shown_once_and_in_order", lambda record: _swap(_life(record).seen)),
    Forgery("each_event_is_shown_once_and_in_order", lambda record: _life(record).seen.pop()),
    Forgery("each_event_is_shown_once_and_in_order", lambda record: _life(record).seen.append(_life(record).seen[-1])),
    Forgery("each_event_is_shown_once_and_in_order", lambda record: _life(record).seen[-1].update(id="1.1")),
    Forgery("each_event_is_shown_once_and_in_order", lambda record: (_life(record).read or []).pop()),
    Forgery("what_is_made_again_is_taken_back", _forget_restart),
    Forgery("each_result_is_what_the_wire_says", lambda record: _change_result(record, terminal="terminated")),
    Forgery("each_result_is_what_the_wire_says", lambda record: _change_result(record, stop_reason=None)),
    Forgery("each_result_is_what_the_wire_says", lambda record: _change_result(record, text="one\ntwo\n")),
    Forgery("each_result_is_what_the_wire_says", lambda record: _change_result(record, usage=maa.Usage())),
    Forgery("each_result_is_what_the_wire_says", lambda record: _change_result(record, custom_tool_uses=())),
    Forgery("each_result_is_what_the_wire_says", lambda record: _change_result(record, events=())),
    Forgery("each_result_is_what_the_wire_says", lambda record: _change_result(record, session_id="another")),
    Forgery("each_result_is_what_the_script_says", _say_less),
    Forgery("each_result_is_what_the_script_says", lambda record: _change_result(record, stop_reason="max_tokens")),
    Forgery("the_deltas_make_up_the_text", _forget_delta),
    Forgery("each_request_has_one_terminal", lambda record: _life(record).notified.pop()),
    Forgery("each_request_has_one_terminal", lambda record: _life(record).notified.reverse()),
    Forgery("each_request_has_one_terminal", lambda record: _life(record).notified.append(_life(record).notified[0])),
    Forgery("each_request_has_one_terminal", lambda record: (_life(record).subscribed or []).pop()),
    Forgery("each_request_has_one_terminal", lambda record: setattr(_life(record).outcomes[0], "result", None)),
    Forgery("nothing_else_is_asked", lambda record: setattr(record, "requests", record.requests[1:])),
    Forgery("nothing_else_is_asked", lambda record: setattr(record, "requests", (*record.requests, *record.requests))),
    Forgery("a_machine_is_stopped_only_on_demand", lambda record: setattr(_held(record), "stops", 1)),
    Forgery("nothing_is_left", lambda record: setattr(record, "tasks_left", 1)),
    Forgery("nothing_is_left", lambda record: setattr(record, "open_bodies", 1)),
    Forgery("nobody_complains", lambda record: record.noise.append("warning: coroutine was never awaited")),
    Forgery("nobody_complains", lambda record: record.noise.append("log: event='session_crashed' of nobody's doing")),
)


@pytest.mark.parametrize("forgery", FORGERIES, ids=[f"{n}-{each.law}" for n, each in enumerate(FORGERIES)])
def test_a_law_finds_out_a_doctored_record(record: HarnessRecord, forgery: Forgery) -> None:
    law = getattr(harness_laws, forgery.law)
    assert list(law(record)) == []
    forgery.doctor(record)
    assert list(law(record)) != []


def test_every_law_is_tested() -> None:
    assert {law.__name__ for law in HARNESS_LAWS} == {forgery.law for forgery in FORGERIES}


# --- what is excused --------------------------------------------------------------------------------------------------


def _only(*laws: str) -> Any:
    """Whether nothing but these laws is broken."""
    return lambda record: {line.partition(":")[0] for line in harness_violations(record)} == set(laws)


def test_what_is_refused_or_comes_to_nothing_more_often_than_allowed_ends_a_request() -> None:
    thrown = Fault(on="invoke_harness", action=ThrowInStream(), times=2)
    record = play_harness(case(thrown))
    assert isinstance(_life(record).outcomes[0].error, maa.RateLimitError)
    assert _only("nothing_ends_a_request_without_a_reason")(record)
    record.may_end_with = (maa.APIError,)
    assert harness_violations(record) == []
    _held(record).talk = replace(_held(record).talk, invoke_retries=2)
    assert _only("each_request_ends_as_the_wire_says")(record)


def test_settling_is_repeated_as_a_message_is_and_not_for_ever() -> None:
    refused = Fault(on="invoke_harness", action=RefuseWith(status=409), nth=2)
    throttled = Fault(on="invoke_harness", action=ThrowInStream(), nth=3, times=3)
    record = play_harness(case(refused, throttled, invoke_retries=0))
    record.may_end_with = (maa.ConflictError,)
    assert harness_violations(record) == []
    attempts = _held(record).attempts
    settling = [attempt for attempt in attempts if attempt.heard.thrown is not None]
    assert [attempt.messages for attempt in settling] == [attempts[1].messages] * 3
    for _ in range(MOST_REFUSALS - 1 - len(settling)):
        attempts.insert(2, copy.deepcopy(attempts[2]))
        assert _only("nothing_else_is_asked")(record)
    attempts.insert(2, copy.deepcopy(attempts[2]))
    assert _only("nothing_else_is_asked", "what_may_be_accepted_is_not_sent_again")(record)


def test_only_a_message_whose_request_timed_out_may_arrive_late(record: HarnessRecord) -> None:
    held = _held(record)
    held.talk = replace(held.talk, timeout=1.0)
    law = harness_laws.each_message_arrives_once_and_in_order
    held.conversation = (*held.conversation[1:], held.conversation[0])
    assert list(law(record)) != []
    _fail(record, maa.SessionTimeout("late", result=_life(record).notified[0]))
    assert list(law(record)) == []
    held.conversation = (*held.conversation, held.conversation[-1])
    assert list(law(record)) != []


def test_a_message_of_a_machine_that_may_be_lost_may_be_missing(record: HarnessRecord) -> None:
    _forget_message(record)
    record.may_lose_machines = True
    assert harness_violations(record) == []


def test_a_call_that_a_crash_cut_short_may_be_run_again(record: HarnessRecord) -> None:
    record.crashes = 1
    runs = _life(record).executions
    runs[0].attempt = 2
    runs.insert(0, Execution(runs[0].call_id, 1, "cancelled"))
    assert harness_violations(record) == []


# --- the cases --------------------------------------------------------------------------------------------------------


def test_a_seed_determines_the_case_and_what_comes_of_it() -> None:
    for seed in range(20):
        one, other = play_harness(draw_harness_case(seed)), play_harness(draw_harness_case(seed))
        assert _course(one) == _course(other), f"seed {seed}"


def _course(record: HarnessRecord) -> list[Any]:
    began = record.requests[0].at
    asked = [(r.method, r.path, round(r.at - began, 6), r.status) for r in record.requests]
    # A tool's defect is told with an id that is nobody's to foresee.
    carried = [[[event["type"] for event in each.heard.events] for each in held.attempts] for held in record.sessions]
    return [asked, carried]


def test_the_cases_have_everything_in_them() -> None:
    """A thousand seeds bring every manner, every contract and every kind of end."""
    cases = [draw_harness_case(seed) for seed in range(1000)]
    talks = [talk for case in cases for talk in case.talks]
    exchanges = [each for talk in talks for each in talk.exchanges]
    assert {talk.manner for talk in talks} == set(MANNERS)
    assert {(case.resume, case.hand_off) for case in cases} == {
        (resume, order) for resume in ("both", "echo", "documented") for order in ("together", "one_by_one")
    }
    assert {len(case.talks) for case in cases} == {1, 2, 3}
    assert {len(talk.exchanges) for talk in talks} == {1, 2, 3, 4}
    assert {talk.stop_on_cancel for talk in talks} == {True, False}
    assert {each.stop for each in exchanges} > {"end_turn", "max_tokens"}
    assert {each.throws for each in exchanges} > {None, "throttlingException"}
    assert {fault.on for case in cases for fault in case.mishaps.faults} == {"invoke_harness", "stop_runtime_session"}
