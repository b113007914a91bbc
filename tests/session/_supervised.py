"""A conversation with a supervised session whose actor is crashed on purpose, and everything that was seen of it.

Each conversation has a simulator and a virtual time of its own. Nothing here knows how the library works.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    ClaudeSimulator,
    DelayAnswer,
    Fault,
    FaultPlan,
    RecordingHandler,
    assert_exactly_once,
    crash_session,
    open_claude_simulator,
    run_in_virtual_time,
)

from ..channels import drained

# Virtual seconds after which a conversation hangs.
PATIENCE = 10_000.0

# Nobody here means to exceed the intensity, unless a test says so.
PLENTY = 1_000


class Defect(Exception):
    """What makes an actor crash."""


def crash(session: maa.Session) -> bool:
    """Crash the session's actor; say whether one ran."""
    try:
        crash_session(session, Defect("on purpose"))
    except maa.ActorGone:
        return False
    return True


def slow(seconds: float) -> RecordingHandler:
    """A handler whose tool takes so long."""

    async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        await trio.sleep(seconds)
        return f"attempt {context.attempt}"

    return RecordingHandler(tool)


def attempts(handler: RecordingHandler) -> list[int]:
    return [call.context.attempt for call in handler.calls]


async def start(supervisor: maa.Supervisor, place: Any, handler: Any = None, **options: Any) -> maa.Session:
    """Start a session of a simulated place under a supervisor."""
    handler = RecordingHandler() if handler is None else handler
    return await supervisor.start_session(claude_managed_agents, handler=handler, **{**place.options, **options})


def created(simulator: ClaudeSimulator) -> int:
    """How many sessions the simulator was asked for."""
    return sum(r.method == "POST" and r.path == "/v1/sessions" for r in simulator.requests)


def account(result: maa.SessionResult) -> dict[str, Any]:
    """What a result says, but for ids and times, which no two runs share."""
    return {
        "terminal": result.terminal,
        "text": result.text,
        "last_text": result.last_text,
        "turns": result.turns,
        "usage": (result.usage.input_tokens, result.usage.output_tokens),
        "custom_tool_uses": [(use.name, use.input) for use in result.custom_tool_uses],
        "server_tool_uses": [(use.name, use.input) for use in result.server_tool_uses],
        "events": [event["type"] for event in result.events],
        "outcome": None if result.outcome is None else (result.outcome.result, result.outcome.explanation),
        "error": None if result.error is None else result.error.type,
    }


class CrashingObserver(RecordingHandler):
    """Keeps what it is given, and crashes the actor once it has been shown so many events and deltas.

    Attributes:
        session: Whose actor it crashes.
    """

    def __init__(self, handler: Any, crash_after: Iterable[int] = ()) -> None:
        super().__init__(handler)
        self._crash_after = list(crash_after)
        self.session: maa.Session | None = None

    async def handle_event(self, event: dict[str, Any], context: maa.EventContext) -> None:
        await super().handle_event(event, context)
        shown = len(self.events) + len(self.deltas)
        if self.session is not None and self._crash_after and shown >= self._crash_after[0]:
            crash(self.session)
            self._crash_after.pop(0)
            await trio.sleep(0.01)  # the next crash is to strike the next actor


@dataclass(frozen=True, kw_only=True)
class Talk:
    """What is said in a conversation, who answers, and when the session's actor crashes.

    Attributes:
        script: The simulator's.
        handler: Runs the calls.
        says: What is asked, each while the one before it is still waited for.
        latency: Seconds that every answer of the server takes.
        faults: Of the simulator.
        crash_at: Seconds after the start at which the actor crashes.
        crash_after: Crash when so many events and deltas have been shown.
        usage: Tokens that each model request reports.
        options: Of the session.
    """

    script: Any
    handler: Any = None
    says: Sequence[Any] = ("Hello", "Thanks")
    latency: float = 0.0
    faults: Sequence[Fault] = ()
    crash_at: Sequence[float] = ()
    crash_after: Sequence[int] = ()
    usage: dict[str, int] | None = None
    options: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Course:
    """What came of it.

    Attributes:
        accounts: What each result says, in the order of the questions.
        attempts: The attempt of each call that the handler was given.
        restarts: How often the actor was replaced.
        took: Virtual seconds until the last result.
        problems: What is not as it must be.
    """

    accounts: list[dict[str, Any]]
    attempts: list[int]
    restarts: int
    took: float
    problems: list[str]


def converse(talk: Talk, *, seed: int = 0) -> Course:
    """Hold a conversation in a virtual time of its own."""
    return run_in_virtual_time(_converse, talk, seed=seed, patience=PATIENCE)


async def _converse(talk: Talk) -> Course:
    delay = [Fault(on="any", action=DelayAnswer(talk.latency), nth="every")] if talk.latency else []
    plan = FaultPlan([*delay, *talk.faults])
    observer = CrashingObserver(talk.handler, talk.crash_after)
    async with (
        open_claude_simulator(talk.script, transport="memory", faults=plan, usage=talk.usage) as simulator,
        simulator.client() as client,
    ):
        options = {"agent": simulator.agent_id, "environment": simulator.environment_id, **(talk.options or {})}
        async with maa.open_supervisor(max_restarts=PLENTY) as supervisor:
            session = await supervisor.start_session(claude_managed_agents, handler=observer, client=client, **options)
            plan.bind(session)
            observer.session = session
            began = trio.current_time()
            async with session.subscribe() as terminals:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(_crash_at, session, [began + at for at in talk.crash_at])
                    results = await _ask_all(session, talk.says)
                    took = trio.current_time() - began
                    nursery.cancel_scope.cancel()
                await wait_all_tasks_blocked()
                announced = drained(terminals)
            restarts = session.status().restarts
    problems = _problems(simulator, observer, results, announced, talk)
    accounts = [account(result) for result in results]
    attempts = [call.context.attempt for call in observer.calls]
    return Course(accounts=accounts, attempts=attempts, restarts=restarts, took=took, problems=problems)


async def _crash_at(session: maa.Session, times: Iterable[float]) -> None:
    for at in times:
        await trio.sleep_until(at)
        crash(session)


async def _ask_all(session: maa.Session, questions: Sequence[Any]) -> list[maa.SessionResult]:
    """Ask everything at once, in order."""
    results: dict[int, maa.SessionResult] = {}

    async def ask(number: int) -> None:
        results[number] = await session.ask(questions[number])

    async with trio.open_nursery() as nursery:
        for number in range(len(questions)):
            nursery.start_soon(ask, number)
            await wait_all_tasks_blocked()
    return [results[number] for number in range(len(questions))]


def _problems(
    simulator: ClaudeSimulator,
    observer: RecordingHandler,
    results: Sequence[maa.SessionResult],
    announced: Sequence[maa.SessionResult],
    talk: Talk,
) -> list[str]:
    """What must hold whatever crashed."""
    problems = []
    texts = None if any(not isinstance(said, str) for said in talk.says) else list(talk.says)
    # A reprompt is a message too, of ours.
    messages = None if (talk.options or {}).get("require_terminal_tool") else texts
    try:
        assert_exactly_once(simulator, *results, messages=messages, announced=announced)
    except AssertionError as error:
        problems.append(str(error))
    log = simulator.session(str(results[0].session_id)).events
    if observer.events != list(log):
        shown = [event["type"] for event in observer.events]
        problems.append(f"the observer was shown {shown}, expected {[event['type'] for event in log]}")
    if "".join(observer.deltas) != "".join(result.text for result in results):
        problems.append(f"the deltas were {observer.deltas}, expected those of {[result.text for result in results]}")
    if created(simulator) != 1:
        problems.append(f"{created(simulator)} sessions were created, expected one")
    return problems
