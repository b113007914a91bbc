"""Runs that come out the same each time: virtual time, and a scheduler whose draws follow a seed.

The one file that touches trio's private names: trio has no public way to make its scheduler repeatable, and Hypothesis
and pytest-trio use the same two names for it.
"""

from __future__ import annotations

import importlib
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

import trio
from trio.testing import MockClock

from .._errors import ConfigurationError

__all__ = ["deterministic_schedule", "run_in_virtual_time", "within_patience"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

# A day: whoever waits longer hangs.
PATIENCE = 86_400.0


@contextmanager
def deterministic_schedule(seed: int) -> Iterator[None]:
    """Make the order in which trio runs tasks follow from ``seed``, in every ``trio.run`` inside the block.

    The ``random`` module, which sessions draw their jitter from, is seeded too, and both are put back afterwards. What
    stays as it was: threads and sockets, whose timing is the world's; tasks that wake at the very same deadline; the
    order of sets; generators of random numbers that seed themselves.

    Raises:
        ConfigurationError: This version of trio cannot be made repeatable.
    """
    names = _scheduler_names()
    draws: random.Random = names["_r"]
    before, order, other_draws = names["_ALLOW_DETERMINISTIC_SCHEDULING"], draws.getstate(), random.getstate()
    names["_ALLOW_DETERMINISTIC_SCHEDULING"] = True
    draws.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        names["_ALLOW_DETERMINISTIC_SCHEDULING"] = before
        draws.setstate(order)
        random.setstate(other_draws)


def run_in_virtual_time(
    run: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts, seed: int = 0, patience: float = PATIENCE
) -> T:
    """Run ``await run(*args)`` in a trio of its own, on a clock that skips every wait. Call it outside of trio.

    Args:
        run: An async function.
        args: Its arguments.
        seed: Decides in which order tasks run; see :func:`deterministic_schedule`.
        patience: Virtual seconds after which it counts as hanging.

    Raises:
        trio.TooSlowError: It hangs.
    """
    with deterministic_schedule(seed):
        return trio.run(partial(within_patience, run, *args, patience=patience), clock=MockClock(autojump_threshold=0))


async def within_patience(run: Callable[[Unpack[Ts]], Awaitable[T]], *args: *Ts, patience: float = PATIENCE) -> T:
    """Wait for ``run(*args)``, so many virtual seconds at most.

    Raises:
        trio.TooSlowError: It hangs.
    """
    with trio.move_on_after(patience):
        return await run(*args)
    raise trio.TooSlowError(f"it went on after {patience:g} virtual seconds: something waits for what never comes")


def _scheduler_names() -> dict[str, Any]:
    """The names of trio's scheduler: whether it may be repeatable, and where its draws come from."""
    names = vars(importlib.import_module("trio._core._run"))
    if type(names.get("_ALLOW_DETERMINISTIC_SCHEDULING")) is not bool or type(names.get("_r")) is not random.Random:
        raise ConfigurationError(
            f"trio {trio.__version__} cannot be made repeatable: its scheduler lacks the private names that trio 0.27 "
            "to 0.35 have for it; run without deterministic_schedule, or with another trio"
        )
    return names
