"""A call is answered, or fails: no caller waits for ever, and nobody works for a caller that has gone unread."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import trio
import trio.testing

from managed_agents_actors import ActorGone
from managed_agents_actors.actors import Mailbox, PendingReply

settled = trio.testing.wait_all_tasks_blocked


@dataclass(frozen=True)
class Question:
    """Two of the same text are equal, and still two."""

    text: str
    reply: PendingReply | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Question) and self.text == other.text

    __hash__ = None  # type: ignore[assignment]


def _ask(text: str) -> Any:
    return lambda reply: Question(text, reply)


class Callers:
    """Tasks that call, and what came of each."""

    def __init__(self, mailbox: Mailbox[Question], nursery: trio.Nursery) -> None:
        self._mailbox = mailbox
        self._nursery = nursery
        self.outcomes: dict[str, Any] = {}

    def call(self, text: str) -> trio.CancelScope:
        scope = trio.CancelScope()
        self._nursery.start_soon(self._call, text, scope)
        return scope

    async def _call(self, text: str, scope: trio.CancelScope) -> None:
        with scope:
            try:
                self.outcomes[text] = await self._mailbox.call(_ask(text))
            except (ActorGone, KeyError) as error:
                self.outcomes[text] = error
        if scope.cancelled_caught:
            self.outcomes[text] = "cancelled"


async def test_the_answer_goes_to_its_caller() -> None:
    mailbox: Mailbox[Question] = Mailbox(8)
    async with trio.open_nursery() as nursery:
        callers = Callers(mailbox, nursery)
        for text in "abc":
            callers.call(text)
        await settled()
        for question in await mailbox.receive_batch():
            assert question.reply is not None
            if question.text == "b":
                question.reply.answer(error=KeyError("b"))
            else:
                question.reply.answer(question.text.upper())
    assert (callers.outcomes["a"], callers.outcomes["c"]) == ("A", "C")
    assert repr(callers.outcomes["b"]) == "KeyError('b')"


async def test_every_caller_hears_that_the_actor_is_gone_wherever_its_call_is(autojump_clock: Any) -> None:
    mailbox: Mailbox[Question] = Mailbox(1)
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + 10
        callers = Callers(mailbox, nursery)
        for text in ("read", "unread", "blocked"):
            callers.call(text)
            await settled()
            if text == "read":
                await mailbox.receive_batch()
        assert mailbox.statistics().waiting_senders == 1
        assert [question.text for question in mailbox.close()] == ["unread"]
        callers.call("too late")
    assert {text: type(outcome) for text, outcome in callers.outcomes.items()} == dict.fromkeys(
        ["read", "unread", "blocked", "too late"], ActorGone
    )


async def test_an_answer_given_before_the_end_stands() -> None:
    mailbox: Mailbox[Question] = Mailbox(1)
    async with trio.open_nursery() as nursery:
        callers = Callers(mailbox, nursery)
        callers.call("a")
        await settled()
        [question] = await mailbox.receive_batch()
        assert question.reply is not None
        question.reply.answer("in time")
        mailbox.close()
    assert callers.outcomes == {"a": "in time"}


async def test_a_cancelled_call_that_nobody_has_read_is_taken_out() -> None:
    mailbox: Mailbox[Question] = Mailbox(2)
    mailbox.cast(Question("same"))
    async with trio.open_nursery() as nursery:
        callers = Callers(mailbox, nursery)
        scope = callers.call("same")
        await settled()
        callers.call("next")
        await settled()
        assert mailbox.statistics().waiting_senders == 1
        scope.cancel()
        await settled()
        batch = await mailbox.receive_batch()
        assert [(question.text, question.reply is None) for question in batch] == [("same", True), ("next", False)]
        mailbox.close()
    assert callers.outcomes["same"] == "cancelled"


async def test_a_cancelled_call_that_was_read_is_marked() -> None:
    mailbox: Mailbox[Question] = Mailbox(2)
    async with trio.open_nursery() as nursery:
        callers = Callers(mailbox, nursery)
        scope = callers.call("a")
        callers.call("b")
        await settled()
        batch = {question.text: question.reply for question in await mailbox.receive_batch()}
        scope.cancel()
        await settled()
        assert {text: reply.withdrawn for text, reply in batch.items() if reply} == {"a": True, "b": False}
        for reply in batch.values():
            assert reply is not None
            reply.answer("late")
    assert callers.outcomes == {"a": "cancelled", "b": "late"}


async def test_the_deadline_is_the_callers_own(autojump_clock: Any) -> None:
    mailbox: Mailbox[Question] = Mailbox(1)
    began = trio.current_time()
    with pytest.raises(trio.TooSlowError):
        with trio.fail_after(3):
            await mailbox.call(_ask("a"))
    assert trio.current_time() - began == 3
    assert mailbox.statistics().depth == 0


async def test_cancelled_while_it_waits_for_room_it_has_put_nothing_in() -> None:
    mailbox: Mailbox[Question] = Mailbox(1)
    mailbox.cast(Question("first"))
    async with trio.open_nursery() as nursery:
        callers = Callers(mailbox, nursery)
        scope = callers.call("a")
        await settled()
        scope.cancel()
        await settled()
        assert [question.text for question in await mailbox.receive_batch()] == ["first"]
    assert callers.outcomes == {"a": "cancelled"}
    assert mailbox.statistics().depth == 0
