"""BED: the options of an AgentCore session: what fits reaches the wire, what does not is told with nothing sent."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core

from ._harness import ARN, Harness, Part, Pause, open_harness, says, start

SECRET = "sk-very-secret"


async def handler(name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
    return "r"


async def run(served: Harness, **options: Any) -> maa.SessionResult:
    return await maa.run_session(bedrock_agent_core, handler=handler, prompt="go", **{**served.options, **options})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model_config": {"regoin": "us-east-1"}}, "regoin"),
        ({"model_config": {"endpoint_url": "http://127.0.0.1:1"}}, "beside client="),
        ({"client": None, "model_config": {"base_url": "http://127.0.0.1:1"}}, "base_url"),
        ({"model_config": {"metadata": "x"}}, "metadata"),
        ({"runtime_user_id": "a\nb"}, "runtime_user_id"),
        ({"runtime_user_id": "ä"}, "runtime_user_id"),
        ({"runtime_user_id": ""}, "runtime_user_id"),
        ({"actor_id": ""}, "actor_id"),
        ({"model": ""}, "model"),
        ({"model": [{"apiKey": SECRET}]}, "model"),
        ({"system_prompt": ""}, "system_prompt"),
        ({"system_prompt": ["text"]}, "system_prompt"),
        ({"tools": [1]}, "tools"),
        ({"tools": {"headers": {"Authorization": SECRET}}}, "tools"),
        ({"allowed_tools": [1]}, "allowed_tools"),
        ({"allowed_tools": [""]}, "allowed_tools"),
        ({"skills": ["x"]}, "skills"),
        ({"timeout_seconds": 10**30}, "timeout_seconds"),
        ({"harness_arn": None, "harness": {"environmentVariables": {"KEY": SECRET}}}, "harness="),
        ({"harness_arn": None, "harness": "notes"}, "harness="),
    ],
)
async def test_an_option_that_cannot_be_used_is_named_before_anything_is_sent(
    options: dict[str, Any], named: str, autojump_clock: MockClock
) -> None:
    async with open_harness() as harness:
        with pytest.raises(maa.ConfigurationError, match=named) as refused:
            await run(harness, **options)
        assert SECRET not in f"{refused.value!r} {refused.value}"
        assert harness.sent == []


class Handle:
    def __init__(self) -> None:
        self.harness_arn = ARN


@pytest.mark.parametrize(
    "harness", [ARN, {"harness": {"arn": ARN}}, {"arn": ARN}, {"harnessArn": ARN}, {"harness_arn": ARN}, Handle()]
)
async def test_a_harness_is_anything_that_has_its_arn(harness: Any, autojump_clock: MockClock) -> None:
    async with open_harness(says("Hi")) as served:
        assert (await run(served, harness_arn=None, harness=harness)).text == "Hi"
        assert served.asked[0].query["harnessArn"] == (ARN,)


@pytest.mark.parametrize(("client", "option", "lasts"), [(900.0, None, True), (30.0, None, False), (30.0, 900.0, True)])
async def test_a_stream_may_be_silent_for_as_long_as_the_client_says_unless_the_session_says_otherwise(
    client: float, option: float | None, lasts: bool, autojump_clock: MockClock
) -> None:
    silent: list[Part] = [start(), Pause(400.0), *says("Hi")[1:]]
    async with open_harness(silent, idle_timeout=client) as harness:
        began = trio.current_time()
        if lasts:
            assert (await run(harness, idle_timeout=option, timeout=1000.0)).text == "Hi"
        else:
            with pytest.raises(maa.StreamIdleTimeout):
                await run(harness, idle_timeout=option, timeout=1000.0)
            assert trio.current_time() - began == pytest.approx(client, abs=2)
