"""What the wire of a session says, read with no help from the library: its requests, and what each should come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import managed_agents_actors as maa

from .harness_record import Attempt, HarnessLife, HeldHarness, Outcome
from .harness_tap import REFUSED_KEYS
from .record import Event

TEXT_DELTA = "managed_agents.text_delta"
RESTARTED = "managed_agents.turn_restarted"

THROTTLED = "throttlingException"
TERMINALS = {"end_turn": "end_turn", "stop_sequence": "end_turn"}
USAGE = {
    "input_tokens": "inputTokens",
    "output_tokens": "outputTokens",
    "cache_read_input_tokens": "cacheReadInputTokens",
    "cache_creation_input_tokens": "cacheWriteInputTokens",
}

# So often is a request made that is refused for the time being.
MOST_REFUSALS = 8


@dataclass
class Asked:
    """One request of a session, as it went over the wire.

    Attributes:
        held: The session.
        life: The stretch it was in.
        outcome: What its caller got.
        settling: What was sent before it, to settle an earlier request's calls.
        attempts: What was sent for it.
    """

    held: HeldHarness
    life: HarnessLife
    outcome: Outcome
    settling: list[Attempt] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def last_run(self) -> list[Attempt]:
        """The last attempts of one and the same."""
        same = [attempt for attempt in self.attempts if attempt.messages == self.attempts[-1].messages]
        return self.attempts[len(self.attempts) - len(same) :]

    def kept(self) -> list[Attempt]:
        """The attempts that brought something which nothing later took back."""
        return [
            attempt
            for attempt, after in zip_longest(self.attempts, self.attempts[1:])
            if attempt.status == 200 and (after is None or after.messages != attempt.messages)
        ]

    def handed_off(self) -> list[str]:
        """The calls that were handed off to it, each once, in order."""
        found = [call_id for attempt in self.kept() if is_whole(attempt) for call_id in attempt.heard.last.handed_off]
        return list(dict.fromkeys(found))


def asked(held: HeldHarness) -> list[Asked]:
    """The requests of a session, in order; what was never told to the session is none."""
    requests = []
    for number, life in enumerate(held.lives):
        made = [outcome for outcome in life.outcomes if not isinstance(outcome.error, maa.ActorGone)]
        requests_now = [Asked(held, life, outcome) for outcome in made]
        for place, attempt in _placed([each for each in held.attempts if each.life == number], made):
            request = requests_now[place]
            # Results that come before its message is let in settle what an earlier request left behind.
            is_in = bool(request.attempts) and not was_turned_away(request.attempts[-1])
            (request.attempts if is_in or attempt.text is not None else request.settling).append(attempt)
        requests += requests_now
    return requests


def _placed(attempts: Sequence[Attempt], made: Sequence[Outcome]) -> list[tuple[int, Attempt]]:
    """The attempts of a stretch, each with the number of its request.

    That is the number of terminals that were announced before; but a request that timed out while an earlier one's
    calls were being settled is sent all the same, and then cut short.
    """
    placed = [(attempt.terminals, attempt) for attempt in attempts]
    for number, (place, attempt) in enumerate(placed):
        late = place > 0 and attempt.text == made[place - 1].message
        if late and isinstance(made[place - 1].error, maa.SessionTimeout):
            placed[: number + 1] = [(min(before, place - 1), each) for before, each in placed[: number + 1]]
    return placed


def is_whole(attempt: Attempt) -> bool:
    """Whether its stream came to a proper end."""
    heard = attempt.heard
    return attempt.end == "clean" and not (heard.thrown or heard.is_damaged or heard.is_cut)


def came_to_nothing(attempt: Attempt) -> bool:
    """Whether it may be made again though it was accepted: nothing of it was committed."""
    heard = attempt.heard
    if attempt.status != 200 or heard.is_damaged:
        return False
    if heard.thrown is not None:
        return heard.thrown == THROTTLED and not any(event["type"] == "messageStart" for event in heard.events)
    return attempt.end == "clean" and not heard.stops


def was_turned_away(attempt: Attempt) -> bool:
    """Whether the harness has refused it for what it waits for, before it did anything."""
    return attempt.status == 400 or (attempt.heard.thrown == "validationException" and not attempt.heard.events)


def was_refused(attempt: Attempt) -> bool:
    """Whether it was refused for the time being, or for keys that others took the place of."""
    return attempt.status == 429 or attempt.code in ("RetryableConflictException", *REFUSED_KEYS)


def implied(request: Asked) -> dict[str, Any]:
    """What the kept attempts say of the request's result."""
    kept = request.kept()
    said = [message for attempt in kept for message in attempt.heard.messages() if message.role == "assistant"]
    stop = kept[-1].heard.last.stop if kept else None
    spent = [event["metadata"]["usage"] for event in events_of(kept) if event["type"] == "metadata"]
    return {
        "terminal": TERMINALS.get(str(stop), "terminated"),
        "stop_reason": stop,
        "text": "\n".join(text for message in said for text in message.texts.values()),
        "usage": {ours: sum(each[theirs] for each in spent) for ours, theirs in USAGE.items()},
        "calls": request.handed_off(),
        "events": events_of(kept),
    }


def found(result: maa.SessionResult) -> dict[str, Any]:
    """The same of a result."""
    return {
        "terminal": result.terminal,
        "stop_reason": result.stop_reason,
        "text": result.text,
        "usage": {name: getattr(result.usage, name) for name in USAGE},
        "calls": [use.id for use in result.custom_tool_uses],
        "events": [plain(event) for event in result.events],
    }


def events_of(attempts: Sequence[Attempt]) -> list[Event]:
    """All that they carried."""
    return [event for attempt in attempts for event in attempt.heard.events]


def plain(event: Event) -> Event:
    """An event as it was on the wire."""
    return {name: value for name, value in event.items() if name != "id"}


def explains(request: Asked, error: Exception | None) -> bool:
    """Whether the last that was sent for a request explains that it ended with this error."""
    if not request.attempts:
        return bool(request.settling) and _explains(request.settling[-1], error)
    run, last = request.last_run, request.attempts[-1]
    if came_to_nothing(last):
        accepted = sum(each.status == 200 for each in run)
        return _explains(last, error) and accepted > request.held.talk.invoke_retries
    if was_refused(last) and last.code not in REFUSED_KEYS:
        return _explains(last, error) and len(run) >= MOST_REFUSALS
    return _explains(last, error)


def _explains(attempt: Attempt, error: Exception | None) -> bool:
    heard = attempt.heard
    if attempt.status is None:
        return isinstance(error, maa.TransportError)
    if attempt.status != 200:
        return isinstance(error, maa.APIError) and error.status == attempt.status
    if heard.thrown is not None:
        return isinstance(error, maa.APIError) and error.type == heard.thrown
    if heard.is_damaged:
        return isinstance(error, maa.ProtocolError)
    match attempt.end:
        case "torn":
            return isinstance(error, maa.StreamLost)
        case "silent":
            return isinstance(error, maa.StreamIdleTimeout)
        case "clean":
            is_over = heard.last.role == "assistant" and heard.last.stop not in (None, "tool_use")
            return isinstance(error, maa.TruncatedStream) and (heard.is_cut or not (is_over or heard.last.handed_off))
        case _:
            return False


@dataclass
class Shown:
    """What a watcher was shown of an attempt.

    Attributes:
        attempt: The attempt.
        events: Its events.
        deltas: The text.
        is_taken_back: Whether that was followed by the word that it does not count.
    """

    attempt: Attempt
    events: list[Event] = field(default_factory=list)
    deltas: list[str] = field(default_factory=list)
    is_taken_back: bool = False


def shown(life: HarnessLife, requests: Sequence[Asked]) -> list[Shown] | None:
    """Share what a handler was shown among the attempts; `None` if it cannot have come from them, in this order."""
    made = [(request, attempt) for request in requests if request.life is life for attempt in request.attempts]
    accepted = [(attempt, attempt not in request.kept()) for request, attempt in made if attempt.status == 200]
    return _shared(life.seen, accepted)


def _shared(seen: Sequence[Event], attempts: Sequence[tuple[Attempt, bool]]) -> list[Shown] | None:
    """Share events among attempts, each given with whether it was made again.

    Of an attempt that was left, nobody need have been shown all.
    """
    if not attempts:
        return None if seen else []
    (first, again), *rest = attempts
    # Attempts that carried nothing look alike: the one that was made again is the one that was taken back.
    parts = reversed(list(_prefixes(seen, first)))
    for part, place in sorted(parts, key=lambda found: found[0].is_taken_back != again):
        if len(part.events) < len(first.heard.events) and not first.was_left:
            continue
        others = _shared(seen[place:], rest)
        if others is not None:
            return [part, *others]
    return None


def _prefixes(seen: Sequence[Event], attempt: Attempt) -> Iterator[tuple[Shown, int]]:
    """What of it can be one attempt's, from nothing to as much as possible."""
    events, part = attempt.heard.events, Shown(attempt)
    may_be_taken_back = came_to_nothing(attempt) or was_turned_away(attempt)
    place = 0
    while True:
        while place < len(seen) and seen[place]["type"] == TEXT_DELTA and part.events:
            part.deltas.append(seen[place]["text"])
            place += 1
        if place < len(seen) and seen[place]["type"] == RESTARTED and may_be_taken_back:
            yield Shown(attempt, [*part.events], [*part.deltas], is_taken_back=True), place + 1
        yield Shown(attempt, [*part.events], [*part.deltas]), place
        if place == len(seen) or len(part.events) == len(events) or plain(seen[place]) != events[len(part.events)]:
            return
        part.events.append(seen[place])
        place += 1
