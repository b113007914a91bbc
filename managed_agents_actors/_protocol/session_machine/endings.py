"""What ends a request or a session from outside its course: refusals, deadlines, stops, a session that is gone.

Each finds the requests it concerns and has the conversation end them; when the last word is said the machine closes.
"""

from __future__ import annotations

from ..._errors import ActorGone, ManagedAgentsError, SessionError, SessionTimeout
from ..._model import SessionResult
from ..effects import Close
from ..mail import Interrupt
from .conversation import Conversation
from .core import Core
from .postman import Postman, Refused
from .requests import Request


class Endings:
    """The ends of a session."""

    __slots__ = ("_conversation", "_core", "_postman", "_waits_for_last")

    def __init__(self, core: Core, postman: Postman, conversation: Conversation) -> None:
        self._core = core
        self._postman = postman
        self._conversation = conversation
        # A run that resumes a session without saying anything waits for the end of what the session is doing.
        settings = core.settings
        self._waits_for_last = settings.kickoff_token if settings.kickoff is None else None

    def refused(self, refused: Refused) -> None:
        """The provider will never take an input: what hangs on it fails."""
        delivery, error, request = refused.delivery, refused.error, self._conversation.active
        self._postman.given_up(delivery, error)
        if request is None:
            return
        if isinstance(delivery.input, Interrupt):
            # Its tools are cancelled and never start again, and the provider goes on waiting for them.
            self._conversation.give_up(request, error)
        elif request.post_id == delivery.id:
            request.sent = False
            self._conversation.fail(request, error)
            if request.is_kickoff and not self._core.settings.one_shot:
                self.close(error)
        elif delivery.tool_use_id is not None and delivery.token is None:
            name = self._core.log.calls[delivery.tool_use_id].name
            message = f"the answer to call {delivery.tool_use_id} ({name}) was refused: {error}"

            def failure(result: SessionResult) -> SessionError:
                failed = SessionError(message, result=result)
                failed.__cause__ = error
                return failed

            self._conversation.fail(request, failure)

    def deadline(self) -> None:
        """Time is up for the request in progress; for a run, for the one it is about."""
        message = f"the request did not end within {self._core.settings.timeout} seconds"
        requests = self._conversation.requests()
        if self._core.settings.one_shot:
            requests = [r for r in requests if r.results]
        if self._waits_for_last is not None:
            requests = [Request(results=[self._waits_for_last])]
            self._waits_for_last = None
            self._conversation.queue.extend(requests)
        if requests:
            self._conversation.fail(requests[0], lambda result: SessionTimeout(message, result=result))

    def history_is_read(self) -> None:
        """The log of a session that existed before is read: see what is still to be done."""
        if self._core.log.status in ("terminated", "deleted"):
            if self._conversation.active is not None:
                self._conversation.retire(self._conversation.active)  # a turn of the past, which ended with the session
            self.end_session(None)
        elif self._waits_for_last is not None:
            token, self._waits_for_last = self._waits_for_last, None
            if self._conversation.active is not None:
                self._conversation.active.results.append(token)
            else:
                self._conversation.nothing_to_do([token])

    def end_session(self, cause: ManagedAgentsError | None) -> None:
        """The session cannot go on: it is gone (no cause given), or the cause forbids it."""
        ended: ManagedAgentsError = cause or self._conversation.gone(self._conversation.ledger)
        for request in self._conversation.requests():
            ended = self._conversation.give_up(request, cause or self._conversation.gone(request.ledger))
        self.close(ended)

    def terminated(self) -> None:
        """The provider has ended the session: a result for the request in progress, and the end of all others."""
        core, request = self._core, self._conversation.active
        if request is not None:
            self._conversation.progress.end_turn(request)
            self._conversation.finish(
                request,
                request.ledger.result(core.session_id, "terminated", None, error=core.log.error, resumable=False),
            )
        self.close(None, self._conversation.gone(self._conversation.last))

    def close(self, error: ManagedAgentsError | None, told: ManagedAgentsError | None = None) -> None:
        """End: nobody who waits is left without an answer."""
        core = self._core
        if core.closed:
            return
        gone = told or error or ActorGone("the session has ended")
        for request in self._conversation.requests():
            self._conversation.give_up(request, gone)
        self._conversation.answer(self._waits_for_last, gone)
        for delivery in core.outbox:
            if delivery.seen:
                self._postman.accepted(delivery)
            else:
                self._postman.given_up(delivery, gone)
        core.flush()
        core.connection.phase = "closed"
        core.closed = True
        core.emit(Close(error))

    def stop(self) -> None:
        """Somebody wants the end: every request ends now, the machine when an interrupt on its way is taken."""
        for request in self._conversation.requests():
            self._conversation.give_up(request, ActorGone("the session was stopped"))
        self._conversation.wind_down()

    def close_if_wound_down(self) -> None:
        """What is winding down closes as soon as no interrupt of ours is on its way."""
        if self._conversation.winding_down and not (self._core.connection.live and self._postman.interrupting()):
            self.close(None, ActorGone("the session was stopped"))
