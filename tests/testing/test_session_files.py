"""A simulated session's files: what its agent writes for others, and what is mounted for it. Time is virtual."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

from managed_agents_actors import _errors as errors
from managed_agents_actors.testing import Turn, open_claude_simulator, write_output


async def test_a_step_writes_a_file_that_can_be_downloaded(
    connect: Any, start: Any, message: Any, autojump_clock: MockClock
) -> None:
    script = [write_output("report.csv", b"a,b", mime_type="text/csv"), write_output("raw", b"\xff")]
    async with open_claude_simulator(script, transport="memory") as simulator, connect(simulator) as client:
        session_id = await start(client, simulator)
        await client.request("POST", f"/v1/sessions/{session_id}/events", {"events": [message("go")]})
        await simulator.wait_idle(session_id)
        _, listed = await client.request("GET", f"/v1/files?scope_id={session_id}")
        shown = [(row["filename"], row["mime_type"], row["downloadable"]) for row in listed["data"]]
        assert shown == [("raw", "text/plain", True), ("report.csv", "text/csv", True)]
        assert await client.request("GET", f"/v1/files/{listed['data'][0]['id']}/content") == (200, b"\xff")


async def test_a_turn_reads_what_was_mounted_last(autojump_clock: MockClock) -> None:
    seen: list[Any] = []

    async def agent(turn: Turn) -> None:
        try:
            seen.append(await turn.read_file(turn.text))
        except FileNotFoundError as error:
            seen.append(error)

    async with open_claude_simulator(agent, transport="memory") as simulator, simulator.client() as client:
        first, second = [(await client.files.upload(content, filename="a"))["id"] for content in (b"1", b"2")]
        session = await client.sessions.create(
            agent=simulator.agent_id,
            environment_id=simulator.environment_id,
            resources=[{"type": "file", "file_id": first, "mount_path": "/in/a"}, {"type": "file", "file_id": first}],
        )

        async def ask(path: str) -> Any:
            content = [{"type": "text", "text": path}]
            await client.sessions.events.send(session["id"], [{"type": "user.message", "content": content}])
            await simulator.wait_idle(session["id"])
            return seen[-1]

        assert await ask("/in/a") == await ask(f"/mnt/session/uploads/{first}") == b"1"
        added = await client.sessions.resources.add(session["id"], type="file", file_id=second, mount_path="/in/a")
        assert await ask("/in/a") == b"2"
        await client.files.delete(added["file_id"])
        assert await ask("/in/a") == b"1"
        assert isinstance(await ask("/in/b"), FileNotFoundError)


@pytest.mark.parametrize(("name", "content"), [("", b"x"), (None, b"x"), ("a", "text"), ("a", None)])
async def test_an_output_has_a_name_and_bytes(name: Any, content: Any, autojump_clock: MockClock) -> None:
    refused: list[errors.ConfigurationError] = []

    async def agent(turn: Turn) -> None:
        try:
            await turn.write_output(name, content)
        except errors.ConfigurationError as error:
            refused.append(error)

    async with open_claude_simulator(agent, transport="memory") as simulator, simulator.client() as client:
        session = await client.sessions.create(agent=simulator.agent_id, environment_id=simulator.environment_id)
        told = {"type": "user.message", "content": [{"type": "text", "text": "go"}]}
        await client.sessions.events.send(session["id"], [told])
        await simulator.wait_idle(session["id"])
        assert await client.files.list_all() == []
    assert "write_output" in str(refused[0])


@pytest.mark.parametrize("step", ["write_output", "read_file"])
async def test_agentcore_has_no_such_files(aws: Any, step: str, autojump_clock: MockClock) -> None:
    refused: list[errors.ConfigurationError] = []

    async def agent(turn: Turn) -> None:
        try:
            await (turn.write_output("a", b"x") if step == "write_output" else turn.read_file("/a"))
        except errors.ConfigurationError as error:
            refused.append(error)

    async with aws(agent) as client:
        await client.invoke("go")
    assert step in str(refused[0])
