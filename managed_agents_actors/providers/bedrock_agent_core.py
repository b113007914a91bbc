"""AWS Bedrock AgentCore Harness as a provider: a stateless module over :class:`~managed_agents_actors.AgentCoreClient`.

A harness streams one turn per request and keeps no log that could be read again; the connection keeps one. Options:
``client``, ``harness_arn``, ``harness``, ``runtime_session_id``, ``session_id``, ``qualifier``, ``actor_id``,
``runtime_user_id``, ``timeout_seconds``, ``max_iterations``, ``max_tokens``, ``idle_timeout``, ``model``,
``system_prompt``, ``tools``, ``allowed_tools``, ``skills``, ``stop_on_cancel``, ``invoke_retries``, ``model_config``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal

import trio

from .._artifact import ArtifactStore
from .._errors import ConfigurationError
from .._model import Event
from .._protocol.codec import encode_json
from .._protocol.converse import classify
from .._protocol.converse_inputs import tool_result_blocks, user_message
from .._protocol.mail import Answer, Confirmation, Goal, Input, Interrupt, Message, RawEvent
from ..agentcore import AgentCoreClient
from ..artifacts import AgentCoreSessionStorage
from ..provisioning import HarnessHandle, Order, Removal
from ..provisioning import _harness as provisioning
from ..provisioning._options import AgentCoreOptions, agentcore_client, agentcore_options
from ._harness_log import HarnessLog
from ._harness_options import CLIENT_KEYS, NAME, Options, describe, is_resumed, metadata, parse_options, region_of
from ._harness_session import HarnessSession
from ._harness_worker import HarnessWorker
from .contract import Capabilities, EventSource, HistoryPages

__all__ = [
    "CAPABILITIES",
    "NAME",
    "check_input",
    "classify",
    "describe",
    "establish",
    "is_resumed",
    "leave",
    "metadata",
    "open_artifacts",
    "open_connection",
    "open_stream",
    "parse_options",
    "parse_provisioning",
    "post",
    "provision",
    "read_history",
    "read_status",
    "teardown",
]

CAPABILITIES = Capabilities(
    outcomes=False, confirmations=False, replay=False, interrupts_overtake=True, exits=frozenset({"interrupt"})
)


@asynccontextmanager
async def open_connection(options: Options) -> AsyncIterator[HarnessSession]:
    """Open the session's log, over the caller's client, which stays open, or one of our own, which does not."""
    if options.client is not None:
        async with _open_session(options.client, options) as session:
            yield session
        return
    async with _own_client(options) as client, _open_session(client, options) as session:
        yield session


def _own_client(options: Options) -> AgentCoreClient:
    config = {key: options.model_config[key] for key in CLIENT_KEYS if options.model_config.get(key) is not None}
    return AgentCoreClient(**{"region": region_of(options.harness_arn), **config})


@asynccontextmanager
async def _open_session(client: AgentCoreClient, options: Options) -> AsyncIterator[HarnessSession]:
    fields: dict[str, Any] = {"harnessArn": options.harness_arn, **options.fields}
    if options.qualifier is not None:
        fields["qualifier"] = options.qualifier

    async def stop() -> None:
        await _stop(client, options)

    log = HarnessLog()
    worker = HarnessWorker(
        client,
        options.session_id,
        fields=fields,
        idle_timeout=options.idle_timeout,
        retries=options.invoke_retries,
        log=log,
    )
    async with trio.open_nursery() as nursery:
        session = HarnessSession(
            options.session_id,
            worker=worker,
            log=log,
            stop=stop,
            stops_on_cancel=options.stop_on_cancel,
            nursery=nursery,
        )
        try:
            yield session
        finally:
            await session.close()
            nursery.cancel_scope.cancel()


async def _stop(client: AgentCoreClient, options: Options) -> None:
    # Source: AgentCore, "StopRuntimeSession"; a harness is named by its own ARN, as in InvokeAgentRuntimeCommand.
    named = {"agentRuntimeArn": options.harness_arn, "runtimeSessionId": options.session_id}
    if options.qualifier is not None:
        named["qualifier"] = options.qualifier
    await client.stop_runtime_session(**named)


async def establish(connection: HarnessSession) -> str:
    """Give the session's id. It is the caller's, and costs no request: its first message makes the session."""
    await trio.lowlevel.checkpoint()
    return connection.session_id


class _Source:
    """The session's log as it grows. It never ends, and has nothing to reconnect to."""

    retry: float | None = None

    def __init__(self, session: HarnessSession) -> None:
        self._session = session
        self._place = session.log.end

    async def receive_batch(self) -> list[Event]:
        """Wait for entries of the log and give all there are."""
        await trio.lowlevel.checkpoint()
        batch = await self._session.log.read(self._place)
        self._place += len(batch)
        return batch


class _Pages:
    """What the log still holds, as one page."""

    def __init__(self, session: HarnessSession) -> None:
        self._session = session
        self._given = False

    async def next_page(self) -> list[Event] | None:
        """Give the page, then ``None``."""
        await trio.lowlevel.checkpoint()
        if self._given:
            return None
        self._given = True
        return await self._session.history()


@asynccontextmanager
async def open_stream(connection: HarnessSession, session_id: str) -> AsyncIterator[EventSource]:  # noqa: ARG001 -- the connection is the session's own
    """Attach to the session's log."""
    await trio.lowlevel.checkpoint()
    yield _Source(connection)


def read_history(connection: HarnessSession, session_id: str, *, since: str | None = None) -> HistoryPages:  # noqa: ARG001 -- as above; what is there is little
    """Begin a listing of the session's log, as far back as the request before the last."""
    return _Pages(connection)


async def read_status(connection: HarnessSession, session_id: str) -> str | None:  # noqa: ARG001 -- as above
    """Say whether an invocation of ours goes on. Nobody can know of others."""
    await trio.lowlevel.checkpoint()
    return "running" if connection.is_busy else "idle"


async def post(connection: HarnessSession, session_id: str, item: Input) -> list[Event]:  # noqa: ARG001 -- as above
    """Send one input, or keep a result until those that the harness waits for together are there."""
    match item:
        case Message():
            return await connection.tell(item)
        case Answer(result=result):
            return await connection.answer(result)
        case Interrupt():
            await connection.interrupt()
            return []
        case _:
            raise ConfigurationError(_IMPOSSIBLE[type(item)])


async def leave(connection: HarnessSession, session_id: str, how: Literal["interrupt", "archive", "delete"]) -> None:  # noqa: ARG001 -- as above
    """End the service's work on the session, and with it what its machine has not stored."""
    await connection.leave()


def open_artifacts(connection: HarnessSession, session_id: str, **options: Any) -> ArtifactStore:
    """Open a directory of the session's machine.

    Args:
        connection: The session's own.
        session_id: The session.
        **options: ``base_path`` and ``timeout`` of :class:`~managed_agents_actors.artifacts.AgentCoreSessionStorage`.
    """
    client, fields = connection.worker.client, connection.worker.fields
    return AgentCoreSessionStorage(
        client, fields["harnessArn"], session_id, qualifier=fields.get("qualifier"), **options
    )


def check_input(item: Input) -> None:
    """Check that an input can be put on the wire."""
    match item:
        case Message(content=content):
            wire: Any = user_message(content)
        case Answer(result=result):
            wire = tool_result_blocks(result)
        case Interrupt():
            return
        case _:
            raise ConfigurationError(_IMPOSSIBLE[type(item)])
    try:
        encode_json(wire)
    except ValueError as error:
        raise ConfigurationError(f"the content of a message is {error}; nothing was sent") from error


_IMPOSSIBLE: dict[type[Input], str] = {
    Goal: f"{NAME} has no outcomes; send a message instead",
    RawEvent: f"{NAME} takes no events of a client, only messages",
    Confirmation: f"{NAME} asks for no confirmations; its tools run as its configuration says",
}


# --- provisioning ----------------------------------------------------------------------------------------------------


def parse_provisioning(options: Mapping[str, Any], *, teardown: bool = False) -> AgentCoreOptions:
    """Check the options of provisioning: ``client``, ``execution_role_arn``, ``model_config``."""
    return agentcore_options(NAME, options, needs_role=not teardown)


async def provision(order: Order) -> HarnessHandle:
    """Make a harness, or find it, and wait until it can be invoked."""
    async with agentcore_client(order.options) as client:
        return await provisioning.provision_harness(client, order)


async def teardown(removal: Removal) -> None:
    """Begin to delete a harness; it takes minutes."""
    async with agentcore_client(removal.options, removal.handle) as client:
        await provisioning.teardown_harness(client, removal)
