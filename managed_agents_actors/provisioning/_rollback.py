"""Taking back what a call has made, when the call fails or is cancelled.

What led to it stays the error that is raised. What the call only found is never taken back.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self, TypeAlias, final

import trio

from .._errors import ConflictError, NotFoundError, RateLimitError, ServerError, TransportError
from ..telemetry import get_logger
from ._progress import Course

__all__ = ["Rollback"]

ROLLBACK_SECONDS: Final = 30.0  # for all of it; whoever cancels waits for so long at most
ATTEMPT_SECONDS: Final = 10.0  # so that a server that does not answer is asked three times
PAUSE_SECONDS: Final = 1.0  # between two attempts

# What a later attempt may overcome. A conflict is one that is still being made.
PASSING: Final = (ConflictError, RateLimitError, ServerError, TransportError)

Undo: TypeAlias = Callable[[], Awaitable[object]]


@final
class Rollback:
    """What a call has made so far: ``async with Rollback(course) as rollback``.

    Whatever ends the block other than its end has all of it undone, at once and shielded from cancellation, for
    :data:`ROLLBACK_SECONDS` at most. What could not be undone is noted on the error and logged.
    """

    def __init__(self, course: Course) -> None:
        self._course = course
        self._made: dict[str, Undo] = {}
        self._log = get_logger()

    def made(self, what: str, undo: Undo) -> None:
        """Say that something was made, and how it is undone."""
        self._made[what] = undo

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None or not self._made:
            return
        left = dict.fromkeys(self._made, f"it took longer than {ROLLBACK_SECONDS:g} s")
        with trio.move_on_after(ROLLBACK_SECONDS, shield=True):
            async with trio.open_nursery() as nursery:
                for what in self._made:
                    nursery.start_soon(self._undo, what, left)
        for what, problem in left.items():
            self._course.note(f"may be left behind: {what} ({problem})", exc)

    async def _undo(self, what: str, left: dict[str, str]) -> None:
        """Undo one thing, as often as it takes; ``left`` says why it is still there."""
        while True:
            with trio.move_on_after(ATTEMPT_SECONDS):
                try:
                    await self._made[what]()
                except NotFoundError:
                    pass
                except PASSING as error:
                    left[what] = f"{type(error).__name__}: {error}"
                    await trio.sleep(PAUSE_SECONDS)
                    continue
                except Exception as error:  # noqa: BLE001 -- whatever it is, it must not take the place of the first
                    left[what] = f"{type(error).__name__}: {error}"
                    return
                del left[what]
                self._log.warning("provisioning_rolled_back", what=what)
                return
