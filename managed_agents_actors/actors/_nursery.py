"""The one audited place where exception groups are unwrapped.

A nursery wraps every failure in a group; a library that uses nurseries inside must not show that to its callers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import final

import trio


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def sole_failure(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Give the one exception the group is about: an exit signal, or its only leaf that is not a cancellation."""
    leaves = list(_leaves(group))
    for leaf in leaves:
        if isinstance(leaf, KeyboardInterrupt | SystemExit):
            return leaf
    failures = [leaf for leaf in leaves if not isinstance(leaf, trio.Cancelled)]
    return failures[0] if len(failures) == 1 else None


def separate(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """Split what came out of a task into its failure, and what is no failure: cancellation and exit signals.

    A group that is about one exception gives that exception.
    """
    failures: BaseException | None = error
    rest: BaseException | None = None
    if isinstance(error, BaseExceptionGroup):
        failures, rest = error.split(Exception)
        failures = (sole_failure(failures) if failures is not None else None) or failures
    if isinstance(failures, Exception):
        return failures, rest
    return None, error


@final
class plain_failures:  # noqa: N801 -- used as the functions of contextlib are, without their generator
    """Let the only failure of a group that leaves the block come out as it was raised; several stay a group."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Begin the block."""

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Raise what the group is about."""
        failure = sole_failure(exc) if isinstance(exc, BaseExceptionGroup) else None
        if failure is None:
            return
        context = failure.__context__
        try:
            raise failure
        finally:
            # Raising here would record the group as the failure's context, though the failure came first.
            failure.__context__ = context
            del failure, context, exc


@asynccontextmanager
async def open_plain_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery whose only failure comes out as it was raised; several still come out as a group."""
    with plain_failures():
        async with trio.open_nursery() as nursery:
            yield nursery
