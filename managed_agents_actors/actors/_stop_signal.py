"""The soft half of a stop: a child is told, and given time, before it is cancelled.

The signal is found through the context of the child's task, so that everything the child calls or starts finds it
without being handed it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import final

from ._latch import Latch


@final
class StopSignal:
    """Tells a child that its supervisor wants it to end. Get one from :func:`stop_signal`.

    Attributes:
        restarting: Whether the child is stopped only to be started again, as the sibling of one that failed.
        is_heeded: Whether the child has asked for its signal; one that has not is not waited for.
    """

    __slots__ = ("_calls", "_requested", "is_heeded", "restarting")

    def __init__(self) -> None:
        self._requested = Latch()
        self._calls: list[Callable[[StopSignal], None]] = []
        self.restarting = False
        self.is_heeded = False

    def __repr__(self) -> str:
        return f"<StopSignal{' set' if self.is_set() else ''}>"

    def is_set(self) -> bool:
        """Whether the child is to end."""
        return self._requested.is_set()

    async def wait(self) -> None:
        """Wait until the child is to end."""
        await self._requested.wait()

    def call_when_set(self, function: Callable[[StopSignal], None]) -> None:
        """Call a function, once, when the child is to end; at once if it is. For who would spend a task on waiting."""
        if self.is_set():
            function(self)
        else:
            self._calls.append(function)

    def request(self, *, restarting: bool) -> None:
        """Tell the child; for its supervisor."""
        self.restarting = restarting
        self._requested.set()
        calls, self._calls = self._calls, []
        for call in calls:
            call(self)


# The signal of the child whose task, or subtask, the present task is.
current_signal: ContextVar[StopSignal | None] = ContextVar("managed_agents_actors.stop_signal", default=None)


def stop_signal() -> StopSignal:
    """Give the present child's signal. A child that asks for it is given its ``shutdown`` seconds when it is stopped.

    Outside of a supervisor the signal is never set.
    """
    signal = current_signal.get() or StopSignal()
    signal.is_heeded = True
    return signal
