"""The tasks of a server under test, and the promise that a defect in one of them is never lost.

A failing task stops nothing else: its exception is kept and raised when the server is closed. This file knows no HTTP.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVarTuple, Unpack

import trio

__all__ = ["Background", "open_background"]

Ts = TypeVarTuple("Ts")

# Enough to see what is wrong; a server that fails on every request must not hold every traceback.
MAX_DEFECTS = 100


class Background:
    """Starts tasks whose failures are recorded instead of cancelling the others."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self.defects: list[Exception] = []

    def start_soon(self, task: Callable[[Unpack[Ts]], Awaitable[object]], *args: *Ts) -> None:
        """Run ``task(*args)`` until it ends or the server is closed."""
        self._nursery.start_soon(self.run, task, *args)

    async def run(self, task: Callable[[Unpack[Ts]], Awaitable[object]], *args: *Ts) -> None:
        """Await ``task(*args)`` here; its failure is recorded, not raised."""
        try:
            await task(*args)
        except Exception as exc:  # noqa: BLE001 - kept here, raised by open_background
            if len(self.defects) < MAX_DEFECTS:
                self.defects.append(exc)


@asynccontextmanager
async def open_background() -> AsyncIterator[Background]:
    """Open a place for background tasks; leaving it cancels them.

    Raises:
        BaseExceptionGroup: On leaving, if a task failed; holds the failures, and the body's own if there was one.
    """
    failure: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            background = Background(nursery)
            try:
                yield background
            except BaseException as exc:
                failure = exc
                raise
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The tasks never raise, so what the nursery wrapped is the body's failure: it leaves as it came.
        if group.exceptions != (failure,):
            raise
    if background.defects:
        failures = [*background.defects] if failure is None else [failure, *background.defects]
        raise BaseExceptionGroup("a task of the server under test failed", failures)
    if failure is not None:
        raise failure
