"""One handler, one loop, two providers: the same kind of result from each.

Against simulators: `python provider_agnostic.py --simulate`. For the real services set ANTHROPIC_API_KEY, AGENT_ID and
ENVIRONMENT_ID, or AWS credentials and HARNESS_ARN; what is set is asked.
"""

import os
import sys
import uuid

import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.testing import call_tool, open_agentcore_simulator, open_claude_simulator, say

SCRIPT = [
    [call_tool("convert", {"amount": 20, "to": "EUR"}), say("20 dollars are 18.40 euros.")],
    [say("You are welcome.")],
]


async def convert(name, input, context):
    """The tool; it neither knows nor cares who asks."""
    return f"{input['amount'] * 0.92:.2f} {input['to']}"


async def converse(provider, **options):
    """The loop."""
    async with maa.open_session(provider, handler=convert, timeout=120, **options) as session:
        for question in ("How many euros are 20 dollars?", "Thank you!"):
            result = await session.ask(question)
            print(f"  {question}")
            print(f"    {result.text}")
            calls = ", ".join(f"{use.name}{use.input}" for use in result.custom_tool_uses) or "no calls"
            print(f"    [{result.terminal}, {result.turns} turns, {calls}, {result.usage.output_tokens > 0}]")


async def claude(**options):
    """Anthropic's Claude Managed Agents."""
    print("claude_managed_agents")
    await converse(claude_managed_agents, **options)


async def agentcore(**options):
    """AWS Bedrock AgentCore."""
    print("bedrock_agent_core")
    await converse(bedrock_agent_core, runtime_session_id=str(uuid.uuid4()), **options)


async def main() -> None:
    """Ask the simulators, or whichever services the environment names."""
    if "--simulate" in sys.argv:
        async with open_claude_simulator(SCRIPT) as simulator, simulator.client() as client:
            await claude(client=client, agent=simulator.agent_id, environment=simulator.environment_id)
        async with open_agentcore_simulator(SCRIPT) as harness, harness.client() as client:
            await agentcore(client=client, harness_arn=harness.harness_arn)
        return
    if "AGENT_ID" in os.environ:
        await claude(agent=os.environ["AGENT_ID"], environment=os.environ["ENVIRONMENT_ID"])
    if "HARNESS_ARN" in os.environ:
        await agentcore(harness_arn=os.environ["HARNESS_ARN"])


trio.run(main)
