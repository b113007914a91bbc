"""Simulators, fault plans and scripted servers: what a test of an agent needs in place of the provider.

from managed_agents_actors.testing import call_tools, open_claude_simulator, say

async with open_claude_simulator([call_tools(("lookup", {"id": 1})), say("done")]) as simulator:
    ...
"""

from __future__ import annotations

from ._claude_simulator import ClaudeSimulator, SimulatedSession, open_claude_simulator
from ._faults import (
    Delay,
    DropStream,
    EndStream,
    Fault,
    FaultPlan,
    FiredFault,
    GarbageFrame,
    LoseAnswer,
    RefuseWith,
    StallStream,
)
from ._frames import sse_frame
from ._http_messages import RecordedRequest, Request
from ._http_server import Responder, StreamResponse
from ._script import (
    Call,
    Step,
    ToolAnswer,
    Turn,
    ask,
    builtin,
    call_tool,
    call_tools,
    emit,
    end,
    fail,
    grade,
    say,
    spend,
    subagent_call,
    think,
    wait,
)
from ._wire import WireServer, open_wire_server

__all__ = [
    "Call",
    "ClaudeSimulator",
    "Delay",
    "DropStream",
    "EndStream",
    "Fault",
    "FaultPlan",
    "FiredFault",
    "GarbageFrame",
    "LoseAnswer",
    "RecordedRequest",
    "RefuseWith",
    "Request",
    "Responder",
    "SimulatedSession",
    "StallStream",
    "Step",
    "StreamResponse",
    "ToolAnswer",
    "Turn",
    "WireServer",
    "ask",
    "builtin",
    "call_tool",
    "call_tools",
    "emit",
    "end",
    "fail",
    "grade",
    "open_claude_simulator",
    "open_wire_server",
    "say",
    "spend",
    "sse_frame",
    "subagent_call",
    "think",
    "wait",
]
