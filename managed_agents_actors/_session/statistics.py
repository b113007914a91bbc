"""What is counted about sessions: one tally for all of a supervisor, and the snapshot that is shown of it.

Counting is constant work, and what is kept does not grow with what is counted; sessions that have ended stay counted.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, final

from .._model import SessionStatus, Usage

__all__ = ["TOKENS", "Latency", "SupervisorStatistics", "Tally", "added", "statistics_of", "tokens"]

# What of a usage can be counted.
TOKENS: Final = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")

# The bounds of the classes that durations are counted in: from a millisecond to above a day, each a quarter more than
# the one before, so that a percentile is right to a quarter.
_GROWTH: Final = 1.25
_LEAST: Final = 0.001
_BOUNDS: Final = tuple(_LEAST * _GROWTH**n for n in range(83))


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """How long something took, over all times that it was done. All times in seconds.

    Attributes:
        count: How often.
        mean: The mean; 0 if it was never done.
        max: The longest.
        p50: What half of them did not exceed, to a quarter: no less than that, and at most a quarter more.
        p95: The same of 95 in 100.
        p99: The same of 99 in 100.
    """

    count: int = 0
    mean: float = 0.0
    max: float = 0.0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorStatistics:
    """A snapshot of a supervisor's sessions: those that live now, and what all it ever had have done.

    Attributes:
        sessions: Sessions that live.
        phases: How many of them are in each phase; see :class:`SessionStatus`.
        busy: How many have a request in progress.
        queued_messages: Messages that wait for their turn, over all of them.
        mailbox_depth: Mail not yet handled, over all of them.
        deepest_mailbox: The most of it in one session.
        tools_running: Tools that run now.
        reconnects: Streams that were lost and opened again, ever.
        restarts: Times that a session's actor was restarted, ever.
        requests: Requests that have begun, ever.
        turns: Turns that have ended, ever, as results count them.
        tool_latency: How long tools ran.
        turn_latency: How long turns took, the tools that they called included.
        usage: Tokens of those turns, and of those in which requests have ended, ever; ``raw`` is empty.
    """

    sessions: int
    phases: Mapping[str, int]
    busy: int
    queued_messages: int
    mailbox_depth: int
    deepest_mailbox: int
    tools_running: int
    reconnects: int
    restarts: int
    requests: int
    turns: int
    tool_latency: Latency
    turn_latency: Latency
    usage: Usage


@final
class _Durations:
    """Durations, counted in classes."""

    __slots__ = ("_classes", "_count", "_max", "_total")

    def __init__(self) -> None:
        self._classes: Counter[int] = Counter()  # there are as many as occur, which are few
        self._count = 0
        self._total = self._max = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._classes[bisect.bisect_left(_BOUNDS, seconds)] += 1
        self._count += 1
        self._total += seconds
        self._max = max(self._max, seconds)

    def latency(self) -> Latency:
        """Give what is known of them."""
        if not self._count:
            return Latency()
        return Latency(
            count=self._count,
            mean=self._total / self._count,
            max=self._max,
            p50=self._percentile(0.50),
            p95=self._percentile(0.95),
            p99=self._percentile(0.99),
        )

    def _percentile(self, share: float) -> float:
        passed = 0
        for place, count in sorted(self._classes.items()):
            passed += count
            if passed >= share * self._count and place < len(_BOUNDS):
                return min(_BOUNDS[place], self._max)
        return self._max


@final
class Tally:
    """What is counted as it happens.

    Attributes:
        reconnects: Streams that were lost.
        restarts: Actors that took another one's place.
        requests: Requests that have begun.
        turns: Turns that have ended.
        tool_latency: How long tools ran.
        turn_latency: How long turns took.
        usage: What has been spent.
    """

    def __init__(self) -> None:
        self.reconnects = self.restarts = self.requests = self.turns = 0
        self.tool_latency = _Durations()
        self.turn_latency = _Durations()
        self.usage = Usage()


def tokens(usage: Usage) -> dict[str, int]:
    """Give the counts of a usage."""
    return {name: getattr(usage, name) for name in TOKENS}


def added(one: Usage, other: Usage, *, sign: int = 1) -> Usage:
    """Add what was spent; or, with a negative sign, give by how much one is more than the other, 0 if it is less."""
    return Usage(**{name: max(0, getattr(one, name) + sign * getattr(other, name)) for name in TOKENS})


def statistics_of(tally: Tally, statuses: Iterable[SessionStatus]) -> SupervisorStatistics:
    """Put together what was counted and what is there to see."""
    live = [status for status in statuses if status.phase != "closed"]
    return SupervisorStatistics(
        sessions=len(live),
        phases=MappingProxyType(Counter(status.phase for status in live)),
        busy=sum(status.busy for status in live),
        queued_messages=sum(status.queued_messages for status in live),
        mailbox_depth=sum(status.mailbox_depth for status in live),
        deepest_mailbox=max((status.mailbox_depth for status in live), default=0),
        tools_running=sum(len(status.tools_running) for status in live),
        reconnects=tally.reconnects,
        restarts=tally.restarts,
        requests=tally.requests,
        turns=tally.turns,
        tool_latency=tally.tool_latency.latency(),
        turn_latency=tally.turn_latency.latency(),
        usage=tally.usage,
    )
