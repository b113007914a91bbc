"""The library's logger: structlog as the application configured it, else a standard logger that is silent by default.

An unconfigured structlog would print to the application's standard output; a library must not. No line ever holds a
secret, a tool's input or its output.
"""

from __future__ import annotations

import logging
from typing import Any

import structlog

LOGGER_NAME = "managed_agents_actors"

logging.getLogger(LOGGER_NAME).addHandler(logging.NullHandler())


def get_logger(**bound: Any) -> Any:
    """Give a logger with these values bound to every line: structlog's own if the application has configured it."""
    if structlog.is_configured():
        return structlog.get_logger(LOGGER_NAME).bind(**bound)
    return structlog.wrap_logger(
        logging.getLogger(LOGGER_NAME),
        processors=[structlog.stdlib.filter_by_level, structlog.processors.KeyValueRenderer(key_order=["event"])],
        wrapper_class=structlog.stdlib.BoundLogger,
    ).bind(**bound)
