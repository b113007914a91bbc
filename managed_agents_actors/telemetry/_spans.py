"""What begins and ends: a span is told when it begins and when it ends, with how long it took, and knows what it is in.

Spans are numbered. The events of one have its number as ``span_id``, and the number of the one around it as
``parent_id``, so that a listener can tell what belongs together however many tasks are at work.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Token
from types import TracebackType
from typing import Any, Final, NamedTuple, final

import trio

from ._bus import deliver, is_span_heard, listeners_of
from ._events import SpanName
from ._scope import NO_TAGS, Scope, _scope, current_scope

__all__ = ["SESSION_REQUEST", "Span", "SpanBlock", "SpanNames", "current_time", "span"]

_numbers = itertools.count(1)


class SpanNames(NamedTuple):
    """The names of a span's events, where they are not made of the span's own."""

    start: str
    stop: str
    exception: str


# A request of a session always ends with the one event that tells its terminal.
SESSION_REQUEST: Final = SpanNames(
    "managed_agents.session.request_started", "managed_agents.session.terminal", "managed_agents.session.terminal"
)


def current_time() -> float:
    """Seconds on trio's clock, or, outside of trio, on the system's."""
    return _current_clock()()


def _current_clock() -> Callable[[], float]:
    try:
        return trio.lowlevel.current_clock().current_time
    except RuntimeError:
        return time.monotonic


@final
class Span:
    """Something that goes on, begun by :meth:`begin` and ended once, by :meth:`stop` or :meth:`fail`.

    Attributes:
        id: Its number.
        scope: Where what happens in it stands.
    """

    __slots__ = ("_began", "_clock", "_metadata", "_names", "id", "scope")

    def __init__(self, name: str | SpanNames, scope: Scope, metadata: Mapping[str, Any]) -> None:
        self.id = next(_numbers)
        self._names = SpanNames(f"{name}.start", f"{name}.stop", f"{name}.exception") if isinstance(name, str) else name
        self._clock = _current_clock()  # kept: a span may end in a thread, where the clock at hand is another one
        self._began = self._clock()
        around = {} if scope.span_id is None else {"parent_id": scope.span_id}
        self._metadata = {**scope.tags, **metadata, "span_id": self.id, **around}
        self.scope = Scope(scope.tags, self.id)

    @classmethod
    def begin(
        cls,
        name: SpanName | str | SpanNames,
        metadata: Mapping[str, Any] = NO_TAGS,
        *,
        scope: Scope | None = None,
        content: Mapping[str, Any] = NO_TAGS,
    ) -> Span | None:
        """Tell that something begins; ``None`` if nobody listens, and then its end is not told either.

        Args:
            name: What begins.
            metadata: What all of its events carry, beside the tags of its scope, over which it wins.
            scope: Where it stands; default: where the present task does.
            content: What only listeners are told that have asked for content.
        """
        if not is_span_heard(name):
            return None
        begun = cls(name, current_scope() if scope is None else scope, metadata)
        begun._tell(begun._names.start, {}, NO_TAGS, content)
        return begun

    def stop(
        self,
        metadata: Mapping[str, Any] = NO_TAGS,
        *,
        measurements: Mapping[str, Any] = NO_TAGS,
        content: Mapping[str, Any] = NO_TAGS,
    ) -> None:
        """Tell that it has ended, with its duration."""
        self._tell(self._names.stop, {**self._measured(), **measurements}, metadata, content)

    def fail(self, error: BaseException, metadata: Mapping[str, Any] = NO_TAGS, *, shown: bool = True) -> None:
        """Tell how it has ended: by an exception, or, which is no failure, by being cancelled or left.

        Only the type of the exception is told; the exception itself is content. A group of both is a failure. Whoever
        knows that it was cancelled because it had failed says so by an ``error_type``.

        Args:
            error: What came out of it.
            metadata: What else is told.
            shown: Whether the exception is content; else it holds what nobody may see.
        """
        failure = error.subgroup(Exception) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(failure, Exception):
            self.stop(metadata if "error_type" in metadata else {**metadata, "cancelled": True})
            return
        told = {**metadata, "error_type": type(failure).__name__}
        self._tell(self._names.exception, self._measured(), told, {"exception": error} if shown else NO_TAGS)

    def _measured(self) -> dict[str, float]:
        return {"duration": self._clock() - self._began}

    def _tell(
        self, name: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any], content: Mapping[str, Any]
    ) -> None:
        listeners = listeners_of(name)
        if listeners:
            told = {**self._metadata, **metadata} if metadata else self._metadata
            deliver(listeners, name, measurements, told, content)


@final
class SpanBlock:
    """A ``with`` block as a span. Entering gives a dictionary: what is put there is told at its end, too.

    Attributes:
        more: That dictionary.
        result: What is told at its end to listeners that have asked for content.
    """

    __slots__ = ("_content", "_metadata", "_name", "_shows_error", "_span", "_token", "more", "result")

    def __init__(
        self, name: str, metadata: Mapping[str, Any], content: Mapping[str, Any] = NO_TAGS, *, shows_error: bool = True
    ) -> None:
        self._shows_error = shows_error
        self._name = name
        self._metadata = metadata
        self._content = content
        self._span: Span | None = None
        self._token: Token[Scope] | None = None
        self.more: dict[str, Any] = {}
        self.result: Mapping[str, Any] = NO_TAGS

    def __enter__(self) -> dict[str, Any]:
        self.more = {}
        self._span = Span.begin(self._name, self._metadata, content=self._content)
        if self._span is not None:
            self._token = _scope.set(self._span.scope)
        return self.more

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._span is None or self._token is None:
            return
        with suppress(ValueError):  # a generator may have entered the block in another context, which ends by itself
            _scope.reset(self._token)
        if exc is None:
            self._span.stop(self.more, content=self.result)
        else:
            self._span.fail(exc, self.more, shown=self._shows_error)


def span(
    name: SpanName | str, metadata: Mapping[str, Any] = NO_TAGS, *, content: Mapping[str, Any] = NO_TAGS
) -> SpanBlock:
    """Make a ``with`` block a span.

    ``with telemetry.span("myapp.lookup", {"table": "customers"}) as told:`` tells ``<name>.start`` and then
    ``<name>.stop``, or ``<name>.exception`` if the block raises, with its ``duration`` in seconds. A block that is
    cancelled has stopped, with ``cancelled`` set. What happens in it, in the tasks that it starts too, is told as being
    in it; within a tool, say, it is itself in the tool's span. Do not hold one open across a ``yield`` of a generator.

    Args:
        name: What it is called.
        metadata: What its events carry.
        content: What only listeners are told that have asked for content.
    """
    return SpanBlock(name, metadata, content)
