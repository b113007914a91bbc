"""A bounded mailbox with one reader, who takes everything that waits in one go.

Handing over a batch costs one wake-up however many pieces of mail there are. Senders wait for room or are told that
there is none; once the mailbox is closed nobody waits.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar, final

import trio

from .._errors import ActorGone, MailboxFull

M = TypeVar("M")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxStatistics:
    """A snapshot: pieces of mail that wait, how many may wait, and how many senders wait for room."""

    depth: int
    capacity: int
    waiting_senders: int


@final
class Mailbox(Generic[M]):
    """Mail for one actor.

    Args:
        capacity: How many pieces may wait; at least 1.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a mailbox holds at least one piece of mail, not {capacity!r}")
        self._capacity = capacity
        self._mail: deque[M] = deque()
        self._senders = trio.lowlevel.ParkingLot()
        self._reader = trio.lowlevel.ParkingLot()
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self._mail)}/{self._capacity}"
        return f"<Mailbox {state}>"

    def statistics(self) -> MailboxStatistics:
        """Give a snapshot."""
        return MailboxStatistics(depth=len(self._mail), capacity=self._capacity, waiting_senders=len(self._senders))

    def cast(self, mail: M) -> None:
        """Put mail in at once.

        Raises:
            MailboxFull: If no room is left.
            ActorGone: If the mailbox is closed.
        """
        self._check_open()
        if len(self._mail) >= self._capacity:
            raise MailboxFull(f"{self._capacity} pieces of mail wait already; slow down or wait with send()")
        self._put(mail)

    async def send(self, mail: M) -> None:
        """Put mail in, waiting for room. A cancelled send has put nothing in.

        Raises:
            ActorGone: If the mailbox is closed, before or while waiting.
        """
        await trio.lowlevel.checkpoint()
        self._check_open()
        while len(self._mail) >= self._capacity:
            await self._senders.park()
            self._check_open()
        self._put(mail)

    async def receive_batch(self) -> list[M]:
        """Take all mail that waits, in order; wait until there is some. Only the owner calls this."""
        await trio.lowlevel.checkpoint()
        while not self._mail:
            await self._reader.park()
        batch = list(self._mail)
        self._mail.clear()
        self._senders.unpark_all()
        return batch

    def close(self) -> list[M]:
        """Refuse all mail from now on, wake every waiting sender, and give back what was never read."""
        self._closed = True
        unread = list(self._mail)
        self._mail.clear()
        self._senders.unpark_all()
        return unread

    def _check_open(self) -> None:
        if self._closed:
            raise ActorGone("the actor has ended and reads no more mail")

    def _put(self, mail: M) -> None:
        self._mail.append(mail)
        self._reader.unpark()
