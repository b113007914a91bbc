"""The data plane: invoke a harness, run a command in a session's microVM, stop a session.

Source: Amazon Bedrock AgentCore API reference (data plane), InvokeHarness, InvokeAgentRuntimeCommand and
StopRuntimeSession; the developer guide's page on harness sessions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from .._protocol.event_stream import EventStreamDecoder, EventStreamMessage
from ._agentcore_api import ApiCall, Route, invalid, not_found, thrown
from ._agentcore_commands import CommandFunction, run_command
from ._agentcore_conversation import require_conversation
from ._agentcore_harnesses import BUDGETS, check_budgets
from ._agentcore_state import Limits
from ._agentcore_tools import ToolSet
from ._agentcore_world import DEFAULT_ENDPOINT, StoredHarness
from ._api import Reply
from ._aws_frames import GARBAGE_AWS_FRAME, encode_message, error_frame
from ._fault_actions import ThrowInStream
from ._fault_plan import DueFault
from ._feed import Encoding, Feed

__all__ = ["ROUTES", "STREAMED", "OpenedStream", "open_command", "open_invocation"]

Json: TypeAlias = dict[str, Any]

SESSION_HEADER = "x-amzn-bedrock-agentcore-runtime-session-id"
DEFAULT_COMMAND_SECONDS = 300
MAX_COMMAND_SECONDS = 3600
# What a stream of invocations carries.
STREAMED = frozenset(
    {
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
        "hookEvent",
        "chunk",
    }
)


def pad_frame(frame: bytes, size: int) -> bytes:
    """The same event in a frame of at least so many bytes, white space added to its JSON."""
    (message,) = EventStreamDecoder().feed(frame)
    if not isinstance(message, EventStreamMessage):
        raise TypeError(f"not a frame: {message!r}")
    headers = {name: str(value) for name, value in message.headers.items()}
    return encode_message(headers, message.payload.ljust(len(message.payload) + size - len(frame)))


def throw(fault: ThrowInStream) -> bytes:
    """The frame that a fault ends a stream with."""
    frame = error_frame if fault.as_error else thrown
    return frame(fault.type, fault.message)


ENCODING = Encoding(garbage=GARBAGE_AWS_FRAME, pad=pad_frame, exception=throw)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedStream:
    """A stream that is about to be sent.

    Attributes:
        feed: What it carries.
        headers: The headers of its head, besides those that every answer has.
        undo: Takes back what was done for it.
    """

    feed: Feed
    headers: Json = field(default_factory=dict)
    undo: Callable[[], object] = lambda: None


def open_invocation(call: ApiCall, faults: list[DueFault]) -> OpenedStream:
    """POST /harnesses/invoke.

    Raises:
        ServiceRefusal: It cannot be invoked now, or not with this.
    """
    params = call.params
    harness = call.world.harness_by_arn(params["harnessArn"])
    settings = _served(call, harness)
    check_budgets(params)
    tools = ToolSet.of(settings, params)
    require_conversation(params["messages"])
    session = call.world.open_session(harness, params["runtimeSessionId"])
    feed = Feed(ENCODING, faults=faults)
    invocation = session.invoke(
        params["messages"],
        feed,
        limits=_limits({**settings, **{name: params[name] for name in BUDGETS if name in params}}),
        tools=tools,
    )
    session.actor_id = params.get("actorId", session.actor_id)
    return OpenedStream(feed=feed, undo=partial(session.undo, invocation))


def open_command(call: ApiCall, faults: list[DueFault], function: CommandFunction | None) -> OpenedStream:
    """POST /runtimes/{}/commands.

    Raises:
        ServiceRefusal: It cannot be run.
    """
    params = call.params
    body = params["body"]
    timeout = body.get("timeout", DEFAULT_COMMAND_SECONDS)
    if not 1 <= timeout <= MAX_COMMAND_SECONDS:
        raise invalid(f"timeout must be from 1 to {MAX_COMMAND_SECONDS} seconds", fields=[("timeout", "out of range")])
    harness = call.world.harness_by_arn(params["agentRuntimeArn"])
    limits = _limits(_served(call, harness))
    name = params.get("runtimeSessionId") or call.world.ids.new("session").replace("_", "-").ljust(36, "0")
    session = call.world.open_session(harness, name)
    vm = session.use(idle_timeout=limits.idle_timeout, max_lifetime=limits.max_lifetime)
    feed = Feed(ENCODING, faults=faults)
    call.world.background.start_soon(run_command, function, session, vm, body["command"], timeout, feed)
    return OpenedStream(feed=feed, headers={SESSION_HEADER: name})


def stop_runtime_session(call: ApiCall) -> Reply:
    """POST /runtimes/{}/stopruntimesession: through any endpoint there is, whichever the session was begun through."""
    name = call.params["runtimeSessionId"]
    harness = call.world.harness_by_arn(call.params["agentRuntimeArn"])
    call.world.endpoint(harness, call.params.get("qualifier", DEFAULT_ENDPOINT))
    session = call.world.sessions.get((harness.id, name))
    if session is None or not session.stop():
        raise not_found(f"Runtime session {name}")
    return Reply({}, headers={SESSION_HEADER: name})


def _served(call: ApiCall, harness: StoredHarness) -> Json:
    """The configuration that the named endpoint serves.

    What the service answers before an endpoint is ready is not documented: a validation error here.
    """
    name = call.params.get("qualifier", DEFAULT_ENDPOINT)
    endpoint = call.world.endpoint(harness, name)
    for what, life in ((f"Harness {harness.id}", harness.life), (f"Endpoint {name}", endpoint.life)):
        if life.status not in {"READY", "UPDATING", "UPDATE_FAILED", "DELETE_FAILED"}:
            raise invalid(f"{what} is not ready: it is {life.status}")
    return harness.versions[(endpoint.live or endpoint.target) - 1].settings


def _limits(settings: Json) -> Limits:
    lifetimes = settings["environment"]["agentCoreRuntimeEnvironment"]["lifecycleConfiguration"]
    return Limits(
        max_iterations=settings["maxIterations"],
        max_tokens=settings.get("maxTokens"),
        timeout=settings["timeoutSeconds"],
        idle_timeout=lifetimes["idleRuntimeSessionTimeout"],
        max_lifetime=lifetimes["maxLifetime"],
    )


RUNTIME = "/runtimes/{}"
ROUTES = (
    Route(method="POST", path="/harnesses/invoke", operation="invoke_harness", handler=None),
    Route(method="POST", path=f"{RUNTIME}/commands", operation="invoke_agent_runtime_command", handler=None),
    Route(
        method="POST",
        path=f"{RUNTIME}/stopruntimesession",
        operation="stop_runtime_session",
        handler=stop_runtime_session,
    ),
)
