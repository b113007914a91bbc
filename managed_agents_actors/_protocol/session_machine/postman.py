"""Getting inputs to the provider: what to send now, and what an answer, a failure or a silence means for each.

An input whose fate is unclear is looked up in the log before anything is sent again. What is refused for good is
given back to the caller of this module, who knows what hangs on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..._errors import APIError, ManagedAgentsError
from ..._model import Event
from ..effects import Backoff, Post, Reply, ReplyError, Report
from ..mail import Answer, Goal, Interrupt, Message, RawEvent
from ..outbox import MAX_ATTEMPTS, Delivery, Stage, judge
from .core import Core


@dataclass(frozen=True, slots=True)
class Refused:
    """An input that the provider will never take."""

    delivery: Delivery
    error: ManagedAgentsError


@dataclass(frozen=True, slots=True)
class Lost:
    """The session itself is out of reach: gone (no cause), or refused to our credential."""

    cause: ManagedAgentsError | None


class Postman:
    """Carries the outbox's inputs."""

    __slots__ = ("_core",)

    def __init__(self, core: Core) -> None:
        self._core = core

    def send_held(self) -> list[Delivery]:
        """Send what may go out now, and give it."""
        sent = self._core.outbox.to_send(interrupts_overtake=self._core.settings.interrupts_overtake)
        for delivery in sent:
            self._core.emit(Post(delivery.id, delivery.input))
        return sent

    def interrupting(self) -> bool:
        """Whether an interrupt is on its way."""
        return any(isinstance(delivery.input, Interrupt) for delivery in self._core.outbox)

    def accepted(self, delivery: Delivery, echo: Sequence[Event] = ()) -> None:
        """The provider has it."""
        self._core.outbox.accept(delivery)
        if delivery.token is None:
            return
        match delivery.input:
            case Message() | Goal():
                self._core.emit(Reply(delivery.token, "delivered"))
            case RawEvent():
                self._core.emit(Reply(delivery.token, list(echo)))
            case _:
                self._core.emit(Reply(delivery.token, None))

    def given_up(self, delivery: Delivery, error: ManagedAgentsError) -> None:
        """It is not to be delivered any more. If it may have been taken, its echo is still to be recognised."""
        token, delivery.token = delivery.token, None
        if delivery.stage in (Stage.UNCLEAR, Stage.CHECKING):
            self._core.outbox.accept(delivery)
        elif delivery.stage is Stage.FLYING:
            delivery.unwanted = True
        else:
            self._core.outbox.settle(delivery)
        if token is not None:
            self._core.emit(ReplyError(token, error))

    def failed(self, post_id: int, error: ManagedAgentsError) -> Refused | Lost | None:
        """An attempt failed: plan the next one, or say that there is none."""
        delivery = self._core.outbox.get(post_id)
        if delivery is None:
            return None
        if delivery.seen:
            self.accepted(delivery)
            return None
        judgement = judge(error)
        if delivery.unwanted:
            # If it was taken after all, its echo is recognised; the interrupt behind it cuts it short.
            self._core.outbox.accept(delivery)
            return None
        if judgement in ("gone", "denied"):
            return Lost(None if judgement == "gone" else error)
        if judgement == "rejected" or delivery.attempts >= MAX_ATTEMPTS:
            return self._refused(delivery, error)
        delivery.stage = Stage.WAITING if judgement == "not_taken" else Stage.UNCLEAR
        if isinstance(delivery.input, Answer) and judgement == "unclear":
            self._core.reposted = True
        retry_after = error.retry_after if isinstance(error, APIError) else None
        self._core.emit(
            Backoff(("post", delivery.id), delivery.attempts, retry_after),
            Report("post_retry", f"{type(delivery.input).__name__} after {error}"),
        )
        return None

    def _refused(self, delivery: Delivery, error: ManagedAgentsError) -> Refused | None:
        if delivery.tool_use_id is None or delivery.token is not None:
            self._core.outbox.settle(delivery)
            return Refused(delivery, error)
        # Perhaps it was refused because the call is closed already: only the log can tell.
        delivery.stage, delivery.error = Stage.DISPUTED, error
        delivery.look = self._core.look()
        return None

    def wait_is_over(self, post_id: int) -> None:
        """The delay before the next attempt has passed."""
        delivery = self._core.outbox.get(post_id)
        if delivery is None:
            return
        if delivery.stage is Stage.WAITING:
            delivery.stage = Stage.HELD
        elif delivery.stage is Stage.UNCLEAR:
            delivery.stage = Stage.CHECKING
            delivery.look = self._core.look()

    def log_was_read(self) -> list[Refused]:
        """The whole log has been read: settle what waited for that. Gives the refusals that stand."""
        outbox, newest = self._core.outbox, self._core.looks
        for delivery in outbox.in_stage(Stage.CHECKING):
            if delivery.look > newest:
                continue
            if delivery.seen:
                self.accepted(delivery)
            else:
                delivery.stage = Stage.HELD
        stands = []
        for delivery in outbox.in_stage(Stage.DISPUTED):
            if delivery.look > newest:
                continue
            outbox.settle(delivery)
            if delivery.tool_use_id in self._core.log.calls and delivery.error is not None:
                stands.append(Refused(delivery, delivery.error))
        return stands
