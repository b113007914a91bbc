"""What the tests of provisioning share: specs, simulators in virtual time, a store that fails, answers that are bent.

A bent answer is what no simulator would give: it is changed on its way, between the client and the simulator.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx

import managed_agents_actors as maa
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.testing import (
    AgentCoreSimulator,
    ClaudeSimulator,
    Fault,
    FaultPlan,
    open_agentcore_simulator,
    open_claude_simulator,
)

Bend: TypeAlias = Callable[[str, int, Any], tuple[int, Any]]

ROLE = "arn:aws:iam::123456789012:role/Harness"
OTHER_ROLE = "arn:aws:iam::123456789012:role/Other"
OTHER_ACCOUNT = "arn:aws:iam::210987654321:role/Harness"

# Seconds, as they were measured at the service, and for a deletion "minutes".
TIMES = {"create": 11, "visible": 20, "endpoint": 151, "update": 15, "delete": 120}

AGENT = maa.AgentSpec(name="support", system_prompt="Be kind.", model="anthropic:claude-opus-5-5")
HARNESS = maa.AgentSpec(name="support", system_prompt="Be kind.", model="bedrock:us.anthropic.claude")
ENVIRONMENT = maa.EnvironmentSpec(name="box", config={"type": "cloud"})


class Failing:
    """A store that fails at what is named, and says what it was asked."""

    def __init__(self, *operations: str, error: BaseException | None = None) -> None:
        self.inner = maa.MemoryStore()
        self.operations = set(operations)
        self.error = error
        self.asked: Counter[str] = Counter()

    def _ask(self, operation: str) -> None:
        self.asked[operation] += 1
        if operation in self.operations:
            raise self.error or OSError(f"no disk to {operation}")

    async def get(self, key: str) -> Any:
        self._ask("get")
        return await self.inner.get(key)

    async def put(self, key: str, value: Any) -> None:
        self._ask("put")
        await self.inner.put(key, value)

    async def delete(self, key: str) -> None:
        self._ask("delete")
        await self.inner.delete(key)

    async def delete_value(self, value: Any) -> int:
        self._ask("delete_value")
        return await self.inner.delete_value(value)

    async def items(self, prefix: str) -> dict[str, Any]:
        self._ask("items")
        return await self.inner.items(prefix)


class Bent(httpx.AsyncBaseTransport):
    """A transport whose answers go through a function of the request's line, the status and the body."""

    def __init__(self, simulator: Any, bend: Bend) -> None:
        self._inner = Transport(open_stream=simulator.open_memory_stream)
        self._bend = bend

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        data = await answer.aread()
        await answer.aclose()
        status, body = self._bend(
            f"{request.method} {request.url.path}", answer.status_code, json.loads(data) if data else None
        )
        return httpx.Response(status, json=body, request=request)

    async def aclose(self) -> None:
        await self._inner.aclose()


@dataclass
class Claude:
    """A simulator of Claude Managed Agents, a client of it, and a store."""

    simulator: ClaudeSimulator
    client: maa.ClaudeClient
    store: maa.MemoryStore

    @property
    def traffic(self) -> list[str]:
        """What was asked for, in short."""
        return [f"{each.method} {each.path.removeprefix('/v1')}" for each in self.simulator.requests]

    async def agents(self, **query: Any) -> list[dict[str, Any]]:
        """The agents that were made here."""
        rows = await self.client.agents.list_all(**query)
        return [row for row in rows if row["id"] != self.simulator.agent_id]

    async def environments(self, **query: Any) -> list[dict[str, Any]]:
        """The environments that were made here."""
        rows = await self.client.environments.list_all(**query)
        return [row for row in rows if row["id"] != self.simulator.environment_id]


@asynccontextmanager
async def open_claude(*faults: Fault, bend: Bend | None = None, **options: Any) -> AsyncIterator[Claude]:
    async with open_claude_simulator(transport="memory", faults=FaultPlan(faults)) as simulator:
        if bend is not None:
            options["transport"] = Bent(simulator, bend)
        async with simulator.client(**options) as client:
            yield Claude(simulator, client, maa.MemoryStore())


@dataclass
class AgentCore:
    """A simulator of AgentCore, a client of it, and a store."""

    simulator: AgentCoreSimulator
    client: maa.AgentCoreClient
    store: maa.MemoryStore

    @property
    def traffic(self) -> list[str]:
        """What was asked for, in short; ids and escapes are left out."""
        return [f"{each.method} {each.path.removeprefix('/harnesses')}" for each in self.simulator.requests]

    async def harnesses(self) -> dict[str, str]:
        """The harnesses that were made here, with their statuses."""
        rows = await self.client.list_all_harnesses()
        return {row["harnessId"]: row["status"] for row in rows if row["harnessId"] != self.simulator.harness_id}


@asynccontextmanager
async def open_agentcore(
    *faults: Fault, times: dict[str, float] | None = None, bend: Bend | None = None, **options: Any
) -> AsyncIterator[AgentCore]:
    async with open_agentcore_simulator(
        transport="memory", faults=FaultPlan(faults), lifecycle=TIMES if times is None else times
    ) as simulator:
        if bend is not None:
            options["transport"] = Bent(simulator, bend)
        async with simulator.client(**options) as client:
            yield AgentCore(simulator, client, maa.MemoryStore())


def provision_claude(here: Any, spec: Any = AGENT, **options: Any) -> Awaitable[Any]:
    return maa.provision(claude_managed_agents, spec, **{"client": here.client, "store": here.store, **options})


def provision_harness(here: Any, spec: Any = HARNESS, **options: Any) -> Awaitable[Any]:
    given = {"client": here.client, "store": here.store, "execution_role_arn": ROLE, **options}
    return maa.provision(bedrock_agent_core, spec, **given)


async def request() -> dict[str, Any]:
    """What is sent to make the harness."""
    async with open_agentcore(times={}) as elsewhere:
        await provision_harness(elsewhere)
        [body] = [each.body for each in elsewhere.simulator.requests if each.method == "POST"]
    assert isinstance(body, dict)
    return {name: value for name, value in body.items() if name != "clientToken"}


async def create(here: AgentCore, body: dict[str, Any] | None = None) -> str:
    """Another process asks for the same harness, and is gone; its id."""
    row = await here.client.create_harness(**(body or await request()))
    return str(row["harness"]["harnessId"])


def bend_status(status: Any, *, at: str = "GET /harnesses/support") -> Any:
    """Let the status of a harness that is looked at be another one."""

    def bend(line: str, code: int, body: Any) -> tuple[int, Any]:
        if line.startswith(at) and code == 200 and "harness" in body:
            body["harness"]["status"] = status
        return code, body

    return bend
