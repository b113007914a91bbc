"""What there is to know of a runtime session: what it runs with, its microVM, its invocation, its suspended turn.

Values and records; what happens to them is the session's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import trio

from ._agentcore_resume import Contract
from ._agentcore_round import HandOffOrder, ToolRound
from ._agentcore_tools import ToolSet
from ._feed import Feed
from ._script import Agent, ToolAnswer

__all__ = ["Invocation", "Limits", "MicroVM", "SessionOptions", "Suspended"]

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """What a runtime session runs with.

    Attributes:
        agent: Plays the agent.
        usage: What a model request reports, by the names of scripts.
        contract: How the answer to a hand-off is judged.
        order: In what groups calls are handed off.
    """

    agent: Agent
    usage: Mapping[str, int]
    contract: Contract
    order: HandOffOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds an invocation and the session it belongs to.

    Attributes:
        max_iterations: Model requests.
        max_tokens: Output tokens over all of them; ``None`` for any number.
        timeout: Seconds.
        idle_timeout: Seconds without work after which the session's microVM is given up.
        max_lifetime: Seconds after which it is given up once it rests.
    """

    max_iterations: int
    max_tokens: int | None
    timeout: float
    idle_timeout: float
    max_lifetime: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspended:
    """A turn that waits for the results of a hand-off.

    Attributes:
        number: The turn's number.
        inputs: The messages that started it.
        past: What its steps gave so far; a turn that has to be played again goes through them in silence.
        round: The calls of the response.
        answers: The answers at this time.
        declared: Whether the pending tools were declared.
        began_at: How many messages the conversation had before the turn.
    """

    number: int
    inputs: tuple[Mapping[str, Any], ...]
    past: tuple[Any, ...]
    round: ToolRound
    answers: Mapping[str, ToolAnswer]
    declared: bool
    began_at: int


@dataclass(slots=True, kw_only=True)
class Invocation:
    """One invocation, from its request to its end.

    Attributes:
        feed: Where its events go.
        limits: What bounds it.
        tools: The tools that it can use.
        before: The session's messages, turns and suspended turn before it.
        iterations: The model requests so far.
        output_tokens: What they came to.
    """

    feed: Feed
    limits: Limits
    tools: ToolSet
    before: tuple[list[Json], int, Suspended | None]
    iterations: int = 0
    output_tokens: int = 0


@dataclass(slots=True)
class MicroVM:
    """What is lost with a session's microVM.

    Attributes:
        messages: The conversation.
        turns: How many turns began.
        suspended: The turn that waits for results.
        files: What commands have written.
        born: When it started.
        active: When it last did something.
    """

    messages: list[Json] = field(default_factory=list)
    turns: int = 0
    suspended: Suspended | None = None
    files: dict[str, str] = field(default_factory=dict)
    born: float = field(default_factory=trio.current_time)
    active: float = field(default_factory=trio.current_time)
