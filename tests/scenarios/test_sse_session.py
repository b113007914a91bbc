"""The stream's bytes, seen from a session: frames that are too large, no events at all, half events, and previews.

And the two ways to watch what comes: a handler, which misses nothing, and a live reader, which may fall behind.
"""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import DropStream, Fault, FaultPlan, open_claude_simulator, say

STEADY = maa.ReconnectPolicy(jitter=0.0)
TEXT_DELTA = "managed_agents.text_delta"
DROPPED = "managed_agents.events_dropped"
MEGABYTE = 1024 * 1024


# --- SSE-06 -----------------------------------------------------------------------------------------------------------


async def test_sse_06_over_the_cap(
    w: Any, play: Any, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.DEBUG)
    run, rest = w.run(), [w.msg("m1", "hello"), w.idle("end")]
    endless = [b"data: ", *[b"x" * MEGABYTE] * 33]
    script = w.Script().stream(w.OK, w.Posts(1), run, *map(w.Missed, rest), *endless).stream(w.OK)
    played = await play(script, reconnect=STEADY)
    assert (played.result.terminal, played.result.text, played.took) == ("end_turn", "hello", 0.5)
    assert played.served.traffic.count("stream") == 2
    (line,) = [r.getMessage() for r in caplog.records if "reconnecting" in r.getMessage()]
    assert "ProtocolError" in line or "frame" in line
    assert "xxxxxxxxxx" not in line


async def test_sse_06_every_time(w: Any, play: Any, autojump_clock: MockClock) -> None:
    # A server whose frame is always too large: the session is not told apart from one whose stream keeps dropping.
    script = w.Script()
    for _ in range(2):
        script.stream(w.OK, w.Posts(1), b"data: ", *[b"x" * MEGABYTE] * 33)
    policy = maa.ReconnectPolicy(jitter=0.0, max_attempts=1)
    played = await play(script, check=False, reconnect=policy)
    assert isinstance(played.error, maa.ProtocolError)
    assert len(played.error.raw) < 10_000
    assert played.stream_times == [0.0, 0.5]
    assert len(played.notified) == 1


# --- SSE-07 -----------------------------------------------------------------------------------------------------------


async def test_sse_07_comments_and_pings(w: Any, play: Any, autojump_clock: MockClock) -> None:
    ping, spaced = b"event: ping\ndata: {}\n\n", b'event: ping\ndata: {"type": "ping"}\n\n'
    alive: list[Any] = []
    for _ in range(15):
        alive += [w.HB, w.Pause(30.0), ping, w.Pause(30.0), spaced, b":\n", b"\n\n", b"data:\n\n"]
    first, last = w.user(id="p1"), [w.run(), w.msg("m1", "x"), w.idle("end")]
    events = [first, *last]
    played = await play(w.Script().stream(w.OK, w.Posts(1), first, *alive, *last), timeout=950.0)
    assert list(played.result.events) == played.handler.events == events
    assert played.stream_times == [0.0]
    assert played.took == 900.0


@pytest.mark.parametrize("ending", ["EOF", "DROP"])
async def test_sse_07_an_unterminated_tail(w: Any, play: Any, ending: str, autojump_clock: MockClock) -> None:
    run, message, idle = w.run(), w.msg("m1", "whole"), w.idle("end")
    whole = w.frame(message)
    for cut in (1, len(whole) // 2, len(whole) - 1):
        script = w.Script().stream(w.OK, w.Posts(1), run, w.Missed(message), whole[:cut], getattr(w, ending))
        script.stream(w.OK, w.Pause(1.0), idle)
        played = await play(script, order=[run, message, idle], check=False, reconnect=STEADY)
        assert [e["id"] for e in played.handler.events if e["id"] != "p1"] == [run["id"], "m1", idle["id"]]
        assert (played.result.terminal, played.result.text) == ("end_turn", "whole")
        assert played.stream_times == [0.0, 0.5]


async def test_sse_07_only_heartbeats_do_not_end_a_deadline(w: Any, play: Any, autojump_clock: MockClock) -> None:
    alive = [w.HB, w.Pause(10.0)] * 30
    played = await play(w.Script().stream(w.OK, w.Posts(1), w.run(), *alive), timeout=100.0)
    assert isinstance(played.error, maa.SessionTimeout)
    assert (played.took, played.stream_times) == (100.0, [0.0])


# --- SSE-08 -----------------------------------------------------------------------------------------------------------


async def test_sse_08_a_flood_while_a_tool_runs(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> str:
        await trio.sleep(60.0)
        return "r"

    count = 20_000
    flood = b"".join(w.frame({"id": f"f{n}", "type": "session.updated", "n": n}) for n in range(count))
    pieces = [flood[at : at + 65_536] for at in range(0, len(flood), 65_536)]
    first, last = [w.run(), w.ctu("u1")], [w.run(), w.msg("m1", "done"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *first, *pieces, w.idle("req", "u1"), w.Posts(2), *last)
    played = await play(script, handler=w.Recorder(tool), check=False)
    assert (played.result.terminal, played.result.text, played.took) == ("end_turn", "done", 60.0)
    seen = [event["n"] for event in played.handler.events if event["type"] == "session.updated"]
    assert seen == list(range(count))
    assert len(played.result.events) == count + 6
    assert played.handler.call_ids == ["u1"]
    assert len(played.notified) == 1


async def test_sse_08_a_slow_handle_event_slows_the_stream_and_loses_nothing(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    release = trio.Event()

    class Slow(w.Recorder):  # type: ignore[misc]  # the fixture's class
        async def handle_event(self, event: Any, context: Any) -> None:
            await release.wait()
            await super().handle_event(event, context)

    count = 5000
    events = [{"id": f"f{n}", "type": "session.updated", "n": n} for n in range(count)]
    frames = [w.frame(event) for event in events]
    ends = [w.msg("m1", "done"), w.idle("end")]
    handler = Slow()
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), *frames, *ends)
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=handler, **served.options) as session,
        session.events() as feed,
        session.subscribe() as terminals,
    ):
        await wait_all_tasks_blocked()
        assert await session.message("go") == "delivered"
        taken = 0
        with trio.move_on_after(1.0):
            while True:
                await feed.receive()
                taken += 1
        # The bound, and what a read or two had brought in when it was met; far from everything.
        assert 1024 <= taken < 3000
        assert session.status().busy
        release.set()
        assert (await terminals.receive()).text == "done"
    assert [event["n"] for event in handler.events if "n" in event] == list(range(count))
    assert handler.events[-2:] == ends


async def test_sse_08_a_slow_handle_event_holds_up_no_tool_and_no_terminal(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    class Slow(w.Recorder):  # type: ignore[misc]  # the fixture's class
        async def handle_event(self, event: Any, context: Any) -> None:
            await trio.sleep(1.0)
            await super().handle_event(event, context)

    events = [w.run(), w.ctu("u1"), w.idle("req", "u1")]
    then = [w.run(), w.msg("m1", "done"), w.idle("end")]
    played = await play(w.Script().stream(w.OK, w.Posts(1), *events, w.Posts(2), *then), handler=Slow(), then=20.0)
    assert (played.call_times, played.post_times) == ([0.0], [0.0, 0.0])
    if played.mode != "run":  # a run returns when its handler has seen everything
        assert played.took == 0.0


async def test_sse_08_a_failing_handle_event_is_counted_and_harmless(
    w: Any, play: Any, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.DEBUG)

    class Failing(w.Recorder):  # type: ignore[misc]  # the fixture's class
        async def handle_event(self, event: Any, context: Any) -> None:
            await super().handle_event(event, context)
            raise ValueError("my own defect")

    events = [w.run(), w.ctu("u1"), w.idle("req", "u1")]
    then = [w.run(), w.msg("m1", "done"), w.idle("end")]
    played = await play(w.Script().stream(w.OK, w.Posts(1), *events, w.Posts(2), *then), handler=Failing(), then=1.0)
    assert (played.result.terminal, played.result.text, played.result.error) == ("end_turn", "done", None)
    assert played.handler.events == events + then
    failures = [r for r in caplog.records if "handle_event_failed" in r.getMessage()]
    assert len(failures) == len(events + then) + len(played.handler.deltas)
    assert "my own defect" not in repr(played.result)


# --- events() and previews --------------------------------------------------------------------------------------------


async def test_events_reports_how_many_were_lost(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    count = 6000
    events = [w.event("session.updated", n=n) for n in range(count)]
    frames = [w.frame(event) for event in events]
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), *frames, w.msg("m1", "done"), w.idle("end"))
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
        session.events() as feed,
    ):
        result = await session.ask("go")
        assert len(result.events) == count + 3
        shown = count + 4  # the message's text delta too
        first = await feed.receive()
        assert first["type"] == DROPPED
        rest = [await feed.receive() for _ in range(shown - first["count"])]
        assert [event["type"] for event in rest[-3:]] == ["agent.message", TEXT_DELTA, "session.status_idle"]
        numbers = [event["n"] for event in rest[:-3]]
        assert numbers == list(range(count - len(numbers), count))
        with trio.move_on_after(10.0) as nothing:
            await feed.receive()
        assert nothing.cancelled_caught
    with pytest.raises(trio.ClosedResourceError):
        await feed.receive()


async def _deltas(w: Any, serve: Any, script: Any) -> tuple[maa.SessionResult, str, Any]:
    handler = w.Recorder()
    async with (
        serve(script) as served,
        maa.open_session(
            claude_managed_agents, handler=handler, deltas=True, reconnect=STEADY, **served.options
        ) as session,
        session.events() as feed,
    ):
        result = await session.ask("go")
        await session.stop()
        found = [event async for event in feed]
        assert all(r.query.get("event_deltas[]") for r in served.streams), [r.query for r in served.streams]
    text = "".join(event["text"] for event in found if event["type"] == TEXT_DELTA)
    kinds = {event["type"] for event in (*handler.events, *result.events)}
    assert not kinds & {"event_start", "event_delta", TEXT_DELTA}
    assert "".join(handler.deltas) == text
    return result, text, found


async def test_deltas_make_up_the_text(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK,
        w.Posts(1),
        w.run(),
        *w.preview("m1", "Hel", "lo", ", "),
        w.msg("m1", "Hello, world"),
        w.msg("m2", "unannounced"),
        *w.preview("m3", "third"),
        w.msg("m3", "third"),
        w.idle("end"),
    )
    result, text, found = await _deltas(w, serve, script)
    assert text == result.text
    assert [part for part in text.split("\n") if part] == ["Hello, world", "unannounced", "third"]
    deltas = [event["text"] for event in found if event["type"] == TEXT_DELTA]
    assert deltas[:4] == ["Hel", "lo", ", ", "world"]


async def test_deltas_with_a_drop_at_every_point_of_a_preview(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    message, idle = w.msg("m1", "Hello, world"), w.idle("end")
    preview = w.preview("m1", "Hel", "lo", ", ", "wor")
    for cut in range(len(preview) + 1):
        for missed in (True, False):
            script = w.Script().stream(w.OK, w.Posts(1), w.run(), *preview[:cut], *[w.Missed(message)] * missed, w.DROP)
            script.stream(w.OK, w.Pause(1.0), *([] if missed else [message]), idle)
            result, text, _found = await _deltas(w, serve, script)
            assert (text, result.text, result.last_text) == (("Hello, world",) * 3), (cut, missed)


async def test_deltas_that_are_replayed_on_the_next_stream(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    # The hosted API previews nothing that was in flight when the stream was attached; a server may replay all the same.
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), *w.preview("m1", "Hel"), w.DROP)
    script.stream(w.OK, w.Pause(1.0), *w.preview("m1", "Hello", ", w"), w.msg("m1", "Hello, world"), w.idle("end"))
    result, text, _found = await _deltas(w, serve, script)
    assert (text, result.text) == ("Hello, world", "Hello, world")


async def test_deltas_of_a_message_that_was_listed_already(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    message = w.msg("m1", "Hello, world")
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.DROP)
    script.listing(w.Pause(1.0), [message])
    script.stream(w.OK, *w.preview("m1", "Hello", ", "), message, w.Pause(5.0), w.msg("m2", "bye"), w.idle("end"))
    result, text, _found = await _deltas(w, serve, script)
    assert text == result.text
    assert result.text.split("\n") == ["Hello, world", "bye"] or result.text.split() == ["Hello,", "world", "bye"]


async def test_deltas_of_a_message_that_never_comes(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    # The model request failed in the middle and was made again: what was shown stays shown.
    script = w.Script().stream(
        w.OK,
        w.Posts(1),
        w.run(),
        *w.preview("m1", "Hel"),
        w.err("retrying"),
        w.resched(),
        w.run(),
        *w.preview("m2", "Bye"),
        w.msg("m2", "Bye now"),
        w.idle("end"),
    )
    result, text, _found = await _deltas(w, serve, script)
    assert text == result.text
    assert result.text.endswith("Bye now")


@pytest.mark.parametrize("after", range(8))
async def test_deltas_with_the_simulator(w: Any, after: int, autojump_clock: MockClock) -> None:
    faults = FaultPlan([Fault(on="stream", action=DropStream(after_events=after))] if after else [])
    handler = w.Recorder()
    script = [say("one two three four", pace=0.25), say("five six")]
    async with (
        open_claude_simulator(script, transport="memory", faults=faults) as simulator,
        simulator.client() as client,
        maa.open_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=handler,
            deltas=True,
            reconnect=STEADY,
        ) as session,
        session.events() as feed,
    ):
        result = await session.ask("go")
        await session.stop()
        text = "".join([event["text"] async for event in feed if event["type"] == TEXT_DELTA])
    assert text == result.text == "".join(handler.deltas)
    assert [part for part in result.text.split("\n") if part] == ["one two three four", "five six"]
