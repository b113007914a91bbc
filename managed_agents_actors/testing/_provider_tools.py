"""The laws of tool calls: each runs once, whatever it is given and whatever it gives, and its result finds its call.

What the provider was sent is read from its side of the place, what the agent made of it from what the agent says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import trio

from .._errors import ToolError
from .._model import SessionResult, ToolContext, ToolOutput, ToolResult, ToolUse
from .._session.journal import JournalEntry, MemoryJournal
from .._session.run import run_session
from .._session.toolbox import Toolbox
from ._expect import expect, expect_that
from ._provider_place import Place, ProviderLaws, hang, law, open_talk, require, text_of, tool
from ._recording import RecordingHandler
from ._script import Turn, call_tool, call_tools, say

MANY = 12  # more calls in one turn than run at once
LONG = 5_000  # characters: events are read when all is over, and a live reader holds some thousands of them
ODD_INPUTS: Sequence[Mapping[str, Any]] = (
    {},
    {"": ""},
    {"\N{CYRILLIC SMALL LETTER YA}": "\N{GRINNING FACE} \u2028", "quote": '"\\\n\t'},
    {"nested": {"list": [1, [2.5, {"x": None}], True]}, "large": 2**53 - 1, "small": -1e-7},
    {"long": "x" * LONG},
)
ODD_OUTPUTS = (" ", "\n", "\N{GRINNING FACE} \N{CYRILLIC SMALL LETTER YA}\u2028", '{"json": "\\u0000"}', "x" * LONG)
NO_OUTPUT = "(no output)"
RECORDED = "as it was recorded"
DETAILS = "what only the log may have"


class ToolLaws(ProviderLaws):
    """How calls are run and answered."""

    @law
    async def test_results_find_their_calls_in_whatever_order_they_come(self) -> None:
        """Calls of one turn run at the same time; each answer names its call and has its text."""
        calls = [("t", {"n": n, "seconds": (n * 5) % MANY}) for n in range(MANY)]
        async with self.open_place(_repeating(*calls)) as place, open_talk(place, max_tool_concurrency=MANY) as talk:
            began = trio.current_time()
            result = await talk.session.ask("go")
            expect(trio.current_time() - began, max(given["seconds"] for _, given in calls), "seconds it took")
            texts = [f"t {n}" for n in range(MANY)]
            _check_answers(place, result, dict(zip(_ids(result), texts, strict=True)))
            expect(result.text, "|".join(texts), "what the agent was given, in the order of its calls")
            await talk.check(result)

    @law
    async def test_calls_run_in_their_order_under_the_limit(self) -> None:
        """No more at once than is allowed; those that wait start as the model ordered them."""
        calls = [("t", {"n": n, "seconds": 1.0}) for n in range(MANY)]
        async with self.open_place(_repeating(*calls)) as place, open_talk(place, max_tool_concurrency=2) as talk:
            result = await talk.session.ask("go")
            expect([call.input["n"] for call in talk.handler.calls], list(range(MANY)), "the order of the calls")
            expect([call.at - talk.handler.calls[0].at for call in talk.handler.calls], [n // 2 for n in range(MANY)])
            await talk.check(result)

    @law
    async def test_calls_in_one_turn_after_another(self) -> None:
        """Each round's answers go to its own calls, though all look the same."""
        script = [
            call_tool("t", {"n": 1}),
            say("One."),
            call_tool("t", {"n": 1}),
            call_tool("t", {"n": 1}),
            say("Two."),
        ]
        async with self.open_place([script]) as place, open_talk(place) as talk:
            result = await talk.session.ask("go")
            expect((result.text, result.last_text, result.turns), ("One.\nTwo.", "Two.", 4))
            expect(len(set(_ids(result))), 3, "how many ids the calls have")
            _check_answers(place, result, dict.fromkeys(_ids(result), "t 1"))
            expect([call.context.attempt for call in talk.handler.calls], [1, 1, 1], "attempts")
            await talk.check(result)

    @law
    async def test_any_input_comes_as_the_model_gave_it(self) -> None:
        """Empty, nested, long, in any script."""
        async with (
            self.open_place(_repeating(*(("t", given) for given in ODD_INPUTS))) as place,
            open_talk(place, _quietly) as talk,
        ):
            result = await talk.session.ask("go")
            expect([dict(call.input) for call in talk.handler.calls], list(ODD_INPUTS), "what the handler got")
            expect([dict(use.input) for use in result.custom_tool_uses], list(ODD_INPUTS), "what the result says")
            await talk.check(result)

    @law
    async def test_any_output_comes_as_the_tool_gave_it(self) -> None:
        """Odd text whole; an empty one as words that say so, since an empty result is none; several blocks in order."""
        blocks = ToolOutput(content=[{"type": "text", "text": "one"}, {"type": "text", "text": "two"}])
        outputs: list[Any] = [*ODD_OUTPUTS, "", None, blocks]

        async def give(_name: str, input: Mapping[str, Any], _context: ToolContext) -> Any:
            return outputs[input["n"]]

        async with (
            self.open_place(_repeating(*(("t", {"n": n}) for n in range(len(outputs))))) as place,
            open_talk(place, give) as talk,
        ):
            result = await talk.session.ask("go")
            told = [*ODD_OUTPUTS, NO_OUTPUT, NO_OUTPUT, "onetwo"]
            _check_answers(place, result, dict(zip(_ids(result), told, strict=True)))
            expect(result.text, "|".join(told), "what the agent was given")

    @law
    async def test_an_error_of_a_tool_is_an_answer(self) -> None:
        """The model is told that the call failed, of an unforeseen exception its type and nothing else; it goes on."""

        async def fail(name: str, _input: Mapping[str, Any], _context: ToolContext) -> Any:
            match name:
                case "raises":
                    raise ValueError(DETAILS)
                case "says":
                    raise ToolError("told on purpose")
                case "gives":
                    return ToolOutput(content="given back", is_error=True)
                case _:
                    return {"no": "text"}

        names = ("raises", "says", "gives", "none")
        async with (
            self.open_place(_repeating(*((name, {}) for name in names))) as place,
            open_talk(place, fail) as talk,
        ):
            result = await talk.session.ask("go")
            answers = _answers(place, result)
            expect([answers[call].is_error for call in _ids(result)], [True] * len(names), "whether each failed")
            raised, said, gave, _ = [text_of(answers[call]) for call in _ids(result)]
            expect_that("ValueError" in raised and DETAILS not in raised, f"{raised!r} names the type and no more")
            expect((said, gave), ("told on purpose", "given back"), "what the model was told")
            await talk.check(result)

    @law
    async def test_an_unknown_tool_is_an_error_that_names_it(self) -> None:
        """The request goes on, beside calls that are known."""

        async def known() -> str:
            """It is known."""
            return "known"

        async with (
            self.open_place([[call_tools(("known", {}), ("unheard_of", {})), say("Done.")]]) as place,
            open_talk(place, Toolbox([known])) as talk,
        ):
            result = await talk.session.ask("go")
            answers = _answers(place, result)
            first, second = [answers[call] for call in _ids(result)]
            expect((text_of(first), first.is_error, second.is_error), ("known", False, True))
            expect_that("unheard_of" in text_of(second), f"{text_of(second)!r} names the tool")
            expect((result.terminal, result.text), ("end_turn", "Done."))

    @law
    async def test_a_tool_that_takes_too_long_is_cancelled_and_answered(self) -> None:
        """After exactly its time, as an error; the request goes on."""
        async with (
            self.open_place([[call_tool("t"), say("Done.")]]) as place,
            open_talk(place, hang, tool_timeout=3.0) as talk,
        ):
            began = trio.current_time()
            result = await talk.session.ask("go")
            expect((trio.current_time() - began, talk.handler.finished), (3.0, []), "seconds, and calls that ended")
            (answer,) = _answers(place, result).values()
            expect((answer.is_error, "timed out" in text_of(answer)), (True, True), "the answer")
            expect((result.terminal, result.text), ("end_turn", "Done."))
            await talk.check(result)


class JournalLaws(ProviderLaws):
    """How a provider's calls go through ``journal=``."""

    @law
    async def test_a_call_whose_result_is_in_the_journal_is_not_run_again(self) -> None:
        """The provider gets the recorded one."""
        async with self.open_place([[call_tools(("a", {}), ("b", {})), say("Done.")]]) as place:
            journal = _Knowing()
            async with open_talk(place, journal=journal) as talk:
                result = await talk.session.ask("go")
                expect((talk.handler.calls, journal.finished), ([], []), "the calls that were run, and recorded")
                _check_answers(place, result, dict.fromkeys(_ids(result), RECORDED))
                await talk.check(result)

    @law
    async def test_every_call_is_settled_in_the_journal_once_it_is_answered(self) -> None:
        """Begun, finished, settled, each once; nothing of the result is kept."""
        journal = MemoryJournal()
        async with (
            self.open_place([[call_tools(("a", {}), ("b", {})), say("Done.")]]) as place,
            open_talk(place, journal=journal) as talk,
        ):
            result = await talk.session.ask("go")
        for use in result.custom_tool_uses:
            entry = await journal.begin(str(result.session_id), use)
            expect(entry, JournalEntry(attempt=1, settled=True), f"what the journal knows of {use.name}")

    @law
    async def test_a_call_that_was_cut_off_with_its_process_is_offered_again(self) -> None:
        """By a provider that can replay: with the same journal, as its next attempt, and answered once."""
        journal = MemoryJournal()
        async with self.open_place([[call_tool("a"), say("Done.")]]) as place:
            require(place.provider.CAPABILITIES.replay, "this provider cannot show what a session did before")
            async with open_talk(place, hang, journal=journal) as talk:
                await talk.session.message("go")
                await trio.sleep(1.0)
            handler = RecordingHandler(tool)
            resumed = place.resume(talk.session.session_id)
            result = await run_session(place.provider, handler=handler, journal=journal, **resumed)
            expect([call.context.attempt for call in handler.calls], [2], "attempts of the process that goes on")
            expect((result.text, result.terminal), ("Done.", "end_turn"))
            expect([text_of(answer) for answer in place.answers(talk.session.session_id)], ["a"], "the answers")


class _Knowing:
    """A journal that has the result of whatever is called; it keeps what is finished all the same."""

    def __init__(self) -> None:
        self.finished: list[ToolResult] = []

    async def begin(self, _session_id: str, use: ToolUse) -> JournalEntry:
        await trio.lowlevel.checkpoint()
        recorded = ToolResult(tool_use_id=use.id, content=({"type": "text", "text": RECORDED},))
        return JournalEntry(attempt=1, result=recorded)

    async def finish(self, _session_id: str, result: ToolResult) -> None:
        await trio.lowlevel.checkpoint()
        self.finished.append(result)

    async def settle(self, _session_id: str, _tool_use_id: str) -> None:
        await trio.lowlevel.checkpoint()

    async def forget(self, _session_id: str) -> None:
        await trio.lowlevel.checkpoint()


def _repeating(*calls: tuple[str, Mapping[str, Any]]) -> Any:
    """An agent that makes some calls at once, and says what it was given for them."""

    async def agent(turn: Turn) -> None:
        answers = await turn.call_tools(*calls)
        await turn.say("|".join(answer.text for answer in answers))

    return agent


async def _quietly(_name: str, _input: Mapping[str, Any], _context: ToolContext) -> str:
    return "ok"


def _ids(result: SessionResult) -> list[str]:
    return [use.id for use in result.custom_tool_uses]


def _answers(place: Place, result: SessionResult) -> dict[str, ToolResult]:
    """What the provider has got for each call, which must be one answer."""
    answers = place.answers(str(result.session_id))
    expect(sorted(answer.tool_use_id for answer in answers), sorted(_ids(result)), "the calls that were answered")
    return {answer.tool_use_id: answer for answer in answers}


def _check_answers(place: Place, result: SessionResult, texts: Mapping[str, str]) -> None:
    answers = _answers(place, result)
    expect(
        {call: (text_of(answer), answer.is_error) for call, answer in answers.items()},
        {call: (text, False) for call, text in texts.items()},
        "the answers",
    )
