"""What every benchmark has: a server in a process of its own, rows measured in turns, and their table.

A row is measured in a fresh process each time, so that none inherits another's memory or imports. A ratio is the median
of those within one turn, because a machine is busier in some turns than in others; only ratios within one table mean
anything.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import resource
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

# What one run of a row has measured, by unit; the first is the one that matters most.
Figures = Mapping[str, float]

HERE: Final = Path(__file__).parent
PATIENCE: Final = 600.0  # seconds that one run of a row may take
SHORT_PATIENCE: Final = 60.0


# --- the server -------------------------------------------------------------------------------------------------------


class Clock:
    """Takes the time and this process's processor time, from when it is made."""

    def __init__(self) -> None:
        self._began, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Give the seconds and the seconds of processor time since then."""
        return time.perf_counter() - self._began, time.process_time() - self._cpu


@dataclass(frozen=True, slots=True)
class Server:
    """A server process that runs."""

    url: str

    def control(self, what: str = "", **query: int) -> dict[str, Any]:
        """Have the server do something, and give what it has seen since the last time."""
        fields = "&".join(f"{name}={value}" for name, value in query.items())
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{self.url}/control/{what}?{fields}") as response:
            seen: dict[str, Any] = json.load(response)
        return seen

    def reset(self) -> None:
        """Have the server forget its sessions, so that no run finds those of another."""
        self.control("reset")


@contextmanager
def serving(script: str = "claude_server.py", **arguments: int | bool) -> Iterator[Server]:
    """Run a server's script for as long as the block lasts.

    Args:
        script: Its name.
        **arguments: Its options; those that are ``False`` are left out.
    """
    command = [sys.executable, str(HERE / script)]
    for name, value in arguments.items():
        if value is not False:
            command += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError(f"the server did not start: {' '.join(command)}")
            yield Server(url)
        finally:
            process.kill()


# --- tables -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What a figure must come to.

    Attributes:
        row: The row it is about.
        unit: The figure.
        base: The row that it is compared to; without one the figure itself is meant.
        least: The least that it may be.
        most: The most that it may be.
    """

    row: str
    unit: str
    base: str | None = None
    least: float | None = None
    most: float | None = None

    def holds(self, found: float) -> bool:
        """Whether what was found is within the limit."""
        return (self.least is None or found >= self.least) and (self.most is None or found <= self.most)

    def __str__(self) -> str:
        bound = f"at least {self.least:.3g}" if self.least is not None else f"at most {self.most:.3g}"
        return f"{self.row}: {self.unit}, {bound}" + (f" x {self.base}" if self.base else "")


@dataclass(slots=True)
class Table:
    """What was measured of each row.

    Attributes:
        title: What it is about.
        bases: The rows that the others are compared to.
        runs: By row, the figures of each turn; ``None`` where it did not come through.
        limits: What figures must come to.
    """

    title: str
    bases: Sequence[str]
    runs: dict[str, list[Figures | None]]
    limits: Sequence[Limit] = field(default=())

    def values(self, row: str, unit: str) -> list[float]:
        """Give a figure of every run that has it."""
        return [run[unit] for run in self.runs[row] if run is not None and unit in run]

    def ratio(self, row: str, unit: str, base: str) -> float | None:
        """Give how many times the base's figure a row's is: the median of the turns in which both came through."""
        ratios = [
            run[unit] / of_base[unit]
            for run, of_base in zip(self.runs[row], self.runs[base], strict=False)
            if run is not None and of_base is not None and unit in run and of_base.get(unit)
        ]
        return statistics.median(ratios) if ratios else None

    def found(self, limit: Limit) -> float | None:
        """Give what a limit is about."""
        if limit.base is not None:
            return self.ratio(limit.row, limit.unit, limit.base)
        values = self.values(limit.row, limit.unit)
        return statistics.median(values) if values else None

    def as_json(self) -> str:
        """Give everything on one line."""
        rows = {row: {unit: self._figure(row, unit) for unit in self._units([row])} for row in self.runs}
        limits = [
            {"limit": str(limit), "found": found, "holds": None if found is None else limit.holds(found)}
            for limit in self.limits
            for found in [self.found(limit)]
        ]
        return json.dumps({"title": self.title, "rows": rows, "limits": limits})

    def _figure(self, row: str, unit: str) -> dict[str, Any]:
        values = self.values(row, unit)
        return {
            "median": statistics.median(values),
            "lowest": min(values),
            "highest": max(values),
            "runs": len(values),
            "ratio": {base: self.ratio(row, unit, base) for base in self.bases},
        }

    def as_text(self) -> str:
        """Give a table to read: of each figure the median, the lowest and the highest run, and ratios.

        The first figure is compared to every base, the others to the first one.
        """
        units = self._units(self.runs)
        lines = [["", *(head for at, unit in enumerate(units) for head in (unit, *self._compared(at)))]]
        lines += [
            [row, *(cell for at, unit in enumerate(units) for cell in self._cells(row, at, unit))] for row in self.runs
        ]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = ["", self.title, "-" * len(self.title)]
        for name, *cells in lines:
            text.append("  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip())
        for row, runs in self.runs.items():
            if missing := runs.count(None):
                text.append(f"! {row}: {missing} of {len(runs)} runs did not come through")
        for limit in self.limits:
            found = self.found(limit)
            verdict = (
                "not measured" if found is None else f"{_short(found)}: {'holds' if limit.holds(found) else 'MISSES'}"
            )
            text.append(f"* {limit}: {verdict}")
        return "\n".join(text)

    def _units(self, rows: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(unit for row in rows for run in self.runs[row] if run is not None for unit in run))

    def _compared(self, at: int) -> list[str]:
        return [f"x {base}" for base in (self.bases if at == 0 else self.bases[:1])]

    def _cells(self, row: str, at: int, unit: str) -> list[str]:
        values = self.values(row, unit)
        bases = self.bases if at == 0 else self.bases[:1]
        if not values:
            return [""] * (1 + len(bases))
        ratios = [self.ratio(row, unit, base) for base in bases]
        spread = f"({_short(min(values))}-{_short(max(values))})"
        cell = f"{_short(statistics.median(values))} {spread:>15}"
        return [cell, *("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)]


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


# --- rows -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much is measured.

    Attributes:
        repeats: How many turns a table has.
        short: Whether to measure the smaller sizes only.
    """

    repeats: int
    short: bool


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A script whose rows are functions, each of which measures once, in a process that is its own.

    Attributes:
        script: The script's path.
        rows: The functions that :meth:`measure` may be given.
    """

    script: str
    rows: Sequence[Callable[..., Figures]] = ()

    def measure(
        self,
        title: str,
        calls: Mapping[str, functools.partial[Figures]],
        options: Options,
        *,
        bases: Sequence[str],
        limits: Sequence[Limit] = (),
        prepare: Callable[[], object] = lambda: None,
    ) -> Table:
        """Measure rows in turns.

        Args:
            title: The table's.
            calls: By row, one of the functions with what it is called with: numbers and text.
            options: How often.
            bases: The rows to compare with.
            limits: What figures must come to.
            prepare: Called before each run.
        """
        table = Table(title, bases, {row: [] for row in calls}, limits)
        for _ in range(options.repeats):
            for row, call in calls.items():
                prepare()
                table.runs[row].append(self._run(row, call, SHORT_PATIENCE if options.short else PATIENCE))
        return table

    def _run(self, row: str, call: functools.partial[Figures], patience: float) -> Figures | None:
        command = [sys.executable, self.script, "--row", call.func.__name__, json.dumps(call.args)]
        environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, timeout=patience, check=True, env=environment
            )
        except subprocess.TimeoutExpired:
            print(f"{row}: not done after {patience:g} s", file=sys.stderr)
            return None
        except subprocess.CalledProcessError as error:
            print(f"{row}: failed with exit code {error.returncode}", file=sys.stderr)
            return None
        figures: Figures = json.loads(done.stdout.splitlines()[-1])
        return figures

    def main(self, tables: Callable[[Options], Iterator[Table]], about: str | None) -> None:
        """Run the script: print its tables, or, for its own use, one run of a row."""
        parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--json", action="store_true", help="print a JSON object per table, each on its line")
        parser.add_argument("--short", action="store_true", help="the smaller sizes, and fewer turns")
        parser.add_argument("--repeats", type=int, help="turns per table (default: 5, or 3 with --short)")
        parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
        given = parser.parse_args()
        _allow_many_sockets()
        if given.row:
            name, words = given.row
            [run] = [row for row in self.rows if row.__name__ == name]
            print(json.dumps(run(*json.loads(words))))
            return
        options = Options(repeats=given.repeats or (3 if given.short else 5), short=given.short)
        for table in tables(options):
            print(table.as_json() if given.json else table.as_text(), flush=True)


def _allow_many_sockets() -> None:
    """Raise this process's limit of open files, and that of those it starts, as far as it may."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
