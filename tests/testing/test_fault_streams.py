"""What each fault does to an open stream and to the session behind it, as a client on the wire sees it."""

from __future__ import annotations

import json
from typing import Any, Literal

import h11
import pytest
import trio
from trio.testing import MockClock

from managed_agents_actors.testing import (
    Action,
    DelayEvents,
    DeleteSession,
    DropStream,
    EndStream,
    Fault,
    GarbageFrame,
    HugeFrame,
    PauseStream,
    RepeatEvents,
    StallStream,
    TerminateSession,
    say,
    subagent_call,
    wait,
)

Transport = Literal["loopback", "memory"]
on_both = pytest.mark.parametrize("transport", ["loopback", "memory"])


def on_stream(action: Action) -> Fault:
    return Fault(on="stream", action=action)


@on_both
async def test_a_stream_is_dropped_after_exactly_so_many_bytes(watch: Any, connect: Any, transport: Transport) -> None:
    offsets = range(0, 240, 7)
    faults = [Fault(on="stream", nth=n, action=DropStream(after_bytes=k)) for n, k in enumerate(offsets, 1)]
    async with watch(*faults, transport=transport) as watched:
        for offset in offsets:
            async with connect(watched.simulator) as listener:
                await listener.start("GET", f"{watched.path}/stream")
                await watched.emit(*(["x.event"] * 3))
                got = 0
                with pytest.raises((trio.BrokenResourceError, h11.RemoteProtocolError)):
                    while True:
                        got += len((await listener.next_event()).data)
                assert got == offset


async def test_a_place_may_be_given_by_the_type_of_an_event(watch: Any, autojump_clock: MockClock) -> None:
    async with watch(on_stream(EndStream(after_type="x.two", after_events=2))) as watched:
        await watched.listen()
        await watched.emit("x.two", "x.one", "x.one", "x.two", "x.one")
        assert await watched.listener.names() == ["x.two", "x.one", "x.one", "x.two"]


async def test_without_a_number_the_first_event_of_a_type_is_meant(watch: Any, autojump_clock: MockClock) -> None:
    async with watch(on_stream(EndStream(after_type="x.two"))) as watched:
        await watched.listen()
        await watched.emit("x.one", "x.two", "x.two")
        assert await watched.listener.names() == ["x.one", "x.two"]


async def test_a_paused_stream_is_silent_and_goes_on(watch: Any, autojump_clock: MockClock) -> None:
    async with watch(on_stream(PauseStream(after_events=1, seconds=100))) as watched:
        await watched.listen()
        began = trio.current_time()
        await watched.emit("x.one", "x.two")
        assert await watched.hear(1) == ["x.one"]
        assert trio.current_time() == began
        assert await watched.hear(1) == ["x.two"]  # no ping between them
        assert trio.current_time() - began == pytest.approx(100)


async def test_delayed_events_are_held_back_one_by_one_with_pings(watch: Any, autojump_clock: MockClock) -> None:
    async with watch(on_stream(DelayEvents(after_events=1, seconds=20))) as watched:
        await watched.listen()
        began = trio.current_time()
        await watched.emit("x.one", "x.two", "x.three")
        heard = [((await watched.hear(1))[0], round(trio.current_time() - began, 3)) for _ in range(5)]
        assert heard == [("x.one", 0), ("ping", 15), ("x.two", 20), ("ping", 35), ("x.three", 40)]


async def test_a_huge_frame_is_the_same_event(watch: Any, autojump_clock: MockClock) -> None:
    async with watch(on_stream(HugeFrame(after_events=1, size=1_000_000))) as watched:
        await watched.listen()
        await watched.emit("x.one", "x.two", "x.three")
        frames = [await watched.listener.next_frame() for _ in range(3)]
        assert [len(data) > 999_900 for _, data in frames] == [False, True, False]
        logged = watched.simulator.session(watched.session_id).events
        assert [json.loads(data) for _, data in frames] == list(logged)


async def test_a_huge_frame_waits_for_an_event_to_befall(watch: Any, autojump_clock: MockClock) -> None:
    async with watch(on_stream(HugeFrame(size=5_000))) as watched:
        await watched.listen()
        assert await watched.hear(1) == ["ping"]
        assert watched.simulator.faults.fired == ()
        await watched.emit("x.one")
        assert len((await watched.listener.next_frame())[1]) > 4_900
        assert len(watched.simulator.faults.fired) == 1


async def test_repeated_events_come_again_in_order(watch: Any, autojump_clock: MockClock) -> None:
    faults = [
        on_stream(RepeatEvents(after_events=3, count=2)),
        Fault(on="stream", nth=2, action=RepeatEvents(count=99)),
    ]
    async with watch(*faults) as watched:
        await watched.listen()
        await watched.emit("x.one", "x.two", "x.three", "x.four")
        again = ["x.two", "x.three"]
        assert await watched.hear(6) == ["x.one", "x.two", "x.three", *again, "x.four"]
        watched.listener, watched.client = watched.client, watched.listener
        await watched.listen()
        assert await watched.hear(4) == ["x.one", "x.two", "x.three", "x.four"]


async def test_a_threads_stream_repeats_the_threads_events_only(watch: Any, autojump_clock: MockClock) -> None:
    fault = Fault(on="stream_thread", action=RepeatEvents(count=99))
    async with watch(fault, script=[subagent_call("helper", "look")]) as watched:
        await watched.send()
        await watched.simulator.wait_idle(watched.session_id)
        log = watched.simulator.session(watched.session_id).events
        (thread_id,) = [event["session_thread_id"] for event in log if event["type"] == "session.thread_created"]
        await watched.listener.start("GET", f"/v1/sessions/{watched.session_id}/threads/{thread_id}/stream")
        own = [event["type"] for event in log if event.get("session_thread_id") == thread_id]
        assert await watched.hear(len(own)) == own
        assert len(own) < len(log)


async def test_the_repeated_frames_are_the_same_bytes(watch: Any, autojump_clock: MockClock) -> None:
    async with watch(on_stream(RepeatEvents(after_events=1))) as watched:
        await watched.listen()
        await watched.emit("x.one")
        frames = [await watched.listener.next_frame() for _ in range(2)]
        assert frames[0] == frames[1]


async def test_faults_at_one_place_come_in_the_plans_order(watch: Any, autojump_clock: MockClock) -> None:
    faults = [PauseStream(seconds=30, after_events=1), GarbageFrame(after_events=1), EndStream(after_events=2)]
    async with watch(*(on_stream(action) for action in faults)) as watched:
        await watched.listen()
        began = trio.current_time()
        await watched.emit("x.one", "x.two", "x.three")
        assert await watched.listener.names() == ["x.one", "agent.message", "x.two"]
        assert trio.current_time() - began == pytest.approx(30)
        assert [fired.fault.action for fired in watched.simulator.faults.fired] == faults


async def test_nothing_befalls_a_stream_that_is_over(watch: Any, autojump_clock: MockClock) -> None:
    faults = [on_stream(StallStream(after_events=1)), on_stream(RepeatEvents(after_events=1))]
    async with watch(*faults) as watched:
        await watched.listen()
        await watched.emit("x.one", "x.two")
        assert await watched.hear(1) == ["x.one"]
        with trio.move_on_after(1000) as silence:
            await watched.hear(1)
        assert silence.cancelled_caught
        assert [type(fired.fault.action) for fired in watched.simulator.faults.fired] == [StallStream]


# --- sessions ---------------------------------------------------------------------------------------------------------


async def test_a_session_is_deleted_while_it_streams(watch: Any, autojump_clock: MockClock) -> None:
    script = [say("working"), wait(1000)]
    async with watch(on_stream(DeleteSession(after_type="agent.message")), script=script) as watched:
        await watched.listen()
        await watched.send()
        names = await watched.listener.names()
        assert names[-3:] == ["agent.message", "span.model_request_end", "session.deleted"]
        assert (await watched.list())[0] == 404


async def test_a_session_is_terminated_at_a_request(watch: Any, autojump_clock: MockClock) -> None:
    fault = Fault(on="send_events", nth=2, action=TerminateSession())
    async with watch(fault, script=[wait(1000)]) as watched:
        await watched.send("one")
        status, body = await watched.send("two")
        assert status == 400
        assert "terminated" in body["error"]["message"]
        assert watched.simulator.session(watched.session_id).status == "terminated"


async def test_what_is_gone_cannot_be_deleted_again(watch: Any, autojump_clock: MockClock) -> None:
    faults = [Fault(on="list_events", nth="every", action=DeleteSession())]
    async with watch(*faults) as watched:
        assert [(await watched.list())[0] for _ in range(2)] == [404, 404]
        assert len(watched.simulator.faults.fired) == 1
