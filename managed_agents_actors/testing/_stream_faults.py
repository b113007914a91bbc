"""How far a stream has come, and which of its faults are due there. Pure: it counts, and sends nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ._fault_actions import HugeFrame, StreamAction
from ._fault_plan import DueFault

__all__ = ["Frame", "StreamFaults"]


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame to send, or the rest of one.

    Attributes:
        data: All of its bytes.
        kind: The type of its event; ``None`` when a fault adds it.
        sent: How many of its bytes were sent already.
    """

    data: bytes
    kind: str | None
    sent: int = 0

    @property
    def rest(self) -> bytes:
        """The bytes that are still to be sent."""
        return self.data[self.sent :]

    def without(self, count: int) -> Frame:
        """The same frame once so many more bytes of it were sent."""
        return replace(self, sent=self.sent + count)


class StreamFaults:
    """The faults of one stream that are still to come."""

    def __init__(self, due: Sequence[DueFault]) -> None:
        self._pending = [(fault.action, fault) for fault in due if isinstance(fault.action, StreamAction)]
        self._events: Counter[str | None] = Counter()
        self._bytes = 0

    def __bool__(self) -> bool:
        return bool(self._pending)

    def room(self) -> int | None:
        """How many bytes the body may go on before the next place that is given in bytes; ``None`` for any number."""
        places = [action.after_bytes for action, _ in self._pending if action.after_bytes is not None]
        # What is due and waits for a whole frame holds nothing up.
        return min((place - self._bytes for place in places if place > self._bytes), default=None)

    def note_bytes(self, count: int) -> None:
        """So many bytes of the body were sent."""
        self._bytes += count

    def note_event(self, frame: Frame) -> None:
        """A frame was sent to its end."""
        if frame.kind is not None:
            self._events[frame.kind] += 1
            self._events[None] += 1

    def carried(self, kind: str) -> int:
        """How many events of this type were sent to their end."""
        return self._events[kind]

    def take_due(self, *, waiting: bool) -> tuple[StreamAction, DueFault] | None:
        """The first fault that is due here; it is not pending any more.

        Args:
            waiting: Whether a whole frame waits to be sent; what befalls the next frame is not due without one.
        """
        for index, (action, _) in enumerate(self._pending):
            if self._is_due(action) and (waiting or not isinstance(action, HugeFrame)):
                return self._pending.pop(index)
        return None

    def any_due(self) -> bool:
        """Whether one is due here."""
        return any(self._is_due(action) for action, _ in self._pending)

    def _is_due(self, action: StreamAction) -> bool:
        if action.after_bytes is not None:
            return self._bytes >= action.after_bytes
        return self._events[action.after_type] >= action.after_events
