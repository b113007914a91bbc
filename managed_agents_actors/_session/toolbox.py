"""``Toolbox``: a set of tools as a session's handler, and as the definitions a provider is given.

It checks the model's input, runs the tool, in a worker thread if it is not async, and renders what it returns
as text. Errors a tool raises pass through: what the model is told of them is the session's policy.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import functools
import json
import pathlib
import uuid
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, get_args

import trio

from .._errors import ConfigurationError, ToolError
from .._model import ToolContext, ToolOutput
from .tool import BadInput, Tool, tool
from .user_code import UserFunction

__all__ = ["Tool", "Toolbox", "tool"]

UnknownTools = Literal["error", "leave"]


class Toolbox:
    """Tools as a handler: pass it as ``handler=``, and its definitions when provisioning the agent.

    Args:
        tools: Functions decorated with :func:`tool`; plain functions are decorated here.
        unknown_tools: What becomes of a call of a tool that is not here: ``"error"`` answers it with an error
            result, ``"leave"`` leaves it to another client of the session.

    Attributes:
        unknown_tools: As given; the session acts on it.

    Raises:
        ConfigurationError: This is no list of tools, two have the same name, or one cannot be described to a
            provider.
    """

    def __init__(
        self, tools: Iterable[Tool[..., Any] | Callable[..., Any]], *, unknown_tools: UnknownTools = "error"
    ) -> None:
        if unknown_tools not in get_args(UnknownTools):
            raise ConfigurationError(f'unknown_tools must be "error" or "leave", not {unknown_tools!r}')
        self.unknown_tools: UnknownTools = unknown_tools
        self._tools: dict[str, Tool[..., Any]] = {}
        if not isinstance(tools, Iterable) or isinstance(tools, str | bytes | Mapping):
            raise ConfigurationError(f"Toolbox takes a list of tools, not a {type(tools).__name__}")
        for item in tools:
            added = item if isinstance(item, Tool) else Tool(item)
            if added.name in self._tools:
                raise ConfigurationError(f"two tools are named {added.name!r}; rename one with name=")
            self._tools[added.name] = added

    def __repr__(self) -> str:
        return f"<Toolbox {', '.join(self._tools) or 'without tools'}>"

    def owns(self, name: str) -> bool:
        """Whether a tool of this name is here."""
        return name in self._tools

    def custom_tools(self) -> list[dict[str, Any]]:
        """The tools as an agent of Claude Managed Agents declares them.

        Raises:
            ConfigurationError: A tool has no description.
        """
        return [item.custom_tool() for item in self._tools.values()]

    def inline_functions(self) -> list[dict[str, Any]]:
        """The tools as a harness of Bedrock AgentCore declares them.

        Raises:
            ConfigurationError: A tool has no description, or a name AgentCore does not take.
        """
        return [item.inline_function() for item in self._tools.values()]

    async def handle_tool_call(self, name: str, input: Mapping[str, Any], context: ToolContext) -> ToolOutput:
        """Run one call, and wait for its result.

        A cancelled call of a tool that is not async ends at once; its thread runs on and is abandoned.

        Returns:
            The tool's text; for an unknown tool or input that does not fit, an error result that says so.

        Raises:
            ToolError: By the tool, or because it exceeded its timeout.
            TypeError: The tool returned what has no text form.
            Exception: Whatever else the tool raises.
        """
        await trio.lowlevel.checkpoint()
        called = self._tools.get(name)
        if called is None:
            known = ", ".join(self._tools) or "none"
            return ToolOutput(content=f"There is no tool named {name!r}. Known tools: {known}.", is_error=True)
        try:
            arguments = called.bind(input, context)
        except BadInput as error:
            return ToolOutput(content=str(error), is_error=True)
        with trio.move_on_after(float("inf") if called.timeout is None else called.timeout):
            return _output(name, await UserFunction(functools.partial(called.function, **arguments))())
        raise ToolError(f"the tool {name!r} did not finish within {called.timeout} seconds")


def _output(name: str, value: Any) -> ToolOutput:
    if isinstance(value, ToolOutput):
        return value
    if value is None or value == "":
        return ToolOutput(content="(no output)")
    if isinstance(value, str):
        return ToolOutput(content=value)
    try:
        return ToolOutput(content=json.dumps(value, ensure_ascii=False, default=_plain))
    except (TypeError, ValueError, RecursionError) as error:
        raise TypeError(
            f"tool {name!r} returned a {type(value).__name__} that has no text form ({error}): return str,"
            " ToolOutput or JSON data"
        ) from error


def _plain(value: Any) -> Any:
    """What JSON can hold in place of a value it cannot."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | uuid.UUID | pathlib.PurePath):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON data")
