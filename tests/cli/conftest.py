"""The command line in front of a simulator: each command is run as its user would, in a thread and a trio of its own.

The simulators are on loopback, and time is real: what would take long in it is not waited for.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors._cli import main
from managed_agents_actors.testing import (
    AgentCoreSimulator,
    ClaudeSimulator,
    Fault,
    FaultPlan,
    open_agentcore_simulator,
    open_claude_simulator,
)

ROLE = "arn:aws:iam::123456789012:role/Harness"
API_KEY = "sk-test-of-the-command-line"
SECRET_KEY = "the/secret/of/the/command/line"

AGENT = {"name": "support", "system_prompt": "Be kind.", "model": "some-model"}
ENVIRONMENT = {"name": "support", "config": {"type": "cloud"}}
CONTENT: Mapping[str, Mapping[str, Any]] = {"agents": AGENT, "environments": ENVIRONMENT, "harnesses": AGENT}

COMMANDS = pytest.mark.parametrize("command", list(CONTENT))


@dataclass(frozen=True)
class Done:
    """What a command came to: its exit status, and what it printed where."""

    status: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        [line] = self.out.splitlines()
        answer: dict[str, Any] = json.loads(line)
        return answer


@dataclass
class Desk:
    """A command, such as ``agents``, with what it works on: a simulator, a folder, a store in it."""

    command: str
    simulator: Any
    folder: Path
    capture: pytest.CaptureFixture[str]

    @property
    def kind(self) -> str:
        return {"agents": "agent", "environments": "environment", "harnesses": "harness"}[self.command]

    @property
    def handle(self) -> Any:
        return {"agent": maa.AgentHandle, "environment": maa.EnvironmentHandle, "harness": maa.HarnessHandle}[self.kind]

    @property
    def files(self) -> set[str]:
        """What is in the folder."""
        return {path.name for path in self.folder.iterdir()}

    @property
    def changes(self) -> list[str]:
        """The requests that asked for a change."""
        return [f"{each.method} {each.path}" for each in self.simulator.requests if each.method != "GET"]

    def line(self, verb: str, *arguments: str) -> list[str]:
        """The command line; it says where the simulator is, and which role a harness has."""
        place = ["--base-url", self.simulator.base_url]
        if self.command == "harnesses":
            place = ["--region", self.simulator.region, "--endpoint-url", self.simulator.base_url]
            if verb in ("ensure", "tag", "resolve") and "--execution-role-arn" not in arguments:
                place += ["--execution-role-arn", ROLE]
        return [self.command, verb, *arguments, *place]

    async def run(self, verb: str, *arguments: str) -> Done:
        """Run a command."""
        self.capture.readouterr()
        status = await trio.to_thread.run_sync(main, self.line(verb, *arguments))
        printed = self.capture.readouterr()
        return Done(status, printed.out, printed.err)

    async def ask(self, verb: str, *arguments: str) -> dict[str, Any]:
        """Run a command that succeeds, and give its answer."""
        done = await self.run(verb, *arguments, "--json")
        assert (done.status, done.err) == (0, "")
        assert (done.answer["command"], done.answer["kind"]) == (verb, self.kind)
        return done.answer

    def file(self, content: str = "", /, **members: Any) -> str:
        """The path of a file that describes this command's kind of thing; of a version of its own, if told which."""
        members = {**CONTENT[self.command], **members}
        if content and self.command == "environments":
            members["config"] = {"type": "cloud", "packages": {"pip": [content]}}
        elif content:
            members["system_prompt"] = content
        name = re.sub(r"\W", "_", content)
        path = self.folder / f"{self.command}{name}.json"
        path.write_text(json.dumps(members), encoding="utf-8")
        return str(path)

    async def build(self, *contents: str) -> list[dict[str, Any]]:
        """Have versions built, and give their answers."""
        return [await self.ask("ensure", self.file(content)) for content in contents]

    async def names(self) -> list[str]:
        """The names of the versions that are there, the newest first."""
        return [version["name"] for version in (await self.ask("list", "support"))["versions"]]


OpenDesk: TypeAlias = Callable[..., AbstractAsyncContextManager[Desk]]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[MutableMapping[str, str]]:
    """The process environment with credentials of the simulators and a store, and nothing else of ours."""
    before = dict(os.environ)
    for name in [name for name in os.environ if name.startswith(("AWS_", "ANTHROPIC_", "MANAGED_AGENTS_", "XDG_"))]:
        del os.environ[name]
    os.environ |= {
        "ANTHROPIC_API_KEY": API_KEY,
        "AWS_ACCESS_KEY_ID": "AKIATEST",
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "MANAGED_AGENTS_STORE": str(tmp_path / "state" / "store.db"),
    }
    yield os.environ
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def open_desk(environment: MutableMapping[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> OpenDesk:
    """Opens the simulator of a command, with faults and with a harness's times, and gives the desk."""

    @asynccontextmanager
    async def open_it(command: str, *faults: Fault, lifecycle: dict[str, float] | None = None) -> AsyncIterator[Desk]:
        async with open_simulator(command, FaultPlan(faults), lifecycle) as simulator:
            yield Desk(command, simulator, tmp_path, capsys)

    return open_it


def open_simulator(
    command: str, plan: FaultPlan, lifecycle: dict[str, float] | None
) -> AbstractAsyncContextManager[ClaudeSimulator | AgentCoreSimulator]:
    if command == "harnesses":
        credentials = ("AKIATEST", SECRET_KEY, None)
        return open_agentcore_simulator(faults=plan, lifecycle=lifecycle, credentials=credentials)
    return open_claude_simulator(faults=plan, api_key=API_KEY)
