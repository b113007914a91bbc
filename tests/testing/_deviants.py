"""Providers that break a law: each passes everything on to the one it wraps, but for what it does wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import trio

import managed_agents_actors as maa
from managed_agents_actors.providers.contract import (
    Answer,
    Called,
    Capabilities,
    Input,
    Interrupt,
    Message,
    Said,
    Spent,
)

Event = dict[str, Any]


class Wrapped:
    """Passes everything on to a provider. What a subclass does wrong, it does by one of these methods."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)

    def edit(self, event: Event) -> list[Event]:
        """What is made of one event, on streams and in listings alike."""
        return [event]

    def edited(self, events: list[Event]) -> list[Event]:
        return [result for event in events for result in self.edit(event)]

    @asynccontextmanager
    async def open_stream(self, connection: Any, session_id: str) -> AsyncIterator[Any]:
        async with self.module.open_stream(connection, session_id) as source:
            yield EditedSource(source, self.edited)

    def read_history(self, connection: Any, session_id: str, *, since: str | None = None) -> Any:
        return EditedPages(self.module.read_history(connection, session_id, since=since), self.edited)

    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        given: list[Event] = await self.module.post(connection, session_id, item)
        return given

    def classify(self, event: Event) -> Any:
        return self.module.classify(event)


class EditedSource:
    retry = None

    def __init__(self, source: Any, edit: Any) -> None:
        self._source = source
        self._edit = edit

    async def receive_batch(self) -> list[Event]:
        while True:
            if edited := self._edit(await self._source.receive_batch()):
                found: list[Event] = edited
                return found


class EditedPages:
    def __init__(self, pages: Any, edit: Any) -> None:
        self._pages = pages
        self._edit = edit

    async def next_page(self) -> list[Event] | None:
        page = await self._pages.next_page()
        return None if page is None else self._edit(page)


# --- what the provider says is changed on its way ---------------------------------------------------------------------

# An agent that thinks: of Claude and of AgentCore.
THOUGHTS = ("agent.thinking", "reasoningContent")


def is_thought(event: Event) -> bool:
    return any(thought in str(event) for thought in THOUGHTS)


def doubled(event: Event) -> list[Event]:
    return [event, {**event, "id": f"{event['id']}+"}]


class DropsAnEvent(Wrapped):
    def edit(self, event: Event) -> list[Event]:
        return [] if is_thought(event) else [event]


class DropsTheEndsOfBlocks(Wrapped):
    """Of AgentCore: nothing follows from them."""

    def edit(self, event: Event) -> list[Event]:
        return [] if event["type"] == "contentBlockStop" else [event]


class DropsTheLastWords(Wrapped):
    def edit(self, event: Event) -> list[Event]:
        return [] if event["type"] == "agent.message" and "Done." in str(event) else [event]


class DoublesAnEvent(Wrapped):
    def edit(self, event: Event) -> list[Event]:
        return doubled(event) if is_thought(event) else [event]


class DoublesAMessage(Wrapped):
    def edit(self, event: Event) -> list[Event]:
        return doubled(event) if event["type"] == "agent.message" else [event]


class ChangesAnEvent(Wrapped):
    def edit(self, event: Event) -> list[Event]:
        return [{key: value for key, value in event.items() if key not in ("processed_at", "metadata")}]


class TurnsCallsRound(Wrapped):
    """Calls that come at once come the other way round."""

    def edited(self, events: list[Event]) -> list[Event]:
        calls = [event for event in events if event["type"] == "agent.custom_tool_use"]
        return [calls.pop() if event["type"] == "agent.custom_tool_use" else event for event in events]


class SaysThatItWorksOn(Wrapped):
    """After each end, an event says that the session is at work."""

    def edit(self, event: Event) -> list[Event]:
        again = {"type": "session.status_running", "id": f"{event.get('id')}+"}
        return [event, again] if event["type"] == "session.status_idle" else [event]


class HasNoHistory(Wrapped):
    """It says that it can replay."""

    def read_history(self, connection: Any, session_id: str, *, since: str | None = None) -> Any:
        return EditedPages(self.module.read_history(connection, session_id), lambda _page: [])


class HasOnePageOfHistory(Wrapped):
    def read_history(self, connection: Any, session_id: str, *, since: str | None = None) -> Any:
        pages = self.module.read_history(connection, session_id, since=since)
        return FirstPage(pages)


class FirstPage:
    def __init__(self, pages: Any) -> None:
        self._pages = pages

    async def next_page(self) -> list[Event] | None:
        pages, self._pages = self._pages, None
        if pages is None:
            return None
        page: list[Event] | None = await pages.next_page()
        return page


class NamesEventsAnew(Wrapped):
    """An event has another id in a listing than on the stream."""

    def read_history(self, connection: Any, session_id: str, *, since: str | None = None) -> Any:
        pages = self.module.read_history(connection, session_id, since=since)
        return EditedPages(pages, lambda page: [{**event, "id": f"{event['id']}-listed"} for event in page])


class KeepsStreamsOpen(Wrapped):
    @asynccontextmanager
    async def open_stream(self, connection: Any, session_id: str) -> AsyncIterator[Any]:
        sources: list[Any] = []
        opened = trio.Event()

        async def keep_open() -> None:
            with suppress(maa.ManagedAgentsError):
                async with self.module.open_stream(connection, session_id) as source:
                    sources.append(source)
                    opened.set()
                    await trio.sleep_forever()

        trio.lowlevel.spawn_system_task(keep_open)
        await opened.wait()
        yield sources[0]


class AttachesUnderAShield(Wrapped):
    @asynccontextmanager
    async def open_stream(self, connection: Any, session_id: str) -> AsyncIterator[Any]:
        opening = self.module.open_stream(connection, session_id)
        with trio.CancelScope(shield=True):
            source = await opening.__aenter__()
        try:
            yield source
        finally:
            await opening.__aexit__(None, None, None)


# --- what goes to the provider is changed on its way ------------------------------------------------------------------


class SendsMessagesTwice(Wrapped):
    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        given = await super().post(connection, session_id, item)
        return given + await super().post(connection, session_id, item) if isinstance(item, Message) else given


class SendsAnswersTwice(Wrapped):
    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        if isinstance(item, Answer):
            await super().post(connection, session_id, item)
        return await super().post(connection, session_id, item)


class TrimsAnswers(Wrapped):
    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        if isinstance(item, Answer):
            blocks = tuple({**block, "text": block["text"].strip() or "."} for block in item.result.content)
            item = replace(item, result=replace(item.result, content=blocks))
        return await super().post(connection, session_id, item)


class LosesAnswers(Wrapped):
    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        if isinstance(item, Answer):
            await trio.sleep_forever()
        return await super().post(connection, session_id, item)


class SwallowsInterrupts(Wrapped):
    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        if isinstance(item, Interrupt):
            await trio.lowlevel.checkpoint()
            return []
        return await super().post(connection, session_id, item)


class ConfusesAnswers(Wrapped):
    """Each result goes to the call before its own."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self.earlier: list[Answer] = []

    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        if isinstance(item, Answer) and item.use.name == "t":
            self.earlier.append(item)
            if len(self.earlier) < 2:
                return []
            first, second = self.earlier
            await super().post(connection, session_id, Answer(first.use, second.result))
            item = Answer(second.use, first.result)
            self.earlier.clear()
        return await super().post(connection, session_id, item)


class CallsErrorsSuccess(Wrapped):
    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        if isinstance(item, Answer):
            item = replace(item, result=replace(item.result, is_error=False))
        return await super().post(connection, session_id, item)


class TakesRefusalsForGood(Wrapped):
    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        try:
            return await super().post(connection, session_id, item)
        except maa.RateLimitError as error:
            raise maa.InvalidRequestError("refused", status=400) from error


class RepeatsItself(Wrapped):
    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        with suppress(maa.RateLimitError):
            return await super().post(connection, session_id, item)
        await trio.sleep(0.1)
        return await super().post(connection, session_id, item)


class RepeatsWhatMayHaveArrived(Wrapped):
    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        with suppress(maa.TransportError):
            return await super().post(connection, session_id, item)
        return await super().post(connection, session_id, item)


class PostsUnderAShield(Wrapped):
    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        with trio.CancelScope(shield=True):
            return await super().post(connection, session_id, item)


class LeavesATask(Wrapped):
    async def post(self, connection: Any, session_id: str, item: Input) -> list[Event]:
        trio.lowlevel.spawn_system_task(trio.sleep_forever)
        return await super().post(connection, session_id, item)


class ChecksNothing(Wrapped):
    def check_input(self, item: Input) -> None:
        pass


class LeavesNothing(Wrapped):
    async def leave(self, connection: Any, session_id: str, how: str) -> None:
        await trio.lowlevel.checkpoint()


# --- what the provider says is taken for something else ---------------------------------------------------------------


class CountsTwice(Wrapped):
    def classify(self, event: Event) -> Any:
        fact = super().classify(event)
        if isinstance(fact, Spent):
            return Spent({key: 2 * value if isinstance(value, int) else value for key, value in fact.usage.items()})
        return fact


class CountsNoCaches(Wrapped):
    def classify(self, event: Event) -> Any:
        fact = super().classify(event)
        if isinstance(fact, Spent):
            return Spent({key: value for key, value in fact.usage.items() if "cache" not in key})
        return fact


class RunsTheProvidersCalls(Wrapped):
    def classify(self, event: Event) -> Any:
        fact = super().classify(event)
        return Called(replace(fact.use, kind="custom")) if isinstance(fact, Called) else fact


class LosesInputs(Wrapped):
    def classify(self, event: Event) -> Any:
        fact = super().classify(event)
        return Called(replace(fact.use, input={})) if isinstance(fact, Called) else fact


class ConfusesCalls(Wrapped):
    """Calls that look the same are taken for the same."""

    def classify(self, event: Event) -> Any:
        fact = super().classify(event)
        return Called(replace(fact.use, id=str(fact.use.input))) if isinstance(fact, Called) else fact


class TrimsText(Wrapped):
    def classify(self, event: Event) -> Any:
        fact = super().classify(event)
        return Said(tuple(text.strip() for text in fact.texts)) if isinstance(fact, Said) else fact


class HidesFailures(Wrapped):
    def classify(self, event: Event) -> Any:
        return super().classify({**event, "type": "other"} if event["type"] == "session.error" else event)


class LosesStopReasons(Wrapped):
    def classify(self, event: Event) -> Any:
        hidden = {"stop_reason": {"type": "end_turn"}} if "max_tokens" in str(event) else {}
        return super().classify({**event, **hidden})


# --- what the module says of itself, or of its options ----------------------------------------------------------------


class TakesAnyOption(Wrapped):
    def parse_options(self, options: Event) -> Any:
        return self.module.parse_options({key: value for key, value in options.items() if key != "no_such_option"})


class SendsWhatItCannot(Wrapped):
    """It says that it has no outcomes and no confirmations, and sends them."""

    CAPABILITIES = Capabilities(outcomes=False, confirmations=False)


class StartsAnew(Wrapped):
    """A session that is to be resumed is made once more."""

    def __init__(self, module: Any) -> None:
        super().__init__(module)
        self.new: Event = {}

    def parse_options(self, options: Event) -> Any:
        if "agent" in options:
            self.new = {name: value for name, value in options.items() if name != "session_id"}
        return self.module.parse_options(self.new or options)


class MakesTwoSessions(Wrapped):
    async def establish(self, connection: Any) -> str:
        await self.module.establish(connection)
        session_id: str = await self.module.establish(connection)
        return session_id


class LosesMetadata(Wrapped):
    def metadata(self, options: Any) -> Event:
        return {}


class AlwaysRests(Wrapped):
    async def read_status(self, connection: Any, session_id: str) -> str | None:
        await trio.lowlevel.checkpoint()
        return "idle"


class AlwaysWorks(AlwaysRests):
    async def read_status(self, connection: Any, session_id: str) -> str | None:
        await trio.lowlevel.checkpoint()
        return "running"


class TellsNoStatus(AlwaysRests):
    async def read_status(self, connection: Any, session_id: str) -> str | None:
        await trio.lowlevel.checkpoint()
        return None
