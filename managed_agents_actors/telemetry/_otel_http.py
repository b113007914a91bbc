"""How the HTTP requests of our clients are told: the conventions for HTTP, and for calls of AWS. Pure functions.

Each attempt is a span of its own. The address is told without its query.
"""

from __future__ import annotations

from typing import Final

from opentelemetry.trace import SpanKind

from ._otel_convention import Convention, Told, error_of, own_keys, where
from ._otel_names import Attributes

__all__ = ["AGENT_CORE_REQUEST", "CLAUDE_REQUEST"]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
REFUSED: Final = 400  # the first status that is an error to a client

_OWN: Final = ("method", "path", "scheme", "host", "port", "attempt", "status", "request_id")


def _begin(told: Told) -> Attributes:
    attempt = told.get("attempt")
    return {
        **where(told),
        "http.request.method": told.get("method"),
        "http.request.resend_count": attempt - 1 if isinstance(attempt, int) and attempt > 1 else None,
        "server.address": told.get("host"),
        "server.port": told.get("port"),
        "url.full": _url(told),
    }


def _url(told: Told) -> str | None:
    """The address without its query."""
    scheme, host, path = (told.get(key) for key in ("scheme", "host", "path"))
    if not (isinstance(scheme, str) and isinstance(host, str) and isinstance(path, str)):
        return None
    port = told.get("port")
    shown_host = f"[{host}]" if ":" in host else host
    shown_port = "" if port in (None, DEFAULT_PORTS.get(scheme)) else f":{port}"
    return f"{scheme}://{shown_host}{shown_port}/{path.partition('?')[0].lstrip('/')}"


def _error(told: Told) -> str | None:
    status = told.get("status")
    return str(status) if isinstance(status, int) and status >= REFUSED else error_of(told)


def _end_claude(told: Told) -> Attributes:
    return {
        "http.response.status_code": told.get("status"),
        "anthropic.request.id": told.get("request_id"),
    }


def _begin_agent_core(told: Told) -> Attributes:
    return {
        **_begin(told),
        "rpc.system": "aws-api",
        "rpc.service": told.get("service"),
        "rpc.method": told.get("operation"),
    }


def _end_agent_core(told: Told) -> Attributes:
    return {
        "http.response.status_code": told.get("status"),
        "aws.request_id": told.get("request_id"),
    }


CLAUDE_REQUEST: Final = Convention(
    titled_by=("method",),
    kind=SpanKind.CLIENT,
    begin=_begin,
    end=_end_claude,
    error=_error,
    own=own_keys(*_OWN),
)
AGENT_CORE_REQUEST: Final = Convention(
    titled_by=("method", "operation"),  # not the path, which holds ids
    kind=SpanKind.CLIENT,
    begin=_begin_agent_core,
    end=_end_agent_core,
    error=_error,
    own=own_keys(*_OWN, "operation", "service"),
)
