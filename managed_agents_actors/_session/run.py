"""The two ways to have a session: run one request to its end, or keep the session open and talk to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

import trio

from .._model import Content, Outcome, ReconnectPolicy, SessionResult
from .._protocol.session_machine import INTERRUPT_GRACE
from ..actors import open_plain_nursery, plain_failures
from ..providers import claude_managed_agents
from ..providers.contract import Provider
from .actor import SessionActor, run_one_shot
from .handle import Session, check_name
from .handlers import Handler, ToolCallFunction
from .home import Home
from .journal import Journal
from .options import DEFAULT_PROMPT, TurnGuard, session_options


async def run_session(
    provider: Provider,
    *,
    handler: Handler | ToolCallFunction,
    prompt: Content | None = None,
    outcome: Outcome | Mapping[str, Any] | None = None,
    context: Any = None,
    timeout: float | None = 600.0,
    max_turns: int = 50,
    turn_guard: TurnGuard | None = None,
    terminal_tool: str | None = None,
    require_terminal_tool: bool = False,
    max_reprompts: int = 2,
    max_tool_concurrency: int | trio.CapacityLimiter = 8,
    tool_timeout: float | None = None,
    expose_exceptions: bool = False,
    reconnect: ReconnectPolicy = ReconnectPolicy(),  # noqa: B008 -- a frozen value
    unresolved_after: float = 10.0,
    journal: Journal | None = None,
    on_interrupted: Literal["rerun", "fail"] = "rerun",
    on_exit: Literal["leave", "interrupt", "archive", "delete"] = "leave",
    notify: trio.MemorySendChannel[SessionResult] | None = None,
    telemetry_metadata: Mapping[str, Any] | None = None,
    **provider_options: Any,
) -> SessionResult:
    """Run one request to its end: the provider runs the loop, the handler's tools run here.

    Survives dropped streams: it attaches again, reads what was missed and goes on. What the provider itself ended is
    a result; what ended on our side raises, with the partial result on the error.

    Args:
        provider: A provider module, such as ``providers.claude_managed_agents``.
        handler: Runs the calls: a function ``(name, input, context)``, a :class:`Toolbox`, or a :class:`Handler`.
        prompt: The message to begin with: text or content blocks. A new session without one is told to begin; a
            resumed one without one is watched until what it is doing has ended.
        outcome: A goal to be graded on, instead of a prompt.
        context: Handed to the handler as ``context.user``.
        timeout: Seconds for all of it; ``None`` for no limit.
        max_turns: Turns the request may take.
        turn_guard: Called with a :class:`TurnResult` after every turn; ``Halt(reason)`` stops the request. A guard
            that raises or gives anything else stops it too.
        terminal_tool: The custom tool whose call completes the work.
        require_terminal_tool: Whether to ask for it when the agent ends without having called it.
        max_reprompts: How often to ask.
        max_tool_concurrency: How many calls run at once; or a limiter, to share it between sessions.
        tool_timeout: Seconds for one call.
        expose_exceptions: Whether the model is told the message of what a tool raised, not only its type.
        reconnect: How a lost stream is opened again.
        unresolved_after: Seconds of quiet before a wait that nobody here can end is looked into.
        journal: Where calls are recorded, so that none runs twice; by default one in memory. With a durable one, such
            as :class:`SqliteJournal`, that holds for a session resumed after its process died.
        on_interrupted: What becomes of a call that was running when its process, or its actor, died: ``"rerun"``
            offers it to the handler again, with ``context.attempt`` above 1; ``"fail"`` answers it with an error.
        on_exit: What becomes of the session at the provider when this side has done with it, by an end, a failure or a
            cancellation: ``"leave"`` it as it is, ``"interrupt"`` what it is doing, ``"archive"`` or ``"delete"`` it.
            Takes at most five seconds, even under cancellation.
        notify: A channel that is told of the terminal too.
        telemetry_metadata: Goes to contexts and telemetry.
        **provider_options: The provider's own options, such as ``client=``, ``agent=``, ``session_id=``.

    Returns:
        The result, also when the provider ended the session.

    Raises:
        TypeError: An option is unknown or missing; nothing was sent.
        ConfigurationError: An option cannot be used; nothing was sent.
        APIError: The provider refused the session or its first message.
        SessionTimeout: It did not end in time.
        MaxTurnsExceeded: It wanted more turns.
        TurnHalted: The guard stopped it.
        UnresolvedRequiresAction: It waits for calls that nobody knows.
        SessionGone: The session is deleted or terminated, or never existed.
    """
    options = session_options(
        provider,
        handler=handler,
        prompt=prompt,
        outcome=outcome,
        context=context,
        default_prompt=DEFAULT_PROMPT,
        timeout=timeout,
        max_turns=max_turns,
        turn_guard=turn_guard,
        terminal_tool=terminal_tool,
        require_terminal_tool=require_terminal_tool,
        max_reprompts=max_reprompts,
        max_tool_concurrency=max_tool_concurrency,
        tool_timeout=tool_timeout,
        expose_exceptions=expose_exceptions,
        reconnect=reconnect,
        unresolved_after=unresolved_after,
        journal=journal,
        on_interrupted=on_interrupted,
        on_exit=on_exit,
        notify=notify,
        telemetry_metadata=telemetry_metadata,
        provider_options=provider_options,
    )
    return await run_one_shot(options)


@asynccontextmanager
async def open_session(
    provider: Provider,
    *,
    handler: Handler | ToolCallFunction,
    name: str | None = None,
    prompt: Content | None = None,
    outcome: Outcome | Mapping[str, Any] | None = None,
    context: Any = None,
    timeout: float | None = None,
    max_turns: int = 50,
    turn_guard: TurnGuard | None = None,
    terminal_tool: str | None = None,
    require_terminal_tool: bool = False,
    max_reprompts: int = 2,
    max_tool_concurrency: int | trio.CapacityLimiter = 8,
    tool_timeout: float | None = None,
    expose_exceptions: bool = False,
    reconnect: ReconnectPolicy = ReconnectPolicy(),  # noqa: B008 -- a frozen value
    unresolved_after: float = 10.0,
    journal: Journal | None = None,
    on_interrupted: Literal["rerun", "fail"] = "rerun",
    on_exit: Literal["leave", "interrupt", "archive", "delete"] = "leave",
    notify: trio.MemorySendChannel[SessionResult] | None = None,
    telemetry_metadata: Mapping[str, Any] | None = None,
    **provider_options: Any,
) -> AsyncIterator[Session]:
    """Keep a session open for as long as an ``async with`` block lasts.

    Entering waits until the session exists at the provider. Leaving stops the session's actor; the session at the
    provider stays, and can be resumed by ``session_id=``. If the session fails and nobody in the block has seen the
    failure, leaving raises it.

    Args are those of :func:`run_session`, with these differences: ``name`` is the session's name; ``timeout`` is for
    each request, from when it goes out, with no limit by default; and without ``prompt`` or ``outcome`` the session
    waits for its first message.

    Raises:
        TypeError: An option is unknown or missing; nothing was sent.
        ConfigurationError: An option cannot be used; nothing was sent.
        APIError: The provider refused the session or its first message.
        SessionGone: The session to be resumed is deleted or terminated.
    """
    check_name(name)
    options = session_options(
        provider,
        handler=handler,
        prompt=prompt,
        outcome=outcome,
        context=context,
        default_prompt=None,
        timeout=timeout,
        max_turns=max_turns,
        turn_guard=turn_guard,
        terminal_tool=terminal_tool,
        require_terminal_tool=require_terminal_tool,
        max_reprompts=max_reprompts,
        max_tool_concurrency=max_tool_concurrency,
        tool_timeout=tool_timeout,
        expose_exceptions=expose_exceptions,
        reconnect=reconnect,
        unresolved_after=unresolved_after,
        journal=journal,
        on_interrupted=on_interrupted,
        on_exit=on_exit,
        notify=notify,
        telemetry_metadata=telemetry_metadata,
        provider_options=provider_options,
    )
    home = Home(options, name)
    session = Session(home, name)
    async with open_plain_nursery() as nursery:
        await nursery.start(_live, home)
        try:
            yield session
        except BaseException:
            # An interrupt that a failed request has set off is still to reach the provider, which else works on.
            with trio.move_on_after(INTERRUPT_GRACE, shield=True):
                await session.stop()
            raise
        await session.stop()
        failure = session._unseen_failure()  # noqa: SLF001 -- the handle's other half
        if failure is not None:
            raise failure


async def _live(home: Home, *, task_status: trio.TaskStatus[Home]) -> None:
    """Run a session that nobody supervises: one actor, and the end."""
    with plain_failures():
        async with home.attended():
            await SessionActor(home).run(task_status=task_status)


async def run_to_completion(**options: Any) -> SessionResult:
    """Run one request of a Claude Managed Agents session to its end: :func:`run_session` with that provider."""
    return await run_session(claude_managed_agents, **options)


def start_session(**options: Any) -> AbstractAsyncContextManager[Session]:
    """Keep a Claude Managed Agents session open: :func:`open_session` with that provider."""
    return open_session(claude_managed_agents, **options)
