"""Artifacts of a Claude Managed Agents session: what its agent wrote for others to have, and what it is given.

Source: Claude Managed Agents API reference, files and session resources.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Final, final

from .._artifact import Artifact, ArtifactList
from .._errors import ArtifactNotFound, ConfigurationError, NotFoundError, ProtocolError
from .._protocol.codec import encode_json
from ..claude import ClaudeClient
from ._checks import check_content, check_directory, check_name, check_text, check_whole_seconds
from ._undo import undone_on_failure

__all__ = ["ClaudeFiles"]

EXCERPT: Final = 500  # bytes of an answer that an error shows
EXPIRY_SECONDS: Final = range(3_600, 7_776_001)  # Files API, upload: expires_in_seconds


@final
class ClaudeFiles:
    """The files of one session.

    The agent gives a file out by writing it below :data:`OUTPUTS_DIR`; nothing else it writes can be fetched. The
    provider lists such a file a few seconds after the session has become idle, not at once: whoever does not find it
    yet should ask again. What is put is listed, too, but the provider gives out only what the session has produced:
    fetching it is an ``InvalidRequestError``, unless the session has produced an older file of the same name.

    What is put is uploaded to the organisation's files, and the session has a copy of it, under an id of its own. The
    upload stays beside the copy, also when that is deleted: whether the copy would outlive it is not documented.

    Args:
        client: Sends the requests; it stays open.
        session_id: The session.
        mount_dir: Where the agent finds what is put, an absolute path. The provider roots it where it keeps uploads:
            the ``mount_path`` in the :attr:`~Artifact.raw` of what ``put`` gives says where that is.
        upload_expires_in: Seconds after which the provider deletes what was uploaded, 3 600 to 7 776 000; by default it
            stays. Let it outlast the session.

    Raises:
        ConfigurationError: An argument cannot be used.
    """

    OUTPUTS_DIR: ClassVar[str] = "/mnt/session/outputs"

    def __init__(
        self, client: ClaudeClient, session_id: str, *, mount_dir: str = "/data", upload_expires_in: int | None = None
    ) -> None:
        if not isinstance(client, ClaudeClient):
            raise ConfigurationError(f"client must be a ClaudeClient, not a {type(client).__name__}")
        self._client = client
        self._session_id = check_text("session_id", session_id)
        self._mount_dir = check_directory("mount_dir", mount_dir)
        if upload_expires_in is not None:
            check_whole_seconds("upload_expires_in", upload_expires_in, EXPIRY_SECONDS)
        self._upload_expires_in = upload_expires_in

    def __repr__(self) -> str:
        return f"ClaudeFiles(session_id={self._session_id!r})"

    @classmethod
    def output_path(cls, name: str) -> str:
        """Tell where the agent must write a file, for it to be fetched under this name.

        Raises:
            ConfigurationError: This is no name.
        """
        return f"{cls.OUTPUTS_DIR}/{check_name(name)}"

    async def list(self) -> ArtifactList:
        """List the session's files, on all pages, the newest first; several may have one name.

        Raises:
            ProtocolError: The answer is no listing of files.
            APIError: The provider refused.
            TransportError: The exchange failed.
        """
        rows = await self._client.files.list_all(scope_id=self._session_id)
        found = [_artifact(row) for row in rows]
        found.sort(key=_age, reverse=True)
        return found

    async def fetch(self, name: str, /) -> bytes:
        """Download the newest file of this name, which may be any that the agent chose.

        A file that the provider says cannot be downloaded, such as one that was put, is passed over if there is another
        that can.

        Raises:
            ConfigurationError: The name is empty.
            ArtifactNotFound: There is none, or none yet.
            ProtocolError: The answer is no listing of files, or the file is larger than a client holds in memory.
            APIError: The provider refused: with 400, there is only what was put, which is not given out.
            TransportError: The exchange failed.
        """
        named = await self._named(name)
        # Where there is none that can be downloaded, the provider's refusal says why.
        found = next((artifact for artifact in named if artifact.raw.get("downloadable") is not False), named[0])
        try:
            return await self._client.files.download(found.ref)
        except NotFoundError as error:
            raise self._missing(name) from error

    async def put(self, name: str, data: bytes, /) -> Artifact:
        """Upload a file and mount it into the session, where the agent finds it below ``mount_dir``.

        The upload stays among the organisation's files, until ``upload_expires_in``. If mounting fails or is cancelled,
        it is deleted again; should that fail too, it stays behind, and a note on the error says so. The same is true,
        without a note, of an upload whose answer was lost.

        Raises:
            ConfigurationError: The name is none, or the content is not bytes; nothing was sent.
            APIError: The provider refused.
            TransportError: The exchange failed. Neither request is repeated once it may have been taken.
        """
        mount_path = f"{self._mount_dir}/{check_name(name)}"
        uploaded = await self._client.files.upload(
            check_content(data), filename=name, expires_in_seconds=self._upload_expires_in
        )
        file_id = _text(uploaded, "id")
        async with undone_on_failure(partial(self._remove, file_id), f"the upload {file_id} of {name}"):
            resource = await self._client.sessions.resources.add(
                self._session_id, type="file", file_id=file_id, mount_path=mount_path
            )
        # The session has a copy with an id of its own, which is the one that its listing shows.
        copy_id, made = resource.get("file_id"), resource.get("created_at")
        return Artifact(
            name=name,
            size=len(data),
            ref=copy_id if isinstance(copy_id, str) and copy_id else file_id,
            created_at=made if isinstance(made, str) else None,
            raw=resource,
        )

    async def delete(self, name: str, /) -> None:
        """Delete the newest file of this name, put or produced, and no older one.

        Raises:
            ConfigurationError: The name is empty.
            ArtifactNotFound: There is none.
            ProtocolError: The answer is no listing of files.
            APIError: The provider refused.
            TransportError: The exchange failed.
        """
        await self._remove((await self._named(name))[0].ref)

    async def _named(self, name: str) -> ArtifactList:
        """All files of this name, of which there is one at least, the newest first."""
        check_text("an artifact's name", name)
        if not (found := [artifact for artifact in await self.list() if artifact.name == name]):
            raise self._missing(name)
        return found

    async def _remove(self, file_id: str) -> None:
        # A deletion whose answer was lost is repeated, and then finds nothing: that is what it wanted.
        with suppress(NotFoundError):
            await self._client.files.delete(file_id)

    def _missing(self, name: str) -> ArtifactNotFound:
        return ArtifactNotFound(
            f"session {self._session_id} has no file {name!r}. A file that the agent has just written below"
            f" {self.OUTPUTS_DIR} is listed some seconds later"
        )


def _artifact(row: Mapping[str, Any]) -> Artifact:
    size, made = row.get("size_bytes"), row.get("created_at")
    return Artifact(
        name=_text(row, "filename"),
        size=size if isinstance(size, int) else None,
        ref=_text(row, "id"),
        created_at=made if isinstance(made, str) else None,
        raw=row,
    )


def _age(artifact: Artifact) -> tuple[float, str]:
    """What tells files apart by their age: the time, and the id where times are equal or are none."""
    try:
        moment = datetime.fromisoformat(artifact.created_at or "")
    except ValueError:
        return float("-inf"), artifact.ref
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp(), artifact.ref


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise ProtocolError(f"a file must have text as its {key!r}, not {value!r}", raw=encode_json(row)[:EXCERPT])
    return value
