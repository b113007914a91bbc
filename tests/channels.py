"""What every test does with the channels of a session: terminals that have been told, events that come."""

from __future__ import annotations

from typing import TypeVar

import trio

T = TypeVar("T")


async def read_all(channel: trio.abc.ReceiveChannel[T], into: list[T]) -> None:
    """Keep what comes, until the channel ends."""
    async for value in channel:
        into.append(value)  # noqa: PERF401 -- it is looked at while more comes


def drained(channel: trio.MemoryReceiveChannel[T]) -> list[T]:
    """What has been told so far; it waits for nothing."""
    found = []
    while True:
        try:
            found.append(channel.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            return found
