"""One call: its limit, its deadline, and every way it can end as a result the model can read."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import call_tool, call_tools, say

SCRIPT = [call_tool("lookup", {"q": 1}), say("done")]


def _handler(function: Callable[[], Awaitable[Any]]) -> Any:
    async def handle(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> Any:
        return await function()

    return handle


def _gives(value: Any) -> Any:
    async def give() -> Any:
        await trio.lowlevel.checkpoint()
        if isinstance(value, Exception):
            raise value
        return value

    return _handler(give)


async def _answers(simulate: Any, handler: Any, script: Any = None, **options: Any) -> list[tuple[str, bool]]:
    async with simulate(SCRIPT if script is None else script) as place:
        result = await maa.run_session(claude_managed_agents, handler=handler, **place.options, **options)
        assert (result.terminal, result.last_text) == ("end_turn", "done")
        answers: list[tuple[str, bool]] = place.answers(result)
        return answers


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("r", ("r", False)),
        ("", ("(no output)", False)),
        (None, ("(no output)", False)),
        (maa.ToolOutput(content="r"), ("r", False)),
        (maa.ToolOutput(content=""), ("(no output)", False)),
        (maa.ToolOutput(content="bad", is_error=True), ("bad", True)),
        (maa.ToolOutput(content=[{"type": "text", "text": "block"}]), ("block", False)),
        (maa.ToolError("tell the model"), ("tell the model", True)),
        (maa.ToolError(), ("The tool failed.", True)),
    ],
)
async def test_what_a_tool_gives_is_the_result(
    value: Any, answer: tuple[str, bool], simulate: Any, autojump_clock: MockClock
) -> None:
    assert await _answers(simulate, _gives(value)) == [answer]


@pytest.mark.parametrize(
    "value",
    [
        3,
        b"bytes",
        ["list"],
        {"json": 1},
        object(),
        maa.ToolOutput(content=3),  # type: ignore[arg-type]  # the defect that is tested
        maa.ToolOutput(content=[{"text": "no type"}]),
        maa.ToolOutput(content=[object()]),  # type: ignore[list-item]  # the defect that is tested
    ],
)
async def test_what_is_no_output_is_an_error_the_model_can_read(
    value: Any, simulate: Any, autojump_clock: MockClock
) -> None:
    ((text, is_error),) = await _answers(simulate, _gives(value))
    assert is_error
    assert text.startswith("The tool lookup gave ")
    assert text.endswith("where text was expected.")


# --- exceptions -------------------------------------------------------------------------------------------------------

SECRET = "sk-the-secret-of-the-tool"


async def test_what_a_tool_raises_stays_here(
    simulate: Any, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    caplog.set_level(logging.DEBUG, "managed_agents_actors")
    ((text, is_error),) = await _answers(simulate, _gives(ValueError(SECRET)))
    assert is_error
    found = re.fullmatch(r"The tool lookup failed with ValueError \(error id ([0-9a-f]{8})\)\.", text)
    assert found is not None
    # The id leads to the log line that has the details.
    (record,) = [r for r in caplog.records if "tool_failed" in r.getMessage()]
    assert found[1] in record.getMessage()
    assert SECRET in caplog.text


async def test_the_message_is_sent_if_that_is_wanted(simulate: Any, autojump_clock: MockClock) -> None:
    ((text, is_error),) = await _answers(simulate, _gives(ValueError("the details")), expose_exceptions=True)
    assert is_error
    assert text.startswith("The tool lookup failed with ValueError: the details (error id ")


@pytest.mark.parametrize(
    "error", [ExceptionGroup("several", [ValueError("a")]), StopAsyncIteration(), maa.ConfigurationError("ours")]
)
async def test_any_exception_becomes_a_result(error: Exception, simulate: Any, autojump_clock: MockClock) -> None:
    ((text, is_error),) = await _answers(simulate, _gives(error))
    assert is_error
    # A group with a single failure in it is that failure: trio wraps whatever leaves a nursery.
    name = "ValueError" if isinstance(error, ExceptionGroup) else type(error).__name__
    assert f"failed with {name} " in text


async def test_a_cancellation_of_the_tools_own_making_is_contained(simulate: Any, autojump_clock: MockClock) -> None:
    async def give_up() -> str:
        with trio.move_on_after(1):
            await trio.sleep_forever()
        return "gave up"

    assert await _answers(simulate, _handler(give_up)) == [("gave up", False)]


# --- limits -----------------------------------------------------------------------------------------------------------


class Counting:
    """A tool that takes a second, and how many of it ran at once."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.calls = 0

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        self.calls += 1
        self.running += 1
        self.most = max(self.most, self.running)
        await trio.sleep(1)
        self.running -= 1
        return str(input["n"])


@pytest.mark.parametrize(("limit", "seconds"), [(1, 12), (3, 4), (5, 3), (12, 1), (50, 1)])
async def test_never_more_calls_at_once_than_allowed(
    limit: int, seconds: int, simulate: Any, autojump_clock: MockClock
) -> None:
    handler = Counting()
    script = [call_tools(*(("t", {"n": n}) for n in range(12))), say("done")]
    began = trio.current_time()
    answers = await _answers(simulate, handler, script, max_tool_concurrency=limit)
    assert trio.current_time() - began == seconds
    assert (handler.most, handler.calls) == (min(limit, 12), 12)
    assert sorted(answers) == sorted((str(n), False) for n in range(12))


async def test_a_limiter_may_be_shared_by_sessions(simulate: Any, autojump_clock: MockClock) -> None:
    handler, limiter = Counting(), trio.CapacityLimiter(2)
    script = [call_tools(*(("t", {"n": n}) for n in range(4))), say("done")]
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(lambda: _answers(simulate, handler, script, max_tool_concurrency=limiter))
    assert trio.current_time() - began == 4
    assert (handler.most, handler.calls) == (2, 8)
    assert limiter.borrowed_tokens == 0


async def test_an_interrupt_frees_the_limit(simulate: Any, autojump_clock: MockClock) -> None:
    limiter = trio.CapacityLimiter(1)
    script = [[call_tools(("t", {"n": 1}), ("t", {"n": 2}), ("t", {"n": 3}))], [call_tool("t", {"n": 4}), say("done")]]
    async with (
        simulate(script) as place,
        maa.open_session(
            claude_managed_agents, handler=Counting(), max_tool_concurrency=limiter, **place.options
        ) as session,
    ):
        await session.message("go")
        await trio.sleep(0.5)
        assert limiter.borrowed_tokens == 1
        await session.interrupt()
        assert limiter.borrowed_tokens == 0
        assert limiter.statistics().tasks_waiting == 0
        result = await session.ask("on")
    assert [use.input for use in result.custom_tool_uses] == [{"n": 4}]


# --- deadlines --------------------------------------------------------------------------------------------------------


async def test_a_call_that_takes_too_long_is_cancelled_and_answered(simulate: Any, autojump_clock: MockClock) -> None:
    cleaned: list[float] = []

    async def hang() -> str:
        try:
            await trio.sleep_forever()
        finally:
            cleaned.append(trio.current_time())
        return "never"

    began = trio.current_time()
    answers = await _answers(simulate, _handler(hang), tool_timeout=2.0)
    assert answers == [("The tool lookup timed out after 2 seconds.", True)]
    assert [at - began for at in cleaned] == [2]
    assert trio.current_time() - began == 2


async def test_waiting_for_the_limit_is_not_counted(simulate: Any, autojump_clock: MockClock) -> None:
    script = [call_tools(*(("t", {"n": n}) for n in range(3))), say("done")]
    answers = await _answers(simulate, Counting(), script, max_tool_concurrency=1, tool_timeout=1.5)
    assert sorted(answers) == [("0", False), ("1", False), ("2", False)]


async def test_a_timeout_error_of_the_tools_own_is_told_from_ours(simulate: Any, autojump_clock: MockClock) -> None:
    ((text, is_error),) = await _answers(simulate, _gives(TimeoutError("its own")), tool_timeout=2.0)
    assert is_error
    assert text.startswith("The tool lookup failed with TimeoutError ")


# --- truncation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["text", "output", "blocks"])
async def test_a_result_that_is_too_long_is_cut_and_says_so(
    form: str, simulate: Any, autojump_clock: MockClock
) -> None:
    text = "x" * 1_000_001
    blocks = [{"type": "text", "text": "y" * 10}, {"type": "text", "text": text}]
    values = {"text": text, "output": maa.ToolOutput(content=text), "blocks": maa.ToolOutput(content=blocks)}
    ((answer, is_error),) = await _answers(simulate, _gives(values[form]))
    assert is_error
    assert answer.count("x") + answer.count("y") == 1_000_000 + "characters".count("x")
    assert "[cut: 1,000,001 characters, of which" in answer
    assert len(answer) < 1_000_200


async def test_a_result_of_just_the_limit_is_not_cut(simulate: Any, autojump_clock: MockClock) -> None:
    text = "x" * 1_000_000
    assert await _answers(simulate, _gives(text)) == [(text, False)]


# The fixture only hands out a function: every example opens a simulator of its own.
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200))
def test_any_text_arrives_as_it_is(simulate: Any, text: str) -> None:
    answers: list[Any] = []

    async def main() -> None:
        answers.extend(await _answers(simulate, _gives(text)))

    trio.run(main)
    assert answers == [(text or "(no output)", False)]
