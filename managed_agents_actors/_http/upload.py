"""A multipart/form-data body with one file, sent in pieces and sendable again.

It never holds the file: it reads as the connection takes. It does not own it: whoever opened it closes it.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import httpx

from .._errors import ConfigurationError

__all__ = ["AsyncFile", "BytesFile", "FilePart", "Multipart"]

PIECE_BYTES: Final = 256 * 1024  # per read: few thread hops for a big file, little memory for many uploads at once


class AsyncFile(Protocol):
    """What is needed of a file: ``trio.open_file(path, "rb")`` gives it."""

    async def seek(self, offset: int, /) -> int:
        """Go to a position."""

    async def read(self, size: int, /) -> bytes:
        """Read up to so many bytes; none at the end."""


class BytesFile:
    """Bytes in memory as an :class:`AsyncFile`."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    async def seek(self, offset: int, /) -> int:
        """Go to a position."""
        return self._data.seek(offset)

    async def read(self, size: int, /) -> bytes:
        """Read up to so many bytes; none at the end."""
        return self._data.read(size)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """The file of a form: where it is read from, its size in bytes, and what the server is told about it."""

    file: AsyncFile
    size: int
    filename: str
    content_type: str


class Multipart(httpx.AsyncByteStream):
    """A form of text fields and one file; each iteration sends it from the beginning.

    Attributes:
        content_type: The request's content type.
        length: The body's length in bytes.
    """

    def __init__(self, part: FilePart, fields: Mapping[str, str]) -> None:
        boundary = secrets.token_hex(16)
        opening = f"--{boundary}\r\nContent-Disposition: form-data; name="
        head = "".join(f'{opening}"{_quoted(name)}"\r\n\r\n{value}\r\n' for name, value in fields.items())
        head += f'{opening}"file"; filename="{_quoted(part.filename)}"\r\n'
        head += f"Content-Type: {part.content_type}\r\n\r\n"
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.part = part
        self.head = head.encode()
        self.tail = f"\r\n--{boundary}--\r\n".encode()
        self.length = len(self.head) + part.size + len(self.tail)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Pieces(self)


class _Pieces:
    """A plain iterator, so that a cancelled upload abandons no async generator."""

    def __init__(self, form: Multipart) -> None:
        self._form = form
        self._left: int | None = None  # bytes of the file still to send; None before the head was sent
        self._ended = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        part = self._form.part
        if self._left is None:
            await part.file.seek(0)
            self._left = part.size
            return self._form.head
        if self._left:
            piece = await part.file.read(min(PIECE_BYTES, self._left))
            if not piece:
                raise ConfigurationError(f"{part.filename} became shorter while it was uploaded; upload it again")
            self._left -= len(piece)
            return piece
        if self._ended:
            raise StopAsyncIteration
        self._ended = True
        return self._form.tail


def _quoted(text: str) -> str:
    """Escape a name as the HTML standard does, so that it cannot end its header."""
    return text.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
