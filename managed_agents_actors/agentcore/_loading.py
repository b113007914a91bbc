"""Getting botocore when it is needed: once per process, and never on the event loop.

Importing it and reading two models takes most of a second. :func:`load` does it at once, for programs that would
rather wait when they start, and for virtual time, which goes on while a thread works.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

import trio

if TYPE_CHECKING:
    from ._aws.models import Models

__all__ = ["LARGE_BYTES", "Aws", "load", "loaded", "run_in_thread"]

# From here on encoding and signing take over 2 ms, which a thread's overhead of 0.1 ms is small beside.
LARGE_BYTES: Final = 100_000

LOADERS: Final = 1
ENCODERS: Final = 2  # they share one interpreter lock: more would only share it too


class Aws(NamedTuple):
    """What botocore does for a client."""

    models: Models
    sign: Callable[..., dict[str, str]]
    find_credentials: Callable[[str | None, str], Any]
    freeze: Callable[[Any], Any]
    is_plain: Callable[[Any], bool]


T = TypeVar("T")

_lock = threading.Lock()
_aws: Aws | None = None
_loaders: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("managed_agents_actors.aws_loaders")
_encoders: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("managed_agents_actors.aws_encoders")


def load() -> Aws:
    """Load botocore and its models of AgentCore, if that has not been done.

    Raises:
        ConfigurationError: The installed botocore does not know AgentCore.
    """
    global _aws
    with _lock:
        if _aws is None:
            from ._aws.models import Models
            from ._aws.signing import find_credentials, freeze, is_plain, sign

            _aws = Aws(Models(), sign, find_credentials, freeze, is_plain)
        return _aws


async def loaded() -> Aws:
    """Give what :func:`load` gives, and let a thread do it the first time."""
    if _aws is not None:
        return _aws
    return await _run(_loaders, LOADERS, load)


async def run_in_thread(function: Callable[..., T], *args: Any) -> T:
    """Encode or sign something large; cancelled, the thread's result is dropped."""
    return await _run(_encoders, ENCODERS, function, *args)


async def _run(
    variable: trio.lowlevel.RunVar[trio.CapacityLimiter], size: int, function: Callable[..., T], *args: Any
) -> T:
    try:
        limiter = variable.get()
    except LookupError:
        limiter = trio.CapacityLimiter(size)
        variable.set(limiter)
    return await trio.to_thread.run_sync(function, *args, limiter=limiter, abandon_on_cancel=True)
