"""The session machine: mail in, effects out. It decides everything a session does and performs nothing.

No clock, no randomness, no I/O: the shell that feeds it owns those. Its laws are in the design notes ("The session
machine"): each event once and in order, attach before listing, nothing posted while detached, each call taken up once,
one terminal per request.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .._errors import (
    ActorGone,
    APIError,
    MailboxFull,
    ManagedAgentsError,
    MaxTurnsExceeded,
    NotFoundError,
    SessionError,
    SessionGone,
    SessionTimeout,
    StreamLost,
    TurnHalted,
    UnresolvedRequiresAction,
)
from .._model import Event, ResultError, SessionResult, Terminal, ToolResult, ToolUse, Usage
from .call_desk import CallDesk
from .connection import Connection, is_permanent
from .consolidate import Admission, SeenEvents, SessionLog
from .facts import (
    Activity,
    Answered,
    Called,
    Classify,
    Decided,
    Ended,
    Fact,
    Graded,
    Idled,
    Interrupted,
    PreviewText,
    Running,
    Said,
    Spent,
    Unrecognised,
    UserSpoke,
)
from .ledger import Ledger
from .mail import (
    Announce,
    Answer,
    AskGuard,
    AskPolicy,
    Attached,
    Backoff,
    CancelTimer,
    CancelTool,
    Close,
    Confirmation,
    ConfirmWanted,
    Deliver,
    Detached,
    Effect,
    Goal,
    GuardSpoke,
    History,
    HistoryRead,
    Interrupt,
    InterruptWanted,
    Live,
    Look,
    Looked,
    LookFailed,
    Mail,
    Message,
    Opened,
    OpenFailed,
    Origin,
    PolicySpoke,
    Post,
    Posted,
    PostFailed,
    RawEvent,
    Reply,
    ReplyError,
    Report,
    RunTool,
    Say,
    SendEvent,
    SetTimer,
    StopWanted,
    TimerFired,
    TimerKey,
    Token,
    ToolFinished,
)
from .outbox import MAX_ATTEMPTS, Delivery, Outbox, Stage, judge
from .requests import REPROMPT, Boundary, Request

TEXT_DELTA = "managed_agents.text_delta"

# Messages that wait for their turn. A person types a few; a program that is hundreds ahead of its agent wants to know.
MAX_QUEUED_MESSAGES = 256

# A run that failed waits this long (seconds) for its interrupt to be taken, so that the provider stops working.
INTERRUPT_GRACE = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSettings:
    """What a session was asked to be.

    Attributes:
        resumed: Whether the session existed before.
        one_shot: Whether the machine closes after one request (a run), or lives on.
        owns: Whether a custom tool of this name is this process's to run.
        has_policy: Whether a confirmation policy can be asked.
        has_guard: Whether a turn guard can be asked.
        timeout: Seconds for a request; for a run, from its very start.
        kickoff: What the session is opened with.
        kickoff_token: Who waits for the first request's terminal.
        unresolved_after: Seconds of quiet before a wait that nobody here can end is looked into.
    """

    resumed: bool = False
    one_shot: bool = False
    owns: Callable[[str], bool] = lambda _name: True
    has_policy: bool = False
    has_guard: bool = False
    max_turns: int = 50
    terminal_tool: str | None = None
    require_terminal_tool: bool = False
    max_reprompts: int = 2
    timeout: float | None = None
    kickoff: Message | Goal | None = None
    kickoff_token: Token | None = None
    unresolved_after: float = 10.0
    max_attempts: int | None = None
    healthy_after: float = 10.0


class SessionMachine:
    """One session's decisions. Feed every mail to :meth:`receive` and perform the effects in order.

    Attributes:
        log: The provider's side of the truth.
        desk: What is being done about the open calls.
        outbox: Inputs on their way.
        connection: Where the stream stands.
        session_id: The provider's id, once known.
        active: The request in progress.
        queue: Requests that wait for their turn.
        closed: Whether the machine has ended; it then only refuses callers.
    """

    def __init__(self, settings: MachineSettings, classify: Classify) -> None:
        self._settings = settings
        self._classify = classify
        self.log = SessionLog()
        self.desk = CallDesk(settings.owns)
        self.outbox = Outbox()
        self.connection = Connection(max_attempts=settings.max_attempts, healthy_after=settings.healthy_after)
        self.session_id: str | None = None
        self.active: Request | None = None
        self.queue: deque[Request] = deque()
        self.closed = False
        self._ledger = Ledger()
        self._seen = SeenEvents()
        self._effects: list[Effect] = []
        self._shown: list[Event] = []
        self._origin: Origin = "live"
        self._idless: list[Event] = []
        self._problems: dict[str, str] = {}
        self._reported: set[str] = set()
        self._replaying = settings.resumed
        self._waits_for_last = settings.kickoff_token if settings.kickoff is None else None
        # After an answer that may have been given twice, a provider may run an empty cycle; its idle ends nothing.
        self._only_duplicate = False
        self._reposted = False
        self._looking = False
        self._look_failures = 0
        self._stall_armed = False
        self._stall_due = False
        self._winding_down = False

    # --- the interface of the shell -------------------------------------------------------------------------------

    @property
    def ledger(self) -> Ledger:
        """The account of the current request, or of the last one."""
        return self.active.ledger if self.active is not None else self._ledger

    def start(self) -> list[Effect]:
        """Give the effects a session begins with."""
        settings = self._settings
        if settings.kickoff is not None:
            waiting = [] if settings.kickoff_token is None else [settings.kickoff_token]
            self.queue.append(Request(input=settings.kickoff, results=waiting, is_kickoff=True))
        if settings.one_shot and settings.timeout is not None:
            return [SetTimer("deadline", settings.timeout)]
        return []

    def receive(self, mail: Mail) -> list[Effect]:
        """Take one mail in and give the effects to perform, in order."""
        if self.closed:
            self._refuse(mail)
        else:
            self._handle(mail)
            if not self.closed:
                self._advance()
        self._flush()
        effects, self._effects = self._effects, []
        return effects

    def _handle(self, mail: Mail) -> None:
        match mail:
            case Live(generation=generation, events=events):
                if generation == self.connection.generation:
                    self._absorb(events, "live")
            case ToolFinished(tool_use_id=call_id, result=result):
                self._on_tool_finished(call_id, result)
            case Posted(post_id=post_id, echo=echo):
                delivery = self.outbox.get(post_id)
                if delivery is not None:
                    self._accepted(delivery, echo)
            case PostFailed(post_id=post_id, error=error):
                self._on_post_failed(post_id, error)
            case TimerFired(key=key):
                self._on_timer(key)
            case PolicySpoke():
                self._on_policy(mail)
            case GuardSpoke():
                self._on_guard(mail)
            case Looked(events=events, status=status):
                self._on_looked(events, status)
            case LookFailed(error=error):
                self._on_look_failed(error)
            case Opened() | OpenFailed() | Attached() | History() | HistoryRead() | Detached():
                self._on_connection(mail)
            case _:
                self._on_command(mail)

    def _on_command(self, mail: Mail) -> None:
        match mail:
            case Say():
                self._on_say(mail)
            case SendEvent(event=event, token=token):
                self.outbox.add(RawEvent(event), token)
            case ConfirmWanted(confirmation=confirmation, token=token):
                self.outbox.add(confirmation, token)
            case InterruptWanted(token=token):
                self._on_interrupt(token)
            case StopWanted(error=error):
                self._close(error, error or ActorGone("the session was stopped"))

    def _refuse(self, mail: Mail) -> None:
        gone = ActorGone("the session has ended; open it again, with its session_id, to go on")
        match mail:
            case Say(delivery=delivery, result=result):
                self._effects += [ReplyError(token, gone) for token in (delivery, result) if token is not None]
            case SendEvent(token=token) | ConfirmWanted(token=token) | InterruptWanted(token=token):
                self._effects.append(ReplyError(token, gone))
            case _:
                pass

    # --- the stream -----------------------------------------------------------------------------------------------

    def _on_connection(self, mail: Mail) -> None:
        connection = self.connection
        match mail:
            case Opened(session_id=session_id, blank=blank):
                self.session_id = session_id
                self._effects += connection.open(blank=blank)
            case OpenFailed(error=error):
                if isinstance(error, NotFoundError) and self._settings.resumed:
                    self._end_session(None)
                else:
                    self._end_session(error)
            case Attached(generation=generation):
                if generation == connection.generation and not connection.reads_history:
                    self._catch_up()
            case History(generation=generation, events=events):
                if generation == connection.generation:
                    self._relist(events)
            case HistoryRead(generation=generation):
                if generation == connection.generation:
                    self._absorb(self._idless, "history")
                    self._idless = []
                    self._catch_up()
            case Detached(generation=generation, cause=cause):
                if generation == connection.generation:
                    self._on_detached(cause)
            case _:
                pass

    def _on_detached(self, cause: ManagedAgentsError | None) -> None:
        self._idless = []
        self._disarm()
        if is_permanent(cause):
            self._end_session(None if isinstance(cause, NotFoundError) else cause)
            return
        effects = self.connection.lose(cause)
        if effects is None:
            self._end_session(cause or StreamLost("the stream kept ending before its session did"))
        else:
            self._effects += effects

    def _catch_up(self) -> None:
        if self.closed:
            return
        if self._replaying:
            self._replaying = False
            self._adopt_history()
        elif self.log.status == "running" and self.log.error and self.log.error.retry_status == "terminal":
            # The end that a terminal error announces was missed, and a terminated session lists none.
            self.log.absorb(Ended("terminated"))
            self._on_ended("terminated")
        if not self.closed:
            self._effects += self.connection.go_live()

    def _adopt_history(self) -> None:
        """The log of a session that existed before is read: see what is still to be done."""
        if self.log.status in ("terminated", "deleted"):
            self._end_session(None)
        elif self._waits_for_last is not None:
            token, self._waits_for_last = self._waits_for_last, None
            if self.active is not None:
                self.active.results.append(token)
            else:
                self._nothing_to_do(token)

    def _nothing_to_do(self, token: Token) -> None:
        stopped = self.log.stopped
        known = self._ledger.result(
            self.session_id,
            stopped.terminal if stopped else "end_turn",
            stopped.stop_reason if stopped else None,
            error=self.log.error,
        )
        self._flush()
        self._effects.append(Reply(token, replace(known, turns=0, usage=Usage())))
        self._close(None)

    # --- the log --------------------------------------------------------------------------------------------------

    def _relist(self, events: Sequence[Event]) -> None:
        """Absorb a listing. An event without an id is new only if no event that follows it is known already."""
        for event in events:
            event_id = event.get("id")
            if not isinstance(event_id, str) or not event_id:
                self._idless.append(event)
                continue
            fresh = [] if event_id in self._seen else self._idless
            self._absorb([*fresh, event], "history")
            self._idless = []

    def _absorb(self, events: Sequence[Event], origin: Origin) -> None:
        if origin != self._origin:
            self._flush()
            self._origin = origin
        for event in events:
            admission = self._seen.admit(event)
            if admission is Admission.NEW:
                self._take(event, self._classify(event))
            elif admission is Admission.UPDATED:
                self._update(self._classify(event))
            if self.closed:
                return

    def _take(self, event: Event, fact: Fact) -> None:
        """Absorb one new event: prepare the request it belongs to, account for it, then act on it."""
        self._disarm()
        self._prepare(fact)
        closed = self.log.absorb(fact)
        ledger = self.ledger
        if not isinstance(fact, PreviewText):
            ledger.record(event)
            self._shown.append(event)
        delta = ledger.absorb(event, fact)
        if delta:
            shown_id = fact.event_id if isinstance(fact, PreviewText) else event.get("id")
            self._shown.append({"type": TEXT_DELTA, "text": delta, "event_id": shown_id})
        for call_id in closed:
            self._put_away(call_id)
        self._act(fact)

    def _update(self, fact: Fact) -> None:
        """A queued event came back processed: only what depends on that changes."""
        self._disarm()
        if isinstance(fact, Interrupted):
            for call_id in self.log.absorb(fact):
                self._put_away(call_id)
        elif isinstance(fact, UserSpoke):
            self._on_input_taken()

    def _prepare(self, fact: Fact) -> None:
        match fact:
            case UserSpoke():
                self._on_user_spoke(fact)
            case Activity() | Said() | Called() | PreviewText() | Spent() | Graded():
                self._on_work(fact)
            case Answered(tool_use_id=call_id):
                self._only_duplicate = self._only_duplicate or self.log.has_answer(call_id)
            case Decided(tool_use_id=call_id):
                for delivery in self.outbox.of_call(call_id):
                    if isinstance(delivery.input, Confirmation):
                        delivery.seen = True
            case Running():
                request = self.active
                if request is not None and request.sent and not self._reposted:
                    request.begun = True
            case _:
                pass

    def _act(self, fact: Fact) -> None:
        match fact:
            case Called(use=use, problem=problem):
                if problem is not None:
                    self._problems[use.id] = problem
                if self.active is not None and self.desk.standing(use) != "provider":
                    self.active.round.add(use.id)
            case Idled():
                self._on_idle(fact)
            case Ended(how=how):
                self._on_ended(how)
            case Unrecognised(what=what):
                if what not in self._reported:
                    self._reported.add(what)
                    self._effects.append(Report("unrecognised_event", what))
            case _:
                pass

    def _on_user_spoke(self, fact: UserSpoke) -> None:
        mine = self.outbox.match(fact.content)
        if mine is None:
            if self.active is None:
                self.active = Request()
            return
        if mine.stage in (Stage.WAITING, Stage.UNCLEAR, Stage.CHECKING):
            self._accepted(mine, ())
        if fact.taken and self.active is not None and self.active.post_id == mine.id:
            self.active.begun = True

    def _on_input_taken(self) -> None:
        request = self.active
        if request is None:
            self.active = Request()
        elif request.sent and not request.begun:
            request.begun = True

    def _on_work(self, fact: Fact) -> None:
        """The model is at work: on the request in progress, or on one that this process did not start."""
        self._only_duplicate = self._reposted = False
        request = self.active
        if request is None:
            if isinstance(fact, Spent | Graded):
                return
            request = self.active = Request(ledger=self._ledger, begun=True)
        elif request.input is None or request.sent:
            request.begun = True
        if isinstance(fact, Activity) and fact.begins and request.round and request.round.isdisjoint(self.log.calls):
            # The model goes on after its calls were answered, though no idle ever said that it had waited.
            self._end_turn(request, "requires_action", None)

    # --- turns and requests ---------------------------------------------------------------------------------------

    def _on_idle(self, idle: Idled) -> None:
        request = self.active
        if request is None:
            return
        if self.log.waiting_for is not None:
            if request.round:
                self._end_turn(request, "requires_action", idle.stop_reason)
            return
        if self._replaying:
            self._end_turn(request, idle.terminal, idle.stop_reason)
            return
        if not request.begun:
            return  # said before the provider had begun on this request; if it is its end after all, a look will tell
        if self._only_duplicate:
            self._only_duplicate = False
            return
        self._end_turn(request, idle.terminal, idle.stop_reason)

    def _end_turn(self, request: Request, terminal: Terminal, stop_reason: Any) -> None:
        request.round.clear()
        request.ledger.end_turn()
        if self._replaying:
            if terminal != "requires_action":
                self._retire(request)
        elif self._settings.has_guard:
            request.boundaries.append(Boundary(terminal, stop_reason))
            turn = request.ledger.turn_result(self.session_id or "", terminal, stop_reason)
            self._effects.append(AskGuard(turn))
        else:
            self._pass_boundary(request, terminal, stop_reason)

    def _on_guard(self, mail: GuardSpoke) -> None:
        request = self.active
        if request is None or not request.boundaries:
            return  # the request ended while its guard was thinking
        boundary = request.boundaries.popleft()
        if mail.halt is None:
            self._pass_boundary(request, boundary.terminal, boundary.stop_reason)
            return
        reason = mail.halt.reason
        message = f"the turn guard halted the request after turn {request.ledger.turns}: {reason!r}"
        self._fail(request, lambda result: TurnHalted(message, result=result, reason=reason))

    def _pass_boundary(self, request: Request, terminal: Terminal, stop_reason: Any) -> None:
        if terminal != "requires_action":
            self._conclude(request, terminal, stop_reason)
        elif request.ledger.turns >= self._settings.max_turns:
            self._fail_max_turns(request)

    def _fail_max_turns(self, request: Request) -> None:
        allowed = self._settings.max_turns
        message = f"the request wants another turn after {allowed}; raise max_turns if it may go on"
        self._fail(request, lambda result: MaxTurnsExceeded(message, result=result))

    def _conclude(self, request: Request, terminal: Terminal, stop_reason: Any) -> None:
        """The request's last turn is over, unless the terminal tool has to be asked for."""
        if self._lacks_terminal_tool(request, stop_reason):
            if request.reprompts < self._settings.max_reprompts:
                self._reprompt(request)
                return
            terminal, stop_reason = "end_turn", "no_terminal_tool"
        error = self.log.error if terminal == "terminated" else None
        self._finish(request, request.ledger.result(self.session_id, terminal, stop_reason, error=error))

    def _lacks_terminal_tool(self, request: Request, stop_reason: Any) -> bool:
        settings = self._settings
        ended_by_itself = _reason(stop_reason) == "end_turn" and not request.interrupted and request.input is not None
        return (
            settings.require_terminal_tool
            and ended_by_itself
            and settings.terminal_tool not in request.ledger.custom_tool_names
        )

    def _reprompt(self, request: Request) -> None:
        if request.ledger.turns >= self._settings.max_turns:
            self._fail_max_turns(request)
            return
        request.reprompts += 1
        request.begun = request.sent = False
        prompt = Message(REPROMPT.format(tool=self._settings.terminal_tool))
        request.post_id = self.outbox.add(prompt).id

    def _on_ended(self, how: str) -> None:
        if self._replaying:
            return  # told when the whole history is read
        if how == "deleted":
            self._end_session(None)
            return
        request = self.active
        if request is not None:
            request.ledger.end_turn()
            result = request.ledger.result(self.session_id, "terminated", None, error=self.log.error, resumable=False)
            self._finish(request, result)
        if not self.closed:
            self._close(None, self._gone(self._ledger))

    def _finish(self, request: Request, result: SessionResult, error: ManagedAgentsError | None = None) -> None:
        """The one place where a request ends: its terminal is announced, once, and its callers are answered."""
        self._flush()
        self._retire(request)
        self._effects.append(Announce(result))
        if request.delivery is not None:
            answer = Reply(request.delivery, "delivered") if error is None else ReplyError(request.delivery, error)
            self._effects.append(answer)
        for token in request.results:
            self._effects.append(Reply(token, result) if error is None else ReplyError(token, error))
        if self._settings.one_shot and request.results:
            self._wind_down()

    def _retire(self, request: Request) -> None:
        if request in self.queue:
            self.queue.remove(request)
            return
        self.active = None
        self._ledger = request.ledger
        self._stall_due = False
        if self._settings.timeout is not None and not self._settings.one_shot:
            self._effects.append(CancelTimer("deadline"))

    def _fail(
        self, request: Request, failure: ManagedAgentsError | Callable[[SessionResult], SessionError]
    ) -> ManagedAgentsError:
        """End a request on our side: stop what runs for it, here and at the provider, and announce the failure."""
        stopped = self.log.stopped
        result = request.ledger.result(
            self.session_id,
            "terminated",
            stopped.stop_reason if stopped else None,
            resumable=self.session_id is not None,
        )
        error = failure if isinstance(failure, ManagedAgentsError) else failure(result)
        resumable = result.resumable and not isinstance(error, SessionGone)
        told = ResultError(type=type(error).__name__, message=str(error), exception=error)
        result = replace(result, error=told, resumable=resumable)
        if isinstance(error, SessionError):
            error.result = result
        if request is self.active:
            self._release(request, resumable=resumable)
        self._finish(request, result, error)
        return error

    def _release(self, request: Request, *, resumable: bool) -> None:
        """Stop the work on a request: its tools, its unsent inputs, and the provider's own work on it."""
        busy = self.log.status == "running" or self.log.waiting_for is not None or (request.sent and not request.begun)
        self._abandon_calls()
        for delivery in self.outbox:
            if delivery.id == request.post_id and delivery.stage is not Stage.FLYING:
                self.outbox.settle(delivery)
        if resumable and busy and self.connection.live:
            self.outbox.add(Interrupt())

    def _wind_down(self) -> None:
        """A run is over: close as soon as its interrupt, if it needed one, is taken."""
        self._winding_down = True
        if any(isinstance(delivery.input, Interrupt) for delivery in self.outbox):
            self._effects.append(SetTimer("grace", INTERRUPT_GRACE))

    def _gone(self, ledger: Ledger) -> SessionGone:
        return SessionGone(
            f"session {self.session_id or '(unknown)'} is gone: deleted, terminated or never there; start a new one",
            result=ledger.result(self.session_id, "terminated", None, resumable=False),
        )

    def _end_session(self, cause: ManagedAgentsError | None) -> None:
        """The session cannot go on: it is gone (no cause given), or the cause forbids it."""
        ended: ManagedAgentsError = cause or self._gone(self.ledger)
        for request in [r for r in (self.active, *self.queue) if r is not None]:
            ended = self._fail(request, cause or self._gone(request.ledger))
        if self._waits_for_last is not None:
            self._effects.append(ReplyError(self._waits_for_last, ended))
        self._close(ended)

    # --- what callers want ----------------------------------------------------------------------------------------

    def _on_say(self, mail: Say) -> None:
        if len(self.queue) >= MAX_QUEUED_MESSAGES:
            full = MailboxFull(f"{MAX_QUEUED_MESSAGES} messages wait for their turn already; wait for terminals first")
            self._effects += [ReplyError(t, full) for t in (mail.delivery, mail.result) if t is not None]
            return
        request = Request(
            input=mail.input, delivery=mail.delivery, results=[] if mail.result is None else [mail.result]
        )
        self.queue.append(request)
        if self.connection.live:
            self._start_next()
        if request is not self.active and request.delivery is not None:
            self._effects.append(Reply(request.delivery, "queued"))
            request.delivery = None

    def _on_interrupt(self, token: Token) -> None:
        request = self.active
        if request is None and self.log.status != "running" and self.log.waiting_for is None:
            self._effects.append(Reply(token, None))  # nothing is going on that could be cut short
            return
        if request is not None:
            request.interrupted = True
        self._abandon_calls()
        self.outbox.add(Interrupt(), token)

    def _start_next(self) -> None:
        if self.active is not None or not self.queue or self._winding_down:
            return
        if self.outbox.conversing() or self.log.status == "running" or self.log.unread_input:
            return  # an input is still on its way, or the session is at work for somebody else
        request = self.queue.popleft()
        self.active, self._ledger = request, request.ledger
        if request.input is not None:
            request.post_id = self.outbox.add(request.input).id
        if self._settings.timeout is not None and not self._settings.one_shot:
            self._effects.append(SetTimer("deadline", self._settings.timeout))

    # --- calls ----------------------------------------------------------------------------------------------------

    def _take_up_calls(self) -> None:
        for use in self.log.calls.values():
            if use.id in self.desk.taken:
                continue
            standing = self.desk.standing(use)
            if standing == "gated":
                self._take_up_gated(use)
            elif standing == "run":
                self._run(use)
            elif standing == "left" and use.id not in self.desk.left:
                self.desk.left.add(use.id)
                self._effects.append(Report("call_left_to_others", f"{use.name} ({use.id})"))

    def _take_up_gated(self, use: ToolUse) -> None:
        verdict = self.log.verdicts.get(use.id)
        if verdict is not None:
            if verdict == "allow" and use.kind == "custom":
                self._run(use)
        elif use.id not in self.desk.asked:
            self.desk.asked.add(use.id)
            if self._settings.has_policy:
                self._effects.append(AskPolicy(use))
            else:
                self.desk.unanswerable.add(use.id)

    def _run(self, use: ToolUse) -> None:
        problem = self._problems.pop(use.id, None)
        if problem is None:
            self.desk.start(use)
            self._effects.append(RunTool(use))
        else:
            self._answer(use, f"This call could not be run: {problem}.")

    def _answer(self, use: ToolUse, refusal: str) -> None:
        self._on_result(
            use, ToolResult(tool_use_id=use.id, content=({"type": "text", "text": refusal},), is_error=True)
        )

    def _on_result(self, use: ToolUse, result: ToolResult) -> None:
        self.desk.finish(use.id, result)
        self.outbox.add(Answer(use, result))

    def _on_tool_finished(self, call_id: str, result: ToolResult) -> None:
        use = self.log.calls.get(call_id)
        if use is not None and call_id in self.desk.running:
            self._on_result(use, result)

    def _on_policy(self, mail: PolicySpoke) -> None:
        use = self.log.calls.get(mail.tool_use_id)
        if use is None or use.id not in self.desk.asked:
            return
        if mail.verdict is None:
            self.desk.unanswerable.add(use.id)
        elif use.kind != "custom":
            self.outbox.add(Confirmation(use.id, mail.verdict, mail.message))
        elif mail.verdict == "allow":
            self._run(use)
        else:
            self._answer(use, mail.message or "This call was denied.")

    def _put_away(self, call_id: str) -> None:
        """A call is closed: whatever is still being done about it is in vain."""
        self._problems.pop(call_id, None)
        if self.desk.drop(call_id):
            self._effects.append(CancelTool(call_id))
        self._settle_call(call_id)

    def _abandon_calls(self) -> None:
        for call_id in self.log.calls:
            if self.desk.abandon(call_id):
                self._effects.append(CancelTool(call_id))
            self._settle_call(call_id)

    def _settle_call(self, call_id: str) -> None:
        for delivery in self.outbox.of_call(call_id):
            if delivery.stage is Stage.FLYING:
                delivery.seen = True  # however its request ends, it does not matter any more
            else:
                self._accepted(delivery, ())

    # --- deliveries -----------------------------------------------------------------------------------------------

    def _accepted(self, delivery: Delivery, echo: Sequence[Event]) -> None:
        self.outbox.accept(delivery)
        request = self.active
        if request is not None and request.post_id == delivery.id and request.delivery is not None:
            self._effects.append(Reply(request.delivery, "delivered"))
            request.delivery = None
        if delivery.token is not None:
            self._effects.append(Reply(delivery.token, list(echo) if isinstance(delivery.input, RawEvent) else None))

    def _on_post_failed(self, post_id: int, error: ManagedAgentsError) -> None:
        delivery = self.outbox.get(post_id)
        if delivery is None:
            return
        if delivery.seen:
            self._accepted(delivery, ())
            return
        judgement = judge(error)
        if judgement in ("gone", "denied"):
            self._end_session(None if judgement == "gone" else error)
        elif judgement == "rejected" or delivery.attempts >= MAX_ATTEMPTS:
            self._on_rejected(delivery, error)
        else:
            delivery.stage = Stage.WAITING if judgement == "not_taken" else Stage.UNCLEAR
            if isinstance(delivery.input, Answer) and judgement == "unclear":
                self._reposted = True
            retry_after = error.retry_after if isinstance(error, APIError) else None
            self._effects.append(Backoff(("post", delivery.id), delivery.attempts, retry_after))
            self._effects.append(Report("post_retry", f"{type(delivery.input).__name__} after {error}"))

    def _on_rejected(self, delivery: Delivery, error: ManagedAgentsError) -> None:
        if delivery.tool_use_id is not None and delivery.token is None:
            # Refused, perhaps because the call is closed already: only the log can tell.
            delivery.stage, delivery.error = Stage.DISPUTED, error
            self._look()
            return
        self.outbox.settle(delivery)
        if delivery.token is not None:
            self._effects.append(ReplyError(delivery.token, error))
        request = self.active
        if request is not None and request.post_id == delivery.id:
            request.sent = False
            self._fail(request, error)
            if request.is_kickoff and not self._settings.one_shot:
                self._close(error)

    def _resolve_disputed(self, delivery: Delivery) -> None:
        self.outbox.settle(delivery)
        call_id, refusal = delivery.tool_use_id, delivery.error
        if call_id is None or call_id not in self.log.calls or self.active is None:
            return
        name = self.log.calls[call_id].name
        message = f"the answer to call {call_id} ({name}) was refused: {refusal}"

        def failure(result: SessionResult) -> SessionError:
            error = SessionError(message, result=result)
            error.__cause__ = refusal
            return error

        self._fail(self.active, failure)

    # --- timers and looks -----------------------------------------------------------------------------------------

    def _on_timer(self, key: TimerKey) -> None:
        match key:
            case "reconnect":
                self._effects += self.connection.retry()
            case "healthy":
                self.connection.failures = 0
            case "deadline":
                self._on_deadline()
            case "stall":
                self._stall_armed, self._stall_due = False, True
                self._look()
            case "look":
                self._effects.append(Look())
            case "grace":
                self._close(None)
            case ("post", int(post_id)):
                self._on_post_timer(post_id)
            case _:
                pass

    def _on_post_timer(self, post_id: int) -> None:
        delivery = self.outbox.get(post_id)
        if delivery is None:
            return
        if delivery.stage is Stage.WAITING:
            delivery.stage = Stage.HELD
        elif delivery.stage is Stage.UNCLEAR:
            delivery.stage = Stage.CHECKING
            self._look()

    def _on_deadline(self) -> None:
        message = f"the request did not end within {self._settings.timeout} seconds"
        waiting = [
            r for r in (self.active, *self.queue) if r is not None and (r.results or not self._settings.one_shot)
        ]
        token, self._waits_for_last = self._waits_for_last, None
        if token is not None:
            waiting = [Request(results=[token])]
            self.queue.append(waiting[0])
        if waiting:
            self._fail(waiting[0], lambda result: SessionTimeout(message, result=result))

    def _look(self) -> None:
        if not self._looking:
            self._looking = True
            self._effects += [Look(), Report("looking", "reading the history to settle what is unclear")]

    def _on_look_failed(self, error: ManagedAgentsError) -> None:
        if is_permanent(error):
            self._end_session(None if isinstance(error, NotFoundError) else error)
            return
        self._look_failures += 1
        self._effects.append(Backoff("look", self._look_failures))

    def _on_looked(self, events: Sequence[Event], status: str | None) -> None:
        self._looking, self._look_failures = False, 0
        self._relist(events)
        self._idless = []  # the stream is attached: what has no id comes, or came, on it
        if self.closed:
            return
        if status == "terminated" and self.log.status != "terminated":
            self.log.absorb(Ended("terminated"))
            self._on_ended("terminated")
            return
        for delivery in self.outbox.in_stage(Stage.CHECKING):
            if delivery.seen:
                self._accepted(delivery, ())
            else:
                delivery.stage = Stage.HELD
        for delivery in self.outbox.in_stage(Stage.DISPUTED):
            self._resolve_disputed(delivery)
        if self._stall_due and not self.closed and self._is_stalled():
            self._stall_due = False
            self._resolve_stall(status)

    # --- quiet ----------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Do what the present state allows; called once after every mail."""
        if self._winding_down and not any(isinstance(d.input, Interrupt) for d in self.outbox):
            self._close(None)
            return
        if not self.connection.live:
            return
        self._take_up_calls()
        self._start_next()
        for delivery in self.outbox.to_send():
            if self.active is not None and self.active.post_id == delivery.id:
                self.active.sent = True
            self._effects.append(Post(delivery.id, delivery.input))
        self._watch()

    def _watch(self) -> None:
        if not self._is_stalled():
            self._disarm()
            return
        request = self.active
        if request is not None and self._needs_action():
            self._surface_action(request)
        elif not self._stall_armed:
            self._stall_armed = True
            self._effects.append(SetTimer("stall", self._settings.unresolved_after))

    def _disarm(self) -> None:
        self._stall_due = False
        if self._stall_armed:
            self._stall_armed = False
            self._effects.append(CancelTimer("stall"))

    def _is_stalled(self) -> bool:
        """Whether the provider is quiet, nothing is under way here, and yet somebody waits."""
        if not self.connection.live or self._looking or len(self.outbox) or self.desk.running:
            return False
        request, log = self.active, self.log
        if request is None:
            return bool(self.queue)
        if request.boundaries or any(self.desk.is_busy(call_id) for call_id in log.calls):
            return False
        return log.status == "idle" or (log.unread_input and not request.begun and request.input is None)

    def _needs_action(self) -> bool:
        """Whether all that the session waits for is known, and part of it is a confirmation nobody here can give."""
        waited = self.log.waiting_for
        if not waited or not all(self.log.knows(call_id) for call_id in waited):
            return False
        still_open = [call_id for call_id in waited if call_id in self.log.calls]
        gated = [call_id for call_id in still_open if call_id in self.desk.unanswerable]
        return bool(gated) and all(
            call_id in self.desk.unanswerable or call_id in self.desk.left for call_id in still_open
        )

    def _surface_action(self, request: Request) -> None:
        stopped = self.log.stopped
        reason = stopped.stop_reason if stopped else None
        self._finish(request, request.ledger.result(self.session_id, "requires_action", reason))

    def _resolve_stall(self, status: str | None) -> None:
        """A look brought nothing new: draw the conclusion that the state allows."""
        request, log = self.active, self.log
        if status == "running":
            return
        if request is None:
            log.status, log.unread_input = (
                "idle",
                False,
            )  # the listing says otherwise, but the session itself was asked
        elif log.waiting_for is not None:
            self._resolve_wait(request, log.waiting_for)
        elif log.stopped is not None and log.status == "idle":
            self._end_turn(request, log.stopped.terminal, log.stopped.stop_reason)
        else:
            # Input of another client, or of an earlier run, that the provider has dropped.
            log.unread_input = False
            self._retire(request)
            for token in request.results:
                self._nothing_to_do(token)

    def _resolve_wait(self, request: Request, waited: tuple[str, ...]) -> None:
        still_open = [self.log.calls[i] for i in waited or self.log.calls if i in self.log.calls]
        lost = [use for use in still_open if use.id in self.desk.results]
        if lost:
            for use in lost:
                self._reposted = True
                self.outbox.add(Answer(use, self.desk.results[use.id]))
        elif still_open:
            self._surface_action(request)
        elif not waited or not all(self.log.knows(call_id) for call_id in waited):
            stopped = self.log.stopped
            reason = stopped.stop_reason if stopped else None
            message = f"the session waits for calls that neither its stream nor its history knows: {reason!r}"
            self._fail(request, lambda result: UnresolvedRequiresAction(message, result=result, stop_reason=reason))

    def _close(self, error: ManagedAgentsError | None, told: ManagedAgentsError | None = None) -> None:
        """End: nobody who waits is left without an answer."""
        gone = told or error or ActorGone("the session has ended")
        for request in [r for r in (self.active, *self.queue) if r is not None]:
            self._fail(request, gone)
        for delivery in self.outbox:
            self.outbox.settle(delivery)
            if delivery.token is not None:
                self._effects.append(ReplyError(delivery.token, gone))
        self._flush()
        self.connection.phase = "closed"
        self.closed = True
        self._effects.append(Close(error))

    def _flush(self) -> None:
        if self._shown:
            self._effects.append(Deliver(self._shown, self._origin))
            self._shown = []


def _reason(stop_reason: Any) -> str | None:
    """The bare name of a stop reason, for providers that wrap it and for those that do not."""
    if isinstance(stop_reason, dict):
        kind = stop_reason.get("type")
        return kind if isinstance(kind, str) else None
    return stop_reason if isinstance(stop_reason, str) else None
