"""What becomes of the session at the provider when this side leaves it for good.

It happens under a shield, since leaving is often a cancellation, and so within a budget of its own.
"""

from __future__ import annotations

from typing import Any

import trio

from .._errors import ManagedAgentsError
from .options import SessionOptions

# Seconds that leaving may take: a provider stops its work within a second or two of being interrupted.
EXIT_BUDGET = 5.0


async def depart(options: SessionOptions, session_id: str, connection: Any, *, busy: bool, log: Any) -> None:
    """Do with a session what ``on_exit=`` says. Failures are logged; there is nobody left to tell.

    Args:
        options: The session's options.
        session_id: The session.
        connection: What its requests went through, if that is still open: it knows what goes on.
        busy: Whether a request was in progress: if not, there is nothing to interrupt.
        log: Where failures go.
    """
    how = options.on_exit
    if how == "leave" or (how == "interrupt" and not busy):
        return
    with trio.move_on_after(EXIT_BUDGET, shield=True):
        try:
            if connection is not None:
                await options.provider.leave(connection, session_id, how)
                return
            async with options.provider.open_connection(options.provider_options) as another:
                await options.provider.leave(another, session_id, how)
        except ManagedAgentsError as error:
            log.warning("on_exit_failed", on_exit=how, exc_info=error)
        return
    log.warning("on_exit_too_slow", on_exit=how, seconds=EXIT_BUDGET)
