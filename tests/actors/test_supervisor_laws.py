"""Any history of a supervisor agrees with a model of OTP's: a plain list of children, changed one event at a time.

The model knows no tasks and shares no code with the library. It says what goes up and down, in which order, and when it
is too much. A second law lets everything overlap, where only the promises that hold at any moment can be checked.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from managed_agents_actors import ActorGone, ConfigurationError, RestartIntensityExceeded
from managed_agents_actors.actors import Child, Shutdown, Supervisor, open_plain_nursery, open_supervisor

# Virtual seconds after which a case that waits for what never comes fails.
PATIENCE = 100_000

settled = trio.testing.wait_all_tasks_blocked


class Broken(Exception):
    """A failure of the test's own."""


@dataclass
class Entry:
    """What the model knows of one child: whether it is up, is to come up, or is stopped."""

    id: str
    restart: str
    state: str = "up"
    restarts: int = 0


@dataclass
class Model:
    """OTP's supervisor, as its manual tells it; but a child that was stopped stays so when its siblings restart."""

    strategy: str
    max_restarts: int
    max_seconds: int
    children: list[Entry] = field(default_factory=list)
    troubles: dict[str, deque[str]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    now: float = 0
    gave_up: bool = False

    def find(self, id: str) -> Entry | None:
        return next((child for child in self.children if child.id == id), None)

    def comes_up(self, child: Entry) -> bool:
        if self.troubles.get(child.id):
            self.troubles[child.id].popleft()
            return False
        self.log.append(f"{child.id} up")
        child.state = "up"
        return True

    def goes_down(self, child: Entry, then: str) -> None:
        self.log.append(f"{child.id} down")
        child.state = then
        if then == "stopped" and child.restart == "temporary":
            self.children.remove(child)

    def ends(self, child: Entry, how: str) -> None:
        again = child.restart == "permanent" or (child.restart == "transient" and how == "crash")
        self.goes_down(child, "coming" if again else "stopped")
        if again:
            self.restart(child)

    def restart(self, failed: Entry) -> None:
        self.times.append(self.now)
        if len([time for time in self.times if self.now - time <= self.max_seconds]) > self.max_restarts:
            self.gave_up = True
            self.close()
            return
        place = self.children.index(failed)
        others = {"one_for_one": [], "one_for_all": self.children, "rest_for_one": self.children[place:]}[self.strategy]
        for other in reversed([other for other in others if other.state == "up"]):
            self.goes_down(other, "stopped" if other.restart == "temporary" else "coming")
        for child in [child for child in self.children if child.state == "coming"]:
            if not self.comes_up(child):
                self.restart(child)
                return
            child.restarts += 1

    def close(self) -> None:
        for child in reversed(list(self.children)):
            if child.state == "up":
                self.goes_down(child, "stopped")
            child.state = "stopped"


NAMES = st.sampled_from("abcd")
OPERATIONS = st.one_of(
    st.tuples(st.just("start"), NAMES, st.sampled_from(["permanent", "transient", "temporary"])),
    st.tuples(st.sampled_from(["crash", "return", "shutdown", "crash"]), NAMES, st.none()),
    st.tuples(st.sampled_from(["terminate", "restart", "delete"]), NAMES, st.none()),
    st.tuples(st.just("trouble"), NAMES, st.integers(1, 3)),
    st.tuples(st.just("sleep"), st.just(""), st.integers(1, 6)),
)


class Play:
    """Does to a supervisor, and to the model, what a list of operations says."""

    def __init__(self, supervisor: Supervisor, model: Model, stage: Any) -> None:
        self.supervisor = supervisor
        self.model = model
        self.stage = stage

    async def apply(self, operation: str, id: str, detail: Any) -> None:
        child = self.model.find(id)
        match operation:
            case "sleep":
                await trio.sleep(detail)
                self.model.now += detail
            case "trouble":
                self.stage.fail_next(id, *[Broken(id)] * detail)
                self.model.troubles[id] = deque([id] * detail)
            case "start":
                await self._start(id, detail)
            case "crash" | "return" | "shutdown" if child and child.state == "up":
                error = {"crash": Broken(id), "shutdown": Shutdown(id), "return": None}[operation]
                self.stage.end(id, error)
                self.model.ends(child, operation)
            case "terminate" if child:
                await self.supervisor.terminate_child(id)
                if child.state == "up":
                    self.model.goes_down(child, "stopped")
            case "restart":
                await self._restart(id, child)
            case "delete":
                self._delete(id, child)

    async def _start(self, id: str, restart: str) -> None:
        spec = self.stage.child(id, restart=restart)
        entry = Entry(id, restart)
        if self.model.find(id) is not None:
            with pytest.raises(ConfigurationError):
                await self.supervisor.start_child(spec)
        elif self.model.comes_up(entry):
            self.model.children.append(entry)
            await self.supervisor.start_child(spec)
        else:
            with pytest.raises(Broken):
                await self.supervisor.start_child(spec)

    async def _restart(self, id: str, child: Entry | None) -> None:
        if child is None or child.state != "stopped":
            with pytest.raises(ConfigurationError):
                await self.supervisor.restart_child(id)
        elif self.model.comes_up(child):
            await self.supervisor.restart_child(id)
        else:
            with pytest.raises(Broken):
                await self.supervisor.restart_child(id)

    def _delete(self, id: str, child: Entry | None) -> None:
        if child is None or child.state != "stopped":
            with pytest.raises(ConfigurationError):
                self.supervisor.delete_child(id)
        else:
            self.supervisor.delete_child(id)
            self.model.children.remove(child)

    def check(self) -> None:
        assert self.stage.events == self.model.log
        expected = [(e.id, {"up": "running"}.get(e.state, e.state), e.restart, e.restarts) for e in self.model.children]
        found = [(i.id, i.state, i.restart, i.restarts) for i in self.supervisor.which_children()]
        assert found == expected


@given(
    operations=st.lists(OPERATIONS, max_size=30),
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    max_restarts=st.integers(0, 4),
    max_seconds=st.integers(1, 8),
)
def test_any_history_agrees_with_a_model(
    stage_type: Any, operations: list[Any], strategy: Any, max_restarts: int, max_seconds: int
) -> None:
    async def follow() -> None:
        model = Model(strategy, max_restarts, max_seconds)
        stage = stage_type()
        try:
            async with open_supervisor(
                strategy=strategy, max_restarts=max_restarts, max_seconds=max_seconds
            ) as supervisor:
                play = Play(supervisor, model, stage)
                for operation in operations:
                    await play.apply(*operation)
                    await settled()
                    assert not model.gave_up
                    play.check()
                model.close()
        except RestartIntensityExceeded:
            assert model.gave_up
        play.check()

    trio.run(follow, clock=trio.testing.MockClock(autojump_threshold=0))


CHAOS = st.lists(
    st.tuples(
        st.sampled_from(["start", "start", "crash", "crash", "terminate", "restart", "delete", "cancel", "trouble"]),
        NAMES,
        st.sampled_from([0, 0.5, 1, 2, 3]),
        st.sampled_from(["permanent", "transient", "temporary"]),
    ),
    max_size=40,
)


class Chaos:
    """Calls that do not wait for each other, and may be cancelled, beside crashes and failing starts."""

    def __init__(self, supervisor: Supervisor, stage: Any, nursery: trio.Nursery) -> None:
        self._supervisor = supervisor
        self._stage = stage
        self._nursery = nursery
        self._calls: list[trio.CancelScope] = []
        self.handles: list[Child] = []

    def apply(self, act: str, id: str, seconds: float, restart: str) -> None:
        match act:
            case "start":
                heeds = seconds if restart == "permanent" else None
                spec = self._stage.child(id, start_takes=seconds, heeds=heeds, cleanup=seconds, restart=restart)
                self._call(self._supervisor.start_child, spec)
            case "terminate":
                self._call(self._supervisor.terminate_child, id)
            case "restart":
                self._call(self._supervisor.restart_child, id)
            case "delete":
                with suppress(ConfigurationError):
                    self._supervisor.delete_child(id)
            case "crash" if self._stage.is_up(id):
                self._stage.end(id, Broken())
            case "trouble":
                self._stage.fail_next(id, Broken())
            case "cancel" if self._calls:
                self._calls.pop().cancel()

    def _call(self, call: Any, what: Any) -> None:
        scope = trio.CancelScope()
        self._calls.append(scope)
        self._nursery.start_soon(self._await_call, call, what, scope)

    async def _await_call(self, call: Any, what: Any, scope: trio.CancelScope) -> None:
        with scope, suppress(ActorGone, ConfigurationError, Broken):
            child = await call(what)
            if child is not None:
                self.handles.append(child)


@given(
    operations=CHAOS,
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    cancelled=st.booleans(),
)
def test_whatever_overlaps_nothing_hangs_doubles_or_stays(
    stage_type: Any, operations: list[Any], strategy: Any, cancelled: bool
) -> None:
    async def follow() -> None:
        stage = stage_type()
        with trio.fail_after(PATIENCE), trio.CancelScope() as scope, suppress(RestartIntensityExceeded):
            async with (
                open_plain_nursery() as nursery,
                open_supervisor(strategy=strategy, max_restarts=6, max_seconds=3) as supervisor,
            ):
                chaos = Chaos(supervisor, stage, nursery)
                for operation in operations:
                    chaos.apply(*operation)
                    await trio.sleep(operation[2])
                if cancelled:
                    scope.cancel()
        assert {info.state for info in supervisor.which_children()} <= {"stopped"}
        for child in chaos.handles:
            await child.wait_finished()
        for name in "abcd":
            ups_and_downs = [what for what in stage.events if what in {f"{name} up", f"{name} down"}]
            assert ups_and_downs == [f"{name} up", f"{name} down"] * (len(ups_and_downs) // 2)

    trio.run(follow, clock=trio.testing.MockClock(autojump_threshold=0))
