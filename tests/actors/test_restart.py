"""The restart policy's arithmetic is OTP's: a table of cases, and any history against a model written differently."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from managed_agents_actors.actors._exit import Exit
from managed_agents_actors.actors._restart import Intensity, affected, calls_for_restart

ENDS = {
    "normal": Exit("normal"),
    "shutdown": Exit("shutdown", "done"),
    "crashed": Exit("crashed", error=ValueError("x")),
}

# Restart type, exit, whether OTP restarts the child: do_restart/3 of its supervisor.
RESTARTS = [
    ("permanent", "normal", True),
    ("permanent", "shutdown", True),
    ("permanent", "crashed", True),
    ("transient", "normal", False),
    ("transient", "shutdown", False),
    ("transient", "crashed", True),
    ("temporary", "normal", False),
    ("temporary", "shutdown", False),
    ("temporary", "crashed", False),
]


@pytest.mark.parametrize(("restart", "kind", "expected"), RESTARTS)
def test_the_restart_type_decides_after_an_exit(restart: str, kind: str, expected: bool) -> None:
    assert calls_for_restart(restart, ENDS[kind]) is expected  # type: ignore[arg-type]


# max_restarts, max_seconds, when children fail, and which failure OTP's supervisor does not bear (None: it bears all).
INTENSITY = [
    (3, 5, [0, 0, 0], None),
    (3, 5, [0, 0, 0, 0], 3),
    (3, 5, [0, 1, 2, 5], 3),  # a restart that is exactly as old as the window still counts
    (3, 5, [0, 1, 2, 6], None),
    (3, 5, [0, 1, 2, 6, 6], 4),  # 1, 2, 6, 6: the one of 0 has gone
    (3, 5, [0, 2, 4, 6, 8, 10, 12], None),  # three in any six seconds, for ever
    (1, 5, [0, 5], 1),  # Erlang's own default
    (1, 5, [0, 6, 12], None),
    (0, 5, [0], 0),  # the first failure is one too many
    (0, 1, [100], 0),
    (10, 60, [6 * n for n in range(11)], 10),
    (10, 60, [6 * n + (n == 10) for n in range(11)], None),
]


@pytest.mark.parametrize(("max_restarts", "max_seconds", "times", "too_much"), INTENSITY)
def test_the_intensity_is_otps(max_restarts: int, max_seconds: float, times: list[float], too_much: int | None) -> None:
    intensity = Intensity(max_restarts, max_seconds)
    verdicts = [intensity.record(float(time)) for time in times]
    assert verdicts == [number != too_much for number in range(len(times))]


CHILDREN = st.lists(st.integers(), min_size=1, unique=True)


@given(CHILDREN, st.data())
def test_a_strategy_takes_along_nobody_everybody_or_the_later_ones(children: list[int], data: st.DataObject) -> None:
    failed = data.draw(st.sampled_from(children))
    assert list(affected("one_for_one", children, failed)) == [failed]
    assert list(affected("one_for_all", children, failed)) == children
    rest = list(affected("rest_for_one", children, failed))
    assert rest[0] == failed
    assert children[: len(children) - len(rest)] + rest == children


class IntensityAgreesWithAModel(RuleBasedStateMachine):
    """The model keeps every restart for ever, counts the recent ones anew each time, in exact fractions."""

    @initialize(max_restarts=st.integers(0, 6), quarters=st.integers(1, 40))
    def open(self, max_restarts: int, quarters: int) -> None:
        self.max_restarts = max_restarts
        self.period = Fraction(quarters, 4)
        self.intensity = Intensity(max_restarts, float(self.period))
        self.now = Fraction(0)
        self.restarts: list[Fraction] = []
        self.borne = True

    @rule(quarters=st.integers(0, 30))
    def wait(self, quarters: int) -> None:
        self.now += Fraction(quarters, 4)

    @rule()
    def wait_for_the_edge_of_the_window(self) -> None:
        if self.restarts:
            self.now = max(self.now, self.restarts[0] + self.period)

    @rule()
    def restart(self) -> None:
        self.borne = self.intensity.record(float(self.now))
        self.restarts.append(self.now)

    @invariant()
    def only_too_many_at_once_are_too_many(self) -> None:
        if self.restarts:
            last = self.restarts[-1]
            recent = sum(last <= then + self.period for then in self.restarts)
            assert self.borne is (recent <= self.max_restarts)


TestIntensityAgreesWithAModel = IntensityAgreesWithAModel.TestCase
