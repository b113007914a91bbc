"""The requests of a session, one at a time: how each begins, and the one way in which each ends.

Whatever ends a request, a result, a failure of ours or the end of the session, its terminal is announced once and
everybody who waits for it is answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ..._errors import MailboxFull, ManagedAgentsError, SessionError, SessionGone
from ..._model import Event, ResultError, SessionResult, Usage
from ..consolidate import SeenEvents
from ..effects import CancelTimer, Reply, ReplyError, SetTimer
from ..facts import UserSpoke
from ..ledger import Ledger
from ..mail import Confirmation, Interrupt, RawEvent, Say, Token
from ..outbox import Delivery, Stage
from .calls import Calls
from .core import Core
from .handover import Afterwards, Handover
from .postman import Postman
from .progress import Progress
from .requests import Request

# Messages that wait for their turn. A person types a few; a program that is hundreds ahead of its agent wants to know.
MAX_QUEUED_MESSAGES = 256

# What ends waits this long (seconds) for an interrupt of ours to be taken, so that the provider stops working.
INTERRUPT_GRACE = 2.0


class Conversation:
    """The requests of one session.

    Attributes:
        active: The request in progress.
        queue: Requests that wait for their turn.
        last: The account of the last request.
        progress: Tells of the course of each.
        winding_down: Whether the end is decided, and only an interrupt on its way is waited for.
        leaves_work: Whether a request was given up while the provider was at work on it, and still may be.
        inherited: The request that was in progress when an earlier machine ended, until its place in the log is found.
    """

    __slots__ = (
        "_after",
        "_calls",
        "_core",
        "_given_up",
        "_postman",
        "_predecessor",
        "_settled",
        "active",
        "inherited",
        "last",
        "leaves_work",
        "progress",
        "queue",
        "winding_down",
    )

    def __init__(self, core: Core, postman: Postman, calls: Calls, handover: Handover | None = None) -> None:
        self._core = core
        self._postman = postman
        self._calls = calls
        self.last = Ledger()
        self._settled = Usage()  # what was in it when its request ended
        self.winding_down = False
        # Inputs that the provider has queued though their requests are over: it may begin on them yet.
        self._given_up: dict[object, None] = {} if handover is None else dict.fromkeys(handover.given_up)
        self._predecessor = handover
        self.progress = Progress(core, calls, handover)
        self._after: Afterwards = "nothing" if handover is None else handover.afterwards
        settings = core.settings
        self.leaves_work = False
        self.active: Request | None = None
        self.inherited: Request | None = None if handover is None else handover.active
        self.queue: list[Request] = [] if handover is None else [*handover.queue]
        if settings.kickoff is not None and handover is None:
            waiting = [] if settings.kickoff_token is None else [settings.kickoff_token]
            sender = settings.kickoff_sender
            self.queue.append(Request(input=settings.kickoff, sender=sender, results=waiting, is_kickoff=True))

    @property
    def ledger(self) -> Ledger:
        """The account of the current request, or of the last one."""
        return self.current.known if self.current is not None else self.last

    @property
    def current(self) -> Request | None:
        """The request in progress, whether its place in the log is found or not.

        What a session that existed before has done is history until all of it is read: no request of this process.
        """
        return self.inherited if self._core.replaying else self.active

    @property
    def account(self) -> Ledger | None:
        """Where what the provider does now is accounted for; nowhere when it belongs to no request."""
        if self.active is not None:
            return self.active.ledger
        return self.last if self._after == "more" else None

    # --- beginning ------------------------------------------------------------------------------------------------

    def say(self, mail: Say) -> None:
        """A caller has something to say: now, or when its turn comes."""
        if len(self.queue) >= MAX_QUEUED_MESSAGES:
            full = MailboxFull(f"{MAX_QUEUED_MESSAGES} messages wait for their turn already; wait for terminals first")
            for token in (mail.delivery, mail.result):
                self.answer(token, full)
            return
        waiting = [] if mail.result is None else [mail.result]
        request = Request(input=mail.input, sender=mail.sender, delivery=mail.delivery, results=waiting)
        self.queue.append(request)
        self.start_next()
        if request.delivery is not None:
            self._core.emit(Reply(request.delivery, "queued"))
            request.delivery = None

    def start_next(self) -> None:
        """Begin with the next request, if the session is free for it."""
        core = self._core
        if self.active is not None or not self.queue or self.winding_down or not core.connection.live:
            return
        if core.outbox.conversing() or core.log.status == "running" or core.log.unread_input:
            return  # an input is still on its way, or the session is at work for somebody else
        if core.log.waiting_for is not None and self._after == "leftovers":
            return  # calls of a request that is over are being answered
        request = self.queue.pop(0)
        # What was left waiting for an action may go on before this request is begun on.
        request.rivalled = core.log.waiting_for is not None
        self.active = request
        self._after = "nothing"
        if request.input is not None:
            request.post_id = core.outbox.add(request.input, request.delivery).id
            request.delivery = None
        if core.settings.timeout is not None and not core.settings.one_shot:
            core.emit(SetTimer("deadline", core.settings.timeout))

    def stand_where_it_stood(self) -> None:
        """The past is read: go on from where the machine before this one stood, which knew whose work was whose."""
        self.active, self.inherited = self.inherited, None
        if self._predecessor is not None:
            self.last, self._settled = self._predecessor.last, self._predecessor.settled
            self._predecessor = None

    def begin_foreign(self, event_id: object, fact: UserSpoke) -> None:
        """Somebody else has spoken to the session: that is a request too, with an account of its own."""
        if not self.winding_down:
            self.active = Request(echo_id=str(event_id), taken_at=fact.at if fact.taken else None)

    def begin_unasked(self, delivery: Delivery, fact: UserSpoke) -> None:
        """An input of ours shows in the log while no request is in progress: a raw event goes on with the last one."""
        if isinstance(delivery.input, RawEvent) and not self.winding_down:
            self.active = self._going_on(begun=fact.taken)

    def reopen(self) -> Request | None:
        """The session works though no request is in progress: see whose work that is.

        It is the last request's, whose account goes on, when that one waited for an action or a raw event was sent.
        It is nobody's while it is what a failed request has left behind. Else the provider has begun by itself.
        """
        if self._after == "leftovers" or self.winding_down:
            return None
        self.active = self._going_on(begun=True) if self._after == "more" else Request(begun=True)
        return self.active

    def _going_on(self, *, begun: bool) -> Request:
        """Make a request whose account is the last one's; what has come into that since is the new one's to tell of."""
        return Request(ledger=self.last, told=self.last.turns, accounted=self._settled, begun=begun)

    def is_given_up(self, event_id: object) -> bool:
        """Whether an event in the log is an input whose request is over."""
        return event_id in self._given_up

    def given_up_shows(self, event_id: object, *, taken: bool) -> None:
        """What the provider makes of an input whose request is over belongs to nobody."""
        if not taken:
            self._given_up[event_id] = None
            return
        self._given_up.pop(event_id, None)
        if self.active is None and not self._core.replaying:
            self._after = "leftovers"

    def goes_on(self) -> None:
        """A caller sends an event of its own: a turn that it provokes is part of the last request."""
        if self._after == "nothing":
            self._after = "more"

    def withdraw(self, token: Token) -> None:
        """A caller has gone: what has not been sent for it yet will not be."""
        for request in list(self.queue):
            if token == request.delivery or request.results == [token]:
                self.queue.remove(request)
        for delivery in self._core.outbox.in_stage(Stage.HELD):
            # An interrupt has taken its effect here already, and the active request has its own end.
            if (
                delivery.token == token
                and not delivery.attempts
                and isinstance(delivery.input, RawEvent | Confirmation)
            ):
                self._core.outbox.settle(delivery)

    def caught_up(self) -> None:
        """The log is read to its end: an interrupt of something that is over by now has nothing to cut short."""
        log, outbox = self._core.log, self._core.outbox
        if log.status == "running" or log.waiting_for is not None or log.unread_input:
            return
        for delivery in outbox.in_stage(Stage.HELD):
            if isinstance(delivery.input, Interrupt):
                self._postman.accepted(delivery)
        self.stopped(at_work=log.stopped is not None and log.stopped.at_work)

    def stopped(self, *, at_work: bool = False) -> None:
        """The session has stopped: what a failed request left behind is over, unless the provider goes on unseen."""
        self.leaves_work = at_work
        if self._after == "leftovers" and not self._core.replaying:
            self._after = "nothing"

    def note_echo(self, delivery: Delivery, echo: Sequence[Event]) -> None:
        """The provider has told which event an input is in its log."""
        echo_id = echo[0].get("id") if echo else None
        request = self.active
        if request is None or not isinstance(echo_id, str) or not echo_id:
            return
        if request.post_id == delivery.id or (request.input is None and isinstance(delivery.input, RawEvent)):
            request.echo_id = echo_id
            request.origin_id = request.origin_id or echo_id

    def taken(self, request: Request, at: str | None) -> None:
        """The provider has begun on a request's input: what came before was work on somebody else's."""
        request.taken_at = at
        request.begun = True
        if request.rivalled:
            request.start_over()
            self.progress.started_over(request)

    def interrupt(self, token: Token) -> None:
        """A caller wants the current request cut short."""
        log = self._core.log
        if self.current is None and log.status != "running" and log.waiting_for is None:
            self._core.emit(Reply(token, None))  # nothing is going on that could be cut short
            return
        if self.current is not None:
            self.current.interrupted_after = self.current.known.turns
        self._calls.abandon()
        self._core.outbox.add(Interrupt(), token)

    def hand_over(self, shown: SeenEvents) -> Handover | None:
        """Give what the log cannot tell to a machine that takes this one's place; nothing without a session.

        One that has ended has ended its requests, too, and its calls are free: what the provider still does for them
        belongs to nobody, unless it waits for an action.
        """
        core, before = self._core, self._predecessor
        if core.session_id is None:
            return None
        ended = core.closed
        return Handover(
            session_id=core.session_id,
            generation=core.connection.generation,
            shown=shown,
            outbox=core.outbox,
            past_is_read=core.past_is_read,
            active=self.current,
            last=self.last if before is None else before.last,
            settled=self._settled if before is None else before.settled,
            queue=tuple(self.queue),
            afterwards="leftovers" if ended and self._after == "nothing" else self._after,
            given_up=frozenset(self._given_up),
            abandoned=frozenset() if ended else frozenset(self._calls.abandoned),
            begun=frozenset(self._calls.begun),
            numbered=self.progress.numbered,
        )

    # --- ending ---------------------------------------------------------------------------------------------------

    def finish(self, request: Request, result: SessionResult, error: ManagedAgentsError | None = None) -> None:
        """The one place where a request ends: its terminal is announced, once, and its callers are answered."""
        self.retire(request)
        if result.terminal == "requires_action":
            self._after = "more"
        elif self._after == "more":
            self._after = "nothing"
        self.progress.ended(request, result, error)
        self.answer(request.delivery, error, "delivered")
        for token in request.results:
            self.answer(token, error, result)
        if self._core.settings.one_shot and request.results:
            self.wind_down()

    def retire(self, request: Request) -> None:
        """Forget a request without a word: it is over, and its account becomes the last one."""
        if request in self.queue:
            self.queue.remove(request)
            return
        if request is self.inherited:
            self.inherited = None
        else:
            self.active = None
        self.last, self._settled = request.ledger, request.ledger.spent
        if self._core.settings.timeout is not None and not self._core.settings.one_shot:
            self._core.emit(CancelTimer("deadline"))

    def fail(
        self, request: Request, failure: ManagedAgentsError | Callable[[SessionResult], SessionError]
    ) -> ManagedAgentsError:
        """End a request on our side, stop the work on it, here and at the provider, and announce the failure."""
        core = self._core
        if request is self.current and core.session_id is not None and self._is_at_work(request):
            core.outbox.add(Interrupt())
            self._after = "leftovers"
        return self.give_up(request, failure)

    def _is_at_work(self, request: Request) -> bool:
        """Whether the provider works on a request, waits for its calls, or is yet to begin on its input."""
        log = self._core.log
        unseen = request.sent and not request.begun and not request.running
        working = log.status == "running" or log.waiting_for is not None or log.unread_input
        return request is self.inherited or unseen or working

    def give_up(
        self, request: Request, failure: ManagedAgentsError | Callable[[SessionResult], SessionError]
    ) -> ManagedAgentsError:
        """End a request on our side, and leave the session at the provider as it is."""
        session_id, stopped = self._core.session_id, self._core.log.stopped
        reason = stopped.stop_reason if stopped is not None else None
        request.ledger = request.known  # nothing of it will be read again
        result = request.ledger.result(session_id, "terminated", reason)
        error = failure if isinstance(failure, ManagedAgentsError) else failure(result)
        resumable = session_id is not None and not isinstance(error, SessionGone)
        told = ResultError(type=type(error).__name__, message=str(error), exception=error)
        result = replace(result, error=told, resumable=resumable)
        if isinstance(error, SessionError):
            error.result = result
        if request is self.current:
            self.leaves_work = self._is_at_work(request)
            self._calls.abandon()
            if request.echo_id is not None and request.taken_at is None and not request.begun:
                self._given_up[request.echo_id] = None
            carrier = None if request.post_id is None else self._core.outbox.get(request.post_id)
            if carrier is not None:
                self._postman.given_up(carrier, error)
            sent = self._core.outbox.find(request.post_id)
            if sent is not None:
                sent.unwanted = True
        self.finish(request, result, error)
        return error

    def drop_foreign(self, request: Request) -> None:
        """The provider has dropped the input of another client, or of an earlier run: it is no request any more."""
        self.retire(request)
        self.progress.dropped(request)
        self.nothing_to_do(request.results)

    def nothing_to_do(self, tokens: list[Token]) -> None:
        """Answer those who wait for a request that is not there with the state the session was left in."""
        stopped = self._core.log.stopped
        known = self.last.result(
            self._core.session_id,
            stopped.terminal if stopped is not None else "end_turn",
            stopped.stop_reason if stopped is not None else None,
            error=self._core.log.error,
        )
        for token in tokens:
            self._core.emit(Reply(token, replace(known, turns=0, usage=Usage())))
        if tokens and self._core.settings.one_shot:
            self.wind_down()

    def wind_down(self) -> None:
        self.winding_down = True
        if self._postman.interrupting():
            self._core.emit(SetTimer("grace", INTERRUPT_GRACE))

    def requests(self) -> list[Request]:
        return [request for request in (self.current, *self.queue) if request is not None]

    def answer(self, token: Token | None, error: ManagedAgentsError | None, value: object = None) -> None:
        if token is not None:
            self._core.emit(Reply(token, value) if error is None else ReplyError(token, error))

    def gone(self, ledger: Ledger) -> SessionGone:
        session_id = self._core.session_id
        return SessionGone(
            f"session {session_id or '(unknown)'} is gone: deleted, terminated or never there; start a new one",
            result=ledger.result(session_id, "terminated", None, resumable=False),
        )
