"""When things go wrong: faults with their places, and the plan that hands each one out once its occurrence has come.

A plan counts the requests that each fault is about and says which faults meet this one; the server performs them.
Nothing here does I/O. What looks like chance is drawn from a seed: the same requests meet the same faults.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Literal

from .._errors import ConfigurationError
from .._session.handle import Session
from ._fault_actions import FAMILIES, Action, show
from ._fault_contract import Contract
from ._fault_draw import draw_faults
from ._given import (
    checked,
    members,
    refuse_given,
    require_a,
    require_fields,
    require_number,
    require_text,
    require_whole,
)

__all__ = ["Chance", "DueFault", "Fault", "FaultPlan", "FiredFault"]


@dataclass(frozen=True, slots=True, repr=False)
class Chance:
    """Some of the requests, drawn from a seed: a request's number decides, not the order in which others come.

    Attributes:
        probability: From 0 to 1.
        seed: Another seed, another draw.
    """

    probability: float = field(metadata=checked(require_number, least=0, most=1))
    seed: int = field(default=0, metadata=checked(require_whole))

    __repr__ = show

    def __post_init__(self) -> None:
        require_fields(self)

    def falls_on(self, operation: str, number: int) -> bool:
        """Whether the request with this number, from 1, is one of them."""
        return Random(f"{self.seed} {operation} {number}").random() < self.probability  # noqa: S311 - no secret


def _require_action(name: str, value: object) -> None:
    if not isinstance(value, Action) or type(value) in FAMILIES:
        raise refuse_given(name, "something that can happen, such as DropStream()", value)


def _require_nth(name: str, value: object) -> None:
    if value == "every" or isinstance(value, Chance):
        return
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise refuse_given(name, "a whole number from 1, 'every' or a Chance", value)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Fault:
    """One fault of a plan.

    Attributes:
        on: The operation it meets, such as ``"stream"``, ``"send_events"``, ``"list_events"``, ``"create_session"``;
            ``"any"`` counts the requests of all.
        action: What happens.
        nth: Which request of that operation, from 1; ``"every"`` one; or a :class:`Chance`.
        times: How many requests in a row, from the nth on.
        sending: Only requests that send an event of this type count, such as ``"user.custom_tool_result"``.
    """

    on: str = field(metadata=checked(require_text))
    action: Action = field(metadata=checked(_require_action))
    nth: int | Literal["every"] | Chance = field(default=1, metadata=checked(_require_nth))
    times: int = field(default=1, metadata=checked(require_whole, least=1))
    sending: str | None = field(default=None, metadata=checked(require_text, or_none=True))

    __repr__ = show

    def __post_init__(self) -> None:
        require_fields(self)
        if self.times > 1 and not isinstance(self.nth, int):
            raise ConfigurationError(f"Fault: times must be 1 unless nth is a number, not {self.times!r}")

    def meets(self, number: int) -> bool:
        """Whether it befalls the request with this number, from 1, among those it is about."""
        match self.nth:
            case Chance() as chance:
                return chance.falls_on(self.on, number)
            case int() as first:
                return first <= number < first + self.times
            case _:
                return True


@dataclass(frozen=True, slots=True, kw_only=True)
class FiredFault:
    """A fault that took effect.

    Attributes:
        fault: The fault.
        occurrence: Which of the requests it is about it met, from 1.
    """

    fault: Fault
    occurrence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DueFault:
    """A fault for the request at hand.

    Attributes:
        action: What is to happen.
        fire: Says that it happens now.
    """

    action: Action
    fire: Callable[[], object]


class FaultPlan:
    """Faults, and the counts of requests that decide when each is due. One plan serves one server.

    Args:
        faults: What goes wrong.
        seed: What a random plan was drawn from; only to be shown.

    Raises:
        ConfigurationError: These are no faults.
    """

    def __init__(self, faults: Iterable[Fault] = (), *, seed: int | None = None) -> None:
        if seed is not None:
            require_whole("FaultPlan: seed", seed)
        self.faults: tuple[Fault, ...] = members(
            "FaultPlan: faults", faults, "a list of faults", each=partial(require_a, kind=Fault)
        )
        self.seed = seed
        self._seen = [0] * len(self.faults)
        self._fired: list[FiredFault] = []
        self._sessions: list[Session] = []
        self._serves = False
        self._was_bound = False
        self._missed = False

    @classmethod
    def random(
        cls, seed: int, *, faults: int = 4, requests: int = 6, events: int = 40, kinds: Collection[type[Action]] = ()
    ) -> FaultPlan:
        """A plan drawn from a seed: faults that a client should survive, unless ``kinds`` says otherwise.

        Args:
            seed: The same seed gives the same plan.
            faults: How many.
            requests: The latest request of its operation that one may meet.
            events: The latest event of a stream after which one may come.
            kinds: The kinds to draw from; all that a client should survive when left out.

        Raises:
            ConfigurationError: It cannot be drawn so.
        """
        require_whole("FaultPlan.random: seed", seed)
        drawn = draw_faults(Random(seed), faults, requests=requests, events=events, kinds=kinds)  # noqa: S311 - no secret
        return cls((Fault(on=on, action=action, nth=nth, times=times) for on, action, nth, times in drawn), seed=seed)

    def __repr__(self) -> str:
        seed = "" if self.seed is None else f", seed={self.seed}"
        return f"FaultPlan({list(self.faults)!r}{seed})"

    @property
    def fired(self) -> tuple[FiredFault, ...]:
        """The faults that have taken effect, in order: a stream's when it befalls the stream, not when it opens."""
        return tuple(self._fired)

    def fresh(self) -> FaultPlan:
        """The same faults, none of which was met yet; no session is bound."""
        return FaultPlan(self.faults, seed=self.seed)

    def bind(self, *sessions: Session) -> None:
        """Let :class:`CrashSession` crash the actors of these sessions; without any, say that none is to crash."""
        for session in sessions:
            require_a("bind: the session", session, Session)
        self._was_bound = True
        self._sessions += sessions

    def take_to_crash(self, session_id: str | None) -> tuple[Session, ...]:
        """A crash comes due: the bound sessions with this id of the provider's; all of them for ``None``."""
        self._missed = self._missed or not self._was_bound
        return tuple(each for each in self._sessions if session_id is None or each.session_id == session_id)

    def require_bound(self) -> None:
        """Refuse that a crash came due and nobody ever said who crashes.

        Raises:
            ConfigurationError: A :class:`CrashSession` found no session, and none was bound.
        """
        if self._missed and not self._was_bound:
            raise ConfigurationError(
                f"a CrashSession came due and crashed nobody: bind the session, plan.bind(session), in {self!r}"
            )

    def serve(self, contract: Contract) -> None:
        """Put the plan at the service of a server, of one for good.

        Raises:
            ConfigurationError: It serves one already, or a fault of it could never befall this one.
        """
        if self._serves:
            raise ConfigurationError(f"a plan serves one simulator, and this one has its own: use fresh() of {self!r}")
        contract.require_playable(self.faults)
        self._serves = True

    def meet(self, operation: str, *, sends: Collection[str] = ()) -> tuple[DueFault, ...]:
        """Count one request and give the faults that are due for it, in plan order.

        Args:
            operation: What it asks for.
            sends: The types of the events it sends.
        """
        due = []
        for index, fault in enumerate(self.faults):
            if fault.on not in {operation, "any"} or (fault.sending is not None and fault.sending not in sends):
                continue
            self._seen[index] += 1
            if fault.meets(self._seen[index]):
                fired = FiredFault(fault=fault, occurrence=self._seen[index])
                due.append(DueFault(action=fault.action, fire=partial(self._fired.append, fired)))
        return tuple(due)
