"""The mailbox's promises: bounded, in order, nobody waits at a closed one, a cancelled sender puts nothing in."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from managed_agents_actors import ActorGone, MailboxFull
from managed_agents_actors.actors import Mailbox, MailboxStatistics


def _statistics(depth: int, capacity: int, senders: int = 0) -> MailboxStatistics:
    return MailboxStatistics(depth=depth, capacity=capacity, waiting_senders=senders)


async def test_a_batch_is_everything_that_waits_in_order() -> None:
    mailbox: Mailbox[int] = Mailbox(4)
    mailbox.cast(1)
    await mailbox.send(2)
    mailbox.cast(3)
    assert mailbox.statistics() == _statistics(3, 4)
    assert await mailbox.receive_batch() == [1, 2, 3]
    assert mailbox.statistics() == _statistics(0, 4)


async def test_a_waiting_reader_is_woken_by_either_way_of_sending(autojump_clock: trio.testing.MockClock) -> None:
    mailbox: Mailbox[str] = Mailbox(1)
    read: list[tuple[float, list[str]]] = []

    async def reader() -> None:
        for _ in range(2):
            batch = await mailbox.receive_batch()
            read.append((trio.current_time(), batch))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await trio.sleep(1)
        mailbox.cast("cast")
        await trio.sleep(1)
        await mailbox.send("send")
    assert [(at - start, batch) for at, batch in read] == [(1, ["cast"]), (2, ["send"])]


async def test_cast_into_a_full_mailbox_is_refused_and_says_what_to_do() -> None:
    mailbox: Mailbox[int] = Mailbox(2)
    mailbox.cast(1)
    mailbox.cast(2)
    with pytest.raises(MailboxFull, match="2 pieces of mail wait already; slow down or wait with send"):
        mailbox.cast(3)
    assert await mailbox.receive_batch() == [1, 2]
    mailbox.cast(3)
    assert await mailbox.receive_batch() == [3]


async def test_senders_wait_for_room_and_never_exceed_the_bound() -> None:
    mailbox: Mailbox[int] = Mailbox(2)
    got: list[int] = []
    async with trio.open_nursery() as nursery:
        for number in range(7):
            nursery.start_soon(mailbox.send, number)
        while len(got) < 7:
            await trio.testing.wait_all_tasks_blocked()
            assert mailbox.statistics().depth <= 2
            got += await mailbox.receive_batch()
    assert sorted(got) == list(range(7))
    assert mailbox.statistics() == _statistics(0, 2)


async def test_waiting_senders_are_counted() -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.cast(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.send, 1)
        nursery.start_soon(mailbox.send, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert mailbox.statistics() == _statistics(1, 1, 2)
        nursery.cancel_scope.cancel()
    assert mailbox.statistics() == _statistics(1, 1)


@pytest.mark.parametrize("full", [False, True])
async def test_a_cancelled_send_has_put_nothing_in(full: bool) -> None:
    mailbox: Mailbox[str] = Mailbox(1)
    if full:
        mailbox.cast("first")
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.send("never")
    assert scope.cancelled_caught
    assert mailbox.close() == (["first"] if full else [])


async def test_a_send_cancelled_while_it_waits_leaves_room_for_the_next() -> None:
    mailbox: Mailbox[str] = Mailbox(1)
    mailbox.cast("first")
    scope = trio.CancelScope()

    async def impatient() -> None:
        with scope:
            await mailbox.send("never")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(impatient)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(mailbox.send, "second")
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        assert await mailbox.receive_batch() == ["first"]
        assert await mailbox.receive_batch() == ["second"]
    assert scope.cancelled_caught


async def test_a_cancelled_receive_takes_nothing_out() -> None:
    mailbox: Mailbox[str] = Mailbox(1)
    mailbox.cast("kept")
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.receive_batch()
    assert scope.cancelled_caught
    assert await mailbox.receive_batch() == ["kept"]


async def test_mail_that_comes_with_the_cancellation_of_the_reader_stays() -> None:
    mailbox: Mailbox[str] = Mailbox(1)
    scope = trio.CancelScope()

    async def reader() -> None:
        with scope:
            await mailbox.receive_batch()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        scope.cancel()
        mailbox.cast("kept")
    assert scope.cancelled_caught
    assert await mailbox.receive_batch() == ["kept"]


async def test_sending_and_receiving_are_checkpoints() -> None:
    mailbox: Mailbox[int] = Mailbox(2)
    with trio.testing.assert_checkpoints():
        await mailbox.send(1)
    with trio.testing.assert_checkpoints():
        await mailbox.receive_batch()
    with trio.testing.assert_no_checkpoints():
        mailbox.cast(2)
        mailbox.close()


async def test_closing_wakes_every_waiting_sender_and_gives_back_the_unread() -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    mailbox.cast(0)
    refused: list[int] = []

    async def sender(number: int) -> None:
        with pytest.raises(ActorGone, match="reads no more mail"):
            await mailbox.send(number)
        refused.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(sender, number)
        await trio.testing.wait_all_tasks_blocked()
        assert mailbox.close() == [0]
    assert sorted(refused) == [0, 1, 2]


async def test_a_closed_mailbox_refuses_mail_and_can_be_closed_again() -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    assert mailbox.close() == []
    with pytest.raises(ActorGone):
        mailbox.cast(1)
    with pytest.raises(ActorGone):
        await mailbox.send(1)
    assert mailbox.close() == []
    assert repr(mailbox) == "<Mailbox closed>"


def test_its_repr_shows_how_full_it_is_and_no_mail() -> None:
    mailbox: Mailbox[str] = Mailbox(3)
    mailbox.cast("a secret")
    assert repr(mailbox) == "<Mailbox 1/3>"


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_mailbox_without_room_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"at least one piece of mail, not {capacity}"):
        Mailbox(capacity)


class _Model:
    """What a mailbox should be: a list with a bound, and senders that wait for room in it."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.inside: list[int] = []
        self.taken: list[int] = []
        self.waiting: dict[int, trio.CancelScope] = {}
        self.expected: dict[int, str] = {}  # what must become of each piece of mail
        self.observed: dict[int, str] = {}
        self.closed = False

    def settle(self) -> None:
        """Account for the senders that found room. Which of them did is not promised; that none is overlooked is."""
        for number in [n for n in self.waiting if self.observed.get(n) == "sent"]:
            del self.waiting[number]
            self.inside.append(number)
            self.expected[number] = "sent"

    def check(self, mailbox: Mailbox[int]) -> None:
        statistics = mailbox.statistics()
        assert statistics == _statistics(len(self.inside), self.capacity, len(self.waiting))
        assert statistics.depth <= self.capacity
        assert not self.waiting or statistics.depth == self.capacity
        assert self.observed == self.expected


class _Play:
    """A mailbox and its model, under the same operations."""

    def __init__(self, capacity: int, nursery: trio.Nursery) -> None:
        self.mailbox: Mailbox[int] = Mailbox(capacity)
        self.model = _Model(capacity)
        self._nursery = nursery

    async def apply(self, number: int, operation: str, position: int) -> None:
        match operation:
            case "cast":
                self._cast(number)
            case "send":
                self._send(number)
            case "receive" if self.model.inside:
                batch = await self.mailbox.receive_batch()
                assert sorted(batch) == sorted(self.model.inside)
                self.model.taken += batch
                self.model.inside.clear()
            case "cancel" if position < len(self.model.waiting):
                cancelled = list(self.model.waiting)[position]
                self.model.waiting.pop(cancelled).cancel()
                self.model.expected[cancelled] = "cancelled"
            case "close":
                self._close()

    def _cast(self, number: int) -> None:
        model = self.model
        if model.closed:
            with pytest.raises(ActorGone):
                self.mailbox.cast(number)
        elif len(model.inside) >= model.capacity:
            with pytest.raises(MailboxFull):
                self.mailbox.cast(number)
        else:
            self.mailbox.cast(number)
            model.inside.append(number)

    def _send(self, number: int) -> None:
        scope = trio.CancelScope()
        self._nursery.start_soon(self._sender, number, scope)
        if self.model.closed:
            self.model.expected[number] = "refused"
        else:
            self.model.waiting[number] = scope

    async def _sender(self, number: int, scope: trio.CancelScope) -> None:
        outcome = "cancelled"
        with scope:
            try:
                await self.mailbox.send(number)
            except ActorGone:
                outcome = "refused"
            else:
                outcome = "sent"
        self.model.observed[number] = outcome

    def _close(self) -> None:
        model = self.model
        unread = self.mailbox.close()
        assert sorted(unread) == sorted(model.inside)
        model.taken += unread
        model.inside.clear()
        model.expected.update(dict.fromkeys(model.waiting, "refused"))
        model.waiting.clear()
        model.closed = True


_OPERATION = st.tuples(
    st.sampled_from(["cast", "send", "send", "send", "receive", "cancel", "close"]), st.integers(0, 3)
)


@settings(max_examples=150, deadline=None)
@given(capacity=st.integers(1, 4), operations=st.lists(_OPERATION, max_size=40))
def test_any_sequence_of_operations_agrees_with_a_model(capacity: int, operations: list[tuple[str, int]]) -> None:
    async def follow() -> None:
        async with trio.open_nursery() as nursery:
            play = _Play(capacity, nursery)
            for number, (operation, position) in enumerate([*operations, ("close", 0)]):
                await play.apply(number, operation, position)
                await trio.testing.wait_all_tasks_blocked()
                play.model.settle()
                play.model.check(play.mailbox)
        assert len(play.model.taken) == len(set(play.model.taken))

    trio.run(follow)


async def test_a_second_reader_is_refused_and_the_first_one_goes_on(autojump_clock: trio.testing.MockClock) -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    read: list[list[int]] = []

    async def reader() -> None:
        read.append(await mailbox.receive_batch())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError), trio.fail_after(1):
            await mailbox.receive_batch()
        mailbox.cast(1)
    assert read == [[1]]


async def test_a_reader_that_was_cancelled_makes_room_for_another(autojump_clock: trio.testing.MockClock) -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    with trio.move_on_after(1) as scope:
        await mailbox.receive_batch()
    assert scope.cancelled_caught
    mailbox.cast(1)
    assert await mailbox.receive_batch() == [1]


async def test_a_report_is_no_step_where_there_is_room_and_waits_where_there_is_none(
    autojump_clock: trio.testing.MockClock,
) -> None:
    mailbox: Mailbox[int] = Mailbox(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await mailbox.report(1)
    assert mailbox.statistics() == _statistics(1, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(mailbox.report, 2)
        await trio.testing.wait_all_tasks_blocked()
        assert mailbox.statistics() == _statistics(1, 1, senders=1)
        assert await mailbox.receive_batch() == [1]
    assert mailbox.take() == [2]
    mailbox.close()
    with pytest.raises(ActorGone):
        await mailbox.report(3)
