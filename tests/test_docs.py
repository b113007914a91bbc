"""What the documentation shows is true: its programs run, print what it says, and its links lead somewhere.

A ``python`` block that calls ``trio.run`` is a program; the ``text`` block that follows it is what it prints. A block
with tests is a test module.

What differs from run to run, the time and how long something took, may be anything; so may what a page leaves out of a
line, which is an ellipsis.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import pytest

import managed_agents_actors as maa

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
GAP = re.compile(r"…|\d{4}-\d\d-\d\dT[\d:.]+Z|(?<= duration=)[\d.]+|(?<= delay=)[\d.]+")
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")


@dataclass(frozen=True)
class Block:
    """A code block: its page and place, its language, its text, and the output that follows it, if any does."""

    name: str
    language: str
    text: str
    output: str | None


def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        fences = list(FENCE.finditer(page.read_text(encoding="utf-8")))
        for index, fence in enumerate(fences):
            following = takewhile(lambda other: other[1] != "python", fences[index + 1 :])
            output = next((other[2] for other in following if other[1] == "text"), None)
            line = fence.string.count("\n", 0, fence.start()) + 1
            found.append(Block(f"{page.relative_to(ROOT)}:{line}", fence[1], fence[2], output))
    return found


PYTHON = [block for block in blocks() if block.language == "python"]
PROGRAMS = [block for block in PYTHON if "trio.run(" in block.text]
TESTS = [block for block in PYTHON if "def test_" in block.text]


def run(command: list[str], folder: Path) -> str:
    """Run a command, and give what it prints, on standard error too."""
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def is_printed(printed: str, shown: str) -> bool:
    return re.fullmatch("[^\n]*".join(map(re.escape, GAP.split(shown))), printed) is not None


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.name)
def test_a_program_prints_what_the_page_says(block: Block, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(block.text, encoding="utf-8")
    printed = run([sys.executable, "-u", "-W", "error", "program.py", "--simulate"], tmp_path)
    assert block.output is not None, f"{block.name} is a program, but the page does not say what it prints"
    assert is_printed(printed, block.output), printed


@pytest.mark.parametrize("block", TESTS, ids=lambda block: block.name)
def test_a_test_passes(block: Block, tmp_path: Path) -> None:
    (tmp_path / "test_page.py").write_text(block.text, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\ntrio_mode = true\nfilterwarnings = error\n", encoding="utf-8")
    printed = run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"], tmp_path)
    assert re.search(r"^\d+ passed in", printed, re.MULTILINE), printed


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_every_python_block_is_python(block: Block) -> None:
    # Fragments may await: inside an async function they all compile.
    indented = "".join(f"    {line}" for line in block.text.splitlines(keepends=True))
    compile(f"async def fragment():\n{indented}\n    pass\n", block.name, "exec")


def test_an_output_is_compared_but_for_what_is_left_out_and_what_differs() -> None:
    shown = "2026-11-30T23:24:33.981Z [info] closed … duration=0.5 turns=2\n"
    assert is_printed("2031-01-01T00:00:00.000Z [info] closed id=7 duration=12.25 turns=2\n", shown)
    assert not is_printed("2031-01-01T00:00:00.000Z [info] closed id=7 duration=12.25 turns=3\n", shown)
    assert not is_printed("2031-01-01T00:00:00.000Z [info] closed\nid=7 duration=12.25 turns=2\n", shown)
    assert not is_printed("closed (id=7)\n", "closed .id=7.\n")


def test_there_are_programs_and_tests_to_run() -> None:
    assert len(PROGRAMS) >= 4
    assert len(TESTS) >= 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name} links to {path}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in anchors, f"{page.name} links to {path}#{anchor}; there are {sorted(anchors)}"


def test_the_readme_shows_the_first_example() -> None:
    example = (ROOT / "examples" / "first_tool.py").read_text(encoding="utf-8")
    assert f"```python\n{example}```" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_reference_names_everything_public() -> None:
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    missing = [name for name in maa.__all__ if f"`{name}" not in reference]
    assert missing == []
