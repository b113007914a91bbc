"""Control while the stream is being reconnected: whatever is asked of the session is taken up at once, or refused.

The stage is always the same: a stream that broke, a server that asks for half a minute of patience, and a caller who
acts in the middle of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents

STEADY = maa.ReconnectPolicy(jitter=0.0)

# When, from the beginning, the server is asked again; the tests act ten seconds before.
BACK = 31.5
ACTS = 21.5


async def _long(*_args: Any) -> str:
    await trio.sleep(10_000.0)
    return "never wanted"


@dataclass
class Stage:
    """A live session in the middle of a wait.

    Attributes:
        served: Its server.
        session: The session.
        terminals: Its terminals.
        handler: Its handler.
        began: When the request began.
    """

    served: Any
    session: maa.Session
    terminals: trio.MemoryReceiveChannel[maa.SessionResult]
    handler: Any
    began: float

    @property
    def now(self) -> float:
        return round(trio.current_time() - self.began, 6)

    @property
    def posted(self) -> list[tuple[str, float]]:
        """Each input after the kickoff, and when it came."""
        script = self.served.script
        times = [round(at - self.began, 6) for at in script.post_times]
        return [(event["type"], at) for event, at in zip(script.posts, times, strict=True)][1:]


Open: TypeAlias = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def reconnecting(w: Any, serve: Any) -> Open:
    """`async with reconnecting(first, rest)`: a session whose request had these events, ten seconds before the rest."""

    @asynccontextmanager
    async def opened(first: list[Any], rest: list[Any], tool: Any = None, **options: Any) -> AsyncIterator[Stage]:
        script = w.Script().stream(w.OK, w.Posts(1), w.user(id="p1"), *first, w.Pause(1.0), w.DROP)
        script.stream(w.Status(503, {"retry-after": "30"})).stream(w.OK, *rest)
        handler = w.Recorder(tool)
        async with (
            serve(script) as served,
            maa.open_session(
                claude_managed_agents, handler=handler, reconnect=STEADY, **served.options, **options
            ) as session,
            session.subscribe() as terminals,
        ):
            began = trio.current_time()
            await session.message("go")
            await trio.sleep(ACTS)
            assert (session.status().phase, len(served.streams)) == ("reconnecting", 2)
            yield Stage(served, session, terminals, handler, began)
        assert handler.events == script.order

    return opened


# --- REC-18 -----------------------------------------------------------------------------------------------------------


async def test_rec_18_a_message_is_queued_at_once(w: Any, reconnecting: Open, autojump_clock: MockClock) -> None:
    rest = [w.Pause(5.0), w.msg("m1", "one"), w.idle("end"), w.Posts(2), w.run(), w.msg("m2", "two"), w.idle("end")]
    async with reconnecting([w.run()], rest) as stage:
        assert await stage.session.message("more") == "queued"
        assert (stage.now, stage.session.status().queued_messages) == (ACTS, 1)
        first, second = await stage.terminals.receive(), await stage.terminals.receive()
        assert stage.posted == [("user.message", BACK + 5.0)]
    assert (first.text, second.text) == ("one", "two")


async def test_rec_18_without_a_request_the_message_goes_out_when_the_stream_is_back(
    w: Any, reconnecting: Open, autojump_clock: MockClock
) -> None:
    rest = [w.Posts(2), w.run(), w.msg("m2", "two"), w.idle("end")]
    async with reconnecting([w.run(), w.msg("m1", "one"), w.idle("end")], rest) as stage:
        assert await stage.session.message("more") == "queued"
        assert stage.now == ACTS
        assert [(await stage.terminals.receive()).text for _ in range(2)] == ["one", "two"]
        assert stage.posted == [("user.message", BACK)]


async def test_rec_18_send_event_waits(w: Any, reconnecting: Open, autojump_clock: MockClock) -> None:
    sent = {"type": "made.up.input", "n": 1}
    async with reconnecting([w.run(), w.idle("end")], [w.Posts(2)]) as stage:
        echo = await stage.session.send_event(sent)
        assert (echo[0]["id"], stage.now, stage.posted) == ("p2", BACK, [("made.up.input", BACK)])


@pytest.mark.parametrize("call", ["send_event", "confirm", "ask"])
async def test_rec_18_what_its_caller_gave_up_waiting_for_is_never_sent(
    w: Any, reconnecting: Open, call: str, autojump_clock: MockClock
) -> None:
    args: dict[str, tuple[Any, ...]] = {
        "send_event": ({"type": "made.up.input"},),
        "confirm": ("b1", "allow"),
        "ask": ("more",),
    }
    first = [w.run(), w.builtin("b1", permission="ask"), w.idle("req", "b1")]
    async with reconnecting(first, [w.HANG]) as stage:
        with pytest.raises(trio.TooSlowError), trio.fail_after(2.0):
            await getattr(stage.session, call)(*args[call])
        assert stage.now == ACTS + 2.0
        await trio.sleep(60.0)
        assert stage.session.status().phase == "live"
        assert stage.posted == []
        assert stage.session.status().queued_messages == 0


async def test_rec_18_a_confirmation_waits(w: Any, reconnecting: Open, autojump_clock: MockClock) -> None:
    first = [w.run(), w.builtin("b1", permission="ask"), w.idle("req", "b1")]
    rest = [w.Posts(2), w.run(), w.msg("m1", "done"), w.idle("end")]
    async with reconnecting(first, rest) as stage:
        assert (await stage.terminals.receive()).terminal == "requires_action"
        await stage.session.confirm("b1", "allow")
        assert stage.posted == [("user.tool_confirmation", BACK)]
        assert (await stage.terminals.receive()).text == "done"


async def test_rec_18_an_interrupt_cancels_tools_at_once(w: Any, reconnecting: Open, autojump_clock: MockClock) -> None:
    first = [w.run(), w.ctu("u1"), w.idle("req", "u1")]
    async with reconnecting(first, [w.Posts(2), w.event("user.interrupt", id="p2"), w.idle("end")], _long) as stage:
        await stage.session.interrupt()
        assert [(c, round(at - stage.began, 6)) for c, at in stage.handler.cancelled] == [("u1", ACTS)]
        assert stage.posted == [("user.interrupt", BACK)]
        result = await stage.terminals.receive()
        assert (result.terminal, result.error, stage.now) == ("end_turn", None, BACK)
        await trio.sleep(60.0)
        assert stage.handler.call_ids == ["u1"]


async def test_rec_18_an_interrupt_of_what_was_over_is_not_sent(
    w: Any, reconnecting: Open, autojump_clock: MockClock
) -> None:
    async with reconnecting([w.run(), w.Missed(w.msg("m1", "done")), w.Missed(w.idle("end"))], [w.HANG]) as stage:
        await stage.session.interrupt()
        result = await stage.terminals.receive()
        assert (result.terminal, result.text, stage.now) == ("end_turn", "done", BACK)
        await trio.sleep(60.0)
        assert stage.posted == []


async def test_rec_18_stop_is_immediate(w: Any, reconnecting: Open, autojump_clock: MockClock) -> None:
    async with reconnecting([w.run(), w.ctu("u1"), w.idle("req", "u1")], [], _long) as stage:
        await stage.session.message("queued")
        await stage.session.stop()
        assert (stage.now, stage.session.status().phase) == (ACTS, "closed")
        heard = [result async for result in stage.terminals]
        assert [(told.terminal, told.error.type) for told in heard if told.error] == [("terminated", "ActorGone")] * 2
        await trio.sleep(60.0)
        assert [call_id for call_id, _at in stage.handler.cancelled] == ["u1"]
        assert (stage.posted, len(stage.served.streams)) == ([], 2)


async def test_rec_18_leaving_is_immediate(w: Any, reconnecting: Open, autojump_clock: MockClock) -> None:
    async with reconnecting([w.run(), w.ctu("u1"), w.idle("req", "u1")], [], _long) as stage:
        pass
    assert (stage.now, stage.session.status().phase) == (ACTS, "closed")
    assert [call_id for call_id, _at in stage.handler.cancelled] == ["u1"]
    assert stage.posted == []


async def test_rec_18_a_deadline_is_kept(w: Any, reconnecting: Open, autojump_clock: MockClock) -> None:
    rest = [w.Posts(2), w.event("user.interrupt", id="p2"), w.idle("end"), w.Posts(3), w.msg("m2", "two")]
    rest = [*rest, w.idle("end")]
    first = [w.run(), w.msg("m1", "partial"), w.ctu("u1"), w.idle("req", "u1")]
    async with reconnecting(first, rest, _long, timeout=25.0) as stage:
        result = await stage.terminals.receive()
        await wait_all_tasks_blocked()  # the tool is cancelled in the same instant, in whatever order
        assert stage.now == 25.0
        assert result.error is not None
        assert (type(result.error.exception), result.text) == (maa.SessionTimeout, "partial")
        assert [round(at - stage.began, 6) for _c, at in stage.handler.cancelled] == [25.0]
        # The provider is told to stop as soon as it can be told anything, and the session goes on.
        assert (await stage.session.ask("more")).text == "two"
        assert stage.posted == [("user.interrupt", BACK), ("user.message", BACK)]


async def test_rec_18_a_run_s_deadline_is_kept(w: Any, serve: Any, autojump_clock: MockClock) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.Pause(1.0), w.DROP)
    script.stream(w.Status(503, {"retry-after": "30"}))
    async with serve(script) as served:
        began = trio.current_time()
        with pytest.raises(maa.SessionTimeout):
            options = {"timeout": 5.0, "reconnect": STEADY, **served.options}
            await maa.run_session(claude_managed_agents, handler=w.Recorder(), prompt="go", **options)
        assert trio.current_time() - began == 5.0
    assert len(script.posts) == 1


@pytest.mark.parametrize("how", ["run", "open"])
async def test_rec_18_cancelling_is_immediate(w: Any, serve: Any, how: str, autojump_clock: MockClock) -> None:
    told, hears = trio.open_memory_channel[maa.SessionResult](10)
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"), w.Pause(1.0), w.DROP)
    script.stream(w.Status(503, {"retry-after": "30"}))
    handler = w.Recorder(_long)
    async with serve(script) as served:
        began = trio.current_time()
        with trio.move_on_after(ACTS):
            options = {"handler": handler, "prompt": "go", "reconnect": STEADY, "notify": told, **served.options}
            if how == "run":
                await maa.run_session(claude_managed_agents, **options)
            async with maa.open_session(claude_managed_agents, **options) as session:
                await session.wait_closed()
        assert round(trio.current_time() - began, 6) == ACTS
        assert [(c, round(at - began, 6)) for c, at in handler.cancelled] == [("u1", ACTS)]
        assert len(served.streams) == 2
    assert [result.terminal for result in [hears.receive_nowait()]] == ["terminated"]
    with pytest.raises((trio.WouldBlock, trio.EndOfChannel)):
        hears.receive_nowait()


async def test_rec_18_a_tool_that_ends_meanwhile_is_answered_when_the_stream_is_back(
    w: Any, reconnecting: Open, autojump_clock: MockClock
) -> None:
    async def tool(*_args: Any) -> str:
        await trio.sleep(ACTS + 3.0)
        return "r"

    rest = [w.Posts(2), w.res("u1", id="p2"), w.run(), w.msg("m1", "done"), w.idle("end")]
    async with reconnecting([w.run(), w.ctu("u1"), w.idle("req", "u1")], rest, tool) as stage:
        assert (await stage.terminals.receive()).text == "done"
        assert stage.posted == [("user.custom_tool_result", BACK)]
        assert stage.handler.call_ids == ["u1"]
