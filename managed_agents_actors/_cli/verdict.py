"""Whether a demonstration went right: pure, over what the session gave and what the server recorded.

The server's records are the witness; the session's own account is what is being checked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._model import SessionResult
from ..testing import RecordedRequest

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a demonstration left behind.

    Attributes:
        expected_text: The last thing the agent should have said.
        expected_tools: The tools that should have run.
        result: What the session gave.
        shown: The events shown to the handler, in order.
        runs: Each run of a tool: its name and the call's id.
        reconnects: Streams the session opened after its first.
        restarts: Actors that took another one's place.
        drops: Resets that the server performed.
        crashes: Crashes of an actor that were planned and came.
        log: The server's events, in order.
        requests: The requests the server got, in order.
    """

    expected_text: str
    expected_tools: Sequence[str]
    result: SessionResult
    shown: Sequence[Event]
    runs: Sequence[tuple[str, str]]
    reconnects: int
    restarts: int
    drops: int
    crashes: int
    log: Sequence[Event]
    requests: Sequence[RecordedRequest]


def problems(evidence: Evidence) -> list[str]:
    """Say what is wrong; nothing, if all is right."""
    return [*_wrong_end(evidence), *_wrong_stream(evidence), *_wrong_tools(evidence), *_wrong_events(evidence)]


def _wrong_end(evidence: Evidence) -> Iterator[str]:
    result = evidence.result
    if result.terminal != "end_turn":
        yield f"the request ended with {result.terminal!r} ({result.error}), not with 'end_turn'"
    if result.last_text != evidence.expected_text:
        yield f"the final text is {result.last_text!r}, not {evidence.expected_text!r}"


def _wrong_stream(evidence: Evidence) -> Iterator[str]:
    attached = sum(request.path.endswith("/events/stream") for request in evidence.requests)
    if evidence.drops < 1:
        yield "the stream was never lost"
    if evidence.crashes < 1:
        yield "the actor never crashed"
    elif evidence.restarts != evidence.crashes:
        yield f"the actor crashed {evidence.crashes} times, but was restarted {evidence.restarts} times"
    losses = evidence.drops + evidence.crashes
    if evidence.reconnects != losses or attached != losses + 1:
        opened = f"{attached} times, with {evidence.reconnects} reconnects"
        yield f"the stream was lost {losses} times, but opened {opened}"


def _wrong_tools(evidence: Evidence) -> Iterator[str]:
    ran = sorted(name for name, _ in evidence.runs)
    if ran != sorted(evidence.expected_tools):
        yield f"the tools that ran are {ran}, not {sorted(evidence.expected_tools)}, each once"
    called = sorted(event["id"] for event in evidence.log if event["type"] == "agent.custom_tool_use")
    if sorted(call_id for _, call_id in evidence.runs) != called:
        yield f"the calls that ran are {evidence.runs}, but the server made {called}"
    posted = Counter(_posted_results(evidence.requests))
    if posted != Counter(called):
        yield f"results were sent for {dict(posted)}, but should have been sent once for each of {called}"


def _wrong_events(evidence: Evidence) -> Iterator[str]:
    recorded = [event["id"] for event in evidence.log]
    accounts = {"the result": evidence.result.events, "the handler": evidence.shown}
    for who, events in accounts.items():
        got = [event["id"] for event in events]
        if got != recorded:
            yield f"{who} has {len(got)} events, which are not the server's {len(recorded)} events, once each, in order"


def _posted_results(requests: Sequence[RecordedRequest]) -> Iterator[str]:
    for request in requests:
        if request.method == "POST" and request.path.endswith("/events"):
            for event in request.body["events"]:
                if event["type"] == "user.custom_tool_result":
                    yield event["custom_tool_use_id"]
