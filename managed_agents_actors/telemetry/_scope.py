"""Where the present task stands: the tags that everything told from here carries, and the span that it happens in.

A scope follows the task that starts another one, as every context variable does: what a session's tasks tell is told
with its tags, however deep in the library, or in a tool, it happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final, final

__all__ = ["HAPPENED", "IDENTITY", "NO_TAGS", "Scope", "callers_tags", "current_scope", "standing"]

NO_TAGS: Final[Mapping[str, Any]] = MappingProxyType({})


# The tags by which the library says who it speaks of.
IDENTITY: Final = frozenset(
    {"provider", "session_id", "session", "agent_id", "agent_name", "request", "turn", "span_id", "parent_id"}
)
# What events say of what has happened, some of them only at times: a tag of the same name would be taken for it.
HAPPENED: Final = frozenset(
    {
        "attempt",
        "cancelled",
        "child",
        "error",
        "error_type",
        "event",
        "exception",
        "exit",
        "harness_id",
        "host",
        "input",
    }
    | {"is_error", "kind", "method", "operation", "output", "path", "phase", "port", "reason", "request_id", "result"}
    | {"resumed", "scheme", "service", "status", "stop_reason", "supervisor", "terminal", "text", "tool", "tool_use_id"}
    | {"tool_use_ids", "tools", "type", "usage"}
)


def callers_tags(tags: Mapping[str, Any]) -> dict[str, Any]:
    """Give the tags of a caller that are told: not those whose names are the library's, which win, known or not."""
    return {name: value for name, value in tags.items() if name not in IDENTITY and name not in HAPPENED}


@final
class Scope:
    """Tags, and a span. Only its owner changes it, and with it what all tasks tell that stand there.

    Attributes:
        tags: What every event told in it carries, unless the event itself says otherwise.
        span_id: The span in which it happens; ``None`` outside of any.
    """

    __slots__ = ("span_id", "tags")

    def __init__(self, tags: Mapping[str, Any] = NO_TAGS, span_id: int | None = None) -> None:
        self.tags = tags
        self.span_id = span_id


_NOWHERE: Final = Scope()
_scope: ContextVar[Scope] = ContextVar("managed_agents_actors.telemetry_scope", default=_NOWHERE)


def current_scope() -> Scope:
    """Give the scope of the present task."""
    return _scope.get()


@final
class standing:  # noqa: N801 -- used as a function
    """Let the present task, and the tasks that it starts, stand there for as long as the block lasts."""

    __slots__ = ("_scope", "_token")

    def __init__(self, scope: Scope) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        self._token = _scope.set(self._scope)

    def __exit__(self, *_: object) -> None:
        with suppress(ValueError):  # a generator may be left in another context, which ends by itself
            _scope.reset(self._token)
