"""Declared runtimes: the script follows from the declaration, is bash, and says nothing that was not declared."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from managed_agents_actors import ConfigurationError, EnvironmentSpec, Runtime
from managed_agents_actors.provisioning import Bootstrap
from managed_agents_actors.provisioning._runtimes import bootstrap, check_runtimes, required_hosts

LANGUAGES = st.sampled_from(["erlang", "elixir", "go", "python", "node", "rust", "java", "zig", "x-y_z0"])
VERSIONS = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,12}", fullmatch=True)
RUNTIMES = st.dictionaries(LANGUAGES, VERSIONS, min_size=1).map(
    lambda found: [Runtime(*each) for each in found.items()]
)

HOSTS = [
    "builds.hex.pm",
    "github.com",
    "mise-versions.jdx.dev",
    "mise.jdx.dev",
    "objects.githubusercontent.com",
    "repo.hex.pm",
]


def made(runtimes: list[Runtime]) -> Bootstrap:
    found = bootstrap(runtimes)
    assert found is not None
    return found


def used(script: str) -> list[str]:
    return [line.removeprefix("mise use --global ") for line in script.splitlines() if line.startswith("mise use")]


@given(runtimes=RUNTIMES)
@settings(max_examples=50)
def test_the_script_is_bash_and_the_same_every_time(runtimes: list[Runtime]) -> None:
    script = made(runtimes).script
    assert script == made([Runtime(each.language, each.version) for each in runtimes]).script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@given(runtimes=RUNTIMES)
def test_erlang_comes_before_elixir_and_both_before_the_others_in_their_order(runtimes: list[Runtime]) -> None:
    names = [tool.partition("@")[0] for tool in used(made(runtimes).script)]
    declared = [runtime.language for runtime in runtimes]
    pair = [name for name in ("erlang", "elixir") if name in declared]
    assert names == [*pair, *(name for name in declared if name not in pair)]


@pytest.mark.parametrize(
    ("erlang", "elixir", "asked"),
    [
        ("28.1.2", "1.20.2", "1.20.2-otp-28"),
        ("28", "1.20", "1.20-otp-28"),
        ("28", "1.20.2-otp-27", "1.20.2-otp-27"),
        (None, "1.20.2", "1.20.2"),
        ("latest", "1.20.2", "1.20.2"),
        ("28", "latest", "latest"),
    ],
)
def test_elixir_is_asked_for_by_the_release_of_erlang(erlang: str | None, elixir: str, asked: str) -> None:
    runtimes = [Runtime("elixir", elixir), *([Runtime("erlang", erlang)] if erlang else [])]
    assert used(made(runtimes).script)[-1] == f"elixir@{asked}"


@given(runtimes=RUNTIMES)
def test_nothing_is_in_the_script_but_what_was_declared(runtimes: list[Runtime]) -> None:
    plain = made([Runtime("go", "1")]).script.replace("mise use --global go@1\n", "")
    script = re.sub(r"mise use --global [0-9A-Za-z@.+_-]+\n", "", made(runtimes).script)
    assert script == plain


def test_the_script_may_run_any_number_of_times(tmp_path: Path) -> None:
    """A machine without a network: what would be downloaded is there already, and writes down how it was called."""
    home, tools = tmp_path / "home", tmp_path / "bin"
    home.mkdir()
    tools.mkdir()
    (home / ".bashrc").write_text("alias a=b")  # its last line has no end
    (tools / "mise").write_text('#!/bin/sh\necho "$@" >>"$HOME/calls"\n')
    (tools / "mise").chmod(0o755)
    script = made([Runtime("elixir", "1.20.2"), Runtime("erlang", "28.1")]).script
    environment = {"HOME": str(home), "PATH": f"{tools}:/usr/bin:/bin"}
    for _ in range(2):
        subprocess.run(["bash"], input=script, text=True, check=True, env=environment)
    calls = ["use --global erlang@28.1", "use --global elixir@1.20.2-otp-28", "install"]
    assert (home / "calls").read_text().splitlines() == calls * 2
    lines = (home / ".bashrc").read_text().splitlines()
    assert lines[:2] == ["alias a=b", "# managed-agents: runtimes"]
    assert len(lines) == 4
    told = subprocess.run(
        ["bash", "-c", f". {home}/.bashrc; echo $PATH $LANG"],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    ).stdout
    assert told.startswith(f"{home}/.local/bin:{home}/.local/share/mise/shims:")
    assert told.endswith("C.UTF-8\n")


@pytest.mark.parametrize("runtimes", [[], ()])
def test_no_runtimes_need_nothing(runtimes: Any) -> None:
    assert bootstrap(runtimes) is None
    assert required_hosts(runtimes) == []
    assert EnvironmentSpec(runtimes=runtimes).bootstrap is None


@given(runtimes=RUNTIMES)
def test_the_hosts_are_sorted_and_each_is_there_once(runtimes: list[Runtime]) -> None:
    hosts = required_hosts(runtimes)
    assert hosts == sorted(set(hosts))
    assert set(hosts) >= set(HOSTS)


def test_only_what_a_runtime_is_downloaded_from_is_added() -> None:
    assert set(required_hosts([Runtime("elixir", "1")])) - set(HOSTS) == {"release-assets.githubusercontent.com"}
    assert "nodejs.org" in required_hosts([Runtime("node", "24")])
    assert "nodejs.org" not in required_hosts([Runtime("go", "1")])


@given(text=st.text())
@settings(max_examples=300)
def test_no_other_text_is_a_language_or_a_version(text: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", text):
        with pytest.raises(ConfigurationError, match="language"):
            Runtime(text, "1")
    if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,63}", text):
        with pytest.raises(ConfigurationError, match="version of go"):
            Runtime("go", text)


@pytest.mark.parametrize(
    "runtimes",
    [
        None,
        "go",
        {"go": "1"},
        [None],
        ["go"],
        [{"language": "go"}],
        [{"language": "go", "version": "1", "shell": "sh"}],
        [{"language": "go", "version": "1", "via": "apt"}],
        [Runtime("go", "1"), {"language": "go", "version": "2"}],
    ],
)
def test_what_is_no_list_of_runtimes_is_refused(runtimes: Any) -> None:
    with pytest.raises(ConfigurationError):
        check_runtimes(runtimes)
    with pytest.raises(ConfigurationError):
        EnvironmentSpec(runtimes=runtimes)


class Text(str):
    """A text that shows itself as another one."""

    __slots__ = ()

    def __str__(self) -> str:
        return "x; rm -rf /"

    def __format__(self, _spec: str) -> str:
        return "x; rm -rf /"


class Sly(Runtime):
    """A runtime that checks nothing."""

    def __post_init__(self) -> None:
        pass


def test_a_runtime_is_checked_again_whatever_it_was() -> None:
    changed = Runtime("go", "1.22")
    object.__setattr__(changed, "version", "1; rm -rf /")
    for sly in (changed, Sly("go", "1; rm -rf /"), Sly("go; rm", "1"), Sly("go", "1", "apt")):  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            EnvironmentSpec(runtimes=[sly])
    assert type(Runtime.of(Sly("go", "1.22"))) is Runtime


def test_of_a_text_only_the_text_is_taken() -> None:
    runtime = Runtime(Text("go"), Text("1.22"), Text("mise"))  # type: ignore[arg-type]
    assert [type(each) for each in (runtime.language, runtime.version, runtime.via)] == [str, str, str]
    found = EnvironmentSpec(runtimes=[runtime]).bootstrap
    assert found is not None
    assert "rm" not in found.script
    assert "go@1.22" in found.script
