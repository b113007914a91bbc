"""The agent's part, as data: steps a script is made of, and how a script becomes the agent that plays it.

A script is a list of steps (one turn), a list of such lists (one per turn) or an async function of the turn; lists
compile to the function form. Turns beyond the script echo the message. Steps describe; the turn performs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from .._errors import ConfigurationError

__all__ = [
    "Agent",
    "Call",
    "Script",
    "Step",
    "ToolAnswer",
    "Turn",
    "ask",
    "builtin",
    "call_tool",
    "call_tools",
    "compile_script",
    "emit",
    "end",
    "fail",
    "grade",
    "say",
    "spend",
    "subagent_call",
    "think",
    "wait",
    "write_output",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool call of the agent.

    Attributes:
        name: The tool.
        input: Its arguments.
        kind: ``"custom"`` is answered by a client; ``"builtin"`` and ``"mcp"`` are run by the server.
        permission: For server-run tools: ``"ask"`` waits for a confirmation, ``"deny"`` is refused at once.
        result: The text a server-run tool gives once it may run.
        server: The MCP server's name.
        agent: Makes the call in a sub-agent's thread of this name, cross-posted to the session.
    """

    name: str
    input: Mapping[str, Any] = field(default_factory=dict)
    kind: Literal["custom", "builtin", "mcp"] = "custom"
    permission: Literal["allow", "ask", "deny"] = "allow"
    result: str = "ok"
    server: str = "simulated"
    agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAnswer:
    """What came of a call.

    Attributes:
        id: The call's id.
        name: The tool.
        content: The result's content blocks.
        is_error: Whether it is an error; a denied or interrupted call is one.
    """

    id: str
    name: str
    content: tuple[Mapping[str, Any], ...]
    is_error: bool

    @property
    def text(self) -> str:
        """The text of the result's text blocks."""
        return "".join(block.get("text", "") for block in self.content)


class Turn(Protocol):
    """One turn of a session, as the agent that plays it sees it. Every method waits for one scheduling round at least.

    Attributes:
        number: 1 for the session's first turn.
        session_id: The session.
        text: The text of the message (or outcome) that started the turn.
        inputs: The client events that started it.
    """

    number: int
    session_id: str
    text: str
    inputs: tuple[Mapping[str, Any], ...]

    async def say(self, text: str, *, chunks: Sequence[str] | None = None, pace: float = 0.0) -> None:
        """An assistant message; previewed in ``chunks`` (words, if left out), ``pace`` seconds apart."""

    async def think(self) -> None:
        """A thinking progress event."""

    async def call_tools(self, *calls: Call | tuple[str, Mapping[str, Any]]) -> list[ToolAnswer]:
        """Call tools in one model response and wait until all are answered."""

    async def fail(self, error_type: str, retry_status: str = "exhausted", message: str = "simulated") -> None:
        """A ``session.error``; anything but ``"retrying"`` ends the turn here."""

    async def wait(self, seconds: float) -> None:
        """Let time pass."""

    async def grade(self, result: str = "satisfied", explanation: str = "") -> None:
        """One outcome evaluation."""

    async def write_output(self, name: str, content: bytes, *, mime_type: str = "text/plain") -> None:
        """Write a file below ``/mnt/session/outputs``, for clients to fetch; not of AgentCore."""

    async def read_file(self, path: str) -> bytes:
        """Read what was mounted at a path last, or raise :class:`FileNotFoundError`; not of AgentCore."""

    async def end(self, reason: str | Mapping[str, Any] = "end_turn") -> None:
        """End the turn here with this stop reason."""

    async def emit(self, event: Mapping[str, Any]) -> None:
        """Any event, as given."""

    async def spend(self, **usage: int) -> None:
        """Set what each model request from here on reports as its usage."""


Agent: TypeAlias = Callable[[Turn], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a list script; made by the builder functions of this module."""

    name: str
    perform: Callable[[Turn], Awaitable[object]] = field(repr=False)


Script: TypeAlias = Sequence[Step] | Sequence[Sequence[Step]] | Agent | None


def say(text: str, *, chunks: Sequence[str] | None = None, pace: float = 0.0) -> Step:
    """The agent says ``text``; previewed in ``chunks`` (words, if left out), ``pace`` seconds apart."""
    return Step("say", lambda turn: turn.say(text, chunks=chunks, pace=pace))


def think() -> Step:
    """The agent thinks."""
    return Step("think", lambda turn: turn.think())


def call_tools(*calls: Call | tuple[str, Mapping[str, Any]]) -> Step:
    """The agent calls tools in one response, custom ones unless a :class:`Call` says otherwise, and waits for all."""
    return Step("call_tools", lambda turn: turn.call_tools(*calls))


def call_tool(name: str, input: Mapping[str, Any] | None = None) -> Step:
    """The agent calls one custom tool and waits for its result."""
    return call_tools((name, input or {}))


def ask(
    name: str,
    input: Mapping[str, Any] | None = None,
    *,
    kind: Literal["builtin", "mcp"] = "builtin",
    result: str = "ok",
) -> Step:
    """The agent makes a server-run call that needs a confirmation; allowed, it gives ``result``."""
    return call_tools(Call(name=name, input=input or {}, kind=kind, permission="ask", result=result))


def builtin(name: str, input: Mapping[str, Any] | None = None, result: str = "ok") -> Step:
    """The agent uses a tool the server runs by itself (in a self-hosted environment: a worker)."""
    return call_tools(Call(name=name, input=input or {}, kind="builtin", result=result))


def subagent_call(agent: str, name: str, input: Mapping[str, Any] | None = None) -> Step:
    """A sub-agent, in a thread of its own, calls a custom tool; the call is cross-posted to the session."""
    return call_tools(Call(name=name, input=input or {}, agent=agent))


def fail(error_type: str, retry_status: str = "exhausted", message: str = "simulated") -> Step:
    """The session reports an error: ``"retrying"`` goes on, ``"exhausted"`` idles, ``"terminal"`` terminates."""
    return Step("fail", lambda turn: turn.fail(error_type, retry_status, message))


def wait(seconds: float) -> Step:
    """So many seconds pass."""
    return Step("wait", lambda turn: turn.wait(seconds))


def grade(result: str = "satisfied", explanation: str = "") -> Step:
    """The outcome is evaluated with this result."""
    return Step("grade", lambda turn: turn.grade(result, explanation))


def write_output(name: str, content: bytes, *, mime_type: str = "text/plain") -> Step:
    """The agent writes a file below ``/mnt/session/outputs``, which clients may fetch then."""
    return Step("write_output", lambda turn: turn.write_output(name, content, mime_type=mime_type))


def end(reason: str | Mapping[str, Any] = "end_turn") -> Step:
    """The turn ends here with this stop reason; a mapping is sent as it is."""
    return Step("end", lambda turn: turn.end(reason))


def emit(event: Mapping[str, Any]) -> Step:
    """The server emits this event; id and time are added if it has none."""
    return Step("emit", lambda turn: turn.emit(event))


def spend(**usage: int) -> Step:
    """Each model request from here on reports this usage, such as ``input_tokens=10``."""
    return Step("spend", lambda turn: turn.spend(**usage))


def compile_script(script: Script) -> Agent:
    """The agent that plays ``script``.

    Raises:
        ConfigurationError: The script is neither a function nor made of steps.
    """
    if callable(script):
        return script
    parts: list[Any] = [] if script is None else list(script)
    single = script is not None and all(isinstance(part, Step) for part in parts)
    turns = [parts] if single else [list(part) for part in parts]
    for step in (step for steps in turns for step in steps):
        if not isinstance(step, Step):
            raise ConfigurationError(f"a script is made of steps such as say('hello'), not of {step!r}")

    async def play(turn: Turn) -> None:
        steps = turns[turn.number - 1] if turn.number <= len(turns) else [ECHO]
        for step in steps:
            await step.perform(turn)

    return play


ECHO = Step("echo", lambda turn: turn.say(turn.text))
