"""The logging of a test's process, as it is when nobody has configured any, and as it was afterwards."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from managed_agents_actors import telemetry
from managed_agents_actors.telemetry import _log_output
from managed_agents_actors.telemetry._log import LOGGER_NAME

ROOT = logging.getLogger()
LOGGER = logging.getLogger(LOGGER_NAME)


@contextmanager
def fresh_process() -> Iterator[None]:
    """A process whose logging nobody has configured: the test runner's handlers are put aside for the block.

    It is no fixture, as pytest adds its handlers after the fixtures.
    """
    before = [(logger, logger.handlers[:], logger.level) for logger in (ROOT, LOGGER)]
    ROOT.handlers[:] = []
    try:
        yield
    finally:
        structlog.reset_defaults()
        _log_output._withdraw()
        telemetry.log_events()
        for logger, handlers, level in before:
            logger.handlers[:] = handlers
            logger.setLevel(level)
