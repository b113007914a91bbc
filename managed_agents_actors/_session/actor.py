"""The session actor: the shell that performs what the session machine decides.

It reads its mailbox, feeds the machine and starts child tasks; it never waits for the network, a tool or a subscriber
itself, so that an interrupt, a stop or a deadline always takes effect at once. It decides nothing.
"""

from __future__ import annotations

import functools
import inspect
import random
from contextvars import ContextVar
from typing import Any, final

import trio

from .._errors import ManagedAgentsError, SessionCrashed, SessionTimeout
from .._model import (
    Deny,
    EventContext,
    Halt,
    SessionResult,
    SessionStatus,
    ToolContext,
    ToolUse,
    TurnResult,
)
from .._protocol.mail import (
    Announce,
    AskGuard,
    AskPolicy,
    Attach,
    Backoff,
    CancelTimer,
    CancelTool,
    Close,
    Deliver,
    Effect,
    GuardSpoke,
    Look,
    Mail,
    Origin,
    PolicySpoke,
    Post,
    Reply,
    ReplyError,
    Report,
    RunTool,
    SetTimer,
    StopWanted,
    TimerFired,
    TimerKey,
    ToolFinished,
)
from .._protocol.session_machine import MachineSettings, SessionMachine
from ..actors import Mailbox, PendingReply, Replies, Subscribers, plain_failures
from ..telemetry import get_logger
from .feeds import Feeds, Watcher
from .line import ProviderLine
from .options import SessionOptions
from .tool_calls import Place, Queue, ToolRunner
from .user_code import run_user_code

# Pieces of mail that may wait. The actor empties its mailbox in one go, so this is how far it may fall behind within
# one turn of its loop; a reader that is ahead of it waits, and with it, by TCP, the provider.
MAILBOX_CAPACITY = 256

# Seconds for which terminals are still handed to slow ``notify`` channels when a session ends.
NOTIFY_GRACE = 5.0

# When a session ends, its handler is still shown the events that wait, as long as each takes less than this (seconds).
WATCH_GRACE = 30.0

# The same when the session was ended by a failure or a deadline, which its caller wants to hear of now.
OVERDUE_GRACE = 1.0

# The session whose tool the present task runs, if it runs one.
current_session: ContextVar[SessionActor | None] = ContextVar("managed_agents_actors.current_session", default=None)


@final
class SessionActor:
    """One session's task, its mailbox, and its children.

    Attributes:
        mailbox: Where mail for it goes.
        replies: The answers it owes.
        terminals: Who hears of each request's end.
        feeds: Who reads its events live.
        exited: Set when it has ended and everybody has been told.
        failure: The error that ended it, if one did.
    """

    def __init__(self, options: SessionOptions, *, one_shot: bool = False) -> None:
        self._options = options
        self._provider = options.provider
        self._line: ProviderLine | None = None
        self._log = get_logger(provider=options.provider.NAME)
        self.replies = Replies()
        self._result: PendingReply | None = None
        token: int | None = None
        if one_shot:
            token, self._result = self.replies.open()
        self._machine = SessionMachine(_settings(options, token), options.provider.classify)
        self._nursery: trio.Nursery | None = None
        self._tool_queue = Queue()
        self._tool_scopes: dict[str, trio.CancelScope] = {}
        self._timers: dict[TimerKey, float] = {}
        self._overdue = False
        self._random = random.Random()  # noqa: S311 -- spreads reconnects, guards no secret
        self._opened: trio.TaskStatus[None] | None = None
        self._watcher = Watcher(options.handler, self._event_context, self._log)
        self._tools = ToolRunner(
            handler=options.handler,
            limiter=options.limiter,
            timeout=options.tool_timeout,
            expose_exceptions=options.expose_exceptions,
            log=self._log,
        )
        self.mailbox: Mailbox[Mail] = Mailbox(MAILBOX_CAPACITY)
        self.terminals: Subscribers[SessionResult] = Subscribers()
        self.feeds = Feeds()
        self.exited = trio.Event()
        self.failure: ManagedAgentsError | None = None
        if options.notify is not None:
            self.terminals.attach(options.notify)

    @property
    def session_id(self) -> str | None:
        """The provider's id of the session, once known."""
        return self._machine.session_id

    def status(self) -> SessionStatus:
        """Give a snapshot."""
        machine = self._machine
        ledger = machine.ledger
        return SessionStatus(
            phase=machine.connection.phase,
            session_id=machine.session_id,
            busy=machine.active is not None,
            turns=ledger.turns,
            queued_messages=len(machine.queue),
            reconnects=max(0, machine.connection.generation - 1),
            restarts=0,
            mailbox_depth=self.mailbox.statistics().depth,
            tools_running=tuple(sorted(machine.tools_running)),
            usage=ledger.usage,
        )

    @property
    def is_watched_by_this_task(self) -> bool:
        """Whether the present task is the one that shows events to the handler: it must not wait for its own end."""
        return self._watcher.task is trio.lowlevel.current_task()

    def result(self) -> SessionResult:
        """Give what a one-shot session came to, once it has ended, or raise what ended its request."""
        if self._result is None:
            raise RuntimeError("only a one-shot session has the one result")
        result: SessionResult = self._result.result()
        return result

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run the session until it ends. ``started()`` is called once the session exists at the provider.

        Raises:
            ManagedAgentsError: The session could not be opened; later failures are kept in ``failure``.
        """
        self._opened = task_status
        try:
            with plain_failures():
                async with self._provider.open_connection(self._options.provider_options) as connection:
                    await self._serve(ProviderLine(self._provider, connection, self.mailbox, self._watcher))
        except Exception as error:  # noqa: BLE001 -- any defect must reach everybody who waits
            self._crash(error)
        finally:
            self._finish()
            await self.terminals.flush(NOTIFY_GRACE)
            self.exited.set()
        if self._opened is not None and self.failure is not None:
            raise self.failure

    async def _serve(self, line: ProviderLine) -> None:
        self._line = line
        async with trio.open_nursery() as observers:
            observers.start_soon(self._watcher.run)
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self.terminals.pump)
                nursery.start_soon(functools.partial(line.establish, blank=not self._options.resumed))
                self._perform(self._machine.start())
                while not self._machine.closed:
                    await self._turn()
                nursery.cancel_scope.cancel()
            self._watcher.end(WATCH_GRACE if self.failure is None and not self._overdue else OVERDUE_GRACE)

    async def _turn(self) -> None:
        """Wait for mail or for a timer, and let the machine have it."""
        batch: list[Mail] = []
        with trio.move_on_at(min(self._timers.values(), default=float("inf"))):
            batch = await self.mailbox.receive_batch()
        now = trio.current_time()
        for key in [key for key, due in self._timers.items() if due <= now]:
            # A timer may have been stopped by what another one set off.
            if self._timers.pop(key, None) is not None:
                self._perform(self._machine.receive(TimerFired(key)))
        for mail in batch:
            self._perform(self._machine.receive(mail))

    def _finish(self) -> None:
        """Leave nobody waiting, however the actor ends. Awaits nothing."""
        unread = self.mailbox.close()
        if not self._machine.closed:
            unread = [StopWanted(self.failure), *unread]
        for mail in unread:
            for effect in self._machine.receive(mail):
                if isinstance(effect, Announce | Reply | ReplyError):
                    self._tell(effect)
        self.replies.fail_all(self.failure)
        self.terminals.close()
        self.feeds.end()

    def _crash(self, error: Exception) -> None:
        if isinstance(error, ManagedAgentsError):
            self.failure = error
            return
        result = self._machine.ledger.result(self.session_id, "terminated", None)
        crash = SessionCrashed(f"the session's actor failed: {type(error).__name__}", result=result)
        crash.__cause__ = error
        self.failure = crash
        self._log.error("session_crashed", session_id=self.session_id, exc_info=error)

    # --- performing effects ---------------------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Deliver(events=events, origin=origin):
                    self._watcher.put(events, origin)
                    self.feeds.put(events)
                case Announce() | Reply() | ReplyError():
                    self._tell(effect)
                case SetTimer() | Backoff() | CancelTimer():
                    self._set_timer(effect)
                case CancelTool(tool_use_id=call_id):
                    scope = self._tool_scopes.pop(call_id, None)
                    if scope is not None:
                        scope.cancel()
                case Report(what=what, detail=detail):
                    self._log.info(what, session_id=self.session_id, detail=detail)
                case Close(error=error):
                    self.failure = error
                case _:
                    self._start(effect)

    def _tell(self, effect: Announce | Reply | ReplyError) -> None:
        match effect:
            case Announce(result=result):
                self.terminals.publish(result)
            case Reply(token=token, value=value):
                self.replies.answer(token, value)
            case ReplyError(token=token, error=error):
                self._overdue = self._overdue or isinstance(error, SessionTimeout)
                self.replies.answer(token, error=error)

    def _set_timer(self, effect: SetTimer | Backoff | CancelTimer) -> None:
        match effect:
            case SetTimer(key=key, seconds=seconds):
                self._timers[key] = trio.current_time() + seconds
            case Backoff(key=key, attempt=attempt, retry_after=retry_after):
                delay = self._options.reconnect.delay(attempt, draw=self._random.random(), retry_after=retry_after)
                self._timers[key] = trio.current_time() + delay
            case CancelTimer(key=key):
                self._timers.pop(key, None)

    def _start(self, effect: Effect) -> None:
        """Start the child task that carries an effect out."""
        line, nursery = self._line, self._nursery
        if line is None or nursery is None:
            return  # nothing is asked for before the session is served
        match effect:
            case Attach(generation=generation, read_history=read_history):
                self._has_opened()
                nursery.start_soon(functools.partial(line.read_stream, generation, read_history=read_history))
            case Look():
                nursery.start_soon(line.look)
            case Post(post_id=post_id, input=item):
                nursery.start_soon(line.post, post_id, item)
            case RunTool(use=use):
                scope = self._tool_scopes[use.id] = trio.CancelScope()
                nursery.start_soon(self._run_tool, use, scope, self._tool_queue.join())
            case AskPolicy(use=use):
                nursery.start_soon(self._ask_policy, use)
            case AskGuard(number=number, turn=turn):
                nursery.start_soon(self._ask_guard, number, turn)

    def _has_opened(self) -> None:
        # The first stream of a session is asked for as soon as the session exists.
        if self._opened is not None:
            self._log = self._log.bind(session_id=self.session_id)
            self._opened.started()
            self._opened = None

    # --- child tasks that run the user's code: each reports by mail ------------------------------------------------

    async def _run_tool(self, use: ToolUse, scope: trio.CancelScope, place: Place) -> None:
        current_session.set(self)
        with scope:
            result = await self._tools.run(use, self._tool_context(use), place)
            await self.mailbox.send(ToolFinished(use.id, result))
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
        await self.mailbox.send(mail)

    async def _ask_guard(self, number: int, turn: TurnResult) -> None:
        guard = self._options.turn_guard
        verdict: Any = None

        async def ask() -> Any:
            # A guard that is not async is asked right here: it compares numbers, and the request waits for it.
            found = guard(turn) if guard is not None else None
            return await found if inspect.isawaitable(found) else found

        try:
            verdict = await run_user_code(ask)
        except Exception as error:  # noqa: BLE001 -- a guard that fails must halt, not let the request run on
            self._log.warning("turn_guard_failed", exc_info=error)
            verdict = Halt(reason=error)
        if not isinstance(verdict, Halt | None):
            verdict = Halt(reason=TypeError(f"a turn guard gives None or Halt(reason), not {verdict!r}"))
        await self.mailbox.send(GuardSpoke(number, verdict))

    # --- contexts -------------------------------------------------------------------------------------------------

    def _info(self) -> dict[str, Any]:
        options = self._options
        return {
            "session_id": self.session_id or "",
            "provider": options.provider.NAME,
            "metadata": options.metadata,
            "user": options.user,
        }

    def _tool_context(self, use: ToolUse) -> ToolContext:
        return ToolContext(tool_use_id=use.id, thread_id=use.thread_id, **self._info())

    def _event_context(self, origin: Origin) -> EventContext:
        return EventContext(origin=origin, **self._info())


async def run_one_shot(options: SessionOptions) -> SessionResult:
    """Run a session for one request, in this task, and give the request's result.

    Raises:
        ManagedAgentsError: What ended the request on our side.
    """
    actor = SessionActor(options, one_shot=True)
    await actor.run()
    return actor.result()


def _settings(options: SessionOptions, token: int | None) -> MachineSettings:
    return MachineSettings(
        resumed=options.resumed,
        one_shot=token is not None,
        owns=options.handler.owns,
        has_policy=options.handler.confirms,
        has_guard=options.turn_guard is not None,
        max_turns=options.max_turns,
        terminal_tool=options.terminal_tool,
        require_terminal_tool=options.require_terminal_tool,
        max_reprompts=options.max_reprompts,
        timeout=options.timeout,
        kickoff=options.kickoff,
        kickoff_token=token,
        unresolved_after=options.unresolved_after,
        max_attempts=options.reconnect.max_attempts,
        healthy_after=options.reconnect.healthy_after,
    )
