"""Errors: what the provider, or whatever answers in its place, says is wrong; each is judged once and told once."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents

# Delays without chance: 0.5, 1, 2, … seconds.
STEADY = maa.ReconnectPolicy(jitter=0.0)


# --- ERR-03 -----------------------------------------------------------------------------------------------------------


def _check_terminated(played: Any) -> None:
    result = played.result
    assert (result.terminal, result.resumable, result.turns) == ("terminated", False, 1)
    assert (result.error.type, result.error.retry_status) == ("model_request_failed_error", "terminal")
    assert result.error.message == "model trouble"
    assert played.error is None


@pytest.mark.parametrize("began", [True, False])
async def test_err_03_terminal_error_and_its_end(w: Any, play: Any, began: bool, autojump_clock: MockClock) -> None:
    events = [*[w.run()] * began, w.err("terminal"), w.term()]
    script = w.Script().stream(w.OK, w.Posts(1), *events[:-1], w.Pause(5.0), events[-1])
    played = await play(script, reconnect=STEADY)
    _check_terminated(played)
    assert list(played.result.events) == events
    assert played.took == 5.0  # the error itself ends nothing
    assert played.served.traffic == ["create", "stream", "user.message"]


@pytest.mark.parametrize("ending", ["EOF", "DROP"])
@pytest.mark.parametrize("began", [True, False])
async def test_err_03_terminal_error_and_then_nothing(
    w: Any, play: Any, ending: str, began: bool, autojump_clock: MockClock
) -> None:
    events = [*[w.run()] * began, w.err("terminal")]
    script = w.Script().stream(w.OK, w.Posts(1), w.user(id="p1"), *events, getattr(w, ending)).stream(w.OK)
    played = await play(script, reconnect=STEADY)
    _check_terminated(played)
    assert played.took == 0.5
    assert played.served.traffic == ["create", "stream", "user.message", "stream", "list"]


async def test_err_03_the_end_is_only_listed(w: Any, play: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.err("terminal"), w.Missed(w.term()), w.EOF).stream(w.OK)
    played = await play(script, reconnect=STEADY)
    _check_terminated(played)
    assert played.handler.origins[-1] == "history"


@pytest.mark.parametrize("ending", ["EOF", "DROP"])
async def test_err_03_of_a_later_request(w: Any, serve: Any, ending: str, autojump_clock: MockClock) -> None:
    first = [w.user(id="p1"), w.run(), w.msg("m1", "one"), w.idle("end")]
    second = [w.user("more", id="p2"), w.err("terminal")]
    script = w.Script().stream(w.OK, w.Posts(1), *first, w.Posts(2), *second, getattr(w, ending)).stream(w.OK)
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), reconnect=STEADY, **served.options) as session,
        session.subscribe() as terminals,
    ):
        await session.ask("go")
        with trio.fail_after(60):
            result = await session.ask("more")
        await session.wait_closed()
        assert [told.terminal async for told in terminals] == ["end_turn", "terminated"]
    assert result.error is not None
    assert (result.error.retry_status, result.resumable, list(result.events)) == ("terminal", False, second)


@pytest.mark.parametrize("retry", ["retrying", "exhausted", "terminal"])
async def test_err_03_an_error_that_was_overcome_is_no_end(
    w: Any, serve: Any, retry: str, autojump_clock: MockClock
) -> None:
    first = [w.run(), w.err(retry), w.run(), w.msg("m1", "one"), w.idle("end")]
    second = [w.run(), w.msg("m2", "two"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *first, w.Pause(1.0), w.DROP).stream(w.OK, w.Posts(2), *second)
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), reconnect=STEADY, **served.options) as session,
    ):
        assert (await session.ask("go")).terminal == "end_turn"
        await trio.sleep(10.0)
        assert (session.status().phase, (await session.ask("more")).text) == ("live", "two")


async def test_err_03_a_call_under_way_is_cancelled_by_the_end(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> str:
        await trio.sleep(100.0)
        return "too late"

    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.err("terminal"), w.Pause(3.0), w.term())
    played = await play(script, handler=w.Recorder(tool), then=200.0)
    _check_terminated(played)
    assert [(call_id, at - played.began) for call_id, at in played.handler.cancelled] == [("u1", 3.0)]
    assert played.results_posted == []


# --- ERR-04 -----------------------------------------------------------------------------------------------------------

SHAPES: dict[str, dict[str, Any]] = {
    "an unknown type": {"error": {"type": "made_up_error", "message": "m", "retry_status": {"type": "retrying"}}},
    "an unknown retry status": {"error": {"type": "x_error", "message": "m", "retry_status": {"type": "perhaps"}}},
    "a retry status without a type": {"error": {"type": "x_error", "message": "m", "retry_status": {}}},
    "a retry status that is text": {"error": {"type": "x_error", "message": "m", "retry_status": "terminally"}},
    "no retry status": {"error": {"type": "x_error", "message": "m"}},
    "no message": {"error": {"type": "x_error"}},
    "numbers for everything": {"error": {"type": 1, "message": 2, "retry_status": 3}},
    "an error that is text": {"error": "it broke"},
    "an error that is a list": {"error": ["it broke"]},
    "an empty error": {"error": {}},
    "an error that is null": {"error": None},
    "no error": {},
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_err_04_an_unknown_error_ends_nothing(w: Any, play: Any, shape: str, autojump_clock: MockClock) -> None:
    strange = w.event("session.error", **SHAPES[shape])
    events = [w.run(), strange, w.msg("m1", "all the same"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *events[:2], w.Pause(60.0), *events[2:])
    played = await play(script)
    result = played.result
    assert (result.terminal, result.text, result.turns, played.took) == (
        "end_turn",
        "all the same",
        1,
        60.0,
    )
    assert list(result.events) == events


@pytest.mark.parametrize("shape", SHAPES)
async def test_err_04_a_later_status_decides(w: Any, play: Any, shape: str, autojump_clock: MockClock) -> None:
    strange = w.event("session.error", **SHAPES[shape])
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), strange, w.Pause(5.0), w.term())
    played = await play(script)
    assert (played.result.terminal, played.result.resumable, played.took) == ("terminated", False, 5.0)
    error = played.result.error
    assert error is None or (isinstance(error.type, str) and isinstance(error.message, str))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("end", ["idle", "term"])
async def test_err_04_or_a_look_decides_when_all_is_silent(
    w: Any, play: Any, shape: str, end: str, autojump_clock: MockClock
) -> None:
    strange = w.event("session.error", **SHAPES[shape])
    last = w.idle("end") if end == "idle" else w.term()
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), strange, w.Missed(last), w.HANG).stream(w.OK)
    played = await play(script, reconnect=STEADY)
    assert played.result.terminal == ("end_turn" if end == "idle" else "terminated")
    assert played.took <= 91.0  # the silence that is allowed, and a delay


async def test_err_04_or_a_look_decides_though_the_stream_is_alive(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    strange = w.event("session.error", **SHAPES["an unknown retry status"])
    alive = [w.Pause(15.0), w.HB] * 60
    events = [w.user(id="p1"), w.run(), strange]
    script = w.Script().stream(w.OK, w.Posts(1), *events, w.Missed(w.idle("end")), *alive)
    played = await play(script, timeout=900.0, reconnect=STEADY)
    assert played.result.terminal == "end_turn"
    assert played.took <= 240.0
    assert len(played.served.streams) == 1


@pytest.mark.parametrize("status", ["idle", "terminated"])
async def test_err_04_or_the_session_s_own_word(w: Any, play: Any, status: str, autojump_clock: MockClock) -> None:
    # Neither stream nor history ever tells of the end; only the session itself does.
    strange = w.event("session.error", **SHAPES["no retry status"])
    script = w.Script().stream(w.OK, w.Posts(1), w.user(id="p1"), w.run(), strange, *[w.Pause(15.0), w.HB] * 60)
    script.status = status
    played = await play(script, timeout=900.0, reconnect=STEADY)
    assert played.result.terminal == ("end_turn" if status == "idle" else "terminated")
    assert played.took <= 240.0


# --- ERR-06 -----------------------------------------------------------------------------------------------------------


def _check_gone(w: Any, played: Any) -> None:
    """The request ended once, as gone, and nothing was asked of the server afterwards."""
    assert type(played.error) is maa.SessionGone
    assert f"session {w.SESSION} is gone" in str(played.error)
    (told,) = played.notified
    assert told == played.error.result
    assert (told.terminal, told.resumable, told.session_id) == ("terminated", False, w.SESSION)
    assert (told.error.type, type(told.error.exception)) == ("SessionGone", maa.SessionGone)
    if played.status is not None:
        assert (played.status.phase, played.status.busy, played.status.tools_running) == ("closed", False, ())


@pytest.mark.parametrize("code", [404, 410])
async def test_err_06_gone_before_the_first_stream(w: Any, play: Any, code: int, autojump_clock: MockClock) -> None:
    played = await play(w.Script().stream(w.Status(code)), reconnect=STEADY, then=100.0)
    _check_gone(w, played)
    assert played.served.traffic == ["create", "stream"]
    assert played.took == 0


@pytest.mark.parametrize("code", [404, 410])
async def test_err_06_gone_on_the_stream(w: Any, play: Any, code: int, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "partial"), w.EOF).stream(w.Status(code))
    played = await play(script, reconnect=STEADY, then=100.0)
    _check_gone(w, played)
    assert played.error.result.text == "partial"
    assert played.served.traffic == ["create", "stream", "user.message", "stream"]
    assert played.took == 0.5


@pytest.mark.parametrize("code", [404, 410])
@pytest.mark.parametrize("page", [1, 2])
async def test_err_06_gone_on_the_listing_only(
    w: Any, play: Any, code: int, page: int, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.user(id="p1"), run := w.run(), w.DROP).stream(w.OK)
    script.listing(*[[run]] * (page - 1), w.Status(code))
    played = await play(script, reconnect=STEADY, then=100.0)
    _check_gone(w, played)
    assert played.served.traffic == ["create", "stream", "user.message", "stream", *["list"] * page]


@pytest.mark.parametrize("code", [404, 410])
async def test_err_06_gone_on_a_post(w: Any, play: Any, code: int, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1")).answers(200, code)
    played = await play(script, reconnect=STEADY, then=100.0)
    _check_gone(w, played)
    assert played.served.traffic == ["create", "stream", "user.message", "user.custom_tool_result"]


@pytest.mark.parametrize("code", [404, 410])
@pytest.mark.parametrize("where", ["listing", "status"])
async def test_err_06_gone_on_a_look(w: Any, play: Any, code: int, where: str, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1)).answers(w.LOST)  # whether it was taken has to be looked up
    if where == "listing":
        script.listing(w.Status(code))
    else:
        script.listing([]).status = w.Status(code)
    played = await play(script, reconnect=STEADY, then=100.0)
    _check_gone(w, played)
    assert played.served.traffic == ["create", "stream", "user.message", "list", *["look"] * (where == "status")]


@pytest.mark.parametrize("ending", ["EOF", "DROP", "HANG"])
async def test_err_06_deleted(w: Any, play: Any, ending: str, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "partial"), w.deleted(), getattr(w, ending))
    played = await play(script, reconnect=STEADY, then=100.0)
    _check_gone(w, played)
    assert played.error.result.text == "partial"
    assert played.served.traffic == ["create", "stream", "user.message"]
    assert played.took == 0


async def test_err_06_deleted_while_a_tool_runs(w: Any, play: Any, autojump_clock: MockClock) -> None:
    async def tool(*_args: Any) -> str:
        await trio.sleep(100.0)
        return "too late"

    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"), w.Pause(2.0), w.deleted())
    played = await play(script, handler=w.Recorder(tool), then=200.0)
    _check_gone(w, played)
    assert [(call_id, at - played.began) for call_id, at in played.handler.cancelled] == [("u1", 2.0)]
    assert (played.took, played.results_posted) == (2.0, [])
    assert [use.id for use in played.error.result.custom_tool_uses] == ["u1"]


async def test_err_06_queued_messages_are_told_too(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.Pause(5.0), w.deleted(), w.EOF)
    told: list[Any] = []
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
        session.subscribe() as terminals,
    ):
        async with trio.open_nursery() as nursery:

            async def ask(text: str) -> None:
                with pytest.raises(maa.SessionGone) as caught:
                    await session.ask(text)
                told.append(caught.value)

            for text in ("a", "b", "c"):
                nursery.start_soon(ask, text)
        heard = [result async for result in terminals]
        for call in (session.message("d"), session.ask("e"), session.interrupt()):
            with pytest.raises(maa.ActorGone):
                await call
        with pytest.raises(maa.SessionGone):
            await session.wait_closed()
    assert len(told) == len(heard) == 3
    assert [type(result.error.exception) for result in heard if result.error] == [maa.SessionGone] * 3
    assert len(script.posts) == 1


# --- refused credentials ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "error"), [(401, maa.AuthenticationError), (403, maa.PermissionDeniedError)])
@pytest.mark.parametrize("where", ["first stream", "stream", "listing", "second page", "kickoff", "result", "look"])
async def test_err_06_a_refused_credential_ends_it_with_its_cause(
    w: Any, play: Any, code: int, error: type[Exception], where: str, autojump_clock: MockClock
) -> None:
    drop = w.Script().stream(w.OK, w.Posts(1), w.user(id="p1"), run := w.run(), w.DROP)
    calls = w.Script().stream(w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"))
    script = {
        "first stream": lambda: w.Script().stream(w.Status(code)),
        "stream": lambda: drop.stream(w.Status(code)),
        "listing": lambda: drop.stream(w.OK).listing(w.Status(code)),
        "second page": lambda: drop.stream(w.OK).listing([run], w.Status(code)),
        "kickoff": lambda: w.Script().stream(w.OK).answers(code),
        "result": lambda: calls.answers(200, code),
        "look": lambda: w.Script().stream(w.OK).answers(w.LOST).listing(w.Status(code)),
    }[where]()
    played = await play(script, client={"api_key": "sk-ant-of-this-test"}, reconnect=STEADY, then=100.0)
    assert type(played.error) is error
    assert played.error.status == code
    (told,) = played.notified
    assert (told.terminal, told.error.type, told.resumable) == ("terminated", error.__name__, True)
    assert sum(request.status == code for request in played.served.server.requests) == 1
    assert played.served.server.requests[-1].status == code  # and nothing after it
    assert "sk-ant-of-this-test" not in repr(played.error) + repr(told)


async def test_err_06_a_refused_post_in_the_middle_ends_running_tools(
    w: Any, play: Any, autojump_clock: MockClock
) -> None:
    async def tool(_name: str, _input: Any, context: maa.ToolContext) -> str:
        await trio.sleep(1.0 if context.tool_use_id == "quick" else 100.0)
        return "r"

    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.ctu("quick"), w.ctu("slow")).answers(200, 403)
    played = await play(script, handler=w.Recorder(tool), then=200.0)
    assert type(played.error) is maa.PermissionDeniedError
    assert played.took == 1.0
    assert [call_id for call_id, _at in played.handler.cancelled] == ["slow"]
    assert len(played.script.posts) == 2


@pytest.mark.parametrize("where", ["stream", "listing", "kickoff", "result"])
@pytest.mark.parametrize("renewed", [True, False])
async def test_err_06_a_key_that_is_refused_is_asked_for_once_more(
    w: Any, play: Any, where: str, *, renewed: bool, autojump_clock: MockClock
) -> None:
    """A credential that can be asked for again is refreshed once; what is refused twice is refused."""
    refusals = [w.Status(401)] * (1 if renewed else 9)
    ends = [w.run(), w.msg("m1", "hello"), w.idle("end")]
    match where:
        case "stream":
            script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.DROP)
            for refusal in refusals:
                script.stream(refusal)
            script.stream(w.OK, *ends[1:])
        case "listing":
            script = w.Script().stream(w.OK, w.Posts(1), w.user(id="p1"), w.DROP)
            for refusal in refusals:
                script.listing(refusal)
            script.listing([]).stream(w.OK, *ends).stream(w.OK, *ends)
        case "kickoff":
            script = w.Script().stream(w.OK, w.Posts(2), *ends).answers(*refusals)
        case _:
            script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"), w.Posts(3), *ends)
            script.answers(200, *refusals)
    asked = []

    async def key() -> str:
        asked.append(trio.current_time())
        return f"key-{len(asked)}"

    played = await play(script, client={"api_key": key}, check=False, reconnect=STEADY)
    refused = [r for r in played.served.server.requests if r.status == 401]
    if renewed:
        assert (played.error, len(refused)) == (None, 1)
        assert played.result.text == "hello"
    else:
        assert (type(played.error), len(refused)) == (maa.AuthenticationError, 2)
    assert len(played.notified) == 1


async def test_err_06_a_key_that_is_a_text_is_not_tried_again(w: Any, play: Any, autojump_clock: MockClock) -> None:
    played = await play(w.Script().stream(w.Status(401)), client={"api_key": "the-only-one"})
    assert type(played.error) is maa.AuthenticationError
    assert played.served.traffic == ["create", "stream"]


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("not_found_error", maa.SessionGone),
        ("permission_error", maa.PermissionDeniedError),
        ("invalid_request_error", maa.InvalidRequestError),
        ("authentication_error", None),  # the next stream asks for the credential again
        ("rate_limit_error", None),
        ("overloaded_error", None),
        ("timeout_error", None),
        ("api_error", None),
        ("made_up_error", None),
        ("", None),
    ],
)
async def test_err_06_an_error_frame_on_the_stream(
    w: Any, play: Any, kind: str, error: type[Exception] | None, autojump_clock: MockClock
) -> None:
    frame = w.frame({"type": "error", "error": {"type": kind, "message": "no more"}})
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "hello"), frame, w.HANG)
    played = await play(script.stream(w.OK, w.Pause(1.0), w.idle("end")), reconnect=STEADY)
    if error is None:
        assert (played.result.terminal, played.result.text, played.took) == ("end_turn", "hello", 1.5)
        assert played.stream_times == [0.0, 0.5]
    else:
        assert (type(played.error), played.took) == (error, 0.0)
        assert played.stream_times == [0.0]
