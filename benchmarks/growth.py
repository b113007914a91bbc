"""What more events cost: whether ten times the events take more than ten times the time, or more memory each.

Measured are a turn of so many events, with :func:`managed_agents_actors.run_session`; opening a session that has so
many events in its history (``session_id=``), up to the end of one short turn more; and a reconnect that has missed so
many, up to the last of them in the handler, with a ``ReconnectPolicy`` that does not wait. Limits are on processor
time, which the machine's other work disturbs least; the time is told beside it.

The memory is what Python's allocator holds more of after the turn than before, with and without its result, whose
``events`` are the turn's; beside it the same events, read by raw sockets and kept in a list. Run it with ``make bench``
or ``python benchmarks/growth.py``.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from typing import Any, Final

import trio
from peers import KEY, Watcher, server_has, unused_tool
from rig import Benchmark, Clock, Figures, Limit, Options, Server, Table, serving

SIZES: Final = (1_000, 10_000, 100_000)
MOST: Final = 11.0  # times the cost of a tenth of the events
CPU: Final = "CPU s"
KEPT: Final = "B/event"
KEPT_AFTER: Final = "B/event, result dropped"


class Course:
    """What is measured, from when this is made."""

    def __init__(self) -> None:
        gc.collect()
        gc.freeze()  # the garbage collector looks at what comes now, not at all that was loaded
        self._clock = Clock()

    def figures(self, events: int) -> Figures:
        """Give what so many events took."""
        seconds, cpu = self._clock.read()
        return {CPU: cpu, "s": seconds, "CPU us/event": 1e6 * cpu / events}


async def warm_up(url: str) -> None:
    """Run a session to its end, so that nothing is loaded or made for the first time later."""
    import managed_agents_actors as maa
    from managed_agents_actors.providers import claude_managed_agents

    async with maa.ClaudeClient(KEY, url) as client:
        await maa.run_session(
            claude_managed_agents, handler=unused_tool, client=client, agent="agent_1", environment="env_1"
        )


def turn(url: str, events: int, plain_url: str) -> Figures:
    """One turn of so many events."""
    import managed_agents_actors as maa
    from managed_agents_actors.providers import claude_managed_agents

    async def main() -> Figures:
        await warm_up(plain_url)
        async with maa.ClaudeClient(KEY, url) as client:
            await client.sessions.create({"agent": "agent_1", "environment_id": "env_1"})  # the client has connected
            course = Course()
            result = await maa.run_session(
                claude_managed_agents, handler=unused_tool, client=client, agent="agent_1", environment="env_1"
            )
            found = course.figures(events)
            assert len(result.events) >= events, len(result.events)
            return found

    return trio.run(main)


def resume(url: str, events: int) -> Figures:
    """Opening a session with so many events in its history, and one turn of it."""
    import managed_agents_actors as maa
    from managed_agents_actors.providers import claude_managed_agents

    async def main() -> Figures:
        await warm_up(url)
        async with maa.ClaudeClient(KEY, url) as client:
            session = await client.sessions.create({"agent": "agent_1", "environment_id": "env_1"})
            Server(url).control("grow", events=events)
            text = [{"type": "text", "text": "go"}]
            await client.sessions.events.send(session["id"], [{"type": "user.message", "content": text}])
            course = Course()
            async with maa.open_session(
                claude_managed_agents, handler=unused_tool, client=client, session_id=session["id"]
            ) as live:
                result = await live.ask("go on")
                found = course.figures(events)
            assert result.text == "done"
        pages = Server(url).control()["requests"]["GET events"]
        assert pages >= events // 1000, pages
        return found

    return trio.run(main)


def reconnect(url: str, events: int) -> Figures:
    """A reconnect that has missed so many events."""
    import managed_agents_actors as maa
    from managed_agents_actors.providers import claude_managed_agents

    seen = 0
    shown = {count: trio.Event() for count in (1, 2, 2 + events)}

    def show(_event: Mapping[str, Any]) -> None:
        nonlocal seen
        seen += 1
        if seen in shown:
            shown[seen].set()

    async def main() -> Figures:
        server = Server(url)
        async with (
            maa.ClaudeClient(KEY, url) as client,
            maa.open_session(
                claude_managed_agents,
                handler=Watcher(show),
                client=client,
                agent="agent_1",
                environment="env_1",
                reconnect=maa.ReconnectPolicy(initial=0.0),
            ),
        ):
            await server_has(url, "streams", 1, trio.sleep)
            server.control("tell")
            await shown[1].wait()
            server.control("grow", events=1)
            server.control("drop")  # nothing is done for the first time later
            await shown[2].wait()
            server.control("grow", events=events)
            course = Course()
            server.control("drop")
            await shown[2 + events].wait()
            return course.figures(events)

    return trio.run(main)


def memory(url: str, events: int, plain_url: str) -> Figures:
    """What a live session holds after a turn of so many events."""
    import managed_agents_actors as maa
    from managed_agents_actors.providers import claude_managed_agents

    async def main() -> Figures:
        await warm_up(plain_url)
        async with (
            maa.ClaudeClient(KEY, url) as client,
            maa.open_session(
                claude_managed_agents, handler=unused_tool, client=client, agent="agent_1", environment="env_1"
            ) as live,
        ):
            before = held()
            result = await live.ask("go")
            with_result = held() - before
            assert len(result.events) >= events, len(result.events)
            del result
            return {KEPT: with_result / events, KEPT_AFTER: (held() - before) / events}

    tracemalloc.start()
    return trio.run(main)


def bare(url: str, events: int) -> Figures:
    """What the events of such a turn take by themselves."""
    from raw_client import RawConnection

    async def main() -> Figures:
        requests = await RawConnection.open(url)
        session_id = await requests.create()
        stream = await (await RawConnection.open(url)).attach(session_id)
        kept: list[dict[str, Any]] = []
        before = held()
        await requests.say(session_id, "go")
        while len(kept) < events:
            kept += await stream.receive_batch()
        return {KEPT: (held() - before) / len(kept)}

    tracemalloc.start()
    return trio.run(main)


def held() -> int:
    """Give the bytes that Python's allocator holds."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def label(events: int) -> str:
    """Give a row's name."""
    return f"{events:,} events"


def measure_sizes(title: str, calls: Mapping[int, partial[Figures]], options: Options, server: Server) -> Table:
    """Measure one thing at every size."""
    limits = [Limit(row=label(large), unit=CPU, base=label(small), most=MOST) for small, large in pairwise(calls)]
    return benchmark.measure(
        title,
        {label(events): call for events, call in calls.items()},
        options,
        bases=[label(events) for events in calls][:-1],
        limits=limits,
        prepare=server.reset,
    )


def measure_memory(urls: Mapping[int, str], plain: Server, options: Options) -> Table:
    """Measure what is kept of each event at every size."""

    def alone(events: int) -> str:
        return f"the events alone, {events:,}"

    def of_session(events: int) -> str:
        return f"a session's turn, {events:,}"

    rows: dict[str, partial[Figures]] = {}
    for events, url in urls.items():
        rows[alone(events)] = partial(bare, url, events)
        rows[of_session(events)] = partial(memory, url, events, plain.url)
    limits = [
        Limit(row=of_session(large), unit=KEPT, base=of_session(small), most=MOST / 10)
        for small, large in pairwise(urls)
    ]
    first = min(urls)
    bases = [alone(first), of_session(first)]
    return benchmark.measure("Memory kept of a turn", rows, options, bases=bases, limits=limits, prepare=plain.reset)


def tables(options: Options) -> Iterator[Table]:
    """Measure turns, histories and memory of 1,000, 10,000 and 100,000 events."""
    sizes = SIZES[:2] if options.short else SIZES
    with serving() as plain, ExitStack() as stack:
        urls = {events: stack.enter_context(serving(burst=events)).url for events in sizes}
        turns = {events: partial(turn, url, events, plain.url) for events, url in urls.items()}
        yield measure_sizes("One turn", turns, options, plain)
        resumed = {events: partial(resume, plain.url, events) for events in sizes}
        yield measure_sizes("History listed at opening", resumed, options, plain)
        reconnects = {events: partial(reconnect, plain.url, events) for events in sizes}
        yield measure_sizes("History listed at a reconnect", reconnects, options, plain)
        yield measure_memory(urls, plain, options)


benchmark = Benchmark(__file__, (turn, resume, reconnect, memory, bare))

if __name__ == "__main__":
    benchmark.main(tables, __doc__)
