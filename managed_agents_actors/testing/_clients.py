"""Wires this library's own clients to a server under test, on whichever transport the server runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._http.transport import Transport
from ..claude import ClaudeClient
from ._http_server import HttpServer

if TYPE_CHECKING:
    from ..agentcore import AgentCoreClient

__all__ = ["connect_agentcore_client", "connect_client"]


def connect_client(server: HttpServer, options: dict[str, Any]) -> ClaudeClient:
    """A Claude client of ``server``; in memory when the server listens nowhere."""
    return ClaudeClient(**_reaching(server, {"api_key": "test-key", "base_url": server.own_url, **options}))


def connect_agentcore_client(server: HttpServer, options: dict[str, Any]) -> AgentCoreClient:
    """An AgentCore client of ``server``; in memory when the server listens nowhere."""
    from ..agentcore import AgentCoreClient
    from ..agentcore._loading import load

    if server.transport == "memory":
        load()  # a thread would let virtual time pass
    return AgentCoreClient(**_reaching(server, {"endpoint_url": server.own_url, **options}))


def _reaching(server: HttpServer, options: dict[str, Any]) -> dict[str, Any]:
    if server.transport == "memory":
        options.setdefault("transport", Transport(open_stream=server.open_memory_stream))
    return options
