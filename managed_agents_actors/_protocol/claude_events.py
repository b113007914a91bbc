"""What each event of Claude Managed Agents means: raw dictionary in, one fact out, never an exception.

A field that is missing or of the wrong shape is read as absent; an event whose meaning hangs on such a field is
``Unrecognised``, kept raw by the caller and reported once. Source: Claude Managed Agents, "Session event reference".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .._model import Event, OutcomeResult, ResultError, Terminal, ToolKind, ToolUse
from .facts import (
    ACTIVITY,
    MODEL_REQUESTED,
    NOTHING,
    RUNNING,
    Answered,
    Blocks,
    Called,
    Decided,
    Ended,
    Fact,
    Failed,
    Graded,
    Idled,
    Interrupted,
    PreviewText,
    Said,
    Spent,
    ThreadEnded,
    ThreadStarted,
    Unrecognised,
    UserSpoke,
)

# Anything else a session stops with, known or not, also ends the turn; it is then reported as "terminated".
_TERMINALS: dict[str, Terminal] = {
    "end_turn": "end_turn",
    "satisfied": "end_turn",
    "max_iterations_reached": "end_turn",
    "budget_reached": "end_turn",
    "refusal": "end_turn",
    "requires_action": "requires_action",
}


def classify(event: Event) -> Fact:
    """Give the meaning of one decoded event."""
    kind = event.get("type")
    reader = _READERS.get(kind) if isinstance(kind, str) else None
    if reader is None:
        return Unrecognised(kind if isinstance(kind, str) else "an event without a type")
    return reader(event)


def _text(event: Mapping[str, Any], key: str) -> str | None:
    value = event.get(key)
    return value if isinstance(value, str) and value else None


def _blocks(event: Event) -> Blocks:
    content = event.get("content")
    if isinstance(content, str):
        return ({"type": "text", "text": content},)
    return tuple([block for block in content if isinstance(block, dict)]) if isinstance(content, list) else ()


def _said(event: Event) -> Fact:
    content = event.get("content")
    if isinstance(content, list):
        texts = [block.get("text") for block in content if isinstance(block, dict) and block.get("type") == "text"]
        return Said(tuple([text for text in texts if isinstance(text, str) and text]))
    return Said((content,) if isinstance(content, str) and content else ())


def _called(kind: ToolKind) -> Callable[[Event], Fact]:
    def read(event: Event) -> Fact:
        call_id, name = _text(event, "id"), _text(event, "name")
        if call_id is None or name is None:
            return Unrecognised(f"{event['type']} without an id or a name")
        given = event.get("input")
        use = ToolUse(
            id=call_id,
            name=name,
            input=given if isinstance(given, dict) else {},
            kind=kind,
            permission=_text(event, "evaluated_permission"),
            thread_id=_text(event, "session_thread_id"),
            raw=event,
        )
        if isinstance(given, dict):
            return Called(use)
        return Called(use, problem=f"the input must be a JSON object, but a {type(given).__name__} arrived")

    return read


def _answered(id_key: str) -> Callable[[Event], Fact]:
    def read(event: Event) -> Fact:
        call_id = _text(event, id_key)
        if call_id is None:
            return Unrecognised(f"{event['type']} without {id_key}")
        return Answered(call_id, _blocks(event), event.get("is_error") is True)

    return read


def _decided(event: Event) -> Fact:
    call_id = _text(event, "tool_use_id")
    if call_id is None:
        return Unrecognised("user.tool_confirmation without tool_use_id")
    return Decided(call_id, _text(event, "result") or "deny")


def usage_of(event: Event) -> dict[str, Any] | None:
    """Give the tokens that an event says were spent, if it says so."""
    usage = event.get("model_usage", event.get("usage"))
    return usage if isinstance(usage, dict) else None


def _spent(event: Event) -> Fact:
    usage = usage_of(event)
    return ACTIVITY if usage is None else Spent(usage)


def _graded(event: Event) -> Fact:
    iteration, usage = event.get("iteration"), event.get("usage")
    outcome = OutcomeResult(
        result=_text(event, "result") or "unknown",
        explanation=_text(event, "explanation"),
        iteration=iteration if isinstance(iteration, int) else None,
    )
    return Graded(outcome, usage if isinstance(usage, dict) else None)


def _moment(event: Event) -> str | None:
    """The time an event was processed, so that text order is time order: UTC, without the Z after the fraction."""
    moment = _text(event, "processed_at")
    return moment[:-1] if moment is not None and moment.endswith("Z") else None


def _user_spoke(event: Event) -> Fact:
    return UserSpoke(_blocks(event), taken=event.get("processed_at") is not None, at=_moment(event))


def _defined_outcome(event: Event) -> Fact:
    # An outcome has no content of its own: its description stands in, so that an echo can be told from another's.
    described = {"type": "text", "text": _text(event, "description") or ""}
    return UserSpoke((described,), taken=event.get("processed_at") is not None, at=_moment(event))


def _interrupted(event: Event) -> Fact:
    return Interrupted(_text(event, "session_thread_id"), applied=event.get("processed_at") is not None)


def _stop(event: Event) -> tuple[str | None, tuple[str, ...]]:
    reason = event.get("stop_reason")
    if isinstance(reason, str):
        return reason, ()
    if not isinstance(reason, dict):
        return None, ()
    ids = reason.get("event_ids")
    named = tuple(i for i in ids if isinstance(i, str) and i) if isinstance(ids, list) else ()
    return _text(reason, "type"), named


def _idled(event: Event) -> Fact:
    kind, named = _stop(event)
    terminal = _TERMINALS.get(kind or "", "terminated")
    waiting_for = named if terminal == "requires_action" else None
    return Idled(terminal, event.get("stop_reason"), waiting_for, explained=kind is not None, at=_moment(event))


def _thread_idled(event: Event) -> Fact:
    thread_id = _text(event, "session_thread_id")
    kind, _ = _stop(event)
    return ThreadEnded(thread_id) if thread_id and kind not in (None, "requires_action") else NOTHING


def _thread(fact: type[ThreadStarted] | type[ThreadEnded]) -> Callable[[Event], Fact]:
    def read(event: Event) -> Fact:
        thread_id = _text(event, "session_thread_id")
        return fact(thread_id) if thread_id else NOTHING

    return read


def _failed(event: Event) -> Fact:
    error = event.get("error")
    if not isinstance(error, dict):
        shown = error if isinstance(error, str) else "no error object came with it"
        return Failed(ResultError(type="unknown_error", message=shown))
    status = error.get("retry_status")
    retry = _text(status, "type") if isinstance(status, dict) else _text(error, "retry_status")
    message = _text(error, "message") or "no message"
    kind = _text(error, "type") or "unknown_error"
    return Failed(ResultError(type=kind, message=message, retry_status=retry, raw=error))


def _preview_started(event: Event) -> Fact:
    begun = event.get("event")
    event_id = _text(begun, "id") if isinstance(begun, dict) else None
    return PreviewText(event_id, 0, "", starts=True) if event_id else Unrecognised("event_start of an unknown shape")


def _preview(event: Event) -> Fact:
    event_id, delta = _text(event, "event_id"), event.get("delta")
    content = delta.get("content") if isinstance(delta, dict) else None
    if event_id is None or not isinstance(delta, dict) or not isinstance(content, dict):
        return Unrecognised("event_delta of an unknown shape")
    index, text = delta.get("index"), _text(content, "text")
    return PreviewText(event_id, index if isinstance(index, int) else 0, text or "")


def _always(fact: Fact) -> Callable[[Event], Fact]:
    return lambda _event: fact


_READERS: dict[str, Callable[[Event], Fact]] = {
    "agent.custom_tool_use": _called("custom"),
    "agent.mcp_tool_result": _answered("mcp_tool_use_id"),
    "agent.mcp_tool_use": _called("mcp"),
    "agent.message": _said,
    "agent.thinking": _always(ACTIVITY),
    "agent.tool_result": _answered("tool_use_id"),
    "agent.tool_use": _called("builtin"),
    "event_delta": _preview,
    "event_start": _preview_started,
    "session.deleted": _always(Ended("deleted")),
    "session.error": _failed,
    "session.status_idle": _idled,
    "session.status_rescheduled": _always(RUNNING),
    "session.status_running": _always(RUNNING),
    "session.status_terminated": _always(Ended("terminated")),
    "session.thread_status_idle": _thread_idled,
    "session.thread_status_running": _thread(ThreadStarted),
    "session.thread_status_terminated": _thread(ThreadEnded),
    "span.model_request_end": _spent,
    "span.model_request_start": _always(MODEL_REQUESTED),
    "span.outcome_evaluation_end": _graded,
    "user.custom_tool_result": _answered("custom_tool_use_id"),
    "user.define_outcome": _defined_outcome,
    "user.interrupt": _interrupted,
    "user.message": _user_spoke,
    "user.tool_confirmation": _decided,
    "user.tool_result": _answered("tool_use_id"),
}
_READERS.update(
    dict.fromkeys(
        (
            "agent.thread_context_compacted",
            "agent.thread_message_received",
            "agent.thread_message_sent",
            "session.thread_created",
            "session.thread_status_rescheduled",
            "session.updated",
            "session.usage",
            "span.outcome_evaluation_ongoing",
            "span.outcome_evaluation_start",
            "system.message",
            "workflow_run.created",
            "workflow_run.error",
            "workflow_run.phase_ended",
            "workflow_run.phase_started",
            "workflow_run.status_ended",
            "workflow_run.status_idle",
            "workflow_run.status_running",
        ),
        _always(NOTHING),
    )
)

KNOWN_TYPES = frozenset(_READERS)
