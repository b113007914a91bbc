"""The laws of live sessions: messages wait their turn, and whatever cuts a request short leaves one terminal.

What is cut short is cut at once, on this side and the provider's, and the session can be used afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import trio
from trio.testing import wait_all_tasks_blocked

from .._errors import ActorGone, MaxTurnsExceeded, SessionError, SessionTimeout, TurnHalted
from .._model import EventContext, Halt, Terminal, ToolContext, TurnResult
from ._expect import expect
from ._provider_place import ProviderLaws, Talk, hang, law, open_talk, raised_by, text_of, tool
from ._script import Turn, call_tool, call_tools, say, wait

NEVER = "never"
# Seconds: by then a session has asked whether its provider is at work, as it does after two minutes without news; a
# stream may be silent for longer.
QUIET = 280.0
# A turn that hangs in its tools, if they do, and the one after it.
HANGS = [[say("begun"), call_tools(("a", {}), ("b", {})), say(NEVER)], [say("Next.")]]


class LiveLaws(ProviderLaws):
    """What a session's methods do while requests are under way."""

    @law
    async def test_messages_wait_for_their_turn(self) -> None:
        """Each goes out when the request before it has ended, in order, and has its own terminal."""
        async with self.open_place([[wait(3.0), say("one")]]) as place, open_talk(place) as talk:
            await wait_all_tasks_blocked()
            sent = [await talk.session.message(text) for text in ("first", "second", "third")]
            expect(sent, ["delivered", "queued", "queued"], "what became of three messages")
            await trio.sleep(1.0)
            expect(list(place.messages(talk.session.session_id)), ["first"], "what the provider was told by then")
            expect(talk.session.status().queued_messages, 2, "how many wait")
            results = [await talk.next_terminal() for _ in range(3)]
            expect([result.text for result in results], ["one", "second", "third"], "the terminals' texts")
            expect(list(place.messages(talk.session.session_id)), ["first", "second", "third"], "the messages")
            await talk.check(*results)

    @law
    async def test_everybody_gets_their_own_answer(self) -> None:
        """Whoever asks while others do."""
        answers: dict[str, str] = {}
        questions = ["one", "two", "three", "four", "two "]
        async with self.open_place(_echo_slowly) as place, open_talk(place) as talk:
            async with trio.open_nursery() as nursery:

                async def ask(question: str) -> None:
                    answers[question] = (await talk.session.ask(question)).text

                for question in questions:
                    nursery.start_soon(ask, question)
                    await wait_all_tasks_blocked()
            expect(answers, {question: question for question in questions}, "who was answered what")
            await talk.check(*talk.hear())

    @law
    async def test_what_its_caller_gave_up_is_never_sent(self) -> None:
        """Unless it was sent already: then its request goes on, and its terminal is announced."""
        async with self.open_place([[wait(3.0), say("one")], [say("two")]]) as place, open_talk(place) as talk:
            with trio.move_on_after(1.0):
                await talk.session.ask("sent")
            with trio.move_on_after(1.0):
                await talk.session.ask("given up")
            expect((await talk.next_terminal()).text, "one", "the text of what was sent")
            expect((await talk.session.ask("next")).text, "two", "the text of the request after it")
            expect(list(place.messages(talk.session.session_id)), ["sent", "next"], "the messages")

    @law
    async def test_nobody_who_is_slow_loses_anything(self) -> None:
        """A handler that takes its time over each event, and a subscriber who comes for it late."""
        async with (
            self.open_place([[say("one"), call_tool("t"), say("two")]]) as place,
            open_talk(place, _Slow()) as talk,
        ):
            results = [await talk.session.ask(text) for text in ("1", "2", "3")]
            expect([result.text for result in results], ["one\ntwo", "2", "3"], "the texts")
            await trio.sleep(100.0)
            await talk.check(*results)

    @law
    async def test_an_observer_that_fails_harms_nobody(self) -> None:
        """It is shown the next event all the same."""
        async with (
            self.open_place([[say("one"), call_tool("t"), say("two")]]) as place,
            open_talk(place, _Failing()) as talk,
        ):
            result = await talk.session.ask("go")
            expect((result.terminal, result.text, result.error), ("end_turn", "one\ntwo", None))
            await talk.check(result)

    @law
    async def test_a_provider_that_is_quiet_for_long_is_waited_for(self) -> None:
        """As long as it is at work: it is asked after a while, and what it says then ends nothing."""
        async with self.open_place([[wait(QUIET), say("Late.")]]) as place, open_talk(place) as talk:
            result = await talk.session.ask("go")
            expect((result.terminal, result.text, result.error), ("end_turn", "Late.", None), "its end")
            await talk.check(result)


class InterruptLaws(ProviderLaws):
    """What an interrupt does."""

    @law
    async def test_an_interrupt_cancels_the_tools_and_ends_the_request(self) -> None:
        """At once, with a terminal of its own; no result of the calls is made up, and the session goes on."""
        async with self.open_place(HANGS) as place, open_talk(place, hang) as talk:
            await talk.session.message("go")
            await trio.sleep(1.0)
            expect((len(talk.handler.calls), len(talk.session.status().tools_running)), (2, 2), "tools that run")
            began = trio.current_time()
            await talk.session.interrupt()
            expect(talk.session.status().tools_running, (), "tools that run after it")
            result = await talk.next_terminal()
            expect(trio.current_time(), began, "when its request ended")
            expect((result.terminal in get_args(Terminal), result.text), (True, "begun"), "its terminal")
            expect((result.error, result.resumable), (None, True), "its error, and whether the session goes on")
            expect((await talk.still_works()).text, "Next.", "the text of the next request")
            expect(list(place.messages(talk.session.session_id)), ["go", "again"], "the messages")
            answers = place.answers(talk.session.session_id)
            expect([text_of(answer) for answer in answers if not answer.is_error], [], "answers that are no errors")
            expect(len({answer.tool_use_id for answer in answers}), len(answers), "calls with an answer, and answers")
            expect(
                (len(talk.hear()), len(talk.handler.calls), talk.handler.finished), (2, 2, []), "terminals and calls"
            )

    @law
    async def test_an_interrupt_cuts_the_models_work(self) -> None:
        """What it had said is in the result; what it would have said is in none."""
        async with (
            self.open_place([[say("begun"), wait(5.0), say(NEVER)], [say("Next.")]]) as place,
            open_talk(place) as talk,
        ):
            await talk.session.message("go")
            await trio.sleep(1.0)
            began = trio.current_time()
            await talk.session.interrupt()
            result = await talk.next_terminal()
            expect((result.text, trio.current_time()), ("begun", began), "its text, and when it ended")
            expect((await talk.still_works()).text, "Next.", "the text of the next request")

    @law
    async def test_what_waits_goes_out_after_an_interrupt(self) -> None:
        """It cuts one request short, not those that wait."""
        async with self.open_place(HANGS) as place, open_talk(place, hang) as talk:
            await talk.session.message("go")
            expect(await talk.session.message("next"), "queued", "what became of the second message")
            await trio.sleep(1.0)
            await talk.session.interrupt()
            texts = [(await talk.next_terminal()).text for _ in range(2)]
            expect(texts, ["begun", "Next."], "the texts of the terminals")

    @law
    async def test_an_interrupt_of_a_session_that_rests_does_nothing(self) -> None:
        """Nothing is sent, and nothing is announced."""
        async with self.open_place(None) as place, open_talk(place) as talk:
            result = await talk.session.ask("go")
            await wait_all_tasks_blocked()
            requests = place.requests()
            await talk.session.interrupt()
            expect((place.requests(), talk.hear()), (requests, [result]), "requests, and terminals")
            await talk.still_works()


class EndingLaws(ProviderLaws):
    """How this side ends a request."""

    @law
    async def test_each_request_has_its_own_deadline(self) -> None:
        """It ends exactly then, with what had come; its tools are cancelled and the next request is not late."""
        async with self.open_place(HANGS) as place, open_talk(place, hang, timeout=3.0) as talk:
            await trio.sleep(10.0)
            began = trio.current_time()
            await _fails(talk, SessionTimeout)
            expect(trio.current_time() - began, 3.0, "seconds until it failed")
            await trio.sleep(10.0)
            expect((await talk.still_works()).text, "Next.", "the text of the next request")

    @law
    async def test_a_request_has_so_many_turns(self) -> None:
        """One that wants another is ended, and its tools with it."""
        async with self.open_place(HANGS) as place, open_talk(place, hang, max_turns=1) as talk:
            await _fails(talk, MaxTurnsExceeded)
            expect((await talk.still_works()).text, "Next.", "the text of the next request")

    @law
    async def test_a_guard_may_halt_a_request(self) -> None:
        """After any turn; it sees what had come until then."""
        seen: list[TurnResult] = []

        def guard(turn: TurnResult) -> Halt | None:
            seen.append(turn)
            return Halt(reason="enough") if turn.custom_tool_uses else None

        async with self.open_place(HANGS) as place, open_talk(place, hang, turn_guard=guard) as talk:
            error = await _fails(talk, TurnHalted)
            expect((getattr(error, "reason", None), len(seen)), ("enough", 1), "the reason, and turns that were seen")
            expect((seen[0].text, seen[0].turns, seen[0].session_id), ("begun", 1, talk.session.session_id))
            expect((await talk.still_works()).text, "Next.", "the text of the next request")
            expect([turn.turns for turn in seen], [1, 1], "the turns that the guard saw")

    @law
    async def test_stop_ends_everything_at_once(self) -> None:
        """The tool that runs, the request, the messages that wait: each request with one terminal, each caller told."""
        async with self.open_place(HANGS) as place, open_talk(place, hang) as talk:
            async with trio.open_nursery() as nursery:
                for text in ("busy", "queued"):
                    nursery.start_soon(_is_told_of_the_end, talk, text)
                    await trio.sleep(1.0)
                began = trio.current_time()
                await talk.session.stop()
                expect((trio.current_time(), talk.session.status().phase), (began, "closed"), "when it has stopped")
            told = [(result.terminal, result.error is not None) for result in talk.hear()]
            expect(told, [("terminated", True)] * 2, "the terminals")
            expect((len(talk.handler.calls), talk.handler.finished), (2, []), "calls that began, and that ended")
            expect(list(place.messages(talk.session.session_id)), ["busy"], "the messages")
            await wait_all_tasks_blocked()
            expect(place.open_streams(), 0, "open streams")
            await _is_told_of_the_end(talk, "too late")


class _Slow:
    """Takes a second over each event."""

    async def handle_tool_call(self, name: str, input: Mapping[str, Any], context: ToolContext) -> str:
        return await tool(name, input, context)

    async def handle_event(self, _event: Mapping[str, Any], _context: EventContext) -> None:
        await trio.sleep(1.0)


class _Failing(_Slow):
    """Fails to take any event."""

    async def handle_event(self, _event: Mapping[str, Any], _context: EventContext) -> None:
        raise RuntimeError("it takes none")


async def _echo_slowly(turn: Turn) -> None:
    await turn.wait(0.5)
    await turn.say(turn.text)


async def _is_told_of_the_end(talk: Talk, text: str) -> None:
    with raised_by("a request of a session that was stopped", ActorGone):
        await talk.session.ask(text)


async def _fails(talk: Talk, kind: type[SessionError]) -> SessionError:
    """Ask for what is to be ended here while its tools run; the error that is raised has the terminal's result."""
    with raised_by("a request that is ended here", kind) as caught:
        await talk.session.ask("go")
    error: SessionError = caught[0]
    expect(talk.hear(), [error.result], "the terminals")
    result = error.result
    expect((result.terminal, result.text, result.resumable), ("terminated", "begun", True), "its terminal")
    expect(None if result.error is None else result.error.type, kind.__name__, "the type of its error")
    await wait_all_tasks_blocked()
    expect((talk.session.status().tools_running, talk.handler.finished), ((), []), "calls that run, and that ended")
    return error
