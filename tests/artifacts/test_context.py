"""A tool has the store of its own session, under either provider, from its context. Time is virtual."""

from __future__ import annotations

import dataclasses
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.artifacts import AgentCoreSessionStorage, ClaudeFiles
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.testing import (
    Turn,
    ask,
    call_tool,
    crash_session,
    local_shell,
    open_agentcore_simulator,
    open_claude_simulator,
    say,
    write_output,
)


async def test_a_tool_has_the_files_of_its_claude_session(autojump_clock: MockClock) -> None:
    fetched: list[bytes] = []

    async def agent(turn: Turn) -> None:
        await turn.write_output("draft.txt", b"draft")
        (answer,) = await turn.call_tools(("finish", {}))
        await turn.say((await turn.read_file(answer.text)).decode())

    async def finish(name: str, input: Any, context: maa.ToolContext) -> str:
        store = context.artifacts(mount_dir="/final", upload_expires_in=3_600)
        assert isinstance(store, ClaudeFiles)
        fetched.append(await store.fetch("draft.txt"))
        put = await store.put("final.txt", b"the end")
        assert {artifact.name for artifact in await store.list()} == {"draft.txt", "final.txt"}
        await store.delete("draft.txt")
        return str(put.raw["mount_path"])

    async with open_claude_simulator(agent, transport="memory") as simulator, simulator.client() as client:
        result = await maa.run_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=finish,
        )
        store = ClaudeFiles(client, str(result.session_id))
        assert [artifact.name for artifact in await store.list()] == ["final.txt"]
    assert (result.text, fetched) == ("the end", [b"draft"])


async def test_a_tool_has_a_directory_of_its_agentcore_session(tmp_path: Path, autojump_clock: MockClock) -> None:
    script = [[call_tool("save"), say("done")]]
    session_id = str(uuid.uuid4())

    async def save(name: str, input: Any, context: maa.ToolContext) -> str:
        store = context.artifacts(base_path=str(tmp_path / "data"), timeout=30)
        assert isinstance(store, AgentCoreSessionStorage)
        put = await store.put("report.csv", b"a,b")
        return put.ref

    async with (
        open_agentcore_simulator(script, transport="memory", commands=local_shell(tmp_path)) as simulator,
        simulator.client() as client,
    ):
        result = await maa.run_session(
            bedrock_agent_core,
            client=client,
            harness_arn=simulator.harness_arn,
            runtime_session_id=session_id,
            qualifier="DEFAULT",
            handler=save,
        )
        commands = [request for request in simulator.requests if request.path.endswith("/commands")]
    assert (tmp_path / "data" / "report.csv").read_bytes() == b"a,b"
    assert result.text == "done"
    assert {request.headers["x-amzn-bedrock-agentcore-runtime-session-id"] for request in commands} == {session_id}
    assert [(request.query["qualifier"], request.body["timeout"]) for request in commands] == [(("DEFAULT",), 30)] * 2
    assert {request.path for request in commands} == {f"/runtimes/{simulator.harness_arn}/commands"}


async def test_a_toolbox_and_a_policy_have_it_too(autojump_clock: MockClock) -> None:
    opened: list[Any] = []

    @maa.tool
    async def look(context: maa.ToolContext) -> str:
        """Look."""
        opened.append(context.artifacts())
        return "seen"

    def policy(use: maa.ToolUse, context: maa.ToolContext) -> str:
        opened.append(context.artifacts())
        return "allow"

    script = [[call_tool("look"), ask("bash"), say("done")]]
    async with open_claude_simulator(script, transport="memory") as simulator, simulator.client() as client:
        await maa.run_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=maa.with_policy(maa.Toolbox([look]), policy),
        )
    assert [type(store) for store in opened] == [ClaudeFiles] * 2


async def test_the_store_outlives_the_actor_that_the_call_was_run_for(autojump_clock: MockClock) -> None:
    stores: list[Any] = []

    async def handler(name: str, input: Any, context: maa.ToolContext) -> str:
        stores.append(context.artifacts())
        return "r"

    script = [[write_output("a", b"x"), call_tool("t"), say("1")], [call_tool("t"), say("2")]]
    async with (
        open_claude_simulator(script, transport="memory") as simulator,
        simulator.client() as client,
        maa.open_supervisor() as supervisor,
    ):
        session = await supervisor.start_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=handler,
        )
        await session.ask("go")
        crash_session(session, RuntimeError("a defect"))
        await session.ask("again")
        assert [await store.fetch("a") for store in stores] == [b"x"] * 2


async def refusal_of(provider: Any, **options: Any) -> Exception:
    """What a tool gets that asks for its session's store."""
    caught: list[Exception] = []

    async def handler(name: str, input: Any, context: maa.ToolContext) -> str:
        try:
            context.artifacts(**options)
        except (maa.ConfigurationError, TypeError) as error:
            caught.append(error)
        return "r"

    script = [[call_tool("t"), say("done")]]
    async with open_claude_simulator(script, transport="memory") as simulator, simulator.client() as client:
        result = await maa.run_session(
            provider,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=handler,
        )
        assert result.text == "done"
        assert not any(request.path.startswith("/v1/files") for request in simulator.requests)
    return caught[0]


async def test_a_provider_that_stores_nothing_says_so(autojump_clock: MockClock) -> None:
    names = {name: getattr(claude_managed_agents, name) for name in claude_managed_agents.__all__}
    del names["open_artifacts"]
    provider = SimpleNamespace(**{**names, "NAME": "forgetful"})
    refusal = await refusal_of(provider)
    assert isinstance(refusal, maa.ConfigurationError)
    assert "forgetful stores no artifacts" in str(refusal)


async def test_an_option_that_is_unknown_or_of_no_use_is_refused(autojump_clock: MockClock) -> None:
    refusal = await refusal_of(claude_managed_agents, mount_dir="..")
    assert isinstance(refusal, maa.ConfigurationError)
    refusal = await refusal_of(claude_managed_agents, upload_expires_in=60)
    assert isinstance(refusal, maa.ConfigurationError)
    refusal = await refusal_of(claude_managed_agents, base_path="/mnt/data")
    assert isinstance(refusal, TypeError)
    assert "base_path" in str(refusal)


def test_a_context_that_is_made_by_hand_has_no_store() -> None:
    context = maa.ToolContext(session_id="s", provider="p", metadata={}, tool_use_id="t")
    with pytest.raises(maa.ConfigurationError, match="not made by a session"):
        context.artifacts()


def test_a_store_does_not_change_what_a_context_is() -> None:
    def opened(**options: Any) -> Any:
        raise AssertionError

    given: dict[str, Any] = {"session_id": "s", "provider": "p", "metadata": {}, "tool_use_id": "t"}
    plain, storing = maa.ToolContext(**given), maa.ToolContext(**given, _open_artifacts=opened)
    assert (plain, repr(plain)) == (storing, repr(storing))
    with pytest.raises(AssertionError):
        dataclasses.replace(storing, attempt=2).artifacts()
