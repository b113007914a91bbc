"""What the page on observability shows is true: the example prints it, the picture has its spans, tables all names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias, get_args
from xml.etree import ElementTree

import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.telemetry._log_sink import EVENT_LEVELS
from managed_agents_actors.telemetry._otel_names import Attributes, MetricName
from managed_agents_actors.testing import call_tool, open_claude_simulator, say

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "how_to" / "trace.svg"
TEXT = (ROOT / "docs" / "how_to" / "observability.md").read_text(encoding="utf-8")
GROUP, TITLE = "{http://www.w3.org/2000/svg}g", "{http://www.w3.org/2000/svg}title"

Tree: TypeAlias = "tuple[str | None, list[Tree]]"


@pytest.fixture(scope="module")
def printed() -> str:
    """What the example prints."""
    return run("examples/observability.py", "--simulate")


def run(*command: str, input: str | None = None) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", *command], cwd=ROOT, input=input, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def first_column(header: str) -> Iterator[str]:
    """The names in the first column of the table that begins so."""
    [table] = re.findall(rf"^\| {header} \|.*\n\|[-|]+\n((?:\|.*\n)+)", TEXT, re.MULTILINE)
    for row in table.splitlines():
        yield from re.findall(r"`([^`]+)`", row.split("|")[1])


def test_the_example_prints_what_the_page_shows_of_it(printed: str) -> None:
    plain = re.sub(r"0x[0-9a-f]+", "0x…", re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "…", printed))
    excerpts = blocks("json")
    assert len(excerpts) == 2
    for excerpt in excerpts:
        assert unindented(excerpt) in unindented(plain)


def unindented(text: str) -> str:
    return "".join(line.lstrip() for line in text.splitlines(keepends=True))


def test_the_picture_has_the_spans_of_the_example(printed: str) -> None:
    drawn = ElementTree.fromstring(run("docs/figures/trace.py", input=printed))
    tree = spans_in(drawn)
    assert spans_in(ElementTree.parse(PICTURE).getroot()) == tree
    [(outermost, [(request, turns)])] = tree
    assert (outermost, request) == ("plan trip", "invoke_agent")
    assert [name for name, _ in turns] == ["turn", "turn"]


def spans_in(element: ElementTree.Element) -> list[Tree]:
    """The spans in the picture, each with those that are in it; when they began is not compared."""
    found: list[Tree] = [(group.findtext(TITLE), spans_in(group)) for group in element.findall(GROUP)]
    return sorted(found, key=repr)


def test_the_picture_is_shown() -> None:
    assert "](trace.svg)" in TEXT


def test_the_page_lists_every_metric() -> None:
    assert sorted(first_column("metric")) == sorted(get_args(MetricName))


def test_the_page_names_every_attribute() -> None:
    text = TEXT.replace("`.", "`gen_ai.usage.")  # a list of those that begin so
    missing = [name for name in Attributes.__annotations__ if f"`{name}`" not in text]
    assert missing == []


def test_the_page_lists_every_event_that_is_a_line() -> None:
    assert sorted(f"managed_agents.{name}" for name in first_column("event")) == sorted(EVENT_LEVELS)


async def test_tail_prints_what_the_page_shows() -> None:
    async def warehouse(name: str, input: object, context: object) -> str:
        return "3 parcels"

    script = [call_tool("warehouse", {"shelf": "A"}), say("There are 3 parcels on shelf A.")]
    async with open_claude_simulator(script) as simulator, simulator.client() as client:
        await maa.run_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=warehouse,
            prompt="What is on shelf A?",
        )
        [shown] = [block for block in blocks("console") if block.startswith("$ ")]
        line, _, expected = shown.partition("\n")
        done = await trio.run_process(
            line.removeprefix("$ ").replace("managed-agents", f"{sys.executable} -m managed_agents_actors", 1),
            shell=True,
            capture_stdout=True,
            env={**os.environ, "ANTHROPIC_BASE_URL": simulator.base_url, "ANTHROPIC_API_KEY": simulator.api_key},
        )
    assert done.stdout.decode() == expected
