"""One case as data: who talks to whom, what the agent does, what goes wrong. All of it is drawn from one seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any, ClassVar, Literal, TypeAlias

import managed_agents_actors as maa
from managed_agents_actors.testing import Call, Fault, Step, call_tools, fail, say, spend, think, wait

from .faults import Mishaps, draw_mishaps

# How a session is held: by one run per message, each after the first a resumption; open for all messages, asked one by
# one, told all at once, or opened with the first and told the rest; opened anew for every message; or under a
# supervisor, asked one by one or told all at once.
Manner: TypeAlias = Literal["run", "ask", "message", "prompt", "reopen", "supervised ask", "supervised message"]
MANNERS: tuple[Manner, ...] = ("run", "ask", "message", "prompt", "reopen", "supervised ask", "supervised message")

WORDS = (
    "alpha", "beta ", "  ", "\n", "\n\n", "\r\n", "data: x", "event: ping\n\n", ": ", '"', "\\", "{}", "é", "日本",
    "🙂", "\u2028", "\u200d", "\x00", "a" * 40, "]]>", "\t", "e\u0301",
)  # fmt: skip


@dataclass(frozen=True)
class Exchange:
    """A message, what the agent does about it, and how long its author took to write it."""

    message: str
    steps: tuple[Step, ...]
    pause: float


@dataclass(frozen=True)
class Conversation:
    """One session and how it is held.

    Attributes:
        attempts: How many losses of its stream in a row a supervised session bears before it is started anew; ``None``
            for any number.
    """

    manner: Manner
    exchanges: tuple[Exchange, ...]
    deltas: bool
    concurrency: int
    attempts: int | None = None


@dataclass(frozen=True)
class Case:
    """Everything that is to happen.

    Attributes:
        seed: What all of it was drawn from; it also decides what trio runs first.
        conversations: The sessions, all at once.
        mishaps: What goes wrong.
        reconnect: Without jitter, whose dice are not ours.
        idle_timeout: The client's patience with a silent stream.
    """

    provider: ClassVar[str] = "claude"
    seed: int
    conversations: tuple[Conversation, ...]
    mishaps: Mishaps
    reconnect: maa.ReconnectPolicy
    idle_timeout: float

    def under(self, faults: tuple[Fault, ...]) -> Case:
        """The same case under other faults."""
        return replace(self, mishaps=replace(self.mishaps, faults=faults))


def draw_case(seed: int) -> Case:
    """Draw a case: always the same one from the same seed."""
    rng = Random(seed)
    count = rng.choice((1, 1, 1, 1, 1, 1, 2, 3))
    return Case(
        seed=seed,
        conversations=tuple(_conversation(rng, number) for number in range(count)),
        mishaps=draw_mishaps(rng, sessions=count),
        reconnect=maa.ReconnectPolicy(initial=rng.choice((0.0, 0.5, 2.0)), jitter=0.0),
        idle_timeout=rng.choice((30.0, 90.0)),
    )


def _conversation(rng: Random, number: int) -> Conversation:
    exchanges = [_exchange(rng, f"{number}.{turn}") for turn in range(rng.choice((1, 1, 1, 1, 1, 2, 2, 3, 4)))]
    if rng.random() < 0.05:
        final = fail("billing_error", "terminal")
        exchanges[-1] = replace(exchanges[-1], steps=(*exchanges[-1].steps, final))
    manner = rng.choice(MANNERS)
    gives_up = manner.startswith("supervised") and rng.random() < 0.4
    return Conversation(
        manner=manner,
        attempts=rng.choice((1, 1, 1, 2)) if gives_up else None,
        exchanges=tuple(exchanges),
        deltas=rng.random() < 0.4,
        concurrency=rng.choice((1, 2, 8)),
    )


def _exchange(rng: Random, name: str) -> Exchange:
    calls = [_call(rng) for _ in range(rng.choice((0, 0, 1, 1, 2, 3, 4)))]
    steps: list[Step] = []
    while calls:
        size = rng.randint(1, len(calls))
        steps += [*_talk(rng), call_tools(*calls[:size])]
        calls = calls[size:]
    steps += [*_talk(rng), say(draw_text(rng))]
    if rng.random() < 0.05:
        steps.append(fail("model_overloaded_error"))
    # The name makes the message one of its kind; the agent finds its steps by it.
    return Exchange(f"{name} {draw_text(rng)}", tuple(steps), rng.choice((0.0, 0.0, 1.0, 100.0)))


def _talk(rng: Random) -> list[Step]:
    pace = rng.choice((0.0, 0.0, 0.2))
    text = draw_text(rng)
    makers = (
        lambda: say(text, chunks=draw_chunks(rng, text), pace=pace),
        think,
        lambda: wait(rng.choice((0.1, 3.0, 40.0))),
        lambda: fail("model_overloaded_error", "retrying"),
        lambda: spend(input_tokens=rng.randint(1, 999), cache_read_input_tokens=rng.randint(0, 99)),
    )
    return [rng.choices(makers, (5, 2, 2, 1, 2))[0]() for _ in range(rng.choice((0, 0, 1, 2)))]


def draw_text(rng: Random) -> str:
    return "x" + "".join(rng.choices(WORDS, k=rng.randint(0, 6)))


def draw_chunks(rng: Random, text: str) -> list[str]:
    cuts = sorted(rng.sample(range(1, len(text)), min(len(text) - 1, rng.randint(0, 3))))
    return [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def _call(rng: Random) -> Call:
    """A call; its input tells the handler what to do."""
    given: dict[str, Any] = {"seconds": rng.choice((0, 0, 0, 0.5, 4, 70)), "text": draw_text(rng)}
    kind = rng.choices(("custom", "sub-agent", "builtin", "mcp", "gated"), (12, 1, 1, 1, 2))[0]
    match kind:
        case "custom" | "sub-agent":
            given["ends"] = rng.choices(("text", "error", "defect"), (8, 1, 1))[0]
            agent = "researcher" if kind == "sub-agent" else None
            return Call(name=rng.choice("abc"), input=given, agent=agent)
        case "gated":
            given["verdict"] = rng.choice(("allow", "deny"))
            return Call(name="bash", input=given, kind="builtin", permission="ask", result=given["text"])
        case _:
            return Call(name="bash", input=given, kind="mcp" if kind == "mcp" else "builtin", result=given["text"])
