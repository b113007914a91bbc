"""Every listing ends, delivers each row once, and says so when a page is not a page."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors._errors import ConfigurationError, ProtocolError
from managed_agents_actors.claude import ClaudeClient, Page, Pages, Rows
from managed_agents_actors.claude._paging import MAX_BARREN_PAGES, MAX_PAGES
from managed_agents_actors.testing import open_claude_simulator, say, wait


class Server:
    """Serves pages by cursor: ``{cursor: (ids, next cursor)}``; counts its requests."""

    def __init__(self, pages: dict[str | None, tuple[list[Any], Any]]) -> None:
        self.pages = pages
        self.asked: list[str | None] = []

    async def fetch(self, cursor: str | None) -> Page:
        await trio.lowlevel.checkpoint()
        self.asked.append(cursor)
        ids, following = self.pages[cursor]
        return Page.of({"data": [{"id": id_} for id_ in ids], "next_page": following})


async def read(pages: Pages) -> list[Any]:
    rows: list[Any] = []
    while (page := await pages.next_page()) is not None:
        assert page, "a page that is handed out has rows"
        rows += [row["id"] for row in page]
    return rows


async def test_pages_are_followed_in_order_and_rows_come_once() -> None:
    server = Server({None: (["1", "2"], "A"), "A": (["2", "3"], "B"), "B": ([], "C"), "C": (["4"], None)})
    pages = Pages(server.fetch)
    assert await read(pages) == ["1", "2", "3", "4"]
    assert server.asked == [None, "A", "B", "C"]
    assert await pages.next_page() is None
    assert len(server.asked) == 4


@pytest.mark.parametrize("cursor", [None, "", 7, [], False])
async def test_what_is_not_a_cursor_ends_the_listing(cursor: Any) -> None:
    server = Server({None: (["1"], cursor)})
    assert await read(Pages(server.fetch)) == ["1"]


async def test_one_cursor_for_ever_takes_two_requests() -> None:
    server = Server({None: (["1"], "A"), "A": (["1"], "A")})
    assert await read(Pages(server.fetch)) == ["1"]
    assert len(server.asked) <= 3


async def test_a_cycle_of_cursors_ends() -> None:
    server = Server({None: (["1"], "A"), "A": (["2"], "B"), "B": (["3"], "A")})
    assert await read(Pages(server.fetch)) == ["1", "2", "3"]
    assert server.asked == [None, "A", "B", "A"]


async def test_rows_without_an_id_are_kept_once_in_a_cycle() -> None:
    server = Server({None: (["", None], "A"), "A": ([""], "A")})
    assert await read(Pages(server.fetch)) == ["", None, ""]


async def test_fresh_cursors_without_rows_end() -> None:
    class Endless(Server):
        async def fetch(self, cursor: str | None) -> Page:
            self.asked.append(cursor)
            await trio.lowlevel.checkpoint()
            return Page.of({"data": [], "next_page": str(len(self.asked))})

    server = Endless({})
    assert await read(Pages(server.fetch)) == []
    assert len(server.asked) == MAX_BARREN_PAGES


@pytest.mark.parametrize("cursors", [1, MAX_PAGES * 2])
async def test_fresh_rows_for_ever_are_bounded(cursors: int) -> None:
    class Endless(Server):
        async def fetch(self, cursor: str | None) -> Page:
            self.asked.append(cursor)
            await trio.lowlevel.checkpoint()
            count = len(self.asked)
            return Page.of({"data": [{"id": str(count)}], "next_page": str(count % cursors)})

    server = Endless({})
    with pytest.raises(ProtocolError, match=f"{MAX_PAGES} pages"):
        await read(Pages(server.fetch))
    assert len(server.asked) == MAX_PAGES


@given(
    st.dictionaries(
        st.sampled_from([None, "A", "B", "C"]),
        st.tuples(st.lists(st.sampled_from("abcdef"), max_size=4), st.sampled_from([None, "A", "B", "C"])),
    )
)
def test_any_server_is_read_to_an_end_without_duplicates(given_pages: dict[Any, Any]) -> None:
    server = Server({cursor: given_pages.get(cursor, ([], None)) for cursor in (None, "A", "B", "C")})
    rows = trio.run(read, Pages(server.fetch))
    assert len(rows) == len(set(rows))
    reached = [id_ for cursor in server.asked for id_ in server.pages[cursor][0]]
    assert rows == list(dict.fromkeys(reached))
    assert len(server.asked) <= 2 * MAX_BARREN_PAGES


@pytest.mark.parametrize("raw", [{}, {"data": None}, {"data": {}}, {"data": "x"}, {"data": [1]}, {"rows": []}])
def test_a_page_without_a_list_of_objects_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="data"):
        Page.of(raw)


def test_wrapped_rows_are_unwrapped() -> None:
    event = {"id": "1", "type": "t", "event": {"its": "own"}}
    rows = [{"event": {"id": "2", "type": "t"}, "seq": 1}, event, {"event": "text"}]
    assert Page.of({"data": rows}).data == [{"id": "2", "type": "t"}, event, {"event": "text"}]


async def test_a_failed_page_is_asked_for_again_by_the_next_call() -> None:
    server = Server({None: (["1"], "A"), "A": (["2"], None)})
    failures = [ProtocolError("once")]

    async def fetch(cursor: str | None) -> Page:
        if cursor == "A" and failures:
            raise failures.pop()
        return await server.fetch(cursor)

    pages = Pages(fetch)
    assert await pages.next_page() == [{"id": "1"}]
    with pytest.raises(ProtocolError, match="once"):
        await pages.next_page()
    assert await pages.next_page() == [{"id": "2"}]


async def test_rows_are_a_channel_that_fetches_as_it_is_read() -> None:
    server = Server({None: (["1", "2"], "A"), "A": (["3"], "B"), "B": ([], None)})
    async with Rows(Pages(server.fetch)) as rows:
        assert await rows.receive() == {"id": "1"}
        assert server.asked == [None]
        assert [row["id"] async for row in rows] == ["2", "3"]
        with pytest.raises(trio.EndOfChannel):
            await rows.receive()
    with pytest.raises(trio.ClosedResourceError):
        await rows.receive()


async def test_the_clients_lists_in_their_three_forms(client: ClaudeClient, transport: Any) -> None:
    first, second = {"data": [{"id": "1"}], "next_page": "A"}, {"data": [{"id": "2"}], "next_page": None}
    transport.replies = [first, second] * 4
    assert await client.agents.list_all(limit=1) == [{"id": "1"}, {"id": "2"}]
    assert [request.target for request in transport.requests] == ["/v1/agents?limit=1", "/v1/agents?limit=1&page=A"]
    assert await client.sessions.events.list_all("s") == [{"id": "1"}, {"id": "2"}]
    assert transport.requests[-1].target == "/v1/sessions/s/events?limit=1000&page=A"
    async with client.sessions.events.open_list("s", types=["t"]) as rows:
        assert [row["id"] async for row in rows] == ["1", "2"]
    pages = client.sessions.events.pages("s", order="asc")
    assert [await pages.next_page() for _ in range(3)] == [[{"id": "1"}], [{"id": "2"}], None]


async def test_a_listing_from_a_time_keeps_it_from_page_to_page(client: ClaudeClient, transport: Any) -> None:
    transport.replies = [{"data": [{"id": "1"}], "next_page": "A"}, {"data": [{"id": "2"}], "next_page": None}]
    pages = client.sessions.events.pages("s", created_at_gte="2026-01-31T12:00:00Z", types=["t"], order="asc", limit=1)
    assert [await pages.next_page() for _ in range(3)] == [[{"id": "1"}], [{"id": "2"}], None]
    asked = "limit=1&created_at%5Bgte%5D=2026-01-31T12%3A00%3A00Z&types%5B%5D=t&order=asc"
    assert [request.target for request in transport.requests] == [
        f"/v1/sessions/s/events?{asked}",
        f"/v1/sessions/s/events?{asked}&page=A",
    ]


async def test_the_events_from_a_time_on_are_those_of_that_time_and_later(autojump_clock: Any) -> None:
    script = [emitted for text in "abcd" for emitted in (say(text), wait(1))]
    async with open_claude_simulator(script, transport="memory") as simulator, simulator.client() as client:
        session = await client.sessions.create(agent=simulator.agent_id, environment_id=simulator.environment_id)
        message = {"type": "user.message", "content": [{"type": "text", "text": "Hello"}]}
        await client.sessions.events.send(session["id"], [message])
        await simulator.wait_idle(session["id"])
        every = await client.sessions.events.list_all(session["id"])
        for since in {event["processed_at"] for event in every}:
            listed = {"created_at_gte": since, "limit": 2}
            later = await client.sessions.events.list_all(session["id"], **listed)
            assert later == [event for event in every if event["processed_at"] >= since]
            moment = datetime.fromisoformat(since)
            assert await client.sessions.events.list_all(session["id"], created_at_gte=moment) == later
        assert len({event["processed_at"] for event in every}) > 3


@pytest.mark.parametrize("moment", ["yesterday", "", 0, datetime(2026, 1, 31), ["2026-01-31"]])
async def test_what_is_no_point_in_time_is_refused_before_sending(
    client: ClaudeClient, transport: Any, moment: Any
) -> None:
    for refuse in (client.sessions.events.pages, client.sessions.events.open_list):
        with pytest.raises(ConfigurationError, match="created_at_gte must be an ISO 8601 time"):
            refuse("s", created_at_gte=moment)
    with pytest.raises(ConfigurationError, match="created_at_lt must be an ISO 8601 time"):
        await client.sessions.list(created_at_lt=moment)
    assert transport.requests == []
