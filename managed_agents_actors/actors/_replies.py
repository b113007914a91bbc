"""Slots for answers that an actor owes its callers: each is answered once, none is left open when the actor ends."""

from __future__ import annotations

from typing import Any, final

import trio

from .._errors import ActorGone


@final
class PendingReply:
    """One owed answer.

    Attributes:
        withdrawn: Whether nobody waits for it any more; an actor may then skip the work.
    """

    __slots__ = ("_error", "_event", "_value", "withdrawn")

    def __init__(self) -> None:
        self.withdrawn = False
        self._event = trio.Event()
        self._value: Any = None
        self._error: Exception | None = None

    def answer(self, value: Any = None, *, error: Exception | None = None) -> None:
        """Answer it; a second answer changes nothing."""
        if not self._event.is_set():
            self._value, self._error = value, error
            self._event.set()

    def withdraw(self) -> None:
        """Note that nobody waits for it any more."""
        self.withdrawn = True

    @property
    def answered(self) -> bool:
        """Whether it has been answered."""
        return self._event.is_set()

    def result(self) -> Any:
        """Give the answer, or raise the error that is the answer."""
        if self._error is not None:
            # Raised anew for every caller: one exception object raised in several tasks would mix their tracebacks.
            raise fresh(self._error)
        return self._value

    async def wait(self) -> Any:
        """Wait for the answer and give it, or raise the error that is the answer."""
        await self._event.wait()
        return self.result()


def fresh(error: Exception) -> Exception:
    """Give a copy of an exception that can be raised in another task: same type, arguments, attributes and cause."""
    again = type(error).__new__(type(error), *error.args)
    again.args = error.args  # an OSError's __new__ leaves them to an __init__ that is not called here
    again.__dict__.update(error.__dict__)
    if notes := getattr(error, "__notes__", None):
        again.__notes__ = [*notes]
    again.__cause__ = error.__cause__
    again.__suppress_context__ = error.__suppress_context__
    return again


@final
class Replies:
    """The owed answers of one actor, by token."""

    __slots__ = ("_next", "_open")

    def __init__(self) -> None:
        self._open: dict[int, PendingReply] = {}
        self._next = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self) -> tuple[int, PendingReply]:
        """Open a slot and give its token."""
        self._next += 1
        reply = self._open[self._next] = PendingReply()
        return self._next, reply

    def discard(self, token: int) -> None:
        """Forget a slot whose caller has gone; a late answer to it is dropped."""
        self._open.pop(token, None)

    def answer(self, token: int, value: Any = None, *, error: Exception | None = None) -> None:
        """Answer the slot of this token, if its caller still waits."""
        reply = self._open.pop(token, None)
        if reply is not None:
            reply.answer(value, error=error)

    def fail_all(self, error: Exception | None = None) -> None:
        """Answer every open slot with a failure: the actor has ended."""
        gone = error or ActorGone("the actor ended before it answered")
        for token in list(self._open):
            self.answer(token, error=gone)
