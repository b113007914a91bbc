"""What an AgentCore harness is told: messages, and the results of calls that it handed off.

They check what can be known without the service, so that a mistake costs no request. Nothing is sent from here.
Source: Amazon Bedrock AgentCore, "InvokeHarness" and "Return of control".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import ConfigurationError
from .._model import Content, ToolResult, ToolUse
from .codec import encode_json, has_lone_surrogate, without_lone_surrogates
from .content import content_blocks

__all__ = ["CANCELLED", "ID_REUSED", "resume_messages", "tool_result_blocks", "user_message"]

# The service refuses empty text.
NO_TEXT = "(no output)"
CANCELLED = "The call was cancelled: the request it belonged to was given up."
ID_REUSED = (
    "The call was not run: its id is that of an earlier call with another name or input. Call again with a new id."
)


def user_message(content: Content) -> dict[str, Any]:
    """Build a user message.

    Raises:
        ConfigurationError: The content is empty, or holds something else than text, which the service does not take.
    """
    texts = []
    for block in content_blocks(content):
        text = block.get("text")
        if block["type"] != "text" or not isinstance(text, str) or not text:
            raise ConfigurationError(
                f"a message to a harness is made of non-empty text blocks, not of a {block['type']!r} block"
            )
        if has_lone_surrogate(text):
            raise ConfigurationError(
                "a message to a harness has half a surrogate pair in its text, which is no character"
            )
        texts.append({"text": text})
    return {"role": "user", "content": texts}


def resume_messages(calls: Sequence[tuple[ToolUse, ToolResult]]) -> list[dict[str, Any]]:
    """Build what answers a hand-off: the calls as the assistant made them, then their results.

    The service keeps the calls itself by now and ignores the first of the two; before, it needed it.
    """
    uses = [{"toolUse": {"toolUseId": use.id, "name": use.name, "input": use.input}} for use, _ in calls]
    results = [
        {
            "toolResult": {
                "toolUseId": use.id,
                "content": tool_result_blocks(result),
                "status": "error" if result.is_error else "success",
            }
        }
        for use, result in calls
    ]
    return [{"role": "assistant", "content": uses}, {"role": "user", "content": results}]


def tool_result_blocks(result: ToolResult) -> list[dict[str, Any]]:
    """Give a result's content as the service takes it: text only. What is no text goes as JSON text.

    Raises:
        ConfigurationError: Some of it is neither text nor JSON.
    """
    texts = [_text(block) for block in result.content]
    return [{"text": without_lone_surrogates(text)} for text in texts if text] or [{"text": NO_TEXT}]


def _text(block: object) -> str:
    if not isinstance(block, Mapping):
        raise ConfigurationError(
            f"the content of a tool's result is made of blocks, and a {type(block).__name__} is none"
        )
    if block.get("type") == "text":
        text = block.get("text")
        if not isinstance(text, str):
            raise ConfigurationError(f"a text block of a tool's result must hold text, not a {type(text).__name__}")
        return text
    try:
        return encode_json(dict(block)).decode()
    except ValueError as error:
        raise ConfigurationError(
            f"a {block.get('type')!r} block of a tool's result cannot be told to a harness as text: it is {error}"
        ) from error
