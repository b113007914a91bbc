"""The session's line to its provider: each method is a child task's whole life, and reports by mail.

Failures that are the provider's or the network's become mail; any other exception is a defect and leaves the task.
"""

from __future__ import annotations

from typing import Any, final

import trio

from .._errors import ManagedAgentsError
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
    """

    def __init__(self, provider: Provider, connection: Any, mailbox: Mailbox[Mail], watcher: Watcher) -> None:
        self._provider = provider
        self._connection = connection
        self._mailbox = mailbox
        self._watcher = watcher
        self._session_id = ""

    async def establish(self, *, blank: bool) -> None:
        """Create the session, or find the one to resume; ``blank`` says that a created one has an empty log."""
        try:
            self._session_id = await self._provider.establish(self._connection)
        except ManagedAgentsError as error:
            await self._mailbox.send(OpenFailed(error))
        else:
            await self._mailbox.send(Opened(self._session_id, blank))

    async def read_stream(self, generation: int, *, read_history: bool) -> None:
        """Attach; read the history if asked; then hand over what comes, until the stream ends."""
        cause: ManagedAgentsError | None = None
        source: EventSource | None = None
        try:
            async with self._provider.open_stream(self._connection, self._session_id) as source:
                await self._mailbox.send(Attached(generation))
                if read_history:
                    await self._read_history(generation)
                while True:
                    events = await source.receive_batch()
                    await self._watcher.wait_for_room()
                    await self._mailbox.send(Live(generation, events))
        except trio.EndOfChannel:
            pass
        except ManagedAgentsError as error:
            cause = error
        await self._mailbox.send(Detached(generation, cause, None if source is None else source.retry))

    async def _read_history(self, generation: int) -> None:
        # The stream is attached and not read meanwhile: what it brings waits in the socket's buffers.
        pages = self._provider.read_history(self._connection, self._session_id)
        while (page := await pages.next_page()) is not None:
            await self._watcher.wait_for_room()
            await self._mailbox.send(History(generation, page))
        await self._mailbox.send(HistoryRead(generation))

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
