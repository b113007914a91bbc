"""Where our own providers' sessions run when they are held to the laws: simulators in memory."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, ClassVar, Literal

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.testing import (
    AgentCoreSimulator,
    ClaudeSimulator,
    FaultPlan,
    Place,
    ProviderSuite,
    open_agentcore_simulator,
    open_claude_simulator,
)

METADATA = {"team": "tests"}
CONFIG = {"model_config": {"metadata": METADATA}}

# --- Claude Managed Agents --------------------------------------------------------------------------------------------


class ClaudeSuite(ProviderSuite):
    """The place of a simulator of Claude Managed Agents.

    Attributes:
        provider: The module that is checked.
        extra: Options of every session.
        blind: Whether the place tells no more than it must.
    """

    message_operation = "send_events"
    stream_operation = "stream"
    provider: ClassVar[Any] = claude_managed_agents
    extra: ClassVar[dict[str, Any]] = {}
    blind: ClassVar[bool] = False

    @asynccontextmanager
    async def open_place(self, script: Any, *, faults: FaultPlan | None = None) -> AsyncIterator[Place]:
        async with (
            open_claude_simulator(script, transport="memory", faults=faults) as simulator,
            simulator.client() as client,
        ):
            known = {"client": client, **CONFIG, **self.extra}
            new = {"agent": simulator.agent_id, "environment": simulator.environment_id}

            place = Place(
                provider=self.provider,
                options=lambda: {**known, **new},
                resume=lambda session_id: {**known, "session_id": session_id},
                messages=lambda session_id: _messages(simulator, session_id),
                answers=lambda session_id: _answers(simulator, session_id),
                open_streams=lambda: _open_streams(simulator),
                requests=lambda: len(simulator.requests),
            )
            yield (
                place
                if self.blind
                else replace(
                    place,
                    events=lambda session_id: simulator.session(session_id).events,
                    sessions=lambda: _count(simulator, "POST", "/v1/sessions"),
                    state=lambda session_id: _state(simulator, session_id),
                    metadata=METADATA,
                )
            )


def _messages(simulator: ClaudeSimulator, session_id: str) -> list[str]:
    told = [event for event in simulator.session(session_id).events if event["type"] == "user.message"]
    return ["".join(block["text"] for block in event["content"]) for event in told]


def _answers(simulator: ClaudeSimulator, session_id: str) -> list[maa.ToolResult]:
    path = f"/v1/sessions/{session_id}/events"
    posts = [request for request in simulator.requests if (request.method, request.path) == ("POST", path)]
    return [
        maa.ToolResult(
            tool_use_id=event["custom_tool_use_id"], content=tuple(event["content"]), is_error=event["is_error"]
        )
        for post in posts
        for event in post.body["events"]
        if event["type"] == "user.custom_tool_result"
    ]


def _open_streams(simulator: ClaudeSimulator) -> int:
    paths = {request.path for request in simulator.requests if request.path.endswith("/events/stream")}
    return sum(simulator.session(path.split("/")[3]).open_streams for path in paths)


def _count(simulator: ClaudeSimulator, method: str, path: str) -> int:
    """How many requests of this kind were answered well."""
    return sum((each.method, each.path, each.status) == (method, path, 200) for each in simulator.requests)


def _state(simulator: ClaudeSimulator, session_id: str) -> Literal["working", "resting", "archived", "deleted"]:
    path = f"/v1/sessions/{session_id}"
    if _count(simulator, "DELETE", path):
        return "deleted"
    if _count(simulator, "POST", f"{path}/archive"):
        return "archived"
    return "working" if simulator.session(session_id).status in ("running", "rescheduling") else "resting"


# --- AWS Bedrock AgentCore --------------------------------------------------------------------------------------------

SESSION_HEADER = "x-amzn-bedrock-agentcore-runtime-session-id"


class AgentCoreSuite(ProviderSuite):
    """The place of a simulator of AgentCore.

    Attributes:
        provider: The module that is checked.
        hand_off: How the harness hands the calls of one response off.
    """

    message_operation = stream_operation = "invoke_harness"
    provider: ClassVar[Any] = bedrock_agent_core
    hand_off: ClassVar[Literal["together", "one_by_one"]] = "together"

    @asynccontextmanager
    async def open_place(self, script: Any, *, faults: FaultPlan | None = None) -> AsyncIterator[Place]:
        async with (
            open_agentcore_simulator(script, transport="memory", faults=faults, hand_off=self.hand_off) as simulator,
            simulator.client() as client,
        ):
            known = {"client": client, "harness_arn": simulator.harness_arn, **CONFIG}

            def messages(session_id: str) -> list[str]:
                return [block["text"] for block in _told(simulator, session_id) if "text" in block]

            def answers(session_id: str) -> list[maa.ToolResult]:
                return [_result(block) for block in _results_sent(simulator, session_id, self.hand_off)]

            yield Place(
                provider=self.provider,
                options=lambda: {**known, "runtime_session_id": str(uuid.uuid4())},
                resume=lambda session_id: {**known, "session_id": session_id},
                messages=messages,
                answers=answers,
                open_streams=lambda: simulator.open_streams,
                requests=lambda: len(simulator.requests),
                events=lambda session_id: simulator.session(session_id).events,
                sessions=lambda: len({each.headers.get(SESSION_HEADER) for each in simulator.requests}),
                state=lambda session_id: "working" if simulator.session(session_id).running else "resting",
                metadata=METADATA,
            )


def _told(simulator: AgentCoreSimulator, session_id: str) -> list[dict[str, Any]]:
    """The blocks of the user's side of a conversation, as the harness has it."""
    try:
        conversation = simulator.session(session_id).messages
    except KeyError:
        return []
    return [block for message in conversation if message["role"] == "user" for block in message["content"]]


def _results_sent(simulator: AgentCoreSimulator, session_id: str, hand_off: str) -> Iterator[dict[str, Any]]:
    """The results that a session was sent; a harness that takes them one by one asks for the others again."""
    bodies = [request.body for request in simulator.requests if request.headers.get(SESSION_HEADER) == session_id]
    told = [message for body in bodies for message in body.get("messages", ()) if message["role"] == "user"]
    seen: set[str] = set()
    for block in (block for message in told for block in message["content"] if "toolResult" in block):
        result = block["toolResult"]
        if hand_off == "together" or result["toolUseId"] not in seen:
            yield result
        seen.add(result["toolUseId"])


def _result(told: dict[str, Any]) -> maa.ToolResult:
    is_error = told["status"] == "error"
    return maa.ToolResult(tool_use_id=told["toolUseId"], content=tuple(told["content"]), is_error=is_error)
