"""The short way to AWS Bedrock AgentCore: its provider, under the calls that take none. Nothing else lives here."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from ._model import SessionResult
from ._session.handle import Session
from ._session.run import open_session, run_session
from .providers import bedrock_agent_core

__all__ = ["invoke_to_completion", "start_session"]


async def invoke_to_completion(**options: Any) -> SessionResult:
    """Run one request of an AgentCore session to its end: :func:`run_session` with that provider."""
    return await run_session(bedrock_agent_core, **options)


def start_session(**options: Any) -> AbstractAsyncContextManager[Session]:
    """Keep an AgentCore session open: :func:`open_session` with that provider."""
    return open_session(bedrock_agent_core, **options)
