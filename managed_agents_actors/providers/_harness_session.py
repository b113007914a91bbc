"""One session of a harness: what is asked of it, and what becomes of the work that goes on in it.

A request and the results of its calls each start an invocation. It belongs to the session's connection and not to an
actor: one that crashes finds everything in the log.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, final

import trio

from .._errors import NotFoundError
from .._model import Event, ToolResult
from .._protocol.converse_inputs import resume_messages, user_message
from .._protocol.facts import RUNNING, Answered, Fact, Idled, UserSpoke
from .._protocol.mail import Message
from ..telemetry import get_logger
from ._harness_log import HarnessLog
from ._harness_work import Work
from ._harness_worker import HarnessWorker

# Seconds that stopping the service's work may take, and that an interrupt, or the end of the session, waits for it.
STOP_SECONDS: Final = 30.0
STOP_BUDGET: Final = 5.0

# Seconds that an interrupt waits for an actor whose handler is slow.
READ_GRACE: Final = 1.0


@final
class HarnessSession:
    """A session.

    Args:
        session_id: The runtime session's id.
        worker: Invokes the harness.
        log: What has happened in the session.
        stop: Ends the service's work on the session.
        stops_on_cancel: Whether an interrupt, or leaving, does so.
        nursery: Where the invocations run.

    Attributes:
        session_id: As given.
        log: As given.
        worker: As given.
    """

    def __init__(
        self,
        session_id: str,
        *,
        worker: HarnessWorker,
        log: HarnessLog,
        stop: Callable[[], Awaitable[None]],
        stops_on_cancel: bool,
        nursery: trio.Nursery,
    ) -> None:
        self.session_id = session_id
        self.log = log
        self.worker = worker
        self._stop = stop
        self._stops_on_cancel = stops_on_cancel
        self._nursery = nursery
        self._report = get_logger(provider="bedrock_agent_core", session_id=session_id)

    @property
    def is_busy(self) -> bool:
        """Whether an invocation goes on for a request, or what came of it is still to be read."""
        work = self.worker.work
        return (work is not None and not work.left.is_set()) or self.log.unread > 0

    async def history(self) -> list[Event]:
        """Give what the log still holds, once it is known whether the harness has what was sent to it."""
        work = self.worker.work
        if work is not None and work.is_sent:
            await work.decided.wait()
        return self.log.entries()

    # --- what is asked of it ------------------------------------------------------------------------------------------

    async def tell(self, message: Message) -> list[Event]:
        """Send a message, once what an earlier request left behind is over; wait until the harness has it."""
        told = user_message(message.content)
        shown = tuple({"type": "text", "text": block["text"]} for block in told["content"])
        entries: list[Fact] = [UserSpoke(shown, taken=True), RUNNING]
        return await self._invoke(Work([told], entries, begins_turn=True, earlier=self.worker.work))

    async def answer(self, result: ToolResult) -> list[Event]:
        """Take the result of a call in; the last one that the harness waits for starts its next invocation."""
        self.worker.handoffs.answer(result)
        if not self.worker.handoffs.is_answered or self.worker.handoffs.abandoned or self.worker.work is not None:
            await trio.lowlevel.checkpoint()
            return []
        answers = self.worker.handoffs.answers()
        facts = [Answered(use.id, told.content, told.is_error) for use, told in answers]
        return await self._invoke(Work(resume_messages(answers), [*facts, RUNNING]))

    async def interrupt(self) -> None:
        """Leave what goes on; wait until the session's actor knows, and no call is begun any more."""
        await trio.lowlevel.checkpoint()  # a message that was posted at the same moment has begun after it
        if self._leave_request() and self._stops_on_cancel and self.worker.stopping is None:
            # Beside the actor, which may not live so long; and no message goes out before it is over.
            self.worker.stopping = trio.Event()
            self._nursery.start_soon(self._stop_work, self.worker.stopping)
        with trio.move_on_after(READ_GRACE):
            # Its caller goes on when the actor knows: calls that were handed off just before would start after it.
            await self.log.wait_until_read()
        with trio.move_on_after(STOP_BUDGET):
            await self._stopped()

    async def leave(self) -> None:
        """The session is left for good: have the service end its work, unless it is known that nothing goes on."""
        self._leave_request()
        await self._stopped()
        if self.worker.is_unused or self._may_be_at_work:
            self.worker.stopping = trio.Event()
            await self._stop_work(self.worker.stopping)

    async def _stopped(self) -> None:
        """Wait until the service's work is not being stopped any more."""
        if self.worker.stopping is not None:
            await self.worker.stopping.wait()

    async def _stop_work(self, stopping: trio.Event) -> None:
        """Have the service end the session's work, and forget what its machine has not stored. A failure is logged.

        Then the work is followed to its end, as it is without being stopped.
        """
        try:
            with trio.fail_after(STOP_SECONDS):
                await self._stop()
            await self._forget_everything()
        except NotFoundError:
            await self._forget_everything()  # it has ended already
        except Exception as error:  # noqa: BLE001 -- it runs beside every request, and must not take them with it
            self._report.warning("stop_runtime_session_failed", exc_info=error)
        finally:
            self.worker.stopping = None
            stopping.set()

    async def close(self) -> None:
        """The session is left: end the service's work, if that is wanted and it works, or waits for calls of ours."""
        if self._stops_on_cancel and not self.worker.is_unused and self._may_be_at_work:
            with trio.move_on_after(STOP_BUDGET, shield=True):
                await self.leave()

    @property
    def _may_be_at_work(self) -> bool:
        worker = self.worker
        return worker.work is not None or worker.was_cut_off or worker.lost_sight or bool(worker.handoffs.pending)

    async def _invoke(self, work: Work) -> list[Event]:
        """Start an invocation; wait until it is known whether the harness has the messages.

        Raises:
            ManagedAgentsError: It has not.
        """
        self.worker.work = work
        self._nursery.start_soon(self.worker.run, work)
        before = self.log.end
        try:
            await work.decided.wait()
        except trio.Cancelled:
            if not work.is_sent and not work.decided.is_set():
                work.withdraw()
            raise
        if work.refusal is not None:
            raise work.refusal
        return self.log.entries(before)[:1]

    def _leave_request(self) -> bool:
        """End the request in progress here, and leave the harness to its work; say whether there was any."""
        work = self.worker.work
        if work is not None and not work.left.is_set():
            self._end_early(work)
            work.leave()
        elif self.worker.handoffs.pending and not self.worker.handoffs.abandoned:
            self._say_interrupted()
        else:
            return work is not None
        return True

    def _end_early(self, work: Work) -> None:
        """What was not sent by now is not going to be, and the request ends all the same."""
        if work.refusal is not None:
            work.is_sent, work.refusal = False, None
        if work.is_sent:
            self.worker.accept(work)
        elif work.begins_turn and not work.decided.is_set():
            self.log.begin_turn()
            self.log.say(*work.entries)
        work.decided.set()
        self._say_interrupted()

    def _say_interrupted(self) -> None:
        self.worker.handoffs.abandoned = True
        self.log.say(Idled("terminated", "interrupted", None, at_work=not self._stops_on_cancel))

    async def _forget_everything(self) -> None:
        """The service has ended the session's machine: streams have nothing more to tell, and nothing is waited for."""
        left, work = [], self.worker.work
        while work is not None:
            if work.left.is_set():
                left.append(work)
                work.scope.cancel()
            work = work.earlier
        for each in left:
            await each.over.wait()
        self.worker.forget()
