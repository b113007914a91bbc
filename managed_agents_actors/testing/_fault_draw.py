"""Random faults from a seed: the kinds a client is expected to survive, where each may strike and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from .._errors import ConfigurationError
from ._fault_actions import (
    Action,
    Delay,
    DelayAnswer,
    DelayEvents,
    DropStream,
    EndStream,
    GarbageFrame,
    HugeFrame,
    LoseAnswer,
    LoseRequest,
    PauseStream,
    RefuseWith,
    RepeatEvents,
    Split,
    StallStream,
    TruncateAnswer,
)
from ._given import members, refuse_given, require_whole

__all__ = ["DrawnFault", "draw_faults"]

# Operation, action, first request and how many in a row.
DrawnFault: TypeAlias = tuple[str, Action, int, int]

STREAM = ("stream",)
# A session that was created although its answer was lost is no client's to find: creating is left alone. Nor can a
# client know of the rows that a shortened listing lacks.
ANSWERED = ("list_events", "send_events")
ANY = ("list_events", "send_events", "stream")

# Shorter than the minute for which a client waits for an answer.
SECONDS = (0.01, 0.5, 5.0, 20.0)
STATUSES = (429, 500, 502, 503, 529)
# Storms end while a client still tries.
LONGEST_STORM = 3


@dataclass(frozen=True, slots=True)
class _Kind:
    action: type[Action]
    on: tuple[str, ...]
    draw: Callable[[Random, int], Action]
    longest: int = 1


# Each draws its action given the latest event of a stream after which it may come.
KINDS = (
    _Kind(DropStream, STREAM, lambda rng, events: DropStream(after_events=rng.randint(0, events))),
    _Kind(DropStream, STREAM, lambda rng, events: DropStream(after_bytes=rng.randint(0, 200 * events))),
    _Kind(EndStream, STREAM, lambda rng, events: EndStream(after_events=rng.randint(0, events))),
    _Kind(StallStream, STREAM, lambda rng, events: StallStream(after_events=rng.randint(0, events))),
    _Kind(
        PauseStream,
        STREAM,
        lambda rng, events: PauseStream(after_events=rng.randint(0, events), seconds=rng.choice(SECONDS)),
    ),
    _Kind(DelayEvents, STREAM, lambda rng, _: DelayEvents(seconds=rng.choice(SECONDS))),
    _Kind(GarbageFrame, STREAM, lambda rng, events: GarbageFrame(after_events=rng.randint(0, events))),
    _Kind(HugeFrame, STREAM, lambda rng, events: HugeFrame(after_events=rng.randint(0, events), size=200_000)),
    _Kind(
        RepeatEvents,
        STREAM,
        lambda rng, events: RepeatEvents(after_events=rng.choice((0, rng.randint(0, events))), count=rng.randint(1, 9)),
    ),
    _Kind(
        RefuseWith,
        ANY,
        lambda rng, _: RefuseWith(rng.choice(STATUSES), retry_after=rng.choice((None, None, 1.0, 10.0))),
        LONGEST_STORM,
    ),
    _Kind(LoseRequest, ANY, lambda _rng, _: LoseRequest(), LONGEST_STORM),
    _Kind(LoseAnswer, ANY, lambda _rng, _: LoseAnswer(), LONGEST_STORM),
    _Kind(TruncateAnswer, ANSWERED, lambda _rng, _: TruncateAnswer(), LONGEST_STORM),
    _Kind(Delay, ANY, lambda rng, _: Delay(rng.choice(SECONDS))),
    _Kind(DelayAnswer, ANY, lambda rng, _: DelayAnswer(rng.choice(SECONDS))),
    _Kind(Split, ANY, lambda rng, _: Split(tuple(rng.choice((1, 2, 7, 64)) for _n in range(rng.randint(1, 3))))),
)


def _require_kind(name: str, value: object) -> None:
    if not isinstance(value, type) or not issubclass(value, Action):
        raise refuse_given(name, "a kind of fault, such as DropStream", value)


def draw_faults(
    rng: Random, count: int, *, requests: int, events: int, kinds: Collection[type[Action]] = ()
) -> list[DrawnFault]:
    """Draw so many faults.

    Raises:
        ConfigurationError: A kind cannot be drawn, or a number is none.
    """
    for name, value, least in (("faults", count, 1), ("requests", requests, 1), ("events", events, 0)):
        require_whole(f"FaultPlan.random: {name}", value, least=least)
    kinds = members(
        "FaultPlan.random: kinds", kinds, "a list of kinds of faults, such as [DropStream]", each=_require_kind
    )
    drawable = {kind.action for kind in KINDS}
    if not drawable.issuperset(kinds):
        names = [kind.__name__ for kind in kinds if kind not in drawable]
        known = ", ".join(sorted(kind.__name__ for kind in drawable))
        raise ConfigurationError(f"cannot draw {names} at random; place them yourself. There are: {known}")
    chosen = [kind for kind in KINDS if not kinds or kind.action in kinds]
    drawn: list[DrawnFault] = []
    for _ in range(count):
        kind = rng.choice(chosen)
        action = kind.draw(rng, events)
        drawn.append((rng.choice(kind.on), action, rng.randint(1, requests), rng.randint(1, kind.longest)))
    return drawn
