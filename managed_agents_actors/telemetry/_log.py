"""The library's log: structlog as the application configured it, else a standard logger that is silent by default.

An unconfigured structlog would print to the application's standard output; a library must not. Where a line goes is
found out when it is written, as applications configure their logging after they import their libraries. Logging never
fails its caller: a sink that raises loses its line. Every value of a line is redacted. A traceback is made into a text
for structlog, since some of its renderers show the values of variables, the credential among them; the standard logging
makes its own, of the lines of code alone.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final, final

import structlog

from ._redaction import redact
from ._scope import current_scope

LOGGER_NAME: Final = "managed_agents_actors"

LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}

# What a standard record of ours has beside its message: the event and the values of the line, for formatters that
# render them in their own way.
RECORD_VALUES: Final = "managed_agents"

# Names that mean something to a method of a logger, to a processor of lines, or to a standard record. Under one of
# them, a tag of the application's would cost the line, or be lost.
TAKEN: Final = frozenset(
    {"self", "event", "method_name", "positional_args", "level", "logger", "timestamp", "message", "asctime"}
    | {"exception", "stack", "stacklevel", "extra", "_record", "_from_structlog"}
    | set(vars(logging.makeLogRecord({})))
)

_before_line: Callable[[], None] | None = None
_standard_logger = logging.getLogger(LOGGER_NAME)
_standard_logger.addHandler(logging.NullHandler())
_render = structlog.processors.KeyValueRenderer(key_order=["event"])


@final
class Log:
    """A logger with values bound to every line, the tags of the present task among them; one event per line.

    A value named ``exc_info`` is an exception whose traceback goes with the line.
    """

    __slots__ = ("_bound",)

    def __init__(self, bound: Mapping[str, Any]) -> None:
        self._bound = bound

    def bind(self, /, **values: Any) -> Log:
        """Give a logger with more values bound."""
        return Log({**self._bound, **values})

    def debug(self, event: str, /, **values: Any) -> None:
        """Tell of a step on the way, of interest to whoever looks for what holds something up."""
        self._tell("debug", event, values)

    def info(self, event: str, /, **values: Any) -> None:
        """Tell of something that happened as it should, or that was dealt with."""
        self._tell("info", event, values)

    def warning(self, event: str, /, **values: Any) -> None:
        """Tell of a failure of the application's own code that the session lives with."""
        self._tell("warning", event, values)

    def error(self, event: str, /, **values: Any) -> None:
        """Tell of a failure that ended something."""
        self._tell("error", event, values)

    def _tell(self, level: str, event: str, values: dict[str, Any]) -> None:
        error = values.pop("exc_info", None)
        write(level, event, lambda: {**current_scope().tags, **self._bound, **values}, error)


def get_logger(**bound: Any) -> Log:
    """Give a logger with these values bound to every line; it may be kept, whatever is configured later."""
    return Log(bound)


def write(level: str, event: str, values: Callable[[], Mapping[str, Any]], error: BaseException | None = None) -> None:
    """Write a line, if lines of its level go anywhere; only then are its values asked for. It never raises.

    Args:
        level: One of :data:`LEVELS`.
        event: What has happened.
        values: Gives what the line says of it.
        error: What goes with the line as a traceback.
    """
    with suppress(Exception):  # a closed stream or a broken processor must not end a session
        if _before_line is not None:
            _before_line()
        if structlog.is_configured():
            logger = structlog.get_logger(LOGGER_NAME).bind()
            if _is_enabled(logger, LEVELS[level]):
                with_error = {} if error is None else {"exception": traceback_of(error)}
                getattr(logger, level)(event, **_sayable(values()), **with_error)
        elif _standard_logger.isEnabledFor(LEVELS[level]):
            line = {"event": event, **_sayable(values())}
            text = _render(None, level, line.copy())  # it takes the event out of what it is given
            _standard_logger.log(LEVELS[level], text, exc_info=error, extra={RECORD_VALUES: line})


def traceback_of(error: BaseException) -> str:
    """Give an exception as a text, with the lines of code that it came through, and without the secrets in it."""
    shown: str = redact("".join(traceback.format_exception(error)).rstrip())
    return shown


def before_each_line(look: Callable[[], None] | None) -> None:
    """Have something looked at before each line is written; ``None`` for nothing any more."""
    global _before_line
    _before_line = look


def _is_enabled(logger: Any, level: int) -> bool:
    """Whether lines of a level go anywhere, as far as a logger of structlog's can tell."""
    for name in ("is_enabled_for", "isEnabledFor"):
        # Asked of the class: the generic logger makes a line of every method that it does not have.
        if hasattr(type(logger), name):
            with suppress(AttributeError):  # it asks what it wraps, which need not be a standard logger
                return bool(getattr(logger, name)(level))
    return True


def _sayable(values: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = redact({_free(str(name)): value for name, value in values.items()})
    return shown


def _free(name: str) -> str:
    """A name that costs no line, and starts no new one."""
    return f"{name}_" if name in TAKEN else name if name.isprintable() else ascii(name)[1:-1]
