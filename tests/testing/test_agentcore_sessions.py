"""What a runtime session of the AgentCore simulator takes, refuses, remembers and forgets, in virtual time."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest
import trio
from trio.testing import MockClock

from managed_agents_actors import ConfigurationError
from managed_agents_actors.testing import (
    Call,
    ask,
    builtin,
    call_tool,
    call_tools,
    emit,
    end,
    fail,
    grade,
    open_agentcore_simulator,
    say,
    spend,
    subagent_call,
    wait,
)

from ._agentcore import SESSION, answer, inline, names, stops, text, uses


async def test_text_and_calls_share_one_message(aws: Any, autojump_clock: MockClock) -> None:
    script = [say("A.", chunks=["A", "."]), say("B."), call_tool("lookup", {"id": 1}), say("C.")]
    async with aws(script) as client:
        events = await client.invoke("go")
        assert names(events) == [
            "messageStart",
            *["contentBlockDelta"] * 2,
            "contentBlockStop",
            "contentBlockDelta",
            "contentBlockStop",
            "contentBlockStart",
            *["contentBlockDelta"] * 2,
            "contentBlockStop",
            "messageStop",
            "metadata",
        ]
        indices = [payload["contentBlockIndex"] for name, payload in events if name == "contentBlockStop"]
        assert indices == [0, 1, 2]
        fragments = [
            payload["delta"]["toolUse"]["input"]
            for name, payload in events
            if name == "contentBlockDelta" and "toolUse" in payload["delta"]
        ]
        assert (len(fragments), "".join(fragments)) == (2, '{"id":1}')
        resumed = await client.invoke(answer(*uses(events)))
        assert [payload["role"] for name, payload in resumed if name == "messageStart"] == ["user", "assistant"]
        assert (stops(resumed), text(resumed)) == (["tool_result", "end_turn"], "C.")


async def test_half_a_surrogate_pair_is_sent_as_a_model_may_write_it(aws: Any, autojump_clock: MockClock) -> None:
    script = [
        [say("ü\ud83d", chunks=["ü", "\ud83d"]), call_tool("lookup", {"id": "ü\ud83d"})],
        [fail("x", message="\udcff")],
    ]
    async with aws(script) as client:
        events = await client.invoke("go")
        assert text(events) == "ü\ud83d"
        deltas = [payload["delta"] for name, payload in events if name == "contentBlockDelta"]
        given = "".join(delta["toolUse"]["input"] for delta in deltas if "toolUse" in delta)
        assert json.loads(given) == {"id": "ü\ud83d"}
        await client.invoke(answer(*uses(events)))
        assert await client.invoke("on") == [("!x", {"message": "\udcff"})]


async def test_further_turns_go_on_in_the_same_conversation(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([[say("one")], [say("two")]]) as client:
        assert [text(await client.invoke(word)) for word in ("a", "b", "c")] == ["one", "two", "c"]
        session = client.simulator.session(SESSION)
        assert (len(session.messages), session.invocations, session.running) == (6, 3, False)
        with pytest.raises(KeyError):
            client.simulator.session("another")


@pytest.mark.parametrize("contract", ["both", "documented", "echo"])
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda first, _: [first], "is missing"),
        (lambda first, second: [first, second, second], "duplicate toolResult"),
        (lambda first, second: [first, second, "tooluse_of_old"], "stale or unknown"),
        (lambda *_: ["tooluse_of_old"], "stale or unknown"),
    ],
)
async def test_results_that_do_not_fit_are_refused_and_change_nothing(
    aws: Any, autojump_clock: MockClock, make: Any, message: str, contract: str
) -> None:
    script = [call_tools(("lookup", {}), ("price", {})), say("Done.")]
    async with aws(script, resume=contract) as client:
        ids = uses(await client.invoke("go"))
        before = client.simulator.session(SESSION)
        given = make(*ids)
        echo = [{"toolUse": {"toolUseId": use_id, "name": "lookup", "input": {}}} for use_id in dict.fromkeys(given)]
        wrong = [{"role": "assistant", "content": echo}] if contract == "echo" else []
        ((name, payload),) = await client.invoke(*wrong, answer(*given))
        if contract == "echo" and len(given) == 3 and given[1] == given[2]:
            assert (name, "exceeds the number of toolUse blocks" in payload["message"]) == ("!runtimeClientError", True)
        else:
            assert (name, message in payload["message"]) == ("!validationException", True)
        after = client.simulator.session(SESSION)
        assert (after.messages, after.pending) == (before.messages, tuple(ids))
        right = [{"toolUse": {"toolUseId": use_id, "name": "x", "input": {}}} for use_id in ids]
        good = [{"role": "assistant", "content": right}] if contract == "echo" else []
        assert text(await client.invoke(*good, answer(*ids))) == "Done."


async def test_a_replayed_result_is_refused(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([call_tool("lookup"), say("Done.")]) as client:
        ids = uses(await client.invoke("go"))
        await client.invoke(answer(*ids))
        ((name, payload),) = await client.invoke(answer(*ids))
        assert (name, "stale" in payload["message"]) == ("!validationException", True)


async def test_the_documented_contract_ignores_the_echo(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([call_tool("lookup"), say("Done.")], resume="documented") as client:
        ids = uses(await client.invoke("go"))
        nonsense = {"role": "assistant", "content": [{"toolUse": {"toolUseId": "x", "name": "y", "input": {}}}] * 2}
        assert text(await client.invoke(nonsense, answer(*ids))) == "Done."
        assert len(client.simulator.session(SESSION).messages) == 4


async def test_a_message_during_a_hand_off_is_refused(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([call_tool("lookup"), say("Done.")]) as client:
        ids = uses(await client.invoke("go"))
        ((name, payload),) = await client.invoke("and?")
        assert (name, payload["reason"]) == ("!validationException", "FieldValidationFailed")
        assert text(await client.invoke(answer(*ids))) == "Done."


async def test_calls_may_be_handed_off_one_by_one(aws: Any, autojump_clock: MockClock) -> None:
    calls = [Call(name="shell", kind="builtin"), ("lookup", {"n": 1}), ("price", {"n": 2})]
    async with aws([call_tools(*calls), say("Done.")], hand_off="one_by_one") as client:
        first = await client.invoke("go")
        server, one, two = uses(first)
        assert (stops(first), client.simulator.session(SESSION).pending) == (["tool_use"], (one,))
        # The result of a call that is not handed off yet does not count.
        second = await client.invoke(answer(one, two))
        assert (stops(second), uses(second)) == (["tool_use"], [two])
        assert client.simulator.session(SESSION).pending == (two,)
        third = await client.invoke(answer(two))
        results = [
            payload["start"]["toolResult"]["toolUseId"] for name, payload in third if name == "contentBlockStart"
        ]
        assert (results, text(third)) == ([server, one, two], "Done.")


async def test_the_invocations_own_tools_are_sent_again_with_the_result(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([call_tool("lookup"), say("Done.")]) as client:
        ids = uses(await client.invoke("go", tools=[inline()]))
        ((name, payload),) = await client.invoke(answer(*ids))
        assert (name, "unavailable" in payload["message"]) == ("!validationException", True)
        assert text(await client.invoke(answer(*ids), tools=[inline()])) == "Done."
    async with aws([call_tool("lookup"), say("Done.")], harness={"tools": [inline()]}) as client:
        ids = uses(await client.invoke("go"))
        assert text(await client.invoke(answer(*ids))) == "Done."


async def test_what_a_result_may_hold(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([call_tool("lookup"), say("Done.")]) as client:
        (use_id,) = uses(await client.invoke("go"))
        ((name, payload),) = await client.invoke(answer({"toolUseId": use_id, "content": [{"json": {"a": 1}}]}))
        assert (name, payload["message"]) == ("!runtimeClientError", "content_type=<json_> | unsupported type")
        status, body = await client.call(
            "invoke_harness",
            options={"validate": False},
            harnessArn=client.simulator.harness_arn,
            runtimeSessionId=SESSION,
            messages=[answer(use_id, text="")],
        )
        assert (status, body["reason"]) == (400, "FieldValidationFailed")
        assert body["fieldList"][0]["name"] == "messages.1.member.content.1.member.toolResult.content.1.member.text"
        failed = await client.invoke(answer({"toolUseId": use_id, "content": [{"text": "no"}], "status": "error"}))
        shown = [payload["start"]["toolResult"] for name, payload in failed if name == "contentBlockStart"]
        assert shown == [{"toolUseId": use_id, "status": "error"}]


async def test_the_agent_sees_the_answers(aws: Any, autojump_clock: MockClock) -> None:
    async def agent(turn: Any) -> None:
        found, ran, denied = await turn.call_tools(
            ("lookup", {}),
            Call(name="shell", kind="builtin", result="a.txt"),
            Call(name="search", kind="mcp", permission="deny", server="web"),
        )
        await turn.say(f"{turn.text}: {found.text} {ran.text} {denied.is_error}")

    async with aws(agent) as client:
        events = await client.invoke("sum")
        started = [payload["start"]["toolUse"] for name, payload in events if name == "contentBlockStart"]
        assert [start["type"] for start in started] == ["tool_use", "server_tool_use", "mcp_tool_use"]
        assert [start.get("serverName") for start in started] == [None, None, "web"]
        assert text(await client.invoke(answer(uses(events)[0]))) == "sum: 42 a.txt True"


@pytest.mark.parametrize(
    ("budget", "script", "expected"),
    [
        ({"maxIterations": 2}, [builtin("a"), builtin("b"), say("never")], "max_iterations_exceeded"),
        ({"maxTokens": 47}, [builtin("a"), builtin("b"), say("never")], "max_output_tokens_exceeded"),
        ({"timeoutSeconds": 30}, [say("So far"), wait(31), say("never")], "timeout_exceeded"),
        ({"timeoutSeconds": 30}, [builtin("a"), wait(31), say("never")], "timeout_exceeded"),
    ],
)
@pytest.mark.parametrize("of", ["invocation", "harness"])
async def test_a_budget_ends_the_turn(
    aws: Any, autojump_clock: MockClock, budget: Any, script: Any, expected: str, of: str
) -> None:
    async with aws([script, [say("next")]], harness=budget if of == "harness" else None) as client:
        events = await client.invoke("go", **(budget if of == "invocation" else {}))
        assert stops(events)[-1] == expected
        assert "never" not in text(events)
        # Each invocation has a budget of its own.
        assert text(await client.invoke("go")) == "next"


async def test_the_time_of_a_hand_off_is_nobodys(aws: Any, autojump_clock: MockClock) -> None:
    runs = 0

    async def agent(turn: Any) -> None:
        nonlocal runs
        runs += 1
        await turn.wait(20)
        await turn.call_tools(("lookup", {}))
        await turn.wait(20)
        await turn.say("Done.")

    async with aws(agent) as client:
        ids = uses(await client.invoke("go", timeoutSeconds=30))
        await trio.sleep(300)
        assert (text(await client.invoke(answer(*ids), timeoutSeconds=30)), runs) == ("Done.", 1)


async def test_the_loop_runs_on_when_nobody_listens(aws: Any, connect: Any, autojump_clock: MockClock) -> None:
    async with aws([[say("a"), wait(60), say("b")], [say("next")]]) as client:
        await client.begin("go")
        await trio.aclose_forcefully(client.raw.stream)
        await trio.sleep(1)
        assert client.simulator.session(SESSION).running
        session = await client.simulator.wait_idle(SESSION)
        assert [block["text"] for block in session.messages[1]["content"]] == ["a", "b"]
        async with connect(client.simulator) as client.raw:
            assert text(await client.invoke("go")) == "next"


async def test_one_invocation_at_a_time(aws: Any, connect: Any, autojump_clock: MockClock) -> None:
    async with aws([wait(60), say("a")]) as client, connect(client.simulator) as other:
        await client.begin("go")
        first, client.raw = client.raw, other
        given = [{"role": "user", "content": [{"text": "me too"}]}]
        target = {"harnessArn": client.simulator.harness_arn, "runtimeSessionId": SESSION}
        head = await client.start("invoke_harness", **target, messages=given)
        headers = dict(head.headers)
        assert (head.status_code, headers[b"x-amzn-errortype"].split(b":")[0]) == (409, b"RetryableConflictException")
        client.raw = first
        assert text(await client.rest()) == "a"


@pytest.mark.parametrize(("rest", "kept"), [(899, True), (901, False)])
async def test_a_session_that_rests_for_too_long_is_forgotten(
    aws: Any, autojump_clock: MockClock, rest: float, kept: bool
) -> None:
    async with aws([call_tool("lookup"), say("Done.")]) as client:
        ids = uses(await client.invoke("go"))
        await trio.sleep(rest)
        session = client.simulator.session(SESSION)
        assert (bool(session.messages), bool(session.pending)) == (kept, kept)
        events = await client.invoke(answer(*ids))
        assert events[-1][0] == ("metadata" if kept else "!validationException")


async def test_the_idle_time_is_the_harnesss(aws: Any, autojump_clock: MockClock) -> None:
    lifetimes = {"idleRuntimeSessionTimeout": 60, "maxLifetime": 100}
    environment = {"agentCoreRuntimeEnvironment": {"lifecycleConfiguration": lifetimes}}
    async with aws(harness={"environment": environment}) as client:
        for rest, messages in ((59, 2), (30, 4), (61, 6), (59, 2), (59, 4), (1, 2)):
            await client.invoke("go")
            assert len(client.simulator.session(SESSION).messages) == messages
            await trio.sleep(rest)


async def test_a_stopped_session_begins_anew(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([[say("one")], [say("two")]]) as client:
        await client.invoke("a")
        target = {"agentRuntimeArn": client.simulator.harness_arn, "runtimeSessionId": SESSION}
        assert (await client.call("stop_runtime_session", **target))[0] == 200
        assert (await client.call("stop_runtime_session", **target))[0] == 404
        assert client.simulator.session(SESSION).stopped
        assert text(await client.invoke("a")) == "one"
        assert not client.simulator.session(SESSION).stopped


async def test_a_session_is_stopped_through_an_endpoint_that_exists(aws: Any, autojump_clock: MockClock) -> None:
    async with aws() as client:
        await client.call("create_harness_endpoint", harnessId=client.simulator.harness_id, endpointName="prod")
        target = {"agentRuntimeArn": client.simulator.harness_arn, "runtimeSessionId": SESSION}
        await client.invoke("a")
        status, body = await client.call("stop_runtime_session", **target, qualifier="nobody")
        assert (status, "nobody" in body["message"]) == (404, True)
        assert not client.simulator.session(SESSION).stopped
        assert (await client.call("stop_runtime_session", **target, qualifier="prod"))[0] == 200
        assert client.simulator.session(SESSION).stopped


async def test_a_failed_turn_leaves_nothing_behind(aws: Any, autojump_clock: MockClock) -> None:
    script = [[say("one")], [call_tool("lookup"), say("half"), fail("model_overloaded_error")], [say("three")]]
    async with aws(script) as client:
        await client.invoke("a")
        kept = client.simulator.session(SESSION).messages
        ids = uses(await client.invoke("b"))
        events = await client.invoke(answer(*ids))
        assert events[-1][0] == "!runtimeClientError"
        assert "ServiceUnavailableException" in events[-1][1]["message"]
        session = client.simulator.session(SESSION)
        assert (session.messages, session.pending) == (kept, ())
        assert text(await client.invoke("c")) == "three"


async def test_ends_events_and_usage_are_the_scripts(aws: Any, autojump_clock: MockClock) -> None:
    hook = {"hookEventId": "0" * 8, "name": "h", "type": "before_invocation"}
    script = [
        emit({"hookEvent": hook}),
        emit({"type": "later", "a": 1}),
        fail("model_overloaded_error", "retrying"),
        spend(input_tokens=5, output_tokens=7, cache_creation_input_tokens=3),
        wait(1.5),
        say("x", pace=0.5),
        end("content_filtered"),
        say("never"),
    ]
    async with aws(script) as client:
        events = await client.invoke("go")
        assert events[:2] == [("hookEvent", hook), ("later", {"a": 1})]
        assert events[-2] == ("messageStop", {"stopReason": "content_filtered"})
        usage = {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}
        cache = {"cacheReadInputTokens": 0, "cacheWriteInputTokens": 3}
        assert events[-1] == ("metadata", {"usage": {**usage, **cache}, "metrics": {"latencyMs": 500}})


@pytest.mark.parametrize(
    "step", [grade(), ask("shell"), subagent_call("helper", "look"), spend(minutes=1), emit({"x": "y"})]
)
async def test_what_does_not_exist_here_is_a_defect_of_the_test(aws: Any, autojump_clock: MockClock, step: Any) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        async with aws([step]) as client:
            events = await client.invoke("go")
            assert events[-1][0] == "!internalServerException"
    assert caught.group_contains(ConfigurationError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resume": "never"}, "resume= must be one of"),
        ({"hand_off": "all"}, "hand_off= must be one of"),
        ({"lifecycle": {"creat": 1}}, "lifecycle=: each name must be one of"),
        ({"lifecycle": {"create": -1}}, "lifecycle=: create must be a finite number"),
        ({"usage": {"tokens": 1}}, "usage=: each name must be one of"),
        ({"commands": "ls"}, "commands= must be a function"),
        ({"region": ""}, "region= must be text"),
        ({"credentials": ("only", "two")}, "credentials= must be"),
        ({"credentials": ("key", "", None)}, "must be text"),
        ({"transport": "carrier pigeon"}, "transport= must be one of"),
    ],
)
async def test_options_that_are_none_are_refused(aws: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        async with aws(**options):
            pass


@pytest.mark.parametrize("transport", ["loopback", "memory"])
async def test_the_librarys_own_client_is_connected(transport: Any) -> None:
    async with open_agentcore_simulator(transport=transport) as simulator, simulator.client() as client:
        for _ in range(2):
            harness = (await client.get_harness(harnessId=simulator.harness_id))["harness"]
            assert (harness["arn"], harness["status"]) == (simulator.harness_arn, "READY")
            # Its credentials come from the simulator, whatever those are by then.
            simulator.rotate_credentials()


async def test_a_command_that_takes_too_long(aws: Any, autojump_clock: MockClock) -> None:
    async with aws() as client:
        target = {"agentRuntimeArn": client.simulator.harness_arn, "runtimeSessionId": SESSION}
        began = trio.current_time()
        await client.start("invoke_agent_runtime_command", **target, body={"command": "sleep 60", "timeout": 5})
        chunks = [payload for _, payload in await client.rest()]
        assert chunks == [{"contentStart": {}}, {"contentStop": {"exitCode": -1, "status": "TIMED_OUT"}}]
        assert trio.current_time() - began == pytest.approx(5)
        status, _ = await client.call("invoke_agent_runtime_command", **target, body={"command": "x", "timeout": 3601})
        assert status == 400


@pytest.mark.parametrize("way", ["plain", "async"])
async def test_commands_may_be_the_tests_own(
    aws: Any, autojump_clock: MockClock, way: Literal["plain", "async"]
) -> None:
    def plain(command: str) -> tuple[str, str, int]:
        return f"{command}\n" * 2, "e" * 1500, 3

    async def later(command: str) -> tuple[str, str, int]:
        await trio.sleep(1)
        return plain(command)

    async with aws(commands=plain if way == "plain" else later) as client:
        target = {"agentRuntimeArn": client.simulator.harness_arn}
        head = await client.start("invoke_agent_runtime_command", **target, body={"command": "ls"})
        named = dict(head.headers)[b"x-amzn-bedrock-agentcore-runtime-session-id"].decode()
        chunks = [payload for _, payload in await client.rest()]
        assert chunks[1:] == [
            {"contentDelta": {"stdout": "ls\n", "stderr": "e" * 1000}},
            {"contentDelta": {"stdout": "ls\n", "stderr": "e" * 500}},
            {"contentStop": {"exitCode": 3, "status": "COMPLETED"}},
        ]
        assert len(named) >= 33
        assert not client.simulator.session(named).running
