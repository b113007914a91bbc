"""A session's connection to its provider: opened for its first actor, there for all that follow, closed at the end.

Some connections have tasks or cancel scopes of their own, and must be left in the task that has entered them: those are
kept by a task. Others are entered and left wherever that comes to pass.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, final

import trio

from ..actors._latch import Latch
from ..providers.contract import Provider


@final
class SessionConnection:
    """What a session's requests go through.

    Attributes:
        value: What the provider module has opened; ``None`` while nothing is open.
    """

    __slots__ = ("_closed", "_has_left", "_left_here", "_options", "_provider", "value")

    def __init__(self, provider: Provider, options: Any) -> None:
        self._provider = provider
        self._options = options
        self._has_left = Latch()
        self._left_here: AbstractAsyncContextManager[Any] | None = None
        self._closed: Latch | None = None
        self.value: Any = None

    async def open(self, host: trio.Nursery) -> Any:
        """Give it, opened if it is not open.

        Args:
            host: Has the task that keeps it, if it needs one.

        Raises:
            ManagedAgentsError: It cannot be opened.
        """
        if self.value is None:
            if self._provider.CAPABILITIES.connections_have_tasks:
                self.value = await host.start(self._keep)
            else:
                opened = self._provider.open_connection(self._options)
                self.value = await opened.__aenter__()
                self._left_here = opened
        return self.value

    async def close(self) -> None:
        """Close it, as long as that takes; the session has been left."""
        self._has_left.set()
        if self._left_here is not None:
            await self._left_here.__aexit__(None, None, None)
        if self._closed is not None:
            with trio.CancelScope(shield=True):
                await self._closed.wait()
        self.value = None

    async def _keep(self, *, task_status: trio.TaskStatus[Any]) -> None:
        closed = self._closed = Latch()
        try:
            with trio.CancelScope() as scope:
                async with self._provider.open_connection(self._options) as connection:
                    task_status.started(connection)
                    del task_status  # it holds on to the nursery in which the connection was opened
                    await trio.lowlevel.checkpoint()  # whoever asked may have been cancelled, and waits for its end
                    # A session that is cancelled is left through its connection, which is bounded. The shield is
                    # around that, so that whatever fails within still ends it.
                    scope.shield = True
                    try:
                        await self._has_left.wait()
                    finally:
                        scope.shield = False
                        self.value = None
        finally:
            closed.set()
