"""Owed answers: each is given once, no caller is left waiting, and an error is raised anew for every caller."""

from __future__ import annotations

import inspect
import traceback
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import managed_agents_actors as maa
from managed_agents_actors import _errors
from managed_agents_actors.actors import PendingReply, Replies, fresh

RESULT = maa.SessionResult(terminal="terminated", session_id="s", text="partial")


def _examples() -> dict[str, Exception]:
    """One instance of every class of the tree, with every keyword argument of its own filled in."""
    values: dict[str, Any] = {
        "status": 418,
        "type": "teapot_error",
        "request_id": "req_1",
        "retry_after": 1.5,
        "body": {"error": {"deep": [1]}},
        "request_sent": False,
        "permanent": True,
        "raw": b"<html>",
        "result": RESULT,
        "reason": ("why", 1),
        "stop_reason": {"type": "requires_action"},
        "context": {"phase": "poll"},
        "exit_code": 7,
        "stderr": "no such file",
        "timed_out": True,
    }
    made: dict[str, Exception] = {}
    for name in _errors.__all__:
        kind = getattr(_errors, name)
        parameters = inspect.signature(kind.__init__).parameters.values()
        given = {p.name: values[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}
        made[name] = kind("what went wrong", **given)
    return made


EXAMPLES = _examples()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_fresh_copy_is_the_same_error_anew(name: str) -> None:
    original = EXAMPLES[name]
    original.__cause__ = cause = OSError("the socket")
    original.__notes__ = ["what to do"]
    copy = fresh(original)
    assert copy is not original
    assert type(copy) is type(original)
    assert (str(copy), copy.args) == (str(original), original.args)
    assert vars(copy) == vars(original)
    assert copy.__cause__ is cause
    assert copy.__suppress_context__
    copy.add_note("for this caller only")
    assert original.__notes__ == ["what to do"]
    assert copy.__traceback__ is None
    copy.marked = True  # type: ignore[attr-defined]  # an attribute of the copy's alone
    assert not hasattr(original, "marked")


def test_a_fresh_copy_keeps_that_there_is_no_cause() -> None:
    copy = fresh(_errors.StreamLost("gone"))
    assert copy.__cause__ is None
    assert not copy.__suppress_context__


def test_a_fresh_copy_of_a_foreign_exception_keeps_its_arguments() -> None:
    copy = fresh(OSError(2, "no such file"))
    assert isinstance(copy, FileNotFoundError)
    assert (copy.args, copy.errno, copy.strerror) == ((2, "no such file"), 2, "no such file")


async def test_an_answer_reaches_its_caller() -> None:
    replies = Replies()
    token, reply = replies.open()
    assert len(replies) == 1
    assert not reply.answered
    replies.answer(token, {"some": "value"})
    assert reply.answered
    assert await reply.wait() == {"some": "value"}
    assert len(replies) == 0


async def test_a_second_answer_changes_nothing() -> None:
    replies = Replies()
    token, reply = replies.open()
    replies.answer(token, 1)
    replies.answer(token, 2)
    reply.answer(3)
    reply.answer(error=_errors.ActorGone("late"))
    assert await reply.wait() == 1


async def test_an_error_is_raised_anew_for_every_caller() -> None:
    reply = PendingReply()
    error = _errors.StreamLost("lost", request_sent=False)
    error.__cause__ = OSError("reset")
    caught: list[_errors.StreamLost] = []

    async def caller() -> None:
        with pytest.raises(_errors.StreamLost) as raised:
            await reply.wait()
        caught.append(raised.value)

    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(caller)
        await trio.testing.wait_all_tasks_blocked()
        reply.answer(error=error)
    assert len({id(each) for each in [error, *caught]}) == 4
    assert all(each.__cause__ is error.__cause__ and each.request_sent is False for each in caught)
    assert error.__traceback__ is None
    assert len({len(traceback.extract_tb(each.__traceback__)) for each in caught}) == 1


async def test_no_caller_hangs_when_the_actor_ends() -> None:
    replies = Replies()
    refused: list[str] = []

    async def caller() -> None:
        _token, reply = replies.open()
        with pytest.raises(maa.ActorGone) as caught:
            await reply.wait()
        refused.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(caller)
        await trio.testing.wait_all_tasks_blocked()
        replies.fail_all()
    assert refused == ["the actor ended before it answered"] * 5
    assert len(replies) == 0


async def test_the_failure_that_ended_the_actor_is_what_callers_get() -> None:
    replies = Replies()
    (_, one), (_, two) = replies.open(), replies.open()
    crash = maa.SessionCrashed("a defect", result=RESULT)
    replies.fail_all(crash)
    for reply in (one, two):
        with pytest.raises(maa.SessionCrashed, match="a defect") as caught:
            await reply.wait()
        assert caught.value is not crash
        assert caught.value.result is RESULT


def test_a_late_answer_to_a_caller_who_has_gone_is_dropped() -> None:
    replies = Replies()
    token, reply = replies.open()
    replies.discard(token)
    replies.discard(token)
    replies.answer(token, 1)
    assert len(replies) == 0
    assert not reply.answered


@given(st.lists(st.tuples(st.sampled_from(["open", "answer", "fail", "discard", "fail_all"]), st.integers(0, 9))))
def test_every_slot_is_answered_at_most_once_and_none_is_forgotten(operations: list[tuple[str, int]]) -> None:
    replies = Replies()
    slots: dict[int, PendingReply] = {}
    expected: dict[int, tuple[str, int]] = {}
    for number, (operation, position) in enumerate([*operations, ("fail_all", 0)]):
        waiting = [token for token in slots if token not in expected]
        if operation == "open":
            token, reply = replies.open()
            assert token not in slots
            slots[token] = reply
        elif operation == "fail_all":
            replies.fail_all(maa.ActorGone(str(number)))
            expected.update(dict.fromkeys(waiting, ("error", number)))
        elif slots:
            token = list(slots)[position % len(slots)]
            if operation == "discard":
                replies.discard(token)
                expected.setdefault(token, ("nothing", number))
            elif operation == "answer":
                replies.answer(token, number)
                expected.setdefault(token, ("value", number))
            else:
                replies.answer(token, error=maa.ActorGone(str(number)))
                expected.setdefault(token, ("error", number))
        assert len(replies) == len(slots) - len(expected)
    assert {token: _seen(reply) for token, reply in slots.items()} == {
        token: None if kind == "nothing" else (kind, number) for token, (kind, number) in expected.items()
    }


def _seen(reply: PendingReply) -> tuple[str, int] | None:
    if not reply.answered:
        return None
    try:
        return "value", reply.result()
    except maa.ActorGone as error:
        return "error", int(str(error))
