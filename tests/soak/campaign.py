"""Plays many cases, and brings every failure to the shortest plan that still fails."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, NoReturn, TypeAlias

from managed_agents_actors.testing import FaultPlan, find_shortest_plan

from .case import Case, draw_case
from .harness_case import HarnessCase, draw_harness_case
from .harness_laws import harness_violations
from .harness_play import play_harness
from .laws import violations
from .play import play
from .processes import spread

AnyCase: TypeAlias = Case | HarnessCase
Judge: TypeAlias = Callable[[AnyCase], list[str]]


class Subject(NamedTuple):
    """How cases of a provider are drawn, played and judged."""

    draw: Callable[[int], AnyCase]
    play: Callable[[Any], Any]
    violations: Callable[[Any], list[str]]


SUBJECTS = {
    "claude": Subject(draw_case, play, violations),
    "agentcore": Subject(draw_harness_case, play_harness, harness_violations),
}
# Of both, the seed decides: they alternate.
PROVIDERS = (*SUBJECTS, "both")

# Cases that a process is given at once: a second's work or so.
BATCH = 25

# Failures after which a campaign is given up: by then it is clear that something is wrong.
ENOUGH = 20

# Real seconds after which a case is given up that neither ends nor lets virtual time pass. Most take milliseconds; a
# large frame that a busy machine sends in pieces of three bytes has taken more than a minute.
REAL_PATIENCE = 300


@dataclass(frozen=True)
class Failure:
    """A case that broke a law.

    Attributes:
        provider: Whose case it is.
        seed: Of this case alone.
        plan: The shortest found under which it fails.
        broken: What it breaks then.
    """

    provider: str
    seed: int
    plan: FaultPlan
    broken: tuple[str, ...]

    def __str__(self) -> str:
        broken = "".join(f"\n  {line}" for line in self.broken)
        again = f"python -m tests.soak --provider {self.provider} --cases 1 --seed {self.seed}"
        return f"{self.provider} seed {self.seed} fails under {self.plan!r}:{broken}\n  again: {again}"


@dataclass
class Tally:
    """What came of a campaign."""

    seed: int
    cases: int = 0
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    def __str__(self) -> str:
        rate = self.cases / self.seconds if self.seconds else 0.0
        return f"{self.cases} cases from seed {self.seed} on, {rate:.1f} a second: {len(self.failures)} failures"


def draw(provider: str, seed: int) -> AnyCase:
    """Draw a case of a provider, or of one of both."""
    return SUBJECTS[(*SUBJECTS,)[seed % len(SUBJECTS)] if provider == "both" else provider].draw(seed)


def judge(case: AnyCase) -> list[str]:
    """Play a case and tell what it breaks."""
    subject = SUBJECTS[case.provider]
    with _real_bound():
        return subject.violations(subject.play(case))


def try_case(case: AnyCase, judge: Judge = judge) -> Failure | None:
    """Play a case; if it fails, leave out of its plan everything that it fails without."""
    broken = judge(case)
    if not broken:
        return None

    def run(plan: FaultPlan) -> None:
        if found := judge(case.under(plan.faults)):
            raise AssertionError(found)

    plan = FaultPlan(case.mishaps.faults)
    try:
        plan = find_shortest_plan(plan, run, seed=case.seed)
    except ValueError:
        return Failure(case.provider, case.seed, plan, (*broken, "it did not fail when it was played again"))
    return Failure(case.provider, case.seed, plan, tuple(judge(case.under(plan.faults))))


def campaign(
    seed: int,
    *,
    cases: int | None,
    seconds: float | None,
    jobs: int,
    tell: Callable[[Failure], None],
    provider: str = "both",
) -> Tally:
    """Play so many cases, or for so long, from a seed on; tell of each failure as it comes; give up on too many."""
    tally, began = Tally(seed), time.monotonic()
    batches = _batches(seed, cases, None if seconds is None else began + seconds)
    for count, failures in spread(partial(_try_batch, provider), batches, jobs=jobs):
        tally.cases += count
        tally.failures += failures
        for failure in failures:
            tell(failure)
        if len(tally.failures) >= ENOUGH:
            break
    tally.seconds = time.monotonic() - began
    return tally


def _batches(seed: int, cases: int | None, until: float | None) -> Iterator[range]:
    start = seed
    while (cases is None or start < seed + cases) and (until is None or time.monotonic() < until):
        stop = start + BATCH if cases is None else min(start + BATCH, seed + cases)
        yield range(start, stop)
        start = stop


def _try_batch(provider: str, seeds: range) -> tuple[int, list[Failure]]:
    tried = [try_case(draw(provider, seed)) for seed in seeds]
    return len(seeds), [failure for failure in tried if failure is not None]


@contextmanager
def _real_bound() -> Iterator[None]:
    """Bound real time, where no virtual time can help: a loop that waits for nothing."""
    before = signal.signal(signal.SIGALRM, _give_up)
    signal.alarm(REAL_PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _give_up(*_: object) -> NoReturn:
    raise TimeoutError(f"a case took more than {REAL_PATIENCE} real seconds")
