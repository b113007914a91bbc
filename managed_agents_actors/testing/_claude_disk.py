"""A simulated session's files as its agent sees them: what is mounted, and what it gives out."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from ._claude_resources import store_file
from ._given import require_a, require_text

if TYPE_CHECKING:
    from ._claude_world import ClaudeWorld

__all__ = ["SessionDisk"]


@final
class SessionDisk:
    """The files of one session."""

    def __init__(self, world: ClaudeWorld, session_id: str) -> None:
        self._world = world
        self._session_id = session_id

    def write_output(self, name: str, content: bytes, mime_type: str) -> None:
        """Write a file that others may have: listed by the session's scope, and downloadable.

        Raises:
            ConfigurationError: It has no name, or its content is not bytes.
        """
        require_text("write_output: the name", name)
        require_a("write_output: the content", content, bytes)
        store_file(self._world, name, content, mime_type=mime_type, session_id=self._session_id)

    def read(self, path: str) -> bytes:
        """Read what was mounted at a path last.

        Raises:
            FileNotFoundError: Nothing is.
        """
        for resource in reversed(self._world.session(self._session_id).resources):
            if resource["type"] == "file" and resource["mount_path"] == path:
                stored = self._world.files.get(resource["file_id"])
                if stored is not None:
                    return stored.content
        raise FileNotFoundError(path)
