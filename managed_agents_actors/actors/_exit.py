"""How a child ended, as a value: by returning, on purpose with a reason, or by a failure that it did not explain.

An exit is decided outside the cancel scope it belongs to. Cancellation from outside and exit signals are no exits of a
child's own: they pass through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, final


@final
class Shutdown(Exception):
    """Raised by a child to end on purpose; give it a reason, a cause (``raise Shutdown from error``), or both.

    It is not abnormal: a transient child is not started again, a permanent one is.
    """

    def __init__(self, reason: Any = None) -> None:
        super().__init__(*([] if reason is None else [reason]))
        self.reason = reason


@final
@dataclass(frozen=True, slots=True)
class Exit:
    """The end of one run of a child.

    Attributes:
        kind: ``"normal"``: it returned. ``"shutdown"``: it raised :class:`Shutdown`, or was cancelled. ``"crashed"``:
            it raised anything else.
        reason: Of a shutdown: what it was raised with, or ``"cancelled"``.
        error: Of a crash: what was raised. Of a shutdown: its cause, if it has one.
    """

    kind: Literal["normal", "shutdown", "crashed"]
    reason: Any = None
    error: BaseException | None = None

    @property
    def is_abnormal(self) -> bool:
        """Whether it calls for a restart of a transient child."""
        return self.kind == "crashed"


NORMAL = Exit("normal")
CANCELLED = Exit("shutdown", "cancelled")


def exit_of(failure: Exception) -> Exit:
    """Give the exit of a child that raised this."""
    if isinstance(failure, Shutdown):
        return Exit("shutdown", failure.reason, failure.__cause__)
    return Exit("crashed", error=failure)
