"""The session machine: mail in, effects out. It decides everything a session does and performs nothing.

No clock, no randomness, no I/O: the shell that feeds it owns those. Here mail finds the part that is responsible for
it; after every mail what the new state allows is set in motion. The laws stand in docs/design/session_machine.md.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..._errors import ActorGone, ManagedAgentsError, NotFoundError, StreamLost
from ..._model import Event
from ..consolidate import SessionLog
from ..effects import Backoff, Effect, Look, ReplyError, SetTimer
from ..facts import Classify, Ended
from ..ledger import Ledger
from ..mail import (
    Attached,
    ConfirmWanted,
    Detached,
    GuardSpoke,
    History,
    HistoryRead,
    InterruptWanted,
    Live,
    Looked,
    LookFailed,
    Mail,
    Opened,
    OpenFailed,
    PolicySpoke,
    Posted,
    PostFailed,
    RawEvent,
    Say,
    SendEvent,
    StopWanted,
    TimerFired,
    TimerKey,
    ToolFinished,
    Withdraw,
    tokens_of,
)
from ..outbox import Outbox
from .calls import Calls
from .connection import Connection, is_permanent
from .conversation import Conversation
from .core import Core, MachineSettings
from .endings import Endings
from .handover import Handover
from .postman import Lost, Postman, Refused
from .quiet import Quiet
from .reader import LogReader
from .requests import Request
from .succession import Succession
from .turns import Turns

# Looks in a row that show less than is known already, before one is believed: some listing may never show an event.
MOST_PARTIAL_LOOKS = 3


class SessionMachine:
    """One session's decisions. Feed every mail to :meth:`receive` and perform the effects in order."""

    __slots__ = (
        "_calls",
        "_conversation",
        "_core",
        "_endings",
        "_look_failures",
        "_postman",
        "_quiet",
        "_reader",
        "_succession",
        "_turns",
    )

    def __init__(self, settings: MachineSettings, classify: Classify, handover: Handover | None = None) -> None:
        self._core = core = Core(settings, handover)
        self._postman = Postman(core)
        self._calls = Calls(core, self._postman, handover)
        self._conversation = Conversation(core, self._postman, self._calls, handover)
        self._endings = Endings(core, self._postman, self._conversation)
        self._turns = Turns(core, self._conversation)
        self._quiet = Quiet(core, self._calls, self._conversation, self._turns)
        self._reader = LogReader(
            core, classify, self._postman, self._calls, self._conversation, self._endings, self._quiet
        )
        self._look_failures = 0
        self._succession: Succession | None = None
        if handover is not None:
            self._succession = Succession(core, self._postman, self._conversation, handover)
            self._reader.succeed(self._succession)

    @property
    def log(self) -> SessionLog:
        """The provider's side of the truth."""
        return self._core.log

    @property
    def outbox(self) -> Outbox:
        """Inputs on their way."""
        return self._core.outbox

    @property
    def connection(self) -> Connection:
        """Where the stream stands."""
        return self._core.connection

    @property
    def session_id(self) -> str | None:
        """The provider's id of the session, once known."""
        return self._core.session_id

    @property
    def active(self) -> Request | None:
        """The request in progress."""
        return self._conversation.current

    @property
    def queue(self) -> list[Request]:
        """Requests that wait for their turn."""
        return self._conversation.queue

    @property
    def ledger(self) -> Ledger:
        """The account of the current request, or of the last one."""
        return self._conversation.ledger

    @property
    def tools_running(self) -> frozenset[str]:
        """The calls whose tools run."""
        return frozenset(self._calls.running)

    @property
    def leaves_work(self) -> bool:
        """Whether the provider is still at work on a request that was given up here."""
        return self._conversation.leaves_work

    @property
    def closed(self) -> bool:
        """Whether the machine has ended; it then only refuses callers."""
        return self._core.closed

    def start(self) -> list[Effect]:
        """Give the effects a session begins with."""
        settings = self._core.settings
        if self._succession is not None:
            self._succession.begin()
            return [*self._core.take_effects(), *self.connection.open(blank=False)]
        if self.queue:
            self._conversation.progress.begun(self.queue[0])  # opening the session is part of what it is opened for
        if settings.one_shot and settings.timeout is not None:
            self._core.emit(SetTimer("deadline", settings.timeout))
        return self._core.take_effects()

    def hand_over(self) -> Handover | None:
        """Give what a machine that takes this one's place has to know; nothing without a session."""
        return self._conversation.hand_over(self._reader.shown())

    def last_effects(self) -> list[Effect]:
        """Give what was decided before a failure and not handed out yet."""
        return self._core.take_effects()

    def receive(self, mail: Mail) -> list[Effect]:
        """Take one mail in and give the effects to perform, in order."""
        if self.closed:
            self._refuse(mail)
        else:
            self._handle(mail)
            self._advance()
        return self._core.take_effects()

    def _advance(self) -> None:
        """Set in motion what the present state allows."""
        self._endings.close_if_wound_down()
        if self.closed or not self.connection.live:
            return
        progress = self._conversation.progress
        progress.begun(self.active)
        self._calls.take_up()
        self._quiet.surface_action()
        self._conversation.start_next()
        progress.go_on(self.active)
        for delivery in self._postman.send_held():
            if self.active is not None and self.active.post_id == delivery.id:
                self.active.sent = True
        self._quiet.watch()
        self._endings.close_if_wound_down()

    def _handle(self, mail: Mail) -> None:
        match mail:
            case Live(generation=generation, events=events):
                if generation == self.connection.generation:
                    self._reader.read_live(events)
            case ToolFinished(tool_use_id=call_id, result=result):
                self._quiet.broken()
                self._calls.finished(call_id, result)
            case Posted(post_id=post_id, echo=echo):
                self._quiet.broken()  # a look that is under way may have missed what this brings about
                delivery = self.outbox.get(post_id)
                if delivery is not None:
                    self._conversation.note_echo(delivery, echo)
                    self._postman.accepted(delivery, echo)
            case PostFailed(post_id=post_id, error=error):
                self._on_post_failed(post_id, error)
            case TimerFired(key=key):
                self._on_timer(key)
            case PolicySpoke():
                self._calls.decided(mail)
            case GuardSpoke(number=number, halt=halt):
                self._turns.guard_spoke(number, halt)
            case Looked(events=events, status=status):
                self._on_looked(events, status)
            case LookFailed(error=error):
                self._on_look_failed(error)
            case Say() | Withdraw() | SendEvent() | ConfirmWanted() | InterruptWanted() | StopWanted():
                self._on_command(mail)
            case _:
                self._on_connection(mail)

    def _on_command(self, mail: Say | Withdraw | SendEvent | ConfirmWanted | InterruptWanted | StopWanted) -> None:
        match mail:
            case Say():
                self._conversation.say(mail)
            case SendEvent(event=event, token=token):
                self._conversation.goes_on()
                self.outbox.add(RawEvent(event), token)
            case ConfirmWanted(confirmation=confirmation, token=token):
                self.outbox.add(confirmation, token)
            case InterruptWanted(token=token):
                self._conversation.interrupt(token)
            case Withdraw(token=token):
                self._conversation.withdraw(token)
            case StopWanted(error=None):
                self._endings.stop()
            case StopWanted(error=error):
                self._endings.close(error)

    def _refuse(self, mail: Mail) -> None:
        gone = ActorGone("the session has ended; open it again, with its session_id, to go on")
        self._core.emit(*(ReplyError(token, gone) for token in tokens_of(mail)))

    # --- the stream -----------------------------------------------------------------------------------------------

    def _on_connection(self, mail: Mail) -> None:
        connection = self.connection
        match mail:
            case Opened(session_id=session_id, blank=blank):
                self._core.session_id = session_id
                self._core.emit(*connection.open(blank=blank))
            case OpenFailed(error=error):
                self._lost(error)
            case Attached(generation=generation) if generation == connection.generation:
                if not connection.reads_history:
                    self._caught_up()
            case History(generation=generation, events=events) if generation == connection.generation:
                self._reader.read_page(events)
            case HistoryRead(generation=generation) if generation == connection.generation:
                self._reader.end_history()
                self._caught_up()
            case Detached(generation=generation, cause=cause, wait=wait) if generation == connection.generation:
                self._on_detached(cause, wait)
            case _:
                pass  # what a stream that is gone still had to say

    def _on_detached(self, cause: ManagedAgentsError | None, wait: float | None) -> None:
        self._reader.drop_history()
        self._quiet.broken()
        if is_permanent(cause):
            self._lost(cause)
            return
        effects = self.connection.lose(cause, wait)
        if effects is None:
            self._lost(cause or StreamLost("the stream kept ending before its session did"))
        else:
            self._core.emit(*effects)

    def _lost(self, cause: ManagedAgentsError | None) -> None:
        """The session is out of reach; that it is not found means that it is gone, if it ever was there."""
        was_there = self._core.session_id is not None or self._core.settings.resumed
        self._endings.end_session(None if isinstance(cause, NotFoundError) and was_there else cause)

    def _caught_up(self) -> None:
        """The log is read to its end, and goes on arriving."""
        if self.closed:
            return
        self._core.past_is_read = True
        if self._core.replaying:
            self._core.replaying = False
            self._endings.history_is_read()
        elif self.log.status in ("terminated", "deleted"):
            self._endings.end_session(None)
        elif self.log.doomed:
            # The end that a terminal error announces was missed, and a terminated session may list none.
            self._terminated()
        if not self.closed:
            self._conversation.caught_up()
            self._turns.ask_guard()
            self._core.emit(*self.connection.go_live())

    def _terminated(self) -> None:
        self.log.absorb(Ended("terminated"))
        self._endings.terminated()

    # --- posts, looks and timers ----------------------------------------------------------------------------------

    def _on_post_failed(self, post_id: int, error: ManagedAgentsError) -> None:
        match self._postman.failed(post_id, error):
            case Refused() as refused:
                self._endings.refused(refused)
            case Lost(cause=cause):
                self._endings.end_session(cause)

    def _on_look_failed(self, error: ManagedAgentsError) -> None:
        if is_permanent(error):
            self._lost(error)
            return
        self._look_failures += 1
        self._core.emit(Backoff("look", self._look_failures))

    def _on_looked(self, events: Sequence[Event], status: str | None) -> None:
        is_whole = self._reader.read_look(events)
        if self.closed:
            return
        if status == "terminated":
            self._terminated()
            return
        if not is_whole and self._look_failures < MOST_PARTIAL_LOOKS:
            self._look_failures += 1
            self._core.emit(Backoff("look", self._look_failures))
            return
        self._look_failures = 0
        for refused in self._postman.log_was_read():
            self._endings.refused(refused)
        self._core.looked()
        self._quiet.looked(status)

    def _on_timer(self, key: TimerKey) -> None:
        match key:
            case "reconnect":
                self._core.emit(*self.connection.retry(self._reader.landmark()))
            case "healthy":
                self.connection.failures = 0
            case "deadline":
                self._endings.deadline()
            case "stall":
                self._quiet.lasted()
            case "probe":
                self._quiet.probe()
            case "look":
                self._core.emit(Look())
            case "grace":
                self._endings.close(None)
            case ("post", int(post_id)):
                self._postman.wait_is_over(post_id)
            case _:
                pass
