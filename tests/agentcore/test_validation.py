"""Bad input is a ConfigurationError that names the place, what was given and what is expected; nothing is sent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import trio
from botocore.validate import ParamValidator
from hypothesis import example, given
from hypothesis import strategies as st

from managed_agents_actors._errors import ConfigurationError
from managed_agents_actors.agentcore import AgentCoreClient, _loading

from ._wire import HARNESS_ARN, HARNESS_ID, KEYS, MESSAGES, REGION, ROLE_ARN, SESSION_ID

TURN: dict[str, Any] = {"harnessArn": HARNESS_ARN, "runtimeSessionId": SESSION_ID, "messages": MESSAGES}
HARNESS: dict[str, Any] = {"harnessName": "a", "executionRoleArn": ROLE_ARN}
STOP: dict[str, Any] = {"agentRuntimeArn": HARNESS_ARN, "runtimeSessionId": SESSION_ID}
COMMAND: dict[str, Any] = {"agentRuntimeArn": HARNESS_ARN, "body": {"command": "x"}}


def deep(levels: int) -> Any:
    value: Any = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def inline(**config: Any) -> dict[str, Any]:
    whole = {"description": "d", "inputSchema": {}, **config}
    return {"tools": [{"type": "inline_function", "name": "n", "config": {"inlineFunction": whole}}]}


def content(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


# The operation, its good parameters, what is bad, and words of the message.
BAD: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("InvokeHarness", TURN, {"runtimeSessionId": "short"}, "runtimeSessionId must be at least 33 long, not 5"),
    ("InvokeHarness", TURN, {"runtimeSessionId": "x" * 101}, "runtimeSessionId must be at most 100 characters"),
    ("InvokeHarness", TURN, {"runtimeSessionId": "-" + "x" * 40}, "runtimeSessionId must match"),
    ("InvokeHarness", TURN, {"runtimeSessionId": "ä" * 40}, "runtimeSessionId must match"),
    ("InvokeHarness", TURN, {"runtimeSessionId": SESSION_ID + "\n"}, "runtimeSessionId must match"),
    ("InvokeHarness", TURN, {"harnessArn": HARNESS_ID}, f"harnessArn must match .*'{HARNESS_ID}' does not"),
    ("InvokeHarness", TURN, {"qualifier": "with-hyphen"}, "qualifier must match"),
    ("InvokeHarness", TURN, {"runtimeUserId": "Grüße"}, "runtimeUserId must be printable ASCII"),
    ("InvokeHarness", TURN, {"runtimeUserId": "a\r\nx-evil: 1"}, "runtimeUserId must be printable ASCII"),
    ("InvokeHarness", TURN, {"runtimeUserId": " a"}, "runtimeUserId must be printable ASCII"),
    ("InvokeHarness", TURN, {"baggage": "a\nb"}, "baggage must be printable ASCII"),
    ("InvokeHarness", TURN, {"traceState": "x" * 513}, "traceState must be at most 512 characters long, not 513"),
    ("InvokeHarness", TURN, {"messages": "hello"}, r"messages must be list or tuple, not a str"),
    ("InvokeHarness", TURN, {"messages": [{"role": "system", "content": []}]}, r"messages\[0\].role must be one of"),
    ("InvokeHarness", TURN, {"messages": [{"content": []}]}, r"messages\[0\].role is required"),
    ("InvokeHarness", TURN, content({"text": ""}), r"messages\[0\].content\[0\].text must be at least 1 long, not 0"),
    ("InvokeHarness", TURN, content({}), r"content\[0\] must hold exactly one of text, .*not none"),
    ("InvokeHarness", TURN, content({"text": "a", "toolUse": {}}), r"content\[0\] must hold exactly one of .*not more"),
    ("InvokeHarness", TURN, content({"txt": "a"}), r"content\[0\].txt is not a member; the members are: text"),
    (
        "InvokeHarness",
        TURN,
        content({"toolUse": {"toolUseId": "a b", "name": "x" * 65, "input": {}}}),
        r"toolUseId must match .*'a b' does not; .*name must be at most 64 characters long, not 65",
    ),
    (
        "InvokeHarness",
        TURN,
        content({"toolUse": {"toolUseId": "a", "name": "x", "input": {"a": [{1, 2}]}}}),
        r"toolUse\.input\.a\[0\] must be a JSON value, not a set",
    ),
    (
        "InvokeHarness",
        TURN,
        content({"reasoningContent": {"redactedContent": 5}}),
        "redactedContent must be bytes, not an int",
    ),
    (
        "InvokeHarness",
        TURN,
        content({"reasoningContent": {"redactedContent": "/wA="}}),
        "redactedContent must be bytes, not a str: decode base64 text first",
    ),
    ("InvokeHarness", TURN, content({"text": "cut \ud83d"}), "half a surrogate pair"),
    ("InvokeHarness", TURN, {"maxIterations": "5"}, "maxIterations must be int, not a str"),
    ("InvokeHarness", TURN, {"maxIterations": True}, "maxIterations must be a number, not a bool"),
    ("InvokeHarness", TURN, {"actorId": None}, "actorId must be str, not None"),
    ("InvokeHarness", TURN, inline(inputSchema={"a": math.nan}), r"inputSchema\.a must be a JSON value, not nan"),
    ("InvokeHarness", TURN, inline(inputSchema={"a": {1: 2}}), r"inputSchema\.a must have only strings as its keys"),
    ("InvokeHarness", TURN, inline(inputSchema=deep(5_000)), "nested too deeply"),
    ("InvokeHarness", TURN, inline(description="x" * 4097), "description must be at most 4096 characters long"),
    (
        "InvokeHarness",
        TURN,
        {"model": {"bedrockModelConfig": {"modelId": "m", "temperature": 2.5, "topP": -0.1, "maxTokens": 0}}},
        r"temperature must be at most 2\.0, not 2\.5; .*topP must be at least 0\.0, not -0\.1; .*maxTokens must be",
    ),
    (
        "InvokeHarness",
        TURN,
        {"model": {"bedrockModelConfig": {"modelId": "m", "temperature": 10**400}}},
        "temperature must be a finite number",
    ),
    ("CreateHarness", HARNESS, {"harnessName": "with-hyphen"}, "harnessName must match .*'with-hyphen' does not"),
    ("CreateHarness", HARNESS, {"harnessName": "a" * 41}, "harnessName must match"),
    ("CreateHarness", HARNESS, {"clientToken": "short"}, "clientToken must be at least 33 long"),
    ("CreateHarness", HARNESS, {"environmentVariables": {str(n): "" for n in range(51)}}, "at most 50 entries, not 51"),
    ("CreateHarness", HARNESS, {"tags": {1: "a"}}, "tags must have only strings as its keys"),
    ("CreateHarness", HARNESS, {"hooks": [{}] * 21}, "hooks must have at most 20 entries, not 21"),
    (
        "CreateHarness",
        HARNESS,
        {"environment": {"agentCoreRuntimeEnvironment": {"lifecycleConfiguration": {"maxLifetime": 59}}}},
        "maxLifetime must be at least 60, not 59",
    ),
    ("GetHarness", {"harnessId": HARNESS_ID}, {"harnessId": "../x"}, "harnessId must match"),
    ("GetHarness", {"harnessId": HARNESS_ID}, {"harness_id": "x"}, "harness_id is not a member"),
    ("ListHarnesses", {}, {"maxResults": 101}, "maxResults must be at most 100, not 101"),
    ("ListHarnesses", {}, {"nextToken": "a b"}, "nextToken must match"),
    ("ListHarnesses", {}, {"nextToken": "\ud800"}, "half a surrogate pair"),
    ("ListHarnesses", {}, {"maxResults": 10**5000}, "maxResults must lie between -2147483648 and 2147483647"),
    ("ListHarnesses", {}, {"maxResults": -(10**5000)}, "maxResults must lie between"),
    ("InvokeHarness", TURN, {"messages": []}, "messages must have at least 1 entries, not 0"),
    ("InvokeHarness", TURN, content(), r"messages\[0\].content must have at least 1 entries, not 0"),
    ("InvokeHarness", TURN, inline(inputSchema={"a": 10**5000}), r"inputSchema\.a must be a number below 2\*\*1024"),
    ("InvokeHarness", TURN, inline(inputSchema={10**5000: 1}), "must have only strings as its keys, not an int"),
    *(
        ("InvokeHarness", TURN, {name: value}, f"{name} must {words}")
        for name in ("maxIterations", "maxTokens", "timeoutSeconds")
        for value, words in ((0, "be at least 1, not 0"), (-1, "be at least 1, not -1"), (2**31, "lie between"))
    ),
    ("CreateHarness", HARNESS, {"maxIterations": 0}, "maxIterations must be at least 1, not 0"),
    *(
        (
            "StopRuntimeSession",
            STOP,
            {"agentRuntimeArn": arn},
            "agentRuntimeArn must be the ARN of a harness or runtime",
        )
        for arn in (
            "",
            "..",
            "\ud800",
            HARNESS_ID,
            "a\nb",
            f"{HARNESS_ARN}\n",
            "arn:aws:s3:eu-central-1:123456789012:a/b",
        )
    ),
    ("InvokeAgentRuntimeCommand", COMMAND, {"agentRuntimeArn": HARNESS_ID}, "agentRuntimeArn must be the ARN"),
    *(
        (operation, good, bad, words)
        for operation, good in (("StopRuntimeSession", STOP), ("InvokeAgentRuntimeCommand", COMMAND))
        for bad, words in (
            ({"runtimeSessionId": "short"}, "runtimeSessionId must be at least 33 long, not 5"),
            ({"runtimeSessionId": "x" * 101}, "runtimeSessionId must be at most 100 characters long, not 101"),
            ({"runtimeSessionId": "!" * 40}, "runtimeSessionId must match"),
            ({"qualifier": ""}, "qualifier must match"),
            ({"qualifier": "with-hyphen"}, "qualifier must match"),
        )
    ),
    (
        "InvokeAgentRuntimeCommand",
        COMMAND,
        {"body": {"command": "x", "timeout": 0}},
        "timeout must be at least 1, not 0",
    ),
    ("InvokeAgentRuntimeCommand", COMMAND, {"body": {"command": "x", "timeout": 3601}}, "timeout must be at most 3600"),
    ("InvokeAgentRuntimeCommand", COMMAND, {"accept": "application/json"}, "accept must match .*eventstream"),
    ("InvokeAgentRuntimeCommand", COMMAND, {"body": {"command": "x" * 65_537}}, "command must be at most 65536"),
    ("InvokeAgentRuntimeCommand", COMMAND, {"accountId": "1"}, "accountId must match"),
    ("InvokeAgentRuntimeCommand", COMMAND, {"contentType": "a\nb"}, "contentType must be printable ASCII"),
]


@pytest.mark.parametrize(("operation", "good", "bad", "words"), BAD)
def test_what_is_refused_is_named(
    aws: _loading.Aws, operation: str, good: dict[str, Any], bad: dict[str, Any], words: str
) -> None:
    aws.models.request(operation, good)
    with pytest.raises(ConfigurationError, match=words) as caught:
        aws.models.request(operation, {**good, **bad})
    assert str(caught.value).startswith(f"{operation}: ")
    assert len(str(caught.value)) < 1_500


def test_what_may_be_a_secret_is_not_shown(aws: _loading.Aws) -> None:
    secret = "sk-proj-0123456789"
    bad = {
        "model": {"openAiModelConfig": {"modelId": "m", "apiKeyArn": secret, "apiBase": secret * 1000}},
        "environmentVariables": {"KEY": secret * 400, "OTHER": 5},
        "tools": [{"type": "remote_mcp", "config": {"remoteMcp": {"url": "", "headers": {"a": secret * 1000}}}}],
        "systemPrompt": [{"text": [secret]}],
        "clientToken": secret,
    }
    with pytest.raises(ConfigurationError) as caught:
        aws.models.request("CreateHarness", {**HARNESS, **bad})
    told = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "apiKeyArn" in told
    assert "sk-proj" not in told


def test_a_body_is_at_most_what_the_service_takes(aws: _loading.Aws) -> None:
    text = "x" * (100 * 1024 * 1024)
    with pytest.raises(ConfigurationError, match=r"the request has 1048\d+ bytes, and the service takes 104857600"):
        aws.models.request("InvokeHarness", {**TURN, **content({"text": text})})


def test_a_runtime_may_be_named_by_its_id_beside_its_accounts(aws: _loading.Aws) -> None:
    parts = aws.models.request(
        "InvokeAgentRuntimeCommand", {**COMMAND, "agentRuntimeArn": "agent-A1b2C3d4E5", "accountId": "123456789012"}
    )
    assert parts.path == ("runtimes", "agent-A1b2C3d4E5", "commands")


def test_a_value_that_is_cut_says_so(aws: _loading.Aws) -> None:
    with pytest.raises(ConfigurationError, match=r"'\*{99}… does not"):
        aws.models.request("InvokeHarness", {**TURN, "skills": [{"awsSkills": {"paths": ["*" * 200 + "?"]}}]})


def test_many_problems_are_told_up_to_a_bound(aws: _loading.Aws) -> None:
    with pytest.raises(ConfigurationError, match="and 90 more"):
        aws.models.request("InvokeHarness", {**TURN, **content(*[{"text": ""}] * 100)})


def shapes(shape: Any, seen: set[str]) -> Iterator[Any]:
    if shape.name in seen:
        return
    seen.add(shape.name)
    yield shape
    members = getattr(shape, "members", {}).values() if shape.type_name == "structure" else ()
    inner = {"list": ["member"], "map": ["key", "value"]}.get(shape.type_name, [])
    for each in [*members, *(getattr(shape, name) for name in inner)]:
        yield from shapes(each, seen)


OPERATIONS = {
    "InvokeHarness": TURN,
    "CreateHarness": HARNESS,
    "UpdateHarness": {"harnessId": HARNESS_ID},
    "InvokeAgentRuntimeCommand": COMMAND,
    "StopRuntimeSession": STOP,
}


def test_every_pattern_of_the_models_can_be_checked(aws: _loading.Aws) -> None:
    """They are Java's regular expressions; one that Python does not know must be noticed here, not by a caller."""
    from managed_agents_actors.agentcore._aws.validation import _compiled

    found = [
        shape.metadata["pattern"]
        for operation in OPERATIONS
        for shape in shapes(aws.models._operation(operation).input_shape, set())
        if "pattern" in shape.metadata
    ]
    assert len(set(map(_compiled, found))) > 30


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.integers(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """The value with something in it replaced, removed or added."""
    if isinstance(value, dict) and value and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(value)))
        return {**value, name: draw(mutated(value[name]))}
    if isinstance(value, list) and value and draw(st.booleans()):
        return [draw(mutated(value[0])), *value[1:]]
    if isinstance(value, dict) and draw(st.booleans()):
        return {**value, draw(st.sampled_from(["tools", "model", "x", "tags", "text", "skills"])): draw(values)}
    return draw(values)


RICH = {
    "InvokeHarness": {**TURN, **inline(), "model": {"bedrockModelConfig": {"modelId": "m", "temperature": 1}}},
    "CreateHarness": {**HARNESS, "tags": {"a": "b"}, "environmentVariables": {"A": "1"}, "skills": [{"path": "/x"}]},
}


@given(st.data())
def test_any_input_is_encoded_or_refused_and_botocore_refuses_no_more(data: st.DataObject) -> None:
    models = _loading.load().models
    operation = data.draw(st.sampled_from(sorted(RICH)))
    parameters = data.draw(mutated(RICH[operation]))
    if not isinstance(parameters, dict) or not all(isinstance(name, str) for name in parameters):
        return
    try:
        models.request(operation, parameters)
    except ConfigurationError:
        return
    theirs = ParamValidator().validate(parameters, models._operation(operation).input_shape)
    assert not theirs.has_errors()


@given(st.text(alphabet=st.characters(codec="utf-8") | st.sampled_from("\r\n\0 "), max_size=20))
@example("a\r\nb: c")
def test_a_header_is_sent_as_it_is_or_refused(text: str) -> None:
    try:
        headers = _loading.load().models.request("InvokeHarness", {**TURN, "runtimeUserId": text}).headers
    except ConfigurationError:
        return
    sent = headers["x-amzn-bedrock-agentcore-runtime-user-id"]
    assert sent == text == text.strip()
    assert text == "" or (text.isascii() and text.isprintable())


class Refusing(httpx.AsyncBaseTransport):
    """Fails the test when anything is sent."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise AssertionError("sent")


Act = Callable[[AgentCoreClient], Any]


async def entered(context: Any) -> None:
    async with context:
        pass


@pytest.mark.parametrize(
    "act",
    [
        lambda c: c.get_harness(),
        lambda c: c.list_all_harnesses(maxResults=0),
        lambda c: c.list_all_harnesses(nextToken=["x"]),
        lambda c: entered(c.invoke_harness(**{**TURN, "runtimeSessionId": "x"})),
        lambda c: entered(c.invoke_harness(idle_timeout=0, **TURN)),
        lambda c: entered(c.invoke_harness(idle_timeout="5", **TURN)),
        lambda c: c.stop_runtime_session(**{**STOP, "agentRuntimeArn": ""}),
        lambda c: c.stop_runtime_session(**{**STOP, "agentRuntimeArn": ".."}),
        lambda c: c.run_command(HARNESS_ARN, SESSION_ID, ""),
        lambda c: c.run_command(HARNESS_ARN, "short", "ls"),
        lambda c: c.run_command(HARNESS_ARN, SESSION_ID, "ls", timeout=0),
        lambda c: c.run_command(HARNESS_ARN, SESSION_ID, "ls", timeout=3601),
        lambda c: c.run_command(HARNESS_ARN, SESSION_ID, "ls", timeout=1.5),
        lambda c: c.run_command(HARNESS_ARN, SESSION_ID, "ls", qualifier=5),
        lambda c: c.wait_until_harness_ready("no id"),
        lambda c: c.wait_until_harness_ready(HARNESS_ID, timeout=0),
        lambda c: c.wait_until_endpoint_ready(HARNESS_ID, "no-name"),
        lambda c: c.wait_until_harness_deleted(HARNESS_ID, interval=-1),
        lambda c: c.wait_until_endpoint_deleted(HARNESS_ID, "no-name"),
        lambda c: c.wait_until_endpoint_deleted(HARNESS_ID, "prod", timeout=0),
    ],
)
async def test_an_unusable_argument_costs_no_request(act: Act) -> None:
    client = AgentCoreClient(REGION, KEYS, "http://api.test", transport=Refusing())
    with pytest.raises(ConfigurationError):
        await act(client)


@pytest.mark.parametrize(
    "options",
    [
        *({"region": value} for value in (5, "", "us east", "us-east-1/x", "US-EAST-1", "a.b")),
        *({"credentials": value} for value in (5, "AKIA", ("a",), ("a", "b", "c", "d"), {"access_key": "a"}, object())),
        *({"credentials": value} for value in (("a", ""), ("a", "secret\n"), ("a", "b", 5), (None, "b"))),
        *({"endpoint_url": value} for value in (5, "api.test", "http://u:p@h", "http://h?x=1")),
        {"control_endpoint_url": "ftp://x"},
        {"profile": "p"},
        *({"timeout": value} for value in (0, "5", math.nan)),
        {"connect_timeout": None},
        {"idle_timeout": -1},
        {"max_retries": -1},
        {"transport": 5},
        {"http_client": 5},
    ],
    ids=lambda options: "-".join(f"{name}={type(value).__name__}" for name, value in options.items()),
)
def test_an_unusable_setting_is_refused_when_the_client_is_made(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AgentCoreClient(**{"region": REGION, "credentials": KEYS, "endpoint_url": "http://api.test", **options})
    assert "secret" not in str(caught.value).replace("secret_key", "")


@pytest.mark.parametrize("value", ["not a url", "http://me:pw@h"])
@pytest.mark.parametrize(
    ("options", "place", "service"),
    [
        ({"endpoint_url": "{}"}, r"endpoint_url", "bedrock-agentcore"),
        ({"endpoint_url": "{}", "control_endpoint_url": "http://h"}, "endpoint_url", "bedrock-agentcore"),
        ({"control_endpoint_url": "{}"}, "control_endpoint_url", "bedrock-agentcore-control"),
    ],
)
def test_an_endpoint_that_is_no_url_is_named_by_its_option(
    options: dict[str, str], place: str, service: str, value: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AgentCoreClient(REGION, KEYS, **{name: url.format(value) for name, url in options.items()})
    told = "scheme, host and path only" if "@" in value else f"a URL such as https://{service}.{REGION}.amazonaws.com"
    assert str(caught.value).startswith(f"{place} must be {told}")
    assert "me:pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "name"),
    [
        ("AWS_ENDPOINT_URL", "agent_core_endpoint_url"),
        ("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL", "agent_core_control_endpoint_url"),
    ],
)
def test_an_endpoint_that_is_no_url_is_named_by_its_setting(environment: Any, variable: str, name: str) -> None:
    environment[variable] = "not a url"
    with pytest.raises(
        ConfigurationError, match=rf"^{name} \(configure\(\) or AWS_ENDPOINT_URL…\) must be a URL such as"
    ):
        AgentCoreClient(REGION, KEYS)


def test_a_missing_region_says_where_it_was_looked_for() -> None:
    with pytest.raises(ConfigurationError, match=r"region=.*configure\(region=.*AWS_REGION.*AWS_DEFAULT_REGION"):
        AgentCoreClient(credentials=KEYS)


def test_a_profile_must_have_a_name() -> None:
    with pytest.raises(ConfigurationError, match="profile="):
        AgentCoreClient(REGION, profile="")


def test_a_closed_client_refuses_calls() -> None:
    async def main() -> None:
        client = AgentCoreClient(REGION, KEYS, "http://api.test")
        await client.aclose()
        with pytest.raises(ConfigurationError, match="closed"):
            await client.list_harnesses()

    trio.run(main)
