"""A simulated machine's commands, run for real: a shell on the machine that runs the tests.

What a command may do, it does here, with the rights of whoever runs the tests. Nothing but its working directory and
its environment is another.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

import trio
from trio.testing import MockClock

from ._agentcore_commands import Outcome
from ._given import refuse_given

if TYPE_CHECKING:
    from trio.lowlevel import FdStream

__all__ = ["local_shell"]

SHELL = "/bin/sh"
# Of each of a command's outputs: what a response of the service may have in all. The rest is dropped.
MAX_OUTPUT_BYTES = 100_000_000
# What a pipe can still hold when its command has ended: Linux lets nobody but root have a larger one.
MAX_PIPE_BYTES = 1 << 20


def local_shell(root: str | os.PathLike[str]) -> Callable[[str], Awaitable[Outcome]]:
    """Commands that a real shell runs: ``open_agentcore_simulator(..., commands=local_shell(tmp_path))``.

    Each command is executed on this machine, by ``/bin/sh``, and is not confined: give it only commands you would run
    yourself. It starts in ``root``, which is also its ``HOME``; of the environment it gets ``PATH`` alone, with the
    running Python in front. All sessions of the simulator share the directory, and its files outlive them. A path that
    a command names is a path here: a store of artifacts needs a ``base_path`` below ``root``.

    A command has ended when its shell has, whatever that has left running and writing. Then, or when its time is up or
    its session is stopped, its process group is killed, with all that it has started but what has left the group.

    A virtual clock stands still while a command runs: no timeout fires meanwhile, that of the command neither. Bound a
    command that might not end by itself, as ``timeout 5 make`` does, in real seconds.

    Args:
        root: A directory that exists.

    Raises:
        ConfigurationError: There is no such directory.
    """
    if not isinstance(root, str | os.PathLike) or not Path(root).is_dir():
        raise refuse_given("local_shell: root", "the path of a directory that exists", root)
    home = Path(root).absolute()
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    environment = {"HOME": str(home), "LANG": "C.UTF-8", "PATH": path}
    return partial(_run, home, environment)


async def _run(home: Path, environment: dict[str, str], command: str) -> Outcome:
    with _time_held():
        process = await trio.lowlevel.open_process(
            [SHELL, "-c", command],
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
        return await _outcome(process)


async def _end(process: trio.Process) -> int:
    """Wait for its end; however that comes about, nothing that it has started runs on."""
    try:
        return await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads a group, of all that it has started
        with trio.CancelScope(shield=True):
            await process.wait()  # not for long: it is over, or was killed just now


@dataclass(slots=True)
class _Hold:
    """How many commands run now, and when the clock would skip ahead if none did."""

    commands: int = 0
    threshold: float = math.inf


_holds: WeakKeyDictionary[MockClock, _Hold] = WeakKeyDictionary()


@contextmanager
def _time_held() -> Iterator[None]:
    """Keep a virtual clock from skipping ahead: it does when every task waits, and knows nothing of processes."""
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, MockClock):
        yield
        return
    hold = _holds.setdefault(clock, _Hold())
    if not hold.commands:
        hold.threshold = clock.autojump_threshold
    hold.commands += 1
    clock.autojump_threshold = math.inf
    try:
        yield
    finally:
        hold.commands -= 1
        if not hold.commands:
            clock.autojump_threshold = hold.threshold


async def _outcome(process: trio.Process) -> Outcome:
    """What it writes to its standard output and error until it ends, and its exit code.

    That its outputs are closed is not waited for: what it has left running may hold them open for ever.
    """
    # Where there is a shell to start, pipes are streams of this kind.
    stdout, stderr = cast("FdStream", process.stdout), cast("FdStream", process.stderr)
    written = bytearray(), bytearray()
    async with stdout, stderr:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read, stdout, written[0])
            nursery.start_soon(_read, stderr, written[1])
            exit_code = await _end(process)
            nursery.cancel_scope.cancel()
        for stream, into in zip((stdout, stderr), written, strict=True):
            _read_rest(stream, into)
    return written[0].decode("utf-8", "replace"), written[1].decode("utf-8", "replace"), exit_code


async def _read(stream: FdStream, into: bytearray) -> None:
    while chunk := await stream.receive_some():
        _keep(chunk, into)


def _read_rest(stream: FdStream, into: bytearray) -> None:
    """Read what is there already; the stream is one that does not block."""
    left = MAX_PIPE_BYTES
    with suppress(BlockingIOError):
        while left and (chunk := os.read(stream.fileno(), left)):
            _keep(chunk, into)
            left -= len(chunk)


def _keep(chunk: bytes, into: bytearray) -> None:
    into += chunk[: MAX_OUTPUT_BYTES - len(into)]
