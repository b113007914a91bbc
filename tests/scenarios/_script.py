"""What a server does, step by step, in the notation of the scenarios: the tokens, and the servers that play them.

Nothing here knows how the library works.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import trio

from managed_agents_actors.testing import Request, Responder, StreamResponse, sse_frame

Event: TypeAlias = dict[str, Any]

SESSION = "s"
CREATE = "/v1/sessions"
NOW = "2026-01-01T00:00:00Z"


# --- what a stream does -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pause:
    """Wait this many seconds (`~` in the notation)."""

    seconds: float


@dataclass(frozen=True)
class Posts:
    """Wait until this many POSTs to the session have arrived, the kickoff included."""

    count: int


@dataclass(frozen=True)
class Until:
    """Wait for an event of the test's own."""

    event: trio.Event


@dataclass(frozen=True)
class Status:
    """Answer with this status, and with an error's body unless one is given.

    A stream's first step, a page of a listing, or what becomes of a POST, of a create or of a look.
    """

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None

    @property
    def accepts(self) -> bool:
        """Whether a request that is answered so was taken."""
        return self.code < 300


@dataclass(frozen=True)
class Missed:
    """It happens, and this stream does not carry it: listings do."""

    event: Event


@dataclass(frozen=True)
class Ending:
    """How a stream ends."""

    how: Literal["drop", "eof", "hang"]


DROP, EOF, HANG = Ending("drop"), Ending("eof"), Ending("hang")


@dataclass(frozen=True)
class Mark:
    """A token without a value."""

    name: str


OK, HB, LOST, MUTE = Mark("ok"), Mark("hb"), Mark("lost"), Mark("mute")

Step: TypeAlias = Event | bytes | Pause | Posts | Until | Missed | Status | Ending | Mark


# --- the server -------------------------------------------------------------------------------------------------------


class Script:
    """What the server does, connection by connection.

    Streams: the steps of the n-th connection, in order. A wait before the first thing sent holds back the headers;
    `OK` sends them at once. Without an ending a stream stays open in silence, and so do connections beyond the script.
    Listings: the pages of the n-th listing, perhaps after a wait; the last script repeats. Without one, all that has
    happened so far is listed: what was sent or missed, and the n-th POST, if accepted, as an event with the id `p<n>`.
    A page may be a `Status`. POSTs: `202` or `200` accept (with an empty answer, or with the queued events), another
    status or `Status` answers so, `LOST` accepts and closes without an answer, `MUTE` accepts and never answers;
    `(Pause(s), ...)` waits first. Creates: likewise; by default the session is created.
    """

    def __init__(self, session: str = SESSION) -> None:
        self.session = session
        self.status: str | Status | None = None  # what the session says of itself; by default, what the log says
        self.order: list[Event] = []  # every event the library was shown, as first shown
        self.log: list[Event] = []  # what a listing of a server that remembers everything would give
        self.posts: list[Event] = []
        self.post_times: list[float] = []
        self.open_streams = 0  # those whose headers were sent and whose client is still there
        self._streams: list[tuple[Step, ...]] = []
        self._listings: list[tuple[Any, ...]] = []
        self._answers: list[Any] = []
        self._creates: list[Any] = []
        self._connects = itertools.count()
        self._lists = 0
        self._page = itertools.count(1)
        self._cursors: dict[str, tuple[Any, ...]] = {}
        self._posted = trio.lowlevel.ParkingLot()

    # --- writing it

    def stream(self, *steps: Step) -> Script:
        """S1, S2, … by calls."""
        self._streams.append(steps)
        return self

    def listing(self, *pages: Any) -> Script:
        """L1, L2, … by calls; one argument per page, or a wait before it."""
        self._listings.append(pages)
        return self

    def answers(self, *answers: Any) -> Script:
        """P1, P2, …; the first is the kickoff's. Whatever follows is accepted with 200."""
        self._answers += answers
        return self

    def creates(self, *answers: Any) -> Script:
        """What becomes of the first, second, … create. Whatever follows succeeds."""
        self._creates += answers
        return self

    # --- playing it

    async def __call__(self, request: Request, respond: Responder) -> None:
        own = f"{CREATE}/{self.session}"
        match request.method, request.path.removeprefix(own):
            case "POST", str(path) if path == CREATE:
                await self._create(respond)
            case "GET", "/events/stream":
                await self._stream(respond)
            case "GET", "/events":
                await self._list(request, respond)
            case "POST", "/events":
                await self._post(request, respond)
            case "GET", "":
                await self._tell(self.status or self._logged_status(), respond)
            case _:
                await respond.json(404, {"type": "error", "error": {"type": "not_found_error", "message": "no"}})

    async def _create(self, respond: Responder) -> None:
        await self._tell(await self._waited(self._creates.pop(0) if self._creates else "idle"), respond)

    async def _tell(self, status: str | Status, respond: Responder) -> None:
        if isinstance(status, Status):
            await _answer(status, respond)
        else:
            await respond.json(200, {"id": self.session, "type": "session", "status": status})

    async def _waited(self, answer: Any) -> Any:
        """Wait first, if the answer says so."""
        *waits, last = answer if isinstance(answer, tuple) else (answer,)
        for wait in waits:
            await self._wait(wait)
        return last

    async def _stream(self, respond: Responder) -> None:
        number = next(self._connects)
        steps = iter((*(self._streams[number] if number < len(self._streams) else ()), HANG))
        first = next(steps)
        while await self._passes(first):
            first = next(steps)
        if isinstance(first, Status):
            await _answer(first, respond)
            return
        stream = await respond.start_stream({"content-type": "text/event-stream"})
        self.open_streams += 1
        try:
            await self._carry((first, *steps), stream)
        finally:
            self.open_streams -= 1

    async def _carry(self, steps: Sequence[Step], stream: StreamResponse) -> None:
        for step in steps:
            if isinstance(step, Ending):
                await _finish(step, stream)
                return
            if not await self._passes(step):
                await self._send(step, stream)

    async def _passes(self, step: Step) -> bool:
        """Whether the step sends nothing; what it waits for has then come."""
        match step:
            case Pause() | Posts() | Until():
                await self._wait(step)
            case Missed(event):
                self._remember(event)
            case _:
                return False
        return True

    async def _wait(self, step: Pause | Posts | Until) -> None:
        match step:
            case Pause(seconds):
                await trio.sleep(seconds)
            case Until(event):
                await event.wait()
            case Posts(count):
                while len(self.posts) < count:
                    await self._posted.park()

    async def _send(self, step: Any, stream: StreamResponse) -> None:
        match step:
            case Mark("hb"):
                await stream.send(b": hb\n\n")
            case bytes():
                await stream.send(step)
            case dict():
                if step.get("type") not in ("event_start", "event_delta"):
                    self._show(step)
                    self._remember(step)
                await stream.send(sse_frame(step))

    async def _list(self, request: Request, respond: Responder) -> None:
        cursor = request.first("page")
        if cursor is None:
            pages = self._listings[min(self._lists, len(self._listings) - 1)] if self._listings else (self.log[:],)
            self._lists += 1
        else:
            pages = self._cursors[cursor]
        while pages and isinstance(pages[0], Pause | Until):
            await self._wait(pages[0])
            pages = pages[1:]
        page, *rest = pages or ([],)
        if isinstance(page, Status):
            await _answer(page, respond)
            return
        for event in page:
            self._show(event)
        following = None
        if rest:
            following = f"page-{next(self._page)}"
            self._cursors[following] = tuple(rest)
        await respond.json(200, {"data": list(page), "next_page": following})

    async def _post(self, request: Request, respond: Responder) -> None:
        number = len(self.posts)
        sent = request.json()["events"]
        assert len(sent) == 1, f"one input per request, not {sent}"
        self.posts.append(sent[0])
        self.post_times.append(trio.current_time())
        answer = await self._waited(self._answers[number] if number < len(self._answers) else 200)
        if isinstance(answer, int) and answer not in (200, 202):
            answer = Status(answer)
        queued = {"id": f"p{number + 1}", **sent[0], "processed_at": None}
        if not isinstance(answer, Status) or answer.accepts:
            self.log.append({**queued, "processed_at": NOW})
        self._posted.unpark_all()
        if isinstance(answer, Status):
            await _answer(answer, respond)
        elif answer is LOST:
            await respond.lose()
        elif answer is MUTE:
            await trio.sleep_forever()
        elif answer == 202:
            await respond.bytes(202, b"")
        else:
            await respond.json(200, {"data": [queued]})

    def _show(self, event: Event) -> None:
        if "id" not in event or all(event["id"] != known.get("id") for known in self.order):
            self.order.append(event)

    def _remember(self, event: Event) -> None:
        if all(event.get("id", "") != known.get("id") for known in self.log):
            self.log.append(event)

    def _logged_status(self) -> str:
        """What the session says of itself: its last status; running once there is input that no status has followed."""
        told = [e["type"] for e in self.log if e["type"].startswith(("session.status_", "user."))]
        if not told:
            return "idle"
        return "running" if told[-1].startswith("user.") else str(told[-1].removeprefix("session.status_"))


class Fleet:
    """Several sessions of one server, each with a script and an id of its own; the n-th create gives the n-th."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = scripts
        self._created = iter(scripts)
        self._by_session = {script.session: script for script in scripts}

    async def __call__(self, request: Request, respond: Responder) -> None:
        if request.path == CREATE:
            await next(self._created)(request, respond)
        else:
            await self._by_session[request.path.split("/")[3]](request, respond)


async def _answer(status: Status, respond: Responder) -> None:
    if status.body is not None:
        await respond.bytes(status.code, status.body, status.headers)
        return
    body = {"type": "error", "error": {"type": "api_error", "message": f"refused with {status.code}"}}
    await respond.json(status.code, body, status.headers)


async def _finish(ending: Ending, stream: StreamResponse) -> None:
    match ending.how:
        case "drop":
            await stream.reset()
        case "eof":
            await stream.end()
        case "hang":
            await trio.sleep_forever()
