"""A scripted AgentCore: every invocation answers with the frames, or the refusal, that the test wrote for it."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import trio

import managed_agents_actors as maa
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.agentcore._loading import load
from managed_agents_actors.testing import Request, Responder, open_wire_server
from managed_agents_actors.testing._aws_frames import event_frame, exception_frame

REGION = "eu-west-1"
ARN = f"arn:aws:bedrock-agentcore:{REGION}:123456789012:harness/notes-0123456789"
STREAM = {"content-type": "application/vnd.amazon.eventstream"}


@dataclass(frozen=True)
class Pause:
    """So many seconds pass, or for ever."""

    seconds: float = float("inf")


@dataclass(frozen=True)
class Refuse:
    """The invocation is refused; at that moment something else may happen."""

    status: int
    code: str
    headers: Mapping[str, str] = field(default_factory=dict)
    before: Pause | None = None
    meanwhile: Callable[[], object] = lambda: None


@dataclass(frozen=True)
class Cut:
    """The connection breaks."""


@dataclass(frozen=True)
class Vanish:
    """The connection is closed without an answer."""


Part: TypeAlias = bytes | Pause | Cut
Invocation: TypeAlias = Sequence[Part] | Refuse | Vanish


def start(role: str = "assistant") -> bytes:
    return event_frame("messageStart", {"role": role})


def txt(text: str, index: int = 0) -> bytes:
    return event_frame("contentBlockDelta", {"contentBlockIndex": index, "delta": {"text": text}})


def tool(index: int, call_id: str, name: str = "echo", **more: str) -> bytes:
    use = {"toolUseId": call_id, "name": name, **more}
    return event_frame("contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": use}})


def put(index: int, part: str) -> bytes:
    return event_frame("contentBlockDelta", {"contentBlockIndex": index, "delta": {"toolUse": {"input": part}}})


def copy(call_id: str) -> bytes:
    """The beginning of the harness's copy of a result."""
    return event_frame("contentBlockStart", {"contentBlockIndex": 0, "start": {"toolResult": {"toolUseId": call_id}}})


def done(index: int = 0) -> bytes:
    return event_frame("contentBlockStop", {"contentBlockIndex": index})


def stop(reason: str = "end_turn") -> bytes:
    return event_frame("messageStop", {"stopReason": reason})


def meta(used: int, made: int) -> bytes:
    usage = {"inputTokens": used, "outputTokens": made, "totalTokens": used + made}
    return event_frame("metadata", {"usage": usage, "metrics": {"latencyMs": 9}})


def throw(kind: str, message: str = "no", **more: Any) -> bytes:
    return exception_frame(kind, {"message": message, **more})


def says(text: str) -> list[bytes]:
    """A turn that says something."""
    return [start(), txt(text), done(), stop(), meta(12, 7)]


def calls(*ids: str, given: str = "{}") -> list[bytes]:
    """A hand-off."""
    blocks = [part for n, call_id in enumerate(ids) for part in (tool(n, call_id), put(n, given), done(n))]
    return [start(), *blocks, stop("tool_use"), meta(1, 1)]


@dataclass
class Harness:
    """What was sent to it, and what it is connected with.

    Attributes:
        client: A client of it.
        sent: The bodies of the invocations, in order.
        asked: The requests of the invocations.
        stops: When its sessions were stopped.
        broken_off: How many streams the client closed before their end.
    """

    client: maa.AgentCoreClient
    sent: list[dict[str, Any]] = field(default_factory=list)
    asked: list[Request] = field(default_factory=list)
    stops: list[float] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    broken_off: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """The provider options of a new session."""
        return {"client": self.client, "harness_arn": ARN, "runtime_session_id": str(uuid.uuid4())}

    @property
    def told(self) -> list[Any]:
        """The messages of the invocations."""
        return [body["messages"] for body in self.sent]


@asynccontextmanager
async def open_harness(
    *script: Invocation, sizes: Sequence[int] = (), dialler: Any = None, **client: Any
) -> AsyncIterator[Harness]:
    """Serve the script: each invocation is the next one; those beyond it say "beyond the script".

    Args:
        script: The invocations.
        sizes: The pieces in which answers go out, over and over.
        dialler: What the client connects with, given the way to the server as `dial`.
        client: The client's options.
    """
    load()  # a thread would let virtual time pass
    rest = list(script)

    async def handle(request: Request, respond: Responder) -> None:
        if request.path.endswith("/stopruntimesession"):
            harness.stops.append(trio.current_time())
            await respond.json(200, {}, {"X-Amzn-Bedrock-AgentCore-Runtime-Session-Id": "x" * 33})
            return
        harness.asked.append(request)
        harness.at.append(trio.current_time())
        harness.sent.append(json.loads(request.body))
        invocation = rest.pop(0) if rest else says("beyond the script")
        match invocation:
            case Refuse(status=status, code=code, headers=headers, before=before, meanwhile=meanwhile):
                meanwhile()
                await trio.sleep(0.0 if before is None else before.seconds)
                await respond.json(status, {"message": "no"}, {"x-amzn-errortype": f"{code}:http://x", **headers})
            case Vanish():
                await respond.lose()
            case _:
                await _stream(respond, invocation)

    async def _stream(respond: Responder, parts: Sequence[Part]) -> None:
        if sizes:
            respond.split(sizes, 0.0)
        try:
            body = await respond.start_stream(STREAM)
            for part in parts:
                match part:
                    case Pause(seconds=seconds):
                        await trio.sleep(seconds)
                    case Cut():
                        await body.reset()
                        return
                    case _:
                        await body.send(part)
            await body.end()
        except BaseException:
            harness.broken_off += 1
            raise

    async with open_wire_server(handle) as server:
        if dialler is not None:
            dialler.dial = server.open_memory_stream
        options = {
            "region": REGION,
            "credentials": ("AKIDEXAMPLE", "secret", "token"),
            "endpoint_url": server.base_url,
            "transport": Transport(open_stream=dialler or server.open_memory_stream),
            **client,
        }
        async with maa.AgentCoreClient(**options) as connected:
            harness = Harness(connected)
            yield harness
