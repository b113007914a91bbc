"""The life of a session's stream: attach, read history, live, lost, wait, attach again. Pure; it gives effects back.

A generation numbers each stream, so that what a stream that is gone still says is told from what the present one says.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from ..._errors import (
    APIError,
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    ManagedAgentsError,
    NotFoundError,
    PermissionDeniedError,
    ProtocolError,
)
from ..effects import Attach, Backoff, CancelTimer, Effect, Landmark, Reconnecting, Report, SetTimer

Phase: TypeAlias = Literal["opening", "attaching", "live", "reconnecting", "closed"]


def is_permanent(error: ManagedAgentsError | None) -> bool:
    """Whether trying again cannot help: no such session, a refused credential or request, a client that is closed."""
    match error:
        case InvalidRequestError():
            return error.status != 408  # a timeout of the server's
        case AuthenticationError():
            return error.status == 401  # said on a stream, a key has run out: the next stream asks for another one
        case ProtocolError():
            return error.permanent
        case _:
            return isinstance(error, NotFoundError | PermissionDeniedError | ConfigurationError)


class Connection:
    """Where the stream stands.

    Attributes:
        phase: For status displays and for the one rule that nothing is posted unless it is ``"live"``.
        generation: The number of the newest stream.
        failures: Losses since the stream was last healthy.
        reads_history: Whether the newest stream begins with a listing.
    """

    __slots__ = ("_healthy_after", "_max_attempts", "failures", "generation", "phase", "reads_history")

    def __init__(self, *, max_attempts: int | None, healthy_after: float, generation: int = 0) -> None:
        self._max_attempts = max_attempts
        self._healthy_after = healthy_after
        self.phase: Phase = "reconnecting" if generation else "opening"
        self.generation = generation
        self.failures = 0
        self.reads_history = True

    @property
    def live(self) -> bool:
        """Whether the log is read to its end and goes on arriving."""
        return self.phase == "live"

    def open(self, *, blank: bool) -> list[Effect]:
        """The session exists: attach for the first time. A log known to be blank needs no listing."""
        return self._attach(read_history=not blank)

    def retry(self, since: Landmark | None) -> list[Effect]:
        """The wait is over: attach again, and read what was missed since the landmark, or everything."""
        return self._attach(read_history=True, since=since)

    def _attach(self, *, read_history: bool, since: Landmark | None = None) -> list[Effect]:
        self.phase = "attaching"
        self.reads_history = read_history
        self.generation += 1
        return [Attach(self.generation, read_history, since)]

    def go_live(self) -> list[Effect]:
        """The log is read to its end."""
        self.phase = "live"
        effects: list[Effect] = [SetTimer("healthy", self._healthy_after)]
        if self.generation > 1:
            effects.append(Report("live", f"stream {self.generation} is attached and consolidated"))
        return effects

    def lose(self, cause: ManagedAgentsError | None, wait: float | None) -> list[Effect] | None:
        """The stream is gone: wait, then attach again; or ``None`` when the attempts are used up."""
        self.phase = "reconnecting"
        self.failures += 1
        if self._max_attempts is not None and self.failures > self._max_attempts:
            return None
        refused = cause.retry_after if isinstance(cause, APIError) else None
        retry_after = max((hint for hint in (refused, wait) if hint is not None), default=None)
        return [
            CancelTimer("healthy"),
            Backoff("reconnect", self.failures, retry_after),
            Reconnecting(self.failures, cause),
        ]
