"""Lets a case of AgentCore happen, in a world and in a virtual time of its own, and writes down what was seen of it."""

from __future__ import annotations

import gc
from typing import Any

import trio
from botocore.credentials import Credentials
from trio.testing import MockClock, wait_all_tasks_blocked

import managed_agents_actors as maa
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.agentcore._loading import load
from managed_agents_actors.testing import (
    AgentCoreSimulator,
    CrashSession,
    Delay,
    DelayAnswer,
    DelayEvents,
    FaultPlan,
    PauseStream,
    TerminateSession,
    Turn,
    deterministic_schedule,
    open_agentcore_simulator,
)

from .faults import LONGEST_DELAY, MOST_KINDS
from .harness_case import HarnessCase
from .harness_faults import AFTERMATH
from .harness_manners import hold_harness
from .harness_record import HarnessRecord, HeldHarness
from .harness_tap import Tap
from .play import PATIENCE, listening


def play_harness(case: HarnessCase) -> HarnessRecord:
    """Let a case happen."""
    load()  # a thread would let virtual time pass
    held = [HeldHarness(f"{case.seed}-{number}-".ljust(40, "s"), talk) for number, talk in enumerate(case.talks)]
    record = HarnessRecord(sessions=held)
    with deterministic_schedule(case.seed), listening(record.noise):
        try:
            trio.run(_play, case, record, clock=MockClock(autojump_threshold=0))
        except Exception as error:  # noqa: BLE001 -- whatever it is, it is written down and judged
            record.escaped = error
        gc.collect(0)  # what was never awaited says so when it is collected
    return record


async def _play(case: HarnessCase, record: HarnessRecord) -> None:
    plan = FaultPlan(case.mishaps.faults)
    plan.bind()  # a session without a supervisor is not to crash; the others are bound once they run
    parts = {each.message: each for talk in case.talks for each in talk.exchanges}

    async def agent(turn: Turn) -> None:
        for step in parts[turn.text].steps:
            await step.perform(turn)

    async with open_agentcore_simulator(
        agent, transport="memory", faults=plan, resume=case.resume, hand_off=case.hand_off
    ) as simulator:
        before = trio.lowlevel.current_statistics().tasks_living
        # A provider of credentials that is asked in a thread would let virtual time pass.
        keys = Credentials("", "")

        def renew() -> None:
            keys.access_key, keys.secret_key, keys.token = _parts(simulator.credentials)

        renew()
        tap = Tap(Transport(open_stream=simulator.open_memory_stream), renew)
        async with simulator.client(transport=tap, credentials=keys) as client:
            options = {"client": client, "idle_timeout": case.idle_timeout, "reconnect": case.reconnect}
            with trio.move_on_after(PATIENCE) as patience:
                async with trio.open_nursery() as nursery:
                    for held in record.sessions:
                        nursery.start_soon(hold_harness, held, simulator, tap, options)
            record.hung = patience.cancelled_caught
            await trio.sleep(1.0)
        # What nobody waits for any more is still held back at the simulator, if the plan says so.
        await trio.sleep(LONGEST_DELAY * MOST_KINDS)
        await wait_all_tasks_blocked()
        living = trio.lowlevel.current_statistics().tasks_living
        record.open_bodies = tap.open_bodies
        record.requests = simulator.requests
        record.tasks_left = max(0, living - before - sum(_look_back(held, simulator) for held in record.sessions))
        _explain(case, record, plan)


def _parts(credentials: Any) -> tuple[str, str, str]:
    return credentials.access_key, credentials.secret_key, credentials.token


def _look_back(held: HeldHarness, simulator: AgentCoreSimulator) -> bool:
    """See what the harness holds in the end; say whether its agent may be at work, or waits there for answers."""
    try:
        seen = simulator.session(held.session_id)
    except KeyError:
        return False
    held.conversation = seen.messages
    mine = [request for request in simulator.requests if held.session_id in str(request.headers)]
    held.stops = sum(request.path.endswith("/stopruntimesession") for request in mine)
    return seen.running or bool(seen.pending)


def _explain(case: HarnessCase, record: HarnessRecord, plan: FaultPlan) -> None:
    """Write down what the faults that took effect, and the script, may end a request with."""
    exchanges = [each for talk in case.talks for each in talk.exchanges]
    record.may_end_with = case.mishaps.endings(plan.fired)
    if any(each.throws for each in exchanges):
        record.may_end_with += (maa.APIError,)
    if any(talk.timeout is not None for talk in case.talks):
        record.may_end_with += (maa.SessionTimeout, *AFTERMATH)
    slow = (Delay, DelayAnswer, DelayEvents, PauseStream)
    silence = [each.fault.action.seconds for each in plan.fired if isinstance(each.fault.action, slow)]
    if silence and sum(silence) + 40.0 >= case.idle_timeout:
        record.may_end_with += (maa.StreamIdleTimeout, *AFTERMATH)
    actions = [each.fault.action for each in plan.fired]
    record.crashes = sum(isinstance(action, CrashSession) for action in actions)
    record.may_lose_machines = any(each.loses for each in exchanges) or any(
        isinstance(action, TerminateSession) for action in actions
    )
