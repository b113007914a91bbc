"""Where lines go in a script or service that has not said so itself: to standard error, readable or as JSON.

It is a handler on the library's own standard logger, and nothing else: neither structlog nor the root logger is
touched. What the application configures, before or afterwards, is respected: from then on all is as it was before.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TextIO, final

import structlog

from ._log import LOGGER_NAME, RECORD_VALUES, before_each_line
from ._log_sink import LogLevel, log_events
from ._redaction import redact

__all__ = ["configure_logging"]

_logger: Final = logging.getLogger(LOGGER_NAME)
_SILENCE: Final = logging.CRITICAL + 1

# What is configured by us: the handler, and the level that the logger had before.
_configured: tuple[logging.Handler, int] | None = None
_configuring = threading.Lock()


def configure_logging(
    level: LogLevel = "info", *, json: bool = False, content: bool = False, stream: TextIO | None = None
) -> bool:
    """Write the library's log, with the events that :func:`log_events` makes lines of, to standard error.

    For scripts and services that have configured no logging. One that has keeps it: if structlog is configured, or the
    standard logging has a handler on the root logger or on ``managed_agents_actors``, this only chooses which events
    become lines; and if that happens later, what was configured here falls silent. Called again, it replaces what it
    has configured before.

    Secrets are removed from all lines, the tracebacks included.

    Args:
        level: The least level of a line; see :func:`log_events`. ``"off"`` writes nothing at all.
        json: Whether each line is a JSON object, and not made for reading.
        content: Whether lines tell what people, models and tools say.
        stream: Where the lines go; default: standard error. Colours are for terminals only.

    Returns:
        Whether lines go where this says; otherwise they go where the application says.

    Raises:
        ConfigurationError: There is no such level.
    """
    global _configured  # the process's logging is one
    with _configuring:
        log_events(level, content=content)
        _withdraw()
        if _is_the_applications():
            return False
        output = sys.stderr if stream is None else stream
        handler = logging.StreamHandler(output)
        handler.setFormatter(_Formatter(_json_renderer() if json else _readable_renderer(output)))
        _configured = (handler, _logger.level)
        _logger.addHandler(handler)
        if _logger.level == logging.NOTSET:  # any other is the application's
            _logger.setLevel(_SILENCE if level == "off" else level.upper())
        before_each_line(_give_way)
        return True


def _give_way() -> None:
    """Undo what was configured here once the application has configured something."""
    if _is_the_applications():
        with _configuring:
            _withdraw()


def _withdraw() -> None:
    global _configured
    if _configured is not None:
        handler, level_before = _configured
        _configured = None
        before_each_line(None)
        _logger.removeHandler(handler)
        _logger.setLevel(level_before)
        handler.close()


def _is_the_applications() -> bool:
    """Whether the application has said where lines go."""
    ours = None if _configured is None else _configured[0]
    handlers = (*logging.getLogger().handlers, *_logger.handlers)
    return structlog.is_configured() or any(
        handler is not ours and not isinstance(handler, logging.NullHandler) for handler in handlers
    )


_Renderer = Callable[[Any, str, dict[str, Any]], Any]


def _json_renderer() -> _Renderer:
    return structlog.processors.JSONRenderer(serializer=_json, allow_nan=False)


def _json(line: dict[str, Any], **options: Any) -> str:
    try:
        return json.dumps(line, **options)
    except (TypeError, ValueError):  # a number that JSON does not have, or a mapping of what are no texts
        return json.dumps({name: value if isinstance(value, str) else repr(value) for name, value in line.items()})


def _readable_renderer(output: TextIO) -> _Renderer:
    is_terminal = hasattr(output, "isatty") and output.isatty() and os.environ.get("TERM") != "dumb"
    return structlog.dev.ConsoleRenderer(
        colors=is_terminal and sys.platform != "win32" and not os.environ.get("NO_COLOR"),
        repr_native_str=True,  # what came from elsewhere must not start a new line, or command the terminal
        sort_keys=False,
        exception_formatter=structlog.dev.plain_traceback,  # it gets a text; older versions warn about the others
    )


@final
class _Formatter(logging.Formatter):
    """Renders a record with its values, if it is ours, and with its traceback, redacted."""

    def __init__(self, render: _Renderer) -> None:
        super().__init__()
        self._render = render

    def format(self, record: logging.LogRecord) -> str:
        """Give the text of a record."""
        written = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "timestamp": written.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            **(getattr(record, RECORD_VALUES, None) or {"event": redact(record.getMessage())}),
        }
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return str(self._render(None, line["level"], line))
