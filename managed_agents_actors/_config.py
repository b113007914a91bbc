"""Where a setting comes from: explicit option, then ``configure()``, then the environment, then the default.

One function decides, over one table. A layer wins by *having* a value, not by the value being truthy. No other
file reads the environment for a setting.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from ._errors import ConfigurationError

__all__ = ["NOT_GIVEN", "NotGiven", "configure", "given", "reset_configuration", "setting"]


class NotGiven(Enum):
    """The type of :data:`NOT_GIVEN`, a value of its own because ``None`` can be a setting's value."""

    NOT_GIVEN = "not given"


NOT_GIVEN: Final = NotGiven.NOT_GIVEN


@dataclass(frozen=True, slots=True, kw_only=True)
class _Source:
    env: tuple[str, ...] = ()  # the first that is set counts
    default: Any = NOT_GIVEN


_SOURCES: Final[dict[str, _Source]] = {
    "api_key": _Source(env=("ANTHROPIC_API_KEY",)),
    "base_url": _Source(env=("ANTHROPIC_BASE_URL",), default="https://api.anthropic.com"),
    "anthropic_version": _Source(default="2023-06-01"),
    "beta": _Source(default="managed-agents-2026-04-01"),
    "files_beta": _Source(default=None),
    "auth_scheme": _Source(default="x-api-key"),
    # What the AWS SDKs read, in their order.
    "region": _Source(env=("AWS_REGION", "AWS_DEFAULT_REGION")),
    "agent_core_endpoint_url": _Source(env=("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", "AWS_ENDPOINT_URL"), default=None),
    "agent_core_control_endpoint_url": _Source(
        env=("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL", "AWS_ENDPOINT_URL"), default=None
    ),
}

_configured: dict[str, Any] = {}


def configure(**settings: Any) -> None:
    """Set process-wide settings, used wherever a client is not given the option itself.

    Clients read their settings once, when they are made. Settings that are not named keep their value;
    :func:`reset_configuration` takes settings away again.

    Args:
        **settings: For Claude ``api_key``, ``base_url``, ``anthropic_version``, ``beta``, ``files_beta``,
            ``auth_scheme``; for AgentCore ``region``, ``agent_core_endpoint_url``,
            ``agent_core_control_endpoint_url``.

    Raises:
        ConfigurationError: A name is not a setting; nothing was changed.
    """
    _check_names(settings)
    _configured.update(settings)


def reset_configuration(*names: str) -> None:
    """Forget what :func:`configure` set: the named settings, or all of them when none is named.

    Raises:
        ConfigurationError: A name is not a setting; nothing was changed.
    """
    _check_names(names)
    for name in names or tuple(_configured):
        _configured.pop(name, None)


def setting(name: str, option: Any = NOT_GIVEN) -> Any:
    """Look a setting up: the option, else ``configure()``, else the environment, else the default.

    An environment variable that is set but empty counts as not set.

    Args:
        name: The setting's name.
        option: What the caller was given; :data:`NOT_GIVEN` if nothing.

    Raises:
        ConfigurationError: The setting has no value; the message names every place that was looked at.
    """
    source = _SOURCES[name]
    if option is not NOT_GIVEN:
        return option
    if name in _configured:
        return _configured[name]
    for variable in source.env:
        if value := os.environ.get(variable):
            return value
    if source.default is not NOT_GIVEN:
        return source.default
    places = [f"the option {name}=", f"configure({name}=...)"]
    places += [f"the environment variable {variable}" for variable in source.env]
    raise ConfigurationError(f"{name} is not set; give it as {', or '.join(places)}")


def given(value: Any) -> Any:
    """Translate the ``None`` of an optional parameter to :data:`NOT_GIVEN`."""
    return NOT_GIVEN if value is None else value


def _check_names(names: Any) -> None:
    unknown = [name for name in names if name not in _SOURCES]
    if unknown:
        raise ConfigurationError(f"unknown setting {', '.join(unknown)}; the settings are {', '.join(_SOURCES)}")
