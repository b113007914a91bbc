"""The calls that a harness has handed off in the turn in progress, and the results that go back to it.

A harness may hand a call off once more: one that has a result is answered with it and never run again. Another call of
the same id is refused: who ran it, or answered it, could not tell the two apart. Decides what to answer; sends nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias

from .._model import ToolResult, ToolUse
from .converse_inputs import CANCELLED, ID_REUSED
from .facts import Called

Handing: TypeAlias = Literal["ask", "repeat", "nothing"]

# How often the results of the same calls are sent again: a harness that hands them off for ever does not understand
# them. One that takes the calls of a response one by one names others each time.
MAX_REPEATS = 3


class Handoffs:
    """The hand-offs of one turn.

    Attributes:
        pending: The calls that the harness waits for, in order.
        acknowledged: The calls whose results the harness has shown to have.
        abandoned: Whether nobody is going to answer what is pending.
    """

    def __init__(self) -> None:
        self.pending: dict[str, ToolUse] = {}
        self.acknowledged: set[str] = set()
        self.abandoned = False
        # What the harness may wait for all the same, the likeliest last: it waits for one of them, if for any.
        self._doubtful: list[dict[str, ToolUse]] = []
        self._answered: dict[str, tuple[ToolUse, ToolResult]] = {}
        self._repeats: Counter[frozenset[str]] = Counter()

    def begin_turn(self) -> None:
        """Another turn begins. What the harness may not have got of the last one is still known."""
        self.acknowledged.clear()
        doubtful = {call_id for calls in self._doubtful for call_id in calls}
        self._answered = {call_id: told for call_id, told in self._answered.items() if call_id in doubtful}
        self._repeats.clear()

    def forget(self) -> None:
        """The harness waits for nothing, and knows nothing of what was."""
        self.pending, self._doubtful = {}, []
        self.acknowledged.clear()
        self.abandoned = False
        self._answered.clear()
        self._repeats.clear()

    def hand_off(self, calls: Sequence[Called]) -> Handing:
        """The harness waits for calls, or does not say for which: say what is to be done.

        Returns:
            ``"ask"`` if some have no result yet, ``"repeat"`` if the results of all are to be sent again, ``"nothing"``
            if there is none that could be answered.
        """
        named = {called.use.id: called.use for called in calls}
        if not named:
            # Several were answered at once, and the harness takes them one by one.
            named = {call_id: use for call_id, (use, _) in self._answered.items() if call_id not in self.acknowledged}
        for use in named.values():
            self._refuse_if_reused(use)
        self.pending, self._doubtful, self.abandoned = named, [], False
        if not named:
            return "nothing"
        if not self.is_answered:
            self._repeats.clear()
            return "ask"
        calls_named = frozenset(named)
        self._repeats[calls_named] += 1
        return "repeat" if self._repeats[calls_named] <= MAX_REPEATS else "nothing"

    def _refuse_if_reused(self, use: ToolUse) -> None:
        before, _ = self._answered.get(use.id, (use, None))
        # A repetition need not say the input again.
        if use.name != before.name or (use.input and use.input != before.input):
            self._answered[use.id] = (use, _error(use.id, ID_REUSED))

    def unanswered(self, calls: Sequence[Called]) -> list[Called]:
        """Give the calls that have no result yet."""
        return [called for called in calls if called.use.id not in self._answered]

    def answer(self, result: ToolResult) -> None:
        """A call has its result; the first one stands."""
        use = self.pending.get(result.tool_use_id)
        if use is not None:
            self._answered.setdefault(use.id, (use, result))

    @property
    def is_answered(self) -> bool:
        """Whether every call that is waited for has its result."""
        return bool(self.pending) and all(call_id in self._answered for call_id in self.pending)

    def answers(self) -> list[tuple[ToolUse, ToolResult]]:
        """Give the calls that are waited for with their results; those without one are told to be cancelled."""
        return [self._answered.get(call_id, (use, _error(call_id, CANCELLED))) for call_id, use in self.pending.items()]

    def taken(self) -> None:
        """The harness has the answers, as far as can be known: it has not yet gone on with them to an end."""
        if self.pending:
            self._doubtful.append(self.pending)
        self.pending = {}

    def refused(self) -> None:
        """The harness does not wait for what is pending."""
        self.pending = {}

    def served(self) -> None:
        """The harness has gone on to the end of its turn."""
        self._doubtful = []

    def doubt(self, calls: Sequence[Called]) -> None:
        """The harness may wait for these calls: what would tell was cut off."""
        if calls:
            self._doubtful.append({called.use.id: called.use for called in calls})

    def recall(self) -> bool:
        """The harness seems to wait for calls that were answered: the likeliest are pending again, if there are any."""
        if not self.pending and self._doubtful:
            self.pending = self._doubtful.pop()
        self.abandoned = True
        return bool(self.pending)


def _error(call_id: str, text: str) -> ToolResult:
    return ToolResult(tool_use_id=call_id, content=({"type": "text", "text": text},), is_error=True)
