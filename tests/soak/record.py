"""What could be seen of a case from outside, as plain data: the server's log, the handlers' own notes, the wire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import managed_agents_actors as maa
from managed_agents_actors.testing import RecordedRequest

Event: TypeAlias = dict[str, Any]


@dataclass
class Execution:
    """One run of a tool, as the tool itself noted it.

    Attributes:
        answer: What the server must be told; `None` as long as it has not come to it.
        is_error: Whether that is an error.
    """

    call_id: str
    attempt: int
    state: Literal["running", "cancelled", "completed"] = "running"
    answer: str | None = None
    is_error: bool = False


@dataclass
class Life:
    """One stretch in which a session was held: by one handler, from its opening to its end.

    Attributes:
        messages: What was sent, in order.
        results: What its callers got, in order.
        error: What its last caller got instead, if it did.
        notified: What the `notify=` channel was told.
        subscribed: What a subscriber was told; `None` without one.
        executions: The runs of tools.
        verdicts: The gated calls the handler was asked about.
        events: The events the handler was shown.
        deltas: The text deltas it was shown.
        read: What a live reader got, events and deltas; `None` without one.
    """

    messages: list[str] = field(default_factory=list)
    results: list[maa.SessionResult] = field(default_factory=list)
    error: Exception | None = None
    notified: list[maa.SessionResult] = field(default_factory=list)
    subscribed: list[maa.SessionResult] | None = None
    executions: list[Execution] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    deltas: list[str] = field(default_factory=list)
    read: list[Event] | None = None


@dataclass
class Held:
    """A session, over.

    Attributes:
        session_id: Its id, once there was one.
        lives: In order.
        deleted: Whether it is gone, and its log with it.
        log: The server's.
        open_streams: Streams that are attached though nobody holds the session any more.
    """

    session_id: str | None = None
    lives: list[Life] = field(default_factory=list)
    deleted: bool = False
    log: tuple[Event, ...] = ()
    open_streams: int = 0


@dataclass
class Record:
    """A case, over.

    Attributes:
        sessions: In the order of the case's conversations.
        requests: The wire log.
        may_end_with: What the faults that took effect may end a session with.
        crashes: How many crashes of actors were injected.
        gives_up: Whether a session may use up its attempts to reconnect, and is started anew then.
        hung: Whether it was given up in virtual time.
        escaped: What came out of it altogether.
        noise: Warnings, unraisable exceptions and lines of the library's log that tell of an error.
        tasks_left: Tasks that ran on after everything was closed.
    """

    sessions: list[Held] = field(default_factory=list)
    requests: tuple[RecordedRequest, ...] = ()
    may_end_with: tuple[type[Exception], ...] = ()
    crashes: int = 0
    gives_up: bool = False
    hung: bool = False
    escaped: BaseException | None = None
    noise: list[str] = field(default_factory=list)
    tasks_left: int = 0
