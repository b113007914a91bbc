"""Guards and budgets: who may stop a request, when, what is still known of it then, and that the provider is told."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents

GO = {"type": "user.message", "content": [{"type": "text", "text": "go"}]}
INTERRUPT = {"type": "user.interrupt"}


def _loop(w: Any, turns: int) -> Any:
    """An agent that calls its tool in every turn and idles half a second later: ten tokens in, five out, each time."""
    steps: list[Any] = [w.OK]
    for turn in range(1, turns + 1):
        steps += [w.Posts(turn)]
        steps += [] if turn == 1 else [w.res(f"u{turn - 1}")]
        steps += [w.run(), w.msg(f"m{turn}", f"line {turn}"), w.ctu(f"u{turn}"), w.use(10, 5)]
        steps += [w.Pause(0.5), w.idle("req", f"u{turn}")]
    return w.Script().stream(*steps)


async def _second(name: str, input: Any, context: Any) -> str:
    """A tool that takes a second."""
    await trio.sleep(1)
    return "r"


def _kinds(played: Any) -> list[str]:
    return [event["type"] for event in played.script.posts]


class _Guard:
    """Keeps what it was shown; speaks from the given turn on."""

    def __init__(self, verdict: Any = None, *, at: int = 1) -> None:
        self.seen: list[maa.TurnResult] = []
        self._verdict, self._at = verdict, at

    async def __call__(self, turn: maa.TurnResult) -> Any:
        self.seen.append(turn)
        if turn.turns < self._at:
            return None
        if isinstance(self._verdict, Exception):
            raise self._verdict
        return self._verdict


# --- GRD-01 -----------------------------------------------------------------------------------------------------------


async def test_grd_01_a_guard_that_lets_go_on_sees_every_turn(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK,
        w.Posts(1),
        *(w.run(), w.msg("m1", "first"), w.ctu("u1"), w.use(10, 5), w.idle("req", "u1")),
        w.Posts(2),
        *(w.res("u1"), w.run(), w.msg("m2", "second"), w.use(1, 2), w.idle("end")),
    )
    guard = _Guard()
    played = await play(script, turn_guard=guard)
    assert (played.result.terminal, played.result.turns) == ("end_turn", 2)
    one, two = guard.seen
    assert (one.turns, one.terminal, one.stop_reason) == (
        1,
        "requires_action",
        {"type": "requires_action", "event_ids": ["u1"]},
    )
    assert (one.text, one.usage.input_tokens, one.usage.output_tokens) == ("first", 10, 5)
    assert [use.id for use in one.custom_tool_uses] == ["u1"]
    assert one.session_id == two.session_id == w.SESSION
    assert (two.turns, two.terminal, two.stop_reason) == (2, "end_turn", {"type": "end_turn"})
    assert (two.text, two.usage) == (played.result.text, played.result.usage)
    assert (two.usage.input_tokens, two.usage.output_tokens) == (11, 7)
    assert _kinds(played) == ["user.message", "user.custom_tool_result"]


async def test_grd_01_halt_at_turn_2(w: Any, play: Any, autojump_clock: MockClock) -> None:
    guard = _Guard(maa.Halt(reason="over budget"), at=2)
    played = await play(_loop(w, 2), then=1, handler=w.Recorder(_second), turn_guard=guard)
    error = played.error
    assert isinstance(error, maa.TurnHalted)
    assert error.reason == "over budget"
    assert "after turn 2" in str(error)
    result = error.result
    assert (result.terminal, result.turns, result.session_id, result.resumable) == ("terminated", 2, w.SESSION, True)
    assert (result.last_text, result.usage.input_tokens, result.usage.output_tokens) == ("line 2", 20, 10)
    assert list(result.events) == played.script.order
    assert [turn.turns for turn in guard.seen] == [1, 2]
    # The tool of the halted turn is cancelled, and the provider is told to stop, once.
    assert _kinds(played) == ["user.message", "user.custom_tool_result", "user.interrupt"]
    assert played.script.posts[-1] == INTERRUPT
    assert played.handler.call_ids == ["u1", "u2"]
    assert [call_id for call_id, _at in played.handler.cancelled] == ["u2"]
    assert played.took == 1.5
    told = played.notified[0]
    assert told == result
    assert told.error is not None
    assert (told.error.type, told.error.message) == ("TurnHalted", str(error))


async def test_grd_01_the_guard_wins_over_max_turns(w: Any, play: Any, autojump_clock: MockClock) -> None:
    guard = _Guard(maa.Halt(reason="both"), at=2)
    played = await play(_loop(w, 2), then=1, handler=w.Recorder(_second), turn_guard=guard, max_turns=2)
    assert isinstance(played.error, maa.TurnHalted)
    assert played.error.reason == "both"


async def test_grd_01_max_turns_holds_when_the_guard_has_no_objection(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    guard = _Guard()
    played = await play(_loop(w, 2), then=1, handler=w.Recorder(_second), turn_guard=guard, max_turns=2)
    assert isinstance(played.error, maa.MaxTurnsExceeded)
    assert [turn.turns for turn in guard.seen] == [1, 2]


async def test_grd_01_a_guard_may_halt_a_turn_that_would_have_been_the_last(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "hi"), w.idle("end"))
    played = await play(script, turn_guard=_Guard(maa.Halt(reason="never")))
    assert isinstance(played.error, maa.TurnHalted)
    assert (played.error.result.text, played.error.result.turns) == ("hi", 1)
    assert _kinds(played) == ["user.message"]  # nothing runs that would have to be interrupted


async def test_grd_01_halt_on_a_reprompt_turn(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK, w.Posts(1), w.run(), w.msg("m1", "a"), w.idle("end"), w.Posts(2), w.run(), w.msg("m2", "b"), w.idle("end")
    )
    guard = _Guard(maa.Halt(reason="enough"), at=2)
    played = await play(script, turn_guard=guard, terminal_tool="submit", require_terminal_tool=True)
    assert isinstance(played.error, maa.TurnHalted)
    assert (played.error.result.turns, played.error.result.last_text) == (2, "b")
    assert [turn.turns for turn in guard.seen] == [1, 2]
    assert _kinds(played) == ["user.message", "user.message"]


@pytest.mark.parametrize(
    ("verdict", "reason_type"),
    [(RuntimeError("guard broke"), RuntimeError), ("nonsense", TypeError), (False, TypeError), ("halt", TypeError)],
    ids=["raises", "nonsense", "false", "string"],
)
async def test_grd_01_a_guard_that_fails_halts(
    w: Any, play: Any, verdict: Any, reason_type: type[Exception], autojump_clock: MockClock
) -> None:
    played = await play(_loop(w, 1), then=1, handler=w.Recorder(_second), turn_guard=_Guard(verdict))
    assert isinstance(played.error, maa.TurnHalted)
    assert isinstance(played.error.reason, reason_type)
    assert played.error.result.turns == 1
    assert _kinds(played) == ["user.message", "user.interrupt"]
    assert played.took == 0.5


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_grd_01_a_guard_may_be_sync_or_async(w: Any, play: Any, kind: str, autojump_clock: MockClock) -> None:
    def halt(turn: maa.TurnResult) -> maa.Halt:
        return maa.Halt(reason=turn.turns)

    async def halt_later(turn: maa.TurnResult) -> maa.Halt:
        await trio.sleep(0.25)
        return maa.Halt(reason=turn.turns)

    played = await play(
        _loop(w, 1), then=1, handler=w.Recorder(_second), turn_guard=halt if kind == "sync" else halt_later
    )
    assert isinstance(played.error, maa.TurnHalted)
    assert played.error.reason == 1
    assert played.took == (0.5 if kind == "sync" else 0.75)


async def test_grd_01_the_session_is_usable_after_a_halt(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK,
        w.Posts(1),
        *(w.run(), w.ctu("u1"), w.idle("req", "u1")),
        w.Posts(2),  # the interrupt
        *(w.event("user.interrupt"), w.res("u1", "interrupted", is_error=True), w.idle("end")),
        w.Posts(3),
        *(w.run(), w.msg("m2", "again"), w.idle("end")),
    )
    verdicts = [maa.Halt(reason="first request only"), None]
    async with (
        serve(script) as served,
        maa.open_session(
            claude_managed_agents,
            handler=w.Recorder(_second),
            turn_guard=lambda _turn: verdicts.pop(0),
            **served.options,
        ) as session,
        session.subscribe() as terminals,
    ):
        with pytest.raises(maa.TurnHalted):
            await session.ask("go")
        result = await session.ask("once more")
        first, second = await terminals.receive(), await terminals.receive()
    assert first.error is not None
    assert (first.turns, first.error.type) == (1, "TurnHalted")
    assert second == result
    assert (result.terminal, result.text, result.turns) == ("end_turn", "again", 1)
    assert [event["type"] for event in script.posts] == ["user.message", "user.interrupt", "user.message"]


# --- GRD-03 -----------------------------------------------------------------------------------------------------------


async def test_grd_03_runaway_loop(w: Any, play: Any, autojump_clock: MockClock) -> None:
    played = await play(_loop(w, 3), then=1, handler=w.Recorder(_second), max_turns=3)
    error = played.error
    assert isinstance(error, maa.MaxTurnsExceeded)
    assert "another turn after 3" in str(error)
    assert (error.result.turns, error.result.terminal) == (3, "terminated")
    assert error.result.usage.input_tokens == 30
    assert _kinds(played) == ["user.message", *["user.custom_tool_result"] * 2, "user.interrupt"]
    assert [event["custom_tool_use_id"] for event in played.results_posted] == ["u1", "u2"]
    assert played.took == 2.5  # at the third turn's end, not after its tool
    assert [call_id for call_id, _at in played.handler.cancelled] == ["u3"]
    assert [(told.terminal, told.turns) for told in played.notified] == [("terminated", 3)]


@pytest.mark.parametrize("how", ["run", "ask"])
async def test_grd_03_leaving_at_once_still_tells_the_provider(
    w: Any, serve: Any, how: str, autojump_clock: MockClock
) -> None:
    options = {"handler": w.Recorder(_second), "max_turns": 1}
    async with serve(_loop(w, 1)) as served:
        with pytest.raises(maa.MaxTurnsExceeded):
            if how == "run":
                await maa.run_session(claude_managed_agents, prompt="go", **options, **served.options)
            else:
                async with maa.open_session(claude_managed_agents, **options, **served.options) as session:
                    await session.ask("go")
        assert served.script.posts == [GO, INTERRUPT]


async def test_grd_03_the_last_allowed_turn_may_end_the_request(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        *(w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1")),
        *(w.Posts(2), w.res("u1"), w.run(), w.msg("m1", "done"), w.idle("end")),
    )
    played = await play(script, max_turns=2)
    assert (played.result.terminal, played.result.turns, played.result.text) == ("end_turn", 2, "done")


async def test_grd_03_one_turn_is_allowed_and_no_more(w: Any, play: Any, autojump_clock: MockClock) -> None:
    played = await play(_loop(w, 1), then=1, handler=w.Recorder(_second), max_turns=1)
    assert isinstance(played.error, maa.MaxTurnsExceeded)
    assert _kinds(played) == ["user.message", "user.interrupt"]


async def test_grd_03_the_limit_is_for_each_request(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        *(w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"), w.Posts(2), w.res("u1"), w.run(), w.idle("end")),
        *(w.Posts(3), w.run(), w.ctu("u2"), w.idle("req", "u2"), w.Posts(4), w.res("u2"), w.run(), w.idle("end")),
    )
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), max_turns=2, **served.options) as session,
    ):
        assert [(await session.ask("one")).turns, (await session.ask("two")).turns] == [2, 2]


# --- GRD-06 -----------------------------------------------------------------------------------------------------------


def _two_calls(w: Any) -> Any:
    return w.Script().stream(
        *(w.OK, w.Posts(1), w.run(), w.ctu("u1", "delete", {"id": 1}), w.ctu("u2", "read"), w.idle("req", "u1", "u2")),
        *(w.Posts(3), w.res("u1", is_error=True), w.res("u2"), w.run(), w.msg("m1", "ok"), w.idle("end")),
    )


@pytest.mark.parametrize("verdict", ["deny", maa.Deny(), maa.Deny(message="not on Sundays"), None, "perhaps"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_grd_06_veto(w: Any, play: Any, verdict: Any, kind: str) -> None:
    asked: list[maa.ToolUse] = []

    def policy(use: maa.ToolUse, context: maa.ToolContext) -> Any:
        asked.append(use)
        assert context.tool_use_id == use.id
        return verdict if use.name == "delete" else "allow"

    async def async_policy(use: maa.ToolUse, context: maa.ToolContext) -> Any:
        return policy(use, context)

    inner = w.Recorder()
    handler = maa.with_policy(inner, policy if kind == "sync" else async_policy)
    played = await play(_two_calls(w), handler=handler)
    assert (played.result.terminal, played.result.text) == ("end_turn", "ok")
    assert inner.call_ids == ["u2"]
    assert sorted(use.id for use in asked) == ["u1", "u2"]
    posted = {event["custom_tool_use_id"]: event for event in played.results_posted}
    message = verdict.message if isinstance(verdict, maa.Deny) and verdict.message else "The call of delete was denied."
    assert posted["u1"]["content"] == [{"type": "text", "text": message}]
    assert posted["u1"]["is_error"] is True
    assert (posted["u2"]["content"], posted["u2"]["is_error"]) == ([{"type": "text", "text": "r"}], False)
    # The wrapped handler still sees every event.
    assert inner.events == played.script.order


async def test_grd_06_a_policy_that_raises_denies(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def policy(use: maa.ToolUse, context: maa.ToolContext) -> Any:
        if use.name == "delete":
            raise RuntimeError("a secret of the policy's")
        return "allow"

    inner = w.Recorder()
    played = await play(_two_calls(w), handler=maa.with_policy(inner, policy))
    assert inner.call_ids == ["u2"]
    posted = {event["custom_tool_use_id"]: event for event in played.results_posted}
    assert posted["u1"]["is_error"] is True
    assert "secret" not in str(posted["u1"])


async def test_grd_06_a_wall_clock_guard_stops_between_turns(w: Any, play: Any, autojump_clock: MockClock) -> None:
    began = trio.current_time()

    def wall_clock(turn: maa.TurnResult) -> maa.Halt | None:
        return maa.Halt(reason="out of time") if trio.current_time() - began > 1.5 else None

    played = await play(_loop(w, 3), then=1, handler=w.Recorder(_second), turn_guard=wall_clock)
    assert isinstance(played.error, maa.TurnHalted)
    assert (played.error.reason, played.error.result.turns, played.took) == ("out of time", 3, 2.5)
    assert _kinds(played)[-1] == "user.interrupt"


async def test_grd_06_a_cost_guard_stops_between_turns(w: Any, play: Any, autojump_clock: MockClock) -> None:
    def cost(turn: maa.TurnResult) -> maa.Halt | None:
        return maa.Halt(reason=turn.usage.input_tokens) if turn.usage.input_tokens >= 20 else None

    played = await play(_loop(w, 2), then=1, handler=w.Recorder(_second), turn_guard=cost)
    assert isinstance(played.error, maa.TurnHalted)
    assert (played.error.reason, played.error.result.turns) == (20, 2)
