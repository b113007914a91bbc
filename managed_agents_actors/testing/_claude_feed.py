"""One open event stream: a bounded buffer of frames and the pump that carries them to the client.

Pushing never waits; the pump sends whatever has gathered in one write, pings when it is quiet, and plays the stream's
faults.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Literal

import trio

from ._faults import DropStream, DueFault, EndStream, GarbageFrame, StallStream, StreamAction
from ._frames import GARBAGE_FRAME, PING_FRAME
from ._http_server import StreamResponse

__all__ = ["Feed"]

# The hosted API pings a quiet stream about this often (observed).
PING_SECONDS = 15.0
# A client that is this many events behind has stopped reading; like a real server, we give up on it.
MAX_BUFFERED_FRAMES = 100_000


class Feed:
    """What one stream still has to carry.

    Attributes:
        previews: The event types whose deltas the client asked for.
        thread_id: The one thread the stream is about; ``None`` for a session's stream.
    """

    def __init__(
        self, *, previews: frozenset[str], thread_id: str | None = None, faults: Sequence[DueFault] = ()
    ) -> None:
        self.previews = previews
        self.thread_id = thread_id
        due = [(fault.action, fault.fire) for fault in faults if isinstance(fault.action, StreamAction)]
        self._faults = sorted(due, key=lambda fault: fault[0].after_events)
        self._frames: deque[bytes] = deque()
        self._sent = 0
        self._wake = trio.Event()
        self._stalled = False
        self._closing: Literal["end", "drop"] | None = None

    def push(self, frame: bytes) -> None:
        """Queue a frame."""
        if self._closing is not None or self._stalled:
            return
        if len(self._frames) >= MAX_BUFFERED_FRAMES:
            self._frames.clear()
            self.drop()
            return
        self._frames.append(frame)
        self._wake.set()

    def end(self) -> None:
        """End the stream cleanly, after what is queued."""
        self._closing = self._closing or "end"
        self._wake.set()

    def drop(self) -> None:
        """Tear the stream, after what is queued."""
        self._closing = self._closing or "drop"
        self._wake.set()

    def stall(self) -> None:
        """Fall silent for good: no events, no pings."""
        self._stalled = True
        self._frames.clear()
        self._wake.set()

    async def pump(self, stream: StreamResponse) -> None:
        """Carry frames until the stream is ended, torn or cancelled."""
        while True:
            self._fire_due_faults()
            if self._frames:
                await stream.send(self._next_batch())
            elif self._closing is not None:
                break
            elif not await self._wait_for_work():
                await stream.send(PING_FRAME)
        if self._closing == "drop":
            await stream.reset()
        else:
            await stream.end()

    async def _wait_for_work(self) -> bool:
        self._wake = trio.Event()
        with trio.move_on_after(float("inf") if self._stalled else PING_SECONDS):
            await self._wake.wait()
        return self._wake.is_set()

    def _next_batch(self) -> bytes:
        count = len(self._frames)
        if self._faults:
            count = min(count, self._faults[0][0].after_events - self._sent)
        batch = b"".join(islice(self._frames, count))
        for _ in range(count):
            self._frames.popleft()
        self._sent += count
        return batch

    def _fire_due_faults(self) -> None:
        while self._faults and self._faults[0][0].after_events <= self._sent:
            action, fire = self._faults.pop(0)
            fire()
            match action:
                case DropStream():
                    self._frames.clear()
                    self.drop()
                case EndStream():
                    self._frames.clear()
                    self.end()
                case StallStream():
                    self.stall()
                case GarbageFrame():
                    self._frames.appendleft(GARBAGE_FRAME)
                    self._sent -= 1  # it is no event
                case _:
                    raise AssertionError("every stream action is played")
