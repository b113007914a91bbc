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
    "is_ours",
    "result_blocks",
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
    """A message that is being written, its blocks in the order in which they began."""

    id: str
    role: str
    blocks: list[Block] = field(default_factory=list)
    open: dict[int, Block] = field(default_factory=dict)
    stop_reason: str | None = None
    lost_input: bool = False  # a piece of input came that belongs to no call known

    def latest(self, kind: BlockKind) -> Block | None:
        """The block of this kind that began last."""
        return next((block for block in reversed(self.blocks) if block.kind == kind), None)


def take_input(message: MessageBlocks, block: Block | None, piece: object) -> None:
    """Add a piece of input to its call. One that cannot be added damages the input, which is then not used."""
    if block is None or block.kind != "tool_use":
        message.lost_input = True
    elif isinstance(piece, str):
        block.parts.append(piece)
    else:
        block.problem = f"a piece of the input is no text, but a {type(piece).__name__}"


def text_of(value: Mapping[str, Any], key: str) -> str | None:
    """Give a field's text; ``None`` if it has none."""
    found = value.get(key)
    return found if isinstance(found, str) and found else None


def calls_of(message: MessageBlocks) -> list[Block]:
    """The tool blocks of a message, one per call: a block that begins once more replaces what it had, if it has any."""
    found: dict[str, Block] = {}
    for block in message.blocks:
        if block.kind == "tool_use" and (block.tool_use_id not in found or _is_usable(block)):
            found[block.tool_use_id] = block
    if message.lost_input:
        for block in found.values():
            if not block.parts:
                block.problem = "a piece of input came that belongs to no call"
    return list(found.values())


def _is_usable(block: Block) -> bool:
    return bool(block.parts) and called(block).problem is None


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
