"""Inputs on their way: the conversation in order, answers side by side, and no guess about what was taken."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
    Outcome,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    StreamLost,
    ToolResult,
    ToolUse,
)
from managed_agents_actors._errors import ManagedAgentsError, TransportError
from managed_agents_actors._protocol.mail import Answer, Confirmation, Goal, Input, Interrupt, Message, RawEvent
from managed_agents_actors._protocol.outbox import MAX_UNSEEN, Outbox, Stage, judge

RESULT = ToolResult(tool_use_id="c1", content=())
USE = ToolUse(id="c1", name="lookup", input={})
BLOCKS = ({"type": "text", "text": "hi"},)


@pytest.mark.parametrize(
    ("error", "judgement"),
    [
        (RateLimitError("", status=429), "not_taken"),
        (OverloadedError("", status=529), "not_taken"),
        (TransportError("", request_sent=False), "not_taken"),
        (TransportError("", request_sent=True), "unclear"),
        (StreamLost(""), "unclear"),
        (ProtocolError(""), "unclear"),
        (ServerError("", status=500), "unclear"),
        (ServerError("", status=503), "unclear"),
        (APIError("", status=408), "unclear"),
        (NotFoundError("", status=404), "gone"),
        (AuthenticationError("", status=401), "denied"),
        (PermissionDeniedError("", status=403), "denied"),
        (InvalidRequestError("", status=400), "rejected"),
        (ConflictError("", status=409), "rejected"),
        (ConfigurationError(""), "rejected"),
    ],
)
def test_what_a_failed_post_means_for_its_input(error: ManagedAgentsError, judgement: str) -> None:
    assert judge(error) == judgement


inputs = st.sampled_from(
    [Message("a"), Message("b"), Interrupt(), RawEvent({"type": "x"}), Answer(USE, RESULT), Confirmation("c1", "allow")]
)


@given(st.lists(inputs, max_size=10), st.data())
def test_the_conversation_goes_out_one_at_a_time_and_in_order(items: list[Input], data: st.DataObject) -> None:
    outbox = Outbox()
    made = [outbox.add(item) for item in items]
    sent: list[int] = []
    while len(outbox):
        ready = outbox.to_send()
        sent += [delivery.id for delivery in ready]
        assert all(delivery.stage is Stage.FLYING and delivery.attempts == 1 for delivery in ready)
        flying = outbox.in_stage(Stage.FLYING)
        assert sum(delivery.is_conversation for delivery in flying) <= 1
        assert outbox.to_send() == []
        outbox.accept(data.draw(st.sampled_from(flying)))
    order = [delivery.id for delivery in made if delivery.is_conversation]
    assert [each for each in sent if each in order] == order
    assert sorted(sent) == [delivery.id for delivery in made]


@pytest.mark.parametrize("stage", [Stage.WAITING, Stage.UNCLEAR, Stage.CHECKING])
def test_an_input_that_waits_holds_back_the_conversation_but_no_answer(stage: Stage) -> None:
    outbox = Outbox()
    first, second, answer = outbox.add(Message("a")), outbox.add(Message("b")), outbox.add(Answer(USE, RESULT))
    assert outbox.to_send() == [first, answer]
    first.stage = stage
    assert outbox.to_send() == []
    first.stage = Stage.HELD
    assert outbox.to_send() == [first]
    assert first.attempts == 2
    assert second.attempts == 0
    assert outbox.conversing()


def test_only_what_was_sent_can_be_shown_by_the_log_and_each_only_once() -> None:
    outbox = Outbox()
    first, second = outbox.add(Message("hi")), outbox.add(Message("hi"))
    assert outbox.match(BLOCKS) is None
    outbox.to_send()
    assert outbox.match(BLOCKS) is first
    assert outbox.match(BLOCKS) is None
    outbox.accept(first)
    outbox.to_send()
    assert outbox.match(BLOCKS) is second
    outbox.accept(second)
    assert outbox.match(BLOCKS) is None


def test_an_input_that_was_accepted_is_still_recognised_when_its_echo_comes() -> None:
    outbox = Outbox()
    delivery = outbox.add(Message("hi"))
    outbox.to_send()
    outbox.accept(delivery)
    assert len(outbox) == 0
    assert outbox.match(({**BLOCKS[0], "citations": None},)) is delivery
    assert outbox.match(BLOCKS) is None


def test_what_a_log_never_shows_is_forgotten_at_the_bound() -> None:
    outbox = Outbox()
    for number in range(MAX_UNSEEN + 1):
        delivery = outbox.add(Message(f"m{number}"))
        outbox.to_send()
        outbox.accept(delivery)
    assert outbox.match(({"type": "text", "text": "m0"},)) is None
    assert outbox.match(({"type": "text", "text": "m1"},)) is not None


@pytest.mark.parametrize(
    ("item", "content"),
    [
        (Message("hi"), list(BLOCKS)),
        (Goal(Outcome(description="hi", rubric="x")), list(BLOCKS)),
        (RawEvent({"type": "user.message", "content": list(BLOCKS)}), list(BLOCKS)),
        (RawEvent({"type": "user.define_outcome", "description": "hi"}), list(BLOCKS)),
        (RawEvent({"type": "user.message", "content": "hi"}), None),
        (RawEvent({"type": "user.interrupt"}), None),
        (Interrupt(), None),
        (Answer(USE, RESULT), None),
    ],
)
def test_by_what_the_log_shows_an_input(item: Input, content: Any) -> None:
    assert Outbox().add(item).content == content


def test_deliveries_are_found_by_call_and_by_id_until_they_are_settled() -> None:
    outbox = Outbox()
    answer, verdict = outbox.add(Answer(USE, RESULT)), outbox.add(Confirmation("c1", "deny"))
    message = outbox.add(Interrupt())
    assert outbox.of_call("c1") == [answer, verdict]
    assert outbox.get(message.id) is message
    outbox.settle(answer)
    assert outbox.get(answer.id) is None
    assert outbox.of_call("c1") == [verdict]
    assert list(outbox) == [verdict, message]
