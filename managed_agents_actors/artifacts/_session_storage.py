"""Artifacts of a Bedrock AgentCore session: files in its machine, reached by commands, since there is no other way.

A file is put in pieces, checked by its digest where it has arrived, and takes its name in one step: whatever is lost,
repeated or cut off, there is never a half file under a name.

Source: Bedrock AgentCore data plane API reference, InvokeAgentRuntimeCommand; developer guide, session storage.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, final

from .._artifact import Artifact, ArtifactList
from .._errors import ArtifactError, ArtifactNotFound
from .._protocol.codec import decode_json
from ..agentcore import AgentCoreClient
from . import _programs as programs
from ._checks import check_content, check_directory, check_name
from ._machine import Ended, Machine
from ._undo import undone_on_failure

__all__ = ["AgentCoreSessionStorage"]

# A command has 65 536 characters at most; 48 000 of base64 leave room for the program and the path, quoted.
PIECE_BYTES: Final = 36_000
# One answer may have 100 MB; this much is decoded and digested in a few hundredths of a second, on the event loop.
RANGE_BYTES: Final = 4 * 1024 * 1024
MAX_BYTES: Final = 512 * 1024 * 1024  # of one artifact, which is held in memory whole
FETCH_ATTEMPTS: Final = 2  # a file that changes again while it is read again is being written
EXCERPT_CHARS: Final = 200  # of an answer that an error shows


@dataclass(frozen=True, slots=True)
class _Range:
    """A piece of a file, the file's size when it was read and, if it is the first, the digest of all of it."""

    data: bytes
    size: int
    sha256: str


@final
class AgentCoreSessionStorage:
    """The regular files of one directory in a session's machine.

    To outlive the machine, the directory must be in a mounted file system of the harness, such as ``sessionStorage``.
    Links and directories are no artifacts. Each verb starts the machine if there is none, and counts as activity of
    the session. The machine needs ``python3``, which the service's own image has.

    Two puts of one name may overlap: the name then has the content of one of them, whole.

    Args:
        client: Sends the commands; it stays open.
        harness_arn: The harness's ARN, or a runtime's.
        session_id: The runtime session's id.
        base_path: The directory, an absolute path. It is made by the first put.
        qualifier: The endpoint; default: ``DEFAULT``.
        timeout: Seconds until the service ends a command, 1 to 3600; a put or a fetch is several.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    def __init__(
        self,
        client: AgentCoreClient,
        harness_arn: str,
        session_id: str,
        base_path: str = "/mnt/data",
        *,
        qualifier: str | None = None,
        timeout: int = 60,
    ) -> None:
        self._machine = Machine(client, harness_arn, session_id, qualifier=qualifier, timeout=timeout)
        self._base_path = check_directory("base_path", base_path)

    def __repr__(self) -> str:
        return f"AgentCoreSessionStorage(session_id={self._machine.session_id!r}, base_path={self._base_path!r})"

    async def list(self) -> ArtifactList:
        """List the files, the newest first; ``created_at`` is when one was last written.

        A name of other characters than ``put`` takes is listed, and cannot be fetched.

        Raises:
            ArtifactError: The command failed, or printed something else.
            APIError: The service refused.
            TransportError: The exchange failed, several times.
        """
        ended = await self._machine.run(programs.LIST, self._base_path)
        try:
            rows = [(row["mtime_ns"], self._artifact(row)) for row in decode_json(ended.stdout)]
            rows.sort(key=lambda row: (row[0], row[1].name), reverse=True)
        except (ValueError, TypeError, KeyError) as error:
            raise _unexpected(ended.stdout) from error
        return [artifact for _, artifact in rows]

    def _artifact(self, row: dict[str, Any]) -> Artifact:
        return Artifact(
            name=row["name"],
            size=row["size"],
            ref=f"{self._base_path}/{row['name']}",
            created_at=_time(row["mtime_ns"]),
            raw=row,
        )

    async def fetch(self, name: str, /) -> bytes:
        """Read a file; what is given is what the file was at one moment, by its digest.

        Raises:
            ConfigurationError: This is no name; nothing was sent.
            ArtifactNotFound: There is no such file.
            ArtifactError: It is too large, changed each time while it was read, or a command failed.
            APIError: The service refused.
            TransportError: The exchange failed, several times.
        """
        path = self._path(name)
        for _ in range(FETCH_ATTEMPTS):
            data = await self._read(path)
            if data is not None:
                return data
        raise ArtifactError(f"{path} changed while it was read, {FETCH_ATTEMPTS} times; fetch it when it is complete")

    async def _read(self, path: str) -> bytes | None:
        """Read all ranges; give nothing if the file changed in between."""
        first = await self._read_range(path, 0)
        if first.size > MAX_BYTES:
            raise ArtifactError(f"{path} has {first.size:,} bytes; {MAX_BYTES:,} can be fetched")
        data, digest = bytearray(first.data), hashlib.sha256(first.data)
        while len(data) < first.size:
            piece = await self._read_range(path, len(data))
            if not piece.data:
                return None  # it has become shorter; any other change shows in the digest
            data += piece.data
            digest.update(piece.data)
        return bytes(data) if digest.hexdigest() == first.sha256 else None

    async def _read_range(self, path: str, start: int) -> _Range:
        numbers = map(str, (start, RANGE_BYTES, MAX_BYTES))
        ended = await self._machine.run(programs.READ, path, *numbers, expected=(programs.NOT_THERE,))
        if ended.exit_code == programs.NOT_THERE:
            raise _missing(path)
        try:
            told = decode_json(ended.stdout)
            data = base64.b64decode(told["data"], validate=True)
            return _Range(data, int(told["size"]), str(told["sha256"]))
        except (ValueError, TypeError, KeyError) as error:
            raise _unexpected(ended.stdout) from error

    async def put(self, name: str, data: bytes, /) -> Artifact:
        """Write a file, in the place of one that has the name.

        The file takes its name by the last command, when all of it has arrived and its digest is right. A put that
        fails or is cancelled before leaves what was there; one that fails or is cancelled at the last command leaves
        that or the new content, whole. Then what it has sent is removed; what a command leaves behind that is still to
        run then, or a process that dies, is removed by a later put, a day after.

        Every 36 000 bytes are a command of their own, which starts a ``python3``. The last command copies all of the
        file and digests it: ``timeout`` must leave room for that.

        Raises:
            ConfigurationError: The name is none, the content is not bytes, or is too large; nothing was sent.
            ArtifactError: What has arrived is not what was sent, or a command failed, or did not end in time. Or the
                parts are gone; if the outcome of an attempt at the last command was lost, the file may have been put,
                and moved away, changed or replaced since.
            APIError: The service refused.
            TransportError: The exchange failed, several times.
        """
        path = self._path(name)
        check_content(data, MAX_BYTES)
        # Its own for each put: of two that overlap, neither touches the parts of the other.
        parts = f"{self._base_path}/{programs.PARTS_PREFIX}{secrets.token_hex(8)}"
        async with undone_on_failure(partial(self._machine.run, programs.DISCARD, parts), f"the parts of {path}"):
            digest = hashlib.sha256()
            starts = range(0, max(1, len(data)), PIECE_BYTES)  # what is empty has one empty piece
            for number, start in enumerate(starts):
                piece = data[start : start + PIECE_BYTES]
                digest.update(piece)
                await self._machine.run(programs.WRITE, parts, str(number), base64.b64encode(piece).decode("ascii"))
            await self._finish(parts, path, str(len(starts)), str(len(data)), digest.hexdigest())
        return Artifact(name=name, size=len(data), ref=path)

    async def _finish(self, parts: str, path: str, *facts: str) -> None:
        failures = (programs.DIFFERENT, programs.NO_PARTS)
        ended = await self._machine.run(programs.FINISH, parts, path, *facts, expected=failures)
        if ended.exit_code in failures:
            raise ArtifactError(_unfinished(path, ended), exit_code=ended.exit_code)

    async def delete(self, name: str, /) -> None:
        """Delete a file.

        Raises:
            ConfigurationError: This is no name; nothing was sent.
            ArtifactNotFound: There is no such file, and no attempt whose outcome was lost can have deleted it.
            ArtifactError: The command failed.
            APIError: The service refused.
            TransportError: The exchange failed, several times.
        """
        path = self._path(name)
        ended = await self._machine.run(programs.DELETE, path, expected=(programs.NOT_THERE,))
        if ended.exit_code == programs.NOT_THERE and not ended.repeated:
            raise _missing(path)

    def _path(self, name: str) -> str:
        return f"{self._base_path}/{check_name(name)}"


def _time(mtime_ns: int) -> str | None:
    try:
        return datetime.fromtimestamp(mtime_ns / 1e9, UTC).isoformat()
    except (OverflowError, OSError, ValueError):
        return None  # a file may bear any time, before and after those of a calendar


def _unfinished(path: str, ended: Ended) -> str:
    if ended.exit_code == programs.DIFFERENT:
        return f"{path} was not put, what has arrived is not what was sent; what it was before has stayed"
    if ended.repeated:
        return (
            f"whether {path} was put is unknown: the outcome of an attempt was lost, and what was sent is gone; the"
            " file may have been put, and moved away, changed or replaced since"
        )
    return (
        f"{path} was not put, what was sent is gone: the machine was replaced, or something removes its files; what it"
        " was before has stayed"
    )


def _missing(path: str) -> ArtifactNotFound:
    return ArtifactNotFound(f"the session's machine has no file {path}", exit_code=programs.NOT_THERE)


def _unexpected(stdout: str) -> ArtifactError:
    return ArtifactError(f"a command printed something else than was expected: {stdout[:EXCERPT_CHARS]!r}", exit_code=0)
