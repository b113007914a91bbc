"""The children of one supervisor: started, stopped and, when one ends by itself, judged.

Every decision is taken synchronously, where its cause comes to light; tasks only wait. Every run is started in the
context the supervisor was opened in, so that nothing of whoever asked for a start gets into a child.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any, final

import trio

from .._errors import ActorGone, ConfigurationError, RestartIntensityExceeded
from ._child import Member, Run
from ._latch import Latch
from ._report import Reporter
from ._restart import Intensity, RestartPolicy, affected, calls_for_restart
from ._spec import ChildSpec
from ._stop_signal import current_signal

# Seconds after its cancellation for which a child may clean up before the log names it. It is waited for all the same:
# nothing can end a task against its will, and whatever was started before it may still be in use by it.
STUBBORN_AFTER = 10.0


@final
class Crew:
    """The children of one supervisor, by id, in start order.

    Attributes:
        members: What is known of each.
        closing: Whether the supervisor is ending: nothing is started any more.
    """

    def __init__(self, nursery: trio.Nursery, policy: RestartPolicy, name: str, report: Reporter) -> None:
        self._nursery = nursery
        self._policy = policy
        self._name = name
        self._report = report
        self._context = contextvars.copy_context()
        self._intensity = Intensity(policy.max_restarts, policy.max_seconds)
        self._significant: set[Member] = set()
        self._failed: dict[Member, None] = {}  # those whose restart takes others with it, in order of failure
        self._regrouping = False
        self._settled = Latch()
        self._is_open = False
        self._has_completed = False
        self.members: dict[str, Member] = {}
        self.closing = False

    # --- what is asked for ----------------------------------------------------------------------------------------

    def find(self, id: str) -> Member:
        """Give the child of this id."""
        try:
            return self.members[id]
        except (KeyError, TypeError):
            raise ConfigurationError(f"{self._name} has no child {id!r}") from None

    def add(self, spec: ChildSpec) -> Member:
        """Take in a new child, last in start order, and start it."""
        if not isinstance(spec, ChildSpec):
            raise ConfigurationError(f"a child is told by a ChildSpec, not by {spec!r}")
        self._check_open(spec.id)
        if spec.id in self.members:
            raise ConfigurationError(f"{self._name} has a child {spec.id!r} already ({self.members[spec.id].state})")
        if spec.significant and self._policy.auto_shutdown == "never":
            raise ConfigurationError(f"child {spec.id!r} is significant, but {self._name} has auto_shutdown='never'")
        member = self.members[spec.id] = Member(spec, self._has_started)
        self._launch(member)
        return member

    def reopen(self, member: Member) -> None:
        """Start a stopped child again."""
        self._check_open(member.spec.id)
        self._check_stopped(member, "restarted")
        member.reopen()
        self._launch(member)

    def delete(self, member: Member) -> None:
        """Forget a stopped child."""
        self._check_stopped(member, "deleted")
        del self.members[member.spec.id]

    def forget(self, member: Member) -> None:
        """Leave nothing of a child whose start came to nothing."""
        if self.members.get(member.spec.id) is member:
            del self.members[member.spec.id]

    async def wait_opened(self, member: Member) -> None:
        """Wait for the start that was asked for; cancelled, undo it."""
        try:
            await member.opened.wait()
        except trio.Cancelled:
            self._ask_to_stop(member)
            member.run.scope.cancel()
            # As long as the child takes to be cancelled, like the start of a nursery.
            with trio.CancelScope(shield=True):
                await member.finished.wait()
            raise
        if member.refusal is not None:
            raise member.refusal

    async def terminate(self, member: Member) -> None:
        """Stop a child for good, and wait until it has ended, unless it is the child itself that asks."""
        if self._ask_to_stop(member):
            self._spawn(self._stop, member, member.run)
        if member.run.signal is current_signal.get():
            await trio.lowlevel.checkpoint()
        else:
            await member.finished.wait()

    def mark_open(self) -> None:
        """Note that all children the supervisor was opened with have started."""
        self._is_open = True
        if self._has_completed:
            self._end()

    async def close(self) -> None:
        """Stop all children in reverse start order, one by one, whatever else is cancelled."""
        self.closing = True
        for member in reversed(list(self.members.values())):
            if self._ask_to_stop(member):
                await self._stop(member, member.run)

    def _check_open(self, id: str) -> None:
        if self.closing:
            raise ActorGone(f"{self._name} is closing, or has closed; it does not start child {id!r}")

    def _check_stopped(self, member: Member, what: str) -> None:
        if member.state != "stopped":
            raise ConfigurationError(f"child {member.spec.id!r} is {member.state}; only a stopped one can be {what}")

    # --- starting and stopping ------------------------------------------------------------------------------------

    def _spawn(self, task: Callable[..., Awaitable[Any]], *args: Any, name: str | None = None) -> None:
        self._context.run(lambda: self._nursery.start_soon(task, *args, name=name))

    def _launch(self, member: Member) -> None:
        if member.spec.significant:
            self._significant.add(member)
        self._spawn(self._live, member, member.run, name=f"{self._name}/{member.spec.id}")

    def _relaunch(self, member: Member) -> None:
        member.renew_run()
        self._launch(member)

    async def _live(self, member: Member, run: Run) -> None:
        try:
            await run.perform(member.spec.start)
        except BaseException:
            # Not the child's own: the supervisor is being cancelled, or the process is to end.
            self.closing = True
            raise
        finally:
            try:
                self._has_ended(member, run)
            finally:
                run.exited.set()

    def _has_started(self, member: Member) -> None:
        run = member.run
        if run.stopping is not None:
            return
        is_restart = member.state == "restarting"
        member.state = "running"
        member.has_served = True
        member.restarts += is_restart
        member.opened.set()
        self._settled.set()
        self._report.started(member, again=is_restart)

    def _ask_to_stop(self, member: Member, *, restarting: bool = False) -> bool:
        """Ask a child to end; say whether there is a task to wait for."""
        if member.has_task:
            member.run.ask_to_stop(restarting=restarting)
            return True
        if not restarting and member.state != "stopped":
            self._finish(member)
        return False

    async def _stop(self, member: Member, run: Run) -> None:
        """See a child off, whatever is cancelled meanwhile. This takes no longer than its grace and its clean-up."""
        with trio.CancelScope(shield=True):
            await self._see_off(member, run)

    async def _see_off(self, member: Member, run: Run) -> None:
        """Wait for a child that was asked to end, as long as it may take; then cancel it."""
        if run.has_started and run.signal.is_heeded:
            with trio.move_on_after(member.spec.shutdown):
                await run.exited.wait()
        run.scope.cancel()
        with trio.move_on_after(STUBBORN_AFTER) as patience:
            await run.exited.wait()
        if patience.cancelled_caught:
            self._report.stubborn(member)
            await run.exited.wait()

    # --- judging --------------------------------------------------------------------------------------------------

    def _has_ended(self, member: Member, run: Run) -> None:
        self._settled.set()
        member.last_exit = run.exit
        if member.state != "starting":
            self._report.exited(member)
        if run.stopping == "restart" and not self.closing:
            if member.state == "running":
                member.state = "restarting"
        elif run.stopping is not None or self.closing or member.state == "starting":
            self._finish(member)
        else:
            self._judge(member)

    def _judge(self, member: Member) -> None:
        """Decide about a child that has ended by itself."""
        if not calls_for_restart(member.spec.restart, member.run.exit):
            self._finish(member)
            if member.spec.significant:
                self._consider_shutdown()
            return
        member.state = "restarting"
        if self._policy.strategy != "one_for_one":
            self._failed[member] = None
            if not self._regrouping:
                self._regrouping = True
                self._spawn(self._regroup)
        elif self._may_restart(member):
            self._relaunch(member)

    def _finish(self, member: Member) -> None:
        """Note that a child will not be started again, unless somebody asks for it."""
        if member.state == "starting":
            stopped = ActorGone(f"child {member.spec.id!r} was stopped before it had started")
            member.refusal = member.run.failure or stopped
        member.state = "stopped"
        member.final_exit = member.run.exit
        self._failed.pop(member, None)
        self._significant.discard(member)
        if member.spec.restart == "temporary" or not member.has_served:
            del self.members[member.spec.id]
        member.opened.set()
        member.finished.set()
        if member.on_finished is not None:
            member.on_finished()

    def _may_restart(self, member: Member) -> bool:
        """Count a restart; if it is one too many, give up."""
        if self._intensity.record(trio.current_time()):
            return True
        policy, run = self._policy, member.run
        error = RestartIntensityExceeded(
            f"{self._name} gave up: child {member.spec.id!r} ended ({run.exit.kind}), and would have had to be "
            f"restarted, the last of more than {policy.max_restarts} restarts within {policy.max_seconds:g} s"
        )
        error.__cause__ = run.exit.error
        self._report.gave_up(member, error)
        self._finish(member)
        self._spawn(_escalate, error)
        self._end()
        return False

    def _consider_shutdown(self) -> None:
        if self._policy.auto_shutdown == "any_significant" or not self._significant:
            self._has_completed = True
            if self._is_open:
                self._end()

    def _end(self) -> None:
        self.closing = True
        self._nursery.cancel_scope.cancel()

    # --- restarting several ---------------------------------------------------------------------------------------

    async def _regroup(self) -> None:
        """Restart failed children, and those that go down with them, until nothing is left to restart.

        A child that fails while it is taken down anyway is not counted. A failure while others are being started
        begins anew with that one; whoever still waits is started then.
        """
        while self._failed and not self.closing:
            failed = next(iter(self._failed))
            if not self._may_restart(failed):
                return
            group = affected(self._policy.strategy, list(self.members.values()), failed)
            for member in reversed(group):
                if self._ask_to_stop(member, restarting=member.spec.restart != "temporary"):
                    await self._see_off(member, member.run)
            for member in group:
                self._failed.pop(member, None)
            await self._start_waiting()
        self._regrouping = False

    async def _start_waiting(self) -> None:
        """Start all that wait for it, one by one in start order, until one fails."""
        for member in list(self.members.values()):
            if member.state != "stopped" and not member.has_task:
                self._relaunch(member)
                await self._wait_settled(member)
            if self._failed or self.closing:
                return

    async def _wait_settled(self, member: Member) -> None:
        """Wait until a run serves or has ended, or somebody else has failed, whom it might be waiting for."""
        while member.has_task and not (member.run.has_started or self._failed or self.closing):
            self._settled = Latch()
            await self._settled.wait()


async def _escalate(error: RestartIntensityExceeded) -> None:
    raise error
