"""Spans of OpenTelemetry, begun and ended as the events tell: by their numbers, in whatever task each is told.

What begins and ends in one task is made OpenTelemetry's current span meanwhile, so that what an application or another
library traces there is in it. Requests to agents and their turns are not: they belong to no task.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, StatusCode, Tracer

from ._otel_agents import TOOL, TURN, request_convention
from ._otel_convention import Convention, Told, error_of, number, own_keys, where
from ._otel_http import AGENT_CORE_REQUEST, CLAUDE_REQUEST
from ._otel_names import OTHER_ERROR, Attributes
from ._otel_values import attribute_values

__all__ = ["Spans"]

MAX_OPEN_SPANS: Final = 100_000  # 10 000 sessions with a request, a turn and some tools each; some 200 MB
MAX_ENDED_SPANS: Final = 10_000  # the last turn of as many sessions: a few tasks of one begin something just after it

REQUEST_STARTED: Final = "managed_agents.session.request_started"
ENDS: Final = ("stop", "exception", "terminal")

_CONVENTIONS: Final[Mapping[str, Convention]] = {
    "managed_agents.turn": TURN,
    "managed_agents.tool": TOOL,
    "managed_agents.request": CLAUDE_REQUEST,
    "managed_agents.agent_core.request": AGENT_CORE_REQUEST,
}
# A span of the application's own: what its events carry are its attributes.
_OTHER: Final = Convention(begin=where, error=error_of, own=own_keys(content=False))

# What is told as an event of the span in which it happens. Not the events of a stream: there are too many.
_SPAN_EVENTS: Final = frozenset(
    {
        "managed_agents.journal.replayed",
        "managed_agents.session.tool_uses",
        "managed_agents.stream.error",
        "managed_agents.stream.reconnecting",
    }
)


def _span_event(told: Told) -> Attributes:
    return {
        "error.type": error_of(told),
        "gen_ai.tool.name": told.get("tool"),
        "gen_ai.tool.call.id": told.get("tool_use_id"),
        "managed_agents.stream.attempt": told.get("attempt"),
        "managed_agents.stream.delay": told.get("delay"),
        "managed_agents.stream.duration": told.get("duration"),
        "managed_agents.stream.events": told.get("events"),
        "managed_agents.stream.reason": told.get("reason"),
        "managed_agents.turn": told.get("turn"),
        "managed_agents.tool.count": told.get("tool_use_count"),
        "managed_agents.tool.names": told.get("tools"),
        "managed_agents.tool.call.ids": told.get("tool_use_ids"),
    }


# The innermost of the spans that were made current, by any bridge: several may be attached, and share what is current.
_INNERMOST: Final = context.create_key("managed_agents.span")


@dataclass(slots=True, eq=False)
class _Open:
    """A span that goes on.

    Attributes:
        number: Its number.
        span: The span.
        convention: How it is told.
        began: When, in nanoseconds of the system's clock.
        around: What was current in its task before it; ``None`` if it is not current.
        within: What was current in its task from then on; ``None`` likewise.
        is_left: Whether it has ended.
    """

    number: int
    span: Span
    convention: Convention
    began: int
    around: Context | None = None
    within: Context | None = None
    is_left: bool = False

    def enter(self) -> None:
        """Make it current."""
        self.around = context.get_current()
        self.within = context.set_value(_INNERMOST, self, trace.set_span_in_context(self.span, self.around))
        context.attach(self.within)

    def leave(self) -> None:
        """Make current again what was before.

        A token would have to be given back in the context that it is from, which may be gone; and where something
        else is current by now, whoever made it so will deal with it: another bridge leaves this span with its own.
        """
        self.is_left = True
        here = context.get_current()
        around: Context | None = here
        while around is not None and (inner := _innermost(around)) and inner.is_left and inner.within is around:
            around, inner.around, inner.within = inner.around, None, None  # whoever keeps it keeps not all around it
        if around is not None and around is not here:
            context.attach(around)


def _innermost(here: Context) -> _Open | None:
    found = context.get_value(_INNERMOST, here)
    return found if isinstance(found, _Open) else None


class Spans:
    """The spans that go on. Told events begin them and end them; those whose beginning was not told are passed over."""

    def __init__(self, tracer: Tracer, *, content: bool, at_most: int = MAX_OPEN_SPANS) -> None:
        self._tracer = tracer
        self._content = content
        self._at_most = at_most
        self._open: dict[int, _Open] = {}
        self._ended: dict[int, SpanContext] = {}
        self._is_closed = False

    def tell(self, name: str, measurements: Told, metadata: Told) -> None:
        """Take an event."""
        subject, _, what = name.rpartition(".")
        if name == REQUEST_STARTED:
            self._begin(name, request_convention(metadata), metadata)
        elif what == "start":
            self._begin(subject, _CONVENTIONS.get(subject, _OTHER), metadata)
        elif what in ENDS:
            self._end(what, measurements, metadata)
        elif name in _SPAN_EVENTS:
            self._add_event(name, {**metadata, **measurements})

    def close(self) -> None:
        """End what goes on, and begin nothing more."""
        self._is_closed = True
        while self._open:
            _, opened = self._open.popitem()
            opened.leave()
            opened.span.end()

    def _begin(self, subject: str, convention: Convention, metadata: Told) -> None:
        number_of_span = metadata.get("span_id")
        if not isinstance(number_of_span, int) or number_of_span in self._open or self._is_closed:
            return
        began = time.time_ns()
        attributes = {**convention.tags(metadata), **convention.begin(metadata), **self._said(convention, metadata)}
        span = self._tracer.start_span(
            convention.name(metadata) or subject,
            self._around(number_of_span, metadata.get("parent_id")),
            convention.kind,
            attribute_values(attributes),
            start_time=began,
        )
        opened = _Open(number_of_span, span, convention, began)
        if convention.is_current:
            opened.enter()
        self._keep(opened)

    def _around(self, number_of_span: int, parent_id: Any) -> Context:
        """Where a span begins: in the one it is told to be in, or in what the application has begun within that.

        What is told to be in a turn may begin just after its end, and is in it all the same.
        """
        here, innermost = context.get_current(), _innermost(context.get_current())
        while innermost is not None and innermost.number == number_of_span and innermost.around is not None:
            here, innermost = innermost.around, _innermost(innermost.around)  # another bridge was told before
        if not isinstance(parent_id, int):
            return here
        is_inside = innermost is not None and innermost.number == parent_id
        if is_inside and innermost is not None and trace.get_current_span(here) is not innermost.span:
            return here
        opened, ended = self._open.get(parent_id), self._ended.get(parent_id)
        if opened is not None:
            return trace.set_span_in_context(opened.span, here)
        return here if ended is None else trace.set_span_in_context(NonRecordingSpan(ended), here)

    def _keep(self, opened: _Open) -> None:
        self._open[opened.number] = opened
        if self._is_closed:  # meanwhile, by another thread
            self.close()
        elif len(self._open) > self._at_most:  # the end of one was never told
            self._open.pop(next(iter(self._open))).span.end()

    def _end(self, what: str, measurements: Told, metadata: Told) -> None:
        number_of_span = metadata.get("span_id")
        opened = self._open.pop(number_of_span, None) if isinstance(number_of_span, int) else None
        if opened is None:
            return
        opened.leave()
        try:
            if opened.span.is_recording():
                self._describe_end(opened, what, measurements, metadata)
        finally:
            opened.span.end(_ended(opened.began, number(measurements, "duration")))
        if not opened.convention.is_current:  # else what begins in its context finds it there
            self._remember(opened)

    def _remember(self, opened: _Open) -> None:
        self._ended[opened.number] = opened.span.get_span_context()
        if len(self._ended) > MAX_ENDED_SPANS:
            self._ended.pop(next(iter(self._ended)), None)

    def _describe_end(self, opened: _Open, what: str, measurements: Told, metadata: Told) -> None:
        convention, span = opened.convention, opened.span
        attributes = convention.tags(metadata) if convention is _OTHER else {}  # the block may have told more by now
        if convention.end is not None:
            attributes.update(convention.end({**metadata, **measurements}))
        error = convention.error(metadata) or (OTHER_ERROR if what == "exception" else None)
        outcome: Attributes = {"error.type": error, "managed_agents.cancelled": bool(metadata.get("cancelled")) or None}
        span.set_attributes(attribute_values({**attributes, **outcome, **self._said(convention, metadata)}))
        if error is not None:
            span.set_status(StatusCode.ERROR)
        if self._content:
            self._add_exception(span, metadata.get("exception"))

    def _said(self, convention: Convention, metadata: Told) -> Mapping[str, object]:
        return {} if convention.content is None or not self._content else convention.content(metadata)

    def _add_exception(self, span: Span, exception: Any) -> None:
        if isinstance(exception, BaseException):
            told: Attributes = {"exception.type": type(exception).__name__, "exception.message": str(exception)}
            span.add_event("exception", attribute_values(told))

    def _add_event(self, name: str, told: Told) -> None:
        parent_id = told.get("parent_id")
        opened = self._open.get(parent_id) if isinstance(parent_id, int) else None
        if opened is not None and opened.span.is_recording():
            opened.span.add_event(name, attribute_values(_span_event(told)))


def _ended(began: int, duration: float | None) -> int | None:
    """When a span ended, by the clock that its duration was measured with; ``None`` for now."""
    return None if duration is None else began + int(duration * 1e9)
