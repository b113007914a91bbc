"""What a provider is: a stateless module with these names. Whatever lives, lives in the connection it opens.

The session drives any provider through this contract alone. Functions here may be called by many sessions at once.
Beside the contract stand the values it speaks of: what can be posted, and what an event can mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from .._model import Event
from .._protocol.facts import (
    Activity,
    Answered,
    Broken,
    Called,
    Decided,
    Ended,
    Fact,
    Failed,
    Graded,
    Idled,
    Interrupted,
    Nothing,
    PreviewText,
    Restarted,
    Running,
    Said,
    Spent,
    ThreadEnded,
    ThreadStarted,
    Unrecognised,
    UserSpoke,
    own_event,
)
from .._protocol.mail import Answer, Confirmation, Goal, Input, Interrupt, Message, RawEvent
from ..provisioning import Order, Provisioner, Removal

__all__ = [
    "Activity",
    "Answer",
    "Answered",
    "Broken",
    "Called",
    "Capabilities",
    "Confirmation",
    "Decided",
    "Ended",
    "EventSource",
    "Fact",
    "Failed",
    "Goal",
    "Graded",
    "HistoryPages",
    "Idled",
    "Input",
    "Interrupt",
    "Interrupted",
    "Message",
    "Nothing",
    "Order",
    "PreviewText",
    "Provider",
    "Provisioner",
    "RawEvent",
    "Removal",
    "Restarted",
    "Running",
    "Said",
    "Spent",
    "ThreadEnded",
    "ThreadStarted",
    "Unrecognised",
    "UserSpoke",
    "own_event",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a provider can do. What it cannot is a typed error before anything is sent.

    Attributes:
        outcomes: Outcomes can be defined and graded.
        confirmations: Calls can be gated by a confirmation.
        replay: What a session has done can be read again, so that one can be watched that was begun elsewhere.
        interrupts_overtake: An interrupt may be posted while a message is, and then cuts that short.
        exits: What can become of a session that is left for good, beside leaving it as it is.
        connections_have_tasks: What ``open_connection`` opens has tasks or cancel scopes of its own, and so needs a
            task that keeps it; without, each session saves that one.
    """

    outcomes: bool = True
    confirmations: bool = True
    replay: bool = True
    interrupts_overtake: bool = False
    exits: frozenset[str] = frozenset({"interrupt", "archive", "delete"})
    connections_have_tasks: bool = True


class EventSource(Protocol):
    """A stream of events that is attached."""

    @property
    def retry(self) -> float | None:
        """The shortest delay in seconds that the provider wants before the next stream; ``None`` if it named none."""
        ...

    async def receive_batch(self) -> list[Event]:
        """Wait for events and give all that have arrived, in order; never an empty list.

        Raises:
            trio.EndOfChannel: The stream ended cleanly.
            ManagedAgentsError: The stream was lost, was silent for too long, or spoke another protocol.
        """
        ...


class HistoryPages(Protocol):
    """A listing of a session's events, oldest first, read page by page."""

    async def next_page(self) -> list[Event] | None:
        """Wait for the next page; ``None`` after the last."""
        ...


class Provider(Protocol):
    """A provider module. ``options`` and ``connection`` are its own values, opaque to the session.

    A provider whose agents store files may have one name more: ``open_artifacts(connection, session_id, **options)``
    gives the store of a session, as :class:`~managed_agents_actors.artifacts.ArtifactStore`, without sending anything;
    it is what a tool's ``context.artifacts(**options)`` gives. An unknown option is a ``TypeError``.

    One whose options name the agent may say so for telemetry: ``describe(options)`` gives a mapping with ``agent_id``,
    and ``agent_name`` if the options know it.

    One that can make what its sessions use has the names of :class:`~managed_agents_actors.provisioning.Provisioner`,
    too; with another one :func:`~managed_agents_actors.provision` is refused.

    Attributes:
        NAME: The provider's name, as contexts and logs show it.
        CAPABILITIES: What the provider can do.
    """

    NAME: str
    CAPABILITIES: Capabilities

    def parse_options(self, options: Mapping[str, Any], /) -> Any:
        """Check the caller's provider options; nothing is sent.

        Raises:
            TypeError: An option is unknown or a required one is missing; the message names it.
            ConfigurationError: A value cannot be used.
        """
        ...

    def is_resumed(self, options: Any, /) -> bool:
        """Whether the options name a session that exists already."""
        ...

    def metadata(self, options: Any, /) -> Mapping[str, Any]:
        """Give the caller's metadata that came with the provider options."""
        ...

    def open_connection(self, options: Any, /) -> AbstractAsyncContextManager[Any]:
        """Open what the session's requests go through, for as long as the block lasts: all of its actors use it."""
        ...

    async def establish(self, connection: Any, /) -> str:
        """Create the session, unless it exists already, and give its id."""
        ...

    def open_stream(self, connection: Any, session_id: str, /) -> AbstractAsyncContextManager[EventSource]:
        """Attach to the session's events: entering returns once the provider has accepted the stream."""
        ...

    def read_history(self, connection: Any, session_id: str, /, *, since: str | None = None) -> HistoryPages:
        """Begin a listing of the session's log: all of it, or what was processed at a time or after it.

        Args:
            connection: What :meth:`open_connection` gave.
            session_id: The session.
            since: The time, as the provider's own events tell it; a provider that cannot do that lists everything.
        """
        ...

    async def read_status(self, connection: Any, session_id: str, /) -> str | None:
        """Ask for the session's status; ``None`` if the provider tells none."""
        ...

    async def post(self, connection: Any, session_id: str, item: Input, /) -> list[Event]:
        """Send one input, once, and give what the provider answered. It is never repeated from here."""
        ...

    async def leave(self, connection: Any, session_id: str, how: Literal["interrupt", "archive", "delete"], /) -> None:
        """Interrupt, archive or delete a session that is left for good; one that is at work is interrupted first."""
        ...

    def check_input(self, item: Input, /) -> None:
        """Check that an input can be put on the wire.

        Raises:
            ConfigurationError: It cannot; nothing was sent.
        """
        ...

    def classify(self, event: Event, /) -> Fact:
        """Give the meaning of an event. Never raises."""
        ...
