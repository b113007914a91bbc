"""A chat backend: one trio service, one session per user, many turns per session.

Every user has a session of their own, opened with their first message and kept open; messages of different users are
answered at the same time, those of one user one after the other. A session that fails takes nobody else with it.

Needs the extra "tools". With ANTHROPIC_API_KEY set: `python multi_turn_chat.py`; without: `--simulate`.
"""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import trio

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import Turn, open_claude_simulator

ORDERS = {"ada": "1815", "grace": "1906"}


@maa.tool
async def last_order(context: maa.ToolContext) -> str:
    """Find the customer's last order."""
    # `context.user` is what the session was opened with: the model cannot ask for somebody else's order.
    return f"order {ORDERS[context.user]}"


TOOLBOX = maa.Toolbox([last_order])


@dataclass
class Waiting:
    """A message on its way to a user's session, and its answer on its way back."""

    text: str
    answered: trio.Event = field(default_factory=trio.Event)
    answer: str = ""

    def finish(self, answer: str) -> None:
        """Answer it."""
        self.answer = answer
        self.answered.set()


class ChatService:
    """Sessions by user. Open one with :func:`open_chat_service`."""

    def __init__(self, nursery: trio.Nursery, client: maa.ClaudeClient, agent: str, environment: str) -> None:
        self._nursery = nursery
        self._options: dict[str, Any] = {"client": client, "agent": agent, "environment": environment}
        self._inboxes: dict[str, trio.MemorySendChannel[Waiting]] = {}

    async def ask(self, user: str, text: str) -> str:
        """Say something as a user and wait for the answer; what a web framework's request handler would call."""
        waiting = Waiting(text)
        if user not in self._inboxes:
            # 16 messages may wait for a slow agent; the next `ask` then waits here, which is what its user sees too.
            self._inboxes[user], inbox = trio.open_memory_channel[Waiting](16)
            self._nursery.start_soon(self._serve, user, inbox)
        await self._inboxes[user].send(waiting)
        await waiting.answered.wait()
        return waiting.answer

    async def _serve(self, user: str, inbox: trio.MemoryReceiveChannel[Waiting]) -> None:
        """Keep a session open for a user. Whatever happens to it stays here: the user's next message opens another."""
        try:
            async with maa.open_session(
                claude_managed_agents, name=user, handler=TOOLBOX, context=user, timeout=120.0, **self._options
            ) as session:
                while session.status().phase != "closed":
                    waiting = await inbox.receive()
                    await self._answer(session, waiting)
        except maa.ManagedAgentsError as error:
            print(f"the session of {user} failed: {error}", file=sys.stderr)
        finally:
            del self._inboxes[user]
            with suppress(trio.WouldBlock):
                while True:
                    inbox.receive_nowait().finish("Sorry, the assistant is not there right now.")

    async def _answer(self, session: maa.Session, waiting: Waiting) -> None:
        try:
            result = await session.ask(waiting.text)
        except maa.ManagedAgentsError as error:
            waiting.finish(f"Sorry, that did not work ({type(error).__name__}).")
        else:
            waiting.finish(result.last_text)


@asynccontextmanager
async def open_chat_service(client: maa.ClaudeClient, agent: str, environment: str) -> AsyncIterator[ChatService]:
    """Run the service for as long as the block lasts; leaving it closes every session."""
    async with trio.open_nursery() as nursery:
        yield ChatService(nursery, client, agent, environment)
        nursery.cancel_scope.cancel()


async def chat(service: ChatService, user: str, *messages: str) -> None:
    """One user at the keyboard."""
    for message in messages:
        answer = await service.ask(user, message)
        print(f"{user}: {message}\n  -> {answer}")


async def converse(client: maa.ClaudeClient) -> None:
    """Let two users chat at the same time."""
    agent = await client.agents.create(
        name="Shop assistant",
        model="claude-opus-5-5",
        system="You help customers of a shop. Answer in one sentence. Look orders up with last_order.",
        tools=TOOLBOX.custom_tools(),
    )
    environment = await client.environments.create(name="multi-turn-chat", config={"type": "cloud"})
    async with open_chat_service(client, agent["id"], environment["id"]) as service, trio.open_nursery() as users:
        users.start_soon(chat, service, "ada", "My name is Ada.", "What did I order last?", "What is my name?")
        users.start_soon(chat, service, "grace", "My name is Grace.", "What did I order last?", "What is my name?")
    await client.environments.archive(environment["id"])
    await client.agents.archive(agent["id"])


async def simulated_agent(turn: Turn) -> None:
    """The agent's part in the simulation. A function instead of a list of steps can look at what it is told."""
    if "order" in turn.text:
        (found,) = await turn.call_tools(("last_order", {}))
        await turn.say(f"Your last order is {found.text}.")
    elif "What" in turn.text:
        await turn.say(f"You told me {turn.number - 1} messages ago.")
    else:
        await turn.say("Nice to meet you.")


async def main() -> None:
    """Run against the API, or against a simulator in this process."""
    if "--simulate" in sys.argv:
        async with open_claude_simulator(simulated_agent) as simulator, simulator.client() as client:
            await converse(client)
    else:
        async with maa.ClaudeClient() as client:
            await converse(client)


trio.run(main)
