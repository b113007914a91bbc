"""What every test does with the channels that a session tells its terminals to."""

from __future__ import annotations

from typing import TypeVar

import trio

T = TypeVar("T")


def drained(channel: trio.MemoryReceiveChannel[T]) -> list[T]:
    """What has been told so far; it waits for nothing."""
    found = []
    while True:
        try:
            found.append(channel.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            return found
