"""A tool or toolbox that could not work is refused when it is made."""

from __future__ import annotations

import math
from typing import Any

import pytest

from managed_agents_actors import ConfigurationError, Toolbox, tool

SCHEMA = {"type": "object"}


def lookup(**fields: Any) -> str:
    return str(fields)


@pytest.mark.parametrize("function", [5, None, "lookup", dict, len])
def test_a_tool_is_made_of_a_function_whose_parameters_are_known(function: Any) -> None:
    with pytest.raises(ConfigurationError):
        tool()(function)


@pytest.mark.parametrize(
    "options",
    [
        *({"timeout": value} for value in ("5", True, 0, math.nan, 10**400)),
        {"description": 5},
        {"input_schema": 5},
        {"name": 5},
    ],
    ids=ascii,
)
def test_an_unusable_option_of_a_tool_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="tool"):
        tool(**{"input_schema": SCHEMA, **options})(lookup)


@pytest.mark.parametrize("tools", [5, None, "lookup", {"lookup": lookup}, [5], ["lookup"], lookup])
def test_a_toolbox_is_made_of_a_list_of_tools(tools: Any) -> None:
    with pytest.raises(ConfigurationError):
        Toolbox(tools)
