"""What telling an event costs, with nobody listening and with each sink, beside a bare look-up and a bare call.

The first tables are of single events, in processor time, the loop around them not counted; the last are of whole
sessions, with a server in a process of its own. Unlike elsewhere all rows are measured in one process, in turns of a
random order: what they differ by is less than what two processes do. Run it with ``make bench`` or
``python benchmarks/telemetry.py``.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, TypeAlias

import trio
from listeners import NOBODY, ON_IMPORT, SINKS, is_installed
from peers import KEY
from rig import Benchmark, Figures, Options, Table, serving

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.telemetry import emit, span
from managed_agents_actors.telemetry._bus import is_heard
from managed_agents_actors.telemetry._scope import NO_TAGS, Scope, standing

Loop: TypeAlias = Callable[[int], None]
Measure: TypeAlias = Callable[[], Awaitable[Figures]]

RUN: Final = 0.002  # seconds of one run of a loop
NANOSECONDS: Final = "ns"
EMPTY: Final = "empty loop"

# What is told, as a session tells it: an event of its stream, and the run of a tool.
TAGS: Final = {"provider": "claude_managed_agents", "session_id": "sesn_1", "agent_id": "agent_1", "turn": 1}
EVENT: Final = "managed_agents.stream.event"
MEASURED: Final = {"bytes": 300}
ABOUT: Final = {"type": "agent.message", "usage": {"input_tokens": 100, "output_tokens": 20}}
TOOL: Final = "managed_agents.tool"
CALL: Final = {"tool": "lookup", "tool_use_id": "toolu_1", "attempt": 1}


# --- what is measured, each so many times -----------------------------------------------------------------------------


def empty_loop(times: int) -> None:
    """Do nothing: what the loop itself takes."""
    for _ in range(times):
        pass


def look_ups(times: int) -> None:
    """Look a name up in a dictionary."""
    names: dict[str, tuple[object, ...]] = {EVENT: ()}
    for _ in range(times):
        names[EVENT]


def calls_of_is_heard(times: int) -> None:
    """Ask whether anybody listens."""
    for _ in range(times):
        is_heard(EVENT)


def bare_is_heard(name: str) -> bool:
    """Take what ``is_heard`` takes."""
    return False


def calls_of_bare_is_heard(times: int) -> None:
    """Call a function with the arguments of ``is_heard``."""
    for _ in range(times):
        bare_is_heard(EVENT)


def calls_of_emit(times: int) -> None:
    """Tell an event whose mappings are at hand."""
    for _ in range(times):
        emit(EVENT, MEASURED, ABOUT)


def bare_emit(
    name: str,
    measurements: Mapping[str, Any] = NO_TAGS,
    metadata: Mapping[str, Any] = NO_TAGS,
    *,
    content: Mapping[str, Any] = NO_TAGS,
    scope: object = None,
) -> None:
    """Take what ``emit`` takes."""


def calls_of_bare_emit(times: int) -> None:
    """Call a function with the arguments of ``emit``."""
    for _ in range(times):
        bare_emit(EVENT, MEASURED, ABOUT)


def span_blocks(times: int) -> None:
    """Begin and end a span."""
    for _ in range(times):
        with span(TOOL, CALL) as told:
            told["is_error"] = False


def null_blocks(times: int) -> None:
    """Begin and end a block of the standard library's that does nothing."""
    for _ in range(times):
        with nullcontext({}) as told:
            told["is_error"] = False


def bare_span(name: str, metadata: Mapping[str, Any] = NO_TAGS, *, content: Mapping[str, Any] = NO_TAGS) -> None:
    """Take what ``span`` takes."""


def calls_of_bare_span(times: int) -> None:
    """Call a function with the arguments of ``span``."""
    for _ in range(times):
        bare_span(TOOL, CALL)


# What costs, and what it is compared with.
OPERATIONS: Final[Sequence[tuple[str, Loop, Mapping[str, Loop]]]] = (
    ("is_heard", calls_of_is_heard, {"bare look-up": look_ups, "bare call": calls_of_bare_is_heard}),
    ("emit", calls_of_emit, {"bare look-up": look_ups, "bare call": calls_of_bare_emit}),
    (
        "a span block",
        span_blocks,
        {"bare look-up": look_ups, "bare call": calls_of_bare_span, "null context": null_blocks},
    ),
)

# Those that whole sessions are measured with.
IN_SESSIONS: Final[Sequence[str]] = (
    NOBODY,
    ON_IMPORT,
    "a listener that does nothing",
    "debug lines, standard logging to null",
    "OpenTelemetry SDK, always_on",
)


# --- whole sessions ---------------------------------------------------------------------------------------------------


async def run_session(url: str, rounds: int) -> maa.SessionResult:
    """Run one session whose agent calls a tool so many times."""

    async def lookup(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
        return "found"

    async with maa.ClaudeClient(KEY, url) as client:
        return await maa.run_session(
            claude_managed_agents,
            handler=lookup,
            client=client,
            agent="agent_1",
            environment="env_1",
            max_turns=rounds + 1,
        )


async def of_events(url: str, events: int, listener: str) -> Figures:
    """Measure a session in whose one turn there are so many events."""
    with SINKS[listener]():
        began, cpu = time.perf_counter(), time.process_time()
        result = await run_session(url, 0)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert len(result.events) >= events, len(result.events)
    return {"events/s": events / seconds, "CPU us/event": 1e6 * cpu / events}


async def of_tools(url: str, rounds: int, listener: str) -> Figures:
    """Measure a session with so many tool round trips."""
    with SINKS[listener]():
        began, cpu = time.perf_counter(), time.process_time()
        result = await run_session(url, rounds)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert result.text == "done", result.text
    return {"turns/s": rounds / seconds, "CPU us/turn": 1e6 * cpu / rounds}


# --- the tables -------------------------------------------------------------------------------------------------------


async def nanoseconds(loop: Loop, listener: str = NOBODY) -> Figures:
    """Measure one of what a loop does, where a session's tasks stand, in processor time of this thread."""
    with SINKS[listener](), standing(Scope(TAGS)):
        times, taken = 64, 0.0
        while taken < RUN:
            times *= 2
            started = time.thread_time()
            loop(times)
            taken = time.thread_time() - started
        # The many events have no listener on import; and one that has failed would be detached by now.
        assert is_heard(EVENT) is (listener not in (NOBODY, ON_IMPORT)), listener
        return {NANOSECONDS: taken / times * 1e9}


def in_turns(rows: Mapping[str, Measure], turns: int) -> dict[str, list[Figures | None]]:
    """Measure every row once in each turn; none always comes after the same one, or cleans up after it."""
    gc.freeze()  # what is there by now is not looked at over and over
    found: dict[str, list[Figures | None]] = {name: [] for name in rows}
    for _ in range(turns):
        for name in random.sample(list(rows), len(rows)):
            gc.collect()
            found[name].append(trio.run(rows[name]))
    return found


def without_loop(runs: Mapping[str, list[Figures | None]]) -> dict[str, list[Figures | None]]:
    """Take what the loop itself took in the same turn off what was measured."""

    def less(run: Figures | None, loop: Figures | None) -> Figures | None:
        return run and loop and {NANOSECONDS: run[NANOSECONDS] - loop[NANOSECONDS]}

    return {name: list(map(less, each, runs[EMPTY])) for name, each in runs.items() if name != EMPTY}


def tables(options: Options) -> Iterator[Table]:
    """Measure single events with each listener, and whole sessions with some; what is not installed is left out."""
    listeners = [name for name, sink in SINKS.items() if is_installed(sink)]
    for what, loop, bare in OPERATIONS:
        rows: dict[str, Measure] = {EMPTY: partial(nanoseconds, empty_loop)}
        rows |= {name: partial(nanoseconds, bare_loop) for name, bare_loop in bare.items()}
        rows |= {name: partial(nanoseconds, loop, name) for name in listeners}
        # They are short and differ by little, so they take many more turns.
        yield Table(f"Nanoseconds of {what}", list(bare), without_loop(in_turns(rows, 6 * options.repeats)))

    whole = [name for name in IN_SESSIONS if name in listeners]
    events, rounds = 5_000, 50
    with serving(burst=events) as server:
        rows = {name: partial(of_events, server.url, events, name) for name in whole}
        yield Table(f"One session, {events:,} events of 300 B", [NOBODY], in_turns(rows, 3 * options.repeats))
    with serving(rounds=rounds) as server:
        rows = {name: partial(of_tools, server.url, rounds, name) for name in whole}
        yield Table(f"One session, {rounds} tool turns", [NOBODY], in_turns(rows, 3 * options.repeats))


if __name__ == "__main__":
    Benchmark(__file__).main(tables, __doc__)
