"""How a session says where it stands: its threads' and its own status events, and its outcome's evaluations.

It writes to the log and keeps what the session object shows; when something is said is the engine's decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from ._api import Clock, Ids
from ._claude_log import EventLog

__all__ = ["Outcomes", "Thread", "Threads"]

Event: TypeAlias = dict[str, Any]


@dataclass(slots=True, kw_only=True)
class Thread:
    """A thread of a session.

    Attributes:
        id: ``sthr_…``.
        agent_name: Whose thread it is.
        created_at: When it began.
        status: Its own status.
        archived_at: When it was archived.
    """

    id: str
    agent_name: str
    created_at: str
    status: str = "idle"
    archived_at: str | None = None


class Threads:
    """The threads of a session; the first is the primary one, and speaks for the session.

    Attributes:
        by_id: All of them, in order of creation.
        primary: The coordinator's, or the only one.
        budget: The session's budget, as usage events show it.
    """

    def __init__(self, log: EventLog, clock: Clock, ids: Ids, agent_name: str) -> None:
        self._log, self._clock, self._ids = log, clock, ids
        self.by_id: dict[str, Thread] = {}
        self.budget: Event | None = None
        self.primary = self._create(agent_name)

    def announce_running(self) -> None:
        """The session runs, in its primary thread."""
        self._log.append({"type": "session.status_running"})
        self.announce(self.primary, "running")

    def announce_idle(self, reason: Event, details: Event | None = None) -> None:
        """The session is idle for this reason: the thread first, the usage, then the session."""
        self.announce(self.primary, "idle", reason, details)
        self._log.append({"type": "session.usage", "usage": self._log.usage.snapshot(), "budget": self.budget})
        self._log.append({"type": "session.status_idle", "stop_reason": reason, "stop_details": details})

    def announce_terminated(self) -> None:
        """The session is over."""
        self.announce(self.primary, "terminated")
        self._log.append({"type": "session.status_terminated"})

    def announce(self, thread: Thread, status: str, reason: Event | None = None, details: Event | None = None) -> None:
        """One thread's new status."""
        thread.status = status
        event: Event = {"session_thread_id": thread.id, "agent_name": thread.agent_name}
        if reason is not None:
            event |= {"stop_reason": reason, "stop_details": details}
        self._log.append({"type": f"session.thread_status_{status}", **event})

    def child(self, agent_name: str) -> Thread:
        """The sub-agent's thread; it is begun if it is not there."""
        for thread in self.by_id.values():
            if thread.agent_name == agent_name and thread is not self.primary and thread.archived_at is None:
                return thread
        thread = self._create(agent_name)
        created = {"session_thread_id": thread.id, "agent_name": agent_name, "workflow_run_id": None}
        self._log.append({"type": "session.thread_created", **created})
        self.announce(thread, "running")
        return thread

    def archive(self, thread: Thread) -> None:
        """End a sub-agent's thread."""
        thread.archived_at = self._clock.now()
        self.announce(thread, "terminated")

    def _create(self, agent_name: str) -> Thread:
        thread = Thread(id=self._ids.new("sthr"), agent_name=agent_name, created_at=self._clock.now())
        self.by_id[thread.id] = thread
        return thread


class Outcomes:
    """The outcomes of a session, one at a time.

    Attributes:
        all: Their evaluations, as the session object shows them.
    """

    def __init__(self, log: EventLog, usage: Mapping[str, int]) -> None:
        self._log = log
        self._usage = usage
        self.all: list[Event] = []

    @property
    def current(self) -> Event | None:
        """The outcome being worked on."""
        last = self.all[-1] if self.all else None
        return last if last is not None and last["completed_at"] is None else None

    def begin(self, event: Mapping[str, Any]) -> None:
        """Work on the outcome this event defines."""
        self.all.append(
            {
                "type": "outcome_evaluation",
                "outcome_id": event["outcome_id"],
                "description": event["description"],
                "result": "pending",
                "iteration": 0,
                "explanation": None,
                "completed_at": None,
            }
        )

    def evaluate(self, result: str, explanation: str) -> None:
        """Emit one evaluation of the outcome; only ``"needs_revision"`` leaves it open."""
        outcome = self.current
        if outcome is None:
            raise RuntimeError("grade() needs an outcome in progress: start the turn with user.define_outcome")
        place = {"outcome_id": outcome["outcome_id"], "iteration": outcome["iteration"]}
        start_id = ""
        if result != "interrupted":
            start_id = self._log.append({"type": "span.outcome_evaluation_start", **place})["id"]
            self._log.append({"type": "span.outcome_evaluation_ongoing", **place})
        verdict = {"outcome_evaluation_start_id": start_id, "result": result, "explanation": explanation}
        ended = self._log.append(
            {"type": "span.outcome_evaluation_end", **place, **verdict, "usage": dict(self._usage)}
        )
        outcome |= {"result": result, "explanation": explanation}
        if result == "needs_revision":
            outcome["iteration"] += 1
        else:
            outcome["completed_at"] = ended["processed_at"]
