"""What this process does about the open calls: which run, which are someone else's, whose results are in hand.

A call is taken up at most once; its result is kept until the log shows that the call is closed. The open calls
themselves are the log's to know.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from .._model import ToolResult, ToolUse

Standing: TypeAlias = Literal["run", "gated", "left", "provider"]


class CallDesk:
    """The calls this process has taken up, or has left alone, by id."""

    __slots__ = ("_owns", "asked", "left", "results", "running", "taken", "unanswerable")

    def __init__(self, owns: Callable[[str], bool]) -> None:
        self._owns = owns
        self.taken: set[str] = set()
        self.running: set[str] = set()
        self.asked: set[str] = set()
        self.left: set[str] = set()
        self.unanswerable: set[str] = set()
        self.results: dict[str, ToolResult] = {}

    def standing(self, use: ToolUse) -> Standing:
        """Say whose an open call is: ours to run, gated until somebody allows it, another client's, the provider's."""
        # An unknown permission is a question nobody has answered yet.
        if use.permission not in (None, "allow", "deny"):
            return "gated"
        if use.kind == "custom" and use.permission != "deny":
            return "run" if self._owns(use.name) else "left"
        return "provider"

    def start(self, use: ToolUse) -> None:
        """Take up a call and note that it runs."""
        self.taken.add(use.id)
        self.running.add(use.id)

    def finish(self, tool_use_id: str, result: ToolResult) -> None:
        """Note the result of a call."""
        self.taken.add(tool_use_id)
        self.running.discard(tool_use_id)
        self.results[tool_use_id] = result

    def abandon(self, tool_use_id: str) -> bool:
        """Stop caring for a call that is still open: it is not taken up again. Say whether it was running."""
        was_running = tool_use_id in self.running
        self.taken.add(tool_use_id)
        for group in (self.running, self.asked, self.left, self.unanswerable):
            group.discard(tool_use_id)
        self.results.pop(tool_use_id, None)
        return was_running

    def drop(self, tool_use_id: str) -> bool:
        """Forget a call that is closed. Say whether it was running."""
        was_running = self.abandon(tool_use_id)
        self.taken.discard(tool_use_id)
        return was_running

    def is_busy(self, tool_use_id: str) -> bool:
        """Whether something is being done about the call right here."""
        return tool_use_id in self.running or (tool_use_id in self.asked and tool_use_id not in self.unanswerable)
