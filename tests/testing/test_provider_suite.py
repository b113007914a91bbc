"""Our providers keep the laws of one, and the laws can be broken: a provider that breaks one is found out."""

from __future__ import annotations

import unittest
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, ClassVar, Literal

import pytest
import trio

import managed_agents_actors as maa
from managed_agents_actors._protocol.facts import Called, Said, Spent
from managed_agents_actors._protocol.mail import Answer, Interrupt, Message
from managed_agents_actors.providers import bedrock_agent_core, claude_managed_agents
from managed_agents_actors.providers.contract import Capabilities
from managed_agents_actors.testing import (
    AgentCoreSimulator,
    ClaudeSimulator,
    FaultPlan,
    Place,
    ProviderSuite,
    open_agentcore_simulator,
    open_claude_simulator,
)

# --- Claude Managed Agents --------------------------------------------------------------------------------------------


class ClaudeSuite(ProviderSuite):
    """The place of a simulator of Claude Managed Agents, in memory.

    Attributes:
        provider: The module that is checked.
        extra: Options of every session.
    """

    message_operation = "send_events"
    stream_operation = "stream"
    provider: ClassVar[Any] = claude_managed_agents
    extra: ClassVar[dict[str, Any]] = {}

    @asynccontextmanager
    async def open_place(self, script: Any, *, faults: FaultPlan | None = None) -> AsyncIterator[Place]:
        async with (
            open_claude_simulator(script, transport="memory", faults=faults) as simulator,
            simulator.client() as client,
        ):
            new = {"agent": simulator.agent_id, "environment": simulator.environment_id}

            yield Place(
                provider=self.provider,
                options=lambda: {"client": client, **new, **self.extra},
                resume=lambda session_id: {"client": client, "session_id": session_id, **self.extra},
                messages=lambda session_id: _messages(simulator, session_id),
                answers=lambda session_id: _answers(simulator, session_id),
                open_streams=lambda: _open_streams(simulator),
                requests=lambda: len(simulator.requests),
                events=lambda session_id: simulator.session(session_id).events,
            )


def _messages(simulator: ClaudeSimulator, session_id: str) -> list[str]:
    told = [event for event in simulator.session(session_id).events if event["type"] == "user.message"]
    return ["".join(block["text"] for block in event["content"]) for event in told]


def _answers(simulator: ClaudeSimulator, session_id: str) -> list[maa.ToolResult]:
    path = f"/v1/sessions/{session_id}/events"
    posts = [request for request in simulator.requests if (request.method, request.path) == ("POST", path)]
    return [
        maa.ToolResult(
            tool_use_id=event["custom_tool_use_id"], content=tuple(event["content"]), is_error=event["is_error"]
        )
        for post in posts
        for event in post.body["events"]
        if event["type"] == "user.custom_tool_result"
    ]


def _open_streams(simulator: ClaudeSimulator) -> int:
    paths = {request.path for request in simulator.requests if request.path.endswith("/events/stream")}
    return sum(simulator.session(path.split("/")[3]).open_streams for path in paths)


class TestClaude(ClaudeSuite):
    """Without previews: text comes in whole messages."""


class TestClaudeWithDeltas(ClaudeSuite):
    """With previews."""

    extra: ClassVar[dict[str, Any]] = {"deltas": True}


# --- AWS Bedrock AgentCore --------------------------------------------------------------------------------------------


class TestAgentCore(ProviderSuite):
    """The provider of AgentCore, on its simulator, which hands the calls of one response off together."""

    message_operation = stream_operation = "invoke_harness"
    hand_off: ClassVar[Literal["together", "one_by_one"]] = "together"

    @asynccontextmanager
    async def open_place(self, script: Any, *, faults: FaultPlan | None = None) -> AsyncIterator[Place]:
        async with (
            open_agentcore_simulator(script, transport="memory", faults=faults, hand_off=self.hand_off) as simulator,
            simulator.client() as client,
        ):
            known = {"client": client, "harness_arn": simulator.harness_arn}

            def messages(session_id: str) -> list[str]:
                return [block["text"] for block in _told(simulator, session_id) if "text" in block]

            def answers(session_id: str) -> list[maa.ToolResult]:
                return [_result(block) for block in _results_sent(simulator, session_id, self.hand_off)]

            yield Place(
                provider=bedrock_agent_core,
                options=lambda: {**known, "runtime_session_id": str(uuid.uuid4())},
                resume=lambda session_id: {**known, "session_id": session_id},
                messages=messages,
                answers=answers,
                open_streams=lambda: simulator.open_streams,
                requests=lambda: len(simulator.requests),
            )


class TestAgentCoreOneByOne(TestAgentCore):
    """The same, on a harness that takes the results of one response one by one."""

    hand_off = "one_by_one"


def _told(simulator: AgentCoreSimulator, session_id: str) -> list[dict[str, Any]]:
    """The blocks of the user's side of a conversation, as the harness has it."""
    try:
        conversation = simulator.session(session_id).messages
    except KeyError:
        return []
    return [block for message in conversation if message["role"] == "user" for block in message["content"]]


def _results_sent(simulator: AgentCoreSimulator, session_id: str, hand_off: str) -> Iterator[dict[str, Any]]:
    """The results that a session was sent; a harness that takes them one by one asks for the others again."""
    name = "x-amzn-bedrock-agentcore-runtime-session-id"
    bodies = [request.body for request in simulator.requests if request.headers.get(name) == session_id]
    told = [message for body in bodies for message in body.get("messages", ()) if message["role"] == "user"]
    seen: set[str] = set()
    for block in (block for message in told for block in message["content"] if "toolResult" in block):
        result = block["toolResult"]
        if hand_off == "together" or result["toolUseId"] not in seen:
            yield result
        seen.add(result["toolUseId"])


def _result(told: dict[str, Any]) -> maa.ToolResult:
    is_error = told["status"] == "error"
    return maa.ToolResult(tool_use_id=told["toolUseId"], content=tuple(told["content"]), is_error=is_error)


# --- providers that break a law ---------------------------------------------------------------------------------------


class Deviant:
    """The provider of Claude, which keeps every law; each subclass breaks one."""

    def __getattr__(self, name: str) -> Any:
        return getattr(claude_managed_agents, name)


class Editing(Deviant):
    """What the provider says is changed on its way, on streams and in listings alike."""

    def edit(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        return [event]

    def edited(self, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [result for event in events for result in self.edit(event)]

    @asynccontextmanager
    async def open_stream(self, connection: Any, session_id: str) -> AsyncIterator[Any]:
        async with claude_managed_agents.open_stream(connection, session_id) as source:
            yield EditedSource(source, self.edited)

    def read_history(self, connection: Any, session_id: str, *, since: str | None = None) -> Any:
        return EditedPages(claude_managed_agents.read_history(connection, session_id, since=since), self.edited)


class EditedSource:
    retry = None

    def __init__(self, source: Any, edit: Any) -> None:
        self._source = source
        self._edit = edit

    async def receive_batch(self) -> list[dict[str, Any]]:
        while True:
            if edited := self._edit(await self._source.receive_batch()):
                found: list[dict[str, Any]] = edited
                return found


class EditedPages:
    def __init__(self, pages: Any, edit: Any) -> None:
        self._pages = pages
        self._edit = edit

    async def next_page(self) -> list[dict[str, Any]] | None:
        page = await self._pages.next_page()
        return None if page is None else self._edit(page)


class DropsAnEvent(Editing):
    def edit(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        return [] if event["type"] == "agent.thinking" else [event]


class DropsTheLastWords(Editing):
    def edit(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        return [] if event["type"] == "agent.message" and "Done." in str(event) else [event]


class DoublesAnEvent(Editing):
    def edit(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        return [event, {**event, "id": f"{event['id']}+"}] if event["type"] == "agent.thinking" else [event]


class DoublesAMessage(Editing):
    def edit(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        return [event, {**event, "id": f"{event['id']}+"}] if event["type"] == "agent.message" else [event]


class ChangesAnEvent(Editing):
    def edit(self, event: dict[str, Any]) -> list[dict[str, Any]]:
        return [{key: value for key, value in event.items() if key != "processed_at"}]


class Posting(Deviant):
    """What goes to the provider is changed on its way."""

    async def post(self, connection: Any, session_id: str, item: Any) -> list[dict[str, Any]]:
        return await claude_managed_agents.post(connection, session_id, item)


class SendsMessagesTwice(Posting):
    async def post(self, connection: Any, session_id: str, item: Any) -> list[dict[str, Any]]:
        if isinstance(item, Message):
            await super().post(connection, session_id, item)
        return await super().post(connection, session_id, item)


class SendsAnswersTwice(Posting):
    async def post(self, connection: Any, session_id: str, item: Any) -> list[dict[str, Any]]:
        if isinstance(item, Answer):
            await super().post(connection, session_id, item)
        return await super().post(connection, session_id, item)


class TrimsAnswers(Posting):
    async def post(self, connection: Any, session_id: str, item: Any) -> list[dict[str, Any]]:
        if isinstance(item, Answer):
            blocks = tuple({**block, "text": block["text"].strip() or "."} for block in item.result.content)
            item = replace(item, result=replace(item.result, content=blocks))
        return await super().post(connection, session_id, item)


class LosesAnswers(Posting):
    async def post(self, connection: Any, session_id: str, item: Any) -> list[dict[str, Any]]:
        if isinstance(item, Answer):
            await trio.sleep_forever()
        return await super().post(connection, session_id, item)


class SwallowsInterrupts(Posting):
    async def post(self, connection: Any, session_id: str, item: Any) -> list[dict[str, Any]]:
        if isinstance(item, Interrupt):
            await trio.lowlevel.checkpoint()
            return []
        return await super().post(connection, session_id, item)


class ConfusesAnswers(Posting):
    """Each result goes to the call before its own."""

    def __init__(self) -> None:
        self.earlier: list[Answer] = []

    async def post(self, connection: Any, session_id: str, item: Any) -> list[dict[str, Any]]:
        if isinstance(item, Answer) and item.use.name == "t":
            self.earlier.append(item)
            if len(self.earlier) < 2:
                return []
            first, second = self.earlier
            await super().post(connection, session_id, Answer(first.use, second.result))
            item = Answer(second.use, first.result)
            self.earlier.clear()
        return await super().post(connection, session_id, item)


class CallsErrorsSuccess(Posting):
    async def post(self, connection: Any, session_id: str, item: Any) -> list[dict[str, Any]]:
        if isinstance(item, Answer):
            item = replace(item, result=replace(item.result, is_error=False))
        return await super().post(connection, session_id, item)


class TakesRefusalsForGood(Posting):
    async def post(self, connection: Any, session_id: str, item: Any) -> list[dict[str, Any]]:
        try:
            return await super().post(connection, session_id, item)
        except maa.RateLimitError as error:
            raise maa.InvalidRequestError("refused", status=400) from error


class LeavesATask(Posting):
    async def post(self, connection: Any, session_id: str, item: Any) -> list[dict[str, Any]]:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        return await super().post(connection, session_id, item)


class Misreading(Deviant):
    """What the provider says is taken for something else."""

    def classify(self, event: dict[str, Any]) -> Any:
        return claude_managed_agents.classify(event)


class CountsTwice(Misreading):
    def classify(self, event: dict[str, Any]) -> Any:
        fact = super().classify(event)
        if isinstance(fact, Spent):
            return Spent({key: 2 * value for key, value in fact.usage.items()})
        return fact


class RunsTheProvidersCalls(Misreading):
    def classify(self, event: dict[str, Any]) -> Any:
        fact = super().classify(event)
        return Called(replace(fact.use, kind="custom")) if isinstance(fact, Called) else fact


class LosesInputs(Misreading):
    def classify(self, event: dict[str, Any]) -> Any:
        fact = super().classify(event)
        return Called(replace(fact.use, input={})) if isinstance(fact, Called) else fact


class ConfusesCalls(Misreading):
    """Calls that look the same are taken for the same."""

    def classify(self, event: dict[str, Any]) -> Any:
        fact = super().classify(event)
        return Called(replace(fact.use, id=str(fact.use.input))) if isinstance(fact, Called) else fact


class TrimsText(Misreading):
    def classify(self, event: dict[str, Any]) -> Any:
        fact = super().classify(event)
        return Said(tuple(text.strip() for text in fact.texts)) if isinstance(fact, Said) else fact


class HidesFailures(Misreading):
    def classify(self, event: dict[str, Any]) -> Any:
        return super().classify({**event, "type": "other"} if event["type"] == "session.error" else event)


class HasNoHistory(Editing):
    """It says that it can replay."""

    def read_history(self, connection: Any, session_id: str, *, since: str | None = None) -> Any:
        return EditedPages(super().read_history(connection, session_id), _nothing)


def _nothing(_page: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return []


class KeepsStreamsOpen(Deviant):
    @asynccontextmanager
    async def open_stream(self, connection: Any, session_id: str) -> AsyncIterator[Any]:
        sources: list[Any] = []
        opened = trio.Event()

        async def keep_open() -> None:
            with suppress(maa.ManagedAgentsError):
                async with claude_managed_agents.open_stream(connection, session_id) as source:
                    sources.append(source)
                    opened.set()
                    await trio.sleep_forever()

        trio.lowlevel.spawn_system_task(keep_open)
        await opened.wait()
        yield sources[0]


class TakesAnyOption(Deviant):
    def parse_options(self, options: dict[str, Any]) -> Any:
        known = {key: value for key, value in options.items() if key != "no_such_option"}
        return claude_managed_agents.parse_options(known)


class SendsWhatItCannot(Deviant):
    """It says that it has no outcomes and no confirmations, and sends them."""

    CAPABILITIES = Capabilities(outcomes=False, confirmations=False)


class StartsAnew(Deviant):
    """A session that is to be resumed is made once more."""

    def __init__(self) -> None:
        self.new: dict[str, Any] = {}

    def parse_options(self, options: dict[str, Any]) -> Any:
        if "agent" in options:
            self.new = options
        return claude_managed_agents.parse_options(self.new or options)


FOUND_OUT = [
    (DropsAnEvent, "test_every_event_is_recorded_once_and_shown_as_it_comes"),
    (DropsTheLastWords, "test_a_request_runs_to_its_end"),
    (DoublesAnEvent, "test_every_event_is_recorded_once_and_shown_as_it_comes"),
    (DoublesAMessage, "test_text_deltas_make_up_exactly_the_text"),
    (ChangesAnEvent, "test_every_event_is_recorded_once_and_shown_as_it_comes"),
    (SendsAnswersTwice, "test_calls_in_one_turn_after_another"),
    (SendsMessagesTwice, "test_messages_wait_for_their_turn"),
    (TrimsAnswers, "test_any_output_comes_as_the_tool_gave_it"),
    (LosesAnswers, "test_calls_in_one_turn_after_another"),
    (SwallowsInterrupts, "test_an_interrupt_cancels_the_tools_and_ends_the_request"),
    (SwallowsInterrupts, "test_an_interrupt_cuts_the_models_work"),
    (SwallowsInterrupts, "test_each_request_has_its_own_deadline"),
    (SwallowsInterrupts, "test_interrupt_is_cancelled"),
    (ConfusesAnswers, "test_results_find_their_calls_in_whatever_order_they_come"),
    (CallsErrorsSuccess, "test_an_error_of_a_tool_is_an_answer"),
    (CallsErrorsSuccess, "test_an_unknown_tool_is_an_error_that_names_it"),
    (CallsErrorsSuccess, "test_a_tool_that_takes_too_long_is_cancelled_and_answered"),
    (TakesRefusalsForGood, "test_a_message_that_is_refused_for_now_is_sent_again"),
    (LeavesATask, "test_ask_is_cancelled"),
    (CountsTwice, "test_a_request_runs_to_its_end"),
    (CountsTwice, "test_each_request_has_an_account_of_its_own"),
    (RunsTheProvidersCalls, "test_the_providers_own_calls_are_not_run_here"),
    (LosesInputs, "test_any_input_comes_as_the_model_gave_it"),
    (ConfusesCalls, "test_calls_in_one_turn_after_another"),
    (TrimsText, "test_text_deltas_make_up_exactly_the_text"),
    (HidesFailures, "test_a_failure_of_the_providers_ends_the_request_and_says_why"),
    (HasNoHistory, "test_a_crash_at_any_event_changes_nothing"),
    (HasNoHistory, "test_a_crash_at_any_moment_changes_nothing"),
    (HasNoHistory, "test_a_call_that_was_cut_off_with_its_process_is_offered_again"),
    (HasNoHistory, "test_a_stream_that_drops_harms_its_request_at_most"),
    (KeepsStreamsOpen, "test_a_request_runs_to_its_end"),
    (KeepsStreamsOpen, "test_stop_ends_everything_at_once"),
    (KeepsStreamsOpen, "test_run_session_is_cancelled"),
    (TakesAnyOption, "test_an_option_that_nobody_knows_is_named"),
    (SendsWhatItCannot, "test_an_outcome_is_graded_or_refused"),
    (SendsWhatItCannot, "test_a_confirmation_is_asked_for_or_refused"),
    (StartsAnew, "test_a_session_is_resumed_by_its_id"),
    (StartsAnew, "test_a_session_is_watched_or_needs_a_prompt"),
]


@pytest.mark.parametrize(("deviant", "law"), FOUND_OUT)
def test_a_provider_that_breaks_a_law_is_found_out(deviant: type[Deviant], law: str) -> None:
    class Suite(ClaudeSuite):
        provider: ClassVar[Any] = deviant()

    with pytest.raises((AssertionError, trio.TooSlowError, maa.ManagedAgentsError)):
        getattr(Suite(), law)()


@pytest.mark.parametrize("law", sorted({law for _, law in FOUND_OUT}))
def test_a_provider_that_is_only_wrapped_is_not(law: str) -> None:
    class Suite(ClaudeSuite):
        provider: ClassVar[Any] = type("Wrapped", (Editing, Posting, Misreading), {})()

    getattr(Suite(), law)()


def test_a_server_without_faults_skips_their_laws() -> None:
    class Suite(ClaudeSuite):
        message_operation = stream_operation = None  # type: ignore[assignment]  # as the suite itself has it

    for law in (
        Suite().test_a_message_that_is_refused_for_now_is_sent_again,
        Suite().test_a_stream_that_drops_harms_its_request_at_most,
    ):
        with pytest.raises(unittest.SkipTest, match="no fault plans"):
            law()


def test_a_suite_says_where_its_sessions_run() -> None:
    with pytest.raises(NotImplementedError, match="open"):
        ProviderSuite().test_a_request_runs_to_its_end()
