"""Lets a case happen, in a world and in a virtual time of its own, and writes down what was seen of it.

Everything goes through the public surface; what is written down was seen by the server, by the handler and by the
session's users, each for themselves.
"""

from __future__ import annotations

import gc
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.testing import (
    ClaudeSimulator,
    CrashSession,
    FaultPlan,
    Turn,
    deterministic_schedule,
    open_claude_simulator,
)

from .case import Case
from .faults import LONGEST_DELAY, MOST_KINDS
from .manners import hold
from .record import Held, Record

# Virtual seconds: every tool, stall and storm that a case can hold fits in many times.
PATIENCE = 20_000.0

# What a session says that has used up its attempts to reconnect: what the last of them came to.
USED_UP = (maa.TransportError, maa.RateLimitError, maa.OverloadedError, maa.ServerError)

TEXT_DELTA = "managed_agents.text_delta"
LIBRARY_LOG = logging.getLogger("managed_agents_actors")


def play(case: Case) -> Record:
    """Let a case happen."""
    record = Record(sessions=[Held() for _ in case.conversations])
    with deterministic_schedule(case.seed), listening(record.noise):
        try:
            trio.run(_play, case, record, clock=MockClock(autojump_threshold=0))
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is written down and judged
            record.escaped = error
        gc.collect(0)  # what was never awaited says so when it is collected
    return record


@contextmanager
def listening(noise: list[str]) -> Iterator[None]:
    """Note what complains: Python's warnings, what it can only print, and errors in the library's log."""
    handler, level, hook = _Notes(noise), LIBRARY_LOG.level, sys.unraisablehook
    LIBRARY_LOG.addHandler(handler)
    LIBRARY_LOG.setLevel(logging.ERROR)
    sys.unraisablehook = lambda what: noise.append(f"unraisable: {what.exc_value!r} in {what.object!r}")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        sys.unraisablehook = hook
        LIBRARY_LOG.setLevel(level)
        LIBRARY_LOG.removeHandler(handler)
    noise += [f"warning: {warning.message}" for warning in caught]


class _Notes(logging.Handler):
    def __init__(self, noise: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._noise = noise

    def emit(self, line: logging.LogRecord) -> None:
        self._noise.append(f"log: {line.getMessage()}")


async def _play(case: Case, record: Record) -> None:
    plan = FaultPlan(case.mishaps.faults)
    plan.bind()  # a session without a supervisor is not to crash; the others are bound once they run
    parts = {each.message: each for talk in case.conversations for each in talk.exchanges}

    async def agent(turn: Turn) -> None:
        for step in parts[turn.text].steps:
            await step.perform(turn)

    async with open_claude_simulator(agent, transport="memory", faults=plan) as simulator:
        before = trio.lowlevel.current_statistics().tasks_living
        async with simulator.client(api_key=lambda: simulator.api_key, idle_timeout=case.idle_timeout) as client:
            options = {"client": client, "reconnect": case.reconnect}
            with trio.move_on_after(PATIENCE) as patience:
                async with trio.open_nursery() as nursery:
                    for talk, held in zip(case.conversations, record.sessions, strict=True):
                        nursery.start_soon(hold, talk, held, simulator, options)
            record.hung = patience.cancelled_caught
            # A client that is still open may keep idle connections, but no stream; the server has seen that at once.
            await trio.sleep(1.0)
            _look_back(record, simulator)
        # What nobody waits for any more is still held back at the simulator, if the plan says so.
        await trio.sleep(LONGEST_DELAY * MOST_KINDS)
        await wait_all_tasks_blocked()
        record.tasks_left = trio.lowlevel.current_statistics().tasks_living - before - _at_work(record, simulator)
        record.requests = simulator.requests
        record.may_end_with = case.mishaps.endings(plan.fired)
        record.gives_up = bool(plan.fired) and any(talk.attempts is not None for talk in case.conversations)
        if record.gives_up:
            record.may_end_with += USED_UP
        record.crashes = sum(isinstance(each.fault.action, CrashSession) for each in plan.fired)


def _look_back(record: Record, simulator: ClaudeSimulator) -> None:
    for held in record.sessions:
        if held.session_id is None:
            continue
        try:
            seen = simulator.session(held.session_id)
        except KeyError:
            held.deleted = True
        else:
            held.log, held.open_streams = seen.events, seen.open_streams


def _at_work(record: Record, simulator: ClaudeSimulator) -> int:
    """How many agents still work: a session that was given up goes on at the server, or waits there for answers."""
    ids = [held.session_id for held in record.sessions if held.session_id is not None and not held.deleted]
    return sum(bool(seen.pending) or seen.status == "running" for seen in map(simulator.session, ids))
