"""The account of a demonstration, for people and for programs: each note is one line, or one JSON object.

Accounts only render; they decide nothing and check nothing. Lines are plain ASCII, so that every terminal shows them.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final, TextIO, TypeAlias

from .words import BOLD, CYAN, DIM, GREEN, RED, WIDTH, YELLOW, called, painted, said, tokens

Note: TypeAlias = Mapping[str, Any]

INDENT: Final = " " * 18

COLOURS: Final = {
    "you": BOLD,
    "agent": CYAN,
    "tool": GREEN,
    "stream": YELLOW,
    "actor": YELLOW,
    "passed": GREEN,
    "FAILED": RED,
}


class JsonAccount:
    """One JSON object per line."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def __call__(self, note: Note) -> None:
        """Print a note."""
        print(json.dumps(note), file=self._out, flush=True)


class TextAccount:
    """One line per thing said or done: when, who, what. Events that say nothing to a reader are left out."""

    def __init__(self, out: TextIO, *, colour: bool) -> None:
        self._out = out
        self._colour = colour
        print(f"\n{self._paint('   time  who       what', DIM)}", file=out)

    def __call__(self, note: Note) -> None:
        """Print a note."""
        for who, what in _lines(note):
            first, *rest = textwrap.wrap(what, WIDTH - len(INDENT)) or [""]
            time = self._paint(f"{note['at']:7.3f}", DIM)
            print(f"{time}  {self._paint(f'{who:<8}', COLOURS.get(who, ''))}  {first}", file=self._out)
            for line in rest:
                print(f"{INDENT} {line}", file=self._out)
        self._out.flush()

    def _paint(self, text: str, colour: str) -> str:
        return painted(text, colour) if self._colour else text


def _lines(note: Note) -> Iterator[tuple[str, str]]:
    match note["type"]:
        case "event":
            yield from _event_lines(note["event"])
        case "tool" if note["phase"] == "started":
            yield "tool", f"{note['name']} starts"
        case "tool":
            yield "tool", f"{note['name']} ran for {note['seconds']:.2f} s: {note['text']}"
        case "drop":
            running = ", ".join(note["tools_running"]) or "no tool"
            yield "stream", f"LOST: the server reset the connection (running: {running})"
        case "reconnected":
            missed = ", ".join(note["recovered"]) or "nothing"
            yield "stream", f"BACK after {note['seconds']:.2f} s; read from the history: {missed}"
        case "crash":
            yield "actor", f"CRASHED: {note['error']}"
        case "restarted":
            yield "actor", "RESTARTED by its supervisor, onto the same session"
        case "result":
            yield from _result_lines(note)


def _event_lines(event: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    match event["type"]:
        case "user.message":
            yield "you", said(event["content"])
        case "agent.message":
            yield "agent", said(event["content"])
        case "agent.custom_tool_use":
            yield "agent", f"calls {called(event['name'], event['input'])}"
        case "user.custom_tool_result":
            yield "session", f"result taken by the server: {said(event['content'])}"


def _result_lines(note: Note) -> Iterator[tuple[str, str]]:
    yield "result", f"{note['terminal']} after {note['turns']} turns, {tokens(note['usage'])}"
    for problem in note["problems"]:
        yield "FAILED", problem
    if not note["problems"]:
        checked = f"each tool ran once, each result was sent once, and all {note['events']} events arrived once"
        yield "passed", f"the stream was lost, the actor crashed, and yet {checked}, in order"
