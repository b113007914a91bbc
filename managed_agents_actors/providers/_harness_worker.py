"""The invocations of one session: each told to the harness, followed to its end, and repeated if that leaves nothing.

Their events are written to the log as they come. An invocation that may have been accepted is never repeated, but for a
stream that ended before anything could be committed. One whose request is over is followed all the same, without a
word: what it hands off has to be settled before the harness takes another message.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, NoReturn, final

import trio

from .._errors import APIError, ManagedAgentsError, ProtocolError, TransportError, TruncatedStream
from .._protocol.converse import Ending, HandedOff, Invocation, Stopped, Truncated
from .._protocol.converse_inputs import resume_messages
from .._protocol.facts import RESTARTED, RUNNING, Called, Fact, Idled
from .._protocol.facts import Broken as BrokenOff
from .._protocol.handoffs import Handoffs
from .._protocol.outbox import MAX_ATTEMPTS, judge
from ..agentcore import AgentCoreClient, HarnessStream
from ..telemetry import get_logger
from ._harness_log import HarnessLog
from ._harness_work import Work, came_to_nothing, delay, is_not_taken, was_refused_at_once

# Hand-offs of a request that was given up, which are answered one after the other before the next request. A harness
# that goes on calling tools is sent the message all the same, and says itself what is wrong with that.
MOST_CANCELLED: Final = 8

UNSETTLED: Final = "the harness could not be told that the calls of an earlier request are cancelled"

OUT_OF_SIGHT: Final = (
    "a stream of this session broke before its turn ended: the harness may wait for calls that this process never heard"
    " of, and then it takes no message. Stop the session with client.stop_runtime_session(), and it begins anew"
)


@final
class HarnessWorker:
    """Invokes the harness.

    Args:
        client: Sends the requests.
        session_id: The runtime session's id.
        fields: What every invocation carries beside its messages.
        idle_timeout: The longest silence of a stream, in seconds; ``None`` is the client's own.
        retries: How often an invocation is repeated that came to nothing.
        log: What has happened in the session.

    Attributes:
        client: As given.
        fields: As given.
        handoffs: The calls that the harness waits for.
        work: What goes on, if anything does; there may be earlier work that its own waits for.
        stopping: Set when the service's work on the session is not being stopped any more; ``None`` if it is not.
        was_cut_off: Whether an invocation ended because its connection was closed.
        lost_sight: Whether a stream broke whose turn may have gone on, and handed calls off.
    """

    def __init__(
        self,
        client: AgentCoreClient,
        session_id: str,
        *,
        fields: Mapping[str, Any],
        idle_timeout: float | None,
        retries: int,
        log: HarnessLog,
    ) -> None:
        self.client = client
        self._session_id = session_id
        self.fields = fields
        self._idle_timeout = idle_timeout
        self._retries = retries
        self._log = log
        self._invocations = 0
        self._report = get_logger(provider="bedrock_agent_core", session_id=session_id)
        self.handoffs = Handoffs()
        self.work: Work | None = None
        self.stopping: trio.Event | None = None
        self.was_cut_off = False
        self.lost_sight = False

    @property
    def is_unused(self) -> bool:
        """Whether nothing was ever told to the harness from here, so that nothing is known of it."""
        return self._invocations == 0

    def forget(self) -> None:
        """The session begins anew: its machine is gone, and what it waited for."""
        self.handoffs.forget()
        self.lost_sight = False

    async def run(self, work: Work) -> None:
        """Do a piece of work, once what comes before it is over."""
        try:
            with work.scope:
                await self._prepare(work)
                if work.refusal is None:
                    await self._work_through(work)
        except Exception as error:  # noqa: BLE001 -- a transport's defect, or ours, ends one request and no session beside it
            self._report.error("invocation_failed", exc_info=error)
            failure = TransportError(f"the invocation failed here: {type(error).__name__}")
            failure.__cause__ = error
            self.accept(work)
            self._say(work, BrokenOff(failure))
        except trio.Cancelled:
            self.was_cut_off = True
            raise
        finally:
            if self.work is work:
                earlier = work.earlier
                self.work = None if earlier is None or earlier.over.is_set() else earlier
            work.earlier = None
            work.decided.set()
            work.over.set()

    def accept(self, work: Work) -> None:
        """The harness has the messages, or may have them: it is not told them once more."""
        if work.is_accepted or work.refusal is not None:
            return
        work.is_accepted = True
        self.handoffs.taken()
        if work.begins_turn:
            self._log.begin_turn()
        self._log.say(*work.entries)
        work.decided.set()

    def _say(self, work: Work, fact: Fact) -> None:
        if not work.left.is_set():
            self._log.say(fact)

    # --- what an earlier request has left behind ----------------------------------------------------------------------

    async def _prepare(self, work: Work) -> None:
        """Make the harness ready for a message; if that cannot be done now, the message is refused for now."""
        if not work.begins_turn:
            return
        with work.waiting():
            if work.earlier is not None:
                await work.earlier.over.wait()
            if self.stopping is not None:
                await self.stopping.wait()
        try:
            await self._settle_what_is_over(work)
        except ManagedAgentsError as error:
            if not work.left.is_set():
                work.refusal = error
            return
        if not work.left.is_set():
            self.handoffs.begin_turn()

    async def _settle_what_is_over(self, work: Work) -> None:
        """A harness that waits for the calls of a request that was given up takes no message: answer them first.

        Raises:
            ManagedAgentsError: They could not be answered now, nor can the message be sent.
        """
        for _ in range(MOST_CANCELLED):
            if not self.handoffs.pending or work.left.is_set():
                return
            await self._cancel_calls(resume_messages(self.handoffs.answers()))
        self.handoffs.taken()

    async def _cancel_calls(self, messages: list[dict[str, Any]]) -> None:
        """Answer a hand-off that nobody waits for any more; what the harness makes of it is of no interest."""
        self._invocations += 1
        invocation = Invocation(self._invocations)
        try:
            async with self._open(messages) as stream:
                while True:
                    for event in await stream.receive_batch():
                        invocation.feed(event)
                    self.handoffs.taken()
        except trio.EndOfChannel:
            _, ending = invocation.end()
            match ending:
                case HandedOff(calls=calls):
                    self.handoffs.hand_off(calls)
                    self.handoffs.abandoned = True
                case Stopped():
                    self.handoffs.forget()
                case Truncated():
                    raise TransportError(UNSETTLED, request_sent=False) from None
        except ManagedAgentsError as error:
            if judge(error) in ("not_taken", "denied"):
                raise
            if not was_refused_at_once(error, invocation):
                raise TransportError(UNSETTLED, request_sent=False) from error
            self.handoffs.refused()
            self._report.info("cancelled_calls_refused", detail=str(error))

    # --- invocations --------------------------------------------------------------------------------------------------

    def _open(self, messages: list[dict[str, Any]]) -> AbstractAsyncContextManager[HarnessStream]:
        return self.client.invoke_harness(
            idle_timeout=self._idle_timeout, runtimeSessionId=self._session_id, messages=messages, **self.fields
        )

    async def _work_through(self, work: Work) -> None:
        """Invoke, and again as long as that comes to nothing or the harness asks for what it has been told."""
        attempt = refusals = 0
        while not work.left.is_set():
            self._invocations += 1
            invocation = Invocation(self._invocations, self.handoffs.acknowledged)
            work.is_sent, work.is_open = True, False
            outcome = await self._attempt(work, invocation)
            if work.left.is_set():
                self._note_what_was_left(outcome, invocation)
                return
            if self._waits_for_calls(work, outcome, invocation) and await self._settled(work):
                continue
            if work.refusal is not None:
                return
            if not work.is_open and is_not_taken(outcome) and refusals < MAX_ATTEMPTS - 1:
                work.is_sent, refusals = False, refusals + 1
                await self._back_off(work, refusals, outcome)
                continue
            attempt, refusals = attempt + 1, 0
            if work.is_accepted and attempt <= self._retries and came_to_nothing(outcome, invocation):
                self._log.say(RESTARTED)
                await self._back_off(work, attempt, outcome)
            elif isinstance(outcome, HandedOff) and self._hand_off(outcome.calls):
                # What came until now stays, whatever becomes of the next invocation.
                work.messages, work.entries = resume_messages(self.handoffs.answers()), [RUNNING]
                work.is_accepted, work.begins_turn, attempt = False, False, 0
            else:
                self._conclude(outcome, invocation)
                return

    async def _back_off(self, work: Work, attempt: int, outcome: Ending | ManagedAgentsError) -> None:
        with work.waiting():
            await trio.sleep(delay(attempt, outcome))

    def _waits_for_calls(self, work: Work, outcome: Ending | ManagedAgentsError, invocation: Invocation) -> bool:
        """Whether a message may have been refused because the harness never got the results that were sent before."""
        if not (work.begins_turn and was_refused_at_once(outcome, invocation)):
            return False
        if self.lost_sight and isinstance(outcome, ManagedAgentsError):
            outcome.add_note(OUT_OF_SIGHT)
        return self.handoffs.recall()

    async def _settled(self, work: Work) -> bool:
        """Try to settle those; say whether the message is worth another attempt."""
        try:
            await self._settle_what_is_over(work)
        except ManagedAgentsError as error:
            self._report.info("calls_not_settled", detail=str(error))
            return False
        work.refusal, work.is_sent = None, False
        if work.is_accepted:
            self._say(work, RESTARTED)
        return True

    async def _attempt(self, work: Work, invocation: Invocation) -> Ending | ManagedAgentsError:
        """Invoke once and write down what comes; give how it ended, or what went wrong."""
        try:
            async with self._open(work.messages) as stream:
                work.is_open = True
                self.accept(work)
                await self._read_stream(work, stream, invocation)
        except trio.EndOfChannel:
            events, ending = invocation.end()
            if not work.left.is_set():
                self._log.append(events)
            return ending
        except ManagedAgentsError as error:
            # What is certainly not taken may be sent again; that a harness is not there is an end of this request.
            if work.is_accepted or judge(error) in ("unclear", "gone"):
                self.accept(work)
            elif not work.decided.is_set():
                work.refusal = error
            return error

    def _conclude(self, outcome: Ending | ManagedAgentsError, invocation: Invocation) -> None:
        match outcome:
            case Stopped(fact=idle):
                self._served()
                self._log.say(idle)
            case Truncated():
                self._log.say(BrokenOff(TruncatedStream("the invocation's stream ended before its turn did")))
            case ManagedAgentsError():
                self._doubt(outcome, invocation)
                self._log.say(BrokenOff(outcome, at_work=isinstance(outcome, TransportError)))
            case HandedOff():
                pass  # the calls are being run, or their hand-off was found to be broken

    def _note_what_was_left(self, outcome: Ending | ManagedAgentsError, invocation: Invocation) -> None:
        """The work on a request that is over has come to its end: what it waits for is settled before the next one."""
        match outcome:
            case HandedOff(calls=calls):
                self.handoffs.hand_off(calls)
                self.handoffs.abandoned = True
            case Stopped():
                self._served()
            case Truncated() | ManagedAgentsError():
                self._doubt(outcome, invocation)

    def _served(self) -> None:
        """The harness has come to the end of a turn: it waits for nothing."""
        self.handoffs.served()
        self.lost_sight = False

    def _doubt(self, outcome: Truncated | ManagedAgentsError, invocation: Invocation) -> None:
        """Nobody can tell what the harness waits for, if it does."""
        self.handoffs.doubt(invocation.perhaps_handed_off())
        was_sent = not isinstance(outcome, TransportError) or outcome.request_sent
        self.lost_sight = self.lost_sight or (was_sent and not isinstance(outcome, APIError))

    async def _read_stream(self, work: Work, stream: HarnessStream, invocation: Invocation) -> NoReturn:
        while True:
            for event in await stream.receive_batch():
                events = invocation.feed(event)
                if not work.left.is_set():
                    self._log.append(events)
            if not work.left.is_set():
                with work.waiting():
                    await self._log.wait_for_room()

    def _hand_off(self, calls: tuple[Called, ...]) -> bool:
        """The harness waits for calls: have them run, unless all have results; say whether it is to be told again."""
        open_calls = self.handoffs.unanswered(calls)
        match self.handoffs.hand_off(calls):
            case "repeat":
                return True
            case "ask":
                waiting = tuple(called.use.id for called in open_calls)
                self._log.say(*open_calls, Idled("requires_action", "tool_use", waiting))
            case "nothing":
                message = "the harness waits for the results of tools, but names no call that could be answered"
                self._log.say(BrokenOff(ProtocolError(message)))
        return False
