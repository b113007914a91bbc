"""Provisioning: agents, environments and harnesses, built once and named by their content, and run anywhere.

Specs and handles are values. What was made is remembered in a store, which saves looking and holds the tags; what is
at the provider is found again by its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._agents import ensure_agent, list_agents, prune_agents, resolve_agent, tag_agent
from ._cache import Cache
from ._environments import (
    ensure_environment,
    list_environments,
    prune_environments,
    resolve_environment,
    tag_environment,
)
from ._handles import AgentHandle, ClaudeHandle, EnvironmentHandle, HarnessHandle
from ._harnesses import ensure_harness, list_harnesses, prune_harnesses, resolve_harness, tag_harness
from ._order import Order, Removal
from ._progress import Course, Progress
from ._provision import Provisioner, provision, teardown
from ._prune import Pruned, Version
from ._runtimes import Bootstrap, Runtime
from ._specs import AgentSpec, EnvironmentSpec
from ._store import MemoryStore, Store

if TYPE_CHECKING:
    from ._sqlite_store import SqliteStore

__all__ = [
    "AgentHandle",
    "AgentSpec",
    "Bootstrap",
    "Cache",
    "ClaudeHandle",
    "Course",
    "EnvironmentHandle",
    "EnvironmentSpec",
    "HarnessHandle",
    "MemoryStore",
    "Order",
    "Progress",
    "Provisioner",
    "Pruned",
    "Removal",
    "Runtime",
    "SqliteStore",
    "Store",
    "Version",
    "ensure_agent",
    "ensure_environment",
    "ensure_harness",
    "list_agents",
    "list_environments",
    "list_harnesses",
    "provision",
    "prune_agents",
    "prune_environments",
    "prune_harnesses",
    "resolve_agent",
    "resolve_environment",
    "resolve_harness",
    "tag_agent",
    "tag_environment",
    "tag_harness",
    "teardown",
]


def __getattr__(name: str) -> Any:
    # Not there in every Python: sqlite3 is optional.
    if name == "SqliteStore":
        from ._sqlite_store import SqliteStore

        return SqliteStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
