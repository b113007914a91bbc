"""The file that says what to build: YAML and JSON mean the same, and whatever is wrong is named, with nothing sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import managed_agents_actors as maa
from managed_agents_actors._cli import main
from managed_agents_actors._cli.spec_file import read_agent_file, read_environment_file

AGENT = """
name: support
system_prompt: |
  Be kind.
  Be brief.
model: anthropic:claude-opus-5-5
tools:
  - type: agent_toolset_20260401
  - name: stock
    description: How many pieces there are.
    input_schema: {type: object, properties: {item: {type: string}}, required: [item]}
settings: {metadata: {1: one}}
environment:
  runtimes: [{language: elixir, version: 1.20.2}]
  config: {type: cloud}
execution_role_arn: arn:aws:iam::123456789012:role/Harness
"""

Write: TypeAlias = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file, and gives its path."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write_file


def refused(path: Path, capsys: pytest.CaptureFixture[str], command: str = "agents") -> str:
    """What is said of a file that cannot be used."""
    assert main([command, "ensure", str(path)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "Traceback" not in printed.err
    [line] = printed.err.splitlines()
    assert line.startswith(f"managed-agents: {path}")
    return line


def test_yaml_and_json_are_the_same_agent(write: Write) -> None:
    by_yaml = read_agent_file(write("support.yaml", AGENT))
    by_json = read_agent_file(write("support.json", json.dumps(yaml.safe_load(AGENT))))
    assert by_yaml == by_json
    assert by_yaml.spec.digest == by_json.spec.digest
    assert by_yaml.spec.name == "support"
    assert by_yaml.spec.system_prompt == "Be kind.\nBe brief.\n"
    assert by_yaml.environment == maa.EnvironmentSpec(
        runtimes=[maa.Runtime("elixir", "1.20.2")], config={"type": "cloud"}
    )
    assert by_yaml.execution_role_arn == "arn:aws:iam::123456789012:role/Harness"


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(settings=st.dictionaries(TEXTS, VALUES, max_size=4))
def test_whatever_json_can_say_means_the_same_in_yaml(
    settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp()
    members: dict[str, Any] = {"name": "support", "system_prompt": "Be kind.", "settings": settings}
    (folder / "support.json").write_text(json.dumps(members), encoding="utf-8")
    (folder / "support.yml").write_text(yaml.safe_dump(members, allow_unicode=True), encoding="utf-8")
    spec = maa.AgentSpec(**members)
    assert read_agent_file(folder / "support.json").spec.digest == spec.digest
    assert read_agent_file(folder / "support.yml").spec.digest == spec.digest


@pytest.mark.parametrize(
    ("name", "content"), [("box.yaml", "config: {type: cloud}"), ("box.JSON", '{"config": {"type": "cloud"}}')]
)
def test_an_environment_is_read_from_either(name: str, content: str, write: Write) -> None:
    assert read_environment_file(write(name, content)) == maa.EnvironmentSpec(config={"type": "cloud"})


def test_a_byte_order_mark_is_no_content(write: Write) -> None:
    for name, content in (("a.yaml", AGENT), ("a.json", json.dumps(yaml.safe_load(AGENT)))):
        assert read_agent_file(write(name, b"\xef\xbb\xbf" + content.encode())).spec.name == "support"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.yaml", "- name: support", "it must hold one mapping, not a list"),
        ("a.yaml", "", "it must hold one mapping, not a NoneType"),
        ("a.json", "[]", "it must hold one mapping, not a list"),
        ("a.json", '"text"', "it must hold one mapping, not a str"),
        ("a.yaml", f"{AGENT}tolls: []", "not tolls"),
        ("a.json", '{"name": "a", "system_prompt": "b", "tolls": 1}', "not tolls"),
        ("a.yaml", "name: support", "this one has no system_prompt"),
        ("a.yaml", "name: 7\nsystem_prompt: Be kind.", "name= must be a non-empty text, not a int"),
        ("a.yaml", "name: a\nsystem_prompt: b", "needs a model"),
        ("a.yaml", "name: a\nsystem_prompt: b\nmodel: c\nsettings: {model: d}", "settings= must not hold model"),
        ("a.yaml", "name: a\nsystem_prompt: b\nsettings: {since: 2026-01-01}", "settings=['since'] is a date"),
        ("a.yaml", "name: a\nsystem_prompt: b\nsettings: {most: .inf}", "settings= is not what JSON can hold"),
        ("a.yaml", "name: a\nsystem_prompt: b\nsettings: &all {all: *all}", "nested too deeply"),
        (
            "a.yaml",
            "name: a\nsystem_prompt: b\nenvironment: box",
            "environment: an environment is a mapping, not a str",
        ),
        ("a.yaml", "name: a\nsystem_prompt: b\nenvironment: {runtime: []}", "environment: an environment has"),
        (
            "a.yaml",
            "name: a\nsystem_prompt: b\nenvironment: {runtimes: [{language: python, version: 3.12}]}",
            "environment: the version of python must be letters, digits, '.', '+' or '-', not a float; put it in",
        ),
        ("a.yaml", "name: a\nname: b", "the key 'name' is there 2 times"),
        ("a.json", '{"name": "a", "name": "b"}', "the key 'name' is there 2 times"),
        ("a.yaml", "name: [", "it is not YAML: expected the node content, but found '<stream end>', line 1, column 8"),
        ("a.yaml", "a: b\n---\nc: d", "it is not YAML: but found another document, line 2, column 1"),
        ("a.yaml", "a: !!python/name:os.system", "it is not YAML: could not determine a constructor"),
        ("a.yaml", "? {a: b}\n: c", "it is not YAML: found unhashable key"),
        ("a.yaml", "a: 2026-99-99", "it is not YAML that can be used: a value is not what its form"),
        ("a.yaml", "a: \x01", "it is not YAML: special characters are not allowed"),
        ("a.yaml", "[" * 10_000, "it is not YAML that can be used"),
        (
            "a.json",
            "{'name': 1}",
            "it is not JSON: Expecting property name enclosed in double quotes, line 1, column 2",
        ),
        ("a.json", "[" * 100_000, "it is not JSON that can be used"),
        ("a.json", f'{{"a": 1{"0" * 5_000}}}', "it is not JSON that can be used"),
        ("a.json", b"\x89PNG\r\n\x1a\n", "it is not text in UTF-8: byte 0 cannot be part of it"),
        ("a.yaml", b"name: \xff", "it is not text in UTF-8: byte 6 cannot be part of it"),
        ("a.json", b" " * (1024 * 1024 + 1), "a file may have 1048576 bytes; this one has more"),
        ("a.toml", "name = 'a'", "the name must end in .yaml, .yml, .json"),
        ("agent", AGENT, "the name must end in .yaml, .yml, .json"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_with_what_is_wrong(
    name: str, content: str | bytes, told: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(write(name, content), capsys)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(tmp_path / "no.yaml", capsys).endswith("cannot be read: No such file or directory")
    (tmp_path / "folder.yaml").mkdir()
    assert refused(tmp_path / "folder.yaml", capsys).endswith("cannot be read: Is a directory")
    os.mkfifo(tmp_path / "pipe.yaml")  # nobody ever writes to it
    assert refused(tmp_path / "pipe.yaml", capsys).endswith("cannot be read: it is no regular file")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (AGENT, "not system_prompt, model, tools, settings, environment, execution_role_arn"),
        ("config: cloud", "config= must be a mapping, not a str"),
        ("type: cloud", "an environment has name, runtimes, config, not type"),
        ("runtimes: python", "runtimes= must be a list of runtimes, not a str"),
    ],
)
def test_an_environments_file_holds_an_environment_only(
    content: str, told: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(write("box.yaml", content), capsys, "environments")


@pytest.mark.parametrize(
    "content",
    [
        "name: a\ntoken: sesame\n\tbroken",
        "name: a\ntoken: 'sesame\n b: {",
        "token: sesame\ntolls: sesame",
        "name: *sesame",
        "name: !sesame a",
        "name: !sesame!a b",
        "name: !!int sesame",
        "name: !!bool sesame",
        "name: !!timestamp sesame",
        "name: !!set [sesame]",
        "name: [sesame]",
        "name: a\nsystem_prompt: b\nmodel: [sesame]",
        "name: a\nsystem_prompt: b\ntools: [{token: sesame}]",
        "name: a\nsystem_prompt: b\nenvironment: {runtimes: [{token: sesame}]}",
    ],
)
def test_an_error_shows_nothing_of_the_file_but_what_is_wrong(
    content: str, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "sesame" not in refused(write("a.yaml", content), capsys)


def test_a_refusal_is_a_json_object_if_that_is_asked_for(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write("a.yaml", "name: a")
    assert main(["harnesses", "ensure", str(path), "--json"]) == 2
    printed = capsys.readouterr()
    answer = json.loads(printed.out)
    assert (answer["command"], answer["kind"], answer["error"]["type"]) == ("ensure", "harness", "ConfigurationError")
    assert printed.err == f"managed-agents: {answer['error']['message']}\n"


WITHOUT_YAML = """
import sys
sys.modules["yaml"] = None  # importing it now fails, as if it were not installed
from managed_agents_actors._cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_without_the_extra_yaml_says_how_to_get_it_and_json_works(write: Write) -> None:
    for name, content, told in (
        ("a.yaml", AGENT, 'reading YAML needs PyYAML: pip install "managed-agents-actors[yaml]"'),
        ("a.json", "{}", "this one has no name, system_prompt"),
    ):
        path = str(write(name, content))
        command = [sys.executable, "-W", "error", "-c", WITHOUT_YAML, "agents", "ensure", path]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 2
        assert run.stderr.startswith(f"managed-agents: {path}: ")
        assert told in run.stderr
