"""The bytes of a response, pulled one chunk at a time, whatever transport they come from.

It decodes a content encoding the server used unasked and bounds what is held. Leaving a body half read is clean:
no async generator of a foreign transport is left for the garbage collector.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator
from typing import Final, NamedTuple

import httpx
import trio

from .messages import Response

__all__ = ["ResponseBody"]

CLOSE_SECONDS: Final = 5.0  # a foreign transport's farewell; ours needs none
MAX_INFLATED_BYTES: Final = 1024 * 1024  # per step of decompression, so that a small chunk cannot fill the memory

_PLAIN: Final = frozenset({"", "identity"})
_INFLATABLE: Final = frozenset({"gzip", "x-gzip", "deflate"})


class Excerpt(NamedTuple):
    """The beginning of a body, and whether that was all of it."""

    data: bytes
    complete: bool


class ResponseBody:
    """The body of a response, which has not been read.

    Attributes:
        response: Status and headers.
    """

    __slots__ = ("_chunks", "_encoding", "_inflater", "response")

    def __init__(self, response: Response) -> None:
        self.response = response
        self._chunks = response.body.__aiter__()
        self._encoding = _encoding_of(response)
        # 32: tell gzip from zlib by the header. We ask for identity; a proxy may compress all the same.
        self._inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32) if self._encoding in _INFLATABLE else None

    async def receive(self) -> bytes:
        """Wait for the next bytes; ``b""`` is the end.

        Raises:
            httpx.HTTPError: The connection broke, was silent for too long, or ended too early.
        """
        if self._inflater is None and self._encoding not in _PLAIN:
            seen = self.response.headers["content-encoding"]  # as it came: a secret in other letters is not recognised
            raise httpx.DecodingError(f"the response is encoded as {seen!r}; identity was asked for")
        while self._inflater is not None and self._inflater.unconsumed_tail:
            if data := self._inflate(self._inflater.unconsumed_tail):
                return data
        async for chunk in self._chunks:
            if data := self._inflate(chunk):
                return data
        return self._inflater.flush() if self._inflater is not None else b""

    async def read(self, limit: int) -> Excerpt:
        """Read to the end, but not further than ``limit`` bytes (rounded up to a chunk)."""
        data = bytearray()
        while chunk := await self.receive():
            data += chunk
            if len(data) > limit:
                return Excerpt(bytes(data[:limit]), complete=False)
        return Excerpt(bytes(data), complete=True)

    async def aclose(self) -> None:
        """Release the connection: for another request if the body was read to its end, else closed."""
        if isinstance(self._chunks, AsyncGenerator):
            await _unwind(self._chunks)
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            await self.response.body.aclose()

    def _inflate(self, chunk: bytes) -> bytes:
        if self._inflater is None:
            return chunk
        try:
            return self._inflater.decompress(chunk, MAX_INFLATED_BYTES)
        except zlib.error as exc:
            raise httpx.DecodingError(f"the response's compression is broken: {exc}") from exc


def _encoding_of(response: Response) -> str:
    for name, value in response.raw_headers:
        if name.lower() == b"content-encoding":
            return value.strip().lower().decode("latin-1")
    return "identity"


async def _unwind(chunks: AsyncGenerator[bytes, None]) -> None:
    """End a transport's nested generators by cancelling their read: closing the outermost would abandon the rest."""
    with trio.CancelScope(shield=True) as scope:
        scope.cancel()
        try:
            async for _ in chunks:
                pass  # what was buffered; the first read that has to wait is cancelled
        except (httpx.HTTPError, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # it ended another way, which nobody waits for any more
