"""The event bus: what happens in the library is told to whoever has attached a listener, at once and in order.

One bus per process. An event that nobody listens to costs one dictionary look-up. A listener is called by the task
that tells the event; one that fails is detached and reported, and never fails whoever tells.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeAlias, final

from .._errors import ConfigurationError
from ._events import EVENT_NAMES, EventName
from ._log import get_logger
from ._scope import NO_TAGS, Scope, current_scope

__all__ = ["Attachment", "Listener", "attach", "detach", "emit", "is_heard", "trace_headers"]

Listener: TypeAlias = Callable[[str, Mapping[str, Any], Mapping[str, Any]], object]
HeaderSource: TypeAlias = Callable[[], Mapping[str, str]]

# Source: W3C Trace Context, sections 3.2 and 3.3. What else a listener might send along is not for a provider's eyes.
TRACE_PARENT: Final = "traceparent"
TRACE_HEADERS: Final = (TRACE_PARENT, "tracestate")

# What of a span is told.
SPAN_EVENTS: Final = ("start", "stop", "exception")

# How many names' listeners are remembered. The library has some thirty, an application about as many; one that makes up
# names as it goes along, with an id in each, must not fill the memory.
REMEMBERED: Final = 1024


@final
class Attachment:
    """A listener that is attached; leaving its ``with`` block, if it is used as one, detaches it.

    Attributes:
        listener: Who is told.
        prefix: What the names of the events begin with that it is told of.
        content: Whether it is told what people, models and tools say.
        headers: Gives the headers by which a request carries the trace on, if the listener has any.
        on_detach: Called once it is detached, if the listener has anything to end then. It must not raise.
    """

    __slots__ = ("content", "headers", "listener", "on_detach", "prefix")

    def __init__(
        self, listener: Listener, prefix: tuple[str, ...], *, content: bool, headers: HeaderSource | None
    ) -> None:
        self.listener = listener
        self.prefix = prefix
        self.content = content
        self.headers = headers
        self.on_detach: Callable[[], object] | None = None

    def __repr__(self) -> str:
        return f"<Attachment {self.listener!r} to {', '.join(self.prefix)!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        detach(self)

    def hears(self, name: str) -> bool:
        """Whether it is told of events of this name: a prefix matches whole parts between the dots."""
        return any(not each or name == each or name.startswith(f"{each}.") for each in self.prefix)


@final
class _Routes(dict[str, tuple[Attachment, ...]]):
    """Who hears of which name. Found out once for each name; made anew when somebody comes or goes."""

    def __init__(self, attached: tuple[Attachment, ...]) -> None:
        self.attached = attached
        self.spans = _Spans(self)

    def __missing__(self, name: str) -> tuple[Attachment, ...]:
        found = tuple(attachment for attachment in self.attached if attachment.hears(name))
        if name in _OURS or len(self) < REMEMBERED:
            self[name] = found
        return found


@final
class _Spans(dict[str | tuple[str, ...], bool]):
    """Whether anybody hears of the beginning or an end of a span, by its name or by the names of its events."""

    def __init__(self, routes: _Routes) -> None:
        self._routes = routes

    def __missing__(self, name: str | tuple[str, ...]) -> bool:
        names = [f"{name}.{what}" for what in SPAN_EVENTS] if isinstance(name, str) else name
        found = any(self._routes[each] for each in names)
        if not _OURS.isdisjoint(names) or len(self) < REMEMBERED:
            self[name] = found
        return found


_OURS: Final = frozenset(EVENT_NAMES)
_routes = _Routes(())
_changing = threading.Lock()


def attach(
    listener: Listener,
    prefix: str | tuple[str, ...] = "",
    *,
    content: bool = False,
    headers: HeaderSource | None = None,
) -> Attachment:
    """Tell a listener of events from now on.

    It is called as ``listener(name, measurements, metadata)``, by the task or thread in which the event happens, which
    waits for it: it must be quick, must not block, and must leave the mappings as they are. If it raises an
    ``Exception``, it is detached and reported to the log, with its traceback.

    Args:
        listener: A function; not an async one.
        prefix: What the names begin with: ``"managed_agents.tool"`` is told of ``managed_agents.tool.start`` and so on;
            several in a tuple, none of them in an empty one; by default everything.
        content: Whether it is told what people, models and tools say, too: what would else be in no event. It may hold
            secrets of yours.
        headers: Called before each request, in its task; gives ``traceparent`` and ``tracestate``, which the request
            takes along. Others are left out.

    Returns:
        What :func:`detach` takes. In a ``with`` statement it is detached at the end of the block.

    Raises:
        ConfigurationError: An argument cannot be used.
    """
    if not callable(listener) or _is_async(listener):
        raise ConfigurationError(
            f"a listener must be a function (name, measurements, metadata) that is not async, not {listener!r}"
        )
    prefixes = (prefix,) if isinstance(prefix, str) else prefix
    if not isinstance(prefixes, tuple) or not all(isinstance(each, str) for each in prefixes):
        raise ConfigurationError(f"prefix= must be the beginning of events' names, or a tuple of them, not {prefix!r}")
    checked = tuple(each.rstrip(".") for each in prefixes)
    attachment = Attachment(listener, checked, content=bool(content), headers=headers)
    _change(lambda attached: (*attached, attachment))
    return attachment


def detach(attachment: Attachment) -> bool:
    """Tell a listener of no event that happens from now on; of one that is being told, it may still be told.

    Returns:
        Whether it was attached: one that has failed is detached already.
    """
    was_attached = _change(lambda attached: tuple(each for each in attached if each is not attachment))
    if was_attached and attachment.on_detach is not None:
        attachment.on_detach()
    return was_attached


def _change(change: Callable[[tuple[Attachment, ...]], tuple[Attachment, ...]]) -> bool:
    global _routes  # one bus per process; it is replaced as a whole, so that telling takes no lock
    with _changing:
        before, after = _routes.attached, change(_routes.attached)
        if before != after:
            _routes = _Routes(after)
        return before != after


def _is_async(listener: Any) -> bool:
    while isinstance(listener, functools.partial):
        listener = listener.func
    called = (listener, type(listener).__call__)
    return any(inspect.iscoroutinefunction(each) or inspect.isasyncgenfunction(each) for each in called)


def is_heard(name: EventName | str) -> bool:
    """Whether anybody listens to events of this name: for those who would have to find out what to tell."""
    return bool(_routes[name])


def emit(
    name: EventName | str,
    measurements: Mapping[str, Any] = NO_TAGS,
    metadata: Mapping[str, Any] = NO_TAGS,
    *,
    content: Mapping[str, Any] = NO_TAGS,
    scope: Scope | None = None,
) -> None:
    """Tell an event. No listener's failure comes out of it.

    Args:
        name: Its name, parts divided by dots.
        measurements: Its numbers; times are in seconds.
        metadata: What it is about. The tags of its scope are added, and what is given here wins over them.
        content: What only listeners are told that have asked for content.
        scope: Where it stands; default: where the present task does.
    """
    listeners = _routes[name]
    if listeners:
        scope = current_scope() if scope is None else scope
        inside = {} if scope.span_id is None else {"parent_id": scope.span_id}
        deliver(listeners, name, measurements, {**scope.tags, **inside, **metadata}, content)


def deliver(
    listeners: tuple[Attachment, ...],
    name: str,
    measurements: Mapping[str, Any],
    metadata: Mapping[str, Any],
    content: Mapping[str, Any],
) -> None:
    """Call the listeners; for those who tell an event with tags of its own."""
    for attachment in listeners:
        try:
            told = {**metadata, **content} if content and attachment.content else metadata
            attachment.listener(name, measurements, told)
        except Exception as error:  # noqa: BLE001 -- a listener's defect must not touch what it listens to
            _give_up(attachment, error, telemetry_event=name)


def listeners_of(name: str) -> tuple[Attachment, ...]:
    """Everybody who hears of a name."""
    return _routes[name]


def is_span_heard(name: str | tuple[str, ...]) -> bool:
    """Whether anybody listens to the beginning or an end of a span of this name."""
    return _routes.spans[name]


def trace_headers() -> dict[str, str]:
    """Give the headers by which a request of the present task carries its trace on; none if nobody traces.

    They are those of the first listener that has a trace: a state belongs to its parent, and a request has one.
    """
    for attachment in _routes.attached:
        if attachment.headers is not None:
            try:
                given = attachment.headers()
                found = {name: given[name] for name in TRACE_HEADERS if _is_sendable(given.get(name))}
            except Exception as error:  # noqa: BLE001 -- as for listeners
                _give_up(attachment, error)
            else:
                if TRACE_PARENT in found:
                    return found
    return {}


def _is_sendable(value: Any) -> bool:
    return isinstance(value, str) and bool(value) and value.isascii() and value.isprintable()


def _give_up(attachment: Attachment, error: Exception, **where: Any) -> None:
    if detach(attachment):  # it may have failed in several threads at once
        # Not its repr, which could fail as well, or show what it holds.
        listener = getattr(attachment.listener, "__qualname__", type(attachment.listener).__qualname__)
        get_logger().error("telemetry_listener_detached", listener=listener, exc_info=error, **where)
