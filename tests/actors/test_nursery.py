"""A plain nursery fails as if there were none, if there is one failure; an exit signal always comes out bare."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from managed_agents_actors.actors import open_plain_nursery


class Broken(Exception):
    """A failure of the test's own."""


async def _fail(error: BaseException) -> None:
    raise error


async def test_without_a_failure_it_waits_for_its_children(autojump_clock: trio.testing.MockClock) -> None:
    start = trio.current_time()
    async with open_plain_nursery() as nursery:
        nursery.start_soon(trio.sleep, 3)
    assert trio.current_time() - start == 3


@pytest.mark.parametrize("where", ["child", "body", "nested", "deeply nested"])
async def test_the_only_failure_comes_out_bare(where: str, autojump_clock: trio.testing.MockClock) -> None:
    error = Broken("itself")
    with pytest.raises(Broken) as caught:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            if where == "body":
                raise error
            if where == "child":
                nursery.start_soon(_fail, error)
            if where == "nested":
                async with trio.open_nursery() as inner:
                    inner.start_soon(_fail, error)
            if where == "deeply nested":
                raise BaseExceptionGroup("outer", [ExceptionGroup("inner", [error])])
            await trio.sleep_forever()
    assert caught.value is error


async def test_the_failure_keeps_its_own_cause_and_context() -> None:
    cause, context = KeyError("cause"), ValueError("context")
    error = Broken("itself")
    error.__cause__, error.__context__, error.__suppress_context__ = cause, context, False
    with pytest.raises(Broken) as caught:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(_fail, error)
    assert caught.value.__cause__ is cause
    assert caught.value.__context__ is context


async def test_several_failures_come_out_as_a_group() -> None:
    one, two = Broken("one"), KeyError("two")
    with pytest.raises(ExceptionGroup) as caught:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(_fail, one)
            nursery.start_soon(_fail, two)
    assert set(caught.value.exceptions) == {one, two}


async def test_cancellation_from_outside_passes_through(autojump_clock: trio.testing.MockClock) -> None:
    cleaned: list[str] = []

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append("child")

    with trio.move_on_after(1) as scope:
        async with open_plain_nursery() as nursery:
            nursery.start_soon(child)
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert cleaned == ["child"]


async def test_a_failure_beside_a_cancellation_from_outside_comes_out_bare() -> None:
    error = Broken("while it was being cancelled")

    async def child() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise error

    caught: list[BaseException] = []
    with trio.CancelScope() as scope:
        try:
            async with open_plain_nursery() as nursery:
                nursery.start_soon(child)
                await trio.testing.wait_all_tasks_blocked()
                scope.cancel()
                await trio.sleep_forever()
        except Broken as broken:
            caught.append(broken)
    assert caught == [error]


async def test_its_own_cancel_scope_is_no_failure() -> None:
    async with open_plain_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()
    assert nursery.cancel_scope.cancelled_caught


@pytest.mark.parametrize("signal", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("with_others", [False, True])
async def test_an_exit_signal_comes_out_bare_whatever_else_failed(
    signal: type[BaseException], with_others: bool
) -> None:
    raised = signal()

    async def stubborn() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise Broken("in the clean-up")

    async def body() -> Any:
        async with open_plain_nursery() as nursery:
            if with_others:
                nursery.start_soon(stubborn)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(_fail, raised)

    with pytest.raises(signal) as caught:
        await body()
    assert caught.value is raised
