"""Tools: each call is run once, when it arrives, within its bounds; and its result gets there whatever happens."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import ask, call_tools, open_claude_simulator, say, subagent_call

# Delays without chance: 0.5, 1, 2, … seconds.
STEADY = maa.ReconnectPolicy(jitter=0.0)


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


# --- TOO-07 -----------------------------------------------------------------------------------------------------------


async def test_too_07_result_accepted_ack_lost(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"), w.Posts(2), w.Pause(9.0), w.run(), w.idle("end")
    )
    played = await play(script.answers(202, w.LOST), reconnect=STEADY)
    assert played.handler.call_ids == ["u1"]
    assert played.post_times == [0.0, 0.0]
    assert played.served.traffic == ["create", "stream", "user.message", "user.custom_tool_result", "list", "look"]
    assert (played.result.terminal, played.took) == ("end_turn", 9.0)


async def test_too_07_when_the_stream_shows_the_result_first(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK,
        w.Posts(1),
        w.run(),
        w.ctu("u1"),
        w.idle("req", "u1"),
        w.Posts(2),
        w.res("u1"),
        w.run(),
        w.Pause(60.0),
        w.idle("end"),
    )
    played = await play(script.answers(202, w.LOST), reconnect=STEADY)
    assert played.handler.call_ids == ["u1"]
    assert played.post_times == [0.0, 0.0]
    assert (played.result.terminal, played.took) == ("end_turn", 60.0)


async def test_too_07_an_answer_that_never_comes_does_not_hold_the_turn(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(
        w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"), w.Posts(2), w.res("u1"), w.run(), w.idle("end")
    )
    played = await play(script.answers(202, w.MUTE))
    assert (played.result.terminal, played.took) == ("end_turn", 0)
    assert played.post_times == [0.0, 0.0]


# --- TOO-08 -----------------------------------------------------------------------------------------------------------


async def test_too_08_a_transient_failures(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"), w.Posts(4), w.run(), w.idle("end")
    )
    played = await play(script.answers(202, 500, 529, 202), reconnect=STEADY)
    assert played.handler.call_ids == ["u1"]
    assert played.post_times == [0.0, 0.0, 0.5, 1.5]
    assert len({str(result) for result in played.results_posted}) == 1
    assert (played.result.terminal, played.took) == ("end_turn", 1.5)


async def test_too_08_a_retry_after_is_honoured_and_capped(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"), w.Posts(4), w.run(), w.idle("end")
    )
    script.answers(202, w.Status(429, {"retry-after": "7"}), w.Status(529, {"retry-after": "3600"}), 202)
    played = await play(script, reconnect=STEADY)
    assert played.post_times == [0.0, 0.0, 7.0, 37.0]


async def _too_08_b(w: Any) -> Any:
    return w.Script().stream(w.OK, w.Posts(1), w.run(), w.ctu("u1", "lookup"), w.idle("req", "u1")).answers(202, 400)


async def test_too_08_b_a_permanent_failure(w: Any, play: Any, autojump_clock: MockClock) -> None:
    played = await play(await _too_08_b(w), reconnect=STEADY)
    assert isinstance(played.error, maa.SessionError)
    for word in ("u1", "lookup", "400"):
        assert word in str(played.error)
    (told,) = played.notified
    assert (told.terminal, told.error.type, told.error.message) == ("terminated", "SessionError", str(played.error))
    assert told.resumable is True
    assert played.handler.call_ids == ["u1"]
    assert len(played.results_posted) == 1
    assert played.took == 0


async def test_too_08_b_leaves_the_session_usable(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK,
        w.Posts(1),
        w.run(),
        w.ctu("u1"),
        w.idle("req", "u1"),
        w.Posts(3),  # the interrupt
        w.event("user.interrupt"),
        w.idle("end"),
        w.Posts(4),
        w.run(),
        w.msg("m2", "again"),
        w.idle("end"),
    )
    async with (
        serve(script.answers(202, 400)) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
        session.subscribe() as terminals,
    ):
        with pytest.raises(maa.SessionError, match="u1"):
            await session.ask("go")
        again = await session.ask("go on")
        assert (again.terminal, again.text, again.error) == ("end_turn", "again", None)
        assert [(await terminals.receive()).terminal for _ in range(2)] == ["terminated", "end_turn"]
        assert [r.body["events"][0]["type"] for r in served.posts] == [
            "user.message",
            "user.custom_tool_result",
            "user.interrupt",
            "user.message",
        ]


async def test_too_08_b_a_refusal_of_what_was_answered_already_is_no_error(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    call, idle = w.ctu("u1"), w.idle("req", "u1")
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), call, idle, w.Posts(2), w.Pause(5.0), w.run(), w.idle("end"))
    script.listing([call, idle, w.res("u1", "by another client")])
    played = await play(script.answers(202, 400))
    assert (played.result.terminal, played.took) == ("end_turn", 5.0)
    assert len(played.results_posted) == 1


# --- TOO-10 -----------------------------------------------------------------------------------------------------------


async def test_too_10_a_remainder_idle_that_is_real(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK,
        w.Posts(1),
        w.run(),
        w.ctu("u1"),
        w.ctu("u2"),
        w.idle("req", "u1", "u2"),
        w.Posts(3),
        w.res("u1", "r-u1"),
        w.idle("req", "u2"),
        w.Posts(4),
        w.res("u2", "r-u2"),
        w.run(),
        w.idle("end"),
    )
    played = await play(script.answers(202, 202, 503, 202), handler=w.Recorder(takes(u1=1.0, u2=2.0)), reconnect=STEADY)
    assert sorted(played.handler.call_ids) == ["u1", "u2"]
    assert played.post_times == [0.0, 1.0, 2.0, 2.5]
    first, second = played.results_posted[1:]
    assert first == second
    assert first["content"] == [{"type": "text", "text": "r-u2"}]
    assert (played.result.terminal, played.took) == ("end_turn", 2.5)


async def test_too_10_a_result_that_was_taken_and_lost(w: Any, play: Any, autojump_clock: MockClock) -> None:
    # The server acknowledged the result, never recorded it, and asks again.
    events = [w.run(), w.ctu("u2"), w.idle("req", "u2")]
    script = w.Script().stream(
        w.OK, w.Posts(1), *events, w.Posts(2), w.idle("req", "u2"), w.Posts(3), w.res("u2"), w.run(), w.idle("end")
    )
    script.listing(events)
    played = await play(script, unresolved_after=4.0)
    assert played.handler.call_ids == ["u2"]
    assert played.post_times == [0.0, 0.0, 4.0]
    first, second = played.results_posted
    assert first == second
    assert (played.result.terminal, played.took) == ("end_turn", 4.0)


# --- TOO-12 -----------------------------------------------------------------------------------------------------------


def _confirming(w: Any, verdict: Any) -> Any:
    class Confirming(w.Recorder):  # type: ignore[misc]  # the fixture's class
        def __init__(self) -> None:
            super().__init__()
            self.asked: list[tuple[str, str, Any]] = []

        async def handle_confirmation(self, use: maa.ToolUse, context: maa.ToolContext) -> Any:
            self.asked.append((use.id, use.name, dict(use.input)))
            if isinstance(verdict, Exception):
                raise verdict
            return verdict

    return Confirming()


@pytest.mark.parametrize(
    ("verdict", "posted"),
    [
        ("allow", {"result": "allow"}),
        ("deny", {"result": "deny"}),
        (maa.Deny(message="no shell"), {"result": "deny", "deny_message": "no shell"}),
        (ValueError(SECRET), {"result": "deny"}),
        ("yes", {"result": "deny"}),
        (True, {"result": "deny"}),
    ],
)
async def test_too_12_ask_gated_builtin(
    w: Any, play: Any, verdict: Any, posted: Any, autojump_clock: MockClock
) -> None:
    handler = _confirming(w, verdict)
    script = w.Script().stream(
        w.OK,
        w.Posts(1),
        w.run(),
        w.builtin("b1", permission="ask", input={"command": "ls"}),
        w.idle("req", "b1"),
        w.Posts(2),
        w.run(),
        w.builtin_result("b1"),
        w.msg("m1", "done"),
        w.idle("end"),
    )
    played = await play(script, handler=handler)
    assert handler.asked == [("b1", "bash", {"command": "ls"})]
    assert handler.calls == []
    (confirmation,) = played.script.posts[1:]
    assert SECRET not in str(confirmation)
    assert confirmation == {"type": "user.tool_confirmation", "tool_use_id": "b1", **posted}
    assert (played.result.terminal, played.result.text, played.result.turns) == ("end_turn", "done", 2)
    assert [use.id for use in played.result.server_tool_uses] == ["b1"]


async def test_too_12_without_a_policy_the_wait_is_the_result(w: Any, play: Any, autojump_clock: MockClock) -> None:
    idle = w.idle("req", "b1")
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.builtin("b1", permission="ask"), idle)
    played = await play(script)
    assert (played.result.terminal, played.result.stop_reason) == ("requires_action", idle["stop_reason"])
    assert played.script.posts[1:] == []


async def test_too_12_with_the_simulator(w: Any, autojump_clock: MockClock) -> None:
    handler = _confirming(w, "allow")
    async with (
        open_claude_simulator([ask("bash", {"command": "ls"}), say("done")], transport="memory") as simulator,
        simulator.client() as client,
    ):
        result = await maa.run_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=handler,
            prompt="go",
        )
    assert [(name, given) for _id, name, given in handler.asked] == [("bash", {"command": "ls"})]
    assert (result.terminal, result.last_text) == ("end_turn", "done")


# --- TOO-14 -----------------------------------------------------------------------------------------------------------


async def test_too_14_subagent_call(w: Any, play: Any, autojump_clock: MockClock) -> None:
    # The provider routes a result by its call's id and refuses a thread id on it; its echo carries one.
    script = w.Script().stream(
        w.OK,
        w.Posts(1),
        w.run(),
        w.event("session.thread_created", session_thread_id="sthr_2", agent_name="helper", workflow_run_id=None),
        w.ctu("u1", session_thread_id="sthr_2"),
        w.idle("req", "u1"),
        w.Posts(2),
        w.res("u1", session_thread_id="sthr_2"),
        w.run(),
        w.idle("end"),
    )
    played = await play(script)
    ((_name, _given, context, _at),) = played.handler.calls
    assert context.thread_id == "sthr_2"
    (posted,) = played.results_posted
    assert set(posted) == {"type", "custom_tool_use_id", "content", "is_error"}
    (use,) = played.result.custom_tool_uses
    assert (use.id, use.thread_id) == ("u1", "sthr_2")


async def test_too_14_with_the_simulator(w: Any, autojump_clock: MockClock) -> None:
    handler = w.Recorder()
    script = [subagent_call("helper", "t", {"q": 1}), say("done")]
    async with open_claude_simulator(script, transport="memory") as simulator, simulator.client() as client:
        result = await maa.run_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=handler,
            prompt="go",
        )
        (echo,) = [
            e for e in simulator.session(result.session_id or "").events if e["type"] == "user.custom_tool_result"
        ]
    ((_name, _given, context, _at),) = handler.calls
    assert context.thread_id is not None
    assert echo["session_thread_id"] == context.thread_id
    assert result.terminal == "end_turn"


# --- TOO-15 -----------------------------------------------------------------------------------------------------------


def _only_mine(w: Any) -> Any:
    class OnlyMine(w.Recorder):  # type: ignore[misc]  # the fixture's class
        unknown_tools = "leave"

        def owns(self, name: str) -> bool:
            return name == "mine"

    return OnlyMine()


def _too_15(w: Any, *then: Any) -> Any:
    # The stream shows what was posted, as the hosted API does: a look finds nothing that is new.
    return w.Script().stream(
        w.OK,
        w.Posts(1),
        w.user("go"),
        w.run(),
        w.ctu("u1", "mine"),
        w.ctu("u2", "theirs"),
        w.idle("req", "u1", "u2"),
        w.Posts(2),
        w.res("u1"),
        w.idle("req", "u2"),
        *then,
    )


async def test_too_15_another_client_answers_in_time(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = _too_15(w, w.Pause(9.0), w.res("u2", "theirs"), w.run(), w.msg("m1", "done"), w.idle("end"))
    played = await play(script, handler=_only_mine(w))
    assert played.handler.call_ids == ["u1"]
    assert [r["custom_tool_use_id"] for r in played.results_posted] == ["u1"]
    assert (played.result.terminal, played.result.text, played.took) == ("end_turn", "done", 9.0)
    assert played.served.traffic == ["create", "stream", "user.message", "user.custom_tool_result"]


async def test_too_15_left_calls_are_reported(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = _too_15(w)
    played = await play(script, handler=_only_mine(w))
    result = played.result
    assert (result.terminal, played.took) == ("requires_action", 10.0)
    assert result.stop_reason == {"type": "requires_action", "event_ids": ["u2"]}
    assert (result.error, result.resumable) == (None, True)
    assert [r["custom_tool_use_id"] for r in played.results_posted] == ["u1"]
    assert len(played.script.posts) == 2, "nobody is interrupted: another client is still to answer"
    assert played.served.traffic[-2:] == ["list", "look"]


async def test_too_15_any_sign_of_life_starts_the_quiet_again(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = _too_15(w, w.Pause(8.0), w.event("session.updated"), w.Pause(8.0), w.event("session.updated"))
    played = await play(script, handler=_only_mine(w))
    assert (played.result.terminal, played.took) == ("requires_action", 26.0)


async def test_too_15_the_late_answer_ends_in_a_further_terminal(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = _too_15(w, w.Pause(60.0), w.res("u2", "theirs"), w.run(), w.msg("m1", "late"), w.idle("end"))
    handler = _only_mine(w)
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=handler, notify=told, **served.options) as session,
        session.subscribe() as terminals,
    ):
        began = trio.current_time()
        asked = await session.ask("go")
        assert await terminals.receive() == asked
        assert (asked.terminal, trio.current_time() - began) == ("requires_action", 10.0)
        late = await terminals.receive()
        assert (late.terminal, late.text, trio.current_time() - began) == ("end_turn", "late", 60.0)
        await trio.sleep(100)
        assert [hears.receive_nowait() for _ in range(2)] == [asked, late]
        with pytest.raises(trio.WouldBlock):
            hears.receive_nowait()
    assert handler.call_ids == ["u1"]
    assert handler.events == script.order


async def test_too_15_with_a_toolbox_over_the_simulator(autojump_clock: MockClock) -> None:
    ran: list[int] = []

    async def mine(q: int) -> str:
        """Mine."""
        ran.append(q)
        return "r"

    toolbox = maa.Toolbox([mine], unknown_tools="leave")
    script = [call_tools(("mine", {"q": 1}), ("theirs", {"q": 2})), say("done")]
    async with open_claude_simulator(script, transport="memory") as simulator, simulator.client() as client:
        options = {"client": client, "agent": simulator.agent_id, "environment": simulator.environment_id}
        async with maa.open_session(claude_managed_agents, handler=toolbox, **options) as session:
            asked = await session.ask("go")
            (left,) = simulator.session(session.session_id).pending
            async with session.subscribe() as terminals:
                await client.sessions.events.send(
                    session.session_id,
                    [{"type": "user.custom_tool_result", "custom_tool_use_id": left, "content": []}],
                )
                late = await terminals.receive()
    assert (asked.terminal, asked.stop_reason["event_ids"]) == ("requires_action", [left])
    assert (late.terminal, late.last_text) == ("end_turn", "done")
    assert ran == [1]
