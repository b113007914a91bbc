"""What the simulated API refuses, and the order of what it sends, over in-memory streams in virtual time."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from managed_agents_actors import _errors as errors
from managed_agents_actors.testing import (
    Call,
    ClaudeSimulator,
    Turn,
    ask,
    builtin,
    call_tools,
    emit,
    end,
    fail,
    grade,
    open_claude_simulator,
    say,
    spend,
    subagent_call,
    think,
    wait,
)


@pytest.fixture
def clock(autojump_clock: MockClock) -> MockClock:
    return autojump_clock


def types_of(simulator: ClaudeSimulator, session_id: str) -> list[str]:
    return [event["type"] for event in simulator.session(session_id).events]


def result_for(call_id: str, text: str = "ok") -> dict[str, Any]:
    content = [{"type": "text", "text": text}]
    return {"type": "user.custom_tool_result", "custom_tool_use_id": call_id, "content": content}


def confirm(call_id: str, verdict: str = "allow", **fields: Any) -> dict[str, Any]:
    return {"type": "user.tool_confirmation", "tool_use_id": call_id, "result": verdict, **fields}


async def idle(simulator: ClaudeSimulator, session_id: str) -> str:
    """Wait for the session's next rest; its stop reason's type."""
    session = await simulator.wait_idle(session_id)
    return str(next(e["stop_reason"]["type"] for e in reversed(session.events) if e["type"] == "session.status_idle"))


async def test_requests_are_refused_in_the_documented_order(connect: Any, clock: MockClock) -> None:
    absent = "<absent>"
    cases = [
        ("/v1/nothing", {"x-api-key": "bad", "anthropic-beta": absent}, 404, "not_found_error"),
        ("/v1/sessions", {"x-api-key": "bad", "anthropic-beta": absent}, 401, "authentication_error"),
        ("/v1/sessions", {"anthropic-beta": absent, "anthropic-version": absent}, 404, "not_found_error"),
        ("/v1/sessions", {"anthropic-version": absent}, 400, "invalid_request_error"),
        ("/v1/sessions", {"anthropic-beta": "managed-agents-2026-04-01,x-1"}, 400, "invalid_request_error"),
        ("/v1/sessions", {"x-api-key": absent, "authorization": "Bearer test-key"}, 200, None),
        ("/v1/files", {"anthropic-beta": absent}, 200, None),
    ]
    async with open_claude_simulator(transport="memory") as simulator, connect(simulator) as client:
        for path, headers, status, kind in cases:
            answered, body = await client.request("GET", path, headers=headers)
            assert answered == status, (path, headers, body)
            if kind is not None:
                assert body["type"] == "error"
                assert body["error"]["type"] == kind
                assert body["request_id"].startswith("req_")
        assert [request.status for request in simulator.requests] == [case[2] for case in cases]
        assert simulator.requests[0].headers["x-api-key"] == "<removed>"


async def test_bad_bodies_are_refused(connect: Any, clock: MockClock) -> None:
    tool = {"type": "custom", "name": "t", "description": "d", "input_schema": {"type": "object"}}
    toolset = {"type": "mcp_toolset", "mcp_server_name": "github"}
    agent = {"name": "a", "model": "m"}
    bad_agents: list[Any] = [
        {},
        {"name": "a"},
        {**agent, "name": "x" * 257},
        {**agent, "system": "x" * 100_001},
        {**agent, "metadata": {str(n): "v" for n in range(17)}},
        {**agent, "metadata": {"k": 1}},
        {**agent, "tools": [tool, tool]},
        {**agent, "tools": [{**tool, "name": "bash"}]},
        {**agent, "tools": [{**tool, "name": "mcp__x"}]},
        {**agent, "tools": [{**tool, "name": "a b"}]},
        {**agent, "tools": [{**tool, "input_schema": {"type": "string"}}]},
        {**agent, "tools": [{**tool, "input_schema": {"type": "object", "oneOf": []}}]},
        {**agent, "tools": [{"type": "other"}]},
        {**agent, "tools": [toolset]},
        {**agent, "mcp_servers": [{"type": "url", "name": "github", "url": "https://x"}]},
        {**agent, "tools": [{"type": "agent_toolset_20260401", "configs": [{"name": "fly"}]}]},
        [],
        b"{",
    ]
    async with open_claude_simulator(transport="memory") as simulator, connect(simulator) as client:
        for body in bad_agents:
            status, answer = await client.request("POST", "/v1/agents", body)
            assert (status, answer["error"]["type"]) == (400, "invalid_request_error"), body
        place = {"agent": simulator.agent_id, "environment_id": simulator.environment_id}
        bad_sessions = [
            ({"environment_id": simulator.environment_id}, 400),
            ({**place, "agent": "agent_none"}, 404),
            ({**place, "agent": {"type": "agent", "id": simulator.agent_id, "version": 9}}, 404),
            ({**place, "environment_id": "env_none"}, 404),
            ({**place, "initial_events": [{"type": "user.interrupt"}]}, 400),
            ({**place, "initial_events": [{"type": "user.message", "content": []}]}, 400),
            ({**place, "resources": [{"type": "file", "file_id": "file_none"}]}, 404),
            ({**place, "resources": [{"type": "floppy"}]}, 400),
            ({**place, "budget": {"type": "limit", "max_list_cost": {"amount": "0", "currency": "USD"}}}, 400),
        ]
        for body, status in bad_sessions:
            assert (await client.request("POST", "/v1/sessions", body))[0] == status, body
        listed = await client.request("GET", "/v1/sessions")
        assert listed[1]["data"] == []


async def test_bad_events_are_refused_whole(connect: Any, start: Any, message: Any, clock: MockClock) -> None:
    outcome = {"type": "user.define_outcome", "description": "d", "rubric": {"type": "text", "content": "r"}}
    refused: list[Any] = [
        None,
        [],
        ["text"],
        [{"type": "agent.message"}],
        [{"type": "user.message", "content": "text"}],
        [{"type": "user.message", "content": [{"type": "redacted"}]}],
        [{"type": "user.message", "content": [{"type": "text"}]}],
        [message("good"), {"type": "nonsense"}],
        [{"type": "system.message", "content": [{"type": "text", "text": "s"}]}, message("after")],
        [result_for("sevt_none")],
        [{"type": "user.custom_tool_result"}],
        [confirm("sevt_none")],
        [{"type": "user.interrupt", "session_thread_id": "sthr_none"}],
        [{**outcome, "description": ""}],
        [{**outcome, "rubric": "text"}],
        [{**outcome, "rubric": {"type": "text", "content": "x" * 262_145}}],
        [{**outcome, "max_iterations": 21}],
        [outcome, outcome],
    ]
    async with open_claude_simulator(transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator)
        for events in refused:
            status, answer = await client.request("POST", f"/v1/sessions/{session_id}/events", {"events": events})
            assert (status, answer["error"]["type"]) == (400, "invalid_request_error"), events
        assert types_of(simulator, session_id) == []
        assert (await client.request("POST", "/v1/sessions/sesn_none/events", {"events": [message("x")]}))[0] == 404


async def test_answers_are_taken_once_and_by_kind(connect: Any, start: Any, message: Any, clock: MockClock) -> None:
    script = [call_tools(("a", {}), ("b", {}), Call(name="bash", kind="builtin", permission="ask")), say("done")]
    async with open_claude_simulator(script, transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator, initial_events=[message("go")])
        path = f"/v1/sessions/{session_id}/events"

        async def send(*events: dict[str, Any]) -> int:
            return int((await client.request("POST", path, {"events": list(events)}))[0])

        assert await idle(simulator, session_id) == "requires_action"
        first, second, gated = simulator.session(session_id).pending
        assert await send(message("too early")) == 400
        assert await send(result_for(gated)) == 400
        assert await send({"type": "user.tool_result", "tool_use_id": gated}) == 400
        assert await send(confirm(first)) == 400
        assert await send(confirm(gated, "perhaps")) == 400
        assert await send(confirm(gated, "allow", deny_message="no")) == 400
        assert await send({**result_for(first), "session_thread_id": "sthr_00000001"}) == 400
        assert await send(result_for(first), result_for(first)) == 400
        assert await send(result_for(first), result_for("sevt_none")) == 400
        assert simulator.session(session_id).pending == (first, second, gated)

        assert await send(result_for(first, "one")) == 200
        assert await send(result_for(first)) == 400
        last = simulator.session(session_id).events[-1]
        assert last["stop_reason"] == {"type": "requires_action", "event_ids": [second, gated]}
        assert await send(confirm(gated), result_for(second, "two")) == 200
        assert await idle(simulator, session_id) == "end_turn"
        assert await send(confirm(gated)) == 400
        assert types_of(simulator, session_id).count("agent.tool_result") == 1
        usages = [n for n, kind in enumerate(types_of(simulator, session_id)) if kind == "session.usage"]
        idles = [n for n, kind in enumerate(types_of(simulator, session_id)) if kind == "session.status_idle"]
        assert idles == [n + 1 for n in usages]
        assert len(idles) == 4


async def test_a_message_during_a_turn_is_queued(connect: Any, start: Any, message: Any, clock: MockClock) -> None:
    async with (
        open_claude_simulator([wait(10), say("first")], transport="memory") as simulator,
        connect(simulator) as client,
        connect(simulator) as listener,
    ):
        session_id = await start(client, simulator, initial_events=[message("one")])
        await listener.start("GET", f"/v1/sessions/{session_id}/events/stream")
        path = f"/v1/sessions/{session_id}/events"
        _, answer = await client.request("POST", path, {"events": [message("two")]})
        queued_id = answer["data"][0]["id"]
        _, page = await client.request("GET", path)
        assert page["data"][-1] == {**message("two"), "id": queued_id, "processed_at": None}
        with trio.fail_after(60):
            seen = await listener.events_until("session.status_idle")
            seen += await listener.events_until("session.status_idle")
        twice = [event for event in seen if event.get("id") == queued_id]
        assert [event["processed_at"] is None for event in twice] == [True, False]
        said = [event["content"][0]["text"] for event in seen if event["type"] == "agent.message"]
        assert said == ["first", "two"]
        assert [event["id"] for event in simulator.session(session_id).events].count(queued_id) == 1


async def test_an_interrupt_closes_what_waits_and_jumps_the_queue(
    connect: Any, start: Any, message: Any, clock: MockClock
) -> None:
    script = [[call_tools(("a", {}), Call(name="bash", kind="builtin", permission="ask"))], [say("redirected")]]
    async with open_claude_simulator(script, transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator, initial_events=[message("go")])
        path = f"/v1/sessions/{session_id}/events"
        assert await idle(simulator, session_id) == "requires_action"
        custom, gated = simulator.session(session_id).pending
        before = len(simulator.session(session_id).events)
        status, answer = await client.request(
            "POST", path, {"events": [{"type": "user.interrupt"}, message("do that instead")]}
        )
        assert status == 200
        assert answer["data"][0]["processed_at"] is None
        assert await idle(simulator, session_id) == "end_turn"
        events = simulator.session(session_id).events[before:]
        assert [event["type"] for event in events[:6]] == [
            "user.interrupt",
            "user.custom_tool_result",
            "agent.tool_result",
            "session.thread_status_idle",
            "session.usage",
            "session.status_idle",
        ]
        assert [event["is_error"] for event in events[1:3]] == [True, True]
        assert (events[1]["custom_tool_use_id"], events[2]["tool_use_id"]) == (custom, gated)
        assert events[5]["stop_reason"] == {"type": "end_turn"}
        assert [e["content"][0]["text"] for e in events if e["type"] == "agent.message"] == ["redirected"]
        late = await client.request("POST", path, {"events": [result_for(custom)]})
        assert late[0] == 400
        assert "not awaiting" in late[1]["error"]["message"]


async def test_an_interrupt_stops_a_running_turn_and_is_nothing_when_idle(
    connect: Any, start: Any, message: Any, clock: MockClock
) -> None:
    script = [[think(), wait(3600), say("never")]]
    async with open_claude_simulator(script, transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator, initial_events=[message("go")])
        path = f"/v1/sessions/{session_id}/events"
        await trio.sleep(1)
        assert (await client.request("DELETE", f"/v1/sessions/{session_id}"))[0] == 400
        assert (await client.request("POST", f"/v1/sessions/{session_id}/archive"))[0] == 400
        for _ in range(2):
            assert (await client.request("POST", path, {"events": [{"type": "user.interrupt"}]}))[0] == 200
        types = types_of(simulator, session_id)
        assert types[-6:] == [
            "span.model_request_end",
            "user.interrupt",
            "session.thread_status_idle",
            "session.usage",
            "session.status_idle",
            "user.interrupt",
        ]
        assert simulator.session(session_id).status == "idle"
        assert "agent.message" not in types


async def test_deleting_ends_open_streams(connect: Any, start: Any, clock: MockClock) -> None:
    async with (
        open_claude_simulator(transport="memory") as simulator,
        connect(simulator) as client,
        connect(simulator) as listener,
    ):
        session_id = await start(client, simulator)
        await listener.start("GET", f"/v1/sessions/{session_id}/events/stream")
        status, answer = await client.request("DELETE", f"/v1/sessions/{session_id}")
        assert (status, answer) == (200, {"id": session_id, "type": "session_deleted"})
        assert await listener.names() == ["session.deleted"]
        assert (await client.request("GET", f"/v1/sessions/{session_id}"))[0] == 404
        assert (await client.request("GET", f"/v1/sessions/{session_id}/events/stream"))[0] == 404


async def test_streams_do_not_replay_and_a_closed_one_is_forgotten(
    connect: Any, start: Any, message: Any, clock: MockClock
) -> None:
    async with open_claude_simulator(transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator, initial_events=[message("one")])
        await idle(simulator, session_id)
        seen_before = {event["id"] for event in simulator.session(session_id).events}
        async with connect(simulator) as listener:
            await listener.start("GET", f"/v1/sessions/{session_id}/events/stream")
            await client.request("POST", f"/v1/sessions/{session_id}/events", {"events": [message("two")]})
            seen = await listener.events_until("session.status_idle")
            assert seen_before.isdisjoint(event["id"] for event in seen)
            assert simulator.session(session_id).open_streams == 1
        await trio.testing.wait_all_tasks_blocked()
        assert simulator.session(session_id).open_streams == 0


async def test_three_virtual_hours_take_no_time(connect: Any, start: Any, message: Any, clock: MockClock) -> None:
    async with (
        open_claude_simulator([wait(3 * 3600), say("at last")], transport="memory") as simulator,
        connect(simulator) as client,
    ):
        session_id = await start(client, simulator, initial_events=[message("go")])
        began = trio.current_time()
        await client.start("GET", f"/v1/sessions/{session_id}/events/stream")
        names = []
        while "session.status_idle" not in names:
            name, data = await client.next_frame()
            names.append(name)
        assert json.loads(data)["processed_at"].startswith("2026-01-01T03:00:00")
        assert trio.current_time() - began == pytest.approx(3 * 3600)
        assert 3 * 3600 / 15 - 1 <= names.count("ping") <= 3 * 3600 / 15


async def test_lists_are_paged_filtered_and_their_cursors_checked(
    connect: Any, start: Any, message: Any, clock: MockClock
) -> None:
    async with open_claude_simulator(transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator, initial_events=[message("one")])
        await idle(simulator, session_id)
        path = f"/v1/sessions/{session_id}/events"
        log = [event["id"] for event in simulator.session(session_id).events]
        _, page = await client.request("GET", f"{path}?limit=4&order=desc")
        assert [event["id"] for event in page["data"]] == log[:-5:-1]
        cursor = page["next_page"]
        _, page = await client.request("GET", f"{path}?limit=100&order=desc&page={cursor}&types%5B%5D=user.message")
        assert [event["type"] for event in page["data"]] == ["user.message"]
        assert page["next_page"] is None
        middle = simulator.session(session_id).events[4]["processed_at"]
        for suffix, expected in [("gte", log[4:]), ("gt", log[5:]), ("lte", log[:5]), ("lt", log[:4])]:
            _, page = await client.request("GET", f"{path}?created_at[{suffix}]={middle}")
            assert [event["id"] for event in page["data"]] == expected
        for query in [
            f"order=asc&page={cursor}",
            "page=rubbish",
            "limit=0",
            "limit=1001",
            "limit=x",
            "order=up",
            "created_at[gt]=yesterday",
            "types[]=session.deleted",
            f"order=desc&page={cursor}&created_at[gt]=2027-01-01T00:00:00Z",
        ]:
            assert (await client.request("GET", f"{path}?{query}"))[0] == 400, query
        assert (await client.request("GET", f"{path}/stream?event_deltas[]=user.message"))[0] == 400


async def test_an_outcome_is_evaluated_until_it_is_satisfied(connect: Any, start: Any, clock: MockClock) -> None:
    outcome = {"type": "user.define_outcome", "description": "a report", "rubric": {"type": "text", "content": "r"}}
    script = [say("draft"), grade("needs_revision", "too short"), say("final"), grade("satisfied", "good")]
    async with open_claude_simulator(script, transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator, initial_events=[outcome])
        assert await idle(simulator, session_id) == "end_turn"
        ends = [e for e in simulator.session(session_id).events if e["type"] == "span.outcome_evaluation_end"]
        assert [(end["iteration"], end["result"]) for end in ends] == [(0, "needs_revision"), (1, "satisfied")]
        _, session = await client.request("GET", f"/v1/sessions/{session_id}")
        assert [(o["result"], o["explanation"]) for o in session["outcome_evaluations"]] == [("satisfied", "good")]
        path = f"/v1/sessions/{session_id}/events"
        assert (await client.request("POST", path, {"events": [outcome]}))[0] == 200


async def test_an_interrupt_ends_an_outcome(connect: Any, start: Any, clock: MockClock) -> None:
    outcome = {"type": "user.define_outcome", "description": "a report", "rubric": {"type": "text", "content": "r"}}
    async with open_claude_simulator([wait(60)], transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator, initial_events=[outcome])
        path = f"/v1/sessions/{session_id}/events"
        assert (await client.request("POST", path, {"events": [outcome]}))[0] == 400
        assert (await client.request("POST", path, {"events": [{"type": "user.interrupt"}]}))[0] == 200
        end = next(e for e in simulator.session(session_id).events if e["type"] == "span.outcome_evaluation_end")
        assert (end["result"], end["outcome_evaluation_start_id"]) == ("interrupted", "")


async def test_errors_end_a_turn_as_their_retry_status_says(
    connect: Any, start: Any, message: Any, clock: MockClock
) -> None:
    script = [
        [fail("model_overloaded_error", "retrying"), say("recovered")],
        [wait(1), fail("model_overloaded_error", "exhausted"), say("never")],
        [fail("unknown_error", "terminal")],
    ]
    async with open_claude_simulator(script, transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator, initial_events=[message("1")])
        path = f"/v1/sessions/{session_id}/events"
        assert await idle(simulator, session_id) == "end_turn"
        await client.request("POST", path, {"events": [message("2")]})
        await client.request("POST", path, {"events": [message("flushed")]})
        assert await idle(simulator, session_id) == "retries_exhausted"
        await client.request("POST", path, {"events": [message("3")]})
        await trio.testing.wait_all_tasks_blocked()
        session = simulator.session(session_id)
        assert session.status == "terminated"
        assert [e["content"][0]["text"] for e in session.events if e["type"] == "user.message"] == ["1", "2", "3"]
        assert [e["content"][0]["text"] for e in session.events if e["type"] == "agent.message"] == ["recovered"]


async def test_stop_reasons_budgets_and_usage_are_scripted(
    connect: Any, start: Any, message: Any, clock: MockClock
) -> None:
    budget = {"type": "limit", "max_list_cost": {"amount": "100", "currency": "USD"}}
    script = [[spend(input_tokens=7), say("a"), end("refusal")], [end("budget_reached"), say("never")]]
    async with open_claude_simulator(script, transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator, initial_events=[message("1")], budget=budget)
        path = f"/v1/sessions/{session_id}/events"
        assert await idle(simulator, session_id) == "refusal"
        last = simulator.session(session_id).events[-1]
        assert last["stop_details"] == {"type": "refusal", "category": None, "explanation": None}
        assert (await client.request("GET", f"/v1/sessions/{session_id}"))[1]["usage"]["input_tokens"] == 7
        await client.request("POST", path, {"events": [message("2")]})
        assert await idle(simulator, session_id) == "budget_reached"
        assert (await client.request("POST", path, {"events": [message("3")]}))[0] == 400
        count = len(simulator.session(session_id).events)
        assert (await client.request("POST", path, {"events": [{"type": "user.interrupt"}]}))[0] == 200
        assert len(simulator.session(session_id).events) == count
        assert (await client.request("POST", f"/v1/sessions/{session_id}", {"budget": None}))[0] == 200
        assert (await client.request("POST", path, {"events": [message("3")]}))[0] == 200
        assert await idle(simulator, session_id) == "end_turn"


async def test_a_sub_agents_call_is_cross_posted(connect: Any, start: Any, message: Any, clock: MockClock) -> None:
    script = [subagent_call("researcher", "lookup", {"q": 1}), say("done")]
    async with open_claude_simulator(script, transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator, initial_events=[message("go")])
        path = f"/v1/sessions/{session_id}"
        assert await idle(simulator, session_id) == "requires_action"
        _, threads = await client.request("GET", f"{path}/threads")
        primary, child = threads["data"]
        assert (primary["parent_thread_id"], child["parent_thread_id"]) == (None, primary["id"])
        (call_id,) = simulator.session(session_id).pending
        call = next(event for event in simulator.session(session_id).events if event["id"] == call_id)
        assert call["session_thread_id"] == child["id"]
        status, answer = await client.request("POST", f"{path}/events", {"events": [result_for(call_id)]})
        assert status == 200
        assert answer["data"][0]["session_thread_id"] == child["id"]
        assert await idle(simulator, session_id) == "end_turn"
        _, own = await client.request("GET", f"{path}/threads/{child['id']}/events")
        assert {event["session_thread_id"] for event in own["data"]} == {child["id"]}
        assert (await client.request("POST", f"{path}/threads/{child['id']}/archive"))[1]["status"] == "terminated"
        assert (await client.request("POST", f"{path}/threads/{primary['id']}/archive"))[0] == 400


async def test_interrupting_one_thread_leaves_the_turn(
    connect: Any, start: Any, message: Any, clock: MockClock
) -> None:
    script = [subagent_call("researcher", "lookup"), say("went on")]
    async with open_claude_simulator(script, transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator, initial_events=[message("go")])
        await idle(simulator, session_id)
        _, threads = await client.request("GET", f"/v1/sessions/{session_id}/threads")
        interrupt = {"type": "user.interrupt", "session_thread_id": threads["data"][1]["id"]}
        await client.request("POST", f"/v1/sessions/{session_id}/events", {"events": [interrupt]})
        assert await idle(simulator, session_id) == "end_turn"
        said = [e for e in simulator.session(session_id).events if e["type"] == "agent.message"]
        assert [event["content"][0]["text"] for event in said] == ["went on"]


async def test_a_self_hosted_worker_answers_built_in_calls(
    connect: Any, start: Any, message: Any, clock: MockClock
) -> None:
    script = [builtin("bash", {"command": "ls"}), ask("edit"), builtin("web_search", result="hits"), say("done")]
    async with open_claude_simulator(script, transport="memory") as simulator, connect(simulator) as client:
        environment = {"name": "own", "config": {"type": "self_hosted"}}
        _, made = await client.request("POST", "/v1/environments", environment)
        session_id = await start(client, simulator, environment_id=made["id"], initial_events=[message("go")])
        path = f"/v1/sessions/{session_id}/events"

        async def send(event: dict[str, Any]) -> int:
            status, _ = await client.request("POST", path, {"events": [event]})
            await idle(simulator, session_id)
            return int(status)

        await idle(simulator, session_id)
        (bash,) = simulator.session(session_id).pending
        assert await send({"type": "user.tool_result", "tool_use_id": bash}) == 200
        (edit,) = simulator.session(session_id).pending
        assert await send({"type": "user.tool_result", "tool_use_id": edit}) == 400
        assert await send(confirm(edit)) == 200
        assert simulator.session(session_id).pending == (edit,)
        assert await send({"type": "user.tool_result", "tool_use_id": edit}) == 200
        assert simulator.session(session_id).pending == ()
        results = [e for e in simulator.session(session_id).events if e["type"] == "agent.tool_result"]
        assert [event["content"][0]["text"] for event in results] == ["hits"]


async def test_an_agent_may_be_a_function(connect: Any, start: Any, message: Any, clock: MockClock) -> None:
    async def agent(turn: Turn) -> None:
        (answer,) = await turn.call_tools(("double", {"n": turn.number}))
        await turn.emit({"type": "agent.thread_context_compacted"})
        await turn.say(f"{turn.text}: {answer.text}")

    async with open_claude_simulator(agent, transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator, initial_events=[message("doubled")])
        await idle(simulator, session_id)
        (call_id,) = simulator.session(session_id).pending
        path = f"/v1/sessions/{session_id}/events"
        await client.request("POST", path, {"events": [result_for(call_id, "2")]})
        await idle(simulator, session_id)
        said = next(e for e in simulator.session(session_id).events if e["type"] == "agent.message")
        assert said["content"] == [{"type": "text", "text": "doubled: 2"}]
        assert "agent.thread_context_compacted" in types_of(simulator, session_id)


async def test_a_failing_agent_ends_its_session_and_is_raised_at_the_end(
    connect: Any, start: Any, message: Any, clock: MockClock
) -> None:
    async def agent(turn: Turn) -> None:
        await turn.think()
        raise ZeroDivisionError("a mistake in the test's agent")

    with pytest.raises(ExceptionGroup, match="server under test") as caught:
        async with open_claude_simulator(agent, transport="memory") as simulator, connect(simulator) as client:
            session_id = await start(client, simulator, initial_events=[message("go")])
            await trio.testing.wait_all_tasks_blocked()
            assert simulator.session(session_id).status == "terminated"
            assert "session.error" in types_of(simulator, session_id)
    assert [type(failure) for failure in caught.value.exceptions] == [ZeroDivisionError]


async def test_the_server_emits_on_its_own(connect: Any, start: Any, clock: MockClock) -> None:
    async with (
        open_claude_simulator([emit({"type": "x.unknown"})], transport="memory") as simulator,
        connect(simulator) as client,
        connect(simulator) as listener,
    ):
        session_id = await start(client, simulator)
        await listener.start("GET", f"/v1/sessions/{session_id}/events/stream")
        await simulator.emit(session_id, {"type": "session.status_rescheduled"})
        assert [event["type"] for event in await listener.events_until("session.status_rescheduled")] == [
            "session.status_rescheduled"
        ]
        assert simulator.session(session_id).status == "rescheduling"
        simulator.end_streams(session_id)
        assert await listener.names() == []


async def test_a_script_is_made_of_steps(clock: MockClock) -> None:
    with pytest.raises(errors.ConfigurationError, match="made of steps"):
        async with open_claude_simulator(["say hello"], transport="memory"):  # type: ignore[list-item]  # on purpose
            raise AssertionError("not reached")


async def test_the_bodys_own_exception_leaves_as_it_is(clock: MockClock) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with open_claude_simulator(transport="memory"):
            raise KeyError("mine")


async def test_a_childs_stream_carries_only_its_own_events(
    connect: Any, start: Any, message: Any, clock: MockClock
) -> None:
    script = [[subagent_call("researcher", "lookup")], [say("main"), subagent_call("researcher", "lookup")]]
    async with (
        open_claude_simulator(script, transport="memory") as simulator,
        connect(simulator) as client,
        connect(simulator) as listener,
    ):
        session_id = await start(client, simulator, initial_events=[message("go")])
        path = f"/v1/sessions/{session_id}"
        first = (await simulator.wait_idle(session_id)).pending[0]
        _, threads = await client.request("GET", f"{path}/threads")
        child = threads["data"][1]["id"]
        assert (await client.request("GET", f"{path}/threads/sthr_none/stream"))[0] == 404
        await listener.start("GET", f"{path}/threads/{child}/stream")
        await client.request("POST", f"{path}/events", {"events": [result_for(first), message("again")]})
        seen = await listener.events_until("agent.custom_tool_use")
        assert {event["session_thread_id"] for event in seen} == {child}
        assert seen[0]["type"] == "user.custom_tool_result"


@pytest.mark.parametrize("name", [rb'"\ud83d"', rb'"a\udcffb"', b'"\xed\xa0\x80"'])
async def test_half_a_surrogate_pair_is_refused_as_the_hosted_api_does(connect: Any, name: bytes) -> None:
    async with open_claude_simulator(transport="memory") as simulator, connect(simulator) as client:
        status, body = await client.request("POST", "/v1/agents", b'{"model":"m","name":' + name + b"}")
        assert (status, body["error"]["type"]) == (400, "invalid_request_error")
        status, body = await client.request("POST", "/v1/agents", rb'{"model":"m","name":"\ud83d\ude00"}')
        assert (status, body["name"]) == (200, "\U0001f600")
