"""Following a session: the last events of its log, then those that come; each once, in the order of the log.

It only reads: the session's stream, its events and its status. Nothing is sent, no tool is run and no actor is started,
so that whoever drives the session notices nothing.
"""

from __future__ import annotations

import os
import random
import re
import select
import stat
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from io import UnsupportedOperation
from typing import Final, TextIO, TypeAlias

import trio

from .._errors import APIError, ConfigurationError, InvalidRequestError, ManagedAgentsError, StreamLost
from .._model import Event, ReconnectPolicy
from .._protocol.claude_events import KNOWN_TYPES, classify
from .._protocol.consolidate import Admission, SeenEvents
from .._protocol.facts import Ended, PreviewText
from .._protocol.session_machine.connection import is_permanent
from ..actors import open_plain_nursery
from ..claude import ClaudeClient
from ..claude._stream import EventStream
from .event_lines import is_queued

__all__ = ["Tail", "follow", "read_tail", "run_tail"]

Show: TypeAlias = Callable[[Event], None]
Tell: TypeAlias = Callable[[str], None]

RECONNECT: Final = ReconnectPolicy()
FIRST_RETRIES: Final = 3  # of what never worked: some 3 seconds; it is more likely a mistake than a failure that passes

PREVIEWS: Final = frozenset({"event_start", "event_delta"})

# What AgentCore's runtime sessions and their harnesses are called: the first is what this library advises.
AGENT_CORE_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|arn:.*", re.IGNORECASE)
NO_LOG: Final = (
    "AWS Bedrock AgentCore keeps no log of a session that could be followed from outside: in the process that runs the"
    " session, attach a listener with managed_agents_actors.telemetry.attach(), or read Session.events()"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tail:
    """What is shown of a session.

    Attributes:
        session_id: The session.
        lines: How many of the events that are there already; ``None`` for all of them.
        follow: Whether to wait for more.
        deltas: Whether to show what is being written, too, as it is written.
        types: Patterns of the types to show, previews apart; none for all.
    """

    session_id: str
    lines: int | None = 10
    follow: bool = True
    deltas: bool = False
    types: tuple[str, ...] = ()

    def wants(self, event: Event) -> bool:
        """Whether to show an event."""
        kind = str(event.get("type"))
        return not self.types or any(fnmatchcase(kind, pattern) for pattern in self.types)


def read_tail(options: Namespace, tell: Tell) -> Tail:
    """Read what is to be shown from the command line.

    Raises:
        ConfigurationError: It cannot be.
    """
    provider = options.provider or ("bedrock_agent_core" if AGENT_CORE_ID.fullmatch(options.session_id) else "")
    if provider == "bedrock_agent_core":
        raise ConfigurationError(NO_LOG)
    if not options.session_id.strip():
        raise ConfigurationError("SESSION_ID must be the id of a session, not an empty text")
    if options.deltas and options.no_follow:
        raise ConfigurationError("--deltas needs to follow: there is nothing being written in what is there already")
    types = () if options.types is None else tuple(each.strip() for each in options.types.split(","))
    if not all(types):
        raise ConfigurationError(
            "--types must be types, or patterns of them, with commas between: user.message,agent.*"
        )
    for pattern in types:
        if not any(fnmatchcase(kind, pattern) for kind in KNOWN_TYPES):
            tell(f"no type of events that is known here is like {pattern}")
    return Tail(
        session_id=options.session_id,
        lines=options.lines,
        follow=not options.no_follow,
        deltas=options.deltas,
        types=types,
    )


async def run_tail(tail: Tail, show: Show, tell: Tell, out: TextIO, *, base_url: str | None) -> None:
    """Follow a session with a client of the environment's, for as long as somebody reads ``out``.

    Raises:
        BrokenPipeError: Nobody reads any more.
        ManagedAgentsError: As :func:`follow`.
    """
    async with ClaudeClient(base_url=base_url) as client, open_plain_nursery() as nursery:
        nursery.start_soon(_watch_reader, out, nursery.cancel_scope)
        await follow(client, tail, show, tell)
        nursery.cancel_scope.cancel()
        return
    raise BrokenPipeError


async def follow(
    client: ClaudeClient, tail: Tail, show: Show, tell: Tell, *, reconnect: ReconnectPolicy = RECONNECT
) -> None:
    """Show a session's events, until it is over or, if not more is wanted, all that are there have been shown.

    Args:
        client: The client.
        tail: What is shown of which session.
        show: Is given each event once.
        tell: Is told when the stream is lost and when it is back.
        reconnect: How a lost stream is opened again.

    Raises:
        ManagedAgentsError: The session cannot be followed (any more), and trying again will not help.
    """
    follower = _Follower(client, tail, show, tell, reconnect)
    try:
        await (follower.follow() if tail.follow else follower.read_log())
    except ManagedAgentsError as error:
        error.add_note(f"the session {tail.session_id} cannot be followed")
        raise


class _Log:
    """The log as it becomes known, from a stream and from listings that overlap. Decides what is shown, and when.

    Attributes:
        is_over: Whether the log says that the session is.
    """

    def __init__(self, tail: Tail, show: Show, tell: Tell) -> None:
        self._tail = tail
        self._show = show
        self._tell = tell
        self._seen = SeenEvents()
        self._queued: set[str] = set()
        # What may be among the last of what is there already, until that has been read.
        self._last: deque[Event] | None = None if tail.lines is None else deque(maxlen=tail.lines)
        self.is_over = False

    @property
    def latest(self) -> Event | None:
        """The event up to which the log is known."""
        return self._seen.latest

    def take(self, events: Iterable[Event]) -> None:
        """Take what comes, or is listed, next."""
        for event in events:
            if str(event.get("type")) in PREVIEWS:
                self._preview(event)
            elif self._is_next(event) and self._tail.wants(event):
                if self._last is None:
                    self._show(event)
                else:
                    self._last.append(event)

    def caught_up(self) -> None:
        """What is there already has been read."""
        last, self._last = self._last or (), None
        for event in last:
            self._show(event)

    def _preview(self, event: Event) -> None:
        """Show a preview, unless what it is of has been listed, all of it."""
        fact = classify(event)
        if self._tail.deltas and not (isinstance(fact, PreviewText) and fact.event_id in self._seen):
            self._show(event)

    def _is_next(self, event: Event) -> bool:
        """Whether an event has its place in the log here. An input has none until the provider begins on it."""
        admission, event_id = self._seen.admit(event), event.get("id")
        if admission is Admission.KNOWN:
            return False
        if admission is Admission.UPDATED:
            return event_id in self._queued
        if self._tail.follow and is_queued(event) and isinstance(event_id, str) and event_id:
            self._queued.add(event_id)
            if self._tail.wants(event):
                self._tell(f"{event['type']} {event_id} is queued; it is shown when its turn has come")
            return False
        self.is_over = self.is_over or isinstance(classify(event), Ended)
        return True


class _Follower:
    """Keeps a session's stream, and reads what it missed."""

    def __init__(self, client: ClaudeClient, tail: Tail, show: Show, tell: Tell, reconnect: ReconnectPolicy) -> None:
        self._sessions = client.sessions
        self._id = tail.session_id
        self._deltas = tail.deltas
        self._tell = tell
        self._reconnect = reconnect
        self._log = _Log(tail, show, tell)
        self._live_since: float | None = None  # of the present stream
        self._ever_live = False
        self._failures = 0

    async def read_log(self) -> None:
        """Show what is there already."""
        await self._list()
        self._log.caught_up()

    async def follow(self) -> None:
        """Show what is there already, and what comes until the session is over."""
        while not self._log.is_over:
            self._live_since = None
            cause, asked = await self._read_stream()
            if not self._log.is_over:
                await self._wait(cause, asked)

    async def _read_stream(self) -> tuple[ManagedAgentsError | None, float | None]:
        """Attach, and show what comes until the stream ends; give why it ended, and the delay the server asked for."""
        stream: EventStream | None = None
        cause: ManagedAgentsError | None = None
        try:
            async with self._sessions.events.stream(self._id, deltas=self._deltas) as stream:
                await self._catch_up()
                while not self._log.is_over:
                    self._log.take(await stream.receive_batch())
        except trio.EndOfChannel:
            pass
        except ManagedAgentsError as error:
            if is_permanent(error):
                raise
            cause = error
        return cause, None if stream is None else stream.retry

    async def _catch_up(self) -> None:
        """Read what the stream does not bring, while it is attached and holds what comes."""
        # Asked for before the listing: of a session that is over by then the listing shows all.
        session = await self._sessions.retrieve(self._id)
        await self._list()
        self._log.caught_up()
        if session.get("status") == "terminated" or session.get("archived_at") is not None:
            self._log.is_over = True
        if self._failures and not self._log.is_over:
            self._tell("the stream is back")
        self._live_since = trio.current_time()
        self._ever_live = True

    async def _list(self) -> None:
        latest = self._log.latest
        if latest is not None:
            self._log.take(await self._missed(latest))
            return
        pages = self._sessions.events.pages(self._id)
        while (page := await pages.next_page()) is not None:
            self._log.take(page)

    async def _missed(self, latest: Event) -> list[Event]:
        """List what comes after an event; everything, if the server cannot list from a point in time."""
        rows: list[Event] = []
        with suppress(InvalidRequestError, ConfigurationError):
            rows = await self._sessions.events.list_all(self._id, created_at_gte=latest["processed_at"])
        if all(row.get("id") != latest["id"] for row in rows):
            rows = await self._sessions.events.list_all(self._id)
        place = next((place for place, row in enumerate(rows) if row.get("id") == latest["id"]), 0)
        # An event without an id cannot be told from itself; one that stands before what is known is known.
        return [row for row in rows[:place] if row.get("id")] + rows[place:]

    async def _wait(self, cause: ManagedAgentsError | None, asked: float | None) -> None:
        """Wait before the next attempt, or give up."""
        since, policy = self._live_since, self._reconnect
        if since is not None and trio.current_time() - since >= policy.healthy_after:
            self._failures = 0
        self._failures += 1
        most = policy.max_attempts if self._ever_live else FIRST_RETRIES
        if most is not None and self._failures > most:
            raise cause or StreamLost(f"the stream ended {self._failures} times, though the session had not")
        refused = cause.retry_after if isinstance(cause, APIError) else None
        delay = policy.delay(
            self._failures,
            draw=random.random(),  # noqa: S311 -- spreads reconnects, guards no secret
            retry_after=max((hint for hint in (refused, asked) if hint is not None), default=None),
        )
        why = "the stream ended" if cause is None else f"there is no stream: {cause}"
        self._tell(f"{why}; trying again in {delay:.1f} s")
        await trio.sleep(delay)


async def _watch_reader(out: TextIO, reading: trio.CancelScope) -> None:
    """Cancel as soon as nobody reads a pipe any more: the next line would tell, but that may be hours from now."""
    try:
        fd = out.fileno()
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):
            return
        await trio.lowlevel.wait_readable(fd)
        poll = select.poll()
    except (UnsupportedOperation, OSError, AttributeError):
        return  # not here, or not on this system
    poll.register(fd, 0)
    if poll.poll(0):
        reading.cancel()
