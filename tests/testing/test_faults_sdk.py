"""The official SDK meets the faults over a real socket, and sees them as it would see them from the provider."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx
import pytest

from managed_agents_actors.testing import (
    DropStream,
    EndStream,
    Fault,
    FaultPlan,
    HugeFrame,
    LoopCursors,
    LoseRequest,
    RefuseWith,
    RepeatEvents,
    RotateKey,
    ShortenListing,
    Split,
    TruncateAnswer,
    open_claude_simulator,
    say,
)

# A stream that is read to its end leaves nothing to the garbage collector.
AT_REST = Fault(on="stream", action=EndStream(after_type="session.status_idle"))
MESSAGE = {"type": "user.message", "content": [{"type": "text", "text": "Hello"}]}


async def stream_to_rest(client: Any, session_id: str) -> list[Any]:
    """Send a message; the events of a stream that ends with the session's rest."""
    async with await client.beta.sessions.events.stream(session_id) as stream:
        await client.beta.sessions.events.send(session_id, events=[MESSAGE])
        return [event async for event in stream]


async def create(client: Any, simulator: Any) -> str:
    session = await client.beta.sessions.create(agent=simulator.agent_id, environment_id=simulator.environment_id)
    return str(session.id)


@pytest.mark.parametrize("sizes", [(1,), (13,), (64, 1)])
async def test_the_sdk_reads_a_split_stream_and_a_split_listing(sdk: Any, sizes: tuple[int, ...]) -> None:
    split = Split(sizes, pause=0.0)
    plan = FaultPlan([Fault(on="stream", action=split), Fault(on="list_events", action=split), AT_REST])
    async with open_claude_simulator([say("naïve ✓")], faults=plan) as simulator, sdk(simulator) as client:
        session_id = await create(client, simulator)
        seen = await stream_to_rest(client, session_id)
        listed = [event async for event in client.beta.sessions.events.list(session_id)]
        assert [event.id for event in seen] == [event.id for event in listed]
        (said,) = [event for event in listed if event.type == "agent.message"]
        assert said.content[0].text == "naïve ✓"
        assert len(plan.fired) == 3


async def test_the_sdk_sees_events_twice_and_reads_huge_frames(sdk: Any) -> None:
    plan = FaultPlan(
        [
            Fault(on="stream", action=RepeatEvents(after_events=2, count=2)),
            Fault(on="stream", action=HugeFrame(after_type="user.message", size=3_000_000)),
            AT_REST,
        ]
    )
    async with open_claude_simulator([say("Hi.")], faults=plan) as simulator, sdk(simulator) as client:
        session_id = await create(client, simulator)
        ids = [event.id for event in await stream_to_rest(client, session_id)]
        logged = [event["id"] for event in simulator.session(session_id).events]
        assert ids == [*logged[:2], *logged]


async def test_the_sdk_is_refused_until_it_has_the_new_key(sdk: Any) -> None:
    plan = FaultPlan([Fault(on="retrieve_session", nth=2, action=RotateKey("new-key"))])
    async with open_claude_simulator(faults=plan) as simulator, sdk(simulator) as client:
        session_id = await create(client, simulator)
        await client.beta.sessions.retrieve(session_id)
        for _ in range(2):
            with pytest.raises(anthropic.AuthenticationError):
                await client.beta.sessions.retrieve(session_id)
        client.api_key = simulator.api_key
        assert (await client.beta.sessions.retrieve(session_id)).id == session_id


async def test_the_sdk_takes_a_truncated_or_lost_answer_for_a_lost_connection(sdk: Any) -> None:
    plan = FaultPlan(
        [
            Fault(on="list_events", action=TruncateAnswer()),
            Fault(on="list_events", nth=2, action=LoseRequest()),
        ]
    )
    async with open_claude_simulator(faults=plan) as simulator, sdk(simulator) as client:
        session_id = await create(client, simulator)
        for _ in range(2):
            with pytest.raises((anthropic.APIConnectionError, httpx.RemoteProtocolError)):
                await client.beta.sessions.events.list(session_id)
        assert (await client.beta.sessions.events.list(session_id)).data == []


async def test_the_sdks_own_retries_outlast_a_storm(sdk: Any) -> None:
    plan = FaultPlan([Fault(on="retrieve_session", times=2, action=RefuseWith(529, retry_after=0.01))])
    async with open_claude_simulator(faults=plan) as simulator, sdk(simulator) as client:
        session_id = await create(client, simulator)
        patient = client.with_options(max_retries=2)
        assert (await patient.beta.sessions.retrieve(session_id)).id == session_id
        statuses = [request.status for request in simulator.requests if request.path.endswith(session_id)]
        assert statuses == [529, 529, 200]


async def test_the_sdk_reads_a_shortened_listing_and_follows_cursors_in_a_circle(sdk: Any) -> None:
    plan = FaultPlan(
        [
            Fault(on="list_events", action=ShortenListing(2)),
            Fault(on="list_events", nth=2, times=100, action=LoopCursors(2)),
            AT_REST,
        ]
    )
    async with open_claude_simulator([say("Hi.")], faults=plan) as simulator, sdk(simulator) as client:
        session_id = await create(client, simulator)
        await stream_to_rest(client, session_id)
        short = [event.type async for event in client.beta.sessions.events.list(session_id)]
        assert short == ["session.status_running", "session.thread_status_running"]
        cursors = []
        page = await client.beta.sessions.events.list(session_id)
        while len(cursors) < 6:
            cursors.append(page.next_page)
            page = await page.get_next_page()
        assert cursors == cursors[:2] * 3
        assert cursors[0] != cursors[1]


async def test_raw_bytes_of_a_stream_end_where_they_are_cut() -> None:
    plan = FaultPlan([Fault(on="stream", action=DropStream(after_bytes=100))])
    async with open_claude_simulator([say("Hi.")], faults=plan) as simulator:
        headers = {
            "x-api-key": simulator.api_key,
            "anthropic-version": "2023-06-01",
            "anthropic-beta": "managed-agents-2026-04-01",
        }
        async with httpx.AsyncClient(base_url=simulator.base_url, headers=headers) as client:
            body = {"agent": simulator.agent_id, "environment_id": simulator.environment_id}
            session_id = (await client.post("/v1/sessions", json=body)).json()["id"]
            got = b""
            with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
                async with client.stream("GET", f"/v1/sessions/{session_id}/events/stream") as stream:
                    await client.post(f"/v1/sessions/{session_id}/events", json={"events": [MESSAGE]})
                    async for piece in stream.aiter_raw():
                        got += piece
            assert len(got) == 100
            assert got.startswith(b"event: session.status_running\ndata: {")
