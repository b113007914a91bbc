"""A policy that could not be followed is refused when it is made."""

from __future__ import annotations

import math
from typing import Any

import pytest

from managed_agents_actors._errors import ConfigurationError
from managed_agents_actors._model import ReconnectPolicy


@pytest.mark.parametrize("name", ["initial", "max", "multiplier", "jitter", "healthy_after"])
@pytest.mark.parametrize("value", ["1", None, True, math.nan, math.inf, -1, 10**400])
def test_a_time_must_be_a_finite_number(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="reconnect"):
        ReconnectPolicy(**{name: value})


@pytest.mark.parametrize("value", ["3", 1.5, True, 0, -1, math.nan])
def test_attempts_are_counted_in_whole_numbers(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_attempts"):
        ReconnectPolicy(max_attempts=value)


def test_the_steepest_growth_still_has_delays() -> None:
    policy = ReconnectPolicy(multiplier=1000, max=1e300)
    assert policy.delay(10_000, draw=0.0) <= 1e300
    with pytest.raises(ConfigurationError, match="multiplier"):
        ReconnectPolicy(multiplier=1001)
