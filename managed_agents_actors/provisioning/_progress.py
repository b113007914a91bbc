"""How far a call has come: its one deadline, what it looks at, and the errors that say all of that.

A call that makes something has one :class:`Course`. It bounds everything the call does, but for taking back what it
made and for writing down what it did, which have bounds of their own.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar, final

import trio

from .._errors import APIError, ConfigurationError, ProvisioningError, ServerError, TransportError
from .._http.checks import check_seconds, shown
from ..agentcore._waits import Seen
from ..telemetry import emit, get_logger
from ..telemetry._scope import NO_TAGS

__all__ = ["Course", "OnProgress", "Progress", "changed_nothing", "check_limit"]

# Between two looks: a twelfth of the time, so that a short one is used, but a long one is no reason to look seldom.
LOOKS: Final = 12
LEAST_INTERVAL: Final = 0.05
MOST_INTERVAL: Final = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a call has come, told at every look at what it waits for.

    Attributes:
        phase: What it waits for, such as ``"ready"`` or ``"deleted"``.
        id: The id of what it looks at, or the name while there is no id.
        status: The status that was seen last; ``None`` if none was.
        elapsed: Seconds since the call began.
        polls: The looks of this phase, this one included.
    """

    phase: str
    id: str
    status: str | None
    elapsed: float
    polls: int


OnProgress: TypeAlias = Callable[[Progress], object | Awaitable[object]]


def check_limit(seconds: Any, name: str = "timeout") -> float:
    """Give a number of seconds back that somebody can wait for.

    Raises:
        ConfigurationError: It is no positive, finite number.
    """
    check_seconds(**{name: seconds})
    if math.isinf(seconds):
        raise ConfigurationError(f"{name} must be a finite number of seconds: nothing is waited for for ever")
    return float(seconds)


def changed_nothing(error: BaseException) -> bool:
    """Whether a request that ended so was certainly not acted on: it was refused, or not sent."""
    if isinstance(error, TransportError):
        return not error.request_sent
    return isinstance(error, APIError | ConfigurationError) and not isinstance(error, ServerError)


@final
class Course:
    """The course of one call.

    Args:
        what: What the call is to make, in words.
        timeout: The longest it may take, in seconds; ``None`` leaves that to the client's own bound for each request.
        interval: Seconds between two looks; by default a twelfth of ``timeout``, 0.05 at least and 5 at most.
        on_progress: Is told of every look, and may be async. If it fails, that is logged.

    Attributes:
        begun: When the call began, on trio's clock.
        interval: As given, or as follows from ``timeout``.

    Raises:
        ConfigurationError: One of them cannot be used.
    """

    def __init__(
        self,
        what: str,
        *,
        timeout: float | None = None,
        interval: float | None = None,
        on_progress: OnProgress | None = None,
    ) -> None:
        for name, seconds in (("timeout", timeout), ("interval", interval)):
            if seconds is not None:
                check_limit(seconds, name)
        if on_progress is not None and not callable(on_progress):
            raise ConfigurationError(f"on_progress= must be a function of a Progress, not {shown(on_progress)}")
        self.begun = trio.current_time()
        self._timeout = math.inf if timeout is None else timeout
        self.interval = interval or max(LEAST_INTERVAL, min(MOST_INTERVAL, self._timeout / LOOKS))
        self._what = what
        self._on_progress = on_progress
        self._phase, self._id = "begin", what
        self._status: str | None = None
        self._polls = 0
        self._looks = 0
        self._told_as: str | None = None
        self._failure: Exception | None = None
        self._notes: list[str] = []
        self._log = get_logger(provisioning=what)

    @property
    def remaining(self) -> float:
        """The seconds that are left."""
        return self.begun + self._timeout - trio.current_time()

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        elapsed = trio.current_time() - self.begun
        return Progress(phase=self._phase, id=self._id, status=self._status, elapsed=elapsed, polls=self._polls)

    async def within_deadline(self, work: Callable[[], Awaitable[T]]) -> T:
        """Wait for some work until the deadline, which cancels it wherever it is.

        Raises:
            ProvisioningError: The deadline has passed.
        """
        try:
            made = await self._before_deadline(work)
        except BaseException as error:
            self._tell_failure(error)
            raise
        self._tell("stop", {"duration": self.progress.elapsed, "polls": self._looks}, {"result": "ok"})
        return made

    async def _before_deadline(self, work: Callable[[], Awaitable[T]]) -> T:
        with trio.move_on_at(self.begun + self._timeout):
            return await work()
        last = f"last seen {self._status}" if self._status else "never seen"
        message = f"was not provisioned within {self._timeout:g} s: {self._phase} of {self._id}, {last}"
        error = self.error(message, elapsed=self._timeout)  # by now, taking back may have taken time too
        for note in self._notes:
            error.add_note(note)
        raise error from self._failure

    def enter(self, phase: str, id: str) -> None:
        """Begin a phase."""
        self._phase, self._id = phase, id
        self._status, self._polls, self._failure = None, 0, None

    @contextmanager
    def phase(self, phase: str, id: str) -> Iterator[None]:
        """Begin a phase, and log its end."""
        self.enter(phase, id)
        try:
            yield
        except BaseException as error:
            self._log.warning("provisioning_phase_failed", error=type(error).__name__, **self._measured())
            raise
        self._log.info("provisioning_phase_done", **self._measured())

    async def look(self, seen: Seen) -> None:
        """Take down what a look saw, and tell of it."""
        self._status, self._polls, self._failure = seen.status or self._status, seen.polls, seen.failure
        self._looks += 1
        self._tell("poll", {"elapsed": self.progress.elapsed, "polls": seen.polls})
        if seen.failure is not None:
            self._log.warning("provisioning_look_failed", exc_info=seen.failure, **self._measured())
        if self._on_progress is None:
            return
        try:
            told = self._on_progress(self.progress)
            if inspect.isawaitable(told):
                await told
        except Exception as error:  # noqa: BLE001 -- an observer's defect must not touch what it observes
            self._log.warning("provisioning_on_progress_failed", exc_info=error)

    @contextmanager
    def may_have_made(self, name: str) -> Iterator[None]:
        """Say of a creation that ends here without an answer that it may have been one."""
        try:
            yield
        except BaseException as error:
            if not changed_nothing(error):
                note = f"whether {name} was created is unknown; the next call adopts it by its name"
                self.note(note, error)
            raise

    def note(self, note: str, error: BaseException) -> None:
        """Note something on the error that the caller is going to see, be it this one or that of the deadline."""
        error.add_note(note)
        self._notes.append(note)
        self._log.warning("provisioning_loose_end", note=note)

    def tell_as(self, what: str) -> None:
        """Tell of the looks and of the end on the event bus, under this name."""
        self._told_as = what

    def _tell(self, event: str, measurements: Mapping[str, Any], metadata: Mapping[str, Any] = NO_TAGS) -> None:
        if self._told_as is not None:
            about = {"harness_id": self._id, "phase": self._phase, "status": self._status}
            emit(f"{self._told_as}.{event}", measurements, {**about, **metadata})

    def _tell_failure(self, error: BaseException) -> None:
        measured = {"duration": self.progress.elapsed, "polls": self._looks}
        if isinstance(error, Exception):
            name = type(error).__name__
            self._tell("exception", measured, {"error_type": name, "result": name})
        else:
            self._tell("stop", measured, {"cancelled": True, "result": "cancelled"})

    def error(self, message: str, **more: Any) -> ProvisioningError:
        """The error that says how far it has come.

        Args:
            message: What happened.
            **more: More members of its context, such as ``reason``.
        """
        return ProvisioningError(f"{self._what} {message}", context={**self._measured(), **more})

    def _measured(self) -> dict[str, Any]:
        progress = self.progress
        return {name: getattr(progress, name) for name in ("phase", "id", "status", "elapsed", "polls")}
