"""Whoever waits for a session goes on waiting when its actor crashes, and is answered by the next one."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.testing import (
    CrashSession,
    Delay,
    DelayAnswer,
    DropStream,
    Fault,
    FaultPlan,
    LoseAnswer,
    LoseRequest,
    RecordingHandler,
    RefuseWith,
    Turn,
    assert_exactly_once,
    call_tool,
    crash_session,
    say,
    wait,
)

from ..channels import drained
from ._supervised import Defect, crash, created, start

MESSAGE = "user.message"


async def echo_slowly(turn: Turn) -> None:
    """An agent that says what it was told, after half a second."""
    await turn.wait(0.5)
    await turn.say(turn.text)


# --- what was on its way ----------------------------------------------------------------------------------------------

# A message is posted; the actor crashes before it can know whether it was taken. A crash breaks the connection.
ON_ITS_WAY = {
    "it was not taken yet": [Fault(on="send_events", sending=MESSAGE, action=CrashSession())],
    "it was taken": [Fault(on="send_events", sending=MESSAGE, action=CrashSession(when="after"))],
    "it was lost": [Fault(on="send_events", sending=MESSAGE, action=LoseRequest())],
    "its answer was lost": [Fault(on="send_events", sending=MESSAGE, action=LoseAnswer())],
    "it was refused for now": [Fault(on="send_events", sending=MESSAGE, action=RefuseWith(429, retry_after=5.0))],
}


@pytest.mark.parametrize("as_what", ["ask", "message", "kickoff", "event"])
@pytest.mark.parametrize("what", ON_ITS_WAY)
async def test_a_message_is_posted_once(what: str, as_what: str, simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan(ON_ITS_WAY[what])
    async with simulate(echo_slowly, faults=plan) as place, maa.open_supervisor() as supervisor:
        notify, notified = trio.open_memory_channel[maa.SessionResult](10)
        options = {"prompt": "Hello"} if as_what == "kickoff" else {}
        session = await start(supervisor, place, notify=notify, **options)
        plan.bind(session)
        match as_what:
            case "ask":
                await session.ask("Hello")
            case "message":
                await session.message("Hello")
            case "event":
                await session.send_event({"type": MESSAGE, "content": [{"type": "text", "text": "Hello"}]})
        await trio.sleep(0.1)
        crash(session)  # of a message that was lost or refused, the next try is not due yet
        await trio.sleep(100.0)
        (result,) = drained(notified)
        assert len(plan.fired) == 1
        assert (result.terminal, result.text) == ("end_turn", "Hello")
        assert [event["type"] for event in place.inputs(session)] == [MESSAGE]
        assert created(place.simulator) == 1
        assert_exactly_once(place.simulator, result)


async def test_a_crash_before_the_first_event(simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="stream", action=Delay(2.0))])
    async with simulate([[say("Hello.")]], faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, prompt="go")
        async with session.subscribe() as terminals:
            await trio.sleep(1.0)
            crash(session)
            result = await terminals.receive()
        assert_exactly_once(place.simulator, result, messages=["go"])
        assert created(place.simulator) == 1


# Where the actor that takes over is struck, in turn.
WHILE = {
    "it attaches": Fault(on="stream", nth=2, times=3, action=CrashSession()),
    "it reads the history": Fault(on="list_events", times=3, action=CrashSession()),
    "it has read the history": Fault(on="list_events", times=3, action=CrashSession(when="after")),
}


@pytest.mark.parametrize("what", WHILE)
async def test_a_crash_while_the_next_actor_takes_over(what: str, simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([WHILE[what], Fault(on="list_events", nth="every", action=DelayAnswer(0.2))])
    handler = RecordingHandler()
    script = [[say("One."), call_tool("t"), wait(1.0), say("Two.")], [say("Bye.")]]
    async with simulate(script, faults=plan) as place:
        async with maa.open_supervisor(max_restarts=5) as supervisor:
            session = await start(supervisor, place, handler)
            plan.bind(session)
            async with session.subscribe() as terminals:
                await session.message("go")
                await trio.sleep(0.5)
                crash(session)
                results = [await terminals.receive(), await session.ask("on")]
            assert session.status().restarts == 4
        assert_exactly_once(place.simulator, *results, handler=handler, messages=["go", "on"])


async def test_a_crash_while_the_stream_is_being_reconnected(simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan(
        [
            Fault(on="stream", action=DropStream(after_type="agent.message")),
            Fault(on="stream", nth=2, times=20, action=RefuseWith(503)),  # more than three seconds bring
        ]
    )
    handler = RecordingHandler()
    async with simulate([[say("One."), wait(5.0), say("Two.")]], faults=plan) as place:
        async with maa.open_supervisor() as supervisor:
            session = await start(supervisor, place, handler)
            async with session.subscribe() as terminals:
                await session.message("go")
                for _ in range(3):
                    await trio.sleep(1.0)
                    assert session.status().phase == "reconnecting"
                    crash(session)
                result = await terminals.receive()
        assert_exactly_once(place.simulator, result, handler=handler)


# --- who waits --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75])
async def test_everybody_is_answered_by_their_own_answer(
    moment: float, simulate: Any, autojump_clock: MockClock
) -> None:
    questions = ["one", "two", "three", "four"]
    answers: list[tuple[str, str]] = []
    async with simulate(echo_slowly) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place)
        async with session.subscribe() as terminals:
            async with trio.open_nursery() as nursery:

                async def ask(question: str) -> None:
                    answers.append((question, (await session.ask(question)).text))

                for question in questions:
                    nursery.start_soon(ask, question)
                    await wait_all_tasks_blocked()
                await trio.sleep(moment)
                crash(session)
            await wait_all_tasks_blocked()
            heard = drained(terminals)
        assert answers == [(question, question) for question in questions]
        assert [result.text for result in heard] == questions


async def test_mail_that_arrives_between_two_actors_is_not_lost(simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="stream", nth=2, action=Delay(3.0))])
    async with simulate(echo_slowly, faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place)
        await session.ask("one")
        crash(session)
        sent = []
        async with trio.open_nursery() as nursery, session.subscribe() as terminals:

            async def send(text: str) -> None:
                sent.append(await session.message(text))

            nursery.start_soon(send, "two")
            await wait_all_tasks_blocked()
            assert session.status().phase != "live"
            nursery.start_soon(send, "three")
            assert [(await terminals.receive()).text for _ in range(2)] == ["two", "three"]
        assert sent == ["queued", "queued"]


async def test_a_full_queue_stays_full_and_loses_nothing(simulate: Any, autojump_clock: MockClock) -> None:
    limit = 256
    async with simulate(echo_slowly) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place)
        async with session.subscribe() as terminals:
            await session.message("first")
            await trio.sleep(0.1)
            texts = [str(number) for number in range(limit)]
            for text in texts:
                assert await session.message(text) == "queued"
            crash(session)
            await trio.sleep(0.1)
            with pytest.raises(maa.MailboxFull):
                await session.message("one too many")
            assert session.status().queued_messages == limit
            heard = [(await terminals.receive()).text for _ in range(limit + 1)]
        assert heard == ["first", *texts]


@pytest.mark.parametrize("order", ["cancelled, crashed", "crashed, cancelled"])
async def test_what_its_caller_gave_up_is_never_sent(order: str, simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate(echo_slowly) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place)
        async with trio.open_nursery() as nursery:
            await session.message("one")
            await trio.sleep(0.2)
            nursery.start_soon(session.ask, "given up")
            await wait_all_tasks_blocked()
            if order == "crashed, cancelled":
                crash(session)
            nursery.cancel_scope.cancel()
        if order == "cancelled, crashed":
            crash(session)
        assert (await session.ask("two")).text == "two"
        said = [event["content"][0]["text"] for event in place.inputs(session)]
        assert said == ["one", "two"]


CALLS: dict[str, Callable[[maa.Session], Awaitable[Any]]] = {
    "ask": lambda session: session.ask("x"),
    "message": lambda session: session.message("x"),
    "send_event": lambda session: session.send_event({"type": MESSAGE, "content": [{"type": "text", "text": "x"}]}),
    "interrupt": lambda session: session.interrupt(),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_call_under_way_is_answered(when: Any, call: str, simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="send_events", nth=2, action=CrashSession(when=when))])
    async with simulate([[wait(1.0), say("1")], [say("2")]], faults=plan) as place:
        async with maa.open_supervisor() as supervisor:
            session = await start(supervisor, place)
            plan.bind(session)
            await session.message("go")
            await trio.sleep(0.5)
            await CALLS[call](session)
            await trio.sleep(100.0)
            assert session.status().restarts == 1
            assert not session.status().busy
        kinds = [event["type"] for event in place.inputs(session)]
        assert kinds == [MESSAGE, "user.interrupt" if call == "interrupt" else MESSAGE]


# --- who watches ------------------------------------------------------------------------------------------------------


async def test_readers_and_subscribers_do_not_notice(simulate: Any, autojump_clock: MockClock) -> None:
    script = [[say("One.", pace=0.1), call_tool("t"), wait(1.0), say("Two.", pace=0.1)]]
    async with simulate(script) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, name="one", deltas=True)
        notify: list[maa.SessionResult] = []
        async with session.events() as feed, session.subscribe() as first, session.subscribe() as second:
            await session.message("go")
            for _ in range(3):
                await trio.sleep(0.4)
                crash(session)
            notify += [await first.receive(), await second.receive()]
            await supervisor.terminate_child("one")
            events = [event async for event in feed]
            assert (drained(first), drained(second)) == ([], [])
        assert notify[0] == notify[1]
        deltas = [event["text"] for event in events if event["type"] == "managed_agents.text_delta"]
        others = [event for event in events if event["type"] != "managed_agents.text_delta"]
        assert others == list(place.look(session).events)
        assert "".join(deltas) == notify[0].text == "One.\nTwo."


async def test_the_deadline_of_a_request_goes_on_running(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([[wait(100.0)]]) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place, timeout=5.0)
        async with trio.open_nursery() as nursery:

            async def crashes() -> None:
                for _ in range(2):
                    await trio.sleep(2.0)
                    crash(session)

            began = trio.current_time()
            nursery.start_soon(crashes)
            with pytest.raises(maa.SessionTimeout):
                await session.ask("go")
            assert trio.current_time() - began == 5.0
        assert session.status().restarts == 2


async def test_status_tells_of_restarts(simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="stream", nth=2, action=Delay(1.0))])
    async with simulate([[say("One."), wait(5.0)]], faults=plan) as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place)
        await session.message("go")
        await trio.sleep(0.5)
        before = session.status()
        crash(session)
        await trio.sleep(0.5)
        during = session.status()
        await trio.sleep(1.0)
        after = session.status()
    assert [status.restarts for status in (before, during, after)] == [0, 1, 1]
    assert [status.phase == "live" for status in (before, during, after)] == [True, False, True]
    assert [status.busy for status in (before, during, after)] == [True, True, True]
    assert {status.session_id for status in (before, during, after)} == {session.session_id}
    assert after.usage == before.usage


# --- whose context it is ----------------------------------------------------------------------------------------------

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


async def test_nothing_of_whoever_starts_a_session_gets_into_it(simulate: Any, autojump_clock: MockClock) -> None:
    seen: dict[str, set[str]] = {"tool": set(), "event": set(), "guard": set()}

    class Curious:
        async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
            seen["tool"].add(who.get())
            return "r"

        async def handle_event(self, event: dict[str, Any], context: maa.EventContext) -> None:
            seen["event"].add(who.get())

    def guard(turn: maa.TurnResult) -> None:
        seen["guard"].add(who.get())

    script = [[call_tool("t"), say("1")], [call_tool("t"), say("2")]]
    async with simulate(script) as place:
        who.set("the supervisor's owner")
        async with maa.open_supervisor() as supervisor:
            who.set("the starter")
            session = await start(supervisor, place, Curious(), turn_guard=guard)
            await session.ask("go")
            crash(session)
            await session.ask("on")
            await supervisor.terminate_child(str(session.name))
            who.set("the restarter")
            await supervisor.restart_child(str(session.name))
            await session.ask("again")
    assert seen == {what: {"the supervisor's owner"} for what in seen}


# --- defects ----------------------------------------------------------------------------------------------------------


async def test_an_actor_that_is_not_there_cannot_crash(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place, maa.open_supervisor() as supervisor:
        session = await start(supervisor, place)
        await session.stop()
        with pytest.raises(maa.ActorGone):
            crash_session(session, Defect())
