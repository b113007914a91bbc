"""The laws of supervision: a session's actor crashes at every event and at many moments between.

Whenever it crashed, the requests end as if nothing had happened, and nothing is told, shown or done twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import trio
from trio.testing import wait_all_tasks_blocked

from .._errors import ActorGone
from .._model import EventContext, SessionResult
from .._session.handle import Session
from .._session.supervisor import open_supervisor
from ._crash import crash_session
from ._expect import expect, expect_that
from ._provider_place import PATIENCE, ProviderLaws, law, open_talk, text_of, tool
from ._recording import RecordingHandler
from ._script import builtin, call_tool, call_tools, say, think, wait
from ._virtual_time import run_in_virtual_time

# Nobody here means to exceed the intensity.
PLENTY = 1_000

TWO_TOOLS = [
    think(),
    say("Let me see.", chunks=["Let ", "me ", "see."], pace=0.1),
    builtin("shell"),
    call_tools(("a", {"n": 1}), ("b", {"n": 2, "seconds": 1.5})),
    wait(0.5),
    say("Done.", chunks=["Do", "ne."], pace=0.1),
]
CONVERSATION = [TWO_TOOLS, [call_tool("c"), say("Bye.")]]


class Defect(Exception):
    """What makes an actor crash."""


class CrashLaws(ProviderLaws):
    """What a supervised session does when its actor crashes."""

    def test_a_crash_at_any_event_changes_nothing(self) -> None:
        """Of a turn with two tools and the request after it; each tool is completed once, each answer given once."""
        calm = self._converse()
        for shown in range(1, calm.shown + 1):
            seen = self._converse(after=[shown], seed=shown)
            seen.expect_like(calm, f"a crash when {shown} events of {calm.shown} had been shown")

    def test_a_crash_at_any_moment_changes_nothing(self) -> None:
        """While the model works, while tools run, while the session rests, and twice in a row."""
        calm = self._converse()
        moments = [step / 4 + 0.05 for step in range(int(calm.took * 4) + 1)]
        for number, moment in enumerate(moments):
            seen = self._converse(at=[moment], seed=number)
            seen.expect_like(calm, f"a crash after {moment} seconds of {calm.took}")
            if number % 3 == 0:
                seen = self._converse(at=[moment, moment + 0.3], seed=number)
                seen.expect_like(calm, f"crashes after {moment} seconds of {calm.took} and soon after that")

    @law
    async def test_a_call_that_was_cut_off_by_a_crash_is_offered_again(self) -> None:
        """As its next attempt; one that had its result is not."""
        script = [[call_tools(("a", {"seconds": 0.5}), ("b", {"seconds": 2.0})), say("Done.")]]
        async with (
            self.open_place(script) as place,
            open_supervisor() as supervisor,
            open_talk(place, supervisor=supervisor) as talk,
        ):
            await talk.session.message("go")
            await trio.sleep(1.0)
            expect_that(_crash(talk.session), "there is an actor to crash")
            result = await talk.next_terminal()
            attempts = [(call.name, call.context.attempt) for call in talk.handler.calls]
            expect(attempts, [("a", 1), ("b", 1), ("b", 2)], "the calls and their attempts")
            answers = sorted(text_of(answer) for answer in place.answers(talk.session.session_id))
            expect((result.text, answers), ("Done.", ["a", "b"]), "the text, and the answers")
            await talk.check(result)

    @law
    async def test_a_session_that_crashed_while_it_rested_goes_on(self) -> None:
        """Nothing of before is told, shown or run once more."""
        async with (
            self.open_place(CONVERSATION) as place,
            open_supervisor() as supervisor,
            open_talk(place, supervisor=supervisor) as talk,
        ):
            first = await talk.session.ask("one")
            for _ in range(2):
                await trio.sleep(10.0)
                expect_that(_crash(talk.session), "there is an actor to crash")
            await trio.sleep(10.0)
            second = await talk.session.ask("two")
            expect((second.text, talk.session.status().restarts), ("Bye.", 2), "the text, and restarts")
            await talk.check(first, second)

    def _converse(self, *, at: Sequence[float] = (), after: Sequence[int] = (), seed: int = 0) -> _Course:
        """Hold a conversation, with crashes after so many seconds or events, in a virtual time of its own."""
        return run_in_virtual_time(self._hold, at, after, seed=seed, patience=PATIENCE)

    async def _hold(self, at: Sequence[float], after: Sequence[int]) -> _Course:
        handler = _Crashing(after)
        async with (
            self.open_place(CONVERSATION) as place,
            open_supervisor(max_restarts=PLENTY) as supervisor,
            open_talk(place, handler, supervisor=supervisor) as talk,
        ):
            handler.session = talk.session
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_crash_at, talk.session, [began + moment for moment in at])
                results = await _ask_all(talk.session, ("one", "two"))
                took = trio.current_time() - began
                await trio.sleep(1.0)  # for a crash that comes with the last event
                nursery.cancel_scope.cancel()
            restarts = talk.session.status().restarts
            await talk.check(*results)
            return _Course(
                accounts=[_account(result) for result in results],
                times_completed=sorted(Counter(handler.finished).values()),
                answers=sorted(text_of(answer) for answer in place.answers(talk.session.session_id)),
                messages=list(place.messages(talk.session.session_id)),
                shown=len(handler.events) + len(handler.deltas),
                restarts=restarts,
                took=took,
            )


@dataclass(frozen=True, kw_only=True)
class _Course:
    """What came of a conversation."""

    accounts: list[dict[str, Any]]
    times_completed: list[int]
    answers: list[str]
    messages: list[str]
    shown: int
    restarts: int
    took: float

    def expect_like(self, calm: _Course, of: str) -> None:
        """Expect that it came to the same as one without a crash."""
        expect_that(self.restarts, f"{of} has the actor replaced")
        expect(self.accounts, calm.accounts, f"{of}: the results")
        expect(self.times_completed, calm.times_completed, f"{of}: how often each call was completed")
        expect((self.answers, self.messages), (calm.answers, calm.messages), f"{of}: answers and messages")


class _Crashing(RecordingHandler):
    """Crashes the actor once so many events and deltas have been shown."""

    def __init__(self, after: Sequence[int]) -> None:
        super().__init__(tool)
        self._after = list(after)
        self.session: Session | None = None

    async def handle_event(self, event: dict[str, Any], context: EventContext) -> None:
        await super().handle_event(event, context)
        shown = len(self.events) + len(self.deltas)
        if self.session is not None and self._after and shown >= self._after[0]:
            self._after.pop(0)
            _crash(self.session)


def _crash(session: Session) -> bool:
    """Crash the session's actor; say whether there was one."""
    try:
        crash_session(session, Defect("on purpose"))
    except ActorGone:
        return False
    return True


async def _crash_at(session: Session, times: Sequence[float]) -> None:
    for at in times:
        await trio.sleep_until(at)
        _crash(session)


async def _ask_all(session: Session, questions: Sequence[str]) -> list[SessionResult]:
    """Ask everything at once, in order."""
    results: dict[str, SessionResult] = {}

    async def ask(question: str) -> None:
        results[question] = await session.ask(question)

    async with trio.open_nursery() as nursery:
        for question in questions:
            nursery.start_soon(ask, question)
            await wait_all_tasks_blocked()
    return [results[question] for question in questions]


def _account(result: SessionResult) -> dict[str, Any]:
    """What a result says, but for ids and times, which no two runs share."""
    return {
        "terminal": result.terminal,
        "text": result.text,
        "last_text": result.last_text,
        "turns": result.turns,
        "usage": (result.usage.input_tokens, result.usage.output_tokens),
        "custom_tool_uses": [(use.name, use.input) for use in result.custom_tool_uses],
        "server_tool_uses": [(use.name, use.input) for use in result.server_tool_uses],
        "events": [event["type"] for event in result.events],
        "error": None if result.error is None else result.error.type,
    }
