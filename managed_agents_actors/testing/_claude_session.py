"""One simulated session: what client input does to it, and the order of the events that follow.

Every method decides and logs at once, without waiting; only the agent's turn is a task. The order of events is the
hosted API's: the running status before the message, the usage before every idle, an idle that names what is
still unanswered.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ._api import Clock, Ids
from ._background import Background
from ._claude_api import refuse, require
from ._claude_calls import INTERRUPTED, Batch, PendingCall, awaited, denial, needs_worker, result_event, use_event
from ._claude_inputs import InputState, check_events
from ._claude_log import EventLog
from ._claude_status import Outcomes, Threads
from ._claude_turn import SessionTurn
from ._script import Agent, Call

if TYPE_CHECKING:
    from ._claude_disk import SessionDisk

__all__ = ["EngineOptions", "SessionEngine"]

Event: TypeAlias = dict[str, Any]

# Far more than any test queues; beyond it a client is looping.
MAX_QUEUED_INPUTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """What a session runs with.

    Attributes:
        agent: Plays the agent.
        agent_name: The agent's name, as thread events show it.
        self_hosted: Whether a worker runs the built-in tools.
        usage: What a model request reports.
        disk: Its files.
    """

    agent: Agent
    agent_name: str
    self_hosted: bool
    usage: Mapping[str, int]
    disk: SessionDisk


class SessionEngine:
    """The running part of a session.

    Attributes:
        id: ``sesn_…``.
        options: What it runs with.
        log: Its events.
        threads: Its threads.
        outcomes: Its outcomes.
        pending: The unanswered calls by id.
    """

    def __init__(
        self, session_id: str, options: EngineOptions, *, clock: Clock, ids: Ids, background: Background
    ) -> None:
        self.id = session_id
        self.options = options
        self.log = EventLog(clock, ids)
        self.threads = Threads(self.log, clock, ids, options.agent_name)
        self.outcomes = Outcomes(self.log, options.usage)
        self.pending: dict[str, PendingCall] = {}
        self._clock, self._ids, self._background = clock, ids, background
        self._calls: set[str] = set()
        self._turn: SessionTurn | None = None
        self._turns = 0
        self._over_budget = False

    # -- what clients send

    def send(self, events: object) -> list[Event]:
        """Take a request's events, all or none.

        Returns:
            Each as it was taken, with its id.

        Raises:
            ApiRefusal: One of them is not acceptable now.
        """
        accepted = check_events(events, self._input_state())
        require(len(self.log.queue) + len(accepted) <= MAX_QUEUED_INPUTS, "too many events are queued")
        echoes = [dict(self._take({"id": self.log.new_event_id(), **event})) for event in accepted]
        self._begin_next_turn()
        return echoes

    def _input_state(self) -> InputState:
        waiting = self.pending.values()
        queued = any(event["type"] == "user.define_outcome" for event in self.log.queue)
        return InputState(
            pending={call.id: call.awaits for call in waiting},
            known_calls=self._calls,
            thread_ids=tuple(self.threads.by_id),
            worker_calls=frozenset(call.id for call in waiting if call.worker),
            call_threads={call.id: call.thread_id for call in waiting if call.thread_id is not None},
            terminated=self.log.status == "terminated",
            over_budget=self._over_budget,
            outcome_open=queued or self.outcomes.current is not None,
        )

    def _take(self, event: Event) -> Event:
        match event["type"]:
            case "user.interrupt":
                return {**self._take_interrupt(event), "processed_at": None}
            case "user.tool_confirmation":
                return self._take_confirmation(event)
            case "user.custom_tool_result" | "user.tool_result":
                return self._take_result(event)
            case "system.message" if not self.log.queue and (self.pending or self._turn is None):
                return self.log.append(event)
            case "user.define_outcome":
                event["outcome_id"] = self._ids.new("outc")
        event["processed_at"] = None
        self.log.enqueue(event, announce=self._turn is not None)
        return event

    def _take_result(self, event: Event) -> Event:
        call = self.pending.pop(event.get("custom_tool_use_id") or event["tool_use_id"])
        logged = self.log.append({**event, "session_thread_id": call.thread_id})
        self._after_answer(call)
        call.settle(event.get("content") or (), is_error=bool(event.get("is_error")))
        return logged

    def _take_confirmation(self, event: Event) -> Event:
        call = self.pending[event["tool_use_id"]]
        logged = self.log.append({**event, "session_thread_id": call.thread_id})
        allowed = event["result"] == "allow"
        if allowed and call.worker:
            call.awaits = "tool_result"
            self._idle_for_answers()
            return logged
        text = call.call.result if allowed else denial(call.call, event.get("deny_message"))
        self._answer_for(call, text, is_error=not allowed)
        return logged

    def _answer_for(self, call: PendingCall, text: str, *, is_error: bool) -> None:
        """The server itself settles a pending call."""
        del self.pending[call.id]
        answer = result_event(call.call, call.id, text, is_error=is_error)
        self._after_answer(call, answer)
        call.settle(answer["content"], is_error=is_error)

    def _after_answer(self, call: PendingCall, answer: Event | None = None) -> None:
        """Say what an answer led to: the session runs again, or waits for the rest."""
        if not self.pending:
            self.threads.announce_running()
        thread = None if call.thread_id is None else self.threads.by_id[call.thread_id]
        if thread is not None:
            self.threads.announce(thread, "running")
        if answer is not None:
            self.log.append(answer)
        if thread is not None and not self._pending_of(thread.id):
            self.threads.announce(thread, "idle", {"type": "end_turn"})
        if self.pending:
            self._idle_for_answers()

    def _take_interrupt(self, event: Event) -> Event:
        if self._over_budget:
            return event  # accepted and ignored; it does not even appear in the list
        thread_id = event.get("session_thread_id")
        if thread_id is not None and thread_id != self.threads.primary.id:
            logged = self.log.append(event)
            for call in self._pending_of(thread_id):
                self._answer_for(call, INTERRUPTED, is_error=True)
            return logged
        turn = self._abandon_turn()
        logged = self.log.append(event)
        waiting = list(self.pending.values())
        self.pending.clear()
        for call in waiting:
            self.log.append(result_event(call.call, call.id, INTERRUPTED, is_error=True))
        for child in dict.fromkeys(call.thread_id for call in waiting if call.thread_id is not None):
            self.threads.announce(self.threads.by_id[child], "idle", {"type": "end_turn"})
        if self.outcomes.current is not None:
            self.outcomes.evaluate("interrupted", "interrupted by the user")
        if turn is not None:
            self.threads.announce_idle({"type": "end_turn"})
        return logged

    def _pending_of(self, thread_id: str) -> list[PendingCall]:
        return [call for call in self.pending.values() if call.thread_id == thread_id]

    # -- turns

    def _begin_next_turn(self) -> None:
        while self._turn is None and self.log.queue:
            inputs = [self.log.queue.popleft()]
            if inputs[0]["type"] == "system.message":
                self.log.append(inputs[0])
                continue
            while self.log.queue and self.log.queue[0]["type"] == "system.message":
                inputs.append(self.log.queue.popleft())
            self._begin_turn(inputs)

    def _begin_turn(self, inputs: Sequence[Event]) -> None:
        self.threads.announce_running()
        self._turns += 1
        logged = tuple(self.log.append(event) for event in inputs)
        if inputs[0]["type"] == "user.define_outcome":
            self.outcomes.begin(inputs[0])
        self._turn = SessionTurn(self, number=self._turns, inputs=logged)
        self._background.start_soon(self._play, self._turn)

    async def _play(self, turn: SessionTurn) -> None:
        try:
            with turn.scope:
                await self.options.agent(turn)
        except Exception:
            if self._turn is turn:
                turn.crash()
                self._finish_turn(turn)
            raise
        if self._turn is turn:
            self._finish_turn(turn)

    def _finish_turn(self, turn: SessionTurn) -> None:
        turn.close_request()
        if turn.terminated:
            self.terminate()
            return
        self._turn = None
        if self.outcomes.current is not None:
            self.outcomes.evaluate("satisfied", "")
        self._over_budget = turn.stop_reason["type"] == "budget_reached"
        if turn.stop_reason["type"] == "retries_exhausted":
            self.log.queue.clear()
        self.threads.announce_idle(turn.stop_reason, turn.stop_details)
        if not self._over_budget:
            self._begin_next_turn()

    def _abandon_turn(self) -> SessionTurn | None:
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.abandon()
        return turn

    # -- what the session's own endpoints do

    def set_budget(self, budget: Event | None) -> None:
        """Replace or remove the budget; a session that paused at it goes on."""
        self.threads.budget = budget
        self._over_budget = False
        self._begin_next_turn()

    def require_not_running(self, action: str) -> None:
        """Refuse what a running session does not allow."""
        if self.log.status in {"running", "rescheduling"}:
            raise refuse(f"cannot {action} a session that is {self.log.status}: interrupt it and wait for idle")

    def terminate(self) -> None:
        """End the session for good; its log stays."""
        if self.log.status == "terminated":
            return
        self._abandon_turn()
        self.pending.clear()
        self.log.queue.clear()
        self.threads.announce_terminated()

    def delete(self) -> None:
        """The session is gone: its streams are told, and end."""
        self._abandon_turn()
        self.pending.clear()
        self.log.broadcast(
            {"id": self.log.new_event_id(), "type": "session.deleted", "processed_at": self._clock.now()}
        )
        for feed in self.log.feeds():
            feed.end()

    def archive_thread(self, thread_id: str) -> None:
        """End a sub-agent's thread; its pending calls can no longer be answered."""
        thread = self.threads.by_id[thread_id]
        require(thread is not self.threads.primary, "the primary thread cannot be archived: archive the session")
        require(thread.status == "idle", "only an idle thread can be archived")
        for call in self._pending_of(thread_id):
            self._answer_for(call, INTERRUPTED, is_error=True)
        self.threads.archive(thread)

    # -- what the turn asks for

    def open_calls(self, calls: Sequence[Call]) -> tuple[Batch, list[Event]]:
        """Announce the calls of one model response.

        Returns:
            The batch to wait for, and the result events of the calls the server deals with alone.
        """
        batch = Batch(len(calls))
        answers: list[Event] = []
        for call in calls:
            thread_id = None if call.agent is None else self.threads.child(call.agent).id
            call_id = self.log.append(use_event(call, thread_id=thread_id))["id"]
            self._calls.add(call_id)
            batch.expect(call_id)
            awaits = awaited(call, self_hosted=self.options.self_hosted)
            if awaits is None:
                denied = call.permission == "deny"
                answer = result_event(call, call_id, denial(call) if denied else call.result, is_error=denied)
                batch.settle(call_id, call.name, answer["content"], is_error=denied)
                answers.append(answer)
                continue
            worker = needs_worker(call, self_hosted=self.options.self_hosted)
            self.pending[call_id] = PendingCall(
                id=call_id, call=call, batch=batch, awaits=awaits, thread_id=thread_id, worker=worker
            )
        return batch, answers

    def await_answers(self) -> None:
        """Say which calls the session waits for, if it does."""
        for child in dict.fromkeys(call.thread_id for call in self.pending.values() if call.thread_id is not None):
            named = [call.id for call in self._pending_of(child)]
            self.threads.announce(self.threads.by_id[child], "idle", {"type": "requires_action", "event_ids": named})
        if self.pending:
            self._idle_for_answers()

    def _idle_for_answers(self) -> None:
        self.threads.announce_idle({"type": "requires_action", "event_ids": list(self.pending)})
