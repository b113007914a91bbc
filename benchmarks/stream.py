"""How many events a second come through one stream, from a bare socket up to a whole session's handler.

A session is created, its stream attached and a message sent to it; then its agent says thousands of messages as fast as
they are taken. The clock, and the processor time of the row's process, run from the 500th event to the last that is
read, so that neither connecting nor what is done at first use counts. Each event is decoded to a dictionary, or, in the
official SDK, to its typed object; nothing is kept but by whole sessions, which need what they have seen. The SDK is the
slowest by far and reads fewer events of the same stream. "msgspec" and "json" say what decodes; the library is measured
with json by making msgspec unimportable in that row's process.

Events come in writes of 64 KB, or one by one, each in a chunk and a write of its own. Run it with ``make bench`` or
``python benchmarks/stream.py``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

import trio
from peers import KEY, Watcher, sdk_client
from rig import Benchmark, Figures, Limit, Options, Table, serving

WARM_UP: Final = 500
SDK: Final = "official SDK"
RAW: Final = "raw sockets, msgspec"
RAW_JSON: Final = "raw sockets, json"
SESSION: Final = "ours, session to handler, msgspec"
SESSION_JSON: Final = "ours, session to handler, json"
RATE: Final = "events/s"


class Meter:
    """Counts events, and takes the time from the end of the warm-up to the last.

    Attributes:
        is_full: Whether the last has come.
    """

    def __init__(self, events: int) -> None:
        self._events = events
        self._seen = self._counted_from = 0
        self._began = self._cpu = self._ended = self._cpu_ended = 0.0
        self.is_full = False

    def add(self, events: int) -> None:
        """Count events that have come; those that come after the last are let go."""
        if self.is_full:
            return
        self._seen += events
        if not self._counted_from and self._seen >= WARM_UP:
            self._counted_from, self._began, self._cpu = self._seen, time.perf_counter(), time.process_time()
        if self._seen >= self._events:
            self.is_full = True
            self._ended, self._cpu_ended = time.perf_counter(), time.process_time()

    def figures(self) -> Figures:
        """Give what was measured."""
        assert self.is_full
        counted = self._seen - self._counted_from
        return {
            RATE: counted / (self._ended - self._began),
            "CPU us/event": 1e6 * (self._cpu_ended - self._cpu) / counted,
        }


def choose(codec: str) -> None:
    """Have this process decode with msgspec or with the standard library's json, before either is imported."""
    if codec == "json":
        sys.modules["msgspec"] = None  # type: ignore[assignment]  # what importing it finds, and then raises


def raw(url: str, events: int, codec: str) -> Figures:
    """Raw sockets."""
    choose(codec)
    from raw_client import RawConnection

    async def main() -> Figures:
        meter = Meter(events)
        requests = await RawConnection.open(url)
        session_id = await requests.create()
        stream = await (await RawConnection.open(url)).attach(session_id)
        await requests.say(session_id, "go")
        while not meter.is_full:
            meter.add(len(await stream.receive_batch()))
        return meter.figures()

    return trio.run(main)


def httpx_sse(url: str, events: int) -> Figures:
    """A stream of httpx with httpx-sse and the standard library's json."""
    import httpx
    from httpx_sse import aconnect_sse

    async def main() -> Figures:
        meter = Meter(events)
        async with httpx.AsyncClient(base_url=url, timeout=None) as client:
            session_id = (await client.post("/v1/sessions", json={})).json()["id"]
            path = f"/v1/sessions/{session_id}/events"
            async with aconnect_sse(client, "GET", f"{path}/stream") as source:
                text = [{"type": "text", "text": "go"}]
                await client.post(path, json={"events": [{"type": "user.message", "content": text}]})
                async for event in source.aiter_sse():
                    json.loads(event.data)
                    meter.add(1)
                    if meter.is_full:
                        break
        return meter.figures()

    return trio.run(main)


def client(url: str, events: int) -> Figures:
    """Our client's stream."""
    import managed_agents_actors as maa

    async def main() -> Figures:
        meter = Meter(events)
        async with maa.ClaudeClient(KEY, url) as client:
            session_id = (await client.sessions.create({"agent": "agent_1", "environment_id": "env_1"}))["id"]
            async with client.sessions.events.stream(session_id) as stream:
                text = [{"type": "text", "text": "go"}]
                await client.sessions.events.send(session_id, [{"type": "user.message", "content": text}])
                while not meter.is_full:
                    meter.add(len(await stream.receive_batch()))
        return meter.figures()

    return trio.run(main)


def session(url: str, events: int, codec: str) -> Figures:
    """A whole live session of ours, to its handler."""
    choose(codec)
    import managed_agents_actors as maa
    from managed_agents_actors.providers import claude_managed_agents

    meter = Meter(events)
    done = trio.Event()

    def show(_event: Mapping[str, Any]) -> None:
        meter.add(1)
        if meter.is_full:
            done.set()

    async def main() -> Figures:
        async with (
            maa.ClaudeClient(KEY, url) as client,
            maa.open_session(
                claude_managed_agents, handler=Watcher(show), client=client, agent="agent_1", environment="env_1"
            ) as live,
        ):
            await live.message("go")
            await done.wait()
        return meter.figures()

    return trio.run(main)


def sdk(url: str, events: int) -> Figures:
    """The official SDK's stream."""

    async def main() -> Figures:
        meter = Meter(events)
        async with sdk_client(url) as client:
            session_id = (await client.beta.sessions.create(agent="agent_1", environment_id="env_1")).id
            async with await client.beta.sessions.events.stream(session_id) as stream:
                text: list[Any] = [{"type": "text", "text": "go"}]
                await client.beta.sessions.events.send(session_id, events=[{"type": "user.message", "content": text}])
                async for _event in stream:
                    meter.add(1)
                    if meter.is_full:
                        break
        return meter.figures()

    return asyncio.run(main())


def tables(options: Options) -> Iterator[Table]:
    """Measure small and large events, in large writes and one by one."""
    kinds = [(300, False), (4096, True)] if options.short else [(300, False), (300, True), (4096, False), (4096, True)]
    limits = [
        Limit(row=SESSION, unit=RATE, base=SDK, least=15),
        Limit(row=SESSION, unit=RATE, base=RAW, least=0.5),
        Limit(row=SESSION_JSON, unit=RATE, base=RAW_JSON, least=0.5),
    ]
    for size, per_write in kinds:
        events, of_sdk = (40_000, 4_000) if size == 300 else (10_000, 3_000)
        if options.short:
            events, of_sdk = events // 2, of_sdk // 2
        with serving(burst=events, size=size, per_write=per_write) as server:
            url = server.url
            yield benchmark.measure(
                f"One stream, events of {size} B, {'each in its own write' if per_write else 'in writes of 64 KB'}",
                {
                    RAW: partial(raw, url, events, "msgspec"),
                    RAW_JSON: partial(raw, url, events, "json"),
                    "httpx + httpx-sse, json": partial(httpx_sse, url, events),
                    "ours, client's stream, msgspec": partial(client, url, events),
                    SESSION: partial(session, url, events, "msgspec"),
                    SESSION_JSON: partial(session, url, events, "json"),
                    SDK: partial(sdk, url, of_sdk),
                },
                options,
                bases=(SDK, RAW, RAW_JSON),
                limits=limits if size == 300 else (),
                prepare=server.reset,
            )


benchmark = Benchmark(__file__, (raw, httpx_sse, client, session, sdk))

if __name__ == "__main__":
    benchmark.main(tables, __doc__)
