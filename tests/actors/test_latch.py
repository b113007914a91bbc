"""A latch is set once, for good, and wakes whoever waits."""

from __future__ import annotations

import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from managed_agents_actors.actors._latch import Latch


async def test_whoever_waits_is_woken_once_it_is_set() -> None:
    latch, woken = Latch(), []

    async def wait(name: str) -> None:
        await latch.wait()
        woken.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, "one")
        nursery.start_soon(wait, "two")
        await wait_all_tasks_blocked()
        assert not latch.is_set()
        assert woken == []
        latch.set()
        latch.set()
    assert latch.is_set()
    assert sorted(woken) == ["one", "two"]


async def test_a_wait_for_what_is_set_already_is_a_checkpoint_and_no_more() -> None:
    latch = Latch()
    latch.set()
    with assert_checkpoints():
        await latch.wait()


async def test_a_wait_that_is_cancelled_leaves_the_others_waiting() -> None:
    latch = Latch()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(latch.wait)
        await wait_all_tasks_blocked()
        with trio.CancelScope() as scope:
            scope.cancel()
            await latch.wait()
        assert scope.cancelled_caught
        latch.set()
