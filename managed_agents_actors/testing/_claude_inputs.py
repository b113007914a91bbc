"""Which client events a session takes. Pure: it looks at a session's state and refuses the whole request, or nothing.

A request is judged as a sequence, each event in the state its predecessors leave: an interrupt frees the way for the
message behind it, and the second answer to one call is a duplicate.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from ._claude_api import refuse, require

__all__ = ["CHECKS", "Awaits", "InputState", "check_events"]

Event: TypeAlias = Mapping[str, Any]
Awaits: TypeAlias = Literal["confirmation", "custom_result", "tool_result"]

# Which answer settles which expectation, and the field that names the call.
ANSWERS: dict[str, tuple[Awaits, str]] = {
    "user.custom_tool_result": ("custom_result", "custom_tool_use_id"),
    "user.tool_result": ("tool_result", "tool_use_id"),
    "user.tool_confirmation": ("confirmation", "tool_use_id"),
}
RESULT_BLOCKS = frozenset({"text", "image", "document", "search_result"})
MESSAGE_BLOCKS = frozenset({"text", "image", "document"})
MAX_RUBRIC_CHARS = 262_144


@dataclass(slots=True, kw_only=True)
class InputState:
    """What matters of a session for its next input; :func:`check_events` advances it.

    Attributes:
        pending: The unanswered calls and the answer each waits for.
        known_calls: Every call of the log, answered or not.
        worker_calls: Pending calls that, once allowed, still need a worker's result (self-hosted environments).
        thread_ids: The session's threads; the first is the primary.
        call_threads: The thread of each pending call of a sub-agent.
        terminated: Whether the session takes no input any more.
        over_budget: Whether it pauses at its budget.
        outcome_open: Whether an outcome is being worked on.
    """

    pending: dict[str, Awaits]
    known_calls: AbstractSet[str]
    thread_ids: tuple[str, ...]
    worker_calls: frozenset[str] = frozenset()
    call_threads: Mapping[str, str] = field(default_factory=dict)
    terminated: bool = False
    over_budget: bool = False
    outcome_open: bool = False


def check_events(events: object, state: InputState) -> list[dict[str, Any]]:
    """The events of a send request, as they may be taken.

    Raises:
        ApiRefusal: One of them is not acceptable; none may be taken.
    """
    if not isinstance(events, list) or not events:
        raise refuse("events: at least one event is required")
    require(not state.terminated, "the session is terminated and accepts no events")
    for position, event in enumerate(events):
        require(isinstance(event, dict), f"events.{position}: must be an object")
        check = CHECKS.get(str(event.get("type")))
        if check is None:
            raise refuse(f"events.{position}.type: unknown event type {event.get('type')!r}")
        check(event, state)
        if event["type"] == "system.message":
            require(position == len(events) - 1, "system.message must be the last event of the request")
    return events


def _check_message(event: Event, state: InputState) -> None:
    _require_open(state)
    require(
        not state.pending, f"the session waits on tool calls, answer or interrupt first: {', '.join(state.pending)}"
    )
    _check_content(event.get("content"), MESSAGE_BLOCKS, required=True)


def _check_system(event: Event, state: InputState) -> None:
    _require_open(state)
    _check_content(event.get("content"), frozenset({"text"}), required=True)
    require(len(event["content"]) <= 1000, "system.message: at most 1000 content blocks")


def _check_outcome(event: Event, state: InputState) -> None:
    _require_open(state)
    require(not state.pending, "the session waits on tool calls: answer or interrupt first")
    require(not state.outcome_open, "an outcome is in progress: one at a time")
    require(isinstance(event.get("description"), str) and event["description"], "description: required")
    rubric = event.get("rubric")
    if not isinstance(rubric, dict) or rubric.get("type") not in ("text", "file"):
        raise refuse("rubric: must be a text or file rubric")
    source = rubric.get("content" if rubric["type"] == "text" else "file_id")
    if not isinstance(source, str) or not source:
        raise refuse(f"rubric: the {rubric['type']} rubric is empty")
    require(len(source) <= MAX_RUBRIC_CHARS, f"rubric: at most {MAX_RUBRIC_CHARS} characters")
    bound = event.get("max_iterations")
    valid = bound is None or (type(bound) is int and 1 <= bound <= 20)
    require(valid, f"max_iterations: must be from 1 to 20, not {bound!r}")
    state.outcome_open = True


def _check_interrupt(event: Event, state: InputState) -> None:
    thread_id = event.get("session_thread_id")
    if thread_id is None or thread_id == state.thread_ids[0]:
        state.pending.clear()
        state.outcome_open = False
        return
    require(thread_id in state.thread_ids, f"session_thread_id: no such thread {thread_id!r}")
    for call_id in [call_id for call_id in state.pending if state.call_threads.get(call_id) == thread_id]:
        del state.pending[call_id]


def _check_answer(event: Event, state: InputState) -> None:
    awaited, id_field = ANSWERS[event["type"]]
    call_id = event.get(id_field)
    if not isinstance(call_id, str):
        raise refuse(f"{id_field}: required")
    require(event.get("session_thread_id") is None, "session_thread_id: set by the server, must not be sent")
    if call_id not in state.pending:
        known = call_id in state.known_calls
        raise refuse(
            f"{id_field}: {call_id!r} is {'not awaiting an answer' if known else 'no tool call of this session'}"
        )
    wanted = state.pending[call_id]
    require(wanted == awaited, f"{id_field}: {call_id!r} waits for a {wanted}, not for a {awaited}")
    if awaited != "confirmation":
        _check_content(event.get("content"), RESULT_BLOCKS, required=False)
        require(isinstance(event.get("is_error"), bool | None), "is_error: must be a boolean")
        del state.pending[call_id]
        return
    verdict = event.get("result")
    require(verdict in ("allow", "deny"), f"result: must be allow or deny, not {verdict!r}")
    require(verdict == "deny" or event.get("deny_message") is None, "deny_message: only with deny")
    if verdict == "allow" and call_id in state.worker_calls:
        state.pending[call_id] = "tool_result"
    else:
        del state.pending[call_id]


def _require_open(state: InputState) -> None:
    require(not state.over_budget, "the session is paused at its budget: raise or remove it first")


def _check_content(content: object, allowed: frozenset[str], *, required: bool) -> None:
    if content is None and not required:
        return
    if not isinstance(content, list) or (required and not content):
        raise refuse("content: must be a list of content blocks")
    for block in content:
        kind = str(block.get("type")) if isinstance(block, dict) else None
        require(kind in allowed, f"content: block type {kind!r} is not accepted here")
        require(kind != "text" or isinstance(block.get("text"), str), "content: a text block needs its text")


CHECKS = {
    "user.message": _check_message,
    "user.interrupt": _check_interrupt,
    "user.tool_confirmation": _check_answer,
    "user.custom_tool_result": _check_answer,
    "user.tool_result": _check_answer,
    "user.define_outcome": _check_outcome,
    "system.message": _check_system,
}
