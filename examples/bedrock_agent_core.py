"""AWS Bedrock AgentCore from the beginning: a harness is provisioned, asked, looked into and put away again.

Needs the extra "tools". With a simulator: `python bedrock_agent_core.py --simulate`. With AWS, given credentials, a
region and the ARN of the harness's execution role: `python bedrock_agent_core.py arn:aws:iam::<account>:role/<role>`.
"""

import sys
import uuid

import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core
from managed_agents_actors.provisioning import Progress
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


CLERK = maa.AgentSpec(name="stockroom", system_prompt="You are a clerk of a stationery shop.", tools=toolbox)


def tell(progress: Progress) -> None:
    """Say what is waited for: at AWS, a harness can be invoked minutes after it was created."""
    print(f"[{progress.phase}: {progress.status}, {progress.elapsed:.0f} s]")


async def converse(client: maa.AgentCoreClient, harness: maa.HarnessHandle) -> None:
    """Ask twice in one session, then run a command beside the agent."""
    session_id = str(uuid.uuid4())
    async with maa.open_session(
        bedrock_agent_core, client=client, harness=harness, runtime_session_id=session_id, handler=toolbox
    ) as session:
        for question in ("What is in stock?", "Which day is it?"):
            result = await session.ask(question)
            ours = ", ".join(use.name for use in result.custom_tool_uses) or "none"
            theirs = ", ".join(use.name for use in result.server_tool_uses) or "none"
            print(result.text)
            print(f"[{result.terminal}; called here: {ours}; called there: {theirs}]")
    done = await client.run_command(harness.harness_arn, session_id, "echo the machine is still there")
    print(f"[exit code {done.exit_code}: {done.stdout.strip()}]")
    await client.stop_runtime_session(agentRuntimeArn=harness.harness_arn, runtimeSessionId=session_id)


async def show(client: maa.AgentCoreClient, role: str) -> None:
    """The whole life. The harness is created if it is not there, and waited for until it can be invoked."""
    harness = await maa.provision(
        bedrock_agent_core, CLERK, client=client, execution_role_arn=role, timeout=600, on_progress=tell
    )
    try:
        await converse(client, harness)
    finally:
        with trio.CancelScope(shield=True):
            await maa.teardown(bedrock_agent_core, harness, client=client, timeout=30)
    print("[the harness is gone]")


async def main() -> None:
    """Against a simulator in this process, or against AWS."""
    if "--simulate" in sys.argv:
        async with open_agentcore_simulator(SCRIPT) as simulator, simulator.client() as client:
            await show(client, "arn:aws:iam::123456789012:role/simulated")
    elif len(sys.argv) == 2:
        async with maa.AgentCoreClient() as client:
            await show(client, sys.argv[1])
    else:
        sys.exit(f"usage: python {sys.argv[0]} --simulate | <ARN of the execution role>")


trio.run(main)
