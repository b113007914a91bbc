"""One invocation of an AgentCore harness, folded: its events in, and between them the facts that follow from them.

An invocation may stream several messages; only its end tells what the last stop reason means, so calls are told late:
those of a message that another one follows were the harness's own. Nothing here knows of other invocations.

Source: Amazon Bedrock AgentCore, "InvokeHarness" and "Return of control"; Amazon Bedrock, "ConverseStream" events.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .._model import Event, Terminal
from .converse_blocks import (
    Block,
    BlockKind,
    MessageBlocks,
    called,
    calls_of,
    is_ours,
    result_blocks,
    take_input,
    text_of,
)
from .facts import (
    ACTIVITY,
    MODEL_REQUESTED,
    NOTHING,
    OWN_EVENT,
    Answered,
    Called,
    Fact,
    Idled,
    PreviewText,
    Said,
    Spent,
    Unrecognised,
    own_event,
)

__all__ = ["Ending", "HandedOff", "Invocation", "Stopped", "Truncated", "classify"]

# Everything else an invocation stops with, known or not, is reported as "terminated".
_TERMINALS: dict[str, Terminal] = {"end_turn": "end_turn", "stop_sequence": "end_turn"}

# Names that only this library gives to events.
OUR_NAMES = "managed_agents."

_USAGE = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "cacheReadInputTokens": "cache_read_input_tokens",
    "cacheWriteInputTokens": "cache_creation_input_tokens",
}


@dataclass(frozen=True, slots=True)
class Stopped:
    """The turn is over."""

    fact: Idled


@dataclass(frozen=True, slots=True)
class HandedOff:
    """The harness waits for the results of calls.

    Attributes:
        calls: The calls of the last message that are not the harness's own, in order; perhaps none.
    """

    calls: tuple[Called, ...]


@dataclass(frozen=True, slots=True)
class Truncated:
    """The stream ended before its turn did."""


Ending: TypeAlias = Stopped | HandedOff | Truncated


class Invocation:
    """The stream of one invocation.

    Args:
        number: Tells it from the other invocations of its session; begins the ids of its events.
        acknowledged: The calls whose results the harness has shown; added to.
    """

    def __init__(self, number: int, acknowledged: set[str] | None = None) -> None:
        self._number = number
        self._count = 0
        self._messages = 0
        self._stops = 0
        self._message: MessageBlocks | None = None
        self._acknowledged = set() if acknowledged is None else acknowledged
        self._served: set[str] = set()
        self._has_content = False

    @property
    def has_content(self) -> bool:
        """Whether anything came that a repetition would double."""
        return self._has_content

    @property
    def is_blank(self) -> bool:
        """Whether no message has come to its stop: nothing can have been committed."""
        return self._stops == 0

    def feed(self, event: Event) -> list[Event]:
        """Take the next event; give it with an id, and what follows from it."""
        kind = str(event.get("type"))
        payload = event.get(kind)
        if kind.startswith(OUR_NAMES):
            event, payload = {"type": "unrecognised", "unrecognised": {kind: payload}}, None
        events = [{**event, "id": self._next_id()}]
        if isinstance(payload, dict):
            events += [self._own(fact) for fact in self._read(kind, payload)]
        return events

    def end(self) -> tuple[list[Event], Ending]:
        """The body has ended in good order: give what follows from that, and how the invocation ended."""
        handed = self.perhaps_handed_off()
        message, self._message = self._message, None
        if message is None or message.stop_reason is None:
            return [], Truncated()
        if message.role != "assistant":
            return [], Truncated()
        if message.stop_reason == "tool_use":
            calls = calls_of(message)
            events = [self._own(called(block)) for block in calls if not is_ours(block)]
            # After calls that are all its own the harness goes on by itself: that it did not was cut off.
            return events, HandedOff(handed) if handed or not calls else Truncated()
        facts: list[Fact] = [called(block) for block in calls_of(message)]
        terminal = _TERMINALS.get(message.stop_reason, "terminated")
        return [self._own(fact) for fact in facts], Stopped(Idled(terminal, message.stop_reason, None))

    def perhaps_handed_off(self) -> tuple[Called, ...]:
        """Give the calls that the harness waits for, if the body had ended here."""
        message = self._message
        if message is None or message.stop_reason != "tool_use":
            return ()
        return tuple(called(block, "custom") for block in calls_of(message) if is_ours(block))

    def _next_id(self) -> str:
        self._count += 1
        return f"{self._number}.{self._count}"

    def _own(self, fact: Fact) -> Event:
        if isinstance(fact, Said) and self._message is not None:
            return own_event(self._message.id, fact)
        return own_event(self._next_id(), fact)

    # --- events: each gives the facts that follow --------------------------------------------------------------------

    def _read(self, kind: str, payload: Mapping[str, Any]) -> Iterator[Fact]:
        match kind:
            case "messageStart":
                return self._start_message(payload)
            case "contentBlockStart":
                return self._start_block(payload)
            case "contentBlockDelta":
                return self._delta(payload)
            case "contentBlockStop":
                return self._stop_block(payload)
            case "messageStop":
                return self._stop_message(payload)
            case _:
                return iter(())

    def _start_message(self, payload: Mapping[str, Any]) -> Iterator[Fact]:
        earlier = self._message
        if earlier is not None and earlier.role == "assistant":
            # Another message follows, so the harness has served these calls itself.
            for block in calls_of(earlier):
                self._served.add(block.tool_use_id)
                yield called(block)
        self._begin(str(payload.get("role")))

    def _begin(self, role: str) -> MessageBlocks:
        self._messages += 1
        self._has_content = True
        self._message = MessageBlocks(f"{self._number}.m{self._messages}", role)
        return self._message

    def _current(self) -> MessageBlocks:
        """The message that is being written; one whose beginning did not come is the assistant's."""
        message = self._message
        return self._begin("assistant") if message is None or message.stop_reason is not None else message

    def _start_block(self, payload: Mapping[str, Any]) -> Iterator[Fact]:
        index, start = payload.get("contentBlockIndex"), payload.get("start")
        if not isinstance(index, int) or not isinstance(start, dict):
            return
        message = self._current()
        message.open.pop(index, None)
        use, result = start.get("toolUse"), start.get("toolResult")
        if isinstance(use, dict):
            call_id, name = use.get("toolUseId"), use.get("name")
            if not (isinstance(call_id, str) and call_id and isinstance(name, str) and name):
                yield Unrecognised("a toolUse block without a toolUseId or a name")
                return
            block = self._open(message, index, "tool_use")
            block.tool_use_id, block.name = call_id, name
            block.type, block.server = text_of(use, "type"), text_of(use, "serverName")
        elif isinstance(result, dict) and isinstance(result.get("toolUseId"), str):
            block = self._open(message, index, "tool_result")
            block.tool_use_id, block.status = result["toolUseId"], text_of(result, "status")

    def _open(self, message: MessageBlocks, index: int, kind: BlockKind) -> Block:
        block = Block(kind, len(message.blocks))
        message.blocks.append(block)
        message.open[index] = block
        return block

    def _delta(self, payload: Mapping[str, Any]) -> Iterator[Fact]:
        index, delta = payload.get("contentBlockIndex"), payload.get("delta")
        if not isinstance(index, int) or not isinstance(delta, dict):
            return
        message = self._current()
        block = message.open.get(index)
        text, use, results = delta.get("text"), delta.get("toolUse"), delta.get("toolResult")
        if isinstance(delta.get("reasoningContent"), dict):
            if block is None or block.kind != "reasoning":
                self._open(message, index, "reasoning")
        elif isinstance(text, str) and text:
            if block is not None and block.kind == "reasoning":
                return  # text in a block of reasoning is reasoning
            if block is None or block is not message.latest("text"):
                block = self._open(message, index, "text")  # text is told in the order in which it comes
            block.parts.append(text)
            if message.role == "assistant":
                yield PreviewText(message.id, block.number, text, starts=False)
        elif isinstance(use, dict):
            take_input(message, block, use.get("input"))
        elif isinstance(results, list) and block is not None:
            block.results += [item for item in results if isinstance(item, dict)]

    def _stop_block(self, payload: Mapping[str, Any]) -> Iterator[Fact]:
        message, index = self._message, payload.get("contentBlockIndex")
        block = message.open.pop(index, None) if message is not None and isinstance(index, int) else None
        if block is not None and block.kind == "tool_result":
            yield from self._result(block)

    def _result(self, block: Block) -> Iterator[Fact]:
        if block.tool_use_id in self._served:
            yield Answered(block.tool_use_id, result_blocks(block.results), block.status == "error")
        else:
            self._acknowledged.add(block.tool_use_id)  # the copy of a result of ours

    def _stop_message(self, payload: Mapping[str, Any]) -> Iterator[Fact]:
        message = self._current()
        for block in message.open.values():
            if block.kind == "tool_result":
                yield from self._result(block)
        message.open.clear()
        message.stop_reason = text_of(payload, "stopReason") or "unknown"
        self._stops += 1
        texts = tuple(block.text for block in message.blocks if block.kind == "text")
        if message.role == "assistant" and texts:
            yield Said(texts)


def classify(event: Event) -> Fact:
    """Give the meaning of one event of a session's log: a harness's own, or what an invocation said follows from it."""
    kind = event.get("type")
    if kind == OWN_EVENT:
        fact: Fact = event["fact"]  # an event of the wire cannot have this name: see Invocation.feed
        return fact
    payload = event.get(str(kind))
    if not isinstance(payload, dict):
        return Unrecognised(str(kind))
    match kind:
        case "messageStart":
            return MODEL_REQUESTED if payload.get("role") == "assistant" else NOTHING
        case "contentBlockStart" | "contentBlockDelta" | "contentBlockStop":
            return ACTIVITY
        case "messageStop" | "hookEvent":
            return NOTHING
        case "metadata":
            usage = payload.get("usage")
            return Spent(_counts(usage), usage) if isinstance(usage, dict) else NOTHING
        case _:
            return Unrecognised(str(kind))


def _counts(usage: Mapping[str, Any]) -> dict[str, Any]:
    return {ours: usage[theirs] for theirs, ours in _USAGE.items() if theirs in usage}
