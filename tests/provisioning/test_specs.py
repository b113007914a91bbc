"""Specs and handles as values: copies of what was given, checked when they are made, the same after JSON."""

from __future__ import annotations

import copy
import json
import operator
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

import managed_agents_actors as maa
from managed_agents_actors import (
    AgentHandle,
    AgentSpec,
    ClaudeHandle,
    ConfigurationError,
    EnvironmentHandle,
    EnvironmentSpec,
    HarnessHandle,
    Runtime,
)
from managed_agents_actors.provisioning import Bootstrap
from managed_agents_actors.provisioning._harness import check_role
from managed_agents_actors.provisioning._wanted import wanted_agent, wanted_environment, wanted_harness

TOOL: dict[str, Any] = {"name": "find", "description": "Finds.", "input_schema": {"type": "object", "properties": {}}}


def test_a_spec_keeps_copies() -> None:
    tool, model, settings = json.loads(json.dumps(TOOL)), {"id": "m"}, {"metadata": {"a": "1"}}
    spec = AgentSpec(name="a", system_prompt="s", model=model, tools=[tool], settings=settings)
    before = spec.digest
    tool["description"] = "Other."
    model["id"] = "n"
    settings["metadata"]["a"] = "2"
    assert spec.tools[0]["description"] == "Finds."
    assert (spec.model, spec.settings) == ({"id": "m"}, {"metadata": {"a": "1"}})
    assert (
        AgentSpec(name="a", system_prompt="s", model=spec.model, tools=spec.tools, settings=spec.settings).digest
        == before
    )
    with pytest.raises(FrozenInstanceError):
        spec.name = "b"  # type: ignore[misc]


def with_everything() -> AgentSpec:
    return AgentSpec(
        name="a",
        system_prompt="s",
        model={"id": "m", "speeds": [1, {"x": 2}]},
        tools=[TOOL, {"type": "mcp", "configs": [{"name": "n"}]}],
        settings={"metadata": {"a": "1"}, "mcp_servers": [{"url": "https://z.test"}]},
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda spec: spec.model.update(id="n"),
        lambda spec: spec.model["speeds"].append(3),
        lambda spec: spec.model["speeds"][1].update(x=3),
        lambda spec: spec.tools[0].update(description="Other."),
        lambda spec: spec.tools[0]["input_schema"]["properties"].update(q={}),
        lambda spec: spec.tools[1]["configs"].clear(),
        lambda spec: operator.setitem(spec.settings, "x", 1),
        lambda spec: operator.setitem(spec.settings["metadata"], "a", "2"),
        lambda spec: operator.setitem(spec.settings["mcp_servers"], 0, {}),
        lambda spec: operator.delitem(spec.settings["mcp_servers"][0], "url"),
    ],
)
def test_nobody_can_change_a_spec_at_any_depth(change: Callable[[AgentSpec], object]) -> None:
    spec = with_everything()
    with pytest.raises((TypeError, AttributeError)):
        change(spec)
    assert spec == with_everything()
    assert spec.settings == with_everything().settings


def test_nobody_can_change_an_environment_at_any_depth() -> None:
    spec = EnvironmentSpec(config={"networking": {"allowed_hosts": ["z.test"]}})
    with pytest.raises(TypeError):
        spec.config["networking"]["type"] = "limited"
    with pytest.raises(AttributeError):
        spec.config["networking"]["allowed_hosts"].append("y.test")


@pytest.mark.parametrize("remake", [copy.copy, copy.deepcopy, lambda spec: pickle.loads(pickle.dumps(spec)), replace])
@pytest.mark.parametrize(
    "spec",
    [
        with_everything(),
        AgentSpec(name="a", system_prompt="s"),
        EnvironmentSpec(name="e", runtimes=[Runtime("go", "1")], config={"networking": {"allowed_hosts": ["z.test"]}}),
    ],
)
def test_a_spec_can_be_copied_and_pickled(remake: Callable[[Any], Any], spec: Any) -> None:
    made = remake(spec)
    assert (made, made.name, hash(made)) == (spec, spec.name, hash(spec))
    assert repr(made) == repr(spec)


def test_what_goes_over_the_wire_is_json_again() -> None:
    spec = with_everything()
    where = EnvironmentSpec(config={"agentCoreRuntimeEnvironment": {"filesystemConfigurations": [{"a": 1}]}})
    role = "arn:aws:iam::123456789012:role/Harness"
    for body in (wanted_agent(spec).body, wanted_harness(spec, where, role).body, wanted_environment(where, "e").body):
        assert json.loads(json.dumps(body)) == body
    assert json.loads(json.dumps(where.wire_config)) == where.wire_config


def test_settings_and_configuration_are_not_shown() -> None:
    """They may hold what nobody else is to see."""
    shown = repr(AgentSpec(name="a", system_prompt="s", settings={"token": "sesame"}))
    shown += repr(EnvironmentSpec(name="a", config={"token": "sesame"}))
    assert "sesame" not in shown
    assert shown.count("name='a'") == 2


SECRET = "sesame"


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (AgentSpec, {"name": {"x": SECRET}, "system_prompt": "s"}),
        (AgentSpec, {"name": "a", "system_prompt": [SECRET]}),
        (AgentSpec, {"name": "a", "system_prompt": "s", "model": [SECRET]}),
        (AgentSpec, {"name": "a", "system_prompt": "s", "tools": [{"x": SECRET}]}),
        (AgentSpec, {"name": "a", "system_prompt": "s", "tools": [{**TOOL, "x": SECRET}]}),
        (AgentSpec, {"name": "a", "system_prompt": "s", "tools": [{**TOOL, "type": SECRET}]}),
        (AgentSpec, {"name": "a", "system_prompt": "s", "tools": [{**TOOL, "name": [SECRET]}]}),
        (AgentSpec, {"name": "a", "system_prompt": "s", "tools": [{"type": "custom", "name": SECRET}]}),
        (AgentSpec, SECRET),
        (EnvironmentSpec, {"config": SECRET}),
        (EnvironmentSpec, {"runtimes": SECRET}),
        (EnvironmentSpec, {"runtimes": [SECRET]}),
        (EnvironmentSpec, {"runtimes": [{"language": "go", "version": "1", "token": SECRET}]}),
        (EnvironmentSpec, {"runtimes": [{"language": f"{SECRET}!", "version": "1"}]}),
        (EnvironmentSpec, {"runtimes": [{"language": "go", "version": f"{SECRET}!"}]}),
        (EnvironmentSpec, {"runtimes": [{"language": "go", "version": "1", "via": SECRET}]}),
    ],
)
def test_an_error_shows_no_value(kind: Any, given: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        kind.of(given)
    assert SECRET not in str(caught.value)


def test_a_role_that_is_none_is_not_shown() -> None:
    for role in (SECRET, [SECRET]):
        with pytest.raises(ConfigurationError, match="must be the ARN of a role") as caught:
            check_role(role)
        assert SECRET not in str(caught.value)


def test_what_is_no_handle_is_not_shown() -> None:
    for kind in (AgentHandle, ClaudeHandle):
        with pytest.raises(ConfigurationError, match=r"a dict with id \(a str\)") as caught:
            kind.from_json({"id": SECRET})
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("prune", [maa.prune_agents, maa.prune_environments, maa.prune_harnesses])
async def test_to_prune_it_must_be_said_where_the_tags_are(prune: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match="store"):
        await prune(None, "support", keep=1)


def test_tools_of_one_s_own_are_told_from_the_provider_s() -> None:
    spec = AgentSpec(name="a", system_prompt="s", tools=[TOOL, {"type": "agent_toolset_20260401"}])
    assert spec.tools == ({"type": "custom", **TOOL}, {"type": "agent_toolset_20260401"})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "has no name, system_prompt"),
        ({"name": "a"}, "has no system_prompt"),
        ({"name": "a", "system_prompt": "s", "prompt": "x"}, "has prompt"),
        ({"name": " ", "system_prompt": "s"}, "name="),
        ({"name": "a", "system_prompt": 7}, "system_prompt="),
        ({"name": "a", "system_prompt": "s", "model": ""}, "model="),
        ({"name": "a", "system_prompt": "s", "model": 7}, "model="),
        ({"name": "a", "system_prompt": "s", "model": {"x": object()}}, "model="),
        ({"name": "a", "system_prompt": "s", "terminal_tool": ""}, "terminal_tool="),
        ({"name": "a", "system_prompt": "s", "tools": "find"}, "tools="),
        ({"name": "a", "system_prompt": "s", "tools": [7]}, r"tools\[0\] must be a mapping, not a int"),
        ({"name": "a", "system_prompt": "s", "tools": [{"name": "x"}]}, "a tool has an input_schema, or a type"),
        (
            {"name": "a", "system_prompt": "s", "tools": [TOOL, {"type": "custom"}]},
            r"tools\[1\] has no name, description, input_schema",
        ),
        ({"name": "a", "system_prompt": "s", "tools": [{**TOOL, "name": 7}]}, r"tools\[0\]\['name'\]= must be"),
        ({"name": "a", "system_prompt": "s", "tools": [{**TOOL, "strict": True}]}, "a tool of one's own"),
        ({"name": "a", "system_prompt": "s", "tools": [{**TOOL, "name": "bash"}]}, "built-in"),
        ({"name": "a", "system_prompt": "s", "settings": [1]}, "settings="),
        (None, "expected AgentSpec or a mapping"),
        ("a", "expected AgentSpec or a mapping"),
    ],
)
def test_what_is_no_agent_is_refused(given: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        AgentSpec.of(given)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "expected EnvironmentSpec or a mapping"),
        ("a", "expected EnvironmentSpec or a mapping"),
        ({"name": ""}, "name="),
        ({"config": 7}, "config="),
        ({"runtimes": 7}, "runtimes="),
        ({"networking": object()}, "config="),
    ],
)
def test_what_is_no_environment_is_refused(given: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        EnvironmentSpec.of(given)


def test_other_keys_of_an_environment_are_configuration_and_config_wins() -> None:
    spec = EnvironmentSpec.of({"name": "a", "type": "cloud", "x": 1, "config": {"x": 2}})
    assert (spec.name, spec.config) == ("a", {"type": "cloud", "x": 2})
    assert EnvironmentSpec.of({}) == EnvironmentSpec() == EnvironmentSpec.of(EnvironmentSpec())
    assert EnvironmentSpec().wire_config == {}


@pytest.mark.parametrize("hosts", ["z.test", 7, [7], {"a": 1}])
def test_hosts_that_are_none_are_left_to_the_provider_to_refuse(hosts: Any) -> None:
    config = {"networking": {"type": "limited", "allowed_hosts": hosts}}
    spec = EnvironmentSpec(runtimes=[Runtime("go", "1")], config=config)
    assert spec.wire_config == config


@pytest.mark.parametrize("hosts", [None, []])
def test_no_hosts_are_an_empty_list_of_them(hosts: Any) -> None:
    config = {"networking": {"type": "limited", "allowed_hosts": hosts}}
    spec = EnvironmentSpec(runtimes=[Runtime("go", "1")], config=config)
    assert "github.com" in spec.wire_config["networking"]["allowed_hosts"]


def test_an_agent_is_told_how_to_install_what_is_declared() -> None:
    spec = AgentSpec(name="a", system_prompt="s", tools=[TOOL])
    environment = EnvironmentSpec(runtimes=[Runtime("go", "1.26")])
    told = spec.with_runtimes(environment)
    assert environment.bootstrap is not None
    assert told.system_prompt == f"s\n\n{environment.bootstrap.instructions}"
    assert (told.name, told.tools) == (spec.name, spec.tools)
    assert spec.with_runtimes(EnvironmentSpec()) is spec


# --- handles ----------------------------------------------------------------------------------------------------------

AGENT = AgentHandle(id="agent_1", name="a_01234567", digest="01234567")
BOX = EnvironmentHandle(
    id="env_1", name="e_01234567", digest="01234567", bootstrap=Bootstrap(script="x", instructions="y")
)
HARNESS = HarnessHandle(harness_id="h-1", harness_arn="arn:x", name="h_01234567", digest="01234567")


@pytest.mark.parametrize("handle", [AGENT, BOX, HARNESS, ClaudeHandle(agent=AGENT, environment=BOX)])
def test_a_handle_survives_json(handle: Any) -> None:
    form = json.loads(json.dumps(handle.to_json()))
    assert type(handle).from_json(form) == handle
    assert type(handle).from_json(handle) is handle
    assert hash(type(handle).from_json(form)) == hash(handle)


def test_the_bootstrap_is_no_part_of_it() -> None:
    assert set(BOX.to_json()) == {"id", "name", "digest"}
    assert EnvironmentHandle.from_json(BOX.to_json()).bootstrap is None


@pytest.mark.parametrize("kind", [AgentHandle, EnvironmentHandle, HarnessHandle, ClaudeHandle])
@pytest.mark.parametrize(
    "value",
    [
        None,
        "x",
        [],
        {},
        {"id": "x"},
        {"id": "x", "name": "y", "digest": 7},
        {"id": "", "name": "y", "digest": "z"},
        {"id": "x", "name": "y", "digest": "z", "more": "w"},
        {"agent": {}, "environment": {}},
        {1: "x"},
    ],
)
def test_what_is_no_handle_is_refused(kind: Any, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=kind.__name__ if kind is not ClaudeHandle else "Handle has"):
        kind.from_json(value)


def test_handles_go_into_a_session_s_options() -> None:
    handle = ClaudeHandle(agent=AGENT, environment=BOX)
    assert handle.options == {"agent": AGENT, "environment": BOX}
    assert (handle.agent_id, handle.environment_id) == ("agent_1", "env_1")
    assert HARNESS.options == {"harness": HARNESS}
    from managed_agents_actors.providers import claude_managed_agents

    parsed = claude_managed_agents.parse_options(handle.options)
    assert (parsed.agent, parsed.environment) == ("agent_1", "env_1")


def test_everything_is_at_the_front_door() -> None:
    from managed_agents_actors import provisioning

    for name in ("SqliteStore", "MemoryStore", "Runtime", "provision", "teardown", "ensure_harness", "prune_agents"):
        assert getattr(maa, name) is getattr(provisioning, name)
        assert name in maa.__all__
    with pytest.raises(AttributeError):
        _ = provisioning.nothing


@pytest.mark.parametrize(
    "given",
    [
        {"name": "a\ud83d"},
        {"system_prompt": "a\ud83d"},
        {"terminal_tool": "\udc00"},
        {"model": "m\ud83d"},
        {"model": {"id": "\ud83d"}},
        {"tools": [{"type": "web\ud83d"}]},
        {"tools": [{"name": "a", "description": "\ud83d", "input_schema": {"type": "object"}}]},
        {"settings": {"metadata": {"\ud83d": "x"}}},
    ],
)
def test_half_a_surrogate_pair_is_refused_when_a_spec_is_made(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="half a surrogate pair"):
        AgentSpec(**{"name": "a", "system_prompt": "s", "model": "m", **given})


def test_half_a_surrogate_pair_is_refused_in_an_environment() -> None:
    for given in ({"name": "\ud83d"}, {"config": {"type": "\ud83d"}}):
        with pytest.raises(ConfigurationError, match="half a surrogate pair"):
            EnvironmentSpec(**given)  # type: ignore[arg-type]
