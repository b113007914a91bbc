"""PRO: what makes a thing the same, what of it goes over the wire, and what its machine is told."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
from trio.testing import MockClock

import managed_agents_actors as maa

from ..provisioning._world import open_agentcore, open_claude, provision_claude, provision_harness

# --- PRO-10 -----------------------------------------------------------------------------------------------------------


async def test_pro_10_the_type_and_the_order_of_keys_are_nothing(autojump_clock: MockClock) -> None:
    one = {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["a.test"]}, 1: {"x": 1, "y": 2}}
    two = {"1": {"y": 2, "x": 1}, "networking": {"allowed_hosts": ("a.test",), "type": "limited"}, "type": "cloud"}
    async with open_claude() as here:
        handles = [
            await maa.ensure_environment(here.client, {"config": config, "name": name}, name="box", store=here.store)
            for config, name in ((one, "box"), (two, "other"))
        ]
        assert handles[0] == handles[1]
        assert len(await here.environments()) == 1
        plain = {
            "name": "a",
            "model": {"id": "m", "speed": "fast"},
            "system_prompt": "s",
            "settings": {"metadata": {"a": "1"}},
        }
        same = {
            "settings": {"metadata": {"a": "1"}},
            "system_prompt": "s",
            "model": {"speed": "fast", "id": "m"},
            "name": "b",
        }
        agents = [await maa.ensure_agent(here.client, spec, name="x", store=here.store) for spec in (plain, same)]
        assert agents[0] == agents[1]


async def test_pro_10_a_limited_network_gets_the_hosts_of_the_runtimes(autojump_clock: MockClock) -> None:
    config = {"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["z.test", "github.com"]}}
    spec = maa.EnvironmentSpec(runtimes=[maa.Runtime("elixir", "1.20.2")], config=config)
    async with open_claude() as here:
        await maa.ensure_environment(here.client, spec, store=here.store)
        [row] = await here.environments()
        hosts = row["config"]["networking"]["allowed_hosts"]
        assert hosts[:2] == ["z.test", "github.com"]
        assert hosts[2:] == sorted(set(hosts) - {"z.test", "github.com"})
        assert set(hosts) >= {"builds.hex.pm", "mise-versions.jdx.dev", "mise.jdx.dev", "objects.githubusercontent.com"}
        assert len(hosts) == len(set(hosts))
        # Runtimes never go to the provider.
        [sent] = [each.body for each in here.simulator.requests if each.method == "POST"]
        assert set(sent) == {"name", "config"}
        assert "runtimes" not in json.dumps(sent)
        assert "elixir" not in json.dumps(sent)
    assert config["networking"]["allowed_hosts"] == ["z.test", "github.com"]  # type: ignore[index]


@pytest.mark.parametrize("config", [{}, {"type": "cloud", "networking": {"type": "unrestricted"}}, {"type": "cloud"}])
async def test_pro_10_any_other_network_stays_as_it_is(config: Any, autojump_clock: MockClock) -> None:
    spec = maa.EnvironmentSpec(runtimes=[maa.Runtime("go", "1.26")], config=config)
    async with open_claude() as here:
        await maa.ensure_environment(here.client, spec, store=here.store)
        [sent] = [each.body for each in here.simulator.requests if each.method == "POST"]
        assert sent["config"] == (config or {"type": "cloud", "networking": {"type": "unrestricted"}})


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("claude-opus-5-5", "claude-opus-5-5"),
        ("anthropic:claude-opus-5-5", "claude-opus-5-5"),
        ("anthropic:anthropic:claude", "anthropic:claude"),
        ("bedrock:claude", "bedrock:claude"),
        ({"id": "anthropic:claude", "speed": "fast"}, {"id": "anthropic:claude", "speed": "fast"}),
    ],
)
async def test_pro_10_one_prefix_of_a_claude_model_is_removed(model: Any, sent: Any, autojump_clock: MockClock) -> None:
    async with open_claude() as here:
        await maa.ensure_agent(here.client, {**SPEC, "model": model}, store=here.store)
        [body] = [each.body for each in here.simulator.requests if each.method == "POST"]
    assert body["model"] == sent
    assert body["system"] == "s"


SPEC = {"name": "a", "system_prompt": "s"}


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("us.claude:0", {"bedrockModelConfig": {"modelId": "us.claude:0"}}),
        ("bedrock:us.claude:0", {"bedrockModelConfig": {"modelId": "us.claude:0"}}),
        ("amazon_bedrock:us.claude", {"bedrockModelConfig": {"modelId": "us.claude"}}),
        ("bedrock:bedrock:x", {"bedrockModelConfig": {"modelId": "bedrock:x"}}),
        ({"bedrockModelConfig": {"modelId": "bedrock:x", "topP": 0.5}},) * 2,
        (None, None),
    ],
)
async def test_pro_10_one_prefix_of_a_bedrock_model_is_removed(
    model: Any, sent: Any, autojump_clock: MockClock
) -> None:
    environment = {"agentCoreRuntimeEnvironment": {"networkConfiguration": {"networkMode": "PUBLIC"}}}
    async with open_agentcore(times={}) as here:
        spec = {**SPEC, "model": model, "settings": {"maxIterations": 5}, "tools": [TOOL, BUILT_IN]}
        await provision_harness(
            here, spec, environment={"config": environment, "runtimes": [{"language": "go", "version": "1"}]}
        )
        [body] = [each.body for each in here.simulator.requests if each.method == "POST"]
    assert body.get("model") == sent
    assert (body["systemPrompt"], body["environment"], body["maxIterations"]) == ([{"text": "s"}], environment, 5)
    inline = {"description": "Finds.", "inputSchema": TOOL["input_schema"]}
    assert body["tools"] == [
        {"type": "inline_function", "name": "find", "config": {"inlineFunction": inline}},
        BUILT_IN,
    ]


TOOL: dict[str, Any] = {"name": "find", "description": "Finds.", "input_schema": {"type": "object", "properties": {}}}
BUILT_IN = {"type": "agentcore_browser", "name": "browser"}


# --- PRO-11 -----------------------------------------------------------------------------------------------------------

RUNTIMES = [("go", "1.26"), ("elixir", "1.20.2"), ("python", "3.14"), ("erlang", "28.1")]


async def test_pro_11_the_script_is_derived_on_every_path_and_never_stored(autojump_clock: MockClock) -> None:
    spec = maa.EnvironmentSpec(name="box", runtimes=[maa.Runtime(*each) for each in RUNTIMES])
    maps = maa.EnvironmentSpec(name="box", runtimes=[{"language": a, "version": b} for a, b in RUNTIMES])
    async with open_claude() as here:
        created = await maa.ensure_environment(here.client, spec, store=here.store)
        hit = await maa.ensure_environment(here.client, maps, store=here.store)
        found = await maa.ensure_environment(here.client, spec, store=maa.MemoryStore())
        provisioned = (await provision_claude(here, environment=spec)).environment
        assert created.bootstrap is not None
        assert created.bootstrap == hit.bootstrap == found.bootstrap == provisioned.bootstrap == maps.bootstrap
        assert "mise" not in json.dumps(await here.store.items(""))
        assert set(created.to_json()) == {"id", "name", "digest"}
        await maa.tag_environment(here.client, "box", "live", created, store=here.store)
        assert (await maa.resolve_environment(here.client, "box:live", store=here.store)).bootstrap is None
        assert "mise" not in json.dumps([each.body for each in here.simulator.requests])


def test_pro_11_the_script_is_in_order_and_valid_bash() -> None:
    bootstrap = maa.EnvironmentSpec(runtimes=[maa.Runtime(*each) for each in RUNTIMES]).bootstrap
    assert bootstrap is not None
    script = bootstrap.script
    assert [line.split()[-1] for line in script.splitlines() if line.startswith("mise use --global ")] == [
        "erlang@28.1",
        "elixir@1.20.2-otp-28",
        "go@1.26",
        "python@3.14",
    ]
    places = [
        script.index(part) for part in ("install.sh | sh", "export PATH", "mise use", "\nmise install", ".bashrc")
    ]
    assert places == sorted(places)
    assert script.startswith("#!/usr/bin/env bash\nset -euo pipefail\n")
    assert (script.count("export PATH="), script.count("LANG=C.UTF-8")) == (2, 2)
    assert f"```bash\n{script}```" in bootstrap.instructions
    assert "exactly once" in bootstrap.instructions
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


HOSTILE = ["", " ", "1; rm -rf /", "1\n2", "$(id)", "`id`", "1 2", "-1", "'", '"', "é", "1/..", "x" * 65, None, 1.5]


@pytest.mark.parametrize("value", HOSTILE)
async def test_pro_11_a_hostile_language_or_version_is_refused(value: Any, autojump_clock: MockClock) -> None:
    for language, version in ((value, "1"), ("go", value)):
        with pytest.raises(maa.ConfigurationError):
            maa.Runtime(language, version)
        async with open_claude() as here:
            with pytest.raises(maa.ConfigurationError):
                await maa.ensure_environment(here.client, {"runtimes": [{"language": language, "version": version}]})
            assert here.traffic == []
