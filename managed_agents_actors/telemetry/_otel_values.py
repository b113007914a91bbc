"""What OpenTelemetry takes as the value of an attribute, made of whatever an event carries. Pure functions.

Everything passes through here on its way out: secrets are taken out of it, and what no exporter could encode. Content
becomes JSON; it is redacted first and cut then, so that no half of a secret is left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final

from opentelemetry.util.types import AttributeValue

from ._redaction import redact

__all__ = ["MAX_CONTENT_BYTES", "attribute_values", "content_json", "input_messages", "output_messages"]

MAX_CONTENT_BYTES: Final = 64 * 1024  # of one attribute: what the backends keep of one at most, and a long answer

_INT64: Final = range(-(2**63), 2**63)  # what exporters encode
_ALIKE: Final[Sequence[set[type]]] = (set(), {str}, {bool}, {int}, {float})  # the types of items that a list may have


def attribute_values(attributes: Mapping[str, Any]) -> dict[str, AttributeValue]:
    """Give attributes as OpenTelemetry takes them, without secrets. What is ``None`` is left out."""
    told = {name: value for name, value in attributes.items() if value is not None and name and isinstance(name, str)}
    return {name: _value(value) for name, value in redact(told).items()}


def _value(value: Any) -> AttributeValue:
    if isinstance(value, bool | float) or (isinstance(value, int) and value in _INT64):
        return value
    if isinstance(value, list | tuple):
        items = [_value(item) for item in value]
        if {type(item) for item in items} in _ALIKE:
            return items
    return _encodable(str(value))


def _encodable(text: str) -> str:
    """The text without halves of surrogate pairs: one of them would cost an exporter the whole batch."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def input_messages(said: Any) -> str | None:
    """Tell what a request began with, as the conventions tell messages; an outcome is a part of a kind of its own."""
    blocks = [said] if isinstance(said, str | Mapping) else said
    if not isinstance(blocks, Sequence):
        return None
    is_outcome = isinstance(said, Mapping)
    parts = [{**said, "type": "outcome"}] if is_outcome else [_part(block) for block in blocks]
    return content_json([{"role": "user", "parts": parts}])


def output_messages(text: Any, finish_reason: Any) -> str | None:
    """Tell what the agent answered, as the conventions tell messages."""
    reason = "stop" if finish_reason == "end_turn" else str(finish_reason)
    parts = [{"type": "text", "content": text}]
    return content_json([{"role": "assistant", "parts": parts, "finish_reason": reason}])


def _part(block: Any) -> dict[str, Any]:
    """A content block as a part of a message. Of an image or a file only the kind is told: bytes help nobody here."""
    if not isinstance(block, Mapping):
        return {"type": "text", "content": str(block)}
    if "text" in block:
        return {"type": "text", "content": block["text"]}
    return {"type": str(block.get("type") or next(iter(block), "unknown"))}


def content_json(value: Any) -> str | None:
    """Encode content as JSON of at most :data:`MAX_CONTENT_BYTES`: long texts and lists in it are cut until it fits.

    Returns:
        The JSON; ``None`` if the value has none, or cannot be cut to fit.
    """
    try:
        kept = redact(value)
        most = MAX_CONTENT_BYTES
        while True:
            text = _encodable(json.dumps(kept, ensure_ascii=False, default=str))
            if len(text.encode()) <= MAX_CONTENT_BYTES:
                return text
            if most == 0:
                return None
            most //= 4
            kept = _cut(kept, most)
    except (TypeError, ValueError):  # keys that JSON does not have, NaN aside
        return None


def _cut(value: Any, most: int) -> Any:
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]}…"
    if isinstance(value, Mapping):
        return {key: _cut(member, most) for key, member in islice(value.items(), most)}
    if isinstance(value, list | tuple):
        return [_cut(item, most) for item in value[:most]]
    return value
