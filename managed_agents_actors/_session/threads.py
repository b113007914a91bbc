"""The threads that synchronous handlers and tools run in: few enough to be bounded, ours alone."""

from __future__ import annotations

import trio

# trio's own limiter (40) is shared with name resolution and file reading, which a few slow tools must not starve;
# tools that wait on something rarely need more than this.
THREADS = 64

_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("managed_agents_actors.tool_threads")


def tool_threads() -> trio.CapacityLimiter:
    """Give the limiter, one for each trio run."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(THREADS)
        _limiter.set(limiter)
        return limiter
