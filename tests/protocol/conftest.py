"""A server of Claude Managed Agents sessions in a few lines: a log, streams that replay nothing, and an agent.

It decides nothing by itself: a test says when it moves. Everything in which real servers were seen to differ is a
trait, so that one law can be held against all of them.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from managed_agents_actors import InvalidRequestError, NotFoundError
from managed_agents_actors._model import Event

MAIN, SIDE = "sthr_main", "sthr_side"


@dataclass(frozen=True, kw_only=True)
class Traits:
    """In what a server differs from the next one."""

    echo: Literal["queued", "both", "processed"] = "both"  # when a stream shows an input
    status_first: bool = False  # the status comes before the message that it answers
    stays_running: bool = False  # a waiting tool never makes it idle
    mute: bool = False  # an idle says no stop reason
    empty_posts: bool = False  # a post is answered with nothing
    replays: bool = False  # a stream begins with the whole log
    idle_at_start: bool = False
    blocks_messages: bool = False  # a message is refused while a call waits
    takes_duplicates: bool = False  # a second result is accepted, and starts an empty cycle
    synthesises: bool = True  # an interrupt answers the calls it closes
    lists_idle_interrupts: bool = False
    empty_interrupt_ids: bool = False
    idless_idles: bool = False
    previews: bool = False


@dataclass
class Call:
    """An open call."""

    name: str
    thread: str | None = None
    kind: Literal["custom", "builtin"] = "custom"
    gated: bool = False


@dataclass
class ModelServer:
    """One session at the provider."""

    traits: Traits = field(default_factory=Traits)
    log: list[Event] = field(default_factory=list)
    streams: dict[int, list[Event]] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    inbox: list[Event] = field(default_factory=list)
    interrupts: list[Event] = field(default_factory=list)
    phase: Literal["idle", "working", "waiting", "terminated", "deleted"] = "idle"
    paused: tuple[str, ...] | None = None  # the calls that the standing idle names
    label: str = ""  # the input that the model works on
    said: dict[str, list[str]] = field(default_factory=dict)
    texts: Counter[str] = field(default_factory=Counter)  # accepted messages, by text
    results: Counter[str] = field(default_factory=Counter)  # accepted results, by call
    turns: int = 0
    ids: int = 0

    def __post_init__(self) -> None:
        if self.traits.idle_at_start:
            self.emit("session.status_idle")

    # --- what clients see ---------------------------------------------------------------------------------------------

    @property
    def status(self) -> str | None:
        if self.phase == "deleted":
            return None
        if self.phase == "waiting":
            return "running" if self.paused is None else "idle"
        return "running" if self.phase == "working" else self.phase

    def attach(self, generation: int) -> None:
        self.streams[generation] = [dict(event) for event in self.log] if self.traits.replays else []

    def listing(self) -> list[Event]:
        return [dict(event) for event in self.log]

    def now(self) -> str:
        minutes, seconds = divmod(self.ids, 60)
        return f"2026-11-22T{minutes // 60:02}:{minutes % 60:02}:{seconds:02}Z"

    def emit(self, kind: str, *, processed: bool = True, shown: bool = True, **fields: Any) -> Event:
        self.ids += 1
        event = {"type": kind, "id": f"e{self.ids}", "processed_at": self.now() if processed else None, **fields}
        if kind == "user.interrupt" and self.traits.empty_interrupt_ids:
            event["id"] = ""
        if kind == "session.status_idle" and self.traits.idless_idles:
            del event["id"]
        self.log.append(event)
        if shown:
            self._show(event)
        return event

    def _show(self, event: Event) -> None:
        for stream in self.streams.values():
            stream.append(dict(event))

    # --- what clients send --------------------------------------------------------------------------------------------

    def post(self, event: Event) -> list[Event]:
        """Take an input and give its echo, or raise the refusal."""
        if self.phase == "deleted":
            raise NotFoundError("no such session", status=404)
        if self.phase == "terminated":
            raise InvalidRequestError("the session is terminated", status=400)
        match event["type"]:
            case "user.message":
                row = self._take_message(event)
            case "user.custom_tool_result":
                row = self._take_result(event)
            case "user.tool_confirmation":
                row = self._take_confirmation(event)
            case _:
                row = self._take_interrupt(event)
        return [] if self.traits.empty_posts else [dict(row)]

    def _input(self, event: Event) -> Event:
        fields = {key: value for key, value in event.items() if key != "type"}
        return self.emit(event["type"], processed=False, shown=self.traits.echo != "processed", **fields)

    def _process(self, row: Event) -> None:
        self.ids += 1
        row["processed_at"] = self.now()
        if self.traits.echo != "queued":
            self._show(row)

    def _take_message(self, event: Event) -> Event:
        if self.calls and self.traits.blocks_messages:
            raise InvalidRequestError("the session waits for the result of a call", status=400)
        self.texts[event["content"][0]["text"]] += 1
        row = self._input(event)
        self.inbox.append(row)
        return row

    def _take_result(self, event: Event) -> Event:
        call_id = event["custom_tool_use_id"]
        if self.calls.pop(call_id, None) is None and not (self.traits.takes_duplicates and self.results[call_id]):
            raise InvalidRequestError(f"{call_id} is not waiting", status=400)
        self.results[call_id] += 1
        row = self._input(event)
        self._process(row)
        if self.results[call_id] > 1 and self.phase == "idle":
            self._run()
            self._idle("end_turn")
        return row

    def _take_confirmation(self, event: Event) -> Event:
        call = self.calls.get(event["tool_use_id"])
        if call is None or not call.gated:
            raise InvalidRequestError("nothing to confirm", status=400)
        row = self._input(event)
        self._process(row)
        del self.calls[event["tool_use_id"]]
        denied = event["result"] != "allow"
        self.emit("agent.tool_result", tool_use_id=event["tool_use_id"], content=[], is_error=denied)
        return row

    def _take_interrupt(self, event: Event) -> Event:
        if self.phase in ("working", "waiting"):
            row = self._input(event)
            self.interrupts.append(row)
            return row
        if self.traits.lists_idle_interrupts:
            return self.emit(event["type"])
        return {**event, "id": "unlisted", "processed_at": self.now()}

    # --- what the agent does ------------------------------------------------------------------------------------------

    def moves(self) -> list[str]:
        """What can happen next, the likeliest first."""
        if self.phase in ("terminated", "deleted"):
            return []
        if self.phase == "idle":
            return ["begin"] if self.inbox else []
        moves = []
        if self.phase == "working":
            moves += ["say", "call", "call_side", "call_gated", "retry"]
            moves += ["wait"] if self.calls else ["end", "exhaust"]
            moves += ["steer"] if self.inbox else []
        elif not self.calls:
            moves.append("resume")
        elif not self.traits.stays_running and self.paused != tuple(self.calls):
            moves.append("pause")
        if self.interrupts:
            moves.append("interrupt")
        if any(call.thread == SIDE for call in self.calls.values()):
            moves.append("end_side")
        return moves

    def move(self, name: str) -> None:
        match name:
            case "begin":
                self._begin()
            case "steer":
                self._take_inbox(len(self.inbox))
            case "say":
                self._say()
            case "call":
                self.call("lookup", count=2)
            case "call_side":
                self.call("lookup", thread=SIDE)
            case "call_gated":
                self.call("bash", kind="builtin", gated=True)
            case "retry":
                self.emit("session.error", error={"type": "overloaded", "retry_status": {"type": "retrying"}})
                self.emit("session.status_rescheduled")
                self.emit("session.status_running")
            case "wait":
                self._end_request()
                self.phase = "waiting"
            case "pause":
                self.paused = tuple(self.calls)
                self._idle("requires_action", event_ids=list(self.calls))
            case "resume":
                self._resume()
            case "interrupt":
                self._apply_interrupts()
            case "end_side":
                self._close_calls([i for i, call in self.calls.items() if call.thread == SIDE])
                self.emit("session.thread_status_terminated", session_thread_id=SIDE)
            case "exhaust":
                error = {"type": "overloaded", "message": "busy", "retry_status": {"type": "exhausted"}}
                self.emit("session.error", error=error)
                self._end_turn("retries_exhausted")
            case _:
                self._end_turn("end_turn")

    def call(self, name: str, *, count: int = 1, thread: str | None = None, **traits: Any) -> None:
        """Have the agent call a tool."""
        for _ in range(count):
            call = Call(name, thread, **traits)
            kind = "agent.custom_tool_use" if call.kind == "custom" else "agent.tool_use"
            gate = "ask" if call.gated else None
            row = self.emit(kind, name=name, input={}, session_thread_id=thread, evaluated_permission=gate)
            self.calls[row["id"]] = call

    def end(self, how: Literal["terminated", "deleted"]) -> None:
        """End the session for good."""
        self.phase, self.calls, self.inbox, self.interrupts = how, {}, [], []
        if how == "terminated":
            self.emit("session.status_terminated")
        else:
            self.log.clear()
            self._show({"type": "session.deleted", "id": "gone", "processed_at": self.now()})

    def _run(self) -> None:
        self.emit("session.status_running")
        self.emit("session.thread_status_running", session_thread_id=MAIN)

    def _begin(self) -> None:
        self.phase = "working"
        self.turns += 1
        if self.traits.status_first:
            self._run()
            self._take_inbox(1)
        else:
            self._take_inbox(1)
            self._run()
        self.emit("span.model_request_start")

    def _take_inbox(self, count: int) -> None:
        taken, self.inbox = self.inbox[:count], self.inbox[count:]
        for row in taken:
            self.label = row["content"][0]["text"]
            self._process(row)

    def _say(self) -> None:
        texts = self.said.setdefault(self.label, [])
        text = f"[{self.label}#{len(texts)}]"
        texts.append(text)
        if self.traits.previews:
            event_id = f"e{self.ids + 1}"
            self._show({"type": "event_start", "event": {"id": event_id, "type": "agent.message"}})
            for piece in (text[:3], text[3:5]):
                delta = {"type": "content_delta", "index": 0, "content": {"type": "text", "text": piece}}
                self._show({"type": "event_delta", "event_id": event_id, "delta": delta})
        self.emit("agent.message", content=[{"type": "text", "text": text}])

    def _resume(self) -> None:
        if self.paused is not None:
            self._run()
        self.paused, self.phase = None, "working"
        self.emit("span.model_request_start")

    def _end_request(self) -> None:
        self.emit("span.model_request_end", model_usage={"input_tokens": 2, "output_tokens": 1})

    def _end_turn(self, reason: str) -> None:
        if self.phase == "working":
            self._end_request()
        self.phase, self.paused = "idle", None
        self.emit("session.thread_status_idle", session_thread_id=MAIN, stop_reason={"type": reason})
        self._idle(reason)
        for row in self.interrupts:  # they came too late to cut anything short
            self._process(row)
        self.interrupts = []

    def _idle(self, reason: str, **fields: Any) -> None:
        given: dict[str, Any] = {} if self.traits.mute else {"stop_reason": {"type": reason, **fields}}
        self.emit("session.status_idle", **given)

    def _apply_interrupts(self) -> None:
        rows, self.interrupts = self.interrupts, []
        for row in rows:
            self._process(row)
        self._close_calls(list(self.calls))
        self._end_turn("end_turn")

    def _close_calls(self, call_ids: list[str]) -> None:
        for call_id in call_ids:
            call = self.calls.pop(call_id)
            if not self.traits.synthesises:
                continue
            if call.kind == "custom":
                self.emit("user.custom_tool_result", custom_tool_use_id=call_id, content=[], is_error=True)
            else:
                self.emit("agent.tool_result", tool_use_id=call_id, content=[], is_error=True)


@pytest.fixture
def new_server() -> type[ModelServer]:
    """The server, to be made with the traits a test wants."""
    return ModelServer


@pytest.fixture
def traits() -> type[Traits]:
    """In what the server can differ from the next one."""
    return Traits
