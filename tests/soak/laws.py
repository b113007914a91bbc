"""What must hold of every case, whatever went wrong in it. Each law reads the record and tells what breaks it.

A life that a fault was allowed to end is held to the same laws as far as it came: nothing twice, nothing out of order,
nothing left; only what was still to come may be missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, TypeAlias

import managed_agents_actors as maa

from .record import Event, Held, Life, Record

Law: TypeAlias = Callable[[Record], Iterator[str]]

TEXT_DELTA = "managed_agents.text_delta"
# What the server says of a request that makes no sense to it; the faults say other things.
REFUSED = frozenset({400, 404, 405, 409, 413, 415, 422})
CRASHED = ("log: event='session_crashed'", "log: event='child_crashed'")
TOKENS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")


def violations(record: Record) -> list[str]:
    """Everything that is wrong with a case; nothing, if all is well."""
    return [f"{law.__name__}: {problem}" for law in LAWS for problem in law(record)]


def it_comes_to_an_end(record: Record) -> Iterator[str]:
    if record.hung:
        yield "given up in virtual time"
    if record.escaped is not None:
        yield f"{record.escaped!r} came out"


def nothing_ends_it_without_a_reason(record: Record) -> Iterator[str]:
    for held, life in _lives(record):
        cause = life.error if not isinstance(life.error, maa.SessionError) else life.error.__cause__ or life.error
        # A session that has ended takes nothing more; what ended it was told, or had nobody to be told to.
        gone = isinstance(cause, maa.ActorGone) and record.may_end_with
        if cause is not None and not gone and not isinstance(cause, record.may_end_with):
            allowed = [each.__name__ for each in record.may_end_with]
            yield f"{held.session_id} ended with {life.error!r}; the faults explain {allowed}"


def each_call_is_run_once(record: Record) -> Iterator[str]:
    for held in _kept(record):
        called = [event["id"] for event in held.log if event["type"] == "agent.custom_tool_use"]
        runs = [run for life in held.lives for run in life.executions]
        completed = Counter(run.call_id for run in runs if run.state == "completed")
        wanted = Counter(called)
        if completed - wanted:
            yield f"{held.session_id} completed too often {dict(completed - wanted)}"
        if wanted - completed and not _cut_short(held):
            yield f"{held.session_id} never completed {dict(wanted - completed)}"
        begun = Counter(run.call_id for run in runs)
        for call_id, count in begun.items():
            attempts = [run.attempt for run in runs if run.call_id == call_id]
            if attempts != list(range(1, count + 1)):
                yield f"{call_id} was begun with the attempts {attempts}"
        again = sum(count - 1 for count in begun.values())
        if again and not (record.crashes or record.gives_up):
            yield f"{held.session_id} began {again} calls again and nothing had crashed"


def each_result_is_taken_once(record: Record) -> Iterator[str]:
    for held in _kept(record):
        answers: dict[str, list[Event]] = {}
        for event in held.log:
            if event["type"] == "user.custom_tool_result":
                answers.setdefault(event["custom_tool_use_id"], []).append(event)
        for life in held.lives:
            for run in life.executions:
                if run.state == "completed" and run.call_id not in answers and not _cut_short(held):
                    yield f"the result of {run.call_id} was lost"
                for event in answers.get(run.call_id, ()) if run.state == "completed" else ():
                    text = "".join(block["text"] for block in event["content"])
                    if event["is_error"] != run.is_error or run.answer is None or run.answer not in text:
                        yield f"{run.call_id} was answered {text!r}, the tool said {run.answer!r}"
        known = {run.call_id for life in held.lives for run in life.executions}
        for call_id, events in answers.items():
            if len(events) > 1:
                yield f"{call_id} was answered {len(events)} times"
            if call_id not in known:
                yield f"{call_id} was answered and never run"


def each_verdict_is_given_once(record: Record) -> Iterator[str]:
    for held in _kept(record):
        gated = Counter(event["id"] for event in held.log if event.get("evaluated_permission") == "ask")
        asked = Counter(call_id for life in held.lives for call_id in life.verdicts)
        taken = Counter(event["tool_use_id"] for event in held.log if event["type"] == "user.tool_confirmation")
        for name, found in (("asked", asked), ("confirmed", taken)):
            if found - gated and not (name == "asked" and (record.crashes or record.gives_up)):
                yield f"{held.session_id} {name} too often: {dict(found - gated)}"
            if gated - found and not _cut_short(held):
                yield f"{held.session_id} never {name}: {dict(gated - found)}"


def each_message_arrives_once_and_in_order(record: Record) -> Iterator[str]:
    for held in _kept(record):
        taken = [_said(event) for event in held.log if event["type"] == "user.message"]
        # A message need not have arrived if its sender was told that the session was lost; those after it may have.
        told = [pair for life in held.lives for pair in zip_longest(life.messages, life.notified)]
        over = _is_over(held)
        sent = [message for message, result in told if message in taken or not (over or _was_given_up(result))]
        if taken != sent:
            yield f"{held.session_id} was sent {[message for message, _ in told]}, the log has {taken}"


def nothing_is_refused(record: Record) -> Iterator[str]:
    if maa.SessionGone in record.may_end_with:
        return  # nobody can know at once that a session takes nothing more
    for request in record.requests:
        if request.status in REFUSED:
            yield f"{request.method} {request.path} was refused with {request.status}: {request.body}"


def nothing_is_posted_before_the_stream(record: Record) -> Iterator[str]:
    attached: set[str] = set()
    for request in record.requests:
        path = request.path
        if path.endswith("/events/stream"):
            attached.add(path.removesuffix("/stream"))
        elif request.method == "POST" and path.endswith("/events") and path not in attached:
            yield f"{path} was posted to before its stream was asked for"


def each_event_is_shown_once_and_in_order(record: Record) -> Iterator[str]:
    for held in _kept(record):
        parts, due = iter(_requests_of(held.log)), 0
        for number, life in enumerate(held.lives):
            due += sum(len(next(parts, [])) for _ in life.messages)
            yield from _compare(f"{held.session_id} life {number} was shown", life.events, held.log, whole=False)
            if len(life.events) < due and life.error is None:
                yield f"{held.session_id} life {number} was shown {len(life.events)} events of {due}"
            if life.read is not None:
                read = [event for event in life.read if event["type"] != TEXT_DELTA]
                whole = life.error is None
                yield from _compare(f"{held.session_id} life {number} read", read, life.events, whole=whole)


def each_result_holds_its_own_events(record: Record) -> Iterator[str]:
    for held, result, events in _results(record):
        yield from _compare(f"{held.session_id}: the result has", result.events, events, whole=True)


def each_request_has_one_terminal(record: Record) -> Iterator[str]:
    for held, life in _lives(record):
        if life.error is None and len(life.results) != len(life.messages):
            yield f"{held.session_id}: {len(life.messages)} requests, {len(life.results)} results"
        # A message that an ended session did not take never was a request.
        made = len(life.messages) - isinstance(life.error, maa.ActorGone)
        if len(life.notified) != made:
            yield f"{held.session_id}: {made} requests, {len(life.notified)} terminals"
        if life.notified[: len(life.results)] != life.results:
            yield f"{held.session_id}: notify= heard {_told(life.notified)}, the results are {_told(life.results)}"
        if life.subscribed is not None and life.error is None and life.subscribed != life.notified:
            yield f"{held.session_id}: subscribers heard {_told(life.subscribed)}, notify= {_told(life.notified)}"


def each_result_is_what_the_server_says(record: Record) -> Iterator[str]:
    for held, result, events in _results(record):
        found = _found(result)
        if maa.SessionGone in record.may_end_with:
            # What was being written when the session ended was shown, and never logged.
            found["text"] = found["text"][: len(_implied(events)["text"])]
        for name, wanted in _implied(events).items():
            if found[name] != wanted:
                yield f"{held.session_id}: {name} is {found[name]!r}, the server says {wanted!r}"


def the_deltas_make_up_the_text(record: Record) -> Iterator[str]:
    for held in _kept(record):
        parts, past = iter(_requests_of(held.log)), []
        for life in held.lives:
            # Who resumes a session is shown its past first.
            texts = "".join([*past, *(result.text for result in life.notified)])
            shown = "".join(life.deltas)
            if shown != texts and (life.error is None or not texts.startswith(shown)):
                yield f"{held.session_id}: the handler was shown {shown!r}, the text is {texts!r}"
            if life.read is not None:
                read = "".join(event["text"] for event in life.read if event["type"] == TEXT_DELTA)
                if read != shown:
                    yield f"{held.session_id}: a reader got {read!r}, the handler {shown!r}"
            past += [_implied(next(parts, []))["text"] for _ in life.messages]


def nothing_is_left(record: Record) -> Iterator[str]:
    for held in record.sessions:
        if held.open_streams:
            yield f"{held.session_id}: {held.open_streams} streams are open"
    if record.tasks_left:
        yield f"{record.tasks_left} tasks run on"


def nobody_complains(record: Record) -> Iterator[str]:
    # Of each crash that was injected the session and its supervisor tell once, as errors.
    told = Counter(line for line in record.noise if line.startswith(CRASHED))
    if not record.gives_up and any(count > record.crashes for count in told.values()):
        yield f"{record.crashes} crashes were injected, the log tells of {dict(told)}"
    yield from (line for line in record.noise if line not in told)


LAWS: tuple[Law, ...] = (
    it_comes_to_an_end,
    nothing_ends_it_without_a_reason,
    each_call_is_run_once,
    each_result_is_taken_once,
    each_verdict_is_given_once,
    each_message_arrives_once_and_in_order,
    nothing_is_refused,
    nothing_is_posted_before_the_stream,
    each_event_is_shown_once_and_in_order,
    each_result_holds_its_own_events,
    each_request_has_one_terminal,
    each_result_is_what_the_server_says,
    the_deltas_make_up_the_text,
    nothing_is_left,
    nobody_complains,
)


def _lives(record: Record) -> Iterator[tuple[Held, Life]]:
    return ((held, life) for held in record.sessions for life in held.lives)


def _results(record: Record) -> Iterator[tuple[Held, maa.SessionResult, list[Event]]]:
    """Every result, beside the events of its request in the server's log."""
    for held in _kept(record):
        parts = iter(_requests_of(held.log))
        for life in held.lives:
            for result, events in zip_longest(life.results, [next(parts, []) for _ in life.messages]):
                if result is not None:
                    yield held, result, events or []


def _kept(record: Record) -> list[Held]:
    """The sessions whose log can be looked at."""
    return [held for held in record.sessions if not held.deleted]


def _was_given_up(result: maa.SessionResult | None) -> bool:
    """Whether a request ended on our side, and not by what the server said; so it is if nobody was told of it."""
    return result is None or (result.error is not None and result.error.exception is not None)


def _cut_short(held: Held) -> bool:
    """Whether something that was to come may be missing."""
    return _is_over(held) or any(life.error is not None for life in held.lives)


def _is_over(held: Held) -> bool:
    """Whether the server has terminated it."""
    return bool(held.log) and bool(held.log[-1]["type"] == "session.status_terminated")


def _requests_of(log: Sequence[Event]) -> list[list[Event]]:
    """The log, request by request; the last may still be going on."""
    parts: list[list[Event]] = [[]]
    for event in log:
        parts[-1].append(event)
        if _ends_a_request(event):
            parts.append([])
    return parts


def _ends_a_request(event: Event) -> bool:
    if event["type"] == "session.status_idle":
        return bool(event["stop_reason"]["type"] != "requires_action")
    return event["type"] in ("session.status_terminated", "session.deleted")


def _implied(events: Sequence[Event]) -> dict[str, Any]:
    """What the events of one request say of its result, read with no help from the library."""
    reason = events[-1].get("stop_reason") if events else None
    said = [_said(event) for event in events if event["type"] == "agent.message"]
    spent = [event["model_usage"] for event in events if event["type"] == "span.model_request_end"]
    return {
        "terminal": "terminated" if reason in (None, {"type": "retries_exhausted"}) else "end_turn",
        "stop_reason": reason,
        "text": "\n".join(said),
        "usage": {name: sum(each[name] for each in spent) for name in TOKENS},
        "calls": [event["id"] for event in events if event["type"] == "agent.custom_tool_use"],
    }


def _found(result: maa.SessionResult) -> dict[str, Any]:
    """The same of a result."""
    return {
        "terminal": result.terminal,
        "stop_reason": result.stop_reason,
        "text": result.text,
        "usage": {name: getattr(result.usage, name) for name in TOKENS},
        "calls": [use.id for use in result.custom_tool_uses],
    }


def _said(event: Event) -> str:
    return "\n".join(block["text"] for block in event["content"])


def _told(results: Sequence[maa.SessionResult]) -> list[str]:
    return [f"{result.terminal} {result.text!r}" for result in results]


def _compare(what: str, found: Sequence[Event], wanted: Sequence[Event], *, whole: bool) -> Iterator[str]:
    """Tell the first difference; unless it must be the whole, what was found may stop early."""
    for place, (one, other) in enumerate(zip_longest(found, wanted)):
        if one is None and not whole:
            return
        if one != other:
            yield f"{what} {_named(one)} at {place}, where {_named(other)} belongs"
            return


def _named(event: Event | None) -> str:
    return "nothing" if event is None else f"{event['type']} {event.get('id')}"
