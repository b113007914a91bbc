"""What a supervisor tells of its children: on the event bus, and to the one hook it was given. Neither can fail it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import trio

from ..telemetry import EventName, emit, get_logger
from ..telemetry._scope import HAPPENED
from ._child import Member
from ._exit import Exit

# Called with an event's name, its measurements and its metadata.
EventHook = Callable[[str, dict[str, Any], dict[str, Any]], None]


@final
class Reporter:
    """Tells of the children of one supervisor."""

    def __init__(self, name: str, on_event: EventHook | None) -> None:
        self._name = name
        self._on_event = on_event
        self._log = get_logger(supervisor=name)

    def started(self, member: Member, *, again: bool) -> None:
        """A child serves, because somebody asked for it, or again."""
        if again:
            self._tell("managed_agents.supervisor.child_restarted", member)
        else:
            self._tell("managed_agents.supervisor.child_started", member)

    def exited(self, member: Member) -> None:
        """A run of a child has ended."""
        ended = member.run.exit
        if ended.kind == "crashed":
            self._log.error("child_crashed", child=member.spec.id, exc_info=ended.error)
        self._tell("managed_agents.supervisor.child_exited", member, exit=ended)

    def gave_up(self, member: Member, error: Exception) -> None:
        """The supervisor's children fail more often than it bears."""
        self._tell("managed_agents.supervisor.intensity_exceeded", member, error=error)

    def stubborn(self, member: Member) -> None:
        """A child does not end though it was cancelled."""
        self._log.warning("child_resists_cancellation", child=member.spec.id)

    def _tell(
        self, name: EventName, member: Member, *, exit: Exit | None = None, error: Exception | None = None
    ) -> None:
        """Tell the bus, which says of failures what kind they are, and the hook, which is given them."""
        measurements = {"duration": _age(member), "restarts": member.restarts}
        tags = {key: value for key, value in member.spec.metadata.items() if key not in HAPPENED}
        metadata = {**tags, "supervisor": self._name, "child": member.spec.id}
        failure = error if exit is None else exit.error
        kind = {} if exit is None else {"exit": exit.kind}
        type_ = {} if failure is None else {"error_type": type(failure).__name__}
        emit(name, measurements, {**metadata, **kind, **type_})
        if self._on_event is None:
            return
        given = {"exit": exit, "error": error}
        try:
            self._on_event(name, measurements, {**metadata, **{k: v for k, v in given.items() if v is not None}})
        except Exception as failed:  # noqa: BLE001 -- a hook that fails is detached; it must not fail a child
            self._on_event = None
            self._log.warning("event_hook_detached", supervisor_event=name, exc_info=failed)


def _age(member: Member) -> float:
    return trio.current_time() - member.run.began
