"""The bridge as a whole: how it is attached and detached, and that it never fails whoever tells an event."""

from __future__ import annotations

import contextvars
import logging
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult

from managed_agents_actors import ConfigurationError, telemetry
from managed_agents_actors.telemetry._bus import trace_headers
from managed_agents_actors.telemetry._otel_spans import Spans

from ._traced import begin_request, begin_turn, end_request, http, tool, traced


def run_apart(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, whose OpenTelemetry nobody has set up."""
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=root)


def test_without_opentelemetry_it_says_how_to_install_it() -> None:
    program = """
import sys
sys.modules["opentelemetry"] = None
from managed_agents_actors import ConfigurationError, telemetry
try:
    telemetry.attach_opentelemetry()
except ConfigurationError as error:
    print(error)
"""
    assert (
        run_apart(program).stdout
        == 'telling OpenTelemetry needs opentelemetry-api: pip install "managed-agents-actors[otel]"\n'
    )


def test_without_an_sdk_it_does_nothing() -> None:
    program = """
from managed_agents_actors import telemetry
from managed_agents_actors.telemetry._bus import trace_headers
with telemetry.attach_opentelemetry(), telemetry.span("myapp.work"):
    print(trace_headers())
"""
    run = run_apart(program)
    assert (run.stdout, run.stderr) == ("{}\n", "")


def test_it_tells_the_global_opentelemetry_by_default_even_one_that_is_set_up_later() -> None:
    program = """
from opentelemetry import metrics, trace
from tests.telemetry._traced import traced
from managed_agents_actors import telemetry
telemetry.attach_opentelemetry()
with traced() as world:
    trace.set_tracer_provider(world.tracer_provider)
    metrics.set_meter_provider(world.meter_provider)
    with telemetry.span("managed_agents.tool", {"tool": "lookup"}):
        pass
    print(world.names, world.metric("gen_ai.execute_tool.duration")[0][1].count)
"""
    assert run_apart(program).stdout == "['execute_tool lookup'] 1\n"


@pytest.mark.parametrize("argument", ["tracer_provider", "meter_provider"])
def test_what_is_no_provider_is_refused(argument: str) -> None:
    given: dict[str, Any] = {argument: "console"}
    with pytest.raises(ConfigurationError, match=f"{argument}= must have a method get_.*not 'console'"):
        telemetry.attach_opentelemetry(**given)
    assert trace_headers() == {}


def test_detaching_ends_what_goes_on_without_an_error_and_tells_nothing_more() -> None:
    with traced() as world:
        attachment = world.attach()
        request = begin_request()
        turn = begin_turn(request)
        assert telemetry.detach(attachment)
        assert not telemetry.detach(attachment)
        assert sorted(world.names) == ["invoke_agent", "turn"]
        assert {world.span(name).status.status_code for name in world.names} == {trace.StatusCode.UNSET}
        end_request(request)
        with tool(turn):
            pass
        assert len(world.names) == 2
        assert world.metric("managed_agents.session.terminals") == []


def test_detaching_within_a_span_lets_what_was_current_be_so_again() -> None:
    with traced() as world, world.attach() as attachment:
        before = trace.get_current_span()
        with telemetry.span("myapp.outer"), telemetry.span("myapp.inner"):
            assert trace.get_current_span() is not before
            telemetry.detach(attachment)
            assert trace.get_current_span() is before
        assert world.names == ["myapp.inner", "myapp.outer"]


def test_what_ends_by_itself_after_it_is_detached_is_ended_once(caplog: pytest.LogCaptureFixture) -> None:
    with traced() as world:
        attachment = world.attach()
        with telemetry.span("myapp.work"):
            telemetry.detach(attachment)
        assert world.names == ["myapp.work"]
    assert caplog.records == []


class Broken(Sampler):
    """A sampler of the application's that has a defect."""

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        raise ZeroDivisionError("a defect of the sampler's")

    def get_description(self) -> str:
        return "broken"


def test_a_defect_of_the_applications_opentelemetry_is_reported_once_and_touches_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with traced(sampler=Broken()) as world:
        attachment = world.attach()
        for _ in range(3):
            with telemetry.span("managed_agents.tool", {"tool": "lookup"}):
                pass
        assert world.metric("gen_ai.execute_tool.duration")[0][1].count == 3
        assert telemetry.detach(attachment)
    (report,) = caplog.records
    assert report.levelno == logging.ERROR
    assert "telemetry_bridge_failed" in report.getMessage()
    assert report.exc_info is not None
    assert report.exc_info[0] is ZeroDivisionError


class Curious(Sampler):
    """Remembers what it is shown of each span, and drops those that are not to be kept."""

    def __init__(self, kept: str = "") -> None:
        self.shown: dict[str, dict[str, Any]] = {}
        self._kept = kept

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Sequence[Any] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> SamplingResult:
        self.shown[name] = dict(attributes or {})
        return SamplingResult(Decision.RECORD_AND_SAMPLE if name.startswith(self._kept) else Decision.DROP)

    def get_description(self) -> str:
        return "curious"


def test_a_sampler_sees_what_a_span_begins_with() -> None:
    sampler = Curious()
    with traced(sampler=sampler) as world:
        world.attach()
        request = begin_request(agent_name="Support")
        with tool(request), http():
            pass
    shown = sampler.shown
    assert shown["invoke_agent Support"]["gen_ai.operation.name"] == "invoke_agent"
    assert shown["invoke_agent Support"]["gen_ai.provider.name"] == "anthropic"
    assert shown["invoke_agent Support"]["gen_ai.agent.name"] == "Support"
    assert shown["invoke_agent Support"]["customer"] == "acme"
    assert shown["execute_tool lookup"]["gen_ai.tool.name"] == "lookup"
    assert shown["POST"]["server.address"] == "api.anthropic.com"


def test_what_is_not_sampled_is_not_told_and_what_is_in_it_may_be() -> None:
    with traced(sampler=Curious(kept="execute_tool")) as world:
        world.attach()
        request = begin_request()
        turn = begin_turn(request)
        with tool(turn) as told:
            told["is_error"] = False
        telemetry.emit("managed_agents.stream.reconnecting", {"delay": 1}, {"parent_id": turn})
        end_request(request)
        assert world.names == ["execute_tool lookup"]
        assert world.span("execute_tool lookup").parent is not None


def test_the_trace_goes_along_as_that_of_the_http_request() -> None:
    with traced() as world:
        world.attach()
        with http():
            headers = trace_headers()
        context = world.span("POST").context
        assert list(headers) == ["traceparent"]
        assert headers["traceparent"].startswith(f"00-{context.trace_id:032x}-{context.span_id:016x}-")
        assert trace_headers() == {}


def test_the_trace_stays_here_if_it_shall() -> None:
    with traced() as world:
        world.attach(propagate=False)
        with http():
            assert trace_headers() == {}
        assert world.names == ["POST"]


def test_spans_whose_end_is_never_told_do_not_fill_the_memory() -> None:
    with traced() as world:
        spans = Spans(world.tracer_provider.get_tracer("test"), content=False, at_most=3)
        for number in range(5):
            spans.tell("managed_agents.turn.start", {}, {"span_id": number, "customer": number})
        ended = world.exporter.get_finished_spans()
        assert [dict(span.attributes or {}) for span in ended] == [{"customer": 0}, {"customer": 1}]
        spans.tell("managed_agents.turn.stop", {}, {"span_id": 0})
        assert world.names == ["turn", "turn"]
        spans.close()
        assert world.names == ["turn"] * 5
        spans.tell("managed_agents.turn.start", {}, {"span_id": 5})
        spans.close()
        assert world.names == ["turn"] * 5


def test_a_span_that_begins_while_it_is_detached_is_ended_too() -> None:
    class Detaching(Curious):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            telemetry.detach(attachment)
            return super().should_sample(*args, **kwargs)

    with traced(sampler=Detaching()) as world:
        attachment = world.attach()
        before = trace.get_current_span()
        with telemetry.span("myapp.work"):
            assert trace.get_current_span() is before
            assert world.names == ["myapp.work"]


ANYTHING: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.lists(st.integers() | st.text()),
    st.dictionaries(st.text() | st.integers(), st.text()),
    st.builds(object),
)
# What the bridge reads of events, and some tags.
KEYS = (
    *("span_id", "parent_id", "provider", "session_id", "agent_name", "request", "kind", "terminal", "stop_reason"),
    *("tool", "attempt", "is_error", "error_type", "cancelled", "method", "path", "scheme", "host", "port", "status"),
    *("operation", "input", "output", "text", "exception", "customer", "gen_ai.agent.name"),
)
NUMBERS = ("duration", "turns", "input_tokens", "output_tokens", "cache_read_input_tokens", "delay")
TOLD = st.tuples(
    st.sampled_from((*telemetry.EVENT_NAMES, "myapp.start", "myapp.stop", "myapp.exception", ".", "")),
    st.dictionaries(st.sampled_from(NUMBERS), ANYTHING, max_size=3),
    st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=8),
    st.fixed_dictionaries({}, optional={"span_id": st.integers(1, 3), "parent_id": st.integers(1, 3)}),
)


class Reports(logging.Handler):
    """Keeps what OpenTelemetry reports, and what the bridge does."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reported: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("opentelemetry") or "telemetry_" in record.getMessage():
            self.reported.append(record.getMessage())


@contextmanager
def reports() -> Iterator[list[str]]:
    handler = Reports()
    logging.getLogger().addHandler(handler)
    try:
        yield handler.reported
    finally:
        logging.getLogger().removeHandler(handler)


@given(st.lists(TOLD, max_size=8))
def test_tel_03_no_event_is_too_sparse_or_too_strange(events: list[tuple[str, Any, Any, Any]]) -> None:
    with reports() as reported, traced() as world:
        attachment = world.attach(content=True)
        own = contextvars.copy_context()  # they end in any order, so what they make current may stay so
        for name, measurements, metadata, numbers in events:
            own.run(telemetry.emit, name, measurements, {**metadata, **numbers})
        assert telemetry.detach(attachment)
    assert reported == []
