"""The laws of a provider's module by itself: what its functions give and do, asked without a session's actor.

An actor forgives much: it reads again what it has not heard, and waits for what comes late. What it would have to
forgive is found here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import trio

from .._errors import ManagedAgentsError
from .._model import ToolContext
from .._session.run import run_session
from ..actors import plain_failures
from ..providers.contract import EventSource, Idled, Message, Provider
from ._expect import expect, expect_that
from ._fault_actions import Action, Delay, LoseAnswer, RefuseWith
from ._provider_place import Place, ProviderLaws, expect_log, faulted, law, open_talk, require, told, tool
from ._script import Turn, call_tool, say, wait

# Seconds that a server takes for what nobody waits for, and within which whatever is repeated would be.
LONG = 500.0
GO = Message("go")


class ModuleLaws(ProviderLaws):
    """What each function of the module gives, and how often it asks for it."""

    @law
    async def test_a_session_is_made_once(self) -> None:
        """Opening one makes one, whatever is asked of it then; resuming one makes none."""
        async with self.open_place(None) as place:
            sessions = told(place.sessions, "how many sessions it has")
            before = sessions()
            async with open_talk(place) as talk:
                for text in ("one", "two"):
                    await talk.session.ask(text)
            expect(sessions() - before, 1, "sessions that were made")
            resumed = place.resume(talk.session.session_id)
            await run_session(place.provider, handler=tool, prompt="three", **resumed)
            expect(sessions() - before, 1, "sessions after one was resumed")

    @law
    async def test_the_callers_metadata_is_in_every_context(self) -> None:
        """As it came with the provider options."""
        seen: list[Mapping[str, Any]] = []

        async def look(_name: str, _input: Mapping[str, Any], context: ToolContext) -> str:
            seen.append(context.metadata)
            return "seen"

        async with self.open_place([[call_tool("t"), say("Done.")]]) as place:
            require(place.metadata, "its options name no metadata")
            await run_session(place.provider, handler=look, prompt="go", **place.options())
            expect([{key: each.get(key) for key in place.metadata} for each in seen], [dict(place.metadata)])

    @law
    async def test_the_status_is_that_of_the_session(self) -> None:
        """At work from its message to its end, and at rest after that."""
        async with (
            self.open_place([[wait(5.0), say("Done.")]]) as place,
            _open(place) as module,
            module.stream() as source,
        ):
            await module.post()
            await trio.sleep(1.0)
            working = await module.status()
            await module.hear_the_end(source)
            with trio.move_on_after(1.0):
                while True:  # a provider may say that it is at work until all it has said is read
                    await source.receive_batch()
            resting = await module.status()
            if self.tells_status:
                expect_that(working in ("running", "rescheduling"), f"{working!r} says that it is at work")
                expect(resting, "idle", "the status at rest")
            else:
                expect((working, resting), (None, None), "the status that the provider does not tell")

    @law
    async def test_the_history_is_whole(self) -> None:
        """Of a provider that can replay: page after page, each event once and in order."""

        async def go_on(turn: Turn) -> None:
            for _ in range(self.history_page):
                await turn.think()

        async with self.open_place(go_on) as place:
            require(place.provider.CAPABILITIES.replay, "this provider cannot show what a session did before")
            sent = told(place.events, "what it has sent")
            async with _open(place) as module, module.stream() as source:
                await module.post()
                await module.hear_the_end(source)
                pages = module.provider.read_history(module.connection, module.session_id)
                listed, count = [], 0
                while (page := await pages.next_page()) is not None:
                    listed += page
                    count += 1
                expect_log(listed, sent(module.session_id))
                expect_that(
                    count > 1, f"{len(listed)} events are more than a page, of which history_page tells the size"
                )

    @law
    async def test_what_fails_is_not_sent_again_by_itself(self) -> None:
        """Whether and when to try again is for the session to decide, which knows what the failure means."""
        failures: tuple[Action, ...] = (RefuseWith(429, retry_after=3.0), RefuseWith(500), LoseAnswer())
        for failure in failures:
            plan = faulted(self.message_operation, failure, times=9)
            async with self.open_place(None, faults=plan) as place, _open(place) as module:
                before = place.requests()
                with suppress(ManagedAgentsError):
                    await module.post()
                await trio.sleep(LONG)
                expect(place.requests() - before, 1, f"requests for one message that met {failure!r}")

    @law
    async def test_what_is_under_way_is_given_up_with_its_caller(self) -> None:
        """A message that is being sent, a stream that is being attached to."""
        calls: tuple[tuple[str | None, _Call], ...] = (
            (self.message_operation, _Module.post),
            (self.stream_operation, _Module.attach),
        )
        for operation, call in calls:
            plan = faulted(operation, Delay(LONG))
            async with self.open_place(None, faults=plan) as place, _open(place) as module:
                began = trio.current_time()
                with suppress(ManagedAgentsError), trio.move_on_after(1.0):
                    await call(module)
                expect_that(trio.current_time() - began <= 1.0, f"{operation} ends when its caller is cancelled")
            expect(place.open_streams(), 0, "open streams")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Module:
    """A provider, a connection that it opened, and the session that it made there."""

    provider: Provider
    connection: Any
    session_id: str

    async def post(self) -> None:
        """Send a message."""
        await self.provider.post(self.connection, self.session_id, GO)

    async def status(self) -> str | None:
        """Ask for the status."""
        return await self.provider.read_status(self.connection, self.session_id)

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[EventSource]:
        """Attach to the session's events."""
        async with self.provider.open_stream(self.connection, self.session_id) as source:
            yield source

    async def attach(self) -> None:
        """Attach to the session's events and leave them again."""
        async with self.stream():
            pass

    async def hear_the_end(self, source: EventSource) -> None:
        """Read events until the session rests."""
        while True:
            if any(isinstance(self.provider.classify(event), Idled) for event in await source.receive_batch()):
                return


_Call: TypeAlias = Callable[[_Module], Awaitable[None]]


@asynccontextmanager
async def _open(place: Place) -> AsyncIterator[_Module]:
    provider = place.provider
    with plain_failures():  # a connection may have a nursery
        async with provider.open_connection(provider.parse_options(place.options())) as connection:
            session_id = await provider.establish(connection)
            yield _Module(provider=provider, connection=connection, session_id=session_id)
