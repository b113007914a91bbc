"""How a session is held: the seven ways a user has, each telling its messages and hearing what comes of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import ClaudeSimulator

from ..channels import drained, read_all
from .case import Conversation, Exchange
from .record import Event, Execution, Held, Life

TEXT_DELTA = "managed_agents.text_delta"


class Witness:
    """A handler that does what each call's input says, and writes down what it did and what it was shown."""

    def __init__(self, life: Life) -> None:
        self._life = life

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        run = Execution(context.tool_use_id, context.attempt)
        self._life.executions.append(run)
        try:
            await trio.sleep(input["seconds"])
        except trio.Cancelled:
            run.state = "cancelled"
            raise
        run.state, run.is_error = "completed", input["ends"] != "text"
        run.answer = input["text"]
        match input["ends"]:
            case "error":
                raise maa.ToolError(input["text"])
            case "defect":
                run.answer = "RuntimeError"
                raise RuntimeError(input["text"])
        return str(input["text"])

    async def handle_event(self, event: Event, context: maa.EventContext) -> None:
        if event["type"] == TEXT_DELTA:
            self._life.deltas.append(event["text"])
        else:
            self._life.events.append(event)

    async def handle_confirmation(self, use: maa.ToolUse, context: maa.ToolContext) -> str:
        self._life.verdicts.append(use.id)
        return str(use.input["verdict"])


@dataclass(frozen=True)
class Stretch:
    """One life of a session, about to be lived.

    Attributes:
        held: The session.
        life: Where it is written down.
        exchanges: What is to be said in it.
        simulator: Where.
        options: What the session is opened with.
    """

    held: Held
    life: Life
    exchanges: Sequence[Exchange]
    simulator: ClaudeSimulator
    options: dict[str, Any]


async def hold(talk: Conversation, held: Held, simulator: ClaudeSimulator, options: dict[str, Any]) -> None:
    """Hold a session in its manner, until all is said or something ends it."""
    new = {"agent": simulator.agent_id, "environment": simulator.environment_id}
    once = talk.manner in ("run", "reopen")
    for exchanges in [[each] for each in talk.exchanges] if once else [talk.exchanges]:
        life = Life()
        held.lives.append(life)
        told, hears = trio.open_memory_channel[maa.SessionResult](len(exchanges) + 10)
        given = {
            **options,
            "reconnect": replace(options["reconnect"], max_attempts=talk.attempts),
            **({"session_id": held.session_id} if held.session_id else new),
            "handler": Witness(life),
            "notify": told,
            "deltas": talk.deltas,
            "max_tool_concurrency": talk.concurrency,
            "timeout": None,
        }
        try:
            await MANNERS[talk.manner](Stretch(held, life, exchanges, simulator, given))
        except maa.ManagedAgentsError as error:
            life.error = error
        told.close()
        life.notified = [result async for result in hears]
        held.session_id = held.session_id or next((result.session_id for result in life.notified), None)
        if life.error is not None:
            break


async def _run(stretch: Stretch) -> None:
    (exchange,) = stretch.exchanges
    stretch.life.messages.append(exchange.message)
    result = await maa.run_session(claude_managed_agents, prompt=exchange.message, **stretch.options)
    stretch.held.session_id = result.session_id
    stretch.life.results.append(result)


async def _ask(stretch: Stretch) -> None:
    async with _opened(stretch) as session:
        await _hear_each(session, stretch)


async def _message(stretch: Stretch) -> None:
    async with _opened(stretch) as session:
        await _hear_out(session, stretch, stretch.exchanges)


async def _prompt(stretch: Stretch) -> None:
    first, *rest = stretch.exchanges
    stretch.life.messages.append(first.message)
    async with _opened(stretch, prompt=first.message) as session:
        await _hear_out(session, stretch, rest)


async def _supervised_ask(stretch: Stretch) -> None:
    async with _supervised(stretch) as session:
        await _hear_each(session, stretch)


async def _supervised_message(stretch: Stretch) -> None:
    async with _supervised(stretch) as session:
        await _hear_out(session, stretch, stretch.exchanges)


@asynccontextmanager
async def _opened(stretch: Stretch, **options: Any) -> AsyncIterator[maa.Session]:
    async with maa.open_session(claude_managed_agents, **stretch.options, **options) as session:
        stretch.held.session_id = session.session_id
        yield session


@asynccontextmanager
async def _supervised(stretch: Stretch) -> AsyncIterator[maa.Session]:
    # As many restarts as a plan may want: how many are too many is the supervisor's own tests' affair.
    async with maa.open_supervisor(max_restarts=100) as supervisor:
        session = await supervisor.start_session(claude_managed_agents, **stretch.options)
        stretch.held.session_id = session.session_id
        stretch.simulator.faults.bind(session)
        yield session


async def _hear_each(session: maa.Session, stretch: Stretch) -> None:
    """Ask one by one, with a subscriber and a live reader beside."""
    life = stretch.life
    async with session.subscribe() as terminals, session.events() as feed, trio.open_nursery() as nursery:
        life.read = []
        nursery.start_soon(read_all, feed, life.read)
        try:
            for exchange in stretch.exchanges:
                await trio.sleep(exchange.pause)
                life.messages.append(exchange.message)
                life.results.append(await session.ask(exchange.message))
        except maa.ManagedAgentsError as error:
            life.error = error
        await session.stop()
        life.subscribed = drained(terminals)


async def _hear_out(session: maa.Session, stretch: Stretch, exchanges: Sequence[Exchange]) -> None:
    """Say everything without waiting for an answer, then hear the session out."""
    life = stretch.life
    async with session.subscribe() as terminals:
        for exchange in exchanges:
            await trio.sleep(exchange.pause)
            life.messages.append(exchange.message)
            await session.message(exchange.message)
        life.subscribed = []
        while len(life.subscribed) < len(life.messages):
            result = await terminals.receive()
            life.subscribed.append(result)
            if result.error is not None and result.error.exception is not None:
                raise result.error.exception
            life.results.append(result)
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
