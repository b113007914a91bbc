"""A reconnect storm: the streams of thousands of sessions are reset at once, each having missed a few events.

Every session has seen an event, so that it knows where to go on. Then its history grows by events that no stream is
told of, and the server resets all streams. It is over for a session when its handler has been shown what was missed; a
further event, told to all, then shows that each is live. Events are counted by id, for each session by itself: one that
never comes is lost, one that comes again is a duplicate. Requests are counted by the server, and processor time is that
of the row's process, both up to where the last session has what it missed.

Sessions of ours run under one supervisor, with the default ``ReconnectPolicy``: each waits half a second, more or less,
before it comes back. The raw peer does not wait, so compare the processor time; it opens as many streams, lists each
history once, from the last event it knows, and keeps 50 connections for its requests. Run it with ``make bench`` or
``python benchmarks/storm.py``.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

import trio
from peers import AT_ONCE, KEY, Watcher, collect_rarely, in_tasks, server_has
from rig import Benchmark, Figures, Limit, Options, Server, Table, serving

RAW: Final = "raw sockets"
OURS: Final = "ours"
OURS_RARE: Final = "ours, collected rarely"
MISSED: Final = 3  # events each session misses
PATIENCE: Final = 90.0  # seconds after which what has not come is lost
SETTLING: Final = 0.5  # seconds in which a duplicate could still come
CPU: Final = "CPU ms each"
REQUESTS: Final = "requests each"


class Roll:
    """What each session has been shown."""

    def __init__(self, sessions: int) -> None:
        self._seen: list[Counter[str]] = [Counter() for _ in range(sessions)]
        self._wanted = self._missing = 0
        self._complete = trio.Event()

    def show(self, number: int, event: Mapping[str, Any]) -> None:
        """A session is shown an event."""
        seen = self._seen[number]
        seen[event["id"]] += 1
        if seen[event["id"]] == 1 and len(seen) == self._wanted:
            self._missing -= 1
            if not self._missing:
                self._complete.set()

    async def everybody_has(self, events: int) -> None:
        """Wait until every session has been shown so many events, or it has taken too long."""
        self._wanted = events
        self._missing = sum(len(seen) < events for seen in self._seen)
        self._complete = trio.Event()
        with trio.move_on_after(PATIENCE):
            if self._missing:
                await self._complete.wait()

    def faults(self, events: int) -> Figures:
        """Count what is lost and what came twice, if each session should have been shown so many events."""
        return {
            "lost": sum(max(0, events - len(seen)) for seen in self._seen),
            "duplicates": sum(seen.total() - len(seen) for seen in self._seen),
        }


async def weather(url: str, sessions: int, roll: Roll) -> Figures:
    """Have the storm come over sessions that are attached, and measure it."""
    server = Server(url)
    await server_has(url, "streams", sessions, trio.sleep)
    server.control("tell")
    await roll.everybody_has(1)
    server.control("grow", events=MISSED)
    cpu, began = time.process_time(), time.perf_counter()
    server.control("drop")
    await roll.everybody_has(1 + MISSED)
    cpu, recovered = time.process_time() - cpu, time.perf_counter() - began
    requests = sum(server.control("tell")["requests"].values())
    await roll.everybody_has(2 + MISSED)
    live = time.perf_counter() - began
    await trio.sleep(SETTLING)
    return {
        CPU: 1000 * cpu / sessions,
        REQUESTS: requests / sessions,
        "s to consolidated": recovered,
        "s to live": live,
        **roll.faults(2 + MISSED),
    }


def raw(url: str, sessions: int) -> Figures:
    """Raw sockets: a task for each stream, which opens another one when it is lost, and then lists once."""
    from raw_client import RawConnection, RawStream

    async def main() -> Figures:
        roll = Roll(sessions)
        idle: list[RawConnection] = []
        limiter = trio.CapacityLimiter(AT_ONCE)

        async def attach(session_id: str) -> RawStream:
            return await (await RawConnection.open(url)).attach(session_id)

        async def run(number: int, session_id: str, stream: RawStream) -> None:
            last = ""
            known: set[str] = set()
            while True:
                events = await stream.receive_batch()
                if not events:
                    await stream.aclose()
                    async with limiter:
                        stream = await attach(session_id)
                        requests = idle.pop()
                        events = await requests.events(session_id, last)
                        idle.append(requests)
                for event in events:
                    if event["id"] not in known:
                        known.add(event["id"])
                        last = event["processed_at"]
                        roll.show(number, event)

        async with trio.open_nursery() as nursery:

            async def open_one(number: int) -> None:
                requests = idle.pop()
                session_id = await requests.create()
                idle.append(requests)
                nursery.start_soon(run, number, session_id, await attach(session_id))

            idle += [await RawConnection.open(url) for _ in range(AT_ONCE)]
            await in_tasks(open_one, sessions)
            found = await weather(url, sessions, roll)
            nursery.cancel_scope.cancel()
        return found

    return trio.run(main)


def ours(url: str, sessions: int, collector: str) -> Figures:
    """Sessions of this library under one supervisor; the collector is as it is by default, or looks rarely."""
    import managed_agents_actors as maa
    from managed_agents_actors.providers import claude_managed_agents

    async def main() -> Figures:
        roll = Roll(sessions)
        async with maa.ClaudeClient(KEY, url) as client, maa.open_supervisor() as supervisor:

            async def open_one(number: int) -> None:
                await supervisor.start_session(
                    claude_managed_agents,
                    handler=Watcher(partial(roll.show, number)),
                    client=client,
                    agent="agent_1",
                    environment="env_1",
                )

            await in_tasks(open_one, sessions)
            return await weather(url, sessions, roll)

    if collector == "rare":
        collect_rarely()
    return trio.run(main)


def tables(options: Options) -> Iterator[Table]:
    """Measure 1,000 and 5,000 sessions."""
    for sessions in (1000,) if options.short else (1000, 5000):
        with serving() as server:
            yield benchmark.measure(
                f"Reconnect storm, {sessions:,} sessions",
                {
                    RAW: partial(raw, server.url, sessions),
                    OURS: partial(ours, server.url, sessions, "default"),
                    OURS_RARE: partial(ours, server.url, sessions, "rare"),
                },
                options,
                bases=[RAW],
                limits=[
                    Limit(row=OURS, unit=CPU, base=RAW, most=3),
                    Limit(row=OURS_RARE, unit=CPU, base=RAW, most=3),
                    Limit(row=OURS, unit=REQUESTS, most=3),
                    Limit(row=OURS, unit="lost", most=0),
                    Limit(row=OURS, unit="duplicates", most=0),
                ],
                prepare=server.reset,
            )


benchmark = Benchmark(__file__, (raw, ours))

if __name__ == "__main__":
    benchmark.main(tables, __doc__)
