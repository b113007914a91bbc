"""How a session of a harness is held: the seven ways a user has. An error ends a request; the session goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core
from managed_agents_actors.testing import AgentCoreSimulator

from ..channels import drained, read_all
from .harness_case import HarnessExchange
from .harness_record import HarnessLife, HeldHarness, Outcome
from .harness_tap import Tap
from .record import Event, Execution


class HarnessWitness:
    """A handler that does what each call's input says, and writes down what it did and what it was shown."""

    def __init__(self, life: HarnessLife) -> None:
        self._life = life

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        run = Execution(context.tool_use_id, context.attempt)
        self._life.executions.append(run)
        try:
            await trio.sleep(input["seconds"])
        except trio.Cancelled:
            run.state = "cancelled"
            raise
        run.state, run.is_error, run.answer = "completed", input["ends"] != "text", input["text"]
        match input["ends"]:
            case "error":
                raise maa.ToolError(input["text"])
            case "defect":
                run.answer = "RuntimeError"
                raise RuntimeError(input["text"])
        return str(input["text"])

    async def handle_event(self, event: Event, context: maa.EventContext) -> None:
        self._life.seen.append(event)


@dataclass(frozen=True)
class Stretch:
    """One life of a session, about to be lived: what is to be said in it, where, and with which options."""

    life: HarnessLife
    exchanges: Sequence[HarnessExchange]
    simulator: AgentCoreSimulator
    options: dict[str, Any]


async def hold_harness(held: HeldHarness, simulator: AgentCoreSimulator, tap: Tap, options: dict[str, Any]) -> None:
    """Hold a session in its manner, until all is said."""
    talk = held.talk
    once = talk.manner in ("run", "reopen")
    for exchanges in [[each] for each in talk.exchanges] if once else [list(talk.exchanges)]:
        life = HarnessLife()
        told, hears = trio.open_memory_channel[maa.SessionResult](len(exchanges) + 10)
        given = {
            **options,
            "session_id" if held.lives else "runtime_session_id": held.session_id,
            "harness_arn": simulator.harness_arn,
            "handler": HarnessWitness(life),
            "notify": told,
            "max_tool_concurrency": talk.concurrency,
            "stop_on_cancel": talk.stop_on_cancel,
            "invoke_retries": talk.invoke_retries,
            "timeout": talk.timeout,
        }
        held.lives.append(life)
        tap.watch(held, lambda hears=hears: hears.statistics().current_buffer_used)  # type: ignore[misc]
        try:
            await MANNERS[talk.manner](Stretch(life, exchanges, simulator, given))
        except maa.ManagedAgentsError as error:
            life.ended = error
        life.notified = drained(hears)


async def _note(life: HarnessLife, message: str, result: Callable[[], Awaitable[maa.SessionResult]]) -> None:
    outcome = Outcome(message)
    life.outcomes.append(outcome)
    try:
        outcome.result = await result()
    except maa.ManagedAgentsError as error:
        outcome.error = error


async def _run(stretch: Stretch) -> None:
    (exchange,) = stretch.exchanges
    prompt = exchange.message
    await _note(stretch.life, prompt, lambda: maa.run_session(bedrock_agent_core, prompt=prompt, **stretch.options))


async def _ask(stretch: Stretch) -> None:
    async with maa.open_session(bedrock_agent_core, **stretch.options) as session:
        await _hear_each(session, stretch)


async def _message(stretch: Stretch) -> None:
    async with maa.open_session(bedrock_agent_core, **stretch.options) as session:
        await _hear_out(session, stretch, stretch.exchanges)


async def _prompt(stretch: Stretch) -> None:
    first, *rest = stretch.exchanges
    stretch.life.outcomes.append(Outcome(first.message))
    async with maa.open_session(bedrock_agent_core, **stretch.options, prompt=first.message) as session:
        await _hear_out(session, stretch, rest)


async def _supervised_ask(stretch: Stretch) -> None:
    async with _supervised(stretch) as session:
        await _hear_each(session, stretch)


async def _supervised_message(stretch: Stretch) -> None:
    async with _supervised(stretch) as session:
        await _hear_out(session, stretch, stretch.exchanges)


@asynccontextmanager
async def _supervised(stretch: Stretch) -> AsyncIterator[maa.Session]:
    # As many restarts as a plan may want: how many are too many is the supervisor's own tests' affair.
    async with maa.open_supervisor(max_restarts=100) as supervisor:
        session = await supervisor.start_session(bedrock_agent_core, **stretch.options)
        stretch.simulator.faults.bind(session)
        yield session


async def _hear_each(session: maa.Session, stretch: Stretch) -> None:
    """Ask one by one, with a subscriber and a live reader beside."""
    life = stretch.life
    async with session.subscribe() as terminals, session.events() as feed, trio.open_nursery() as nursery:
        life.read = []
        nursery.start_soon(read_all, feed, life.read)
        for exchange in stretch.exchanges:
            await trio.sleep(exchange.pause)
            message = exchange.message
            await _note(life, message, lambda message=message: session.ask(message))  # type: ignore[misc]
        await session.stop()
        life.subscribed = drained(terminals)


async def _hear_out(session: maa.Session, stretch: Stretch, exchanges: Sequence[HarnessExchange]) -> None:
    """Say everything without waiting for an answer, then hear the session out."""
    life = stretch.life
    async with session.subscribe() as terminals:
        for exchange in exchanges:
            await trio.sleep(exchange.pause)
            outcome = Outcome(exchange.message)
            life.outcomes.append(outcome)
            try:
                await session.message(exchange.message)
            except maa.ManagedAgentsError as error:
                outcome.error = error
        # One that is refused at once is told twice: to its sender, and by a terminal.
        waiting = [outcome for outcome in life.outcomes if not isinstance(outcome.error, maa.ActorGone)]
        life.subscribed = []
        async for result in terminals:
            life.subscribed.append(result)
            outcome = waiting.pop(0) if waiting else Outcome("nothing that was said")
            outcome.error = None if result.error is None else result.error.exception
            outcome.result = result if outcome.error is None else None
            if not waiting:
                break
        await session.stop()
        life.subscribed += drained(terminals)


MANNERS: dict[str, Callable[[Stretch], Awaitable[None]]] = {
    "run": _run,
    "reopen": _ask,
    "ask": _ask,
    "message": _message,
    "prompt": _prompt,
    "supervised ask": _supervised_ask,
    "supervised message": _supervised_message,
}
