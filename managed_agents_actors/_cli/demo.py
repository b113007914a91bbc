"""The demonstration: a session that loses its stream, and then its actor, told as it happens and then checked.

It uses what every user of the library has: the simulator with a fault plan, a supervisor, a session, a handler that
watches events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import trio

from .._errors import SessionError
from .._model import EventContext, ReconnectPolicy, SessionResult, SessionStatus, ToolContext
from .._session.handle import Session
from .._session.supervisor import open_supervisor
from ..providers import claude_managed_agents
from ..testing import (
    ClaudeSimulator,
    CrashSession,
    Delay,
    DropStream,
    EndStream,
    Fault,
    FaultPlan,
    Turn,
    open_claude_simulator,
)
from .account import Note
from .verdict import Evidence, problems

# Far more than the demonstration takes; it must end on a machine where something is wrong, too.
TIMEOUT: Final = 20.0

# Long enough for the second tool to finish while there is no stream, short enough for people to wait.
RECONNECT: Final = ReconnectPolicy(initial=0.4, jitter=0.0)

# How often the session is asked whether its stream is there: often enough for what is told to hundredths of a second.
WATCH_SECONDS: Final = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoTool:
    """A tool that takes so many seconds to give its text."""

    seconds: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is played.

    Attributes:
        prompt: What the user asks.
        script: The agent's part.
        tools: The user's tools.
        faults: What goes wrong.
        text: What the agent says last if all goes right.
    """

    prompt: str
    script: Callable[[Turn], Awaitable[None]]
    tools: Mapping[str, DemoTool]
    faults: Sequence[Fault]
    text: str


async def _travel_agent(turn: Turn) -> None:
    await turn.say("Let me look at the forecast and at your flight.", pace=0.02)
    weather, flight = await turn.call_tools(
        ("get_forecast", {"city": "Lisbon", "day": "Friday"}), ("get_flight", {"number": "MA 204"})
    )
    await turn.say(f"Pack light: {weather.text}. {flight.text}.", pace=0.02)


SCENARIO: Final = Scenario(
    prompt="I fly to Lisbon on Friday with MA 204. What should I pack, and is the flight on time?",
    script=_travel_agent,
    tools={
        "get_forecast": DemoTool(seconds=0.25, text="24 degrees and sunny"),
        "get_flight": DemoTool(seconds=0.55, text="MA 204 leaves on time, at 09:40 from gate B12"),
    },
    # Two statuses, the message, the model request's start, the agent's text, two calls, the request's end, three
    # events of waiting, and the first result: what follows goes down with the connection, while the second tool runs.
    # Then the second result is sent, and the actor dies before it can know whether the server has taken it.
    faults=(
        Fault(on="stream", action=DropStream(after_events=12)),
        Fault(on="send_events", action=Delay(seconds=0.1), nth=3),
        Fault(on="send_events", action=CrashSession(when="after"), nth=3),
    ),
    text="Pack light: 24 degrees and sunny. MA 204 leaves on time, at 09:40 from gate B12.",
)


class Narrator:
    """The session's handler: runs the tools, watches the events and the stream, and notes all of it.

    Attributes:
        shown: The events shown, in order.
        runs: Each run of a tool: its name and the call's id.
    """

    def __init__(self, scenario: Scenario, show: Callable[[Note], None]) -> None:
        self._tools = scenario.tools
        self._show = show
        self._began = trio.current_time()
        self.shown: list[Mapping[str, Any]] = []
        self.runs: list[tuple[str, str]] = []
        self._session: Session | None = None
        self._lost_at: float | None = None
        self._recovered: list[str] = []
        self._restarting = False

    def note(self, type: str, **fields: Any) -> None:
        """Show a note of this type, with the seconds since the beginning."""
        self._show({"type": type, "at": round(trio.current_time() - self._began, 4), **fields})

    async def handle_tool_call(self, name: str, input: Mapping[str, Any], context: ToolContext) -> str:
        """Run a tool."""
        self.runs.append((name, context.tool_use_id))
        self.note("tool", phase="started", name=name, id=context.tool_use_id, input=dict(input))
        began = trio.current_time()
        await trio.sleep(self._tools[name].seconds)
        seconds = round(trio.current_time() - began, 4)
        text = self._tools[name].text
        self.note("tool", phase="finished", name=name, id=context.tool_use_id, seconds=seconds, text=text)
        return text

    async def handle_event(self, event: Mapping[str, Any], context: EventContext) -> None:
        """Note an event; one that was read from the history is one that the lost stream owed."""
        if "id" not in event:
            return  # a text delta: the message it is part of comes whole, too
        self.shown.append(event)
        if context.origin == "history":
            self._recovered.append(event["type"])
        else:
            self._look_at_stream()
        self.note("event", origin=context.origin, event=event)

    def supervised(self, name: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """Note what the supervisor tells of the session's actor."""
        if name == "managed_agents.supervisor.child_exited" and metadata["exit"].kind == "crashed":
            self.note("crash", error=str(metadata["exit"].error.__cause__))
            self._restarting = True
        elif name == "managed_agents.supervisor.child_restarted":
            self.note("restarted", restarts=measurements["restarts"])

    async def watch_stream(self, session: Session) -> None:
        """Note when the stream is lost and when it is back, until cancelled."""
        self._session = session
        while True:
            self._look_at_stream()
            await trio.sleep(WATCH_SECONDS)

    def _look_at_stream(self) -> None:
        if self._session is None:
            return
        status, now = self._session.status(), trio.current_time()
        if self._restarting:
            self._restarting = status.phase != "live"  # an actor that is new to the session has lost no stream
        elif status.phase == "reconnecting" and self._lost_at is None:
            self._lost_at = now
            running = [name for name, call_id in self.runs if call_id in status.tools_running]
            self.note("drop", tools_running=running)
        elif status.phase == "live" and self._lost_at is not None:
            self.note("reconnected", seconds=round(now - self._lost_at, 4), recovered=self._recovered)
            self._lost_at, self._recovered = None, []


async def demonstrate(scenario: Scenario, show: Callable[[Note], None]) -> list[str]:
    """Play a scenario against a simulator on loopback; see :func:`play`."""
    async with open_claude_simulator(scenario.script, faults=FaultPlan(scenario.faults)) as simulator:
        return await play(scenario, simulator, show)


async def play(scenario: Scenario, simulator: ClaudeSimulator, show: Callable[[Note], None]) -> list[str]:
    """Play a scenario against an open simulator, show what happens, and say what went wrong, if anything did."""
    narrator = Narrator(scenario, show)
    result, status = await _converse(scenario, simulator, narrator)
    fired = Counter(type(fault.fault.action) for fault in simulator.faults.fired)
    evidence = Evidence(
        expected_text=scenario.text,
        expected_tools=tuple(scenario.tools),
        result=result,
        shown=narrator.shown,
        runs=narrator.runs,
        reconnects=status.reconnects,
        restarts=status.restarts,
        drops=fired[DropStream] + fired[EndStream],
        crashes=fired[CrashSession],
        log=simulator.session(result.session_id or "").events,
        requests=simulator.requests,
    )
    wrong = problems(evidence)
    narrator.note(
        "result",
        ok=not wrong,
        problems=wrong,
        terminal=result.terminal,
        text=result.text,
        usage={key: value for key, value in asdict(result.usage).items() if key != "raw"},
        turns=result.turns,
        events=len(result.events),
        reconnects=status.reconnects,
        restarts=status.restarts,
    )
    return wrong


async def _converse(
    scenario: Scenario, simulator: ClaudeSimulator, narrator: Narrator
) -> tuple[SessionResult, SessionStatus]:
    """Have the one request; a request that fails gives the partial result that its error carries."""
    async with (
        simulator.client() as client,
        open_supervisor(on_event=narrator.supervised) as supervisor,
    ):
        session = await supervisor.start_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=narrator,
            timeout=TIMEOUT,
            reconnect=RECONNECT,
        )
        simulator.faults.bind(session)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(narrator.watch_stream, session)
            try:
                result = await session.ask(scenario.prompt)
            except SessionError as error:
                result = error.result
            nursery.cancel_scope.cancel()
    # Leaving the supervisor has waited until the handler was shown every event.
    return result, session.status()
