"""Waiting for a harness: what is usable, what is waited on, what ends the wait. Time is virtual."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from managed_agents_actors import _errors as errors
from managed_agents_actors.agentcore import AgentCoreClient

from ._wire import HARNESS_ID, client_of, open_wire

Make = Callable[..., bytes]
Act = Callable[..., Awaitable[Any]]

HARNESS: Act = AgentCoreClient.wait_until_harness_ready
ENDPOINT: Act = AgentCoreClient.wait_until_endpoint_ready
DELETED: Act = AgentCoreClient.wait_until_harness_deleted


async def ENDPOINT_DELETED(client: AgentCoreClient, harness_id: str, **times: float) -> None:
    await client.wait_until_endpoint_deleted(harness_id, "prod", **times)


DELETIONS = (DELETED, ENDPOINT_DELETED)


@pytest.fixture
def answers(reply: Make) -> Callable[..., list[bytes]]:
    """Makes the answers that tell these statuses; a number is an HTTP status."""

    def make(*statuses: str | int, **members: Any) -> list[bytes]:
        return [
            reply("{}", status=status)
            if isinstance(status, int)
            else reply(json.dumps({key: {"status": status, **members} for key in ("harness", "endpoint")}))
            for status in statuses
        ]

    return make


@pytest.mark.parametrize(
    ("wait", "statuses"),
    [
        (HARNESS, ["READY"]),
        (HARNESS, ["CREATING", "UPDATING", "READY"]),
        (HARNESS, ["CREATING", 500, 500, 500, "READY"]),
        # An endpoint that is not found is followed by a look at its harness, which may fail or be forbidden.
        (ENDPOINT, [404, "CREATING", "CREATING", 404, "READY", "READY"]),
        (ENDPOINT, [404, "UPDATING", 404, 403, 404, 500, 500, 500, "READY"]),
        *((wait, ["READY", "DELETING", "DELETING", 404]) for wait in DELETIONS),
        *((wait, ["CREATE_FAILED", "UPDATE_FAILED", "DELETING", 404]) for wait in DELETIONS),
        *((wait, [404]) for wait in DELETIONS),
    ],
)
async def test_a_wait_ends_when_what_it_waits_for_is_there(
    answers: Any, wait: Act, statuses: list[Any], autojump_clock: Any
) -> None:
    async with open_wire() as wire:
        wire.replies = answers(*statuses)
        row = await wait(client_of(wire), HARNESS_ID, interval=5)
    assert row == (None if wait in DELETIONS else {"status": "READY"})
    assert len(wire.requests) == len(statuses)


async def test_looks_are_an_interval_apart(answers: Any, autojump_clock: Any) -> None:
    async with open_wire() as wire:
        wire.replies = answers("CREATING", "CREATING", "READY")
        await client_of(wire).wait_until_endpoint_ready(HARNESS_ID, "prod", interval=7)
        wire.replies += answers("DELETING", 404)
        await client_of(wire).wait_until_endpoint_deleted(HARNESS_ID, "prod", interval=7)
    assert [request.at for request in wire.requests] == [0, 7, 14, 14, 21]
    assert {request.line for request in wire.requests} == {f"GET /harnesses/{HARNESS_ID}/endpoints/prod HTTP/1.1"}


@pytest.mark.parametrize(
    ("wait", "status"),
    [
        *((wait, status) for wait in (HARNESS, ENDPOINT) for status in ("CREATE_FAILED", "UPDATE_FAILED", "DELETING")),
        *((wait, "FROZEN") for wait in (HARNESS, ENDPOINT, *DELETIONS)),
        *((wait, "DELETE_FAILED") for wait in DELETIONS),
    ],
)
async def test_a_status_that_leads_nowhere_ends_the_wait_at_once(
    answers: Any, wait: Act, status: str, autojump_clock: Any
) -> None:
    async with open_wire() as wire:
        wire.replies = answers("UPDATING", status, failureReason="no role")
        with pytest.raises(errors.ProvisioningError, match=f"is {status}: no role") as caught:
            await wait(client_of(wire), HARNESS_ID, interval=5)
    assert trio.current_time() == 5
    context = caught.value.context
    assert (context["status"], context["failure_reason"], context["polls"], context["elapsed"]) == (
        status,
        "no role",
        2,
        5,
    )


@pytest.mark.parametrize(
    ("status", "told"),
    [
        *((status, f"is {status}: no role") for status in ("CREATE_FAILED", "UPDATE_FAILED", "DELETE_FAILED")),
        *((status, f"is {status}: no role") for status in ("DELETING", "FROZEN")),
        (404, "is not found"),
    ],
)
async def test_an_endpoint_that_its_harness_will_never_have_is_not_waited_for(
    answers: Any, status: str | int, told: str, autojump_clock: Any
) -> None:
    async with open_wire() as wire:
        wire.replies = answers(404, "CREATING", 404, status, failureReason="no role")
        with pytest.raises(errors.ProvisioningError, match=f"^the harness {HARNESS_ID} {told}$") as caught:
            await client_of(wire).wait_until_endpoint_ready(HARNESS_ID, interval=5)
    assert trio.current_time() == 5
    endpoint, harness = (f"GET /harnesses/{HARNESS_ID}{path} HTTP/1.1" for path in ("/endpoints/DEFAULT", ""))
    assert [request.line for request in wire.requests] == [endpoint, harness] * 2
    seen = "not found" if status == 404 else status
    reason = None if status == 404 else "no role"
    context = caught.value.context
    assert (context["status"], context["failure_reason"], context["elapsed"]) == (seen, reason, 5)


async def test_the_deadline_ends_the_wait_and_says_what_was_seen(answers: Any, autojump_clock: Any) -> None:
    async with open_wire() as wire:
        wire.replies = answers(*["CREATING"] * 100)
        with pytest.raises(errors.ProvisioningError, match="within 22 s; last seen CREATING") as caught:
            await client_of(wire).wait_until_harness_ready(HARNESS_ID, timeout=22, interval=5)
        assert trio.current_time() == 22
        assert (caught.value.context["polls"], caught.value.context["elapsed"]) == (5, 22)
        wire.replies = answers(*[404, "READY"] * 100)
        with pytest.raises(errors.ProvisioningError, match="last seen not found"):
            await client_of(wire).wait_until_endpoint_ready(HARNESS_ID, timeout=22, interval=5)
        wire.replies = answers(*[500] * 100)
        with pytest.raises(errors.ProvisioningError, match="never seen") as failed:
            await client_of(wire, max_retries=0).wait_until_harness_ready(HARNESS_ID, timeout=22, interval=5)
        assert isinstance(failed.value.__cause__, errors.ServerError)


@pytest.mark.parametrize("wait", [HARNESS, ENDPOINT, *DELETIONS])
@pytest.mark.parametrize("body", ["<html>", "", "[]"])
async def test_an_answer_that_is_not_the_services_ends_the_wait(
    reply: Make, wait: Act, body: str, autojump_clock: Any
) -> None:
    async with open_wire() as wire:
        wire.replies = [reply(body)]
        with pytest.raises(errors.ProtocolError, match="was accepted, but its answer"):
            await wait(client_of(wire), HARNESS_ID)
    assert (trio.current_time(), len(wire.requests)) == (0, 1)


@pytest.mark.parametrize(
    ("wait", "status"), [(HARNESS, 404), (HARNESS, 403), (ENDPOINT, 400), *((wait, 403) for wait in DELETIONS)]
)
async def test_a_refusal_to_tell_ends_the_wait(answers: Any, wait: Act, status: int, autojump_clock: Any) -> None:
    async with open_wire() as wire:
        wire.replies = answers(status)
        with pytest.raises(errors.APIError) as caught:
            await wait(client_of(wire), HARNESS_ID)
    assert (caught.value.status, len(wire.requests)) == (status, 1)
