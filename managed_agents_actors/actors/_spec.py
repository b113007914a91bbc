"""How a child is started, restarted and stopped: written once by the child's module, read by any supervisor."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, final

from .._errors import ConfigurationError
from ._restart import Restart, check_choice, check_seconds


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """One child of a supervisor.

    Attributes:
        id: Its name among the supervisor's children.
        start: An async function, called as ``await start(task_status=...)`` for each run. It calls
            ``task_status.started(value)`` when it serves, and goes on; to return is a normal exit, to raise
            :class:`Shutdown` an exit on purpose, to raise anything else a crash.
        restart: ``"permanent"``: always started again. ``"transient"``: only after a crash. ``"temporary"``: never,
            and forgotten once it has ended.
        shutdown: Seconds between the stop signal and the cancellation. 0 cancels at once; ``math.inf``, for
            supervisors, waits for as long as it takes.
        significant: Whether its end may end its supervisor, see ``auto_shutdown``.
        metadata: What the events told of it carry, too; looked at whenever one is told.

    Raises:
        ConfigurationError: If a field cannot be used.
    """

    id: str
    start: Callable[..., Awaitable[Any]]
    restart: Restart = "permanent"
    shutdown: float = 5.0
    significant: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)

    def __post_init__(self) -> None:
        if not (isinstance(self.id, str) and self.id):
            raise ConfigurationError(f"id= must be a non-empty string, not {self.id!r}")
        if not callable(self.start):
            raise ConfigurationError(f"start= of child {self.id!r} must be an async function, not {self.start!r}")
        check_choice("restart", self.restart, Restart)
        check_seconds("shutdown", self.shutdown)
        if not isinstance(self.significant, bool):
            raise ConfigurationError(f"significant= must be a bool, not {self.significant!r}")
        if not isinstance(self.metadata, Mapping):
            raise ConfigurationError(f"metadata= must be a mapping, not a {type(self.metadata).__name__}")
        if self.significant and self.restart == "permanent":
            raise ConfigurationError(f"child {self.id!r} is permanent, so it cannot be significant: it never ends")
