"""What may go wrong in a case: one line per kind of fault, with where it strikes and what it may end.

A fault without ``ends`` must heal: whatever it hits comes to the same end as without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

import managed_agents_actors as maa
from managed_agents_actors.testing import (
    Action,
    CrashSession,
    Delay,
    DelayAnswer,
    DelayEvents,
    DeleteSession,
    DropStream,
    EndStream,
    Fault,
    FiredFault,
    GarbageFrame,
    HugeFrame,
    LoopCursors,
    LoseAnswer,
    LoseRequest,
    PauseStream,
    RefuseWith,
    RepeatEvents,
    RotateKey,
    Split,
    StallStream,
    TerminateSession,
    TruncateAnswer,
)

Make: TypeAlias = Callable[[Random], Action]
Errors: TypeAlias = tuple[type[Exception], ...]

STREAM = ("stream",)
LIST = ("list_events",)
CREATE = ("create_session",)
POST = ("send_events",)
READ = ("list_events", "retrieve_session", "stream")
ANSWERED = ("list_events", "retrieve_session", "send_events")

# Most that a plan holds: with that many of the longest delay on one request, its sender still waits for it (60 s).
# What a request does after its sender has given up, no client can know of.
MOST_KINDS = 6
LONGEST_DELAY = 9.0

# A refused or unclear post is repeated up to eight times in all; two storms may meet on one.
LONGEST_STORM = 3


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
        on: The operations it can strike.
        make: Draws the action.
        weight: How often it is chosen, beside the others.
        storm: How many requests in a row it may strike.
        ends: What it may end a session with; by default nothing.
    """

    on: tuple[str, ...]
    make: Make
    weight: int = 1
    storm: int = 1
    ends: Errors = ()


def place(rng: Random) -> int:
    """After how many events of a stream: mostly early, since most streams are short."""
    return rng.randint(0, rng.choice((5, 20, 60)))


def refusal(*statuses: int, most: float = 30.0) -> Make:
    return lambda rng: RefuseWith(rng.choice(statuses), rng.choice((None, None, 0.0, 3.0, most)))


def seconds(rng: Random) -> float:
    return rng.choice((0.01, 0.5, 1.0, 5.0, LONGEST_DELAY))


def sizes(rng: Random) -> tuple[int, ...]:
    return tuple(rng.choice((3, 20, 200)) for _ in range(rng.randint(1, 3)))


# `ShortenListing` is not among them: nothing on the wire tells a client that rows are missing, so nothing need heal it.
HEALING = (
    Kind(STREAM, lambda rng: DropStream(after_events=place(rng)), weight=5),
    Kind(STREAM, lambda rng: DropStream(after_bytes=rng.randint(0, 6000)), weight=3),
    Kind(STREAM, lambda rng: EndStream(after_events=place(rng)), weight=3),
    Kind(STREAM, lambda rng: EndStream(after_bytes=rng.randint(0, 6000)), weight=2),
    Kind(STREAM, lambda rng: StallStream(after_events=place(rng)), weight=3),
    Kind(STREAM, lambda rng: PauseStream(after_events=place(rng), seconds=rng.choice((10.0, 50.0, 100.0))), weight=2),
    Kind(STREAM, lambda rng: DelayEvents(after_events=place(rng), seconds=seconds(rng)), weight=2),
    Kind(STREAM, lambda rng: GarbageFrame(after_events=place(rng)), weight=2),
    Kind(STREAM, lambda rng: HugeFrame(after_events=place(rng), size=200_000)),
    Kind(STREAM, lambda rng: RepeatEvents(after_events=place(rng), count=rng.randint(1, 9)), weight=3),
    Kind(READ, refusal(429, 500, 503, 529), weight=4, storm=LONGEST_STORM),
    Kind(POST, refusal(429, 500, 503, 529), weight=5, storm=LONGEST_STORM),
    Kind(CREATE, refusal(429, 529, most=3.0), storm=2),
    Kind((*READ, *POST), lambda _: LoseAnswer(), weight=6, storm=LONGEST_STORM),
    Kind((*READ, *POST), lambda _: LoseRequest(), weight=4, storm=LONGEST_STORM),
    Kind(ANSWERED, lambda rng: TruncateAnswer(rng.choice((None, 0, 5, 1000))), weight=3, storm=LONGEST_STORM),
    Kind((*READ, *POST, *CREATE), lambda rng: Delay(seconds(rng)), weight=3, storm=LONGEST_STORM),
    Kind((*READ, *POST, *CREATE), lambda rng: DelayAnswer(seconds(rng)), weight=3, storm=LONGEST_STORM),
    Kind((*READ, *POST), lambda rng: Split(sizes(rng)), weight=2),
    Kind(LIST, lambda rng: LoopCursors(rng.randint(1, 3))),
    # Always the same one: a key that changes twice within a call is more than a call bears.
    Kind((*READ, *POST), lambda _: RotateKey("a-new-key"), weight=2),
    Kind(STREAM, lambda rng: CrashSession(after_events=place(rng)), weight=5),
    Kind(ANSWERED, lambda rng: CrashSession(when=rng.choice(("before", "after"))), weight=3, storm=2),
)

FATAL = (
    Kind(CREATE, lambda _: LoseAnswer(), ends=(maa.TransportError,)),
    Kind(CREATE, lambda _: TruncateAnswer(), ends=(maa.TransportError,)),
    Kind(CREATE, refusal(500, 503), ends=(maa.ServerError,)),
    Kind((*STREAM, *POST), refusal(401), ends=(maa.AuthenticationError,)),
    Kind((*STREAM, *POST), refusal(403), ends=(maa.PermissionDeniedError,)),
    Kind(STREAM, lambda rng: TerminateSession(after_events=place(rng)), ends=(maa.SessionGone,)),
    Kind(STREAM, lambda rng: DeleteSession(after_events=place(rng)), ends=(maa.SessionGone,)),
)


@dataclass(frozen=True)
class Mishaps:
    """What goes wrong in a case.

    Attributes:
        faults: The plan.
        ends: What a fault of it may end a session with, by its operation and its action.
    """

    faults: tuple[Fault, ...] = ()
    ends: Mapping[tuple[str, Action], Errors] = field(default_factory=dict)

    def endings(self, fired: Iterable[FiredFault]) -> Errors:
        """What the faults that took effect may end a session with."""
        return tuple(error for each in fired for error in self.ends.get((each.fault.on, each.fault.action), ()))


def draw_mishaps(rng: Random, *, sessions: int) -> Mishaps:
    """Draw what goes wrong: usually a few things that heal, seldom one that does not."""
    kinds = rng.choices(HEALING, [kind.weight for kind in HEALING], k=rng.choice((0, 1, 1, 2, 2, 3, 4, MOST_KINDS - 1)))
    if rng.random() < 0.06:
        kinds.append(rng.choice(FATAL))
    faults = [draw_fault(rng, kind, reach=4 + 3 * sessions) for kind in kinds]
    ends = {(fault.on, fault.action): kind.ends for fault, kind in zip(faults, kinds, strict=True) if kind.ends}
    return Mishaps(tuple(faults), ends)


def draw_fault(rng: Random, kind: Kind, *, reach: int) -> Fault:
    on = rng.choice(kind.on)
    first = 1 if on == "create_session" else rng.randint(1, rng.choice((2, reach)))
    return Fault(on=on, action=kind.make(rng), nth=first, times=rng.randint(1, kind.storm))
