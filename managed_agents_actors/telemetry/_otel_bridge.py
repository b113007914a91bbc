"""The bridge to OpenTelemetry: a listener of every event, which never fails whoever tells it.

This module and its like, whose names begin with ``_otel_``, need the extra ``otel``: only the door imports them, and
only when the bridge is attached.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any, final

from opentelemetry import trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ._log import get_logger
from ._otel_convention import Told
from ._otel_metrics import Metrics
from ._otel_names import SCOPE
from ._otel_spans import Spans

__all__ = ["Bridge", "trace_context"]


@final
class Bridge:
    """A listener of every event."""

    def __init__(
        self, tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None, *, content: bool
    ) -> None:
        installed = _version()
        self._spans = Spans(trace.get_tracer(SCOPE, installed, tracer_provider), content=content)
        self._metrics = Metrics(meter_provider, installed)
        self._has_failed = False

    def __repr__(self) -> str:
        return "<bridge to OpenTelemetry>"

    def __call__(self, name: str, measurements: Told, metadata: Told) -> None:
        """Take an event. The metrics come first: their exemplars are of the span that is current."""
        self._attempt(self._metrics.tell, name, measurements, metadata)
        self._attempt(self._spans.tell, name, measurements, metadata)

    def close(self) -> None:
        """End what goes on, as it is, and observe nothing any more."""
        self._attempt(self._metrics.close)
        self._attempt(self._spans.close)

    def _attempt(self, do: Callable[..., None], *arguments: Any) -> None:
        try:
            do(*arguments)
        except Exception as error:  # noqa: BLE001 -- a processor or a sampler of the application's may fail
            if not self._has_failed:  # else it would be reported with every event
                get_logger().error(
                    "telemetry_bridge_failed", telemetry_event=next(iter(arguments), None), exc_info=error
                )
            self._has_failed = True


def trace_context() -> dict[str, str]:
    """Give the W3C headers of the current span; none if there is none."""
    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers)
    return headers


def _version() -> str | None:
    try:
        return version("managed-agents-actors")
    except PackageNotFoundError:  # copied rather than installed
        return None
