"""A turn of a harness that calls two tools, served again and again with one of its streams cut at a chosen byte.

There is no listing that could make up for it: what comes of the request must be what comes of it uncut, or an error
that says so. Nothing may be run twice, and nothing sent again that a torn stream may have carried to its end.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.agentcore._loading import load
from managed_agents_actors.providers import bedrock_agent_core
from managed_agents_actors.testing import (
    Request,
    Responder,
    call_tools,
    open_agentcore_simulator,
    open_wire_server,
    say,
)

from .harness_case import HarnessTalk
from .harness_reading import plain
from .harness_record import HeldHarness
from .harness_tap import Tap

SESSION = "s" * 40
HARNESS = "arn:aws:bedrock-agentcore:us-east-1:123456789012:harness/simulated_harness-0123456789"
KEYS = ("AKIDEXAMPLE", "secret", "token")
PATIENCE = 1000.0


@dataclass(frozen=True)
class HarnessRecording:
    """A turn as a harness streamed it: the stream that its message began, and the one that its results did."""

    streams: tuple[bytes, bytes]


@dataclass(frozen=True)
class HarnessCut:
    """Where a stream is cut, the first time it is served: after so many bytes, by a reset or by a clean end."""

    stream: int
    place: int
    how: str


@dataclass(frozen=True)
class HarnessOutcome:
    """What came of the request: its result or its error, the calls that were run, and what was sent."""

    result: maa.SessionResult | None
    error: maa.ManagedAgentsError | None
    calls: tuple[str, ...]
    invocations: int


async def _tool(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    return f"what {name} gave"


def recorded() -> HarnessRecording:
    """A turn of the simulator's: said in several pieces, two calls at once, one of the harness's own."""
    return trio.run(_record, clock=MockClock(autojump_threshold=0))


async def _record() -> HarnessRecording:
    load()  # a thread would let virtual time pass
    script = [
        say("Let me see. 日本"),
        call_tools(("first", {"text": "🙂"}), ("second", {})),
        say("That is all."),
    ]
    held = HeldHarness(SESSION, HarnessTalk("run", (), 1, stop_on_cancel=False, invoke_retries=0))
    async with open_agentcore_simulator(script, transport="memory") as simulator:
        tap = Tap(Transport(open_stream=simulator.open_memory_stream), lambda: None)
        tap.watch(held, lambda: 0)
        keys = simulator.credentials
        credentials = (keys.access_key, keys.secret_key, keys.token)
        async with simulator.client(transport=tap, credentials=credentials) as client:
            await _run(client, simulator.harness_arn, _tool)
    first, second = held.attempts
    return HarnessRecording((bytes(first.data), bytes(second.data)))


async def _run(client: maa.AgentCoreClient, arn: str, handler: Any) -> maa.SessionResult:
    with trio.fail_after(PATIENCE):
        return await maa.run_session(
            bedrock_agent_core,
            client=client,
            harness_arn=arn,
            runtime_session_id=SESSION,
            handler=handler,
            prompt="Go.",
        )


def harness_cuts(recording: HarnessRecording, how: str) -> list[HarnessCut]:
    """A cut at every byte of both streams."""
    return [
        HarnessCut(number, place, how)
        for number, stream in enumerate(recording.streams)
        for place in range(len(stream) + 1)
    ]


def play(recording: HarnessRecording, cut: HarnessCut | None) -> HarnessOutcome:
    """Run the recorded request against a server that makes the cut."""
    load()
    return trio.run(_play, recording, cut, clock=MockClock(autojump_threshold=0))


async def _play(recording: HarnessRecording, cut: HarnessCut | None) -> HarnessOutcome:
    served: list[int] = []
    calls: list[str] = []

    async def serve(request: Request, respond: Responder) -> None:
        blocks = request.json()["messages"][-1]["content"]
        number = int("toolResult" in blocks[0])
        stream = await respond.start_stream({"content-type": "application/vnd.amazon.eventstream"})
        first, whole = number not in served, recording.streams[number]
        served.append(number)
        if cut is None or cut.stream != number or not first:
            await stream.send(whole)
            await stream.end()
        else:
            await stream.send(whole[: cut.place])
            await (stream.end() if cut.how == "end" else stream.reset())

    async def handler(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        calls.append(context.tool_use_id)
        return await _tool(name, input, context)

    async with open_wire_server(serve) as wire:
        transport = Transport(open_stream=wire.open_memory_stream)
        async with maa.AgentCoreClient("us-east-1", KEYS, wire.base_url, transport=transport) as client:
            try:
                result = await _run(client, HARNESS, handler)
            except maa.ManagedAgentsError as error:
                return HarnessOutcome(None, error, tuple(calls), len(served))
    events = tuple(plain(event) for event in result.events)
    return HarnessOutcome(replace(result, events=events), None, tuple(calls), len(served))


def harness_differences(recording: HarnessRecording, cuts: Iterable[HarnessCut]) -> list[str]:
    """The cuts after which something else comes than the whole, or an error that says what happened."""
    wanted = play(recording, None)
    return [f"{cut}: {outcome}" for cut in cuts if not is_sound(outcome := play(recording, cut), cut, wanted)]


def is_sound(outcome: HarnessOutcome, cut: HarnessCut, wanted: HarnessOutcome) -> bool:
    """Whether what came of a cut is the whole, or an error that says what happened."""
    if len(set(outcome.calls)) < len(outcome.calls):
        return False
    if outcome.error is None:
        # With the last stop reason there, only what accounts for the tokens can be missing.
        without = replace(outcome.result, usage=wanted.result.usage, events=wanted.result.events)  # type: ignore[type-var, union-attr]
        return without == wanted.result and sorted(outcome.calls) == sorted(wanted.calls)
    expected = maa.StreamLost if cut.how == "reset" else maa.TruncatedStream
    return isinstance(outcome.error, expected) and outcome.invocations == cut.stream + 1
