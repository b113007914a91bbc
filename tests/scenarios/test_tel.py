"""TEL: what whole sessions tell on the event bus, for both providers: what happened, to whom, and within what."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors import telemetry
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.testing import (
    DropStream,
    EndStream,
    Fault,
    FaultPlan,
    LoseRequest,
    RefuseWith,
    call_tool,
    crash_session,
    open_agentcore_simulator,
    open_claude_simulator,
    say,
    wait,
)

PATIENCE = 10_000.0
TAGS = {"customer": "c-42", "provider": "nobody", "session_id": "none"}
SCRIPT = [call_tool("lookup", {"email": "a@b.c"}), call_tool("lookup", {"email": "d@e.f"}), say("Done.")]


@dataclass(frozen=True)
class Told:
    """An event, without the prefix that all names have."""

    name: str
    measured: Mapping[str, Any]
    about: Mapping[str, Any]


@dataclass
class Heard:
    """Everything that was told, in order."""

    events: list[Told] = field(default_factory=list)

    def __call__(self, name: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        self.events.append(Told(name.removeprefix("managed_agents."), dict(measurements), dict(metadata)))

    def of(self, *names: str) -> list[Told]:
        return [told for told in self.events if told.name in names]

    def one(self, name: str) -> Told:
        (told,) = self.of(name)
        return told

    def names(self, *beginnings: str) -> list[str]:
        return [told.name for told in self.events if told.name.startswith(beginnings)]


@pytest.fixture
def heard() -> Iterator[Heard]:
    listener = Heard()
    with telemetry.attach(listener):
        yield listener


@dataclass(frozen=True)
class Place:
    """A provider, simulated; what a session there is opened with; what its requests are told as."""

    provider: Any
    options: dict[str, Any]
    request: str


@asynccontextmanager
async def open_claude(script: Any, **options: Any) -> AsyncIterator[Place]:
    async with open_claude_simulator(script, transport="memory", **options) as simulator, simulator.client() as client:
        named = {"client": client, "agent": simulator.agent_id, "environment": simulator.environment_id}
        yield Place(claude_managed_agents, named, "request")


@asynccontextmanager
async def open_agent_core(script: Any, **options: Any) -> AsyncIterator[Place]:
    async with (
        open_agentcore_simulator(script, transport="memory", **options) as simulator,
        simulator.client() as client,
    ):
        named = {"client": client, "harness_arn": simulator.harness_arn, "runtime_session_id": "s" * 40}
        yield Place(bedrock_agent_core, named, "agent_core.request")


Open = Callable[..., AbstractAsyncContextManager[Place]]
BOTH = pytest.mark.parametrize("open_place", [open_claude, open_agent_core], ids=["claude", "agentcore"])


async def lookup(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    await trio.sleep(2)
    return "found"


async def run(place: Place, handler: Any = lookup, **options: Any) -> maa.SessionResult:
    with trio.fail_after(PATIENCE):
        given = {"prompt": "go", "telemetry_metadata": TAGS, **place.options, **options}
        return await maa.run_session(place.provider, handler=handler, **given)


# --- TEL-01: events, spans, status ------------------------------------------------------------------------------------


@BOTH
async def test_tel_01_a_run_tells_its_request_turns_and_tools(
    open_place: Open, heard: Heard, autojump_clock: MockClock
) -> None:
    async with open_place(SCRIPT) as place:
        result = await run(place)
    assert heard.names("session.request", "turn", "tool", "session.terminal", "session.closed") == [
        "session.request_started",
        *["turn.start", "tool.start", "tool.stop", "turn.stop"] * 2,
        *["turn.start", "turn.stop"],
        "session.terminal",
        "session.closed",
    ]
    assert heard.one("session.opened").about["resumed"] is False
    terminal = heard.one("session.terminal")
    assert (terminal.about["terminal"], terminal.about["stop_reason"]) == ("end_turn", "end_turn")
    assert terminal.measured["turns"] == result.turns == 3
    assert terminal.measured["input_tokens"] == result.usage.input_tokens > 0
    assert terminal.measured["output_tokens"] == result.usage.output_tokens > 0
    assert terminal.measured["duration"] >= 4
    assert {"error_type", "cancelled"}.isdisjoint(terminal.about)
    assert [told.measured["duration"] for told in heard.of("tool.stop")] == [2, 2]
    assert [told.about["is_error"] for told in heard.of("tool.stop")] == [False, False]
    ids = [use.id for use in result.custom_tool_uses]
    assert [told.about["tool_use_id"] for told in heard.of("tool.start")] == ids
    assert [
        (told.about["tool_use_ids"], told.measured["tool_use_count"]) for told in heard.of("session.tool_uses")
    ] == [
        ((ids[0],), 1),
        ((ids[1],), 1),
        ((), 0),
    ]


@BOTH
async def test_tel_01_what_happens_is_told_as_being_in_what_it_is_in(open_place: Open, heard: Heard) -> None:
    async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        with telemetry.span("app.query"):
            return await trio.to_thread.run_sync(within, abandon_on_cancel=True)

    def within() -> str:
        telemetry.emit("app.in_thread")
        return "found"

    async with open_place(SCRIPT) as place:
        with telemetry.span("app.request"):
            await run(place, tool)
    outer = heard.one("app.request.start").about["span_id"]
    request = heard.one("session.request_started").about
    assert request["parent_id"] == outer
    turns = {told.about["turn"]: told.about for told in heard.of("turn.start")}
    assert list(turns) == [1, 2, 3]
    assert {about["parent_id"] for about in turns.values()} == {request["span_id"]}
    tools = heard.of("tool.start")
    assert [told.about["parent_id"] for told in tools] == [turns[1]["span_id"], turns[2]["span_id"]]
    queries = heard.of("app.query.start")
    assert [told.about["parent_id"] for told in queries] == [told.about["span_id"] for told in tools]
    threads = heard.of("app.in_thread")
    assert [told.about["parent_id"] for told in threads] == [told.about["span_id"] for told in queries]
    spans = {about["span_id"] for about in turns.values()}
    requests = heard.of(f"{place.request}.start")
    assert len(requests) >= 3
    assert {told.about["parent_id"] for told in requests} <= spans
    ended = {
        told.about["span_id"] for told in heard.events if "span_id" in told.about and not told.name.endswith("start")
    }
    assert {told.about["span_id"] for told in heard.events if told.name.endswith(".start")} <= ended


async def test_tel_01_a_message_is_told_as_being_in_what_its_sender_does(
    heard: Heard, autojump_clock: MockClock
) -> None:
    async with open_claude([[wait(1), say("One.")], [say("Two.")]]) as place, maa.open_supervisor() as supervisor:
        session = await supervisor.start_session(place.provider, handler=lookup, name="chat", **place.options)
        async with trio.open_nursery() as nursery:

            async def send(name: str) -> None:
                with telemetry.span(name):
                    await session.ask(name)

            nursery.start_soon(send, "app.first")
            await trio.sleep(0.5)
            nursery.start_soon(send, "app.second")
    begun = heard.of("session.request_started")
    assert [told.about["request"] for told in begun] == [1, 2]
    senders = [heard.one(f"{name}.start").about["span_id"] for name in ("app.first", "app.second")]
    assert [told.about["parent_id"] for told in begun] == senders
    assert {told.about["session"] for told in begun} == {"chat"}


async def test_tel_01_every_attempt_of_a_request_is_told_with_its_true_status(
    heard: Heard, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="create_session", action=RefuseWith(529))])
    async with open_claude([say("Done.")], faults=plan) as place:
        await run(place)
    told = [told.about for told in heard.of("request.stop") if told.about["path"] == "/v1/sessions"]
    assert [(about["attempt"], about["status"]) for about in told] == [(1, 529), (2, 200)]
    assert [about.get("error_type") for about in told] == ["OverloadedError", None]
    assert all(about["request_id"].startswith("req_") for about in told)


async def test_tel_01_a_request_that_breaks_off_is_told_as_an_exception(
    heard: Heard, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="create_session", action=LoseRequest())])
    async with open_claude([say("Done.")], faults=plan) as place:
        with pytest.raises(maa.TransportError):
            await run(place)
    failed = heard.one("request.exception")
    assert (failed.about["path"], failed.about["attempt"]) == ("/v1/sessions", 1)
    assert failed.about["error_type"] in ("ReadError", "RemoteProtocolError")
    assert heard.one("session.terminal").about["error_type"] == "TransportError"


async def test_tel_01_a_turn_that_ended_while_the_stream_was_away_is_told_once(
    heard: Heard, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="stream", action=DropStream(after_type="agent.custom_tool_use"))])
    async with open_claude(SCRIPT, faults=plan) as place:
        result = await run(place)
    assert [told.measured["tool_use_count"] for told in heard.of("session.tool_uses")] == [1, 1, 0]
    assert [told.about["turn"] for told in heard.of("session.tool_uses")] == [1, 2, 3]
    assert result.turns == 3


@BOTH
async def test_tel_01_a_failing_tool_and_an_error_result_are_told_apart(
    open_place: Open, heard: Heard, autojump_clock: MockClock
) -> None:
    async def tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        if input["email"] == "a@b.c":
            raise LookupError("the secret in the message")
        raise maa.ToolError("no such customer")

    async with open_place(SCRIPT) as place:
        await run(place, tool)
    failed, refused = heard.one("tool.exception"), heard.one("tool.stop")
    assert failed.about["error_type"] == "LookupError"
    assert (refused.about["is_error"], refused.about["error_type"]) == (True, "tool_error")
    assert "secret" not in repr(heard.events)


async def test_tel_01_a_tool_that_takes_too_long_or_is_cancelled_is_told_so(
    heard: Heard, autojump_clock: MockClock
) -> None:
    async with open_claude(SCRIPT) as place:
        await run(place, tool_timeout=1)
        assert [told.about["error_type"] for told in heard.of("tool.stop")] == ["timeout", "timeout"]
        heard.events.clear()
        with pytest.raises(maa.SessionTimeout):
            await run(place, timeout=1)
    assert heard.one("tool.stop").about["cancelled"] is True
    assert heard.one("session.terminal").about["error_type"] == "SessionTimeout"


async def test_tel_01_a_stopped_session_has_been_cancelled_and_has_not_failed(
    heard: Heard, autojump_clock: MockClock
) -> None:
    async with open_claude(SCRIPT) as place:
        with trio.move_on_after(1):
            await run(place)
    terminal = heard.one("session.terminal").about
    assert (terminal["cancelled"], "error_type" in terminal) == (True, False)
    assert [told.about.get("cancelled") for told in heard.of("tool.stop")] == [True]
    assert "error_type" not in heard.one("session.closed").about


# --- TEL-02: correlation everywhere -----------------------------------------------------------------------------------


async def test_tel_02_every_event_says_whose_it_is_also_after_three_reconnects_and_a_restart(
    heard: Heard, autojump_clock: MockClock
) -> None:
    drops = [
        Fault(on="stream", nth=n, action=action(after_events=2))
        for n, action in enumerate((DropStream, EndStream, DropStream), 1)
    ]
    script = [[call_tool("lookup"), wait(1), say("One."), wait(1), say("Two."), wait(1), say("Three.")]]
    async with open_claude(script, faults=FaultPlan(drops)) as place, maa.open_supervisor(name="fleet") as supervisor:
        session = await supervisor.start_session(
            place.provider,
            handler=lookup,
            name="chat",
            telemetry_metadata=TAGS,
            model_config={"metadata": {"tenant": "t-1", "customer": "overruled"}},
            **place.options,
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.ask, "go")
            await trio.sleep(4)
            crash_session(session, RuntimeError("a defect"))
        status = session.status()
        session_id = session.session_id
    assert (status.reconnects >= 3, status.restarts) == (True, 1)
    opened = heard.events.index(heard.one("session.opened"))
    ours = [told for told in heard.events[opened:] if not told.name.startswith("app.")]
    assert {"stream.reconnecting", "stream.event", "tool.stop", "supervisor.child_restarted", "request.stop"} <= {
        told.name for told in ours
    }
    for told in ours:
        named = {name: told.about.get(name) for name in ("provider", "session_id", "session", "tenant")}
        assert named == {
            "provider": "claude_managed_agents",
            "session_id": session_id,
            "session": "chat",
            "tenant": "t-1",
        }, told
        assert told.about["customer"] in ("c-42", "overruled")
    (terminal,) = heard.of("session.terminal")
    assert terminal.about["request"] == 1
    within = [told for told in ours if told.name.startswith(("turn.", "tool."))]
    assert {told.about["request"] for told in within} == {1}


async def test_tel_02_what_is_told_of_a_stream_says_which_turn_is_in_progress(
    heard: Heard, autojump_clock: MockClock
) -> None:
    async with (
        open_claude([[say("One.")], [call_tool("lookup"), say("Two.")]]) as place,
        maa.open_session(place.provider, handler=lookup, **place.options) as session,
    ):
        await session.ask("first")
        await session.ask("second")
    messages = [told.about for told in heard.of("stream.event") if told.about["type"] == "agent.message"]
    assert [(about["request"], about["turn"]) for about in messages] == [(1, 1), (2, 2)]
    assert all("request" not in told.about for told in heard.of("session.closed"))


@BOTH
async def test_tel_02_a_run_leaves_its_caller_where_it_stood(
    open_place: Open, heard: Heard, autojump_clock: MockClock
) -> None:
    async with open_place(SCRIPT) as place:
        await run(place)
        with pytest.raises(maa.SessionTimeout):
            await run(
                place, **({"timeout": 1} | ({"runtime_session_id": "r" * 40} if place.request != "request" else {}))
            )
    telemetry.emit("app.afterwards")
    assert heard.one("app.afterwards").about == {}


@BOTH
async def test_tel_02_no_tag_passes_for_what_the_library_tells(
    open_place: Open, heard: Heard, autojump_clock: MockClock
) -> None:
    tags = {"error_type": "x", "cancelled": True, "input": "i", "text": "t", "status": 500, "customer": "c-42"}
    async with open_place(SCRIPT) as place:
        await run(place, telemetry_metadata=tags)
    assert {"c-42"} == {told.about.get("customer") for told in heard.events}
    assert all({"error_type", "cancelled", "input", "text"}.isdisjoint(told.about) for told in heard.events)
    assert {told.about["status"] for told in heard.of(f"{place.request}.stop")} == {200}


async def test_tel_02_provisioning_carries_the_metadata_of_its_options(heard: Heard, autojump_clock: MockClock) -> None:
    spec = {"name": "support", "model": "global.anthropic.claude-opus-5-5", "system_prompt": "Help."}
    role = "arn:aws:iam::123456789012:role/Harness"
    async with open_agent_core([say("Done.")]) as place:
        await maa.provision(
            place.provider,
            spec,
            client=place.options["client"],
            execution_role_arn=role,
            model_config={"metadata": {"tenant": "t-1"}},
        )
    told = heard.of("agent_core.provision.poll", "agent_core.provision.stop", "agent_core.request.start")
    assert {about.about["tenant"] for about in told} == {"t-1"}
    assert {about.about["provider"] for about in told} == {"bedrock_agent_core"}
    stop = heard.one("agent_core.provision.stop")
    assert (stop.about["result"], stop.about["status"]) == ("ok", "READY")
    assert stop.measured["polls"] == len(heard.of("agent_core.provision.poll")) > 0
    assert stop.about["harness_id"].startswith("support_")


async def test_tel_01_provisioning_that_fails_is_told_by_its_kind(heard: Heard, autojump_clock: MockClock) -> None:
    spec = {"name": "support", "model": "global.anthropic.claude-opus-5-5", "system_prompt": "Help."}
    role = "arn:aws:iam::123456789012:role/Harness"
    async with open_agent_core([say("Done.")], lifecycle={"create": 60}) as place:
        with pytest.raises(maa.ProvisioningError):
            await maa.provision(
                place.provider, spec, client=place.options["client"], execution_role_arn=role, timeout=0.1
            )
    failed = heard.one("agent_core.provision.exception")
    assert (failed.about["result"], failed.about["error_type"]) == ("ProvisioningError", "ProvisioningError")
    assert failed.measured["duration"] >= 0.1
