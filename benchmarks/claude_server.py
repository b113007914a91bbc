"""A server for the benchmarks: as much of the Claude events API as a session needs, and as little work as possible.

It is a process of its own, with its answers made beforehand wherever they can be, so that what is measured is its
client. What an agent does is a script. Whoever measures asks it at ``/control`` what it has seen, and tells it at
``/control/…`` what to do to its sessions.
"""

from __future__ import annotations

import argparse
import asyncio
import bisect
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from http_server import HttpConnection, chunk, serve

MOST_LISTED: Final = 1000  # events on a page, whatever is asked for
BURST_WRITE: Final = 65536  # bytes written at once of a burst, unless each event is written by itself
FIRST_OF_BURST: Final = 500_000_000  # number of a burst's first event: it is later than the message that it follows

STREAM_HEAD: Final = b"\r\n".join(
    (
        b"HTTP/1.1 200 OK",
        b"content-type: text/event-stream",
        b"cache-control: no-cache",
        b"transfer-encoding: chunked",
        b"\r\n",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What every session's agent does once it has been given a message.

    Attributes:
        rounds: How often it calls tools.
        messages: How many messages it says before each round's calls.
        calls: How many calls a round has.
        hold: Whether the first round waits until all sessions are told to go.
        burst: How many messages it says instead of all this; they are in its streams, not in its history.
        size: Bytes of a message's event, about.
        per_write: Whether each event of a burst is a chunk that is written by itself.
    """

    rounds: int = 0
    messages: int = 0
    calls: int = 1
    hold: bool = False
    burst: int = 0
    size: int = 300
    per_write: bool = False


def stamp(number: int) -> str:
    """Give the time of the event with this number: all differ, and later ones are later."""
    seconds, millionths = divmod(number, 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    return f"2026-01-01T{minutes // 60:02}:{minutes % 60:02}:{seconds:02}.{millionths:06}Z"


def encode(number: int, members: dict[str, Any]) -> bytes:
    """Give the event with this number."""
    event = {"id": f"sevt_{number:09}", **members, "processed_at": stamp(number)}
    return json.dumps(event, separators=(",", ":")).encode()


def message(number: int, size: int) -> bytes:
    """Give a message of the agent of about so many bytes."""
    text = "x" * max(1, size - 150)
    return encode(number, {"type": "agent.message", "content": [{"type": "text", "text": text}]})


def frame(event: bytes) -> bytes:
    """Give an event as the stream carries it."""
    return b"event: message\ndata: %b\n\n" % event


def frames_of_burst(script: Script) -> list[bytes]:
    """Give what a burst writes: its messages, and the idle that ends their turn."""
    last = FIRST_OF_BURST + script.burst
    events = [message(number, script.size) for number in range(FIRST_OF_BURST, last)]
    end = {"type": "session.status_idle", "stop_reason": {"type": "end_turn"}}
    frames = [*map(frame, events), frame(encode(last, end))]
    if script.per_write:
        return [chunk(each) for each in frames]
    body = b"".join(frames)
    return [chunk(body[at : at + BURST_WRITE]) for at in range(0, len(body), BURST_WRITE)]


class Session:
    """One session: what has happened in it, and who is attached to it."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._round = 0
        self._pending: dict[str, float] = {}
        self._events: list[bytes] = []
        self._numbers: list[int] = []
        self.streams: set[Connection] = set()
        self.is_held = False

    def add(self, members: dict[str, Any]) -> bytes:
        """Put an event into the history and give its bytes."""
        number = self._server.next_number()
        return self._keep(number, encode(number, members))

    def say(self) -> bytes:
        """Put a message of the agent into the history and give its bytes."""
        number = self._server.next_number()
        return self._keep(number, message(number, self._server.script.size))

    def _keep(self, number: int, data: bytes) -> bytes:
        self._events.append(data)
        self._numbers.append(number)
        return data

    def tell(self, events: Sequence[bytes]) -> None:
        """Send events to everybody who is attached."""
        data = chunk(b"".join(map(frame, events)))
        for stream in self.streams:
            stream.transport.write(data)

    def take(self, event: dict[str, Any]) -> bytes:
        """Take an input in, and what follows from it; give its echo."""
        echo = self.add(event)
        told = [echo]
        if event["type"] == "user.message":
            told.append(self.add({"type": "session.status_running"}))
            told += self._begin()
        elif event["type"] == "user.custom_tool_result":
            told += self._go_on(event["custom_tool_use_id"])
        self.tell(told)
        if self._server.burst and event["type"] == "user.message":
            for stream in self.streams:
                stream.begin(self._server.burst)
        return echo

    def _begin(self) -> list[bytes]:
        self._round = 0
        self.is_held = self._server.script.hold
        return [] if self.is_held or self._server.burst else self._next_round()

    def go(self) -> None:
        """Begin with what was held up."""
        self.is_held = False
        self.tell(self._next_round())

    def _go_on(self, call_id: str) -> list[bytes]:
        asked = self._pending.pop(call_id, None)
        if asked is None:
            return []
        self._server.ended = now = time.perf_counter()
        self._server.latencies.append(now - asked)
        return [] if self._pending else self._next_round()

    def _next_round(self) -> list[bytes]:
        script = self._server.script
        if self._round >= script.rounds:
            text = {"type": "agent.message", "content": [{"type": "text", "text": "done"}]}
            return [self.add(text), self.add({"type": "session.status_idle", "stop_reason": {"type": "end_turn"}})]
        self._round += 1
        told = [self.say() for _ in range(script.messages)]
        for _ in range(script.calls):
            told.append(self.add({"type": "agent.custom_tool_use", "name": "lookup", "input": {"number": self._round}}))
            self._pending[f"sevt_{self._numbers[-1]:09}"] = 0.0
        stop_reason = {"type": "requires_action", "event_ids": list(self._pending)}
        told.append(self.add({"type": "session.status_idle", "stop_reason": stop_reason}))
        self._pending = dict.fromkeys(self._pending, time.perf_counter())
        return told

    def page(self, query: dict[str, str]) -> bytes:
        """List events from a time on, or from where the last page ended."""
        start = int(query.get("page", 0))
        since = query.get("created_at[gte]")
        if since is not None and not start:
            start = bisect.bisect_left(self._numbers, since, key=stamp)
        end = start + min(int(query.get("limit", MOST_LISTED)), MOST_LISTED)
        more = b'"%d"' % end if end < len(self._events) else b"null"
        return b'{"data":[%b],"next_page":%b}' % (b",".join(self._events[start:end]), more)


@dataclass(slots=True)
class Server:
    """All sessions, and what was seen of their clients."""

    script: Script
    burst: list[bytes]
    number: int = 0
    sessions: dict[str, Session] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    began: float = 0.0
    ended: float = 0.0

    def next_number(self) -> int:
        """Count the events."""
        self.number += 1
        return self.number

    def create(self) -> str:
        """Create a session and give its name."""
        name = f"sesn_{len(self.sessions):06}"
        self.sessions[name] = Session(self)
        return name

    def control(self, what: str, query: dict[str, str]) -> bytes:
        """Tell what was seen since the last time, and then do what is asked for.

        Told are the requests by kind, the seconds from each call to its result, those from ``go`` to the last result,
        and how many streams are attached and how many sessions are held. What can be asked for: ``go`` to what is held;
        ``tell`` a message in the stream of every session, or in that of each so-manieth; ``grow`` every history, or
        one, by so many messages of which no stream is told; ``drop`` all streams; ``reset`` everything.
        """
        sessions = self.sessions.values()
        seen = {
            "requests": dict(self.requests),
            "latencies": self.latencies,
            "seconds": self.ended - self.began,
            "streams": sum(len(session.streams) for session in sessions),
            "held": sum(session.is_held and bool(session.streams) for session in sessions),
        }
        self.requests, self.latencies = Counter(), []
        match what:
            case "go":
                self.began = time.perf_counter()
                for session in sessions:
                    session.go()
            case "tell":
                for session in list(sessions)[:: int(query.get("every", 1))]:
                    session.tell([session.say()])
            case "grow":
                for session in sessions:
                    for _ in range(int(query["events"])):
                        session.say()
            case "drop":
                for stream in [stream for session in sessions for stream in session.streams]:
                    stream.reset()
            case "reset":
                self.sessions = {}
        return json.dumps(seen).encode()


class Connection(HttpConnection):
    """A client's connection: requests one after the other, until one is for a stream."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server
        self._stream_of: Session | None = None
        self._bursting: asyncio.Task[None] | None = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 -- asyncio's
        """Forget it."""
        if self._stream_of is not None:
            self._stream_of.streams.discard(self)
        if self._bursting is not None:
            self._bursting.cancel()

    def begin(self, burst: list[bytes]) -> None:
        """Begin to write a burst; a task of its own goes on with it."""
        if self._server.script.per_write:
            self.transport.set_write_buffer_limits(0)
        self._bursting = asyncio.get_running_loop().create_task(self.write_all(burst))

    def answer(self, method: str, target: str, body: bytes) -> None:
        """Answer a request."""
        path, _, rest = target.partition("?")
        pairs = (part.partition("=") for part in rest.split("&") if part)
        query = {name.replace("%5B", "[").replace("%5D", "]"): value.replace("%3A", ":") for name, _, value in pairs}
        steps = path.strip("/").split("/")
        server = self._server
        if steps[0] == "control":
            self.reply(server.control("/".join(steps[1:]), query))
            return
        of_session = "/".join(steps[3:])
        server.requests[f"{method} {of_session or 'session'}"] += 1
        if not of_session:
            name = server.create() if len(steps) == 2 else steps[2]
            self.reply(b'{"id":"%b","type":"session","status":"idle"}' % name.encode())
            return
        session = server.sessions[steps[2]]
        if of_session == "events/stream":
            self._stream_of = session
            session.streams.add(self)
            self.transport.write(STREAM_HEAD)
        elif method == "GET":
            self.reply(session.page(query))
        else:
            echoes = [session.take(event) for event in json.loads(body)["events"]]
            self.reply(b'{"data":[%b]}' % b",".join(echoes))


def main() -> None:
    """Serve the script that the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("rounds", "messages", "burst"):
        parser.add_argument(f"--{name}", type=int, default=0)
    parser.add_argument("--calls", type=int, default=1)
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--hold", action="store_true")
    parser.add_argument("--per-write", action="store_true")
    script = Script(**vars(parser.parse_args()))
    burst = frames_of_burst(script) if script.burst else []
    server = Server(script, burst)
    asyncio.run(serve(lambda: Connection(server)))


if __name__ == "__main__":
    main()
