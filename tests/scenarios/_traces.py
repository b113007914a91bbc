"""Shared by the tests of traces: simulated places to have sessions in, and the tree of spans that was told of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import pytest
import trio
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.testing import open_agentcore_simulator, open_claude_simulator

from ..telemetry._traced import Traced, traced

# Seconds after which a session hangs, virtual or real.
PATIENCE = 100.0

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Place:
    """A provider, simulated.

    Attributes:
        name: What the tests call it.
        provider: Its module.
        simulator: It.
        client: A client of it.
    """

    name: str
    provider: Any
    simulator: Any
    client: Any

    @property
    def options(self) -> dict[str, Any]:
        """What a new session here is opened with; never the same one."""
        if self.name == "claude":
            agent, environment = self.simulator.agent_id, self.simulator.environment_id
            return {"client": self.client, "agent": agent, "environment": environment}
        arn, session_id = self.simulator.harness_arn, f"runtime-session-{next(_numbers):030}"
        return {"client": self.client, "harness_arn": arn, "runtime_session_id": session_id}

    async def run(self, handler: Any, **options: Any) -> maa.SessionResult:
        """Run a session here."""
        with trio.fail_after(PATIENCE):
            return await maa.run_session(self.provider, handler=handler, **{"prompt": "go", **self.options, **options})


@asynccontextmanager
async def open_claude(script: Any, *, client: Any = None, **options: Any) -> AsyncIterator[Place]:
    async with (
        open_claude_simulator(script, transport="memory", **options) as simulator,
        simulator.client(**(client or {})) as connected,
    ):
        yield Place("claude", claude_managed_agents, simulator, connected)


@asynccontextmanager
async def open_agent_core(script: Any, *, client: Any = None, **options: Any) -> AsyncIterator[Place]:
    async with (
        open_agentcore_simulator(script, transport="memory", **options) as simulator,
        simulator.client(**(client or {})) as connected,
    ):
        yield Place("agentcore", bedrock_agent_core, simulator, connected)


Open: TypeAlias = Callable[..., AbstractAsyncContextManager[Place]]
BOTH = pytest.mark.parametrize("open_place", [open_claude, open_agent_core], ids=["claude", "agentcore"])


@contextmanager
def tracing(**options: Any) -> Iterator[Traced]:
    """Give an OpenTelemetry of the test's own that a bridge is attached to. When it is over no span goes on."""
    with traced() as world:
        attachment: Any = world.attach(**options)
        yield world
        assert attachment.listener._spans._open == {}


def own_span(world: Traced, name: str) -> AbstractContextManager[Any]:
    """Make a block a span of the application's own, told to OpenTelemetry alone."""
    return world.tracer_provider.get_tracer("application").start_as_current_span(name)


def spans_of(world: Traced, *beginnings: str) -> list[ReadableSpan]:
    """The spans whose names begin so, in the order in which they began."""
    found = [span for span in world.exporter.get_finished_spans() if span.name.startswith(beginnings or ("",))]
    return sorted(found, key=lambda span: span.start_time or 0)


def http_spans(world: Traced) -> list[ReadableSpan]:
    """Those of HTTP requests."""
    return [span for span in spans_of(world) if "http.request.method" in told(span)]


def told(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of a span."""
    return dict(span.attributes or {})


def tree(world: Traced, root: ReadableSpan | None = None) -> str:
    """The spans as an outline, each below and to the right of what it is in, in the order in which they began.

    Those to which this process is the client are marked by an arrow. Of Claude's requests, whose names are only
    methods, the path is told, without ids. One whose parent was not told is marked as lost.
    """
    spans = spans_of(world)
    known = {span.context.span_id for span in spans}
    inside: dict[int | None, list[ReadableSpan]] = {}
    for span in spans:
        inside.setdefault(span.parent.span_id if span.parent else None, []).append(span)

    def lines(span: ReadableSpan, depth: int) -> Iterator[str]:
        yield "  " * depth + _label(span)
        for each in inside.get(span.context.span_id, ()):
            yield from lines(each, depth + 1)

    roots = inside.get(None, []) if root is None else [root]
    lost = [] if root is not None else [f"lost: {s.name}" for s in spans if s.parent and s.parent.span_id not in known]
    return "\n".join([*(line for each in roots for line in lines(each, 0)), *lost])


def within(world: Traced, span: ReadableSpan) -> str:
    """The names of what a span is in, from the outermost on."""
    spans = {each.context.span_id: each for each in spans_of(world)}
    names = []
    while span.parent is not None:
        span = spans[span.parent.span_id]
        names.append(span.name)
    return " > ".join(reversed(names))


def _label(span: ReadableSpan) -> str:
    path = re.sub(r"sesn_\w+", "*", urlsplit(told(span).get("url.full", "")).path)
    arrow = "-> " if span.kind is SpanKind.CLIENT else ""
    return f"{arrow}{span.name}" if "rpc.method" in told(span) else f"{arrow}{span.name} {path}".rstrip()


def outline(text: str) -> str:
    """An outline as a test writes it, without the indentation of the test."""
    lines = text.strip("\n").rstrip().splitlines()
    indent = len(lines[0]) - len(lines[0].lstrip())
    return "\n".join(line[indent:] for line in lines)
