"""Failing runs are repeated under fewer faults until none can be missed, and say the seed and the plan."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    Delay,
    DropStream,
    Fault,
    FaultPlan,
    PlanFailed,
    RecordingHandler,
    RefuseWith,
    assert_exactly_once,
    call_tool,
    check_plans,
    find_shortest_plan,
    open_claude_simulator,
    say,
)


def numbered(numbers: Iterable[int], *, times: int = 1) -> FaultPlan:
    """A plan whose faults can be told apart."""
    return FaultPlan([Fault(on="any", action=Delay(float(n)), times=times) for n in numbers])


def numbers_of(plan: FaultPlan) -> set[int]:
    return {int(fault.action.seconds) for fault in plan.faults if isinstance(fault.action, Delay)}


@given(st.integers(0, 25), st.sets(st.integers(0, 24), max_size=4))
def test_what_is_left_is_what_it_takes_to_fail(size: int, guilty: set[int]) -> None:
    plan = numbered(range(size))

    def run(tried: FaultPlan) -> None:
        if guilty <= numbers_of(tried):
            raise ValueError("the guilty are together")

    if guilty <= numbers_of(plan):
        assert numbers_of(find_shortest_plan(plan, run)) == guilty
    else:
        with pytest.raises(ValueError, match="nothing to shorten: the run does not fail under FaultPlan"):
            find_shortest_plan(plan, run)


def test_no_single_fault_of_the_shortest_plan_can_be_left_out() -> None:
    # The second can be left out only once the third is gone.
    failing = ({0, 1, 2}, {0, 1}, {1})

    def run(plan: FaultPlan) -> None:
        if numbers_of(plan) in failing:
            raise ValueError

    assert numbers_of(find_shortest_plan(numbered(range(3)), run)) == {1}


def test_another_failure_is_not_the_one_looked_for() -> None:
    def run(plan: FaultPlan) -> None:
        if numbers_of(plan) >= {1, 2}:
            raise ExceptionGroup("both", [ValueError("two")])
        if 1 in numbers_of(plan):
            raise KeyError("one")

    assert numbers_of(find_shortest_plan(numbered(range(5)), run)) == {1, 2}


def test_a_fault_befalls_as_few_requests_as_it_takes() -> None:
    def run(plan: FaultPlan) -> None:
        if any(fault.times == 3 for fault in plan.faults if fault.action == Delay(1.0)):
            raise ValueError
        if plan.faults and plan.faults[0].action == Delay(2.0):
            raise ValueError

    assert find_shortest_plan(numbered([1], times=3), run).faults == numbered([1], times=3).faults
    assert find_shortest_plan(numbered([2], times=3), run).faults == numbered([2]).faults


def test_an_async_run_gets_virtual_time_of_its_own_for_each_try() -> None:
    clocks: list[float] = []

    async def run(plan: FaultPlan) -> None:
        clocks.append(trio.current_time())
        await trio.sleep(3600)
        if 3 in numbers_of(plan):
            raise ValueError

    assert numbers_of(find_shortest_plan(numbered(range(6)), run)) == {3}
    assert len(clocks) > 3
    assert set(clocks) == {0.0}


def test_an_object_can_be_the_run() -> None:
    class Run:
        async def __call__(self, plan: FaultPlan) -> None:
            await trio.lowlevel.checkpoint()
            raise ValueError

    assert find_shortest_plan(numbered([1]), Run()).faults == ()


def test_each_try_gets_fresh_counts() -> None:
    fault = Fault(on="x", action=RefuseWith(500))

    def run(plan: FaultPlan) -> None:
        if plan.meet("x"):
            raise ValueError

    assert find_shortest_plan(FaultPlan([fault]), run).faults == (fault,)


def test_a_check_says_the_seed_and_the_shortest_plan() -> None:
    tried: list[int | None] = []

    def run(plan: FaultPlan) -> None:
        tried.append(plan.seed)
        if any(isinstance(fault.action, DropStream) for fault in plan.faults):
            raise ValueError("it was dropped")

    seeds = (seed for seed in range(1000))
    with pytest.raises(PlanFailed, match=r"the run fails with seed \d+: ValueError: it was dropped\n") as failed:
        check_plans(run, seeds=seeds)
    seed = failed.value.plan.seed
    assert failed.value.plan.faults == FaultPlan.random(seed or 0).faults
    (fault,) = failed.value.shortest.faults
    assert isinstance(fault.action, DropStream)
    assert f"of 4 faults 1: FaultPlan([{fault!r}])" in str(failed.value)
    assert isinstance(failed.value.__cause__, ValueError)
    assert next(seeds) == (seed or 0) + 1, "it stops at the first failure"


def test_draws_of_the_run_follow_the_seed() -> None:
    drawn: dict[int | None, list[float]] = {}

    def run(plan: FaultPlan) -> None:
        drawn.setdefault(plan.seed, []).append(random.random())

    check_plans(run, seeds=[1, 2])
    check_plans(run, seeds=[2, 1])
    assert drawn[1][0] == drawn[1][1] != drawn[2][0] == drawn[2][1]


SCRIPT = [[call_tool("a"), say("One.")], [say("Two.")]]


async def converse(plan: FaultPlan) -> None:
    """Two requests of a session, checked from outside."""
    handler = RecordingHandler()
    async with (
        open_claude_simulator(SCRIPT, transport="memory", faults=plan) as simulator,
        simulator.client() as client,
    ):
        async with maa.open_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=handler,
        ) as session:
            results = await session.ask("Hello"), await session.ask("Thanks")
        assert_exactly_once(simulator, *results, handler=handler, messages=["Hello", "Thanks"])


def test_a_session_survives_random_plans() -> None:
    check_plans(converse, seeds=range(40))


def test_a_session_that_does_not_survive_is_told_with_its_plan() -> None:
    fatal = Fault(on="send_events", action=RefuseWith(400), nth=2)

    def draw(seed: int) -> FaultPlan:
        return FaultPlan([*FaultPlan.random(seed).faults, fatal], seed=seed)

    with pytest.raises(PlanFailed) as failed:
        check_plans(converse, seeds=[3], draw=draw)
    assert failed.value.shortest.faults == (fatal,)
