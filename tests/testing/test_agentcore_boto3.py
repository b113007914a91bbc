"""boto3 drives the AgentCore simulator over a real socket: the simulator keeps the service's contract, not ours."""

from __future__ import annotations

import functools
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest
import trio
from botocore.exceptions import ClientError, EventStreamError

from managed_agents_actors.testing import (
    Fault,
    FaultPlan,
    RefuseWith,
    builtin,
    call_tool,
    call_tools,
    fail,
    open_agentcore_simulator,
    say,
    think,
)

ROLE = "arn:aws:iam::123456789012:role/Harness"
SESSION = "session-of-boto3-00000000000000000000"
TOOL = {
    "type": "inline_function",
    "name": "lookup",
    "config": {"inlineFunction": {"description": "Look up.", "inputSchema": {"type": "object"}}},
}


async def run(call: Any, *args: Any, **params: Any) -> Any:
    """One blocking call, in a thread."""
    return await trio.to_thread.run_sync(functools.partial(call, *args, **params))


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"text": text}]}


def answer(*use_ids: str, text: str = "42") -> dict[str, Any]:
    results = [{"toolUseId": use_id, "content": [{"text": text}], "status": "success"} for use_id in use_ids]
    return {"role": "user", "content": [{"toolResult": result} for result in results]}


class Conversation:
    """What a client of the service makes of its streams."""

    def __init__(self, client: Any, harness_arn: str) -> None:
        self.client = client
        self.target = {"harnessArn": harness_arn, "runtimeSessionId": SESSION}
        self.stop_reasons: list[str] = []
        self.text = ""
        self.uses: list[dict[str, Any]] = []
        self.inputs: dict[str, str] = {}
        self.results: list[str] = []
        self.output_tokens = 0

    def invoke(self, *messages: Any, **params: Any) -> str:
        """Invoke and read the whole stream; the last stop reason."""
        self.uses = []
        # boto3 leaves the connection open when an exception comes within the stream.
        with closing(self.client.invoke_harness(**self.target, messages=list(messages), **params)["stream"]) as stream:
            for event in stream:
                ((kind, payload),) = event.items()
                self._take(kind, payload)
        return self.stop_reasons[-1]

    def _take(self, kind: str, payload: Any) -> None:
        match kind:
            case "contentBlockStart" if "toolUse" in payload["start"]:
                self.uses.append(payload["start"]["toolUse"])
                self.inputs[self.uses[-1]["toolUseId"]] = ""
            case "contentBlockStart":
                self.results.append(payload["start"]["toolResult"]["toolUseId"])
            case "contentBlockDelta" if "toolUse" in payload["delta"]:
                self.inputs[self.uses[-1]["toolUseId"]] += payload["delta"]["toolUse"]["input"]
            case "contentBlockDelta":
                self.text += payload["delta"].get("text", "")
            case "messageStop":
                self.stop_reasons.append(payload["stopReason"])
            case "metadata":
                self.output_tokens += payload["usage"]["outputTokens"]


async def test_a_harness_lives_from_creation_to_deletion(boto: Any) -> None:
    async with open_agentcore_simulator(lifecycle={"create": 0.05, "endpoint": 0.05, "delete": 0.05}) as simulator:
        control = boto(simulator).control
        created = await run(control.create_harness, harnessName="orders", executionRoleArn=ROLE, tools=[TOOL])
        assert created["ResponseMetadata"]["HTTPStatusCode"] == 201
        harness = created["harness"]
        name = {"harnessId": harness["harnessId"]}
        assert (harness["status"], harness["harnessVersion"], harness["tools"]) == ("CREATING", "1", [TOOL])
        with pytest.raises(control.exceptions.ConflictException):
            await run(control.create_harness, harnessName="orders", executionRoleArn=ROLE)
        await trio.sleep(0.06)
        assert (await run(control.get_harness, **name))["harness"]["status"] == "READY"
        endpoint = (await run(control.get_harness_endpoint, **name, endpointName="DEFAULT"))["endpoint"]
        assert (endpoint["status"], endpoint["liveVersion"]) == ("READY", "1")
        updated = (await run(control.update_harness, **name, maxIterations=3))["harness"]
        assert (updated["status"], updated["harnessVersion"], updated["tools"]) == ("UPDATING", "2", [TOOL])
        old = (await run(control.get_harness, **name, harnessVersion="1"))["harness"]
        assert (old["maxIterations"], updated["maxIterations"]) == (75, 3)
        assert (await run(control.delete_harness, **name))["harness"]["status"] == "DELETING"
        with pytest.raises(control.exceptions.ConflictException):
            await run(control.delete_harness, **name)
        await trio.sleep(0.06)
        with pytest.raises(control.exceptions.ResourceNotFoundException):
            await run(control.get_harness, **name)


async def test_listings_go_on_from_page_to_page(boto: Any) -> None:
    async with open_agentcore_simulator() as simulator:
        control = boto(simulator).control
        for n in range(5):
            await run(control.create_harness, harnessName=f"h{n}", executionRoleArn=ROLE)

        def pages() -> list[list[str]]:
            paginator = control.get_paginator("list_harnesses").paginate(PaginationConfig={"PageSize": 2})
            return [[row["harnessName"] for row in page["harnesses"]] for page in paginator]

        assert await run(pages) == [["simulated_harness", "h0"], ["h1", "h2"], ["h3", "h4"]]
        name = {"harnessId": simulator.harness_id}
        await run(control.create_harness_endpoint, **name, endpointName="prod", description="Live.")
        endpoints = (await run(control.list_harness_endpoints, **name))["endpoints"]
        assert [endpoint["endpointName"] for endpoint in endpoints] == ["DEFAULT", "prod"]
        await run(control.update_harness, **name, maxTokens=5)
        versions = (await run(control.list_harness_versions, **name))["harnessVersions"]
        assert [version["harnessVersion"] for version in versions] == ["2", "1"]
        await run(control.update_harness_endpoint, **name, endpointName="prod", targetVersion="2")
        assert (await run(control.get_harness_endpoint, **name, endpointName="prod"))["endpoint"]["liveVersion"] == "2"
        await run(control.delete_harness_endpoint, **name, endpointName="prod")
        with pytest.raises(control.exceptions.ResourceNotFoundException):
            await run(control.get_harness_endpoint, **name, endpointName="prod")


async def test_a_resource_is_tagged(boto: Any) -> None:
    async with open_agentcore_simulator() as simulator:
        control, arn = boto(simulator).control, simulator.harness_arn
        await run(control.tag_resource, resourceArn=arn, tags={"team": "a", "stage": "b"})
        await run(control.untag_resource, resourceArn=arn, tagKeys=["team"])
        assert (await run(control.list_tags_for_resource, resourceArn=arn))["tags"] == {"stage": "b"}


async def test_a_turn_of_text(boto: Any) -> None:
    async with open_agentcore_simulator([think(), say("Good day, sir.")]) as simulator:
        talk = Conversation(boto(simulator).data, simulator.harness_arn)
        assert await run(talk.invoke, user("hello"), actorId="me") == "end_turn"
        assert (talk.text, talk.output_tokens) == ("Good day, sir.", 24)
        session = simulator.session(SESSION)
        assert (session.invocations, session.pending, session.actor_id) == (1, (), "me")
        assert [message["role"] for message in session.messages] == ["user", "assistant"]
        assert session.messages[1]["content"][1] == {"text": "Good day, sir."}


@pytest.mark.parametrize("contract", ["documented", "both"])
async def test_a_tool_is_handed_off_and_its_result_resumes_the_turn(boto: Any, contract: Any) -> None:
    script = [say("Wait."), call_tools(("lookup", {"order": "A-42"}), ("price", {})), say("Paid.")]
    async with open_agentcore_simulator(script, resume=contract) as simulator:
        talk = Conversation(boto(simulator).data, simulator.harness_arn)
        assert await run(talk.invoke, user("go")) == "tool_use"
        assert [(use["name"], use["type"]) for use in talk.uses] == [("lookup", "tool_use"), ("price", "tool_use")]
        ids = [use["toolUseId"] for use in talk.uses]
        assert [talk.inputs[use_id] for use_id in ids] == ['{"order":"A-42"}', ""]
        assert simulator.session(SESSION).pending == tuple(ids)
        assert await run(talk.invoke, answer(*reversed(ids))) == "end_turn"
        assert (talk.text, talk.results) == ("Wait.Paid.", ids)
        roles = [message["role"] for message in simulator.session(SESSION).messages]
        assert roles == ["user", "assistant", "user", "assistant"]


@pytest.mark.parametrize("contract", ["echo", "both"])
async def test_the_older_contract_wants_the_calls_back_with_the_results(boto: Any, contract: Any) -> None:
    async with open_agentcore_simulator([call_tool("lookup", {"id": 1}), say("Paid.")], resume=contract) as simulator:
        talk = Conversation(boto(simulator).data, simulator.harness_arn)
        await run(talk.invoke, user("go"))
        (use,) = talk.uses
        echo = {"role": "assistant", "content": [{"toolUse": {**use, "input": {"id": 1}}}]}
        if contract == "echo":
            with pytest.raises(EventStreamError, match="exceeds the number of toolUse blocks of previous turn"):
                await run(talk.invoke, answer(use["toolUseId"]))
            twice = {"role": "assistant", "content": echo["content"] * 2}
            with pytest.raises(EventStreamError, match="contain duplicate Ids"):
                await run(talk.invoke, twice, answer(use["toolUseId"]))
        assert await run(talk.invoke, echo, answer(use["toolUseId"])) == "end_turn"
        assert talk.text == "Paid."
        roles = [message["role"] for message in simulator.session(SESSION).messages]
        assert roles == ["user", "assistant", "user", "assistant"]


async def test_the_service_runs_its_own_tools_within_one_stream(boto: Any) -> None:
    script = [builtin("shell", {"command": "ls"}, result="a.txt"), say("One file.")]
    async with open_agentcore_simulator(script) as simulator:
        talk = Conversation(boto(simulator).data, simulator.harness_arn)
        assert await run(talk.invoke, user("go")) == "end_turn"
        assert talk.stop_reasons == ["tool_use", "tool_result", "end_turn"]
        assert [use["type"] for use in talk.uses] == ["server_tool_use"]
        assert talk.results == [talk.uses[0]["toolUseId"]]
        assert (talk.text, talk.output_tokens) == ("One file.", 48)


async def test_commands_run_in_the_sessions_microvm(boto: Any) -> None:
    async with open_agentcore_simulator() as simulator:
        data = boto(simulator).data

        def command(text: str, **body: Any) -> tuple[str, str, dict[str, Any]]:
            target = {"agentRuntimeArn": simulator.harness_arn, "runtimeSessionId": SESSION}
            answered = data.invoke_agent_runtime_command(**target, body={"command": text, **body})
            assert answered["runtimeSessionId"] == SESSION
            chunks = [event["chunk"] for event in answered["stream"]]
            assert chunks[0] == {"contentStart": {}}
            deltas = [chunk["contentDelta"] for chunk in chunks[1:-1]]
            stdout, stderr = ("".join(delta.get(name, "") for delta in deltas) for name in ("stdout", "stderr"))
            return stdout, stderr, chunks[-1]["contentStop"]

        done = {"exitCode": 0, "status": "COMPLETED"}
        assert await run(command, "echo Good day") == ("Good day\n", "", done)
        assert await run(command, "echo kept > note") == ("", "", done)
        assert await run(command, "cat note") == ("kept\n", "", done)
        assert await run(command, "exit 7") == ("", "", {"exitCode": 7, "status": "COMPLETED"})
        assert (await run(command, "nonsense"))[1:] == (
            "sh: nonsense: command not found\n",
            {"exitCode": 127, "status": "COMPLETED"},
        )
        target = {"agentRuntimeArn": simulator.harness_arn, "runtimeSessionId": SESSION}
        assert (await run(data.stop_runtime_session, **target))["runtimeSessionId"] == SESSION
        assert (await run(command, "cat note"))[2]["exitCode"] == 1


async def test_stopping_a_session_ends_its_stream_and_forgets_it(boto: Any) -> None:
    begun = trio.Event()

    async def linger(turn: Any) -> None:
        await turn.say("So far")
        begun.set()
        await trio.sleep_forever()

    async with open_agentcore_simulator(linger) as simulator:
        data = boto(simulator).data
        target = {"agentRuntimeArn": simulator.harness_arn, "runtimeSessionId": SESSION}
        with pytest.raises(data.exceptions.ResourceNotFoundException):
            await run(data.stop_runtime_session, **target)
        events: list[Any] = []

        def listen() -> None:
            target = {"harnessArn": simulator.harness_arn, "runtimeSessionId": SESSION}
            events.extend(data.invoke_harness(**target, messages=[user("go")])["stream"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, listen)
            await begun.wait()
            assert simulator.session(SESSION).running
            await run(data.stop_runtime_session, **target)
        assert not any("messageStop" in event for event in events)
        session = simulator.session(SESSION)
        assert (session.stopped, session.running, session.messages) == (True, False, ())


async def test_an_exception_within_the_stream_is_raised(boto: Any) -> None:
    script = [[say("Half a"), fail("internalServerException", message="broken")], [fail("model_rate_limited_error")]]
    async with open_agentcore_simulator(script) as simulator:
        talk = Conversation(boto(simulator).data, simulator.harness_arn)
        with pytest.raises(EventStreamError, match="broken") as caught:
            await run(talk.invoke, user("go"))
        assert caught.value.response["Error"]["Code"] == "internalServerException"
        assert (talk.text, simulator.session(SESSION).messages) == ("Half a", ())
        with pytest.raises(EventStreamError, match=r"ThrottlingException.*Too many requests") as caught:
            await run(talk.invoke, user("go"))
        assert caught.value.response["Error"]["Code"] == "runtimeClientError"


async def test_a_request_is_throttled(boto: Any) -> None:
    plan = FaultPlan([Fault(on="invoke_harness", action=RefuseWith(429, retry_after=2))])
    async with open_agentcore_simulator(faults=plan) as simulator:
        data = boto(simulator).data
        talk = Conversation(data, simulator.harness_arn)
        with pytest.raises(data.exceptions.ThrottlingException) as caught:
            await run(talk.invoke, user("go"))
        assert caught.value.response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "2"
        assert await run(talk.invoke, user("go")) == "end_turn"


async def test_expired_credentials_are_refused_and_fresh_ones_are_not(boto: Any) -> None:
    async with open_agentcore_simulator() as simulator:
        old = boto(simulator).control
        await run(old.list_harnesses)
        simulator.rotate_credentials()
        with pytest.raises(ClientError, match="expired") as caught:
            await run(old.list_harnesses)
        answered = caught.value.response
        assert (answered["Error"]["Code"], answered["ResponseMetadata"]["HTTPStatusCode"]) == (
            "ExpiredTokenException",
            403,
        )
        await run(boto(simulator).control.list_harnesses)


async def test_a_client_token_is_good_for_one_change(boto: Any) -> None:
    async with open_agentcore_simulator() as simulator:
        control = boto(simulator).control
        params = {"harnessName": "once", "executionRoleArn": ROLE, "clientToken": str(uuid4())}
        first, second = [await run(control.create_harness, **params) for _ in range(2)]
        assert first["harness"] == second["harness"]
        with pytest.raises(control.exceptions.ValidationException) as caught:
            await run(control.create_harness, **{**params, "harnessName": "twice"})
        assert caught.value.response["reason"] == "IdempotentParameterMismatchException"
        assert len((await run(control.list_harnesses))["harnesses"]) == 2
