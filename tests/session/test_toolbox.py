"""The toolbox: how a call runs, what becomes of its result, and whose the unknown tools are."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from pydantic import BaseModel

from managed_agents_actors._errors import ConfigurationError, ToolError
from managed_agents_actors._model import ToolContext, ToolOutput
from managed_agents_actors._session.tool import Tool, tool
from managed_agents_actors._session.toolbox import Toolbox

CONTEXT = ToolContext(session_id="s", provider="p", metadata={}, tool_use_id="u")
NO_INPUT: dict[str, Any] = {"type": "object"}


class Colour(enum.Enum):
    RED = "red"


class Address(BaseModel):
    street: str
    number: int = 1


@dataclasses.dataclass
class Point:
    x: int
    on: datetime.date


async def call(function: Callable[..., Any], input: Any) -> ToolOutput:
    made = function if isinstance(function, Tool) else tool(function)
    return await Toolbox([made]).handle_tool_call(made.name, input, CONTEXT)


@tool
async def lookup_customer(email: str, limit: int = 5) -> str:
    """Find a customer.

    Searches all regions.

    Args:
        email: The customer's address.
        limit: At most so many.

    Returns:
        The customer.
    """
    return f"{email} {limit}"


def test_the_same_tools_for_both_providers() -> None:
    toolbox = Toolbox([lookup_customer])
    (custom,) = toolbox.custom_tools()
    (inline,) = toolbox.inline_functions()
    assert inline["config"]["inlineFunction"]["inputSchema"] == custom["input_schema"]
    assert inline["config"]["inlineFunction"]["description"] == custom["description"]
    assert (inline["type"], inline["name"]) == ("inline_function", "lookup_customer")


def plain(context: ToolContext, a: int) -> str:
    """A."""
    return f"{context.session_id} {a}"


def returns(value: object) -> Tool[[], object]:
    return tool(name="t", description="d", input_schema=NO_INPUT)(lambda: value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("", "(no output)"),
        (None, "(no output)"),
        (7, "7"),
        (True, "true"),
        ([1, "é", None], '[1, "é", null]'),
        ((1, 2), "[1, 2]"),
        ({"a": 1.5}, '{"a": 1.5}'),
        (Address(street="x"), '{"street": "x", "number": 1}'),
        ([Address(street="x")], '[{"street": "x", "number": 1}]'),
        (Point(1, datetime.date(2026, 1, 2)), '{"x": 1, "on": "2026-01-02"}'),
        ({"c": Colour.RED, "d": decimal.Decimal("1.50"), "s": {1}}, '{"c": "red", "d": "1.50", "s": [1]}'),
    ],
)
async def test_what_a_tool_returns_becomes_text(value: object, text: str) -> None:
    assert await call(returns(value), {}) == ToolOutput(content=text)


async def test_a_tool_output_goes_out_as_it_is() -> None:
    output = ToolOutput(content=[{"type": "text", "text": "x"}], is_error=True)
    assert await call(returns(output), {}) is output


@pytest.mark.parametrize("value", [object(), b"bytes", {"a": object()}, {(1, 2): 3}, Colour])
async def test_what_has_no_text_form_is_a_type_error_that_names_it(value: object) -> None:
    with pytest.raises(TypeError, match=f"'t' returned a {type(value).__name__}"):
        await call(returns(value), {})


@pytest.mark.parametrize("error", [ToolError("no such customer"), KeyError("x")])
async def test_errors_of_a_tool_pass_through(error: Exception) -> None:
    def fail() -> None:
        raise error

    async def fail_later() -> None:
        raise error

    for function in (fail, fail_later):
        with pytest.raises(type(error)) as caught:
            await call(tool(name="t", description="d", input_schema=NO_INPUT)(function), {})
        assert caught.value is error


async def test_sync_tools_run_in_threads_and_async_ones_do_not() -> None:
    def which() -> int:
        """Thread."""
        return threading.get_ident()

    async def which_async() -> int:
        """Thread."""
        return threading.get_ident()

    assert (await call(which, {})).content != str(threading.get_ident())
    assert (await call(which_async, {})).content == str(threading.get_ident())


async def test_an_async_function_behind_a_plain_decorator_is_awaited() -> None:
    def logged(function: Callable[..., Awaitable[str]]) -> Callable[..., Awaitable[str]]:
        @functools.wraps(function)
        def wrapper(**arguments: Any) -> Awaitable[str]:
            return function(**arguments)

        return wrapper

    @tool
    @logged
    async def greet(name: str) -> str:
        """Greet."""
        await trio.lowlevel.checkpoint()
        return f"hello {name}"

    assert await call(greet, {"name": "you"}) == ToolOutput(content="hello you")


async def test_a_cancelled_sync_tool_is_abandoned() -> None:
    entered, leave = threading.Event(), threading.Event()

    def wait() -> None:
        """Wait."""
        entered.set()
        leave.wait(10)

    finished = False
    try:
        async with trio.open_nursery() as nursery:

            async def run() -> None:
                nonlocal finished
                await call(wait, {})
                finished = True

            nursery.start_soon(run)
            await trio.to_thread.run_sync(entered.wait, 10)
            nursery.cancel_scope.cancel()
    finally:
        leave.set()
    assert entered.is_set()
    assert not finished


async def test_a_tools_own_timeout_is_a_tool_error(autojump_clock: trio.testing.MockClock) -> None:
    cleaned_up = []

    @tool(timeout=2.0)
    async def never() -> None:
        """Never end."""
        try:
            await trio.sleep_forever()
        finally:
            cleaned_up.append(trio.current_time())

    started = trio.current_time()
    with pytest.raises(ToolError, match=r"'never' did not finish within 2\.0 seconds"):
        await call(never, {})
    assert [at - started for at in cleaned_up] == [2.0]


async def test_unknown_tools() -> None:
    toolbox = Toolbox([lookup_customer], unknown_tools="leave")
    assert toolbox.unknown_tools == "leave"
    assert toolbox.owns("lookup_customer")
    assert not toolbox.owns("nope")
    output = await toolbox.handle_tool_call("nope", {}, CONTEXT)
    assert output == ToolOutput(content="There is no tool named 'nope'. Known tools: lookup_customer.", is_error=True)
    assert Toolbox([]).unknown_tools == "error"
    with pytest.raises(ConfigurationError, match="'ignore'"):
        Toolbox([], unknown_tools="ignore")  # type: ignore[arg-type]  # that it is refused is the subject


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'lookup_customer'"):
        Toolbox([lookup_customer, lookup_customer])


async def test_plain_functions_and_bound_methods_are_tools_too() -> None:
    class Desk:
        def greet(self, name: str) -> str:
            """Greet."""
            return f"hello {name}"

    toolbox = Toolbox([Desk().greet, plain])
    assert await toolbox.handle_tool_call("greet", {"name": "you"}, CONTEXT) == ToolOutput(content="hello you")
    assert repr(toolbox) == "<Toolbox greet, plain>"
    assert [item["name"] for item in toolbox.custom_tools()] == ["greet", "plain"]
