"""The names of the events that the library tells. Names only: who tells them, and when, is elsewhere.

What each event carries is listed in docs/reference.md; that the list is true is tested.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, get_args

__all__ = ["EVENT_NAMES", "SPAN_NAMES", "EventName", "SpanName"]

# What begins and ends: each has the events <name>.start and <name>.stop, or <name>.exception in place of the latter.
SpanName: TypeAlias = Literal[
    "managed_agents.request",  # one HTTP request of a Claude client, to the head of its answer
    "managed_agents.agent_core.request",  # the same of an AgentCore client
    "managed_agents.tool",  # one run of a tool
    "managed_agents.turn",  # one turn of a request, the tools that it called included
]

EventName: TypeAlias = Literal[
    "managed_agents.request.start",
    "managed_agents.request.stop",
    "managed_agents.request.exception",
    "managed_agents.agent_core.request.start",
    "managed_agents.agent_core.request.stop",
    "managed_agents.agent_core.request.exception",
    "managed_agents.agent_core.provision.poll",
    "managed_agents.agent_core.provision.stop",
    "managed_agents.agent_core.provision.exception",
    "managed_agents.stream.connected",
    "managed_agents.stream.event",
    "managed_agents.stream.done",
    "managed_agents.stream.error",
    "managed_agents.stream.reconnecting",
    "managed_agents.session.opened",
    "managed_agents.session.request_started",
    "managed_agents.session.tool_uses",
    "managed_agents.session.terminal",
    "managed_agents.session.closed",
    "managed_agents.turn.start",
    "managed_agents.turn.stop",
    "managed_agents.tool.start",
    "managed_agents.tool.stop",
    "managed_agents.tool.exception",
    "managed_agents.journal.replayed",
    "managed_agents.supervisor.child_started",
    "managed_agents.supervisor.child_exited",
    "managed_agents.supervisor.child_restarted",
    "managed_agents.supervisor.intensity_exceeded",
]

SPAN_NAMES: Final[tuple[str, ...]] = get_args(SpanName)
EVENT_NAMES: Final[tuple[EventName, ...]] = get_args(EventName)
