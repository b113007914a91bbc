"""The official SDK drives the simulator over a real socket: the simulator keeps the provider's contract, not ours."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
import trio
from anthropic import beta_async_tool

from managed_agents_actors.testing import ask, call_tool, call_tools, open_claude_simulator, say, think

# The SDK leaves an abandoned response iterator to the garbage collector when a stream is left early.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator 'anthropic._streaming:ResourceWarning")

MESSAGE = {"type": "user.message", "content": [{"type": "text", "text": "Where is order 42?"}]}


async def test_a_whole_tool_round_trip(sdk: Any) -> None:
    script = [think(), call_tool("lookup_order", {"order_id": "42"}), say("It is paid.")]
    async with open_claude_simulator(script) as simulator, sdk(simulator) as client:
        agent = await client.beta.agents.create(
            name="Order assistant",
            model="claude-opus-5-5",
            tools=[
                {
                    "type": "custom",
                    "name": "lookup_order",
                    "description": "Find an order.",
                    "input_schema": {"type": "object", "properties": {"order_id": {"type": "string"}}},
                }
            ],
        )
        environment = await client.beta.environments.create(name="prod")
        session = await client.beta.sessions.create(agent=agent.id, environment_id=environment.id)
        assert session.status == "idle"
        types = []
        async with await client.beta.sessions.events.stream(session.id) as stream:
            sent = await client.beta.sessions.events.send(session.id, events=[MESSAGE])
            assert sent.data[0].processed_at is None
            async for event in stream:
                types.append(event.type)
                if event.type == "agent.custom_tool_use":
                    call = event
                if event.type == "session.status_idle" and event.stop_reason.type == "requires_action":
                    assert event.stop_reason.event_ids == [call.id]
                    result = {"type": "user.custom_tool_result", "custom_tool_use_id": call.id}
                    content = [{"type": "text", "text": "paid"}]
                    await client.beta.sessions.events.send(session.id, events=[{**result, "content": content}])
                elif event.type == "session.status_idle":
                    break
        asked = [
            "session.status_running",
            "session.thread_status_running",
            "user.message",
            "span.model_request_start",
            "agent.thinking",
            "agent.custom_tool_use",
            "span.model_request_end",
            "session.thread_status_idle",
            "session.usage",
            "session.status_idle",
        ]
        answered = [
            "user.custom_tool_result",
            "session.status_running",
            "session.thread_status_running",
            "span.model_request_start",
            "agent.message",
            "span.model_request_end",
            "session.thread_status_idle",
            "session.usage",
            "session.status_idle",
        ]
        assert types == asked + answered
        listed = [event async for event in client.beta.sessions.events.list(session.id, limit=4)]
        assert [event.type for event in listed] == types
        assert [event.processed_at for event in listed] == sorted({event.processed_at for event in listed})
        assert (await client.beta.sessions.retrieve(session.id)).usage.input_tokens == 240


async def test_the_sdks_tool_runner_completes_a_session(sdk: Any) -> None:
    @beta_async_tool
    async def lookup_order(order_id: str) -> str:
        """Find an order.

        Args:
            order_id: Its number.
        """
        return f"{order_id} is paid"

    script = [call_tools(("lookup_order", {"order_id": "1"}), ("lookup_order", {"order_id": "2"})), say("done")]
    async with open_claude_simulator(script) as simulator, sdk(simulator) as client:
        session = await client.beta.sessions.create(
            agent=simulator.agent_id, environment_id=simulator.environment_id, initial_events=[MESSAGE]
        )
        with trio.fail_after(10):
            runner = client.beta.sessions.events.tool_runner(session.id, tools=[lookup_order], max_idle=0.05)
            calls = [call async for call in runner]
        assert [(call.name, call.posted, call.is_error) for call in calls] == [("lookup_order", True, False)] * 2
        log = simulator.session(session.id)
        results = [event["content"][0]["text"] for event in log.events if event["type"] == "user.custom_tool_result"]
        assert results == ["1 is paid", "2 is paid"]
        assert log.events[-1]["stop_reason"] == {"type": "end_turn"}
        assert log.pending == ()


async def test_confirmations_over_the_sdk(sdk: Any) -> None:
    script = [ask("bash", {"command": "ls"}, result="a.txt"), ask("delete", kind="mcp"), say("ok")]
    async with open_claude_simulator(script) as simulator, sdk(simulator) as client:
        session = await client.beta.sessions.create(agent=simulator.agent_id, environment_id=simulator.environment_id)
        events = client.beta.sessions.events
        async with await events.stream(session.id) as stream:
            await events.send(session.id, events=[MESSAGE])
            verdicts = iter([{"result": "allow"}, {"result": "deny", "deny_message": "never"}])
            async for event in stream:
                if event.type in {"agent.tool_use", "agent.mcp_tool_use"}:
                    assert event.evaluated_permission == "ask"
                if event.type == "session.status_idle":
                    if event.stop_reason.type == "end_turn":
                        break
                    answer = {"type": "user.tool_confirmation", "tool_use_id": event.stop_reason.event_ids[0]}
                    await events.send(session.id, events=[{**answer, **next(verdicts)}])
        results = [
            event async for event in events.list(session.id, types=["agent.tool_result", "agent.mcp_tool_result"])
        ]
        assert [(event.content[0].text, event.is_error) for event in results] == [("a.txt", False), ("never", True)]


async def test_previews_concatenate_to_the_message(sdk: Any) -> None:
    async with open_claude_simulator([say("Hello there, world")]) as simulator, sdk(simulator) as client:
        session = await client.beta.sessions.create(agent=simulator.agent_id, environment_id=simulator.environment_id)
        pieces = []
        async with await client.beta.sessions.events.stream(session.id, event_deltas=["agent.message"]) as stream:
            await client.beta.sessions.events.send(session.id, events=[MESSAGE])
            async for event in stream:
                if event.type == "event_start":
                    started = event.event.id
                elif event.type == "event_delta":
                    pieces.append(event.delta.content.text)
                elif event.type == "agent.message":
                    assert (event.id, event.content[0].text) == (started, "".join(pieces))
                elif event.type == "session.status_idle":
                    break
        assert len(pieces) == 3
        assert {event["type"] for event in simulator.session(session.id).events}.isdisjoint({"event_delta"})


async def test_agents_are_versioned(sdk: Any) -> None:
    async with open_claude_simulator() as simulator, sdk(simulator) as client:
        agents = client.beta.agents
        agent = await agents.create(name="A", model="claude-opus-5-5", metadata={"team": "ops"})
        same = await agents.update(agent.id, name="A")
        assert same.version == 1
        second = await agents.update(agent.id, version=1, name="B", metadata={"team": None})
        assert (second.version, second.name, second.metadata) == (2, "B", {})
        with pytest.raises(anthropic.ConflictError):
            await agents.update(agent.id, version=1, name="C")
        assert (await agents.retrieve(agent.id, version=1)).name == "A"
        assert [version.version async for version in agents.versions.list(agent.id, limit=1)] == [2, 1]
        archived = await agents.archive(agent.id)
        assert archived.archived_at is not None
        assert agent.id not in [listed.id async for listed in agents.list()]
        with pytest.raises(anthropic.BadRequestError, match="archived"):
            await client.beta.sessions.create(agent=agent.id, environment_id=simulator.environment_id)


async def test_environments_have_unique_names(sdk: Any) -> None:
    async with open_claude_simulator() as simulator, sdk(simulator) as client:
        environments = client.beta.environments
        first = await environments.create(name="prod", config={"type": "cloud", "packages": {"pip": ["pandas"]}})
        assert first.config.packages.pip == ["pandas"]
        with pytest.raises(anthropic.ConflictError):
            await environments.create(name="prod")
        with pytest.raises(anthropic.BadRequestError) as caught:
            await environments.update(first.id, config={"type": "self_hosted"})
        assert caught.value.body["error"]["details"]["error_code"] == "invalid_config_type_change"
        assert (await environments.update(first.id, description="live")).description == "live"
        await environments.archive(first.id)
        with pytest.raises(anthropic.BadRequestError, match="archived"):
            await client.beta.sessions.create(agent=simulator.agent_id, environment_id=first.id)
        assert (await environments.delete(first.id)).type == "environment_deleted"
        with pytest.raises(anthropic.NotFoundError):
            await environments.retrieve(first.id)


async def test_sessions_are_listed_both_ways_updated_and_archived(sdk: Any) -> None:
    async with open_claude_simulator() as simulator, sdk(simulator) as client:
        sessions = client.beta.sessions
        place = {"agent": simulator.agent_id, "environment_id": simulator.environment_id}
        made = [(await sessions.create(**place, title=str(n))).id for n in range(5)]
        page = await sessions.list(limit=2)
        assert [session.id for session in page.data] == made[:2:-1]
        assert page.prev_page is None
        following = await page.get_next_page()
        assert [session.id for session in following.data] == made[2:0:-1]
        back = await sessions.list(limit=2, page=following.prev_page)
        assert [session.id for session in back.data] == made[:2:-1]
        assert [session.id async for session in sessions.list(order="asc")] == made
        updated = await sessions.update(made[0], title="new", metadata={"k": "v"})
        assert (updated.title, updated.metadata) == ("new", {"k": "v"})
        assert simulator.session(made[0]).events[-1]["type"] == "session.updated"
        archived = await sessions.archive(made[0])
        assert archived.status == "terminated"
        with pytest.raises(anthropic.BadRequestError, match="terminated"):
            await sessions.events.send(made[0], events=[MESSAGE])
        assert made[0] not in [session.id async for session in sessions.list()]
        threads = [thread async for thread in sessions.threads.list(made[1])]
        assert [thread.parent_thread_id for thread in threads] == [None]
        with pytest.raises(anthropic.NotFoundError):
            await sessions.retrieve("sesn_none")


async def test_files_and_resources(sdk: Any) -> None:
    async with open_claude_simulator() as simulator, sdk(simulator) as client:
        uploaded = await client.beta.files.upload(file=("report.csv", b"a,b\r\n--1,2\r\n", "text/csv"))
        assert (uploaded.filename, uploaded.mime_type, uploaded.size_bytes) == ("report.csv", "text/csv", 12)
        with pytest.raises(anthropic.BadRequestError) as caught:
            await client.beta.files.download(uploaded.id)
        assert caught.value.body["error"]["details"]["error_code"] == "file_not_downloadable"
        session = await client.beta.sessions.create(
            agent=simulator.agent_id,
            environment_id=simulator.environment_id,
            resources=[{"type": "file", "file_id": uploaded.id}],
        )
        mounted = session.resources[0]
        assert mounted.file_id != uploaded.id
        assert mounted.mount_path == f"/mnt/session/uploads/{uploaded.id}"
        await client.beta.sessions.resources.delete(mounted.id, session_id=session.id)
        assert [item async for item in client.beta.sessions.resources.list(session.id)] == []
        output = simulator.add_output_file(session.id, "out.txt", b"done")
        with pytest.raises(anthropic.BadRequestError, match="scope_id"):
            await client.beta.files.list(scope_id=session.id)
        scoped = await client.beta.files.list(scope_id=session.id, betas=["managed-agents-2026-04-01"])
        assert output in [file.id for file in scoped.data]
        assert await (await client.beta.files.download(output)).read() == b"done"
        await client.beta.files.delete(uploaded.id)
        with pytest.raises(anthropic.NotFoundError):
            await client.beta.files.retrieve_metadata(uploaded.id)
