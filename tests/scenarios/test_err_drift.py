"""Answers that are not the protocol: a proxy's page, nothing at all, an object of another shape. ERR-10."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

import managed_agents_actors as maa

# Delays without chance: 0.5, 1, 2, … seconds.
STEADY = maa.ReconnectPolicy(jitter=0.0)

HTML = b"<!doctype html><html><body>Please sign in to the network</body></html>"


# --- the create -------------------------------------------------------------------------------------------------------

DRIFT: dict[str, tuple[int, bytes, str]] = {
    "no id": (200, b'{"type": "session", "status": "idle"}', "no id"),
    "an id that is a number": (200, b'{"id": 3, "type": "session"}', "no id"),
    "an empty id": (200, b'{"id": "", "type": "session"}', "no id"),
    "html": (200, HTML, "not JSON"),
    "a list": (200, b"[]", "list"),
    "cut short": (200, b'{"id": "s', "not JSON"),
    "nothing at all": (204, b"", "no id"),
    "an empty body": (200, b"", "no id"),
}


@pytest.mark.parametrize("what", DRIFT)
async def test_err_10_drift_of_the_create(
    w: Any, play: Any, what: str, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    code, body, named = DRIFT[what]
    script = w.Script().creates(w.Status(code, {"content-type": "text/html"}, body))
    played = await _play_to_open(play, script, client={"api_key": "sk-ant-of-this-test"})
    error = played.error
    assert type(error) is maa.ProtocolError
    assert named in str(error)
    assert "Traceback" not in str(error) + caplog.text
    assert "sk-ant-of-this-test" not in str(error) + repr(error) + repr(error.raw) + caplog.text
    assert played.served.traffic == ["create"]  # a create that was perhaps done is not done again
    assert played.took == 0


async def _play_to_open(play: Any, script: Any, **options: Any) -> Any:
    """Play a session that cannot be opened: the one who opens it is told, and there may be no terminal to tell of."""
    played = await play(script, check=False, **options)
    assert len(played.notified) <= 1
    return played


async def test_err_10_an_excerpt_tells_what_came(w: Any, play: Any, autojump_clock: MockClock) -> None:
    played = await _play_to_open(play, w.Script().creates(w.Status(200, {}, HTML * 1000)))
    assert played.error.raw.startswith(HTML)
    assert len(played.error.raw) < 1000
    assert len(str(played.error)) < 2000


# --- everything after it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["html", "nothing at all"])
async def test_err_10_drift_of_a_stream(w: Any, play: Any, answer: str, autojump_clock: MockClock) -> None:
    code, body, _named = DRIFT[answer]
    strange = w.Status(code, {"content-type": "text/html"}, body)
    events = [w.run(), w.msg("m1", "hello"), w.idle("end")]
    script = w.Script().stream(strange).stream(strange).stream(w.OK, w.Posts(1), *events)
    played = await play(script, reconnect=STEADY)
    assert (played.result.terminal, played.result.text) == ("end_turn", "hello")
    assert played.handler.events == events
    assert (played.stream_times, played.post_times) == ([0.0, 0.5, 1.5], [1.5])  # what is no stream was not attached


@pytest.mark.parametrize("answer", ["html", "nothing at all"])
async def test_err_10_drift_of_every_stream(w: Any, play: Any, answer: str, autojump_clock: MockClock) -> None:
    code, body, _named = DRIFT[answer]
    script = w.Script()
    for _ in range(10):
        script.stream(w.Status(code, {"content-type": "text/html"}, body))
    policy = maa.ReconnectPolicy(jitter=0.0, max_attempts=3)
    played = await play(script, reconnect=policy)
    assert type(played.error) is maa.ProtocolError
    assert played.error.raw == body
    assert played.stream_times == [0.0, 0.5, 1.5, 3.5]
    assert played.script.posts == []
    assert [type(told.error.exception) for told in played.notified if told.error] == [type(played.error)]


async def test_err_10_drift_of_a_listing(w: Any, play: Any, autojump_clock: MockClock) -> None:
    missed = [w.user(id="p1"), w.run(), w.msg("m1", "hello"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP).stream(w.OK).stream(w.OK).stream(w.OK)
    script.listing(w.Status(200, {"content-type": "text/html"}, HTML))
    script.listing(w.Status(200, {}, b'{"data": {}, "next_page": null}'))
    script.listing(missed)
    played = await play(script, reconnect=STEADY)
    assert (played.result.terminal, played.result.text) == ("end_turn", "hello")
    assert played.stream_times == [0.0, 0.5, 1.5, 3.5]


@pytest.mark.parametrize("body", [HTML, b"[]", b'{"data": 3}', b'{"data": [7, {"id": 8}]}'])
async def test_err_10_drift_of_a_post(w: Any, play: Any, body: bytes, autojump_clock: MockClock) -> None:
    taken = w.Status(200, {"content-type": "text/html"}, body)
    first, second = [w.run(), w.ctu("u1"), w.idle("req", "u1")], [w.run(), w.msg("m1", "hello"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *first, w.Posts(2), w.Pause(10.0), *second).answers(taken, taken)
    played = await play(script, check=False, reconnect=STEADY)
    assert (played.result.terminal, played.result.text) == ("end_turn", "hello")
    assert [event["type"] for event in played.script.posts] == ["user.message", "user.custom_tool_result"]
    assert len(played.notified) == 1
