"""What each fault does to a request, to its answer and to a listing, as a client on the wire sees it."""

from __future__ import annotations

from typing import Any, Literal

import h11
import pytest
import trio
from trio.testing import MockClock

from managed_agents_actors.testing import (
    Chance,
    DelayAnswer,
    Fault,
    LoopCursors,
    LoseRequest,
    RefuseWith,
    RotateKey,
    ShortenListing,
    Split,
    TruncateAnswer,
    say,
)

Transport = Literal["loopback", "memory"]
on_both = pytest.mark.parametrize("transport", ["loopback", "memory"])


@on_both
async def test_a_lost_request_was_not_acted_on(watch: Any, transport: Transport) -> None:
    async with watch(Fault(on="send_events", action=LoseRequest()), transport=transport) as watched:
        with pytest.raises(h11.RemoteProtocolError, match="ConnectionClosed"):
            await watched.send()
        assert watched.simulator.session(watched.session_id).events == ()
        assert watched.simulator.requests[-1].status is None


async def test_a_late_answer_comes_after_acting(watch: Any, autojump_clock: MockClock) -> None:
    async with watch(Fault(on="send_events", action=DelayAnswer(60))) as watched:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watched.send)
            await trio.sleep(1)
            kinds = [event["type"] for event in watched.simulator.session(watched.session_id).events]
            assert "user.message" in kinds
        assert trio.current_time() - began == pytest.approx(60)


@on_both
async def test_a_truncated_answer_was_acted_on(watch: Any, transport: Transport) -> None:
    async with watch(Fault(on="send_events", action=TruncateAnswer(after_bytes=9)), transport=transport) as watched:
        head = await watched.client.start("POST", watched.path, {"events": [watched.message("go")]})
        assert head.status_code == 200
        assert int(dict(head.headers)[b"content-length"]) > 9
        part = await watched.client.next_event()
        assert bytes(part.data) == b'{"data":['
        with pytest.raises(h11.RemoteProtocolError, match="without sending complete message body"):
            await watched.client.next_event()
        assert watched.simulator.session(watched.session_id).events[2]["type"] == "user.message"


@pytest.mark.parametrize(("after_bytes", "sent"), [(None, 5), (0, 0), (10, 10), (11, 10), (99, 10)])
async def test_a_truncated_answer_is_never_whole(
    watch: Any, autojump_clock: MockClock, after_bytes: int | None, sent: int
) -> None:
    fault = Fault(on="download_file", action=TruncateAnswer(after_bytes))
    async with watch(fault) as watched:
        file_id = watched.simulator.add_output_file(watched.session_id, "a.txt", b"hello world")
        head = await watched.client.start("GET", f"/v1/files/{file_id}/content")
        assert dict(head.headers)[b"content-length"] == b"11"
        got = 0
        with pytest.raises(h11.RemoteProtocolError):
            while True:
                got += len((await watched.client.next_event()).data)
        assert got == sent


@on_both
async def test_a_rotated_key_is_the_only_one_accepted(watch: Any, transport: Transport) -> None:
    fault = Fault(on="list_events", nth=2, action=RotateKey("second"))
    async with watch(fault, transport=transport) as watched:
        assert (await watched.list())[0] == 200
        for _ in range(2):
            status, body = await watched.list()
            assert status == 401
            assert body["error"]["type"] == "authentication_error"
        assert watched.simulator.api_key == "second"
        assert (await watched.client.request("GET", watched.path, headers={"x-api-key": "second"}))[0] == 200
        watched.simulator.rotate_key("third")
        assert (await watched.client.request("GET", watched.path, headers={"x-api-key": "second"}))[0] == 401
        assert len(watched.simulator.faults.fired) == 1


@pytest.mark.parametrize("sizes", [(1,), (7,), (1, 64, 3)])
async def test_a_split_answer_arrives_in_those_pieces(
    watch: Any, autojump_clock: MockClock, sizes: tuple[int, ...]
) -> None:
    async with watch(Fault(on="list_events", nth=2, action=Split(sizes))) as watched:
        await watched.send()
        await watched.simulator.wait_idle(watched.session_id)
        whole = await watched.list()
        pieces: list[int] = []
        received = watched.client.wire.receive_data
        watched.client.wire.receive_data = lambda data: (pieces.append(len(data)), received(data))
        assert await watched.list() == whole
        expected = [sizes[n % len(sizes)] for n in range(len(pieces))]
        assert pieces[:-1] == expected[:-1]
        assert 1 <= pieces[-1] <= expected[-1]
        # The next request of the same connection is answered in one write again.
        pieces.clear()
        assert await watched.list() == whole
        assert len(pieces) == 1


@on_both
async def test_a_split_stream_carries_the_same_events(watch: Any, transport: Transport) -> None:
    async with watch(
        Fault(on="stream", action=Split((3,), pause=0.0)), transport=transport, script=[say("häppy")]
    ) as watched:
        await watched.listen()
        await watched.send()
        heard = await watched.listener.events_until("session.status_idle")
        assert heard == [dict(event) for event in watched.simulator.session(watched.session_id).events]


@on_both
async def test_a_storm_refuses_several_requests_in_a_row(watch: Any, transport: Transport) -> None:
    storm = Fault(on="any", nth=3, times=3, action=RefuseWith(529, retry_after=2))
    async with watch(storm, transport=transport) as watched:
        statuses = [(await watched.list())[0] for _ in range(6)]
        assert statuses == [200, 529, 529, 529, 200, 200]
        assert [fired.occurrence for fired in watched.simulator.faults.fired] == [3, 4, 5]


async def test_only_requests_that_send_such_an_event_count(watch: Any, autojump_clock: MockClock) -> None:
    fault = Fault(on="send_events", sending="user.interrupt", nth=2, action=RefuseWith(500))
    async with watch(fault) as watched:
        interrupt = {"events": [{"type": "user.interrupt"}]}
        bodies = (interrupt, {"events": [watched.message("x")]}, {"events": "nonsense"}, interrupt, interrupt)
        statuses = [(await watched.client.request("POST", watched.path, body))[0] for body in bodies]
        assert statuses == [200, 200, 400, 500, 200]


async def test_chance_falls_on_the_same_requests_each_time(watch: Any, autojump_clock: MockClock) -> None:
    async def refused(seed: int) -> list[int]:
        fault = Fault(on="list_events", nth=Chance(0.5, seed=seed), action=RefuseWith(500))
        async with watch(fault) as watched:
            return [n for n in range(40) if (await watched.list())[0] == 500]

    first = await refused(1)
    assert 8 < len(first) < 32
    assert await refused(1) == first
    assert await refused(2) != first


# --- listings ---------------------------------------------------------------------------------------------------------


async def test_a_shortened_listing_shows_the_rest_next_time(watch: Any, autojump_clock: MockClock) -> None:
    async with watch(Fault(on="list_events", action=ShortenListing(2))) as watched:
        await watched.send()
        await watched.simulator.wait_idle(watched.session_id)
        _, short = await watched.list("?limit=4")
        _, page = await watched.list("?limit=4")
        assert page["next_page"] is not None
        assert short == {**page, "data": page["data"][:2], "next_page": None}
        assert len(page["data"]) == 4


@pytest.mark.parametrize("length", [1, 2])
async def test_cursors_lead_in_a_circle(watch: Any, autojump_clock: MockClock, length: int) -> None:
    async with watch(Fault(on="list_events", nth="every", action=LoopCursors(length))) as watched:
        await watched.send()
        await watched.simulator.wait_idle(watched.session_id)
        total = len(watched.simulator.session(watched.session_id).events)
        _, page = await watched.list()
        assert len(page["data"]) == total
        cursors = []
        for _ in range(6):
            cursors.append(page["next_page"])
            status, page = await watched.list(f"?page={page['next_page']}")
            assert status == 200
        assert len(set(cursors)) == length
        assert cursors == [cursors[n % length] for n in range(6)]


async def test_a_listing_without_rows_has_no_cursors_to_repeat(watch: Any, autojump_clock: MockClock) -> None:
    async with watch(Fault(on="list_events", action=LoopCursors())) as watched:
        assert (await watched.list())[1]["next_page"] is None
        assert watched.simulator.faults.fired == ()
