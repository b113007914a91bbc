"""Message content as blocks: built from what a caller gave, and recognised when a log shows it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._errors import ConfigurationError
from .._model import Content
from .facts import Blocks


def content_blocks(content: Content) -> list[dict[str, Any]]:
    """Give content in wire form: text becomes one text block, blocks are copied.

    Raises:
        ConfigurationError: If the content is empty, or a block is not a mapping with a ``type``.
    """
    if isinstance(content, str):
        if not content:
            raise ConfigurationError("the content of a message must not be empty")
        return [{"type": "text", "text": content}]
    if not isinstance(content, Sequence) or not content:
        raise ConfigurationError(f"content must be text or a non-empty list of blocks, not {type(content).__name__}")
    blocks = []
    for block in content:
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            raise ConfigurationError('every content block must be a mapping with a "type", such as {"type": "text", …}')
        blocks.append(dict(block))
    return blocks


def same_content(sent: Sequence[Mapping[str, Any]], shown: Blocks) -> bool:
    """Whether a log shows what was sent; the provider may have added fields of its own."""
    return len(sent) == len(shown) and all(
        isinstance(ours, Mapping) and all(theirs.get(key) == value for key, value in ours.items())
        for ours, theirs in zip(sent, shown, strict=True)
    )
