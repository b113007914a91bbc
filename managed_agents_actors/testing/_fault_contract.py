"""What a server can be told to do wrong: its operations, its streams, its events, and which fault can befall which.

A fault that could never take effect, or that would take effect otherwise than it reads, is refused before the server
runs. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._errors import ConfigurationError
from ._fault_actions import Action, CrashSession, ListingAction, SessionAction, StreamAction, TruncateAnswer

if TYPE_CHECKING:
    from ._fault_plan import Fault

__all__ = ["Contract"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What the faults of a server's plan can be about.

    Attributes:
        operations: The names of all.
        streams: Those that open a stream.
        listings: Those that give a page of a listing.
        of_session: Those of one session.
        sends: The types of events that can be sent, by operation.
        events: The types of events that a stream carries.
        without: The kinds of faults that this server cannot play, each with the reason.
    """

    operations: Collection[str]
    streams: Collection[str]
    listings: Collection[str]
    of_session: Collection[str]
    sends: Mapping[str, Collection[str]]
    events: Collection[str]
    without: Mapping[type[Action], str] = field(default_factory=dict)

    def require_playable(self, faults: Iterable[Fault]) -> None:
        """Refuse what could never befall a request, or not as it reads.

        Raises:
            ConfigurationError: There is such a fault; the message says what is wrong with it.
        """
        for fault in faults:
            for problem in self._problems(fault):
                raise ConfigurationError(f"{problem}: {fault!r}")

    def _problems(self, fault: Fault) -> Iterator[str]:
        if fault.on not in self.operations and fault.on != "any":
            yield f"no operation {fault.on!r} to put a fault on; there are: {', '.join(sorted(self.operations))}"
        elif type(fault.action) in self.without:
            yield f"{type(fault.action).__name__} does not exist here, {self.without[type(fault.action)]}"
        elif not self._befalls(fault):
            yield f"{type(fault.action).__name__} cannot befall a request of {fault.on!r}"
        if fault.sending is not None:
            yield from self._unsendable(fault.on, fault.sending)
        if isinstance(fault.action, StreamAction) and fault.action.after_type is not None:
            yield from self._unheard(fault.action.after_type)
        if isinstance(fault.action, SessionAction):
            yield from self._misplaced(fault.on, fault.action)

    def _befalls(self, fault: Fault) -> bool:
        """Whether a request of its operation can meet such a fault; of ``"any"``, whether any request can."""
        match fault.action:
            case SessionAction():
                return fault.on in self.of_session or fault.on == "any"
            case StreamAction():
                return fault.on in self.streams
            case ListingAction():
                return fault.on in self.listings
            case TruncateAnswer():
                return fault.on not in self.streams
            case _:
                return True

    def _unsendable(self, operation: str, kind: str) -> Iterator[str]:
        known = [*self.sends] if operation == "any" else [operation]
        sendable = {each for name in known for each in self.sends.get(name, ())}
        if not sendable:
            yield f"a request of {operation!r} sends no events; sending= is for {', '.join(sorted(self.sends))}"
        elif kind not in sendable:
            yield f"no event {kind!r} is ever sent; there are: {', '.join(sorted(sendable))}"

    def _unheard(self, kind: str) -> Iterator[str]:
        """Of the families of the server's events all members are known; who emits others calls them otherwise."""
        family = kind.partition(".")[0]
        members = sorted(each for each in self.events if each.partition(".")[0] == family)
        if members and kind not in members:
            yield f"no event {kind!r} ever comes; of {family!r} there are: {', '.join(members)}"

    def _misplaced(self, operation: str, action: SessionAction) -> Iterator[str]:
        if operation not in self.streams and action.has_place:
            yield f"a request of {operation!r} has no place after events or bytes; a stream has"
        if operation in self.streams and isinstance(action, CrashSession) and action.when == "after":
            yield "on a stream when= says nothing: give a place, such as after_events="
