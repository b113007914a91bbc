"""Everything a session can be asked for, checked before anything is sent."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Awaitable, Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import trio

from .._errors import ConfigurationError
from .._model import Content, Halt, Outcome, ReconnectPolicy, SessionResult, TurnResult
from .._protocol.mail import Goal, Message, Token
from .._protocol.session_machine import MachineSettings
from ..providers.contract import Provider
from .handlers import Handler, HandlerAdapter, ToolCallFunction
from .journal import Journal

TurnGuard: TypeAlias = Callable[[TurnResult], Awaitable[Halt | None] | Halt | None]

# The longest finite time that can be asked for: a century in seconds.
MAX_SECONDS = 100 * 365 * 86400

# What a journal has to offer.
JOURNAL = ("begin", "finish", "settle", "forget")

# What a new run is opened with when its caller gives nothing.
DEFAULT_PROMPT = "Begin."


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """A session's options, checked.

    Raises:
        ConfigurationError: A value cannot be used; the message says which and why.
        TypeError: The provider does not know an option.
    """

    provider: Provider
    provider_options: Any
    handler: HandlerAdapter
    kickoff: Message | Goal | None
    resumed: bool
    metadata: Mapping[str, Any]
    max_tool_concurrency: int | trio.CapacityLimiter
    user: Any = field(default=None, repr=False)
    timeout: float | None = None
    max_turns: int = 50
    turn_guard: TurnGuard | None = None
    terminal_tool: str | None = None
    require_terminal_tool: bool = False
    max_reprompts: int = 2
    tool_timeout: float | None = None
    expose_exceptions: bool = False
    reconnect: ReconnectPolicy = ReconnectPolicy()  # noqa: RUF009 -- a frozen value
    unresolved_after: float = 10.0
    journal: Journal | None = None
    on_interrupted: Literal["rerun", "fail"] = "rerun"
    on_exit: Literal["leave", "interrupt", "archive", "delete"] = "leave"
    notify: trio.MemorySendChannel[SessionResult] | None = None

    def __post_init__(self) -> None:
        _check_seconds("timeout", self.timeout)
        _check_seconds("tool_timeout", self.tool_timeout)
        if self.unresolved_after is None:
            raise ConfigurationError("unresolved_after= must be a positive number of seconds, not None")
        _check_seconds("unresolved_after", self.unresolved_after)
        for name in ("expose_exceptions", "require_terminal_tool"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name}= must be True or False, not {getattr(self, name)!r}")
        if not isinstance(self.max_tool_concurrency, trio.CapacityLimiter):
            _check_count("max_tool_concurrency", self.max_tool_concurrency, least=1)
        _check_count("max_turns", self.max_turns, least=1)
        _check_count("max_reprompts", self.max_reprompts, least=0)
        if self.turn_guard is not None and not callable(self.turn_guard):
            raise ConfigurationError(f"turn_guard= must be a function of a TurnResult, not {self.turn_guard!r}")
        if self.terminal_tool is not None and not (isinstance(self.terminal_tool, str) and self.terminal_tool):
            raise ConfigurationError(f"terminal_tool= must be a tool's name, not {self.terminal_tool!r}")
        if self.require_terminal_tool and self.terminal_tool is None:
            raise ConfigurationError("require_terminal_tool=True needs terminal_tool=, the name of the tool")
        if not isinstance(self.reconnect, ReconnectPolicy):
            raise ConfigurationError(f"reconnect= must be a ReconnectPolicy, not {self.reconnect!r}")
        if self.on_interrupted not in ("rerun", "fail"):
            raise ConfigurationError(f'on_interrupted= must be "rerun" or "fail", not {self.on_interrupted!r}')
        if self.on_exit not in ("leave", "interrupt", "archive", "delete"):
            raise ConfigurationError(
                f'on_exit= must be "leave", "interrupt", "archive" or "delete", not {self.on_exit!r}'
            )
        _check_journal(self.journal)
        if self.notify is not None and not callable(getattr(self.notify, "send_nowait", None)):
            raise ConfigurationError(f"notify= must be a trio.MemorySendChannel, not {type(self.notify).__name__}")


def session_options(
    provider: Provider,
    *,
    handler: Handler | ToolCallFunction,
    prompt: Content | None = None,
    outcome: Outcome | Mapping[str, Any] | None = None,
    context: Any = None,
    default_prompt: str | None = None,
    max_tool_concurrency: int | trio.CapacityLimiter = 8,
    telemetry_metadata: Mapping[str, Any] | None = None,
    provider_options: Mapping[str, Any],
    **checked: Any,
) -> SessionOptions:
    """Check all options of a session and bring them to one value. Nothing is sent.

    Raises:
        ConfigurationError: A value cannot be used.
        TypeError: The provider does not know an option.
    """
    if not callable(getattr(provider, "parse_options", None)):
        raise ConfigurationError(
            "the first argument must be a provider module, such as "
            f"managed_agents_actors.providers.claude_managed_agents, not {provider!r}"
        )
    parsed = provider.parse_options(provider_options)
    resumed = provider.is_resumed(parsed)
    adapted = HandlerAdapter(handler)
    _check_capabilities(provider, adapted, checked.get("on_exit", "leave"))
    if (
        resumed
        and default_prompt is not None
        and prompt is None
        and outcome is None
        and not provider.CAPABILITIES.replay
    ):
        raise ConfigurationError(f"{provider.NAME} cannot show what a session does that was begun before; give prompt=")
    if telemetry_metadata is not None and not isinstance(telemetry_metadata, Mapping):
        raise ConfigurationError(f"telemetry_metadata= must be a mapping, not {type(telemetry_metadata).__name__}")
    return SessionOptions(
        provider=provider,
        provider_options=parsed,
        handler=adapted,
        kickoff=_kickoff(provider, prompt, outcome, None if resumed else default_prompt),
        resumed=resumed,
        metadata={**(telemetry_metadata or {}), **provider.metadata(parsed)},
        max_tool_concurrency=max_tool_concurrency,
        user=context,
        **checked,
    )


def _check_capabilities(provider: Provider, handler: HandlerAdapter, on_exit: str) -> None:
    can = provider.CAPABILITIES
    if handler.confirms and not can.confirmations:
        raise ConfigurationError(
            f"{provider.NAME} asks for no confirmations; its handler must have no handle_confirmation"
        )
    if on_exit in ("interrupt", "archive", "delete") and on_exit not in can.exits:
        known = ", ".join(sorted({"leave", *can.exits}))
        raise ConfigurationError(f'on_exit="{on_exit}" is not possible with {provider.NAME}; it knows {known}')


def live_options(provider: Provider, **options: Any) -> SessionOptions:
    """Check the options of a live session as :func:`open_session` takes them, the provider's own among them.

    Raises:
        ConfigurationError: A value cannot be used.
        TypeError: An option is missing, or nobody knows it.
    """
    ours = {name: value for name, value in options.items() if name in KEYWORDS}
    theirs = {name: value for name, value in options.items() if name not in KEYWORDS}
    return session_options(provider, provider_options=theirs, **ours)


# The options of a live session that are not its provider's.
KEYWORDS = frozenset(
    {
        "context",
        "expose_exceptions",
        "handler",
        "journal",
        "max_reprompts",
        "max_tool_concurrency",
        "max_turns",
        "notify",
        "on_exit",
        "on_interrupted",
        "outcome",
        "prompt",
        "reconnect",
        "require_terminal_tool",
        "telemetry_metadata",
        "terminal_tool",
        "timeout",
        "tool_timeout",
        "turn_guard",
        "unresolved_after",
    }
)


def _kickoff(
    provider: Provider, prompt: Content | None, outcome: Outcome | Mapping[str, Any] | None, default: str | None
) -> Message | Goal | None:
    """What the session is opened with: an outcome before a prompt before the default."""
    if outcome is not None:
        if not provider.CAPABILITIES.outcomes:
            raise ConfigurationError(f"{provider.NAME} has no outcomes; use prompt= instead")
        item: Message | Goal = Goal(_outcome(outcome))
    elif prompt is not None or default is not None:
        item = Message(default if prompt is None else prompt)  # type: ignore[arg-type]  # one of them is there
    else:
        return None
    provider.check_input(item)
    return item


def _outcome(value: Outcome | Mapping[str, Any]) -> Outcome:
    if isinstance(value, Outcome):
        return value
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"outcome= must be an Outcome or a mapping, not {type(value).__name__}")
    known = {f.name for f in dataclasses.fields(Outcome)}
    unknown, missing = sorted(set(value) - known), sorted({"description", "rubric"} - set(value))
    if unknown or missing:
        raise ConfigurationError(f"outcome= has {sorted(known)}; unknown here: {unknown}, missing: {missing}")
    return Outcome(**value)


def _check_journal(journal: Any) -> None:
    if journal is None:
        return
    if isinstance(journal, type):
        raise ConfigurationError(f"journal= must be a Journal, not the class {journal.__name__}; make one of it")
    if not all(inspect.iscoroutinefunction(getattr(journal, name, None)) for name in JOURNAL):
        kind = type(journal).__name__
        raise ConfigurationError(f"journal= must be a Journal with async {', '.join(JOURNAL)}; a {kind} is none")
    if getattr(journal, "is_open", True) is False:
        raise ConfigurationError("the journal is not open: use it inside of `async with`")


def _check_count(name: str, value: Any, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name}= must be an integer of at least {least}, not {value!r}")


def _check_seconds(name: str, value: Any) -> None:
    if value is None:
        return
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not (0 < value <= MAX_SECONDS or value == math.inf)
    ):
        raise ConfigurationError(f"{name}= must be a positive number of seconds, not {value!r}")


def machine_settings(options: SessionOptions, token: Token | None) -> MachineSettings:
    """Give what of the options the session machine decides by.

    Args:
        options: The session's.
        token: Who waits for the one result, if the session is for one request.
    """
    return MachineSettings(
        resumed=options.resumed,
        one_shot=token is not None,
        owns=options.handler.owns,
        has_policy=options.handler.confirms,
        has_guard=options.turn_guard is not None,
        interrupts_overtake=options.provider.CAPABILITIES.interrupts_overtake,
        max_turns=options.max_turns,
        terminal_tool=options.terminal_tool,
        require_terminal_tool=options.require_terminal_tool,
        max_reprompts=options.max_reprompts,
        timeout=options.timeout,
        kickoff=options.kickoff,
        kickoff_token=token,
        kickoff_sender=None if options.kickoff is None else copy_context(),
        unresolved_after=options.unresolved_after,
        max_attempts=options.reconnect.max_attempts,
        healthy_after=options.reconnect.healthy_after,
    )
