"""What the command shows of texts, calls and tokens, and in which colours. Pure; it takes values of any shape.

Text from the wire is not trusted: whatever could steer a terminal is shown by its escape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = [
    "BOLD",
    "CYAN",
    "DIM",
    "GREEN",
    "RED",
    "WIDTH",
    "YELLOW",
    "called",
    "named",
    "painted",
    "printable",
    "said",
    "tokens",
]

WIDTH: Final = 100  # columns; wider lines are hard to read

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"


def painted(text: str, colour: str) -> str:
    """The text in a colour, if there is one."""
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def printable(text: str) -> str:
    """The text with what is no visible character, controls and marks of direction among it, as Python escapes it."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def said(content: Iterable[Any]) -> str:
    """The texts of a message's blocks; a block of another kind is shown by its type."""
    blocks = (block if isinstance(block, Mapping) else {} for block in content)
    return " ".join(
        block["text"] if isinstance(block.get("text"), str) else f"[{block.get('type', 'block')}]" for block in blocks
    )


def called(name: str, input: Mapping[str, Any]) -> str:
    """A tool call."""
    return f"{name}({named(input)})"


def named(members: Mapping[str, Any]) -> str:
    """Values with their names."""
    return ", ".join(f"{name}={value!r}" for name, value in members.items())


def tokens(usage: Mapping[str, Any]) -> str:
    """What was spent."""
    return f"{usage.get('input_tokens', 0)} input and {usage.get('output_tokens', 0)} output tokens"
