"""What the kit refuses before anything runs: plans with a mistake, which would be silently no plan or another one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    Action,
    Chance,
    CrashSession,
    Delay,
    DelayAnswer,
    DelayEvents,
    DeleteSession,
    DropStream,
    Fault,
    FaultPlan,
    HugeFrame,
    LoopCursors,
    LoseAnswer,
    PauseStream,
    RecordingHandler,
    RefuseWith,
    RepeatEvents,
    Request,
    Responder,
    RotateKey,
    ShortenListing,
    Split,
    TerminateSession,
    TruncateAnswer,
    check_plans,
    crash_session,
    find_shortest_plan,
    open_claude_simulator,
    open_wire_server,
)

DROP: Any = DropStream
ANY: Any = Fault
WRONG: Any = "s"

# Built at run time, so that the types may be as wrong as the values.
MAKERS: dict[str, Callable[..., object]] = {
    kind.__name__: kind
    for kind in (
        Chance, Delay, DelayAnswer, DelayEvents, DropStream, CrashSession, Fault, FaultPlan, HugeFrame, LoopCursors,
        PauseStream, RefuseWith, RepeatEvents, RotateKey, ShortenListing, Split, TruncateAnswer,
    )
}  # fmt: skip


@pytest.mark.parametrize("status", [200, 99, 399, 600, "429", 429.0, None, True])
def test_only_an_error_status_refuses(status: Any) -> None:
    with pytest.raises(
        maa.ConfigurationError, match=f"RefuseWith: status must be a whole number from 400 to 599, not {status!r}"
    ):
        RefuseWith(status)


@pytest.mark.parametrize("seconds", ["soon", -1, math.nan, math.inf, True])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (Delay, "Delay: seconds"),
        (DelayAnswer, "DelayAnswer: seconds"),
        (lambda seconds: DelayEvents(seconds=seconds), "DelayEvents: seconds"),
        (lambda seconds: PauseStream(seconds=seconds), "PauseStream: seconds"),
        (lambda seconds: RefuseWith(429, retry_after=seconds), "RefuseWith: retry_after"),
        (lambda seconds: Split(pause=seconds), "Split: pause"),
    ],
)
def test_seconds_are_finite_and_not_negative(make: Callable[[Any], Action], name: str, seconds: Any) -> None:
    with pytest.raises(
        maa.ConfigurationError, match=re.escape(f"{name} must be a finite number from 0, not {seconds!r}")
    ):
        make(seconds)
    assert make(0) == make(0.0)


@pytest.mark.parametrize("count", ["a", 1.5, -1, True])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda n: DropStream(after_events=n), "DropStream: after_events"),
        (lambda n: DropStream(after_bytes=n), "DropStream: after_bytes"),
        (lambda n: RepeatEvents(count=n), "RepeatEvents: count"),
        (lambda n: HugeFrame(size=n), "HugeFrame: size"),
        (lambda n: LoopCursors(n), "LoopCursors: length"),
        (lambda n: ShortenListing(n), "ShortenListing: rows"),
        (lambda n: TruncateAnswer(n), "TruncateAnswer: after_bytes"),
        (lambda n: Split((3, n)), "each of Split: sizes"),
        (lambda n: Fault(on="stream", action=LoseAnswer(), times=n), "Fault: times"),
        (lambda n: FaultPlan.random(1, faults=n), "FaultPlan.random: faults"),
        (lambda n: FaultPlan.random(1, requests=n), "FaultPlan.random: requests"),
        (lambda n: FaultPlan.random(1, events=n), "FaultPlan.random: events"),
    ],
)
def test_counts_are_whole_numbers(make: Callable[[Any], object], name: str, count: Any) -> None:
    least = "[01]"
    with pytest.raises(
        maa.ConfigurationError, match=f"{re.escape(name)} must be a whole number from {least}, not {count!r}"
    ):
        make(count)
    make(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Fault(on="stream", action=DROP),
            "something that can happen.* not the class DropStream",
        ),
        (lambda: ANY(on="stream", action=None), "action must be something that can happen.* not None"),
        (lambda: ANY(on="stream", action="drop"), "action must be something that can happen.* not 'drop'"),
        (lambda: Fault(on="stream", action=Action()), "action must be something that can happen"),
        (lambda: ANY(on=3, action=LoseAnswer()), "on must be text that is not empty, not 3"),
        (lambda: ANY(on="stream", action=LoseAnswer(), nth="evry"), "nth must be a whole number from 1, 'every' or a"),
        (lambda: ANY(on="stream", action=LoseAnswer(), nth=None), "nth must be a whole number from 1.*not None"),
        (lambda: ANY(on="stream", action=LoseAnswer(), nth=1.5), "nth must be a whole number from 1.*not 1.5"),
        (lambda: Fault(on="stream", action=LoseAnswer(), nth=0), "nth must be a whole number from 1.*not 0"),
        (lambda: Fault(on="stream", action=LoseAnswer(), nth="every", times=2), "times must be 1 unless nth is a numb"),
        (lambda: ANY(on="stream", action=LoseAnswer(), sending=3), "sending must be text"),
        (lambda: MAKERS["CrashSession"](when="middle"), "when must be one of 'after', 'before', not 'middle'"),
        (lambda: MAKERS["DropStream"](after_type=3), "after_type must be text"),
        (lambda: DropStream(after_bytes=5, after_events=1), "by events or by bytes, not by both"),
        (lambda: DropStream(after_bytes=5, after_type="agent.message"), "by events or by bytes, not by both"),
        (lambda: MAKERS["RotateKey"](None), "key must be text that is not empty, not None"),
        (lambda: Split(()), r"sizes must be a tuple of whole numbers from 1, not \(\)"),
        (lambda: MAKERS["Split"](3), "sizes must be a tuple of whole numbers from 1, not 3"),
        (lambda: Chance(1.5), "probability must be a finite number from 0 to 1, not 1.5"),
        (lambda: MAKERS["Chance"]("a"), "probability must be a finite number from 0 to 1, not 'a'"),
        (lambda: MAKERS["FaultPlan"]("drop"), "faults must be a list of faults, not 'drop'"),
        (lambda: MAKERS["FaultPlan"](None), "faults must be a list of faults, not None"),
        (
            lambda: MAKERS["FaultPlan"](Fault(on="stream", action=LoseAnswer())),
            "must be a list of faults, not Fault",
        ),
        (lambda: MAKERS["FaultPlan"]([LoseAnswer()]), r"each of FaultPlan: faults must be a Fault, not LoseAnswer\(\)"),
        (lambda: MAKERS["FaultPlan"](seed="a"), "seed must be a whole number, not 'a'"),
        (lambda: FaultPlan.random(1, kinds=DROP), "kinds must be a list of kinds.*not the class DropStream"),
        (lambda: FaultPlan.random(1, kinds=[ANY]), "each of FaultPlan.random: kinds must be a kind of fault"),
        (lambda: FaultPlan().bind(*["s"]), "the session must be a Session, not 's'"),  # type: ignore[arg-type]
        (lambda: crash_session(WRONG, ValueError()), "the session must be a Session, not 's'"),
    ],
)
def test_what_makes_no_sense_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(maa.ConfigurationError, match=message):
        make()


# --- by the simulator -------------------------------------------------------------------------------------------------

NOT_PLAYABLE = {
    "no such operation": (Fault(on="strem", action=DropStream()), "no operation 'strem' to put a fault on"),
    "a stream's, of a post": (
        Fault(on="send_events", action=DropStream()),
        "cannot befall a request of 'send_events'",
    ),
    "a stream's, of a listing": (Fault(on="list_events", action=DelayEvents(seconds=1)), "DelayEvents cannot befall"),
    "a stream's, of any": (Fault(on="any", action=PauseStream(seconds=1)), "PauseStream cannot befall .* 'any'"),
    "a listing's, of a stream": (Fault(on="stream", action=ShortenListing()), "ShortenListing cannot befall"),
    "a listing's, of a post": (Fault(on="send_events", action=LoopCursors()), "LoopCursors cannot befall"),
    "half an answer, of a stream": (Fault(on="stream", action=TruncateAnswer()), "TruncateAnswer cannot befall"),
    "a session's, before there is one": (
        Fault(on="create_session", action=DeleteSession()),
        "DeleteSession cannot befall a request of 'create_session'",
    ),
    "a session's, of an agent": (
        Fault(on="retrieve_agent", action=TerminateSession()),
        "cannot befall",
    ),
    "a crash before there is one": (Fault(on="create_session", action=CrashSession()), "CrashSession cannot befall"),
    "a place on a listing": (
        Fault(on="list_events", action=CrashSession(after_events=3)),
        "a request of 'list_events' has no place after events or bytes; a stream has",
    ),
    "a place on any": (Fault(on="any", action=DeleteSession(after_bytes=3)), "a request of 'any' has no place"),
    "after a stream": (Fault(on="stream", action=CrashSession(when="after")), "on a stream when= says nothing"),
    "an event nobody sends": (
        Fault(on="send_events", sending="user.mesage", action=LoseAnswer()),
        "no event 'user.mesage' is ever sent; there are: .*user.message",
    ),
    "an event nobody sends, of any": (Fault(on="any", sending="agent.message", action=LoseAnswer()), "is ever sent"),
    "an event sent with a stream": (
        Fault(on="stream", sending="user.message", action=LoseAnswer()),
        "a request of 'stream' sends no events; sending= is for send_events",
    ),
    "an event that never comes": (
        Fault(on="stream", action=DropStream(after_type="agent.mesage")),
        "no event 'agent.mesage' ever comes; of 'agent' there are: .*agent.message",
    ),
}


@pytest.mark.parametrize("name", NOT_PLAYABLE)
async def test_a_fault_that_would_not_befall_anything_is_refused(name: str) -> None:
    fault, message = NOT_PLAYABLE[name]
    with pytest.raises(maa.ConfigurationError, match=message):
        async with open_claude_simulator(faults=FaultPlan([fault]), transport="memory"):
            raise AssertionError("not reached")


@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="any", action=DeleteSession()),
        Fault(on="any", sending="user.message", action=LoseAnswer()),
        Fault(on="archive_session", action=CrashSession(when="after")),
        Fault(on="stream_thread", action=DropStream(after_type="session.status_idle")),
        Fault(on="stream", action=DropStream(after_type="of.my.own")),
    ],
)
async def test_a_fault_that_can_befall_something_is_taken(fault: Fault) -> None:
    async with open_claude_simulator(faults=FaultPlan([fault]), transport="memory") as simulator:
        assert simulator.faults.faults == (fault,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faults": [Fault(on="stream", action=DropStream())]}, r"faults= must be a FaultPlan, not \[Fault\("),
        ({"faults": "drop"}, "faults= must be a FaultPlan, not 'drop'"),
        ({"transport": "quantum"}, "transport= must be one of 'loopback', 'memory', not 'quantum'"),
        ({"transport": None}, "transport= must be one of 'loopback', 'memory', not None"),
        ({"api_key": None}, "api_key= must be text that is not empty, not None"),
    ],
)
async def test_a_simulator_says_what_it_cannot_be_opened_with(options: Any, message: str) -> None:
    with pytest.raises(maa.ConfigurationError, match=message):
        async with open_claude_simulator(**options):
            raise AssertionError("not reached")


async def answer(request: Request, respond: Responder) -> None:
    await respond.json(200, {})


async def test_a_wire_server_says_what_it_cannot_be_opened_with() -> None:
    wrong: Any = "quantum"
    with pytest.raises(maa.ConfigurationError, match="transport= must be one of"):
        async with open_wire_server(answer, transport=wrong):
            raise AssertionError("not reached")


async def test_a_plan_serves_one_simulator() -> None:
    plan = FaultPlan([Fault(on="stream", action=DropStream())])
    async with open_claude_simulator(faults=plan, transport="memory"):
        pass
    with pytest.raises(maa.ConfigurationError, match=r"a plan serves one simulator.* use fresh\(\) of FaultPlan"):
        async with open_claude_simulator(faults=plan, transport="memory"):
            raise AssertionError("not reached")
    async with open_claude_simulator(faults=plan.fresh(), transport="memory") as simulator:
        assert simulator.faults is not plan


@pytest.mark.parametrize(
    "fault",
    [
        Fault(on="stream", action=CrashSession(after_events=2)),
        Fault(on="send_events", action=CrashSession(when="after")),
    ],
)
async def test_a_crash_that_comes_due_wants_a_session(fault: Fault, autojump_clock: object) -> None:
    async def converse(plan: FaultPlan) -> None:
        async with open_claude_simulator(faults=plan, transport="memory") as simulator, simulator.client() as client:
            where = {"agent": simulator.agent_id, "environment": simulator.environment_id}
            await maa.run_session(
                claude_managed_agents, client=client, prompt="Hello", handler=RecordingHandler(), **where
            )

    plan = FaultPlan([fault])
    with pytest.raises(maa.ConfigurationError, match=r"came due and crashed nobody: bind the session, plan.bind\(sess"):
        await converse(plan)
    # Who says that nobody is to crash is believed; a crash that never comes due needs nobody.
    nobody = plan.fresh()
    nobody.bind()
    await converse(nobody)
    await converse(FaultPlan([Fault(on="stream", nth=50, action=CrashSession())]))


# --- many plans -------------------------------------------------------------------------------------------------------


async def fails(plan: FaultPlan) -> None:
    await trio.lowlevel.checkpoint()
    raise ValueError("it ran")


def passes(plan: FaultPlan) -> None:
    """Holds under every plan."""


def yields(plan: FaultPlan) -> Any:
    yield plan


async def yields_too(plan: FaultPlan) -> Any:
    yield plan


def test_a_run_in_disguise_is_run() -> None:
    with pytest.raises(AssertionError, match="ValueError: it ran"):
        check_plans(lambda plan: fails(plan), seeds=[1])
    assert find_shortest_plan(FaultPlan.random(1), lambda plan: fails(plan)).faults == ()


@pytest.mark.parametrize(
    ("run", "options", "message"),
    [
        (passes, {"seeds": []}, "seeds are empty, so nothing was tried"),
        (passes, {"seeds": range(0)}, "seeds are empty, so nothing was tried"),
        (passes, {"seeds": iter(())}, "seeds are empty, so nothing was tried"),
        (passes, {"seeds": 5}, "seeds must be some seeds, such as range"),
        (passes, {"draw": None}, "draw must be a function from a seed to a plan"),
        (passes, {"draw": lambda seed: [seed]}, "what draw gives must be a FaultPlan"),
        (None, {}, "run must be a function of a plan, not None"),
        (yields, {}, "a run has no yield"),
        (yields_too, {}, "a run has no yield"),
    ],
)
def test_a_check_that_would_try_nothing_is_refused(run: Any, options: Any, message: str) -> None:
    with pytest.raises(maa.ConfigurationError, match=message):
        check_plans(run, **options)


@pytest.mark.parametrize("run", [fails, passes])
async def test_plans_are_not_tried_inside_of_trio(run: Any) -> None:
    with pytest.raises(maa.ConfigurationError, match="check_plans starts a trio for each try: call it from a plain"):
        check_plans(run)
    with pytest.raises(maa.ConfigurationError, match="find_shortest_plan starts a trio for each try"):
        find_shortest_plan(FaultPlan(), run)


def test_only_a_plan_is_shortened() -> None:
    wrong: Any = [Fault(on="stream", action=DropStream())]
    with pytest.raises(maa.ConfigurationError, match="plan must be a FaultPlan"):
        find_shortest_plan(wrong, passes)
