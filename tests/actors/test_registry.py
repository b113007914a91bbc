"""A registry's names are unique, also while what is to stand under them is still being started."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from managed_agents_actors import ConfigurationError
from managed_agents_actors.actors import Registry


class Broken(Exception):
    """A failure of the test's own."""


async def _never() -> Any:
    pytest.fail("it was started")


def test_a_name_stands_for_one_value() -> None:
    registry: Registry[str] = Registry()
    assert registry.lookup("a") is None
    registry.register("a", "first")
    with pytest.raises(ConfigurationError, match="the name 'a' is taken"):
        registry.register("a", "second")
    assert registry.lookup("a") == "first"
    assert (list(registry), len(registry), repr(registry)) == (["a"], 1, "<Registry 1 names>")


def test_a_name_is_freed_by_its_own_value_only() -> None:
    registry: Registry[list[int]] = Registry()
    old: list[int] = []
    new: list[int] = []
    registry.register("a", old)
    registry.unregister("a", new)
    assert registry.lookup("a") is old
    registry.unregister("a", old)
    registry.unregister("a", old)
    assert registry.lookup("a") is None
    registry.register("a", new)


async def test_what_stands_there_is_given_and_nothing_is_started() -> None:
    registry: Registry[str] = Registry()
    registry.register("a", "there")
    with trio.testing.assert_checkpoints():
        assert await registry.start_or_get("a", _never) == "there"


async def test_of_several_callers_one_starts_it(autojump_clock: Any) -> None:
    registry: Registry[object] = Registry()
    started: list[object] = []

    async def start() -> object:
        started.append(object())
        await trio.sleep(5)
        return started[-1]

    got: list[object] = []

    async def caller() -> None:
        got.append(await registry.start_or_get("a", start))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(caller)
        await trio.sleep(1)
        assert registry.lookup("a") is None
        with pytest.raises(ConfigurationError, match="the name 'a' is taken"):
            registry.register("a", "other")
    assert got == started * 10
    assert registry.lookup("a") is started[0]


@pytest.mark.parametrize("value", [None, False, 0])
async def test_any_value_is_one(value: Any) -> None:
    registry: Registry[Any] = Registry()
    got: list[Any] = []

    async def start() -> Any:
        await trio.testing.wait_all_tasks_blocked()
        return value

    async def caller() -> None:
        got.append(await registry.start_or_get("a", start))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller)
        nursery.start_soon(caller)
    assert got == [value, value]


async def test_names_do_not_wait_for_each_other(autojump_clock: Any) -> None:
    registry: Registry[str] = Registry()

    async def start() -> str:
        await trio.sleep(5)
        return "value"

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(registry.start_or_get, f"n{number}", start)
    assert trio.current_time() - began == 5
    assert len(registry) == 10


async def test_a_failed_start_is_raised_to_all_and_frees_the_name(autojump_clock: Any) -> None:
    registry: Registry[str] = Registry()
    errors: list[Broken] = []

    async def fail() -> str:
        await trio.sleep(1)
        raise Broken("start")

    async def caller() -> None:
        with pytest.raises(Broken, match="start") as caught:
            await registry.start_or_get("a", fail)
        errors.append(caught.value)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(caller)
    assert len({id(error) for error in errors}) == 5  # one object raised in several tasks would mix their tracebacks
    registry.register("a", "free")


async def test_a_cancelled_starter_leaves_the_start_to_the_next(autojump_clock: Any) -> None:
    registry: Registry[int] = Registry()
    starts = 0
    got: list[tuple[float, int]] = []
    scope = trio.CancelScope()

    async def start() -> int:
        nonlocal starts
        starts += 1
        await trio.sleep(5)
        return starts

    async def caller(scope: trio.CancelScope) -> None:
        with scope:
            value = await registry.start_or_get("a", start)
            got.append((trio.current_time() - began, value))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(caller, scope)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(caller, trio.CancelScope())
        await trio.sleep(3)
        scope.cancel()
    assert got == [(8, 2)] * 3


async def test_a_cancelled_waiter_disturbs_nobody(autojump_clock: Any) -> None:
    registry: Registry[str] = Registry()

    async def start() -> str:
        await trio.sleep(5)
        return "value"

    async with trio.open_nursery() as nursery:
        nursery.start_soon(registry.start_or_get, "a", start)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(1) as scope:
            await registry.start_or_get("a", _never)
        assert scope.cancelled_caught
    assert registry.lookup("a") == "value"
