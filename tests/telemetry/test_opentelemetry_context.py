"""What is current for OpenTelemetry: within a tool, a request or a span of one's own, whatever else is going on."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator

import pytest
import trio
import trio.testing
from opentelemetry import baggage, context, trace

from managed_agents_actors import telemetry

from ._traced import begin_request, begin_turn, end_request, end_turn, http, new_number, tool, traced


def test_what_an_application_traces_within_a_tool_is_in_it() -> None:
    with traced() as world:
        world.attach()
        tracer = world.tracer_provider.get_tracer("myapp")
        before = trace.get_current_span()
        turn = begin_turn(new_number())
        with tool(turn), tracer.start_as_current_span("query"), telemetry.span("myapp.parse"):
            pass
        assert world.parent("query") == "execute_tool lookup"
        assert world.parent("myapp.parse") == "query"
        assert trace.get_current_span() is before


def test_a_session_that_a_tool_asks_is_in_it_and_its_own_are_in_the_session() -> None:
    with traced() as world:
        world.attach()
        with tool(new_number(), "delegate"):
            inner = begin_request(agent_name="inner")
            turn = begin_turn(inner)
            with tool(turn, "search"):
                pass
            end_turn(turn)
            end_request(inner)
        assert world.parent("execute_tool search") == "turn"
        assert world.parent("turn") == "invoke_agent inner"
        assert world.parent("invoke_agent inner") == "execute_tool delegate"


def test_a_request_to_an_agent_and_its_turn_are_not_made_current() -> None:
    with traced() as world:
        world.attach()
        before = context.get_current()
        turn = begin_turn(begin_request())
        assert context.get_current() is before
        end_turn(turn)
        assert context.get_current() is before


def test_baggage_is_kept() -> None:
    with traced() as world:
        world.attach()
        token = context.attach(baggage.set_baggage("tenant", "acme"))
        try:
            with tool(new_number()):
                assert baggage.get_baggage("tenant") == "acme"
        finally:
            context.detach(token)


async def test_tasks_that_take_turns_have_their_own_spans(autojump_clock: trio.testing.MockClock) -> None:
    async def session(name: str, beat: float) -> None:
        request = begin_request(agent_name=name)
        await trio.sleep(beat)
        turn = begin_turn(request)
        with tool(turn, f"tool of {name}"):
            await trio.sleep(beat)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(step, f"step of {name}", beat)
                nursery.start_soon(post, f"host of {name}", beat)
        end_turn(turn)
        end_request(request)

    async def step(name: str, beat: float) -> None:
        with telemetry.span(name):
            await trio.sleep(beat)

    async def post(host: str, beat: float) -> None:
        with http(method=f"POST to {host}"):
            await trio.sleep(beat / 2)

    with traced() as world:
        world.attach()
        before = trace.get_current_span()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(session, "one", 1.0)
            nursery.start_soon(session, "two", 0.7)
        for name in ("one", "two"):
            assert world.parent(f"step of {name}") == f"execute_tool tool of {name}"
            assert world.parent(f"POST to host of {name}") == f"execute_tool tool of {name}"
            of_tool = world.span(f"execute_tool tool of {name}")
            request = world.span(f"invoke_agent {name}")
            assert of_tool.context.trace_id == request.context.trace_id
        assert world.span("invoke_agent one").context.trace_id != world.span("invoke_agent two").context.trace_id
        assert world.seconds("step of one") == 1
        assert world.seconds("execute_tool tool of two") == pytest.approx(1.4)
        assert trace.get_current_span() is before


async def test_a_tool_in_a_thread_has_its_span_there() -> None:
    with traced() as world:
        world.attach()
        with tool(new_number()):
            await trio.to_thread.run_sync(work)
        assert world.parent("myapp.work") == "execute_tool lookup"


def work() -> None:
    with telemetry.span("myapp.work"):
        pass


async def test_what_is_cancelled_is_no_error_and_leaves_nothing_current(
    autojump_clock: trio.testing.MockClock,
) -> None:
    with traced() as world:
        world.attach()
        before = trace.get_current_span()
        with trio.move_on_after(3), tool(new_number()):
            await trio.sleep_forever()
        span = world.span("execute_tool lookup")
        assert world.seconds("execute_tool lookup") == 3
        assert span.status.status_code is trace.StatusCode.UNSET
        assert dict(span.attributes or {})["managed_agents.cancelled"] is True
        assert "error.type" not in (span.attributes or {})
        assert trace.get_current_span() is before


def test_a_span_that_is_left_in_another_context_is_ended_silently(caplog: pytest.LogCaptureFixture) -> None:
    def rows() -> Iterator[int]:
        with telemetry.span("myapp.rows"):
            yield 1

    with traced() as world:
        world.attach()
        before = trace.get_current_span()
        generator = rows()
        elsewhere, copied = contextvars.Context(), contextvars.Context()
        elsewhere.run(next, generator)
        assert trace.get_current_span() is before
        generator.close()
        assert world.names == ["myapp.rows"]
        assert trace.get_current_span() is before

        generator = rows()
        copied.run(next, generator)
        copy = copied.copy()
        copy.run(generator.close)
        assert copy.run(trace.get_current_span) is trace.INVALID_SPAN
        assert world.names == ["myapp.rows"] * 2
    assert caplog.records == []


def test_what_an_application_has_left_current_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    with traced() as world:
        world.attach()

        def task() -> None:
            with tool(new_number()):
                context.attach(baggage.set_baggage("left", "behind"))
            assert baggage.get_baggage("left") == "behind"

        contextvars.copy_context().run(task)
        assert world.names == ["execute_tool lookup"]
    assert caplog.records == []
