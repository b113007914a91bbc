"""One message of an invocation's stream: its events in the order the service sends them, and what it comes to.

Text and reasoning blocks have no start event, tool blocks have one; a tool's input comes in fragments of JSON text.

Source: Amazon Bedrock AgentCore API reference, InvokeHarness, InvokeHarnessStreamOutput.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ._frames import encode
from ._script import Call

__all__ = ["MessageWriter"]

Json: TypeAlias = dict[str, Any]
Push: TypeAlias = Callable[[str, Json], object]

# What tells a tool of the client's from one that the service runs itself.
USE_TYPES = {"custom": "tool_use", "builtin": "server_tool_use", "mcp": "mcp_tool_use"}
# Few enough that every input of more than a word comes in several fragments.
FRAGMENT_CHARS = 7


class MessageWriter:
    """A message in the making.

    Attributes:
        content: Its finished blocks, as a conversation holds them.

    Args:
        role: Whose message it is.
        push: Sends an event, given its type and members.
    """

    def __init__(self, role: Literal["user", "assistant"], push: Push) -> None:
        self.content: list[Json] = []
        self._role = role
        self._push = push
        self._index = 0
        self._text: list[str] | None = None
        push("messageStart", {"role": role})

    def add_text(self, piece: str) -> None:
        """A piece of the text block that is open; opens one if none is."""
        self._text = [] if self._text is None else self._text
        if piece:
            self._text.append(piece)
            self._delta({"text": piece})

    def end_text(self) -> None:
        """The end of the text block that is open, if one is; a block without text was never sent."""
        pieces, self._text = self._text, None
        if pieces:
            self._end_block({"text": "".join(pieces)})

    def add_reasoning(self, text: str, signature: str) -> None:
        """A whole reasoning block."""
        self._delta({"reasoningContent": {"text": text}})
        self._delta({"reasoningContent": {"signature": signature}})
        self._end_block({"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}})

    def add_tool_use(self, use_id: str, call: Call) -> None:
        """A whole tool call."""
        server = {"serverName": call.server} if call.kind == "mcp" else {}
        start = {"toolUseId": use_id, "name": call.name, "type": USE_TYPES[call.kind], **server}
        self._start({"toolUse": start})
        given = encode(dict(call.input)).decode() if call.input else ""
        for at in range(0, len(given), FRAGMENT_CHARS):
            self._delta({"toolUse": {"input": given[at : at + FRAGMENT_CHARS]}})
        self._end_block({"toolUse": {**start, "input": dict(call.input)}})

    def add_tool_result(self, use_id: str, content: Sequence[Mapping[str, Any]], *, is_error: bool) -> None:
        """A whole tool result."""
        start = {"toolUseId": use_id, "status": "error" if is_error else "success"}
        self._start({"toolResult": start})
        self._delta({"toolResult": list(content)})
        self._end_block({"toolResult": {**start, "content": list(content)}})

    def end(self, stop_reason: str) -> Json:
        """End the message: gives it as a conversation holds it."""
        self.end_text()
        self._push("messageStop", {"stopReason": stop_reason})
        return {"role": self._role, "content": self.content}

    def _start(self, start: Json) -> None:
        self.end_text()
        self._push("contentBlockStart", {"contentBlockIndex": self._index, "start": start})

    def _delta(self, delta: Json) -> None:
        self._push("contentBlockDelta", {"contentBlockIndex": self._index, "delta": delta})

    def _end_block(self, block: Json) -> None:
        self._push("contentBlockStop", {"contentBlockIndex": self._index})
        self._index += 1
        self.content.append(block)
