"""Resuming: what a session did before is read, not repeated, and not counted; what is still to be done is done."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import Request, Responder, open_claude_simulator, say

GO = {"type": "user.message", "content": [{"type": "text", "text": "go"}]}
STEADY = maa.ReconnectPolicy(jitter=0.0)


def _past(w: Any) -> list[Any]:
    return [w.user("before"), w.run(), w.msg("m0", "earlier"), w.use(100, 100), w.ctu("u0"), w.res("u0"), w.idle("end")]


# --- RSM-01 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["run", "start", "ask"])
async def test_rsm_01_idle_and_prompt(w: Any, serve: Any, how: str, autojump_clock: MockClock) -> None:
    past = _past(w)
    new = [w.run(), w.msg("m1", "new"), w.use(1, 2), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *new).listing(past)
    handler = w.Recorder()
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    async with serve(script) as served:
        options = {"handler": handler, "notify": told, **served.resume}
        result = await _request(how, options)
        assert served.traffic == ["stream", "list", "user.message"]
        assert len(served.streams) == len(served.listings) == 1
    assert script.posts == [GO]
    assert (result.terminal, result.text, result.turns) == ("end_turn", "new", 1)
    assert (result.usage.input_tokens, result.usage.output_tokens) == (1, 2)
    assert (result.custom_tool_uses, result.session_id) == ((), w.SESSION)
    assert list(result.events) == new
    assert handler.events == past + new
    assert handler.origins == ["history"] * len(past) + ["live"] * len(new)
    assert handler.calls == []
    assert hears.receive_nowait() == result
    with pytest.raises((trio.WouldBlock, trio.EndOfChannel)):
        hears.receive_nowait()


async def _request(how: str, options: dict[str, Any]) -> maa.SessionResult:
    if how == "run":
        return await maa.run_session(claude_managed_agents, prompt="go", **options)
    if how == "ask":
        async with maa.open_session(claude_managed_agents, **options) as session:
            return await session.ask("go")
    async with (
        maa.open_session(claude_managed_agents, prompt="go", **options) as session,
        session.subscribe() as terminals,
    ):
        return await terminals.receive()


async def test_rsm_01_nothing_is_posted_before_the_history_is_read(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    past = _past(w)
    script = w.Script().stream(w.Pause(3), w.OK, w.Posts(1), w.run(), w.idle("end")).listing(past[:4], past[4:])
    async with serve(script) as served:
        began = trio.current_time()
        await maa.run_session(claude_managed_agents, handler=w.Recorder(), prompt="go", **served.resume)
        assert served.traffic == ["stream", "list", "list", "user.message"]
        assert [round(at - began, 6) for at in script.post_times] == [3]


async def test_rsm_01_the_same_words_as_before_are_a_new_message(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    past = [w.user("go"), w.run(), w.msg("m0", "earlier"), w.idle("end")]
    new = [w.user("go"), w.run(), w.msg("m1", "new"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *new).listing(past)
    async with serve(script) as served:
        result = await maa.run_session(claude_managed_agents, handler=w.Recorder(), prompt="go", **served.resume)
    assert (result.text, result.turns) == ("new", 1)
    assert script.posts == [GO]


async def test_rsm_01_with_the_simulator(w: Any, autojump_clock: MockClock) -> None:
    handler = w.Recorder()
    async with (
        open_claude_simulator([[say("one")], [say("two")]], transport="memory") as simulator,
        simulator.client() as client,
    ):
        first = await maa.run_session(
            claude_managed_agents,
            handler=w.Recorder(),
            prompt="go",
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
        )
        second = await maa.run_session(
            claude_managed_agents, handler=handler, prompt="on", client=client, session_id=first.session_id
        )
        log = simulator.session(str(first.session_id)).events
    assert (first.text, second.text, second.turns, second.session_id) == ("one", "two", 1, first.session_id)
    assert [event["id"] for event in handler.events] == [event["id"] for event in log]
    assert [event["id"] for event in (*first.events, *second.events)] == [event["id"] for event in log]


# --- RSM-04 -----------------------------------------------------------------------------------------------------------


async def test_rsm_04_no_prompt_sync(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    past = _past(w)
    handler = w.Recorder()
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    script = w.Script().stream(w.OK).listing(past)
    async with serve(script) as served:
        began = trio.current_time()
        result = await maa.run_session(claude_managed_agents, handler=handler, notify=told, **served.resume)
        assert trio.current_time() == began
        assert served.traffic == ["stream", "list"]
    assert (result.terminal, result.stop_reason, result.turns) == ("end_turn", {"type": "end_turn"}, 0)
    assert (result.session_id, result.usage, result.error, result.resumable) == (w.SESSION, maa.Usage(), None, True)
    assert handler.events == past
    assert handler.calls == []
    # No request, so no terminal.
    with pytest.raises((trio.WouldBlock, trio.EndOfChannel)):
        hears.receive_nowait()


@pytest.mark.parametrize("reason", ["budget_reached", "retries_exhausted"])
async def test_rsm_04_the_last_known_state_is_told_verbatim(
    w: Any, serve: Any, reason: str, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK).listing([w.user("before"), w.run(), w.idle(reason)])
    async with serve(script) as served:
        result = await maa.run_session(claude_managed_agents, handler=w.Recorder(), **served.resume)
    assert (result.stop_reason, result.turns) == ({"type": reason}, 0)


async def test_rsm_04_a_session_that_never_did_anything(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK).listing([])
    async with serve(script) as served:
        began = trio.current_time()
        result = await maa.run_session(claude_managed_agents, handler=w.Recorder(), **served.resume)
        assert trio.current_time() == began
    assert (result.turns, result.text, result.events, script.posts) == (0, "", (), [])


async def test_rsm_04_live_parks(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    past = _past(w)
    handler = w.Recorder()
    alive = [w.Pause(15), w.HB] * 240
    script = w.Script().stream(w.OK, *alive).listing(past)
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=handler, **served.resume) as session,
        session.subscribe() as terminals,
    ):
        await trio.sleep(3600)
        status = session.status()
        assert (status.phase, status.busy, status.queued_messages) == ("live", False, 0)
        assert served.traffic == ["stream", "list"]
        with pytest.raises(trio.WouldBlock):
            terminals.receive_nowait()
    assert handler.events == past


async def test_rsm_04_a_run_without_a_prompt_watches_what_is_under_way(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    past = [w.user("before"), w.run(), w.msg("m0", "begun")]
    new = [w.msg("m1", "done"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Pause(30), *new).listing(past)
    async with serve(script) as served:
        began = trio.current_time()
        result = await maa.run_session(claude_managed_agents, handler=w.Recorder(), **served.resume)
        assert trio.current_time() - began == 30
    assert (result.terminal, result.turns, result.text) == ("end_turn", 1, "begun\ndone")
    assert list(result.events) == past + new
    assert script.posts == []


# --- RSM-06 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["term", "deleted"])
@pytest.mark.parametrize("prompt", [None, "go"])
async def test_rsm_06_a_run_of_a_terminated_session(
    w: Any, serve: Any, end: str, prompt: str | None, autojump_clock: MockClock
) -> None:
    past = [*_past(w), getattr(w, end)()]
    script = w.Script().stream(w.OK).listing(past)
    handler = w.Recorder()
    async with serve(script) as served:
        began = trio.current_time()
        with pytest.raises(maa.SessionGone, match="session s is gone") as caught:
            await maa.run_session(claude_managed_agents, handler=handler, prompt=prompt, **served.resume)
        assert trio.current_time() == began
        assert served.traffic == ["stream", "list"]
    assert (caught.value.result.session_id, caught.value.result.resumable) == (w.SESSION, False)
    assert handler.events == past


class _NoHistory:
    """A session whose stream opens, and whose history is refused."""

    def __init__(self, w: Any, code: int) -> None:
        self._script, self._code = w.Script().stream(w.OK), code

    async def __call__(self, request: Request, respond: Responder) -> None:
        if request.path.endswith("/events") and request.method == "GET":
            body = {"type": "error", "error": {"type": "not_found_error", "message": "no such session"}}
            await respond.json(self._code, body)
        else:
            await self._script(request, respond)


@pytest.mark.parametrize("code", [404, 410])
@pytest.mark.parametrize("where", ["stream", "list"])
@pytest.mark.parametrize("prompt", [None, "go"])
async def test_rsm_06_a_run_of_a_missing_session(
    w: Any, serve: Any, code: int, where: str, prompt: str | None, autojump_clock: MockClock
) -> None:
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    script = w.Script().stream(w.Status(code)) if where == "stream" else _NoHistory(w, code)
    async with serve(script) as served:
        began = trio.current_time()
        with pytest.raises(maa.SessionGone):
            await maa.run_session(
                claude_managed_agents, handler=w.Recorder(), prompt=prompt, notify=told, **served.resume
            )
        assert trio.current_time() == began
        assert served.traffic == (["stream"] if where == "stream" else ["stream", "list"])
    heard = [] if prompt is None else [hears.receive_nowait()]
    assert [told.error.type for told in heard if told.error] == ([] if prompt is None else ["SessionGone"])
    with pytest.raises((trio.WouldBlock, trio.EndOfChannel)):
        hears.receive_nowait()


@pytest.mark.parametrize("gone", ["term", "404"])
async def test_rsm_06_a_live_session_that_is_gone(w: Any, serve: Any, gone: str, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK if gone == "term" else w.Status(404)).listing([*_past(w), w.term()])
    async with serve(script) as served:
        began = trio.current_time()
        with pytest.raises(maa.SessionGone):
            async with maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.resume) as session:
                await session.wait_closed()
        assert len(served.streams) == 1
        assert trio.current_time() == began


@pytest.mark.parametrize("gone", ["term", "404"])
async def test_rsm_06_a_failure_nobody_saw_comes_out_of_the_block(
    w: Any, serve: Any, gone: str, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK if gone == "term" else w.Status(404)).listing([*_past(w), w.term()])
    left = False
    async with serve(script) as served:
        with pytest.raises(maa.SessionGone):
            async with maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.resume) as session:
                await wait_all_tasks_blocked()
                assert session.status().phase == "closed"
                left = True
    assert left


# --- RSM-07 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prompt", [None, "go"])
async def test_rsm_07_paged_history(w: Any, serve: Any, prompt: str | None, autojump_clock: MockClock) -> None:
    first = [w.user("before"), w.run(), w.ctu("u0"), w.res("u0"), w.msg("m0", "earlier")]
    second = [w.ctu("u1", "lookup", {"q": 1}), w.idle("req", "u1")]
    third = [w.event("session.usage", usage={}, budget=None)]
    rest = [w.res("u1"), w.run(), w.msg("m1", "done"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *rest).listing(first, second, third)
    if prompt is not None:
        follow_up = [w.Posts(2), w.run(), w.msg("m2", "and on"), w.idle("end")]
        script = w.Script().stream(w.OK, w.Posts(1), *rest, *follow_up).listing(first, second, third)
        rest = [*rest, *follow_up[1:]]
    handler = w.Recorder()
    async with serve(script) as served:
        result = await maa.run_session(claude_managed_agents, handler=handler, prompt=prompt, **served.resume)
        assert served.traffic[:4] == ["stream", "list", "list", "list"]
    assert [(name, given, context.tool_use_id) for name, given, context, _at in handler.calls] == [
        ("lookup", {"q": 1}, "u1")
    ]
    assert handler.events == [*first, *second, *third, *rest]
    kinds = [event["type"] for event in script.posts]
    assert kinds == ["user.custom_tool_result"] + ([] if prompt is None else ["user.message"])
    assert script.posts[0]["custom_tool_use_id"] == "u1"
    assert result.terminal == "end_turn"
    assert result.last_text == ("done" if prompt is None else "and on")


async def test_rsm_07_an_answer_on_a_later_page_closes_the_call(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    pages = [
        [w.user("before"), w.run(), w.ctu("u1")],
        [w.idle("req", "u1")],
        [w.res("u1"), w.run(), w.msg("m0", "done"), w.idle("end")],
    ]
    handler = w.Recorder()
    script = w.Script().stream(w.OK).listing(*pages)
    async with serve(script) as served:
        result = await maa.run_session(claude_managed_agents, handler=handler, **served.resume)
    assert (handler.calls, script.posts, result.turns) == ([], [], 0)


# --- RSM-08 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["DROP", "EOF"])
async def test_rsm_08_a_fresh_session_never_repeats_its_kickoff(
    w: Any, serve: Any, ending: str, autojump_clock: MockClock
) -> None:
    ending = getattr(w, ending)
    script = (
        w.Script()
        .stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "hi"), w.idle("end"), w.Pause(1), ending)
        .stream(w.OK, w.Pause(60), ending)
        .stream(w.OK, w.Posts(2), w.run(), w.msg("m2", "more"), w.idle("end"))
    )
    handler = w.Recorder()
    async with (
        serve(script) as served,
        maa.open_session(
            claude_managed_agents, handler=handler, prompt="go", reconnect=STEADY, **served.options
        ) as session,
        session.subscribe() as terminals,
    ):
        first = await terminals.receive()
        await trio.sleep(80)
        assert script.posts == [GO]
        assert (session.status().phase, session.status().reconnects) == ("live", 2)
        with pytest.raises(trio.WouldBlock):
            terminals.receive_nowait()
        second = await session.ask("more")
        assert await terminals.receive() == second
        assert served.traffic[:3] == ["create", "stream", "user.message"]
    assert [event["content"][0]["text"] for event in script.posts] == ["go", "more"]
    assert (first.text, second.text) == ("hi", "more")
    messages = [event["id"] for event in handler.events if event["type"] == "agent.message"]
    assert messages == ["m1", "m2"]
