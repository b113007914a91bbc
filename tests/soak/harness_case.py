"""A case of AgentCore as data: sessions of a harness, what its agent does, what goes wrong. Drawn from one seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any, ClassVar

import managed_agents_actors as maa
from managed_agents_actors.testing import Call, Fault, Step, call_tools, emit, end, fail, say, spend, think, wait

from .case import MANNERS, Manner, draw_chunks, draw_text
from .faults import Mishaps
from .harness_faults import draw_harness_mishaps

# What a turn can stop with, beside its own end; one of them nobody has heard of yet.
STOPS = ("stop_sequence", "max_tokens", "content_filtered", "model_context_window_exceeded", "partial_turn", "tired")

# What a turn can throw, and the end of its machine with it.
THROWN = (
    "throttlingException",
    "internalServerException",
    "runtimeClientError",
    "validationException",
    "novelException",
)


@dataclass(frozen=True)
class HarnessExchange:
    """A message, what the agent does about it, and how long its author took to write it.

    Attributes:
        said: All that the agent says.
        stop: What the turn stops with.
        throws: The exception that it ends in instead, if it does.
        loses: Whether that ends the session's machine, too.
    """

    message: str
    steps: tuple[Step, ...]
    pause: float
    said: tuple[str, ...]
    stop: str = "end_turn"
    throws: str | None = None
    loses: bool = False


@dataclass(frozen=True)
class HarnessTalk:
    """One session and how it is held.

    Attributes:
        timeout: For each request, in seconds.
    """

    manner: Manner
    exchanges: tuple[HarnessExchange, ...]
    concurrency: int
    stop_on_cancel: bool
    invoke_retries: int
    timeout: float | None = None


@dataclass(frozen=True)
class HarnessCase:
    """Everything that is to happen.

    Attributes:
        seed: What all of it was drawn from; it also decides what trio runs first.
        talks: The sessions, all at once.
        mishaps: What goes wrong.
        resume: How the harness wants to be answered.
        hand_off: In what groups it hands calls off.
        idle_timeout: How long a stream may be silent.
        reconnect: Without jitter, whose dice are not ours.
    """

    provider: ClassVar[str] = "agentcore"
    seed: int
    talks: tuple[HarnessTalk, ...]
    mishaps: Mishaps
    resume: Any
    hand_off: Any
    idle_timeout: float
    reconnect: maa.ReconnectPolicy

    def under(self, faults: tuple[Fault, ...]) -> HarnessCase:
        """The same case under other faults."""
        return replace(self, mishaps=replace(self.mishaps, faults=faults))


def draw_harness_case(seed: int) -> HarnessCase:
    """Draw a case: always the same one from the same seed."""
    rng = Random(f"agentcore {seed}")
    count = rng.choice((1, 1, 1, 1, 1, 1, 2, 3))
    return HarnessCase(
        seed=seed,
        talks=tuple(_talk(rng, number) for number in range(count)),
        mishaps=draw_harness_mishaps(rng, sessions=count),
        resume=rng.choice(("both", "echo", "documented")),
        hand_off=rng.choice(("together", "together", "one_by_one")),
        idle_timeout=rng.choice((120.0, 300.0)),
        reconnect=maa.ReconnectPolicy(initial=rng.choice((0.0, 0.5, 2.0)), jitter=0.0),
    )


def _talk(rng: Random, number: int) -> HarnessTalk:
    turns = rng.choice((1, 1, 1, 1, 2, 2, 3, 4))
    return HarnessTalk(
        manner=rng.choice(MANNERS),
        exchanges=tuple(_exchange(rng, f"{number}.{turn}") for turn in range(turns)),
        concurrency=rng.choice((1, 2, 8)),
        stop_on_cancel=rng.random() < 0.4,
        invoke_retries=rng.choice((0, 1, 2, 2, 4)),
        timeout=rng.choice((2.0, 20.0, 60.0)) if rng.random() < 0.08 else None,
    )


def _exchange(rng: Random, name: str) -> HarnessExchange:
    steps: list[Step] = []
    said: list[str] = []
    calls = [_call(rng) for _ in range(rng.choice((0, 0, 1, 1, 2, 3, 4)))]
    while calls:
        size = rng.randint(1, len(calls))
        steps += [*_small_talk(rng, said), call_tools(*calls[:size])]
        calls = calls[size:]
    steps += _small_talk(rng, said)
    last = draw_text(rng)
    steps.append(say(last))
    said.append(last)
    exchange = HarnessExchange(
        # The name makes the message one of its kind; the agent finds its steps by it.
        message=f"{name} {draw_text(rng)}",
        steps=tuple(steps),
        pause=rng.choice((0.0, 0.0, 1.0, 100.0)),
        said=tuple(said),
    )
    return _otherwise(rng, exchange)


def _otherwise(rng: Random, exchange: HarnessExchange) -> HarnessExchange:
    """Let a few exchanges end in another way than by the end of the turn."""
    drawn, kind = rng.random(), rng.choice(THROWN)
    if drawn < 0.06:
        stop = rng.choice(STOPS)
        return replace(exchange, steps=(*exchange.steps, end(stop)), stop=stop)
    if drawn < 0.10:
        return replace(exchange, steps=(*exchange.steps, fail(kind)), throws=kind)
    if drawn < 0.12:
        return replace(exchange, steps=(fail(kind),), said=(), throws=kind)
    if drawn < 0.13:
        return replace(exchange, steps=(*exchange.steps, fail(kind, "terminal")), throws=kind, loses=True)
    return exchange


def _small_talk(rng: Random, said: list[str]) -> list[Step]:
    steps: list[Step] = []
    for _ in range(rng.choice((0, 0, 1, 2))):
        text = draw_text(rng)
        kind = rng.choices(("say", "think", "wait", "retry", "spend", "hook"), (5, 2, 2, 1, 2, 1))[0]
        match kind:
            case "say":
                said.append(text)
                steps.append(say(text, chunks=draw_chunks(rng, text), pace=rng.choice((0.0, 0.0, 0.2))))
            case "think":
                steps.append(think())
            case "wait":
                steps.append(wait(rng.choice((0.1, 3.0, 40.0))))
            case "retry":
                steps.append(fail("model_overloaded_error", "retrying"))
            case "spend":
                steps.append(spend(input_tokens=rng.randint(1, 999), cache_read_input_tokens=rng.randint(0, 99)))
            case "hook":
                steps.append(emit({"hookEvent": {"hookName": text}}))
    return steps


def _call(rng: Random) -> Call:
    """A call; its input tells the handler what to do."""
    given: dict[str, Any] = {"seconds": rng.choice((0, 0, 0, 0.5, 4, 70)), "text": draw_text(rng)}
    kind = rng.choices(("custom", "builtin", "mcp"), (10, 1, 1))[0]
    if kind == "custom":
        given["ends"] = rng.choices(("text", "error", "defect"), (8, 1, 1))[0]
        return Call(name=rng.choice("abc"), input=given)
    permission = rng.choices(("allow", "deny"), (4, 1))[0]
    return Call(name="shell", input=given, kind=kind, permission=permission, result=given["text"])
