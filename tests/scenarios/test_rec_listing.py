"""The listing that follows a reconnection: its cursors are the server's, and none makes it endless or doubles a row."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import Request, Responder

STEADY = maa.ReconnectPolicy(jitter=0.0)

# Given the cursor that is asked for and how many pages were asked for before: the rows and the next cursor.
Pager = Callable[[str | None, int], tuple[list[dict[str, Any]], str | None]]


class Paged:
    """A script whose listings are paged by a function."""

    def __init__(self, script: Any, pager: Pager) -> None:
        self.script = script
        self.asked: list[str | None] = []
        self._pager = pager

    async def __call__(self, request: Request, respond: Responder) -> None:
        if request.method == "GET" and request.path.endswith("/events"):
            cursor = request.first("page")
            rows, following = self._pager(cursor, len(self.asked))
            self.asked.append(cursor)
            await respond.json(200, {"data": rows, "next_page": following})
        else:
            await self.script(request, respond)


def _missed(w: Any, count: int) -> list[dict[str, Any]]:
    """What a stream that was lost at once has missed, of this many events."""
    middle = [w.event("session.updated", n=n) for n in range(count - 4)]
    return [w.user(id="p1"), w.run(), *middle, w.msg("m1", "hello"), w.idle("end")]


def _dropped(w: Any) -> Any:
    return w.Script().stream(w.OK, w.Posts(1), w.DROP).stream(w.OK)


async def _run(serve: Any, paged: Paged, handler: Any, **options: Any) -> maa.SessionResult:
    async with serve(paged) as served:
        return await maa.run_session(
            claude_managed_agents, handler=handler, prompt="go", reconnect=STEADY, **served.options, **options
        )


# --- REC-16 -----------------------------------------------------------------------------------------------------------


def _alternating(missed: list[Any], cursor: str | None, _asked: int) -> tuple[list[Any], str]:
    """Two pages that name each other."""
    half = len(missed) // 2
    return (missed[:half], "B") if cursor in (None, "A") else (missed[half:], "A")


def _repeated(missed: list[Any], _cursor: str | None, _asked: int) -> tuple[list[Any], str]:
    """One page, whose next is itself."""
    return missed, "A"


def _shifting(missed: list[Any], _cursor: str | None, asked: int) -> tuple[list[Any], str]:
    """One cursor for ever, which brings what is next all the same; then nothing."""
    return missed[asked * 3 : asked * 3 + 3], "A"


def _overlapping(missed: list[Any], cursor: str | None, _asked: int) -> tuple[list[Any], str | None]:
    """Every page repeats most of the one before."""
    at = int(cursor or 0)
    return missed[at : at + 5], str(at + 1) if at + 5 < len(missed) else None


def _barren(missed: list[Any], cursor: str | None, asked: int) -> tuple[list[Any], str]:
    """Everything at once, and then empty pages with new cursors."""
    return (missed if cursor is None else []), f"c{asked}"


def _backwards(missed: list[Any], cursor: str | None, _asked: int) -> tuple[list[Any], str]:
    """At the end of the list, its beginning."""
    at = int(cursor or 0) % len(missed)
    return missed[at : at + 2], str(at + 2)


@pytest.mark.parametrize("pager", [_alternating, _repeated, _shifting, _overlapping, _barren, _backwards])
async def test_rec_16_hostile_cursors(w: Any, serve: Any, pager: Callable[..., Any], autojump_clock: MockClock) -> None:
    missed = _missed(w, 12)
    handler = w.Recorder()
    paged = Paged(_dropped(w), lambda cursor, asked: pager(missed, cursor, asked))
    with trio.fail_after(60):
        result = await _run(serve, paged, handler)
    assert (result.terminal, result.text, result.turns) == ("end_turn", "hello", 1)
    assert handler.events == list(result.events) == missed  # no row twice
    assert len(paged.asked) <= len(missed) + 25


async def test_rec_16_a_shuffled_page_is_taken_in_the_order_it_came(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    missed = _missed(w, 6)
    given = [missed[1], missed[0], missed[1], *missed[2:], missed[0]]
    handler = w.Recorder()
    result = await _run(serve, Paged(_dropped(w), lambda _cursor, _asked: (given, None)), handler)
    assert handler.events == [missed[1], missed[0], *missed[2:]]
    assert (result.terminal, result.text) == ("end_turn", "hello")


class InProcess(httpx.AsyncBaseTransport):
    """A server without a wire, for listings of so many pages that HTTP would be all the time goes into.

    Its streams: the first breaks as soon as the kickoff has come, the others are silent.
    """

    def __init__(self, pager: Pager) -> None:
        self.asked = 0
        self._pager = pager
        self._streams = 0
        self._kickoff = trio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await trio.lowlevel.checkpoint()
        if request.url.path.endswith("/stream"):
            self._streams += 1
            return httpx.Response(200, stream=Broken(self._kickoff if self._streams == 1 else trio.Event()))
        if request.method == "GET":
            rows, following = self._pager(request.url.params.get("page"), self.asked)
            self.asked += 1
            return httpx.Response(200, json={"data": rows, "next_page": following})
        if request.url.path.endswith("/events"):
            self._kickoff.set()
        return httpx.Response(200, json={"id": "s"})


class Broken(httpx.AsyncByteStream):
    """A body that says nothing until it breaks."""

    def __init__(self, breaks: trio.Event) -> None:
        self._breaks = breaks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        await self._breaks.wait()
        raise httpx.ReadError("reset")
        yield b""


async def _run_in_process(pager: Pager, handler: Any, **options: Any) -> tuple[Any, int]:
    """The result or the error of a run, and how many pages it asked for."""
    transport = InProcess(pager)
    async with maa.ClaudeClient("key", "http://provider.test", transport=transport) as client:
        try:
            result: Any = await maa.run_session(
                claude_managed_agents,
                handler=handler,
                prompt="go",
                client=client,
                agent="a",
                environment="e",
                **options,
            )
        except maa.ManagedAgentsError as error:
            result = error
    return result, transport.asked


async def test_rec_16_a_thousand_pages(w: Any, autojump_clock: MockClock) -> None:
    missed = _missed(w, 1_000)

    def pager(cursor: str | None, _asked: int) -> tuple[list[Any], str | None]:
        at = int(cursor or 0)
        return [missed[at]], str(at + 1) if at + 1 < len(missed) else None

    handler = w.Recorder()
    result, asked = await _run_in_process(pager, handler, reconnect=STEADY)
    assert (result.terminal, result.text, asked) == ("end_turn", "hello", 1_000)
    assert handler.events == list(result.events) == missed


async def test_rec_16_ten_thousand_pages_are_enough(w: Any, autojump_clock: MockClock) -> None:
    error, asked = await _run_in_process(
        lambda _cursor, asked: ([w.event("session.updated")], f"c{asked}"), w.Recorder(), reconnect=STEADY
    )
    assert type(error) is maa.ProtocolError
    assert "10000 pages" in str(error)
    assert asked <= 10_000


async def test_rec_16_a_listing_that_fails_on_a_later_page_begins_again(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    missed = _missed(w, 9)
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP).stream(w.OK).stream(w.OK)
    script.listing(missed[:3], missed[3:6], w.Status(503)).listing(missed[:3], missed[3:6], missed[6:])
    played = await play(script, reconnect=STEADY)
    assert (played.result.terminal, played.result.text) == ("end_turn", "hello")
    assert (len(played.served.streams), len(played.served.listings)) == (3, 2)


async def test_rec_16_a_page_that_is_refused_for_good_ends_it(w: Any, play: Any, autojump_clock: MockClock) -> None:
    missed = _missed(w, 9)
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP).stream(w.OK).listing(missed[:3], w.Status(400))
    played = await play(script, reconnect=STEADY)
    assert type(played.error) is maa.InvalidRequestError
    assert played.served.traffic == ["create", "stream", "user.message", "stream", "list", "list"]


@pytest.mark.parametrize("code", [429, 500, 503, 529])
async def test_rec_16_a_page_that_is_refused_for_now_is_asked_for_again(
    w: Any, serve: Any, code: int, autojump_clock: MockClock
) -> None:
    missed = _missed(w, 9)
    handler = w.Recorder()
    refused = 0

    class Refusing(Paged):
        async def __call__(self, request: Request, respond: Responder) -> None:
            nonlocal refused
            if request.first("page") == "3" and refused < 2:
                refused += 1
                await respond.json(code, {"type": "error", "error": {"type": "api_error", "message": "later"}})
            else:
                await super().__call__(request, respond)

    paged = Refusing(
        _dropped(w),
        lambda cursor, _asked: (missed[(at := int(cursor or 0)) : at + 3], str(at + 3) if at + 3 < 9 else None),
    )
    result = await _run(serve, paged, handler)
    assert (result.terminal, result.text, refused) == ("end_turn", "hello", 2)
    assert handler.events == missed
    assert paged.asked == [None, "3", "6"]


# --- REC-16: the second reconnect lists only the tail -----------------------------------------------------------------

SINCE = "created_at[gte]"


class Timed:
    """A script whose listings keep to the time they are asked to begin at, in one way or another."""

    def __init__(self, script: Any, how: str = "gte") -> None:
        self.script = script
        self.listed: list[tuple[str | None, int]] = []  # since when, and how many rows that gave
        self._how = how

    async def __call__(self, request: Request, respond: Responder) -> None:
        if request.method != "GET" or not request.path.endswith("/events"):
            await self.script(request, respond)
            return
        since = request.first(SINCE)
        if since is not None and self._how == "refuses":
            self.listed.append((since, 0))
            error = {"type": "invalid_request_error", "message": f"{SINCE}: unknown parameter"}
            await respond.json(400, {"type": "error", "error": error})
            return
        rows = [event for event in self.script.log if self._shows(event, since)]
        self.listed.append((since, len(rows)))
        await respond.json(200, {"data": rows, "next_page": None})

    def _shows(self, event: dict[str, Any], since: str | None) -> bool:
        if since is None or self._how == "ignores":
            return True
        at = event["processed_at"] or ""  # what is still queued has no place in time
        return bool(at > since if self._how == "gt" else at >= since)


def _time(second: float) -> str:
    return f"2026-01-01T{second // 3600:02.0f}:{second // 60 % 60:02.0f}:{second % 60:09.6f}Z"


def _at(event: dict[str, Any], second: float) -> dict[str, Any]:
    return {**event, "processed_at": _time(second)}


def _long_turn(w: Any, count: int) -> list[dict[str, Any]]:
    """Events of one turn, a second apart."""
    middle = [w.event("session.updated", n=n) for n in range(count - 3)]
    events = [w.run(), *middle, w.msg("m1", "hello"), w.idle("end")]
    return [_at(event, second) for second, event in enumerate(events, 1)]


def _thrice_dropped(w: Any, events: list[Any]) -> Any:
    """A stream that breaks off after each third of the events, and never shows the event that follows."""
    third = len(events) // 3
    script = w.Script().stream(w.OK, w.Posts(1), *events[:third], w.Missed(events[third]), w.DROP)
    script.stream(w.OK, w.Pause(1.0), *events[third + 1 : 2 * third], w.Missed(events[2 * third]), w.DROP)
    script.stream(w.OK, w.Pause(1.0), *events[2 * third + 1 : -1], w.Missed(events[-1]), w.DROP)
    return script.stream(w.OK)


@pytest.mark.parametrize("how", ["gte", "gt", "ignores", "refuses"])
async def test_rec_16_the_second_reconnect_lists_only_the_tail(
    w: Any, serve: Any, how: str, autojump_clock: MockClock
) -> None:
    events = _long_turn(w, 300)
    handler, timed = w.Recorder(), Timed(_thrice_dropped(w, events), how)
    result = await _run(serve, timed, handler)
    assert (result.terminal, result.text, result.turns) == ("end_turn", "hello", 1)
    assert [event for event in handler.events if event["id"] != "p1"] == events
    since = [asked for asked, _rows in timed.listed if asked is not None]
    assert since == [events[99]["processed_at"], events[199]["processed_at"], events[298]["processed_at"]]
    rows = [found for _asked, found in timed.listed]
    match how:
        case "gte":  # the last event that was seen, and the one that was missed
            assert rows == [2, 2, 2]
        case "ignores":
            assert rows == [102, 202, 301]
        case _:  # what cannot be joined to what is known is no tail: the whole is asked for
            assert [asked for asked, _rows in timed.listed][1::2] == [None] * 3


async def test_rec_16_events_of_the_same_instant_are_none_lost_and_none_twice(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    events = [_at(event, 7.0) for event in _long_turn(w, 30)]
    for ended in range(1, len(events)):
        script = w.Script().stream(w.OK, w.Posts(1), *events[:ended], *map(w.Missed, events[ended:]), w.DROP)
        handler, timed = w.Recorder(), Timed(script.stream(w.OK))
        result = await _run(serve, timed, handler)
        assert result.text == "hello"
        assert [event for event in handler.events if event["id"] != "p1"] == events
        assert [asked for asked, _rows in timed.listed] == [_time(7.0)]


async def test_rec_16_the_tail_begins_at_the_last_event_that_can_be_found_again(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    run, message, idle = (_at(event, n) for n, event in enumerate((w.run(), w.msg("m1", "hello"), w.idle("end")), 1))
    nameless = _at(w.noid(w.event("made.up")), 5.0)
    untimed = {**w.event("made.up"), "processed_at": None}
    script = w.Script().stream(w.OK, w.Posts(1), run, nameless, untimed, *map(w.Missed, (message, idle)), w.DROP)
    handler, timed = w.Recorder(), Timed(script.stream(w.OK))
    result = await _run(serve, timed, handler)
    assert (result.terminal, result.text) == ("end_turn", "hello")
    assert [asked for asked, _rows in timed.listed] == [_time(1)]


@pytest.mark.parametrize("taken", [True, False])
async def test_rec_16_what_may_be_queued_is_looked_for_in_the_whole(
    w: Any, serve: Any, *, taken: bool, autojump_clock: MockClock
) -> None:
    past = [_at(event, second) for second, event in enumerate((w.run(), w.msg("m1", "one"), w.idle("end")), 1)]
    new = [_at(event, second) for second, event in enumerate((w.run(), w.msg("m2", "two"), w.idle("end")), 100)]
    script = w.Script().stream(w.OK, w.Posts(1), *past, w.Posts(2), w.DROP)
    script.stream(w.OK, w.Posts(2 if taken else 3), *new).answers(200, w.LOST if taken else w.Status(503))
    timed = Timed(script)
    async with (
        serve(timed) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), reconnect=STEADY, **served.options) as session,
    ):
        await session.ask("go")
        assert (await session.ask("more")).text == "two"
    assert None in [asked for asked, _rows in timed.listed]
    assert len(script.posts) == (2 if taken else 3)
