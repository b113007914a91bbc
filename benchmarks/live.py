"""What it takes to keep thousands of sessions live: memory, and time to open each, beside raw streams and the SDK's.

Every session is idle at its provider, with its stream attached. The memory is what the process holds more of than after
the first sessions, divided by the sessions opened since. Run it with ``make bench`` or ``python benchmarks/live.py``.
"""

from __future__ import annotations

import asyncio
import gc
import resource
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio
from peers import AT_ONCE, KEY, in_asyncio_tasks, in_tasks, sdk_client, server_has, unused_tool
from rig import Benchmark, Clock, Figures, Limit, Options, Table, serving

RAW: Final = "raw sockets"
OURS: Final = "ours"
MEMORY: Final = "KB each"


class Gauge:
    """What memory and processor time this process has used since it was made."""

    def __init__(self) -> None:
        gc.collect()
        self._memory, self._clock = resident(), Clock()

    def figures(self, sessions: int) -> Figures:
        """Give what each session took."""
        seconds, cpu = self._clock.read()
        gc.collect()
        return {
            MEMORY: (resident() - self._memory) / 1000 / sessions,
            "CPU ms to open": 1000 * cpu / sessions,
            "s for all": seconds,
        }


def resident() -> int:
    """Give the memory that this process holds, in bytes."""
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


def raw(url: str, sessions: int) -> Figures:
    """Raw sockets: a task for each stream."""
    from raw_client import RawConnection

    async def main() -> Figures:
        async with trio.open_nursery() as nursery:

            async def open_one(_: int) -> None:
                connection = await RawConnection.open(url)
                stream = await connection.attach(await connection.create())
                nursery.start_soon(stream.receive_batch)

            await in_tasks(open_one, AT_ONCE)
            gauge = Gauge()
            await in_tasks(open_one, sessions)
            found = gauge.figures(sessions)
            nursery.cancel_scope.cancel()
        return found

    return trio.run(main)


def ours(url: str, sessions: int) -> Figures:
    """Sessions of this library under one supervisor."""
    import managed_agents_actors as maa
    from managed_agents_actors.providers import claude_managed_agents

    async def main() -> Figures:
        async with maa.ClaudeClient(KEY, url) as client, maa.open_supervisor() as supervisor:

            async def open_one(_: int) -> None:
                await supervisor.start_session(
                    claude_managed_agents, handler=unused_tool, client=client, agent="agent_1", environment="env_1"
                )

            await in_tasks(open_one, AT_ONCE)
            await server_has(url, "streams", AT_ONCE, trio.sleep)
            gauge = Gauge()
            await in_tasks(open_one, sessions)
            await server_has(url, "streams", AT_ONCE + sessions, trio.sleep)
            return gauge.figures(sessions)

    return trio.run(main)


def sdk(url: str, sessions: int) -> Figures:
    """Streams of the official SDK, each read by a task, on asyncio; no sessions, which it has none of."""

    async def main() -> Figures:
        async with sdk_client(url) as client:
            readers: list[asyncio.Task[None]] = []

            async def read(stream: Any) -> None:
                async for _event in stream:
                    pass

            async def open_one(_: int) -> None:
                session = await client.beta.sessions.create(agent="agent_1", environment_id="env_1")
                stream = await client.beta.sessions.events.stream(session.id)
                readers.append(asyncio.create_task(read(stream)))

            await in_asyncio_tasks(open_one, AT_ONCE)
            gauge = Gauge()
            await in_asyncio_tasks(open_one, sessions)
            found = gauge.figures(sessions)
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            return found

    return asyncio.run(main())


def tables(options: Options) -> Iterator[Table]:
    """Measure 1,000, 5,000 and 10,000 sessions."""
    for sessions in (1000,) if options.short else (1000, 5000, 10_000):
        with serving() as server:
            rows = {RAW: partial(raw, server.url, sessions), OURS: partial(ours, server.url, sessions)}
            if sessions == 1000 and not options.short:  # more take the SDK minutes
                rows["official SDK's streams"] = partial(sdk, server.url, sessions)
            yield benchmark.measure(
                f"{sessions:,} live sessions",
                rows,
                options,
                bases=[RAW],
                limits=[Limit(row=OURS, unit=MEMORY, most=40)],
                prepare=server.reset,
            )


benchmark = Benchmark(__file__, (raw, ours, sdk))

if __name__ == "__main__":
    benchmark.main(tables, __doc__)
