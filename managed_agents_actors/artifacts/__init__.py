"""What a session's agent stores, under one vocabulary: ``list``, ``fetch``, ``put`` and ``delete``, by name.

A store belongs to one session and keeps nothing itself. In a tool, ``context.artifacts()`` is the store of its session.
"""

from .._artifact import Artifact, ArtifactStore
from .._errors import ArtifactError, ArtifactNotFound
from ._claude_files import ClaudeFiles
from ._session_storage import AgentCoreSessionStorage

__all__ = [
    "AgentCoreSessionStorage",
    "Artifact",
    "ArtifactError",
    "ArtifactNotFound",
    "ArtifactStore",
    "ClaudeFiles",
]
