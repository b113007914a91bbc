"""How fast a session's events and tool round trips are, beside the official SDK, in one run against one server.

The server is a separate process on loopback. Each row is the median of several runs; only the ratios within one table
mean anything, because machines differ and are noisy. Run it with ``make bench`` or ``python benchmarks/session.py``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    Request,
    Responder,
    Turn,
    open_claude_simulator,
    open_wire_server,
    sse_frame,
)

Measure = Callable[[], Awaitable[float]]

KEY = "benchmark"
SESSION = "sesn_benchmark"


# --- the servers, each in a process of its own ------------------------------------------------------------------------


def event_burst(count: int, size: int) -> bytes:
    """Give ``count`` messages of about ``size`` bytes, and the idle that ends their turn."""
    text = "x" * max(1, size - 150)
    stamp = "2026-01-01T00:00:00Z"
    frames = [
        sse_frame(
            {
                "id": f"sevt_{n:08}",
                "type": "agent.message",
                "content": [{"type": "text", "text": text}],
                "processed_at": stamp,
            }
        )
        for n in range(count)
    ]
    idle = {"id": "sevt_end", "type": "session.status_idle", "stop_reason": {"type": "end_turn"}, "processed_at": stamp}
    return b"".join([*frames, sse_frame(idle)])


async def serve_burst(count: int, size: int) -> None:
    """Serve one session whose stream is a burst of events."""
    body = event_burst(count, size)

    async def handle(request: Request, respond: Responder) -> None:
        if request.path.endswith("/stream"):
            stream = await respond.start_stream()
            for start in range(0, len(body), 65536):
                await stream.send(body[start : start + 65536])
            await trio.sleep_forever()
        elif request.method == "POST":
            await respond.json(200, {"id": SESSION, "data": []})
        else:
            await respond.json(200, {"data": [], "next_page": None})

    async with open_wire_server(handle, transport="loopback") as server:
        print(server.base_url, flush=True)
        await trio.sleep_forever()


async def serve_tools(rounds: int) -> None:
    """Serve sessions whose agent calls one tool ``rounds`` times in a row."""

    async def agent(turn: Turn) -> None:
        for number in range(rounds):
            await turn.call_tools(("lookup", {"number": number}))
        await turn.say("done")

    async with open_claude_simulator(agent, transport="loopback", api_key=KEY) as simulator:
        print(simulator.base_url, simulator.agent_id, simulator.environment_id, flush=True)
        await trio.sleep_forever()


class Server:
    """A server process, and what it printed when it was ready."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen([sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.ready = self._process.stdout.readline().split()

    def __enter__(self) -> list[str]:
        return self.ready

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()


# --- events -----------------------------------------------------------------------------------------------------------


async def events_by_client(url: str, count: int) -> float:
    """Read the burst from our client's stream."""
    async with maa.ClaudeClient(KEY, url) as client, client.sessions.events.stream(SESSION) as stream:
        started, seen = time.perf_counter(), 0
        while seen < count:
            seen += len(await stream.receive_batch())
        return count / (time.perf_counter() - started)


async def events_by_session(url: str, count: int) -> float:
    """Read the burst with a whole session: decoded, matched by id, folded into a result."""
    async with maa.ClaudeClient(KEY, url) as client:
        started = time.perf_counter()
        result = await maa.run_session(
            claude_managed_agents, handler=unused_tool, client=client, agent="agent_1", environment="env_1"
        )
        assert len(result.events) == count + 1
        return count / (time.perf_counter() - started)


async def events_by_sdk(url: str, count: int) -> float:
    """Read the burst from the official SDK's stream."""
    import anthropic  # not above: the servers, and who only measures ours, need no SDK

    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=url) as client:
        stream = await client.beta.sessions.events.stream(SESSION)
        started, seen = time.perf_counter(), 0
        async with stream:
            async for _event in stream:
                seen += 1
                if seen == count:
                    break
        return count / (time.perf_counter() - started)


async def unused_tool(name: str, input: dict[str, object], context: maa.ToolContext) -> str:
    """Never called."""
    raise AssertionError(name)


# --- tool round trips -------------------------------------------------------------------------------------------------


async def lookup(name: str, input: dict[str, object], context: maa.ToolContext) -> str:
    """Answer at once."""
    return "found"


async def tools_by_session(url: str, agent: str, environment: str, rounds: int) -> float:
    """Run the agent with :func:`managed_agents_actors.run_session`."""
    async with maa.ClaudeClient(KEY, url) as client:
        started = time.perf_counter()
        result = await maa.run_session(
            claude_managed_agents,
            handler=lookup,
            client=client,
            agent=agent,
            environment=environment,
            max_turns=rounds + 1,
        )
        assert result.text == "done"
        return rounds / (time.perf_counter() - started)


async def tools_by_sdk(url: str, agent: str, environment: str, rounds: int) -> float:
    """Run the agent with the official SDK's tool runner."""
    import anthropic

    @anthropic.beta_async_tool(name="lookup", description="Look up.", input_schema={"type": "object"})
    async def sdk_lookup(**_input: object) -> str:
        return "found"

    async with anthropic.AsyncAnthropic(api_key=KEY, base_url=url) as client:
        session = await client.beta.sessions.create(agent=agent, environment_id=environment)
        started, seen = time.perf_counter(), 0
        text = [{"type": "text", "text": "go"}]
        await client.beta.sessions.events.send(session.id, events=[{"type": "user.message", "content": text}])
        ended = started
        # The runner is left to end by itself: a generator of its kind cannot be left early on trio.
        async for _call in client.beta.sessions.events.tool_runner(session.id, tools=[sdk_lookup], max_idle=0.1):
            seen, ended = seen + 1, time.perf_counter()
        assert seen == rounds
        return rounds / (ended - started)


# --- the tables -------------------------------------------------------------------------------------------------------


def medians(rows: dict[str, Measure], repeats: int) -> dict[str, float]:
    """Measure every row ``repeats`` times, in turns, and give the medians."""
    found: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(repeats):
        for name, measure in rows.items():
            found[name].append(trio.run(measure))
    return {name: statistics.median(values) for name, values in found.items()}


def report(title: str, rows: dict[str, float], *, as_json: bool) -> None:
    """Print one table; the ratios are to its last row, the official SDK."""
    base = list(rows.values())[-1]
    if as_json:
        print(json.dumps({"title": title, "rows": {n: {"rate": v, "ratio": v / base} for n, v in rows.items()}}))
        return
    print(f"\n{title}\n{'-' * len(title)}")
    for name, value in rows.items():
        print(f"{name:<44}{value:>12,.0f}{value / base:>9.1f} x")


def main() -> None:
    """Run the benchmark, or, for its own use, one of its servers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object per table")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--serve", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        what, *numbers = options.serve
        trio.run({"burst": serve_burst, "tools": serve_tools}[what], *map(int, numbers))
        return
    for size, count in ((300, 20_000), (4096, 5_000)):
        with Server("--serve", "burst", str(count), str(size)) as (url,):
            rows: dict[str, Measure] = {
                "our client's stream": lambda u=url, c=count: events_by_client(u, c),
                "a whole session of ours": lambda u=url, c=count: events_by_session(u, c),
                "official SDK's stream": lambda u=url, c=count: events_by_sdk(u, c),
            }
            report(f"Events per second, {size} bytes each", medians(rows, options.repeats), as_json=options.json)
    rounds = 200
    with Server("--serve", "tools", str(rounds)) as (url, agent, environment):
        rows = {
            "run_session": lambda: tools_by_session(url, agent, environment, rounds),
            "official SDK's tool runner": lambda: tools_by_sdk(url, agent, environment, rounds),
        }
        report("Tool round trips per second, one session", medians(rows, options.repeats), as_json=options.json)


if __name__ == "__main__":
    main()
