"""A simulated session whose commands a real shell runs, one after the other, and a store over it. Time is virtual."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from managed_agents_actors.agentcore import AgentCoreClient
from managed_agents_actors.artifacts import AgentCoreSessionStorage
from managed_agents_actors.testing import (
    AgentCoreSimulator,
    Fault,
    FaultPlan,
    local_shell,
    open_agentcore_simulator,
)

SESSION_ID = "session-of-the-artifacts-00000000000000"
COMMAND = "invoke_agent_runtime_command"

# Virtual seconds after which a test that waits for what never comes fails, instead of running for ever.
PATIENCE = 10_000.0

Hook = Callable[[int], Awaitable[None]]


@dataclass
class Machine:
    """Runs commands, each after the one before has ended.

    Attributes:
        root: Where they start.
        commands: Their texts so far.
        before: Called with the number of a command, from 0, before it runs.
        after: The same, when it has run and nothing was answered yet.
    """

    root: Path
    commands: list[str] = field(default_factory=list)
    before: Hook | None = None
    after: Hook | None = None

    def __post_init__(self) -> None:
        self._shell = local_shell(self.root)
        self._turn = trio.StrictFIFOLock()

    async def __call__(self, command: str) -> tuple[str, str, int]:
        number = len(self.commands)
        self.commands.append(command)
        async with self._turn:
            if self.before is not None:
                await self.before(number)
            outcome = await self._shell(command)
            if self.after is not None:
                await self.after(number)
        return outcome

    async def is_quiet(self) -> None:
        """Wait until no command runs."""
        async with self._turn:
            pass


@dataclass
class Place:
    """A simulator, its machine, and a store of one directory in it."""

    simulator: AgentCoreSimulator
    client: AgentCoreClient
    machine: Machine
    folder: Path
    store: AgentCoreSessionStorage

    @property
    def names(self) -> list[str]:
        """What there is in the directory, whatever it is."""
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []

    def write(self, name: str, content: bytes) -> None:
        """Let the agent have written a file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(content)

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


@asynccontextmanager
async def open_place(
    root: Path, *faults: Fault, folder: str = "data", commands: Any = None, **options: Any
) -> AsyncIterator[Place]:
    machine = Machine(root)
    base_path = root / folder
    with trio.fail_after(PATIENCE):
        async with (
            open_agentcore_simulator(
                transport="memory", faults=FaultPlan(faults), commands=commands or machine
            ) as simulator,
            simulator.client() as client,
        ):
            store = AgentCoreSessionStorage(client, simulator.harness_arn, SESSION_ID, str(base_path), **options)
            yield Place(simulator, client, machine, base_path, store)
