"""When a lost stream is asked for again: how soon, how often, and what counts as lost."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents

# Delays without chance: 0.5, 1, 2, … seconds.
STEADY = maa.ReconnectPolicy(jitter=0.0)


def _gaps(w: Any, served: Any) -> list[float]:
    """The seconds between the beginnings of the streams."""
    gaps: list[float] = w.gaps(request.at for request in served.streams)
    return gaps


# --- REC-13 -----------------------------------------------------------------------------------------------------------


async def _delays(w: Any, serve: Any, **options: Any) -> list[float]:
    """Six drops at once, a minute of health, a drop: what each delay was."""
    script = w.Script()
    for _ in range(6):
        script.stream(w.OK, w.DROP)
    script.stream(w.OK, w.Pause(60.0), w.DROP).stream(w.OK, w.run(), w.msg("m1", "hello"), w.idle("end"))
    handler = w.Recorder()
    async with serve(script) as served:
        result = await maa.run_session(claude_managed_agents, handler=handler, prompt="go", **served.options, **options)
        *delays, after_health = _gaps(w, served)
    assert (result.terminal, result.text, len(script.posts)) == ("end_turn", "hello", 1)
    assert handler.events == script.order
    return [*delays, round(after_health - 60.0, 6)]


async def test_rec_13_backoff_shape(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    policy = maa.ReconnectPolicy()
    steps = [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 0.5]
    drawn = [await _delays(w, serve) for _ in range(20)]
    for delays in drawn:
        for delay, step in zip(delays, steps, strict=True):
            assert 0 <= step * (1 - policy.jitter) <= delay <= step <= policy.max
    # Drawn for each attempt and by each session anew: a fleet is never in step.
    for at_step in zip(*drawn, strict=True):
        assert len(set(at_step)) == len(drawn)


async def test_rec_13_without_jitter_the_delays_grow_to_the_cap(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    policy = maa.ReconnectPolicy(initial=1.0, multiplier=3.0, max=10.0, jitter=0.0)
    assert await _delays(w, serve, reconnect=policy) == [1.0, 3.0, 9.0, 10.0, 10.0, 10.0, 1.0]


@pytest.mark.parametrize(("lived", "delay"), [(9.9, 1.0), (10.1, 0.5)])
async def test_rec_13_only_health_resets_the_delay(
    w: Any, serve: Any, lived: float, delay: float, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, w.DROP).stream(w.OK, w.Pause(lived), w.DROP)
    script.stream(w.OK, w.run(), w.idle("end"))
    async with serve(script) as served:
        await maa.run_session(
            claude_managed_agents, handler=w.Recorder(), prompt="go", reconnect=STEADY, **served.options
        )
        assert _gaps(w, served) == [0.5, round(lived + delay, 6)]


async def test_rec_13_refusals_count_as_losses_and_health_is_measured_from_going_live(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP).stream(w.Status(503)).stream(w.Status(409))
    script.stream(w.OK, w.Pause(20.0), w.DROP).stream(w.OK, w.run(), w.idle("end"))
    # Twelve of the twenty seconds go into reading the history: eight are left, which is not yet health.
    script.listing(w.Pause(12.0), []).listing([])
    async with serve(script) as served:
        await maa.run_session(
            claude_managed_agents, handler=w.Recorder(), prompt="go", reconnect=STEADY, **served.options
        )
        assert _gaps(w, served) == [0.5, 1.0, 2.0, 24.0]


async def test_rec_13_the_server_s_wish_is_honoured_and_capped(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.Status(503, {"retry-after": "9"})).stream(w.Status(503, {"retry-after": "3600"}))
    script.stream(w.OK, b"retry: 4000\n\n", w.Posts(1), w.DROP).stream(w.OK, w.run(), w.idle("end"))
    async with serve(script) as served:
        await maa.run_session(
            claude_managed_agents, handler=w.Recorder(), prompt="go", reconnect=STEADY, **served.options
        )
        assert _gaps(w, served) == [9.0, 30.0, 4.0]


async def test_rec_13_the_attempts_may_be_limited(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "partial"), w.EOF)
    for _ in range(10):
        script.stream(w.Status(503))
    played = await play(script, reconnect=maa.ReconnectPolicy(jitter=0.0, max_attempts=4), then=100.0)
    assert type(played.error) is maa.ServerError
    assert played.stream_times == [0.0, 0.5, 1.5, 3.5, 7.5]
    (told,) = played.notified
    assert (told.text, told.error.type, told.resumable) == ("partial", "ServerError", True)


# --- REC-14 -----------------------------------------------------------------------------------------------------------


async def test_rec_14_a_heartbeats_are_life(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), *[w.Pause(15.0), w.HB] * 240, w.msg("m1", "x"), w.idle("end"))
    async with serve(script) as served:
        began = trio.current_time()
        result = await maa.run_session(
            claude_managed_agents, handler=w.Recorder(), prompt="go", timeout=None, **served.options
        )
        assert trio.current_time() - began == 3600.0
        looks = served.traffic.count("list")
        assert [what for what in served.traffic if what not in ("list", "look")] == ["create", "stream", "user.message"]
        assert looks <= 6, "whether the provider is still at work is asked rarely, and ever more rarely"
    assert (result.terminal, result.text) == ("end_turn", "x")


@pytest.mark.parametrize("budget", [5.0, 90.0])
async def test_rec_14_b_silence_is_a_drop(w: Any, play: Any, budget: float, autojump_clock: MockClock) -> None:
    missed = [w.msg("m1", "hello"), w.use(1, 2), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), *map(w.Missed, missed), w.HANG).stream(w.OK)
    played = await play(script, client={"idle_timeout": budget}, reconnect=STEADY)
    assert (played.result.terminal, played.result.text) == ("end_turn", "hello")
    assert played.stream_times == [0.0, budget + 0.5]
    assert played.handler.origins == ["live"] + ["history"] * 4


async def test_rec_14_b_a_look_finds_what_a_silent_stream_withholds(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    missed = [w.msg("m1", "hello"), w.use(1, 2), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), *map(w.Missed, missed), w.HANG)
    played = await play(script, client={"idle_timeout": 4000.0}, reconnect=STEADY)
    assert (played.result.terminal, played.result.text) == ("end_turn", "hello")
    assert played.stream_times == [0.0]
    assert 120.0 <= played.took <= 240.0


async def test_rec_14_b_half_an_event_starts_the_silence_anew(w: Any, play: Any, autojump_clock: MockClock) -> None:
    idle = w.idle("end")
    frame = w.frame(idle)
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.Pause(80.0), frame[:9], w.Missed(idle), w.HANG)
    played = await play(script.stream(w.OK), reconnect=STEADY)
    assert (played.result.terminal, played.stream_times) == ("end_turn", [0.0, 170.5])


async def test_rec_14_b_silence_of_an_idle_live_session_is_repaired_too(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.idle("end"), w.HANG).stream(w.OK, w.HANG)
    script.stream(w.OK, w.Posts(2), w.run(), w.msg("m1", "again"), w.idle("end"))
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), reconnect=STEADY, **served.options) as session,
    ):
        await session.ask("go")
        await trio.sleep(200.0)
        assert (await session.ask("more")).text == "again"
        assert _gaps(w, served) == [90.5, 90.5]
    assert len(script.posts) == 2


@pytest.mark.parametrize("cut", ["DROP", "EOF"])
async def test_rec_14_c_a_budget_longer_than_the_load_balancer_s(
    w: Any, play: Any, cut: str, autojump_clock: MockClock
) -> None:
    call, idle = w.ctu("u1"), w.idle("req", "u1")
    ends = [w.run(), w.msg("m1", "hello"), w.idle("end")]

    async def tool(*_args: Any) -> str:
        await trio.sleep(200.0)
        return "r"

    script = w.Script().stream(w.OK, w.Posts(1), w.run(), call, idle, w.Pause(60.0), getattr(w, cut))
    script.stream(w.OK, w.Pause(60.0), getattr(w, cut)).stream(w.OK, w.Pause(60.0), getattr(w, cut))
    script.stream(w.OK, w.Posts(2), *ends)
    played = await play(
        script, handler=w.Recorder(tool), client={"idle_timeout": 900.0}, reconnect=STEADY, timeout=900.0
    )
    assert (played.result.terminal, played.result.text, played.took) == ("end_turn", "hello", 200.0)
    assert played.stream_times == [0.0, 60.5, 121.0, 181.5]
    assert played.post_times == [0.0, 200.0]
    assert played.handler.call_ids == ["u1"]


async def test_rec_14_c_and_one_that_cuts_without_a_word(w: Any, play: Any, autojump_clock: MockClock) -> None:
    missed = [w.msg("m1", "hello"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), *map(w.Missed, missed), w.HANG).stream(w.OK)
    played = await play(script, client={"idle_timeout": 500.0}, reconnect=STEADY)
    assert (played.result.terminal, played.result.text) == ("end_turn", "hello")
    assert played.took <= 500.5


# --- REC-17 -----------------------------------------------------------------------------------------------------------


async def test_rec_17_attach_flapping(
    w: Any, serve: Any, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.DEBUG)
    script = w.Script()
    for _ in range(40):
        script.stream(w.OK, w.DROP)
    script.stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "one"), w.idle("end"), w.Pause(20.0), w.DROP)
    script.stream(w.OK, w.Posts(2), w.run(), w.msg("m2", "two"), w.idle("end"))
    handler = w.Recorder()
    phases: list[str] = []
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=handler, reconnect=STEADY, **served.options) as session,
        session.subscribe() as terminals,
    ):
        await session.message("go")
        for _ in range(40):  # in the middle of each of the delays
            gap = min(0.5 * 2.0 ** len(phases), 30.0)
            await trio.sleep(gap / 2)
            phases.append(session.status().phase)
            await trio.sleep(gap / 2)
        first = await terminals.receive()
        status = session.status()
        assert (status.phase, status.reconnects) == ("live", 40)
        await trio.sleep(25.0)
        second = await session.ask("more")
        assert session.status().reconnects == 41
        gaps = _gaps(w, served)
        listed = len(served.listings)
    assert phases == ["reconnecting"] * 40
    assert gaps[:40] == [min(0.5 * 2.0**n, 30.0) for n in range(40)]
    assert gaps[40] == 20.5  # what lived well begins with the first delay again
    assert (first.text, second.text) == ("one", "two")
    assert listed == 41
    assert len(script.posts) == 2
    assert handler.events == script.order
    attempts = [r.getMessage() for r in caplog.records if "'stream.reconnecting'" in r.getMessage()]
    assert len(attempts) == 41
