"""Simulators, fault plans and scripted servers: what a test of an agent needs in place of the provider.

from managed_agents_actors.testing import call_tools, open_claude_simulator, say

async with open_claude_simulator([call_tools(("lookup", {"id": 1})), say("done")]) as simulator:
    ...
"""

from __future__ import annotations

from ._agentcore_simulator import AgentCoreSimulator, SimulatedRuntimeSession, open_agentcore_simulator
from ._checks import SessionEvidence, assert_exactly_once
from ._claude_simulator import ClaudeSimulator, SimulatedSession, open_claude_simulator
from ._crash import crash_session
from ._fault_actions import (
    Action,
    CrashSession,
    Delay,
    DelayAnswer,
    DelayEvents,
    DeleteSession,
    DropStream,
    EndStream,
    GarbageFrame,
    HugeFrame,
    InjectedCrash,
    LoopCursors,
    LoseAnswer,
    LoseRequest,
    PauseStream,
    RefuseWith,
    RepeatEvents,
    RotateKey,
    ShortenListing,
    Split,
    StallStream,
    TerminateSession,
    ThrowInStream,
    TruncateAnswer,
)
from ._fault_plan import Chance, Fault, FaultPlan, FiredFault
from ._frames import sse_frame
from ._http_messages import RecordedRequest, Request
from ._http_server import Responder, StreamResponse
from ._journal_suite import DurableJournalSuite, JournalSuite
from ._local_shell import local_shell
from ._provider_place import Place
from ._provider_suite import ProviderSuite
from ._recording import RecordedCall, RecordingHandler
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
    write_output,
)
from ._shrinking import PlanFailed, check_plans, find_shortest_plan
from ._store_suite import DurableStoreSuite, StoreSuite
from ._virtual_time import deterministic_schedule, run_in_virtual_time
from ._wire import WireServer, open_wire_server

__all__ = [
    "Action",
    "AgentCoreSimulator",
    "Call",
    "Chance",
    "ClaudeSimulator",
    "CrashSession",
    "Delay",
    "DelayAnswer",
    "DelayEvents",
    "DeleteSession",
    "DropStream",
    "DurableJournalSuite",
    "DurableStoreSuite",
    "EndStream",
    "Fault",
    "FaultPlan",
    "FiredFault",
    "GarbageFrame",
    "HugeFrame",
    "InjectedCrash",
    "JournalSuite",
    "LoopCursors",
    "LoseAnswer",
    "LoseRequest",
    "PauseStream",
    "Place",
    "PlanFailed",
    "ProviderSuite",
    "RecordedCall",
    "RecordedRequest",
    "RecordingHandler",
    "RefuseWith",
    "RepeatEvents",
    "Request",
    "Responder",
    "RotateKey",
    "SessionEvidence",
    "ShortenListing",
    "SimulatedRuntimeSession",
    "SimulatedSession",
    "Split",
    "StallStream",
    "Step",
    "StoreSuite",
    "StreamResponse",
    "TerminateSession",
    "ThrowInStream",
    "ToolAnswer",
    "TruncateAnswer",
    "Turn",
    "WireServer",
    "ask",
    "assert_exactly_once",
    "builtin",
    "call_tool",
    "call_tools",
    "check_plans",
    "crash_session",
    "deterministic_schedule",
    "emit",
    "end",
    "fail",
    "find_shortest_plan",
    "grade",
    "local_shell",
    "open_agentcore_simulator",
    "open_claude_simulator",
    "open_wire_server",
    "run_in_virtual_time",
    "say",
    "spend",
    "sse_frame",
    "subagent_call",
    "think",
    "wait",
    "write_output",
]
