"""What the parts of the session machine share: the settings, the two sides of the truth, and the effects to perform.

It holds and hands out; it decides nothing. Effects come out in the order in which they were asked for, and events are
shown to observers before anything that follows from them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..._model import Event
from ..consolidate import SessionLog
from ..effects import Deliver, Effect, Look, Report
from ..mail import Goal, Message, Origin, Token
from ..outbox import Outbox
from .connection import Connection
from .handover import Handover


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineSettings:
    """What a session was asked to be. All times in seconds.

    Attributes:
        resumed: Whether the session existed before.
        one_shot: Whether the machine closes after one request (a run), or lives on.
        owns: Whether a custom tool of this name is this process's to run.
        has_policy: Whether a confirmation policy can be asked.
        has_guard: Whether a turn guard can be asked.
        interrupts_overtake: Whether an interrupt cuts short a message whose taking is still waited for.
        max_turns: Turns a request may take.
        terminal_tool: The tool whose call completes a request.
        require_terminal_tool: Whether it is asked for when it was not called.
        max_reprompts: How often it is asked for.
        timeout: For a request; for a run, from its very start.
        kickoff: What the session is opened with.
        kickoff_token: Who waits for the first request's terminal.
        kickoff_sender: What is handed back when the first request begins.
        unresolved_after: Quiet before a wait that nobody here can end is looked into.
        max_attempts: Losses of the stream in a row after which the session gives up.
        healthy_after: Life after which a stream counts as healthy.
    """

    resumed: bool = False
    one_shot: bool = False
    owns: Callable[[str], bool] = lambda _name: True
    has_policy: bool = False
    has_guard: bool = False
    interrupts_overtake: bool = False
    max_turns: int = 50
    terminal_tool: str | None = None
    require_terminal_tool: bool = False
    max_reprompts: int = 2
    timeout: float | None = None
    kickoff: Message | Goal | None = None
    kickoff_token: Token | None = None
    kickoff_sender: object = None
    unresolved_after: float = 10.0
    max_attempts: int | None = None
    healthy_after: float = 10.0


class Core:
    """The shared state of one machine.

    Attributes:
        settings: What the session was asked to be.
        log: The provider's side of the truth.
        outbox: Inputs on their way.
        connection: Where the stream stands.
        session_id: The provider's id, once known.
        past_is_read: Whether what the session had done before it was taken up here has been read to its end.
        replaying: Whether what is read belongs to nobody here: the past of a session that existed before.
        reread: Whether what is read has been met before, by a machine that this one succeeds.
        looking: Whether a look at the provider is under way.
        looks: The number of the newest look.
        reposted: Whether an answer may have been given twice, so that an empty cycle may follow.
        closed: Whether the machine has ended.
    """

    __slots__ = (
        "_effects",
        "_look_again",
        "_origin",
        "_shown",
        "closed",
        "connection",
        "log",
        "looking",
        "looks",
        "outbox",
        "past_is_read",
        "replaying",
        "reposted",
        "reread",
        "session_id",
        "settings",
    )

    def __init__(self, settings: MachineSettings, handover: Handover | None = None) -> None:
        self.settings = settings
        self.log = SessionLog()
        self.outbox = Outbox() if handover is None else handover.outbox
        self.connection = Connection(
            max_attempts=settings.max_attempts,
            healthy_after=settings.healthy_after,
            generation=0 if handover is None else handover.generation,
        )
        self.session_id: str | None = None if handover is None else handover.session_id
        self.past_is_read = not settings.resumed if handover is None else handover.past_is_read
        self.replaying = settings.resumed or handover is not None
        self.reread = False
        self.looking = False
        self.looks = 0
        self._look_again = False
        self.reposted = False
        self.closed = False
        self._effects: list[Effect] = []
        self._shown: list[Event] = []
        self._origin: Origin = "live"

    def emit(self, *effects: Effect) -> None:
        """Ask for effects."""
        self._effects += effects

    def show(self, event: Event, origin: Origin) -> None:
        """Hand an event to the observers, unless they have had it; those that come together go together."""
        if self.reread:
            return
        if origin != self._origin:
            self.flush()
            self._origin = origin
        self._shown.append(event)

    def flush(self) -> None:
        """Let what follows come after every event shown so far."""
        if self._shown:
            self._effects.append(Deliver(self._shown, self._origin))
            self._shown = []

    def take_effects(self) -> list[Effect]:
        """Give everything asked for since the last time."""
        self.flush()
        effects, self._effects = self._effects, []
        return effects

    def look(self) -> int:
        """Read the whole history and the session's status; return the number of the look that will tell.

        One that is under way may have read past the place in question already: then the next one will tell.
        """
        if self.looking:
            self._look_again = True
            return self.looks + 1
        self.looks += 1
        self.looking = True
        self.emit(Look(), Report("looking", "reading the history to settle what is unclear"))
        return self.looks

    def looked(self) -> None:
        """A look is over; begin the next one if something has come up meanwhile."""
        self.looking = False
        if self._look_again and not self.closed:
            self._look_again = False
            self.look()
