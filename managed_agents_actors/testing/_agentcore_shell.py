"""The shell of a simulated microVM: a few commands and one redirection. What else a shell would act on, it refuses.

It never guesses: a command that it cannot play whole fails and says so, rather than to give what no shell would give.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TypeAlias

import trio

__all__ = ["Outcome", "run_in_shell"]

# What a command wrote to stdout and to stderr, and its exit code.
Outcome: TypeAlias = tuple[str, str, int]

# What a shell takes literally; of double quotes, only those in which nothing is expanded.
QUOTED = re.compile(r"""'[^']*' | "(?:\\["\\]|[^"\\$`])*" | \\[^\n]""", re.VERBOSE)
# Words without anything that a shell acts on, and perhaps a file for their output.
LINE = re.compile(r"""([^;&|<>()$`\n*?\[~#'"\\]*) (?: (?<![0-9])>[ \t]*([^;&|<>()$`\s*?\[~#'"\\]+) )?""", re.VERBOSE)
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}
DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)([smhd]?)")
EXIT_CODE = re.compile(r"[+-]?[0-9]{1,18}")
EXIT_CODES = 256
UNPLAYABLE = (
    "sh: the simulator's shell knows one command at a time, `> file` at its end, and no other operator, expansion or "
    "open quote; give the simulator commands= for more\n"
)


async def run_in_shell(command: str, files: dict[str, str]) -> Outcome:
    """Run a command line: ``echo [-n] words``, ``cat files``, ``sleep N``, ``exit N``, ``true``, ``false``; ``> file``.

    Args:
        command: The line.
        files: The files there are, by path.
    """
    await trio.lowlevel.checkpoint()
    line = command.strip()
    parts = LINE.fullmatch(QUOTED.sub(lambda quoted: "q" * len(quoted[0]), line))
    if parts is None:
        return "", UNPLAYABLE, 2
    stdout, stderr, exit_code = await _run(shlex.split(line[: parts.end(1)]), files)
    if parts[2] is not None:
        (path,) = shlex.split(line[parts.start(2) : parts.end(2)])
        files[path], stdout = stdout, ""
    return stdout, stderr, exit_code


async def _run(words: Sequence[str], files: dict[str, str]) -> Outcome:
    match words:
        case [] | ["true", *_]:
            return "", "", 0
        case ["false", *_]:
            return "", "", 1
        case ["echo", "-n", *said]:
            return " ".join(said), "", 0
        case ["echo", *said]:
            return " ".join(said) + "\n", "", 0
        case ["cat", *paths]:
            missing = [f"cat: {path}: No such file or directory\n" for path in paths if path not in files]
            return "".join(files.get(path, "") for path in paths), "".join(missing), min(len(missing), 1)
        case ["sleep", *times]:
            return await _sleep(times)
        case ["exit", *codes]:
            return _exit(codes)
    return "", f"sh: {words[0]}: command not found\n", 127


async def _sleep(times: Sequence[str]) -> Outcome:
    durations = [DURATION.fullmatch(time) for time in times]
    if not durations:
        return "", "sleep: missing operand\n", 1
    if None in durations:
        return "", f"sleep: invalid time interval: {' '.join(times)}\n", 1
    await trio.sleep(sum(float(found[1]) * SECONDS[found[2]] for found in durations if found is not None))
    return "", "", 0


def _exit(codes: Sequence[str]) -> Outcome:
    if len(codes) > 1:
        return "", "sh: exit: too many arguments\n", 1
    code = codes[0] if codes else "0"
    if not EXIT_CODE.fullmatch(code):
        return "", f"sh: exit: {code}: numeric argument required\n", 2
    return "", "", int(code) % EXIT_CODES
