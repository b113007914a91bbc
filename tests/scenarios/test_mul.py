"""Several requests of one live session: one at a time, in order, each with an account and a terminal of its own."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import call_tool, open_claude_simulator, say, wait

STEADY = maa.ReconnectPolicy(jitter=0.0)


def _user(text: str) -> dict[str, Any]:
    return {"type": "user.message", "content": [{"type": "text", "text": text}]}


def _turn(w: Any, posts: int, number: int) -> list[Any]:
    return [w.Posts(posts), w.run(), w.msg(f"m{number}", f"answer {number}"), w.use(number, number), w.idle("end")]


# --- MUL-01 -----------------------------------------------------------------------------------------------------------


async def test_mul_01_message_before_attach(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(
        w.Pause(0.3), w.OK, w.Posts(1), w.Pause(1), w.run(), w.msg("m1", "one"), w.idle("end"), *_turn(w, 2, 2)
    )
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), prompt="go", **served.options) as session,
        session.subscribe() as terminals,
    ):
        began = trio.current_time()
        assert session.status().phase == "attaching"
        assert await session.message("meanwhile") == "queued"
        assert trio.current_time() == began
        assert (session.status().queued_messages, script.posts) == (2, [])
        first, second = await terminals.receive(), await terminals.receive()
        assert [round(at - began, 6) for at in script.post_times] == [0.3, 1.3]
        assert served.traffic == ["create", "stream", "user.message", "user.message"]
    assert script.posts == [_user("go"), _user("meanwhile")]
    assert (first.text, first.turns, second.text, second.turns) == ("one", 1, "answer 2", 1)


async def test_mul_01_without_a_kickoff_the_message_goes_first(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.Pause(0.3), w.OK, *_turn(w, 1, 1))
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
    ):
        result = await session.ask("first")
    assert (result.text, script.posts) == ("answer 1", [_user("first")])


async def test_mul_01_many_messages_keep_their_order(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    numbers = range(1, 11)
    script = w.Script().stream(w.Pause(0.3), w.OK, *(step for n in numbers for step in _turn(w, n, n)))
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
        session.subscribe() as terminals,
    ):
        assert {await session.message(str(n)) for n in numbers} == {"queued"}
        results = [await terminals.receive() for _ in numbers]
    assert [event["content"][0]["text"] for event in script.posts] == [str(n) for n in numbers]
    assert [(r.text, r.turns, r.usage.input_tokens) for r in results] == [(f"answer {n}", 1, n) for n in numbers]


# --- MUL-03 -----------------------------------------------------------------------------------------------------------


async def test_mul_03_message_mid_turn(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    """One request at a time, two results in order.

    The scenario speaks of a request/response provider; the property is the session's own, so it is shown with the
    streaming provider: a request takes 400 ms, and the second message comes after 100 ms.
    """
    script = w.Script().stream(
        *(w.OK, w.Posts(1), w.run(), w.Pause(0.4), w.msg("m1", "one"), w.idle("end")),
        *(w.Posts(2), w.run(), w.Pause(0.4), w.msg("m2", "two"), w.idle("end")),
    )
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), prompt="go", **served.options) as session,
        session.subscribe() as terminals,
    ):
        began = trio.current_time()
        await trio.sleep(0.1)
        assert session.status().busy
        assert await session.message("next") == "queued"
        assert round(trio.current_time() - began, 6) == 0.1
        first = await terminals.receive()
        at_first = round(trio.current_time() - began, 6)
        second = await terminals.receive()
        at_second = round(trio.current_time() - began, 6)
        assert not session.status().busy
    assert (at_first, at_second) == (0.4, 0.8)
    assert [round(at - began, 6) for at in script.post_times] == [0, 0.4]
    assert (first.text, second.text) == ("one", "two")


async def test_mul_03_two_asks_at_once_are_answered_each_by_its_own(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, *_turn(w, 1, 1), *_turn(w, 2, 2), *_turn(w, 3, 3))
    answers: dict[str, str] = {}
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
        trio.open_nursery() as nursery,
    ):

        async def ask(text: str) -> None:
            answers[text] = (await session.ask(text)).text

        for text in ("a", "b", "c"):
            nursery.start_soon(ask, text)
    sent = [event["content"][0]["text"] for event in script.posts]
    assert sorted(sent) == ["a", "b", "c"]
    assert answers == {text: f"answer {number}" for number, text in enumerate(sent, 1)}


async def test_mul_03_with_the_simulator(w: Any, autojump_clock: MockClock) -> None:
    handler = w.Recorder()
    async with (
        open_claude_simulator([[wait(0.4), call_tool("t"), say("one")], [say("two")]], transport="memory") as simulator,
        simulator.client() as client,
        maa.open_session(
            claude_managed_agents,
            handler=handler,
            prompt="go",
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
        ) as session,
        session.subscribe() as terminals,
    ):
        await trio.sleep(0.1)
        assert await session.message("next") == "queued"
        first, second = await terminals.receive(), await terminals.receive()
        log = simulator.session(session.session_id).events
    assert (first.text, first.turns, second.text, second.turns) == ("one", 2, "two", 1)
    assert [event["id"] for event in (*first.events, *second.events)] == [event["id"] for event in log]


# --- MUL-05 -----------------------------------------------------------------------------------------------------------


async def test_mul_05_a_message_resets_the_account(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    one = [w.run(), w.msg("m1", "let me see"), w.ctu("u1"), w.use(3, 4), w.idle("req", "u1")]
    two = [w.res("u1"), w.run(), w.msg("m2", "done"), w.use(1, 2), w.idle("end")]
    three = [w.run(), w.builtin("b1"), w.builtin_result("b1"), w.msg("m3", "other"), w.use(5, 6), w.idle("end")]
    handler = w.Recorder()
    script = w.Script().stream(w.OK, w.Posts(1), *one, w.Posts(2), *two, w.Posts(3), *three)
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=handler, **served.options) as session,
    ):
        first = await session.ask("go")
        deltas = "".join(handler.deltas)
        handler.deltas.clear()
        second = await session.ask("more")
        status = session.status()
    assert (first.text, first.last_text, first.turns) == ("let me see\ndone", "done", 2)
    assert (first.usage.input_tokens, first.usage.output_tokens) == (4, 6)
    assert [use.id for use in first.custom_tool_uses] == ["u1"]
    assert first.server_tool_uses == ()
    assert list(first.events) == one + two
    assert deltas == first.text
    assert (second.text, second.last_text, second.turns) == ("other", "other", 1)
    assert (second.usage.input_tokens, second.usage.output_tokens) == (5, 6)
    assert second.custom_tool_uses == ()
    assert [use.id for use in second.server_tool_uses] == ["b1"]
    assert list(second.events) == three
    assert "".join(handler.deltas) == second.text
    assert (status.turns, status.usage) == (1, second.usage)


@pytest.mark.parametrize("kind", ["user.message", "made.up.input"])
async def test_mul_05_a_turn_provoked_by_send_event_continues_the_account(
    w: Any, serve: Any, kind: str, autojump_clock: MockClock
) -> None:
    one = [w.run(), w.msg("m1", "one"), w.use(3, 4), w.idle("end")]
    two = [w.run(), w.msg("m2", "two"), w.use(1, 2), w.idle("end")]
    handler = w.Recorder()
    script = w.Script().stream(w.OK, w.Posts(1), *one, w.Posts(2), *two)
    sent = {"type": kind, "content": [{"type": "text", "text": "raw"}]}
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=handler, **served.options) as session,
        session.subscribe() as terminals,
    ):
        first = await session.ask("go")
        assert await session.send_event(sent) == [{"id": "p2", **sent, "processed_at": None}]
        assert await terminals.receive() == first
        second = await terminals.receive()
        with pytest.raises(trio.WouldBlock):
            terminals.receive_nowait()
    assert script.posts[1] == sent
    assert (first.text, first.turns) == ("one", 1)
    assert (second.text, second.last_text, second.turns) == ("one\ntwo", "two", 2)
    assert (second.usage.input_tokens, second.usage.output_tokens) == (4, 6)
    assert list(second.events) == one + two
    assert handler.events == one + two
    assert "".join(handler.deltas) == second.text


async def test_mul_05_a_provoked_turn_that_fails_has_its_terminal(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    new = [w.run(), w.user("raw"), w.err("exhausted"), w.idle("retries_exhausted")]
    script = w.Script().stream(w.OK, w.Posts(1), *new)
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
        session.subscribe() as terminals,
    ):
        await session.send_event(_user("raw"))
        with trio.fail_after(60):
            result = await terminals.receive()
    assert result.stop_reason == {"type": "retries_exhausted"}
    assert (result.turns, list(result.events)) == (1, new)


async def test_mul_05_previews_and_messages_make_up_the_text_once(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    handler = w.Recorder()
    script = w.Script().stream(
        *(w.OK, w.Posts(1), w.run(), *w.preview("m1", "let ", "me "), w.msg("m1", "let me see")),
        *(w.ctu("u1"), w.idle("req", "u1"), w.Posts(2), w.res("u1"), w.run()),
        *(*w.preview("m2", "do", "ne"), w.msg("m2", "done"), w.idle("end")),
    )
    async with serve(script) as served:
        result = await maa.run_session(
            claude_managed_agents, handler=handler, prompt="go", deltas=True, **served.options
        )
    assert (result.text, result.last_text) == ("let me see\ndone", "done")
    assert "".join(handler.deltas) == result.text
    assert len(handler.deltas) > 2


# --- MUL-06 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["message", "ask"])
async def test_mul_06_rejected_message(w: Any, serve: Any, how: str, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, *_turn(w, 1, 1), *_turn(w, 3, 2)).answers(200, 400)
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
        session.subscribe() as terminals,
    ):
        await session.ask("fine")
        with pytest.raises(maa.InvalidRequestError, match="refused with 400") as caught:
            await getattr(session, how)("bad")
        assert caught.value.status == 400
        status = session.status()
        assert (status.phase, status.busy, status.queued_messages) == ("live", False, 0)
        third = await session.ask("fine again")
        heard = [await terminals.receive() for _ in range(3)]
        with pytest.raises(trio.WouldBlock):
            terminals.receive_nowait()
    assert [event["content"][0]["text"] for event in script.posts] == ["fine", "bad", "fine again"]
    refused = heard[1]
    assert (refused.terminal, refused.turns, refused.resumable) == ("terminated", 0, True)
    assert refused.error is not None
    assert refused.error.type == "InvalidRequestError"
    assert isinstance(refused.error.exception, maa.InvalidRequestError)
    assert (third.text, heard[2]) == ("answer 2", third)


async def test_mul_06_a_rejected_message_does_not_hold_up_the_next(
    w: Any, serve: Any, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, *_turn(w, 2, 1)).answers((w.Pause(1), 400))
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
        session.subscribe() as terminals,
    ):
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:

                async def bad() -> None:
                    with pytest.raises(maa.InvalidRequestError):
                        await session.ask("bad")

                nursery.start_soon(bad)
                await trio.sleep(0.5)
                assert await session.message("good") == "queued"
            heard = [await terminals.receive(), await terminals.receive()]
    assert [result.text for result in heard] == ["", "answer 1"]
    assert [result.error is None for result in heard] == [False, True]


async def test_mul_06_a_rejected_kickoff_ends_the_start(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    script = w.Script().stream(w.OK).answers(400)
    async with serve(script) as served:
        began = trio.current_time()
        with pytest.raises(maa.InvalidRequestError, match="refused with 400"):
            async with maa.open_session(
                claude_managed_agents, handler=w.Recorder(), prompt="go", notify=told, **served.options
            ) as session:
                await session.wait_closed()
        assert trio.current_time() == began
    heard = hears.receive_nowait()
    assert heard.error is not None
    assert (heard.error.type, heard.terminal) == ("InvalidRequestError", "terminated")
    with pytest.raises((trio.WouldBlock, trio.EndOfChannel)):
        hears.receive_nowait()
    assert script.posts == [_user("go")]


async def test_mul_06_a_rejected_kickoff_ends_a_run(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK).answers(400)
    async with serve(script) as served:
        with pytest.raises(maa.InvalidRequestError, match="refused with 400"):
            await maa.run_session(claude_managed_agents, handler=w.Recorder(), prompt="go", **served.options)
    assert script.posts == [_user("go")]


@pytest.mark.parametrize("code", [400, 413, 422])
async def test_mul_06_a_queued_message_that_is_rejected_is_told_to_the_subscribers(
    w: Any, serve: Any, code: int, autojump_clock: MockClock
) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.Pause(5), *_turn(w, 1, 1)[1:], *_turn(w, 3, 3)).answers(200, code)
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), **served.options) as session,
        session.subscribe() as terminals,
    ):
        await session.message("fine")
        assert await session.message("bad") == "queued"
        assert await session.message("fine again") == "queued"
        heard = [await terminals.receive() for _ in range(3)]
        await trio.sleep(60)
        with pytest.raises(trio.WouldBlock):
            terminals.receive_nowait()
        assert session.status().phase == "live"
    assert [result.text for result in heard] == ["answer 1", "", "answer 3"]
    assert [result.error and type(result.error.exception) for result in heard] == [None, maa.InvalidRequestError, None]
    assert [event["content"][0]["text"] for event in script.posts] == ["fine", "bad", "fine again"]


# --- MUL-07 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["message", "ask"])
@pytest.mark.parametrize("answer", ["LOST", 500])
async def test_mul_07_ambiguous_message_that_was_taken(
    w: Any, serve: Any, how: str, answer: Any, autojump_clock: MockClock
) -> None:
    shown = w.user("maybe")
    past = [w.run(), w.msg("m1", "one"), w.idle("end")]
    new = [shown, w.run(), w.msg("m2", "two"), w.idle("end")]
    lost = w.LOST if answer == "LOST" else w.Status(500)
    script = w.Script().stream(w.OK, w.Posts(1), *past, w.Posts(2), w.Pause(5), *new)
    script.answers(200, lost).listing([*past, shown])
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), reconnect=STEADY, **served.options) as session,
        session.subscribe() as terminals,
    ):
        first = await session.ask("go")
        began = trio.current_time()
        if how == "message":
            assert await session.message("maybe") == "delivered"
            assert trio.current_time() - began == 0.5  # the first delay, then the look
        else:
            await session.ask("maybe")
        assert await terminals.receive() == first
        second = await terminals.receive()
        assert trio.current_time() - began == 5
        assert len(served.listings) == 1
    assert [event["content"][0]["text"] for event in script.posts] == ["go", "maybe"]
    assert (second.text, second.turns, list(second.events)) == ("two", 1, new)


@pytest.mark.parametrize("how", ["message", "ask"])
async def test_mul_07_ambiguous_message_that_was_not_taken(
    w: Any, serve: Any, how: str, autojump_clock: MockClock
) -> None:
    past = [w.run(), w.msg("m1", "one"), w.idle("end")]
    new = [w.user("maybe"), w.run(), w.msg("m2", "two"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *past, w.Posts(3), *new).answers(200, w.LOST).listing(past)
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), reconnect=STEADY, **served.options) as session,
        session.subscribe() as terminals,
    ):
        await session.ask("go")
        began = trio.current_time()
        sent = await getattr(session, how)("maybe")
        assert round(trio.current_time() - began, 6) == 0.5
        await terminals.receive()
        second = await terminals.receive()
        await trio.sleep(60)
        with pytest.raises(trio.WouldBlock):
            terminals.receive_nowait()
    assert sent == ("delivered" if how == "message" else second)
    assert [event["content"][0]["text"] for event in script.posts] == ["go", "maybe", "maybe"]
    assert (second.text, second.turns, list(second.events)) == ("two", 1, new)


@pytest.mark.parametrize("taken", [True, False])
async def test_mul_07_an_older_message_of_the_same_words_is_no_sign(
    w: Any, serve: Any, *, taken: bool, autojump_clock: MockClock
) -> None:
    past = [w.user("again", id="p1"), w.run(), w.msg("m1", "one"), w.idle("end")]
    new = [w.user("again", id="p2" if taken else "p3"), w.run(), w.msg("m2", "two"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *past, w.Posts(2 if taken else 3), w.Pause(5), *new)
    script.answers(200, w.LOST).listing([*past, *new[:1]] if taken else past)
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), reconnect=STEADY, **served.options) as session,
    ):
        first = await session.ask("again")
        second = await session.ask("again")
    assert len(script.posts) == (2 if taken else 3)
    assert (first.text, list(first.events)) == ("one", past)
    assert (second.text, list(second.events)) == ("two", new)


@pytest.mark.parametrize("taken", [True, False])
async def test_mul_07_the_stream_is_lost_with_the_answer(
    w: Any, serve: Any, *, taken: bool, autojump_clock: MockClock
) -> None:
    past = [w.user("go", id="p1"), w.run(), w.msg("m1", "one"), w.idle("end")]
    new = [w.user("maybe", id="p2" if taken else "p3"), w.run(), w.msg("m2", "two"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), *past, w.Posts(2), w.DROP).answers(200, w.LOST)
    script.listing([*past, *new[:2]] if taken else past)
    script.stream(w.OK, *(new[2:] if taken else [w.Posts(3), *new]))
    async with (
        serve(script) as served,
        maa.open_session(claude_managed_agents, handler=w.Recorder(), reconnect=STEADY, **served.options) as session,
        session.subscribe() as terminals,
    ):
        await session.ask("go")
        second = await session.ask("maybe")
        await trio.sleep(60)
        assert [(await terminals.receive()).text for _ in range(2)] == ["one", "two"]
        with pytest.raises(trio.WouldBlock):
            terminals.receive_nowait()
    assert len(script.posts) == (2 if taken else 3)
    assert list(second.events) == new
