"""Builders for everything a client may send to a Claude Managed Agents session, one wire event each.

They validate what can be known without the server, so that a mistake costs no request. Nothing is sent from here.
Source: Claude Managed Agents, "Events and streaming" and "Session event reference" (client events).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from .._errors import ConfigurationError
from .._model import Content, Event, Outcome
from .content import content_blocks

# "Events and streaming", limits of system.message.
MAX_SYSTEM_BLOCKS = 1000


def user_message(content: Content) -> Event:
    """Build a ``user.message``: it starts a turn, or queues behind the running one."""
    return {"type": "user.message", "content": content_blocks(content)}


def interrupt(thread_id: str | None = None) -> Event:
    """Build a ``user.interrupt`` of one thread, or of all."""
    event: Event = {"type": "user.interrupt"}
    if thread_id is not None:
        event["session_thread_id"] = thread_id
    return event


def tool_confirmation(tool_use_id: str, verdict: Literal["allow", "deny"], message: str | None = None) -> Event:
    """Build a ``user.tool_confirmation``; a message goes with a denial only."""
    if verdict not in ("allow", "deny"):
        raise ConfigurationError(f'a confirmation is "allow" or "deny", not {verdict!r}')
    event: Event = {"type": "user.tool_confirmation", "tool_use_id": tool_use_id, "result": verdict}
    if message is not None:
        if verdict == "allow" or not isinstance(message, str):
            raise ConfigurationError("a message is text, and can only go with a denial")
        event["deny_message"] = message
    return event


def custom_tool_result(tool_use_id: str, content: Sequence[Mapping[str, Any]], *, is_error: bool = False) -> Event:
    """Build the ``user.custom_tool_result`` of a custom call. The server routes it by the call's id alone."""
    blocks = [dict(block) for block in content]
    return {
        "type": "user.custom_tool_result",
        "custom_tool_use_id": tool_use_id,
        "content": blocks,
        "is_error": is_error,
    }


def tool_result(tool_use_id: str, content: Sequence[Mapping[str, Any]], *, is_error: bool = False) -> Event:
    """Build the ``user.tool_result`` of a built-in call in a self-hosted environment."""
    blocks = [dict(block) for block in content]
    return {"type": "user.tool_result", "tool_use_id": tool_use_id, "content": blocks, "is_error": is_error}


def define_outcome(outcome: Outcome) -> Event:
    """Build a ``user.define_outcome``; it starts work without a message."""
    rubric = {"type": "text", "content": outcome.rubric} if isinstance(outcome.rubric, str) else dict(outcome.rubric)
    event: Event = {"type": "user.define_outcome", "description": outcome.description, "rubric": rubric}
    if outcome.max_iterations is not None:
        event["max_iterations"] = outcome.max_iterations
    return event


def system_message(*texts: str) -> Event:
    """Build a ``system.message``; it must be the last event of its request, after a message or a result."""
    if not 1 <= len(texts) <= MAX_SYSTEM_BLOCKS:
        raise ConfigurationError(f"a system message has 1 to {MAX_SYSTEM_BLOCKS} texts, not {len(texts)}")
    return {"type": "system.message", "content": [{"type": "text", "text": text} for text in texts]}
