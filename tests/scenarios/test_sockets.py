"""The core of the scenarios over real sockets and in real time: a reset is a reset, and a silent peer says nothing.

What takes time takes a hundredth of a second; no test here measures more than that something did not wait for long.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents

QUICK = maa.ReconnectPolicy(initial=0.01, max=0.02)

# Seconds in which anything here must be over, on a machine that does other things too.
SOON = 20.0


@pytest.fixture
def play_over_sockets(play: Any) -> Callable[..., Awaitable[Any]]:
    """`play`, over loopback sockets and with delays that are short."""

    async def player(script: Any, *, client: Any = None, **options: Any) -> Any:
        with trio.fail_after(SOON):
            return await play(
                script, client={"transport": "loopback", **(client or {})}, **{"reconnect": QUICK, **options}
            )

    return player


async def test_rec_01_terminal_missed_during_the_drop(w: Any, play_over_sockets: Any) -> None:
    missed = [w.msg("m1", "hello"), w.use(10, 5), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP).listing(missed).stream(w.OK, w.HANG)
    played = await play_over_sockets(script)
    assert (played.result.terminal, played.result.text, played.result.usage.input_tokens) == ("end_turn", "hello", 10)
    assert list(played.result.events) == missed
    assert played.served.traffic == ["create", "stream", "user.message", "stream", "list"]


async def test_rec_03_tool_call_and_its_idle_both_missed(w: Any, play_over_sockets: Any) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP).listing([w.ctu("u1"), w.idle("req", "u1")])
    script.stream(w.OK, w.Posts(2), w.idle("end"))
    played = await play_over_sockets(script)
    assert (played.result.terminal, played.result.turns, played.handler.call_ids) == ("end_turn", 2, ["u1"])
    assert played.served.traffic == ["create", "stream", "user.message", "stream", "list", "user.custom_tool_result"]


async def test_rec_08_overlap_cut_into_single_bytes(w: Any, play_over_sockets: Any) -> None:
    five = [w.run(), w.msg("m1", "öne"), w.event("session.updated"), w.msg("m2", "two"), w.use(1, 2)]
    idle = w.idle("end")
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP).listing(five[:2], five[2:])
    frames = b"".join(map(w.frame, [*five, five[0]]))
    script.stream(w.OK, *(frames[at : at + 1] for at in range(len(frames))), idle)
    played = await play_over_sockets(script)
    assert list(played.result.events) == [*five, idle]
    assert played.result.text.split() == ["öne", "two"]


async def test_rec_09_nothing_is_posted_while_detached(w: Any, play_over_sockets: Any) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.DROP)
    script.listing(w.Pause(0.02), [w.ctu("u1")], w.Pause(0.02), [w.idle("req", "u1")])
    script.stream(w.Pause(0.02), w.OK, w.Posts(2), w.idle("end"))
    played = await play_over_sockets(script)
    assert played.served.traffic[3:] == ["stream", "list", "list", "user.custom_tool_result"]
    assert script.post_times[1] - played.served.streams[1].at >= 0.06


async def test_rec_14_silence(w: Any, play_over_sockets: Any) -> None:
    missed = [w.msg("m1", "hello"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), *map(w.Missed, missed), w.HANG).stream(w.OK)
    played = await play_over_sockets(script, client={"idle_timeout": 0.05})
    assert (played.result.terminal, played.result.text) == ("end_turn", "hello")
    assert len(played.served.streams) == 2


@pytest.mark.parametrize("ending", ["DROP", "EOF"])
async def test_rec_17_attach_flapping(w: Any, play_over_sockets: Any, ending: str) -> None:
    script = w.Script()
    for _ in range(8):
        script.stream(w.OK, getattr(w, ending))
    script.stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "hello"), w.idle("end"))
    played = await play_over_sockets(script)
    assert (played.result.text, len(played.script.posts), len(played.served.streams)) == ("hello", 1, 9)


async def test_rec_18_control_while_reconnecting(w: Any, serve: Any) -> None:
    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.DROP).stream(w.Status(503, {"retry-after": "30"}))
    policy = maa.ReconnectPolicy(initial=0.01)
    with trio.fail_after(SOON):
        async with (
            serve(script, transport="loopback") as served,
            maa.open_session(
                claude_managed_agents, handler=w.Recorder(), reconnect=policy, **served.options
            ) as session,
            session.subscribe() as terminals,
        ):
            await session.message("go")
            while len(served.streams) < 2 or session.status().phase != "reconnecting":
                await trio.lowlevel.checkpoint()
            assert await session.message("more") == "queued"
            await session.stop()
            heard = [result async for result in terminals]
            assert [result.error.type for result in heard if result.error] == ["ActorGone"] * 2
            assert len(script.posts) == 1


@pytest.mark.parametrize("where", ["stream", "listing", "post", "deleted"])
async def test_err_06_gone(w: Any, play_over_sockets: Any, where: str) -> None:
    script = w.Script()
    match where:
        case "stream":
            script.stream(w.OK, w.Posts(1), w.run(), w.EOF).stream(w.Status(410))
        case "listing":
            script.stream(w.OK, w.Posts(1), w.DROP).stream(w.OK).listing(w.Status(404))
        case "post":
            script.stream(w.OK).answers(404)
        case _:
            script.stream(w.OK, w.Posts(1), w.run(), w.deleted(), w.EOF)
    played = await play_over_sockets(script)
    assert type(played.error) is maa.SessionGone
    assert [told.resumable for told in played.notified] == [False]


async def test_err_08_refused_for_now(w: Any, play_over_sockets: Any) -> None:
    later = w.Status(429, {"retry-after-ms": "10"})
    script = w.Script().stream(later).stream(later).stream(w.Status(503))
    script.stream(w.OK, w.Posts(4), w.run(), w.msg("m1", "hello"), w.idle("end")).answers(529, 529, later)
    played = await play_over_sockets(script)
    assert (played.result.text, len(played.script.posts), len(played.served.streams)) == ("hello", 4, 4)


@pytest.mark.parametrize("taken", [True, False])
async def test_mul_07_ambiguous_message(w: Any, play_over_sockets: Any, *, taken: bool) -> None:
    shown = w.user(id="p1")
    rest = [w.run(), w.msg("m1", "hello"), w.idle("end")]
    script = w.Script().stream(w.OK, w.Posts(1 if taken else 2), *rest).answers(w.LOST)
    script.listing([shown] if taken else [])
    played = await play_over_sockets(script, check=False)
    assert (played.result.text, len(played.script.posts)) == ("hello", 1 if taken else 2)
    assert len(played.notified) == 1


async def test_lif_01_deadline_while_a_tool_hangs(w: Any, play_over_sockets: Any) -> None:
    async def tool(*_args: Any) -> str:
        await trio.sleep_forever()
        raise AssertionError

    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.msg("m1", "partial"), w.ctu("u1"), w.idle("req", "u1"))
    played = await play_over_sockets(script, handler=w.Recorder(tool), timeout=0.2)
    assert type(played.error) is maa.SessionTimeout
    assert (played.error.result.text, [call for call, _at in played.handler.cancelled]) == ("partial", ["u1"])
    assert [event["type"] for event in script.posts] == ["user.message", "user.interrupt"]


@pytest.mark.parametrize("how", ["run", "open"])
async def test_lif_04_caller_cancelled(w: Any, serve: Any, how: str) -> None:
    called = trio.Event()

    async def tool(*_args: Any) -> str:
        called.set()
        await trio.sleep_forever()
        raise AssertionError

    script = w.Script().stream(w.OK, w.Posts(1), w.run(), w.ctu("u1"), w.idle("req", "u1"))
    handler = w.Recorder(tool)

    async def talk(options: dict[str, Any]) -> None:
        if how == "run":
            await maa.run_session(claude_managed_agents, **options)
        async with maa.open_session(claude_managed_agents, **options) as session:
            await session.wait_closed()

    with trio.fail_after(SOON):
        async with serve(script, transport="loopback") as served:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk, {"handler": handler, "prompt": "go", **served.options})
                await called.wait()
                assert script.open_streams == 1
                nursery.cancel_scope.cancel()
            assert [call_id for call_id, _at in handler.cancelled] == ["u1"]
            while script.open_streams:  # until the server has heard of it
                await trio.lowlevel.checkpoint()
            assert len(script.posts) == 1
