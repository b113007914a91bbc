"""One child: its runs one after the other, what its supervisor knows of it, and the handle that users hold.

A run knows nothing of restarts, and a child nothing of its siblings; both are told what happens to them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, final

import trio

from ._exit import CANCELLED, NORMAL, Exit, exit_of
from ._latch import Latch
from ._nursery import separate
from ._restart import Restart
from ._spec import ChildSpec
from ._stop_signal import StopSignal, current_signal

ChildState = Literal["starting", "running", "restarting", "stopped"]


@final
class Run:
    """One run of a child, from its start to its exit. It is the ``task_status`` of its own start.

    Attributes:
        scope: Cancels the run. Shielded once the child serves: only its supervisor stops it, in its turn.
        signal: Its stop signal.
        stopping: Whether its supervisor has asked it to end, and for what.
        value: What it gave to ``started()``.
        has_started: Whether it has called ``started()``.
        began: When it was started, by trio's clock.
        failure: What it raised, if it did.
        exit: How it ended; until then, how it has ended if it is cancelled now.
        exited: Set once it has ended, however it did, and its supervisor has judged that.
    """

    __slots__ = (
        "_member",
        "began",
        "exit",
        "exited",
        "failure",
        "has_started",
        "scope",
        "signal",
        "stopping",
        "value",
    )

    def __init__(self, member: Member) -> None:
        self._member = member
        self.scope = trio.CancelScope()
        self.signal = StopSignal()
        self.stopping: Literal["restart", "stop"] | None = None
        self.value: Any = None
        self.has_started = False
        self.began = trio.current_time()
        self.failure: Exception | None = None
        self.exit: Exit = CANCELLED
        self.exited = Latch()

    def started(self, value: Any = None) -> None:
        """Say that the child serves; called by the child."""
        if self.has_started:
            raise RuntimeError("a child calls started() once for each time it is started")
        self.has_started = True
        self.value = value
        self.scope.shield = True
        self._member.on_started(self._member)

    def ask_to_stop(self, *, restarting: bool) -> None:
        """Tell the child to end. Whoever wants it to end for good overrules who wants it to start again."""
        self.stopping = "restart" if restarting and self.stopping != "stop" else "stop"
        self.signal.request(restarting=self.stopping == "restart")

    async def perform(self, start: Callable[..., Awaitable[Any]]) -> None:
        """Run the child to its end and note how it ended. Raises only what is not the child's: cancellation, exits."""
        current_signal.set(self.signal)
        try:
            with self.scope:
                await trio.lowlevel.checkpoint_if_cancelled()  # cancelled before its turn came, it runs nothing
                await start(task_status=self)
        except BaseException as error:  # noqa: BLE001 -- separated at once: what is no failure of the child is raised
            self.failure, foreign = separate(error)
            if foreign is not None:
                raise foreign  # noqa: B904 -- it is what was caught, or the part of it that is not the child's
        else:
            if not self.scope.cancelled_caught:
                self.exit = NORMAL
                if not self.has_started:
                    self.failure = RuntimeError("the child returned without having called task_status.started()")
        finally:
            if self.failure is not None:
                self.exit = exit_of(self.failure)


@final
class Member:
    """What a supervisor knows of one child.

    Attributes:
        spec: How it is started and stopped.
        run: Its present run, or the last one.
        state: ``"starting"``: somebody waits for its start. ``"restarting"``: it has ended and is to serve again.
        has_served: Whether any run of it has ever called ``started()``.
        restarts: How often its supervisor has started it again.
        last_exit: How its last run ended, once one has.
        final_exit: How it ended when it last finished.
        opened: Set when the start that somebody waits for is decided.
        refusal: What to raise to whoever waited for that start.
        finished: Set when it has ended and its supervisor will not start it again by itself.
        handle: What its users hold.
        on_started: Told whenever a run of it serves.
        on_finished: Told when it has finished, if somebody wants to know without waiting.
    """

    __slots__ = (
        "final_exit",
        "finished",
        "handle",
        "has_served",
        "last_exit",
        "on_finished",
        "on_started",
        "opened",
        "refusal",
        "restarts",
        "run",
        "spec",
        "state",
    )

    def __init__(self, spec: ChildSpec, on_started: Callable[[Member], None]) -> None:
        self.on_started = on_started
        self.on_finished: Callable[[], None] | None = None
        self.spec = spec
        self.run = Run(self)
        self.state: ChildState = "starting"
        self.has_served = False
        self.restarts = 0
        self.last_exit: Exit | None = None
        self.final_exit: Exit = CANCELLED
        self.opened = Latch()
        self.refusal: Exception | None = None
        self.finished = Latch()
        self.handle = Child(self)

    @property
    def has_task(self) -> bool:
        """Whether a run of it is under way."""
        return not self.run.exited.is_set()

    def renew_run(self) -> None:
        """Make ready for another run."""
        self.run = Run(self)

    def reopen(self) -> None:
        """Make ready for being started by request again, after it had finished."""
        self.on_finished = None
        self.state = "starting"
        self.opened, self.refusal, self.finished = Latch(), None, Latch()
        self.renew_run()

    def info(self) -> ChildInfo:
        """Give a snapshot."""
        return ChildInfo(
            id=self.spec.id,
            state=self.state,
            restart=self.spec.restart,
            restarts=self.restarts,
            last_exit=self.last_exit,
        )


@final
class Child:
    """The handle of a child; it stays the same across restarts. Get one from a supervisor; no public constructor."""

    __slots__ = ("_member",)

    def __init__(self, member: Member) -> None:
        self._member = member

    def __repr__(self) -> str:
        return f"<Child {self.id!r} {self._member.state}>"

    @property
    def id(self) -> str:
        """Its name among its supervisor's children."""
        return self._member.spec.id

    @property
    def value(self) -> Any:
        """What the present run gave to ``started()``; ``None`` until it has."""
        return self._member.run.value

    @property
    def restarts(self) -> int:
        """How often its supervisor has started it again."""
        return self._member.restarts

    async def wait_exited(self) -> Exit:
        """Wait until the present run has ended, and give its exit; at once if it has."""
        run = self._member.run
        await run.exited.wait()
        return run.exit

    async def wait_finished(self) -> Exit:
        """Wait until it has ended and its supervisor will not start it again by itself; give its last exit.

        That is: it ended in a way its restart type leaves alone, was terminated, or its supervisor closed or gave up.
        """
        await self._member.finished.wait()
        return self._member.final_exit

    def _when_finished(self, call: Callable[[], None]) -> None:
        """Have a function called once :meth:`wait_finished` would return, at once if it would now."""
        self._member.on_finished = call
        if self._member.finished.is_set():
            call()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChildInfo:
    """A snapshot of one child.

    Attributes:
        id: Its name among its supervisor's children.
        state: ``"starting"``, ``"running"``, ``"restarting"`` or ``"stopped"``.
        restart: Its restart type.
        restarts: How often its supervisor has started it again.
        last_exit: How its last run ended; ``None`` as long as none has.
    """

    id: str
    state: ChildState
    restart: Restart
    restarts: int
    last_exit: Exit | None


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChildCounts:
    """How many children a supervisor has, and in which state they are.

    Attributes:
        specs: All of them.
        active: Those that run.
        starting: Those whose start somebody waits for.
        restarting: Those that have ended and are to serve again.
        stopped: Those that have finished, and were not deleted.
    """

    specs: int
    active: int
    starting: int
    restarting: int
    stopped: int
