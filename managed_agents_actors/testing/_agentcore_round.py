"""The tool calls of one model response: which the service runs itself, which are handed off, and in what groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import trio

from .._errors import ConfigurationError
from ._script import Call, ToolAnswer

__all__ = ["HandOffOrder", "ToolRound"]

HandOffOrder: TypeAlias = Literal["together", "one_by_one"]


class ToolRound:
    """The calls of a response, and the answers so far.

    Attributes:
        calls: The calls by id, in order.
        answers: The answers by id.

    Args:
        calls: The calls by id, in order; those that the service runs are answered at once.
        order: Whether all inline calls are handed off at once, or each after the answer to the one before.

    Raises:
        ConfigurationError: A call is of a kind that does not exist here.
    """

    def __init__(self, calls: Mapping[str, Call], *, order: HandOffOrder) -> None:
        self.calls = dict(calls)
        self.answers: dict[str, ToolAnswer] = {}
        self._order = order
        self._answered = trio.Event()
        for use_id, call in self.calls.items():
            _require_known(call)
            if call.kind != "custom":
                denied = call.permission == "deny"
                text = f"Tool {call.name} was denied by a hook." if denied else call.result
                self._note(use_id, [{"text": text}] if text else [], is_error=denied)

    def group(self) -> list[str]:
        """The calls that are to be handed off next; none once all are answered."""
        waiting = [use_id for use_id in self.calls if use_id not in self.answers]
        return waiting if self._order == "together" else waiting[:1]

    def later(self) -> list[str]:
        """The calls that will be handed off after the present group."""
        group = self.group()
        return [use_id for use_id in self.calls if use_id not in self.answers and use_id not in group]

    def settle(self, results: Sequence[Mapping[str, Any]]) -> None:
        """Note the answers to the present group; any other is none."""
        group = self.group()
        for result in results:
            if result["toolUseId"] in group:
                self._note(result["toolUseId"], result["content"], is_error=result.get("status") == "error")
        self._answered.set()

    async def wait_settled(self) -> None:
        """Wait until the group that is handed off now is answered."""
        waiting = self.group()
        while self.group() == waiting:
            self._answered = trio.Event()
            await self._answered.wait()

    def restore(self, answers: Mapping[str, ToolAnswer]) -> None:
        """Forget every other answer than these."""
        self.answers = dict(answers)

    def _note(self, use_id: str, content: Sequence[Mapping[str, Any]], *, is_error: bool) -> None:
        name = self.calls[use_id].name
        self.answers[use_id] = ToolAnswer(id=use_id, name=name, content=tuple(content), is_error=is_error)


def _require_known(call: Call) -> None:
    if call.permission == "ask":
        raise ConfigurationError(f"{call!r}: AgentCore asks nobody for permission; use permission='allow' or 'deny'")
    if call.agent is not None:
        raise ConfigurationError(f"{call!r}: AgentCore has no sub-agents whose calls are cross-posted")
