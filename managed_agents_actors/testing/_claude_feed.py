"""One open event stream: a bounded buffer of frames and the pump that carries them to the client.

Pushing never waits; the pump sends whatever has gathered in one write, pings when it is quiet, and plays the stream's
faults.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import trio

from ._fault_actions import (
    DelayEvents,
    DropStream,
    EndStream,
    GarbageFrame,
    HugeFrame,
    PauseStream,
    RepeatEvents,
    SessionAction,
    StallStream,
    StreamAction,
)
from ._fault_plan import DueFault
from ._frames import GARBAGE_FRAME, PING_FRAME, sse_frame
from ._http_server import StreamResponse
from ._stream_faults import Frame, StreamFaults

__all__ = ["PREVIEW_TYPES", "Feed", "event_frame"]

# The hosted API pings a quiet stream about this often (observed).
PING_SECONDS = 15.0
# A client that is this many events behind has stopped reading; like a real server, we give up on it.
MAX_BUFFERED_FRAMES = 100_000

# What is streamed and never logged.
PREVIEW_TYPES = frozenset({"event_start", "event_delta"})


def event_frame(event: Mapping[str, Any]) -> Frame:
    """The frame of an event, as a feed takes it."""
    return Frame(sse_frame(event), str(event.get("type", "message")))


class Feed:
    """What one stream still has to carry.

    Attributes:
        previews: The event types whose deltas the client asked for.
        thread_id: The one thread the stream is about; ``None`` for a session's stream.
    """

    def __init__(
        self,
        *,
        previews: frozenset[str],
        thread_id: str | None = None,
        faults: Sequence[DueFault] = (),
        past: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        self.previews = previews
        self.thread_id = thread_id
        self._faults = StreamFaults(faults)
        kept = max((fault.action.count for fault in faults if isinstance(fault.action, RepeatEvents)), default=0)
        self._past = deque((event_frame(event) for event in past[len(past) - kept :]), maxlen=kept)
        self._frames: deque[Frame] = deque()
        self._pace = 0.0
        self._wake = trio.Event()
        self._stalled = False
        self._closing: Literal["end", "drop"] | None = None

    def push(self, frame: Frame) -> None:
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
            await self._play_due_faults()
            if self._frames:
                if self._pace:
                    await self._rest(stream)
                await stream.send(self._next_batch())
            elif self._closing is not None:
                break
            elif not await self._wait_for_work():
                await stream.send(self._cut(Frame(PING_FRAME, None)))
        if self._closing == "drop":
            await stream.reset()
        else:
            await stream.end()

    async def _wait_for_work(self) -> bool:
        self._wake = trio.Event()
        with trio.move_on_after(float("inf") if self._stalled else PING_SECONDS):
            await self._wake.wait()
        return self._wake.is_set()

    async def _rest(self, stream: StreamResponse) -> None:
        """Hold the next event back, with the pings that are due meanwhile."""
        left = self._pace
        while left > PING_SECONDS:
            await trio.sleep(PING_SECONDS)
            await stream.send(self._cut(Frame(PING_FRAME, None)))
            left -= PING_SECONDS
        await trio.sleep(left)

    def _next_batch(self) -> bytes:
        """What may go out before the next fault; one event at a time while events are held back."""
        batch = bytearray()
        while self._frames:
            batch += self._cut(self._frames.popleft())
            if self._pace or self._faults.any_due():
                break
        return bytes(batch)

    def _cut(self, frame: Frame) -> bytes:
        """The bytes of a frame up to the next fault that is placed by bytes; the rest is queued again."""
        room = self._faults.room()
        sent = frame.data if room is None else frame.data[:room]
        self._faults.note_bytes(len(sent))
        if len(sent) < len(frame.data):
            self._frames.appendleft(Frame(frame.data[len(sent) :], frame.kind))
        else:
            self._faults.note_event(frame)
            if frame.kind is not None and frame.kind not in PREVIEW_TYPES:
                self._past.append(frame)
        return sent

    async def _play_due_faults(self) -> None:
        while (found := self._faults.take_due(waiting=bool(self._frames))) is not None:
            action, due = found
            due.fire()
            if isinstance(action, PauseStream):
                await trio.sleep(action.seconds)
            else:
                self._suffer(action)

    def _suffer(self, action: StreamAction) -> None:
        match action:
            case DropStream():
                self._give_up()
                self.drop()
            case EndStream():
                self._give_up()
                self.end()
            case StallStream():
                self._give_up()
                self.stall()
            case GarbageFrame():
                self._frames.appendleft(Frame(GARBAGE_FRAME, None))
            case HugeFrame(size=size):
                self._frames[0] = self._frames[0].padded(size)
            case DelayEvents(seconds=seconds):
                self._pace = seconds
            case RepeatEvents(count=count):
                again = list(self._past)[-count:]
                self._frames.extendleft(Frame(frame.data, None) for frame in reversed(again))
            case SessionAction():
                pass  # it befell the session when it was fired
            case _:
                raise AssertionError(f"no stream plays {action!r}")

    def _give_up(self) -> None:
        """Nothing more is carried, and nothing more befalls the stream."""
        self._frames.clear()
        self._faults = StreamFaults(())
