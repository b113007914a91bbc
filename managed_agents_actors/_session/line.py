"""The session's line to its provider: each async method is a child task's whole life, and reports by mail.

Failures that are the provider's or the network's become mail; any other exception is a defect and leaves the task.
Mail goes with a checkpoint, always: what comes first on the wire comes first to the actor, and what was posted at the
same moment as an interrupt is on its way before that has returned.
"""

from __future__ import annotations

from typing import Any, final

import trio

from .._artifact import ArtifactStore
from .._errors import ConfigurationError, InvalidRequestError, ManagedAgentsError
from .._model import Event
from .._protocol.effects import Attach, Landmark
from .._protocol.mail import (
    Attached,
    Detached,
    History,
    HistoryRead,
    Input,
    Live,
    Looked,
    LookFailed,
    Mail,
    Opened,
    OpenFailed,
    Posted,
    PostFailed,
)
from ..actors import Mailbox
from ..providers.contract import EventSource, Provider
from .feeds import Watcher


@final
class ProviderLine:
    """Talks to one session at the provider.

    Args:
        provider: The provider module.
        connection: What it opened for this session.
        mailbox: Where reports go.
        watcher: Whose room is waited for before more events are read.
        session_id: The session, if it is known already; else :meth:`establish` finds it.
    """

    __slots__ = ("_connection", "_mailbox", "_provider", "_session_id", "_watcher")

    def __init__(
        self, provider: Provider, connection: Any, mailbox: Mailbox[Mail], watcher: Watcher, session_id: str | None
    ) -> None:
        self._provider = provider
        self._connection = connection
        self._mailbox = mailbox
        self._watcher = watcher
        self._session_id = session_id or ""

    def open_artifacts(self, **options: Any) -> ArtifactStore:
        """Open the store of what the session's agent keeps, over the session's own connection; nothing is sent yet.

        Raises:
            ConfigurationError: The provider has none, or the value of an option cannot be used.
            TypeError: An option is unknown.
        """
        opened = getattr(self._provider, "open_artifacts", None)
        if opened is None:
            raise ConfigurationError(f"the provider {self._provider.NAME} stores no artifacts")
        store: ArtifactStore = opened(self._connection, self._session_id, **options)
        return store

    async def establish(self, *, blank: bool) -> None:
        """Create the session, or find the one to resume; ``blank`` says that a created one has an empty log."""
        try:
            self._session_id = await self._provider.establish(self._connection)
        except ManagedAgentsError as error:
            await self._mailbox.send(OpenFailed(error))
        else:
            await self._mailbox.send(Opened(self._session_id, blank))

    async def read_stream(self, attach: Attach) -> None:
        """Attach; read the history if asked; then hand over what comes, until the stream ends."""
        generation = attach.generation
        cause: ManagedAgentsError | None = None
        source: EventSource | None = None
        try:
            async with self._provider.open_stream(self._connection, self._session_id) as source:
                await self._mailbox.send(Attached(generation))
                if attach.read_history:
                    await self._read_history(generation, attach.since)
                while True:
                    events = await source.receive_batch()
                    await self._watcher.wait_for_room()
                    await self._mailbox.send(Live(generation, events))
        except trio.EndOfChannel:
            pass
        except ManagedAgentsError as error:
            cause = error
        await self._mailbox.send(Detached(generation, cause, None if source is None else source.retry))

    async def _read_history(self, generation: int, since: Landmark | None) -> None:
        # The stream is attached and not read meanwhile: what it brings waits in the socket's buffers.
        tail = None if since is None else await self._read_tail(since)
        if tail is not None:
            await self._hand_over(generation, tail)
        else:
            pages = self._provider.read_history(self._connection, self._session_id)
            while (page := await pages.next_page()) is not None:
                await self._hand_over(generation, page)
        await self._mailbox.send(HistoryRead(generation))

    async def _read_tail(self, since: Landmark) -> list[Event] | None:
        """Read the history from a landmark on; give nothing if the listing does not show it, or is not to be had."""
        tail: list[Event] = []
        try:
            pages = self._provider.read_history(self._connection, self._session_id, since=since.at)
            while (page := await pages.next_page()) is not None:
                tail += page
        except (InvalidRequestError, ConfigurationError):
            return None  # a server that cannot list from a point in time, or tells no time that could be asked for
        return tail if any(event.get("id") == since.event_id for event in tail) else None

    async def _hand_over(self, generation: int, page: list[Event]) -> None:
        await self._watcher.wait_for_room()
        await self._mailbox.send(History(generation, page))

    async def look(self) -> None:
        """Read the whole history and the session's status, beside the stream."""
        events = []
        try:
            pages = self._provider.read_history(self._connection, self._session_id)
            while (page := await pages.next_page()) is not None:
                events += page
            status = await self._provider.read_status(self._connection, self._session_id)
        except ManagedAgentsError as error:
            await self._mailbox.send(LookFailed(error))
        else:
            await self._mailbox.send(Looked(events, status))

    async def post(self, post_id: int, item: Input) -> None:
        """Send one input, once."""
        try:
            echo = await self._provider.post(self._connection, self._session_id, item)
        except ManagedAgentsError as error:
            await self._mailbox.send(PostFailed(post_id, error))
        else:
            await self._mailbox.send(Posted(post_id, echo))
