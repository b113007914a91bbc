"""The whole life of a Claude Managed Agents session, step by step.

    python claude_managed_agents.py               # the real API; needs ANTHROPIC_API_KEY
    python claude_managed_agents.py --simulate    # the simulator, in this process; needs nothing

Both run the same code: the simulator is an HTTP server that keeps the API's contract. Needs the extra "tools".
"""

import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import Call, Turn, open_claude_simulator

PRICES = b"item,price\npencil,1.20\nnotebook,4.50\n"

# --- 1. Tools ---------------------------------------------------------------------------------------------------------
#
# A tool is a function. Its name, type hints and docstring become what the model is told of it. The model's input is
# checked before the function runs; what it returns is sent as text (data as JSON).


@maa.tool
async def stock(item: str) -> dict[str, Any]:
    """How many pieces of an item are in stock.

    Args:
        item: The item's name, in the singular.
    """
    await trio.sleep(0.02)  # a database would take about as long
    counts = {"pencil": 120, "notebook": 0}
    if item not in counts:
        # The text of a ToolError goes to the model as the call's error, so that it can do better.
        raise maa.ToolError(f"There is no item {item!r}; there are: {', '.join(counts)}.")
    return {"item": item, "pieces": counts[item]}


@maa.tool
def reserve(item: str, pieces: int, context: maa.ToolContext) -> str:  # noqa: D417 -- the model does not see context
    """Reserve pieces of an item for the customer.

    Args:
        item: The item's name.
        pieces: How many.
    """
    # Not async: it runs in a worker thread, so it may block. A `ToolContext` parameter is filled in by the session
    # and is not part of the model's input; `context.user` is what the session was opened with.
    return f"{pieces} x {item} reserved for {context.user}"


@maa.tool
async def wait_for_delivery(item: str) -> str:
    """Wait until an item is delivered. Takes days."""
    await trio.sleep(3 * 24 * 3600)
    return f"{item}: delivered"


# --- 2. The handler ---------------------------------------------------------------------------------------------------
#
# A Toolbox is a handler already. This one adds a confirmation policy: the agent's built-in `bash` tool runs at the
# provider, but is configured to ask first, and what it asks is decided here.


class Shop:
    """Runs the tools, and decides which commands the agent may run at the provider."""

    def __init__(self) -> None:
        self.toolbox = maa.Toolbox([stock, reserve, wait_for_delivery])

    async def handle_tool_call(self, name: str, input: Mapping[str, Any], context: maa.ToolContext) -> maa.ToolOutput:
        """Run a call of a custom tool."""
        return await self.toolbox.handle_tool_call(name, input, context)

    async def handle_confirmation(self, tool_use: maa.ToolUse, context: maa.ToolContext) -> str | maa.Deny:
        """Decide on a call that needs a confirmation."""
        command = str(tool_use.input.get("command", tool_use.name))
        if tool_use.name in ("read", "glob", "grep") or command.startswith("cat "):
            print(f"  [{context.user} allows: {command}]")
            return "allow"
        return maa.Deny(message="Only reading files is allowed.")


# --- 3. What exists at the provider before there is a session ---------------------------------------------------------
#
# An agent is configuration, made once and used by many sessions; an environment is where its built-in tools run. They
# are described, and `provision` makes them or finds them: the same description is the same agent, whoever asks, so a
# service just calls it at its start. Here they live as long as the example, and `teardown` puts them away.


@asynccontextmanager
async def open_setup(client: maa.ClaudeClient, shop: Shop) -> AsyncIterator[tuple[maa.ClaudeHandle, str]]:
    """Have an agent and an environment, and upload a file; put them away afterwards."""
    ask_first = {"permission_policy": {"type": "always_ask"}}
    agent = maa.AgentSpec(
        name="Shop assistant",
        model="claude-opus-5-5",
        system_prompt="You are the assistant of a stationery shop. Use your tools; answer in one or two sentences.",
        tools=[{"type": "agent_toolset_20260401", "default_config": ask_first}, *shop.toolbox.custom_tools()],
    )
    environment = maa.EnvironmentSpec(name="shop-example", config={"type": "cloud"})
    handle = await maa.provision(claude_managed_agents, agent, environment=environment, client=client)
    try:
        file = await client.files.upload(PRICES, filename="prices.csv")
        try:
            yield handle, file["id"]
        finally:
            # Cleaning up is bounded, so that it cannot hold up the end of a program.
            with trio.move_on_after(30, shield=True):
                await client.files.delete(file["id"])
    finally:
        with trio.CancelScope(shield=True):
            await maa.teardown(claude_managed_agents, handle, client=client, timeout=30)


# --- 4. A live session ------------------------------------------------------------------------------------------------


async def first_visit(client: maa.ClaudeClient, shop: Shop, handle: maa.ClaudeHandle, file_id: str) -> str:
    """Talk to a new session, interrupt it, and give its id."""
    async with maa.open_session(
        claude_managed_agents,
        client=client,
        **handle.options,  # agent= and environment=
        resources=[{"type": "file", "file_id": file_id, "mount_path": "/mnt/session/uploads/prices.csv"}],
        handler=shop,
        context="Ada",
        timeout=300.0,  # seconds for each request
        deltas=True,  # text as it is written, not only whole messages
    ) as session:
        # `ask` sends a message and waits for the end of the request that it starts, however many tool calls that
        # takes. Calls of one model response run in parallel.
        result = await session.ask("Are there pencils and notebooks in stock?")
        calls = ", ".join(use.name for use in result.custom_tool_uses)
        print(f"{result.text}\n  [called {calls}; {result.usage.output_tokens} output tokens in {result.turns} turns]")

        # Reading the file needs a confirmation: `Shop.handle_confirmation` gives it.
        await ask_and_show(session, "What do they cost? See prices.csv.")

        await interrupt_a_request(session)

        # The session goes on as before.
        await ask_and_show(session, "Never mind. Reserve two pencils for me.")

    # Leaving the block stopped the session here. At the provider it stays, and can be resumed by its id.
    return session.session_id


async def ask_and_show(session: maa.Session, text: str) -> None:
    """Send a message and show the answer while it is written, as a chat window would."""
    async with session.events() as events:
        await session.message(text)
        async for event in events:
            # The provider's raw events come under their own types, text as it is written under ours.
            if event["type"] == "managed_agents.text_delta":
                print(event["text"], end="", flush=True)
            elif event["type"] == "session.status_idle" and event["stop_reason"]["type"] != "requires_action":
                print()
                break


async def interrupt_a_request(session: maa.Session) -> None:
    """Start something that takes days, and think better of it."""
    async with session.subscribe() as terminals, session.events() as events:
        # `message` only sends; the result goes to the subscribers: the end of each request exactly once, whoever
        # started it.
        await session.message("Tell me when notebooks are delivered.")
        async for event in events:
            if event["type"] == "agent.custom_tool_use":
                break

        # Running tools are cancelled at once, and the request still ends with its own terminal.
        await session.interrupt()
        result = await terminals.receive()
        print(f"  [interrupted: {result.terminal}; the session goes on: {result.resumable}]")


async def second_visit(client: maa.ClaudeClient, shop: Shop, session_id: str) -> None:
    """Come back to the session: another process, another day. Its history is read, and unanswered calls are run."""
    async with maa.open_session(
        claude_managed_agents, client=client, session_id=session_id, handler=shop, context="Ada", timeout=300.0
    ) as session:
        resources = await client.sessions.resources.list_all(session_id)
        result = await session.ask("What did I reserve?")
        print(f"{result.text}\n  [resumed, with {len(resources)} file attached]")


async def life(client: maa.ClaudeClient) -> None:
    """From nothing to nothing."""
    shop = Shop()
    async with open_setup(client, shop) as (handle, file_id):
        session_id = await first_visit(client, shop, handle, file_id)
        await second_visit(client, shop, session_id)
        # Archiving keeps the history and ends the session for good; deleting removes both.
        await client.sessions.archive(session_id)
        await client.sessions.delete(session_id)
    print("  [cleaned up]")


# --- 5. The agent's part in the simulation ----------------------------------------------------------------------------


async def simulated_agent(turn: Turn) -> None:
    """What a model might do; turn by turn, since a simulated session counts them across visits."""
    match turn.number:
        case 1:
            pencils, notebooks = await turn.call_tools(("stock", {"item": "pencil"}), ("stock", {"item": "notebook"}))
            await turn.say(f"I found {pencils.text} and {notebooks.text}.")
        case 2:
            read = Call(
                name="bash",
                input={"command": "cat /mnt/session/uploads/prices.csv"},
                kind="builtin",
                permission="ask",
                result="pencil,1.20 notebook,4.50",
            )
            (prices,) = await turn.call_tools(read)
            await turn.say(f"The file says: {prices.text}.")
        case 3:
            await turn.call_tools(("wait_for_delivery", {"item": "notebook"}))
        case 4:
            (reserved,) = await turn.call_tools(("reserve", {"item": "pencil", "pieces": 2}))
            await turn.say(f"Done: {reserved.text}.")
        case _:
            await turn.say("You reserved two pencils.")


async def main() -> None:
    """Run against the API, or against a simulator in this process."""
    if "--simulate" in sys.argv:
        async with open_claude_simulator(simulated_agent) as simulator, simulator.client() as client:
            await life(client)
    else:
        # The key comes from ANTHROPIC_API_KEY; see maa.configure() for other ways.
        async with maa.ClaudeClient() as client:
            await life(client)


trio.run(main)
