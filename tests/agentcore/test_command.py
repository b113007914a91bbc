"""A command in a session's machine: its output put together, its end, its failures. Time is virtual."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio

from managed_agents_actors import _errors as errors
from managed_agents_actors.agentcore import CommandResult
from managed_agents_actors.testing._aws_frames import event_frame, exception_frame

from ._wire import END, HARNESS_ARN, SESSION_ID, STREAM_HEAD, chunk, client_of, open_wire, sends


def delta(**outputs: str) -> bytes:
    return event_frame("chunk", {"contentDelta": outputs})


def stop(exit_code: Any = 0, status: Any = "COMPLETED") -> bytes:
    return event_frame("chunk", {"contentStop": {"exitCode": exit_code, "status": status}})


START = event_frame("chunk", {"contentStart": {}})
OUTPUT = START + delta(stdout="a\n") + delta(stdout="ü", stderr="warn") + event_frame("future", {}) + delta()


@pytest.mark.parametrize("size", [1, 10, 10_000])
async def test_output_and_exit_code_are_the_result(size: int) -> None:
    data = OUTPUT + stop(7)
    told: list[tuple[str, str]] = []
    async with open_wire() as wire:
        wire.replies = [sends(*(data[i : i + size] for i in range(0, len(data), size)), end=True)] * 2
        client = client_of(wire)
        result = await client.run_command(
            HARNESS_ARN, SESSION_ID, "make", timeout=60, qualifier="prod", on_output=lambda *piece: told.append(piece)
        )

        async def tell(name: str, text: str) -> None:
            await trio.lowlevel.checkpoint()
            told.append((name, text))

        await client.run_command(HARNESS_ARN, SESSION_ID, "make", on_output=tell)
    assert result == CommandResult(stdout="a\nü", stderr="warn", exit_code=7, status="COMPLETED")
    assert told == [("stdout", "a\n"), ("stdout", "ü"), ("stderr", "warn")] * 2
    first, second = wire.requests
    path = f"/runtimes/{HARNESS_ARN.replace(':', '%3A').replace('/', '%2F')}/commands"
    assert (first.line, second.line) == (f"POST {path}?qualifier=prod HTTP/1.1", f"POST {path} HTTP/1.1")
    assert json.loads(first.body) == {"command": "make", "timeout": 60}
    assert json.loads(second.body)["timeout"] == 300
    assert first.headers["x-amzn-bedrock-agentcore-runtime-session-id"] == SESSION_ID


ENDED: dict[str, Any] = {"exitCode": 7, "status": "COMPLETED"}


@pytest.mark.parametrize("size", [1, 10, 10_000])
@pytest.mark.parametrize(
    "events",
    [
        [
            event_frame("contentStart", {}),
            event_frame("contentDelta", {"stdout": "a\n"}),
            event_frame("contentDelta", {"stdout": "ü", "stderr": "warn"}),
            event_frame("contentStop", ENDED),
        ],
        [
            event_frame("chunk", {"chunk": members})
            for members in (
                {"contentStart": {}},
                {"contentDelta": {"stdout": "a\n"}},
                {"contentDelta": {"stdout": "ü", "stderr": "warn"}},
                {"contentStop": ENDED},
            )
        ],
    ],
    ids=["bare", "wrapped"],
)
async def test_events_may_come_bare_or_wrapped_once_more(events: list[bytes], size: int) -> None:
    data = b"".join(events)
    async with open_wire() as wire:
        wire.replies = [sends(*(data[i : i + size] for i in range(0, len(data), size)), end=True)]
        result = await client_of(wire).run_command(HARNESS_ARN, SESSION_ID, "make")
    assert result == CommandResult(stdout="a\nü", stderr="warn", exit_code=7, status="COMPLETED")


async def test_a_timeout_and_a_failure_of_the_platform_are_results() -> None:
    async with open_wire() as wire:
        wire.replies = [sends(START + stop(-1, "TIMED_OUT"), end=True)]
        result = await client_of(wire).run_command(HARNESS_ARN, SESSION_ID, "sleep 9")
    assert result == CommandResult(stdout="", stderr="", exit_code=-1, status="TIMED_OUT")


@pytest.mark.parametrize("tail", [b"", stop()[:-1]])
async def test_a_stream_without_its_end_is_truncated(tail: bytes) -> None:
    async with open_wire() as wire:
        wire.replies = [sends(OUTPUT + tail, end=True)]
        with pytest.raises(errors.TruncatedStream):
            await client_of(wire).run_command(HARNESS_ARN, SESSION_ID, "ls")
    assert len(wire.requests) == 1


@pytest.mark.parametrize(
    "end", [stop("0"), stop(None), stop(True), stop(0, None), event_frame("chunk", {"contentStop": 5})]
)
async def test_an_end_of_another_form_is_a_protocol_error(end: bytes) -> None:
    async with open_wire() as wire:
        wire.replies = [sends(OUTPUT + end, end=True)]
        with pytest.raises(errors.ProtocolError):
            await client_of(wire).run_command(HARNESS_ARN, SESSION_ID, "ls")


@pytest.mark.parametrize(
    "after",
    [
        sends(OUTPUT + stop(7), close=True),
        sends(OUTPUT + stop(7)),
        sends(OUTPUT + stop(7), b"\0" * 12),
        sends(OUTPUT + stop(7) + exception_frame("internalServerException", {"message": "later"})),
    ],
    ids=["a connection that breaks", "silence", "garbage", "an exception"],
)
async def test_nothing_that_follows_the_end_takes_the_result_away(after: Any, autojump_clock: Any) -> None:
    async with open_wire() as wire:
        wire.replies = [after]
        result = await client_of(wire).run_command(HARNESS_ARN, SESSION_ID, "make")
    assert result == CommandResult(stdout="a\nü", stderr="warn", exit_code=7, status="COMPLETED")
    assert trio.current_time() == 0


async def test_an_exception_is_raised_after_the_output_before_it() -> None:
    told: list[str] = []
    async with open_wire() as wire:
        wire.replies = [sends(OUTPUT + exception_frame("serviceQuotaExceededException", {"message": "maxVms"}))]
        with pytest.raises(errors.APIError, match="maxVms") as caught:
            await client_of(wire).run_command(
                HARNESS_ARN, SESSION_ID, "ls", on_output=lambda _, text: told.append(text)
            )
    assert (caught.value.status, "".join(told)) == (402, "a\nüwarn")


async def test_a_command_may_be_silent_for_its_whole_time(autojump_clock: Any) -> None:
    async def slow(peer: Any) -> None:
        await peer.send(STREAM_HEAD + chunk(START))
        await trio.sleep(1_850)
        await peer.send(chunk(stop()) + END)

    async with open_wire() as wire:
        wire.replies = [slow, slow]
        client = client_of(wire)
        result = await client.run_command(HARNESS_ARN, SESSION_ID, "sleep 1800", timeout=1_800)
        assert result.exit_code == 0
        with pytest.raises(errors.StreamIdleTimeout, match="360 s"):
            await client.run_command(HARNESS_ARN, SESSION_ID, "sleep 1800")


async def test_what_the_callers_function_raises_ends_the_wait_for_the_command() -> None:
    def fail(*_: str) -> None:
        raise KeyError("mine")

    async with open_wire() as wire:
        wire.replies = [sends(OUTPUT)]
        with pytest.raises(KeyError, match="mine"):
            await client_of(wire).run_command(HARNESS_ARN, SESSION_ID, "ls", on_output=fail)
