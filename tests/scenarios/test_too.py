"""Tools: each call is run once, when it arrives, within its bounds; whatever comes of it is a result for the model."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents


def takes(**seconds: float) -> Callable[..., Awaitable[str]]:
    """A tool whose calls take these many seconds, by call id, and say which call they were."""

    async def tool(name: str, input: Any, context: maa.ToolContext) -> str:
        await trio.sleep(seconds.get(context.tool_use_id, 0.0))
        return f"r-{context.tool_use_id}"

    return tool


def texts(results: list[Any]) -> dict[str, str]:
    return {r["custom_tool_use_id"]: r["content"][0]["text"] for r in results}


# --- TOO-01 -----------------------------------------------------------------------------------------------------------


async def test_too_01_one_tool(w: Any, play: Any, autojump_clock: MockClock) -> None:
    call = w.ctu("u1", "lookup", {"q": 1})
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), call, w.idle("req", "u1"), w.Posts(2), w.run(), w.idle("end"))
    played = await play(script.answers(202, 202), context={"mine": 1}, telemetry_metadata={"tag": "x"})
    ((name, given, context, _at),) = played.handler.calls
    assert (name, given) == ("lookup", {"q": 1})
    assert (context.session_id, context.tool_use_id, context.attempt, context.thread_id) == ("s", "u1", 1, None)
    assert (context.user, context.metadata, context.provider) == ({"mine": 1}, {"tag": "x"}, "claude_managed_agents")
    assert played.results_posted == [
        {
            "type": "user.custom_tool_result",
            "custom_tool_use_id": "u1",
            "content": [{"type": "text", "text": "r"}],
            "is_error": False,
        }
    ]
    assert (played.result.terminal, played.result.turns) == ("end_turn", 2)
    assert [use.id for use in played.result.custom_tool_uses] == ["u1"]
    assert played.served.traffic == ["create", "stream", "user.message", "user.custom_tool_result"]


# --- TOO-02 -----------------------------------------------------------------------------------------------------------

SECRET = "hunter2-is-the-password"


async def _too_02(w: Any, play: Any, tool: Any, **options: Any) -> Any:
    script = w.Script().stream(
        w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"), w.Posts(2), w.run(), w.idle("end")
    )
    played = await play(script, handler=w.Recorder(tool), **options)
    assert played.handler.call_ids == ["u1"]
    (posted,) = played.results_posted
    assert (played.result.terminal, played.result.turns) == ("end_turn", 2)
    assert posted["is_error"] is True
    (block,) = posted["content"]
    return played, block["text"]


async def test_too_02_a_an_error_output(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> maa.ToolOutput:
        return maa.ToolOutput(content="no such customer", is_error=True)

    _played, text = await _too_02(w, play, tool)
    assert text == "no such customer"


async def test_too_02_a_a_tool_error(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> str:
        raise maa.ToolError("no such customer")

    _played, text = await _too_02(w, play, tool)
    assert text == "no such customer"


async def test_too_02_b_an_exception_with_a_secret(
    w: Any, play: Any, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.DEBUG)

    async def tool(*_args: Any) -> str:
        raise ValueError(SECRET)

    played, text = await _too_02(w, play, tool, client={"api_key": "sk-test-in-no-log"})
    assert SECRET not in text
    assert "ValueError" in text
    error_id = text.split("error id ")[1].rstrip(").")
    assert len(error_id) == 8
    assert error_id in caplog.text
    for shown in (repr(played.result), str(played.result.events), str(played.served.server.requests)):
        assert SECRET not in shown
    assert "sk-test-in-no-log" not in caplog.text + repr(played.result) + repr(played.served.client)


async def test_too_02_b_unless_exceptions_are_exposed(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> str:
        raise ValueError("visible")

    _played, text = await _too_02(w, play, tool, expose_exceptions=True)
    assert "ValueError: visible" in text


async def test_too_02_b_many_exceptions_at_once(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> str:
        async def fail() -> None:
            raise ValueError(SECRET)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(fail)
        return "never"

    _played, text = await _too_02(w, play, tool)
    assert SECRET not in text
    assert "ExceptionGroup" in text


@pytest.mark.parametrize("value", [7, 1.5, ["a"], {"a": 1}, b"bytes", object(), True])
async def test_too_02_c_what_is_not_text(w: Any, play: Any, value: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> Any:
        return value

    _played, text = await _too_02(w, play, tool)
    assert type(value).__name__ in text


@pytest.mark.parametrize("content", [17, [1, 2], [{"no": "type"}], {"type": "text"}, None, []])
async def test_too_02_d_nonsense(w: Any, play: Any, content: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> maa.ToolOutput:
        return maa.ToolOutput(content=content)

    _played, text = await _too_02(w, play, tool)
    assert text


async def test_too_02_e_thirty_megabytes(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> str:
        return "é" * 30_000_000

    _played, text = await _too_02(w, play, tool)
    assert len(text) < 1_001_000
    assert "30,000,000" in text[-200:]
    assert text.startswith("éééé")


async def test_too_02_e_thirty_megabytes_in_blocks(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> maa.ToolOutput:
        return maa.ToolOutput(content=[{"type": "text", "text": "x" * 30_000_000}])

    _played, text = await _too_02(w, play, tool)
    assert len(text) < 1_001_000


async def test_too_02_no_output_is_no_error(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> None:
        return None

    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"), w.Posts(2), w.idle("end"))
    played = await play(script, handler=w.Recorder(tool))
    (posted,) = played.results_posted
    assert posted["is_error"] is False
    assert posted["content"][0]["text"]


async def test_too_02_input_that_is_no_object(w: Any, play: Any, autojump_clock: MockClock) -> None:
    call = {**w.ctu("u1"), "input": "not an object"}
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), call, w.idle("req", "u1"), w.Posts(2), w.run(), w.idle("end"))
    played = await play(script)
    assert played.handler.calls == []
    (posted,) = played.results_posted
    assert posted["is_error"] is True
    assert played.result.terminal == "end_turn"


# --- TOO-03 -----------------------------------------------------------------------------------------------------------


async def test_too_03_calls_are_answered_on_arrival(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK,
        w.Posts(1),
        w.run(),
        w.ctu("u1"),
        w.Pause(0.5),
        w.ctu("u2"),
        w.Pause(4.5),
        w.idle("req", "u2", "u1"),
        w.Pause(3.0),
        w.run(),
        w.msg("m1", "done"),
        w.idle("end"),
    )
    played = await play(script, handler=w.Recorder(takes(u1=3.0, u2=1.0)))
    assert played.handler.call_ids == ["u1", "u2"]
    assert played.call_times == [0.0, 0.5]
    assert played.post_times == [0.0, 1.5, 3.0]
    assert texts(played.results_posted) == {"u2": "r-u2", "u1": "r-u1"}
    assert [r["custom_tool_use_id"] for r in played.results_posted] == ["u2", "u1"]
    assert (played.took, played.result.turns, played.result.text) == (8.0, 2, "done")


async def test_too_03_the_idle_may_never_come(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.Posts(2), w.res("u1"), w.msg("m1", "on it"), w.idle("end")
    )
    played = await play(script)
    assert played.handler.call_ids == ["u1"]
    assert (played.result.terminal, played.result.text, played.took) == ("end_turn", "on it", 0)


async def test_too_03_the_same_call_twice_runs_once(w: Any, play: Any, autojump_clock: MockClock) -> None:
    call = w.ctu("u1")
    script = w.Script().stream(
        w.OK,
        w.Posts(1),
        w.run(),
        call,
        call,
        w.idle("req", "u1"),
        w.idle("req", "u1"),
        w.Posts(2),
        call,
        w.run(),
        w.idle("end"),
    )
    played = await play(script)
    assert played.handler.call_ids == ["u1"]
    assert len(played.results_posted) == 1


# --- TOO-04 -----------------------------------------------------------------------------------------------------------

TWELVE = [f"u{n}" for n in range(12)]


async def test_too_04_parallelism_bound(w: Any, play: Any, autojump_clock: MockClock) -> None:
    running, peak = 0, 0

    async def tool(name: str, input: Any, context: maa.ToolContext) -> str:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await trio.sleep(1.0)
        running -= 1
        return f"r-{context.tool_use_id}"

    calls = [w.ctu(call_id) for call_id in TWELVE]
    script = w.Script().stream(
        w.OK, w.Posts(1), w.run(), *calls, w.idle("req", *TWELVE), w.Posts(13), w.run(), w.idle("end")
    )
    played = await play(script, handler=w.Recorder(tool), max_tool_concurrency=3)
    assert (peak, running, played.took) == (3, 0, 4.0)
    assert played.call_times == [float(n // 3) for n in range(12)]
    assert played.post_times == [0.0] + [1.0 + n // 3 for n in range(12)]
    assert texts(played.results_posted) == {call_id: f"r-{call_id}" for call_id in TWELVE}
    assert [use.id for use in played.result.custom_tool_uses] == TWELVE


async def test_too_04_one_at_a_time_runs_in_the_order_of_the_calls(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    calls = [w.ctu(call_id) for call_id in TWELVE]
    script = w.Script().stream(
        w.OK, w.Posts(1), w.run(), *calls, w.idle("req", *TWELVE), w.Posts(13), w.run(), w.idle("end")
    )
    tool = takes(**dict.fromkeys(TWELVE, 1.0))
    played = await play(script, handler=w.Recorder(tool), max_tool_concurrency=1)
    assert played.call_times == [float(n) for n in range(12)]
    assert played.handler.call_ids == TWELVE


async def test_too_04_a_limiter_shared_by_two_sessions(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    limiter = trio.CapacityLimiter(3)
    peak = 0

    async def tool(name: str, input: Any, context: maa.ToolContext) -> str:
        nonlocal peak
        peak = max(peak, int(limiter.borrowed_tokens))
        await trio.sleep(1.0)
        return "r"

    handler = w.Recorder(tool)
    results: list[maa.SessionResult] = []

    async def one() -> None:
        ids = [f"u{n}" for n in range(6)]
        script = w.Script().stream(
            w.OK, w.Posts(1), w.run(), *map(w.ctu, ids), w.idle("req", *ids), w.Posts(7), w.run(), w.idle("end")
        )
        async with serve(script) as served:
            results.append(
                await maa.run_session(
                    claude_managed_agents,
                    handler=handler,
                    prompt="go",
                    max_tool_concurrency=limiter,
                    **served.options,
                )
            )

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one)
        nursery.start_soon(one)
    assert [r.terminal for r in results] == ["end_turn"] * 2
    assert (peak, len(handler.calls), trio.current_time() - began) == (3, 12, 4.0)
    assert limiter.borrowed_tokens == 0


# --- TOO-05 -----------------------------------------------------------------------------------------------------------


async def test_too_05_per_tool_timeout(w: Any, play: Any, autojump_clock: MockClock) -> None:
    cleaned: list[float] = []

    async def tool(name: str, input: Any, context: maa.ToolContext) -> str:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(trio.current_time())
        return "never"

    script = w.Script().stream(
        w.OK,
        w.Posts(1),
        w.run(),
        w.Pause(1.0),
        w.ctu("u1"),
        w.idle("req", "u1"),
        w.Posts(2),
        w.run(),
        w.msg("m1", "well"),
        w.idle("end"),
    )
    played = await play(script, handler=w.Recorder(tool), tool_timeout=2.0)
    assert [round(at - played.began, 6) for at in cleaned] == [3.0]
    assert played.post_times == [0.0, 3.0]
    (posted,) = played.results_posted
    assert posted["is_error"] is True
    assert "timed out" in posted["content"][0]["text"]
    assert (played.result.terminal, played.result.text, played.took) == ("end_turn", "well", 3.0)
