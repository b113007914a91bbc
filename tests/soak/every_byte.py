"""A recorded turn, served again and again with its stream or its listing cut at a chosen byte.

The server has got on by itself meanwhile: what the cut stream did not carry is in the listing, and the next stream
carries what comes then. It waits for a result wherever the recording shows one. Whatever is cut, what comes of the
request must be what comes of it uncut.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    Request,
    Responder,
    call_tool,
    open_claude_simulator,
    open_wire_server,
    say,
    sse_frame,
)

from .harness_every_byte import harness_cuts, harness_differences, recorded
from .processes import spread

Event: TypeAlias = dict[str, Any]
How: TypeAlias = Literal["reset", "end"]
T = TypeVar("T")

CAPTURES = Path(__file__).parent.parent / "captures"
SESSION = "/v1/sessions/sesn_1"

# Virtual seconds; a turn takes less than ten.
PATIENCE = 1000.0
RECONNECT = maa.ReconnectPolicy(initial=0.1, jitter=0.0)


@dataclass(frozen=True)
class Recording:
    """A turn as a server sent it.

    Attributes:
        frames: The bytes of the stream, frame by frame.
        rows: What each frame's event looks like in a listing; `None` for what is never listed.
    """

    frames: tuple[bytes, ...]
    rows: tuple[Event | None, ...]

    @cached_property
    def events(self) -> tuple[Event, ...]:
        return tuple(map(_event, self.frames))

    @cached_property
    def answers(self) -> tuple[Event, ...]:
        """The results that were posted, in order."""
        return tuple(event for event in self.events if event["type"] == "user.custom_tool_result")

    @property
    def size(self) -> int:
        """The bytes of the whole stream."""
        return sum(map(len, self.frames))

    @cached_property
    def message(self) -> Event:
        """The message that began it."""
        return next(event for event in self.events if event["type"] == "user.message")


def _event(frame: bytes) -> Event:
    event: Event = json.loads(frame.partition(b"data: ")[2])
    return event


def captured(name: str) -> Recording:
    """What an independent server sent."""
    data = (CAPTURES / f"{name}.sse").read_bytes()
    rows = {row["id"]: row for row in json.loads((CAPTURES / f"{name}.list.json").read_text())}
    frames = tuple(frame + b"\n\n" for frame in data.split(b"\n\n") if frame)
    return Recording(frames, tuple(rows.get(_event(frame).get("id")) for frame in frames))


def simulated() -> Recording:
    """A turn of the simulator's: two tools one after the other, and every text previewed."""
    return trio.run(_record, clock=MockClock(autojump_threshold=0))


async def _record() -> Recording:
    steps = [
        say("First\n\n日本."),
        call_tool("look", {"at": "é"}),
        say("then"),
        call_tool("add", {"n": 2}),
        say("Done 🙂."),
    ]
    async with (
        open_claude_simulator(steps, transport="memory") as simulator,
        simulator.client() as client,
    ):
        new = {"agent": simulator.agent_id, "environment_id": simulator.environment_id}
        session_id = (await client.sessions.create(new))["id"]
        events: list[Event] = []
        async with client.sessions.events.stream(session_id, deltas=True) as stream:
            await client.sessions.events.send(session_id, [_message("Go.")])
            while not events or events[-1].get("stop_reason", {}).get("type") != "end_turn":
                for event in await stream.receive_batch():
                    events.append(event)
                    if event["type"] == "agent.custom_tool_use":
                        await client.sessions.events.send(session_id, [_result(event)])
        rows = {row["id"]: row for row in simulator.session(session_id).events}
    return Recording(tuple(map(sse_frame, events)), tuple(rows.get(event.get("id")) for event in events))


def _message(text: str) -> Event:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def _result(call: Event) -> Event:
    content = [{"type": "text", "text": f"what {call['name']} gave"}]
    return {"type": "user.custom_tool_result", "custom_tool_use_id": call["id"], "content": content}


@dataclass(frozen=True)
class Cut:
    """Where something is cut: after so many bytes of the first stream, or of the first listing's body.

    Attributes:
        stream: `None` lets the first stream live.
        listing: Cuts the answer to the first listing; `None` leaves it whole.
        how: A reset, or a clean end, of the stream.
    """

    stream: int | None = None
    listing: int | None = None
    how: How = "reset"


class Server:
    """Serves one recording to one client.

    Attributes:
        streams: How many streams were asked for.
        listings: How many listings.
        listing_size: How long the first listing's body was, if there was one.
    """

    def __init__(self, recording: Recording, cut: Cut) -> None:
        self._recording = recording
        self._cut = cut
        self.streams = 0
        self.listings = 0
        self._answers = 0
        self._reached = 0
        self._moved = trio.Event()
        self.listing_size: int | None = None

    async def __call__(self, request: Request, respond: Responder) -> None:
        match request.method, request.path.removeprefix(SESSION):
            case "POST", "/v1/sessions":
                await respond.json(200, {"id": "sesn_1", "type": "session", "status": "idle"})
            case "GET", "/events/stream":
                await self._stream(respond)
            case "GET", "/events":
                await self._list(respond)
            case "POST", "/events":
                (event,) = request.json()["events"]
                await respond.json(200, {"data": [self._take(event)]})
            case _:
                raise AssertionError(f"nobody should ask for {request.method} {request.path}")

    def _take(self, event: Event) -> Event:
        """Take what was posted, which must be what was posted then, and give it as it was recorded."""
        if event["type"] == "user.message":
            recorded = self._recording.message
            assert self._reached == 0, "the message came twice"
        else:
            recorded = self._recording.answers[self._answers]
            self._answers += 1
        for name in ("type", "content", "custom_tool_use_id"):
            assert event.get(name) == recorded.get(name), f"{event} came where {recorded} was recorded"
        self._get_on()
        return recorded

    def _get_on(self) -> None:
        """Get on to the next result that is still to be posted, or to the end."""
        events, posted = self._recording.events, 0
        for place, event in enumerate(events):
            posted += event["type"] == "user.custom_tool_result"
            if posted > self._answers:
                self._reached = place
                break
        else:
            self._reached = len(events)
        self._moved.set()
        self._moved = trio.Event()

    async def _stream(self, respond: Responder) -> None:
        self.streams += 1
        cut = self._cut.stream if self.streams == 1 else None
        place = self._reached
        stream = await respond.start_stream({"content-type": "text/event-stream"})
        while cut is None or cut > 0:
            if place == self._reached:
                await self._moved.wait()
                continue
            data = b"".join(self._recording.frames[place : self._reached])
            place = self._reached
            await stream.send(data[:cut])
            cut = None if cut is None else max(0, cut - len(data))
        await (stream.end() if self._cut.how == "end" else stream.reset())

    async def _list(self, respond: Responder) -> None:
        self.listings += 1
        rows = [row for row in self._recording.rows[: self._reached] if row is not None]
        body = json.dumps({"data": rows, "next_page": None}).encode()
        cut = self._cut.listing if self.listings == 1 else None
        if self.listings == 1:
            self.listing_size = len(body)
        stream = await respond.start_stream({"content-type": "application/json"})
        if cut is None:
            await stream.send(body)
            await stream.end()
        else:
            await stream.send(body[:cut])
            await stream.reset()


@dataclass(frozen=True)
class Outcome:
    """What came of the request: its result, the calls that were run, and what the handler was shown.

    The one thing left out is when the server processed an event: a stream may show it before, a listing after.
    """

    result: maa.SessionResult
    calls: tuple[str, ...]
    shown: tuple[Event, ...]
    deltas: str


class _Handler:
    """Gives the recorded answers, in the recorded order."""

    def __init__(self, recording: Recording) -> None:
        self._answers = {event["custom_tool_use_id"]: event for event in recording.answers}
        self.calls: list[str] = []
        self.shown: list[Event] = []
        self.deltas: list[str] = []

    async def handle_tool_call(self, name: str, input: Event, context: maa.ToolContext) -> maa.ToolOutput:
        self.calls.append(context.tool_use_id)
        await trio.sleep(1 + [*self._answers].index(context.tool_use_id))
        return maa.ToolOutput(content=self._answers[context.tool_use_id]["content"])

    async def handle_event(self, event: Event, context: maa.EventContext) -> None:
        if event["type"] == "managed_agents.text_delta":
            self.deltas.append(event["text"])
        else:
            self.shown.append(event)


def play(recording: Recording, cut: Cut) -> tuple[Outcome, Server]:
    """Run the recorded request against a server that makes the cut."""
    return trio.run(_play, recording, cut, clock=MockClock(autojump_threshold=0))


async def _play(recording: Recording, cut: Cut) -> tuple[Outcome, Server]:
    server, handler = Server(recording, cut), _Handler(recording)
    async with open_wire_server(server) as wire, wire.client() as client:
        with trio.fail_after(PATIENCE):
            result = await maa.run_session(
                claude_managed_agents,
                handler=handler,
                prompt=recording.message["content"],
                client=client,
                agent="a",
                environment="e",
                deltas=any(event["type"] == "event_delta" for event in recording.events),
                reconnect=RECONNECT,
                timeout=None,
            )
    outcome = Outcome(
        replace(result, events=_timeless(result.events)),
        tuple(sorted(handler.calls)),
        _timeless(handler.shown),
        "".join(handler.deltas),
    )
    return outcome, server


def _timeless(events: Iterable[Event]) -> tuple[Event, ...]:
    return tuple({**event, "processed_at": None} for event in events)


def stream_cuts(recording: Recording, how: How) -> list[Cut]:
    """A cut at every byte of the stream."""
    return [Cut(stream=place, how=how) for place in range(recording.size + 1)]


def listing_cuts(recording: Recording) -> list[Cut]:
    """With the stream cut in its middle, a cut at every byte of the listing that follows."""
    middle = recording.size // 2
    _, server = play(recording, Cut(stream=middle))
    assert server.listing_size is not None, "a stream that was cut is followed by a listing"
    return [Cut(stream=middle, listing=place) for place in range(server.listing_size)]


def differences(recording: Recording, cuts: Iterable[Cut]) -> list[str]:
    """The cuts that change what comes of the recorded request."""
    wanted, _ = play(recording, Cut())
    found = []
    for cut in cuts:
        try:
            outcome, _ = play(recording, cut)
        except Exception as error:  # noqa: BLE001 -- whatever comes out, this cut is to blame
            found.append(f"{cut}: {error!r}")
            continue
        parts = [each.name for each in fields(Outcome) if getattr(outcome, each.name) != getattr(wanted, each.name)]
        if parts:
            found.append(f"{cut} changes {', '.join(parts)}")
    return found


RECORDINGS: dict[str, Callable[[], Recording]] = {
    "captured": lambda: captured("T4-parallel"),
    "simulated": simulated,
}
CUTS: dict[str, Callable[[Recording], list[Cut]]] = {
    "reset": lambda recording: stream_cuts(recording, "reset"),
    "end": lambda recording: stream_cuts(recording, "end"),
    "listing": listing_cuts,
}
# A harness keeps no listing.
HARNESS_VARIANTS = ("harness-reset", "harness-end")
VARIANTS = (*(f"{recording}-{cuts}" for recording in RECORDINGS for cuts in CUTS), *HARNESS_VARIANTS)

# Cuts that a process is given at once: some seconds' work.
BATCH = 100


def variant(name: str) -> tuple[Recording, list[Cut]]:
    """A recording, and every cut of the kind."""
    which, _, kind = name.partition("-")
    recording = RECORDINGS[which]()
    return recording, CUTS[kind](recording)


def try_every_byte(name: str, part: slice, *, jobs: int) -> tuple[int, list[str]]:
    """Make every cut of a part of a variant; give how many there are, and those that change something."""
    if name in HARNESS_VARIANTS:
        turn = recorded()
        return _try_cuts(partial(harness_differences, turn), harness_cuts(turn, name.partition("-")[2])[part], jobs)
    recording, cuts = variant(name)
    return _try_cuts(partial(differences, recording), cuts[part], jobs)


def _try_cuts(work: Callable[[list[T]], list[str]], cuts: list[T], jobs: int) -> tuple[int, list[str]]:
    batches = [cuts[start : start + BATCH] for start in range(0, len(cuts), BATCH)]
    return len(cuts), [line for found in spread(work, batches, jobs=jobs) for line in found]
