"""The options of an AgentCore session: what each must be. Everything is checked here, and nothing is sent.

An error names the option as its caller wrote it, and shows no value that could hold a credential.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._errors import ConfigurationError
from .._http.checks import shown
from .._model import is_number
from ..agentcore import AgentCoreClient

__all__ = ["CLIENT_KEYS", "Options", "is_resumed", "metadata", "parse_options", "region_of"]

NAME = "bedrock_agent_core"

# "InvokeHarness", request parameters.
SESSION_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{32,99}")
HARNESS_ARN = re.compile(
    r"arn:[^:]+:bedrock-agentcore:(?P<region>[a-z0-9-]+):[0-9]{12}:harness/[a-zA-Z][a-zA-Z0-9_]{0,39}-[a-zA-Z0-9]{10}"
)
QUALIFIER = re.compile(r"[a-zA-Z][a-zA-Z0-9_]{0,47}")

MOST_RETRIES = 10

# What a budget can be: the service counts in 32 bits.
MOST = 2**31 - 1

# What model_config= may have: how a client is made, if none is given, and what goes with everything.
CLIENT_KEYS = ("region", "credentials", "endpoint_url")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a session of this provider was asked to be; checked, and nothing sent yet. Times are in seconds."""

    harness_arn: str
    session_id: str
    resumed: bool
    client: AgentCoreClient | None = None
    qualifier: str | None = None
    idle_timeout: float | None = None
    stop_on_cancel: bool = False
    invoke_retries: int = 2
    fields: Mapping[str, Any] = field(default_factory=dict, repr=False)
    model_config: Mapping[str, Any] = field(default_factory=dict, repr=False)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_header(value: Any) -> bool:
    return _is_text(value) and value.isascii() and value.isprintable() and value == value.strip()


def _is_budget(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST


def _is_list_of(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | tuple) and all(isinstance(item, kind) and item for item in value)


_are_mappings, _are_texts = _is_list_of(Mapping), _is_list_of(str)

# Options that go into every invocation: the name on the wire, whether it can be that, and in words.
_FIELDS: dict[str, tuple[str, Callable[[Any], bool], str]] = {
    "actor_id": ("actorId", _is_text, "a non-empty text"),
    "runtime_user_id": ("runtimeUserId", _is_header, "printable ASCII: it is sent as a header"),
    "timeout_seconds": ("timeoutSeconds", _is_budget, f"a whole number from 1 to {MOST}"),
    "max_iterations": ("maxIterations", _is_budget, f"a whole number from 1 to {MOST}"),
    "max_tokens": ("maxTokens", _is_budget, f"a whole number from 1 to {MOST}"),
    "model": (
        "model",
        lambda value: _is_text(value) or isinstance(value, Mapping),
        "a model id or a model configuration",
    ),
    "system_prompt": (
        "systemPrompt",
        lambda value: _is_text(value) or _are_mappings(value),
        "a non-empty text or a list of blocks",
    ),
    "tools": ("tools", _are_mappings, "a list of tools, each a mapping"),
    "allowed_tools": ("allowedTools", _are_texts, "a list of patterns, each a non-empty text"),
    "skills": ("skills", _are_mappings, "a list of skills, each a mapping"),
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
    model_config = _model_config(given.get("model_config", {}), client)
    session_id, harness_arn = _session_id(given), _harness_arn(given)
    _check_region(client, model_config, harness_arn)
    return Options(
        client=client,
        harness_arn=harness_arn,
        session_id=session_id,
        resumed="session_id" in given,
        qualifier=_qualifier(given.get("qualifier")),
        idle_timeout=_idle_timeout(given.get("idle_timeout")),
        stop_on_cancel=_flag(given.get("stop_on_cancel", False)),
        invoke_retries=_retries(given.get("invoke_retries", 2)),
        fields={wire: _field(name, given[name]) for name, (wire, _, _) in _FIELDS.items() if name in given},
        model_config=model_config,
    )


def _model_config(value: Any, client: AgentCoreClient | None) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"model_config= must be a mapping, not a {type(value).__name__}")
    known = ("metadata",) if client is not None else (*CLIENT_KEYS, "metadata")
    unknown = sorted(str(key) for key in value if key not in known)
    if unknown:
        beside = " beside client=" if client is not None else ""
        raise ConfigurationError(f"model_config={beside} takes {', '.join(known)}, not {', '.join(unknown)}")
    if not isinstance(value.get("metadata", {}), Mapping):
        raise ConfigurationError(f"the metadata of model_config= must be a mapping, not {shown(value['metadata'])}")
    return value


def _session_id(given: Mapping[str, Any]) -> str:
    name = "session_id" if "session_id" in given else "runtime_session_id"
    if name not in given:
        raise TypeError("a new session needs runtime_session_id=, such as str(uuid.uuid4()); session_id= resumes one")
    value = given[name]
    if not isinstance(value, str) or not SESSION_ID.fullmatch(value):
        raise ConfigurationError(
            f"{name}= must have 33 to 100 letters, digits, - and _, and begin with a letter or digit, not"
            f" {shown(value)}; str(uuid.uuid4()) is one"
        )
    return value


def _harness_arn(given: Mapping[str, Any]) -> str:
    name = "harness_arn" if "harness_arn" in given else "harness"
    if name not in given:
        raise TypeError("a session needs harness_arn=, or harness= with a handle that has one")
    value = given[name]
    # In turn: what create_harness() and get_harness() answer, then a handle's attribute or member.
    for key in ("harness", "harness_arn", "harnessArn", "arn"):
        if not isinstance(value, str):
            value = value.get(key, value) if isinstance(value, Mapping) else getattr(value, key, value)
    if not isinstance(value, str) or not HARNESS_ARN.fullmatch(value):
        raise ConfigurationError(
            f"{name}= must be the ARN of a harness, arn:aws:bedrock-agentcore:<region>:<account>:harness/<id>, or"
            f" something that has one, not {shown(value)}"
        )
    return value


def _check_region(client: AgentCoreClient | None, model_config: Mapping[str, Any], harness_arn: str) -> None:
    """A harness is invoked in its own region; a signature for another one would be refused."""
    region = model_config.get("region") if client is None else client.region
    if region not in (None, region_of(harness_arn)):
        raise ConfigurationError(f"the harness is in {region_of(harness_arn)}, and the client in {region}")


def describe(options: Options) -> Mapping[str, str]:
    """Say which agent the session is one of, by the harness's id: an ARN holds the account's number."""
    return {"agent_id": options.harness_arn.rpartition("/")[2]}


def region_of(harness_arn: str) -> str:
    """The region that a harness is in, by its ARN."""
    return harness_arn.split(":")[3]


def _qualifier(value: Any) -> str | None:
    if value is not None and not (isinstance(value, str) and QUALIFIER.fullmatch(value)):
        raise ConfigurationError(f"qualifier= must be the name of a harness endpoint, not {shown(value)}")
    found: str | None = value
    return found


def _idle_timeout(value: Any) -> float | None:
    if value is None:
        return None  # the client's own
    if not (is_number(value) and value > 0):
        raise ConfigurationError(f"idle_timeout= must be a positive number of seconds, not {shown(value)}")
    return float(value)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"stop_on_cancel= must be True or False, not {shown(value)}")
    return value


def _retries(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_RETRIES:
        raise ConfigurationError(f"invoke_retries= must be a whole number from 0 to {MOST_RETRIES}, not {shown(value)}")
    return value


def _field(name: str, value: Any) -> Any:
    _, fits, words = _FIELDS[name]
    if not fits(value):
        # Tools and models may hold credentials.
        raise ConfigurationError(f"{name}= must be {words}, not {shown(value)}")
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
