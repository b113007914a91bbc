"""What the laws of a provider are checked with: the place where its sessions run, and a talk with one of them.

Nothing here knows a provider: what is on its side is seen only through the functions of a :class:`Place`.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar
from unittest import SkipTest

import trio
from trio.testing import wait_all_tasks_blocked

from .._errors import ManagedAgentsError
from .._model import SessionResult, ToolContext, ToolResult
from .._session.feeds import EventFeed
from .._session.handle import Session
from .._session.run import open_session
from .._session.supervisor import Supervisor
from ..providers.contract import Provider
from ._expect import expect
from ._fault_plan import Fault, FaultPlan
from ._recording import RecordingHandler
from ._script import Script
from ._virtual_time import run_in_virtual_time

__all__ = [
    "Place",
    "ProviderLaws",
    "Talk",
    "expect_log",
    "faulted",
    "hang",
    "law",
    "open_talk",
    "raised_by",
    "require",
    "text_of",
    "told",
    "tool",
]

Event: TypeAlias = Mapping[str, Any]
State: TypeAlias = Literal["working", "resting", "archived", "deleted"]
S = TypeVar("S")
T = TypeVar("T")

# Virtual seconds after which a test that waits for what never comes fails.
PATIENCE = 10_000.0

# What observers are told beside the provider's own events.
OUR_EVENTS = "managed_agents."


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A provider module, and a server of it on which nothing has happened yet.

    Attributes:
        provider: The module.
        options: Gives the provider options of a new session; asked again, those of another one.
        resume: Gives the provider options that resume the session with an id.
        messages: Gives the texts of the messages that the provider has taken in a session, in order.
        answers: Gives the results of calls that it was sent in a session, in order and each as often as it came, save
            for repetitions that it asks for; their content in blocks that have a ``"text"``.
        open_streams: Tells how many event streams are open at the server, of all sessions.
        requests: Tells how many requests the server has got, of any kind.
        events: Gives the events that the provider has sent of a session, in order and each once, with or without
            the ids that the module adds; ``None`` if the server cannot tell.
        sessions: Tells how many sessions were ever made at the server; ``None`` if it cannot tell.
        state: Tells what a session is doing at the server, or what has become of it there; ``None`` if it cannot tell.
        metadata: The caller's metadata that is in what ``options`` gives; empty if the provider takes none.
    """

    provider: Provider
    options: Callable[[], Mapping[str, Any]]
    resume: Callable[[str], Mapping[str, Any]]
    messages: Callable[[str], Sequence[str]]
    answers: Callable[[str], Sequence[ToolResult]]
    open_streams: Callable[[], int]
    requests: Callable[[], int]
    events: Callable[[str], Sequence[Event]] | None = None
    sessions: Callable[[], int] | None = None
    state: Callable[[str], State] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


class ProviderLaws:
    """What all laws of a provider need: a place to try them in.

    Attributes:
        message_operation: The operation of the server's fault plan by which a message is sent, such as
            ``"send_events"``; ``None`` if its server plays no fault plans.
        stream_operation: The operation by which events are streamed.
        tells_status: Whether the provider tells what a session is doing; if not, its ``read_status`` gives ``None``.
        history_page: The most events that a page of the provider's history has.
    """

    message_operation: ClassVar[str | None] = None
    stream_operation: ClassVar[str | None] = None
    tells_status: ClassVar[bool] = True
    history_page: ClassVar[int] = 1_000

    def open_place(self, script: Script, *, faults: FaultPlan | None = None) -> AbstractAsyncContextManager[Place]:
        """Open a server whose agent plays a script; each test opens one or several.

        Args:
            script: What the agent does in each session: see :func:`~managed_agents_actors.testing.say` and the like.
            faults: What goes wrong; never given if ``message_operation`` and ``stream_operation`` are ``None``.
        """
        raise NotImplementedError("a provider suite says how its place is opened")


def law(method: Callable[[S], Awaitable[None]]) -> Callable[[S], None]:
    """Make a test of an async method: a plain function that runs it in virtual time."""

    @wraps(method)
    def test(self: S) -> None:
        run_in_virtual_time(method, self, patience=PATIENCE)

    del test.__wrapped__  # who looks through to it would take the test for an async one
    return test


def require(possible: object, what: str) -> None:
    """Skip the test of what this provider, or its server, has no part in."""
    if not possible:
        raise SkipTest(what)


def told(by: T | None, what: str) -> T:
    """Give a function of a place; the test is skipped if its server cannot tell that."""
    if by is None:
        raise SkipTest(f"this server does not tell {what}")
    return by


def faulted(operation: str | None, action: Any, nth: int = 1, times: int = 1) -> FaultPlan:
    """A plan of one fault; the test is skipped if the server plays none."""
    require(operation, "this server plays no fault plans")
    return FaultPlan([Fault(on=str(operation), action=action, nth=nth, times=times)])


@contextmanager
def raised_by(what: str, kind: type[BaseException]) -> Iterator[list[Any]]:
    """Expect an exception in the block, and give it, once it was raised, in a list."""
    caught: list[Any] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
        return
    except ManagedAgentsError as error:
        raise AssertionError(f"{what}: expected a {kind.__name__}, but it failed with {error!r}") from error
    raise AssertionError(f"{what}: expected a {kind.__name__}, but nothing was raised")


# --- tools ------------------------------------------------------------------------------------------------------------


async def tool(name: str, input: Mapping[str, Any], _context: ToolContext) -> str:
    """A tool that takes the seconds it is told, one without, and tells its own name and number."""
    await trio.sleep(input.get("seconds", 1.0))
    return f"{name} {input.get('n', '')}".strip()


async def hang(_name: str, _input: Mapping[str, Any], _context: ToolContext) -> str:
    """A tool that never comes to an end."""
    await trio.sleep_forever()
    raise AssertionError


def text_of(result: ToolResult) -> str:
    """The text of a result's blocks."""
    return "".join(str(block.get("text", "")) for block in result.content)


# --- a talk -----------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Talk:
    """A session that is open, and all that is heard of it from its beginning.

    Attributes:
        place: Where it runs.
        session: The session.
        handler: Runs its calls and sees its events.
        heard: The terminals that a subscriber was told so far; :meth:`hear` brings them up to date.
    """

    place: Place
    session: Session
    handler: RecordingHandler
    notified: trio.MemoryReceiveChannel[SessionResult]
    terminals: trio.MemoryReceiveChannel[SessionResult]
    feed: EventFeed
    heard: list[SessionResult] = field(default_factory=list)

    def hear(self) -> list[SessionResult]:
        """Give the terminals that were announced so far, which ``notify=`` and ``subscribe()`` must agree on."""
        told = _drained(self.notified)
        expect(_drained(self.terminals), told, "what a subscriber heard, beside what notify= was told")
        self.heard += told
        return self.heard

    async def next_terminal(self) -> SessionResult:
        """Wait for the next terminal that :attr:`heard` does not have yet."""
        result = await self.terminals.receive()
        expect(await self.notified.receive(), result, "what notify= was told, beside what a subscriber heard")
        self.heard.append(result)
        return result

    async def still_works(self, text: str = "again") -> SessionResult:
        """Ask once more: whatever was before, the session takes it up and ends it as any other."""
        try:
            result = await self.session.ask(text)
        except ManagedAgentsError as error:
            raise AssertionError(f"a request after what was before: it failed with {error!r}") from error
        expect((result.terminal, result.error), ("end_turn", None), "a request after what was before")
        self.hear()
        expect(self.heard[-1:], [result], "its terminal")
        await wait_all_tasks_blocked()
        status = self.session.status()
        expect((status.busy, status.queued_messages, status.tools_running), (False, 0, ()), "what is left of it")
        return result

    async def check(self, *results: SessionResult) -> None:
        """Stop the session, and check what was seen of these requests, which are all that it had.

        Each had one terminal; each event is in the results once, and was shown to the handler and to live readers once
        and in the same order; the text deltas that were shown make up exactly the text.
        """
        await self.session.stop()
        expect(self.hear(), list(results), "the terminals that were announced")
        recorded = [event for result in results for event in result.events]
        expect([event for event in self.handler.events if _is_theirs(event)], recorded, "the events the handler saw")
        read = [event async for event in self.feed]
        expect([event for event in read if _is_theirs(event)], recorded, "the events that events() gave")
        text = "".join(result.text for result in results)
        expect("".join(self.handler.deltas), text, "the deltas the handler saw")
        expect("".join(event["text"] for event in read if _is_delta(event)), text, "the deltas that events() gave")
        self._check_log(recorded)

    def _check_log(self, recorded: Sequence[Event]) -> None:
        ids = [event["id"] for event in recorded if "id" in event]
        expect(len(ids), len(set(ids)), "how many events have an id, beside how many ids there are")
        if self.place.events is not None:
            expect_log(recorded, self.place.events(self.session.session_id))


@asynccontextmanager
async def open_talk(
    place: Place, run: Any = tool, *, supervisor: Supervisor | None = None, **options: Any
) -> AsyncIterator[Talk]:
    """Open a session, which waits for its first message.

    Args:
        place: Where.
        run: The handler.
        supervisor: Keeps it, if anybody does.
        options: Of :func:`~managed_agents_actors.open_session`; the provider's are a new session's of the place,
            unless there are others.
    """
    handler = run if isinstance(run, RecordingHandler) else RecordingHandler(run)
    told, notified = trio.open_memory_channel[SessionResult](math.inf)
    given = {"handler": handler, "notify": told, **place.options(), **options}
    async with AsyncExitStack() as stack:
        stack.enter_context(told)
        stack.enter_context(notified)
        if supervisor is None:
            session = await stack.enter_async_context(open_session(place.provider, **given))
        else:
            session = await supervisor.start_session(place.provider, **given)
        terminals = await stack.enter_async_context(session.subscribe())
        feed = await stack.enter_async_context(session.events())
        yield Talk(place=place, session=session, handler=handler, notified=notified, terminals=terminals, feed=feed)


def expect_log(recorded: Sequence[Event], log: Sequence[Event]) -> None:
    """Expect of events that they are what the provider has sent: each once, and in its order."""
    expect(len(recorded), len(log), "how many events were recorded, beside how many the provider has sent")
    for event, sent in zip(recorded, log, strict=True):
        expect({key: event.get(key) for key in sent}, dict(sent), "an event, beside what the provider has sent")


def _drained(channel: trio.MemoryReceiveChannel[SessionResult]) -> list[SessionResult]:
    found = []
    with suppress(trio.WouldBlock, trio.EndOfChannel):
        while True:
            found.append(channel.receive_nowait())
    return found


def _is_theirs(event: Event) -> bool:
    return not str(event.get("type")).startswith(OUR_EVENTS)


def _is_delta(event: Event) -> bool:
    return event.get("type") == f"{OUR_EVENTS}text_delta"
