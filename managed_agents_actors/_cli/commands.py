"""The command line: what can be asked for, and the exit status of each answer. What a command does is elsewhere."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import TextIO

import trio

from .account import JsonAccount, TextAccount
from .demo import SCENARIO, Scenario, demonstrate

EPILOG = """\
exit status:
  0  the demonstration gave the right result
  1  it did not; the last lines say what was wrong
  2  the command line could not be understood

environment:
  NO_COLOR  set to anything but the empty string, it turns colours off; they are only ever used on a terminal
"""

DEMO = """\
A simulated provider, an HTTP server on this machine, runs an agent that calls two tools; the tools run in this
process, in parallel. One has finished and one still runs when the server resets the connection of the event stream.
The session reconnects, reads what it missed and finishes; then all of it is checked against the server's own records.

Nothing leaves this machine, and no credentials are needed.
"""


def main(arguments: Sequence[str] | None = None, *, scenario: Scenario = SCENARIO) -> int:
    """Run the command and give its exit status.

    Args:
        arguments: The command line without the program's name; default: that of this process.
        scenario: What the demonstration plays.

    Raises:
        SystemExit: The command line asks for help or the version (status 0), or is wrong (status 2).
    """
    options = _parser().parse_args(arguments)
    try:
        return _demo(scenario, sys.stdout, as_json=options.json)
    except KeyboardInterrupt:
        return 130  # by convention: 128 + SIGINT
    except BrokenPipeError:
        # The reader has gone; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _demo(scenario: Scenario, out: TextIO, *, as_json: bool) -> int:
    show = JsonAccount(out) if as_json else TextAccount(out, colour=wants_colour(out, os.environ))
    problems = trio.run(demonstrate, scenario, show)
    out.flush()
    return 1 if problems else 0


def wants_colour(out: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to use colours: only for people at a terminal who have not said no. Source: no-color.org."""
    return out.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="managed-agents",
        description="Managed agents as supervised actors: the provider runs the loop, your tools run here.",
        epilog=EPILOG,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {metadata.version('managed-agents-actors')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    demo = commands.add_parser(
        "demo",
        help="see a session lose its stream and finish all the same",
        description=DEMO,
        epilog=EPILOG,
        formatter_class=raw,
    )
    demo.add_argument(
        "--json", action="store_true", help='print one JSON object per line, each with a "type" and a time "at"'
    )
    return parser
