"""Taking back what a call has made, when the call fails or is cancelled.

What led to it stays the error that is raised. What the call only found is never taken back. A creation that is under
way is not cut off: only its answer says what is to be taken back.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self, TypeAlias, TypeVar, final

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
T = TypeVar("T")


@final
class Rollback:
    """What a call has made so far: ``async with Rollback(course) as rollback``.

    Whatever ends the block other than its end has all of it undone, at once and shielded from cancellation, for
    :data:`ROLLBACK_SECONDS` at most, a creation that was still under way included. What could not be undone is noted on
    the error and logged.
    """

    def __init__(self, course: Course) -> None:
        self._course = course
        self._made: dict[str, Undo] = {}
        self._ends = math.inf
        self._log = get_logger()

    def made(self, what: str, undo: Undo) -> None:
        """Say that something was made, and how it is undone."""
        self._made[what] = undo

    @property
    def has_made(self) -> bool:
        """Whether there is anything to undo."""
        return bool(self._made)

    async def create(self, request: Callable[[], Awaitable[T]]) -> T:
        """Wait for a creation, which is not cancelled before it is answered: else what it made would be left behind.

        If the call is cancelled meanwhile, the answer is waited for until there is one attempt's time left of
        :data:`ROLLBACK_SECONDS`; then the cancellation goes on.

        Args:
            request: Creates something, and says so with :meth:`made` itself.

        Raises:
            Exception: What the request raises, unless the call is cancelled.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        failure: Exception | None = None
        is_over = False
        shield = trio.CancelScope(shield=True)

        async def hear_of_cancellation() -> None:
            try:
                await trio.sleep_forever()
            finally:
                if not is_over:
                    self._ends = trio.current_time() + ROLLBACK_SECONDS
                    shield.deadline = self._ends - ATTEMPT_SECONDS

        async with trio.open_nursery() as nursery:
            nursery.start_soon(hear_of_cancellation)
            with shield:
                try:
                    answer = await request()
                except Exception as error:  # noqa: BLE001 -- raised below, where no nursery makes a group of it
                    failure = error
                    if self._ends < math.inf:
                        self._log.warning("provisioning_creation_failed", exc_info=error)
            is_over = True
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return answer

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None or not self._made:
            return
        left = dict.fromkeys(self._made, f"it took longer than {ROLLBACK_SECONDS:g} s")
        ends = min(self._ends, trio.current_time() + ROLLBACK_SECONDS)
        with trio.CancelScope(shield=True, deadline=ends):
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
