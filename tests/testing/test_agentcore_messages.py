"""What an invocation of the AgentCore simulator may ask: messages a model could be sent, tools that there are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from trio.testing import MockClock

from managed_agents_actors import ConfigurationError
from managed_agents_actors.testing import builtin, call_tool, call_tools, emit, say

from ._agentcore import SESSION, answer, echo, inline, names, send, stops, text, uses

INVOKE = "/harnesses/invoke?harnessArn="


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"text": block} if isinstance(block, str) else block for block in blocks]}


async def invoke(client: Any, *messages: Any, **params: Any) -> tuple[int, Any]:
    """Invoke with what no SDK would write; status and body."""
    path = INVOKE + client.simulator.harness_arn.replace(":", "%3A").replace("/", "%2F")
    body = json.dumps({"messages": list(messages), **params}).encode()
    status, answered = await send(
        client, "POST", path, body, x_amzn_bedrock_agentcore_runtime_session_id=SESSION, content_type="application/json"
    )
    return status, answered


CALL = {"toolUse": {"toolUseId": "a", "name": "b", "input": {}}}
RESULT = {"toolResult": {"toolUseId": "a", "content": [{"text": "x"}]}}


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "must end with a user message"),
        ([{"role": "assistant", "content": [{"text": "x"}]}], "must end with a user message"),
        ([user()], "content field is empty"),
        ([user({})], "must set one of its members"),
        ([user({"image": {}})], "must set one of its members"),
        ([user(CALL)], "role user cannot hold toolUse"),
        ([{"role": "assistant", "content": [RESULT]}, user("x")], "role assistant cannot hold toolResult"),
        ([user(RESULT, "and more")], "cannot hold other content"),
        ([echo("a"), user("x")], "Expected toolResult blocks for the following Ids: a"),
        ([user("x"), user("y")], "must alternate"),
        ([echo("a"), echo("b"), user(RESULT)], "must alternate"),
    ],
)
async def test_what_no_model_could_be_sent_is_refused_before_it_is_an_invocation(
    aws: Any, messages: Any, words: str
) -> None:
    async with aws() as client:
        status, body = await invoke(client, *messages)
        assert (status, body["reason"], words in body["message"]) == (400, "FieldValidationFailed", True), body
        with pytest.raises(KeyError):
            client.simulator.session(SESSION)


async def test_a_refused_conversation_leaves_a_hand_off_as_it_is(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([call_tool("lookup"), say("Done.")]) as client:
        (use_id,) = uses(await client.invoke("go"))
        mixed = user({"toolResult": {"toolUseId": use_id, "content": [{"text": "x"}]}}, "and more")
        assert (await invoke(client, mixed))[0] == 400
        assert (await invoke(client, {**echo(use_id), "role": "user"}, answer(use_id)))[0] == 400
        assert client.simulator.session(SESSION).pending == (use_id,)
        assert text(await client.invoke(echo(use_id), answer(use_id))) == "Done."


async def test_a_users_text_before_the_results_is_refused(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([call_tool("lookup"), say("Done.")]) as client:
        (use_id,) = uses(await client.invoke("go"))
        ((name, payload),) = await client.invoke("first this", echo(use_id), answer(use_id))
        assert (name, payload["reason"]) == ("!validationException", "FieldValidationFailed")
        assert "not for a new message" in payload["message"]


# --- tools ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("harness", "first", "then", "resumed"),
    [
        ([inline()], {}, {}, True),
        ([inline()], {}, {"tools": [inline()]}, True),
        ([inline()], {}, {"tools": [inline("price")]}, False),
        ([inline()], {}, {"tools": []}, False),
        ([inline()], {}, {"allowedTools": ["@builtin"]}, False),
        ([inline()], {}, {"allowedTools": ["@lookup"]}, True),
        ([], {"tools": [inline()]}, {}, False),
        ([], {"tools": [inline()]}, {"tools": [inline("price"), inline()]}, True),
        ([inline("price")], {"tools": [inline()]}, {}, False),
        ([], {}, {}, True),
        ([], {}, {"tools": [inline()]}, True),
        ([], {}, {"tools": [inline("price")]}, False),
    ],
)
@pytest.mark.parametrize("contract", ["both", "echo"])
async def test_a_pending_tool_must_be_there_when_its_result_comes(
    aws: Any, autojump_clock: MockClock, harness: Any, first: Any, then: Any, resumed: bool, contract: Any
) -> None:
    async with aws([call_tool("lookup"), say("Done.")], harness={"tools": harness}, resume=contract) as client:
        ids = uses(await client.invoke("go", **first))
        events = await client.invoke(echo(*ids), answer(*ids), **then)
        if not resumed:
            ((name, payload),) = events
            assert (name, "tool lookup is unavailable" in payload["message"]) == ("!validationException", True)
            events = await client.invoke(echo(*ids), answer(*ids), **first)
        assert text(events) == "Done."


@pytest.mark.parametrize("order", ["together", "one_by_one"])
async def test_only_the_tools_that_are_handed_off_now_must_be_there(
    aws: Any, autojump_clock: MockClock, order: Any
) -> None:
    both = [inline(), inline("price")]
    async with aws([call_tools(("lookup", {}), ("price", {}))], harness={"tools": both}, hand_off=order) as client:
        lookup, price = uses(await client.invoke("go"))
        given = [lookup] if order == "one_by_one" else [lookup, price]
        events = await client.invoke(answer(*given), tools=[inline()])
        assert names(events)[0] == ("messageStart" if order == "one_by_one" else "!validationException")


ALLOWED = [["*"], ["lookup"], ["@lookup"], ["look*"], ["shell", "@look*"]]
NOT_ALLOWED = [[], ["@builtin"], ["price"], ["@lookup/lookup"], ["shell"]]


@pytest.mark.parametrize(
    ("params", "usable"),
    [
        *(({"allowedTools": patterns}, True) for patterns in ALLOWED),
        *(({"allowedTools": patterns}, False) for patterns in NOT_ALLOWED),
        ({}, True),
        ({"tools": [inline()]}, True),
        ({"tools": [inline("price")]}, False),
        ({"tools": []}, False),
        ({"tools": [{"type": "agentcore_browser", "name": "lookup"}]}, False),
    ],
)
@pytest.mark.parametrize("of", ["invocation", "harness"])
async def test_a_script_that_calls_what_cannot_be_called_is_a_defect(
    aws: Any, autojump_clock: MockClock, params: Any, usable: bool, of: str
) -> None:
    harness = {"tools": [inline()], **(params if of == "harness" else {})}
    given = params if of == "invocation" else {}
    # A harness that declares nothing at all lets a script call anything.
    usable = usable or harness["tools"] == []
    if usable:
        async with aws([call_tool("lookup")], harness=harness) as client:
            assert stops(await client.invoke("go", **given)) == ["tool_use"]
        return
    with pytest.raises(BaseExceptionGroup) as caught:
        async with aws([call_tool("lookup")], harness=harness) as client:
            assert (await client.invoke("go", **given))[-1][0] == "!internalServerException"
    assert caught.group_contains(ConfigurationError, match="the script calls lookup, which the invocation cannot use")


async def test_what_the_service_runs_itself_needs_no_declaration(aws: Any, autojump_clock: MockClock) -> None:
    async with aws([builtin("shell"), say("Done.")], harness={"tools": [inline()]}) as client:
        assert text(await client.invoke("go")) == "Done."


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ([inline(), inline()], "used twice"),
        ([inline("shell")], "reserved"),
        ([{"type": "inline_function", "name": "a"}], "must have the member inlineFunction"),
        ([{**inline(), "config": {"remoteMcp": {"url": "https://a"}}}], "must have the member inlineFunction"),
        ([{"type": "remote_mcp", "name": "a"}], "must have the member remoteMcp"),
    ],
)
async def test_an_invocations_tools_are_as_those_of_a_harness(aws: Any, tools: Any, words: str) -> None:
    async with aws() as client:
        status, body = await invoke(client, user("go"), tools=tools)
        assert (status, words in body["message"]) == (400, True), body


async def test_an_invocations_unnamed_tools_are_named(aws: Any, autojump_clock: MockClock) -> None:
    unnamed = {key: value for key, value in inline().items() if key != "name"}
    async with aws([call_tool("inline_function_1"), say("Done.")]) as client:
        tools = [inline(), unnamed]
        ids = uses(await client.invoke("go", tools=tools))
        assert text(await client.invoke(answer(*ids), tools=tools)) == "Done."


# --- what was sent ----------------------------------------------------------------------------------------------------


async def test_a_session_tells_what_it_has_sent(aws: Any, autojump_clock: MockClock) -> None:
    hook = {"hookEventId": "0" * 8, "name": "h", "type": "before_invocation"}
    async with aws([[emit({"hookEvent": hook}), call_tool("lookup")], [say("next")]]) as client:
        heard = await client.invoke("go")
        heard += await client.invoke(answer(*uses(heard)))
        heard += await client.invoke("on")
        events = client.simulator.session(SESSION).events
        assert [(event["type"], event[event["type"]]) for event in events] == heard
