"""What a supervisor tells of its children: to the log, and to the one hook it was given. Neither can fail it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

import trio

from ..telemetry import get_logger
from ._child import Member

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
            self._log.info("child_restarted", child=member.spec.id, restarts=member.restarts)
            self._tell("child_restarted", member, {"duration": _age(member), "restarts": member.restarts})
        else:
            self._tell("child_started", member, {"duration": _age(member)})

    def exited(self, member: Member) -> None:
        """A run of a child has ended."""
        ended = member.run.exit
        if ended.kind == "crashed":
            self._log.error("child_crashed", child=member.spec.id, exc_info=ended.error)
        self._tell("child_exited", member, {"duration": _age(member)}, exit=ended)

    def gave_up(self, member: Member, error: Exception) -> None:
        """The supervisor's children fail more often than it bears."""
        self._log.error("restart_intensity_exceeded", child=member.spec.id, reason=str(error))
        self._tell("intensity_exceeded", member, {"restarts": member.restarts}, error=error)

    def stubborn(self, member: Member) -> None:
        """A child does not end though it was cancelled."""
        self._log.warning("child_resists_cancellation", child=member.spec.id)

    def _tell(self, what: str, member: Member, measurements: dict[str, Any], **more: Any) -> None:
        if self._on_event is None:
            return
        metadata = {"supervisor": self._name, "child": member.spec.id, **more}
        try:
            self._on_event(f"supervisor.{what}", measurements, metadata)
        except Exception as error:  # noqa: BLE001 -- a hook that fails is detached; it must not fail a child
            self._on_event = None
            self._log.warning("event_hook_detached", supervisor_event=what, exc_info=error)


def _age(member: Member) -> float:
    return trio.current_time() - member.run.began
