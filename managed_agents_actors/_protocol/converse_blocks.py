"""The content blocks of a harness's messages while they are written, and the calls among them.

A call's input is used as it came or not at all: what is damaged, or could not go back to the harness, is a problem of
the call and never another input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from .._model import ToolKind, ToolUse
from .codec import decode_json, encode_json, has_lone_surrogate
from .facts import Blocks, Called

__all__ = [
    "Block",
    "BlockKind",
    "MessageBlocks",
    "called",
    "calls_of",
    "index_of",
    "is_ours",
    "result_blocks",
    "role_of",
    "take_input",
    "text_of",
]

# What the model's own tools of a harness are called; a stream need not say of them whose they are.
BUILTIN_TOOLS = frozenset({"shell", "file_operations", "builtin"})

# How deep the input of a call may be nested: it goes back to the harness with the result.
MOST_LEVELS = 100

BlockKind: TypeAlias = Literal["text", "reasoning", "tool_use", "tool_result"]


@dataclass(slots=True)
class Block:
    """A content block that is being written."""

    kind: BlockKind
    number: int
    tool_use_id: str = ""
    name: str = ""
    type: str | None = None
    server: str | None = None
    status: str | None = None
    problem: str | None = None
    parts: list[str] = field(default_factory=list)
    results: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def text(self) -> str:
        """What was written so far: text, or the JSON text of an input."""
        return "".join(self.parts)


@dataclass(slots=True)
class MessageBlocks:
    """A message that is being written.

    Attributes:
        id: Its id.
        role: Whose it is.
        texts: Its blocks of text, in the order in which they began.
        calls: Its blocks of tool use, by the call's id; a call may begin more than once.
        open: The blocks that are not finished, by their index; ``None`` is the place of one that came without.
        answered: The calls whose result came within the message.
        stop_reason: Why it ended, when it has.
        lost_input: Whether a piece of input came that belongs to no call known.
    """

    id: str
    role: str
    texts: list[Block] = field(default_factory=list)
    calls: dict[str, list[Block]] = field(default_factory=dict)
    open: dict[int | None, Block] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    stop_reason: str | None = None
    lost_input: bool = False
    _begun: int = 0

    def begin(self, index: int | None, kind: BlockKind) -> Block:
        """Begin a block at an index."""
        block = self.open[index] = Block(kind, self._begun)
        self._begun += 1
        if kind == "text":
            self.texts.append(block)
        return block

    def begin_call(self, index: int | None, call_id: str, name: str) -> Block:
        """Begin a block of tool use at an index."""
        block = self.begin(index, "tool_use")
        block.tool_use_id, block.name = call_id, name
        if index is None:
            block.problem = "the call began without an index, so that its input cannot be told from another's"
        self.calls.setdefault(call_id, []).append(block)
        return block


def take_input(message: MessageBlocks, index: int | None, delta: object) -> None:
    """Add a piece of input to its call. One that cannot be added damages the input, which is then not used."""
    block = message.open.get(index)
    if block is None or block.kind != "tool_use":
        # What has no form at all may have been input only where no other block is.
        message.lost_input |= block is None or isinstance(delta, dict)
        return
    use = delta.get("toolUse") if isinstance(delta, dict) else None
    piece = use.get("input") if isinstance(use, dict) else use
    if isinstance(use, dict) and isinstance(piece, str):
        block.parts.append(piece)
    else:
        block.problem = f"a piece of the input is no text, but a {type(piece).__name__}"


def text_of(value: Mapping[str, Any], key: str) -> str | None:
    """Give a field's text; ``None`` if it has none."""
    found = value.get(key)
    return found if isinstance(found, str) and found else None


def index_of(payload: Mapping[str, Any]) -> int | None:
    """Give the index of the block that an event is of; ``None`` if it says none."""
    index = payload.get("contentBlockIndex")
    return index if isinstance(index, int) and not isinstance(index, bool) else None


def role_of(payload: Mapping[str, Any]) -> str:
    """Give whose message begins; one that does not say is the assistant's, as one whose beginning did not come."""
    return text_of(payload, "role") or "assistant"


def calls_of(message: MessageBlocks, call_id: str | None = None) -> list[Block]:
    """Give the calls of a message that have no result in it, or one of them.

    One that began more than once is the last of its blocks whose input can be used, else the last that is damaged,
    else the last.
    """
    ids = message.calls if call_id is None else message.calls.keys() & {call_id}
    found = [_best(message.calls[each]) for each in ids if each not in message.answered]
    if message.lost_input:
        for block in found:
            if block.problem is None and not block.text.strip():
                block.problem = "a piece of input came that belongs to no call"
    return found


def _best(blocks: list[Block]) -> Block:
    return blocks[0] if len(blocks) == 1 else max(reversed(blocks), key=_worth)


def _worth(block: Block) -> int:
    if block.problem is None and not block.text.strip():
        return 0
    return 2 if called(block).problem is None else 1


def is_ours(block: Block) -> bool:
    """Whether a call that the harness waits for can be an inline function's."""
    return block.type in (None, "tool_use") and block.server is None and block.name not in BUILTIN_TOOLS


def called(block: Block, kind: ToolKind | None = None) -> Called:
    """Give the call of a block, with what forbids to run it; without a kind it is the harness's own."""
    raw = {"toolUseId": block.tool_use_id, "name": block.name, "input": block.text}
    if kind is None:
        kind = "mcp" if block.type == "mcp_tool_use" or block.server is not None else "builtin"
    given, problem = ({}, block.problem) if block.problem is not None else _input(block.text)
    return Called(ToolUse(id=block.tool_use_id, name=block.name, input=given, kind=kind, raw=raw), problem)


def _input(text: str) -> tuple[dict[str, Any], str | None]:
    if not text.strip():
        return {}, None
    try:
        value = decode_json(text)
    except ValueError as error:
        return {}, f"the input is not JSON: {error}"
    if not isinstance(value, dict):
        return {}, f"the input must be a JSON object, but a {type(value).__name__} arrived"
    problem = _cannot_go_back(value)
    return (value, None) if problem is None else ({}, problem)


def _cannot_go_back(value: dict[str, Any]) -> str | None:
    """Why an input could not be told to the harness again, if it could not."""
    if _levels(value) > MOST_LEVELS:
        return f"the input is nested deeper than {MOST_LEVELS} levels"
    try:
        encode_json(value)
    except ValueError as error:
        return f"the input is {error}"
    return "the input has half a surrogate pair in it" if has_lone_surrogate(value) else None


def _levels(value: Any) -> int:
    """How deep a JSON value is nested."""
    depth, level = 0, [value]
    while level and depth <= MOST_LEVELS:
        depth += 1
        inner = [
            list(item.values()) if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)
        ]
        level = [item for items in inner for item in items]
    return depth


def result_blocks(items: list[Mapping[str, Any]]) -> Blocks:
    """The content of a result in this library's blocks; pieces of text that follow each other are one text."""
    blocks: list[dict[str, Any]] = []
    for item in items:
        text = item.get("text")
        if isinstance(text, str):
            if blocks and blocks[-1]["type"] == "text":
                blocks[-1]["text"] += text
            else:
                blocks.append({"type": "text", "text": text})
        elif "json" in item:
            blocks.append({"type": "json", "json": item["json"]})
    return tuple(blocks)
