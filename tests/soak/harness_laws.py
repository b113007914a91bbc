"""What must hold of every case of AgentCore, whatever went wrong. Each law reads the record and tells what breaks it.

A request that something ended is held to the same laws as far as it came: nothing twice, nothing out of order, nothing
left; only what was still to come may be missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeAlias

import managed_agents_actors as maa

from .harness_reading import (
    MOST_REFUSALS,
    Asked,
    asked,
    came_to_nothing,
    explains,
    found,
    implied,
    is_whole,
    shown,
    was_refused,
    was_turned_away,
)
from .harness_record import Attempt, HarnessRecord, HeldHarness
from .record import Event, Execution

HarnessLaw: TypeAlias = Callable[[HarnessRecord], Iterator[str]]

CRASHED = ("log: event='session_crashed'", "log: event='child_crashed'")
CANCELLED = "The call was cancelled: the request it belonged to was given up."


def harness_violations(record: HarnessRecord) -> list[str]:
    """Everything that is wrong with a case; nothing, if all is well."""
    return [f"{law.__name__}: {problem}" for law in HARNESS_LAWS for problem in law(record)]


def it_comes_to_an_end(record: HarnessRecord) -> Iterator[str]:
    if record.hung:
        yield "given up in virtual time"
    if record.escaped is not None:
        yield f"{record.escaped!r} came out"


def nothing_ends_a_request_without_a_reason(record: HarnessRecord) -> Iterator[str]:
    for request in _requests(record):
        cause = request.outcome.cause
        if cause is not None and not isinstance(cause, record.may_end_with):
            allowed = [each.__name__ for each in record.may_end_with]
            yield f"{_name(request)} ended with {cause!r}; the faults explain {allowed}"


def each_request_ends_as_the_wire_says(record: HarnessRecord) -> Iterator[str]:
    for request in _requests(record):
        error, last = request.outcome.error, request.attempts[-1] if request.attempts else None
        if error is None:
            if last is None or not is_whole(last) or last.heard.last.role != "assistant" or last.heard.last.handed_off:
                yield f"{_name(request)} has a result, and its stream does not say so"
        elif isinstance(error, maa.SessionTimeout):
            if request.held.talk.timeout is None:
                yield f"{_name(request)} has no timeout, and timed out"
        elif not _ended_with_its_session(request) and not explains(request, request.outcome.cause):
            yield f"{_name(request)} ended with {error!r}, which the wire does not explain: {_course(request)}"


def a_session_can_be_used_again(record: HarnessRecord) -> Iterator[str]:
    for held in record.sessions:
        for life in held.lives:
            refused = None
            for outcome in life.outcomes:
                if not isinstance(outcome.error, maa.ActorGone):
                    refused = outcome.cause or refused
                elif not _ends_a_session(refused, held):
                    yield f"{held.session_id}: after {refused!r} the session took no message"
            if life.ended is not None and not _ends_a_session(life.ended, held):
                yield f"{held.session_id} ended with {life.ended!r}"


def what_may_be_accepted_is_not_sent_again(record: HarnessRecord) -> Iterator[str]:
    for held in record.sessions:
        repeated = 0
        settled_for = {id(each): request for request in asked(held) for each in request.settling}
        for attempt, after in zip(held.attempts, held.attempts[1:], strict=False):
            # What settles a given-up request's calls is no invocation of its caller's: it is part of getting the next
            # message out, goes with each attempt at that, and the harness takes it once.
            request = settled_for.get(id(after))
            if attempt.messages != after.messages:
                repeated = 0
                continue
            repeated = (repeated if request is settled_for.get(id(attempt)) else 0) + came_to_nothing(attempt)
            settles = request is not None and not (attempt.status == 200 and is_whole(attempt))
            if not (came_to_nothing(attempt) or was_refused(attempt) or settles):
                yield f"{held.session_id}: after {_told(attempt)} the same was sent again"
            if repeated > (held.talk.invoke_retries if request is None else MOST_REFUSALS - 1):
                yield f"{held.session_id}: what came to nothing was repeated {repeated} times"
        sent: dict[str | None, int] = {}
        for place, attempt in enumerate(held.attempts):
            last = sent.get(attempt.text)
            if last not in (None, place - 1) and not was_turned_away(held.attempts[last or 0]):
                yield f"{held.session_id} sent {attempt.text!r} again after something else"
            if attempt.text is not None:
                sent[attempt.text] = place


def each_message_arrives_once_and_in_order(record: HarnessRecord) -> Iterator[str]:
    for held in record.sessions:
        requests = asked(held)
        for request in requests:
            texts = {attempt.text for attempt in request.attempts} - {None, request.outcome.message}
            if texts:
                yield f"{_name(request)} sent {texts}"
        taken = [text for message in held.conversation if (text := _said(message)) is not None]
        kept = [request for request in requests if request.outcome.message in taken or request.outcome.result]
        sent = [request.outcome.message for request in kept]
        # What was on its way when its request timed out may arrive at any time, or never.
        late = {each.outcome.message for each in requests if isinstance(each.outcome.error, maa.SessionTimeout)}
        if any(taken.count(message) > 1 for message in late):
            yield f"{held.session_id}: the harness has {taken}"
        taken, sent = ([text for text in texts if text not in late] for texts in (taken, sent))
        if record.may_lose_machines or held.stops:
            sent = sent[len(sent) - len(taken) :] if taken else []
        if taken != sent:
            yield f"{held.session_id} was sent {sent}, the harness has {taken}"


def each_call_is_run_once(record: HarnessRecord) -> Iterator[str]:
    for held in record.sessions:
        requests, runs = asked(held), _runs(held)
        called = {call_id: request for request in requests for call_id in request.handed_off()}
        completed = Counter(run.call_id for run in runs if run.state == "completed")
        for call_id, count in completed.items():
            if count > 1:
                yield f"{call_id} was completed {count} times"
        for call_id, request in called.items():
            if call_id not in completed and request.outcome.error is None:
                yield f"{call_id} was never completed"
        for call_id in {run.call_id for run in runs}:
            attempts = [run.attempt for run in runs if run.call_id == call_id]
            if call_id not in called:
                yield f"{call_id} was run, and nobody had handed it off"
            if attempts != list(range(1, len(attempts) + 1)):
                yield f"{call_id} was begun with the attempts {attempts}"
            if len(attempts) > 1 and not record.crashes:
                yield f"{call_id} was begun again and nothing had crashed"


def each_result_is_sent_when_it_is_asked_for(record: HarnessRecord) -> Iterator[str]:
    for held in record.sessions:
        waiting: set[str] = set()
        earlier: list[set[str]] = []
        perhaps: list[set[str]] = []
        before: Attempt | None = None
        for attempt in held.attempts:
            again = before is not None and before.messages == attempt.messages
            if attempt.results and not again and {*attempt.results} not in (waiting, *perhaps):
                yield f"{held.session_id} sent results of {[*attempt.results]}, the harness waited for {waiting}"
            if attempt.heard.last.handed_off:
                waiting = set(attempt.heard.last.handed_off)
                earlier.append(waiting)
            elif attempt.text is not None and was_turned_away(attempt):
                perhaps = earlier  # it waits for something that it never got, and does not say in words for what
            elif attempt.status == 200 and not came_to_nothing(attempt):
                waiting = set()
            before = attempt


def each_result_is_what_the_tool_said(record: HarnessRecord) -> Iterator[str]:
    for held in record.sessions:
        runs = {run.call_id: run for run in _runs(held) if run.state == "completed"}
        for request in asked(held):
            for attempt in (*request.settling, *request.attempts):
                for call_id, result in attempt.results.items():
                    text = "".join(block["text"] for block in result["content"])
                    is_error = result["status"] == "error"
                    cancelled = attempt in request.settling and is_error and text == CANCELLED
                    if not cancelled and not _says(runs.get(call_id), text, is_error=is_error):
                        yield f"{call_id} was answered {text!r}, the tool said {runs.get(call_id)}"


def each_event_is_shown_once_and_in_order(record: HarnessRecord) -> Iterator[str]:
    for held in record.sessions:
        for life in held.lives:
            if shown(life, asked(held)) is None:
                yield f"{held.session_id}: the handler was shown something else than came"
            ids = Counter(event["id"] for event in life.seen if "id" in event)
            if any(count > 1 for count in ids.values()):
                yield f"{held.session_id}: events have ids of others"
            if life.read is not None and life.read != life.seen:
                yield f"{held.session_id}: a reader and the handler were shown different things"


def what_is_made_again_is_taken_back(record: HarnessRecord) -> Iterator[str]:
    for request, parts in _shown(record):
        for part in parts:
            followed = part.attempt not in request.kept()
            if followed and not part.is_taken_back:
                yield f"{_name(request)}: what came to nothing was not taken back"


def each_result_is_what_the_wire_says(record: HarnessRecord) -> Iterator[str]:
    for request in _requests(record):
        result = request.outcome.result
        if result is None:
            continue
        says = found(result)
        for name, wanted in implied(request).items():
            if says[name] != wanted:
                yield f"{_name(request)}: {name} is {says[name]!r}, the wire says {wanted!r}"
        if result.session_id != request.held.session_id:
            yield f"{_name(request)}: its result is of {result.session_id}"


def each_result_is_what_the_script_says(record: HarnessRecord) -> Iterator[str]:
    for request in _requests(record):
        result = request.outcome.result
        (exchange,) = [each for each in request.held.talk.exchanges if each.message == request.outcome.message]
        if result is not None and (result.text, result.stop_reason) != ("\n".join(exchange.said), exchange.stop):
            yield f"{_name(request)} gave {result.text!r} and {result.stop_reason!r}, the script is {exchange}"


def the_deltas_make_up_the_text(record: HarnessRecord) -> Iterator[str]:
    for request, parts in _shown(record):
        text = "".join(delta for part in parts if not part.is_taken_back for delta in part.deltas)
        if request.outcome.result is not None and text != request.outcome.result.text:
            yield f"{_name(request)}: the handler was shown {text!r}, the text is {request.outcome.result.text!r}"


def each_request_has_one_terminal(record: HarnessRecord) -> Iterator[str]:
    for held in record.sessions:
        for life in held.lives:
            made = [outcome for outcome in life.outcomes if not isinstance(outcome.error, maa.ActorGone)]
            if any((outcome.result is None) == (outcome.error is None) for outcome in made):
                yield f"{held.session_id}: a request has neither result nor error, or both"
            if len(life.notified) != len(made):
                yield f"{held.session_id}: {len(made)} requests, {len(life.notified)} terminals"
            for outcome, told in zip(made, life.notified, strict=False):
                if outcome.result not in (None, told) or (outcome.error is None) != (told.error is None):
                    yield f"{held.session_id}: notify= heard {told.terminal} {told.error} of {outcome}"
            if life.subscribed not in (None, life.notified):
                yield f"{held.session_id}: subscribers heard something else than notify="


def nothing_else_is_asked(record: HarnessRecord) -> Iterator[str]:
    told = Counter(request.path for request in record.requests if "/stopruntimesession" not in request.path)
    made = sum(len(held.attempts) for held in record.sessions)
    if told != Counter({"/harnesses/invoke": made}) and (told or made):
        yield f"{made} invocations were made, the server was asked {dict(told)}"


def a_machine_is_stopped_only_on_demand(record: HarnessRecord) -> Iterator[str]:
    for held in record.sessions:
        ends = [outcome for life in held.lives for outcome in life.outcomes if outcome.error is not None]
        if held.stops and not (held.talk.stop_on_cancel and ends):
            yield f"{held.session_id} was stopped, and nobody wanted that"


def nothing_is_left(record: HarnessRecord) -> Iterator[str]:
    if record.open_bodies:
        yield f"{record.open_bodies} streams are open"
    if record.tasks_left:
        yield f"{record.tasks_left} tasks run on"


def nobody_complains(record: HarnessRecord) -> Iterator[str]:
    # Of each crash that was injected the session and its supervisor tell once, as errors.
    told = Counter(line for line in record.noise if line.startswith(CRASHED))
    if any(count > record.crashes for count in told.values()):
        yield f"{record.crashes} crashes were injected, the log tells of {dict(told)}"
    yield from (line for line in record.noise if line not in told)


HARNESS_LAWS: tuple[HarnessLaw, ...] = (
    it_comes_to_an_end,
    nothing_ends_a_request_without_a_reason,
    each_request_ends_as_the_wire_says,
    a_session_can_be_used_again,
    what_may_be_accepted_is_not_sent_again,
    each_message_arrives_once_and_in_order,
    each_call_is_run_once,
    each_result_is_sent_when_it_is_asked_for,
    each_result_is_what_the_tool_said,
    each_event_is_shown_once_and_in_order,
    what_is_made_again_is_taken_back,
    each_result_is_what_the_wire_says,
    each_result_is_what_the_script_says,
    the_deltas_make_up_the_text,
    each_request_has_one_terminal,
    nothing_else_is_asked,
    a_machine_is_stopped_only_on_demand,
    nothing_is_left,
    nobody_complains,
)


def _requests(record: HarnessRecord) -> list[Asked]:
    return [request for held in record.sessions for request in asked(held)]


def _shown(record: HarnessRecord) -> Iterator[tuple[Asked, list]]:  # type: ignore[type-arg]
    """The requests of each life, beside what the handler was shown of their attempts."""
    for held in record.sessions:
        for life in held.lives:
            made = [request for request in asked(held) if request.life is life]
            parts = shown(life, made) or []
            for request in made:
                yield request, [part for part in parts if any(part.attempt is each for each in request.attempts)]


def _runs(held: HeldHarness) -> list[Execution]:
    return [run for life in held.lives for run in life.executions]


def _ends_a_session(error: Exception | None, held: HeldHarness) -> bool:
    """Whether a session may take nothing more after this: it was refused, or its first message was."""
    denied = isinstance(error, maa.AuthenticationError | maa.PermissionDeniedError)
    return denied or (held.talk.manner == "prompt" and error is not None)


def _ended_with_its_session(request: Asked) -> bool:
    """Whether it was waiting for its turn when the session was refused."""
    earlier = [outcome.cause for outcome in request.life.outcomes if outcome is not request.outcome]
    cause = request.outcome.cause
    return not request.attempts and _ends_a_session(cause, request.held) and any(cause is each for each in earlier)


def _says(run: Execution | None, text: str, *, is_error: bool) -> bool:
    if run is None or run.answer is None or run.is_error != is_error:
        return False
    return run.answer in text if run.is_error else run.answer == text


def _said(message: Event) -> str | None:
    texts = [block["text"] for block in message["content"] if "text" in block]
    return "".join(texts) if message["role"] == "user" and texts else None


def _name(request: Asked) -> str:
    return f"{request.held.session_id[:20]} {request.outcome.message[:8]!r}"


def _course(request: Asked) -> str:
    return "; ".join(map(_told, (*request.settling, *request.attempts)))


def _told(attempt: Attempt) -> str:
    kind = "results" if attempt.text is None else "message"
    heard = attempt.heard
    return f"{kind} -> {attempt.status} {attempt.code} {attempt.end} {len(heard.events)} events {heard.thrown or ''}"
