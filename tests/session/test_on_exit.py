"""What becomes of the session at the provider when this side leaves it: nothing, an interrupt, archive, deletion."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import (
    Delay,
    DeleteSession,
    Fault,
    FaultPlan,
    RefuseWith,
    TerminateSession,
    say,
    wait,
)

from ._supervised import Defect, crash, start

WAYS = ["leave", "interrupt", "archive", "delete"]

# Leaving takes no longer (seconds).
BUDGET = 5.0


def _tool(*_args: Any) -> str:
    return "r"


def farewells(place: Any, session_id: str) -> list[str]:
    """What the session was told on leaving, in order; what was refused is told too."""
    path = f"/v1/sessions/{session_id}"
    found = []
    for request in place.simulator.requests:
        if request.method == "DELETE" and request.path == path:
            found.append("delete")
        elif request.path == f"{path}/archive":
            found.append("archive")
        elif request.path == f"{path}/events" and request.method == "POST":
            found += ["interrupt" for event in request.body["events"] if event["type"] == "user.interrupt"]
    return found


async def fate(place: Any, session_id: str) -> str:
    """What has become of a session."""
    try:
        session = await place.client.sessions.retrieve(session_id)
    except maa.NotFoundError:
        return "deleted"
    return "archived" if session["archived_at"] else str(session["status"])


FATES = {"leave": "idle", "interrupt": "idle", "archive": "archived", "delete": "deleted"}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("way", ["run", "open", "supervised", "stopped", "terminated", "failed body"])
async def test_a_session_that_rests_is_put_away(way: str, how: str, simulate: Any, autojump_clock: MockClock) -> None:
    options: dict[str, Any] = {"handler": _tool, "on_exit": how}
    async with simulate([[say("Done.")]]) as place:
        options |= place.options
        match way:
            case "run":
                session_id = str((await maa.run_session(claude_managed_agents, **options)).session_id)
            case "open":
                async with maa.open_session(claude_managed_agents, **options) as session:
                    await session.ask("go")
                session_id = session.session_id
            case "failed body":
                with pytest.raises(Defect):
                    async with maa.open_session(claude_managed_agents, **options) as session:
                        await session.ask("go")
                        raise Defect
                session_id = session.session_id
            case _:
                async with maa.open_supervisor() as supervisor:
                    session = await supervisor.start_session(claude_managed_agents, name="one", **options)
                    await session.ask("go")
                    if way == "stopped":
                        await session.stop()
                    elif way == "terminated":
                        await supervisor.terminate_child("one")
                session_id = session.session_id
        assert await fate(place, session_id) == FATES[how]
        # There is nothing to interrupt.
        assert farewells(place, session_id) == ([how] if how in ("archive", "delete") else [])


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("way", ["cancelled run", "left", "cancelled", "supervised", "stopped", "crashed"])
async def test_a_session_that_is_at_work_is_interrupted_first(
    way: str, how: str, simulate: Any, autojump_clock: MockClock
) -> None:
    options: dict[str, Any] = {"handler": _tool, "on_exit": how}
    async with simulate([[wait(1000.0)]]) as place:
        options |= place.options
        began = trio.current_time()
        with trio.move_on_after(1.0):
            match way:
                case "cancelled run":
                    await maa.run_session(claude_managed_agents, **options)
                case "left" | "cancelled":
                    async with maa.open_session(claude_managed_agents, **options) as session:
                        await session.message("go")
                        await trio.sleep(0.5 if way == "left" else 2.0)
                case _:
                    async with maa.open_supervisor() as supervisor:
                        session = await supervisor.start_session(claude_managed_agents, restart="temporary", **options)
                        await session.message("go")
                        await trio.sleep(0.5)
                        if way == "stopped":
                            await session.stop()
                        elif way == "crashed":
                            crash(session)
                            with pytest.raises(maa.SessionCrashed):
                                await session.wait_closed()
        assert trio.current_time() - began <= 1.0 + BUDGET
        (session_id,) = {r.path.split("/")[3] for r in place.simulator.requests if r.path.endswith("/stream")}
        if how == "leave":
            assert (await fate(place, session_id), farewells(place, session_id)) == ("running", [])
            return
        assert await fate(place, session_id) == FATES[how]
        assert farewells(place, session_id)[-1] == how
        assert farewells(place, session_id).count("interrupt") == 1


@pytest.mark.parametrize("how", ["interrupt", "archive", "delete"])
async def test_a_failure_on_our_side_is_an_exit_too(how: str, simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([[wait(1000.0)]]) as place:
        with pytest.raises(maa.SessionTimeout) as caught:
            await maa.run_session(claude_managed_agents, handler=_tool, on_exit=how, timeout=3.0, **place.options)
        session_id = str(caught.value.result.session_id)
        assert await fate(place, session_id) == FATES[how]


# --- a provider that does not play along ------------------------------------------------------------------------------

STALLS = {
    "interrupt": Fault(on="send_events", sending="user.interrupt", nth="every", action=Delay(1000.0)),
    "archive": Fault(on="archive_session", nth="every", action=Delay(1000.0)),
    "delete": Fault(on="delete_session", nth="every", action=Delay(1000.0)),
}


@pytest.mark.parametrize("how", STALLS)
async def test_a_provider_that_stalls_is_given_so_much_time(
    how: str, simulate: Any, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with simulate([[wait(5000.0)]], faults=FaultPlan([STALLS[how]])) as place:
        with trio.CancelScope() as scope:
            async with place.open(_tool, on_exit=how) as session:
                await session.message("go")
                await trio.sleep(1.0)
                began = trio.current_time()
                scope.cancel()
        assert began + BUDGET == trio.current_time()
        assert session.status().phase == "closed"
    assert "on_exit_too_slow" in caplog.text


@pytest.mark.parametrize("how", ["archive", "delete"])
async def test_a_refusal_is_logged_and_nobody_fails(
    how: str, simulate: Any, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.WARNING, "managed_agents_actors")
    plan = FaultPlan([Fault(on=f"{how}_session", nth="every", action=RefuseWith(403))])
    async with simulate([[say("Done.")]], faults=plan) as place:
        result = await maa.run_session(claude_managed_agents, handler=_tool, on_exit=how, **place.options)
        assert result.text == "Done."
        assert await fate(place, str(result.session_id)) == "idle"
    assert "on_exit_failed" in caplog.text


@pytest.mark.parametrize("how", ["interrupt", "archive", "delete"])
@pytest.mark.parametrize("gone", ["deleted", "terminated"])
async def test_nothing_is_done_for_a_session_that_is_gone(
    gone: str, how: str, simulate: Any, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.WARNING, "managed_agents_actors")
    action: Any = DeleteSession if gone == "deleted" else TerminateSession
    plan = FaultPlan([Fault(on="stream", action=action(after_type="agent.message"))])
    async with simulate([[say("One."), wait(5.0)]], faults=plan) as place:
        with trio.fail_after(1.0):
            try:
                result = await maa.run_session(claude_managed_agents, handler=_tool, on_exit=how, **place.options)
            except maa.SessionGone as error:
                result = error.result
        assert result.terminal == "terminated"
        assert farewells(place, str(result.session_id)) == []
    assert "on_exit" not in caplog.text


async def test_nothing_is_done_for_a_session_that_never_was(simulate: Any, autojump_clock: MockClock) -> None:
    plan = FaultPlan([Fault(on="create_session", action=RefuseWith(400))])
    async with simulate(faults=plan) as place:
        with pytest.raises(maa.InvalidRequestError):
            await maa.run_session(claude_managed_agents, handler=_tool, on_exit="delete", **place.options)
        assert [request.path for request in place.simulator.requests] == ["/v1/sessions"]


@pytest.mark.parametrize("how", ["interrupt", "archive", "delete"])
async def test_nothing_is_done_on_a_restart(how: str, simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate([[wait(2.0), say("Done.")]]) as place:
        async with maa.open_supervisor() as supervisor:
            session = await start(supervisor, place, on_exit=how)
            async with session.subscribe() as terminals:
                await session.message("go")
                for _ in range(2):
                    await trio.sleep(0.5)
                    crash(session)
                assert (await terminals.receive()).text == "Done."
            assert farewells(place, session.session_id) == []
        assert await fate(place, session.session_id) == FATES[how]


async def test_it_must_be_a_way_to_leave(simulate: Any, autojump_clock: MockClock) -> None:
    async with simulate() as place:
        with pytest.raises(maa.ConfigurationError, match="on_exit="):
            await maa.run_session(claude_managed_agents, handler=_tool, on_exit="burn", **place.options)
        assert place.simulator.requests == ()


# --- a connection that fails ------------------------------------------------------------------------------------------


class Working:
    """A provider whose connections have something of their own going on.

    Attributes:
        opened: How many connections were opened.
    """

    CAPABILITIES = replace(claude_managed_agents.CAPABILITIES, connections_have_tasks=True)

    def __init__(self) -> None:
        self.opened = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(claude_managed_agents, name)

    @asynccontextmanager
    async def open_connection(self, options: Any) -> AsyncIterator[Any]:
        self.opened += 1
        async with claude_managed_agents.open_connection(options) as connection, trio.open_nursery() as nursery:
            nursery.start_soon(self._work)
            yield connection
            nursery.cancel_scope.cancel()

    async def _work(self) -> None:
        await trio.sleep_forever()


class Failing(Working):
    """The same, and it fails after a second."""

    async def _work(self) -> None:
        await trio.sleep(1)
        raise ZeroDivisionError


@pytest.mark.parametrize("way", ["run", "open", "supervised"])
async def test_a_session_that_is_cancelled_is_left_through_the_connection_that_it_has(
    way: str, simulate: Any, autojump_clock: MockClock
) -> None:
    provider: Any = Working()
    async with simulate([wait(100), say("late")]) as place:
        options = {"handler": _tool, "prompt": "Hi", "on_exit": "delete", **place.options}
        with trio.move_on_after(1):
            if way == "run":
                await maa.run_session(provider, **options)
            elif way == "open":
                async with maa.open_session(provider, **options):
                    await trio.sleep_forever()
            else:
                async with maa.open_supervisor() as supervisor:
                    await supervisor.start_session(provider, **options)
                    await trio.sleep_forever()
        assert "DELETE" in [request.method for request in place.simulator.requests]
    assert provider.opened == 1


async def test_what_fails_within_a_connection_ends_its_run_at_once(simulate: Any, autojump_clock: MockClock) -> None:
    provider: Any = Failing()
    async with simulate([wait(100), say("late")]) as place:
        with pytest.raises(ZeroDivisionError):
            await maa.run_session(provider, handler=_tool, prompt="Hi", **place.options)
        assert trio.current_time() == pytest.approx(1, abs=0.1)


async def test_what_fails_within_a_connection_ends_its_session_at_once(
    simulate: Any, autojump_clock: MockClock
) -> None:
    provider: Any = Failing()
    async with simulate([wait(100), say("late")]) as place:
        with pytest.RaisesGroup(ZeroDivisionError, maa.ActorGone, flatten_subgroups=True):
            async with maa.open_session(provider, handler=_tool, **place.options) as session:
                await session.ask("Hi")
        assert trio.current_time() == pytest.approx(1, abs=0.1)
