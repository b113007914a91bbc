"""Digests: the same for whatever means the same in JSON, another for whatever does not, and never another one later."""

from __future__ import annotations

import enum
import json
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import managed_agents_actors as maa
from managed_agents_actors import AgentSpec, ConfigurationError, EnvironmentSpec, Runtime
from managed_agents_actors._protocol.digest import canonical, digest, short_digest

TEXTS = st.text(max_size=4)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=8
)


class Color(enum.Enum):
    RED = "red"
    ONE = 1


def disguised(value: Any, draw: st.DataObject) -> Any:
    """The same value, written otherwise."""
    match value:
        case dict():
            names = draw.draw(st.permutations(list(value)))
            members = {name: disguised(value[name], draw) for name in names}
            return draw.draw(st.sampled_from([dict, OrderedDict, MappingProxyType]))(members)
        case list():
            return draw.draw(st.sampled_from([list, tuple]))(disguised(member, draw) for member in value)
        case _:
            return value


@given(value=JSON, draw=st.data())
def test_order_and_types_of_containers_are_nothing(value: Any, draw: st.DataObject) -> None:
    other = disguised(value, draw)
    assert digest(other) == digest(value)
    assert json.dumps(canonical(other)) == json.dumps(canonical(value))


@given(one=JSON, two=JSON)
def test_what_means_something_else_has_another_digest(one: Any, two: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert (digest(one) == digest(two)) == same


@given(value=JSON)
def test_a_canonical_form_is_its_own_and_a_copy(value: Any) -> None:
    form = canonical(value)
    assert form == json.loads(json.dumps(value))
    assert json.dumps(canonical(form)) == json.dumps(form)


@pytest.mark.parametrize(
    ("key", "text"), [(1, "1"), (1.5, "1.5"), (True, "true"), (None, "null"), (Color.RED, "red"), (Color.ONE, "1")]
)
def test_a_key_is_what_json_writes(key: Any, text: str) -> None:
    assert digest({key: "x"}) == digest({text: "x"})
    assert canonical({key: Color.RED}) == {text: "red"}


@pytest.mark.parametrize(
    "value",
    [{1, 2}, object(), b"x", float("nan"), float("inf"), {"a": {"b": [object()]}}, {(1,): 2}, {1: "a", "1": "b"}],
)
def test_what_json_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="what it is"):
        digest(value, "what it is")


def test_what_is_nested_too_deeply_is_refused() -> None:
    value: Any = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ConfigurationError, match="deeply"):
        digest(value)


def test_a_digest_never_changes() -> None:
    # Each of these is in a name at somebody's provider.
    assert short_digest(digest({"b": [1, 2.5, None, True], "a": "é"})) == "0b8cc543"
    spec = AgentSpec(name="a", system_prompt="s", model="m", tools=[TOOL], terminal_tool="t", settings={"x": 1})
    assert short_digest(spec.digest) == "10a7f4e0"
    assert short_digest(EnvironmentSpec(runtimes=[Runtime("go", "1")], config={"type": "cloud"}).digest) == "0f2ff1b1"


TOOL = {"name": "find", "description": "Finds.", "input_schema": {"type": "object", "properties": {"q": {}}}}

AGENT: dict[str, Any] = {"name": "a", "system_prompt": "s", "model": "m", "tools": [TOOL]}


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ({"name": "b"}, False),
        ({"system_prompt": "t"}, True),
        ({"model": "n"}, True),
        ({"model": None}, True),
        ({"tools": []}, True),
        ({"tools": [TOOL | {"description": "Seeks."}]}, True),
        ({"tools": [TOOL | {"type": "custom"}]}, False),
        ({"terminal_tool": "find"}, True),
        ({"settings": {"metadata": {}}}, True),
        ({"settings": {}}, False),
    ],
)
def test_an_agent_is_its_content_without_its_name(change: dict[str, Any], is_another: bool) -> None:
    one, two = AgentSpec.of(AGENT), AgentSpec.of(AGENT | change)
    assert (one.digest != two.digest) == (one != two) == is_another
    assert is_another or hash(one) == hash(two)


@pytest.mark.parametrize(
    ("change", "is_another"),
    [
        ({"name": "b"}, False),
        ({"runtimes": [Runtime("go", "2")]}, True),
        ({"runtimes": [{"language": "go", "version": "1"}]}, False),
        ({"runtimes": []}, True),
        ({"config": {"type": "self_hosted"}}, True),
    ],
)
def test_an_environment_is_its_content_without_its_name(change: dict[str, Any], is_another: bool) -> None:
    given = {"name": "a", "runtimes": [Runtime("go", "1")], "config": {"type": "cloud"}}
    one, two = EnvironmentSpec.of(given), EnvironmentSpec.of(given | change)
    assert (one.digest != two.digest) == (one != two) == is_another
    assert is_another or hash(one) == hash(two)


def test_a_toolbox_is_the_list_of_its_tools() -> None:
    @maa.tool
    async def find(q: str) -> str:
        """Finds."""
        return q

    toolbox = maa.Toolbox([find])
    assert AgentSpec.of(AGENT | {"tools": toolbox}) == AgentSpec.of(AGENT | {"tools": toolbox.custom_tools()})
