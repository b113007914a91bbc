"""Processes that write to a store at the same time, each from its first entry to its last.

A process is given the program that opens the store, and shares nothing else with this one.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

import trio

from ._expect import expect

__all__ = ["put_at_once"]

MAX_SECONDS: Final = 120.0  # processes that put 500 entries take some seconds on a busy machine, or for ever

PUT_ALL: Final = """
import sys

import trio


async def put_all(name, count):
    async with open_store() as store:
        print("ready", end="", flush=True)
        sys.stdin.readline()
        for number in range(count):
            await store.put(f"{name}/{number}", {"by": name, "number": number})


trio.run(put_all, sys.argv[1], int(sys.argv[2]))
"""


async def put_at_once(program: str, names: Sequence[str], count: int) -> dict[str, Any]:
    """Start processes that open a store, and let them put their entries once all have opened it.

    Args:
        program: Python source that defines ``open_store()``.
        names: What the processes are called; a process's keys begin with its name.
        count: How many entries each puts.

    Returns:
        The entries of all of them.

    Raises:
        AssertionError: One of them failed; what it wrote to its standard error says why.
        trio.TooSlowError: They take longer than anything could.
    """
    run = functools.partial(trio.run_process, stdin=subprocess.PIPE, stdout=subprocess.PIPE, check=False)
    commands = [[sys.executable, "-c", f"{program}\n{PUT_ALL}", name, str(count)] for name in names]
    with trio.fail_after(MAX_SECONDS):
        async with trio.open_nursery() as nursery:
            processes: list[trio.Process] = [await nursery.start(run, command) for command in commands]
            pipes = [process.stdio for process in processes if process.stdio is not None]
            said = [await pipe.receive_some() for pipe in pipes]
            for pipe in pipes:
                with suppress(trio.BrokenResourceError):
                    await pipe.send_all(b"go\n")
    expect(said, [b"ready"] * len(names), "what processes said that were to open the store")
    expect([process.returncode for process in processes], [0] * len(names), "how they ended")
    return {f"{name}/{number}": {"by": name, "number": number} for name in names for number in range(count)}
