"""What telling an event costs, with nobody listening and with each sink, beside a bare look-up and a bare call.

The first tables are of single events, in processor time, the loop around them not counted; the last are of whole
sessions, with a server in a process of its own. All rows are measured in turns, many times: a ratio is the median of
those within a turn, and only ratios mean anything, because machines differ and are noisy. Run it with
``python benchmarks/telemetry.py``.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any, Final, TypeVar

import trio
from listeners import NOBODY, ON_IMPORT, SINKS, is_installed
from session import Measure, Server, events_by_session, tools_by_session

from managed_agents_actors.telemetry import emit, span
from managed_agents_actors.telemetry._bus import is_heard
from managed_agents_actors.telemetry._scope import NO_TAGS, Scope, standing

T = TypeVar("T")
Loop = Callable[[int], None]

RUN: Final = 0.002  # seconds of one run of a loop

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


# --- the tables -------------------------------------------------------------------------------------------------------


async def nanoseconds(loop: Loop, listener: str = NOBODY) -> float:
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
        return taken / times * 1e9


async def of_session(measure: Measure, count: int, listener: str) -> tuple[float, float]:
    """Measure a whole session: how much it does in a second, and the processor time that one of it takes here."""
    with SINKS[listener]():
        started = time.process_time()
        rate = await measure()
        return rate, (time.process_time() - started) / count


def in_turns(rows: Mapping[str, Callable[[], Awaitable[T]]], turns: int) -> list[dict[str, T]]:
    """Measure every row once in each turn; none always comes after the same one, or cleans up after it."""
    gc.freeze()  # what is there by now is not looked at over and over
    found: list[dict[str, T]] = [{} for _ in range(turns)]
    for turn in found:
        for name in random.sample(list(rows), len(rows)):
            gc.collect()
            turn[name] = trio.run(rows[name])
    return found


def medians(turns: Sequence[Mapping[str, float]], name: str, bases: Sequence[str]) -> list[float]:
    """Give the median of a row, and those of its ratios to the bases."""
    ratios = (statistics.median(turn[name] / turn[base] for turn in turns) for base in bases)
    return [statistics.median(turn[name] for turn in turns), *ratios]


def costs(loop: Loop, bare: Mapping[str, Loop], listeners: Sequence[str], turns: int) -> dict[str, list[float]]:
    """Measure one of what a loop does with each listener, beside what is bare."""
    rows: dict[str, Measure] = {"": partial(nanoseconds, empty_loop)}
    rows |= {name: partial(nanoseconds, bare_loop) for name, bare_loop in bare.items()}
    rows |= {name: partial(nanoseconds, loop, name) for name in listeners}
    taken = [{name: one - turn[""] for name, one in turn.items()} for turn in in_turns(rows, turns)]
    return {name: medians(taken, name, list(bare)) for name in rows if name}


def rates(measure: Measure, count: int, listeners: Sequence[str], turns: int) -> dict[str, list[float]]:
    """Measure whole sessions, each of which does something so many times, with each listener."""
    rows: dict[str, Callable[[], Awaitable[tuple[float, float]]]]
    rows = {name: partial(of_session, measure, count, name) for name in listeners}
    measured = in_turns(rows, turns)
    rate, taken = ([{name: both[which] for name, both in turn.items()} for turn in measured] for which in (0, 1))
    return {name: [*medians(rate, name, [NOBODY]), medians(taken, name, [NOBODY])[1]] for name in listeners}


def report(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[float] | None], *, as_json: bool) -> None:
    """Print one table; a row of ``None`` is of what is not installed."""
    if as_json:
        table = {name: row and dict(zip(columns, row, strict=True)) for name, row in rows.items()}
        print(json.dumps({"title": title, "rows": table}))
        return
    print(f"\n{title}\n{'-' * len(title)}")
    print(f"{'':<44}" + "".join(f"{column:>16}" for column in columns))
    for name, row in rows.items():
        shown = ["not installed"] if row is None else [f"{row[0]:,.0f}", *(f"{ratio:,.2f} x" for ratio in row[1:])]
        print(f"{name:<44}" + "".join(f"{value:>16}" for value in shown))


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object per table")
    parser.add_argument("--repeats", type=int, default=15, help="turns of the whole sessions; single events take more")
    options = parser.parse_args()
    present = [name for name, sink in SINKS.items() if is_installed(sink)]

    def show(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[float]], expected: Sequence[str]) -> None:
        missing = {name: None for name in expected if name not in rows}
        report(title, columns, {**rows, **missing}, as_json=options.json)

    for what, loop, bare in OPERATIONS:
        rows = costs(loop, bare, present, 4 * options.repeats)
        show(f"Nanoseconds of {what}", ["ns", *bare], rows, list(SINKS))

    whole = [name for name in IN_SESSIONS if name in present]
    columns = ["per second", "its ratio", "processor time"]
    count, rounds = 5_000, 50
    with Server("--serve", "burst", str(count), "300") as (url,):
        rows = rates(lambda: events_by_session(url, count), count, whole, options.repeats)
        show("Events per second, 300 bytes each, a whole session", columns, rows, IN_SESSIONS)
    with Server("--serve", "tools", str(rounds)) as (url, agent, environment):
        rows = rates(lambda: tools_by_session(url, agent, environment, rounds), rounds, whole, options.repeats)
        show("Tool round trips per second, one session", columns, rows, IN_SESSIONS)


if __name__ == "__main__":
    main()
