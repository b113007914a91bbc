"""The door of the bridge to OpenTelemetry. The bridge, and with it the extra ``otel``, is imported by attaching it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._errors import ConfigurationError
from ._bus import Attachment, attach

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["attach_opentelemetry"]


def attach_opentelemetry(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    content: bool = False,
    propagate: bool = True,
) -> Attachment:
    """Tell OpenTelemetry of everything from now on: as spans and as metrics, named by its conventions.

    A request to an agent is a span ``invoke_agent``, child of what was current where it was asked for. In it are its
    turns, in those the runs of the tools (``execute_tool``), and each HTTP request is a span, too; so is whatever
    :func:`span` tells. Tools, HTTP requests and your own spans are current while they last, so that what other
    libraries trace there is in them. What was cancelled is no error. Secrets are taken out of every attribute.

    It needs the extra ``otel``, which is OpenTelemetry's API. Without an SDK set up by the application it does nothing.

    Args:
        tracer_provider: Where the spans go; default: the global one.
        meter_provider: Where the metrics go; default: the global one.
        content: Whether the spans tell what people, models and tools say. It may hold secrets of yours.
        propagate: Whether requests to the provider carry the trace on, as ``traceparent`` and ``tracestate``.

    Returns:
        What :func:`detach` takes: it ends the spans that go on, without an error. In a ``with`` statement it is
        detached at the end of the block.

    Raises:
        ConfigurationError: OpenTelemetry is not installed, or an argument is no provider.
    """
    try:
        from ._otel_bridge import Bridge, trace_context
    except ImportError as error:
        raise ConfigurationError(
            'telling OpenTelemetry needs opentelemetry-api: pip install "managed-agents-actors[otel]"'
        ) from error
    _check("tracer_provider", tracer_provider, "get_tracer")
    _check("meter_provider", meter_provider, "get_meter")
    bridge = Bridge(tracer_provider, meter_provider, content=content)
    attachment = attach(bridge, content=content, headers=trace_context if propagate else None)
    attachment.on_detach = bridge.close
    return attachment


def _check(argument: str, provider: Any, method: str) -> None:
    if provider is not None and not callable(getattr(provider, method, None)):
        raise ConfigurationError(f"{argument}= must have a method {method}, as OpenTelemetry's do, not {provider!r}")
