"""Files: uploads and downloads that are streamed, never held whole unless asked for.

Transfers are bounded by silence, not by length: a large file may take its time as long as bytes move.
Source: Claude Managed Agents API reference, files.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeAlias

import trio

from .._errors import ConfigurationError, ProtocolError
from .._http.exchange import Incoming
from .._http.upload import BytesFile, FilePart, Multipart
from ._checks import check_header, check_text
from ._paging import Row
from ._resource import Collection

__all__ = ["Files"]

PathLike: TypeAlias = str | os.PathLike[str]

MAX_DOWNLOAD_BYTES: Final = 512 * 1024 * 1024  # in memory; the server takes files up to 500 MB

_CONTENT_TYPES: Final = {
    ".csv": "text/csv",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".md": "text/markdown",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".txt": "text/plain",
}


class Files(Collection):
    """``client.files``. ``list(scope_id=session_id)`` finds what a session produced."""

    _name = "files"

    async def upload(
        self,
        source: PathLike | bytes,
        *,
        filename: str | None = None,
        content_type: str | None = None,
        purpose: str | None = None,
        expires_in_seconds: int | None = None,
    ) -> Row:
        """Upload a file, read as it is sent. Not repeated once it may be taken.

        Args:
            source: A path, or the content itself.
            filename: The name at the provider; default: the path's own. Content needs one.
            content_type: Default: by the name's extension, else ``application/octet-stream``.
            purpose: A field some servers ask for.
            expires_in_seconds: When the provider deletes the file, 3 600 to 7 776 000.

        Raises:
            ConfigurationError: The source is neither path nor bytes, content came without a name, or a name is
                not text; nothing was sent.
            OSError: The file cannot be read.
        """
        options = {"purpose": purpose, "expires_in_seconds": expires_in_seconds}
        fields = {name: str(value) for name, value in options.items() if value is not None}
        for name, value in fields.items():
            check_text(name, value)
        async with _open_part(source, filename, content_type) as part:
            form = Multipart(part, fields)
            transfer = {"timeout": None, "silence": self._api.timeout}
            call = self._api.call("POST", self._name, body=form, betas=self._betas({}), **transfer)
            return await self._api.exchange.json(call)

    async def retrieve_metadata(self, file_id: str, /) -> Row:
        """Fetch a file's name, type, size and dates."""
        return await self._api.get(self._name, file_id, query={}, betas=self._betas({}))

    async def download(self, file_id: str, /) -> bytes:
        """Download a file into memory.

        Raises:
            ProtocolError: It is larger than :data:`MAX_DOWNLOAD_BYTES`; use :meth:`download_to`.
        """
        data = bytearray()
        async with self._open_content(file_id) as incoming:
            while chunk := await incoming.receive():
                data += chunk
                if len(data) > MAX_DOWNLOAD_BYTES:
                    raise ProtocolError(f"file {file_id} is over {MAX_DOWNLOAD_BYTES} bytes: use download_to()")
        return bytes(data)

    async def download_to(self, file_id: str, path: PathLike, /) -> int:
        """Download a file to a path; return its size in bytes.

        It is written beside the path under another name and renamed when complete: a download that breaks off
        leaves what was at the path.
        """
        part = trio.Path(f"{os.fspath(path)}.part")
        size = 0
        try:
            async with self._open_content(file_id) as incoming, await part.open("wb") as file:
                while chunk := await incoming.receive():
                    size += await file.write(chunk)
            await part.replace(path)
        except BaseException:
            # Blocking for a moment, because it must happen in a cancelled scope too.
            Path(part).unlink(missing_ok=True)  # noqa: ASYNC240
            raise
        return size

    async def delete(self, file_id: str, /) -> Row:
        """Delete a file."""
        return await self._api.delete(self._name, file_id, betas=self._betas({}))

    @asynccontextmanager
    async def _open_content(self, file_id: str) -> AsyncIterator[Incoming]:
        call = self._api.call(
            "GET",
            *(self._name, file_id, "content"),
            headers={"accept": "application/binary"},
            betas=(self._api.files_beta, self._api.beta),
            idempotent=True,
            silence=self._api.timeout,
        )
        async with aclosing(await self._api.exchange.open(call)) as incoming:
            yield incoming

    def _betas(self, query: Mapping[str, Any]) -> tuple[str | None, ...]:
        """Files need no beta value, but those of a session need the sessions' one."""
        return (self._api.files_beta, self._api.beta if query.get("scope_id") is not None else None)


@asynccontextmanager
async def _open_part(
    source: PathLike | bytes, filename: str | None, content_type: str | None
) -> AsyncIterator[FilePart]:
    if not isinstance(source, str | os.PathLike | bytes):
        raise ConfigurationError(f"upload takes a path or bytes, not a {type(source).__name__}; nothing was sent")
    name = filename if isinstance(source, bytes) else filename or Path(source).name
    if not name:
        raise ConfigurationError("upload needs filename= with content given as bytes; nothing was sent")
    check_text("filename", name)
    kind = content_type or _CONTENT_TYPES.get(Path(name).suffix.lower(), "application/octet-stream")
    check_header("content_type", kind)
    if isinstance(source, bytes):
        yield FilePart(file=BytesFile(source), size=len(source), filename=name, content_type=kind)
        return
    async with await trio.open_file(source, "rb") as file:
        size = await file.seek(0, os.SEEK_END)
        yield FilePart(file=file, size=size, filename=name, content_type=kind)
