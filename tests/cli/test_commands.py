"""The command line itself: help, version, mistakes, and when it uses colours."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stdout
from importlib import metadata

import pytest

from managed_agents_actors._cli import main
from managed_agents_actors._cli.account import TextAccount
from managed_agents_actors._cli.commands import _print, wants_colour

COMMAND = [sys.executable, "-W", "error", "-m", "managed_agents_actors"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_version_is_that_of_the_installed_package() -> None:
    run = subprocess.run([*COMMAND, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout == f"managed-agents {metadata.version('managed-agents-actors')}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"]])
def test_help_tells_the_exit_status(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 0
    assert "exit status:" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["dance"], ["demo", "--loud"]])
def test_what_cannot_be_understood_is_exit_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(arguments)
    assert raised.value.code == 2
    assert "usage: managed-agents" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("out", "environment", "coloured"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ],
)
def test_colours_are_for_terminals_whose_owner_has_not_said_no(
    out: io.StringIO, environment: dict[str, str], coloured: bool
) -> None:
    assert wants_colour(out, environment) is coloured


def test_colours_change_nothing_but_the_colour() -> None:
    plain, coloured = io.StringIO(), io.StringIO()
    note = {"type": "tool", "phase": "started", "at": 1.5, "name": "look"}
    TextAccount(plain, colour=False)(note)
    TextAccount(coloured, colour=True)(note)
    assert plain.getvalue().splitlines()[-1] == "  1.500  tool      look starts"
    assert "\x1b[32mtool    \x1b[0m" in coloured.getvalue()


@pytest.mark.parametrize("line", ["demo", "demo --json", "agents resolve a:b --json"])
@pytest.mark.parametrize(
    ("place", "told"),
    [("/dev/full", "what is to be printed cannot be written: No space left"), ("&-", "there is no standard output")],
)
def test_output_that_cannot_be_written_is_told(line: str, place: str, told: str) -> None:
    environment = {"ANTHROPIC_API_KEY": "key", "MANAGED_AGENTS_STORE": "/nowhere/store.db"}
    shell = f"{sys.executable} -m managed_agents_actors {line} >{place}"
    run = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert run.returncode == 1
    assert f"managed-agents: {told}" in run.stderr
    assert "Traceback" not in run.stderr
    assert "Exception ignored" not in run.stderr


def test_what_cannot_be_told_is_no_crash() -> None:
    shell = f"{sys.executable} -m managed_agents_actors agents ensure no.json --json 2>/dev/full"
    run = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, json.loads(run.stdout)["error"]["type"]) == (2, "ConfigurationError")


def test_a_letter_that_a_terminal_has_not_is_shown_by_its_number() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with redirect_stdout(out):
        _print("caf\xe9 \ud800\n")
    assert out.buffer.getvalue() == b"caf\\xe9 \\ud800\n"


def test_a_reader_that_leaves_is_no_crash() -> None:
    shell = f"{sys.executable} -m managed_agents_actors demo --json | head -n 1"
    run = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.count("\n") == 1
    assert "Traceback" not in run.stderr
