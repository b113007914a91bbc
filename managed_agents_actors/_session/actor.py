"""The session actor: the shell that performs what the session machine decides.

It reads its mailbox, feeds the machine and starts child tasks; it never waits for the network, a tool or a subscriber
itself, so that an interrupt, a stop or a deadline always takes effect at once. It decides nothing.
"""

from __future__ import annotations

import functools
import inspect
import random
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, final

import trio

from .._model import Deny, Halt, SessionResult, ToolContext, ToolUse, TurnResult
from .._protocol.effects import (
    AskGuard,
    AskPolicy,
    Attach,
    Backoff,
    CancelTimer,
    CancelTool,
    Close,
    Effect,
    Look,
    Post,
    Reconnecting,
    Report,
    RunTool,
    SetTimer,
    Settle,
)
from .._protocol.mail import GuardSpoke, PolicySpoke, StopWanted, TimerFired, ToolFinished
from ..actors import StopSignal, plain_failures
from ..telemetry._scope import standing
from .home import Home
from .line import ProviderLine
from .options import SessionOptions
from .tool_calls import Place, ToolRunner
from .user_code import UserFunction


@dataclass(slots=True, eq=False)
class RunningCall:
    """A call whose tool the present task runs, or has run: a task that it started elsewhere may live on."""

    home: Home
    is_over: bool = False


# The call that the present task is part of, if it is part of one.
running_call: ContextVar[RunningCall | None] = ContextVar("managed_agents_actors.running_call", default=None)


@final
class SessionActor:
    """One session's task and its children.

    Args:
        home: The session it runs; if it was run before, it goes on from there.
        signal: Tells it to stop, if anybody but a caller can.
    """

    def __init__(self, home: Home, signal: StopSignal | None = None) -> None:
        self._home = home
        self._signal = signal
        self._options = home.options
        self._log = home.log
        self._line: ProviderLine | None = None
        self._nursery: trio.Nursery | None = None
        self._tool_scopes: dict[str, trio.CancelScope] = {}
        self._opened: trio.TaskStatus[Home] | None = None

    @functools.cached_property
    def _tools(self) -> ToolRunner:
        """Who runs its tools; made for the first call, since many a session lives long before that."""
        home, options = self._home, self._options
        most = options.max_tool_concurrency
        return ToolRunner(
            handler=options.handler,
            limiter=trio.CapacityLimiter(most) if isinstance(most, int) else most,
            timeout=options.tool_timeout,
            expose_exceptions=options.expose_exceptions,
            journal=home.journal,
            reruns=options.on_interrupted == "rerun",
            log=home.log,
            tally=home.narrator.tally,
        )

    async def run(self, *, task_status: trio.TaskStatus[Home] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the session until it ends. ``started()`` is called once the session exists at the provider.

        Raises:
            ManagedAgentsError: The session could not be opened; later failures are kept in the home.
        """
        home, provider = self._home, self._options.provider
        if home.session_id is not None:
            home.renew()
        self._opened = task_status
        with standing(home.narrator.scope):
            try:
                with plain_failures():
                    connection = await home.connect()
                    await self._serve(ProviderLine(provider, connection, home.mailbox, home.watcher, home.session_id))
            except Exception as error:  # noqa: BLE001 -- any defect must reach everybody who waits
                home.crashed(error)
        if self._opened is not None and home.failure is not None:
            raise home.failure

    async def _serve(self, line: ProviderLine) -> None:
        self._line, machine = line, self._home.machine
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = self._home.nursery = nursery
                if self._signal is not None:
                    self._signal.call_when_set(self._heed)
                if self._home.session_id is None:
                    nursery.start_soon(functools.partial(line.establish, blank=not self._options.resumed))
                self._perform(machine.start())
                while not machine.closed:
                    await self._turn()
                nursery.cancel_scope.cancel()
        finally:
            self._nursery = self._home.nursery = None

    def _heed(self, signal: StopSignal) -> None:
        """Do as the supervisor says. What is only to be started again leaves everything as it is."""
        if self._nursery is None:
            return  # it has ended
        if signal.restarting:
            self._nursery.cancel_scope.cancel()
        else:
            with suppress(RuntimeError):  # it is ending, and takes no more tasks
                self._nursery.start_soon(self._home.mailbox.send, StopWanted())

    async def _turn(self) -> None:
        """Let the machine have the mail in hand, or wait for mail or for a timer."""
        home = self._home
        if not home.inbox:
            if home.timers:
                with trio.CancelScope(deadline=min(home.timers.values())):
                    home.inbox += await home.mailbox.receive_batch()
            else:
                home.inbox += await home.mailbox.receive_batch()
        now = trio.current_time()
        for key in [key for key, due in home.timers.items() if due <= now]:
            # A timer may have been stopped by what another one set off.
            if home.timers.pop(key, None) is not None:
                self._perform(home.machine.receive(TimerFired(key)))
        while home.inbox:
            self._perform(home.machine.receive(home.inbox[0]))
            del home.inbox[0]

    # --- performing effects ---------------------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        undone = self._home.undone
        undone.extend(effects)
        while undone:
            effect = undone.pop(0)
            match effect:
                case SetTimer() | Backoff() | CancelTimer():
                    self._set_timer(effect)
                case CancelTool(tool_use_id=call_id):
                    scope = self._tool_scopes.pop(call_id, None)
                    if scope is not None:
                        scope.cancel()
                case Reconnecting(attempt=attempt, cause=cause):
                    delay = self._home.timers["reconnect"] - trio.current_time()
                    self._home.narrator.reconnecting(attempt, delay, cause)
                case Report(what="live" | "looking" as what, detail=detail):
                    self._log.debug(what, detail=detail)
                case Report(what=what, detail=detail):
                    self._log.info(what, detail=detail)
                case Close(error=error):
                    self._home.failure = error
                case Attach() | Look() | Post() | RunTool() | Settle() | AskPolicy() | AskGuard():
                    self._start(effect)
                case _:
                    self._home.tell(effect)

    def _set_timer(self, effect: SetTimer | Backoff | CancelTimer) -> None:
        timers = self._home.timers
        match effect:
            case SetTimer(key=key, seconds=seconds):
                timers[key] = trio.current_time() + seconds
            case Backoff(key=key, attempt=attempt, retry_after=retry_after):
                draw = random.random()  # noqa: S311 -- spreads reconnects, guards no secret
                delay = self._options.reconnect.delay(attempt, draw=draw, retry_after=retry_after)
                timers[key] = trio.current_time() + delay
            case CancelTimer(key=key):
                timers.pop(key, None)

    def _start(self, effect: Attach | Look | Post | RunTool | Settle | AskPolicy | AskGuard) -> None:
        """Start the child task that carries an effect out."""
        line, nursery = self._line, self._nursery
        if line is None or nursery is None:
            return  # nothing is asked for before the session is served
        match effect:
            # These stand in whichever turn is in progress: streams outlive turns, and the last result begins the next.
            case Attach():
                self._has_opened()
                nursery.start_soon(line.read_stream, effect)
            case Post(post_id=post_id, input=item):
                nursery.start_soon(line.post, post_id, item)
            case _:
                self._start_in_turn(effect, line, nursery)

    def _start_in_turn(
        self, effect: Look | RunTool | Settle | AskPolicy | AskGuard, line: ProviderLine, nursery: trio.Nursery
    ) -> None:
        """Start what belongs to the turn that is in progress now, however long it takes."""
        with standing(self._home.narrator.here()):
            match effect:
                case Look():
                    nursery.start_soon(line.look)
                case RunTool(use=use):
                    scope = self._tool_scopes[use.id] = trio.CancelScope()
                    nursery.start_soon(self._run_tool, use, scope, self._tools.queue.join())
                case Settle(tool_use_id=call_id):
                    session_id = self._home.session_id or ""
                    if not self._tools.settle_now(session_id, call_id):
                        nursery.start_soon(self._tools.settle, session_id, call_id)
                case AskPolicy(use=use):
                    nursery.start_soon(self._ask_policy, use)
                case AskGuard(number=number, turn=turn):
                    nursery.start_soon(self._ask_guard, number, turn)

    def _has_opened(self) -> None:
        # The first stream of a session is asked for as soon as the session exists.
        if self._opened is not None:
            self._home.narrator.opened(self._home.session_id, resumed=self._options.resumed)
            self._opened.started(self._home)
            self._opened = None

    # --- child tasks that run the user's code: each reports by mail ------------------------------------------------

    async def _run_tool(self, use: ToolUse, scope: trio.CancelScope, place: Place) -> None:
        call = RunningCall(self._home)
        running_call.set(call)
        try:
            with scope:
                result = await self._tools.run(use, self._tool_context(use), place)
                await self._home.mailbox.report(ToolFinished(use.id, result))
        finally:
            call.is_over = True
        if self._tool_scopes.get(use.id) is scope:
            del self._tool_scopes[use.id]

    async def _ask_policy(self, use: ToolUse) -> None:
        try:
            verdict = await self._options.handler.confirm(use, self._tool_context(use))
        except Exception as error:  # noqa: BLE001 -- a policy that fails must deny, not crash
            self._log.warning("handle_confirmation_failed", tool=use.name, tool_use_id=use.id, exc_info=error)
            verdict = "deny"
        match verdict:
            case None | "allow":
                mail = PolicySpoke(use.id, verdict)
            case Deny(message=message):
                mail = PolicySpoke(use.id, "deny", message)
            case _:
                mail = PolicySpoke(use.id, "deny")
        await self._home.mailbox.report(mail)

    async def _ask_guard(self, number: int, turn: TurnResult) -> None:
        guard = self._options.turn_guard
        verdict: Any = None

        async def ask() -> Any:
            # A guard that is not async is asked right here: it compares numbers, and the request waits for it.
            found = guard(turn) if guard is not None else None
            return await found if inspect.isawaitable(found) else found

        try:
            verdict = await UserFunction(ask)()
        except Exception as error:  # noqa: BLE001 -- a guard that fails must halt, not let the request run on
            self._log.warning("turn_guard_failed", exc_info=error)
            verdict = Halt(reason=error)
        if not isinstance(verdict, Halt | None):
            verdict = Halt(reason=TypeError(f"a turn guard gives None or Halt(reason), not {verdict!r}"))
        await self._home.mailbox.report(GuardSpoke(number, verdict))

    def _tool_context(self, use: ToolUse) -> ToolContext:
        opened = None if self._line is None else self._line.open_artifacts
        return ToolContext(tool_use_id=use.id, thread_id=use.thread_id, _open_artifacts=opened, **self._home.info())


async def run_one_shot(options: SessionOptions) -> SessionResult:
    """Run a session for one request, in this task, and give the request's result.

    Raises:
        ManagedAgentsError: What ended the request on our side.
    """
    home = Home(options, one_shot=True)
    with plain_failures():
        async with home.attended():
            await SessionActor(home).run()
    return home.result()
