"""The default sink: the events that are worth a line in the log, one line each.

Attached when the library is imported, to the rare events alone: the many others have no listener, and cost what an
event costs that nobody hears of. Whether a line goes anywhere is the application's configuration to say.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias, final, get_args

from .._errors import ConfigurationError
from ._bus import Attachment, attach, detach
from ._log import LEVELS, write

__all__ = ["LogLevel", "log_events"]

LogLevel: TypeAlias = Literal["debug", "info", "warning", "error", "off"]

# The level of an event's line when all went well, and when it tells of a failure. All other events: debug; so are tools
# that fail and children that crash, whose tracebacks are in the log already.
EVENT_LEVELS: Final[Mapping[str, tuple[str, str]]] = {
    "managed_agents.session.opened": ("info", "info"),
    "managed_agents.session.terminal": ("info", "warning"),
    "managed_agents.session.closed": ("info", "warning"),
    "managed_agents.stream.reconnecting": ("info", "info"),
    "managed_agents.journal.replayed": ("info", "info"),
    "managed_agents.agent_core.provision.stop": ("info", "info"),
    "managed_agents.agent_core.provision.exception": ("warning", "warning"),
    "managed_agents.supervisor.child_restarted": ("warning", "warning"),
    "managed_agents.supervisor.intensity_exceeded": ("error", "error"),
}
_OTHERS: Final = ("debug", "debug")

# What belongs together can be read off a line's tags; the numbers of the spans are for whoever reads all lines.
_SPAN_NUMBERS: Final = ("span_id", "parent_id")

_attached: Attachment | None = None
_attaching = threading.Lock()


def log_events(level: LogLevel = "info", *, content: bool = False) -> None:
    """Choose which events become lines in the log, in place of what was chosen before.

    From the start, those of level ``"info"`` do: sessions that open, close and end a request, streams that are lost and
    found again, results that are sent again, what was provisioned, and children that were started again.

    Args:
        level: The least level; ``"debug"`` is every event, also your own, and ``"off"`` none.
        content: Whether a line tells what people, models and tools say, and the traceback of a tool that failed.

    Raises:
        ConfigurationError: There is no such level.
    """
    global _attached  # one sink per process
    if level not in get_args(LogLevel):
        raise ConfigurationError(f"level= must be one of {', '.join(get_args(LogLevel))}, not {level!r}")
    with _attaching:
        if _attached is not None:
            detach(_attached)
        _attached = None if level == "off" else attach(_LogSink(LEVELS[level]), _heard_at(level), content=content)


def _heard_at(level: LogLevel) -> tuple[str, ...]:
    if level == "debug":
        return ("",)
    return tuple(name for name, (_, failed) in EVENT_LEVELS.items() if LEVELS[failed] >= LEVELS[level])


@final
class _LogSink:
    """Makes lines of the events that it is told of."""

    __slots__ = ("_least",)

    def __init__(self, least: int) -> None:
        self._least = least

    def __call__(self, name: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        usual, failed = EVENT_LEVELS.get(name, _OTHERS)
        level = usual if metadata.get("error_type") is None else failed
        if LEVELS[level] >= self._least:
            event = name.removeprefix("managed_agents.")
            write(level, event, lambda: _values(level, measurements, metadata), _error(metadata))


def _error(metadata: Mapping[str, Any]) -> BaseException | None:
    """Give the error that goes with the line as a traceback; it is content."""
    error = metadata.get("exception")
    return error if isinstance(error, BaseException) else None


def _values(level: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    left_out = () if level == "debug" else _SPAN_NUMBERS
    about = {name: value for name, value in metadata.items() if name not in left_out}
    if _error(metadata) is not None:
        del about["exception"]
    return about | {name: round(n, 6) if isinstance(n, float) else n for name, n in measurements.items()}


log_events()
