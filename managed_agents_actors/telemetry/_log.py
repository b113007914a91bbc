"""The library's logger: structlog as the application configured it, else a standard logger that is silent by default.

An unconfigured structlog would print to the application's standard output; a library must not. Logging never fails
its caller: a sink that raises loses its line. No line holds a secret; what a tool raised is told with its traceback.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, final

import structlog

LOGGER_NAME = "managed_agents_actors"

logging.getLogger(LOGGER_NAME).addHandler(logging.NullHandler())


@final
class Log:
    """A logger with values bound to every line, one event per line."""

    __slots__ = ("_logger",)

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def bind(self, **values: Any) -> Log:
        """Give a logger with more values bound."""
        return Log(self._logger.bind(**values))

    def debug(self, event: str, **values: Any) -> None:
        """Tell of a step on the way, of interest to whoever looks for what holds something up."""
        self._tell("debug", event, values)

    def info(self, event: str, **values: Any) -> None:
        """Tell of something that happened as it should, or that was dealt with."""
        self._tell("info", event, values)

    def warning(self, event: str, **values: Any) -> None:
        """Tell of a failure of the application's own code that the session lives with."""
        self._tell("warning", event, values)

    def error(self, event: str, **values: Any) -> None:
        """Tell of a failure that ended something."""
        self._tell("error", event, values)

    def _tell(self, level: str, event: str, values: dict[str, Any]) -> None:
        with suppress(Exception):  # a closed stream or a broken processor must not end a session
            getattr(self._logger, level)(event, **values)


def get_logger(**bound: Any) -> Log:
    """Give a logger with these values bound to every line: structlog's own if the application has configured it."""
    if structlog.is_configured():
        return Log(structlog.get_logger(LOGGER_NAME).bind(**bound))
    return Log(
        structlog.wrap_logger(
            logging.getLogger(LOGGER_NAME),
            processors=[structlog.stdlib.filter_by_level, _to_standard_logging],
            wrapper_class=structlog.stdlib.BoundLogger,
        ).bind(**bound)
    )


_render = structlog.processors.KeyValueRenderer(key_order=["event"])


def _to_standard_logging(logger: Any, method: str, line: Any) -> tuple[tuple[Any], dict[str, Any]]:
    """Leave the traceback to the standard logger, which formats it as the application wants."""
    exc_info = line.pop("exc_info", None)
    return (_render(logger, method, line),), {"exc_info": exc_info}
