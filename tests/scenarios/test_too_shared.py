"""Calls that are not simply ours to run: gated ones, those of sub-agents, and those of other clients."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import ask, call_tools, open_claude_simulator, say, subagent_call

SECRET = "hunter2-is-the-password"


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
        w.event("session.thread_created", session_thread_id="sthr_2", agent_name="scout", workflow_run_id=None),
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
    script = [subagent_call("scout", "t", {"q": 1}), say("done")]
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
        w.user("go", id="p1"),
        w.run(),
        w.ctu("u1", "mine"),
        w.ctu("u2", "theirs"),
        w.idle("req", "u1", "u2"),
        w.Posts(2),
        w.res("u1", id="p2"),
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
