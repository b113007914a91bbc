"""Who may listen to the event bus, for the benchmarks: each is attached, alone, for as long as a block lasts.

The bus and the log are the process's; when a block ends, both are as they were when the library was imported.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

from managed_agents_actors import telemetry
from managed_agents_actors.telemetry._log import LOGGER_NAME
from managed_agents_actors.telemetry._log_sink import LogLevel

Sink = Callable[[], AbstractContextManager[object]]


@contextmanager
def log_at(level: LogLevel) -> Iterator[None]:
    """Attach the log sink at a level; afterwards it is as on import."""
    telemetry.log_events(level)
    try:
        yield
    finally:
        telemetry.log_events()


@contextmanager
def listening(attach: Callable[[], telemetry.Attachment]) -> Iterator[None]:
    """Have one listener, and no log sink."""
    with log_at("off"), attach():
        yield


def ignore(name: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
    """Listen, and do nothing."""


@contextmanager
def nowhere() -> Iterator[TextIO]:
    """Open a stream that keeps nothing."""
    with Path(os.devnull).open("w", encoding="utf-8") as stream:
        yield stream


@contextmanager
def standard_lines() -> Iterator[None]:
    """Write every event with the standard logging."""
    logger = logging.getLogger(LOGGER_NAME)
    with log_at("debug"), nowhere() as stream:
        handler = logging.StreamHandler(stream)
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG)
        try:
            yield
        finally:
            logger.setLevel(logging.NOTSET)
            logger.removeHandler(handler)


@contextmanager
def json_lines() -> Iterator[None]:
    """Write every event with structlog, as JSON."""
    with log_at("debug"), nowhere() as stream:
        structlog.configure(
            [
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper("iso"),
                structlog.processors.JSONRenderer(),
            ],
            structlog.make_filtering_bound_logger(logging.DEBUG),
            logger_factory=structlog.WriteLoggerFactory(stream),
        )
        try:
            yield
        finally:
            structlog.reset_defaults()


def opentelemetry_api() -> AbstractContextManager[None]:
    """Have the bridge to OpenTelemetry without an SDK."""
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.trace import NoOpTracerProvider

    tracing, metering = NoOpTracerProvider(), NoOpMeterProvider()
    return listening(lambda: telemetry.attach_opentelemetry(tracer_provider=tracing, meter_provider=metering))


def opentelemetry_sdk(*, sampled: bool) -> AbstractContextManager[None]:
    """Have the bridge with the SDK, which keeps what it is told in memory."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

    tracing = TracerProvider(ALWAYS_ON if sampled else ALWAYS_OFF, shutdown_on_exit=False)
    tracing.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    metering = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    return listening(lambda: telemetry.attach_opentelemetry(tracer_provider=tracing, meter_provider=metering))


NOBODY: Final = "no listener"
ON_IMPORT: Final = "the log sink, as on import"
SINKS: Final[Mapping[str, Sink]] = {
    NOBODY: partial(log_at, "off"),
    ON_IMPORT: partial(log_at, "info"),
    "a listener that does nothing": partial(listening, partial(telemetry.attach, ignore)),
    "the log sink at debug, which is not logged": partial(log_at, "debug"),
    "debug lines, standard logging to null": standard_lines,
    "debug lines, structlog as JSON to null": json_lines,
    "OpenTelemetry, API only": opentelemetry_api,
    "OpenTelemetry SDK, always_on": partial(opentelemetry_sdk, sampled=True),
    "OpenTelemetry SDK, always_off": partial(opentelemetry_sdk, sampled=False),
}


def is_installed(sink: Sink) -> bool:
    """Whether what a sink needs is there: OpenTelemetry is optional, and so is its SDK."""
    try:
        with sink():
            return True
    except ModuleNotFoundError:
        return False
