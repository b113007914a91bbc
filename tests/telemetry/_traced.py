"""Shared by the tests of the bridge: an OpenTelemetry of the test's own, and the events that a session would tell."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from managed_agents_actors import telemetry
from managed_agents_actors.telemetry._scope import Scope, standing

# What every event of a session's carries, and a tag of the caller's.
CLAUDE = {
    "provider": "claude_managed_agents",
    "session_id": "sesn_1",
    "agent_id": "agent_1",
    "session": "customer-42",
    "request": 1,
    "customer": "acme",
}

_numbers = itertools.count(1_000_000)  # beyond those of real spans


def new_number() -> int:
    """A number for a span that is made up."""
    return next(_numbers)


@dataclass
class Traced:
    """What a test's own OpenTelemetry has been told."""

    tracer_provider: TracerProvider
    meter_provider: MeterProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader
    attachments: list[telemetry.Attachment] = field(default_factory=list)

    def attach(self, **options: Any) -> telemetry.Attachment:
        """Attach a bridge; the end of the test detaches it."""
        attachment = telemetry.attach_opentelemetry(
            tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options
        )
        self.attachments.append(attachment)
        return attachment

    @property
    def names(self) -> list[str]:
        """The names of the spans that have ended, in the order of their ends."""
        return [span.name for span in self.exporter.get_finished_spans()]

    def span(self, name: str) -> ReadableSpan:
        """The one span of this name that has ended."""
        (found,) = (span for span in self.exporter.get_finished_spans() if span.name == name)
        return found

    def parent(self, name: str) -> str | None:
        """The name of the span that a span is in."""
        parent = self.span(name).parent
        spans = self.exporter.get_finished_spans()
        return None if parent is None else next(each.name for each in spans if each.context == parent)

    def seconds(self, name: str) -> float:
        """How long a span took."""
        span = self.span(name)
        assert span.start_time is not None
        assert span.end_time is not None
        return (span.end_time - span.start_time) / 1e9

    def metric(self, name: str) -> list[tuple[dict[str, Any], Any]]:
        """What a metric is now: each set of attributes, with its point."""
        data = self.reader.get_metrics_data()
        return [
            (dict(point.attributes), point)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@contextmanager
def traced(*, sampler: Sampler = ALWAYS_ON) -> Iterator[Traced]:
    """Give an OpenTelemetry of the test's own, which nothing is attached to yet."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracer_provider = TracerProvider(sampler, Resource.get_empty(), shutdown_on_exit=False)
    tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
    meter_provider = MeterProvider([reader], Resource.get_empty(), shutdown_on_exit=False)
    world = Traced(tracer_provider, meter_provider, exporter, reader)
    try:
        yield world
    finally:
        for attachment in world.attachments:
            telemetry.detach(attachment)
        tracer_provider.shutdown()
        meter_provider.shutdown()


def begin_request(tags: Mapping[str, Any] = CLAUDE, **more: Any) -> int:
    """Tell that a request begins; gives the number of its span."""
    number = new_number()
    telemetry.emit("managed_agents.session.request_started", {}, {**tags, "kind": "message", "span_id": number, **more})
    return number


def end_request(
    number: int, tags: Mapping[str, Any] = CLAUDE, measurements: Mapping[str, Any] | None = None, **more: Any
) -> None:
    """Tell the terminal of a request, which ended as it should unless more says otherwise."""
    ended = {"terminal": "end_turn", "stop_reason": "end_turn", "span_id": number, **more}
    telemetry.emit("managed_agents.session.terminal", measurements or {"duration": 2.5}, {**tags, **ended})


def begin_turn(parent: int, tags: Mapping[str, Any] = CLAUDE) -> int:
    """Tell that a turn begins; gives the number of its span."""
    number = new_number()
    about = {**tags, "turn": 1, "span_id": number, "parent_id": parent}
    telemetry.emit("managed_agents.turn.start", {}, about)
    return number


def end_turn(number: int, tags: Mapping[str, Any] = CLAUDE, **measurements: Any) -> None:
    """Tell that a turn ends."""
    told = {**tags, "turn": 1, "span_id": number}
    telemetry.emit("managed_agents.turn.stop", {"duration": 1.5, **measurements}, told)


@contextmanager
def tool(parent: int, name: str = "lookup", tags: Mapping[str, Any] = CLAUDE, **more: Any) -> Iterator[dict[str, Any]]:
    """Make a block the run of a tool, in that span, as a session's own task would."""
    about = {"turn": 1, "tool": name, "tool_use_id": f"toolu_{name}", "attempt": 1, **more}
    with standing(Scope(tags, parent)), telemetry.span("managed_agents.tool", about) as told:
        yield told


def http(**more: Any) -> Any:
    """The block in which an HTTP request is sent, as a span."""
    about = {
        "method": "POST",
        "path": "/v1/sessions",
        "scheme": "https",
        "host": "api.anthropic.com",
        "port": 443,
        "attempt": 1,
    }
    return telemetry.span("managed_agents.request", {**about, **more})
