"""The requests of a session, one at a time: how each begins, and the one way in which each ends.

Whatever ends a request, a result, a failure of ours or the end of the session, its terminal is announced once and
everybody who waits for it is answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from ..._errors import ActorGone, MailboxFull, ManagedAgentsError, SessionError, SessionGone, SessionTimeout
from ..._model import Event, ResultError, SessionResult, Usage
from ..facts import UserSpoke
from ..ledger import Ledger
from ..mail import (
    Announce,
    CancelTimer,
    Close,
    Interrupt,
    RawEvent,
    Reply,
    ReplyError,
    Say,
    SetTimer,
    Token,
)
from ..outbox import Delivery, Stage
from .calls import Calls
from .core import Core
from .postman import Postman, Refused
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
    """

    def __init__(self, core: Core, postman: Postman, calls: Calls) -> None:
        self._core = core
        self._postman = postman
        self._calls = calls
        self._last = Ledger()
        self._winding_down = False
        # Inputs that the provider has queued though their requests are over: it may begin on them yet.
        self._given_up: set[object] = set()
        # What the provider does after the end of a request: nothing expected, more of it, or leftovers of a failed one.
        self._after: Literal["nothing", "more", "leftovers"] = "nothing"
        # A run that resumes a session without saying anything waits for the end of what the session is doing.
        settings = core.settings
        self._waits_for_last = settings.kickoff_token if settings.kickoff is None else None
        self.active: Request | None = None
        self.queue: deque[Request] = deque()
        if settings.kickoff is not None:
            waiting = [] if settings.kickoff_token is None else [settings.kickoff_token]
            self.queue.append(Request(input=settings.kickoff, results=waiting, is_kickoff=True))

    @property
    def ledger(self) -> Ledger:
        """The account of the current request, or of the last one."""
        return self.active.ledger if self.active is not None else self._last

    @property
    def account(self) -> Ledger | None:
        """Where what the provider does now is accounted for; nowhere when it belongs to no request."""
        if self.active is not None:
            return self.active.ledger
        return self._last if self._after == "more" else None

    # --- beginning ------------------------------------------------------------------------------------------------

    def say(self, mail: Say) -> None:
        """A caller has something to say: now, or when its turn comes."""
        if len(self.queue) >= MAX_QUEUED_MESSAGES:
            full = MailboxFull(f"{MAX_QUEUED_MESSAGES} messages wait for their turn already; wait for terminals first")
            for token in (mail.delivery, mail.result):
                self._answer(token, full)
            return
        waiting = [] if mail.result is None else [mail.result]
        request = Request(input=mail.input, delivery=mail.delivery, results=waiting)
        self.queue.append(request)
        self.start_next()
        if request.delivery is not None:
            self._core.emit(Reply(request.delivery, "queued"))
            request.delivery = None

    def start_next(self) -> None:
        """Begin with the next request, if the session is free for it."""
        core = self._core
        if self.active is not None or not self.queue or self._winding_down or not core.connection.live:
            return
        if core.outbox.conversing() or core.log.status == "running" or core.log.unread_input:
            return  # an input is still on its way, or the session is at work for somebody else
        request = self.queue.popleft()
        # What was left waiting for an action may go on before this request is begun on.
        request.rivalled = core.log.waiting_for is not None
        self.active = request
        self._after = "nothing"
        if request.input is not None:
            request.post_id = core.outbox.add(request.input, request.delivery).id
            request.delivery = None
        if core.settings.timeout is not None and not core.settings.one_shot:
            core.emit(SetTimer("deadline", core.settings.timeout))

    def begin_foreign(self, event_id: object, fact: UserSpoke) -> None:
        """Somebody else has spoken to the session: that is a request too, with an account of its own."""
        if not self._winding_down:
            self.active = Request(echo_id=str(event_id), taken_at=fact.at if fact.taken else None)

    def begin_unasked(self, delivery: Delivery, fact: UserSpoke) -> None:
        """An input of ours shows in the log while no request is in progress: a raw event goes on with the last one."""
        if isinstance(delivery.input, RawEvent) and not self._winding_down:
            self.active = Request(ledger=self._last, begun=fact.taken)

    def reopen(self) -> Request | None:
        """The session works though no request is in progress: see whose work that is.

        It is the last request's, whose account goes on, when that one waited for an action or a raw event was sent.
        It is nobody's while it is what a failed request has left behind. Else the provider has begun by itself.
        """
        if self._after == "leftovers" or self._winding_down:
            return None
        self.active = Request(ledger=self._last if self._after == "more" else Ledger(), begun=True)
        return self.active

    def given_up_is_taken(self, event_id: object) -> bool:
        """Whether a queued event that came back processed is an input whose request is over; it is then dealt with."""
        if event_id not in self._given_up:
            return False
        self.given_up_shows(event_id, taken=True)
        return True

    def given_up_shows(self, event_id: object, *, taken: bool) -> None:
        """What the provider makes of an input whose request is over belongs to nobody."""
        if not taken:
            self._given_up.add(event_id)
            return
        self._given_up.discard(event_id)
        if self.active is None:
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

    def caught_up(self) -> None:
        """The log is read to its end: an interrupt of something that is over by now has nothing to cut short."""
        log, outbox = self._core.log, self._core.outbox
        if log.status == "running" or log.waiting_for is not None or log.unread_input:
            return
        for delivery in outbox.in_stage(Stage.HELD):
            if isinstance(delivery.input, Interrupt):
                self._postman.accepted(delivery)
        self.stopped()

    def stopped(self) -> None:
        """The session has stopped: what a failed request left behind is over."""
        if self._after == "leftovers":
            self._after = "nothing"

    def note_echo(self, delivery: Delivery, echo: Sequence[Event]) -> None:
        """The provider has told which event an input is in its log."""
        echo_id = echo[0].get("id") if echo else None
        request = self.active
        if request is None or not isinstance(echo_id, str) or not echo_id:
            return
        if request.post_id == delivery.id or (request.input is None and isinstance(delivery.input, RawEvent)):
            request.echo_id = echo_id

    def taken(self, request: Request, at: str | None) -> None:
        """The provider has begun on a request's input: what came before was work on somebody else's."""
        request.taken_at = at
        request.begun = True
        if request.rivalled:
            request.rivalled = False
            request.ledger = Ledger()

    def interrupt(self, token: Token) -> None:
        """A caller wants the current request cut short."""
        log = self._core.log
        if self.active is None and log.status != "running" and log.waiting_for is None:
            self._core.emit(Reply(token, None))  # nothing is going on that could be cut short
            return
        if self.active is not None:
            self.active.interrupted = True
        self._calls.abandon()
        self._core.outbox.add(Interrupt(), token)

    # --- ending ---------------------------------------------------------------------------------------------------

    def finish(self, request: Request, result: SessionResult, error: ManagedAgentsError | None = None) -> None:
        """The one place where a request ends: its terminal is announced, once, and its callers are answered."""
        self.retire(request)
        if result.terminal == "requires_action":
            self._after = "more"
        elif self._after == "more":
            self._after = "nothing"
        self._core.flush()
        self._core.emit(Announce(result))
        self._answer(request.delivery, error, "delivered")
        for token in request.results:
            self._answer(token, error, result)
        if self._core.settings.one_shot and request.results:
            self._wind_down()

    def retire(self, request: Request) -> None:
        """Forget a request without a word: it is over, and its account becomes the last one."""
        if request in self.queue:
            self.queue.remove(request)
            return
        self.active = None
        self._last = request.ledger
        if self._core.settings.timeout is not None and not self._core.settings.one_shot:
            self._core.emit(CancelTimer("deadline"))

    def fail(
        self, request: Request, failure: ManagedAgentsError | Callable[[SessionResult], SessionError]
    ) -> ManagedAgentsError:
        """End a request on our side, stop the work on it, here and at the provider, and announce the failure."""
        core = self._core
        if request is self.active and core.session_id is not None and self._is_at_work(request):
            core.outbox.add(Interrupt())
            self._after = "leftovers"
        return self._give_up(request, failure)

    def _is_at_work(self, request: Request) -> bool:
        """Whether the provider works on a request, waits for its calls, or is yet to begin on its input."""
        log = self._core.log
        unseen = request.sent and not request.begun and not request.running
        return unseen or log.status == "running" or log.waiting_for is not None or log.unread_input

    def _give_up(
        self, request: Request, failure: ManagedAgentsError | Callable[[SessionResult], SessionError]
    ) -> ManagedAgentsError:
        """End a request on our side, and leave the session at the provider as it is."""
        session_id, stopped = self._core.session_id, self._core.log.stopped
        reason = stopped.stop_reason if stopped is not None else None
        result = request.ledger.result(session_id, "terminated", reason)
        error = failure if isinstance(failure, ManagedAgentsError) else failure(result)
        resumable = session_id is not None and not isinstance(error, SessionGone)
        told = ResultError(type=type(error).__name__, message=str(error), exception=error)
        result = replace(result, error=told, resumable=resumable)
        if isinstance(error, SessionError):
            error.result = result
        if request is self.active:
            self._calls.abandon()
            if request.echo_id is not None and request.taken_at is None and not request.begun:
                self._given_up.add(request.echo_id)
            carrier = None if request.post_id is None else self._core.outbox.get(request.post_id)
            if carrier is not None:
                self._postman.given_up(carrier, error)
            sent = self._core.outbox.find(request.post_id)
            if sent is not None:
                sent.unwanted = True
        self.finish(request, result, error)
        return error

    def refused(self, refused: Refused) -> None:
        """The provider will never take an input: what hangs on it fails."""
        delivery, error, request = refused.delivery, refused.error, self.active
        self._postman.given_up(delivery, error)
        if request is None:
            return
        if isinstance(delivery.input, Interrupt):
            # Its tools are cancelled and never start again, and the provider goes on waiting for them.
            self._give_up(request, error)
        elif request.post_id == delivery.id:
            request.sent = False
            self.fail(request, error)
            if request.is_kickoff and not self._core.settings.one_shot:
                self.close(error)
        elif delivery.tool_use_id is not None and delivery.token is None:
            name = self._core.log.calls[delivery.tool_use_id].name
            message = f"the answer to call {delivery.tool_use_id} ({name}) was refused: {error}"

            def failure(result: SessionResult) -> SessionError:
                failed = SessionError(message, result=result)
                failed.__cause__ = error
                return failed

            self.fail(request, failure)

    def deadline(self) -> None:
        """Time is up for the request in progress; for a run, for the one it is about."""
        message = f"the request did not end within {self._core.settings.timeout} seconds"
        requests = self._requests()
        if self._core.settings.one_shot:
            requests = [r for r in requests if r.results]
        if self._waits_for_last is not None:
            requests = [Request(results=[self._waits_for_last])]
            self._waits_for_last = None
            self.queue.extend(requests)
        if requests:
            self.fail(requests[0], lambda result: SessionTimeout(message, result=result))

    def history_is_read(self) -> None:
        """The log of a session that existed before is read: see what is still to be done."""
        if self._core.log.status in ("terminated", "deleted"):
            self.end_session(None)
        elif self._waits_for_last is not None:
            token, self._waits_for_last = self._waits_for_last, None
            if self.active is not None:
                self.active.results.append(token)
            else:
                self._nothing_to_do([token])

    def drop_foreign(self, request: Request) -> None:
        """The provider has dropped the input of another client, or of an earlier run: it is no request any more."""
        self.retire(request)
        self._nothing_to_do(request.results)

    def _nothing_to_do(self, tokens: list[Token]) -> None:
        """Answer those who wait for a request that is not there with the state the session was left in."""
        stopped = self._core.log.stopped
        known = self._last.result(
            self._core.session_id,
            stopped.terminal if stopped is not None else "end_turn",
            stopped.stop_reason if stopped is not None else None,
            error=self._core.log.error,
        )
        for token in tokens:
            self._core.emit(Reply(token, replace(known, turns=0, usage=Usage())))
        if tokens and self._core.settings.one_shot:
            self._wind_down()

    def end_session(self, cause: ManagedAgentsError | None) -> None:
        """The session cannot go on: it is gone (no cause given), or the cause forbids it."""
        ended: ManagedAgentsError = cause or self._gone(self.ledger)
        for request in self._requests():
            ended = self._give_up(request, cause or self._gone(request.ledger))
        self.close(ended)

    def terminated(self) -> None:
        """The provider has ended the session: a result for the request in progress, and the end of all others."""
        core, request = self._core, self.active
        if request is not None:
            request.ledger.end_turn()
            self.finish(
                request,
                request.ledger.result(core.session_id, "terminated", None, error=core.log.error, resumable=False),
            )
        self.close(None, self._gone(self._last))

    def close(self, error: ManagedAgentsError | None, told: ManagedAgentsError | None = None) -> None:
        """End: nobody who waits is left without an answer."""
        core = self._core
        if core.closed:
            return
        gone = told or error or ActorGone("the session has ended")
        for request in self._requests():
            self._give_up(request, gone)
        self._answer(self._waits_for_last, gone)
        for delivery in core.outbox:
            self._postman.given_up(delivery, gone)
        core.flush()
        core.connection.phase = "closed"
        core.closed = True
        core.emit(Close(error))

    def stop(self) -> None:
        """Somebody wants the end: every request ends now, the machine when an interrupt on its way is taken."""
        for request in self._requests():
            self._give_up(request, ActorGone("the session was stopped"))
        self._wind_down()

    def close_if_wound_down(self) -> None:
        """What is winding down closes as soon as no interrupt of ours is on its way."""
        if self._winding_down and not (self._core.connection.live and self._postman.interrupting()):
            self.close(None, ActorGone("the session was stopped"))

    def _wind_down(self) -> None:
        self._winding_down = True
        if self._postman.interrupting():
            self._core.emit(SetTimer("grace", INTERRUPT_GRACE))

    def _requests(self) -> list[Request]:
        # What a resumed session did before is history until all of it is read: no request of this process.
        active = None if self._core.replaying else self.active
        return [request for request in (active, *self.queue) if request is not None]

    def _answer(self, token: Token | None, error: ManagedAgentsError | None, value: object = None) -> None:
        if token is not None:
            self._core.emit(Reply(token, value) if error is None else ReplyError(token, error))

    def _gone(self, ledger: Ledger) -> SessionGone:
        session_id = self._core.session_id
        return SessionGone(
            f"session {session_id or '(unknown)'} is gone: deleted, terminated or never there; start a new one",
            result=ledger.result(session_id, "terminated", None, resumable=False),
        )
