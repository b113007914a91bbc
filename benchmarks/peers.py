"""What the rows of several benchmarks share: the key, how the official SDK is set up, and a handler with no tool."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import trio
from rig import Server

if TYPE_CHECKING:  # a row loads only what it measures
    import anthropic

    import managed_agents_actors as maa

KEY: Final = "benchmark"
AT_ONCE: Final = 50  # sessions that are being opened at the same time
ASKED_EVERY: Final = 0.05  # seconds between two looks at what the server has seen


def sdk_client(url: str) -> anthropic.AsyncAnthropic:
    """Make a client of the official SDK, on asyncio, with as many connections as it likes."""
    import anthropic
    import httpx2

    # By default it would stop at 1,000 connections.
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None)
    http_client = anthropic.DefaultAsyncHttpxClient(limits=limits)
    return anthropic.AsyncAnthropic(api_key=KEY, base_url=url, http_client=http_client)


def collect_rarely() -> None:
    """Have the garbage collector look less often, as docs/explanation/performance.md advises for many sessions."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def unused_tool(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
    """Never called."""
    raise AssertionError(name)


class Watcher:
    """A handler that shows every event of the provider to a function, and has no tool either.

    It is also called with the text that each message adds, and lets that go.
    """

    def __init__(self, show: Callable[[Mapping[str, Any]], None]) -> None:
        self._show = show

    async def handle_tool_call(self, name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
        """Never called."""
        return await unused_tool(name, input, context)

    async def handle_event(self, event: Mapping[str, Any], context: maa.EventContext) -> None:  # noqa: ARG002 -- no need
        """Show an event."""
        if "id" in event:
            self._show(event)


async def in_tasks(open_one: Callable[[int], Awaitable[object]], count: int) -> None:
    """Call something for every number below ``count``, ``AT_ONCE`` of them at the same time, on trio."""
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            await open_one(number)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(some)


async def in_asyncio_tasks(open_one: Callable[[int], Awaitable[object]], count: int) -> None:
    """Do as :func:`in_tasks`, on asyncio."""
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            await open_one(number)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def server_has(url: str, what: str, count: int, sleep: Callable[[float], Awaitable[object]]) -> None:
    """Wait until the server has seen so many of something."""
    while Server(url).control()[what] < count:
        await sleep(ASKED_EVERY)
