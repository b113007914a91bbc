"""Happy paths: what a request that meets no trouble gives, and what it costs on the wire."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    DropStream,
    Fault,
    FaultPlan,
    Request,
    Responder,
    call_tool,
    call_tools,
    open_claude_simulator,
    open_wire_server,
    say,
    spend,
)

GO = {"type": "user.message", "content": [{"type": "text", "text": "go"}]}


async def test_hap_01_immediate_end(w: Any, play: Any, autojump_clock: MockClock) -> None:
    events = [w.run(), w.msg("m1", "hi"), w.use(10, 5), w.idle("end")]
    played = await play(w.Script().stream(w.OK, w.Posts(1), *events).answers(202))
    result = played.result
    assert (result.terminal, result.stop_reason) == ("end_turn", {"type": "end_turn"})
    assert (result.text, result.last_text, result.turns, result.session_id) == ("hi", "hi", 1, "s")
    assert (result.usage.input_tokens, result.usage.output_tokens) == (10, 5)
    assert result.usage.raw == (events[2]["model_usage"],)
    assert list(result.events) == events
    assert (result.error, result.outcome, result.resumable) == (None, None, True)
    assert played.served.traffic == ["create", "stream", "user.message"]
    assert played.script.posts == [GO]
    assert played.handler.origins == ["live"] * 4
    assert played.took == 0


async def test_hap_01_the_post_waits_for_the_stream_s_headers(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.Pause(3.25), w.OK, w.Posts(1), w.run(), w.idle("end"))
    played = await play(script)
    assert played.served.traffic == ["create", "stream", "user.message"]
    assert (played.stream_times, played.post_times) == ([0.0], [3.25])


async def test_hap_01_the_turn_may_be_over_before_its_post_is_answered(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "hi"), w.idle("end"))
    played = await play(script.answers((w.Pause(2.0), 200)))
    assert (played.result.terminal, played.result.text) == ("end_turn", "hi")
    assert played.script.posts == [GO]


async def test_hap_01_events_that_follow_the_headers_at_once(w: Any, play: Any, autojump_clock: MockClock) -> None:
    # The script to the letter: nothing holds the events back until the POST is there, and no second answer comes.
    script = w.Script().stream(w.OK, w.run(), w.msg("m1", "hi"), w.use(10, 5), w.idle("end")).answers(202)
    played = await play(script, timeout=60.0)
    assert (played.result.terminal, played.result.text, played.result.turns) == ("end_turn", "hi", 1)
    assert played.script.posts == [GO]


class _KeyKeeper:
    """Serves a script, and keeps the credentials each request came with, which the wire log does not."""

    def __init__(self, script: Any) -> None:
        self.script = script
        self.seen: set[tuple[str | None, str | None]] = set()

    async def __call__(self, request: Request, respond: Responder) -> None:
        self.seen.add((request.headers.get("x-api-key"), request.headers.get("host")))
        await self.script(request, respond)


async def test_hap_02_defaults_and_client_choice(w: Any, caplog: pytest.LogCaptureFixture) -> None:
    key = "sk-test-a-key-of-the-options"
    caplog.set_level(logging.DEBUG)
    keeper = _KeyKeeper(w.Script().stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "hi"), w.idle("end")))
    async with open_wire_server(keeper, transport="loopback") as server:
        result = await maa.run_session(
            claude_managed_agents,
            handler=w.Recorder(),
            agent="a",
            environment="e",
            model_config={"api_key": key, "base_url": server.base_url, "metadata": {"who": "me"}},
        )
    assert (result.terminal, result.text) == ("end_turn", "hi")
    assert keeper.script.posts == [{"type": "user.message", "content": [{"type": "text", "text": "Begin."}]}]
    assert keeper.seen == {(key, server.base_url.removeprefix("http://"))}
    assert all(r.path.startswith("/v1/sessions") for r in server.requests)
    options = claude_managed_agents.parse_options({"agent": "a", "environment": "e", "model_config": {"api_key": key}})
    for shown in (repr(result), caplog.text, repr(options), str(options)):
        assert key not in shown


async def test_hap_02_the_key_is_in_no_error(w: Any, caplog: pytest.LogCaptureFixture) -> None:
    key = "sk-test-a-key-that-is-echoed"
    caplog.set_level(logging.DEBUG)

    async def echo(request: Request, respond: Responder) -> None:
        message = f"invalid x-api-key: {request.headers['x-api-key']}"
        await respond.json(401, {"type": "error", "error": {"type": "authentication_error", "message": message}})

    async with open_wire_server(echo, transport="loopback") as server:
        with pytest.raises(maa.AuthenticationError) as caught:
            await maa.run_session(
                claude_managed_agents,
                handler=w.Recorder(),
                agent="a",
                environment="e",
                model_config={"api_key": key, "base_url": server.base_url},
            )
    error = caught.value
    for shown in (str(error), repr(error), repr(error.body), error.message, caplog.text):
        assert key not in shown
    assert error.status == 401


async def test_hap_03_unknown_and_informational_events(w: Any, play: Any, autojump_clock: MockClock) -> None:
    thread = {"session_thread_id": "sthr_2", "agent_name": "scout"}
    events = [
        w.run(),
        w.resched(),
        w.event("session.updated", updated={"title": "x"}),
        w.event("session.usage", usage={"input_tokens": 1000, "output_tokens": 1000}, budget=None),
        w.event("agent.thinking", content=[{"type": "thinking", "thinking": ""}]),
        w.event("span.model_request_start"),
        w.event("session.thread_created", workflow_run_id=None, **thread),
        w.event("session.thread_status_running", **thread),
        w.event("session.thread_status_idle", stop_reason={"type": "end_turn"}, **thread),
        w.event("session.thread_status_idle", stop_reason={"type": "requires_action", "event_ids": ["z"]}, **thread),
        w.event("session.thread_status_terminated", **thread),
        w.event("made.up.type", anything={"deep": [1, None]}),
        w.msg("m1", "hi"),
        w.use(10, 5),
        w.idle("end"),
    ]
    played = await play(w.Script().stream(w.OK, w.Posts(1), *events))
    assert (played.result.terminal, played.result.turns, played.result.text) == ("end_turn", 1, "hi")
    assert (played.result.usage.input_tokens, played.result.usage.output_tokens) == (10, 5)
    assert list(played.result.events) == played.handler.events == events
    assert played.took == 0


async def test_hap_03_every_event_arrives_when_it_is_sent(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.Pause(1.5), w.msg("m1", "hi"), w.Pause(2.25), w.idle("end"))

    class Timed(w.Recorder):  # type: ignore[misc]  # the fixture's class
        times: list[float]

        async def handle_event(self, event: Any, context: Any) -> None:
            await super().handle_event(event, context)
            if event.get("id"):
                self.times.append(trio.current_time())

    handler = Timed()
    handler.times = []
    played = await play(script, handler=handler)
    assert [round(at - played.began, 6) for at in handler.times] == [0.0, 1.5, 3.75]
    assert played.took == 3.75


async def test_hap_04_sync_and_live_parity(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    def script() -> Any:
        return w.Script().stream(
            w.OK,
            w.Posts(1),
            *first,
            w.Posts(2),
            *second,
        )

    first = [w.run(), w.msg("m0", "let me see"), w.ctu("u1"), w.use(3, 4, 5, 6), w.idle("req", "u1")]
    second = [w.res("u1"), w.run(), w.msg("m1", "done"), w.use(1, 2), w.idle("end")]
    async with serve(script()) as served:
        ran = await maa.run_session(claude_managed_agents, handler=w.Recorder(), prompt="go", **served.options)
    async with (
        serve(script()) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), prompt="go", **served.options) as session,
        session.subscribe() as terminals,
    ):
        heard = await terminals.receive()
        assert (session.status().phase, session.status().busy) == ("live", False)
    async with (
        serve(script()) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
    ):
        asked = await session.ask("go")
        assert (session.status().phase, session.status().busy) == ("live", False)
    assert ran == heard == asked
    assert list(ran.events) == first + second
    assert (ran.turns, ran.text, ran.last_text) == (2, heard.text, "done")
    assert ran.text.startswith("let me see")
    assert ran.text.endswith("done")


async def test_hap_05_budget_reached(w: Any, play: Any, autojump_clock: MockClock) -> None:
    events = [w.run(), w.msg("m1", "partial"), w.idle("budget_reached")]
    played = await play(w.Script().stream(w.OK, w.Posts(1), *events))
    result = played.result
    assert (result.terminal, result.stop_reason) == ("end_turn", {"type": "budget_reached"})
    assert (result.text, result.turns, result.resumable, result.error) == ("partial", 1, True, None)


async def test_hap_05_a_later_message_is_accepted(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.OK, w.Posts(1), w.run(), w.idle("budget_reached"), w.Posts(2), w.run(), w.msg("m2", "more"), w.idle("end")
    )
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
        session.subscribe() as terminals,
    ):
        assert (await session.ask("go")).stop_reason == {"type": "budget_reached"}
        assert await session.message("go on") == "delivered"
        first, second = await terminals.receive(), await terminals.receive()
    assert (first.text, second.text, second.terminal) == ("", "more", "end_turn")


async def test_hap_06_full_usage(w: Any, play: Any, autojump_clock: MockClock) -> None:
    graded = {
        "input_tokens": 100,
        "output_tokens": 200,
        "cache_read_input_tokens": 300,
        "cache_creation_input_tokens": 400,
    }
    spans = [
        w.use(10, 5, 7, 3),
        w.use(1, 2, 3, 4),
        w.event(
            "span.outcome_evaluation_end",
            outcome_evaluation_start_id="x",
            outcome_id="o",
            iteration=0,
            result="satisfied",
            explanation="good",
            usage=graded,
        ),
    ]
    usage = (await play(w.Script().stream(w.OK, w.Posts(1), w.run(), *spans, w.idle("end")))).result.usage
    assert (usage.input_tokens, usage.output_tokens) == (111, 207)
    assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (310, 407)
    assert usage.raw == (spans[0]["model_usage"], spans[1]["model_usage"], graded)


# --- the same against the full simulator ------------------------------------------------------------------------------

SCRIPT = [
    spend(input_tokens=10, output_tokens=5, cache_read_input_tokens=2, cache_creation_input_tokens=1),
    say("let me see"),
    call_tools(("t", {"q": 1}), ("t", {"q": 2})),
    say("all done"),
]


async def _simulate(w: Any, simulator: Any, mode: str) -> tuple[maa.SessionResult, Any, list[maa.SessionResult]]:
    handler = w.Recorder()
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    async with simulator.client() as client:
        options = {
            "client": client,
            "agent": simulator.agent_id,
            "environment": simulator.environment_id,
            "handler": handler,
            "notify": told,
        }
        if mode == "run":
            result = await maa.run_session(claude_managed_agents, prompt="go", **options)
        else:
            async with maa.open_session(claude_managed_agents, **options) as session:
                result = await session.ask("go")
                await trio.testing.wait_all_tasks_blocked()
    notified = []
    with pytest.raises((trio.WouldBlock, trio.EndOfChannel)):
        while True:
            notified.append(hears.receive_nowait())
    return result, handler, notified


def _check_simulated(simulator: Any, result: maa.SessionResult, handler: Any, notified: list[Any]) -> None:
    assert (result.terminal, result.stop_reason, result.turns) == ("end_turn", {"type": "end_turn"}, 2)
    assert result.last_text == "all done"
    assert result.text.startswith("let me see")
    assert sorted((name, given["q"]) for name, given, *_ in handler.calls) == [("t", 1), ("t", 2)]
    assert notified == [result]
    log = list(simulator.session(result.session_id).events)
    assert [e["id"] for e in handler.events] == [e["id"] for e in log]
    assert "".join(handler.deltas) == result.text
    spans = [e for e in log if e["type"] == "span.model_request_end"]
    assert result.usage.input_tokens == 10 * len(spans)
    assert result.usage.cache_read_input_tokens == 2 * len(spans)
    answers = [e["custom_tool_use_id"] for e in log if e["type"] == "user.custom_tool_result"]
    assert sorted(answers) == sorted(handler.call_ids)


@pytest.mark.parametrize("how", ["run", "ask"])
async def test_hap_01_to_06_with_the_simulator(w: Any, how: str, autojump_clock: MockClock) -> None:
    async with open_claude_simulator(SCRIPT, transport="memory") as simulator:
        _check_simulated(simulator, *await _simulate(w, simulator, how))


@pytest.mark.parametrize("how", ["run", "ask"])
async def test_hap_01_to_06_with_the_simulator_over_sockets(w: Any, how: str) -> None:
    async with open_claude_simulator(SCRIPT, transport="loopback") as simulator:
        with trio.fail_after(30):
            _check_simulated(simulator, *await _simulate(w, simulator, how))


@pytest.mark.parametrize("how", ["run", "ask"])
@pytest.mark.parametrize("after", [0, 1, 2, 3, 5, 8])
async def test_hap_01_to_06_with_real_resets(w: Any, how: str, after: int) -> None:
    faults = FaultPlan([Fault(on="stream", action=DropStream(after_events=after))])
    async with open_claude_simulator(SCRIPT, transport="loopback", faults=faults) as simulator:
        with trio.fail_after(30):
            _check_simulated(simulator, *await _simulate(w, simulator, how))
    assert [fired.occurrence for fired in faults.fired] == [1]


async def test_hap_04_two_requests_of_one_session_with_the_simulator(w: Any, autojump_clock: MockClock) -> None:
    script = [[say("one")], [call_tool("t"), say("two")]]
    handler = w.Recorder()
    async with (
        open_claude_simulator(script, transport="memory") as simulator,
        simulator.client() as client,
        maa.open_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=handler,
            prompt="go",
        ) as session,
        session.subscribe() as terminals,
    ):
        first = await terminals.receive()
        second = await session.ask("again")
        assert await terminals.receive() == second
        assert [e["id"] for e in (*first.events, *second.events)] == [e["id"] for e in handler.events]
    assert (first.text, first.turns, first.custom_tool_uses) == ("one", 1, ())
    assert (second.text, second.turns, len(second.custom_tool_uses)) == ("two", 2, 1)
