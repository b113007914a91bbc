"""The recording handler passes everything on to the handler it is around, and keeps it."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import RecordingHandler, ask, call_tools, open_claude_simulator, say


async def converse(handler: Any, *script: Any, **options: Any) -> maa.SessionResult:
    """One request of a fresh session that plays this script."""
    async with open_claude_simulator([*script], transport="memory") as simulator, simulator.client() as client:
        return await maa.run_session(
            claude_managed_agents,
            client=client,
            agent=simulator.agent_id,
            environment=simulator.environment_id,
            handler=handler,
            prompt="go",
            **options,
        )


def answers(result: maa.SessionResult) -> list[tuple[str, bool]]:
    """The text of each tool result, and whether it is an error."""
    found = [event for event in result.events if event["type"] == "user.custom_tool_result"]
    return [(event["content"][0]["text"], bool(event.get("is_error"))) for event in found]


async def test_alone_it_answers_ok_and_keeps_what_it_saw(autojump_clock: MockClock) -> None:
    handler = RecordingHandler()
    result = await converse(handler, call_tools(("a", {"n": 1}), ("b", {})), say("One. Two."), deltas=True)
    assert answers(result) == [("ok", False)] * 2
    assert sorted((call.name, call.input, call.at) for call in handler.calls) == [("a", {"n": 1}, 0.0), ("b", {}, 0.0)]
    assert sorted(handler.finished) == sorted(call.id for call in handler.calls)
    assert {call.id for call in handler.calls} == {use.id for use in result.custom_tool_uses}
    assert all(call.context.session_id == result.session_id for call in handler.calls)
    assert handler.events == list(result.events)
    assert len(handler.deltas) > 1
    assert "".join(handler.deltas) == result.text


async def test_a_function_inside_gives_the_results(autojump_clock: MockClock) -> None:
    async def tool(name: str, input: Any, context: maa.ToolContext) -> str:
        if name == "bad":
            raise maa.ToolError("no")
        return name.upper()

    handler = RecordingHandler(tool)
    result = await converse(handler, call_tools(("good", {})), call_tools(("bad", {})))
    assert answers(result) == [("GOOD", False), ("no", True)]
    assert handler.finished == [call.id for call in handler.calls]


async def test_events_reach_a_handler_inside(autojump_clock: MockClock) -> None:
    class Watching:
        def __init__(self) -> None:
            self.seen: list[str] = []

        async def handle_tool_call(self, name: str, input: Any, context: Any) -> str:
            return "r"

        async def handle_event(self, event: Any, context: Any) -> None:
            self.seen.append(event["type"])

    inner = Watching()
    handler = RecordingHandler(inner)
    await converse(handler, say("Hi."))
    assert [kind for kind in inner.seen if kind != "managed_agents.text_delta"] == [e["type"] for e in handler.events]


async def test_confirmations_are_the_inner_handlers_alone(autojump_clock: MockClock) -> None:
    class Confirming:
        async def handle_tool_call(self, name: str, input: Any, context: Any) -> str:
            return "r"

        async def handle_confirmation(self, use: maa.ToolUse, context: Any) -> str:
            return "allow"

    step = ask("bash", {"command": "ls"}, result="listing")
    assert (await converse(RecordingHandler(Confirming()), step, say("Done."))).text == "Done."
    assert (await converse(RecordingHandler(), step, say("Done."))).terminal == "requires_action"


async def test_what_a_toolbox_leaves_is_left(autojump_clock: MockClock) -> None:
    handler = RecordingHandler(maa.Toolbox([], unknown_tools="leave"))
    assert (await converse(handler, call_tools(("other", {})))).terminal == "requires_action"
    assert handler.calls == []


def test_what_is_no_handler_is_refused() -> None:
    with pytest.raises(maa.ConfigurationError, match="a int is none of these"):
        RecordingHandler(5)  # type: ignore[arg-type]
