"""BED: AgentCore through whole sessions, on a scripted wire: what is sent, what comes of it, what is sent again."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.eventstream import EventStreamBuffer
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors._http.transport import Transport
from managed_agents_actors.agentcore._loading import load
from managed_agents_actors.providers import bedrock_agent_core
from managed_agents_actors.testing import RecordingHandler, open_agentcore_simulator, say

from ._harness import (
    ARN,
    REGION,
    Cut,
    Harness,
    Part,
    Pause,
    Refuse,
    Vanish,
    calls,
    copy,
    done,
    meta,
    open_harness,
    put,
    says,
    start,
    stop,
    throw,
    tool,
    txt,
)

GO = [{"role": "user", "content": [{"text": "go"}]}]


def answer(call_id: str, text: str = "r", given: Any = None, status: str = "success") -> list[dict[str, Any]]:
    """The two messages that resume after one call."""
    use = {"toolUseId": call_id, "name": "echo", "input": given or {}}
    told = {"toolUseId": call_id, "content": [{"text": text}], "status": status}
    return [{"role": "assistant", "content": [{"toolUse": use}]}, {"role": "user", "content": [{"toolResult": told}]}]


async def echo(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    return "r"


async def run(harness: Harness, handler: Any = echo, **options: Any) -> maa.SessionResult:
    with trio.fail_after(10_000):
        return await maa.run_session(
            bedrock_agent_core, handler=handler, **{"prompt": "go", **harness.options, **options}
        )


def types(result: maa.SessionResult) -> list[str]:
    return [event["type"] for event in result.events]


# --- BED-01 -----------------------------------------------------------------------------------------------------------


async def test_bed_01_a_tool_round_trip(autojump_clock: MockClock) -> None:
    first = [start(), tool(0, "A"), put(0, '{"x":'), put(0, "1}"), done(), stop("tool_use")]
    second = [start(), txt("done"), done(), stop(), meta(12, 7)]
    handler = RecordingHandler(echo)
    tools = [
        {
            "type": "inline_function",
            "name": "echo",
            "config": {"inlineFunction": {"description": "d", "inputSchema": {}}},
        }
    ]
    async with open_harness(first, second) as harness:
        result = await run(
            harness, handler, tools=tools, max_iterations=5, model="us.some-model", system_prompt="Be kind."
        )
    assert [(call.name, call.input) for call in handler.calls] == [("echo", {"x": 1})]
    assert harness.told == [GO, answer("A", given={"x": 1})]
    for body in harness.sent:  # what was given for the first invocation holds for every one
        assert body["tools"] == tools
        assert (body["maxIterations"], body["systemPrompt"]) == (5, [{"text": "Be kind."}])
        assert body["model"] == {"bedrockModelConfig": {"modelId": "us.some-model"}}
    assert (result.terminal, result.stop_reason, result.text, result.turns) == ("end_turn", "end_turn", "done", 2)
    assert (result.usage.input_tokens, result.usage.output_tokens) == (12, 7)
    assert result.usage.raw == ({"inputTokens": 12, "outputTokens": 7, "totalTokens": 19},)
    assert types(result) == [
        *("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockDelta", "contentBlockStop"),
        *("messageStop", "messageStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"),
    ]
    assert result.events[2]["contentBlockDelta"] == {"contentBlockIndex": 0, "delta": {"toolUse": {"input": '{"x":'}}}
    assert [entry["role"] for entry in result.transcript] == ["user", "assistant", "user", "assistant"]


async def test_bed_01_several_calls_are_answered_together_in_their_order(autojump_clock: MockClock) -> None:
    async def slow_first(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        await trio.sleep(2.0 if context.tool_use_id == "A" else 1.0)
        if context.tool_use_id == "B":
            raise maa.ToolError("B failed")
        return ""

    async with open_harness(calls("A", "B"), says("done")) as harness:
        result = await run(harness, slow_first)
    ((_, results),) = [harness.told[1]]
    assert [block["toolResult"] for block in results["content"]] == [
        {"toolUseId": "A", "content": [{"text": "(no output)"}], "status": "success"},
        {"toolUseId": "B", "content": [{"text": "B failed"}], "status": "error"},
    ]
    assert result.text == "done"


# --- BED-02 -----------------------------------------------------------------------------------------------------------


async def test_bed_02_an_index_used_again_and_an_id_used_twice(autojump_clock: MockClock) -> None:
    first = [start(), tool(0, "A"), put(0, '{"a":1}'), tool(0, "B"), put(0, '{"b":2}'), tool(1, "B"), stop("tool_use")]
    handler = RecordingHandler(echo)
    async with open_harness(first, says("done")) as harness:
        await run(harness, handler)
    assert sorted((call.id, call.input) for call in handler.calls) == [("A", {"a": 1}), ("B", {"b": 2})]
    # Each goes back once, with its own input, and is answered once.
    echoed, told = harness.told[1]
    assert [block["toolUse"] for block in echoed["content"]] == [
        {"toolUseId": "A", "name": "echo", "input": {"a": 1}},
        {"toolUseId": "B", "name": "echo", "input": {"b": 2}},
    ]
    assert [block["toolResult"]["toolUseId"] for block in told["content"]] == ["A", "B"]


async def test_bed_02_damaged_input_is_an_error_result_and_runs_nothing(autojump_clock: MockClock) -> None:
    handler = RecordingHandler(echo)
    async with open_harness(calls("A", given='{"x":'), says("done")) as harness:
        await run(harness, handler)
    assert handler.calls == []
    told = harness.told[1][1]["content"][0]["toolResult"]
    assert told["status"] == "error"
    assert "not JSON" in told["content"][0]["text"]


# --- BED-05 -----------------------------------------------------------------------------------------------------------


def written(*frames: bytes) -> list[dict[str, Any]]:
    """What was written in these frames, as botocore reads it."""
    buffer = EventStreamBuffer()
    buffer.add_data(b"".join(frames))
    events = [(message.headers[":event-type"], json.loads(message.payload)) for message in buffer]
    return [{"type": name, name: members} for name, members in events]


class Watcher:
    """Gives a call's text back, and keeps what it is shown of the service's events."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        return str(input["x"])

    async def handle_event(self, event: dict[str, Any], context: maa.EventContext) -> None:
        if not event["type"].startswith("managed_agents."):
            self.seen.append({name: value for name, value in event.items() if name != "id"})


@pytest.mark.parametrize("sizes", [(1,), (7,), (1, 100, 3), (100_000,)])
async def test_bed_05_frames_split_anywhere_or_coalesced(sizes: tuple[int, ...], autojump_clock: MockClock) -> None:
    first, second = calls("A", given='{"x":"é🙂"}'), says("done")
    watcher = Watcher()
    async with open_harness([b"".join(first)], [b"".join(second)], sizes=sizes) as harness:
        result = await run(harness, watcher)
        # All of them, once and in order, by the time that the result is there.
        assert watcher.seen == written(*first, *second)
    assert [{name: value for name, value in event.items() if name != "id"} for event in result.events] == watcher.seen
    assert harness.told[1] == answer("A", "é🙂", {"x": "é🙂"})
    assert result.text == "done"


async def test_bed_05_a_stream_in_two_parts_wherever_it_is_parted(autojump_clock: MockClock) -> None:
    frames = [start(), txt("é🙂"), stop()]
    stream, events = b"".join(frames), written(*frames)
    parted: list[list[Part]] = [[stream[:at], Pause(0.001), stream[at:]] for at in range(1, len(stream))]
    async with open_harness(*parted) as harness:
        for _ in parted:
            heard: list[Any] = []
            asked = harness.client.invoke_harness(harnessArn=ARN, runtimeSessionId="a" * 33, messages=GO)
            async with asked as told:
                with suppress(trio.EndOfChannel):
                    while True:
                        heard += await told.receive_batch()
            assert heard == events
    assert len(harness.sent) == len(parted)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
async def test_bed_05_two_frames_and_a_part_of_the_third(part: float, autojump_clock: MockClock) -> None:
    first, second, third, *rest = calls("A", given='{"x":"é🙂"}')
    at = int(len(third) * part)
    watcher = Watcher()
    parts: list[Part] = [first + second + third[:at], Pause(5.0), third[at:] + b"".join(rest)]
    async with open_harness(parts, says("done")) as harness:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run, harness, watcher)
            await trio.sleep(2.0)
            assert watcher.seen == written(first, second)  # as they come, not once the third is whole
        assert watcher.seen == written(first, second, third, *rest, *says("done"))
    assert harness.told[1] == answer("A", "é🙂", {"x": "é🙂"})


# --- BED-07 -----------------------------------------------------------------------------------------------------------

THROTTLED = Refuse(429, "ThrottlingException", {"retry-after": "3"})


async def test_bed_07_throttling_is_waited_out(autojump_clock: MockClock) -> None:
    async with open_harness(THROTTLED, THROTTLED, calls("A"), THROTTLED, says("done")) as harness:
        result = await run(harness)
    assert result.text == "done"
    assert harness.told == [GO, GO, GO, answer("A"), answer("A")]
    assert all(later - earlier >= 3.0 for earlier, later in zip(harness.at[:3], harness.at[1:3], strict=False))


BUSY = Refuse(429, "ThrottlingException")
# How the waits grow, unless the server names one: each is up to half as short as it may be long, so that those who were
# sent away together do not come back together.
LONGEST = [0.5, 1.0, 2.0]


@pytest.mark.parametrize(
    ("throttled", "resumes"),
    [([BUSY] * 3, False), ([BUSY] * 3, True), ([[throw("throttlingException")]] * 3, False)],
    ids=["message", "results", "stream"],
)
async def test_bed_07_the_waits_between_attempts_grow_and_are_spread(
    throttled: Any, resumes: bool, autojump_clock: MockClock
) -> None:
    before = [calls("A")] if resumes else []
    times = 12
    async with open_harness(*[*before, *throttled, says("done")] * times) as harness:
        for _ in range(times):
            policy = maa.ReconnectPolicy(initial=0.5, jitter=0.5)
            assert (await run(harness, invoke_retries=3, reconnect=policy)).text == "done"
    size = len(before) + len(throttled) + 1
    for n, longest in enumerate(LONGEST, len(before)):
        waits = [harness.at[at + n + 1] - harness.at[at + n] for at in range(0, size * times, size)]
        assert all(longest / 2 <= wait <= longest for wait in waits), waits
        assert max(waits) - min(waits) > longest / 10, waits  # by chance twelve draws agree once in 10**6 runs


async def test_bed_07_throttling_without_end_is_told(autojump_clock: MockClock) -> None:
    async with open_harness(*[THROTTLED] * 20) as harness:
        with pytest.raises(maa.RateLimitError):
            await run(harness)
    assert len(harness.sent) == 8


@pytest.mark.parametrize("times", [1, 2, 3])
async def test_bed_07_throttling_in_the_stream_is_repeated_as_often_as_allowed(
    times: int, autojump_clock: MockClock
) -> None:
    async with open_harness(*[[throw("throttlingException")]] * times, says("done")) as harness:
        if times == 3:
            with pytest.raises(maa.RateLimitError):
                await run(harness)
        else:
            assert (await run(harness)).text == "done"
    assert harness.told == [GO] * min(times + 1, 3)
    assert harness.at[1] > harness.at[0]


async def test_bed_07_throttling_after_anything_came_is_not_repeated(autojump_clock: MockClock) -> None:
    async with open_harness([start(), txt("Hel"), throw("throttlingException")]) as harness:
        with pytest.raises(maa.RateLimitError):
            await run(harness)
    assert len(harness.sent) == 1


# --- BED-08 -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [
        (400, "ValidationException", maa.InvalidRequestError),
        (402, "ServiceQuotaExceededException", maa.APIError),
        (403, "AccessDeniedException", maa.PermissionDeniedError),
        (404, "ResourceNotFoundException", maa.NotFoundError),
        (424, "RuntimeClientError", maa.APIError),
        (500, "InternalServerException", maa.ServerError),
    ],
)
async def test_bed_08_a_permanent_error_costs_one_attempt(
    status: int, code: str, error: type[Exception], autojump_clock: MockClock
) -> None:
    send, hears = trio.open_memory_channel[maa.SessionResult](10)
    async with open_harness(Refuse(status, code)) as harness:
        with pytest.raises(error) as caught:
            await run(harness, notify=send)
    assert isinstance(caught.value, maa.APIError)
    assert (caught.value.status, caught.value.type) == (status, code)
    assert len(harness.sent) == 1
    terminal = hears.receive_nowait()
    assert terminal.error is not None
    assert (terminal.error.type, terminal.error.message) == (
        error.__name__ if error is not maa.APIError else type(caught.value).__name__,
        str(caught.value),
    )
    with pytest.raises(trio.WouldBlock):
        hears.receive_nowait()


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("validationException", maa.InvalidRequestError),
        ("runtimeClientError", maa.APIError),
        ("internalServerException", maa.ServerError),
        ("somethingNew", maa.APIError),
    ],
)
async def test_bed_08_an_exception_in_the_stream_is_typed_and_never_retried(
    kind: str, error: type[maa.APIError], autojump_clock: MockClock
) -> None:
    async with (
        open_harness([start(), txt("Hel"), throw(kind, "what it was", reason="x")]) as harness,
        maa.open_session(bedrock_agent_core, handler=echo, **harness.options) as session,
    ):
        with pytest.raises(error, match="what it was") as caught:
            await session.ask("go")
        assert (await session.ask("again")).text == "beyond the script"  # the session goes on
    assert caught.value.type == kind
    assert len(harness.sent) == 2


@pytest.mark.parametrize("lost", [Vanish(), [Cut()], [start(), txt("Hel"), Cut()]])
async def test_bed_08_what_may_have_been_accepted_is_never_sent_again(lost: Any, autojump_clock: MockClock) -> None:
    async with open_harness(lost) as harness:
        with pytest.raises(maa.TransportError):
            await run(harness)
    assert len(harness.sent) == 1


# --- a stream that ends too early -------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [[], [start()], [start(), txt("Hel")], [start(), txt("Hel"), done(), start()[:9]]])
async def test_a_stream_that_ended_before_anything_could_be_committed_is_repeated(
    cut: list[bytes], autojump_clock: MockClock
) -> None:
    seen: list[str] = []

    class Watcher:
        async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
            return "r"

        async def handle_event(self, event: dict[str, Any], context: maa.EventContext) -> None:
            seen.append(event.get("text", event["type"]))

    async with open_harness(cut, says("Hello")) as harness:
        result = await run(harness, Watcher())
    assert harness.told == [GO, GO]
    assert (result.text, len(result.events), result.turns) == ("Hello", 5, 1)
    assert seen.count("managed_agents.turn_restarted") == 1
    after = seen[seen.index("managed_agents.turn_restarted") + 1 :]
    assert [text for text in after if text == "Hello"] == ["Hello"]


@pytest.mark.parametrize("retries", [0, 1, 2, None])
async def test_a_stream_that_always_ends_too_early_is_a_typed_error(
    retries: int | None, autojump_clock: MockClock
) -> None:
    options = {} if retries is None else {"invoke_retries": retries}
    async with open_harness(*[[start(), txt("Hel")]] * 5) as harness:
        with pytest.raises(maa.TruncatedStream):
            await run(harness, **options)
    assert len(harness.sent) == 1 + (2 if retries is None else retries)


async def test_a_stream_that_ended_after_a_message_was_complete_is_not_repeated(autojump_clock: MockClock) -> None:
    async with open_harness([start(), tool(0, "S", "shell"), stop("tool_use"), start()]) as harness:
        with pytest.raises(maa.TruncatedStream):
            await run(harness)
    assert len(harness.sent) == 1


@pytest.mark.parametrize("before", [[], [calls("A")]])
async def test_a_stream_that_ended_after_a_call_of_the_harness_itself_hands_nothing_off(
    before: list[list[bytes]], autojump_clock: MockClock
) -> None:
    own = [start(), tool(0, "S", "search", type="mcp_tool_use", serverName="web"), done(), stop("tool_use")]
    async with open_harness(*before, own) as harness:
        with pytest.raises(maa.TruncatedStream):
            await run(harness)
    # What was answered before is not sent again, although the harness has not shown that it has it.
    assert len(harness.sent) == len(before) + 1


# --- BED-10 -----------------------------------------------------------------------------------------------------------


async def test_bed_10_a_turn_may_last_as_long_as_it_is_never_silent_for_too_long(autojump_clock: MockClock) -> None:
    parts: list[Any] = [start()]
    for number in range(10):
        parts += [Pause(200.0), txt(str(number))]
    async with open_harness([*parts, done(), stop()]) as harness:
        result = await run(harness, timeout=None)
    assert result.text == "0123456789"


async def test_bed_10_a_silence_that_is_too_long_is_a_transport_timeout(autojump_clock: MockClock) -> None:
    async with open_harness([start(), txt("Hel"), Pause()]) as harness:
        began = trio.current_time()
        with pytest.raises(maa.StreamIdleTimeout):
            await run(harness, timeout=None, idle_timeout=40.0)
        assert trio.current_time() - began == pytest.approx(40.0, abs=1.0)
    assert len(harness.sent) == 1


async def test_bed_10_a_silence_that_ends_while_the_session_is_looked_at_is_no_success(
    autojump_clock: MockClock,
) -> None:
    # After 120 quiet seconds the session is asked for its state; which of the two comes first is for trio to choose.
    failures = []

    async def fail(harness: Harness) -> None:
        with pytest.raises(maa.StreamIdleTimeout) as failure:
            await run(harness, idle_timeout=120)
        failures.append(failure)

    async with open_harness(*[[Pause()]] * 20) as harness, trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(fail, harness)
    assert len(failures) == 20


@pytest.mark.parametrize("stops", [False, True])
async def test_bed_10_a_cancellation_closes_the_stream(stops: bool, autojump_clock: MockClock) -> None:
    async with open_harness([start(), txt("Hel"), Pause()]) as harness:
        with trio.move_on_after(5):
            await run(harness, stop_on_cancel=stops)
        await trio.sleep(1)
        assert harness.broken_off == 1
        assert len(harness.stops) == stops


@pytest.mark.parametrize("stops", [False, True])
async def test_bed_10_a_request_that_takes_too_long_is_given_up(stops: bool, autojump_clock: MockClock) -> None:
    slow = (start(), txt("Hel"), Pause(8.0), txt("lo"), done(), stop(), meta(1, 1))
    async with open_harness(slow, says("Hi")) as harness:
        async with maa.open_session(
            bedrock_agent_core, handler=echo, timeout=5.0, stop_on_cancel=stops, **harness.options
        ) as session:
            with pytest.raises(maa.SessionTimeout) as caught:
                await session.ask("go")
            assert caught.value.result is not None
            assert caught.value.result.text == "Hel"
            began = trio.current_time()
            assert (await session.ask("again")).text == "Hi"
            # What nobody stops is waited for: two invocations of one session at once would spoil its conversation.
            assert trio.current_time() - began == pytest.approx(0 if stops else 3, abs=0.5)
        assert harness.broken_off == stops
        assert len(harness.stops) == stops


# --- BED-11 -----------------------------------------------------------------------------------------------------------


async def test_bed_11_usage_is_summed_and_text_blocks_are_not_glued(autojump_clock: MockClock) -> None:
    parts = [start(), txt("one"), done(), txt("two", 1), done(1), meta(1, 2), stop(), meta(10, 20)]
    async with open_harness(parts) as harness:
        result = await run(harness)
    assert result.text == "one\ntwo"
    assert (result.usage.input_tokens, result.usage.output_tokens) == (11, 22)


# --- BED-13 -----------------------------------------------------------------------------------------------------------


async def test_bed_13_a_session_is_resumed_by_its_id_alone(autojump_clock: MockClock) -> None:
    async with (
        open_agentcore_simulator([[say("one")], [say("two")]], transport="memory") as simulator,
        simulator.client() as client,
    ):
        known = {"client": client, "harness_arn": simulator.harness_arn, "handler": echo}
        texts = []
        for prompt, options in (("a", {"runtime_session_id": "a" * 33}), ("b", {"session_id": "a" * 33})):
            result = await maa.run_session(bedrock_agent_core, prompt=prompt, **known, **options)
            texts.append((result.session_id, result.text))
        assert texts == [("a" * 33, "one"), ("a" * 33, "two")]
        told = [message["content"] for message in simulator.session("a" * 33).messages if message["role"] == "user"]
        assert told == [[{"text": "a"}], [{"text": "b"}]]
        # What was begun before is not begun anew: there is nothing to be told but a prompt.
        with pytest.raises(maa.ConfigurationError, match="give prompt="):
            await maa.run_session(bedrock_agent_core, session_id="a" * 33, **known)
        assert simulator.session("a" * 33).invocations == 2


async def test_bed_13_a_session_needs_an_id(autojump_clock: MockClock) -> None:
    async with open_harness() as harness:
        with pytest.raises(TypeError, match=r"runtime_session_id=.*session_id= resumes one"):
            await run(harness, runtime_session_id=None, session_id=None)
    assert harness.asked == []


async def test_bed_13_reattach(autojump_clock: MockClock) -> None:
    async with open_harness(says("Welcome back.")) as harness:
        result = await run(harness, session_id="a" * 33, runtime_session_id="b" * 33)
    assert (result.session_id, result.text) == ("a" * 33, "Welcome back.")
    assert harness.told == [GO]
    assert harness.asked[0].headers["x-amzn-bedrock-agentcore-runtime-session-id"] == "a" * 33


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"runtime_session_id": None}, TypeError, "runtime_session_id"),
        ({"runtime_session_id": "short"}, maa.ConfigurationError, "33 to 100"),
        ({"session_id": "short"}, maa.ConfigurationError, "33 to 100"),
        ({"runtime_session_id": "-" * 40}, maa.ConfigurationError, "33 to 100"),
        ({"runtime_session_id": "x" * 101}, maa.ConfigurationError, "33 to 100"),
        ({"harness_arn": None}, TypeError, "harness_arn"),
        ({"harness_arn": "notes-0123456789"}, maa.ConfigurationError, "ARN"),
        ({"qualifier": "has-hyphen"}, maa.ConfigurationError, "qualifier"),
        ({"max_iterations": 0}, maa.ConfigurationError, "max_iterations"),
        ({"max_tokens": True}, maa.ConfigurationError, "max_tokens"),
        ({"timeout_seconds": "9"}, maa.ConfigurationError, "timeout_seconds"),
        ({"idle_timeout": 0}, maa.ConfigurationError, "idle_timeout"),
        ({"stop_on_cancel": 1}, maa.ConfigurationError, "stop_on_cancel"),
        ({"invoke_retries": -1}, maa.ConfigurationError, "invoke_retries"),
        ({"client": object()}, maa.ConfigurationError, "AgentCoreClient"),
        ({"model_config": 3}, maa.ConfigurationError, "model_config"),
        ({"agent": "a"}, TypeError, "'agent'"),
        ({"outcome": {"description": "d", "rubric": "r"}}, maa.ConfigurationError, "no outcomes"),
        ({"on_exit": "archive"}, maa.ConfigurationError, "on_exit"),
        ({"session_id": "a" * 33, "prompt": None}, maa.ConfigurationError, "give prompt="),
        ({"prompt": ""}, maa.ConfigurationError, "empty"),
        ({"prompt": [{"type": "image", "source": {}}]}, maa.ConfigurationError, "text blocks"),
    ],
)
async def test_bed_13_what_cannot_be_is_an_error_before_anything_is_sent(
    options: dict[str, Any], error: type[Exception], words: str, autojump_clock: MockClock
) -> None:
    async with open_harness() as harness:
        with pytest.raises(error, match=words):
            await run(harness, **options)
    assert harness.asked == []


async def test_what_a_live_session_cannot_do_is_a_typed_error(autojump_clock: MockClock) -> None:
    class Gatekeeper:
        async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
            return "r"

        async def handle_confirmation(self, use: maa.ToolUse, context: maa.ToolContext) -> str:
            return "allow"

    async with open_harness() as harness:
        with pytest.raises(maa.ConfigurationError, match="confirmations"):
            await run(harness, Gatekeeper())
        async with maa.open_session(bedrock_agent_core, handler=echo, **harness.options) as session:
            with pytest.raises(maa.ConfigurationError, match="confirmations"):
                await session.confirm("A", "allow")
            with pytest.raises(maa.ConfigurationError, match="events"):
                await session.send_event({"type": "user.message"})
            with pytest.raises(maa.ConfigurationError, match="outcomes"):
                await session.ask(maa.Outcome(description="d", rubric="r"))
    assert harness.asked == []


# --- BED-14 -----------------------------------------------------------------------------------------------------------


async def test_bed_14_the_hosts_are_those_of_the_region(autojump_clock: MockClock) -> None:
    dialled: list[tuple[str, int]] = []

    async def dial(host: str, port: int) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        dialled.append((host, port))
        raise OSError("nobody is there")

    load()  # a thread would let virtual time pass
    transport = Transport(open_stream=dial)
    async with maa.AgentCoreClient(REGION, ("AKIDEXAMPLE", "secret", "token"), transport=transport) as client:
        with pytest.raises(maa.TransportError):
            await maa.run_session(
                bedrock_agent_core,
                client=client,
                harness_arn=ARN,
                runtime_session_id="a" * 33,
                handler=echo,
                prompt="go",
                reconnect=maa.ReconnectPolicy(max_attempts=1),
            )
        with pytest.raises(maa.TransportError):
            await client.get_harness(harnessId="notes-0123456789")
    assert set(dialled) == {
        ("bedrock-agentcore.eu-west-1.amazonaws.com", 443),
        ("bedrock-agentcore-control.eu-west-1.amazonaws.com", 443),
    }


async def test_bed_14_botocores_credentials_are_refreshed_once_when_they_have_expired() -> None:
    """In real time: botocore is asked in a thread."""
    refreshed: list[str] = []

    def refresh() -> dict[str, str]:
        refreshed.append("new")
        in_an_hour = datetime.now(UTC) + timedelta(hours=1)
        return {"access_key": "AKIDNEW", "secret_key": "s", "token": "new", "expiry_time": in_an_hour.isoformat()}

    keys = RefreshableCredentials(
        "AKIDOLD", "s", "old", datetime.now(UTC) + timedelta(hours=1), refresh, "tests", advisory_timeout=0
    )

    def expire() -> None:
        """The service knows before its clients that a key has run out; by then they do, too."""
        keys._expiry_time = datetime.now(UTC)

    expired = Refuse(403, "ExpiredTokenException", meanwhile=expire)
    async with open_harness(calls("A", "B"), expired, says("done"), credentials=keys) as harness:
        result = await run(harness)
    assert (result.text, refreshed) == ("done", ["new"])
    assert [request.headers["x-amz-security-token"] for request in harness.asked] == ["old", "old", "new"]
    assert "Credential=AKIDNEW/" in harness.asked[2].headers["authorization"]


async def test_bed_14_region_and_credentials(autojump_clock: MockClock) -> None:
    async with open_harness(says("Hi")) as harness:
        await run(harness, qualifier="prod", actor_id="ada", runtime_user_id="u1")
    (request,) = harness.asked
    assert f"/{REGION}/bedrock-agentcore/aws4_request" in request.headers["authorization"]
    assert request.headers["x-amz-security-token"] == "token"
    assert request.query == {"harnessArn": (ARN,), "qualifier": ("prod",)}
    assert harness.sent[0]["actorId"] == "ada"
    assert request.headers["x-amzn-bedrock-agentcore-runtime-user-id"] == "u1"


async def test_bed_14_a_key_that_has_run_out_is_refreshed_once_and_the_session_goes_on(
    autojump_clock: MockClock,
) -> None:
    keys = Credentials("AKIDEXAMPLE", "secret", "old")
    expired = Refuse(403, "ExpiredTokenException", meanwhile=lambda: setattr(keys, "token", "new"))
    async with open_harness(calls("A"), expired, says("done"), credentials=keys) as harness:
        result = await run(harness)
    assert result.text == "done"
    assert harness.told == [GO, answer("A"), answer("A")]
    assert [request.headers["x-amz-security-token"] for request in harness.asked] == ["old", "old", "new"]


# --- hand-offs --------------------------------------------------------------------------------------------------------


async def test_a_harness_that_hands_off_one_by_one_what_was_answered_together_runs_nothing_twice(
    autojump_clock: MockClock,
) -> None:
    copied = [
        start("user"),
        copy("A"),
        done(),
        stop("tool_result"),
    ]
    handler = RecordingHandler(echo)
    async with open_harness(calls("A", "B"), [*copied, *calls("B")], says("done")) as harness:
        result = await run(harness, handler)
    assert sorted(call.id for call in handler.calls) == ["A", "B"]
    assert harness.told[2] == answer("B")
    assert (result.text, [use.id for use in result.custom_tool_uses]) == ("done", ["A", "B"])


AGAIN = [start("user"), copy("A"), done(), stop("tool_result"), *calls("B")]


@pytest.mark.parametrize("retries", [0, 2])
@pytest.mark.parametrize("refusal", [Refuse(429, "ThrottlingException"), Refuse(409, "RetryableConflictException")])
async def test_a_call_that_is_handed_off_again_is_answered_however_busy_the_service_is(
    refusal: Refuse, retries: int, autojump_clock: MockClock
) -> None:
    async with open_harness(calls("A", "B"), AGAIN, *[refusal] * 5, says("done")) as harness:
        result = await run(harness, invoke_retries=retries)
    assert harness.told[2:] == [answer("B")] * 6
    assert result.text == "done"


async def test_a_call_that_is_handed_off_again_is_settled_before_the_next_message_if_its_answer_is_refused(
    autojump_clock: MockClock,
) -> None:
    refused = Refuse(400, "ValidationException")
    async with open_harness(calls("A", "B"), AGAIN, refused, says("nobody hears this"), says("Hi")) as harness:
        options = harness.options
        async with maa.open_session(bedrock_agent_core, handler=echo, **options) as session:
            with pytest.raises(maa.InvalidRequestError):
                await session.ask("go")
            assert (await session.ask("go")).text == "Hi"
    assert harness.told[2:] == [answer("B"), answer("B"), GO]


async def test_a_harness_that_may_wait_for_one_of_two_hand_offs_is_answered_the_one_it_waits_for(
    autojump_clock: MockClock,
) -> None:
    waits = [throw("validationException", "the session waits for results")]
    script = [calls("A"), [*calls("B"), Cut()], waits, waits, waits, says("nobody hears this"), says("Hi")]
    async with open_harness(*script) as harness:
        options = harness.options
        async with maa.open_session(bedrock_agent_core, handler=echo, **options) as session:
            with pytest.raises(maa.StreamLost):
                await session.ask("go")
            assert (await session.ask("go")).text == "Hi"
    results = [[block["toolResult"] for block in told[-1]["content"] if "toolResult" in block] for told in harness.told]
    asked = [[result["toolUseId"] for result in each] for each in results]
    assert asked[2:] == [[], ["B"], [], ["A"], []]


async def test_an_interrupt_forgets_no_call_whose_answer_was_refused_for_the_time_being(
    autojump_clock: MockClock,
) -> None:
    busy = Refuse(429, "ThrottlingException", {"retry-after": "30"})
    async with open_harness(calls("A", "B"), AGAIN, busy, says("nobody hears this"), says("Hi")) as harness:
        options = harness.options
        async with maa.open_session(bedrock_agent_core, handler=echo, **options) as session:
            async with session.subscribe() as terminals:
                await session.message("go")
                await trio.sleep(1)
                await session.interrupt()
                assert (await terminals.receive()).stop_reason == "interrupted"
            assert (await session.ask("go")).text == "Hi"
    assert harness.told[2:] == [answer("B"), answer("B"), GO]


async def test_what_is_begun_again_after_a_second_hand_off_takes_back_no_more_than_itself(
    autojump_clock: MockClock,
) -> None:
    said = [start(), txt("So."), done(), *calls("A", "B")[1:]]
    async with open_harness(said, AGAIN, [start(), txt("d")], says("done")) as harness:
        result = await run(harness)
    assert harness.told[2:] == [answer("B"), answer("B")]
    assert (result.text, [use.id for use in result.custom_tool_uses]) == ("So.\ndone", ["A", "B"])
    assert len(result.events) == len(said) + len(AGAIN) + len(says("done"))


async def test_throttling_that_meets_a_repetition_is_waited_out(autojump_clock: MockClock) -> None:
    throttled = [Refuse(429, "ThrottlingException")] * 5
    async with open_harness([start(), txt("He")], *throttled, says("Hello")) as harness:
        result = await run(harness, invoke_retries=1)
    assert (result.text, harness.told) == ("Hello", [GO] * 7)


async def test_every_request_of_a_long_session_has_its_own_events(autojump_clock: MockClock) -> None:
    handler = RecordingHandler(echo)
    # Ever shorter, then longer again: places in the log must not depend on what is forgotten of it.
    lengths = (9, 6, 3, 1, 5, 2)
    turns = [[start(), *[txt("x")] * length, done(), stop(), meta(1, 1)] for length in lengths]
    async with open_harness(*turns) as harness:
        options = harness.options
        began = trio.current_time()
        async with maa.open_session(bedrock_agent_core, handler=handler, **options) as session:
            results = [await session.ask("go") for _ in turns]
        assert trio.current_time() - began < 1.0, "a look had to find what the log had lost"
    assert [result.text for result in results] == ["x" * length for length in lengths]
    assert [len(result.events) for result in results] == [length + 4 for length in lengths]
    shown = [event for event in handler.events if event["type"] != "managed_agents.text_delta"]
    assert shown == [event for result in results for event in result.events]


async def test_a_hand_off_that_names_no_call_is_a_typed_error(autojump_clock: MockClock) -> None:
    async with open_harness([start(), txt("Hm."), stop("tool_use")]) as harness:
        with pytest.raises(maa.ProtocolError, match="names no call"):
            await run(harness)


async def test_an_interrupt_cancels_the_tool_and_the_next_message_first_settles_the_call(
    autojump_clock: MockClock,
) -> None:
    async def forever(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        await trio.sleep_forever()
        return "never"

    async with (
        open_harness(calls("A"), says("Never mind."), says("Hi")) as harness,
        maa.open_session(bedrock_agent_core, handler=forever, **harness.options) as session,
    ):
        async with session.subscribe() as terminals:
            await session.message("go")
            await trio.sleep(5)
            await session.interrupt()
            cut = await terminals.receive()
        assert (cut.terminal, cut.stop_reason) == ("terminated", "interrupted")
        assert (await session.ask("again")).text == "Hi"
    told = harness.told[1][1]["content"][0]["toolResult"]
    assert (told["toolUseId"], told["status"]) == ("A", "error")
    assert "cancelled" in told["content"][0]["text"]
    assert harness.told[2] == [{"role": "user", "content": [{"text": "again"}]}]


@pytest.mark.parametrize("stops", [False, True])
async def test_an_interrupt_cuts_the_stream_and_ends_the_request(stops: bool, autojump_clock: MockClock) -> None:
    async with open_harness([start(), txt("Hel"), Pause()], says("Hi")) as harness:
        async with maa.open_session(
            bedrock_agent_core, handler=echo, stop_on_cancel=stops, **harness.options
        ) as session:
            await session.message("go")
            async with session.subscribe() as terminals:
                await trio.sleep(1)
                await session.interrupt()
                cut = await terminals.receive()
            assert (cut.terminal, cut.stop_reason, cut.text, cut.error) == ("terminated", "interrupted", "Hel", None)
            assert (await session.ask("again")).text == "Hi"
        assert len(harness.stops) == stops


async def test_a_crash_in_the_middle_of_an_invocation_loses_nothing(autojump_clock: MockClock) -> None:
    parts = [start(), txt("Hel"), Pause(5.0), txt("lo"), done(), stop(), meta(1, 2)]
    async with open_harness(parts) as harness, maa.open_supervisor() as supervisor:
        session = await supervisor.start_session(bedrock_agent_core, handler=echo, **harness.options)
        async with session.subscribe() as terminals:
            await session.message("go")
            await trio.sleep(1)
            maa.testing.crash_session(session, RuntimeError("a defect"))
            result = await terminals.receive()
        assert (result.text, len(result.events), session.status().restarts) == ("Hello", 6, 1)
    assert len(harness.sent) == 1


# --- the short form ---------------------------------------------------------------------------------------------------


async def test_the_short_form_is_the_same(autojump_clock: MockClock) -> None:
    async with open_harness(says("one"), says("two")) as harness:
        result = await maa.agent_core.invoke_to_completion(handler=echo, prompt="go", **harness.options)
        async with maa.agent_core.start_session(handler=echo, **harness.options) as session:
            assert (result.text, (await session.ask("go")).text) == ("one", "two")
    assert harness.told == [GO, GO]
