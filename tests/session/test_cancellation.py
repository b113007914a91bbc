"""Cancellation: every await of the public surface, cancelled at every moment until it completes.

A call is begun in a fresh world and cancelled after n scheduling steps of the whole program, for n = 0, 1, 2, … After
each: no task is left, no stream is open at the provider, every request has had exactly one terminal, and a session
that is still open still works.
"""

from __future__ import annotations

import gc
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import ClaudeSimulator, ask, call_tool, open_claude_simulator, say

# More steps than any of the calls takes: one that never completes fails instead of being tried for ever.
MAX_STEPS = 5_000

# Virtual seconds after which whatever hangs is given up.
PATIENCE = 1_000.0


class Alarm(trio.abc.Instrument):
    """Cancels a scope after so many scheduling steps of any task."""

    def __init__(self, steps: int, scope: trio.CancelScope) -> None:
        self._left = steps
        self._scope = scope

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self._left == 0:
            self._scope.cancel()
        self._left -= 1


@dataclass
class World:
    """A simulator, what a session there is opened with, and the terminals that were announced."""

    simulator: ClaudeSimulator
    options: dict[str, Any]
    hears: trio.MemoryReceiveChannel[maa.SessionResult]
    steps: int
    cancelled: bool = False
    heard: list[maa.SessionResult] = field(default_factory=list)
    tools_running: int = 0

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        self.tools_running += 1
        try:
            if name == "hang":
                await trio.sleep_forever()
            await trio.lowlevel.checkpoint()
        finally:
            self.tools_running -= 1
        return "r"

    async def attempt(self, call: Callable[[], Awaitable[Any]]) -> None:
        """Make the call, and cancel it after this world's number of steps."""
        began = trio.current_time()
        with trio.CancelScope() as scope:
            alarm = Alarm(self.steps, scope)
            trio.lowlevel.add_instrument(alarm)
            try:
                await call()
            finally:
                trio.lowlevel.remove_instrument(alarm)
        self.cancelled = scope.cancelled_caught
        assert trio.current_time() == began, "a cancelled call must not take time"

    def session_ids(self) -> set[str]:
        found = (re.match(r"/v1/sessions/([^/]+)/events", request.path) for request in self.simulator.requests)
        return {match[1] for match in found if match}

    def messages(self) -> list[str]:
        """The texts of the messages that the provider has taken."""
        return [
            event["content"][0]["text"]
            for session_id in self.session_ids()
            for event in self.simulator.session(session_id).events
            if event["type"] == "user.message"
        ]

    def hear(self) -> list[maa.SessionResult]:
        with suppress(trio.WouldBlock, trio.EndOfChannel):
            while True:
                self.heard.append(self.hears.receive_nowait())
        return self.heard


@asynccontextmanager
async def _open_world(script: Any, steps: int) -> AsyncIterator[World]:
    with trio.fail_after(PATIENCE):
        async with open_claude_simulator(script, transport="memory") as simulator:
            living = trio.lowlevel.current_statistics().tasks_living
            async with simulator.client() as client:
                told, hears = trio.open_memory_channel[maa.SessionResult](100)
                options = {
                    "client": client,
                    "agent": simulator.agent_id,
                    "environment": simulator.environment_id,
                    "notify": told,
                }
                world = World(simulator, options, hears, steps)
                yield world
                await wait_all_tasks_blocked()
                for session_id in world.session_ids():
                    assert simulator.session(session_id).open_streams == 0
                assert world.tools_running == 0
            for session_id in world.session_ids():
                simulator.drop_streams(session_id)
            await wait_all_tasks_blocked()
            playing = sum(bool(simulator.session(each).pending) for each in world.session_ids())
            # A turn that waits for an answer is a task of the simulator's; nothing else may be left.
            assert trio.lowlevel.current_statistics().tasks_living == living + playing


@asynccontextmanager
async def _open_session(world: World, **options: Any) -> AsyncIterator[maa.Session]:
    async with maa.open_session(claude_managed_agents, handler=world, **world.options, **options) as session:
        await wait_all_tasks_blocked()
        yield session


Trial: TypeAlias = Callable[[World], Awaitable[None]]


def _sweep(script: Any, trial: Trial) -> Counter[str]:
    """Try with every number of steps until the call completes; say how the trials ended."""
    outcomes: Counter[str] = Counter()

    async def run(steps: int) -> bool:
        async with _open_world(script, steps) as world:
            await trial(world)
        return world.cancelled

    for steps in range(MAX_STEPS):
        if not trio.run(run, steps, clock=MockClock(autojump_threshold=0)):
            gc.collect()  # what was never closed warns when it is collected, and here a warning is an error
            outcomes["completed"] += 1
            return outcomes
        outcomes["cancelled"] += 1
    pytest.fail(f"the call did not complete within {MAX_STEPS} steps")


async def _still_works(world: World, session: maa.Session) -> maa.SessionResult:
    """The session must take up a later request."""
    result = await session.ask("again")
    assert result.terminal == "end_turn"
    assert result.error is None
    await wait_all_tasks_blocked()
    status = session.status()
    assert (status.phase, status.busy, status.queued_messages, status.tools_running) == ("live", False, 0, ())
    assert world.hear()[-1] == result
    return result


# --- run_session and open_session -------------------------------------------------------------------------------------


def test_lif_04_run_session() -> None:
    async def trial(world: World) -> None:
        await world.attempt(lambda: maa.run_session(claude_managed_agents, handler=world, prompt="go", **world.options))
        (terminal,) = world.hear()
        assert world.messages().count("go") <= 1
        assert (terminal.error is not None) == (terminal.terminal == "terminated")
        if not world.cancelled:
            assert (terminal.terminal, terminal.last_text) == ("end_turn", "done")

    assert _sweep([call_tool("t"), say("done")], trial)["cancelled"] > 10


def test_lif_04_run_session_with_a_tool_that_hangs() -> None:
    async def trial(world: World) -> None:
        async def run() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(
                    lambda: maa.run_session(claude_managed_agents, handler=world, prompt="go", **world.options)
                )
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()

        await world.attempt(run)
        (terminal,) = world.hear()
        assert terminal.terminal == "terminated"
        assert terminal.error is not None

    assert _sweep([call_tool("hang")], trial)["cancelled"] > 0


def test_open_session_entering_and_leaving() -> None:
    async def trial(world: World) -> None:
        async def enter_and_leave() -> None:
            async with maa.open_session(claude_managed_agents, handler=world, **world.options):
                pass

        await world.attempt(enter_and_leave)
        assert world.hear() == []
        assert world.messages() == []

    assert _sweep([say("hi")], trial)["cancelled"] > 10


def test_open_session_with_a_kickoff_and_a_request_inside() -> None:
    async def trial(world: World) -> None:
        async def talk() -> None:
            async with maa.open_session(claude_managed_agents, handler=world, prompt="go", **world.options) as session:
                await session.ask("more")

        await world.attempt(talk)
        heard = world.hear()
        assert len(world.messages()) <= len(heard) <= 2
        assert len(heard) >= 1
        if not world.cancelled:
            assert [result.last_text for result in heard] == ["done", "more"]

    assert _sweep([[call_tool("t"), say("done")]], trial)["cancelled"] > 10


# --- the methods of an open session -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["ask", "message"])
def test_talking(method: str) -> None:
    async def trial(world: World) -> None:
        async with _open_session(world) as session:
            await world.attempt(lambda: getattr(session, method)("go"))
            again = await _still_works(world, session)
            # A message that was cancelled may have been sent or not; whichever, its terminal is told once.
            assert world.messages() in (["go", "again"], ["again"])
            heard = [result.last_text for result in world.heard]
            assert heard == (["done", "again"] if "go" in world.messages() else [again.last_text])

    assert _sweep([[call_tool("t"), say("done")]], trial)["cancelled"] > 0


def test_send_event() -> None:
    event = {"type": "user.message", "content": [{"type": "text", "text": "raw"}]}

    async def trial(world: World) -> None:
        async with _open_session(world) as session:
            await world.attempt(lambda: session.send_event(event))
            await wait_all_tasks_blocked()
            await _still_works(world, session)
            assert world.messages() in (["raw", "again"], ["again"])
            assert len(world.heard) == len(world.messages())

    assert _sweep(None, trial)["cancelled"] > 0


def test_interrupt() -> None:
    async def trial(world: World) -> None:
        async with _open_session(world) as session:
            await session.message("go")
            await wait_all_tasks_blocked()
            assert world.tools_running == 1
            await world.attempt(session.interrupt)
            await wait_all_tasks_blocked()
            await session.interrupt()  # the cancelled one may have come to nothing
            assert world.tools_running == 0
            await _still_works(world, session)
            assert [result.terminal for result in world.heard] == ["end_turn", "end_turn"]
            assert world.messages() == ["go", "again"]

    assert _sweep([[call_tool("hang")]], trial)["cancelled"] > 0


def test_confirm() -> None:
    async def trial(world: World) -> None:
        async with _open_session(world) as session:
            waiting = await session.ask("go")
            assert waiting.terminal == "requires_action"
            (use,) = waiting.server_tool_uses
            await world.attempt(lambda: session.confirm(use.id, "allow"))
            await wait_all_tasks_blocked()
            with suppress(maa.InvalidRequestError):  # it is decided already, unless the cancelled one came to nothing
                await session.confirm(use.id, "allow")
            await wait_all_tasks_blocked()
            await _still_works(world, session)
            assert [result.terminal for result in world.heard] == ["requires_action", "end_turn", "end_turn"]

    assert _sweep([[ask("bash"), say("done")]], trial)["cancelled"] > 0


def test_stop() -> None:
    async def trial(world: World) -> None:
        async with _open_session(world) as session:
            await session.message("go")
            await wait_all_tasks_blocked()
            await session.message("queued")
            await world.attempt(session.stop)
            if not world.cancelled:
                assert session.status().phase == "closed"
        assert [result.terminal for result in world.hear()] == ["terminated", "terminated"]
        assert world.messages() == ["go"]

    assert _sweep([[call_tool("hang")]], trial)["completed"] == 1


def test_wait_closed() -> None:
    async def trial(world: World) -> None:
        async with _open_session(world) as session:

            async def stop_soon() -> None:
                for _ in range(5):
                    await trio.lowlevel.checkpoint()
                await session.stop()

            async def wait() -> None:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stop_soon)
                    await session.wait_closed()

            await world.attempt(wait)
            await wait_all_tasks_blocked()
            if session.status().phase == "closed":
                with pytest.raises(maa.ActorGone):
                    await session.ask("again")
            else:
                await _still_works(world, session)
        assert len(world.hear()) == len(world.messages())

    assert _sweep(None, trial)["cancelled"] > 0


def test_subscribe() -> None:
    async def trial(world: World) -> None:
        async with _open_session(world) as session:
            heard: list[maa.SessionResult] = []

            async def listen() -> None:
                async with session.subscribe() as terminals:
                    await session.message("go")
                    heard.append(await terminals.receive())

            await world.attempt(listen)
            await _still_works(world, session)
            assert len(world.heard) == len(world.messages())
            assert heard == ([] if world.cancelled and not heard else world.heard[:1])

    assert _sweep(None, trial)["cancelled"] > 0


def test_events() -> None:
    async def trial(world: World) -> None:
        async with _open_session(world) as session:

            async def read() -> None:
                async with session.events() as events:
                    await session.message("go")
                    while (await events.receive())["type"] != "session.status_idle":
                        pass

            await world.attempt(read)
            await _still_works(world, session)
            assert len(world.heard) == len(world.messages())

    assert _sweep(None, trial)["cancelled"] > 0
