"""What a user may give as a handler, brought to one form: who runs a call, who watches events, who confirms.

A handler is an object with ``handle_tool_call`` (and perhaps ``handle_event``, ``handle_confirmation``), a
:class:`Toolbox`, or a plain function. Synchronous functions run in worker threads under a limiter of their own.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from .._errors import ConfigurationError
from .._model import Deny, ToolContext, ToolOutput, ToolUse
from .user_code import UserFunction

Verdict: TypeAlias = Literal["allow", "deny"] | Deny | None
ToolCallFunction: TypeAlias = Callable[[str, Mapping[str, Any], ToolContext], Awaitable[Any] | Any]
Policy: TypeAlias = Callable[[ToolUse, ToolContext], Awaitable[Verdict] | Verdict]


@runtime_checkable
class Handler(Protocol):
    """Runs the calls of one or many sessions.

    ``handle_event(event, context)`` and ``handle_confirmation(tool_use, context)`` are optional, both async:
    the first sees every event in order; the second answers ``"allow"``, ``"deny"``, ``Deny(message)``, or ``None``
    when it has no opinion.
    """

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: ToolContext) -> str | ToolOutput:
        """Run a call and give its result. May raise :class:`ToolError` to tell the model what went wrong."""
        ...


class HandlerAdapter:
    """One form for every kind of handler.

    Attributes:
        watch: Shows the handler an event, with its context; ``None`` if it does not want to see any.
    """

    def __init__(self, handler: Handler | ToolCallFunction) -> None:
        run = getattr(handler, "handle_tool_call", None)
        if run is None and callable(handler) and not inspect.isclass(handler):
            run = handler
        if run is None or not callable(run):
            raise ConfigurationError(
                "handler= must be a function (name, input, context), a Toolbox, or an object with an async "
                f"handle_tool_call; a {type(handler).__name__} is none of these"
            )
        self._run = UserFunction(run)
        self._owns = _optional(handler, "owns")
        watch, confirm = _optional(handler, "handle_event"), _optional(handler, "handle_confirmation")
        self.watch = None if watch is None else UserFunction(watch)
        self._confirm = None if confirm is None else UserFunction(confirm)
        self._leaves_unknown = getattr(handler, "unknown_tools", "error") == "leave"

    @property
    def confirms(self) -> bool:
        """Whether the handler can answer for gated calls."""
        return self._confirm is not None

    def owns(self, name: str) -> bool:
        """Whether a custom call of this name is answered here; if not, it is left to another client."""
        return not self._leaves_unknown or self._owns is None or bool(self._owns(name))

    async def run(self, use: ToolUse, context: ToolContext) -> Any:
        """Run a call; whatever the handler gives or raises comes out."""
        return await self._run(use.name, copy.deepcopy(dict(use.input)), context)

    async def confirm(self, use: ToolUse, context: ToolContext) -> Verdict:
        """Ask the handler for its verdict on a gated call."""
        return None if self._confirm is None else await self._confirm(use, context)


def _optional(handler: object, name: str) -> Callable[..., Any] | None:
    found = getattr(handler, name, None)
    if found is None or callable(found):
        return found
    raise ConfigurationError(f"the handler's {name} must be a function, not {found!r}")


def with_policy(handler: Handler | ToolCallFunction, policy: Policy) -> Handler:
    """Give a handler whose calls must pass a policy before they run.

    Args:
        handler: The handler that runs what is allowed.
        policy: Called with the call and its context, sync or async; ``"allow"`` lets it run. ``"deny"`` or
            ``Deny(message)`` becomes the call's error result, and so does anything else, a failure included.
    """
    if not callable(policy):
        raise ConfigurationError(f"a policy is a function of a call and its context, not {policy!r}")
    return _Policed(handler, policy)


class _Policed:
    def __init__(self, handler: Handler | ToolCallFunction, policy: Policy) -> None:
        self._inner = HandlerAdapter(handler)
        self._policy = UserFunction(policy)
        for optional in ("handle_event", "handle_confirmation", "owns", "unknown_tools"):
            if hasattr(handler, optional):
                setattr(self, optional, getattr(handler, optional))

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: ToolContext) -> Any:
        use = ToolUse(id=context.tool_use_id, name=name, input=input, thread_id=context.thread_id)
        verdict = await self._policy(use, context)
        if verdict == "allow":
            return await self._inner.run(use, context)
        message = verdict.message if isinstance(verdict, Deny) else None
        return ToolOutput(content=message or f"The call of {name} was denied.", is_error=True)
