"""What every endpoint of a simulated API shares, whosever API it is: replies, routes, clock and ids.

Values, and counters that tell the same story every time. Refusals are each API's own, as is what a call carries. The
clock is trio's, shown as wall time from a fixed epoch.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeAlias, TypeVar

import trio

__all__ = ["ApiRoute", "Clock", "Ids", "Reply"]

Json: TypeAlias = dict[str, Any]
CallT = TypeVar("CallT")

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Reply:
    """A successful answer: JSON, or bytes with their content type; what headers it has of its own."""

    body: Json | bytes
    content_type: str = "application/json"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRoute(Generic[CallT]):
    """An endpoint.

    Attributes:
        method: HTTP method.
        path: With ``{}`` for each id.
        operation: Its name in fault plans.
        handler: Decides the answer. ``None`` for event streams, which the simulator serves itself.
    """

    method: str
    path: str
    operation: str
    handler: Callable[[CallT], Reply] | None
    pattern: re.Pattern[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        pattern = re.escape(self.path).replace(r"\{\}", "([^/]+)")
        object.__setattr__(self, "pattern", re.compile(pattern))


class Clock:
    """Wall time derived from trio's clock; every reading is later than the one before."""

    def __init__(self) -> None:
        self._opened = trio.current_time()
        self._last = 0

    def now(self) -> str:
        """The time as an RFC 3339 string in UTC, strictly increasing."""
        self._last = max(round((trio.current_time() - self._opened) * 1e6), self._last + 1)
        return self.show(EPOCH + timedelta(microseconds=self._last))

    @staticmethod
    def show(moment: datetime) -> str:
        """A moment in the one form all timestamps have here, so that they compare as strings."""
        return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Ids:
    """Deterministic ids with the documented prefixes."""

    def __init__(self) -> None:
        self._counters: Counter[str] = Counter()

    def new(self, prefix: str) -> str:
        """The next id of this kind."""
        self._counters[prefix] += 1
        return f"{prefix}_{self._counters[prefix]:08d}"
