"""The verdict on a demonstration: pure, so that each defect the library must not have can be shown to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from managed_agents_actors import SessionResult
from managed_agents_actors._cli.verdict import Evidence, problems
from managed_agents_actors.testing import RecordedRequest

LOG: tuple[dict[str, Any], ...] = (
    {"id": "1", "type": "user.message"},
    {"id": "2", "type": "agent.custom_tool_use"},
    {"id": "3", "type": "user.custom_tool_result"},
    {"id": "4", "type": "agent.message"},
)


def request(method: str, path: str, body: Any = None) -> RecordedRequest:
    return RecordedRequest(method=method, path=path, query={}, headers={}, body=body, at=0.0, status=200)


ATTACH = request("GET", "/v1/sessions/s/events/stream")
POST = request(
    "POST", "/v1/sessions/s/events", {"events": [{"type": "user.custom_tool_result", "custom_tool_use_id": "2"}]}
)
GOOD = Evidence(
    expected_text="done",
    expected_tools=("look",),
    result=SessionResult(terminal="end_turn", last_text="done", events=LOG),
    shown=LOG,
    runs=(("look", "2"),),
    reconnects=2,
    restarts=1,
    drops=1,
    crashes=1,
    log=LOG,
    requests=(ATTACH, ATTACH, ATTACH, POST),
)


def with_result(**changes: Any) -> Evidence:
    return replace(GOOD, result=replace(GOOD.result, **changes))


def test_good_evidence_has_no_problems() -> None:
    assert problems(GOOD) == []


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        (lambda: with_result(terminal="terminated"), "the request ended with 'terminated'"),
        (lambda: with_result(last_text=""), "the final text is ''"),
        (lambda: replace(GOOD, drops=0), "never lost"),
        (lambda: replace(GOOD, crashes=0), "never crashed"),
        (lambda: replace(GOOD, restarts=0), "crashed 1 times, but was restarted 0 times"),
        (lambda: replace(GOOD, reconnects=0), "opened 3 times, with 0 reconnects"),
        (lambda: replace(GOOD, requests=(ATTACH, POST)), "opened 1 times"),
        (lambda: replace(GOOD, runs=()), "the tools that ran are []"),
        (lambda: replace(GOOD, runs=GOOD.runs * 2), "the tools that ran are ['look', 'look']"),
        (lambda: replace(GOOD, runs=(("look", "9"),)), "the server made ['2']"),
        (lambda: replace(GOOD, requests=(ATTACH, ATTACH)), "results were sent for {}"),
        (lambda: replace(GOOD, requests=(ATTACH, ATTACH, POST, POST)), "results were sent for {'2': 2}"),
        (lambda: with_result(events=LOG[:-1]), "the result has 3 events"),
        (lambda: with_result(events=(*LOG, LOG[-1])), "the result has 5 events"),
        (lambda: replace(GOOD, shown=LOG[::-1]), "the handler has 4 events"),
    ],
)
def test_each_defect_is_reported(evidence: Callable[[], Evidence], told: str) -> None:
    found = problems(evidence())
    assert any(told in problem for problem in found), found
