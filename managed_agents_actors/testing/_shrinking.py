"""The shortest plan that still makes a run fail, and a check that tries many plans and reports that one.

A run is an async function of a plan, or any that gives an awaitable: it gets virtual time and a repeatable trio of its
own for each try. Or it is a plain function of a plan, which starts its own. It fails by raising.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from .._errors import ConfigurationError
from ._fault_plan import Fault, FaultPlan
from ._given import refuse_given, require_a, require_callable, require_no_trio
from ._virtual_time import deterministic_schedule, run_in_virtual_time

__all__ = ["PlanFailed", "Run", "check_plans", "find_shortest_plan"]

Run: TypeAlias = Callable[[FaultPlan], Awaitable[object]] | Callable[[FaultPlan], object]
Faults: TypeAlias = tuple[Fault, ...]


class PlanFailed(AssertionError):
    """A run failed under a plan.

    Attributes:
        plan: The plan it was tried with.
        shortest: The shortest plan found that makes it fail in the same way.
    """

    def __init__(self, plan: FaultPlan, shortest: FaultPlan, failure: Exception) -> None:
        self.plan = plan
        self.shortest = shortest
        super().__init__(
            f"the run fails with seed {plan.seed}: {type(failure).__name__}: {failure}\n"
            f"shortest plan that fails, of {len(plan.faults)} faults {len(shortest.faults)}: {shortest!r}"
        )


def check_plans(
    run: Run, *, seeds: Iterable[int] = range(100), draw: Callable[[int], FaultPlan] = FaultPlan.random
) -> None:
    """Try a run under the plan of each seed. Call it outside of trio.

    Args:
        run: What is tried.
        seeds: One try for each.
        draw: Makes the plan of a seed.

    Raises:
        PlanFailed: The first failure, with its seed and the shortest plan that fails; the failure is its cause.
        ConfigurationError: It was called inside of trio, there is no seed, or the run is none.
    """
    _require_run("check_plans", run)
    require_callable("check_plans: draw", draw, "a function from a seed to a plan")
    if not isinstance(seeds, Iterable):
        raise refuse_given("check_plans: seeds", "some seeds, such as range(100)", seeds)
    seed = None
    for seed in seeds:
        plan = draw(seed)
        require_a("check_plans: what draw gives", plan, FaultPlan)
        failure = _try(run, plan, seed)
        if failure is not None:
            raise PlanFailed(plan, find_shortest_plan(plan, run, seed=seed), failure) from failure
    if seed is None:
        raise ConfigurationError("check_plans: seeds are empty, so nothing was tried; give some, such as range(100)")


def find_shortest_plan(plan: FaultPlan, run: Run, *, seed: int | None = None) -> FaultPlan:
    """Leave faults out of a failing plan as long as it fails in the same way. Call it outside of trio.

    Args:
        plan: A plan under which ``run`` fails.
        run: Tried again and again, each time with fresh counts.
        seed: Decides in which order tasks run; the plan's own seed when left out.

    Raises:
        ValueError: The run does not fail under the plan.
        ConfigurationError: It was called inside of trio, or the plan or the run is none.
    """
    _require_run("find_shortest_plan", run)
    require_a("find_shortest_plan: plan", plan, FaultPlan)
    order = seed if seed is not None else plan.seed or 0
    failure = _try(run, plan, order)
    if failure is None:
        raise ValueError(f"nothing to shorten: the run does not fail under {plan!r}")
    kind = _kind(failure)

    def fails(faults: Faults) -> bool:
        found = _try(run, FaultPlan(faults), order)
        return found is not None and _kind(found) == kind

    return FaultPlan(_with_fewer_times(_shortest(plan.faults, fails), fails))


def _shortest(faults: Faults, fails: Callable[[Faults], bool]) -> Faults:
    """Drop stretches of faults, halves first and single ones last, until none can be missed."""
    length = len(faults)
    while length:
        at, dropped = 0, False
        while at < len(faults):
            fewer = faults[:at] + faults[at + length :]
            if fails(fewer):
                faults, dropped = fewer, True
            else:
                at += length
        if length > 1 or not dropped:
            length //= 2
    return faults


def _with_fewer_times(faults: Faults, fails: Callable[[Faults], bool]) -> Faults:
    """Let each fault befall one request only, where that is enough."""
    for index, fault in enumerate(faults):
        if fault.times > 1:
            milder = (*faults[:index], replace(fault, times=1), *faults[index + 1 :])
            faults = milder if fails(milder) else faults
    return faults


def _try(run: Run, plan: FaultPlan, seed: int) -> Exception | None:
    with deterministic_schedule(seed):
        try:
            outcome = run(plan.fresh())
            if inspect.isawaitable(outcome):
                run_in_virtual_time(_awaited, outcome, seed=seed)
        except Exception as failure:  # noqa: BLE001 - whatever it raises is what is looked for
            return failure
    if inspect.isgenerator(outcome) or inspect.isasyncgen(outcome):
        raise ConfigurationError(f"a run has no yield: {run!r} gave {outcome!r}, of which nothing ran")
    return None


async def _awaited(outcome: Awaitable[Any]) -> object:
    return await outcome


def _require_run(what: str, run: object) -> None:
    require_no_trio(what)
    require_callable(f"{what}: run", run, "a function of a plan")


def _kind(failure: BaseException) -> Sequence[str]:
    """The types of the exceptions that make up a failure, in any order."""
    if isinstance(failure, BaseExceptionGroup):
        return sorted({name for each in failure.exceptions for name in _kind(each)})
    return [type(failure).__qualname__]
