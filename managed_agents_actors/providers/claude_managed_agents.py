"""Anthropic Claude Managed Agents as a provider: a stateless module over :class:`~managed_agents_actors.ClaudeClient`.

It turns options into requests and events into facts, and keeps nothing between calls. Options: ``client``, ``agent``,
``environment``, ``session_id``, ``resources``, ``vault_ids``, ``title``, ``metadata``, ``budget``, ``deltas``,
``model_config``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import trio

from .._artifact import ArtifactStore
from .._errors import ConfigurationError, ConflictError, InvalidRequestError, ProtocolError
from .._model import Event
from .._protocol import claude_inputs
from .._protocol.claude_events import classify
from .._protocol.codec import encode_json
from .._protocol.mail import Answer, Confirmation, Goal, Input, Interrupt, Message, RawEvent
from ..artifacts import ClaudeFiles
from ..claude import ClaudeClient
from ..provisioning import ClaudeHandle, Order, Removal
from ..provisioning import _claude as provisioning
from ..provisioning._options import ClaudeOptions, claude_client, claude_options
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

NAME = "claude_managed_agents"

# How often, and after how many seconds each, a session that was interrupted is asked whether it can be put away.
STOP_ATTEMPTS = 8
STOP_INTERVAL = 0.5

# Bytes of an answer that an error shows.
EXCERPT = 500

CAPABILITIES = Capabilities(connections_have_tasks=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a session of this provider was asked to be; checked, and nothing sent yet."""

    client: ClaudeClient | None = None
    agent: str | Mapping[str, Any] | None = field(default=None, repr=False)
    environment: str | None = None
    session_id: str | None = None
    resources: Sequence[Mapping[str, Any]] | None = field(default=None, repr=False)
    vault_ids: Sequence[str] | None = None
    title: str | None = None
    metadata: Mapping[str, str] | None = field(default=None, repr=False)
    budget: Mapping[str, Any] | None = None
    deltas: bool = False
    model_config: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Connection:
    """A client, and what the session that uses it was asked to be."""

    client: ClaudeClient
    options: Options


def _identify(value: Any, what: str) -> str:
    """Take a resource's id from an id or from a handle that has one."""
    keys = (f"{what}_id", "id")
    found = [value.get(key) if isinstance(value, Mapping) else getattr(value, key, None) for key in keys]
    for candidate in (value, *found):
        if isinstance(candidate, str) and candidate:
            return candidate
    raise ConfigurationError(f"{what}= must be an id or a handle that has one, not a {type(value).__name__}")


def _agent(value: Any) -> str | dict[str, Any]:
    # A mapping with a "type" is the API's own way to pin a version or to override parts of an agent.
    if isinstance(value, Mapping) and value.get("type") in ("agent", "agent_with_overrides"):
        _identify(value, "agent")
        return {key: item for key, item in value.items() if key in _AGENT_KEYS or value["type"] != "agent"}
    return _identify(value, "agent")


# "Create a session": what {"type": "agent"} may hold; an agent as the API returns it holds more.
_AGENT_KEYS = ("type", "id", "version")


def parse_options(options: Mapping[str, Any]) -> Options:
    """Check the provider options of a session.

    Raises:
        TypeError: An option is unknown, or ``agent`` or ``environment`` is missing for a new session.
        ConfigurationError: A value cannot be used.
    """
    unknown = sorted(set(options) - set(Options.__dataclass_fields__))
    if unknown:
        known = ", ".join(sorted(Options.__dataclass_fields__))
        raise TypeError(f"{NAME} knows no option {', '.join(map(repr, unknown))}; it knows {known}")
    given = dict(options)
    client = given.get("client")
    if client is not None and not isinstance(client, ClaudeClient):
        raise ConfigurationError(f"client= must be a ClaudeClient, not a {type(client).__name__}")
    _check_shapes(given)
    if given.get("model_config") is None:
        given.pop("model_config", None)
    session_id = given.get("session_id")
    if session_id is not None:
        if not isinstance(session_id, str) or not session_id.strip():
            raise ConfigurationError(f"session_id= must be a non-empty string, not {session_id!r}")
        return Options(**given)
    missing = [key for key in ("agent", "environment") if given.get(key) is None]
    if missing:
        raise TypeError(f"a new session needs {' and '.join(missing)}= (or session_id= to resume one)")
    given["agent"] = _agent(given["agent"])
    given["environment"] = _identify(given["environment"], "environment")
    return Options(**given)


# What each of these options must be, if it is given, and in words.
_SHAPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "resources": ((list, tuple), "a list of resources"),
    "vault_ids": ((list, tuple), "a list of ids"),
    "title": (str, "text"),
    "metadata": (Mapping, "a mapping of text to text"),
    "budget": (Mapping, "a mapping"),
    "deltas": (bool, "True or False"),
    "model_config": (Mapping, "a mapping"),
}


def _check_shapes(given: Mapping[str, Any]) -> None:
    for name, (shape, words) in _SHAPES.items():
        value = given.get(name)
        if value is not None and not isinstance(value, shape):
            raise ConfigurationError(f"{name}= must be {words}, not a {type(value).__name__}")
    if any(not isinstance(resource, Mapping) for resource in given.get("resources") or ()):
        raise ConfigurationError("every one of resources= must be a mapping")
    if any(not isinstance(vault, str) or not vault for vault in given.get("vault_ids") or ()):
        raise ConfigurationError("every one of vault_ids= must be a non-empty string")


def is_resumed(options: Options) -> bool:
    """Whether the options name a session that exists already."""
    return options.session_id is not None


def metadata(options: Options) -> Mapping[str, Any]:
    """Give the metadata of ``model_config``."""
    found = options.model_config.get("metadata")
    return found if isinstance(found, Mapping) else {}


def describe(options: Options) -> Mapping[str, str]:
    """Say which agent the session is one of; of a session that is resumed the options do not tell."""
    agent = options.agent.get("id") if isinstance(options.agent, Mapping) else options.agent
    return {"agent_id": agent} if isinstance(agent, str) else {}


def open_connection(options: Options) -> AbstractAsyncContextManager[Connection]:
    """Use the caller's client, which stays open afterwards, or one of our own, which does not."""
    return _own_connection(options) if options.client is None else nullcontext(Connection(options.client, options))


@asynccontextmanager
async def _own_connection(options: Options) -> AsyncIterator[Connection]:
    config = options.model_config
    async with ClaudeClient(config.get("api_key"), config.get("base_url")) as client:
        yield Connection(client, options)


async def establish(connection: Connection) -> str:
    """Create the session and give its id; a session that is resumed costs no request here."""
    options = connection.options
    if options.session_id is not None:
        return options.session_id
    fields = {
        "agent": options.agent,
        "environment_id": options.environment,
        "resources": options.resources,
        "vault_ids": options.vault_ids,
        "title": options.title,
        "metadata": options.metadata,
        "budget": options.budget,
    }
    session = await connection.client.sessions.create({k: v for k, v in fields.items() if v is not None})
    session_id = session.get("id")
    if not isinstance(session_id, str) or not session_id:
        # What a server answers in place of a session may repeat what it was sent, so it is not shown.
        raise ProtocolError(f"creating a session gave no id, but an object with {len(session)} members")
    return session_id


def open_stream(connection: Connection, session_id: str) -> AbstractAsyncContextManager[EventSource]:
    """Attach to the session's event stream."""
    return connection.client.sessions.events.stream(session_id, deltas=connection.options.deltas)


def read_history(connection: Connection, session_id: str, *, since: str | None = None) -> HistoryPages:
    """Begin a listing of the session's events, oldest first."""
    return connection.client.sessions.events.pages(session_id, created_at_gte=since)


async def read_status(connection: Connection, session_id: str) -> str | None:
    """Ask for the session's status."""
    session = await connection.client.sessions.retrieve(session_id)
    status = session.get("status")
    return status if isinstance(status, str) else None


def _wire(item: Input) -> Event:
    match item:
        case Message(content=content):
            return claude_inputs.user_message(content)
        case Goal(outcome=outcome):
            return claude_inputs.define_outcome(outcome)
        case Interrupt():
            return claude_inputs.interrupt()
        case RawEvent(event=event):
            return event
        case Answer(use=use, result=result):
            return claude_inputs.custom_tool_result(use.id, result.content, is_error=result.is_error)
        case Confirmation(tool_use_id=call_id, verdict=verdict, message=message):
            return claude_inputs.tool_confirmation(call_id, verdict, message)


async def post(connection: Connection, session_id: str, item: Input) -> list[Event]:
    """Send one input as one event in a request of its own: one that is refused would take the others with it."""
    answer = await connection.client.sessions.events.send(session_id, [_wire(item)], retry=False)
    echo = answer.get("data")
    return [event for event in echo if isinstance(event, dict)] if isinstance(echo, list) else []


async def leave(connection: Connection, session_id: str, how: Literal["interrupt", "archive", "delete"]) -> None:
    """Interrupt, archive or delete a session. One that runs cannot be put away, and stops a while after its interrupt.

    Source: Claude Managed Agents documentation, session lifecycle.
    """
    sessions = connection.client.sessions
    if how == "interrupt":
        await sessions.events.send(session_id, [claude_inputs.interrupt()])
        return
    put_away = sessions.archive if how == "archive" else sessions.delete
    with suppress(ConflictError, InvalidRequestError):
        await put_away(session_id)
        return
    await sessions.events.send(session_id, [claude_inputs.interrupt()])
    for _ in range(STOP_ATTEMPTS):
        await trio.sleep(STOP_INTERVAL)
        with suppress(ConflictError, InvalidRequestError):
            await put_away(session_id)
            return
    await put_away(session_id)


def open_artifacts(connection: Connection, session_id: str, **options: Any) -> ArtifactStore:
    """Open the session's files; ``options`` are those of :class:`~managed_agents_actors.artifacts.ClaudeFiles`."""
    return ClaudeFiles(connection.client, session_id, **options)


def check_input(item: Input) -> None:
    """Check that an input can be put on the wire."""
    event = _wire(item)
    if isinstance(item, Confirmation) and not (isinstance(item.tool_use_id, str) and item.tool_use_id):
        raise ConfigurationError(f"a confirmation names its call by a non-empty id, not {item.tool_use_id!r}")
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise ConfigurationError('an event must be a dictionary with a "type", such as {"type": "user.interrupt"}')
    try:
        encode_json(event)
    except ValueError as error:
        raise ConfigurationError(f"{event['type']} is {error}; nothing was sent") from error


# --- provisioning ----------------------------------------------------------------------------------------------------


def parse_provisioning(options: Mapping[str, Any], *, teardown: bool = False) -> ClaudeOptions:  # noqa: ARG001 -- they are the same
    """Check the options of provisioning: ``client``, ``model_config``."""
    return claude_options(NAME, options)


async def provision(order: Order) -> ClaudeHandle:
    """Make an agent and an environment, or find them; both or none."""
    async with claude_client(order.options) as client:
        return await provisioning.provision_claude(client, order)


async def teardown(removal: Removal) -> None:
    """Archive an agent and delete its environment, each whatever becomes of the other."""
    async with claude_client(removal.options) as client:
        await provisioning.teardown_claude(client, removal)
