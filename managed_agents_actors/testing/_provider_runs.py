"""The laws of a provider's requests: how they end, what their results hold, what is shown meanwhile, how one resumes.

Each test plays one short script against the place of a subclass; nothing here knows whose provider it is.
"""

from __future__ import annotations

from typing import get_args

from .._errors import ManagedAgentsError
from .._model import SessionResult, Terminal
from .._session.run import run_session
from ._expect import expect, expect_that
from ._fault_actions import DropStream, RefuseWith
from ._provider_place import Place, ProviderLaws, Talk, faulted, law, open_talk, require, text_of, tool
from ._recording import RecordingHandler
from ._script import builtin, call_tool, call_tools, end, fail, say, spend, think

ROUND_TRIP = [
    spend(input_tokens=10, output_tokens=5, cache_read_input_tokens=3, cache_creation_input_tokens=1),
    say("Let me see."),
    call_tools(("a", {"n": 1}), ("b", {"n": 2})),
    say("Done."),
]
# Texts that a careless join or decoder changes.
ODD_TEXTS = [" lead", "a\nb\r\n", "\N{GRINNING FACE} \N{CYRILLIC SMALL LETTER YA}", 'quote" \\ nul \0 end', "trail "]
REFUSALS = 2  # in a row


class RequestLaws(ProviderLaws):
    """How a request ends and what its result holds."""

    @law
    async def test_a_request_runs_to_its_end(self) -> None:
        """Its result has the text, turns, calls, usage, events and transcript; the provider has message and answers."""
        async with self.open_place([ROUND_TRIP]) as place:
            handler = RecordingHandler(tool)
            result = await run_session(place.provider, handler=handler, prompt="go", **place.options())
            session_id = str(result.session_id)
            expect((result.terminal, result.error, result.resumable), ("end_turn", None, True), "the end")
            expect((result.text, result.last_text), ("Let me see.\nDone.", "Done."), "the text")
            expect([(use.name, use.input) for use in result.custom_tool_uses], [("a", {"n": 1}), ("b", {"n": 2})])
            expect((result.turns, result.server_tool_uses), (2, ()), "turns and the provider's own calls")
            usage = result.usage
            expect((usage.input_tokens, usage.output_tokens), (20, 10), "usage of two model requests")
            expect((usage.cache_read_input_tokens, usage.cache_creation_input_tokens), (6, 2), "what caches saved")
            expect(len(usage.raw), 2, "how many usage objects there are")
            expect(list(place.messages(session_id)), ["go"], "the messages")
            answers = sorted((answer.tool_use_id, text_of(answer)) for answer in place.answers(session_id))
            calls = [use.id for use in result.custom_tool_uses]
            expect(answers, sorted(zip(calls, ["a 1", "b 2"], strict=True)), "the answers")
            expect([event for event in handler.events if event in result.events], list(result.events), "the events")
            expect_that(result.events, "there are events")
            expect(
                {message["role"] for message in result.transcript}, {"user", "assistant"}, "who the transcript shows"
            )
            expect(place.open_streams(), 0, "open streams")

    @law
    async def test_every_event_is_recorded_once_and_shown_as_it_comes(self) -> None:
        """In server order, to the handler and to ``session.events()`` alike, each in the result of its request."""
        script = [[think(), *ROUND_TRIP], [builtin("shell"), think(), say("Bye.")], [call_tool("c"), say("Last.")]]
        async with self.open_place(script) as place, open_talk(place) as talk:
            await talk.check(*[await talk.session.ask(text) for text in ("one", "two", "three")])

    @law
    async def test_text_deltas_make_up_exactly_the_text(self) -> None:
        """Of several messages, in odd pieces, with pauses, calls and all of Unicode between."""
        for chunks in (None, ["", *"in", "", " pieces"]):
            script = [
                say("in pieces", chunks=chunks, pace=0.1),
                call_tool("a"),
                *map(say, ODD_TEXTS),
                think(),
                say("z"),
            ]
            async with self.open_place([script, script]) as place, open_talk(place) as talk:
                results = [await talk.session.ask(text) for text in ("one", "two")]
                whole = "\n".join(["in pieces", *ODD_TEXTS, "z"])
                expect([result.text for result in results], [whole] * 2, "the text")
                await talk.check(*results)

    @law
    async def test_each_request_has_an_account_of_its_own(self) -> None:
        """Text, usage, turns, calls and events of one are not those of another; the session stays the same."""
        script = [[*ROUND_TRIP], [spend(input_tokens=7, output_tokens=3), say("Second.")]]
        async with self.open_place(script) as place, open_talk(place) as talk:
            first, second = [await talk.session.ask(text) for text in ("one", "two")]
            expect((second.text, second.last_text, second.turns), ("Second.", "Second.", 1))
            expect((second.usage.input_tokens, second.usage.output_tokens), (7, 3), "usage of the second")
            expect((second.custom_tool_uses, second.server_tool_uses), ((), ()), "calls of the second")
            expect({first.session_id, second.session_id}, {talk.session.session_id}, "the session")
            expect(list(place.messages(talk.session.session_id)), ["one", "two"], "the messages")

    @law
    async def test_the_providers_own_calls_are_not_run_here(self) -> None:
        """They are told in ``server_tool_uses``; what stands between them is run as ever."""
        script = [builtin("shell", {"command": "ls"}, "files"), call_tool("a"), builtin("shell"), say("Done.")]
        async with self.open_place([script]) as place, open_talk(place) as talk:
            result = await talk.session.ask("go")
            expect([use.name for use in result.server_tool_uses], ["shell", "shell"], "the provider's calls")
            expect(result.server_tool_uses[0].input, {"command": "ls"}, "their input")
            expect([call.name for call in talk.handler.calls], ["a"], "the calls that were run here")
            expect([use.name for use in result.custom_tool_uses], ["a"], "the custom calls")
            expect(len(place.answers(talk.session.session_id)), 1, "how many answers the provider got")
            await talk.check(result)

    @law
    async def test_a_stop_reason_comes_as_the_provider_gave_it(self) -> None:
        """Its terminal is one of the three, its text is kept, and the session goes on."""
        async with (
            self.open_place([[say("So far"), end("max_tokens")], [say("Next.")]]) as place,
            open_talk(place) as talk,
        ):
            result = await talk.session.ask("go")
            expect_that("max_tokens" in str(result.stop_reason), f"{result.stop_reason!r} says max_tokens")
            expect((result.terminal in get_args(Terminal), result.text), (True, "So far"))
            await talk.check(result, await talk.still_works())

    @law
    async def test_a_failure_of_the_providers_ends_the_request_and_says_why(self) -> None:
        """As a result with an error, or as an exception; either way with one terminal, which holds what had come."""
        script = [[call_tool("a"), say("So far"), fail("model_overloaded_error")], [say("Next.")]]
        async with self.open_place(script) as place, open_talk(place) as talk:
            failed = await _failed(talk)
            expect((failed.error is not None, len(failed.custom_tool_uses)), (True, 1), "an error, and the calls")
            if failed.resumable:
                await talk.still_works()


class ResumeLaws(ProviderLaws):
    """How a session is taken up again, and what a provider's refusals and drops do to one."""

    @law
    async def test_a_session_is_resumed_by_its_id(self) -> None:
        """It is the same session: it goes on where it was, and nothing of before is told once more."""
        async with self.open_place([[call_tool("a"), say("One.")], [call_tool("b"), say("Two.")]]) as place:
            async with open_talk(place) as talk:
                first = await talk.session.ask("one")
            handler = RecordingHandler(tool)
            resumed = place.resume(str(first.session_id))
            second = await run_session(place.provider, handler=handler, prompt="two", **resumed)
            expect((second.session_id, second.text, second.terminal), (first.session_id, "Two.", "end_turn"))
            expect([call.name for call in handler.calls], ["b"], "the calls that were run")
            expect(list(place.messages(str(first.session_id))), ["one", "two"], "the messages")
            expect(len(place.answers(str(first.session_id))), 2, "how many answers the provider got")

    @law
    async def test_a_session_is_resumed_again_and_again(self) -> None:
        """Live, from one block to the next."""
        async with self.open_place(None) as place:
            async with open_talk(place) as talk:
                session_id = (await talk.session.ask("0")).session_id
            for number in ("1", "2"):
                async with open_talk(place, **place.resume(str(session_id))) as talk:
                    result = await talk.session.ask(number)
                    expect((result.text, result.session_id, talk.hear()), (number, session_id, [result]))

    @law
    async def test_a_message_that_is_refused_for_now_is_sent_again(self) -> None:
        """Whichever of a request's posts it is: the request ends as without, and nothing was taken twice."""
        require(self.message_operation, "this server plays no fault plans")
        async with self.open_place([ROUND_TRIP]) as place:
            calm = await _ask_once(place)
        for nth in (1, 2, 3):
            plan = faulted(self.message_operation, RefuseWith(429, retry_after=3.0), nth=nth, times=REFUSALS)
            async with self.open_place([ROUND_TRIP], faults=plan) as place:
                seen = await _ask_once(place)
            expect(seen, calm, f"a request whose posts from {nth} on are refused {REFUSALS} times")
            expect_that(len(plan.fired) == REFUSALS or nth > 1, "posts were refused")

    @law
    async def test_a_stream_that_drops_harms_its_request_at_most(self) -> None:
        """Nothing at all if the provider can replay; else it has one terminal, and the session takes the next one."""
        require(self.stream_operation, "this server plays no fault plans")
        # A call that was lost with its stream leaves a session without replay waiting for nobody knows what.
        talks = [say("Let me see."), say("Still."), say("Done.")]
        for after in (1, 3, 6):
            plan = faulted(self.stream_operation, DropStream(after_events=after))
            async with self.open_place([talks, [say("Next.")]], faults=plan) as place, open_talk(place) as talk:
                first = await _ended(talk)
                if place.provider.CAPABILITIES.replay:
                    expect((first.text, first.error), ("Let me see.\nStill.\nDone.", None), "the text, and an error")
                    await talk.check(first, await talk.still_works())
                else:
                    await talk.still_works()
            expect(len(plan.fired), 1, "how many streams were dropped")


async def _ask_once(place: Place) -> tuple[object, ...]:
    """One request, checked, and what came of it."""
    async with open_talk(place) as talk:
        result = await talk.session.ask("go")
        answers = {text_of(answer) for answer in place.answers(talk.session.session_id)}
        messages = list(place.messages(talk.session.session_id))
        expect(talk.hear(), [result], "the terminals that were announced")
    uses = [(use.name, use.input) for use in result.custom_tool_uses]
    calls = [call.name for call in talk.handler.calls]
    return result.terminal, result.text, result.turns, uses, calls, answers, messages


async def _ended(talk: Talk) -> SessionResult:
    """Ask; give the one terminal, whether it came as a result or as an exception."""
    try:
        result = await talk.session.ask("go")
    except ManagedAgentsError:
        (result,) = talk.hear()
        expect_that(result.error, "the terminal of a request that raised has an error")
    expect(talk.hear(), [result], "the terminals that were announced")
    return result


async def _failed(talk: Talk) -> SessionResult:
    result = await _ended(talk)
    expect(result.text, "So far", "the text until the failure")
    return result
