"""Supervisors: a block, or a task, whose children are started in order, restarted by policy and stopped in order.

What it guarantees, and where it differs from OTP on purpose, is told in ``docs/explanation/supervision.md``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import final

import trio

from .._errors import ConfigurationError
from ._child import Child, ChildCounts, ChildInfo
from ._crew import Crew
from ._nursery import open_plain_nursery
from ._report import EventHook, Reporter
from ._restart import AutoShutdown, RestartPolicy, Strategy
from ._spec import ChildSpec
from ._stop_signal import stop_signal


@final
class Supervisor:
    """Keeps its children alive. Get one from :func:`open_supervisor`; it has no public constructor.

    Every method may be called by any task, the children's own included.

    Attributes:
        name: What it is called in logs, events and errors.
    """

    def __init__(self, crew: Crew, name: str) -> None:
        self._crew = crew
        self.name = name

    def __repr__(self) -> str:
        state = " closing" if self._crew.closing else ""
        return f"<Supervisor {self.name!r} {len(self._crew.members)} children{state}>"

    async def start_child(self, spec: ChildSpec) -> Child:
        """Start a child, last in start order, and wait until it serves. Several may be started at the same time.

        If it fails to start, its own error is raised, nothing is counted and nothing of it is left. Cancelled, the
        start is undone.

        Raises:
            ConfigurationError: There is a child of this id, or it is significant where nobody cares.
            ActorGone: The supervisor is closing, or the child was stopped before it had started.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        member = self._crew.add(spec)
        try:
            await self._crew.wait_opened(member)
        except BaseException:
            self._crew.forget(member)
            raise
        return member.handle

    async def restart_child(self, id: str) -> Child:
        """Start a stopped child again, at its old place in start order, and wait until it serves.

        If it fails to start, its own error is raised, nothing is counted, and it stays stopped.

        Raises:
            ConfigurationError: There is no such child, or it is not stopped.
            ActorGone: The supervisor is closing, or the child was stopped before it had started.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        member = self._crew.find(id)
        self._crew.reopen(member)
        await self._crew.wait_opened(member)
        return member.handle

    async def terminate_child(self, id: str) -> None:
        """Stop a child and wait until it has ended. Its spec is kept, unless it is temporary.

        Cancelled, it only stops waiting: the child is stopped all the same. A child that terminates itself is
        stopped like any other, and is not made to wait for its own end.

        Raises:
            ConfigurationError: There is no such child.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        await self._crew.terminate(self._crew.find(id))

    def delete_child(self, id: str) -> None:
        """Forget a stopped child.

        Raises:
            ConfigurationError: There is no such child, or it is not stopped.
        """
        self._crew.delete(self._crew.find(id))

    def child(self, id: str) -> Child:
        """Give the handle of a child.

        Raises:
            ConfigurationError: There is no such child.
        """
        return self._crew.find(id).handle

    def which_children(self) -> tuple[ChildInfo, ...]:
        """Give a snapshot of every child, in start order."""
        return tuple(member.info() for member in self._crew.members.values())

    def count_children(self) -> ChildCounts:
        """Count the children by state."""
        states = Counter(member.state for member in self._crew.members.values())
        return ChildCounts(
            specs=states.total(),
            active=states["running"],
            starting=states["starting"],
            restarting=states["restarting"],
            stopped=states["stopped"],
        )


@asynccontextmanager
async def open_supervisor(
    children: Iterable[ChildSpec] = (),
    *,
    strategy: Strategy = "one_for_one",
    max_restarts: int = 3,
    max_seconds: float = 5.0,
    auto_shutdown: AutoShutdown = "never",
    name: str | None = None,
    on_event: EventHook | None = None,
) -> AsyncIterator[Supervisor]:
    """Supervise children for as long as the block lasts.

    The children given are started one after the other, each once the one before it serves. When the block is left,
    however it is, all children are stopped in reverse start order, one by one.

    Args:
        children: What to start with.
        strategy: Whom a restart takes along: nobody, all, or those that were started after the failed child.
        max_restarts: How many restarts within ``max_seconds`` are borne, over all children.
        max_seconds: The length of that sliding window.
        auto_shutdown: Whether the block is cancelled, and ends quietly, when one or all of the significant children
            have ended by themselves.
        name: What it is called in logs, events and errors.
        on_event: Called for each start, exit and restart with a name, measurements and metadata.

    Raises:
        RestartIntensityExceeded: Its children failed too often; the block was cancelled.
        ConfigurationError: An option cannot be used.
    """
    policy = RestartPolicy(
        strategy=strategy, max_restarts=max_restarts, max_seconds=max_seconds, auto_shutdown=auto_shutdown
    )
    if name is not None and not (isinstance(name, str) and name):
        raise ConfigurationError(f"name= must be a non-empty string, not {name!r}")
    if on_event is not None and not callable(on_event):
        raise ConfigurationError(f"on_event= must be a function (name, measurements, metadata), not {on_event!r}")
    if not isinstance(children, Iterable):
        raise ConfigurationError(f"children= must be a list of ChildSpec, not {children!r}")
    name = name or "supervisor"
    async with open_plain_nursery() as nursery:
        crew = Crew(nursery, policy, name, Reporter(name, on_event))
        supervisor = Supervisor(crew, name)
        try:
            for spec in children:
                await supervisor.start_child(spec)
            crew.mark_open()
            yield supervisor
        finally:
            await crew.close()


async def run_supervisor(
    children: Iterable[ChildSpec] = (),
    *,
    strategy: Strategy = "one_for_one",
    max_restarts: int = 3,
    max_seconds: float = 5.0,
    auto_shutdown: AutoShutdown = "never",
    name: str | None = None,
    on_event: EventHook | None = None,
    task_status: trio.TaskStatus[Supervisor] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Supervise children in a task of its own, as :func:`open_supervisor` does, until cancelled or asked to stop.

    For ``await nursery.start(run_supervisor, ...)``, and for the ``start`` of a :class:`ChildSpec`: then it ends,
    children first, when the supervisor above it stops it; give such a child ``shutdown=math.inf``.

    Raises:
        RestartIntensityExceeded: Its children failed too often. For a supervisor above it that is a crash.
        ConfigurationError: An option cannot be used.
    """
    async with open_supervisor(
        children,
        strategy=strategy,
        max_restarts=max_restarts,
        max_seconds=max_seconds,
        auto_shutdown=auto_shutdown,
        name=name,
        on_event=on_event,
    ) as supervisor:
        task_status.started(supervisor)
        await stop_signal().wait()
