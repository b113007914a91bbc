"""One simulated runtime session: the conversation in its microVM, the hand-off it waits for, and its one invocation.

Every method decides at once, without waiting; only the agent's turn is a task, and it outlives the invocations that it
spans. What an invocation changed can be undone as a whole, for the service commits no turn that failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import trio

from .._errors import ConfigurationError
from ._agentcore_api import refuse, thrown
from ._agentcore_resume import HandOff, StreamRefusal, require_resumable, results_in
from ._agentcore_round import ToolRound
from ._agentcore_state import Invocation, Limits, MicroVM, SessionOptions, Suspended
from ._agentcore_tools import ToolSet
from ._agentcore_turn import HarnessTurn
from ._api import Ids
from ._aws_frames import event_frame
from ._background import Background
from ._feed import MAX_BUFFERED_FRAMES, Feed
from ._stream_faults import Frame

__all__ = ["RuntimeSession", "push_exception"]

Json: TypeAlias = dict[str, Any]

# Events of a session that are remembered; as many as a stream may be behind.
MAX_SENT = MAX_BUFFERED_FRAMES


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
        sent: The latest events of its streams.
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
        self.sent: deque[Json] = deque(maxlen=MAX_SENT)
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
        tools: ToolSet,
    ) -> Invocation:
        """Start an invocation; that its messages do not fit the session is told within its stream.

        Args:
            messages: A conversation, as the client sent it.
            feed: Where its events go.
            limits: What bounds it.
            tools: The tools that it can use.

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
            self._check(messages, vm, tools)
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

    def _check(self, messages: Sequence[Json], vm: MicroVM, tools: ToolSet) -> None:
        waits_for = HandOff()
        if vm.suspended is not None:
            calls, pending = vm.suspended.round, vm.suspended.round.group()
            names = {calls.calls[use_id].name for use_id in pending}
            declared = vm.suspended.declared
            waits_for = HandOff(pending=pending, later=calls.later(), names=names, declared=declared)
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

    def require_tools(self, names: Collection[str]) -> None:
        """Let inline functions pass that the present invocation can use.

        Raises:
            ConfigurationError: A script calls one that it cannot: no model could.
        """
        missing = [] if self.invocation is None else self.invocation.tools.missing(names)
        if missing:
            raise ConfigurationError(
                f"the script calls {', '.join(missing)}, which the invocation cannot use: its tools, or those of its "
                "harness, must declare each inline function, and allowedTools must allow it. Where no tools are "
                "declared at all, a script may call what it likes."
            )

    def push(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Send an event in the stream of the present invocation."""
        if self.invocation is not None:
            self.sent.append({"type": kind, kind: payload})
            self.invocation.feed.push(Frame(event_frame(kind, payload), kind))

    def keep(self, message: Json) -> None:
        """A message enters the conversation."""
        if self.vm is not None:
            self.vm.messages.append(message)

    def hand_off(self, turn: HarnessTurn, calls: ToolRound) -> None:
        """Leave the present group of calls to the client: the invocation is over, the turn is not."""
        if self.vm is None or self.invocation is None:
            return
        self.vm.suspended = Suspended(
            number=turn.number,
            inputs=turn.inputs,
            past=tuple(turn.past),
            round=calls,
            answers=dict(calls.answers),
            declared=self.invocation.tools.inline is not None,
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
    feed.push(Frame(thrown(kind, message), None))
