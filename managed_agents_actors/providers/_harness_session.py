"""One session of a harness: the invocation that goes on in it, and what it hands off.

A request and the results of its calls each start an invocation, whose events are written to the log as they come. It
belongs to the session's connection and not to an actor: one that crashes finds everything in the log. An invocation
that may have been accepted is never repeated, but for a stream that ended before anything could be committed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NoReturn, final

import trio

from .._errors import (
    ManagedAgentsError,
    NotFoundError,
    ProtocolError,
    TransportError,
    TruncatedStream,
)
from .._model import Event, ToolResult
from .._protocol.converse import Ending, HandedOff, Invocation, Stopped, Truncated
from .._protocol.converse_inputs import resume_messages, user_message
from .._protocol.facts import RESTARTED, RUNNING, Answered, Called, Idled, UserSpoke
from .._protocol.facts import Broken as BrokenOff
from .._protocol.handoffs import Handoffs
from .._protocol.mail import Message
from .._protocol.outbox import MAX_ATTEMPTS, judge
from ..agentcore import AgentCoreClient, HarnessStream
from ..telemetry import get_logger
from ._harness_log import HarnessLog
from ._harness_work import Work, came_to_nothing, delay, is_not_taken, was_refused_at_once

# Hand-offs of a request that was given up, which are answered one after the other before the next request. A harness
# that goes on calling tools is sent the message all the same, and says itself what is wrong with that.
MOST_CANCELLED: Final = 8

# Seconds that stopping the service's work may take when the session ends here.
STOP_BUDGET: Final = 5.0

# Seconds that an interrupt waits for an actor whose handler is slow.
READ_GRACE: Final = 1.0

UNSETTLED: Final = "the harness could not be told that the calls of an earlier request are cancelled"

INTERRUPTED: Final = Idled("terminated", "interrupted", None)


@final
class HarnessSession:
    """A session.

    Args:
        client: Sends the requests.
        session_id: The runtime session's id.
        fields: What every invocation carries beside its messages.
        idle_timeout: The longest silence of a stream, in seconds.
        retries: How often an invocation is repeated that came to nothing.
        stop: Ends the service's work on the session.
        stops_on_cancel: Whether an interrupt, or leaving, does so.
        nursery: Where the invocation runs.

    Attributes:
        log: What has happened in it.
    """

    def __init__(
        self,
        client: AgentCoreClient,
        session_id: str,
        *,
        fields: Mapping[str, Any],
        idle_timeout: float,
        retries: int,
        stop: Callable[[], Awaitable[None]],
        stops_on_cancel: bool,
        nursery: trio.Nursery,
    ) -> None:
        self.session_id = session_id
        self.log = HarnessLog()
        self._client = client
        self._fields = fields
        self._idle_timeout = idle_timeout
        self._retries = retries
        self._stop = stop
        self._stops_on_cancel = stops_on_cancel
        self._nursery = nursery
        self._handoffs = Handoffs()
        self._work: Work | None = None
        self._invocations = 0
        self._report = get_logger(provider="bedrock_agent_core", session_id=session_id)

    @property
    def is_busy(self) -> bool:
        """Whether an invocation goes on, or what came of it is still to be read."""
        return self._work is not None or self.log.unread > 0

    async def history(self) -> list[Event]:
        """Give what the log still holds, once it is known whether the harness has what was sent to it."""
        if self._work is not None:
            await self._work.decided.wait()
        return self.log.entries()

    # --- what is asked of it ------------------------------------------------------------------------------------------

    async def tell(self, message: Message) -> list[Event]:
        """Send a message; wait until the harness has it."""
        told = user_message(message.content)
        shown = tuple({"type": "text", "text": block["text"]} for block in told["content"])
        if self._work is not None:
            await self._work.over.wait()
        return await self._invoke(Work([told], [UserSpoke(shown, taken=True), RUNNING], begins_turn=True))

    async def answer(self, result: ToolResult) -> list[Event]:
        """Take the result of a call in; the last one that the harness waits for starts its next invocation."""
        self._handoffs.answer(result)
        if not self._handoffs.is_answered or self._handoffs.abandoned or self._work is not None:
            await trio.lowlevel.checkpoint()
            return []
        answers = self._handoffs.answers()
        facts = [Answered(use.id, told.content, told.is_error) for use, told in answers]
        return await self._invoke(Work(resume_messages(answers), [*facts, RUNNING]))

    async def interrupt(self) -> None:
        """Cut what goes on short; wait until nothing does."""
        await trio.lowlevel.checkpoint()  # a message that was posted at the same moment has begun after it
        work = self._work
        if work is not None:
            work.scope.cancel()
            await work.over.wait()
        if self._handoffs.pending and not self._handoffs.abandoned:
            self._handoffs.abandoned = True
            self.log.say(INTERRUPTED)
        with trio.move_on_after(READ_GRACE):
            # Its caller goes on when the actor knows: calls that were handed off just before would start after it.
            await self.log.wait_until_read()
        if self._stops_on_cancel:
            await self.stop_work()

    async def stop_work(self) -> None:
        """Have the service end the session's work, and forget what its machine has not stored. A failure is logged."""
        try:
            await self._stop()
        except NotFoundError:
            pass  # it has ended already
        except ManagedAgentsError as error:
            self._report.warning("stop_runtime_session_failed", exc_info=error)
            return
        self._handoffs.forget()  # the harness has, with everything else

    async def close(self) -> None:
        """The session is left: end the service's work, if that is wanted and it works, or waits for calls of ours."""
        if self._stops_on_cancel and (self._work is not None or self._handoffs.pending):
            with trio.move_on_after(STOP_BUDGET, shield=True):
                await self.stop_work()

    async def _settle_what_is_over(self) -> None:
        """A harness that waits for the calls of a request that was given up takes no message: answer them first.

        Raises:
            ManagedAgentsError: They could not be answered now, nor can the message be sent.
        """
        for _ in range(MOST_CANCELLED):
            if not self._handoffs.pending:
                return
            await self._cancel_calls(resume_messages(self._handoffs.answers()))
        self._handoffs.taken()

    async def _cancel_calls(self, messages: list[dict[str, Any]]) -> None:
        """Answer a hand-off that nobody waits for any more; what the harness makes of it is of no interest."""
        self._invocations += 1
        invocation = Invocation(self._invocations)
        try:
            async with self._open(messages) as stream:
                while True:
                    for event in await stream.receive_batch():
                        invocation.feed(event)
                    self._handoffs.taken()
        except trio.EndOfChannel:
            _, ending = invocation.end()
            match ending:
                case HandedOff(calls=calls):
                    self._handoffs.hand_off(calls)
                    self._handoffs.abandoned = True
                case Stopped():
                    self._handoffs.forget()
                case Truncated():
                    raise TransportError(UNSETTLED, request_sent=False) from None
        except ManagedAgentsError as error:
            if judge(error) in ("not_taken", "denied"):
                raise
            if not was_refused_at_once(error, invocation):
                raise TransportError(UNSETTLED, request_sent=False) from error
            self._handoffs.refused()
            self._report.info("cancelled_calls_refused", detail=str(error))

    # --- invocations --------------------------------------------------------------------------------------------------

    def _open(self, messages: list[dict[str, Any]]) -> AbstractAsyncContextManager[HarnessStream]:
        return self._client.invoke_harness(
            idle_timeout=self._idle_timeout, runtimeSessionId=self.session_id, messages=messages, **self._fields
        )

    async def _invoke(self, work: Work) -> list[Event]:
        """Start an invocation; wait until it is known whether the harness has the messages.

        Raises:
            ManagedAgentsError: It has not.
        """
        self._work = work
        self._nursery.start_soon(self._run, work)
        before = self.log.end
        await work.decided.wait()
        if work.refusal is not None:
            raise work.refusal
        return self.log.entries(before)[:1]

    async def _run(self, work: Work) -> None:
        try:
            with work.scope:
                await self._prepare(work)
                if work.refusal is None:
                    await self._work_through(work)
        except Exception as error:  # noqa: BLE001 -- a transport's defect, or ours, ends one request and no session beside it
            self._report.error("invocation_failed", exc_info=error)
            failure = TransportError(f"the invocation failed here: {type(error).__name__}")
            failure.__cause__ = error
            self._accept(work)
            self.log.say(BrokenOff(failure))
        if work.scope.cancelled_caught or (work.scope.cancel_called and work.refusal is not None):
            self._end_early(work)
        self._work = None
        work.decided.set()
        work.over.set()

    async def _prepare(self, work: Work) -> None:
        """Make the harness ready for a message; if that cannot be done now, the message is refused for now."""
        if not work.begins_turn:
            return
        try:
            await self._settle_what_is_over()
        except ManagedAgentsError as error:
            work.refusal = error
        else:
            self._handoffs.begin_turn()

    def _end_early(self, work: Work) -> None:
        """It was cut short. What was not sent by then is not going to be, and the request ends all the same."""
        if work.refusal is not None:
            work.is_sent, work.refusal = False, None
        if work.is_sent:
            self._accept(work)
        elif work.begins_turn and not work.decided.is_set():
            self.log.begin_turn()
            self.log.say(*work.entries)
        if work.invocation is not None:
            self._handoffs.doubt(work.invocation.perhaps_handed_off())
        self._handoffs.abandoned = True
        self.log.say(INTERRUPTED)

    async def _work_through(self, work: Work) -> None:
        """Invoke, and again as long as that comes to nothing or the harness asks for what it has been told."""
        attempt = refusals = 0
        while True:
            self._invocations += 1
            work.invocation = invocation = Invocation(self._invocations, self._handoffs.acknowledged)
            work.is_sent, work.is_open = True, False
            outcome = await self._attempt(work, invocation)
            if self._waits_for_calls(work, outcome, invocation) and await self._settled(work):
                continue
            if work.refusal is not None:
                return
            if not work.is_open and is_not_taken(outcome) and refusals < MAX_ATTEMPTS - 1:
                work.is_sent, refusals = False, refusals + 1
                await trio.sleep(delay(refusals, outcome))
                continue
            attempt, refusals = attempt + 1, 0
            if work.is_accepted and attempt <= self._retries and came_to_nothing(outcome, invocation):
                self.log.say(RESTARTED)
                await trio.sleep(delay(attempt, outcome))
            elif isinstance(outcome, HandedOff) and work.scope.cancel_called:
                self._handoffs.hand_off(outcome.calls)  # the interrupt came too late for the stream; it abandons them
                return
            elif isinstance(outcome, HandedOff) and self._hand_off(outcome.calls):
                # What came until now stays, whatever becomes of the next invocation.
                work.messages, work.entries = resume_messages(self._handoffs.answers()), [RUNNING]
                work.is_accepted, work.begins_turn, attempt = False, False, 0
            else:
                self._conclude(outcome, invocation)
                return

    def _waits_for_calls(self, work: Work, outcome: Ending | ManagedAgentsError, invocation: Invocation) -> bool:
        """Whether a message may have been refused because the harness never got the results that were sent before."""
        return work.begins_turn and was_refused_at_once(outcome, invocation) and self._handoffs.recall()

    async def _settled(self, work: Work) -> bool:
        """Try to settle those; say whether the message is worth another attempt."""
        try:
            await self._settle_what_is_over()
        except ManagedAgentsError as error:
            self._report.info("calls_not_settled", detail=str(error))
            return False
        work.refusal, work.is_sent = None, False
        if work.is_accepted:
            self.log.say(RESTARTED)
        return True

    async def _attempt(self, work: Work, invocation: Invocation) -> Ending | ManagedAgentsError:
        """Invoke once and write down what comes; give how it ended, or what went wrong."""
        try:
            async with self._open(work.messages) as stream:
                work.is_open = True
                self._accept(work)
                await self._read_stream(stream, invocation)
        except trio.EndOfChannel:
            events, ending = invocation.end()
            self.log.append(events)
            return ending
        except ManagedAgentsError as error:
            # What is certainly not taken may be sent again; that a harness is not there is an end of this request.
            if work.is_accepted or judge(error) in ("unclear", "gone"):
                self._accept(work)
            elif not work.decided.is_set():
                work.refusal = error
            return error

    def _conclude(self, outcome: Ending | ManagedAgentsError, invocation: Invocation) -> None:
        match outcome:
            case Stopped(fact=idle):
                self._handoffs.served()
                self.log.say(idle)
            case Truncated():
                self.log.say(BrokenOff(TruncatedStream("the invocation's stream ended before its turn did")))
            case ManagedAgentsError():
                self._handoffs.doubt(invocation.perhaps_handed_off())
                self.log.say(BrokenOff(outcome))
            case HandedOff():
                pass  # the calls are being run, or their hand-off was found to be broken

    async def _read_stream(self, stream: HarnessStream, invocation: Invocation) -> NoReturn:
        while True:
            for event in await stream.receive_batch():
                self.log.append(invocation.feed(event))
            await self.log.wait_for_room()

    def _accept(self, work: Work) -> None:
        """The harness has the messages, or may have them: it is not told them once more."""
        if work.is_accepted or work.refusal is not None:
            return
        work.is_accepted = True
        self._handoffs.taken()
        if work.begins_turn:
            self.log.begin_turn()
        self.log.say(*work.entries)
        work.decided.set()

    def _hand_off(self, calls: tuple[Called, ...]) -> bool:
        """The harness waits for calls: have them run, unless all have results; say whether it is to be told again."""
        open_calls = self._handoffs.unanswered(calls)
        match self._handoffs.hand_off(calls):
            case "repeat":
                return True
            case "ask":
                waiting = tuple(called.use.id for called in open_calls)
                self.log.say(*open_calls, Idled("requires_action", "tool_use", waiting))
            case "nothing":
                message = "the harness waits for the results of tools, but names no call that could be answered"
                self.log.say(BrokenOff(ProtocolError(message)))
        return False
