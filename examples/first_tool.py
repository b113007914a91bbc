"""A first tool: the provider runs the agent, `get_weather` runs here.

Needs the extra "tools". With ANTHROPIC_API_KEY set: `python first_tool.py`; without a key: `python first_tool.py
--simulate`.
"""

import sys

import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import call_tool, open_claude_simulator, say


@maa.tool
async def get_weather(city: str) -> str:
    """Get the weather of a city.

    Args:
        city: The city's name.
    """
    return f"It is sunny in {city}, 24 degrees."


toolbox = maa.Toolbox([get_weather])


async def converse(client: maa.ClaudeClient) -> None:
    """Create an agent that knows the tool, ask it something, and clean up."""
    agent = await client.agents.create(name="Weather", model="claude-opus-5-5", tools=toolbox.custom_tools())
    environment = await client.environments.create(name="first-tool", config={"type": "cloud"})
    result = await maa.run_session(
        claude_managed_agents,
        client=client,
        agent=agent,
        environment=environment,
        handler=toolbox,
        prompt="What is the weather in Lisbon?",
    )
    print(result.text)
    print(f"{len(result.custom_tool_uses)} tool call, {result.usage.output_tokens} output tokens")
    await client.environments.archive(environment["id"])
    await client.agents.archive(agent["id"])


async def main() -> None:
    """Run against the API, or against a simulator in this process."""
    if "--simulate" in sys.argv:
        script = [call_tool("get_weather", {"city": "Lisbon"}), say("Leave your umbrella at home.")]
        async with open_claude_simulator(script) as simulator, simulator.client() as client:
            await converse(client)
    else:
        async with maa.ClaudeClient() as client:
            await converse(client)


trio.run(main)
