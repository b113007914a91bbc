"""Specs and handles as values: copies of what was given, checked when they are made, the same after JSON."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
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
        ({"name": "a", "system_prompt": "s", "tools": [7]}, "tools="),
        ({"name": "a", "system_prompt": "s", "tools": [{"name": "x"}]}, "a tool has an input_schema, or a type"),
        ({"name": "a", "system_prompt": "s", "tools": [{"type": "custom"}]}, "has no name, description, input_schema"),
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
