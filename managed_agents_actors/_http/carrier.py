"""The stream beneath a :class:`trio.SSLStream`, for what that hides.

It refuses to receive once it failed to send, though the answer that says why may have come: failures are kept from it
and told by :meth:`Carrier.check`. And it takes all that comes, more than one answer if there is more: what it has left
shows in :meth:`Carrier.is_used_up`, when it gets nothing new.
"""

from __future__ import annotations

from typing import final

import trio

__all__ = ["Carrier"]


@final
class Carrier(trio.abc.Stream):
    """Carries a TLS stream over another stream.

    Attributes:
        stream: The stream itself.
    """

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self._is_broken = False
        self._is_shut = False

    def check(self) -> None:
        """Raise ``trio.BrokenResourceError`` if something could not be sent."""
        if self._is_broken:
            raise trio.BrokenResourceError

    async def is_used_up(self, secured: trio.abc.Stream) -> bool:
        """Tell whether the TLS stream has given all that it took. One step, also in a cancelled scope."""
        self._is_shut = True
        try:
            with trio.CancelScope(shield=True):
                await secured.receive_some(1)
        except trio.WouldBlock:
            return True
        except trio.BrokenResourceError:
            return False
        finally:
            self._is_shut = False
        return False

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive from the stream."""
        if self._is_shut:
            raise trio.WouldBlock
        return await self.stream.receive_some(max_bytes)

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send to the stream; never fails."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._is_broken = True

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the stream has room."""
        await self.stream.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        """Close the stream."""
        await self.stream.aclose()
