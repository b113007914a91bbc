"""What goes wrong, and when: fault values, and the plan that hands each one out once its occurrence has come.

A plan counts the requests of each operation and says which fault meets this one; the server performs it. Nothing here
does I/O, and nothing is random: the same requests meet the same faults.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from .._errors import ConfigurationError

__all__ = [
    "Action",
    "Delay",
    "DropStream",
    "DueFault",
    "EndStream",
    "Fault",
    "FaultPlan",
    "FiredFault",
    "GarbageFrame",
    "LoseAnswer",
    "RefuseWith",
    "StallStream",
    "StreamAction",
]


@dataclass(frozen=True, slots=True)
class RefuseWith:
    """Answer with this error status instead of acting; ``retry_after`` in seconds becomes the header."""

    status: int
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class LoseAnswer:
    """Act on the request, then close the connection without an answer."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait so many seconds before acting."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamAction:
    """Something that befalls an open stream once it has carried ``after_events`` events."""

    after_events: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DropStream(StreamAction):
    """Tear the connection: a reset on loopback, an end in mid-body in memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndStream(StreamAction):
    """End the body cleanly, without a terminal event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StallStream(StreamAction):
    """Fall silent: no events, no pings, the connection stays open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GarbageFrame(StreamAction):
    """Send one frame that cannot be decoded, then go on."""


Action: TypeAlias = RefuseWith | LoseAnswer | Delay | StreamAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of a plan.

    Attributes:
        on: The operation it meets, such as ``"stream"``, ``"send_events"``, ``"list_events"``, ``"create_session"``.
        action: What happens.
        nth: Which request of that operation, from 1; or ``"every"``.
    """

    on: str
    action: Action
    nth: int | Literal["every"] = 1

    def __post_init__(self) -> None:
        if self.nth != "every" and self.nth < 1:
            raise ConfigurationError(f"fault nth must be 1 or more, or 'every', not {self.nth!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FiredFault:
    """A fault that took effect.

    Attributes:
        fault: The fault.
        occurrence: Which request of its operation it met, from 1.
    """

    fault: Fault
    occurrence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DueFault:
    """A fault for the request at hand.

    Attributes:
        action: What is to happen.
        fire: Says that it happens now.
    """

    action: Action
    fire: Callable[[], None]


class FaultPlan:
    """Faults, and the count of requests that decides when each is due. One plan serves one server."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = tuple(faults)
        self._seen: Counter[str] = Counter()
        self._fired: list[FiredFault] = []

    def __repr__(self) -> str:
        return f"FaultPlan({list(self._faults)!r})"

    @property
    def fired(self) -> tuple[FiredFault, ...]:
        """The faults that have taken effect, in order: a stream's when it befalls the stream, not when it opens."""
        return tuple(self._fired)

    def require_known(self, operations: Collection[str]) -> None:
        """Refuse a plan that could never fire.

        Raises:
            ConfigurationError: A fault names an operation the server does not have.
        """
        for fault in self._faults:
            if fault.on not in operations:
                known = ", ".join(sorted(operations))
                raise ConfigurationError(f"no operation {fault.on!r} to put a fault on; there are: {known}")

    def meet(self, operation: str) -> tuple[DueFault, ...]:
        """Count one request of ``operation`` and give the faults that are due for it, in plan order."""
        self._seen[operation] += 1
        occurrence = self._seen[operation]
        return tuple(
            DueFault(
                action=fault.action, fire=partial(self._fired.append, FiredFault(fault=fault, occurrence=occurrence))
            )
            for fault in self._faults
            if fault.on == operation and fault.nth in {"every", occurrence}
        )
