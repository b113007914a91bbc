"""Faults wherever they can strike: every script, cut at every event of its stream and at each of its requests.

What one case has to hold is written once, in `Case.violations`; a test only says which faults it makes. The yardstick
of a script is its own fault-free run. Everything goes through the public surface, in memory and in virtual time; each
case has a world of its own, so that a task that is left over is seen.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeAlias

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    Call,
    ClaudeSimulator,
    Delay,
    DropStream,
    EndStream,
    Fault,
    FaultPlan,
    GarbageFrame,
    LoseAnswer,
    RecordedRequest,
    RefuseWith,
    StallStream,
    Step,
    ask,
    call_tool,
    call_tools,
    fail,
    grade,
    open_claude_simulator,
    say,
    subagent_call,
    think,
    wait,
)

from ..channels import drained

Event: TypeAlias = dict[str, Any]

# How the two requests of a case are made: only the first, as a run; one after the other; the second before the first
# has even begun, so that it has to wait for its turn.
Mode: TypeAlias = Literal["run", "follow_up", "queued"]
MODES: tuple[Mode, ...] = ("run", "follow_up", "queued")

FIRST, SECOND = "the first message", "the second message"

# Virtual seconds: four stalls of a minute each, eight posts with their delays, and the slow tool fit many times.
PATIENCE = 3000.0

# How long a plan holds a request back at most.
LONGEST_DELAY = 20.0

# Always the same delay, so that what was sent in it can be told from what was sent before the stream was lost.
RECONNECT = maa.ReconnectPolicy(initial=0.5, max=0.5, multiplier=1.0, jitter=0.0)
# Less than that delay, and than the shortest one of the client's own retries (0.5 s less a quarter).
SURELY_DETACHED = 0.3

SECOND_TURN: tuple[Step, ...] = (call_tool("again", {"n": 9}), say("and done again"))


@dataclass(frozen=True, eq=False)
class Agent:
    """What the agent does in its first turn; in the second it always does `SECOND_TURN`.

    Attributes:
        seconds: How long each tool takes.
        outcome: The goal that starts it instead of a message.
        deltas: Whether the stream is asked for previews.
    """

    steps: tuple[Step, ...]
    seconds: Mapping[str, float] = field(default_factory=dict)
    outcome: maa.Outcome | None = None
    deltas: bool = False

    @property
    def opening(self) -> dict[str, Any]:
        return {"prompt": FIRST} if self.outcome is None else {"outcome": self.outcome}


PARALLEL = call_tools(("a", {"n": 1}), ("b", {"n": 2}), ("c", {"n": 3}))
GOAL = maa.Outcome(description=FIRST, rubric="it is good")

AGENTS: dict[str, Agent] = {
    "one tool": Agent((call_tool("a", {"n": 1}), say("done"))),
    "three at once": Agent((PARALLEL, say("all three"))),
    "two rounds": Agent((say("first"), call_tool("a"), think(), say("second"), call_tool("b"), say("third"))),
    "partial answers": Agent((PARALLEL, say("at last")), seconds={"a": 3.0, "b": 1.0, "c": 2.0}),
    "gated": Agent((ask("bash", {"command": "ls"}), say("listed"))),
    "gated beside a tool": Agent(
        (call_tools(Call(name="bash", kind="builtin", permission="ask"), ("a", {})), say("both")), seconds={"a": 1.0}
    ),
    "sub-agent": Agent((subagent_call("researcher", "a", {"n": 1}), call_tool("b"), say("merged"))),
    "outcome": Agent(
        (say("a draft"), grade("needs_revision", "more"), call_tool("a"), say("better"), grade()), outcome=GOAL
    ),
    "slow tool": Agent((call_tool("a"), say("it took a while")), seconds={"a": 200.0}),
    "slow model": Agent((wait(20.0), call_tool("a"), wait(20.0), say("thought it through"), wait(1.0), say("yes"))),
    "retries exhausted": Agent(
        (call_tool("a"), say("so far"), fail("model_overloaded_error", "retrying"), fail("model_overloaded_error"))
    ),
    # The second message is written while a stream that was dropped in the first one is catching up.
    "previews": Agent(
        (say("one two three", pace=0.2), wait(0.7), say("four five", pace=0.2), call_tool("a"), say("six")),
        deltas=True,
    ),
}


# --- one case ---------------------------------------------------------------------------------------------------------


class Witness:
    """A handler that keeps everything it is given."""

    def __init__(self, seconds: Mapping[str, float]) -> None:
        self.calls: list[tuple[str, str]] = []
        self.events: list[str] = []
        self.deltas: list[str] = []
        self.verdicts: list[str] = []
        self._seconds = seconds

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        self.calls.append((context.tool_use_id, name))
        await trio.sleep(self._seconds.get(name, 0.0))
        return f"{name} with {sorted(input.items())}"

    async def handle_event(self, event: Event, context: maa.EventContext) -> None:
        if event["type"] == "managed_agents.text_delta":
            self.deltas.append(event["text"])
        else:
            self.events.append(event["id"])

    async def handle_confirmation(self, use: maa.ToolUse, context: maa.ToolContext) -> str:
        self.verdicts.append(use.id)
        return "allow"


@dataclass
class Case:
    """A script that was played under some faults, and all that could be seen of it."""

    agent: Agent
    mode: Mode
    faults: tuple[Fault, ...]
    witness: Witness
    results: list[maa.SessionResult] = field(default_factory=list)
    error: Exception | None = None
    notified: list[maa.SessionResult] = field(default_factory=list)
    subscribed: list[maa.SessionResult] | None = None
    log: list[Event] = field(default_factory=list)
    requests: tuple[RecordedRequest, ...] = ()
    open_streams: int = 0
    tasks_left: int = 0

    @property
    def sent(self) -> list[str]:
        return [FIRST] if self.mode == "run" else [FIRST, SECOND]

    def posts(self) -> list[RecordedRequest]:
        return [r for r in self.requests if _operation(r) == "send_events"]

    def streams(self) -> list[RecordedRequest]:
        return [r for r in self.requests if _operation(r) == "stream"]

    def violations(self) -> list[str]:
        """Everything that is wrong with it; nothing, if all is well."""
        if self.error is not None:
            return [f"raised {self.error!r}"]
        checks = (self._of_events, self._of_terminals, self._of_calls, self._of_inputs, self._of_results)
        return [problem for check in (*checks, self._of_order, self._of_leftovers) for problem in check()]

    def _of_events(self) -> Iterable[str]:
        logged = [event["id"] for event in self.log]
        if self.witness.events != logged:
            yield f"events shown {_named(self.witness.events, self.log)}, logged {_named(logged, self.log)}"
        told = [event["id"] for result in self.results for event in result.events]
        if told != logged:
            yield f"events of the results {_named(told, self.log)}, logged {_named(logged, self.log)}"

    def _of_terminals(self) -> Iterable[str]:
        for heard, who in ((self.notified, "notify"), (self.subscribed, "the subscriber")):
            if heard is not None and heard != self.results:
                yield f"{who} heard {[_told(r) for r in heard]}, the results are {[_told(r) for r in self.results]}"

    def _of_calls(self) -> Iterable[str]:
        called = [(event["id"], event["name"]) for event in self.log if event["type"] == "agent.custom_tool_use"]
        if sorted(self.witness.calls) != sorted(called):
            yield f"executed {self.witness.calls}, called {called}"
        gated = [event["id"] for event in self.log if event.get("evaluated_permission") == "ask"]
        if sorted(self.witness.verdicts) != sorted(gated):
            yield f"asked for a verdict on {self.witness.verdicts}, gated {gated}"

    def _of_inputs(self) -> Iterable[str]:
        wanted = Counter(("says", text) for text in self.sent)
        wanted.update(("answers", call_id) for call_id, _name in self.witness.calls)
        wanted.update(("confirms", call_id) for call_id in self.witness.verdicts)
        taken = Counter(key for key in map(_input_key, self.log) if key is not None)
        if taken != wanted:
            yield f"lost {dict(wanted - taken)}, taken once too often {dict(taken - wanted)}"
        answers = {
            event["custom_tool_use_id"]: event for event in self.log if event["type"] == "user.custom_tool_result"
        }
        for use in (use for result in self.results for use in result.custom_tool_uses):
            text = f"{use.name} with {sorted(use.input.items())}"
            if use.id in answers and answers[use.id]["content"] != [{"type": "text", "text": text}]:
                yield f"{use.id} was answered {answers[use.id]['content']}, not {text!r}"

    def _of_results(self) -> Iterable[str]:
        wanted = _yardstick(self.agent, self.mode)
        found = [_essence(result) for result in self.results]
        if len(found) != len(wanted):
            yield f"{len(found)} results, without faults {len(wanted)}"
        for position, (one, other) in enumerate(zip(found, wanted, strict=False)):
            for key, value in one.items():
                if value != other[key]:
                    yield f"result {position}: {key} is {value!r}, without faults {other[key]!r}"
        text = "".join(result.text for result in self.results)
        if "".join(self.witness.deltas) != text:
            yield f"the deltas give {''.join(self.witness.deltas)!r}, the text is {text!r}"

    def _of_order(self) -> Iterable[str]:
        operations = [_operation(request) for request in self.requests]
        if "stream" not in operations[: operations.index("send_events")]:
            yield "something was posted before the first stream"
        for earlier, (post, operation) in enumerate(zip(self.requests, operations, strict=True)):
            if operation != "send_events":
                continue
            unread = [name for name in operations[:earlier] if name in ("stream", "list_events")]
            if unread.count("stream") > 1 and unread[-1] == "stream":
                yield f"post at {post.at}: the stream was attached again and the history not read"
            if any(0 < stream.at - post.at < SURELY_DETACHED for stream in self.streams()):
                yield f"post at {post.at}: no stream was attached"

    def _of_leftovers(self) -> Iterable[str]:
        if self.open_streams:
            yield f"{self.open_streams} streams left open"
        if self.tasks_left:
            yield f"{self.tasks_left} tasks left"


def _operation(request: RecordedRequest) -> str:
    match request.method, request.path.split("/")[3:]:
        case "POST", []:
            return "create_session"
        case "GET", [_, "events", "stream"]:
            return "stream"
        case "GET", [_, "events"]:
            return "list_events"
        case "POST", [_, "events"]:
            return "send_events"
        case "GET", [_]:
            return "retrieve_session"
    raise AssertionError(f"nobody should ask for {request.method} {request.path}")


def _input_key(event: Event) -> tuple[str, str] | None:
    match event:
        case {"type": "user.message", "content": [{"text": str(text)}]} | {
            "type": "user.define_outcome",
            "description": str(text),
        }:
            return "says", text
        case {"type": "user.custom_tool_result", "custom_tool_use_id": str(call_id)}:
            return "answers", call_id
        case {"type": "user.tool_confirmation", "tool_use_id": str(call_id)}:
            return "confirms", call_id
        case {"type": str(kind)} if kind.startswith("user."):
            return "unwanted", kind
    return None


def _named(ids: Sequence[str], log: Sequence[Event]) -> list[str]:
    kinds = {event["id"]: event["type"] for event in log}
    return [f"{event_id[-3:]} {kinds.get(event_id, 'of nobody')}" for event_id in ids]


def _told(result: maa.SessionResult) -> str:
    return f"{result.terminal} {result.text!r}"


def _essence(result: maa.SessionResult) -> dict[str, Any]:
    """What faults must not change. Ids and the order of parallel answers are the server's and time's."""
    return {
        "terminal": result.terminal,
        "stop_reason": result.stop_reason,
        "text": result.text,
        "last_text": result.last_text,
        "turns": result.turns,
        "usage": result.usage,
        "custom_tool_uses": [(use.name, use.input, use.kind) for use in result.custom_tool_uses],
        "server_tool_uses": [(use.name, use.input, use.permission) for use in result.server_tool_uses],
        "outcome": result.outcome,
        "error": None if result.error is None else (result.error.type, result.error.retry_status),
        "resumable": result.resumable,
        "events": Counter(event["type"] for event in result.events),
        "transcript": Counter(message["role"] for message in result.transcript),
    }


# --- playing it -------------------------------------------------------------------------------------------------------


def play(agent: Agent, mode: Mode, *faults: Fault) -> Case:
    """Play a script under faults, in a world of its own."""
    case = Case(agent, mode, faults, Witness(agent.seconds))
    trio.run(_play, case, clock=MockClock(autojump_threshold=0))
    return case


async def _play(case: Case) -> None:
    told, hears = trio.open_memory_channel[maa.SessionResult](100)
    plan = FaultPlan(case.faults)
    async with open_claude_simulator([case.agent.steps, SECOND_TURN], transport="memory", faults=plan) as simulator:
        before = trio.lowlevel.current_statistics().tasks_living
        async with simulator.client() as client:
            options: dict[str, Any] = {
                "client": client,
                "agent": simulator.agent_id,
                "environment": simulator.environment_id,
                "handler": case.witness,
                "notify": told,
                "reconnect": RECONNECT,
                "deltas": case.agent.deltas,
            }
            try:
                with trio.fail_after(PATIENCE):
                    await PLAYERS[case.mode](case, options)
            except (maa.ManagedAgentsError, trio.TooSlowError) as error:
                case.error = error
            # A client that is still open may keep idle connections, but no stream.
            await wait_all_tasks_blocked()
            case.open_streams = sum(simulator.session(each).open_streams for each in _session_ids(simulator))
        # A request that nobody waits for any more is still held back at the simulator, if the plan says so.
        await trio.sleep(LONGEST_DELAY)
        await wait_all_tasks_blocked()
        case.tasks_left = trio.lowlevel.current_statistics().tasks_living - before
        case.log = [event for each in _session_ids(simulator) for event in simulator.session(each).events]
        case.requests = simulator.requests
    told.close()
    case.notified = [result async for result in hears]


def _session_ids(simulator: ClaudeSimulator) -> list[str]:
    """The sessions anybody has asked for, in order."""
    return list(dict.fromkeys(r.path.split("/")[3] for r in simulator.requests if r.path.count("/") > 2))


async def _run(case: Case, options: dict[str, Any]) -> None:
    case.results = [await maa.run_session(claude_managed_agents, timeout=None, **case.agent.opening, **options)]


async def _follow_up(case: Case, options: dict[str, Any]) -> None:
    async with maa.open_session(claude_managed_agents, **options) as session, session.subscribe() as terminals:
        for content in (case.agent.outcome or FIRST, SECOND):
            case.results.append(await session.ask(content))
        case.subscribed = drained(terminals)


async def _queued(case: Case, options: dict[str, Any]) -> None:
    async with (
        maa.open_session(claude_managed_agents, **case.agent.opening, **options) as session,
        session.subscribe() as terminals,
    ):
        second = await session.ask(SECOND)
        case.results = [await terminals.receive(), second]
        case.subscribed = [case.results[0], *drained(terminals)]


PLAYERS = {"run": _run, "follow_up": _follow_up, "queued": _queued}


@cache
def fault_free(agent: Agent, mode: Mode) -> Case:
    return play(agent, mode)


@cache
def _yardstick(agent: Agent, mode: Mode) -> list[dict[str, Any]]:
    return [_essence(result) for result in fault_free(agent, mode).results]


def frames_of(agent: Agent, mode: Mode) -> int:
    """How much the stream of the fault-free run carries: events, and what previews them."""
    case = fault_free(agent, mode)
    messages = sum(event["type"] == "agent.message" for event in case.log)
    return len(case.log) + (len(case.witness.deltas) + messages if agent.deltas else 0)


def posts_of(agent: Agent, mode: Mode) -> int:
    return len(fault_free(agent, mode).posts())


def check_all(agent: Agent, mode: Mode, plans: Iterable[Sequence[Fault]]) -> None:
    """Play the script under each of the plans, and tell of every one that broke something."""
    broken = []
    for faults in plans:
        violations = play(agent, mode, *faults).violations()
        if violations:
            broken.append("\n  ".join([", ".join(map(repr, faults)), *violations]))
    assert not broken, f"{len(broken)} plans broke something:\n" + "\n".join(broken)


# --- the matrix -------------------------------------------------------------------------------------------------------

STREAM_FAULTS = (DropStream, EndStream, StallStream, GarbageFrame)
REFUSALS = tuple(RefuseWith(status) for status in (429, 500, 503, 529))

every_agent = pytest.mark.parametrize("agent", AGENTS.values(), ids=AGENTS)
SOME = ("partial answers", "gated beside a tool", "outcome")
some_agents = pytest.mark.parametrize("agent", [AGENTS[name] for name in SOME], ids=SOME)
every_mode = pytest.mark.parametrize("mode", MODES)


@every_agent
@every_mode
def test_without_faults_everything_holds(agent: Agent, mode: Mode) -> None:
    case = fault_free(agent, mode)
    assert case.violations() == []
    assert [_operation(r) for r in case.requests][:2] == ["create_session", "stream"]
    assert {_operation(r) for r in case.requests[2:]} == {"send_events"}


@every_agent
@pytest.mark.parametrize("action", STREAM_FAULTS)
def test_a_stream_that_breaks_after_any_event(agent: Agent, action: Callable[..., Any]) -> None:
    plans = [[Fault(on="stream", action=action(after_events=n))] for n in range(frames_of(agent, "run") + 1)]
    check_all(agent, "run", plans)


@every_agent
@pytest.mark.parametrize("mode", ["follow_up", "queued"])
def test_a_live_sessions_stream_that_breaks(agent: Agent, mode: Mode) -> None:
    """A sample over both of its requests, the faults in turn: the whole product is that of the test above."""
    boundaries = range(MODES.index(mode), frames_of(agent, mode) + 1, 9)
    actions = [action(after_events=n) for n, action in zip(boundaries, itertools.cycle(STREAM_FAULTS), strict=False)]
    check_all(agent, mode, [[Fault(on="stream", action=action)] for action in actions])


@every_agent
@pytest.mark.parametrize("action", STREAM_FAULTS)
def test_what_breaks_before_the_end_is_noticed(agent: Agent, action: Callable[..., Any]) -> None:
    """Else the matrix would prove nothing: the fault did strike, and the stream was opened again."""
    fault = Fault(on="stream", action=action(after_events=frames_of(agent, "run") - 1))
    assert len(play(agent, "run", fault).streams()) == 2


@every_agent
@pytest.mark.parametrize("action", [LoseAnswer(), RefuseWith(429, 7.0), *REFUSALS, Delay(5.0)], ids=repr)
def test_a_post_that_goes_wrong(agent: Agent, action: Any) -> None:
    numbers = range(1, posts_of(agent, "run") + 1)
    check_all(agent, "run", [[Fault(on="send_events", action=action, nth=n)] for n in numbers])


@every_agent
@every_mode
def test_every_answer_to_a_post_is_lost(agent: Agent, mode: Mode) -> None:
    check_all(agent, mode, [[Fault(on="send_events", action=LoseAnswer(), nth="every")]])


@some_agents
@pytest.mark.parametrize("action", [LoseAnswer(), RefuseWith(500)], ids=repr)
def test_a_post_that_goes_wrong_while_the_stream_is_silent(agent: Agent, action: Any) -> None:
    """No echo comes, so only a look at the history can tell whether the input was taken."""
    posts = range(1, posts_of(agent, "run") + 1)
    stalls = [StallStream(after_events=n) for n in range(0, frames_of(agent, "run"), 5)]
    plans = [
        [Fault(on="stream", action=stall), Fault(on="send_events", action=action, nth=n)]
        for stall in stalls
        for n in posts
    ]
    check_all(agent, "run", plans)


@pytest.mark.parametrize("name", ["partial answers", "slow model", "previews"])
def test_what_comes_live_while_the_history_is_read(name: str) -> None:
    """The listing is slow, and shows what the new stream carries too."""
    agent = AGENTS[name]
    slow = Fault(on="list_events", action=Delay(1.5))
    boundaries = range(frames_of(agent, "run"))
    check_all(agent, "run", [[Fault(on="stream", action=DropStream(after_events=n)), slow] for n in boundaries])


@some_agents
@pytest.mark.parametrize("action", [LoseAnswer(), *REFUSALS, Delay(5.0)], ids=repr)
def test_a_listing_that_goes_wrong(agent: Agent, action: Any) -> None:
    """After a drop in the middle, once and more often than the client repeats; and in a look, both of its requests."""
    middle = Fault(on="stream", action=DropStream(after_events=frames_of(agent, "queued") // 2))
    plans = [
        [middle, *(Fault(on="list_events", action=action, nth=n) for n in range(1, times + 1))] for times in (1, 4)
    ]
    unclear = Fault(on="send_events", action=RefuseWith(500))
    plans += [[unclear, Fault(on=on, action=action)] for on in ("list_events", "retrieve_session")]
    check_all(agent, "queued", plans)


@some_agents
@pytest.mark.parametrize("action", [LoseAnswer(), *REFUSALS, Delay(5.0)], ids=repr)
def test_a_stream_that_cannot_be_opened(agent: Agent, action: Any) -> None:
    """The first one; and the second, after a drop in the middle."""
    middle = Fault(on="stream", action=DropStream(after_events=frames_of(agent, "follow_up") // 2))
    plans = [[Fault(on="stream", action=action)], [middle, Fault(on="stream", action=action, nth=2)]]
    check_all(agent, "follow_up", plans)


# --- where faults may change the outcome ------------------------------------------------------------------------------


@every_mode
@pytest.mark.parametrize("status", [429, 529])
def test_a_session_whose_creation_was_certainly_refused_is_created_again(mode: Mode, status: int) -> None:
    check_all(AGENTS["one tool"], mode, [[Fault(on="create_session", action=RefuseWith(status))]])


@every_mode
@pytest.mark.parametrize(
    ("action", "error"),
    [(LoseAnswer(), maa.TransportError), (RefuseWith(500), maa.ServerError), (RefuseWith(503), maa.ServerError)],
    ids=repr,
)
def test_a_session_that_was_perhaps_created_is_an_error(mode: Mode, action: Any, error: type[Exception]) -> None:
    """Creating is not idempotent, and nobody could find the session that was lost: so it is not tried twice."""
    case = play(AGENTS["one tool"], mode, Fault(on="create_session", action=action))
    assert isinstance(case.error, error)
    assert [_operation(request) for request in case.requests] == ["create_session"]
    assert (case.results, case.witness.calls, case.tasks_left) == ([], [], 0)
    # The one request there was has failed; without a prompt there was none.
    assert [type(told.error.exception) for told in case.notified if told.error] == [type(case.error)] * (
        mode != "follow_up"
    )


# --- several at once --------------------------------------------------------------------------------------------------

# Most scripts carry fewer than fifty events and ten posts; what is beyond the end simply does not strike.
after_events = st.integers(0, 50)
stream_faults = st.builds(
    lambda action, n, nth: Fault(on="stream", action=action(after_events=n), nth=nth),
    st.sampled_from(STREAM_FAULTS),
    after_events,
    st.integers(1, 4),
)
request_faults = st.builds(
    Fault,
    on=st.sampled_from(["send_events", "send_events", "list_events", "retrieve_session", "stream"]),
    action=st.one_of(
        st.just(LoseAnswer()),
        st.builds(RefuseWith, st.sampled_from([429, 500, 503, 529]), st.sampled_from([None, 3.0])),
        st.builds(Delay, st.sampled_from([0.1, 0.5, 1.0, 5.0, LONGEST_DELAY])),
    ),
    nth=st.integers(1, 8),
)
fault_plans = st.lists(st.one_of(stream_faults, request_faults), min_size=2, max_size=4)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(agent=st.sampled_from(sorted(AGENTS)), mode=st.sampled_from(MODES), faults=fault_plans)
def test_several_faults_in_one_session(agent: str, mode: Mode, faults: list[Fault]) -> None:
    assert play(AGENTS[agent], mode, *faults).violations() == []
