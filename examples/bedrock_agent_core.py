"""AWS Bedrock AgentCore from the beginning: a harness is made, asked, looked into and taken away again.

Needs the extra "tools". With a simulator: `python bedrock_agent_core.py --simulate`. With AWS, given credentials, a
region and the ARN of the harness's execution role: `python bedrock_agent_core.py arn:aws:iam::<account>:role/<role>`.
"""

import sys
import uuid

import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core
from managed_agents_actors.testing import builtin, call_tools, open_agentcore_simulator, say

SCRIPT = [
    [
        say("Let me look."),
        call_tools(("stock", {"item": "pencil"}), ("stock", {"item": "notebook"})),
        say("There are 120 pencils and no notebooks."),
    ],
    [builtin("shell", {"command": "date"}, "Monday"), say("It is Monday.")],
]
STOCK = {"pencil": 120}


@maa.tool
async def stock(item: str) -> str:
    """Say how many pieces of an item are in stock.

    Args:
        item: The item's name.
    """
    return f"{STOCK.get(item, 0)} pieces"


toolbox = maa.Toolbox([stock])


async def make_harness(client: maa.AgentCoreClient, role: str) -> str:
    """Create a harness that knows the tool, wait until it can be invoked, and give its ARN."""
    made = await client.create_harness(
        harnessName="stockroom",
        executionRoleArn=role,
        systemPrompt=[{"text": "You are a clerk of a stationery shop."}],
        tools=toolbox.inline_functions(),
    )
    harness_id = made["harness"]["harnessId"]
    await client.wait_until_harness_ready(harness_id, timeout=120)
    await client.wait_until_endpoint_ready(harness_id, timeout=600)
    return made["harness"]["arn"]


async def converse(client: maa.AgentCoreClient, arn: str) -> None:
    """Ask twice in one session, then run a command beside the agent."""
    session_id = str(uuid.uuid4())
    async with maa.open_session(
        bedrock_agent_core, client=client, harness_arn=arn, runtime_session_id=session_id, handler=toolbox
    ) as session:
        for question in ("What is in stock?", "Which day is it?"):
            result = await session.ask(question)
            ours = ", ".join(use.name for use in result.custom_tool_uses) or "none"
            theirs = ", ".join(use.name for use in result.server_tool_uses) or "none"
            print(result.text)
            print(f"[{result.terminal}; called here: {ours}; called there: {theirs}]")
    done = await client.run_command(arn, session_id, "echo the machine is still there")
    print(f"[exit code {done.exit_code}: {done.stdout.strip()}]")
    await client.stop_runtime_session(agentRuntimeArn=arn, runtimeSessionId=session_id)


async def show(client: maa.AgentCoreClient, role: str) -> None:
    """The whole life."""
    arn = await make_harness(client, role)
    try:
        await converse(client, arn)
    finally:
        with trio.move_on_after(30, shield=True):
            await client.delete_harness(harnessId=arn.rpartition("/")[2])
    print("[the harness is gone]")


async def main() -> None:
    """Against a simulator in this process, or against AWS."""
    if "--simulate" in sys.argv:
        async with open_agentcore_simulator(SCRIPT) as simulator, simulator.client() as client:
            await show(client, "arn:aws:iam::123456789012:role/simulated")
    else:
        async with maa.AgentCoreClient() as client:
            await show(client, sys.argv[1])


trio.run(main)
