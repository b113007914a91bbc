"""Reconnection: whatever a dropped stream hid is read and acted on once, and nothing is sent while it is down."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents

# Delays without chance: 0.5, 1, 2, … seconds.
STEADY = maa.ReconnectPolicy(jitter=0.0)


# --- REC-01 -----------------------------------------------------------------------------------------------------------


async def test_rec_01_terminal_missed_during_the_drop(w: Any, play: Any, autojump_clock: MockClock) -> None:
    missed = [w.msg("m1", "hello"), w.use(10, 5), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP).listing(missed).stream(w.OK, w.HANG)
    played = await play(script, reconnect=STEADY)
    result = played.result
    assert (result.terminal, result.stop_reason, result.text) == ("end_turn", {"type": "end_turn"}, "hello")
    assert (result.usage.input_tokens, result.usage.output_tokens, result.turns) == (10, 5, 1)
    assert list(result.events) == played.handler.events == missed
    assert played.handler.origins == ["history"] * 3
    assert played.served.traffic == ["create", "stream", "user.message", "stream", "list"]
    assert (played.stream_times, played.took) == ([0.0, 0.5], 0.5)


async def test_rec_01_the_drop_comes_before_the_kickoff(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.DROP)
    script.stream(w.OK, w.Posts(1), w.user(id="p1"), w.run(), w.msg("m1", "hello"), w.idle("end"))
    played = await play(script, reconnect=STEADY)
    assert (played.result.terminal, played.result.text) == ("end_turn", "hello")
    assert len(played.script.posts) == 1
    assert played.stream_times == [0.0, 0.5]


async def test_rec_01_the_kickoff_is_taken_and_its_answer_and_the_stream_are_lost(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP).answers(w.LOST)
    script.stream(w.OK, w.Pause(3.0), w.run(), w.msg("m1", "hello"), w.idle("end"))
    played = await play(script, reconnect=STEADY)
    assert (played.result.terminal, played.result.text, played.took) == ("end_turn", "hello", 3.5)
    assert len(played.script.posts) == 1


async def test_rec_01_the_server_needs_several_attempts(w: Any, play: Any, autojump_clock: MockClock) -> None:
    missed = [w.run(), w.msg("m1", "hello"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *map(w.Missed, missed), w.EOF)
    script.stream(w.Status(503)).stream(w.Status(529)).stream(w.Status(500)).stream(w.OK)
    played = await play(script, reconnect=STEADY)
    assert (played.result.terminal, played.result.text) == ("end_turn", "hello")
    assert played.stream_times == [0.0, 0.5, 1.5, 3.5, 7.5]
    assert played.served.traffic.count("list") == 1
    assert len(played.script.posts) == 1


async def test_rec_01_live_goes_on_with_the_next_request(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP)
    script.listing([w.msg("m1", "hello"), w.idle("end")])
    script.stream(w.OK, w.Posts(2), w.run(), w.msg("m2", "again"), w.idle("end"))
    handler = w.Recorder()
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=handler, reconnect=STEADY, **served.options) as session,
        session.subscribe() as terminals,
    ):
        assert (await session.ask("go")).text == "hello"
        assert (await session.ask("more")).text == "again"
        assert session.status().reconnects == 1
        assert [(await terminals.receive()).text for _ in range(2)] == ["hello", "again"]
    assert handler.events == script.order


# --- REC-03 -----------------------------------------------------------------------------------------------------------


async def test_rec_03_tool_call_and_its_idle_both_missed(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP).listing([w.ctu("u1"), w.idle("req", "u1")])
    script.stream(w.Pause(0.3), w.OK, w.Posts(2), w.idle("end"))
    played = await play(script, reconnect=STEADY)
    assert played.handler.call_ids == ["u1"]
    assert (played.call_times, played.post_times) == ([0.8], [0.0, 0.8])
    assert played.served.traffic == ["create", "stream", "user.message", "stream", "list", "user.custom_tool_result"]
    assert (played.result.terminal, played.result.turns, played.took) == ("end_turn", 2, 0.8)


async def test_rec_03_a_call_that_was_answered_meanwhile_is_not_run(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    missed = [w.run(), w.ctu("u1"), w.idle("req", "u1"), w.res("u1", "by another client"), w.run()]
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP).listing(missed)
    script.stream(w.OK, w.Pause(1.0), w.msg("m1", "done"), w.idle("end"))
    played = await play(script, reconnect=STEADY)
    assert played.handler.calls == []
    assert (played.result.terminal, played.result.text, len(played.script.posts)) == ("end_turn", "done", 1)


async def test_rec_03_on_the_third_page(w: Any, play: Any, autojump_clock: MockClock) -> None:
    noise = [w.event("session.updated") for _ in range(4)]
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP)
    script.listing([w.run(), *noise[:2]], noise[2:], [w.ctu("u1"), w.idle("req", "u1")])
    script.stream(w.OK, w.Posts(2), w.idle("end"))
    played = await play(script, reconnect=STEADY)
    assert played.handler.call_ids == ["u1"]
    assert (played.result.terminal, played.post_times) == ("end_turn", [0.0, 0.5])


# --- REC-04 -----------------------------------------------------------------------------------------------------------


async def test_rec_04_slow_tool_and_a_drop_meanwhile(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> str:
        await trio.sleep(300.0)
        return "r"

    ends = [w.res("u1", id="p2"), w.run(), w.msg("m1", "done"), w.idle("end")]
    script = w.Script().stream(
        w.OK, w.Posts(1), w.user(id="p1"), w.run(), w.ctu("u1"), w.idle("req", "u1"), w.Pause(60.0), w.DROP
    )
    script.stream(w.OK, w.Posts(2), *map(w.Missed, ends), w.DROP)
    script.stream(w.OK, w.HANG)
    played = await play(script, handler=w.Recorder(tool), reconnect=STEADY, client={"idle_timeout": 1000.0})
    assert played.handler.call_ids == ["u1"]
    assert played.handler.cancelled == []
    assert played.stream_times == [0.0, 60.5, 300.5]
    assert played.post_times == [0.0, 300.0]
    assert (played.result.terminal, played.result.text, played.took) == ("end_turn", "done", 300.5)


async def test_rec_04_the_turn_ended_without_our_answer(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> str:
        await trio.sleep(300.0)
        return "never wanted"

    call, idle = w.ctu("u1"), w.idle("req", "u1")
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), call, idle, w.Pause(60.0), w.DROP)
    script.listing([call, idle, w.res("u1", "other"), w.msg("m1", "done"), w.idle("end")])
    played = await play(script, handler=w.Recorder(tool), reconnect=STEADY)
    assert played.handler.call_ids == ["u1"]
    assert [(c, round(at - played.began, 6)) for c, at in played.handler.cancelled] == [("u1", 60.5)]
    assert (played.result.terminal, played.result.text, played.took) == ("end_turn", "done", 60.5)
    assert len(played.script.posts) == 1


async def test_rec_04_a_result_that_is_ready_while_detached_waits(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> str:
        await trio.sleep(10.1)
        return "r"

    script = w.Script().stream(
        w.OK, w.Posts(1), w.user(id="p1"), w.run(), w.ctu("u1"), w.idle("req", "u1"), w.Pause(10.0), w.DROP
    )
    script.stream(w.Pause(2.0), w.OK, w.Posts(2), w.run(), w.idle("end"))
    played = await play(script, handler=w.Recorder(tool), reconnect=STEADY)
    assert played.handler.call_ids == ["u1"]
    assert played.post_times == [0.0, 12.5]
    assert (played.result.terminal, played.took) == ("end_turn", 12.5)


# --- REC-08 -----------------------------------------------------------------------------------------------------------


async def test_rec_08_overlap(w: Any, play: Any, autojump_clock: MockClock) -> None:
    five = [w.run(), w.msg("m1", "one"), w.event("session.updated"), w.msg("m2", "two"), w.use(1, 2)]
    loose = [w.noid(w.event("made.up", n=1)), w.noid(w.event("made.up", n=2))]
    idle = w.idle("end")
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP)
    script.listing(w.Pause(1.0), five[:2], five[2:4], five[4:])
    script.stream(w.OK, five[0], five[1], loose[0], five[2], five[3], loose[1], five[4], five[1], idle)
    played = await play(script, order=[*five, *loose, idle], reconnect=STEADY)
    assert list(played.result.events) == [*five, *loose, idle]
    assert played.handler.origins == ["history"] * 5 + ["live"] * 3
    assert (played.result.usage.input_tokens, played.result.usage.output_tokens) == (1, 2)
    assert played.result.text.split() == ["one", "two"]


async def test_rec_08_without_an_id_nothing_is_matched(w: Any, play: Any, autojump_clock: MockClock) -> None:
    loose = w.noid(w.event("made.up", n=1))
    empty = {**w.event("made.up", n=2), "id": ""}
    run, idle = w.run(), w.idle("end")
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP)
    script.listing([loose, run])
    script.stream(w.OK, w.Pause(1.0), loose, loose, empty, empty, w.msg("m1", "x"), idle)
    played = await play(script, check=False, reconnect=STEADY)
    assert played.handler.events[:6] == [loose, run, loose, loose, empty, empty]
    assert list(played.result.events) == played.handler.events
    assert len(played.notified) == 1


@pytest.mark.parametrize("how", ["drop", "eof", "silence", "garbage", "error frame"])
async def test_rec_08_a_cut_at_every_boundary(w: Any, play: Any, how: str, autojump_clock: MockClock) -> None:
    cut = {
        "drop": [w.DROP],
        "eof": [w.EOF],
        "silence": [w.HANG],
        "garbage": [b'data: {"type": \xff\n\n', w.HANG],
        "error frame": [w.frame({"type": "error", "error": {"type": "api_error", "message": "no"}}), w.HANG],
    }[how]
    first = [w.user(id="p1"), w.run(), w.msg("m0", "let me see"), w.ctu("u1"), w.use(1, 2), w.idle("req", "u1")]
    second = [w.res("u1", id="p2"), w.run(), w.msg("m1", "done"), w.use(3, 4), w.idle("end")]

    def scripts() -> Any:
        for begin in range(len(first) + 1):
            for end in range(begin, len(first) + 1):
                missed = map(w.Missed, first[begin:end])
                script = w.Script().stream(w.OK, w.Posts(1), *first[:begin], *missed, *cut)
                yield script.stream(w.OK, *first[end:], w.Posts(2), *second)
        for begin in range(len(second)):
            for end in range(begin, len(second) + 1):
                missed = map(w.Missed, second[begin:end])
                script = w.Script().stream(w.OK, w.Posts(1), *first, w.Posts(2), *second[:begin], *missed, *cut)
                yield script.stream(w.OK, *second[end:])

    async def tool(*_args: Any) -> str:
        await trio.sleep(0.2)
        return "r"

    for script in scripts():
        played = await play(script, handler=w.Recorder(tool), check=False, reconnect=STEADY)
        # The script's log is the server's order: what was posted stands where it was when the post came.
        assert played.handler.events == list(played.result.events) == script.log
        assert {event["id"] for event in script.log} == {event["id"] for event in (*first, *second)}
        assert played.handler.call_ids == ["u1"]
        assert [event["type"] for event in script.posts] == ["user.message", "user.custom_tool_result"]
        result = played.result
        assert (result.terminal, result.turns, result.last_text, result.error) == ("end_turn", 2, "done", None)
        assert (result.usage.input_tokens, result.usage.output_tokens) == (4, 6)
        assert "".join(played.handler.deltas) == result.text
        assert played.notified == [result]
        if how == "silence":  # what the quiet stream hid may be found by a look before the stream is given up
            assert played.took <= 91.0
        else:
            assert len(played.served.streams) == 2
            assert 0.5 <= played.took <= 1.0


# --- REC-09 -----------------------------------------------------------------------------------------------------------


async def test_rec_09_nothing_is_posted_while_detached(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP)
    script.listing(w.Pause(0.2), [w.ctu("u1")], w.Pause(0.4), [w.idle("req", "u1")])
    script.stream(w.Pause(0.3), w.OK, w.Posts(2), w.idle("end"))
    played = await play(script, reconnect=STEADY)
    assert played.stream_times == [0.0, 0.5]
    assert played.post_times == [0.0, 1.4]
    assert (played.result.terminal, played.took) == ("end_turn", 1.4)


async def test_rec_09_and_a_queued_follow_up_waits_too(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP)
    script.listing(w.Pause(0.2), [w.ctu("u1"), w.idle("req", "u1")])
    script.stream(
        w.Pause(0.3),
        w.OK,
        w.Posts(2),
        w.Pause(5.0),
        w.run(),
        w.msg("m1", "one"),
        w.idle("end"),
        w.Posts(3),
        w.run(),
        w.msg("m2", "two"),
        w.idle("end"),
    )
    handler = w.Recorder()
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=handler, reconnect=STEADY, **served.options) as session,
        session.subscribe() as terminals,
    ):
        await wait_all_tasks_blocked()
        began = trio.current_time()
        assert await session.message("go") == "delivered"
        await trio.sleep(0.25)
        assert session.status().phase == "reconnecting"
        assert await session.message("more") == "queued"
        assert (session.status().queued_messages, len(script.posts)) == (1, 1)
        first, second = await terminals.receive(), await terminals.receive()
        assert (first.text, second.text) == ("one", "two")
    assert [round(at - began, 6) for at in script.post_times] == [0.0, 1.0, 6.0]
    assert [event["type"] for event in script.posts] == ["user.message", "user.custom_tool_result", "user.message"]
    assert handler.call_ids == ["u1"]
    assert handler.events == script.order


async def test_rec_09_a_drop_during_the_listing_begins_again(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP)
    gone = trio.Event()
    script.listing([w.run()], w.Until(gone), [w.ctu("u1")])
    script.listing([w.ctu("u1"), w.idle("req", "u1")])
    script.stream(w.OK, w.Pause(1.0), w.DROP)
    script.stream(w.OK, w.Posts(2), w.idle("end"))
    played = await play(script, reconnect=STEADY, check=False, timeout=200.0)
    assert played.handler.call_ids == ["u1"]
    assert (played.result.terminal, len(played.script.posts)) == ("end_turn", 2)
    assert len(played.notified) == 1
    # A stream that is lost while its history is read is noticed no later than the listing's own deadline.
    assert played.took <= 62.0


async def test_rec_09_a_refused_credential_is_not_retried(
    w: Any, play: Any, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.DEBUG)
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.DROP).stream(w.Status(401))
    played = await play(script, client={"api_key": "sk-test-of-the-client"}, reconnect=STEADY)
    assert isinstance(played.error, maa.AuthenticationError)
    assert played.stream_times == [0.0, 0.5]
    assert "sk-test-of-the-client" not in caplog.text + repr(played.error) + repr(played.notified)
