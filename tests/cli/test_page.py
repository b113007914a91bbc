"""What the page on provisioning shows of the command line is what it prints, line by line, at the simulators."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import pytest
import trio

from managed_agents_actors._cli import main
from managed_agents_actors.testing import FaultPlan

from .conftest import open_simulator

PAGE = Path(__file__).parents[2] / "docs" / "how_to" / "provisioning.md"
TIME = re.compile(r"\d\d:\d\d:\d\d(\.\d+)?")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(environment: MutableMapping[str, str], tmp_path: Path) -> Iterator[Path]:
    """A folder with the page's file, in which the commands run."""
    [content] = blocks("yaml")
    (tmp_path / "support.yaml").write_text(content, encoding="utf-8")
    with contextlib.chdir(tmp_path):
        yield tmp_path


async def test_the_commands_of_the_page_print_what_it_says(
    folder: Path, environment: MutableMapping[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    async with (
        open_simulator("agents", FaultPlan(), None) as claude,
        open_simulator("harnesses", FaultPlan(), None) as agentcore,
    ):
        environment.update(
            ANTHROPIC_BASE_URL=claude.base_url, AWS_ENDPOINT_URL=agentcore.base_url, AWS_REGION="us-east-1"
        )
        shown = blocks("console")
        assert len(shown) > 2
        for block in shown:
            printed = ""
            for line in block.splitlines():
                if line.startswith("$ "):
                    printed += f"{line}\n{await run(line.removeprefix('$ '), capfd)}"
            assert TIME.sub("(time)", printed) == TIME.sub("(time)", block)


async def run(line: str, capture: pytest.CaptureFixture[str]) -> str:
    """Run a line of a shell, and give what it prints; it must succeed."""
    name, *arguments = shlex.split(line)
    if name != "managed-agents":
        await trio.run_process(line, shell=True)
    else:
        assert await trio.to_thread.run_sync(main, arguments) == 0
    printed = capture.readouterr()
    assert printed.err == ""
    return printed.out
