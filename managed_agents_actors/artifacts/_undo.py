"""Taking back what was begun, when what was to follow fails or is cancelled.

The error that led to it stays the one that is raised, whatever becomes of the attempt.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from ..telemetry import get_logger

__all__ = ["UNDO_SECONDS", "undone_on_failure"]

UNDO_SECONDS: Final = 5.0  # for one request and a repetition; whoever cancels waits for so long at most


@asynccontextmanager
async def undone_on_failure(undo: Callable[[], Awaitable[object]], what: str) -> AsyncIterator[None]:
    """Call ``undo`` if the block fails or is cancelled.

    Args:
        undo: Takes back what has been begun; shielded from cancellation, for :data:`UNDO_SECONDS` at most.
        what: What it removes, for the log and for a note on the error, if it fails.
    """
    try:
        yield
    except BaseException as error:
        await _undo(undo, what, error)
        raise


async def _undo(undo: Callable[[], Awaitable[object]], what: str, error: BaseException) -> None:
    problem, failure = f"it took longer than {UNDO_SECONDS:g} seconds", None
    with trio.move_on_after(UNDO_SECONDS, shield=True):
        try:
            await undo()
            return
        except Exception as exc:  # noqa: BLE001 -- whatever it is, it must not take the place of the error above
            problem, failure = f"{type(exc).__name__}: {exc}", exc
    error.add_note(f"{what} could not be removed: {problem}")
    get_logger().warning("artifact_left_behind", what=what, problem=problem, exc_info=failure)
