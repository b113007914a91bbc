"""One invocation of an AgentCore harness, folded: its events in, and between them the facts that follow from them.

An invocation may stream several messages; only its end tells what the last stop reason means, so calls are told late:
those of a message that another one follows were the harness's own. Nothing here knows of other invocations.

Source: Amazon Bedrock AgentCore, "InvokeHarness" and "Return of control"; Amazon Bedrock, "ConverseStream" events.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from .._model import Event, Terminal
from .aws_events import UNRECOGNISED
from .converse_blocks import (
    Block,
    MessageBlocks,
    called,
    calls_of,
    index_of,
    is_ours,
    result_blocks,
    role_of,
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
            event, payload = {"type": UNRECOGNISED, UNRECOGNISED: {kind: payload}}, None
        events = [{**event, "id": self._next_id()}]
        if isinstance(payload, dict):
            events += [self._own(fact) for fact in self._read(kind, payload)]
        return events

    def end(self) -> tuple[list[Event], Ending]:
        """The body has ended in good order: give what follows from that, and how the invocation ended."""
        handed = self.perhaps_handed_off()
        message, self._message = self._message, None
        if message is None or message.stop_reason is None or message.role != "assistant":
            return [], Truncated()
        if message.stop_reason == "tool_use":
            events = [self._own(called(block)) for block in calls_of(message) if not is_ours(block)]
            # After calls that are all its own the harness goes on by itself: that it did not was cut off.
            return events, HandedOff(handed) if handed or not message.calls else Truncated()
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
        yield from self._leave()
        self._begin(role_of(payload))

    def _leave(self) -> Iterator[Fact]:
        """Another message follows: finish the one before, whose calls the harness has served itself."""
        earlier = self._message
        if earlier is None:
            return
        yield from self._close_all(earlier)
        if earlier.role == "assistant":
            yield from self._serve(calls_of(earlier))

    def _serve(self, calls: list[Block]) -> Iterator[Fact]:
        for block in calls:
            self._served.add(block.tool_use_id)
            yield called(block)

    def _begin(self, role: str) -> MessageBlocks:
        self._messages += 1
        self._has_content = True
        self._message = MessageBlocks(f"{self._number}.m{self._messages}", role)
        return self._message

    def _written(self, role: str = "assistant") -> Generator[Fact, None, MessageBlocks]:
        """The message that is being written; after a stop that is another one, whose beginning did not come."""
        message = self._message
        if message is not None and message.stop_reason is None:
            return message
        yield from self._leave()
        return self._begin(role)

    def _latest(self) -> MessageBlocks:
        """The message that belated pieces belong to: they begin none, and may still damage one that has ended."""
        return self._begin("assistant") if self._message is None else self._message

    def _start_block(self, payload: Mapping[str, Any]) -> Iterator[Fact]:
        index, start = index_of(payload), payload.get("start")
        if not isinstance(start, dict):
            return
        use, result = start.get("toolUse"), start.get("toolResult")
        message = yield from self._written("user" if use is None and result is not None else "assistant")
        yield from self._close(message, index)
        if use is not None:
            call_id, name = (text_of(use, "toolUseId"), text_of(use, "name")) if isinstance(use, dict) else (None, None)
            if call_id is None or name is None:
                yield Unrecognised("a toolUse block without a toolUseId or a name")
                return
            block = message.begin_call(index, call_id, name)
            block.type, block.server = text_of(use, "type"), text_of(use, "serverName")
        elif isinstance(result, dict) and (call_id := text_of(result, "toolUseId")):
            block = message.begin(index, "tool_result")
            block.tool_use_id, block.status = call_id, text_of(result, "status")

    def _delta(self, payload: Mapping[str, Any]) -> Iterator[Fact]:
        index, delta = index_of(payload), payload.get("delta")
        if not isinstance(delta, dict) or "toolUse" in delta:
            take_input(self._latest(), index, delta)
        if not isinstance(delta, dict):
            return
        if isinstance(delta.get("reasoningContent"), dict):
            yield from self._reason(index)
        elif text := text_of(delta, "text"):
            yield from self._say(index, text)
        elif "toolResult" in delta:
            block = self._latest().open.get(index)
            pieces = delta["toolResult"] if isinstance(delta["toolResult"], list) else [delta["toolResult"]]
            if block is not None and block.kind == "tool_result":
                block.results += [piece for piece in pieces if isinstance(piece, dict)]

    def _reason(self, index: int | None) -> Iterator[Fact]:
        message = yield from self._written()
        block = message.open.get(index)
        if block is None or block.kind != "reasoning":
            yield from self._close(message, index)
            message.begin(index, "reasoning")

    def _say(self, index: int | None, text: str) -> Iterator[Fact]:
        message = yield from self._written()
        block = message.open.get(index)
        if block is not None and block.kind == "reasoning":
            return  # text in a block of reasoning is reasoning
        if block is not None and block.kind == "tool_result":
            block.results.append({"text": text})
            return
        if block is None or not message.texts or block is not message.texts[-1]:
            block = message.begin(index, "text")  # text is told in the order in which it comes
        block.parts.append(text)
        if message.role == "assistant":
            yield PreviewText(message.id, block.number, text, starts=False)

    def _stop_block(self, payload: Mapping[str, Any]) -> Iterator[Fact]:
        if self._message is not None:
            yield from self._close(self._message, index_of(payload))

    def _close_all(self, message: MessageBlocks) -> Iterator[Fact]:
        for index in list(message.open):
            yield from self._close(message, index)

    def _close(self, message: MessageBlocks, index: int | None) -> Iterator[Fact]:
        """The block at an index is finished, or another one takes its place."""
        block = message.open.pop(index, None)
        if block is None or block.kind != "tool_result":
            return
        call_id = block.tool_use_id
        # A result that comes with its call: the harness has served it.
        yield from self._serve(calls_of(message, call_id))
        message.answered.add(call_id)
        if call_id in self._served:
            yield Answered(call_id, result_blocks(block.results), block.status == "error")
        else:
            self._acknowledged.add(call_id)  # the copy of a result of ours

    def _stop_message(self, payload: Mapping[str, Any]) -> Iterator[Fact]:
        message = self._latest()
        is_repeated = message.stop_reason is not None
        yield from self._close_all(message)
        message.stop_reason = text_of(payload, "stopReason") or "unknown"
        self._stops += 1
        texts = tuple(block.text for block in message.texts)
        if message.role == "assistant" and texts and not is_repeated:
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
            return MODEL_REQUESTED if role_of(payload) == "assistant" else NOTHING
        case "contentBlockStart" | "contentBlockDelta" | "contentBlockStop":
            return ACTIVITY
        case "messageStop" | "hookEvent":
            return NOTHING
        case "metadata":
            usage = payload.get("usage")
            return Spent(_counts(usage), usage) if isinstance(usage, dict) else NOTHING
        case _:
            return Unrecognised(str(kind))


def usage_of(event: Event) -> dict[str, Any] | None:
    """Give the tokens that an event says were spent, by the names that ours have, if it says so."""
    payload = event.get("metadata") if event.get("type") == "metadata" else None
    usage = payload.get("usage") if isinstance(payload, dict) else None
    return _counts(usage) if isinstance(usage, dict) else None


def _counts(usage: Mapping[str, Any]) -> dict[str, Any]:
    return {ours: usage[theirs] for theirs, ours in _USAGE.items() if theirs in usage}
