"""Managed agents as supervised actors on trio: the provider runs the agent's loop, your tools run in your process.

The front door: the public names, and nothing else. Beside it these import paths are promised: ``actors``,
``agent_core``, ``agentcore``, ``artifacts``, ``claude``, ``providers.*``, ``provisioning``, ``telemetry`` and
``testing``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._config import configure
from ._errors import (
    ActorGone,
    APIError,
    ArtifactError,
    ArtifactNotFound,
    AuthenticationError,
    ConfigurationError,
    ConflictError,
    InvalidRequestError,
    JournalError,
    MailboxFull,
    ManagedAgentsError,
    MaxTurnsExceeded,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    ProvisioningError,
    RateLimitError,
    RestartIntensityExceeded,
    ServerError,
    SessionCrashed,
    SessionError,
    SessionGone,
    SessionTimeout,
    StoreError,
    StreamIdleTimeout,
    StreamLost,
    ToolError,
    TransportError,
    TruncatedStream,
    TurnHalted,
    UnresolvedRequiresAction,
)
from ._model import (
    Deny,
    EventContext,
    Halt,
    Outcome,
    OutcomeResult,
    ReconnectPolicy,
    ResultError,
    SessionInfo,
    SessionResult,
    SessionStatus,
    Terminal,
    ToolContext,
    ToolOutput,
    ToolResult,
    ToolUse,
    TurnResult,
    Usage,
)
from ._session.handle import Session
from ._session.handlers import Handler, with_policy
from ._session.journal import Journal, JournalEntry, MemoryJournal
from ._session.run import open_session, run_session, run_to_completion, start_session
from ._session.statistics import Latency, SupervisorStatistics
from ._session.supervisor import Supervisor, open_supervisor, run_supervisor
from ._session.toolbox import Toolbox, tool
from .actors import ChildSpec
from .claude import ClaudeClient
from .provisioning import (
    AgentHandle,
    AgentSpec,
    ClaudeHandle,
    EnvironmentHandle,
    EnvironmentSpec,
    HarnessHandle,
    MemoryStore,
    Runtime,
    ensure_agent,
    ensure_environment,
    ensure_harness,
    list_agents,
    list_environments,
    list_harnesses,
    provision,
    prune_agents,
    prune_environments,
    prune_harnesses,
    resolve_agent,
    resolve_environment,
    resolve_harness,
    tag_agent,
    tag_environment,
    tag_harness,
    teardown,
)

if TYPE_CHECKING:
    from . import agent_core as agent_core
    from . import testing as testing
    from ._session.sqlite_journal import SqliteJournal
    from .agentcore import AgentCoreClient
    from .provisioning import SqliteStore

__version__ = "0.1.0"

__all__ = [
    "APIError",
    "ActorGone",
    "AgentCoreClient",
    "AgentHandle",
    "AgentSpec",
    "ArtifactError",
    "ArtifactNotFound",
    "AuthenticationError",
    "ChildSpec",
    "ClaudeClient",
    "ClaudeHandle",
    "ConfigurationError",
    "ConflictError",
    "Deny",
    "EnvironmentHandle",
    "EnvironmentSpec",
    "EventContext",
    "Halt",
    "Handler",
    "HarnessHandle",
    "InvalidRequestError",
    "Journal",
    "JournalEntry",
    "JournalError",
    "Latency",
    "MailboxFull",
    "ManagedAgentsError",
    "MaxTurnsExceeded",
    "MemoryJournal",
    "MemoryStore",
    "NotFoundError",
    "Outcome",
    "OutcomeResult",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "ProvisioningError",
    "RateLimitError",
    "ReconnectPolicy",
    "RestartIntensityExceeded",
    "ResultError",
    "Runtime",
    "ServerError",
    "Session",
    "SessionCrashed",
    "SessionError",
    "SessionGone",
    "SessionInfo",
    "SessionResult",
    "SessionStatus",
    "SessionTimeout",
    "SqliteJournal",
    "SqliteStore",
    "StoreError",
    "StreamIdleTimeout",
    "StreamLost",
    "Supervisor",
    "SupervisorStatistics",
    "Terminal",
    "ToolContext",
    "ToolError",
    "ToolOutput",
    "ToolResult",
    "ToolUse",
    "Toolbox",
    "TransportError",
    "TruncatedStream",
    "TurnHalted",
    "TurnResult",
    "UnresolvedRequiresAction",
    "Usage",
    "__version__",
    "agent_core",
    "configure",
    "ensure_agent",
    "ensure_environment",
    "ensure_harness",
    "list_agents",
    "list_environments",
    "list_harnesses",
    "open_session",
    "open_supervisor",
    "provision",
    "prune_agents",
    "prune_environments",
    "prune_harnesses",
    "resolve_agent",
    "resolve_environment",
    "resolve_harness",
    "run_session",
    "run_supervisor",
    "run_to_completion",
    "start_session",
    "tag_agent",
    "tag_environment",
    "tag_harness",
    "teardown",
    "testing",
    "tool",
    "with_policy",
]


_LAZY = {
    "AgentCoreClient": "agentcore",
    "SqliteJournal": "_session.sqlite_journal",
    "SqliteStore": "provisioning",
}


def __getattr__(name: str) -> Any:
    # Part of the public surface, but not needed by every service, or not there in every Python (sqlite3).
    if name in ("agent_core", "testing"):
        return importlib.import_module(f"{__name__}.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
