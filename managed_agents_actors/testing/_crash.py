"""Crashing a session's actor on purpose, for tests of supervision."""

from __future__ import annotations

from .._session.handle import Session
from ._given import require_a

__all__ = ["crash_session"]


def crash_session(session: Session, exception: Exception) -> None:
    """Raise an exception inside a session's actor, as a defect would, as soon as its task runs again.

    Args:
        session: The session; one of a supervisor's is restarted, as its restart type says.
        exception: What is raised.

    Raises:
        ConfigurationError: This is no session, or no exception.
        ActorGone: No actor of the session runs now: it has ended, or is just being restarted.
    """
    require_a("crash_session: the session", session, Session)
    require_a("crash_session: the exception", exception, Exception)
    session._home.crash(exception)  # noqa: SLF001 -- no handle of a session offers to break it
