"""What may go wrong in a case of AgentCore: one line per kind of fault, with what it may end a request with.

There is no log to heal from, so much of it ends the request; the session goes on. A fault without ``ends`` must heal.
"""

from __future__ import annotations

from random import Random

import managed_agents_actors as maa
from managed_agents_actors.testing import (
    Action,
    CrashSession,
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
    RotateKey,
    Split,
    StallStream,
    TerminateSession,
    ThrowInStream,
)

from .faults import Kind, Mishaps, draw_fault, place, refusal, seconds, sizes

INVOKE = ("invoke_harness",)
STOP = ("stop_runtime_session",)

# What a harness says to what comes next when it did more, or less, than this side can know: it is at work, it waits
# for calls, it has forgotten what it waited for.
AFTERMATH = (maa.ConflictError, maa.InvalidRequestError, maa.ServerError)

# Five pauses at one place are shorter than the least patience.
PAUSES = (1.0, 10.0, 20.0)


def _throw(rng: Random) -> Action:
    kinds = ("throttlingException", "internalServerException", "accessDeniedException", "serviceQuotaExceededException")
    return ThrowInStream(type=rng.choice(kinds), after_events=place(rng) if rng.random() < 0.5 else 0)


HEALING = (
    Kind(INVOKE, refusal(429), weight=6, storm=2),
    Kind(INVOKE, lambda rng: PauseStream(after_events=place(rng), seconds=rng.choice(PAUSES)), weight=2),
    Kind(INVOKE, lambda rng: DelayEvents(after_events=place(rng), seconds=seconds(rng)), weight=2),
    Kind(INVOKE, lambda rng: HugeFrame(after_events=place(rng), size=200_000)),
    Kind(INVOKE, lambda rng: Delay(seconds(rng)), weight=2, storm=3),
    Kind(INVOKE, lambda rng: DelayAnswer(seconds(rng)), weight=2, storm=3),
    Kind(INVOKE, lambda rng: Split(sizes(rng)), weight=3),
    # Always the same one: keys that change twice within a call are more than a call bears.
    Kind(INVOKE, lambda _: RotateKey("a-new-session-token"), weight=3),
    Kind(INVOKE, lambda rng: CrashSession(after_events=place(rng)), weight=6),
    Kind(STOP, refusal(429, 500, 404), weight=1, storm=3),
    Kind(STOP, lambda _: LoseAnswer()),
)

# An end, or a throttling, that comes before anything is committed heals as often as is allowed.
ENDING = (
    Kind(INVOKE, lambda rng: EndStream(after_events=place(rng)), weight=6, storm=3, ends=(maa.TruncatedStream,)),
    Kind(INVOKE, lambda rng: EndStream(after_bytes=rng.randint(0, 3000)), weight=3, ends=(maa.TruncatedStream,)),
    Kind(INVOKE, _throw, weight=5, storm=3, ends=(maa.APIError,)),
    Kind(INVOKE, lambda rng: DropStream(after_events=place(rng)), weight=2, ends=(maa.StreamLost,)),
    Kind(INVOKE, lambda rng: DropStream(after_bytes=rng.randint(0, 3000)), weight=2, ends=(maa.StreamLost,)),
    Kind(INVOKE, lambda rng: StallStream(after_events=place(rng)), weight=2, ends=(maa.StreamIdleTimeout,)),
    Kind(INVOKE, lambda rng: GarbageFrame(after_events=place(rng)), ends=(maa.ProtocolError,)),
    Kind(INVOKE, refusal(500, 503), ends=(maa.ServerError,)),
    Kind(INVOKE, refusal(400, 402), ends=(maa.APIError,)),
    Kind(INVOKE, refusal(403), ends=(maa.PermissionDeniedError,)),
    Kind(INVOKE, refusal(404), ends=(maa.NotFoundError,)),
    Kind(INVOKE, refusal(409), ends=(maa.ConflictError,)),
    Kind(INVOKE, lambda _: LoseAnswer(), weight=2, ends=(maa.TransportError,)),
    Kind(INVOKE, lambda _: LoseRequest(), weight=2, ends=(maa.TransportError,)),
    Kind(INVOKE, lambda rng: TerminateSession(after_events=place(rng)), ends=(maa.TruncatedStream,)),
)


def draw_harness_mishaps(rng: Random, *, sessions: int) -> Mishaps:
    """Draw what goes wrong: a few things that heal, and in every other case one or two that need not."""
    kinds = rng.choices(HEALING, [kind.weight for kind in HEALING], k=rng.choice((0, 1, 1, 2, 3)))
    kinds += rng.choices(ENDING, [kind.weight for kind in ENDING], k=rng.choice((0, 0, 0, 1, 1, 2)))
    faults = [draw_fault(rng, kind, reach=4 + 3 * sessions) for kind in kinds]
    ends = {
        (fault.on, fault.action): (*kind.ends, *AFTERMATH)
        for fault, kind in zip(faults, kinds, strict=True)
        if kind.ends
    }
    return Mishaps(tuple(faults), ends)
