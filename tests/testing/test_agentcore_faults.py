"""What each fault does to the AgentCore simulator's streams, requests and sessions, as botocore's reader sees it."""

from __future__ import annotations

from typing import Any, Literal

import h11
import pytest
import trio
from botocore.eventstream import ChecksumMismatch
from trio.testing import MockClock

from managed_agents_actors import ConfigurationError
from managed_agents_actors.testing import (
    Action,
    CrashSession,
    Delay,
    DelayAnswer,
    DelayEvents,
    DeleteSession,
    DropStream,
    EndStream,
    Fault,
    FaultPlan,
    GarbageFrame,
    HugeFrame,
    LoopCursors,
    LoseAnswer,
    LoseRequest,
    PauseStream,
    RefuseWith,
    RepeatEvents,
    RotateKey,
    ShortenListing,
    Split,
    StallStream,
    TerminateSession,
    ThrowInStream,
    TruncateAnswer,
    call_tool,
    open_claude_simulator,
    say,
)

SESSION = "session-of-the-tests-0000000000000000"
Transport = Literal["loopback", "memory"]
on_both = pytest.mark.parametrize("transport", ["loopback", "memory"])
# What a turn of one word comes to.
WORD = ["messageStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"]
TORN = (ConnectionError, trio.BrokenResourceError, h11.RemoteProtocolError)


def on_invoke(action: Action, **options: Any) -> FaultPlan:
    return FaultPlan([Fault(on="invoke_harness", action=action, **options)])


def names(events: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in events]


def texts(events: list[tuple[str, Any]]) -> list[str]:
    return [payload["delta"]["text"] for _, payload in events if "text" in payload.get("delta", {})]


def answer(events: list[tuple[str, Any]]) -> dict[str, Any]:
    starts = [payload["start"] for name, payload in events if name == "contentBlockStart"]
    ids = [start["toolUse"]["toolUseId"] for start in starts if "toolUse" in start]
    return {
        "role": "user",
        "content": [{"toolResult": {"toolUseId": use_id, "content": [{"text": "42"}]}} for use_id in ids],
    }


@on_both
async def test_a_stream_is_dropped_at_its_place_and_the_turn_is_kept(aws: Any, transport: Transport) -> None:
    plan = on_invoke(DropStream(after_events=2))
    async with aws([say("word")], faults=plan, transport=transport) as client:
        await client.begin("go")
        assert [(await client.next_event())[0] for _ in range(2)] == WORD[:2]
        with pytest.raises(TORN):
            await client.next_event()
        session = await client.simulator.wait_idle(SESSION)
        assert len(session.messages) == 2
        assert [fired.fault for fired in plan.fired] == list(plan.faults)


@on_both
async def test_a_stream_ends_cleanly_in_the_middle_of_a_frame(aws: Any, transport: Transport) -> None:
    async with aws([say("word")], faults=on_invoke(EndStream(after_bytes=150)), transport=transport) as client:
        await client.begin("go")
        got = b""
        while isinstance(part := await client.raw.next_event(), h11.Data):
            got += part.data
        assert (len(got), isinstance(part, h11.EndOfMessage)) == (150, True)


async def test_a_stream_ends_without_a_terminal_event(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([say("word")], faults=on_invoke(EndStream(after_type="contentBlockStop"))) as client:
        assert names(await client.invoke("go")) == WORD[:3]


async def test_a_stalled_stream_stays_open_after_the_turn(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([say("word")], faults=on_invoke(StallStream(after_events=1))) as client:
        await client.begin("go")
        assert (await client.next_event())[0] == "messageStart"
        with trio.move_on_after(3_000) as scope:
            await client.next_event()
        assert scope.cancelled_caught


async def test_a_stream_pauses_and_its_events_are_delayed(aws: Any, autojump_clock: MockClock) -> None:
    faults = [PauseStream(seconds=100, after_events=1), DelayEvents(seconds=10, after_events=3)]
    plan = FaultPlan([Fault(on="invoke_harness", action=action) for action in faults])
    async with aws([say("word")], faults=plan) as client:
        began = trio.current_time()
        await client.begin("go")
        heard = []
        while (event := await client.next_event()) is not None:
            heard.append((event[0], round(trio.current_time() - began)))
        assert heard == list(zip(WORD, [0, 100, 100, 110, 120], strict=True))


async def test_a_garbage_frame_has_a_wrong_checksum(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([say("word")], faults=on_invoke(GarbageFrame(after_events=1))) as client:
        await client.begin("go")
        assert (await client.next_event())[0] == "messageStart"
        with pytest.raises(ChecksumMismatch):
            await client.next_event()


async def test_a_huge_frame_is_the_same_event(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([say("word")], faults=on_invoke(HugeFrame(after_events=1, size=100_000))) as client:
        await client.begin("go")
        got = bytearray()
        while isinstance(part := await client.raw.next_event(), h11.Data):
            got += part.data
        client.buffer.add_data(bytes(got))
        sizes = [len(message.payload) for message in client.buffer]
        assert [size > 99_000 for size in sizes] == [False, True, False, False, False]


async def test_a_frame_that_was_begun_is_not_made_huge(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([say("word")], faults=on_invoke(HugeFrame(after_bytes=20, size=100_000))) as client:
        events = await client.invoke("go")
        assert names(events) == WORD
        assert len(client.simulator.faults.fired) == 1


async def test_frames_come_in_pieces(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([say("word")], faults=on_invoke(Split((1, 3)))) as client:
        assert names(await client.invoke("go")) == WORD


async def test_an_exception_within_the_stream_undoes_the_invocation(aws: Any, autojump_clock: MockClock) -> None:
    thrown = ThrowInStream(type="internalServerException", message="oops", after_type="contentBlockDelta")
    async with aws([[say("word")], [say("next")]], faults=on_invoke(thrown)) as client:
        events = await client.invoke("go")
        assert events[-1] == ("!internalServerException", {"message": "oops"})
        assert names(events)[:-1] == WORD[:2]
        assert client.simulator.session(SESSION).messages == ()
        # The same turn is played again, not the next one.
        assert (await client.invoke("go"))[1][1]["delta"] == {"text": "word"}
        assert len(client.simulator.session(SESSION).messages) == 2


@pytest.mark.parametrize("order", ["together", "one_by_one"])
@pytest.mark.parametrize("after", [0, 3, 9])
async def test_a_result_may_be_sent_again_after_an_exception(
    aws: Any, autojump_clock: MockClock, after: int, order: Any
) -> None:
    heard: list[str] = []

    async def agent(turn: Any) -> None:
        await turn.say("first")
        (found,) = await turn.call_tools(("lookup", {}))
        heard.append(found.text)
        await turn.say("second")
        await turn.call_tools(("price", {}), ("weight", {}))
        await turn.say("third")

    plan = on_invoke(ThrowInStream(after_events=after), nth=2)
    async with aws(agent, faults=plan, hand_off=order) as client:
        events = await client.invoke("go")
        before = client.simulator.session(SESSION)
        result = answer(events)
        thrown = await client.invoke(result)
        assert (names(thrown)[-1], len(thrown)) == ("!throttlingException", after + 1)
        after_it = client.simulator.session(SESSION)
        assert (after_it.messages, after_it.pending) == (before.messages, before.pending)
        events = await client.invoke(result)
        assert [payload["delta"]["text"] for name, payload in events if "text" in payload.get("delta", {})] == [
            "second"
        ]
        while answer(events)["content"]:
            pending = client.simulator.session(SESSION).pending
            results = [{"toolResult": {"toolUseId": each, "content": [{"text": "x"}]}} for each in pending]
            events = await client.invoke({"role": "user", "content": results})
        assert texts(events) == ["third"]
        assert heard[0] == heard[-1] == "42"


async def test_only_the_second_hand_off_of_a_response_is_undone(aws: Any, autojump_clock: MockClock) -> None:
    async def agent(turn: Any) -> None:
        answers = await turn.call_tools(("a", {}), ("b", {}))
        await turn.say(" ".join(each.text for each in answers))

    def result(client: Any, text: str) -> dict[str, Any]:
        (use_id,) = client.simulator.session(SESSION).pending
        return {"role": "user", "content": [{"toolResult": {"toolUseId": use_id, "content": [{"text": text}]}}]}

    plan = on_invoke(ThrowInStream(), nth=3)
    async with aws(agent, faults=plan, hand_off="one_by_one") as client:
        await client.invoke("go")
        await client.invoke(result(client, "one"))
        second = client.simulator.session(SESSION).pending
        assert names(await client.invoke(result(client, "lost"))) == ["!throttlingException"]
        assert client.simulator.session(SESSION).pending == second
        events = await client.invoke(result(client, "two"))
        assert "".join(texts(events)) == "one two"


async def test_faults_of_the_request(aws: Any, connect: Any, autojump_clock: MockClock) -> None:
    async with aws([[say("a")], [say("b")]], faults=on_invoke(LoseRequest())) as client:
        with pytest.raises(TORN):
            await client.begin("go")
        with pytest.raises(KeyError):
            client.simulator.session(SESSION)
        async with connect(client.simulator) as client.raw:
            assert names(await client.invoke("go")) == WORD
    async with aws([[say("a")], [say("b")]], faults=on_invoke(LoseAnswer())) as client:
        with pytest.raises(TORN):
            await client.begin("go")
        assert len((await client.simulator.wait_idle(SESSION)).messages) == 2
    for action in (Delay(50), DelayAnswer(50)):
        async with aws([say("a")], faults=on_invoke(action)) as client:
            began = trio.current_time()
            await client.invoke("go")
            assert trio.current_time() - began == pytest.approx(50)


async def test_a_fault_may_wait_for_results(aws: Any, autojump_clock: MockClock) -> None:
    plan = on_invoke(RefuseWith(503), sending="toolResult")
    async with aws([call_tool("lookup"), say("Done.")], faults=plan) as client:
        result = answer(await client.invoke("go"))
        target = {"harnessArn": client.simulator.harness_arn, "runtimeSessionId": SESSION}
        status, body = await client.call("invoke_harness", **target, messages=[result])
        assert (status, body["message"]) == (503, "simulated fault")
        assert names(await client.invoke(result))[-1] == "metadata"


async def test_a_refusal_by_plan_has_what_its_model_requires(aws: Any) -> None:
    plan = FaultPlan(
        [Fault(on="list_harnesses", action=RefuseWith(400)), Fault(on="any", action=RefuseWith(409), nth=2)]
    )
    async with aws(faults=plan) as client:
        status, body = await client.call("list_harnesses")
        assert (status, body) == (
            400,
            {"message": "simulated fault", "reason": "FieldValidationFailed", "fieldList": []},
        )
        assert await client.call("list_harnesses") == (409, {"message": "simulated fault"})


@pytest.mark.parametrize(("kind", "more"), [("validationException", {"reason": "FieldValidationFailed"}), ("x", {})])
async def test_an_exception_by_plan_has_what_its_model_requires(
    aws: Any, autojump_clock: MockClock, kind: str, more: dict[str, str]
) -> None:
    thrown = ThrowInStream(type=kind, message="oops", after_events=1)
    async with aws([say("word")], faults=on_invoke(thrown)) as client:
        assert (await client.invoke("go"))[1:] == [(f"!{kind}", {"message": "oops", **more})]


async def test_a_stream_may_end_with_an_error_that_no_service_models(aws: Any, autojump_clock: MockClock) -> None:
    thrown = ThrowInStream(type="InternalError", message="oops", as_error=True, after_events=1)
    async with aws([[say("word")], [say("next")]], faults=on_invoke(thrown)) as client:
        await client.begin("go")
        assert (await client.next_event())[0] == "messageStart"
        part = await client.raw.next_event()
        client.buffer.add_data(bytes(part.data))
        (message,) = client.buffer
        assert message.headers == {
            ":error-code": "InternalError",
            ":error-message": "oops",
            ":message-type": "error",
        }
        assert client.simulator.session(SESSION).messages == ()


async def test_a_lost_answer_was_acted_on_once_under_its_token(aws: Any, connect: Any) -> None:
    plan = FaultPlan([Fault(on="create_harness", action=LoseAnswer()), Fault(on="any", nth=3, action=TruncateAnswer())])
    params = {"harnessName": "a", "executionRoleArn": "arn:aws:iam::123456789012:role/x", "clientToken": "t" * 40}
    async with aws(faults=plan) as client:
        with pytest.raises(TORN):
            await client.call("create_harness", **params)
        async with connect(client.simulator) as client.raw:
            status, body = await client.call("create_harness", **params)
            assert (status, body["harness"]["harnessName"]) == (201, "a")
            with pytest.raises(TORN):
                await client.call("list_harnesses")


async def test_faults_of_a_listing(aws: Any) -> None:
    actions = [ShortenListing(rows=1), LoopCursors(length=2)]
    plan = FaultPlan([Fault(on="list_harness_endpoints", nth=n, action=a) for n, a in enumerate(actions, 1)])
    async with aws(faults=plan) as client:
        name = {"harnessId": client.simulator.harness_id}
        for endpoint in ("a", "b", "c"):
            await client.call("create_harness_endpoint", **name, endpointName=endpoint)
        _, body = await client.call("list_harness_endpoints", **name)
        assert ([each["endpointName"] for each in body["endpoints"]], "nextToken" in body) == (["DEFAULT"], False)
        _, body = await client.call("list_harness_endpoints", **name)
        _, page = await client.call("list_harness_endpoints", **name, nextToken=body["nextToken"])
        assert [each["endpointName"] for each in page["endpoints"]] == ["a", "b", "c"]


async def test_a_token_expires_by_plan(aws: Any) -> None:
    plan = FaultPlan([Fault(on="list_harnesses", nth=2, action=RotateKey("fresh-token"))])
    async with aws(faults=plan) as client:
        assert (await client.call("list_harnesses"))[0] == 200
        status, body = await client.call("list_harnesses")
        assert (status, "expired" in body["message"]) == (403, True)
        assert client.simulator.credentials.token == "fresh-token"
        assert (await client.call("list_harnesses"))[0] == 200


@pytest.mark.parametrize("on", ["invoke_harness", "invoke_agent_runtime_command"])
async def test_a_microvm_ends_by_plan(aws: Any, autojump_clock: MockClock, on: str) -> None:
    place = {"after_events": 2} if on == "invoke_harness" else {}
    plan = FaultPlan([Fault(on=on, nth=2, action=TerminateSession(**place))])
    async with aws([[say("a")], [say("b")]], faults=plan) as client:
        await client.invoke("go")
        if on == "invoke_harness":
            assert names(await client.invoke("go"))[:2] == WORD[:2]
        else:
            target = {"agentRuntimeArn": client.simulator.harness_arn, "runtimeSessionId": SESSION}
            for _ in range(2):
                await client.start(on, **target, body={"command": "sleep 9"})
                chunks = [payload for _, payload in await client.rest()]
            assert not any("contentStop" in chunk for chunk in chunks)
        session = client.simulator.session(SESSION)
        assert (session.stopped, session.messages) == (True, ())


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(on="stream", action=DropStream()), "no operation 'stream'"),
        (Fault(on="create_harness", action=DropStream()), "DropStream cannot befall a request of 'create_harness'"),
        (Fault(on="invoke_harness", action=RepeatEvents()), "RepeatEvents does not exist here, no stream"),
        (Fault(on="invoke_harness", action=DeleteSession()), "DeleteSession does not exist here, a runtime session"),
        (Fault(on="invoke_harness", action=TruncateAnswer()), "TruncateAnswer cannot befall"),
        (Fault(on="list_tags_for_resource", action=LoopCursors()), "LoopCursors cannot befall"),
        (Fault(on="create_harness", action=ThrowInStream()), "ThrowInStream cannot befall"),
        (Fault(on="get_harness", action=TerminateSession()), "TerminateSession cannot befall"),
        (Fault(on="invoke_harness", action=CrashSession(when="after")), "on a stream when= says nothing"),
        (Fault(on="stop_runtime_session", action=LoseAnswer(), sending="toolResult"), "sends no events"),
        (Fault(on="invoke_harness", action=LoseAnswer(), sending="user.message"), "no event 'user.message'"),
    ],
)
async def test_what_could_never_happen_is_refused(aws: Any, fault: Fault, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        async with aws(faults=FaultPlan([fault])):
            pass


async def test_claudes_streams_carry_no_exceptions() -> None:
    with pytest.raises(ConfigurationError, match="ThrowInStream does not exist here"):
        async with open_claude_simulator(faults=FaultPlan([Fault(on="stream", action=ThrowInStream())])):
            pass


def test_an_exception_comes_between_events() -> None:
    with pytest.raises(ConfigurationError, match="an exception comes between events"):
        ThrowInStream(after_bytes=7)
    with pytest.raises(ConfigurationError, match="ThrowInStream: type must be text"):
        ThrowInStream(type="")
    with pytest.raises(ConfigurationError, match="ThrowInStream: as_error must be a bool"):
        ThrowInStream(as_error="yes")  # type: ignore[arg-type]
    assert repr(ThrowInStream(type="x", after_events=2)) == "ThrowInStream(after_events=2, type='x')"
