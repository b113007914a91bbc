"""One open stream, whatever its encoding: a bounded buffer of frames and the pump that carries them to the client.

Pushing never waits; the pump sends whatever has gathered in one write, pings when it is quiet if the encoding knows
pings, and plays the stream's faults.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

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
    ThrowInStream,
)
from ._fault_plan import DueFault
from ._http_server import StreamResponse
from ._stream_faults import Frame, StreamFaults

__all__ = ["Encoding", "Feed", "repeated"]

# A client that is this many events behind has stopped reading; like a real server, we give up on it.
MAX_BUFFERED_FRAMES = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """How a kind of stream writes what is not an event of its own.

    Attributes:
        garbage: A frame that no decoder takes.
        pad: The same event in a frame of at least so many bytes.
        ping: What keeps a quiet stream open, if there is such a thing.
        ping_seconds: How long a stream is quiet before a ping.
        exception: The frame of a fault's exception, if it can carry one.
        unrepeated: The types of events that are never sent again.
    """

    garbage: bytes
    pad: Callable[[bytes, int], bytes]
    ping: bytes | None = None
    ping_seconds: float = math.inf
    exception: Callable[[ThrowInStream], bytes] | None = None
    unrepeated: frozenset[str] = frozenset()


class Feed:
    """What one stream still has to carry.

    Args:
        encoding: How it is written.
        faults: What befalls it.
        past: Events before its first, which a fault may send again.
    """

    def __init__(self, encoding: Encoding, *, faults: Sequence[DueFault] = (), past: Sequence[Frame] = ()) -> None:
        self._encoding = encoding
        self._faults = StreamFaults(faults)
        self._past = deque(past, maxlen=repeated(faults))
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

    def carried(self, kind: str) -> int:
        """How many events of this type it has carried."""
        return self._faults.carried(kind)

    def end(self) -> None:
        """End the stream cleanly, after what is queued; of one that fell silent nobody hears the end."""
        self._closing = self._closing or "end"
        self._wake.set()

    def drop(self) -> None:
        """Tear the stream, after what is queued."""
        self._closing = "drop"
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
            elif self._closing == "drop" or (self._closing == "end" and not self._stalled):
                break
            elif not await self._wait_for_work():
                await self._ping(stream)
        if self._closing == "drop":
            await stream.reset()
        else:
            await stream.end()

    async def _wait_for_work(self) -> bool:
        self._wake = trio.Event()
        with trio.move_on_after(math.inf if self._stalled else self._encoding.ping_seconds):
            await self._wake.wait()
        return self._wake.is_set()

    async def _ping(self, stream: StreamResponse) -> None:
        if self._encoding.ping is not None:
            await stream.send(self._cut(Frame(self._encoding.ping, None)))

    async def _rest(self, stream: StreamResponse) -> None:
        """Hold the next event back, with the pings that are due meanwhile."""
        left = self._pace
        while left > self._encoding.ping_seconds:
            await trio.sleep(self._encoding.ping_seconds)
            await self._ping(stream)
            left -= self._encoding.ping_seconds
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
        sent = frame.rest if room is None else frame.rest[:room]
        self._faults.note_bytes(len(sent))
        if len(sent) < len(frame.rest):
            self._frames.appendleft(frame.without(len(sent)))
        else:
            self._faults.note_event(frame)
            if frame.kind is not None and frame.kind not in self._encoding.unrepeated:
                self._past.append(frame)
        return sent

    async def _play_due_faults(self) -> None:
        while (found := self._faults.take_due(waiting=bool(self._frames) and not self._frames[0].sent)) is not None:
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
            case ThrowInStream() if self._encoding.exception is not None:
                self._give_up()
                self._frames.append(Frame(self._encoding.exception(action), None))
                self.end()
            case GarbageFrame():
                self._frames.appendleft(Frame(self._encoding.garbage, None))
            case HugeFrame(size=size):
                self._frames[0] = Frame(self._encoding.pad(self._frames[0].data, size), self._frames[0].kind)
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


def repeated(faults: Sequence[DueFault]) -> int:
    """How many past events these faults may ask for."""
    return max((fault.action.count for fault in faults if isinstance(fault.action, RepeatEvents)), default=0)
