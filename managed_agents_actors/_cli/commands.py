"""The command line: what can be asked for, and the exit status of each answer. What a command does is elsewhere.

Nothing is imported before it is known that it is needed: help and mistakes are told at once.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import metadata
from typing import TYPE_CHECKING, Final, TextIO

import trio

from .._errors import ConfigurationError, ManagedAgentsError
from .words import WIDTH, printable

if TYPE_CHECKING:
    from .demo import Scenario

# By convention 128 and the signal.
INTERRUPTED: Final = 128 + signal.SIGINT
TERMINATED: Final = 128 + signal.SIGTERM

EPILOG = """\
exit status:
  0    done; of the demonstration: it gave the right result; of tail: the session is over, or all was shown
  1    the provider or the store refused, the demonstration went wrong, or the output cannot be written; the last
       lines say why
  2    the command line or a file is wrong; nothing was sent
  130  interrupted; what was being made was taken back; 143 if by SIGTERM

environment:
  NO_COLOR  set to anything but the empty string, it turns colours off; they are only ever used on a terminal
  MANAGED_AGENTS_STORE  where the store is, without --store; else it is in $XDG_STATE_HOME/managed-agents
  ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL, AWS_REGION and what else the AWS SDKs read: as for the library
"""

DEMO = """\
A simulated provider, an HTTP server on this machine, runs an agent that calls two tools; the tools run in this
process, in parallel. One has finished and one still runs when the server resets the connection of the event stream.
The session reconnects, reads what it missed and finishes; then all of it is checked against the server's own records.

Nothing leaves this machine, and no credentials are needed.
"""

ENSURE = """\
The file holds one agent, or one environment, as YAML or JSON, under the names that AgentSpec and EnvironmentSpec have.
An agent's file may also have "environment", which a harness gets, and "execution_role_arn". What the file describes is
made at the provider if it is not there, is named <base>_<digest> by its content, and is remembered in the store.
"""

TAIL = """\
The last events of a session of Claude Managed Agents, and then those that come, until the session is terminated or
deleted. Each is shown once, in the order of the session's log: when the stream is lost, it is opened again, and what
was missed is read. Nothing is sent to the session: whoever drives it notices nothing. Times are the events' own, UTC.
"""

# The command and what it is about.
KINDS: Final = {"agents": "agent", "environments": "environment", "harnesses": "harness"}


def main(arguments: Sequence[str] | None = None, *, scenario: Scenario | None = None) -> int:
    """Run the command and give its exit status.

    Args:
        arguments: The command line without the program's name; default: that of this process.
        scenario: What the demonstration plays, in place of its own.

    Raises:
        SystemExit: The command line asks for help or the version (status 0), or is wrong (status 2).
    """
    options = _parser().parse_args(arguments)
    if sys.stdout is None:  # it was closed before this process began
        _tell("there is no standard output to print to; nothing was done")
        return 1
    with _terminable() as was_terminated:
        try:
            if options.command == "demo":
                return _demo(scenario, sys.stdout, as_json=options.json)
            if options.command == "tail":
                return _tail(options, sys.stdout)
            return _provision(options)
        except OSError as error:
            return _cannot_print(error)
        except (KeyboardInterrupt, BaseExceptionGroup) as error:
            if isinstance(error, BaseExceptionGroup) and error.split(KeyboardInterrupt)[1] is not None:
                raise
            return _interrupted(options, error, TERMINATED if was_terminated() else INTERRUPTED)


@contextmanager
def _terminable() -> Iterator[Callable[[], bool]]:
    """A context in which a request to terminate is an interrupt; gives what tells if there was one.

    A process that is not to be interrupted, such as one that a shell began in the background, ends as ever.
    """
    asked = threading.Event()

    def interrupt(_number: int, _frame: object) -> None:
        asked.set()
        signal.raise_signal(signal.SIGINT)

    # Only the main thread may say what becomes of signals.
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupted(options: argparse.Namespace, error: BaseException, status: int) -> int:
    notes = list(_notes(error))
    for note in notes:
        _tell(note)
    if options.command in KINDS and options.json:
        from .answers import failure, render

        told = KeyboardInterrupt(
            "interrupted; what was being made was taken back, unless that was interrupted, too, or notes say otherwise"
        )
        try:
            _print(render(failure(options.verb, options.kind, told, notes), as_json=True))
        except OSError as unwritable:
            _cannot_print(unwritable)
    return status


def _cannot_print(error: OSError) -> int:
    """Say so, unless the reader has gone; and keep Python from complaining once more when it flushes at exit."""
    if not isinstance(error, BrokenPipeError):
        _tell(f"what is to be printed cannot be written: {error.strerror or error}")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1


def _demo(scenario: Scenario | None, out: TextIO, *, as_json: bool) -> int:
    from .account import JsonAccount, TextAccount
    from .demo import SCENARIO, demonstrate

    show = JsonAccount(out) if as_json else TextAccount(out, colour=wants_colour(out, os.environ))
    problems = trio.run(demonstrate, scenario or SCENARIO, show)
    out.flush()
    return 1 if problems else 0


def wants_colour(out: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether to use colours: only for people at a terminal who have not said no. Source: no-color.org."""
    return out.isatty() and not environment.get("NO_COLOR") and environment.get("TERM") != "dumb"


def _tail(options: argparse.Namespace, out: TextIO) -> int:
    from .event_lines import TextLines, json_line
    from .tail import read_tail, run_tail

    def columns() -> int:
        return shutil.get_terminal_size().columns if out.isatty() else WIDTH

    line = json_line if options.json else TextLines(colour=wants_colour(out, os.environ), width=columns)
    try:
        tail = read_tail(options, _tell)
        trio.run(partial(run_tail, tail, lambda event: _print(line(event)), _tell, out, base_url=options.base_url))
    except ManagedAgentsError as error:
        return _failed(error)
    return 0


def _failed(error: ManagedAgentsError) -> int:
    for line in (str(error), *_notes(error)):
        _tell(line)
    return 2 if isinstance(error, ConfigurationError) else 1


def _provision(options: argparse.Namespace) -> int:
    from .answers import failure, render
    from .provisioning import perform, read_build
    from .store_file import store_path

    status = 0
    try:
        build = read_build(options, _tell) if options.verb == "ensure" else None
        store = store_path(options.store, os.environ)
        # At checkpoints only: what has just been made must be known as that, so that it can be taken back.
        answer = trio.run(perform, options, build, store, _tell, restrict_keyboard_interrupt_to_checkpoints=True)
    except ManagedAgentsError as error:
        answer = failure(options.verb, options.kind, error, _notes(error))
        status = _failed(error)
    _print(render(answer, as_json=options.json))
    return status


def _print(text: str) -> None:
    # A terminal that has no letter for a part of it shows the letter's number.
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()


def _tell(line: str) -> None:
    if sys.stderr is not None:
        with suppress(OSError):  # there is nowhere else to say it
            print(f"managed-agents: {printable(line)}", file=sys.stderr, flush=True)


def _notes(error: BaseException) -> Iterator[str]:
    yield from getattr(error, "__notes__", ())
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _notes(inner)


# --- the parser -------------------------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="managed-agents",
        description="Managed agents as supervised actors: the provider runs the loop, your tools run here.",
        epilog=EPILOG,
        formatter_class=raw,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {metadata.version('managed-agents-actors')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)
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
    _add_tail(commands)
    for command, kind in KINDS.items():
        of = "AWS Bedrock AgentCore" if kind == "harness" else "Claude Managed Agents"
        told = f"build, list, tag, find and prune {command} of {of}"
        verbs = commands.add_parser(command, help=told, description=_sentence(told)).add_subparsers(
            title="commands", metavar="COMMAND", dest="verb", required=True
        )
        for verb in ("ensure", "list", "tag", "resolve", "prune"):
            _add_verb(verbs, verb, kind)
    return parser


def _add_tail(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "tail",
        help="follow a session's events",
        description=TAIL,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("session_id", metavar="SESSION_ID", help="the session")
    told = "begin with the last N events that are there already, or with all of them (default: 10)"
    add("-n", "--lines", metavar="N|all", type=_count, default=10, help=told)
    add("--no-follow", action="store_true", help="show what is there already, and wait for nothing")
    add("--types", metavar="TYPES", help="show these types of events only, such as user.message,agent.*")
    add("--deltas", action="store_true", help="show messages while they are being written, too, whatever their type")
    add("--json", action="store_true", help="print the events as they came, one JSON object per line")
    add("--base-url", metavar="URL", help="where the API is, in place of ANTHROPIC_BASE_URL")
    told = "whose session it is, if its id does not tell; the sessions of bedrock_agent_core cannot be followed"
    add("--provider", choices=("claude_managed_agents", "bedrock_agent_core"), help=told)


def _count(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"must be a whole number from 0, or all, not {text!r}")
    return min(int(text), sys.maxsize)


def _add_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser], verb: str, kind: str) -> None:
    told = {
        "ensure": f"build the {kind} of a file, unless it is there",
        "list": "list the versions of a base, the newest first",
        "tag": "let BASE:TAG mean a version from now on; nothing is sent",
        "resolve": "show the version that BASE:TAG means; nothing is sent",
        "prune": f"{'delete' if kind == 'harness' else 'archive'} the versions that are old, untagged and not in use",
    }[verb]
    parser = verbs.add_parser(
        verb,
        help=told,
        description=ENSURE if verb == "ensure" else _sentence(told),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(kind=kind)
    add = parser.add_argument
    match verb:
        case "ensure":
            add("file", metavar="FILE", help="the file, whose name ends in .yaml, .yml or .json")
            add("--name", metavar="BASE", help="what it is called, in place of the name in the file")
            told = "look if what the store remembers is still there, and build it again if it is not"
            add("--verify", action="store_true", help=told)
            if kind != "environment":
                told = "tell the agent how to install the runtimes that the file's environment declares"
                add("--with-runtimes", action="store_true", help=told)
            if kind == "harness":
                told = "the longest that all of it may take (default: 365)"
                add("--timeout", metavar="SECONDS", type=float, help=told)
        case "tag":
            add("base", metavar="BASE", help="what the version is called, without its digest")
            add("tag", metavar="TAG", help="the tag")
            add("digest", metavar="DIGEST", help="the digest in the version's name, which the store must know")
        case "resolve":
            add("reference", metavar="BASE:TAG", help="the tag")
        case _:
            add("base", metavar="BASE", help="what they are called, without the digest")
    if verb == "prune":
        add("--keep", metavar="N", type=int, required=True, help="how many of the newest to keep")
    if verb in ("ensure", "prune"):
        add("--dry-run", action="store_true", help="change nothing; say what would be done")
    _add_place(parser, verb, kind)


def _sentence(told: str) -> str:
    return f"{told[0].upper()}{told[1:]}."


def _add_place(parser: argparse.ArgumentParser, verb: str, kind: str) -> None:
    """Where things are: at the provider, and in the store."""
    add = parser.add_argument
    if kind == "harness":
        if verb in ("ensure", "tag", "resolve"):
            told = "the role the harness runs as" if verb == "ensure" else "a role of the account that the tag is of"
            add("--execution-role-arn", metavar="ARN", required=verb != "ensure", help=told)
        add("--region", help="the region, in place of AWS_REGION")
        add("--endpoint-url", metavar="URL", help="where the service is, in place of its host in the region")
    else:
        add("--base-url", metavar="URL", help="where the API is, in place of ANTHROPIC_BASE_URL")
        told = "a name for the account in the store, so that tags outlive the API key"
        add("--account", metavar="NAME", help=told)
    add("--store", metavar="PATH", help="the file that remembers what was made, and the tags")
    add("--json", action="store_true", help="print one JSON object")
