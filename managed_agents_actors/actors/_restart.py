"""The restart policy: who is started again after an exit, who goes down with whom, and when it is enough.

Pure: no clock, no tasks, nothing awaited. The arithmetic is OTP's.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, final, get_args

from .._errors import ConfigurationError
from ._exit import Exit

T = TypeVar("T")

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
Restart = Literal["permanent", "transient", "temporary"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]


def calls_for_restart(restart: Restart, ended: Exit) -> bool:
    """Whether a child of this restart type is started again after it ended so, by itself."""
    match restart:
        case "permanent":
            return True
        case "transient":
            return ended.is_abnormal
        case "temporary":
            return False


def affected(strategy: Strategy, children: Sequence[T], failed: T) -> Sequence[T]:
    """Give those of the children, in start order, that are started anew because one of them is."""
    match strategy:
        case "one_for_one":
            return [failed]
        case "one_for_all":
            return children
        case "rest_for_one":
            return children[children.index(failed) :]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RestartPolicy:
    """What a supervisor was told about restarts.

    Attributes:
        strategy: Who is restarted with a child that failed.
        max_restarts: How many restarts within ``max_seconds`` are borne.
        max_seconds: The length of the sliding window.
        auto_shutdown: Whether the supervisor ends when significant children have ended by themselves.
    """

    strategy: Strategy
    max_restarts: int
    max_seconds: float
    auto_shutdown: AutoShutdown

    def __post_init__(self) -> None:
        check_choice("strategy", self.strategy, Strategy)
        check_choice("auto_shutdown", self.auto_shutdown, AutoShutdown)
        if isinstance(self.max_restarts, bool) or not isinstance(self.max_restarts, int) or self.max_restarts < 0:
            raise ConfigurationError(f"max_restarts= must be an integer of 0 or more, not {self.max_restarts!r}")
        check_seconds("max_seconds", self.max_seconds)
        if self.max_seconds == 0:
            raise ConfigurationError("max_seconds= must be more than 0: a window of no length counts nothing")


@final
class Intensity:
    """Counts the restarts of all children of one supervisor, over a sliding window.

    Args:
        max_restarts: How many restarts within the window are borne.
        max_seconds: The window; a restart that is exactly that old still counts.
    """

    def __init__(self, max_restarts: int, max_seconds: float) -> None:
        self._max_restarts = max_restarts
        self._max_seconds = max_seconds
        self._restarts: deque[float] = deque()

    def record(self, now: float) -> bool:
        """Count one more restart, and say whether it is borne."""
        self._restarts.append(now)
        while now > self._restarts[0] + self._max_seconds:
            self._restarts.popleft()
        return len(self._restarts) <= self._max_restarts


def check_choice(name: str, value: object, choices: object) -> None:
    """Check that an option is one of the words its type allows."""
    allowed = get_args(choices)
    if value not in allowed:
        shown = ", ".join(repr(choice) for choice in allowed)
        raise ConfigurationError(f"{name}= must be one of {shown}, not {value!r}")


def check_seconds(name: str, value: object) -> None:
    """Check that an option is a length of time; infinity is one."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
        raise ConfigurationError(f"{name}= must be a number of seconds, 0 or more, not {value!r}")
