"""What a provider takes as a tool, and the validator of tool inputs, held against pydantic's schemas."""

from __future__ import annotations

import json
from types import GenericAlias, NoneType
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from managed_agents_actors._errors import ConfigurationError
from managed_agents_actors._protocol.json_schema import MAX_PROBLEMS, validate
from managed_agents_actors._protocol.tool_schema import (
    CLAUDE_BUILTIN_TOOLS,
    check_input_schema,
    check_name,
    custom_tool,
    inline_function,
    inline_refs,
)

EMPTY = {"type": "object"}


@pytest.mark.parametrize("name", ["a", "look_up-2", "x" * 128, "MCP__x", "mcp_x"])
def test_usable_names_pass(name: str) -> None:
    check_name(name)
    assert custom_tool(name, "d", EMPTY)["name"] == name


@pytest.mark.parametrize(
    "name", ["", "x" * 129, "a b", "a.b", "é", "a\n", "mcp__x", "<lambda>", *sorted(CLAUDE_BUILTIN_TOOLS)]
)
def test_unusable_names_are_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_name(name)
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        EMPTY,
        {"type": "object", "properties": {"a.b-c_D9": {"type": "string"}}, "required": ["a.b-c_D9"]},
        {"type": "object", "properties": {"a": {"oneOf": [{"type": "null"}, {"type": "string"}]}}},
        {"type": "object", "properties": {"a": {"const": {"$ref": "data, not a reference"}}}},
        {"type": "object", "properties": None, "required": None},
    ],
)
def test_acceptable_schemas_pass(schema: dict[str, Any]) -> None:
    check_input_schema("t", schema)
    assert custom_tool("t", "d", schema)["input_schema"] == schema


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({}, "type None"),
        ({"type": "string"}, "'string'"),
        ([], "list"),
        ({"type": "object", "anyOf": [EMPTY]}, "'anyOf'"),
        ({"type": "object", "oneOf": [EMPTY]}, "'oneOf'"),
        ({"type": "object", "allOf": [EMPTY]}, "'allOf'"),
        ({"type": "object", "properties": {"a b": {}}}, "'a b'"),
        ({"type": "object", "properties": {"x" * 65: {}}}, "x" * 65),
        ({"type": "object", "properties": {"": {}}}, "''"),
        ({"type": "object", "properties": []}, "'properties'"),
        ({"type": "object", "required": "a"}, "'required'"),
        ({"type": "object", "properties": {"a": {"items": {"$ref": "#"}}}}, "'$ref'"),
        ({"type": "object", "properties": {"a": {"anyOf": [{"not": {"$ref": "#"}}]}}}, "'$ref'"),
        ({"type": "object", "properties": {"a": {"default": object()}}}, "JSON"),
    ],
)
def test_unacceptable_schemas_are_refused_with_the_reason(schema: Any, named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_input_schema("my_tool", schema)
    assert named in str(caught.value)
    assert "my_tool" in str(caught.value)


def test_wire_forms() -> None:
    schema = {"type": "object", "properties": {"q": {"type": "integer"}}}
    assert custom_tool("t", "d", schema) == {"type": "custom", "name": "t", "description": "d", "input_schema": schema}
    assert inline_function("t", "d", schema) == {
        "type": "inline_function",
        "name": "t",
        "config": {"inlineFunction": {"description": "d", "inputSchema": schema}},
    }


@pytest.mark.parametrize("description", ["", "  \n"])
def test_a_tool_without_description_is_refused(description: str) -> None:
    for form in (custom_tool, inline_function):
        with pytest.raises(ConfigurationError, match="description"):
            form("t", description, EMPTY)


@pytest.mark.parametrize(
    ("name", "description"), [("shell", "d"), ("builtin", "d"), ("x" * 65, "d"), ("a.b", "d"), ("t", "d" * 4097)]
)
def test_agentcore_has_its_own_limits(name: str, description: str) -> None:
    with pytest.raises(ConfigurationError):
        inline_function(name, description, EMPTY)


def test_references_are_written_in_place_and_what_stands_beside_them_wins() -> None:
    schema = {
        "type": "object",
        "properties": {
            "a": {"$ref": "#/$defs/A", "description": "mine"},
            "list": {"type": "array", "items": {"$ref": "#/$defs/B~1x%20y"}},
            "data": {"default": {"$ref": "#/nowhere"}},
        },
        "$defs": {
            "A": {"type": "object", "description": "its", "properties": {"b": {"$ref": "#/$defs/B~1x%20y"}}},
            "B/x y": {"type": "integer"},
        },
    }
    before = json.dumps(schema)
    assert inline_refs(schema) == {
        "type": "object",
        "properties": {
            "a": {"type": "object", "description": "mine", "properties": {"b": {"type": "integer"}}},
            "list": {"type": "array", "items": {"type": "integer"}},
            "data": {"default": {"$ref": "#/nowhere"}},
        },
    }
    assert json.dumps(schema) == before


class Leaf(BaseModel):
    kind: Literal["leaf"]
    value: int


class Other(BaseModel):
    kind: Literal["other"]
    leaves: dict[str, Leaf]


class Tree(BaseModel):
    first: Leaf
    second: Leaf | Other
    defs: list[Leaf] = []


class Node(BaseModel):
    children: list[Node]


def test_pydantic_models_are_inlined_to_what_a_provider_takes() -> None:
    inlined = inline_refs(Tree.model_json_schema())
    check_input_schema("t", inlined)
    assert "$" not in json.dumps(inlined)
    leaf = {"kind": "leaf", "value": 1}
    assert validate({"first": leaf, "second": {"kind": "other", "leaves": {"x": leaf}}}, inlined) == []
    assert validate({"first": leaf, "second": {"kind": "other", "leaves": {"x": {"kind": "leaf"}}}}, inlined) != []


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        (Node.model_json_schema(), "#/$defs/Node"),
        ({"type": "object", "properties": {"me": {"$ref": "#"}}}, "'#'"),
        ({"properties": {"a": {"$ref": "#/$defs/missing"}}}, "missing"),
        ({"properties": {"a": {"$ref": "https://example.com/s.json"}}}, "example.com"),
        ({"properties": {"a": {"$ref": 7}}}, "7"),
    ],
)
def test_references_that_cannot_be_inlined_are_refused(schema: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        inline_refs(schema)
    assert named in str(caught.value)


VALID: list[tuple[Any, dict[str, Any]]] = [
    (1, {"type": "integer"}),
    (1.0, {"type": "integer"}),
    (1, {"type": "number"}),
    (None, {"type": ["string", "null"]}),
    ("x", {"type": "a type from the future"}),
    ("a", {"enum": ["a", None]}),
    (1.0, {"const": 1}),
    ({"a": [1]}, {"const": {"a": [1.0]}}),
    ("🦑", {"minLength": 1, "maxLength": 1}),
    ("abc", {"pattern": "b"}),
    ("abc", {"pattern": r"\p{L}"}),
    (0.3, {"multipleOf": 0.1}),
    (10**30, {"multipleOf": 10}),
    ([1, 2], {"items": {"type": "integer"}, "minItems": 2, "maxItems": 2, "uniqueItems": True}),
    ([1, True, "1"], {"uniqueItems": True}),
    ([1, "a", "b"], {"prefixItems": [{"type": "integer"}], "items": {"type": "string"}}),
    ({"a": 1, "x1": 2}, {"properties": {"a": {}}, "patternProperties": {"^x": {}}, "additionalProperties": False}),
    ({"a": 1}, {"additionalProperties": {"type": "integer"}}),
    (5, {"oneOf": [{"type": "string"}, {"type": "integer"}]}),
    (5, {"allOf": [{"minimum": 1}, {"maximum": 9}], "not": {"const": 6}}),
    ("anything", {"format": "email"}),
]


@pytest.mark.parametrize(("value", "schema"), VALID)
def test_valid_values_have_no_problems(value: Any, schema: dict[str, Any]) -> None:
    assert validate(value, schema) == []
    nested = {"type": "object", "properties": {"x": schema}, "required": ["x"]}
    assert validate({"x": value}, nested) == []


INVALID: list[tuple[Any, dict[str, Any], str]] = [
    ("5", {"type": "integer"}, "expected integer, got string"),
    (True, {"type": "integer"}, "expected integer, got boolean"),
    (1.5, {"type": "integer"}, "expected integer, got number"),
    (1, {"type": ["string", "null"]}, "expected string or null, got integer"),
    ([], {"type": "object"}, "expected object, got array"),
    ("c", {"enum": ["a", "b"]}, 'must be one of ["a", "b"]'),
    (True, {"enum": [1]}, "must be one of [1]"),
    (True, {"const": 1}, "must be 1"),
    ("", {"minLength": 1}, "has 0 characters, expected at least 1"),
    ("abc", {"maxLength": 2}, "has 3 characters, expected at most 2"),
    ("abc", {"pattern": "^b"}, 'must match the pattern "^b"'),
    (1, {"minimum": 2}, "must be at least 2"),
    (3, {"maximum": 2}, "must be at most 2"),
    (2, {"exclusiveMinimum": 2}, "must be greater than 2"),
    (2, {"exclusiveMaximum": 2}, "must be less than 2"),
    (0.35, {"multipleOf": 0.1}, "must be a multiple of 0.1"),
    ([], {"minItems": 1}, "has 0 items, expected at least 1"),
    ([1, 2], {"maxItems": 1}, "has 2 items, expected at most 1"),
    ([{"a": 1}, {"a": 1.0}], {"uniqueItems": True}, "items must be unique"),
    ({}, {"minProperties": 1}, "has 0 properties, expected at least 1"),
    (5, {"anyOf": [{"type": "string"}, {"minimum": 9}]}, "fits none of the alternatives"),
    (5, {"oneOf": [{"type": "integer"}, {"minimum": 1}]}, "fits 2 of the alternatives"),
    (5, {"allOf": [{"minimum": 9}]}, "must be at least 9"),
    (5, {"not": {"type": "integer"}}, "must not match"),
]


@pytest.mark.parametrize(("value", "schema", "problem"), INVALID)
def test_problems_name_the_place_and_say_what_was_expected(value: Any, schema: dict[str, Any], problem: str) -> None:
    (found,) = validate(value, schema)
    assert found.startswith(f"input: {problem}")
    (found,) = validate({"a": [value]}, {"properties": {"a": {"items": schema}}})
    assert found.startswith(f"a[0]: {problem}")


def test_problems_of_objects_name_the_property() -> None:
    schema = {
        "type": "object",
        "properties": {"to": {"type": "object", "required": ["name"]}, "n": {"type": "integer"}},
        "required": ["n", "to"],
        "additionalProperties": False,
        "propertyNames": {"maxLength": 4},
    }
    assert validate({"to": {}, "extra": 1}, schema) == [
        "n: missing, but required",
        "to.name: missing, but required",
        "extra: has 5 characters, expected at most 4",
        "extra: unknown property; known are to, n",
    ]


def test_the_number_and_size_of_problems_is_bounded() -> None:
    problems = validate(["x"] * 10_000, {"items": {"enum": list(range(10_000))}})
    assert len(problems) == MAX_PROBLEMS
    assert all(len(problem) < 1000 for problem in problems)


def test_a_value_nested_too_deeply_is_a_problem_and_not_a_crash() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert validate([value], {"uniqueItems": True}) == ["input: nested too deeply"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.floats(-5, 5) | st.text("ab1", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "y", "kind"]), inner, max_size=3),
    max_leaves=6,
)
simple_types = st.recursive(
    st.sampled_from([int, float, str, bool, NoneType, Literal["a", "b"], Leaf]),
    lambda inner: st.one_of(
        inner.map(lambda item: GenericAlias(list, (item,))),
        inner.map(lambda item: GenericAlias(dict, (str, item))),
        inner.map(lambda item: item | None),
        st.tuples(inner, inner).map(lambda pair: GenericAlias(tuple, pair)),
    ),
    max_leaves=3,
)


@settings(deadline=None)  # machines are shared
@given(simple_types, json_values)
def test_what_pydantic_accepts_strictly_is_valid_by_its_schema(kind: Any, value: Any) -> None:
    adapter = TypeAdapter(kind)
    try:
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        return
    assert validate(value, inline_refs(adapter.json_schema())) == []


@settings(deadline=None)  # machines are shared
@given(st.data(), simple_types)
def test_instances_made_for_a_type_are_valid_by_its_schema(data: st.DataObject, kind: Any) -> None:
    adapter = TypeAdapter(kind)
    instance = adapter.dump_python(data.draw(st.from_type(kind)), mode="json")
    if "NaN" not in (text := json.dumps(instance)) and "Infinity" not in text:
        assert validate(json.loads(text), inline_refs(adapter.json_schema())) == []
