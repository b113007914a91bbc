"""An invocation of a harness that goes on, and when it may be repeated: only if it certainly has left nothing behind.

Source: Amazon Bedrock AgentCore, "InvokeHarness": no token makes a repetition safe.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import trio

from .._errors import (
    APIError,
    InvalidRequestError,
    ManagedAgentsError,
    RateLimitError,
    TransportError,
    TruncatedStream,
)
from .._model import ReconnectPolicy
from .._protocol.converse import Ending, Invocation, Truncated
from .._protocol.facts import Fact
from .._protocol.outbox import judge

__all__ = ["Work", "came_to_nothing", "delay", "is_not_taken", "was_refused_at_once"]

# Between the attempts at an invocation that came to nothing.
BACKOFF: Final = ReconnectPolicy(initial=0.5, max=30.0, jitter=0.5)


@dataclass(slots=True)
class Work:
    """An invocation that goes on, with its repetitions.

    Attributes:
        messages: What the harness is told.
        entries: What the log says once the harness has them.
        begins_turn: Whether they are a message, and no answer.
        earlier: The work that has to be over before.
        scope: Ends it at once.
        decided: Set when it is known whether the harness has the messages.
        refusal: Why it has not.
        over: Set when nothing of it goes on.
        is_accepted: Whether the harness has the messages, or may have them.
        is_sent: Whether the latest attempt went out and was not refused for the time being.
        is_open: Whether the latest attempt was answered with a stream.
        left: Set when its request is over. It is followed to its end all the same, since the harness may hand calls
            off then, but nothing of it is told, and nothing more is begun for it.
    """

    messages: list[dict[str, Any]]
    entries: list[Fact]
    begins_turn: bool = False
    earlier: Work | None = None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    decided: trio.Event = field(default_factory=trio.Event)
    refusal: ManagedAgentsError | None = None
    over: trio.Event = field(default_factory=trio.Event)
    is_accepted: bool = False
    is_sent: bool = False
    is_open: bool = False
    left: trio.Event = field(default_factory=trio.Event)
    _waits: trio.CancelScope | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """A wait that is cut short when the work is left."""
        with trio.CancelScope() as self._waits:
            if self.left.is_set():
                self._waits.cancel()
            yield
        self._waits = None

    def leave(self) -> None:
        """Its request is over."""
        self.left.set()
        if self._waits is not None:
            self._waits.cancel()

    def withdraw(self) -> None:
        """Whoever asked for it is gone before it was sent, and may ask again: it is not going to be sent now."""
        self.refusal = TransportError("the message was withdrawn before it was sent", request_sent=False)
        self.decided.set()
        self.leave()


def is_not_taken(outcome: Ending | ManagedAgentsError) -> bool:
    """Whether an invocation was refused for the time being."""
    return isinstance(outcome, ManagedAgentsError) and judge(outcome) == "not_taken"


def came_to_nothing(outcome: Ending | ManagedAgentsError, invocation: Invocation) -> bool:
    """Whether an accepted invocation ended in a way that leaves nothing behind: only such a one can be repeated."""
    if isinstance(outcome, RateLimitError):
        return not invocation.has_content
    # The body itself came to its end; a connection that broke says nothing about the turn.
    return isinstance(outcome, Truncated | TruncatedStream) and invocation.is_blank


def delay(attempt: int, outcome: Ending | ManagedAgentsError) -> float:
    """Give the seconds to wait before another attempt."""
    hint = outcome.retry_after if isinstance(outcome, APIError) else None
    draw = random.random()  # noqa: S311 -- spreads repetitions, guards no secret
    return BACKOFF.delay(attempt, draw=draw, retry_after=hint)


def was_refused_at_once(outcome: Ending | ManagedAgentsError, invocation: Invocation) -> bool:
    """Whether the harness found what it was told invalid before it did anything."""
    return isinstance(outcome, InvalidRequestError) and outcome.status == 400 and not invocation.has_content
