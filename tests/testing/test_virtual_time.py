"""Runs in virtual time: repeatable, bounded, and long enough for a day of reconnecting."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    ClaudeSimulator,
    Fault,
    FaultPlan,
    RecordingHandler,
    RefuseWith,
    assert_exactly_once,
    deterministic_schedule,
    open_claude_simulator,
    run_in_virtual_time,
)

DAY = 86_400.0


async def race(width: int = 20) -> list[int]:
    """In which order tasks that are ready together run."""
    order: list[int] = []

    async def runner(number: int) -> None:
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            order.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(width):
            nursery.start_soon(runner, number)
    return order


def test_a_seed_gives_one_order_of_tasks() -> None:
    def raced(seed: int) -> tuple[int, ...]:
        with deterministic_schedule(seed):
            return tuple(trio.run(race))

    first = raced(1)
    assert {raced(1) for _ in range(5)} == {first}
    assert len({raced(seed) for seed in range(20)}) == 20


def test_everything_is_put_back() -> None:
    random.seed(5)
    expected = random.Random(5).random()
    with pytest.raises(KeyError), deterministic_schedule(1):
        random.random()
        raise KeyError
    assert random.random() == expected


def test_blocks_may_be_nested() -> None:
    with deterministic_schedule(1):
        before = tuple(trio.run(race))
    with deterministic_schedule(1):
        with deterministic_schedule(2):
            trio.run(race)
        assert tuple(trio.run(race)) == before


def test_a_run_takes_no_real_time_and_gives_its_value() -> None:
    async def sleepy(seconds: float, answer: str) -> str:
        await trio.sleep(seconds)
        return f"{answer} at {trio.current_time():g}"

    assert run_in_virtual_time(sleepy, 3600.0, "done") == "done at 3600"


def test_a_run_that_hangs_is_given_up() -> None:
    with pytest.raises(trio.TooSlowError, match="it went on after 86400 virtual seconds"):
        run_in_virtual_time(trio.sleep_forever)
    with pytest.raises(trio.TooSlowError, match="it went on after 9 virtual seconds"):
        run_in_virtual_time(trio.sleep, 10.0, patience=9.0)


# --- a day of it ------------------------------------------------------------------------------------------------------


async def live_through(
    day: Callable[[ClaudeSimulator, maa.Session], Any], plan: FaultPlan, policy: maa.ReconnectPolicy
) -> int:
    """Ask, live through the day, ask again; gives how often the session reconnected."""
    handler = RecordingHandler()
    async with (
        open_claude_simulator(transport="memory", faults=plan) as simulator,
        simulator.client() as client,
    ):
        async with maa.open_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=handler,
            reconnect=policy,
        ) as session:
            first = await session.ask("Good morning")
            await day(simulator, session)
            second = await session.ask("Good night")
            reconnects = session.status().reconnects
        assert_exactly_once(simulator, first, second, handler=handler, messages=["Good morning", "Good night"])
        return reconnects


def test_a_day_of_dropped_streams() -> None:
    drops = 144

    async def day(simulator: ClaudeSimulator, session: maa.Session) -> None:
        for _ in range(drops):
            await trio.sleep(DAY / drops)
            simulator.drop_streams(session.session_id)
        await trio.sleep(1)

    policy = maa.ReconnectPolicy(initial=0.5)
    assert run_in_virtual_time(live_through, day, FaultPlan(), policy, patience=2 * DAY) == drops


def test_an_outage_of_some_hours_meets_the_attempts_the_policy_allows() -> None:
    # Delays of 1, 2, 4, … 512 and then 600 seconds: ten attempts in the first 1023 seconds, one every 600 s after.
    attempts, seconds = 10 + 30, 1023 + 30 * 600
    plan = FaultPlan([Fault(on="stream", nth=2, times=attempts - 1, action=RefuseWith(503))])

    async def outage(simulator: ClaudeSimulator, session: maa.Session) -> None:
        simulator.drop_streams(session.session_id)
        await trio.sleep(seconds - 60)
        assert session.status().phase == "reconnecting"
        await trio.sleep(120)
        assert session.status().phase == "live"

    policy = maa.ReconnectPolicy(initial=1.0, max=600.0, jitter=0.0)
    assert run_in_virtual_time(live_through, outage, plan, policy, patience=DAY) == attempts
    assert len(plan.fired) == attempts - 1


# --- another trio -----------------------------------------------------------------------------------------------------


def test_a_trio_that_has_changed_is_told_of() -> None:
    program = """
import trio
from managed_agents_actors import ConfigurationError
from managed_agents_actors.testing import deterministic_schedule

del trio._core._run._r
try:
    with deterministic_schedule(1):
        print("not reached")
except ConfigurationError as error:
    print(error)
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert printed.startswith(f"trio {trio.__version__} cannot be made repeatable")
