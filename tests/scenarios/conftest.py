"""A scripted wire that reads like a scenario, and the check that holds for every one of them.

A `Script` says what each stream connection sends, what each listing returns and what becomes of each POST; `play` runs
one request against it, in every way a request can be run. Nothing here knows how the library works.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import RecordedRequest, WireServer, open_wire_server, sse_frame

from ..channels import drained
from ._script import (
    CREATE,
    DROP,
    EOF,
    HANG,
    HB,
    LOST,
    MUTE,
    NOW,
    OK,
    SESSION,
    Event,
    Fleet,
    Missed,
    Pause,
    Posts,
    Script,
    Status,
    Until,
)

Mode: TypeAlias = Literal["run", "start", "ask"]

STREAM = f"{CREATE}/{SESSION}/events/stream"
EVENTS = f"{CREATE}/{SESSION}/events"
LOOK = f"{CREATE}/{SESSION}"

# What the library itself puts between the events, for the text they add; never one of the provider's.
TEXT_DELTA = "managed_agents.text_delta"

# No scenario lasts longer, in virtual seconds: one that hangs fails here instead of running for ever.
PATIENCE = 1000.0

# Virtual seconds after which a served script is given up: a day, which no test of ours means to wait.
SERVED = 86_400.0


# --- what the tests see of it -----------------------------------------------------------------------------------------


class Recorder:
    """A handler that keeps what it was given, and when.

    Attributes:
        calls: `(name, input, context, at)` of every call, in order of their start.
        events: Every event of the provider's it was shown, in order.
        deltas: The text deltas it was shown between them.
        origins: Where each event came from.
        cancelled: The calls that were cancelled, with the time.
    """

    def __init__(self, tool: Callable[..., Awaitable[Any]] | None = None) -> None:
        self.calls: list[tuple[str, dict[str, Any], maa.ToolContext, float]] = []
        self.events: list[Event] = []
        self.deltas: list[str] = []
        self.origins: list[str] = []
        self.cancelled: list[tuple[str, float]] = []
        self._tool = tool

    @property
    def call_ids(self) -> list[str]:
        return [context.tool_use_id for _name, _input, context, _at in self.calls]

    @property
    def call_times(self) -> list[float]:
        return [at for *_rest, at in self.calls]

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> Any:
        self.calls.append((name, input, context, trio.current_time()))
        try:
            return await self._tool(name, input, context) if self._tool else "r"
        except trio.Cancelled:
            self.cancelled.append((context.tool_use_id, trio.current_time()))
            raise

    async def handle_event(self, event: Event, context: maa.EventContext) -> None:
        if event["type"] == TEXT_DELTA:
            self.deltas.append(event["text"])
            return
        self.events.append(event)
        self.origins.append(context.origin)


@dataclass
class Served:
    """A script that is being served."""

    server: WireServer
    script: Script | Fleet
    client: maa.ClaudeClient

    @property
    def options(self) -> dict[str, Any]:
        """What a new session of this server is opened with."""
        return {"client": self.client, "agent": "a", "environment": "e"}

    @property
    def resume(self) -> dict[str, Any]:
        """What the session of this server is resumed with."""
        return {"client": self.client, "session_id": SESSION}

    def requests(self, method: str, path: str) -> list[RecordedRequest]:
        return [r for r in self.server.requests if (r.method, r.path) == (method, path)]

    @property
    def streams(self) -> list[RecordedRequest]:
        return self.requests("GET", STREAM)

    @property
    def listings(self) -> list[RecordedRequest]:
        """The listings begun; their further pages are not counted."""
        return [r for r in self.requests("GET", EVENTS) if "page" not in r.query]

    @property
    def posts(self) -> list[RecordedRequest]:
        return self.requests("POST", EVENTS)

    @property
    def traffic(self) -> list[str]:
        """The wire log in short: create, stream, list, look, and the type of each input."""
        names = {("POST", CREATE): "create", ("GET", STREAM): "stream", ("GET", EVENTS): "list", ("GET", LOOK): "look"}
        return [names.get((r.method, r.path)) or r.body["events"][0]["type"] for r in self.server.requests]


@dataclass
class Played:
    """One request, over: what came of it and all that could be observed.

    Attributes:
        result: What its caller got; `None` if it raised.
        error: What it raised, if it did.
        took: Virtual seconds from the call to the result.
        notified: Everything the `notify=` channel was told.
        subscribed: Everything a subscriber was told; empty for a run.
        status: The live session's status after the request; `None` for a run.
    """

    mode: Mode
    served: Served
    handler: Any
    result: Any = None
    error: Exception | None = None
    began: float = 0.0
    took: float = 0.0
    notified: list[maa.SessionResult] = field(default_factory=list)
    subscribed: list[maa.SessionResult] = field(default_factory=list)
    status: maa.SessionStatus | None = None

    @property
    def script(self) -> Script:
        assert isinstance(self.served.script, Script)
        return self.served.script

    @property
    def results_posted(self) -> list[Event]:
        """The tool results on the wire, in order."""
        return [event for event in self.script.posts if event["type"] == "user.custom_tool_result"]

    @property
    def post_times(self) -> list[float]:
        """When each POST arrived, in seconds from the call."""
        return [round(at - self.began, 6) for at in self.script.post_times]

    @property
    def stream_times(self) -> list[float]:
        """When each stream was asked for, in seconds from the call."""
        return [round(r.at - self.began, 6) for r in self.served.streams]

    @property
    def call_times(self) -> list[float]:
        """When each call was started, in seconds from the call."""
        return [round(at - self.began, 6) for at in self.handler.call_times]

    def check(self, *, order: Sequence[Event] | None = None) -> None:
        """Check what holds for every scenario.

        Each event reached the handler exactly once and in order, the text deltas make up the text, and the request's
        end was notified exactly once.
        """
        if isinstance(self.handler, Recorder):
            expected = self.script.order if order is None else order
            assert [_name(e) for e in self.handler.events] == [_name(e) for e in expected]
            assert self.handler.events == list(expected)
            assert "".join(self.handler.deltas) == "".join(told.text for told in self.notified)
        assert len(self.notified) == 1, self.notified
        if self.error is None:
            assert self.notified == [self.result]
        if self.mode != "run":
            assert self.subscribed == self.notified


def _name(event: Event) -> str:
    return str(event.get("id", event["type"]))


def _gaps(times: Iterable[float]) -> list[float]:
    """The seconds from each to the next."""
    return [round(later - earlier, 6) for earlier, later in itertools.pairwise(times)]


# --- the words --------------------------------------------------------------------------------------------------------


class Wire:
    """The words of the notation. Events get an id of their own each, unless it is given or made with `noid`."""

    OK, HB, LOST, MUTE, DROP, EOF, HANG = OK, HB, LOST, MUTE, DROP, EOF, HANG
    Pause, Posts, Until, Missed, Status = Pause, Posts, Until, Missed, Status
    Script, Fleet, Recorder = Script, Fleet, Recorder
    SESSION, NOW = SESSION, NOW
    frame, drain, gaps = staticmethod(sse_frame), staticmethod(drained), staticmethod(_gaps)

    def __init__(self) -> None:
        self._ids = itertools.count(1)

    def event(self, kind: str, /, **fields: Any) -> Event:
        """Any event."""
        return {"id": f"e{next(self._ids)}", "type": kind, "processed_at": NOW, **fields}

    def noid(self, event: Event) -> Event:
        """The event without its id."""
        return {key: value for key, value in event.items() if key != "id"}

    def run(self) -> Event:
        return self.event("session.status_running")

    def resched(self) -> Event:
        return self.event("session.status_rescheduled")

    def term(self) -> Event:
        return self.event("session.status_terminated")

    def deleted(self) -> Event:
        return self.event("session.deleted")

    def idle(self, reason: str = "end_turn", *event_ids: str) -> Event:
        """`idle("end")`, `idle("req", "u1")`, or any stop reason by its name."""
        kind = {"end": "end_turn", "req": "requires_action"}.get(reason, reason)
        stop: Event = {"type": kind}
        if kind == "requires_action":
            stop["event_ids"] = list(event_ids)
        return self.event("session.status_idle", stop_reason=stop)

    def err(self, retry: str, kind: str = "model_request_failed_error", message: str = "model trouble") -> Event:
        error = {"type": kind, "message": message, "retry_status": {"type": retry}}
        return self.event("session.error", error=error)

    def msg(self, event_id: str, text: str) -> Event:
        return self.event("agent.message", id=event_id, content=[{"type": "text", "text": text}])

    def ctu(self, event_id: str, name: str = "t", input: Any = None, **fields: Any) -> Event:
        given = {} if input is None else input
        return self.event("agent.custom_tool_use", id=event_id, name=name, input=given, **fields)

    def builtin(self, event_id: str, name: str = "bash", permission: str = "allow", input: Any = None) -> Event:
        given = {} if input is None else input
        return self.event("agent.tool_use", id=event_id, name=name, input=given, evaluated_permission=permission)

    def builtin_result(self, call_id: str, text: str = "ok") -> Event:
        return self.event("agent.tool_result", tool_use_id=call_id, content=[{"type": "text", "text": text}])

    def res(self, call_id: str, text: str = "r", *, is_error: bool = False, **fields: Any) -> Event:
        content = [{"type": "text", "text": text}]
        kind = "user.custom_tool_result"
        return self.event(kind, custom_tool_use_id=call_id, content=content, is_error=is_error, **fields)

    def user(self, text: str = "go", **fields: Any) -> Event:
        return self.event("user.message", content=[{"type": "text", "text": text}], **fields)

    def use(self, spent_in: int, spent_out: int, cache_read: int = 0, cache_creation: int = 0) -> Event:
        usage = {
            "input_tokens": spent_in,
            "output_tokens": spent_out,
            "cache_read_input_tokens": cache_read,
            "cache_creation_input_tokens": cache_creation,
        }
        return self.event("span.model_request_end", model_request_start_id="x", is_error=False, model_usage=usage)

    def preview(self, event_id: str, *texts: str) -> list[Event]:
        """The beginning of a message's preview."""
        start = {"type": "event_start", "event": {"id": event_id, "type": "agent.message"}}
        return [start, *(self.delta(event_id, text) for text in texts)]

    def delta(self, event_id: str, text: str) -> Event:
        content = {"type": "text", "text": text}
        return {"type": "event_delta", "event_id": event_id, "delta": {"type": "text", "index": 0, "content": content}}


# --- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def w() -> Wire:
    """The words of the notation."""
    return Wire()


@asynccontextmanager
async def _serve(script: Script | Fleet, *, transport: Any = "memory", **client_options: Any) -> AsyncIterator[Served]:
    async with (
        open_wire_server(script, transport=transport) as server,
        server.client(**client_options) as client,
    ):
        with trio.fail_after(SERVED):
            yield Served(server, script, client)


@pytest.fixture
def serve() -> Callable[..., AbstractAsyncContextManager[Served]]:
    """`async with serve(script) as served`: a server that plays the script, and a client of it."""
    return _serve


@pytest.fixture(params=["run", "start", "ask"])
def mode(request: pytest.FixtureRequest) -> Mode:
    """How the request is run: `run_session`; `open_session(prompt=)`; or `open_session` and then `ask`."""
    chosen: Mode = request.param
    return chosen


@pytest.fixture
def play(mode: Mode) -> Callable[..., Awaitable[Played]]:
    """`await play(script)`: run the request "go" against it, in the way of `mode`, and check what always holds."""

    async def player(
        script: Script,
        *,
        handler: Any = None,
        prompt: Any = "go",
        check: bool = True,
        order: Sequence[Event] | None = None,
        client: Mapping[str, Any] | None = None,
        then: float = 0.0,
        **options: Any,
    ) -> Played:
        handler = Recorder() if handler is None else handler
        told, hears = trio.open_memory_channel[maa.SessionResult](100)
        async with _serve(script, **(client or {})) as served:
            played = Played(mode, served, handler, began=trio.current_time())
            given = {"handler": handler, "notify": told, **served.options, **options}
            with trio.fail_after(PATIENCE):
                try:
                    await _PLAYERS[mode](played, prompt, then, given)
                except maa.ManagedAgentsError as error:
                    played.error = error
            played.notified = drained(hears)
        if check:
            played.check(order=order)
        return played

    return player


async def _run(played: Played, prompt: Any, _then: float, options: dict[str, Any]) -> None:
    try:
        played.result = await maa.run_session(claude_managed_agents, prompt=prompt, **options)
    finally:
        played.took = round(trio.current_time() - played.began, 6)


async def _start(played: Played, prompt: Any, then: float, options: dict[str, Any]) -> None:
    async with (
        maa.open_session(claude_managed_agents, prompt=prompt, **options) as session,
        session.subscribe() as terminals,
    ):
        try:
            played.result = await terminals.receive()
        finally:
            played.took = round(trio.current_time() - played.began, 6)
        failure = played.result.error.exception if played.result.error else None
        await trio.sleep(then)
        played.subscribed = [played.result, *drained(terminals)]
        played.status = session.status()
        if failure is not None:
            raise failure


async def _ask(played: Played, prompt: Any, then: float, options: dict[str, Any]) -> None:
    async with maa.open_session(claude_managed_agents, **options) as session, session.subscribe() as terminals:
        try:
            played.result = await session.ask(prompt)
        finally:
            played.took = round(trio.current_time() - played.began, 6)
            await trio.sleep(then)
            played.subscribed = drained(terminals)
            played.status = session.status()


_PLAYERS: dict[str, Callable[..., Awaitable[None]]] = {"run": _run, "start": _start, "ask": _ask}
