"""A provider with too much to do: the delays it asks for are kept, nothing is lost, and no fleet is in lock-step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents

SESSIONS = 50
STEADY = maa.ReconnectPolicy(jitter=0.0)


def _times(served: Any, method: str, end: str) -> dict[str, list[float]]:
    """When each session made its requests of one kind."""
    found: dict[str, list[float]] = {}
    for request in served.server.requests:
        if request.method == method and request.path.endswith(end):
            found.setdefault(request.path.split("/")[3], []).append(request.at)
    return found


def _busiest(times: Iterable[float]) -> int:
    """The most of them within any whole second."""
    return max(Counter(int(at) for at in times).values())


async def _run_all(handlers: list[Any], served: Any, **options: Any) -> list[maa.SessionResult]:
    results: list[maa.SessionResult] = []

    async def run(handler: Any) -> None:
        results.append(
            await maa.run_session(
                claude_managed_agents, handler=handler, prompt="go", timeout=None, **served.options, **options
            )
        )

    async with trio.open_nursery() as nursery:
        for handler in handlers:
            nursery.start_soon(run, handler)
    return results


async def test_err_08_storm(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    def script(number: int) -> Any:
        story = w.Script(f"s{number}")
        for _ in range(20):
            story.stream(w.Status(429, {"retry-after": "1"}))
        story.stream(w.OK, w.Posts(6), w.run(), w.msg(f"m{number}", f"answer {number}"), w.use(1, 1), w.idle("end"))
        return story.answers(*[529] * 5)

    scripts = [script(number) for number in range(SESSIONS)]
    handlers = [w.Recorder() for _ in scripts]
    async with serve(w.Fleet(*scripts)) as served:
        results = await _run_all(handlers, served)
        streams, posts = _times(served, "GET", "/stream"), _times(served, "POST", "/events")
    for story in scripts:
        assert len(streams[story.session]) == 21
        assert min(w.gaps(streams[story.session])) >= 1.0
        assert [event["type"] for event in story.posts] == ["user.message"] * 6
        assert min(w.gaps(posts[story.session])) > 0
    # Nothing is lost, and nothing is told twice.
    assert sorted(result.text for result in results) == sorted(f"answer {n}" for n in range(SESSIONS))
    assert {(result.terminal, result.turns, result.error) for result in results} == {("end_turn", 1, None)}
    assert sorted(len(handler.events) for handler in handlers) == [4] * SESSIONS
    # Never more than one attempt a second for each; and where the delays have grown, a trickle.
    every = sorted(at for times in streams.values() for at in times)
    assert _busiest(every[SESSIONS:]) <= SESSIONS
    assert _busiest(at for times in streams.values() for at in times[8:]) <= SESSIONS / 2


@pytest.mark.parametrize("asked", ["0.2", "5", "29.9", "30", "3600"])
@pytest.mark.parametrize("where", ["stream", "post"])
async def test_err_08_a_fleet_that_is_sent_away_together_does_not_come_back_together(
    w: Any, serve: Any, where: str, asked: str, autojump_clock: MockClock
) -> None:
    refusal, events = w.Status(429, {"retry-after": asked}), [w.run(), w.idle("end")]

    def script(number: int) -> Any:
        story = w.Script(f"s{number}")
        if where == "stream":
            return story.stream(refusal).stream(w.OK, w.Posts(1), *events)
        return story.stream(w.OK, w.Posts(2), *events).answers(refusal)

    scripts = [script(number) for number in range(SESSIONS)]
    async with serve(w.Fleet(*scripts)) as served:
        await _run_all([w.Recorder() for _ in scripts], served)
        times = _times(served, "GET", "/stream") if where == "stream" else _times(served, "POST", "/events")
        delays = [second - first for first, second in times.values()]
    assert len(set(delays)) > SESSIONS / 2
    cap = maa.ReconnectPolicy().max
    assert all(min(float(asked), cap - 1.0) <= delay <= cap for delay in delays)


@pytest.mark.parametrize(
    ("headers", "delay"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7.5"}, 7.5),
        ({"retry-after-ms": "2500"}, 2.5),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:20 GMT", "date": "Thu, 01 Jan 2026 00:00:08 GMT"}, 12.0),
        ({"retry-after": "Thu, 01 Jan 2026 00:00:00 GMT", "date": "Thu, 01 Jan 2026 00:00:08 GMT"}, 0.5),
        ({"retry-after": "Fri, 31 Dec 9999 23:59:59 GMT"}, 30.0),
        ({"retry-after": "1000000000000"}, 30.0),
        ({"retry-after": "9" * 400}, 0.5),
        ({"retry-after": "0"}, 0.5),
        ({"retry-after": "-3"}, 0.5),
        ({"retry-after": "nan"}, 0.5),
        ({"retry-after": "soon"}, 0.5),
        ({"retry-after": ""}, 0.5),
    ],
)
@pytest.mark.parametrize("where", ["stream", "post"])
async def test_err_08_what_the_provider_may_ask_for(
    w: Any, serve: Any, where: str, headers: dict[str, str], delay: float, autojump_clock: MockClock
) -> None:
    script = w.Script()
    if where == "stream":
        script.stream(w.Status(503, headers)).stream(w.OK, w.Posts(1), w.run(), w.idle("end"))
    else:
        script.stream(w.OK, w.Posts(2), w.run(), w.idle("end")).answers(w.Status(429, headers))
    async with serve(script) as served:
        result = await maa.run_session(
            claude_managed_agents, handler=w.Recorder(), prompt="go", reconnect=STEADY, **served.options
        )
        times = [request.at for request in (served.streams if where == "stream" else served.posts)]
    assert result.terminal == "end_turn"
    assert w.gaps(times) == [delay]


async def test_err_08_posts_that_are_never_taken_end_the_request(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK).answers(*[529] * 50)
    played = await play(script, reconnect=STEADY)
    assert type(played.error) is maa.OverloadedError
    assert 2 <= len(played.script.posts) <= 10
    assert [told.error.type for told in played.notified if told.error] == ["OverloadedError"]
