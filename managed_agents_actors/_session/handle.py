"""The handle of a live session: what its users hold. Every method is a piece of mail to the session's actor."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import copy_context
from typing import Any, Literal, final

import trio

from .._errors import ActorGone, ConfigurationError
from .._model import Content, Event, Outcome, SessionResult, SessionStatus
from .._protocol.mail import (
    Confirmation,
    ConfirmWanted,
    Goal,
    InterruptWanted,
    Mail,
    Message,
    RawEvent,
    Say,
    SendEvent,
    StopWanted,
    Token,
    Withdraw,
)
from ..actors import fresh
from .actor import running_call
from .feeds import EventFeed
from .home import Home


@final
class Session:
    """A live session. Get one from :func:`open_session`; it has no public constructor.

    Attributes:
        name: The name it was opened with, if any.
    """

    __slots__ = ("_failure_seen", "_home", "_provider", "name")

    def __init__(self, home: Home, name: str | None) -> None:
        self._home = home
        self._provider = home.options.provider
        self._failure_seen = False
        self.name = name

    def __repr__(self) -> str:
        status = self.status()
        shown = f"{self.name!r} " if self.name else ""
        return f"<Session {shown}{status.session_id} {status.phase}{' busy' if status.busy else ''}>"

    @property
    def session_id(self) -> str:
        """The provider's id of the session: what to pass as ``session_id=`` to resume it."""
        return self._home.session_id or ""

    def status(self) -> SessionStatus:
        """Give a snapshot of the session."""
        return self._home.status()

    async def message(self, content: Content) -> Literal["delivered", "queued"]:
        """Send a message; its request's result goes to the subscribers.

        Waits until the provider has taken the message, or, if a request is in progress or the stream is being
        reconnected, until the message is queued: it then goes out when its turn comes.

        Raises:
            APIError: The provider refused the message.
            ConfigurationError: The content cannot be sent; nothing was.
            ActorGone: The session has ended.
        """
        item = self._checked(Message(content))
        sent: Literal["delivered", "queued"] = await self._call(
            lambda token: Say(item, delivery=token, sender=copy_context())
        )
        return sent

    async def ask(self, content: Content | Outcome) -> SessionResult:
        """Send a message, or define an outcome, and wait for the end of the request it starts.

        Cancelled while the message still waits for its turn, it is never sent; once sent, its request goes on.

        Raises:
            RuntimeError: Called by a tool of this very session, whose request cannot end before the tool does.
            APIError: The provider refused the message.
            SessionError: The request ended on our side: timeout, guard, turn limit, session gone.
            ActorGone: The session was stopped before the request ended.
        """
        call = running_call.get()
        if call is not None and call.home is self._home and not call.is_over:
            raise RuntimeError("a tool cannot ask its own session: the request would wait for itself; use message()")
        item = self._checked(Goal(content) if isinstance(content, Outcome) else Message(content))
        result: SessionResult = await self._call(lambda token: Say(item, result=token, sender=copy_context()))
        return result

    async def send_event(self, event: Mapping[str, Any]) -> list[Event]:
        """Send an event of the provider's own as it is; waits until it is taken and gives the provider's echo.

        While the stream is being reconnected it waits: put it in a ``trio.fail_after`` for a deadline. Cancelled
        before the event has gone out, it is never sent.

        Raises:
            APIError: The provider refused the event.
            ActorGone: The session has ended.
        """
        raw = RawEvent(dict(event) if isinstance(event, Mapping) else event)
        self._provider.check_input(raw)
        echo: list[Event] = await self._call(lambda token: SendEvent(raw.event, token))
        return echo

    async def interrupt(self) -> None:
        """Cut the current request short: cancels its tools at once, then waits until the provider has taken it.

        The request still ends with its own terminal. Without a request nothing happens.

        Raises:
            APIError: The provider refused the interrupt.
            ActorGone: The session has ended.
        """
        await self._call(InterruptWanted)

    async def confirm(self, tool_use_id: str, verdict: Literal["allow", "deny"], message: str | None = None) -> None:
        """Allow or deny a gated call; waits until the provider has taken it, as :meth:`send_event` does.

        Args:
            tool_use_id: The call.
            verdict: ``"allow"`` or ``"deny"``.
            message: What the model is told; with a denial only.

        Raises:
            APIError: The provider refused: the call is unknown, or not gated, or decided already.
            ActorGone: The session has ended.
        """
        confirmation = Confirmation(tool_use_id, verdict, message)
        self._provider.check_input(confirmation)
        await self._call(lambda token: ConfirmWanted(confirmation, token))

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[trio.MemoryReceiveChannel[SessionResult]]:
        """Hear of the terminal of every request that ends inside the block: each exactly once, none lost."""
        with self._home.terminals.subscribe() as channel:
            yield channel

    @asynccontextmanager
    async def events(self) -> AsyncIterator[EventFeed]:
        """Read raw events and text deltas as they come, from now on; see :class:`EventFeed` for falling behind."""
        with self._home.feeds.open() as feed:
            yield feed

    async def stop(self) -> None:
        """End the session's actor for good: cancels its tools, closes its stream, and waits until it has ended.

        A request in progress and queued messages end with a terminal that says so. The session at the provider
        stays as it is. No supervisor starts the actor again. Called by ``handle_event`` it does not wait: the
        session's end waits for the handler.
        """
        if self._home.retire is not None:
            self._home.retire()
        else:
            with suppress(ActorGone):
                await self._home.mailbox.send(StopWanted())
        if not self._home.is_watched_by_this_task:
            await self._home.exited.wait()

    async def wait_closed(self) -> None:
        """Wait until the session has ended.

        Raises:
            ManagedAgentsError: What ended it, if it did not end normally.
        """
        await self._home.exited.wait()
        if self._home.failure is not None:
            self._failure_seen = True
            raise fresh(self._home.failure)

    def _checked(self, item: Message | Goal) -> Message | Goal:
        self._provider.check_input(item)
        return item

    async def _call(self, mail: Callable[[Token], Mail]) -> Any:
        mailbox = self._home.mailbox
        token, reply = self._home.replies.open()
        wish = mail(token)
        try:
            await mailbox.send(wish)
            return await reply.wait()
        except BaseException:
            self._failure_seen = self._failure_seen or self._home.failure is not None
            if not reply.answered and not mailbox.take_back(wish):
                with suppress(ActorGone):
                    mailbox.cast(Withdraw(token), beyond_capacity=True)
            raise
        finally:
            self._home.replies.discard(token)

    def _unseen_failure(self) -> Exception | None:
        failure = self._home.failure
        return None if failure is None or self._failure_seen else fresh(failure)


def check_name(name: str | None) -> None:
    """Check the name of a session."""
    if name is not None and not (isinstance(name, str) and name):
        raise ConfigurationError(f"name= must be a non-empty string, not {name!r}")
