"""Wires this library's own client to a server under test, on whichever transport the server runs."""

from __future__ import annotations

from typing import Any

from .._http.transport import Transport
from ..claude import ClaudeClient
from ._http_server import HttpServer

__all__ = ["connect_client"]


def connect_client(server: HttpServer, options: dict[str, Any]) -> ClaudeClient:
    """A client of ``server``; in memory when the server listens nowhere."""
    options = {"api_key": "test-key", "base_url": server.base_url, **options}
    if server.transport == "memory":
        options.setdefault("transport", Transport(open_stream=server.open_memory_stream))
    return ClaudeClient(**options)
