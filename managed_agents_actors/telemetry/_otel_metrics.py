"""Metrics of OpenTelemetry: what the events count and measure, and what can only be measured by looking.

No attribute of a metric is an id or a tag of the caller's: each of their values would be a time series of its own.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, CallbackT, Counter, Histogram, Meter, MeterProvider, Observation

from ._otel_agents import tool_error, total_input_tokens
from ._otel_convention import Told, error_of, number, provider_name
from ._otel_names import EXECUTE_TOOL, INVOKE_AGENT, OTHER_ERROR, SCOPE, Attributes, MetricName
from ._otel_values import attribute_values
from ._readings import Reading, readings

__all__ = ["Metrics"]

# Source: OpenTelemetry semantic conventions for generative AI, metrics: the boundaries that each asks for.
TOKENS: Final = tuple(4**power for power in range(14))
SECONDS: Final = tuple(0.01 * 2**power for power in range(14))
LONG_SECONDS: Final = tuple(0.1 * 2**power for power in range(13))  # of agents; ours of turns, too

Recorder: TypeAlias = Callable[[Told], None]
Look: TypeAlias = Callable[[list[Reading]], Iterable[Observation]]

# Those that are attached. The instruments of a meter outlive them, and keep the callbacks that were there first.
_attached: Final[set[Metrics]] = set()


class Metrics:
    """The instruments, and who records what in them."""

    def __init__(self, provider: MeterProvider | None, version: str | None) -> None:
        meter = metrics.get_meter(SCOPE, version or "", provider)
        self.provider = provider
        self._tokens = _histogram(meter, "gen_ai.client.token.usage", "{token}", TOKENS, "Tokens that requests took.")
        self._operations = _histogram(meter, "gen_ai.client.operation.duration", "s", SECONDS, "Time of requests.")
        self._agents = _histogram(meter, "gen_ai.invoke_agent.duration", "s", LONG_SECONDS, "Time of requests.")
        self._tools = _histogram(meter, "gen_ai.execute_tool.duration", "s", SECONDS, "Time of runs of tools.")
        self._turns = _histogram(meter, "managed_agents.turn.duration", "s", LONG_SECONDS, "Time of turns of requests.")
        self._reconnects = _counter(meter, "managed_agents.stream.reconnects", "{reconnect}", "Streams opened again.")
        self._restarts = _counter(meter, "managed_agents.session.restarts", "{restart}", "Sessions restarted.")
        self._terminals = _counter(meter, "managed_agents.session.terminals", "{terminal}", "Requests that have ended.")
        self._recorders: Mapping[str, Recorder] = {
            "managed_agents.session.terminal": self._on_terminal,
            "managed_agents.turn.stop": self._on_turn,
            "managed_agents.turn.exception": self._on_turn,
            "managed_agents.tool.stop": self._on_tool,
            "managed_agents.tool.exception": self._on_tool_exception,
            "managed_agents.stream.reconnecting": self._on_reconnecting,
            "managed_agents.supervisor.child_restarted": self._on_restarted,
        }
        _observe(meter, provider)
        _attached.add(self)

    def tell(self, name: str, measurements: Told, metadata: Told) -> None:
        """Take an event."""
        recorder = self._recorders.get(name)
        if recorder is not None:
            recorder({**metadata, **measurements})

    def close(self) -> None:
        """Observe nothing any more."""
        _attached.discard(self)

    def _on_terminal(self, told: Told) -> None:
        provider, error = provider_name(told.get("provider")), error_of(told)
        operation: Attributes = {"gen_ai.operation.name": INVOKE_AGENT, "gen_ai.provider.name": provider}
        # None at all is no measure of how many are used.
        _record(self._tokens, total_input_tokens(told) or None, {**operation, "gen_ai.token.type": "input"})
        _record(self._tokens, number(told, "output_tokens") or None, {**operation, "gen_ai.token.type": "output"})
        for durations in (self._operations, self._agents):
            _record(durations, number(told, "duration"), {**operation, "error.type": error})
        ended: Attributes = {
            "gen_ai.provider.name": provider,
            "managed_agents.terminal": told.get("terminal"),
            "managed_agents.cancelled": bool(told.get("cancelled")) or None,
            "error.type": error,
        }
        _count(self._terminals, ended)

    def _on_turn(self, told: Told) -> None:
        _record(self._turns, number(told, "duration"), _provider_and_error(told))

    def _on_tool(self, told: Told, otherwise: str | None = None) -> None:
        tool: Attributes = {
            "gen_ai.operation.name": EXECUTE_TOOL,
            "gen_ai.provider.name": provider_name(told.get("provider")),
            "gen_ai.tool.name": told.get("tool"),
            "gen_ai.tool.type": "function",
            "error.type": tool_error(told) or otherwise,
        }
        _record(self._tools, number(told, "duration"), tool)

    def _on_tool_exception(self, told: Told) -> None:
        self._on_tool(told, OTHER_ERROR)

    def _on_reconnecting(self, told: Told) -> None:
        _count(self._reconnects, _provider_and_error(told))

    def _on_restarted(self, told: Told) -> None:
        provider = provider_name(told.get("provider"))
        if provider is not None:  # else the child was no session
            _count(self._restarts, {"gen_ai.provider.name": provider})


def _provider_and_error(told: Told) -> Attributes:
    return {"gen_ai.provider.name": provider_name(told.get("provider")), "error.type": error_of(told)}


def _record(histogram: Histogram, value: float | None, attributes: Attributes) -> None:
    if value is not None:
        histogram.record(value, attribute_values(attributes))


def _count(counter: Counter, attributes: Attributes) -> None:
    counter.add(1, attribute_values(attributes))


def _histogram(meter: Meter, name: MetricName, unit: str, boundaries: Sequence[float], description: str) -> Histogram:
    return meter.create_histogram(name, unit, description, explicit_bucket_boundaries_advisory=boundaries)


def _counter(meter: Meter, name: MetricName, unit: str, description: str) -> Counter:
    return meter.create_counter(name, unit, description)


def _observe(meter: Meter, provider: MeterProvider | None) -> None:
    """Have the sessions looked at whenever metrics are collected, as long as a bridge to this provider is attached."""

    def whenever(look: Look) -> list[CallbackT]:
        def callback(_options: CallbackOptions) -> Iterable[Observation]:
            is_attached = any(each.provider is provider for each in _attached.copy())
            return look([each for each in readings() if each.phase != "closed"]) if is_attached else ()

        return [callback]

    sum_of, gauge_of = meter.create_observable_up_down_counter, meter.create_observable_gauge
    names: tuple[MetricName, MetricName, MetricName] = (
        "managed_agents.sessions",
        "managed_agents.session.mailbox_depth",
        "managed_agents.session.mailbox_depth.max",
    )
    sum_of(names[0], whenever(_sessions), "{session}", "Sessions that live, by their phase.")
    sum_of(names[1], whenever(_depths), "{message}", "Mail that waits for the sessions.")
    gauge_of(names[2], whenever(_deepest), "{message}", "Mail that waits for the session with the most of it.")


def _observation(value: int, attributes: Attributes) -> Observation:
    return Observation(value, attribute_values(attributes))


def _sessions(found: list[Reading]) -> Iterable[Observation]:
    counted = collections.Counter((provider_name(each.provider), each.phase) for each in found)
    return [
        _observation(count, {"gen_ai.provider.name": provider, "managed_agents.session.phase": phase})
        for (provider, phase), count in counted.items()
    ]


def _depths(found: list[Reading]) -> Iterable[Observation]:
    return [
        _observation(sum(depths), {"gen_ai.provider.name": provider})
        for provider, depths in _by_provider(found).items()
    ]


def _deepest(found: list[Reading]) -> Iterable[Observation]:
    return [
        _observation(max(depths), {"gen_ai.provider.name": provider})
        for provider, depths in _by_provider(found).items()
    ]


def _by_provider(found: list[Reading]) -> dict[str | None, list[int]]:
    depths: dict[str | None, list[int]] = {}
    for each in found:
        depths.setdefault(provider_name(each.provider), []).append(each.mailbox_depth)
    return depths
