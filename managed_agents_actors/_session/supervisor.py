"""The sessions' supervisor: sessions as children of the generic one, each with a home that outlives its actors.

Restarts, order and intensity are the generic supervisor's affair; here a session's actor is made a child of it, and
what outlives the actor is kept until no other one is to come.
"""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal, final

import trio

from .. import actors
from .._errors import ActorGone, ConfigurationError, SessionGone
from .._protocol.session_machine import is_permanent
from ..actors import Child, ChildCounts, ChildInfo, ChildSpec, Shutdown, open_plain_nursery, plain_failures, stop_signal
from ..actors._report import EventHook
from ..providers.contract import Provider
from .actor import SessionActor
from .handle import Session, check_name
from .handlers import Handler, ToolCallFunction
from .home import Home
from .options import live_options
from .statistics import SupervisorStatistics, Tally, statistics_of


@dataclass(slots=True, eq=False)
class _Entry:
    """A session among the children.

    Attributes:
        supervisor: Whose.
        home: What outlives its actors.
        session: The handle.
        child: The child, once it has started.
        kept: Whether its spec stays when it ends, since it was terminated to be restarted or deleted.
    """

    supervisor: Supervisor
    home: Home
    session: Session
    child: Child | None = None
    kept: bool = False

    async def run_actor(self, *, task_status: trio.TaskStatus[Home]) -> None:
        """Run the session's actor as a child: what it could explain is a shutdown, anything else a crash."""
        await SessionActor(self.home, stop_signal()).run(task_status=task_status)
        failure = self.home.failure
        if isinstance(failure, SessionGone) or is_permanent(failure):
            raise Shutdown(f"{type(failure).__name__}: {failure}") from failure
        if failure is not None:
            raise failure

    def retire(self) -> None:
        """End the session for good."""
        self.supervisor._retire(self)  # noqa: SLF001 -- its other half

    def see_off(self) -> None:
        """No actor of it is to come any more."""
        self.supervisor._see_off_soon(self)  # noqa: SLF001 -- as above


@final
class Supervisor:
    """Keeps sessions, and any other children, alive. Get one from :func:`open_supervisor`.

    A session is a child whose id is its name. Children that are no sessions are the generic supervisor's.
    """

    def __init__(self, children: actors.Supervisor, keepers: trio.Nursery) -> None:
        self._children = children
        self._keepers = keepers
        self._context = contextvars.copy_context()
        self._sessions: dict[str, _Entry] = {}
        self._is_closed = False
        self._tally = Tally()
        self._numbers = itertools.count(1)

    def __repr__(self) -> str:
        return f"<Supervisor {self._children.name!r} {len(self._sessions)} sessions>"

    async def start_session(
        self,
        provider: Provider,
        *,
        handler: Handler | ToolCallFunction,
        name: str | None = None,
        restart: Literal["permanent", "transient", "temporary"] = "transient",
        shutdown: float = 5.0,
        significant: bool = False,
        **options: Any,
    ) -> Session:
        """Start a session under supervision, and wait until it exists at the provider.

        If its actor crashes, another one goes on with the same session at the provider: it attaches again, reads what
        was missed, and ends the request in progress as if nothing had happened. The handle, its callers, its
        subscribers and the journal stay. A failure that another actor would only meet again (the session is gone, the
        credential or a request is refused) ends a ``"transient"`` session; it is no crash.

        A session that ends by itself, or by ``stop()``, is forgotten, and its name is free again.

        Args:
            provider: A provider module.
            handler: Runs the calls.
            name: The session's name and its id among the children; one is made up if none is given.
            restart: ``"permanent"``: restarted however it ends; ``"transient"``: when it crashed; ``"temporary"``:
                never.
            shutdown: Seconds between being asked to stop and being cancelled.
            significant: Whether it counts for the supervisor's ``auto_shutdown``.
            **options: Those of :func:`open_session`, the provider's own among them.

        Raises:
            TypeError: An option is unknown or missing; nothing was sent.
            ConfigurationError: An option cannot be used, or the name is taken; nothing was sent.
            APIError: The provider refused the session or its first message.
            ActorGone: The supervisor is closing.
        """
        check_name(name)
        name = name or self._new_name()
        if name in self._sessions:
            raise ConfigurationError(f"there is a session {name!r} already; its handle is supervisor.session({name!r})")
        home = Home(live_options(provider, handler=handler, **options), name, tally=self._tally)
        entry = _Entry(self, home, Session(home, name))
        spec = ChildSpec(
            id=name,
            start=entry.run_actor,
            restart=restart,
            shutdown=shutdown,
            significant=significant,
            metadata=home.narrator.scope.tags,
        )
        home.retire = entry.retire
        await self._open(entry, self._children.start_child, spec)
        return entry.session

    def session(self, name: str) -> Session:
        """Give the handle of a session.

        Raises:
            KeyError: There is no session of this name.
        """
        return self._sessions[name].session

    # --- the generic supervisor's, with an eye to sessions ----------------------------------------------------------

    async def start_child(self, spec: ChildSpec) -> Child:
        """Start a child that is no session; see :meth:`managed_agents_actors.actors.Supervisor.start_child`."""
        return await self._children.start_child(spec)

    async def terminate_child(self, id: str) -> None:
        """Stop a child, or a session by its name, and wait until it has ended. Its spec is kept.

        Raises:
            ConfigurationError: There is no such child.
        """
        entry = self._sessions.get(id)
        if entry is None:
            await self._children.terminate_child(id)
            return
        entry.kept = True
        await self._children.terminate_child(id)
        if not entry.home.is_watched_by_this_task:
            await entry.home.exited.wait()

    async def restart_child(self, id: str) -> Child:
        """Start a stopped child again: a session goes on where it was left, with the same handle.

        Raises:
            ConfigurationError: There is no such child, or it is not stopped.
        """
        entry = self._sessions.get(id)
        if entry is None:
            return await self._children.restart_child(id)
        if not entry.home.exited.is_set():
            raise ConfigurationError(f"session {id!r} has not ended; only a stopped one can be restarted")
        self._check_open(id)
        entry.home.reopen()
        return await self._open(entry, self._children.restart_child, id)

    def delete_child(self, id: str) -> None:
        """Forget a stopped child; its id is free again.

        Raises:
            ConfigurationError: There is no such child, or it is not stopped.
        """
        self._children.delete_child(id)
        self._sessions.pop(id, None)

    def child(self, id: str) -> Child:
        """Give the handle of a child, or of a session as a child.

        Raises:
            ConfigurationError: There is no such child.
        """
        return self._children.child(id)

    def which_children(self) -> tuple[ChildInfo, ...]:
        """Give a snapshot of every child, sessions included, in start order."""
        return self._children.which_children()

    def count_children(self) -> ChildCounts:
        """Count the children by state, sessions included."""
        return self._children.count_children()

    def statistics(self) -> SupervisorStatistics:
        """Count the sessions that live, and what all that there ever were have done."""
        return statistics_of(self._tally, [entry.session.status() for entry in self._sessions.values()])

    def close(self) -> None:
        """Start no more sessions; whoever opened the supervisor calls this."""
        self._is_closed = True

    # --- keeping homes ----------------------------------------------------------------------------------------------

    def _check_open(self, name: str) -> None:
        if self._is_closed:
            raise ActorGone(f"the supervisor has closed; it does not start session {name!r}")

    def _new_name(self) -> str:
        return next(name for number in self._numbers if self._is_free(name := f"session-{number}"))

    def _is_free(self, name: str) -> bool:
        try:
            self._children.child(name)
        except ConfigurationError:
            return name not in self._sessions
        return False

    async def _open(self, entry: _Entry, start: Callable[..., Awaitable[Child]], *args: Any) -> Child:
        name = str(entry.session.name)
        self._check_open(name)
        self._sessions[name] = entry
        # Observers run in the supervisor's context, as actors do, and not in that of whoever starts a session.
        self._context.run(entry.home.attend, self._keepers)
        try:
            entry.child = await start(*args)
        except BaseException:
            if not entry.kept:
                del self._sessions[name]
            entry.see_off()
            raise
        entry.kept = False
        entry.child._when_finished(entry.see_off)  # noqa: SLF001 -- else each session would have a task that waits
        return entry.child

    def _see_off_soon(self, entry: _Entry) -> None:
        self._context.run(self._keepers.start_soon, self._see_off, entry)

    async def _see_off(self, entry: _Entry) -> None:
        """End a session of which no actor is to come any more: its child has finished, whatever was cancelled."""
        with plain_failures():
            await entry.home.see_off()
        name = str(entry.session.name)
        if self._sessions.get(name) is entry and not (entry.kept and self._has(entry)):
            del self._sessions[name]
            if self._has(entry):
                self._children.delete_child(name)

    def _has(self, entry: _Entry) -> bool:
        """Whether the session is among the children still: a temporary one is forgotten when it ends."""
        try:
            return self._children.child(str(entry.session.name)) is entry.child
        except ConfigurationError:
            return False

    def _retire(self, entry: _Entry) -> None:
        if not self._is_closed and self._has(entry):
            self._keepers.start_soon(self._end, entry)

    async def _end(self, entry: _Entry) -> None:
        with suppress(ConfigurationError):  # it has ended meanwhile, and is forgotten
            if self._has(entry):
                await self._children.terminate_child(str(entry.session.name))


@asynccontextmanager
async def open_supervisor(
    children: Iterable[ChildSpec] = (),
    *,
    strategy: Literal["one_for_one", "one_for_all", "rest_for_one"] = "one_for_one",
    max_restarts: int = 3,
    max_seconds: float = 5.0,
    auto_shutdown: Literal["never", "any_significant", "all_significant"] = "never",
    name: str | None = None,
    on_event: EventHook | None = None,
) -> AsyncIterator[Supervisor]:
    """Supervise sessions for as long as an ``async with`` block lasts.

    When the block is left, however it is, all children are stopped in reverse start order, one by one. Sessions at
    the provider stay, and can be resumed.

    Args:
        children: Children to start with that are no sessions.
        strategy: Whom a restart takes along: nobody, all, or those that were started after the failed child.
        max_restarts: How many restarts within ``max_seconds`` are borne, over all children.
        max_seconds: The length of that sliding window.
        auto_shutdown: Whether the block ends when one or all of the significant children have ended by themselves.
        name: What it is called in logs, events and errors.
        on_event: Called for each start, exit and restart with a name, measurements and metadata.

    Raises:
        RestartIntensityExceeded: Its children failed too often; the block was cancelled.
        ConfigurationError: An option cannot be used.
    """
    async with (
        open_plain_nursery() as keepers,
        actors.open_supervisor(
            children,
            strategy=strategy,
            max_restarts=max_restarts,
            max_seconds=max_seconds,
            auto_shutdown=auto_shutdown,
            name=name,
            on_event=on_event,
        ) as generic,
    ):
        supervisor = Supervisor(generic, keepers)
        try:
            yield supervisor
        finally:
            supervisor.close()


async def run_supervisor(
    children: Iterable[ChildSpec] = (), *, task_status: trio.TaskStatus[Supervisor], **options: Any
) -> None:
    """Supervise sessions in a task of its own, until cancelled or asked to stop.

    For ``await nursery.start(run_supervisor)``, which gives the :class:`Supervisor`, and for the ``start`` of a
    :class:`ChildSpec`.

    Args:
        children: Children to start with that are no sessions.
        task_status: Gets the :class:`Supervisor`.
        **options: Those of :func:`open_supervisor`.

    Raises:
        RestartIntensityExceeded: Its children failed too often; for a supervisor above it that is a crash.
    """
    async with open_supervisor(children, **options) as supervisor:
        task_status.started(supervisor)
        await stop_signal().wait()
