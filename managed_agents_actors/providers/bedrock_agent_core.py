"""AWS Bedrock AgentCore Harness as a provider: a stateless module over :class:`~managed_agents_actors.AgentCoreClient`.

A harness streams one turn per request and keeps no log that could be read again; the connection keeps one. Options:
``client``, ``harness_arn``, ``harness``, ``runtime_session_id``, ``session_id``, ``qualifier``, ``actor_id``,
``runtime_user_id``, ``timeout_seconds``, ``max_iterations``, ``max_tokens``, ``idle_timeout``, ``model``,
``system_prompt``, ``tools``, ``allowed_tools``, ``skills``, ``stop_on_cancel``, ``invoke_retries``, ``model_config``.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import trio

from .._errors import ConfigurationError
from .._model import Event, is_number
from .._protocol.codec import encode_json
from .._protocol.converse import classify
from .._protocol.converse_inputs import tool_result_blocks, user_message
from .._protocol.mail import Answer, Confirmation, Goal, Input, Interrupt, Message, RawEvent
from ..agentcore import AgentCoreClient
from ._harness_session import HarnessSession
from .contract import Capabilities, EventSource, HistoryPages

__all__ = [
    "CAPABILITIES",
    "NAME",
    "check_input",
    "classify",
    "establish",
    "is_resumed",
    "leave",
    "metadata",
    "open_connection",
    "open_stream",
    "parse_options",
    "post",
    "read_history",
    "read_status",
]

NAME = "bedrock_agent_core"

CAPABILITIES = Capabilities(
    outcomes=False, confirmations=False, replay=False, interrupts_overtake=True, exits=frozenset({"interrupt"})
)

# "InvokeHarness", request parameters.
SESSION_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{32,99}")
HARNESS_ARN = re.compile(
    r"arn:[^:]+:bedrock-agentcore:(?P<region>[a-z0-9-]+):[0-9]{12}:harness/[a-zA-Z][a-zA-Z0-9_]{0,39}-[a-zA-Z0-9]{10}"
)
QUALIFIER = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,47}")

# Longer than any tool of the harness is silent by default; a Lambda hook may be, up to 900 s.
IDLE_TIMEOUT = 300.0
MOST_RETRIES = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a session of this provider was asked to be; checked, and nothing sent yet. Times are in seconds."""

    harness_arn: str
    session_id: str
    resumed: bool
    client: AgentCoreClient | None = None
    qualifier: str | None = None
    idle_timeout: float = IDLE_TIMEOUT
    stop_on_cancel: bool = False
    invoke_retries: int = 2
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    model_config: Mapping[str, Any] = field(default_factory=dict, repr=False)


# Options that go into every invocation: the name on the wire, what it must be, and in words.
_FIELDS: dict[str, tuple[str, type | tuple[type, ...], str]] = {
    "actor_id": ("actorId", str, "text"),
    "runtime_user_id": ("runtimeUserId", str, "text"),
    "timeout_seconds": ("timeoutSeconds", int, "a whole number of at least 1"),
    "max_iterations": ("maxIterations", int, "a whole number of at least 1"),
    "max_tokens": ("maxTokens", int, "a whole number of at least 1"),
    "model": ("model", (str, Mapping), "a model id or a model configuration"),
    "system_prompt": ("systemPrompt", (str, list, tuple), "text or a list of blocks"),
    "tools": ("tools", (list, tuple), "a list of tools"),
    "allowed_tools": ("allowedTools", (list, tuple), "a list of patterns"),
    "skills": ("skills", (list, tuple), "a list of skills"),
}
_OWN = (
    "client",
    "harness",
    "harness_arn",
    "idle_timeout",
    "invoke_retries",
    "model_config",
    "qualifier",
    "runtime_session_id",
    "session_id",
    "stop_on_cancel",
)


def parse_options(options: Mapping[str, Any]) -> Options:
    """Check the provider options of a session.

    Raises:
        TypeError: An option is unknown, or ``harness_arn`` or both session ids are missing.
        ConfigurationError: A value cannot be used.
    """
    known = sorted((*_OWN, *_FIELDS))
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise TypeError(f"{NAME} knows no option {', '.join(map(repr, unknown))}; it knows {', '.join(known)}")
    given = {name: value for name, value in options.items() if value is not None}
    client = given.get("client")
    if client is not None and not isinstance(client, AgentCoreClient):
        raise ConfigurationError(f"client= must be an AgentCoreClient, not a {type(client).__name__}")
    model_config = given.get("model_config", {})
    if not isinstance(model_config, Mapping):
        raise ConfigurationError(f"model_config= must be a mapping, not a {type(model_config).__name__}")
    session_id, harness_arn = _session_id(given), _harness_arn(given)
    _check_region(client, model_config, harness_arn)
    return Options(
        client=client,
        harness_arn=harness_arn,
        session_id=session_id,
        resumed="session_id" in given,
        qualifier=_qualifier(given.get("qualifier")),
        idle_timeout=_idle_timeout(given.get("idle_timeout", IDLE_TIMEOUT)),
        stop_on_cancel=_flag(given.get("stop_on_cancel", False)),
        invoke_retries=_retries(given.get("invoke_retries", 2)),
        fields={wire: _field(name, given[name]) for name, (wire, _, _) in _FIELDS.items() if name in given},
        model_config=model_config,
    )


def _session_id(given: Mapping[str, Any]) -> str:
    name = "session_id" if "session_id" in given else "runtime_session_id"
    if name not in given:
        raise TypeError("a new session needs runtime_session_id=, such as str(uuid.uuid4()); session_id= resumes one")
    value = given[name]
    if not isinstance(value, str) or not SESSION_ID.fullmatch(value):
        raise ConfigurationError(
            f"{name}= must have 33 to 100 letters, digits, - and _, and begin with a letter or digit, not {value!r};"
            " str(uuid.uuid4()) is one"
        )
    return value


def _harness_arn(given: Mapping[str, Any]) -> str:
    value = given.get("harness_arn", given.get("harness"))
    if value is None:
        raise TypeError("a session needs harness_arn=, or harness= with a handle that has one")
    for key in ("harness_arn", "harnessArn", "arn"):
        if isinstance(value, str):
            break
        value = value.get(key, value) if isinstance(value, Mapping) else getattr(value, key, value)
    if not isinstance(value, str) or not HARNESS_ARN.fullmatch(value):
        raise ConfigurationError(
            "harness_arn= must be the ARN of a harness, arn:aws:bedrock-agentcore:<region>:<account>:harness/<id>,"
            f" not {value!r}"
        )
    return value


def _check_region(client: AgentCoreClient | None, model_config: Mapping[str, Any], harness_arn: str) -> None:
    """A harness is invoked in its own region; a signature for another one would be refused."""
    region = model_config.get("region") if client is None else client.region
    arn = HARNESS_ARN.fullmatch(harness_arn)
    if region is not None and arn is not None and region != arn["region"]:
        raise ConfigurationError(f"the harness is in {arn['region']}, and the client in {region}")


def _qualifier(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and QUALIFIER.fullmatch(value)):
        raise ConfigurationError(f"qualifier= must be the name of a harness endpoint, not {value!r}")
    found: str | None = value
    return found


def _idle_timeout(value: Any) -> float:
    if not (is_number(value) and value > 0):
        raise ConfigurationError(f"idle_timeout= must be a positive number of seconds, not {value!r}")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"stop_on_cancel= must be True or False, not {value!r}")
    return value


def _retries(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_RETRIES:
        raise ConfigurationError(f"invoke_retries= must be a whole number from 0 to {MOST_RETRIES}, not {value!r}")
    return value


def _field(name: str, value: Any) -> Any:
    _, shape, words = _FIELDS[name]
    if not isinstance(value, shape) or isinstance(value, bool) or (isinstance(value, int) and value < 1):
        raise ConfigurationError(f"{name}= must be {words}, not {value!r}")
    if name == "model" and isinstance(value, str):
        return {"bedrockModelConfig": {"modelId": value}}
    if name == "system_prompt" and isinstance(value, str):
        return [{"text": value}]
    return list(value) if isinstance(value, tuple) else value


def is_resumed(options: Options) -> bool:
    """Whether the options name a session that exists already."""
    return options.resumed


def metadata(options: Options) -> Mapping[str, Any]:
    """Give the metadata of ``model_config``."""
    found = options.model_config.get("metadata")
    return found if isinstance(found, Mapping) else {}


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
    config = options.model_config
    arn = HARNESS_ARN.fullmatch(options.harness_arn)
    region = config.get("region") or (arn["region"] if arn is not None else None)
    return AgentCoreClient(
        region, config.get("credentials"), config.get("endpoint_url"), idle_timeout=options.idle_timeout
    )


@asynccontextmanager
async def _open_session(client: AgentCoreClient, options: Options) -> AsyncIterator[HarnessSession]:
    fields: dict[str, Any] = {"harnessArn": options.harness_arn, **options.fields}
    if options.qualifier is not None:
        fields["qualifier"] = options.qualifier

    async def stop() -> None:
        await _stop(client, options)

    async with trio.open_nursery() as nursery:
        session = HarnessSession(
            client,
            options.session_id,
            fields=fields,
            idle_timeout=options.idle_timeout,
            retries=options.invoke_retries,
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
    await connection.stop_work()


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
