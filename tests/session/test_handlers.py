"""Handlers: whatever form one has, its calls get name, input and context, and what it gives becomes the result."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

import managed_agents_actors as maa
from managed_agents_actors.providers import claude_managed_agents
from managed_agents_actors.testing import ask, call_tool, call_tools, say

SCRIPT = [call_tool("lookup", {"q": 1}), say("done")]
SEEN: list[tuple[str, Any, maa.ToolContext]] = []


@pytest.fixture(autouse=True)
def _forget() -> None:
    SEEN.clear()


def _note(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
    SEEN.append((name, input, context))
    return f"{name}:{input['q']}"


def sync_function(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
    return _note(name, input, context)


async def async_function(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
    await trio.lowlevel.checkpoint()
    return _note(name, input, context)


async def with_prefix(_prefix: str, name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
    return await async_function(name, input, context)


class Methods:
    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        return await async_function(name, input, context)

    def sync_method(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        return sync_function(name, input, context)


class SyncMethods:
    def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        return sync_function(name, input, context)


class CallableInstance:
    async def __call__(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        return await async_function(name, input, context)


class SyncCallableInstance:
    def __call__(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        return sync_function(name, input, context)


@functools.wraps(async_function)
def decorated(*args: Any) -> Any:
    """An async function behind a plain decorator: called, it gives a coroutine."""
    return async_function(*args)


HANDLERS: dict[str, Any] = {
    "sync function": sync_function,
    "async function": async_function,
    "lambda that gives a coroutine": lambda name, given, context: async_function(name, given, context),
    "async function behind a plain decorator": decorated,
    "partial of an async function": functools.partial(with_prefix, "prefix"),
    "partial of a partial": functools.partial(functools.partial(with_prefix), "prefix"),
    "partial of a sync function": functools.partial(sync_function),
    "object": Methods(),
    "object with a sync method": SyncMethods(),
    "bound method": Methods().sync_method,
    "callable instance": CallableInstance(),
    "sync callable instance": SyncCallableInstance(),
    "partial of a callable instance": functools.partial(CallableInstance()),
}


@pytest.mark.parametrize("form", HANDLERS)
async def test_every_form_of_handler_runs_calls(form: str, simulate: Any) -> None:
    # Sync handlers run in threads, which virtual time knows nothing of; nothing here waits for time.
    user = object()
    async with simulate(SCRIPT) as place:
        result = await maa.run_session(
            claude_managed_agents,
            handler=HANDLERS[form],
            context=user,
            telemetry_metadata={"tenant": "t1"},
            **place.options,
        )
        assert place.answers(result) == [("lookup:1", False)]
    ((name, given, context),) = SEEN
    assert (name, given) == ("lookup", {"q": 1})
    assert isinstance(given, dict)
    assert context.tool_use_id == result.custom_tool_uses[0].id
    assert (context.session_id, context.provider) == (result.session_id, "claude_managed_agents")
    assert (context.attempt, context.thread_id, context.metadata) == (1, None, {"tenant": "t1"})
    assert context.user is user


async def test_a_toolbox_is_a_handler(simulate: Any, autojump_clock: MockClock) -> None:
    @maa.tool
    async def lookup(q: int) -> str:
        """Look something up."""
        return f"found {q}"

    async with simulate([call_tools(("lookup", {"q": 1}), ("unknown", {})), say("done")]) as place:
        result = await maa.run_session(claude_managed_agents, handler=maa.Toolbox([lookup]), **place.options)
        answers = place.answers(result)
    assert sorted(answers) == [("There is no tool named 'unknown'. Known tools: lookup.", True), ("found 1", False)]


async def test_a_toolbox_may_leave_unknown_tools_to_another_client(simulate: Any, autojump_clock: MockClock) -> None:
    @maa.tool
    async def lookup(q: int) -> str:
        """Look something up."""
        return f"found {q}"

    toolbox = maa.Toolbox([lookup], unknown_tools="leave")
    async with simulate([call_tools(("lookup", {"q": 1}), ("theirs", {})), say("done")]) as place:
        result = await maa.run_session(claude_managed_agents, handler=toolbox, unresolved_after=5.0, **place.options)
        assert place.answers(result) == [("found 1", False)]
        (pending,) = place.look(result).pending
    assert result.terminal == "requires_action"
    assert [use.name for use in result.custom_tool_uses if use.id == pending] == ["theirs"]


async def test_a_handler_may_be_shared_by_sessions_and_keeps_them_apart(
    simulate: Any, autojump_clock: MockClock
) -> None:
    results: list[maa.SessionResult] = []
    async with simulate(SCRIPT) as place, trio.open_nursery() as nursery:

        async def run() -> None:
            results.append(await maa.run_session(claude_managed_agents, handler=async_function, **place.options))

        for _ in range(5):
            nursery.start_soon(run)
    assert len({result.session_id for result in results}) == 5
    assert {(context.session_id, context.tool_use_id) for *_rest, context in SEEN} == {
        (result.session_id, result.custom_tool_uses[0].id) for result in results
    }


async def test_sync_handlers_run_in_threads_and_never_block_the_session(simulate: Any) -> None:
    main = threading.get_ident()
    together = threading.Barrier(3, timeout=30)
    threads: set[int] = set()

    def meet(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
        threads.add(threading.get_ident())
        together.wait()  # passes only if all three run at once
        return "met"

    async with simulate([call_tools(*[("meet", {})] * 3), say("done")]) as place:
        result = await maa.run_session(claude_managed_agents, handler=meet, **place.options)
        assert place.answers(result) == [("met", False)] * 3
    assert main not in threads
    assert len(threads) == 3


async def test_a_sync_call_that_is_cancelled_is_left_to_finish_alone(simulate: Any) -> None:
    release, ended = threading.Event(), threading.Event()
    running = trio.Event()

    def stuck(name: str, input: Mapping[str, Any], context: maa.ToolContext) -> str:
        trio.from_thread.run_sync(running.set)
        release.wait(30)
        ended.set()
        return "too late"

    async with simulate(SCRIPT) as place:
        async with maa.open_session(claude_managed_agents, handler=stuck, **place.options) as session:
            await session.message("go")
            await running.wait()
        assert not ended.is_set()  # the session has ended, the thread has not
        release.set()
        await trio.to_thread.run_sync(ended.wait, 30)
        assert ended.is_set()
        assert place.answers(session) == []


# --- observers --------------------------------------------------------------------------------------------------------


class Watching:
    """Sees events; fails at every one, or takes its time, if it is told to."""

    def __init__(self, *, fails: bool = False, takes: float = 0.0) -> None:
        self.seen: list[Any] = []
        self.at_once = 0
        self.most_at_once = 0
        self._fails, self._takes = fails, takes

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        return "r"

    async def handle_event(self, event: Any, context: maa.EventContext) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await trio.sleep(self._takes)
        self.seen.append(event)
        self.at_once -= 1
        if self._fails:
            raise RuntimeError("an observer's defect")

    def ids(self) -> list[str]:
        return [event["id"] for event in self.seen if "id" in event]


@pytest.mark.parametrize("how", ["fails", "takes"])
async def test_an_observer_that_fails_or_is_slow_loses_nothing_and_holds_up_nothing(
    how: str, simulate: Any, autojump_clock: MockClock
) -> None:
    handler = Watching(fails=True) if how == "fails" else Watching(takes=0.5)
    async with simulate(SCRIPT) as place:
        async with maa.open_session(claude_managed_agents, handler=handler, **place.options) as session:
            began = trio.current_time()
            result = await session.ask("go")
            assert trio.current_time() == began
        log = place.look(session).events
    assert handler.ids() == [event["id"] for event in log] == [event["id"] for event in result.events]
    assert handler.most_at_once == 1


async def test_an_observer_that_never_comes_back_holds_up_the_end_for_half_a_minute(
    simulate: Any, autojump_clock: MockClock
) -> None:
    handler = Watching(takes=math.inf)
    async with simulate(SCRIPT) as place:
        with trio.fail_after(1_000):
            result = await maa.run_session(claude_managed_agents, handler=handler, **place.options)
    assert result.terminal == "end_turn"
    assert handler.seen == []
    assert trio.current_time() == 30


async def test_a_sync_observer_is_called_in_order_too(simulate: Any) -> None:
    seen: list[str] = []

    class SyncWatching:
        def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
            return "r"

        def handle_event(self, event: Any, context: maa.EventContext) -> None:
            seen.append(event.get("id", ""))

    handler: Any = SyncWatching()
    async with simulate(SCRIPT) as place:
        result = await maa.run_session(claude_managed_agents, handler=handler, **place.options)
    assert [event_id for event_id in seen if event_id in {e["id"] for e in result.events}] == [
        event["id"] for event in result.events
    ]


# --- confirmations ----------------------------------------------------------------------------------------------------


class Confirming:
    def __init__(self, verdict: Any) -> None:
        self.asked: list[tuple[maa.ToolUse, maa.ToolContext]] = []
        self._verdict = verdict

    async def handle_tool_call(self, name: str, input: dict[str, Any], context: maa.ToolContext) -> str:
        pytest.fail("a built-in tool is not run here")

    async def handle_confirmation(self, tool_use: maa.ToolUse, context: maa.ToolContext) -> Any:
        self.asked.append((tool_use, context))
        if isinstance(self._verdict, Exception):
            raise self._verdict
        return self._verdict


@pytest.mark.parametrize(
    ("verdict", "sent"),
    [
        ("allow", {"result": "allow"}),
        ("deny", {"result": "deny"}),
        (maa.Deny(), {"result": "deny"}),
        (maa.Deny(message="no shell"), {"result": "deny", "deny_message": "no shell"}),
        (RuntimeError("policy broke"), {"result": "deny"}),
        ("perhaps", {"result": "deny"}),
        (True, {"result": "deny"}),
    ],
    ids=["allow", "deny", "Deny", "Deny with a message", "raises", "nonsense", "true"],
)
async def test_a_confirmation_is_what_the_handler_says(
    verdict: Any, sent: dict[str, str], simulate: Any, autojump_clock: MockClock
) -> None:
    handler = Confirming(verdict)
    async with simulate([ask("bash", {"command": "ls"}), say("done")]) as place:
        result = await maa.run_session(claude_managed_agents, handler=handler, **place.options)
        (confirmation,) = [e for e in place.inputs(result) if e["type"] == "user.tool_confirmation"]
    ((use, context),) = handler.asked
    assert (use.name, use.input, use.kind, use.permission) == ("bash", {"command": "ls"}, "builtin", "ask")
    assert context.tool_use_id == use.id == confirmation["tool_use_id"]
    assert {key: confirmation.get(key) for key in ("result", "deny_message")} == {"deny_message": None, **sent}
    assert (result.terminal, result.last_text) == ("end_turn", "done")


@pytest.mark.parametrize("kind", ["no opinion", "no policy"])
async def test_without_a_verdict_the_session_gives_the_question_back(
    kind: str, simulate: Any, autojump_clock: MockClock
) -> None:
    handler: Any = Confirming(None) if kind == "no opinion" else async_function
    async with simulate([ask("bash"), say("done")]) as place:
        result = await maa.run_session(claude_managed_agents, handler=handler, **place.options)
        assert [e["type"] for e in place.inputs(result)] == ["user.message"]
        (pending,) = place.look(result).pending
    assert result.terminal == "requires_action"
    assert result.stop_reason == {"type": "requires_action", "event_ids": [pending]}
    assert [use.id for use in result.server_tool_uses] == [pending]
