"""Inputs on their way to the provider: each goes out until it is known to be taken, and none goes out twice on a guess.

The conversation (messages, goals, interrupts, raw events) goes out one at a time, in order; answers and confirmations
go out side by side. Whether an unclear one was taken is read from the log, never assumed. Nothing is sent from here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, TypeAlias

from .._errors import (
    APIError,
    AuthenticationError,
    ConflictError,
    ManagedAgentsError,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    TransportError,
)
from .content import content_blocks, same_content
from .facts import Blocks
from .mail import Answer, Confirmation, Goal, Input, Interrupt, Message, RawEvent, Token

# Eight attempts span about a minute of the default policy's delays: longer than the overload peaks providers document.
MAX_ATTEMPTS = 8

# Accepted inputs whose echo is still to come. The conversation goes out one at a time, so more than a few are those of
# a provider that shows no echo at all, and need no memory.
MAX_UNSEEN = 16

Judgement: TypeAlias = Literal["not_taken", "unclear", "rejected", "gone", "denied"]


def judge(error: ManagedAgentsError) -> Judgement:
    """Say what a failed post means for the input.

    ``not_taken``: certainly not accepted, so it may go out again. ``unclear``: the log must tell. ``rejected``: the
    provider will never take it. ``gone``: the session does not exist. ``denied``: our credential is refused.
    """
    match error:
        case RateLimitError() | OverloadedError():
            return "not_taken"
        case ConflictError(type="RetryableConflictException"):
            return "not_taken"  # AgentCore: the session is at work for somebody else
        case NotFoundError():
            return "gone"
        case AuthenticationError() | PermissionDeniedError():
            return "denied"
        case ServerError() | APIError(status=408):
            return "unclear"
        case TransportError():
            return "unclear" if error.request_sent else "not_taken"
        case _:
            return "rejected"


class Stage(Enum):
    """Where a delivery stands."""

    HELD = "held"  # waits to be sent
    FLYING = "flying"  # a request is under way
    WAITING = "waiting"  # certainly not taken; a timer runs until the next attempt
    UNCLEAR = "unclear"  # perhaps taken; a timer runs until the log is consulted
    CHECKING = "checking"  # the log is being consulted
    DISPUTED = "disputed"  # refused; the log is being consulted on whether that matters


@dataclass(slots=True)
class Delivery:
    """One input on its way."""

    id: int
    input: Input
    token: Token | None = None
    stage: Stage = Stage.HELD
    attempts: int = 0
    seen: bool = False  # the log shows that the provider has it
    look: int = 0  # the look that will tell whether the provider has it, or whether its refusal matters
    unwanted: bool = False  # its request is over; it is not to be sent again
    error: ManagedAgentsError | None = None

    @property
    def is_conversation(self) -> bool:
        """Whether the order among its kind matters."""
        return not isinstance(self.input, Answer | Confirmation)

    @property
    def tool_use_id(self) -> str | None:
        """The call it answers or decides, if it does."""
        match self.input:
            case Answer(use=use):
                return use.id
            case Confirmation(tool_use_id=call_id):
                return call_id
            case _:
                return None

    @property
    def content(self) -> list[dict[str, Any]] | None:
        """The content by which the log shows it, if the log shows it by content."""
        match self.input:
            case Message(content=content):
                return content_blocks(content)
            case Goal(outcome=outcome):
                return [{"type": "text", "text": outcome.description}]
            case RawEvent(event={"type": "user.message", "content": list(content)}):
                return content
            case RawEvent(event={"type": "user.define_outcome", "description": str(text)}):
                return [{"type": "text", "text": text}]
            case _:
                return None


class Outbox:
    """The deliveries that are not settled yet, by id, in the order they were made."""

    __slots__ = ("_accepted", "_deliveries", "_next_id")

    def __init__(self) -> None:
        self._deliveries: dict[int, Delivery] = {}
        self._accepted: list[Delivery] = []
        self._next_id = 0

    def __iter__(self) -> Iterator[Delivery]:
        return iter(list(self._deliveries.values()))

    def __len__(self) -> int:
        return len(self._deliveries)

    def get(self, post_id: int) -> Delivery | None:
        """The delivery, unless it is settled."""
        return self._deliveries.get(post_id)

    def find(self, post_id: int | None) -> Delivery | None:
        """The delivery, unless it is settled and its echo has come too."""
        accepted = (delivery for delivery in self._accepted if delivery.id == post_id)
        return None if post_id is None else self._deliveries.get(post_id) or next(accepted, None)

    def add(self, item: Input, token: Token | None = None, *, perhaps_sent: bool = False) -> Delivery:
        """Take an input in; one that was perhaps sent before is unclear until the log has been consulted."""
        self._next_id += 1
        delivery = Delivery(self._next_id, item, token)
        if perhaps_sent:
            delivery.attempts, delivery.stage = 1, Stage.UNCLEAR
        self._deliveries[delivery.id] = delivery
        return delivery

    def accept(self, delivery: Delivery) -> None:
        """Settle a delivery that was taken; its echo may still come."""
        self.settle(delivery)
        if not delivery.seen and delivery.content is not None:
            self._accepted.append(delivery)
            del self._accepted[:-MAX_UNSEEN]

    def settle(self, delivery: Delivery) -> None:
        """Forget a delivery: it was taken, refused for good, or is no longer wanted."""
        self._deliveries.pop(delivery.id, None)

    def to_send(self, *, interrupts_overtake: bool = False) -> list[Delivery]:
        """Take the deliveries that may go out now; they count as flying from here on.

        Args:
            interrupts_overtake: Whether an interrupt need not wait for a message that is flying already.
        """
        ready, waiting, flying = [], False, False
        for delivery in self._deliveries.values():
            overtakes = interrupts_overtake and isinstance(delivery.input, Interrupt)
            blocked = delivery.is_conversation and (waiting or (flying and not overtakes))
            if delivery.is_conversation:
                flying = flying or delivery.stage is Stage.FLYING
                waiting = waiting or delivery.stage is not Stage.FLYING
            if delivery.stage is Stage.HELD and not blocked:
                delivery.stage = Stage.FLYING
                delivery.attempts += 1
                ready.append(delivery)
        return ready

    def in_stage(self, *stages: Stage) -> list[Delivery]:
        """The deliveries that stand at one of the stages."""
        return [delivery for delivery in self._deliveries.values() if delivery.stage in stages]

    def of_call(self, tool_use_id: str) -> list[Delivery]:
        """The deliveries that answer or decide a call."""
        return [delivery for delivery in self._deliveries.values() if delivery.tool_use_id == tool_use_id]

    def conversing(self) -> bool:
        """Whether an input of the conversation is on its way."""
        return any(delivery.is_conversation for delivery in self._deliveries.values())

    def match(self, shown: Blocks, *, among: Collection[int] | None = None) -> Delivery | None:
        """The first input of ours that the log shows here for the first time, marked as seen; or nobody's.

        Args:
            shown: The content that the log shows.
            among: The ids of the deliveries that it can be, if not all can.
        """
        for delivery in (*self._deliveries.values(), *self._accepted):
            content = delivery.content
            if (
                delivery.attempts
                and not delivery.seen
                and (among is None or delivery.id in among)
                and content is not None
                and same_content(content, shown)
            ):
                delivery.seen = True
                return delivery
        return None

    def outlive(self) -> list[Delivery]:
        """Begin anew after whoever carried the deliveries has ended; give those that were perhaps taken.

        Answers that were not sent yet are dropped: they are in the journal. An interrupt is sent again if there is
        still something to cut short. What was on its way is unclear until the log has been read.
        """
        unclear = []
        for delivery in list(self._deliveries.values()):
            if isinstance(delivery.input, Answer) and not delivery.attempts:
                self.settle(delivery)
            elif delivery.unwanted:
                self.accept(delivery)  # if it was taken, its echo is recognised
            elif isinstance(delivery.input, Interrupt) or not delivery.attempts:
                delivery.stage = Stage.HELD
            else:
                delivery.stage = Stage.UNCLEAR
                unclear.append(delivery)
        return unclear
