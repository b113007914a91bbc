"""What of a session outlives its actor: name and id, mail, subscribers and observers, journal, connection.

An actor that crashes leaves its home as it is, and the next one moves in: callers go on waiting, subscribers go on
listening, and nothing that was decided is lost. When no actor is to come any more the home is concluded.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, final

import trio

from .._errors import ActorGone, ManagedAgentsError, SessionCrashed, SessionTimeout
from .._model import EventContext, SessionResult, SessionStatus
from .._protocol.effects import Announce, Began, Deliver, Dropped, Effect, Reply, ReplyError, TurnBegan, TurnEnded
from .._protocol.mail import (
    Command,
    Mail,
    Origin,
    StopWanted,
    TimerFired,
    TimerKey,
    Token,
    tokens_of,
)
from .._protocol.session_machine import Phase, SessionMachine
from ..actors import Mailbox, PendingReply, Replies, Subscribers
from ..actors._latch import Latch
from ..telemetry import get_logger
from ..telemetry._readings import SOURCES, Reading
from ..telemetry._scope import standing
from .connection import SessionConnection
from .departure import depart
from .feeds import Feeds, Watcher
from .journal import Journal, MemoryJournal
from .narrator import Narrator
from .options import SessionOptions, machine_settings
from .statistics import Tally

# Pieces of mail that may wait. The actor empties its mailbox in one go, so this is how far it may fall behind within
# one turn of its loop; a reader that is ahead of it waits, and with it, by TCP, the provider.
MAILBOX_CAPACITY = 256

# Seconds for which terminals are still handed to slow ``notify`` channels when a session ends.
NOTIFY_GRACE = 5.0

# When a session ends, its handler is still shown the events that wait, as long as each takes less than this (seconds).
WATCH_GRACE = 30.0

# The same when the session was ended by a failure or a deadline, which its caller wants to hear of now.
OVERDUE_GRACE = 1.0


@final
class Home:
    """One session's estate.

    Attributes:
        options: What the session was asked to be.
        machine: Its state.
        mailbox: Where mail for its actor goes.
        inbox: The mail that its actor has in hand: the first is being handled.
        undone: Effects that were decided and are still to be performed, in order.
        timers: When each timer is due, by trio's clock.
        replies: The answers it owes.
        terminals: Who hears of each request's end.
        feeds: Who reads its events live.
        watcher: Who shows them to the handler.
        journal: What is known of its tool calls.
        nursery: The children of the actor that runs now.
        narrator: Tells of it on the event bus.
        failure: The error that ended its last actor, if one did.
        exited: Set when the session has ended here and everybody has been told.
        retire: Asks the supervisor to end it for good; none if it has no supervisor.
    """

    __slots__ = (
        "_connection",
        "_host",
        "_observed",
        "_observing",
        "_overdue",
        "_result",
        "_settings",
        "exited",
        "failure",
        "feeds",
        "inbox",
        "journal",
        "log",
        "machine",
        "mailbox",
        "narrator",
        "nursery",
        "options",
        "replies",
        "retire",
        "terminals",
        "timers",
        "undone",
        "watcher",
    )

    def __init__(
        self, options: SessionOptions, name: str | None = None, *, one_shot: bool = False, tally: Tally | None = None
    ) -> None:
        self.options = options
        self.journal: Journal = options.journal if options.journal is not None else MemoryJournal()
        self.log = get_logger()
        self.narrator = Narrator(options.metadata, _known(options, name), Tally() if tally is None else tally)
        self.retire: Callable[[], None] | None = None
        self._furnish()
        token: Token | None = None
        self._result: PendingReply | None = None
        if one_shot:
            token, self._result = self.replies.open()
        self._settings = machine_settings(options, token)
        self.machine = SessionMachine(self._settings, options.provider.classify)

    def _furnish(self) -> None:
        self.mailbox: Mailbox[Mail] = Mailbox(MAILBOX_CAPACITY)
        self.inbox: list[Mail] = []
        self.undone: list[Effect] = []
        self.timers: dict[TimerKey, float] = {}
        self.replies = Replies()
        self.terminals: Subscribers[SessionResult] = Subscribers()
        if self.options.notify is not None:
            self.terminals.attach(self.options.notify)
        self.feeds = Feeds()
        self.watcher = Watcher(self.options.handler, self._event_context, self.log)
        self.nursery: trio.Nursery | None = None
        self.failure: ManagedAgentsError | None = None
        self.exited = Latch()
        self._overdue = False
        self._host: trio.Nursery | None = None
        self._observing: trio.CancelScope | None = None
        self._observed: Latch | None = None
        self._connection = SessionConnection(self.options.provider, self.options.provider_options)

    @property
    def session_id(self) -> str | None:
        """The provider's id of the session, once known."""
        return self.machine.session_id

    @property
    def is_watched_by_this_task(self) -> bool:
        """Whether the present task is the one that shows events to the handler: it must not wait for its own end."""
        return self.watcher.task is trio.lowlevel.current_task()

    def info(self) -> dict[str, Any]:
        """What every context says of the session."""
        return {
            "session_id": self.session_id or "",
            "provider": self.options.provider.NAME,
            "metadata": self.options.metadata,
            "user": self.options.user,
        }

    def _event_context(self, origin: Origin) -> EventContext:
        return EventContext(origin=origin, **self.info())

    def status(self) -> SessionStatus:
        """Give a snapshot."""
        machine, ledger = self.machine, self.machine.ledger
        return SessionStatus(
            phase=self._phase(),
            session_id=machine.session_id,
            busy=machine.active is not None,
            turns=ledger.turns,
            queued_messages=len(machine.queue),
            reconnects=max(0, machine.connection.generation - 1),
            restarts=self.narrator.restarts,
            mailbox_depth=self.mailbox.statistics().depth,
            tools_running=tuple(sorted(machine.tools_running)),
            usage=ledger.usage,
        )

    def _phase(self) -> Phase:
        if self.exited.is_set():
            return "closed"
        between_actors = self.nursery is None and self.session_id is not None and not self.machine.closed
        return "reconnecting" if between_actors else self.machine.connection.phase

    def result(self) -> SessionResult:
        """Give what a one-shot session came to, once it has ended, or raise what ended its request."""
        if self._result is None:
            raise RuntimeError("only a one-shot session has the one result")
        result: SessionResult = self._result.result()
        return result

    # --- one actor after the other --------------------------------------------------------------------------------

    async def connect(self) -> Any:
        """Give what the session's requests go through, opened for its first actor and there for all that follow.

        Raises:
            ManagedAgentsError: It cannot be opened.
            ActorGone: The session has ended.
        """
        await trio.lowlevel.checkpoint()
        if self._host is None:
            raise ActorGone("the session has ended")
        return await self._connection.open(self._host)

    def renew(self) -> None:
        """Make ready for an actor that takes the place of one that has ended.

        It gets what the log cannot tell, and what callers have mailed. What the old actor's children mailed is void.
        """
        handover = self.machine.hand_over()
        if handover is None:
            raise ActorGone("there is no session yet that an actor could go on with")
        self.narrator.restarted()
        if self.inbox:
            # The mail that was being handled may be what the actor cannot bear; it is not handled again.
            for token in set(tokens_of(self.inbox.pop(0))) - handover.tokens():
                self.replies.answer(token, error=self.failure)
        unread = (*self.inbox, *self.mailbox.take())
        self.inbox = [mail for mail in unread if isinstance(mail, Command)]
        self.timers = {key: due for key, due in self.timers.items() if key == "deadline"}
        self.failure = None
        settings = replace(self._settings, resumed=True, kickoff=None, kickoff_token=None)
        self.machine = SessionMachine(settings, self.options.provider.classify, handover)

    def crashed(self, error: Exception) -> None:
        """An actor has ended by an exception. What it had decided to tell is told."""
        self.undone.extend(self.machine.last_effects())
        while self.undone:
            self.tell(self.undone.pop(0))
        if isinstance(error, ManagedAgentsError):
            self.failure = error
            return
        result = self.machine.ledger.result(self.session_id, "terminated", None)
        crash = SessionCrashed(f"the session's actor failed: {type(error).__name__}", result=result)
        crash.__cause__ = error
        self.failure = crash
        self.log.error("session_crashed", exc_info=error)

    def crash(self, error: Exception) -> None:
        """Let the actor that runs now fail, as by a defect of its own.

        Raises:
            ActorGone: None runs now.
        """
        try:
            if self.nursery is not None:
                self.nursery.start_soon(_fail, error)
                return
        except RuntimeError:
            pass  # its nursery takes no more tasks: it is ending already
        raise ActorGone("no actor of this session runs now")

    def tell(self, effect: Effect) -> None:
        """Perform an effect that tells somebody something; any other needs an actor, and is passed over."""
        match effect:
            case Deliver(events=events, origin=origin):
                self.watcher.put(events, origin)
                self.feeds.put(events)
            case Began() | TurnBegan() | TurnEnded() | Dropped():
                self.narrator.tell(effect)
            case Announce(result=result):
                self.narrator.tell(effect)
                self.terminals.publish(result)
            case Reply(token=token, value=value):
                self.replies.answer(token, value)
            case ReplyError(token=token, error=error):
                self._overdue = self._overdue or isinstance(error, SessionTimeout)
                self.replies.answer(token, error=error)
            case _:
                pass

    # --- the end --------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def attended(self) -> AsyncIterator[None]:
        """Attend to the session until the block is left and everybody has been told.

        What fails in the block, or is cancelled there, cuts short what the handler is still shown.
        """
        async with trio.open_nursery() as host:
            self.attend(host)
            try:
                yield
            except BaseException:
                await self.see_off(at_once=True)
                raise
            await self.see_off()

    def attend(self, host: trio.Nursery) -> None:
        """Begin to show events to the handler and to hand terminals on; :meth:`see_off` must follow.

        Args:
            host: Has the tasks for that, and for the connection. They end with the session, and not with the host's
                cancellation, which comes before actors have ended.
        """
        SOURCES.add(self._reading)
        self._host = host
        if self.watcher.is_wanted or self.options.notify is not None:
            self._observed, self._observing = Latch(), trio.CancelScope(shield=True)
            with standing(self.narrator.scope):
                host.start_soon(self._observe, self._observed, self._observing)

    async def _observe(self, observed: Latch, scope: trio.CancelScope) -> None:
        try:
            with scope:
                async with trio.open_nursery() as pumping:
                    if self.options.notify is not None:
                        pumping.start_soon(self.terminals.pump)
                    await self.watcher.run()
                    pumping.cancel_scope.cancel()
        finally:
            observed.set()

    async def see_off(self, *, at_once: bool = False) -> None:
        """End the session here, once no actor is to come: tell everybody, and leave the session at the provider.

        Args:
            at_once: Whether the handler is shown no more of the events that wait for it.
        """
        try:
            with standing(self.narrator.scope):
                try:
                    self.conclude()
                    self.watcher.end(WATCH_GRACE if self.failure is None and not self._overdue else OVERDUE_GRACE)
                    if not at_once and self._observed is not None:
                        await self._observed.wait()
                finally:
                    if self._observing is not None:
                        self._observing.cancel()
                    await self._leave()
        finally:
            SOURCES.discard(self._reading)
            self._host = None
            self.narrator.closed(self.failure)
            self.exited.set()

    def _reading(self) -> Reading:
        return Reading(self.options.provider.NAME, self._phase(), self.mailbox.statistics().depth)

    async def _leave(self) -> None:
        try:
            if self._observed is not None:
                with trio.CancelScope(shield=True):  # until what it is showing has been cancelled
                    await self._observed.wait()
            await self.terminals.flush(NOTIFY_GRACE)
            if self.session_id is not None and self.machine.log.status not in ("terminated", "deleted"):
                busy = self.machine.leaves_work
                await depart(self.options, self.session_id, self._connection.value, busy=busy, log=self.log)
        finally:
            await self._connection.close()

    def conclude(self) -> None:
        """No actor will come any more: leave nobody waiting. Awaits nothing."""
        self.inbox.extend(self.mailbox.close())
        if not self.machine.closed:
            # Nobody is there who could still carry an interrupt: its grace is over.
            self.inbox[:0] = [StopWanted(self.failure), TimerFired("grace")]
        broken: Exception | None = None
        try:
            while self.inbox:
                for effect in self.machine.receive(self.inbox.pop(0)):
                    self.tell(effect)
        except Exception as error:  # noqa: BLE001 -- a state that a defect has damaged must not leave anybody waiting
            broken = error
        if broken is not None:
            self.log.error("session_conclusion_failed", exc_info=broken)
        self.replies.fail_all(self.failure)
        self.terminals.close()
        self.feeds.end()

    def reopen(self) -> None:
        """Begin anew with a session that was concluded: the same at the provider, with new callers and subscribers."""
        self._furnish()


async def _fail(error: Exception) -> None:
    raise error


def _known(options: SessionOptions, name: str | None) -> dict[str, Any]:
    """What is known of a session from the beginning; its tags begin with that."""
    describe = getattr(options.provider, "describe", None)
    about = {} if describe is None else describe(options.provider_options)
    named = {} if name is None else {"session": name}
    return {"provider": options.provider.NAME, **named, **about}
