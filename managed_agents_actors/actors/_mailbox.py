"""A bounded mailbox with one reader, who takes everything that waits in one go.

Handing over a batch costs one wake-up however many pieces of mail there are. Senders wait for room or are told that
there is none; once the mailbox is closed nobody waits, neither for room nor for an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, final

import trio

from .._errors import ActorGone, MailboxFull
from ._replies import PendingReply

M = TypeVar("M")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxStatistics:
    """A snapshot: pieces of mail that wait, how many may wait, and how many senders wait for room."""

    depth: int
    capacity: int
    waiting_senders: int


@final
class Mailbox(Generic[M]):
    """Mail for one actor. Whoever reads it closes it at the end, however that comes: ``try``, ``finally: close()``.

    Args:
        capacity: How many pieces may wait; at least 1.
    """

    # Most mailboxes are empty, and nobody waits for room in them: what an actor that only waits has must be small.
    __slots__ = ("_capacity", "_closed", "_mail", "_reader", "_senders", "_unanswered")

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a mailbox holds at least one piece of mail, not {capacity!r}")
        self._capacity = capacity
        self._mail: list[M] = []
        self._senders: trio.lowlevel.ParkingLot | None = None  # there once somebody has had to wait for room
        self._reader: trio.lowlevel.Task | None = None  # while it waits for mail
        self._unanswered: dict[PendingReply, None] = {}
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._mail)}/{self._capacity}"
        return f"<Mailbox {state}>"

    def statistics(self) -> MailboxStatistics:
        """Give a snapshot."""
        waiting = 0 if self._senders is None else len(self._senders)
        return MailboxStatistics(depth=len(self._mail), capacity=self._capacity, waiting_senders=waiting)

    def cast(self, mail: M, *, beyond_capacity: bool = False) -> None:
        """Put mail in at once.

        Args:
            mail: The mail.
            beyond_capacity: Whether it goes in even if no room is left. For mail that takes other mail back: there is
                no more of it than there are senders.

        Raises:
            MailboxFull: If no room is left.
            ActorGone: If the mailbox is closed.
        """
        self._check_open()
        if len(self._mail) >= self._capacity and not beyond_capacity:
            raise MailboxFull(f"{self._capacity} pieces of mail wait already; slow down or wait with send()")
        self._put(mail)

    async def send(self, mail: M) -> None:
        """Put mail in, waiting for room. A cancelled send has put nothing in.

        Raises:
            ActorGone: If the mailbox is closed, before or while waiting.
        """
        await trio.lowlevel.checkpoint()
        await self.report(mail)

    async def report(self, mail: M) -> None:
        """Put mail in, waiting for room, which is no checkpoint if there is some.

        For the last step of a task that has waited already, and for one that waits again before its next mail.

        Raises:
            ActorGone: If the mailbox is closed, before or while waiting.
        """
        self._check_open()
        while len(self._mail) >= self._capacity:
            if self._senders is None:
                self._senders = trio.lowlevel.ParkingLot()
            await self._senders.park()
            self._check_open()
        self._put(mail)

    async def call(self, make: Callable[[PendingReply], M]) -> Any:
        """Put in mail that asks for an answer, waiting for room, and wait for the answer.

        The caller's deadline is a ``trio.fail_after`` around it. A cancelled call is taken out of the mailbox again;
        one that was read is marked as withdrawn, and the actor may or may not have acted on it.

        Args:
            make: Gives the mail for the reply that its reader is to answer.

        Raises:
            Exception: The error that the actor answered with.
            ActorGone: If the mailbox is closed before there is an answer.
        """
        reply = PendingReply()
        mail = make(reply)
        await self.send(mail)
        self._unanswered[reply] = None
        try:
            return await reply.wait()
        finally:
            self._unanswered.pop(reply, None)
            if not reply.answered:
                reply.withdraw()
                self.take_back(mail)

    def take_back(self, mail: M) -> bool:
        """Take a piece of mail out again, by its sender; say whether it was still unread."""
        for position, waiting in enumerate(self._mail):
            if waiting is mail:
                del self._mail[position]
                if self._senders is not None:
                    self._senders.unpark()
                return True
        return False

    async def receive_batch(self) -> list[M]:
        """Take all mail that waits, in order; wait until there is some. Only the owner calls this.

        Raises:
            trio.BusyResourceError: If another task reads this mailbox.
        """
        if self._mail:
            await trio.lowlevel.checkpoint()
        while not self._mail:
            await self._wait_for_mail()
        return self.take()

    def take(self) -> list[M]:
        """Take all mail that waits, in order; perhaps none. Only the owner calls this."""
        waiting, self._mail = self._mail, []
        if self._senders is not None:
            self._senders.unpark_all()
        return waiting

    def close(self) -> list[M]:
        """Refuse all mail from now on, fail whoever waits for room or an answer, and give back what was never read."""
        self._closed = True
        for reply in self._unanswered:
            reply.answer(error=ActorGone("the actor ended before it answered"))
        return self.take()

    def _check_open(self) -> None:
        if self._closed:
            raise ActorGone("the actor has ended and reads no more mail")

    def _put(self, mail: M) -> None:
        self._mail.append(mail)
        if self._reader is not None:
            trio.lowlevel.reschedule(self._reader)
            self._reader = None

    async def _wait_for_mail(self) -> None:
        if self._reader is not None:
            raise trio.BusyResourceError("another task reads this mailbox")
        self._reader = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._reader = None
        return trio.lowlevel.Abort.SUCCEEDED
