"""The list of events in the reference is true: it has every name, and of each event exactly what is told with it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors import actors, telemetry
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.telemetry._scope import HAPPENED, IDENTITY
from managed_agents_actors.testing import (
    Delay,
    DeleteSession,
    DropStream,
    EndStream,
    Fault,
    FaultPlan,
    LoseRequest,
    RefuseWith,
    call_tool,
    call_tools,
    open_agentcore_simulator,
    open_claude_simulator,
    say,
)

REFERENCE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text(encoding="utf-8")
SECTION = REFERENCE.partition("\n## Telemetry\n")[2].partition("\n## ")[0]
ROLE = "arn:aws:iam::123456789012:role/Harness"
TAGS = {"customer": "acme"}

# What any event may carry.
COMMON = {"provider", "session_id", "session", "agent_id", "request", "turn", "span_id", "parent_id", *TAGS}


@dataclass
class Carried:
    """What is carried by an event: the names of its measurements, of its metadata, and of its content."""

    measurements: set[str] = field(default_factory=set)
    metadata: set[str] = field(default_factory=set)
    content: set[str] = field(default_factory=set)


def listed() -> dict[str, Carried]:
    """The events of the reference's table, each with what it says of it."""
    rows = re.findall(r"^\| `([\w.]+)` \|[^|\n]+\|([^|\n]*)\|([^|\n]*)\|([^|\n]*)\|$", SECTION, re.MULTILINE)
    named = [(name, [set(re.findall(r"`(\w+)`", cell)) for cell in cells]) for name, *cells in rows]
    return {f"managed_agents.{name}": Carried(*cells) for name, cells in named}


class Heard:
    """What was told of each event, all times together."""

    def __init__(self) -> None:
        self.events: defaultdict[str, Carried] = defaultdict(Carried)

    def listen(self, name: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self.events[name].measurements |= measurements.keys()
        self.events[name].metadata |= metadata.keys() - COMMON

    def listen_to_content(self, name: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self.events[name].content |= metadata.keys() - COMMON


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    with telemetry.attach(heard.listen), telemetry.attach(heard.listen_to_content, content=True):
        yield heard


def test_the_reference_lists_every_event() -> None:
    assert sorted(listed()) == sorted(telemetry.EVENT_NAMES)


def test_no_tag_of_a_caller_can_pass_for_what_an_event_says() -> None:
    said = set().union(*(carried.metadata | carried.content for carried in listed().values()))
    assert said - IDENTITY <= HAPPENED
    assert HAPPENED - said == {"error"}  # which the hook of a supervisor is given


def test_the_reference_lists_every_public_name() -> None:
    missing = [name for name in telemetry.__all__ if f"`{name}" not in SECTION]
    assert missing == []


async def test_every_event_carries_what_the_reference_lists(heard: Heard, autojump_clock: MockClock) -> None:
    await have_a_bad_day_with_claude()
    await end_too_early()
    await go_on()
    await have_a_bad_day_with_a_harness()
    await give_up()
    expected = listed()
    assert heard.events.keys() == expected.keys()
    for name, told in heard.events.items():
        told.content -= told.metadata
        assert (name, told) == (name, expected[name])


async def handler(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
    match name:
        case "raise":
            raise KeyError("a defect")
        case "fail":
            raise maa.ToolError("not today")
        case "hang":
            await trio.sleep_forever()
    return "done"


@asynccontextmanager
async def open_claude(script: Any, *faults: Fault) -> AsyncIterator[dict[str, Any]]:
    """Give the options of a session at a simulator."""
    plan = FaultPlan(faults)
    async with (
        open_claude_simulator(script, transport="memory", faults=plan) as simulator,
        simulator.client() as client,
    ):
        where = {"agent": simulator.agent_id, "environment": simulator.environment_id}
        yield {"client": client, "handler": handler, "telemetry_metadata": TAGS, **where}


async def have_a_bad_day_with_claude() -> None:
    """Tools that fail in each way, streams that break and end, requests that are refused and lost."""
    calls = call_tools(("raise", {}), ("fail", {}), ("hang", {}), ("good", {}))
    faults = (
        Fault(on="stream", action=DropStream(after_type="agent.custom_tool_use")),
        Fault(on="stream", action=EndStream(after_events=1), nth=2),
        Fault(on="send_events", action=RefuseWith(429)),
        Fault(on="send_events", action=LoseRequest(), nth=3),
    )
    async with open_claude([calls, say("Done.")], *faults) as options:
        await maa.run_session(claude_managed_agents, prompt="Go.", tool_timeout=10, **options)


async def end_too_early() -> None:
    """Requests that are out of time, cancelled while a session or a tool is waited for, or deleted at the provider."""
    faults = (
        Fault(on="create_session", action=Delay(100)),
        Fault(on="stream", action=DeleteSession(after_events=1), nth=3),
    )
    async with open_claude([call_tool("hang", {})], *faults) as options:
        for _ in ("while it is created", "while a tool runs"):
            with trio.move_on_after(1):
                await maa.run_session(claude_managed_agents, prompt="Go.", **options)
        with pytest.raises(maa.SessionTimeout):
            await maa.run_session(claude_managed_agents, prompt="Go.", timeout=1, **options)
        with pytest.raises(maa.SessionGone):
            await maa.run_session(claude_managed_agents, prompt="Go.", **options)


async def go_on() -> None:
    """A session that is left with a result that nobody has sent, and gone on with."""
    held_up = Fault(on="send_events", sending="user.custom_tool_result", action=LoseRequest(), times=100)
    async with open_claude([call_tool("good", {}), say("Done.")], held_up) as options:
        options["journal"] = maa.MemoryJournal()
        with trio.move_on_after(1):
            async with maa.open_session(claude_managed_agents, name="ada", **options) as session:
                await session.ask("Go.")
        del options["agent"], options["environment"]
        with trio.move_on_after(1):
            await maa.run_session(claude_managed_agents, session_id=session.session_id, **options)


async def have_a_bad_day_with_a_harness() -> None:
    """A harness that is refused, lost on the way, too late, given up, and there at last."""
    faults = FaultPlan(
        [
            Fault(on="get_harness", action=RefuseWith(429)),
            Fault(on="create_harness", action=LoseRequest(), times=2),
            Fault(on="create_harness", action=Delay(100), nth=4),
        ]
    )
    lifecycle = {"create": 30}
    async with (
        open_agentcore_simulator(transport="memory", faults=faults, lifecycle=lifecycle) as simulator,
        simulator.client() as client,
    ):

        async def provision(timeout: float) -> None:
            spec = maa.AgentSpec(name="support", system_prompt="Help.")
            await maa.provision(bedrock_agent_core, spec, client=client, execution_role_arn=ROLE, timeout=timeout)

        with pytest.raises(maa.ProvisioningError):
            await provision(10)
        with trio.move_on_after(20):
            await provision(600)
        await provision(600)


async def give_up() -> None:
    """A child that fails more often than its supervisor bears."""

    async def start(*, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()
        await trio.sleep(1)
        raise RuntimeError("a defect")

    with pytest.raises(maa.RestartIntensityExceeded):
        async with actors.open_supervisor([maa.ChildSpec(id="a", start=start, metadata=TAGS)], max_restarts=1):
            await trio.sleep_forever()
