"""The laws of what a provider cannot do: it is refused by a typed error, and nothing is sent.

What its ``CAPABILITIES`` say that it can do is tried instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import trio

from .._errors import ConfigurationError, ManagedAgentsError
from .._model import Outcome, ToolContext, ToolUse
from .._session.run import open_session, run_session
from ._expect import expect, expect_that
from ._provider_place import Place, ProviderLaws, law, open_talk, raised_by, told, tool
from ._script import ask, call_tool, grade, say, wait

GOAL = Outcome(description="A goal.", rubric="Met or not.")
EXITS: tuple[Literal["interrupt", "archive", "delete"], ...] = ("interrupt", "archive", "delete")
LEFT = {"leave": "working", "interrupt": "resting", "archive": "archived", "delete": "deleted"}
CONTENTS: tuple[Any, ...] = ("", [], None, 3, [{"text": "no type"}], ["text"])


class LimitLaws(ProviderLaws):
    """Capabilities, options and inputs."""

    @law
    async def test_an_outcome_is_graded_or_refused(self) -> None:
        """As ``CAPABILITIES.outcomes`` says, for ``outcome=`` and for ``ask``."""
        async with self.open_place([[say("Done."), grade("satisfied", "It is met.")]]) as place:
            if place.provider.CAPABILITIES.outcomes:
                result = await run_session(place.provider, handler=tool, outcome=GOAL, **place.options())
                outcome = result.outcome
                expect(None if outcome is None else (outcome.result, outcome.explanation), ("satisfied", "It is met."))
                return
            with _refused(place, "an outcome"):
                await run_session(place.provider, handler=tool, outcome=GOAL, **place.options())
        async with self.open_place(None) as place, open_talk(place) as talk:
            with _refused(place, "an outcome in a session"):
                await talk.session.ask(GOAL)
            await talk.still_works()

    @law
    async def test_a_confirmation_is_asked_for_or_refused(self) -> None:
        """As ``CAPABILITIES.confirmations`` says, for a handler with a policy and for ``confirm``."""
        async with self.open_place([[ask("shell", result="files"), say("Done.")]]) as place:
            handler = _Confirming()
            if place.provider.CAPABILITIES.confirmations:
                result = await run_session(place.provider, handler=handler, prompt="go", **place.options())
                expect((handler.asked, result.text, result.terminal), (["shell"], "Done.", "end_turn"))
                return
            with _refused(place, "a handler with a policy"):
                await run_session(place.provider, handler=handler, **place.options())
        async with self.open_place(None) as place, open_talk(place) as talk:
            with _refused(place, "a confirmation"):
                await talk.session.confirm("a call", "allow")
            await talk.still_works()

    @law
    async def test_a_way_to_leave_is_taken_or_refused(self) -> None:
        """As ``CAPABILITIES.exits`` says; the result is that of a session that is left as it is."""
        for how in EXITS:
            async with self.open_place([[call_tool("t"), say("Done.")]]) as place:
                if how not in place.provider.CAPABILITIES.exits:
                    with _refused(place, f"on_exit={how}"):
                        await run_session(place.provider, handler=tool, on_exit=how, **place.options())
                    continue
                result = await run_session(place.provider, handler=tool, prompt="go", on_exit=how, **place.options())
                expect((result.text, result.terminal, result.error), ("Done.", "end_turn", None), f"on_exit={how}")
                if place.state is not None:
                    expect(place.state(str(result.session_id)), LEFT[how], f"what has become of it by on_exit={how}")

    @law
    async def test_a_session_that_is_left_at_work_is_ended_as_asked(self) -> None:
        """In each of the ways of ``CAPABILITIES.exits``, seen from the provider's side; else it works on."""
        for how in ("leave", *EXITS):
            async with self.open_place([[say("begun"), wait(1_000.0)]]) as place:
                state = told(place.state, "what becomes of a session")
                if how not in (*place.provider.CAPABILITIES.exits, "leave"):
                    continue
                async with open_talk(place, on_exit=how) as talk:
                    await talk.session.message("go")
                    await trio.sleep(1.0)
                    expect(state(talk.session.session_id), "working", "what the session does")
                expect(state(talk.session.session_id), LEFT[how], f"what has become of it by on_exit={how}")

    @law
    async def test_a_session_is_watched_or_needs_a_prompt(self) -> None:
        """As ``CAPABILITIES.replay`` says: a resumed one that rests has nothing to show."""
        async with self.open_place([[call_tool("t"), say("Done.")]]) as place:
            async with open_talk(place) as talk:
                await talk.session.ask("go")
            resumed = place.resume(talk.session.session_id)
            if place.provider.CAPABILITIES.replay:
                result = await run_session(place.provider, handler=tool, **resumed)
                expect((result.session_id, result.turns), (talk.session.session_id, 0), "the session, and its turns")
            else:
                with _refused(place, "a resumed session without a prompt"):
                    await run_session(place.provider, handler=tool, **resumed)
            expect(list(place.messages(talk.session.session_id)), ["go"], "the messages")

    @law
    async def test_an_option_that_nobody_knows_is_named(self) -> None:
        """In a ``TypeError``, whatever else was given."""
        async with self.open_place(None) as place:
            for options in (place.options(), place.resume("x" * 40), {}):
                with _refused(place, "an unknown option", TypeError) as caught:
                    await run_session(place.provider, handler=tool, **{**options, "no_such_option": 1})
                expect_that("no_such_option" in str(caught[0]), f"{str(caught[0])!r} names the option")
                with _refused(place, "an unknown option", TypeError):
                    async with open_session(place.provider, handler=tool, **{**options, "no_such_option": 1}):
                        pass

    @law
    async def test_content_that_cannot_be_sent_is_refused(self) -> None:
        """As a prompt, a message or a question."""
        async with self.open_place(None) as place:
            for content in CONTENTS:
                if content is None:
                    continue  # a prompt of None is no prompt
                with _refused(place, f"the prompt {content!r}"):
                    await run_session(place.provider, handler=tool, prompt=content, **place.options())
            async with open_talk(place) as talk:
                for content in CONTENTS:
                    with _refused(place, f"the message {content!r}"):
                        await talk.session.message(content)
                    with _refused(place, f"the question {content!r}"):
                        await talk.session.ask(content)
                expect((await talk.still_works("fine")).text, "fine", "what is said after that")
                expect(list(place.messages(talk.session.session_id)), ["fine"], "the messages")

    @law
    async def test_an_event_that_the_provider_does_not_take_harms_nothing(self) -> None:
        """What is no event at all is refused here; one that nobody knows, here or by the provider."""
        async with self.open_place(None) as place, open_talk(place) as talk:
            with _refused(place, "an event without a type"):
                await talk.session.send_event({})
            with raised_by("an unknown event", ManagedAgentsError):
                await talk.session.send_event({"type": "made.up"})
            await talk.still_works()


class _Confirming:
    """A handler with a policy that allows everything."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def handle_tool_call(self, name: str, input: Mapping[str, Any], context: ToolContext) -> str:
        return await tool(name, input, context)

    async def handle_confirmation(self, use: ToolUse, _context: ToolContext) -> str:
        self.asked.append(use.name)
        return "allow"


@contextmanager
def _refused(place: Place, what: str, kind: type[BaseException] = ConfigurationError) -> Iterator[list[Any]]:
    """Expect a typed error, and that nothing was sent."""
    requests = place.requests()
    with raised_by(what, kind) as caught:
        yield caught
    expect(place.requests(), requests, f"requests before and after {what}")
