"""The life of custom tool calls against a real server. Opt in with the environment variables that conftest.py names.

Models have whims, so a scenario whose model did not do as it was asked is played once more. What is asserted holds
for every server and every model: each call ran once and was answered once, the request ended, and said something.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

import managed_agents_actors as maa

ONE = "Round 1: call lookup for alpha. Then say what it returned."
THREE = "Round 1: call lookup for alpha, beta and gamma, all at once. Then say what they returned."
TWO_ROUNDS = (
    "Round 1: call lookup for alpha. Wait for its result. Round 2: call lookup for the value that round 1 returned."
    " Then say what both returned."
)


def check(result: maa.SessionResult, handler: Any, answered: dict[str, int]) -> None:
    """What must hold whatever the model does."""
    assert result.terminal == "end_turn"
    assert result.text
    assert result.session_id
    assert set(handler.runs.values()) == {1}
    assert answered == dict(handler.runs)
    assert [use.id for use in result.custom_tool_uses] == list(answered)
    ids = [event["id"] for event in result.events if event.get("id")]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    ("prompt", "keys"),
    [
        (ONE, ["alpha"]),
        (THREE, ["alpha", "beta", "gamma"]),
        (TWO_ROUNDS, ["alpha", "value-of-alpha"]),
    ],
    ids=["one", "three-in-parallel", "two-rounds"],
)
async def test_calls_run_once_and_are_answered_once(
    prompt: str, keys: list[str], open_session: Any, lookup: Any, answers: Any, twice: Any, whim: type[Exception]
) -> None:
    async def scenario() -> None:
        handler = lookup()
        async with open_session(handler) as session:
            result = await session.ask(prompt)
        check(result, handler, await answers(session.session_id))
        if sorted(handler.keys) != keys:
            raise whim(f"the model looked up {handler.keys}, not {keys}")

    await twice(scenario)


async def test_parallel_calls_run_in_parallel(
    open_session: Any, lookup: Any, twice: Any, whim: type[Exception]
) -> None:
    async def scenario() -> None:
        handler = lookup(held=True)
        async with open_session(handler) as session, trio.open_nursery() as nursery:
            nursery.start_soon(session.ask, THREE)
            await handler.arrived.wait()
            # The others are in the same response: they come within moments, while the first one still runs.
            with trio.move_on_after(10):
                await handler.all_arrived.wait()
            together = len(session.status().tools_running)
            handler.gate.set()
        if together != 3:
            raise whim(f"the model made {together} calls at once, not 3")
        assert set(handler.runs.values()) == {1}

    await twice(scenario)


async def test_an_interrupt_while_a_call_waits(open_session: Any, lookup: Any, answers: Any) -> None:
    handler = lookup(held=True)
    async with open_session(handler) as session:
        async with session.subscribe() as terminals:
            await session.message(ONE)
            with trio.fail_after(120):
                await handler.arrived.wait()
            await session.interrupt()
            with trio.fail_after(120):
                result = await terminals.receive()
        assert result.terminal == "end_turn"
        assert handler.cancelled == list(handler.runs)
        assert session.status().tools_running == ()
        # The session is as good as before.
        after = await session.ask("Call no tool. Say: hello.")
        assert (after.terminal, bool(after.text)) == ("end_turn", True)
    # The server may close the call itself; nothing answers it a second time.
    assert max((await answers(session.session_id)).values()) <= 1


async def test_a_stream_cut_while_a_tool_runs(
    open_session: Any, lookup: Any, answers: Any, proxy: Any, streams_through: Callable[[Any], Any]
) -> None:
    handler = lookup(held=True)
    results: list[maa.SessionResult] = []
    async with open_session(handler, transport=streams_through(proxy)) as session, trio.open_nursery() as nursery:

        async def ask() -> None:
            results.append(await session.ask(THREE))

        nursery.start_soon(ask)
        with trio.fail_after(120):
            await handler.arrived.wait()
        proxy.cut()
        with trio.fail_after(60):
            while session.status().phase == "live":  # noqa: ASYNC110 -- a snapshot is all there is to look at
                await trio.sleep(0.01)
        handler.gate.set()
    check(results[0], handler, await answers(session.session_id))
    assert proxy.cuts >= 1
    assert session.status().reconnects >= 1


@pytest.mark.parametrize("carried", [300, 1200, 2500, 5000])
async def test_a_stream_cut_anywhere(
    carried: int, open_session: Any, lookup: Any, answers: Any, proxy: Any, streams_through: Callable[[Any], Any]
) -> None:
    handler = lookup()
    proxy.cut_after = carried  # with TLS that may be in the middle of the handshake, which is as good a place
    async with open_session(handler, transport=streams_through(proxy)) as session:
        result = await session.ask(TWO_ROUNDS)
    check(result, handler, await answers(session.session_id))
    # A server that says little may have said all of it before.
    assert session.status().reconnects >= (1 if proxy.cuts else 0)
    if carried <= 1200:
        assert proxy.cuts == 1
