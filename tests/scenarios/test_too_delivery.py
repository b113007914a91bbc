"""A tool's result on its way: lost answers, refusals and what the server forgot. The tool itself is never run again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents

# Delays without chance: 0.5, 1, 2, … seconds.
STEADY = maa.ReconnectPolicy(jitter=0.0)


def takes(**seconds: float) -> Callable[..., Awaitable[str]]:
    """A tool whose calls take these many seconds, by call id, and say which call they were."""

    async def tool(name: str, input: Any, context: maa.ToolContext) -> str:
        await trio.sleep(seconds.get(context.tool_use_id, 0.0))
        return f"r-{context.tool_use_id}"

    return tool


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
        w.res("u1", "r-u1", id="p2"),
        w.idle("req", "u2"),
        w.Posts(4),
        w.res("u2", "r-u2", id="p4"),
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
    again = w.idle("req", "u2")
    script = w.Script().stream(
        w.OK, w.Posts(1), *events, w.Posts(2), again, w.Posts(3), w.res("u2"), w.run(), w.idle("end")
    )
    script.listing([*events, again])
    played = await play(script, unresolved_after=4.0)
    assert played.handler.call_ids == ["u2"]
    assert played.post_times == [0.0, 0.0, 4.0]
    first, second = played.results_posted
    assert first == second
    assert (played.result.terminal, played.took) == ("end_turn", 4.0)
