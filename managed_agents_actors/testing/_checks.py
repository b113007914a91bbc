"""What must hold of a session however often its connection broke, checked from outside.

The evidence is a value: the server's log, the results, and what else the test kept. The checks are pure functions of it
that say what they expected and what they saw.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from .._model import SessionResult, Usage
from ._claude_simulator import ClaudeSimulator
from ._recording import RecordingHandler

__all__ = ["SessionEvidence", "assert_exactly_once"]

Event: TypeAlias = Mapping[str, Any]

MAX_SHOWN = 5  # of what is missing or too much; the first few tell the story
TOKENS = tuple(field.name for field in fields(Usage) if field.name != "raw")


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvidence:
    """What is known of a session after its requests have ended.

    Attributes:
        log: The server's events, in order.
        results: The result of every request, in order.
        ran: The ids of the calls the handler ran, each as often as it did; ``None`` if nobody counted.
        shown: The events an observer was shown; ``None`` if nobody watched.
        messages: The texts that were sent as messages, in order; ``None`` if nobody kept them.
        announced: The terminals a subscriber heard of; ``None`` if nobody listened.
    """

    log: tuple[Event, ...]
    results: tuple[SessionResult, ...]
    ran: tuple[str, ...] | None = None
    shown: tuple[Event, ...] | None = None
    messages: tuple[str, ...] | None = None
    announced: tuple[SessionResult, ...] | None = None

    def problems(self) -> list[str]:
        """Everything that is not as it must be, in words; nothing if all is well."""
        return [problem for check in CHECKS for problem in check(self)]


def assert_exactly_once(
    simulator: ClaudeSimulator,
    *results: SessionResult,
    handler: RecordingHandler | None = None,
    messages: Sequence[str] | None = None,
    announced: Iterable[SessionResult] | None = None,
) -> None:
    """Check that a session saw, ran, answered and told everything exactly once. Call it once the session is closed.

    Its calls ran once and their results were taken once; each event of the server's log is in the results once and in
    order; text and usage are the server's; every request had one terminal.

    Args:
        simulator: Where the session ran.
        results: The result of each request of the session, from its first, in order.
        handler: Ran the session's calls and watched its events, from the first on, and no other session's.
        messages: The texts that were sent, in order.
        announced: The terminals a subscriber was told from the first request on.

    Raises:
        AssertionError: Something is not so; the message says all that was found, with what was expected.
    """
    session_ids = {result.session_id for result in results}
    if len(session_ids) != 1 or None in session_ids:
        raise AssertionError(f"expected the results of one session, got those of {sorted(map(str, session_ids))}")
    evidence = SessionEvidence(
        log=simulator.session(str(session_ids.pop())).events,
        results=results,
        ran=None if handler is None else tuple(call.id for call in handler.calls),
        shown=None if handler is None else tuple(handler.events),
        messages=None if messages is None else tuple(messages),
        announced=None if announced is None else tuple(announced),
    )
    if problems := evidence.problems():
        raise AssertionError("\n".join(["not exactly once:", *(f"* {problem}" for problem in problems)]))


def each_call_ran_once(evidence: SessionEvidence) -> Iterator[str]:
    """A call that was answered from here ran once; one that the server closed ran at most once; no other ran."""
    if evidence.ran is None:
        return
    made = [event["id"] for event in evidence.log if event["type"] == "agent.custom_tool_use"]
    answered = Counter(_answers(evidence.log))
    for call_id, times in Counter(evidence.ran).items():
        if call_id not in made:
            yield f"the handler ran {call_id}, which is no call of the server's log"
        elif times > 1:
            yield f"call {call_id} ran {times} times, expected once"
    for call_id in made:
        if answered[call_id] and call_id not in evidence.ran and not _was_closed(evidence.log, call_id):
            yield f"call {call_id} was answered and never ran"


def each_answer_was_taken_once(evidence: SessionEvidence) -> Iterator[str]:
    """No call has two answers in the log; once all requests are over, none has none."""
    answered = Counter(_answers(evidence.log))
    waits = bool(evidence.results) and evidence.results[-1].terminal != "end_turn"
    for event in evidence.log:
        if event["type"] == "agent.custom_tool_use":
            times = answered[event["id"]]
            if times > 1 or (times == 0 and not waits):
                yield f"call {event['id']} has {times} answers in the server's log, expected one"


def each_message_came_once(evidence: SessionEvidence) -> Iterator[str]:
    """The log has the messages that were sent, in order."""
    if evidence.messages is None:
        return
    came = ["\n".join(_texts(event)) for event in evidence.log if event["type"] == "user.message"]
    if came != list(evidence.messages):
        yield f"the server's log has the messages {came}, expected {list(evidence.messages)}"


def each_event_is_in_the_results_once(evidence: SessionEvidence) -> Iterator[str]:
    """The results' events, one request after the other, are the server's log."""
    yield from _differences("the results", [e for r in evidence.results for e in r.events], evidence.log)


def each_event_was_shown_once(evidence: SessionEvidence) -> Iterator[str]:
    """The observer's events are the server's log."""
    if evidence.shown is not None:
        yield from _differences("what the observer was shown", evidence.shown, evidence.log)


def each_request_had_one_terminal(evidence: SessionEvidence) -> Iterator[str]:
    """The subscribers heard of each result once, in order."""
    if evidence.announced is not None and evidence.announced != evidence.results:
        heard = [result.terminal for result in evidence.announced]
        expected = [result.terminal for result in evidence.results]
        detail = f"{heard}, expected {expected}" if heard != expected else f"{heard}, but with other results"
        yield f"the terminals announced were {detail}"


def the_text_is_the_servers(evidence: SessionEvidence) -> Iterator[str]:
    """Each result's text is that of the agent's messages in the log, set apart by line breaks."""
    for number, result in enumerate(evidence.results, 1):
        own = {event.get("id") for event in result.events}
        messages = [event for event in evidence.log if event["type"] == "agent.message" and event["id"] in own]
        said = "\n".join(text for event in messages for text in _texts(event))
        if result.text != said:
            yield f"the text of request {number} is {result.text!r}, expected the server's {said!r}"


def the_usage_is_the_servers(evidence: SessionEvidence) -> Iterator[str]:
    """The results' tokens are those of the log's model requests, and of its grader's."""
    keys = {"span.model_request_end": "model_usage", "span.outcome_evaluation_end": "usage"}
    ends = [event.get(keys[event["type"]]) or {} for event in evidence.log if event["type"] in keys]
    for name in TOKENS:
        spent = sum(usage.get(name, 0) for usage in ends)
        told = sum(getattr(result.usage, name) for result in evidence.results)
        if told != spent:
            yield f"the results' {name} are {told}, expected the server's {spent}"


CHECKS: tuple[Callable[[SessionEvidence], Iterator[str]], ...] = (
    each_call_ran_once,
    each_answer_was_taken_once,
    each_message_came_once,
    each_event_is_in_the_results_once,
    each_event_was_shown_once,
    each_request_had_one_terminal,
    the_text_is_the_servers,
    the_usage_is_the_servers,
)


def _answers(log: Iterable[Event]) -> Iterator[str]:
    return (event["custom_tool_use_id"] for event in log if event["type"] == "user.custom_tool_result")


def _was_closed(log: Sequence[Event], call_id: str) -> bool:
    """Whether an interrupt came between a call and its answer: then the answer is the server's own."""
    ids = [event.get("custom_tool_use_id") or event["id"] for event in log]
    first = ids.index(call_id)
    answer = ids.index(call_id, first + 1)
    return any(event["type"] == "user.interrupt" for event in log[first:answer])


def _texts(event: Event) -> list[str]:
    return [block["text"] for block in event["content"] if block["type"] == "text"]


def _differences(who: str, seen: Sequence[Event], expected: Sequence[Event]) -> Iterator[str]:
    """How what was seen differs from the log: missing, repeated, unknown, out of order, or changed."""
    ids, wanted = [event.get("id") for event in seen], [event["id"] for event in expected]
    counts = Counter(ids)
    by_id = {event["id"]: event for event in expected}
    found = {
        f"missing from {who}": [name for name in wanted if not counts[name]],
        f"more than once in {who}": [name for name in wanted if counts[name] > 1],
        f"in {who}, unknown to the server": [name for name in counts if name not in by_id],
    }
    for where, names in found.items():
        if names:
            shown = [f"{name} ({by_id[name]['type']})" if name in by_id else str(name) for name in names]
            yield f"{where}, of {len(wanted)} events {len(names)}: {_shortened(shown)}"
    if not any(found.values()):
        if ids != wanted:
            at = next(n for n, (one, other) in enumerate(zip(ids, wanted, strict=True)) if one != other)
            yield f"the events are in another order in {who}: at {at} {ids[at]}, expected {wanted[at]}"
        changed = [event["id"] for event in seen if event != by_id[event["id"]]]
        if changed:
            yield f"other in {who} than in the server's log: {_shortened(changed)}"


def _shortened(names: Sequence[str]) -> str:
    return ", ".join([*names[:MAX_SHOWN], *(["…"] if len(names) > MAX_SHOWN else [])])
