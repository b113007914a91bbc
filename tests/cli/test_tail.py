"""Following a session: each event once, in the order of the log, whatever becomes of the stream; and only by reading.

What is shown of a log is tried over in-memory streams and virtual time; the command itself runs on loopback.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors._cli import main
from managed_agents_actors._cli.tail import Tail, follow
from managed_agents_actors.claude import ClaudeClient
from managed_agents_actors.testing import (
    ClaudeSimulator,
    Delay,
    DeleteSession,
    DropStream,
    EndStream,
    Fault,
    FaultPlan,
    GarbageFrame,
    RefuseWith,
    RepeatEvents,
    RotateKey,
    StallStream,
    builtin,
    call_tool,
    open_claude_simulator,
    open_wire_server,
    say,
    wait,
)

from .conftest import API_KEY, Done

RECONNECT = maa.ReconnectPolicy(initial=1.0, max=8.0, jitter=0.0)
ENDED = "the stream ended; trying again in 1.0 s"
BACK = "the stream is back"


@dataclass
class Scene:
    """A session at a simulator, and what was shown and told of it."""

    simulator: ClaudeSimulator
    client: ClaudeClient
    session_id: str
    shown: list[dict[str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    @property
    def log(self) -> list[dict[str, Any]]:
        return list(self.simulator.session(self.session_id).events)

    @property
    def listings(self) -> list[str | None]:
        """From when on each listing was asked for."""
        asked = [each for each in self.simulator.requests if each.path.endswith("/events") and each.method == "GET"]
        return [next(iter(each.query.get("created_at[gte]", ())), None) for each in asked]

    async def send(self, text: str) -> None:
        event = {"type": "user.message", "content": [{"type": "text", "text": text}]}
        await self.client.sessions.events.send(self.session_id, [event])

    async def talk(self, *texts: str) -> None:
        """Have the turns of these messages, one after the other."""
        for text in texts:
            await self.talk_at_once(text)
            await trio.sleep(5)

    async def talk_at_once(self, text: str) -> None:
        """Have a turn, and go on as soon as it has ended."""
        await self.send(text)
        await self.simulator.wait_idle(self.session_id)

    async def end(self) -> None:
        await self.client.sessions.archive(self.session_id)

    async def follow(self, **options: Any) -> None:
        tail = Tail(session_id=self.session_id, **options)
        with trio.fail_after(3600):
            await follow(self.client, tail, self.shown.append, self.told.append, reconnect=RECONNECT)

    async def run(self, *arguments: str) -> Done:
        """Follow it by the command line, as a process of its own."""
        run = await trio.run_process(self.line(*arguments), capture_stdout=True, capture_stderr=True, check=False)
        return Done(run.returncode, run.stdout.decode(), run.stderr.decode())

    def line(self, *arguments: str) -> list[str]:
        place = ["--base-url", self.simulator.base_url]
        return [
            sys.executable,
            "-W",
            "error",
            "-m",
            "managed_agents_actors",
            "tail",
            self.session_id,
            *arguments,
            *place,
        ]


@asynccontextmanager
async def open_scene(script: Any = None, *faults: Fault, **options: Any) -> AsyncIterator[Scene]:
    """A session, in memory unless the options of the simulator say otherwise."""
    options = {"transport": "memory", **options}
    async with (
        open_claude_simulator(script, faults=FaultPlan(faults), **options) as simulator,
        simulator.client() as client,
    ):
        made = await client.sessions.create(agent=simulator.agent_id, environment_id=simulator.environment_id)
        yield Scene(simulator, client, made["id"])


# --- what is shown ----------------------------------------------------------------------------------------------------


async def test_all_that_is_there_and_all_that_comes_is_shown_once_and_in_order(autojump_clock: MockClock) -> None:
    async with open_scene() as scene, trio.open_nursery() as nursery:
        await scene.talk("before", "too")
        nursery.start_soon(lambda: scene.follow(lines=None))
        await scene.talk("after", "more")
        await scene.end()
    assert scene.shown == scene.log
    assert scene.shown[-1]["type"] == "session.status_terminated"
    assert scene.told == []


@pytest.mark.parametrize("lines", [0, 1, 3, 1000])
async def test_the_last_events_come_first_and_then_what_follows(lines: int, autojump_clock: MockClock) -> None:
    async with open_scene() as scene, trio.open_nursery() as nursery:
        await scene.talk("before")
        before = scene.log
        nursery.start_soon(lambda: scene.follow(lines=lines))
        await trio.sleep(1)
        assert scene.shown == before[max(0, len(before) - lines) :]
        await scene.talk("after")
        await scene.end()
    assert scene.shown == scene.log[max(0, len(before) - lines) :]


async def test_what_is_there_is_all_if_nothing_is_waited_for(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        await scene.talk("before")
        await scene.follow(lines=None, follow=False)
        assert scene.shown == scene.log
        assert [each.path for each in scene.simulator.requests][-1] == f"/v1/sessions/{scene.session_id}/events"


async def test_types_are_patterns_and_the_last_events_are_of_these_types(autojump_clock: MockClock) -> None:
    async with open_scene([[say("one"), builtin("look")], [say("two")]]) as scene, trio.open_nursery() as nursery:
        await scene.talk("first")
        nursery.start_soon(lambda: scene.follow(lines=3, types=("user.message", "agent.*")))
        await trio.sleep(1)
        await scene.talk("second")
        await scene.end()
    types = ["agent.message", "agent.tool_use", "agent.tool_result", "user.message", "agent.message"]
    assert [event["type"] for event in scene.shown] == types


async def test_nothing_is_sent_to_the_session(autojump_clock: MockClock) -> None:
    async with open_scene([[call_tool("look")]]) as scene, scene.simulator.client() as other:
        await scene.send("look")
        reader = Scene(scene.simulator, other, scene.session_id)
        before = len(scene.simulator.requests)
        with trio.move_on_after(60):
            await reader.follow()
        paths = [f"{each.method} {each.path}" for each in scene.simulator.requests[before:]]
        place = f"GET /v1/sessions/{scene.session_id}"
        assert paths == [f"{place}/events/stream", place, f"{place}/events"]
        assert reader.shown[-1]["stop_reason"]["type"] == "requires_action"


@pytest.mark.parametrize("deltas", [False, True])
async def test_what_is_being_written_is_shown_if_that_is_asked_for(deltas: bool, autojump_clock: MockClock) -> None:
    async with open_scene([[say("one two", pace=0.1)]]) as scene, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: scene.follow(deltas=deltas, types=("agent.message",)))
        await trio.sleep(1)
        await scene.talk("go on")
        await scene.end()
    previews = ["event_start", "event_delta", "event_delta"]
    assert [event["type"] for event in scene.shown] == [*(previews if deltas else ()), "agent.message"]


async def test_what_was_being_written_and_is_listed_is_shown_whole(autojump_clock: MockClock) -> None:
    slow = Fault(on="list_events", action=Delay(5))
    async with open_scene([[say("one two")]], slow) as scene, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: scene.follow(deltas=True, types=("agent.message",)))
        await trio.sleep(1)
        await scene.talk("go on")
        await trio.sleep(5)
        await scene.end()
    assert [event["type"] for event in scene.shown] == ["agent.message"]


async def test_a_queued_input_is_shown_where_it_is_begun_on(autojump_clock: MockClock) -> None:
    async with open_scene([[wait(10), say("one")], [say("two")]]) as scene, trio.open_nursery() as nursery:
        await scene.send("first")
        nursery.start_soon(lambda: scene.follow(lines=None))
        other = Scene(scene.simulator, scene.client, scene.session_id)
        nursery.start_soon(lambda: other.follow(types=("agent.*",)))
        await trio.sleep(1)
        await scene.send("second")
        await trio.sleep(1)
        queued = scene.log[-1]
        assert queued["processed_at"] is None
        assert scene.told == [f"user.message {queued['id']} is queued; it is shown when its turn has come"]
        # Whoever waits for nothing is shown it where it is.
        reader = Scene(scene.simulator, scene.client, scene.session_id)
        await reader.follow(lines=1, follow=False)
        assert reader.shown == [queued]
        await trio.sleep(20)
        await scene.end()
    assert other.told == []
    assert scene.shown == scene.log
    assert [event["processed_at"] for event in scene.shown] == sorted(event["processed_at"] for event in scene.shown)


# --- the stream is lost -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nth", [1, 2, "every"])
@pytest.mark.parametrize("after_events", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("action", [DropStream, EndStream])
async def test_wherever_the_stream_is_lost_nothing_is(
    action: type[DropStream | EndStream], after_events: int, nth: Any, autojump_clock: MockClock
) -> None:
    fault = Fault(on="stream", action=action(after_events=after_events), nth=nth)
    async with open_scene(None, fault) as scene, trio.open_nursery() as nursery:
        await scene.talk("before")
        nursery.start_soon(lambda: scene.follow(lines=None))
        await trio.sleep(1)
        await scene.talk("one", "two", "three")
        scene.simulator.end_streams(scene.session_id)
        await scene.talk("four")
        await scene.end()
    assert scene.shown == scene.log
    assert BACK in scene.told
    assert len([line for line in scene.told if "trying again in" in line]) == len(scene.told) - scene.told.count(BACK)


async def test_what_was_missed_is_listed_from_the_last_event_on(autojump_clock: MockClock) -> None:
    async with open_scene() as scene, trio.open_nursery() as nursery:
        await scene.talk("before")
        nursery.start_soon(lambda: scene.follow(lines=None))
        await trio.sleep(1)
        last = scene.log[-1]
        scene.simulator.end_streams(scene.session_id)
        await scene.send("missed")
        await trio.sleep(5)
        await scene.end()
    assert scene.shown == scene.log
    assert scene.listings == [None, last["processed_at"]]
    assert scene.told == [ENDED, BACK]


async def test_what_cannot_be_listed_from_a_time_on_is_listed_from_the_beginning(autojump_clock: MockClock) -> None:
    refusal = Fault(on="list_events", action=RefuseWith(400), nth=2)
    async with open_scene(None, refusal) as scene, trio.open_nursery() as nursery:
        await scene.talk("before")
        nursery.start_soon(lambda: scene.follow(lines=2))
        await trio.sleep(1)
        scene.simulator.end_streams(scene.session_id)
        await scene.talk("missed", "also")
        await scene.end()
    assert scene.shown == scene.log[-len(scene.shown) :]
    assert [bool(since) for since in scene.listings] == [False, True, False]


async def test_a_server_that_repeats_itself_is_shown_once(autojump_clock: MockClock) -> None:
    again = [Fault(on="stream", action=RepeatEvents(count=4, after_events=place), nth="every") for place in (0, 5)]
    async with open_scene(None, *again) as scene, trio.open_nursery() as nursery:
        await scene.talk("before")
        nursery.start_soon(lambda: scene.follow(lines=2))
        await trio.sleep(1)
        await scene.talk("one")
        scene.simulator.drop_streams(scene.session_id)
        await scene.talk("two", "three")
        await scene.end()
    assert scene.shown == scene.log[-len(scene.shown) :]
    assert len(scene.shown) > 20


@pytest.mark.parametrize("lines", [3, None])
async def test_a_listing_that_fails_on_the_way_is_gone_on_with(lines: int | None, autojump_clock: MockClock) -> None:
    """The client tries three times; then the stream, which waits for the listing, is opened again."""
    failing = Fault(on="list_events", action=RefuseWith(500), nth=2, times=3)
    async with open_scene(None, failing) as scene, trio.open_nursery() as nursery:
        for _ in range(1500):  # more than a page
            await scene.simulator.emit(scene.session_id, {"type": "agent.thinking"})
        nursery.start_soon(lambda: scene.follow(lines=lines))
        await trio.sleep(60)
        assert scene.shown == scene.log[-3 if lines else 0 :]
        await scene.end()
    assert [bool(since) for since in scene.listings] == [False] * 4 + [True]
    assert scene.told[0].endswith("trying again in 1.0 s")
    assert scene.told[1:] == [BACK]


@pytest.mark.parametrize("action", [GarbageFrame(after_events=1), StallStream(after_events=1)])
async def test_a_stream_that_brings_nothing_sound_is_left(action: Any, autojump_clock: MockClock) -> None:
    async with open_scene(None, Fault(on="stream", action=action)) as scene, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: scene.follow(lines=None))
        await trio.sleep(1)
        await scene.talk("one")
        await trio.sleep(200)
        assert scene.shown == scene.log
        await scene.end()
    assert len(scene.told) == 2


async def test_attempts_come_further_and_further_apart_and_begin_anew_once_all_is_well(
    autojump_clock: MockClock,
) -> None:
    down = Fault(on="stream", action=RefuseWith(503), nth=2, times=4)
    slow = Fault(on="stream", action=RefuseWith(429, retry_after=6), nth=7)
    async with open_scene(None, down, slow) as scene, trio.open_nursery() as nursery:
        nursery.start_soon(scene.follow)
        await trio.sleep(1)
        scene.simulator.end_streams(scene.session_id)
        await trio.sleep(100)
        scene.simulator.end_streams(scene.session_id)
        await trio.sleep(60)
        await scene.end()
    waits = [line.rpartition("in ")[2] for line in scene.told if line != BACK]
    assert waits == ["1.0 s", "2.0 s", "4.0 s", "8.0 s", "8.0 s", "1.0 s", "6.0 s"]
    assert scene.told.count(BACK) == 2


async def test_what_never_worked_is_given_up_soon(autojump_clock: MockClock) -> None:
    async with open_scene(None, Fault(on="stream", action=RefuseWith(503), nth="every")) as scene:
        began = trio.current_time()
        with pytest.raises(maa.ServerError):
            await scene.follow()
        assert trio.current_time() - began == pytest.approx(7)
        assert len(scene.told) == 3


async def test_a_policy_may_give_up(autojump_clock: MockClock) -> None:
    async with open_scene(None, Fault(on="stream", action=EndStream(), nth="every")) as scene:
        tail = Tail(session_id=scene.session_id)
        policy = maa.ReconnectPolicy(max_attempts=5)
        with pytest.raises(maa.StreamLost, match="ended 6 times"):
            await follow(scene.client, tail, scene.shown.append, scene.told.append, reconnect=policy)


@pytest.mark.parametrize(
    ("action", "error"), [(RotateKey("sk-another"), maa.AuthenticationError), (DeleteSession(), maa.NotFoundError)]
)
async def test_what_will_not_be_better_next_time_is_the_end(
    action: Any, error: type[maa.APIError], autojump_clock: MockClock
) -> None:
    """The session is deleted, or the key is another one, while there is no stream."""
    async with open_scene(None, Fault(on="stream", action=action, nth=2)) as scene, trio.open_nursery() as nursery:

        async def expect() -> None:
            with pytest.raises(error) as raised:
                await scene.follow()
            assert raised.value.__notes__ == [f"the session {scene.session_id} cannot be followed"]

        nursery.start_soon(expect)
        await trio.sleep(1)
        scene.simulator.end_streams(scene.session_id)


# --- the session is over ----------------------------------------------------------------------------------------------


async def test_it_ends_with_a_session_that_is_deleted(autojump_clock: MockClock) -> None:
    async with open_scene() as scene, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: scene.follow(lines=0))
        await trio.sleep(1)
        await scene.client.sessions.delete(scene.session_id)
    assert [event["type"] for event in scene.shown] == ["session.deleted"]


async def test_a_session_that_is_over_is_shown_and_not_waited_for(autojump_clock: MockClock) -> None:
    async with open_scene() as scene:
        await scene.talk("before")
        await scene.end()
        await scene.follow(lines=None)
        assert scene.shown == scene.log


@pytest.mark.parametrize(
    "session", [{"status": "terminated"}, {"status": "idle", "archived_at": "2026-01-01T00:00:00Z"}]
)
async def test_a_log_need_not_say_that_the_session_is_over(session: dict[str, Any], autojump_clock: MockClock) -> None:
    async def serve(request: Any, respond: Any) -> None:
        if request.path.endswith("/stream"):
            await respond.start_stream({"content-type": "text/event-stream"})
            await trio.sleep_forever()
        rows = {"data": [{"id": "sevt_1", "type": "agent.message"}]}
        await respond.json(200, rows if request.path.endswith("/events") else session)

    shown: list[dict[str, Any]] = []
    async with open_wire_server(serve) as server, server.client() as client:
        with trio.fail_after(3600):
            await follow(client, Tail(session_id="sesn_1"), shown.append, lambda _: None)
    assert [event["id"] for event in shown] == ["sevt_1"]


async def test_events_without_ids_and_times_are_shown_once(autojump_clock: MockClock) -> None:
    """Of a listing that is read again, those that stand before what is known are known."""
    log = [{"type": "a"}, {"type": "b", "id": "1", "processed_at": "2026-01-01T00:00:00Z"}]
    streams = iter(
        [b"retry: 5000\n\n", b'data: {"type": "c", "id": ["no id"]}\n\ndata: {"type": "session.deleted"}\n\n']
    )

    async def serve(request: Any, respond: Any) -> None:
        if request.path.endswith("/stream"):
            stream = await respond.start_stream({"content-type": "text/event-stream"})
            await trio.sleep(1)
            await stream.send(next(streams))
            await stream.end()
            return
        await respond.json(200, {"data": log} if request.path.endswith("/events") else {})

    shown: list[dict[str, Any]] = []
    told: list[str] = []
    async with open_wire_server(serve) as server, server.client() as client:
        await follow(client, Tail(session_id="sesn_1", lines=None), shown.append, told.append, reconnect=RECONNECT)
    assert [event["type"] for event in shown] == ["a", "b", "c", "session.deleted"]
    assert told == ["the stream ended; trying again in 5.0 s", BACK]


# --- the command ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def open_loopback_scene(script: Any = None, *faults: Fault) -> AsyncIterator[Scene]:
    async with open_scene(script, *faults, transport="loopback", api_key=API_KEY) as scene:
        yield scene


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 -- the simulator tells nobody
            await trio.sleep(0.01)


async def test_json_lines_are_the_log(environment: MutableMapping[str, str]) -> None:
    fault = Fault(on="stream", action=DropStream(after_events=3))
    async with open_loopback_scene([[say("caf\xe9 \u2028 \x1b[31m")]], fault) as scene, trio.open_nursery() as nursery:
        done: list[Done] = []

        async def run() -> None:
            done.append(await scene.run("--json", "-n", "all"))

        await scene.talk_at_once("before")
        nursery.start_soon(run)
        await until(lambda: scene.simulator.session(scene.session_id).open_streams == 1)
        await scene.talk_at_once("after")
        await until(lambda: len(scene.listings) == 2)
        await scene.end()
    [result] = done
    assert result.status == 0
    assert [json.loads(line) for line in result.out.splitlines()] == scene.log
    assert result.out.isascii()
    assert result.err.splitlines()[-1] == "managed-agents: the stream is back"
    assert API_KEY not in result.out + result.err


async def test_people_read_lines(environment: MutableMapping[str, str]) -> None:
    async with open_loopback_scene([[say("Pack\nlight. \x1b[2J"), call_tool("look", {"at": "\x07"})]]) as scene:
        await scene.talk_at_once("What to pack?")
        done = await scene.run("-n", "9" * 20, "--no-follow", "--types", "user.*,agent.*,session.status_idle")
    assert (done.status, done.err) == (0, "")
    assert [line[10:] for line in done.out.splitlines()] == [
        "user.message              What to pack?",
        "agent.message             Pack light. \\x1b[2J",
        "agent.custom_tool_use     look(at='\\x07')",
        "session.status_idle       requires_action: look",
    ]


async def test_an_unknown_session_is_exit_status_1(
    environment: MutableMapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_loopback_scene() as scene:
        for arguments in ([], ["--no-follow"]):
            line = ["tail", "sesn_no", "--base-url", scene.simulator.base_url, *arguments]
            assert await trio.to_thread.run_sync(main, line) == 1
            printed = capsys.readouterr()
            assert printed.out == ""
            assert printed.err.startswith("managed-agents: 404 not_found_error: session 'sesn_no' does not exist")
            assert printed.err.endswith("managed-agents: the session sesn_no cannot be followed\n")


async def test_a_wrong_key_is_exit_status_1_and_not_shown(
    environment: MutableMapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    environment["ANTHROPIC_API_KEY"] = "sk-not-the-right-one"
    async with open_loopback_scene() as scene:
        line = ["tail", scene.session_id, "--base-url", scene.simulator.base_url]
        assert await trio.to_thread.run_sync(main, line) == 1
    told = capsys.readouterr().err
    assert "401 authentication_error" in told
    assert "sk-not" not in told


async def test_what_the_provider_says_cannot_steer_the_terminal(
    environment: MutableMapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async def refuse(request: Any, respond: Any) -> None:
        await respond.json(404, {"type": "error", "error": {"type": "not_found_error", "message": "\x1b[2J\x9b no"}})

    async with open_wire_server(refuse, transport="loopback") as server:
        line = ["tail", "sesn_1", "--base-url", server.base_url]
        assert await trio.to_thread.run_sync(main, line) == 1
    assert "\\x1b[2J\\x9b no" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["sesn_1", "--types", "user.message,,"], "--types must be"),
        (["sesn_1", "--types", ""], "--types must be"),
        (["sesn_1", "--deltas", "--no-follow"], "--deltas needs to follow"),
        ([" "], "SESSION_ID must be"),
        ([".."], "cannot be an id"),
        (["sesn_1", "--provider", "bedrock_agent_core"], "keeps no log"),
        ([str(uuid.UUID(int=7))], "managed_agents_actors.telemetry.attach()"),
        (["arn:aws:bedrock-agentcore:eu-west-1:123456789012:harness/support"], "AgentCore"),
    ],
)
async def test_values_that_cannot_be_used_are_exit_status_2(
    arguments: list[str], told: str, environment: MutableMapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_loopback_scene() as scene:
        before = len(scene.simulator.requests)
        line = ["tail", *arguments, "--base-url", scene.simulator.base_url]
        assert await trio.to_thread.run_sync(main, line) == 2
        assert len(scene.simulator.requests) == before
    printed = capsys.readouterr()
    assert printed.out == ""
    assert told in printed.err
    assert printed.err.startswith("managed-agents: ")


@pytest.mark.parametrize(
    "arguments", [[], ["a", "b"], ["a", "-n", "-1"], ["a", "-n", "few"], ["a", "--provider", "local"], ["a", "--loud"]]
)
def test_a_command_line_that_cannot_be_understood_is_exit_status_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["tail", *arguments])
    assert raised.value.code == 2
    assert "usage: managed-agents" in capsys.readouterr().err


def test_a_key_is_needed(environment: MutableMapping[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    del environment["ANTHROPIC_API_KEY"]
    assert main(["tail", "sesn_1"]) == 2
    assert "ANTHROPIC_API_KEY" in capsys.readouterr().err


async def test_a_type_that_nobody_knows_is_told_and_looked_for(
    environment: MutableMapping[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_loopback_scene() as scene:
        await scene.simulator.emit(scene.session_id, {"type": "agent.dreamt"})
        arguments = ["--types", "agent.dreamt", "--no-follow", "--json", "--base-url", scene.simulator.base_url]
        assert await trio.to_thread.run_sync(main, ["tail", scene.session_id, *arguments]) == 0
    printed = capsys.readouterr()
    assert printed.err == "managed-agents: no type of events that is known here is like agent.dreamt\n"
    assert json.loads(printed.out)["type"] == "agent.dreamt"


async def test_the_provider_may_be_told(environment: MutableMapping[str, str]) -> None:
    """Not every server of this API calls its sessions as the hosted one does."""

    async def serve(request: Any, respond: Any) -> None:
        await respond.json(200, {"data": []})

    async with open_wire_server(serve, transport="loopback") as server:
        line = ["tail", str(uuid.UUID(int=7)), "--provider", "claude_managed_agents", "--no-follow"]
        assert await trio.to_thread.run_sync(main, [*line, "--base-url", server.base_url]) == 0


@pytest.mark.parametrize("lines", ["1", "all"])
async def test_a_reader_that_leaves_is_the_end_even_if_nothing_more_comes(
    lines: str, environment: MutableMapping[str, str]
) -> None:
    async with open_loopback_scene() as scene:
        await scene.talk_at_once("before")
        shell = f"{' '.join(scene.line('-n', lines))} | head -n 1"
        with trio.fail_after(60):
            run = await trio.run_process(["sh", "-c", shell], capture_stdout=True, capture_stderr=True)
    assert (run.stdout.count(b"\n"), run.stderr) == (1, b"")


async def test_a_full_disk_is_told(environment: MutableMapping[str, str]) -> None:
    async with open_loopback_scene() as scene:
        await scene.talk_at_once("before")
        shell = f"{' '.join(scene.line())} >/dev/full"
        run = await trio.run_process(["sh", "-c", shell], capture_stderr=True, check=False)
    assert run.returncode == 1
    assert run.stderr.startswith(b"managed-agents: what is to be printed cannot be written: No space left")
    assert b"Traceback" not in run.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("arguments", [[], ["--json"]])
async def test_an_interrupt_is_the_end(
    number: signal.Signals, status: int, arguments: list[str], environment: MutableMapping[str, str]
) -> None:
    async with open_loopback_scene() as scene:
        await scene.talk_at_once("before")
        process = await trio.lowlevel.open_process(
            scene.line(*arguments, "-n", "1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stderr is not None
        with trio.fail_after(60):
            out = await process.stdout.receive_some()
            process.send_signal(number)
            assert await process.wait() == status
            out += b"".join([part async for part in process.stdout])
            err = b"".join([part async for part in process.stderr])
    assert (out.count(b"\n"), err) == (1, b"")


def test_help_tells_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["tail", "--help"])
    assert raised.value.code == 0
    told = capsys.readouterr().out
    assert "usage: managed-agents tail" in told
    assert "exit status:" in told
