"""The plan of faults, which is pure: whom it meets and when, what it prints, what it refuses and what it draws."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors import ConfigurationError, testing
from managed_agents_actors.testing import (
    Action,
    Chance,
    CrashSession,
    DropStream,
    Fault,
    FaultPlan,
    LoseAnswer,
    PauseStream,
    RefuseWith,
    RotateKey,
    Split,
    TruncateAnswer,
)
from managed_agents_actors.testing._claude_simulator import CONTRACT

NAMES = {name: getattr(testing, name) for name in testing.__all__}

places = st.integers(min_value=1, max_value=30)
numbers: st.SearchStrategy[Any] = st.one_of(
    places, st.just("every"), st.builds(Chance, st.sampled_from([0.0, 0.25, 1.0]), seed=st.integers(0, 9))
)
actions: st.SearchStrategy[Action] = st.one_of(
    st.builds(RefuseWith, st.sampled_from([401, 429, 529]), retry_after=st.none() | st.just(1.5)),
    st.just(LoseAnswer()),
    st.builds(DropStream, after_events=places),
    st.builds(DropStream, after_bytes=places),
    st.builds(DropStream, after_type=st.just("agent.message"), after_events=st.integers(0, 3)),
    st.builds(PauseStream, seconds=st.just(2.5)),
    st.builds(Split, st.lists(places, min_size=1, max_size=3).map(tuple), pause=st.sampled_from([0.0, 0.001])),
    st.builds(TruncateAnswer, st.none() | places),
    st.builds(CrashSession, when=st.sampled_from(["before", "after"])),
)
faults = st.builds(
    Fault,
    on=st.sampled_from(["stream", "any"]),
    action=actions,
    nth=numbers,
    sending=st.none() | st.just("user.message"),
)


@given(st.lists(faults, max_size=4), st.none() | st.integers(0, 9))
def test_a_plan_prints_as_the_expression_that_makes_it(some: list[Fault], seed: int | None) -> None:
    plan = FaultPlan(some, seed=seed)
    again = eval(repr(plan), dict(NAMES))
    assert again.faults == plan.faults
    assert again.seed == seed
    assert repr(again) == repr(plan)


def test_what_is_as_usual_is_not_printed() -> None:
    fault = Fault(on="stream", action=DropStream(after_bytes=7), times=2)
    assert repr(fault) == "Fault(on='stream', action=DropStream(after_bytes=7), times=2)"


@given(st.integers())
def test_a_seed_gives_the_same_plan_each_time(seed: int) -> None:
    plan = FaultPlan.random(seed, faults=6)
    assert plan.faults == FaultPlan.random(seed, faults=6).faults
    assert len(plan.faults) == 6
    assert plan.seed == seed


def test_another_seed_gives_another_plan() -> None:
    assert len({FaultPlan.random(seed).faults for seed in range(50)}) == 50


def test_every_plan_that_is_drawn_fits_the_simulator() -> None:
    kinds: set[type[Action]] = set()
    for seed in range(300):
        plan = FaultPlan.random(seed, requests=3, events=9)
        plan.serve(CONTRACT)
        kinds |= {type(fault.action) for fault in plan.faults}
        assert all(isinstance(fault.nth, int) and fault.nth <= 3 for fault in plan.faults)
    assert len(kinds) > 12


def test_a_plan_may_be_drawn_from_some_kinds_only() -> None:
    plan = FaultPlan.random(1, faults=30, kinds={DropStream, LoseAnswer})
    assert {type(fault.action) for fault in plan.faults} == {DropStream, LoseAnswer}
    with pytest.raises(ConfigurationError, match=r"cannot draw \['RotateKey'\] at random"):
        FaultPlan.random(1, kinds={RotateKey})


@given(st.lists(faults, max_size=3), st.lists(st.sampled_from(["stream", "send_events"]), max_size=40))
def test_the_same_requests_meet_the_same_faults(some: list[Fault], requests: list[str]) -> None:
    plan = FaultPlan(some)

    def met(plan: FaultPlan) -> list[list[Action]]:
        return [[due.action for due in plan.meet(on, sends=["user.message"])] for on in requests]

    assert met(plan) == met(plan.fresh())


@given(places, st.integers(1, 5), st.lists(st.sampled_from(["stream", "other"]), max_size=60))
def test_a_fault_meets_the_requests_of_its_operation_from_the_nth_on(nth: int, times: int, requests: list[str]) -> None:
    plan = FaultPlan([Fault(on="stream", action=LoseAnswer(), nth=nth, times=times)])
    met = [bool(plan.meet(operation)) for operation in requests]
    ordinals = [requests[: n + 1].count("stream") if on == "stream" else 0 for n, on in enumerate(requests)]
    assert met == [nth <= ordinal < nth + times for ordinal in ordinals]


def test_only_what_is_said_to_happen_has_fired() -> None:
    fault = Fault(on="any", action=LoseAnswer(), nth="every")
    plan = FaultPlan([fault])
    first, second = plan.meet("stream"), plan.meet("list_events")
    assert plan.fired == ()
    second[0].fire()
    first[0].fire()
    assert [(fired.fault, fired.occurrence) for fired in plan.fired] == [(fault, 2), (fault, 1)]
    assert plan.fresh().fired == ()


def test_a_key_is_not_printed() -> None:
    assert repr(RotateKey("sk-secret")) == "RotateKey(key='***')"
