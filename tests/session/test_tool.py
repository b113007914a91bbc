"""``@tool``: what the model is told a tool takes, how its input is checked, and what cannot be a tool."""

from __future__ import annotations

import datetime
import enum
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal, Optional

import pytest
from pydantic import BaseModel, Field

from managed_agents_actors._errors import ConfigurationError
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


class Tree(BaseModel):
    branches: list[Tree]


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


async def test_a_decorated_function_is_still_the_function() -> None:
    assert await lookup_customer(email="a@b.c") == "a@b.c 5"
    assert await lookup_customer("a@b.c", 2) == "a@b.c 2"
    assert (lookup_customer.__doc__ or "").startswith("Find a customer.")


def test_the_schema_comes_from_hints_and_docstring() -> None:
    assert lookup_customer.custom_tool() == {
        "type": "custom",
        "name": "lookup_customer",
        "description": "Find a customer.\n\nSearches all regions.",
        "input_schema": {
            "type": "object",
            "properties": {
                "email": {"type": "string", "description": "The customer's address."},
                "limit": {"type": "integer", "default": 5, "description": "At most so many."},
            },
            "required": ["email"],
            "additionalProperties": False,
        },
    }


def test_the_decorator_takes_arguments() -> None:
    @tool(
        name="other",
        description="""Say.

        Twice.""",
    )
    def original(a: Annotated[int, Field(description="mine", gt=3)]) -> None:
        """Unused.

        Args:
            a: its
        """

    assert (original.name, original.description) == ("other", "Say.\n\nTwice.")
    assert original.input_schema["properties"]["a"] == {"type": "integer", "exclusiveMinimum": 3, "description": "mine"}


def test_rich_types_are_described_without_references() -> None:
    @tool
    def ship(
        to: Address, colours: list[Colour], how: Literal["air", "sea"] = "air", on: datetime.date | None = None
    ) -> None:
        """Ship."""

    schema = ship.input_schema
    assert "$" not in str(schema)
    assert schema["properties"]["to"]["properties"]["street"] == {"type": "string"}
    assert schema["properties"]["colours"]["items"]["enum"] == ["red"]
    assert schema["required"] == ["to", "colours"]


async def test_arguments_arrive_as_the_types_of_the_hints() -> None:
    @tool
    async def ship(to: Address, colours: list[Colour], on: datetime.date, json: float = 1.0, schema: str = "s") -> str:
        """Ship; the last two are names that pydantic's models reserve."""
        assert isinstance(to, Address)
        assert colours == [Colour.RED]
        assert on == datetime.date(2026, 1, 2)
        return f"{to.street} {json} {schema}"

    given = {"to": {"street": "x"}, "colours": ["red"], "on": "2026-01-02", "json": 2}
    assert await call(ship, given) == ToolOutput(content="x 2.0 s")


def plain(context: ToolContext, a: int) -> str:
    """A."""
    return f"{context.session_id} {a}"


def trailing(a: int, context: ToolContext | None = None) -> str:
    """A."""
    return f"{context and context.session_id} {a}"


def old_style(a: int, *, context: Optional[ToolContext] = None) -> str:  # noqa: UP045 - the spelling is the subject
    """A."""
    return f"{context and context.session_id} {a}"


def annotated(a: int, anything: Annotated[ToolContext, "note"]) -> str:
    """A."""
    return f"{anything.session_id} {a}"


@pytest.mark.parametrize("function", [plain, trailing, old_style, annotated])
async def test_the_context_is_given_to_whoever_asks_for_it_and_hidden_from_the_model(
    function: Callable[..., str],
) -> None:
    for made in (
        tool(function),
        tool(input_schema={"type": "object", "properties": {"a": {"type": "integer"}}})(function),
    ):
        assert list(made.input_schema["properties"]) == ["a"]
        assert await call(made, {"a": 1}) == ToolOutput(content="s 1")
        for name in ("context", "anything"):
            assert (await call(made, {"a": 1, name: {"session_id": "forged"}})).is_error


@pytest.mark.parametrize(
    ("input", "lines"),
    [
        ({"email": 1}, ["email: Input should be a valid string"]),
        ({"email": "a", "limit": "5"}, ["limit: Input should be a valid integer"]),
        ({"email": "a", "limit": True}, ["limit: Input should be a valid integer"]),
        ({}, ["email: missing, but required"]),
        ({"email": "a", "mail": "b"}, ["mail: unknown property"]),
        ({"limit": None}, ["email: missing, but required", "limit: Input should be a valid integer"]),
        ("a", ["expected an object, got str"]),
        (None, ["expected an object, got NoneType"]),
    ],
)
async def test_input_that_does_not_fit_is_an_error_result_that_says_why(input: Any, lines: list[str]) -> None:
    output = await call(lookup_customer, input)
    assert output.is_error
    assert isinstance(output.content, str)
    assert [line.removeprefix("- ") for line in output.content.splitlines()[1:]] == lines


async def test_a_place_in_nested_input_is_named_and_values_are_not_repeated() -> None:
    async def ship(to: list[Address]) -> str:
        """Ship."""
        return str(to)

    output = await call(ship, {"to": [{"street": "hunter2", "number": "hunter2"}] * 50})
    assert isinstance(output.content, str)
    assert "- to[0].number: Input should be a valid integer" in output.content
    assert "hunter2" not in output.content
    assert "http" not in output.content
    assert len(output.content.splitlines()) == 11


async def test_lax_tools_let_pydantic_coerce() -> None:
    @tool(strict=False)
    def double(a: int) -> int:
        """Double."""
        return a * 2

    assert await call(double, {"a": "5"}) == ToolOutput(content="10")


EXPLICIT = {
    "type": "object",
    "properties": {"a": {"type": "integer", "minimum": 1}},
    "required": ["a"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("input", [{"a": "1"}, {"a": 0}, {}, {"a": 1, "b": 2}, [], None])
async def test_an_explicit_schema_is_enforced(input: Any) -> None:
    @tool(input_schema=EXPLICIT)
    async def add_one(a):  # type: ignore[no-untyped-def]
        """Add one."""
        return a + 1

    assert await call(add_one, {"a": 1}) == ToolOutput(content="2")
    output = await call(add_one, input)
    assert output.is_error
    assert "\n- " in str(output.content)


async def test_an_explicit_schema_that_is_looser_than_the_function_is_the_models_error_too() -> None:
    @tool(input_schema=NO_INPUT, description="d")
    def add(a: int, b: int) -> int:
        return a + b

    assert "missing a required argument: 'b'" in str((await call(add, {"a": 1})).content)
    assert "'c'" in str((await call(add, {"a": 1, "b": 1, "c": 1})).content)


async def test_an_explicit_schema_may_fill_keyword_arguments() -> None:
    @tool(name="any-thing", description="d", input_schema=NO_INPUT)
    def anything(**arguments: Any) -> dict[str, Any]:
        return arguments

    assert await call(anything, {"a b": [1]}) == ToolOutput(content='{"a b": [1]}')


def unannotated(self, a: int):  # type: ignore[no-untyped-def]
    """A."""


def positional(a: int, /) -> None:
    """A."""


def variadic(*a: int) -> None:
    """A."""


def recursive(a: Tree) -> None:
    """A."""


def unresolvable(a: Nowhere) -> None:  # type: ignore[name-defined]  # noqa: F821 - the subject
    """A."""


def undescribable(a: Callable[[], int]) -> None:
    """A."""


def arbitrary(a: threading.Event) -> None:
    """A."""


def bash(a: int) -> None:
    """A."""


@pytest.mark.parametrize(
    ("function", "named"),
    [
        (unannotated, "'self'"),
        (positional, "input_schema="),
        (variadic, r"\*a"),
        (recursive, "Tree"),
        (unresolvable, "Nowhere"),
        (undescribable, "'undescribable'"),
        (arbitrary, "'arbitrary'"),
        (bash, "built-in"),
        (lambda a: a, "<lambda>"),
    ],
)
def test_functions_that_cannot_be_tools_are_refused_when_decorated(function: Callable[..., Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        tool(function)


@pytest.mark.parametrize("options", [{"input_schema": {"type": "string"}}, {"timeout": 0}, {"name": "mcp__x"}])
def test_unusable_options_are_refused_when_decorated(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        tool(**options)(plain)


def test_a_tool_without_a_docstring_is_refused_when_it_is_to_be_described() -> None:
    @tool
    def silent(a: int) -> int:
        return a

    with pytest.raises(ConfigurationError, match="'silent' has no description"):
        Toolbox([silent]).custom_tools()


WITHOUT_THE_EXTRA = """
import sys
sys.modules["pydantic"] = None  # importing it now fails, as if it were not installed
import trio
from managed_agents_actors._errors import ConfigurationError
from managed_agents_actors._model import ToolContext
from managed_agents_actors._session.tool import tool
from managed_agents_actors._session.toolbox import Toolbox

def add(a: int, context: ToolContext) -> int:
    "Add one."
    return a + 1

try:
    tool(add)
except ConfigurationError as error:
    print(error)
toolbox = Toolbox([tool(input_schema={"type": "object", "properties": {"a": {"type": "integer"}}})(add)])
context = ToolContext(session_id="s", provider="p", metadata={}, tool_use_id="u")
print(trio.run(toolbox.handle_tool_call, "add", {"a": 1}, context).content, toolbox.custom_tools()[0]["description"])
"""


def test_without_the_extra_an_explicit_schema_works_and_hints_say_what_to_install() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT_THE_EXTRA], capture_output=True, text=True, check=True)
    message, result = run.stdout.splitlines()
    assert 'pip install "managed-agents-actors[tools]"' in message
    assert result == "2 Add one."
