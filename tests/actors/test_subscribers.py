"""Fan-out: the publisher never waits, nobody who is still there misses a value, nobody who has gone is in the way."""

from __future__ import annotations

import math

import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from managed_agents_actors.actors import Subscribers

from ..channels import drained


async def test_every_subscriber_hears_every_value_in_order() -> None:
    subscribers: Subscribers[int] = Subscribers()
    with subscribers.subscribe() as early:
        subscribers.publish(1)
        with subscribers.subscribe() as late:
            subscribers.publish(2)
            assert drained(early) == [1, 2]
            assert drained(late) == [2]
        subscribers.publish(3)
        assert drained(early) == [3]
    with pytest.raises(trio.ClosedResourceError):
        late.receive_nowait()


async def test_publishing_never_waits_however_slow_a_subscriber_is() -> None:
    subscribers: Subscribers[int] = Subscribers()
    with subscribers.subscribe() as slow, trio.testing.assert_no_checkpoints():
        for number in range(10_000):
            subscribers.publish(number)
        assert drained(slow) == list(range(10_000))


async def test_a_subscription_ends_when_the_publisher_does_after_what_was_published() -> None:
    subscribers: Subscribers[int] = Subscribers()
    with subscribers.subscribe() as channel:
        subscribers.publish(1)
        subscribers.close()
        assert [value async for value in channel] == [1]
    with subscribers.subscribe() as channel:
        subscribers.publish(2)
        with pytest.raises(trio.EndOfChannel):
            await channel.receive()
    subscribers.close()


async def test_a_subscriber_that_closes_its_end_disturbs_nobody() -> None:
    subscribers: Subscribers[int] = Subscribers()
    with subscribers.subscribe() as gone, subscribers.subscribe() as there:
        gone.close()
        subscribers.publish(1)
        subscribers.publish(2)
        assert drained(there) == [1, 2]


async def test_an_attached_channel_with_room_is_told_at_once() -> None:
    subscribers: Subscribers[int] = Subscribers()
    send, receive = trio.open_memory_channel[int](2)
    subscribers.attach(send)
    subscribers.publish(1)
    subscribers.publish(2)
    assert drained(receive) == [1, 2]
    send.close()


async def test_a_full_attached_channel_is_filled_in_order_as_it_is_read() -> None:
    subscribers: Subscribers[int] = Subscribers()
    send, receive = trio.open_memory_channel[int](0)
    subscribers.attach(send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscribers.pump)
        for number in range(5):
            subscribers.publish(number)
        assert [await receive.receive() for _ in range(3)] == [0, 1, 2]
        subscribers.publish(5)
        assert [await receive.receive() for _ in range(3)] == [3, 4, 5]
        nursery.cancel_scope.cancel()


async def test_a_value_never_overtakes_one_that_waits() -> None:
    subscribers: Subscribers[int] = Subscribers()
    send, receive = trio.open_memory_channel[int](1)
    subscribers.attach(send)
    subscribers.publish(1)
    subscribers.publish(2)
    assert receive.receive_nowait() == 1
    subscribers.publish(3)  # there is room now, but 2 waits
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscribers.pump)
        assert [await receive.receive(), await receive.receive()] == [2, 3]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("which", ["send", "receive"])
@pytest.mark.parametrize("when", ["before", "while it is full"])
async def test_a_closed_attached_channel_is_forgotten(which: str, when: str) -> None:
    subscribers: Subscribers[int] = Subscribers()
    send, receive = trio.open_memory_channel[int](0)
    other_send, other = trio.open_memory_channel[int](10)
    subscribers.attach(send)
    subscribers.attach(other_send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscribers.pump)
        if when != "before":
            subscribers.publish(1)
            await trio.testing.wait_all_tasks_blocked()
        (send if which == "send" else receive).close()
        subscribers.publish(2)
        subscribers.publish(3)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert drained(other) == ([2, 3] if when == "before" else [1, 2, 3])


async def test_an_attached_channel_is_never_closed_from_here() -> None:
    subscribers: Subscribers[int] = Subscribers()
    send, receive = trio.open_memory_channel[int](1)
    subscribers.attach(send)
    subscribers.close()
    await subscribers.flush(1)
    send.send_nowait(7)
    assert receive.receive_nowait() == 7


async def test_a_pump_that_is_cancelled_in_mid_delivery_loses_and_doubles_nothing() -> None:
    subscribers: Subscribers[int] = Subscribers()
    send, receive = trio.open_memory_channel[int](0)
    subscribers.attach(send)
    for number in range(3):
        subscribers.publish(number)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscribers.pump)
        assert await receive.receive() == 0
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscribers.flush, 10)
        assert [await receive.receive(), await receive.receive()] == [1, 2]


async def test_flush_gives_a_slow_reader_its_grace_and_no_more(autojump_clock: trio.testing.MockClock) -> None:
    subscribers: Subscribers[int] = Subscribers()
    send, receive = trio.open_memory_channel[int](0)
    stuck_send, _stuck = trio.open_memory_channel[int](0)
    subscribers.attach(send)
    subscribers.attach(stuck_send)
    for number in range(3):
        subscribers.publish(number)
    got: list[tuple[float, int]] = []
    start = trio.current_time()

    async def reader() -> None:
        async for number in receive:
            got.append((trio.current_time() - start, number))
            await trio.sleep(2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await subscribers.flush(5)
        assert trio.current_time() - start == 5
        nursery.cancel_scope.cancel()
    assert got == [(0, 0), (2, 1), (4, 2)]


async def test_flush_keeps_its_grace_under_cancellation(autojump_clock: trio.testing.MockClock) -> None:
    subscribers: Subscribers[int] = Subscribers()
    send, receive = trio.open_memory_channel[int](0)
    subscribers.attach(send)
    subscribers.publish(1)
    got: list[int] = []
    start = trio.current_time()

    async def late_reader() -> None:
        await trio.sleep(3)
        got.append(await receive.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(late_reader)
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscribers.flush(5)
            assert trio.current_time() - start == 3
    assert got == [1]


async def test_flush_with_nothing_left_returns_at_once(autojump_clock: trio.testing.MockClock) -> None:
    subscribers: Subscribers[int] = Subscribers()
    send, _receive = trio.open_memory_channel[int](math.inf)
    subscribers.attach(send)
    subscribers.publish(1)
    start = trio.current_time()
    await subscribers.flush(5)
    assert trio.current_time() == start


async def test_pump_and_flush_at_once_hand_every_value_over_once() -> None:
    subscribers: Subscribers[int] = Subscribers()
    send, receive = trio.open_memory_channel[int](0)
    subscribers.attach(send)
    for number in range(4):
        subscribers.publish(number)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscribers.pump)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        nursery.start_soon(subscribers.flush, 10)
        with trio.CancelScope(shield=True):
            got = [await receive.receive() for _ in range(4)]
    assert got == [0, 1, 2, 3]
    assert drained(receive) == []


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["publish", "read", "settle"]), max_size=40), st.integers(0, 3))
def test_a_reader_of_any_pace_gets_every_value_once_and_in_order(operations: list[str], capacity: int) -> None:
    async def follow() -> None:
        subscribers: Subscribers[int] = Subscribers()
        send, receive = trio.open_memory_channel[int](capacity)
        subscribers.attach(send)
        published = 0
        got: list[int] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subscribers.pump)
            for operation in operations:
                if operation == "publish":
                    subscribers.publish(published)
                    published += 1
                elif operation == "read" and len(got) < published:
                    got.append(await receive.receive())
                elif operation == "settle":
                    await trio.testing.wait_all_tasks_blocked()
            while len(got) < published:
                got.append(await receive.receive())
            await trio.testing.wait_all_tasks_blocked()
            got += drained(receive)
            nursery.cancel_scope.cancel()
        assert got == list(range(published))

    trio.run(follow)


async def test_a_channel_attached_while_the_pump_runs_is_filled_too(autojump_clock: trio.testing.MockClock) -> None:
    subscribers: Subscribers[int] = Subscribers()
    send, receive = trio.open_memory_channel[int](0)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(subscribers.pump)
            await trio.testing.wait_all_tasks_blocked()
            subscribers.attach(send)
            subscribers.publish(1)
            subscribers.publish(2)
            assert [await receive.receive(), await receive.receive()] == [1, 2]
            nursery.cancel_scope.cancel()


async def test_a_flush_beside_a_running_pump_hands_nothing_over_twice() -> None:
    subscribers: Subscribers[int] = Subscribers()
    send, receive = trio.open_memory_channel[int](0)
    subscribers.attach(send)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(subscribers.pump)
        for number in range(3):
            subscribers.publish(number)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(subscribers.flush, 10)
        await trio.testing.wait_all_tasks_blocked()
        assert [await receive.receive() for _ in range(3)] == [0, 1, 2]
        await trio.testing.wait_all_tasks_blocked()
        assert drained(receive) == []
        nursery.cancel_scope.cancel()
