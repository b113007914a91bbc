"""The agent's side of a turn: each step becomes the events of a model request, in the order the hosted API sends them.

A turn that was interrupted is over: its task is cancelled, and no step of it writes to the log any more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import trio

from ._script import Call, ToolAnswer

if TYPE_CHECKING:
    from ._claude_session import SessionEngine

__all__ = ["SessionTurn"]

Event: TypeAlias = dict[str, Any]


class SessionTurn:
    """The turn an agent plays; see :class:`~managed_agents_actors.testing.Turn` for what each step means.

    Attributes:
        scope: Cancelled when the turn is over before its agent is.
        stop_reason: How the turn will end.
        stop_details: Details of a refusal.
        terminated: Whether the turn ends the session.
    """

    def __init__(self, session: SessionEngine, *, number: int, inputs: tuple[Event, ...]) -> None:
        self.number = number
        self.session_id = session.id
        self.inputs: tuple[Mapping[str, Any], ...] = inputs
        self.text = _text_of(inputs[0])
        self.scope = trio.CancelScope()
        self.stop_reason: Event = {"type": "end_turn"}
        self.stop_details: Event | None = None
        self.terminated = False
        self._session = session
        self._log = session.log
        self._usage = dict(session.options.usage)
        self._request_id: str | None = None
        self._has_message = False

    async def say(self, text: str, *, chunks: Sequence[str] | None = None, pace: float = 0.0) -> None:
        """An assistant message, previewed to the streams that asked for it."""
        await trio.lowlevel.checkpoint()
        self._open_request(for_message=True)
        event_id = self._log.new_event_id()
        watching = [feed for feed in self._log.feeds() if "agent.message" in feed.previews]
        if watching or pace:
            start = {"type": "event_start", "event": {"type": "agent.message", "id": event_id}}
            self._log.broadcast(start, watching)
            for chunk in re.findall(r"\S+\s*|\s+", text) if chunks is None else chunks:
                content = {"type": "content_delta", "index": 0, "content": {"type": "text", "text": chunk}}
                self._log.broadcast({"type": "event_delta", "event_id": event_id, "delta": content}, watching)
                if pace:
                    await trio.sleep(pace)
        self._has_message = True
        content_blocks = [{"type": "text", "text": text}]
        self._log.append({"id": event_id, "type": "agent.message", "content": content_blocks})

    async def think(self) -> None:
        """A thinking progress event."""
        await trio.lowlevel.checkpoint()
        self._open_request(for_message=True)
        event_id = self._log.new_event_id()
        watching = [feed for feed in self._log.feeds() if "agent.thinking" in feed.previews]
        self._log.broadcast({"type": "event_start", "event": {"type": "agent.thinking", "id": event_id}}, watching)
        self._log.append({"id": event_id, "type": "agent.thinking"})

    async def call_tools(self, *calls: Call | tuple[str, Mapping[str, Any]]) -> list[ToolAnswer]:
        """Call tools in one model response and wait until all are answered."""
        await trio.lowlevel.checkpoint()
        made = [call if isinstance(call, Call) else Call(name=call[0], input=call[1]) for call in calls]
        if not made:
            return []
        self._open_request()
        batch, answers = self._session.open_calls(made)
        self.close_request()
        for answer in answers:
            self._log.append(answer)
        self._session.await_answers()
        await batch.over.wait()
        return batch.answers()

    async def fail(self, error_type: str, retry_status: str = "exhausted", message: str = "simulated") -> None:
        """A session error; anything but ``"retrying"`` ends the turn here."""
        await trio.lowlevel.checkpoint()
        self.close_request(is_error=True)
        error = {"type": error_type, "message": message, "retry_status": {"type": retry_status}}
        self._log.append({"type": "session.error", "error": error})
        if retry_status == "retrying":
            return
        self.terminated = retry_status == "terminal"
        self.stop_reason = {"type": "retries_exhausted"}
        await self._stop()

    async def wait(self, seconds: float) -> None:
        """Let time pass."""
        await trio.sleep(seconds)

    async def grade(self, result: str = "satisfied", explanation: str = "") -> None:
        """One outcome evaluation."""
        await trio.lowlevel.checkpoint()
        self.close_request()
        self._session.outcomes.evaluate(result, explanation)

    async def end(self, reason: str | Mapping[str, Any] = "end_turn") -> None:
        """End the turn here with this stop reason."""
        await trio.lowlevel.checkpoint()
        self.stop_reason = {"type": reason} if isinstance(reason, str) else dict(reason)
        if self.stop_reason["type"] == "refusal":
            self.stop_details = {"type": "refusal", "category": None, "explanation": None}
        await self._stop()

    async def write_output(self, name: str, content: bytes, *, mime_type: str = "text/plain") -> None:
        """A file below ``/mnt/session/outputs``."""
        await trio.lowlevel.checkpoint()
        self._session.options.disk.write_output(name, content, mime_type)

    async def read_file(self, path: str) -> bytes:
        """What is mounted at a path."""
        await trio.lowlevel.checkpoint()
        return self._session.options.disk.read(path)

    async def emit(self, event: Mapping[str, Any]) -> None:
        """Any event, as given."""
        await trio.lowlevel.checkpoint()
        self._log.emit(event)

    async def spend(self, **usage: int) -> None:
        """Set what each model request from here on reports as its usage."""
        await trio.lowlevel.checkpoint()
        self._usage |= usage

    def close_request(self, *, is_error: bool = False) -> None:
        """End the model request in progress, if there is one."""
        if self._request_id is None:
            return
        span = {"model_request_start_id": self._request_id, "is_error": is_error, "model_usage": dict(self._usage)}
        self._request_id = None
        self._log.append({"type": "span.model_request_end", **span})
        self._log.usage.add(self._usage)

    def abandon(self) -> None:
        """The turn was interrupted: stop its task; nothing of it is logged from here on."""
        self.close_request(is_error=True)
        self.scope.cancel()

    def crash(self) -> None:
        """The agent function failed: tell the client, and end the session."""
        self.close_request(is_error=True)
        error = {"type": "unknown_error", "message": "the simulated agent failed", "retry_status": {"type": "terminal"}}
        self._log.append({"type": "session.error", "error": error})
        self.terminated = True

    def _open_request(self, *, for_message: bool = False) -> None:
        # One assistant message per model request: what comes after it is a request of its own, tool calls excepted.
        if for_message and self._has_message:
            self.close_request()
        if self._request_id is None:
            self._request_id = self._log.append({"type": "span.model_request_start"})["id"]
            self._has_message = False

    async def _stop(self) -> NoReturn:
        self.scope.cancel()
        await trio.sleep_forever()


def _text_of(event: Mapping[str, Any]) -> str:
    if event["type"] == "user.define_outcome":
        return str(event["description"])
    return "".join(block["text"] for block in event["content"] if block["type"] == "text")
