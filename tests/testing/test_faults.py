"""Each fault of a plan, as a client sees it, on loopback and in memory."""

from __future__ import annotations

from typing import Any, Literal

import h11
import pytest
import trio
from trio.testing import MockClock

from managed_agents_actors.testing import (
    Delay,
    DropStream,
    EndStream,
    Fault,
    FaultPlan,
    GarbageFrame,
    LoseAnswer,
    RefuseWith,
    StallStream,
    open_claude_simulator,
)

Transport = Literal["loopback", "memory"]
on_both = pytest.mark.parametrize("transport", ["loopback", "memory"])


@on_both
async def test_a_status_refuses_without_acting(connect: Any, start: Any, message: Any, transport: Transport) -> None:
    plan = FaultPlan([Fault(on="send_events", nth=2, action=RefuseWith(529, retry_after=1.5))])
    async with open_claude_simulator(faults=plan, transport=transport) as simulator, connect(simulator) as client:
        session_id = await start(client, simulator)
        path = f"/v1/sessions/{session_id}/events"
        assert (await client.request("POST", path, {"events": [{"type": "user.interrupt"}]}))[0] == 200
        head = await client.start("POST", path, {"events": [message("two")]})
        assert head.status_code == 529
        assert dict(head.headers)[b"retry-after"] == b"1.5"
        assert [event["type"] for event in simulator.session(session_id).events] == ["user.interrupt"]
        assert [(fired.fault.on, fired.occurrence) for fired in plan.fired] == [("send_events", 2)]


@on_both
async def test_a_lost_answer_was_acted_on(connect: Any, start: Any, message: Any, transport: Transport) -> None:
    plan = FaultPlan([Fault(on="send_events", action=LoseAnswer())])
    async with open_claude_simulator(faults=plan, transport=transport) as simulator, connect(simulator) as client:
        session_id = await start(client, simulator)
        with pytest.raises(h11.RemoteProtocolError, match="ConnectionClosed"):
            await client.request("POST", f"/v1/sessions/{session_id}/events", {"events": [message("lost?")]})
        assert simulator.session(session_id).events[2]["type"] == "user.message"
        assert simulator.requests[-1].status is None


async def test_a_delay_comes_before_acting(connect: Any, start: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="list_events", nth="every", action=Delay(60))])
    async with open_claude_simulator(faults=plan, transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator)
        for n in (1, 2):
            assert (await client.request("GET", f"/v1/sessions/{session_id}/events"))[0] == 200
            assert trio.current_time() == pytest.approx(60 * n)
        assert len(plan.fired) == 2


@on_both
async def test_a_stream_is_torn_after_so_many_events(
    connect: Any, start: Any, message: Any, transport: Transport
) -> None:
    plan = FaultPlan([Fault(on="stream", action=DropStream(after_events=2))])
    async with (
        open_claude_simulator(faults=plan, transport=transport) as simulator,
        connect(simulator) as client,
        connect(simulator) as listener,
    ):
        session_id = await start(client, simulator)
        await listener.start("GET", f"/v1/sessions/{session_id}/events/stream")
        await client.request("POST", f"/v1/sessions/{session_id}/events", {"events": [message("go")]})
        assert [(await listener.next_frame())[0] for _ in range(2)] == [
            "session.status_running",
            "session.thread_status_running",
        ]
        # A socket is reset; in memory the body just breaks off, which the parser refuses.
        with pytest.raises(trio.BrokenResourceError if transport == "loopback" else h11.RemoteProtocolError):
            await listener.next_frame()


@on_both
async def test_a_stream_ends_cleanly_after_so_many_events(
    connect: Any, start: Any, message: Any, transport: Transport
) -> None:
    plan = FaultPlan([Fault(on="stream", action=EndStream(after_events=3))])
    async with (
        open_claude_simulator(faults=plan, transport=transport) as simulator,
        connect(simulator) as client,
        connect(simulator) as listener,
    ):
        session_id = await start(client, simulator)
        await listener.start("GET", f"/v1/sessions/{session_id}/events/stream")
        await client.request("POST", f"/v1/sessions/{session_id}/events", {"events": [message("go")]})
        assert len(await listener.names()) == 3
        # The second stream has no fault on it.
        listener.wire.start_next_cycle()
        await listener.start("GET", f"/v1/sessions/{session_id}/events/stream")
        await simulator.emit(session_id, {"type": "x.one"})
        assert (await listener.next_frame())[0] == "x.one"


async def test_a_stalled_stream_is_silent(connect: Any, start: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="stream", action=StallStream(after_events=1))])
    async with (
        open_claude_simulator(faults=plan, transport="memory") as simulator,
        connect(simulator) as client,
        connect(simulator) as listener,
    ):
        session_id = await start(client, simulator)
        await listener.start("GET", f"/v1/sessions/{session_id}/events/stream")
        await simulator.emit(session_id, {"type": "x.one"})
        await simulator.emit(session_id, {"type": "x.two"})
        assert (await listener.next_frame())[0] == "x.one"
        with trio.move_on_after(3600) as silence:
            await listener.next_frame()
        assert silence.cancelled_caught


async def test_garbage_comes_between_events(connect: Any, start: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="stream", action=GarbageFrame(after_events=1))])
    async with (
        open_claude_simulator(faults=plan, transport="memory") as simulator,
        connect(simulator) as client,
        connect(simulator) as listener,
    ):
        session_id = await start(client, simulator)
        await listener.start("GET", f"/v1/sessions/{session_id}/events/stream")
        await simulator.emit(session_id, {"type": "x.one"})
        await simulator.emit(session_id, {"type": "x.two"})
        frames = [await listener.next_frame() for _ in range(3)]
        assert [name for name, _ in frames] == ["x.one", "agent.message", "x.two"]
        with pytest.raises(UnicodeDecodeError):
            frames[1][1].decode("utf-8")


async def test_open_streams_can_be_dropped_and_stalled_now(connect: Any, start: Any, autojump_clock: MockClock) -> None:
    async with (
        open_claude_simulator(transport="memory") as simulator,
        connect(simulator) as client,
        connect(simulator) as listener,
    ):
        session_id = await start(client, simulator)
        await listener.start("GET", f"/v1/sessions/{session_id}/events/stream")
        simulator.stall_streams(session_id)
        await simulator.emit(session_id, {"type": "x.lost"})
        with trio.move_on_after(100) as silence:
            await listener.next_frame()
        assert silence.cancelled_caught
        simulator.drop_streams(session_id)
        await trio.testing.wait_all_tasks_blocked()
        assert simulator.session(session_id).open_streams == 0


async def test_a_fault_of_a_stream_counts_when_it_befalls_the_stream(
    connect: Any, start: Any, autojump_clock: MockClock
) -> None:
    plan = FaultPlan([Fault(on="stream", action=EndStream(after_events=1))])
    async with open_claude_simulator(faults=plan, transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator)
        await client.start("GET", f"/v1/sessions/{session_id}/events/stream")
        await trio.testing.wait_all_tasks_blocked()
        assert plan.fired == ()
        await simulator.emit(session_id, {"type": "agent.custom"})
        assert await client.names() == ["agent.custom"]
        assert [(fired.fault.on, fired.occurrence) for fired in plan.fired] == [("stream", 1)]
