"""When a failed attempt is repeated, and after how long. The one user of tenacity.

A call that is not idempotent is repeated only when it was certainly not taken: no connection, 429, or 529.
Attempts are counted; time is bounded by the trio deadline around the call: tenacity's clock is not trio's.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar, cast

import tenacity
import trio

from .._errors import APIError, TransportError
from .._model import ReconnectPolicy
from .errors import Failure

__all__ = ["RetryPolicy", "may_repeat", "repeat"]

T = TypeVar("T")

# As the official SDK. Its cap also bounds a server's retry-after: half of a default call's 60 s.
BACKOFF: Final = ReconnectPolicy(initial=0.5, max=30.0, jitter=0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often, and after how long, a call is repeated.

    Attributes:
        max_retries: Attempts after the first; 2 as in the official SDK.
        backoff: The delays: 0.5 s, 1 s, 2 s and on, less up to a quarter; ``retry-after`` counts up to 30 s.
        draw: Gives a uniform random number in [0, 1).
    """

    max_retries: int = 2
    backoff: ReconnectPolicy = BACKOFF
    draw: Callable[[], float] = random.random


def may_repeat(failure: Failure, *, idempotent: bool) -> bool:
    """Tell whether repeating a call cannot double an effect and has a chance to succeed."""
    error, hint = failure.error, failure.should_retry
    if hint is False:
        return False
    if isinstance(error, TransportError):
        return idempotent or not error.request_sent
    if error.status in (429, 529):
        return True
    return idempotent and (hint is True or error.status == 408 or error.status >= 500)


async def repeat(attempt: Callable[[], Awaitable[T | Failure]], *, policy: RetryPolicy, idempotent: bool) -> T:
    """Make attempts until one succeeds, or another one would be wrong, useless or too late: then raise its error.

    A wait that would outlast the deadline around the call is not begun; the known error is raised at once.
    """
    outcome = await attempt()
    if isinstance(outcome, Failure) and may_repeat(outcome, idempotent=idempotent):
        outcome = await _repeat(outcome, attempt, policy, idempotent=idempotent)
    if isinstance(outcome, Failure):
        raise outcome.error
    return outcome


async def _repeat(
    first: Failure, attempt: Callable[[], Awaitable[T | Failure]], policy: RetryPolicy, *, idempotent: bool
) -> T | Failure:
    """Go on after an attempt that failed. Most calls never come here, and tenacity costs as much as half of one."""
    known: list[Failure] = [first]

    async def each() -> T | Failure:
        return known.pop() if known else await attempt()

    def worth_repeating(outcome: object) -> bool:
        return isinstance(outcome, Failure) and may_repeat(outcome, idempotent=idempotent)

    def delay(state: tenacity.RetryCallState) -> float:
        error = cast("Failure", _outcome(state)).error
        retry_after = error.retry_after if isinstance(error, APIError) else None
        return policy.backoff.delay(state.attempt_number, draw=policy.draw(), retry_after=retry_after)

    retrying = tenacity.AsyncRetrying(
        retry=tenacity.retry_if_result(worth_repeating),
        wait=delay,
        stop=lambda state: state.attempt_number > policy.max_retries or _too_late(state),
        retry_error_callback=_outcome,
        sleep=trio.sleep,
    )
    outcome: T | Failure = await retrying(each)
    return outcome


def _too_late(state: tenacity.RetryCallState) -> bool:
    return trio.current_time() + state.upcoming_sleep >= trio.current_effective_deadline()


def _outcome(state: tenacity.RetryCallState) -> object:
    assert state.outcome is not None, "tenacity asks only after an attempt"  # noqa: S101 - states a fact for the reader and for mypy
    return state.outcome.result()
