"""Draws a trace as a picture, from what OpenTelemetry's console exporter has printed of it.

    python examples/observability.py --simulate | python docs/figures/trace.py > docs/how_to/trace.svg

Of several traces the one with the most spans is drawn: a row for each, in the order in which they began, each below the
one that it is in. In the file, too, the group of a span holds the groups of those that are in it.
"""
# ruff: noqa: INP001 -- a script, which is part of no package

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import Any, Final

# What the exporter prints: indented, so that only the outermost braces are at the beginning of a line.
OBJECT: Final = re.compile(r"^\{$.*?^\}$", re.MULTILINE | re.DOTALL)

LEFT, RIGHT, MARGIN = 326, 620, 22  # the widths of the names and of the bars, and what is around both
TOP, ROW, BAR = 66, 27, 12  # the heights of the axis, of a row, and of the bar in it
WIDTH: Final = MARGIN + LEFT + RIGHT + MARGIN
INDENT: Final = 17
OUTER: Final = 2  # levels whose names are set off

# What is filled and what is drawn with a line, by its class: in a light place, and in a dark one.
FILLS: Final = {
    "paper": ("#ffffff", "#12161d"),
    "ink": ("#1f2733", "#e4e9f0"),
    "dim": ("#667183", "#8d98a8"),
    "lost": ("#cf3a33", "#f0716a"),
    "application": ("#7d8896", "#8f9bab"),
    "agent": ("#6554c8", "#8f80f2"),
    "turn": ("#a296ea", "#6558bd"),
    "tool": ("#12906f", "#2bb48d"),
    "own": ("#62c0a2", "#1f8568"),
    "http": ("#3f83d6", "#5c9ff0"),
}
LINES: Final = {
    "paper": ("#d8dee6", "#2c343f"),
    "grid": ("#e6eaf0", "#232a34"),
    "tree": ("#c3cbd6", "#3d4754"),
    "edge": ("#e6a19d", "#7d403e"),
}
STYLE: Final = """
text { font: 12.5px ui-sans-serif, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif }
.small { font-size: 11px } .outer { font-weight: 600 } .tree { fill: none } .gap { fill-opacity: .1 }
"""


def _style() -> str:
    light, dark = (
        "\n".join(
            f".{name} {{ {what}: {colours[mode]} }}"
            for what, table in (("fill", FILLS), ("stroke", LINES))
            for name, colours in table.items()
        )
        for mode in (0, 1)
    )
    return f"{light}{STYLE}@media (prefers-color-scheme: dark) {{\n{dark}\n}}"


@dataclass(frozen=True)
class Span:
    """A span, with those that are in it. Times are in milliseconds since the trace began."""

    name: str
    kind: str
    detail: str
    began: float
    ended: float
    events: tuple[tuple[str, float, Mapping[str, Any]], ...]
    inner: tuple[Span, ...]

    def __iter__(self) -> Iterator[Span]:
        """Itself and all that are in it, as they are drawn."""
        yield self
        for span in self.inner:
            yield from span


def read_trace(printed: str) -> Span:
    """Read the largest trace of what was printed."""
    spans = [each for each in map(json.loads, OBJECT.findall(printed)) if "context" in each]
    ((largest, _),) = Counter(each["context"]["trace_id"] for each in spans).most_common(1)
    trace = sorted(
        (each for each in spans if each["context"]["trace_id"] == largest), key=lambda each: each["start_time"]
    )

    def at(time: str) -> float:
        return (_seconds(time) - _seconds(trace[0]["start_time"])) * 1000

    def span(told: Mapping[str, Any]) -> Span:
        return Span(
            name=told["name"],
            kind=_kind(told),
            detail=_path(told["attributes"].get("url.full", "")),
            began=at(told["start_time"]),
            ended=at(told["end_time"]),
            events=tuple((each["name"], at(each["timestamp"]), each["attributes"]) for each in told["events"]),
            inner=tuple(span(each) for each in trace if each["parent_id"] == told["context"]["span_id"]),
        )

    return span(trace[0])


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()


def _kind(told: Mapping[str, Any]) -> str:
    """What a span is of, which is the name of its colour."""
    attributes = told["attributes"]
    operation = {"invoke_agent": "agent", "execute_tool": "tool"}.get(attributes.get("gen_ai.operation.name", ""))
    if operation is not None:
        return operation
    if "http.request.method" in attributes:
        return "http"
    if told["name"] == "turn":
        return "turn"
    return "own" if "gen_ai.conversation.id" in attributes else "application"


def _path(url: str) -> str:
    """The path of an address, without ids and what is before them."""
    return re.sub(r"^.*/\w+_\w+(?=/)|^\w+://[^/]+", lambda found: "…" if "_" in found[0] else "", url)


def draw(trace: Span) -> str:
    """Draw a trace as SVG."""
    rows = {id(span): row for row, span in enumerate(trace)}
    height = TOP + len(rows) * ROW + MARGIN
    scale = (RIGHT - 46) / trace.ended  # room for the duration behind the longest bar
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        ' role="img" aria-label="The spans of a session, as a waterfall">'
    )
    parts = [
        head,
        f"<style>\n{_style()}\n</style>",
        f'<rect class="paper" x=".5" y=".5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>',
        *_axis(trace.ended, scale, height),
        *_gaps(trace, scale, height),
        *_group(trace, rows, scale, depth=0),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(milliseconds: float, scale: float) -> float:
    return round(MARGIN + LEFT + milliseconds * scale, 1)


def _axis(end: float, scale: float, height: int) -> Iterator[str]:
    """Lines at round times, some six of them."""
    steps = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
    step = next(each for each in steps if end / each <= 7)
    for time in range(0, int(end) + 1, step):
        x = _x(time, scale)
        yield f'<line class="grid" x1="{x}" y1="{TOP - 12}" x2="{x}" y2="{height - MARGIN + 6}"/>'
        yield f'<text class="dim small" x="{x}" y="{TOP - 20}" text-anchor="middle">{time} ms</text>'


def _gaps(trace: Span, scale: float, height: int) -> Iterator[str]:
    """The times without a stream, through all rows: what goes on meanwhile is seen to go on."""
    for span in trace:
        for name, began, attributes in span.events:
            if name == "managed_agents.stream.reconnecting":
                x, width = _x(began, scale), round(attributes["managed_agents.stream.delay"] * 1000 * scale, 1)
                top, bottom = TOP - 12, height - MARGIN + 6
                yield f'<rect class="lost gap" x="{x}" y="{top}" width="{width}" height="{bottom - top}"/>'
                for edge in (x, x + width):
                    yield f'<line class="edge" x1="{edge}" y1="{top}" x2="{edge}" y2="{bottom}"/>'
                middle = x + width / 2
                yield f'<text class="lost small" x="{middle}" y="{top - 24}" text-anchor="middle">no stream</text>'


def _group(span: Span, rows: Mapping[int, int], scale: float, *, depth: int) -> Iterator[str]:
    """A span's row, and within its group the rows of those that are in it."""
    top = TOP + rows[id(span)] * ROW
    middle, x = top + ROW / 2, MARGIN + depth * INDENT
    duration = span.ended - span.began
    start, width = _x(span.began, scale), max(round(duration * scale, 1), 3)
    weight = " outer" if depth < OUTER else ""
    detail = f' <tspan class="dim">{escape(span.detail)}</tspan>' if span.detail else ""
    yield f'<g class="span">\n<title>{escape(span.name)}</title>'
    yield f'<text class="ink{weight}" x="{x}" y="{middle + 4}">{escape(span.name)}{detail}</text>'
    yield (
        f'<rect class="{span.kind}" x="{start}" y="{middle - BAR / 2}" width="{width}" height="{BAR}"'
        f' rx="{min(3, width / 2)}"/>'
    )
    yield f'<text class="dim small" x="{start + width + 6}" y="{middle + 4}">{duration:.0f} ms</text>'
    for each in span.inner:
        branch = TOP + rows[id(each)] * ROW + ROW / 2
        stem = f"M{x + 5} {middle + 9}V{branch}" if each is span.inner[-1] else f"M{x + 5} {branch}"
        yield f'<path class="tree" d="{stem}H{x + INDENT - 4}"/>'
        yield from _group(each, rows, scale, depth=depth + 1)
    yield "</g>"


if __name__ == "__main__":
    sys.stdout.write(draw(read_trace(sys.stdin.read())))
