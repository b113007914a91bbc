"""What the library tells about itself: events on a bus, a log, and a bridge to OpenTelemetry.

The names of the events, and what each carries, are in docs/reference.md; how to use all of this is told in
docs/how_to/observability.md.
"""

from __future__ import annotations

from ._bus import Attachment, Listener, attach, detach, emit
from ._events import EVENT_NAMES, EventName
from ._log import get_logger
from ._log_output import configure_logging
from ._log_sink import log_events
from ._opentelemetry import attach_opentelemetry
from ._redaction import redact
from ._spans import span

__all__ = [
    "EVENT_NAMES",
    "Attachment",
    "EventName",
    "Listener",
    "attach",
    "attach_opentelemetry",
    "configure_logging",
    "detach",
    "emit",
    "get_logger",
    "log_events",
    "redact",
    "span",
]
