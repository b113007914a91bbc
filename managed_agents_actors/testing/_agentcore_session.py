"""One simulated runtime session: the conversation in its microVM, the hand-off it waits for, and its one invocation.

Every method decides at once, without waiting; only the agent's turn is a task, and it outlives the invocations that it
spans. What an invocation changed can be undone as a whole, for the service commits no turn that failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import trio

from ._agentcore_api import refuse
from ._agentcore_resume import HandOff, StreamRefusal, require_resumable, results_in
from ._agentcore_round import ToolRound
from ._agentcore_state import Invocation, Limits, MicroVM, SessionOptions, Suspended
from ._agentcore_turn import HarnessTurn
from ._api import Ids
from ._aws_frames import event_frame, exception_frame
from ._background import Background
from ._feed import Feed
from ._stream_faults import Frame

__all__ = ["RuntimeSession", "push_exception"]

Json: TypeAlias = dict[str, Any]


class RuntimeSession:
    """A runtime session, whether its microVM lives or not.

    Attributes:
        id: As the client chose it.
        options: What it runs with.
        ids: Makes ids.
        vm: Its microVM; ``None`` before the first use and after its end.
        invocation: The one that runs.
        invocations: How many there were.
        commands: The commands that run: where their output goes, and what stops them.
        actor_id: The last actor that was named.
        stopped: Whether it was stopped, and not used since.
    """

    def __init__(self, session_id: str, options: SessionOptions, *, ids: Ids, background: Background) -> None:
        self.id = session_id
        self.options = options
        self.ids = ids
        self.vm: MicroVM | None = None
        self.invocation: Invocation | None = None
        self.invocations = 0
        self.commands: dict[Feed, trio.CancelScope] = {}
        self.actor_id: str | None = None
        self.stopped = False
        self._background = background
        self._turn: HarnessTurn | None = None
        self._last: Invocation | None = None
        self._resting = trio.Event()
        self._lifetimes = (float("inf"), float("inf"))

    @property
    def pending(self) -> tuple[str, ...]:
        """The calls that were handed off and not answered."""
        suspended = self.vm.suspended if self.vm is not None else None
        return () if suspended is None else tuple(suspended.round.group())

    # -- what clients ask for

    def invoke(
        self,
        messages: Sequence[Json],
        feed: Feed,
        *,
        limits: Limits,
        tools: frozenset[str] | None,
        known: frozenset[str],
    ) -> Invocation:
        """Start an invocation; what is wrong with its messages is told within its stream.

        Args:
            messages: As the client sent them.
            feed: Where its events go.
            limits: What bounds it.
            tools: The names in its own list of tools; ``None`` if it came with none.
            known: The names in the harness's list.

        Raises:
            ServiceRefusal: One runs already; 409.
        """
        if self.invocation is not None:
            raise refuse(409, f"Session {self.id} is being invoked; try again later", code="RetryableConflictException")
        vm = self.use(idle_timeout=limits.idle_timeout, max_lifetime=limits.max_lifetime)
        self.invocations += 1
        before = ([*vm.messages], vm.turns, vm.suspended)
        self._last = invocation = Invocation(feed=feed, limits=limits, tools=tools, before=before)
        try:
            self._check(messages, vm, known if tools is None else tools)
        except StreamRefusal as refusal:
            push_exception(feed, refusal.type, refusal.message)
            feed.end()
            return invocation
        self.invocation = invocation
        if vm.suspended is None:
            began_at = len(vm.messages)
            vm.messages += messages
            vm.turns += 1
            self._start(HarnessTurn(self, number=vm.turns, inputs=tuple(messages), began_at=began_at))
        else:
            self._resume(vm, vm.suspended, messages)
        if self._turn is not None:
            self._turn.scope.deadline = trio.current_time() + limits.timeout
        return invocation

    def _check(self, messages: Sequence[Json], vm: MicroVM, tools: frozenset[str]) -> None:
        waits_for = HandOff()
        if vm.suspended is not None:
            calls = vm.suspended.round
            waits_for = HandOff(pending=calls.group(), later=calls.later(), override=vm.suspended.override)
        contract, history = self.options.contract, len(vm.messages)
        require_resumable(messages, waits_for, contract=contract, tools=tools, history=history)

    def _resume(self, vm: MicroVM, suspended: Suspended, messages: Sequence[Json]) -> None:
        vm.suspended = None
        if self.options.contract == "echo":
            vm.messages += messages
        suspended.round.settle(results_in(messages))
        if self._turn is None:
            number, inputs, began_at = suspended.number, suspended.inputs, suspended.began_at
            self._start(HarnessTurn(self, number=number, inputs=inputs, began_at=began_at, again=suspended))

    def use(self, *, idle_timeout: float, max_lifetime: float) -> MicroVM:
        """The microVM, a fresh one if there is none that still lives."""
        self.expire()
        self.stopped = False
        self._lifetimes = (idle_timeout, max_lifetime)
        if self.vm is None:
            self.vm = MicroVM()
        self.vm.active = trio.current_time()
        return self.vm

    def expire(self) -> None:
        """Give the microVM up if it has been idle, or has lived, for too long."""
        if self.vm is None or self.invocation is not None or self.commands:
            return
        idle_timeout, max_lifetime = self._lifetimes
        now = trio.current_time()
        if now - self.vm.active >= idle_timeout or now - self.vm.born >= max_lifetime:
            self._forget()

    def stop(self) -> bool:
        """End the microVM with all that it does; false if there is none."""
        self.expire()
        if self.vm is None:
            return False
        self._forget()
        self.stopped = True
        return True

    def _forget(self) -> None:
        self._abandon_turn()
        self._end_invocation()
        while self.commands:
            feed, scope = self.commands.popitem()
            feed.end()
            scope.cancel()
        self.vm = None

    def undo(self, invocation: Invocation) -> None:
        """Take an invocation back, unless another one began since: what it was sent may be sent again."""
        if self.vm is None or self._last is not invocation:
            return
        self._abandon_turn()
        self.invocation = None
        self._resting.set()
        self.vm.messages, self.vm.turns, self.vm.suspended = [*invocation.before[0]], *invocation.before[1:]
        if self.vm.suspended is not None:
            self.vm.suspended.round.restore(self.vm.suspended.answers)

    # -- what the turn asks for

    def push(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Send an event in the stream of the present invocation."""
        if self.invocation is not None:
            self.invocation.feed.push(Frame(event_frame(kind, payload), kind))

    def keep(self, message: Json) -> None:
        """A message enters the conversation."""
        if self.vm is not None:
            self.vm.messages.append(message)

    def hand_off(self, turn: HarnessTurn, calls: ToolRound) -> None:
        """Leave the present group of calls to the client: the invocation is over, the turn is not."""
        if self.vm is None or self.invocation is None:
            return
        override = {calls.calls[use_id].name for use_id in calls.group()} & (self.invocation.tools or frozenset())
        self.vm.suspended = Suspended(
            number=turn.number,
            inputs=turn.inputs,
            past=tuple(turn.past),
            round=calls,
            answers=dict(calls.answers),
            override=frozenset(override),
            began_at=turn.began_at,
        )
        turn.scope.deadline = float("inf")
        self._end_invocation()

    # -- turns

    def _start(self, turn: HarnessTurn) -> None:
        self._turn = turn
        self._background.start_soon(self._play, turn)

    async def _play(self, turn: HarnessTurn) -> None:
        try:
            with turn.scope:
                await self.options.agent(turn)
        except Exception:
            if self._turn is turn:
                self._fail(turn, "internalServerException", "the simulated agent failed")
            raise
        if self._turn is not turn:
            return
        if turn.failure is not None:
            self._fail(turn, *turn.failure)
            if turn.terminal:
                self._forget()
            return
        turn.close(timed_out=turn.scope.cancelled_caught and turn.stop_reason is None)
        self._turn = None
        self._end_invocation()

    def _fail(self, turn: HarnessTurn, kind: str, message: str) -> None:
        """The turn failed: it is told within the stream, and nothing of the turn stays."""
        self._turn = None
        if self.vm is not None:
            del self.vm.messages[turn.began_at :]
        if self.invocation is not None:
            push_exception(self.invocation.feed, kind, message)
        self._end_invocation()

    def _abandon_turn(self) -> None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.scope.cancel()

    def _end_invocation(self) -> None:
        invocation, self.invocation = self.invocation, None
        if self.vm is not None:
            self.vm.active = trio.current_time()
        if invocation is not None:
            invocation.feed.end()
        self._resting.set()

    async def wait_resting(self) -> None:
        """Wait until no invocation runs."""
        while self.invocation is not None:
            self._resting = trio.Event()
            await self._resting.wait()
        await trio.lowlevel.checkpoint()


def push_exception(feed: Feed, kind: str, message: str) -> None:
    """Send an exception within a stream."""
    feed.push(Frame(exception_frame(kind, {"message": message}), None))
