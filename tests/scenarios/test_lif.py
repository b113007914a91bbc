"""The life of a session: deadlines, cancellation in every phase, failures that are announced, and slow beginnings."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents

STEADY = maa.ReconnectPolicy(jitter=0.0)

# What a session that ends waits at most for the provider to take its interrupt.
GRACE = 2.0


async def _forever(*_args: Any) -> str:
    await trio.sleep_forever()
    raise AssertionError


# --- LIF-01 -----------------------------------------------------------------------------------------------------------


async def test_lif_01_deadline_while_a_tool_hangs(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> str:
        await trio.sleep(4.0)
        return "too late"

    events = [w.run(), w.msg("m1", "partial"), w.use(10, 5), w.ctu("u1"), w.idle("req", "u1")]
    script = w.Script().stream(w.OK, w.Posts(1), *events)
    played = await play(script, handler=w.Recorder(tool), timeout=0.3)
    assert type(played.error) is maa.SessionTimeout
    assert isinstance(played.error, TimeoutError)
    assert "0.3 seconds" in str(played.error)
    assert played.took == 0.3
    assert [(call_id, round(at - played.began, 6)) for call_id, at in played.handler.cancelled] == [("u1", 0.3)]
    result = played.error.result
    assert (result.session_id, result.terminal, result.text) == (w.SESSION, "terminated", "partial")
    assert (result.usage.input_tokens, result.usage.output_tokens, result.resumable) == (10, 5, True)
    assert list(result.events) == events
    assert script.open_streams == 0
    assert [event["type"] for event in script.posts] == ["user.message", "user.interrupt"]


@pytest.mark.parametrize("where", ["create", "attach", "kickoff", "model", "result", "backoff", "listing", "look"])
async def test_lif_01_wherever_the_time_goes(w: Any, play: Any, where: str, autojump_clock: MockClock) -> None:
    script = _phase(w, where)
    played = await play(script, check=False, timeout=5.0, reconnect=STEADY)
    if played.mode == "run" or where not in ("create", "attach"):
        assert type(played.error) is maa.SessionTimeout
        assert 5.0 <= played.took <= 5.0 + GRACE
        (told,) = played.notified
        assert (told.terminal, told.error.type) == ("terminated", "SessionTimeout")
        assert len([event for event in script.posts if event["type"] == "user.message"]) <= 1
    else:  # the deadline of a live session is each request's own, from when it goes out
        assert played.took == 30.0
    await wait_all_tasks_blocked()
    assert script.open_streams == 0


def _phase(w: Any, where: str) -> Any:
    """A session that comes as far as this, and not on for half a minute."""
    long, script = w.Pause(30.0), w.Script()
    calls = [w.run(), w.ctu("u1"), w.idle("req", "u1")]
    end = [w.run(), w.idle("end")]
    match where:
        case "create":
            return script.creates((long, "idle")).stream(w.OK, w.Posts(1), *end)
        case "attach":
            return script.stream(long, w.OK, w.Posts(1), *end)
        case "kickoff":
            return script.stream(w.OK).answers(w.MUTE)
        case "model":
            return script.stream(w.OK, w.Posts(1), w.run(), long, *end)
        case "result":
            return script.stream(w.OK, w.Posts(1), *calls).answers(200, w.MUTE)
        case "backoff":
            return script.stream(w.OK, w.Posts(1), w.run(), w.DROP).stream(w.Status(503, {"retry-after": "30"}))
        case "listing":
            return script.stream(w.OK, w.Posts(1), w.run(), w.DROP).stream(w.OK).listing(long, [])
        case "look":
            return script.stream(w.OK).answers(w.LOST).listing(long, [])
        case _:
            raise ValueError(where)


async def test_lif_01_a_tool_that_shields_itself_delays_no_terminal(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    async def tool(*_args: Any) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(50.0)
        return "stubborn"

    first = [w.run(), w.ctu("u1"), w.idle("req", "u1")]
    second = [w.event("user.interrupt", id="p2"), w.idle("end")]
    third = [w.user("more", id="p3"), w.run(), w.msg("m2", "two"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *first, w.Posts(2), *second, w.Posts(3), *third)
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(tool), timeout=5.0, **served.options) as session,
    ):
        began = trio.current_time()
        with pytest.raises(maa.SessionTimeout):
            await session.ask("go")
        assert trio.current_time() - began == 5.0
        assert (await session.ask("more")).text == "two"
        assert trio.current_time() - began == 5.0
        await trio.sleep(100.0)
        assert [event["type"] for event in script.posts] == ["user.message", "user.interrupt", "user.message"]


async def test_lif_01_a_tool_that_blocks_its_thread_delays_nothing(w: Any, serve: Any) -> None:
    # In real time: a thread does not wait for a clock that jumps.
    started, release, left = threading.Event(), threading.Event(), threading.Event()

    def tool(name: str, input: Any, context: maa.ToolContext) -> str:
        started.set()
        release.wait(30.0)
        left.set()
        return "too late"

    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"))
    try:
        async with serve(script) as served:
            with pytest.raises(maa.SessionTimeout):
                await maa.run_session(claude_managed_agents, handler=tool, prompt="go", timeout=0.05, **served.options)
            assert started.is_set()
            assert not left.is_set()
            assert [event["type"] for event in script.posts] == ["user.message", "user.interrupt"]
    finally:
        release.set()
        await trio.to_thread.run_sync(left.wait, 30.0)


# --- LIF-04 -----------------------------------------------------------------------------------------------------------

PHASES = ["create", "attach", "kickoff", "model", "result", "backoff", "listing", "look"]


@asynccontextmanager
async def _opened(options: dict[str, Any]) -> AsyncIterator[None]:
    async with maa.open_session(claude_managed_agents, **options) as session:
        await session.wait_closed()
        yield


@pytest.mark.parametrize("how", ["run", "open"])
@pytest.mark.parametrize("where", PHASES)
async def test_lif_04_caller_cancelled(w: Any, serve: Any, where: str, how: str, autojump_clock: MockClock) -> None:
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    script, handler = _phase(w, where), w.Recorder()
    async with serve(script) as served:
        options = {"handler": handler, "prompt": "go", "notify": told, "reconnect": STEADY, **served.options}
        began = trio.current_time()
        with trio.move_on_after(5.0) as scope:
            if how == "run":
                await maa.run_session(claude_managed_agents, **options)
            else:
                async with _opened(options):
                    pass
        assert (scope.cancelled_caught, trio.current_time() - began) == (True, 5.0)
        await wait_all_tasks_blocked()
        assert trio.current_time() - began == 5.0
        assert script.open_streams == 0
        so_far = len(served.server.requests)
        await trio.sleep(1000.0)
        assert len(served.server.requests) == so_far
    (terminal,) = w.drain(hears)
    assert (terminal.terminal, terminal.error is not None) == ("terminated", True)


async def test_lif_04_the_clean_up_of_a_cancelled_tool_runs_to_its_end(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    cleaned: list[float] = []

    async def tool(*_args: Any) -> str:
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(5.0, shield=True):
                await trio.sleep(3.0)
            cleaned.append(trio.current_time())
        raise AssertionError

    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"))
    async with serve(script) as served:
        began = trio.current_time()
        with trio.move_on_after(1.0):
            await maa.run_session(claude_managed_agents, handler=w.Recorder(tool), prompt="go", **served.options)
        assert trio.current_time() - began == 4.0
        assert cleaned == [began + 4.0]
        assert [event["type"] for event in script.posts] == ["user.message"]


async def test_lif_04_stopping_while_the_first_stream_is_attached(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    script = _phase(w, "attach")
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), prompt="go", **served.options) as session,
        session.subscribe() as terminals,
    ):
        began = trio.current_time()
        assert session.status().phase == "attaching"
        await session.stop()
        assert (trio.current_time(), session.status().phase) == (began, "closed")
        (terminal,) = w.drain(terminals)
        assert (terminal.terminal, terminal.error and terminal.error.type) == ("terminated", "ActorGone")
        with pytest.raises(maa.ActorGone):
            await session.message("more")
        await trio.sleep(200.0)
        assert (script.posts, script.open_streams) == ([], 0)


# --- LIF-06 -----------------------------------------------------------------------------------------------------------


def _halts(turn: maa.TurnResult) -> maa.Halt:
    return maa.Halt(reason="enough")


FAILURES: dict[str, tuple[dict[str, Any], type[Exception]]] = {
    "refused": ({}, maa.PermissionDeniedError),
    "guard halt": ({"turn_guard": _halts}, maa.TurnHalted),
    "max turns": ({"max_turns": 1}, maa.MaxTurnsExceeded),
    "timeout": ({"timeout": 2.0}, maa.SessionTimeout),
}


@pytest.mark.parametrize("what", FAILURES)
async def test_lif_06_failures_are_announced(w: Any, play: Any, what: str, autojump_clock: MockClock) -> None:
    options, error = FAILURES[what]
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "partial"), w.ctu("u1"), w.idle("req", "u1"))
    if what == "refused":
        script.answers(200, 403)
    tool = None if what == "refused" else _forever
    played = await play(script, handler=w.Recorder(tool), then=50.0, **options)
    assert type(played.error) is error
    (told,) = played.notified  # and the subscribers were told the same: `play` has checked that
    assert (told.terminal, told.text, told.resumable) == ("terminated", "partial", True)
    assert (told.error.type, type(told.error.exception)) == (error.__name__, error)
    if what == "guard halt":
        assert played.error.reason == "enough"
    if played.status is not None:  # what the session cannot live with ends it; what its own rules end, it survives
        assert played.status.phase == ("closed" if what == "refused" else "live")
        assert (played.status.busy, played.status.tools_running) == (False, ())


async def test_lif_06_an_abnormal_end_is_seen_by_whoever_waits_for_it(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.idle("end"), w.Pause(5.0), w.DROP).stream(w.Status(403))
    async with serve(script) as served:
        seen: list[type[BaseException]] = []
        with pytest.raises(maa.PermissionDeniedError):
            async with maa.open_session(
                claude_managed_agents, handler=w.Recorder(), reconnect=STEADY, **served.options
            ) as session:

                async def watch() -> None:
                    with pytest.raises(maa.ManagedAgentsError) as caught:
                        await session.wait_closed()
                    seen.append(type(caught.value))

                async with session.subscribe() as terminals, trio.open_nursery() as nursery:
                    nursery.start_soon(watch)
                    nursery.start_soon(watch)
                    await session.ask("go")
                    await trio.sleep(20.0)
                    assert [result.error for result in w.drain(terminals)] == [None]  # there was no other request
                await session.wait_closed()
    assert seen == [maa.PermissionDeniedError] * 2


# --- LIF-07: what the scenario itself names; tests/session/test_options.py tries every option ------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"handler": None}, maa.ConfigurationError),
        ({"turn_guard": 3}, maa.ConfigurationError),
        ({"require_terminal_tool": True}, maa.ConfigurationError),
        ({"outcome": {"description": "a report"}}, maa.ConfigurationError),
        ({"made_up": 1}, TypeError),
    ],
)
async def test_lif_07_bad_options_cost_nothing(
    w: Any, serve: Any, options: dict[str, Any], error: type[Exception], autojump_clock: MockClock
) -> None:
    async with serve(w.Script()) as served:
        given = {"handler": w.Recorder(), "prompt": "go", **served.options, **options}
        with pytest.raises(error, match=next(iter(options)).removeprefix("require_")):
            await maa.run_session(claude_managed_agents, **given)
        with pytest.raises(error, match=next(iter(options)).removeprefix("require_")):
            async with maa.open_session(claude_managed_agents, **given):
                pytest.fail("entered")
        assert served.server.requests == ()


# --- LIF-08 -----------------------------------------------------------------------------------------------------------


async def test_lif_08_slow_opens_in_parallel(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    """Four sessions whose creation takes 500 ms are all open after 500 ms, and a message to them waits for nothing."""

    def script(n: int) -> Any:
        turn = [w.Posts(1), w.run(), w.msg(f"m{n}", f"answer {n}"), w.idle("end")]
        return w.Script(f"s{n}").creates((w.Pause(0.5), "idle")).stream(w.OK, *turn)

    scripts = [script(n) for n in range(4)]
    opened: list[float] = []
    answers: list[str] = []
    async with serve(w.Fleet(*scripts)) as served:
        began = trio.current_time()

        async def talk() -> None:
            async with maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session:
                opened.append(trio.current_time() - began)
                answers.append((await session.ask("go")).text)

        async with trio.open_nursery() as nursery:
            for _ in scripts:
                nursery.start_soon(talk)
    assert opened == [0.5] * 4
    assert sorted(answers) == [f"answer {n}" for n in range(4)]


async def test_lif_08_one_that_cannot_be_opened_holds_up_no_other(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    good = w.Script("s1").creates((w.Pause(0.5), "idle")).stream(w.OK, w.Posts(1), w.run(), w.idle("end"))
    bad = w.Script("s0").creates((w.Pause(0.2), w.Status(400)))
    ended: dict[str, float] = {}
    async with serve(w.Fleet(bad, good)) as served:
        began = trio.current_time()

        async def run() -> None:
            try:
                result = await maa.run_session(
                    claude_managed_agents, handler=w.Recorder(), prompt="go", **served.options
                )
                ended[result.terminal] = trio.current_time() - began
            except maa.InvalidRequestError:
                ended["refused"] = trio.current_time() - began

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            nursery.start_soon(run)
    assert ended == {"refused": 0.2, "end_turn": 0.5}
