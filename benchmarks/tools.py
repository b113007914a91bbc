"""How fast tool calls are answered, by one session and by many at once, beside raw sockets and the official SDK.

The agent calls a tool that answers at once, again and again. All sessions are open, attached and given their message
before their agents begin, so that what opening them took is told by itself. The server takes the time from each call it
sends to the result it receives, and from the beginning to the last result. Processor time is that of the row's process,
up to the last call. The SDK gets fewer turns where it would take minutes: these are rates. Run it with ``make bench``
or ``python benchmarks/tools.py``.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Final

import trio
from peers import KEY, in_tasks, sdk_client, server_has
from rig import Benchmark, Figures, Limit, Options, Server, Table, serving

RAW: Final = "raw sockets"
OURS: Final = "ours"
SDK: Final = "official SDK"  # its tool runner
RATE: Final = "turns/s"
LATENCY: Final = "call to result p50, ms"
FOUND: Final = "found"  # what the tool answers

# How many sessions, the rounds of each, those of the SDK's, and what ours must come to.
KINDS: Final = (
    (1, 1000, 200, Limit(row=OURS, unit=LATENCY, base=SDK, most=1 / 3)),
    (100, 40, 4, Limit(row=OURS, unit=RATE, base=SDK, least=8)),
    (1000, 6, 1, Limit(row=OURS, unit=RATE, base=SDK, least=20)),
)


class Course:
    """A run: its sessions are opened, and then their agents begin.

    Args:
        url: The server.
        sessions: How many sessions there are.
        rounds: How many calls each of them has to answer.
    """

    def __init__(self, url: str, sessions: int, rounds: int) -> None:
        self._server = Server(url)
        self._sessions = sessions
        self._turns = sessions * rounds
        self._opened = 0.0
        self._began = time.perf_counter()
        self._called = 0
        self._cpu = self._cpu_ended = 0.0

    def go(self) -> None:
        """All are open: let the agents begin."""
        self._opened = time.perf_counter() - self._began
        self._cpu = time.process_time()
        self._server.control("go")

    def call(self) -> None:
        """A call has come."""
        self._called += 1
        if self._called == self._turns:
            self._cpu_ended = time.process_time()

    def figures(self) -> Figures:
        """Put together what the client and the server have seen."""
        seen = self._server.control()
        latencies = sorted(seen["latencies"])
        assert len(latencies) == self._called == self._turns, (len(latencies), self._called, self._turns)
        return {
            RATE: self._turns / seen["seconds"],
            LATENCY: 1000 * statistics.median(latencies),
            "p99, ms": 1000 * latencies[int(0.99 * len(latencies))],
            "CPU ms/turn": 1000 * (self._cpu_ended - self._cpu) / self._turns,
            "before: ms to open each": 1000 * self._opened / self._sessions,
        }


def raw(url: str, sessions: int, rounds: int) -> Figures:
    """Raw sockets: for each session a stream and a connection for its requests."""
    from raw_client import RawConnection, RawStream

    async def main() -> Figures:
        course = Course(url, sessions, rounds)

        async def run(session_id: str, requests: RawConnection, stream: RawStream) -> None:
            while True:
                for event in await stream.receive_batch():
                    if event["type"] == "agent.custom_tool_use":
                        course.call()
                        result = {
                            "type": "user.custom_tool_result",
                            "custom_tool_use_id": event["id"],
                            "content": [{"type": "text", "text": FOUND}],
                        }
                        await requests.send(session_id, result)
                    elif event["type"] == "agent.message":
                        return

        async with trio.open_nursery() as nursery:

            async def open_one(_: int) -> None:
                requests = await RawConnection.open(url)
                session_id = await requests.create()
                stream = await (await RawConnection.open(url)).attach(session_id)
                await requests.say(session_id, "go")
                nursery.start_soon(run, session_id, requests, stream)

            await in_tasks(open_one, sessions)
            await server_has(url, "held", sessions, trio.sleep)
            course.go()
        return course.figures()

    return trio.run(main)


def ours(url: str, sessions: int, rounds: int) -> Figures:
    """Sessions of this library, each run by a task."""
    import managed_agents_actors as maa
    from managed_agents_actors.providers import claude_managed_agents

    async def main() -> Figures:
        course = Course(url, sessions, rounds)

        async def lookup(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
            course.call()
            return FOUND

        async def run(client: maa.ClaudeClient) -> None:
            result = await maa.run_session(
                claude_managed_agents,
                handler=lookup,
                client=client,
                agent="agent_1",
                environment="env_1",
                prompt="go",
                max_turns=rounds + 1,
                timeout=None,
            )
            assert result.text == "done"

        async with maa.ClaudeClient(KEY, url) as client, trio.open_nursery() as nursery:
            for _ in range(sessions):
                nursery.start_soon(run, client)
            await server_has(url, "held", sessions, trio.sleep)
            course.go()
        return course.figures()

    return trio.run(main)


def sdk(url: str, sessions: int, rounds: int) -> Figures:
    """The official SDK's tool runner, on asyncio."""
    import anthropic

    async def main() -> Figures:
        course = Course(url, sessions, rounds)

        @anthropic.beta_async_tool(name="lookup", description="Look up.", input_schema={"type": "object"})
        async def lookup(**_input: object) -> str:
            course.call()
            return FOUND

        async def run(client: anthropic.AsyncAnthropic) -> None:
            session = await client.beta.sessions.create(agent="agent_1", environment_id="env_1")
            text: list[Any] = [{"type": "text", "text": "go"}]
            await client.beta.sessions.events.send(session.id, events=[{"type": "user.message", "content": text}])
            runner = client.beta.sessions.events.tool_runner(session.id, tools=[lookup], max_idle=0.1)
            async for _call in runner:
                pass

        async with sdk_client(url) as client:
            running = asyncio.gather(*(run(client) for _ in range(sessions)))
            await server_has(url, "held", sessions, asyncio.sleep)
            course.go()
            await running
        return course.figures()

    return asyncio.run(main())


def tables(options: Options) -> Iterator[Table]:
    """Measure one session, 100 and 1,000 at once, and what becomes of the rate."""
    found: dict[str, list[Figures | None]] = {}
    for sessions, rounds, of_sdk, limit in KINDS:
        has_sdk = not (options.short and sessions == 1000)  # it needs minutes there
        repeats = options.repeats
        if options.short:
            rounds, of_sdk = rounds // 2, max(1, of_sdk // 2)
            repeats = 1 if sessions == 1000 else repeats
        with serving(rounds=rounds, hold=True) as server, serving(rounds=of_sdk, hold=True) as server_of_sdk:

            def reset(servers: tuple[Server, ...] = (server, server_of_sdk)) -> None:
                for each in servers:
                    each.reset()

            rows = {RAW: partial(raw, server.url, sessions, rounds), OURS: partial(ours, server.url, sessions, rounds)}
            if has_sdk:
                rows[SDK] = partial(sdk, server_of_sdk.url, sessions, of_sdk)
            table = benchmark.measure(
                f"Tool turns, {sessions:,} at once",
                rows,
                replace(options, repeats=repeats),
                bases=[row for row in (SDK, RAW) if row in rows],
                limits=[limit] if has_sdk else [],
                prepare=reset,
            )
        yield table
        found[f"{sessions:,} at once"] = table.runs[OURS]
    yield Table(
        "Tool turns, ours by sessions",
        bases=["100 at once"],
        runs=found,
        limits=[Limit(row="1,000 at once", unit=RATE, base="100 at once", least=0.5)],
    )


benchmark = Benchmark(__file__, (raw, ours, sdk))

if __name__ == "__main__":
    benchmark.main(tables, __doc__)
