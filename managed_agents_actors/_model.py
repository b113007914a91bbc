"""The values that cross the public surface: frozen, slotted, keyword-only. No behaviour beyond their own validation.

Provider events are not modelled here: they stay the raw dictionaries that were decoded, so that nothing is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, TypeGuard

from ._artifact import ArtifactStore
from ._errors import ConfigurationError

__all__ = [
    "Content",
    "Deny",
    "EventContext",
    "Halt",
    "Outcome",
    "OutcomeResult",
    "ReconnectPolicy",
    "ResultError",
    "SessionInfo",
    "SessionResult",
    "SessionStatus",
    "Terminal",
    "ToolContext",
    "ToolOutput",
    "ToolResult",
    "ToolUse",
    "TurnResult",
    "Usage",
]

Event: TypeAlias = dict[str, Any]
Content: TypeAlias = str | Sequence[Mapping[str, Any]]
Terminal: TypeAlias = Literal["end_turn", "requires_action", "terminated"]
# A thousandfold growth is a constant ``max`` already; its 64th power still fits a float.
MAX_MULTIPLIER = 1000

ToolKind: TypeAlias = Literal["custom", "builtin", "mcp"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens spent, summed over the model requests of one session request.

    Attributes:
        input_tokens: Uncached input tokens.
        output_tokens: Output tokens.
        cache_read_input_tokens: Input tokens read from the prompt cache.
        cache_creation_input_tokens: Input tokens written to the prompt cache.
        raw: The provider's own usage objects, each as received, in order.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_input_tokens: int = 0
    raw: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolUse:
    """One tool call of the agent.

    Attributes:
        id: The call's id; results and confirmations name it.
        name: The tool's name.
        input: The arguments the model gave.
        kind: ``"custom"`` runs in this process; ``"builtin"`` and ``"mcp"`` run at the provider.
        permission: ``"allow"``, ``"ask"``, ``"deny"``, a value unknown to us, or ``None`` when the call carries none.
        thread_id: The session thread that made the call; ``None`` for the primary thread.
        raw: The event as received.
    """

    id: str
    name: str
    input: Mapping[str, Any]
    kind: ToolKind = "custom"
    permission: str | None = None
    thread_id: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOutput:
    """What a tool gives back: text, or content blocks, and whether it is an error."""

    content: Content
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """The answer to one call as it goes to the provider.

    Attributes:
        tool_use_id: The call that is answered.
        content: Content blocks, in the provider's form.
        is_error: Whether the model is told that the call failed.
    """

    tool_use_id: str
    content: tuple[Mapping[str, Any], ...]
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """A refusal of a tool call, with an optional message for the model."""

    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """A turn guard's verdict to stop the request, with the reason that :class:`TurnHalted` will carry."""

    reason: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A goal for the session to work towards and be graded on.

    Attributes:
        description: What is wanted.
        rubric: How it is graded: text, or a provider's rubric object such as ``{"type": "file", "file_id": …}``.
        max_iterations: How many gradings at most, 1 to 20; ``None`` leaves it to the provider.

    Source: Claude Managed Agents, "Define outcomes" (``user.define_outcome``).
    """

    description: str
    rubric: str | Mapping[str, Any]
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.description, str) or not self.description.strip():
            raise ConfigurationError(f"outcome description must be a non-empty string, not {self.description!r}")
        if isinstance(self.rubric, str):
            if not self.rubric.strip():
                raise ConfigurationError("outcome rubric must not be empty: say how the result is to be graded")
        elif not isinstance(self.rubric, Mapping) or not isinstance(self.rubric.get("type"), str):
            raise ConfigurationError('outcome rubric must be text or a mapping with a "type", such as a file rubric')
        bound = self.max_iterations
        if bound is not None and (isinstance(bound, bool) or not isinstance(bound, int) or not 1 <= bound <= 20):
            raise ConfigurationError(f"outcome max_iterations must be an integer from 1 to 20, not {bound!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeResult:
    """The last grading of a request's outcome: the provider's verdict, its explanation and the 0-based iteration."""

    result: str
    explanation: str | None = None
    iteration: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultError:
    """Why a request ended badly, or what went wrong on the way.

    Attributes:
        type: The provider's error type, or the name of our exception class.
        message: For people; never holds a secret.
        retry_status: The provider's word on retrying (``"retrying"``, ``"exhausted"``, ``"terminal"``), if it said one.
        raw: The provider's error object as received, if it was the provider's.
        exception: Our exception, if it was ours.
    """

    type: str
    message: str
    retry_status: str | None = None
    raw: Mapping[str, Any] | None = None
    exception: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResult:
    """What a turn guard sees after each turn: the request's accumulated state.

    Attributes:
        turns: Turns ended so far in this request, this one included.
        usage: Usage so far.
        session_id: The provider's session id.
        terminal: How this turn ended.
        stop_reason: The provider's stop reason, verbatim.
        text: The assistant text so far.
        custom_tool_uses: The custom calls so far.
    """

    turns: int
    usage: Usage
    session_id: str
    terminal: Terminal
    stop_reason: Any
    text: str
    custom_tool_uses: tuple[ToolUse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """How one request of a session ended, and everything it produced.

    Attributes:
        terminal: ``"end_turn"``, ``"requires_action"`` (the session waits for something this process was not given
            the means to answer) or ``"terminated"``.
        stop_reason: The provider's native value, verbatim.
        session_id: The provider's session id; ``None`` if the session never came to be.
        text: The assistant's text of the whole request; text deltas concatenate to exactly this.
        last_text: The assistant's text of its last turn.
        usage: Tokens of the request.
        turns: Turns of the request; 0 when there was nothing to do.
        custom_tool_uses: Calls that were this process's to answer, in order.
        server_tool_uses: Calls the provider ran itself, in order.
        events: The provider's raw events of the request, in server order, each once.
        transcript: The request as messages: ``{"role": …, "content": […]}``.
        outcome: The last outcome grading, if the request had one.
        error: What went wrong, if anything did.
        resumable: Whether the session takes further input.
    """

    terminal: Terminal
    stop_reason: Any = None
    session_id: str | None = None
    text: str = ""
    last_text: str = ""
    usage: Usage = field(default_factory=Usage)
    turns: int = 0
    custom_tool_uses: tuple[ToolUse, ...] = ()
    server_tool_uses: tuple[ToolUse, ...] = ()
    events: tuple[Event, ...] = field(default=(), repr=False)
    transcript: tuple[Mapping[str, Any], ...] = field(default=(), repr=False)
    outcome: OutcomeResult | None = None
    error: ResultError | None = None
    resumable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """Which session this is: the provider's id and name, and the caller's own metadata and context.

    Attributes:
        session_id: The provider's session id.
        provider: The provider's name.
        metadata: The caller's telemetry metadata.
        user: The caller's ``context=``, as given.
    """

    session_id: str
    provider: str
    metadata: Mapping[str, Any]
    user: Any = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext(SessionInfo):
    """What a tool call knows beyond its input.

    Attributes:
        tool_use_id: The call's id.
        attempt: 1 for the first time this call runs; higher when it is offered again after an interruption.
        thread_id: The session thread that made the call; ``None`` for the primary thread.
    """

    tool_use_id: str
    attempt: int = 1
    thread_id: str | None = None
    _open_artifacts: Callable[..., ArtifactStore] | None = field(default=None, repr=False, compare=False)

    def artifacts(self, **options: Any) -> ArtifactStore:
        """Open the store of what the agent of this call's session keeps; nothing is sent yet.

        Args:
            **options: The store's own: ``mount_dir`` and ``upload_expires_in`` of
                :class:`~managed_agents_actors.artifacts.ClaudeFiles`, ``base_path`` and ``timeout`` of
                :class:`~managed_agents_actors.artifacts.AgentCoreSessionStorage`.

        Raises:
            ConfigurationError: The session's provider stores nothing, this context is of no session, or the value of
                an option cannot be used.
            TypeError: An option is unknown.
        """
        if self._open_artifacts is None:
            raise ConfigurationError(
                "this context has no artifacts: it was not made by a session. In a test, make the store yourself, with"
                " managed_agents_actors.artifacts"
            )
        return self._open_artifacts(**options)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventContext(SessionInfo):
    """What an event observer knows beyond the event.

    Attributes:
        origin: ``"live"`` when the event came on the stream, ``"history"`` when it was read from the listing.
    """

    origin: Literal["live", "history"] = "live"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStatus:
    """A snapshot of a live session.

    Attributes:
        phase: ``"opening"``, ``"attaching"``, ``"live"``, ``"reconnecting"`` or ``"closed"``.
        session_id: The provider's session id, once known.
        busy: Whether a request is in progress.
        turns: Turns of the current or last request.
        queued_messages: Messages that wait for the current request's end.
        reconnects: Streams opened after the first.
        restarts: Times the session's actor was restarted by its supervisor.
        mailbox_depth: Mail not yet handled.
        tools_running: Ids of the calls that run now.
        usage: Usage of the current or last request.
    """

    phase: Literal["opening", "attaching", "live", "reconnecting", "closed"]
    session_id: str | None
    busy: bool
    turns: int
    queued_messages: int
    reconnects: int
    restarts: int
    mailbox_depth: int
    tools_running: tuple[str, ...]
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconnectPolicy:
    """How a lost stream is opened again. All times in seconds.

    Attributes:
        initial: The first delay.
        max: The cap of every delay. A server's ``retry-after`` is honoured up to it.
        multiplier: Growth from one attempt to the next, 1 to 1000.
        jitter: Share of each delay that is drawn at random, 0 to 1, so that a fleet does not return in lock-step.
        max_attempts: Consecutive failures after which the session gives up; ``None`` never gives up.
        healthy_after: A stream that lived this long counts as healthy: the next delay is ``initial`` again.
    """

    initial: float = 0.5
    max: float = 30.0
    multiplier: float = 2.0
    jitter: float = 0.5
    max_attempts: int | None = None
    healthy_after: float = 10.0

    def __post_init__(self) -> None:
        for name in ("initial", "max", "multiplier", "jitter", "healthy_after"):
            value = getattr(self, name)
            if not is_number(value) or math.isinf(value):
                raise ConfigurationError(f"reconnect: {name} must be a finite number, not {value!r}")
        if not 0 <= self.initial <= self.max:
            raise ConfigurationError(
                f"reconnect: initial must lie in 0..max, not {self.initial!r} with max {self.max!r}"
            )
        if not 1 <= self.multiplier <= MAX_MULTIPLIER or not 0 <= self.jitter <= 1 or self.healthy_after < 0:
            raise ConfigurationError(
                f"reconnect: multiplier must lie in 1..{MAX_MULTIPLIER}, jitter in 0..1, healthy_after at 0 or more"
            )
        attempts = self.max_attempts
        if attempts is not None and (not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1):
            raise ConfigurationError(
                f"reconnect: max_attempts must be a whole number from 1, or None, not {attempts!r}"
            )

    def delay(self, attempt: int, *, draw: float, retry_after: float | None = None) -> float:
        """Seconds to wait before the given attempt.

        Args:
            attempt: 1 for the first attempt after a healthy stream.
            draw: A uniform random number in [0, 1).
            retry_after: What the server asked for, if it did; honoured up to ``max``.
        """
        # Growth stops at the cap; the exponent is bounded so that a long outage cannot overflow a float.
        grown = min(self.max, self.initial * self.multiplier ** min(attempt - 1, 64))
        jittered = grown * (1.0 - self.jitter * draw)
        if retry_after is None or retry_after <= jittered:
            return jittered
        # Whoever is sent away together with others must not come back together with them: later, where there is room.
        if retry_after >= self.max:
            return self.max - self.jitter * draw * self.initial
        return retry_after + self.jitter * draw * min(grown, self.max - retry_after)


def is_number(value: object) -> TypeGuard[float]:
    """Whether this is a number that a float can hold: no boolean, no NaN, no huge integer."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return not math.isnan(value)
    except OverflowError:
        return False
