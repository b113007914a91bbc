"""What a convention for spans of one kind consists of, and what all of them read from an event. Pure functions.

What an event tells is its metadata and its measurements. It may be sparse: what is missing is left out. The caller's
tags are told under their own names; what the library says of the same name wins over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from opentelemetry.trace import SpanKind

from ._otel_names import Attributes

__all__ = ["Convention", "Told", "error_of", "number", "own_keys", "provider_name", "where"]

Told: TypeAlias = Mapping[str, Any]

LARGEST: Final = 2**63  # what exporters cannot encode any more

CLAUDE: Final = "claude_managed_agents"
# Source: semantic conventions, well-known values of gen_ai.provider.name.
_PROVIDERS: Final = {CLAUDE: "anthropic", "bedrock_agent_core": "aws.bedrock"}

# What any event may carry that is no tag of the caller's: where it happens, how it ended, and what was said.
_WHERE: Final = (
    "provider",
    "session_id",
    "session",
    "agent_id",
    "agent_name",
    "request",
    "turn",
    "span_id",
    "parent_id",
)
_END: Final = ("error_type", "cancelled", "exception")
_CONTENT: Final = ("input", "output", "text", "event")


def own_keys(*more: str, content: bool = True) -> frozenset[str]:
    """Give what the events of a span carry that is no tag: what any event may, and more."""
    return frozenset((*_WHERE, *_END, *(_CONTENT if content else ()), *more))


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """How spans of one kind are told.

    Attributes:
        title: What their names begin with.
        titled_by: What of their first event their names go on with.
        kind: What they are to OpenTelemetry.
        begin: The attributes that they begin with, which a sampler sees.
        end: Those that they end with.
        content: Those that tell what was said, at either.
        error: What the error that they end with is called; ``None`` if it is none.
        own: What their events carry that is no tag of the caller's.
        is_current: Whether what happens meanwhile in their task happens in them.
    """

    title: str = ""
    titled_by: tuple[str, ...] = ()
    kind: SpanKind = SpanKind.INTERNAL
    begin: Callable[[Told], Mapping[str, object]]
    end: Callable[[Told], Mapping[str, object]] | None = None
    content: Callable[[Told], Mapping[str, object]] | None = None
    error: Callable[[Told], str | None]
    own: frozenset[str]
    is_current: bool = True

    def name(self, told: Told) -> str:
        """Give the name of a span that begins so; it is empty if the event is too sparse."""
        return " ".join(filter(None, (self.title, *(str(told.get(key) or "") for key in self.titled_by))))

    def tags(self, metadata: Told) -> dict[str, Any]:
        """Give the caller's tags, of what an event of such a span carries."""
        return {key: value for key, value in metadata.items() if key not in self.own}


def where(told: Told) -> Attributes:
    """Tell in whose session something happens, and where in it."""
    session_id = told.get("session_id")
    return {
        "gen_ai.provider.name": provider_name(told.get("provider")),
        "gen_ai.conversation.id": session_id,
        "gen_ai.agent.id": told.get("agent_id"),
        "gen_ai.agent.name": told.get("agent_name"),
        "anthropic.session.id": session_id if told.get("provider") == CLAUDE else None,
        "managed_agents.session.name": told.get("session"),
        "managed_agents.request.number": told.get("request"),
        "managed_agents.turn": told.get("turn"),
    }


def provider_name(provider: Any) -> str | None:
    """Give the conventions' name of a provider; its own, if they have none."""
    return _PROVIDERS.get(provider, provider) if isinstance(provider, str) else None


def error_of(told: Told) -> str | None:
    """Give what an error is called; ``None`` if there was none, or it was only cancelled."""
    name = told.get("error_type")
    return None if name is None or told.get("cancelled") else str(name)


def number(told: Told, name: str) -> int | float | None:
    """Give a measurement; ``None`` if it was not taken. What was measured is finite, and never less than nothing."""
    value = told.get(name)
    is_measured = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < LARGEST
    return value if is_measured else None
