"""What every tool journal must do, as tests: subclass, say how a journal is opened, run the class under pytest-trio.

The library's own journals are held to the same classes. A failed expectation is an ``AssertionError`` that says what
was expected; nothing here needs pytest to be installed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import trio
import trio.testing

from .._errors import JournalError
from .._model import ToolResult, ToolUse
from .._session.journal import Journal, JournalEntry
from ._expect import expect

__all__ = ["DurableJournalSuite", "JournalSuite"]

LARGE_CHARS: Final = 1_000_000  # the longest text a session lets a result have
CONCURRENT: Final = 8  # tasks at once: the default number of tools a session runs

# Ids are the provider's: a journal may expect nothing of them.
ODD_IDS: Final = ("", "a b'\";--", "%_*", "nul\0", "\N{GRINNING FACE}", "\ud83d", "x" * 5_000)


class JournalSuite:
    """The laws of a journal, for a subclass that opens one.

    class TestMyJournal(JournalSuite):
        def open_journal(self):
            return open_my_journal()
    """

    def open_journal(self) -> AbstractAsyncContextManager[Journal]:
        """Open a journal that knows nothing yet; each test opens one."""
        raise NotImplementedError("a journal suite says how its journal is opened")

    async def test_a_call_is_begun_for_the_first_time(self) -> None:
        """The first attempt is 1, and there is nothing else to know."""
        async with self.open_journal() as journal:
            expect(await journal.begin("s", _use("c")), JournalEntry(attempt=1))

    async def test_each_beginning_of_a_call_without_a_result_is_another_attempt(self) -> None:
        """Whoever begins a call again can tell that it was cut off."""
        async with self.open_journal() as journal:
            attempts = [(await journal.begin("s", _use("c"))).attempt for _ in range(3)]
        expect(attempts, [1, 2, 3])

    async def test_a_call_with_a_result_is_not_begun_again(self) -> None:
        """The recorded result comes back, as often as it is asked for, and the attempt stays."""
        async with self.open_journal() as journal:
            await _run(journal, "s", "c")
            for _ in range(2):
                expect(await journal.begin("s", _use("c")), JournalEntry(attempt=1, result=_result("c")))

    async def test_the_first_result_stays(self) -> None:
        """A second result of a call is dropped: the first may have been sent."""
        async with self.open_journal() as journal:
            await _run(journal, "s", "c")
            await journal.finish("s", _result("c", "another"))
            expect((await journal.begin("s", _use("c"))).result, _result("c"))

    async def test_a_result_comes_back_as_it_was(self) -> None:
        """All of JSON, half a surrogate pair included; and whether it is an error."""
        content: tuple[dict[str, Any], ...] = (
            {"type": "text", "text": 'line\nquote" nul\0 \N{GRINNING FACE} \ud83d'},
            {"type": "x", "n": 2**80, "f": 0.1, "b": True, "none": None, "nested": {"list": [1, [2.5, {}]]}},
        )
        async with self.open_journal() as journal:
            for is_error in (False, True):
                result = ToolResult(tool_use_id=f"c{is_error}", content=content, is_error=is_error)
                await journal.begin("s", _use(result.tool_use_id))
                await journal.finish("s", result)
                expect((await journal.begin("s", _use(result.tool_use_id))).result, result)

    async def test_an_empty_result_is_a_result(self) -> None:
        """A call without content was run all the same."""
        result = ToolResult(tool_use_id="c", content=())
        async with self.open_journal() as journal:
            await journal.begin("s", _use("c"))
            await journal.finish("s", result)
            expect(await journal.begin("s", _use("c")), JournalEntry(attempt=1, result=result))

    async def test_a_large_result_is_kept(self) -> None:
        """The largest text a session lets through comes back whole."""
        async with self.open_journal() as journal:
            await _run(journal, "s", "c", "\N{SNOWMAN}" * LARGE_CHARS)
            found = (await journal.begin("s", _use("c"))).result
            expect(found == _result("c", "\N{SNOWMAN}" * LARGE_CHARS), wanted=True)

    async def test_a_result_of_a_call_that_never_began_is_refused(self) -> None:
        """It would mean that something ran unrecorded; nothing is recorded of it."""
        async with self.open_journal() as journal:
            await journal.begin("s", _use("other"))
            await journal.begin("another", _use("c"))
            await _refused(journal.finish, "s", _result("c"))
            expect(await journal.begin("s", _use("c")), JournalEntry(attempt=1))

    async def test_a_settled_call_is_not_begun_again(self) -> None:
        """Whether it had a result, was cut off, or runs right now: the provider has an answer."""
        async with self.open_journal() as journal:
            await _run(journal, "s", "done")
            await journal.begin("s", _use("cut off"))
            for call in ("done", "cut off"):
                await journal.settle("s", call)
                for _ in range(2):
                    entry = await journal.begin("s", _use(call))
                    expect((entry.settled, entry.attempt), (True, 1))

    async def test_a_call_that_never_began_can_be_settled(self) -> None:
        """Somebody else answered it; a listing that lags behind must not make it run here."""
        async with self.open_journal() as journal:
            await journal.settle("s", "c")
            expect(await journal.begin("s", _use("c")), JournalEntry(attempt=0, settled=True))
            await _refused(journal.finish, "s", _result("c"))

    async def test_settling_again_changes_nothing(self) -> None:
        """Every look at the history settles what it shows as answered."""
        async with self.open_journal() as journal:
            await _run(journal, "s", "c")
            await journal.settle("s", "c")
            once = await journal.begin("s", _use("c"))
            await journal.settle("s", "c")
            expect(await journal.begin("s", _use("c")), once)

    async def test_a_result_that_comes_after_its_call_was_settled_is_dropped(self) -> None:
        """The call was interrupted at the provider while it ran here; there is nobody left to tell."""
        async with self.open_journal() as journal:
            await journal.begin("s", _use("c"))
            await journal.settle("s", "c")
            await journal.finish("s", _result("c"))
            expect(await journal.begin("s", _use("c")), JournalEntry(attempt=1, settled=True))

    async def test_a_forgotten_session_is_as_if_it_had_never_been(self) -> None:
        """All of its calls are gone, the settled ones too; other sessions' are not."""
        async with self.open_journal() as journal:
            for session in ("s", "another"):
                await _run(journal, session, "done")
                await journal.begin(session, _use("cut off"))
                await journal.settle(session, "settled")
            await journal.forget("s")
            await journal.forget("nobody")
            found = {
                session: [(await journal.begin(session, _use(call))).attempt for call in ("done", "cut off", "settled")]
                for session in ("s", "another")
            }
            expect(found, {"s": [1, 1, 1], "another": [1, 2, 0]})
            await journal.forget("s")
            await _refused(journal.finish, "s", _result("cut off"))

    async def test_sessions_share_a_journal_but_no_calls(self) -> None:
        """A call is named by its session and its id together, whatever the two are made of."""
        async with self.open_journal() as journal:
            await _run(journal, "s", "c")
            await journal.settle("s", "settled")
            for session, call in (("another", "c"), ("another", "settled"), ("sc", ""), ("", "sc"), ("c", "s")):
                expect(await journal.begin(session, _use(call)), JournalEntry(attempt=1))

    async def test_ids_may_be_any_text(self) -> None:
        """Each is a call and a session of its own."""
        async with self.open_journal() as journal:
            for id_ in ODD_IDS:
                await _run(journal, id_, id_, text=ascii(id_))
            for id_ in ODD_IDS:
                entry = await journal.begin(id_, _use(id_))
                expect(entry, JournalEntry(attempt=1, result=_result(id_, ascii(id_))))
                await journal.settle(id_, id_)
                expect((await journal.begin(id_, _use(id_))).settled, wanted=True)
                await journal.forget(id_)
                expect(await journal.begin(id_, _use(id_)), JournalEntry(attempt=1))

    async def test_calls_that_begin_at_once_are_told_apart(self) -> None:
        """No two tasks are given the same attempt of a call."""
        attempts: list[int] = []

        async def begin(journal: Journal) -> None:
            attempts.append((await journal.begin("s", _use("c"))).attempt)

        async with self.open_journal() as journal, trio.open_nursery() as nursery:
            for _ in range(CONCURRENT):
                nursery.start_soon(begin, journal)
        expect(sorted(attempts), list(range(1, CONCURRENT + 1)))

    async def test_results_that_come_at_once_leave_one_for_good(self) -> None:
        """Whichever was first, all who ask are given the same."""
        texts = [str(number) for number in range(CONCURRENT)]
        async with self.open_journal() as journal:
            await journal.begin("s", _use("c"))
            async with trio.open_nursery() as nursery:
                for text in texts:
                    nursery.start_soon(journal.finish, "s", _result("c", text))
            found = [(await journal.begin("s", _use("c"))).result for _ in range(2)]
            expect(found[0] in [_result("c", text) for text in texts] and found[0] == found[1], wanted=True)

    async def test_every_method_is_a_checkpoint(self) -> None:
        """Also when there is nothing to write."""
        async with self.open_journal() as journal:
            for act in _each_method(journal) * 2:
                with trio.testing.assert_checkpoints():
                    await act()

    async def test_what_is_cancelled_was_not_written(self) -> None:
        """A caller that was cancelled can rely on it."""
        async with self.open_journal() as journal:
            await journal.begin("s", _use("c"))
            for act in _each_method(journal):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await act()
                expect(scope.cancelled_caught, wanted=True)
            expect(await journal.begin("s", _use("c")), JournalEntry(attempt=2))


class DurableJournalSuite(JournalSuite):
    """The laws of a journal that outlives its process: :meth:`open_journal` opens what the same test wrote before.

    class TestMyJournal(DurableJournalSuite):
        @pytest.fixture(autouse=True)
        def place(self, tmp_path):
            self.path = tmp_path / "calls"

        def open_journal(self):
            return open_my_journal(self.path)
    """

    async def test_what_was_recorded_is_known_after_opening_again(self) -> None:
        """Attempts, results and settled calls alike."""
        async with self.open_journal() as journal:
            await _run(journal, "s", "done")
            await journal.begin("s", _use("cut off"))
            await _run(journal, "s", "settled")
            await journal.settle("s", "settled")
            await journal.begin("forgotten", _use("c"))
            await journal.forget("forgotten")
        for attempt in (2, 3):
            async with self.open_journal() as journal:
                expect(await journal.begin("s", _use("done")), JournalEntry(attempt=1, result=_result("done")))
                expect(await journal.begin("s", _use("cut off")), JournalEntry(attempt=attempt))
                expect((await journal.begin("s", _use("settled"))).settled, wanted=True)
                expect(await journal.begin("forgotten", _use("c")), JournalEntry(attempt=attempt - 1))

    async def test_what_was_recorded_is_known_to_others_at_once(self) -> None:
        """Nothing waits for a journal to be closed: its process may die first."""
        async with self.open_journal() as first, self.open_journal() as second:
            await _run(first, "s", "c")
            expect((await second.begin("s", _use("c"))).result, _result("c"))
            await second.settle("s", "c")
            expect((await first.begin("s", _use("c"))).settled, wanted=True)

    async def test_a_closed_journal_says_so(self) -> None:
        """It neither hangs nor pretends to have recorded anything."""
        async with self.open_journal() as journal:
            await journal.begin("s", _use("c"))
        for act in _each_method(journal):
            await _refused(act)

    async def test_it_is_closed_in_a_cancelled_scope_too(self) -> None:
        """What was recorded until then is kept."""
        with trio.CancelScope() as scope:
            async with self.open_journal() as journal:
                await journal.begin("s", _use("c"))
                scope.cancel()
        await _refused(journal.begin, "s", _use("c"))
        async with self.open_journal() as journal:
            expect(await journal.begin("s", _use("c")), JournalEntry(attempt=2))


def _use(call: str) -> ToolUse:
    return ToolUse(id=call, name="t", input={})


def _result(call: str, text: str = "r") -> ToolResult:
    return ToolResult(tool_use_id=call, content=({"type": "text", "text": text},))


async def _run(journal: Journal, session: str, call: str, text: str = "r") -> None:
    await journal.begin(session, _use(call))
    await journal.finish(session, _result(call, text))


def _each_method(journal: Journal) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: journal.begin("s", _use("c")),
        lambda: journal.finish("s", _result("c")),
        lambda: journal.settle("s", "c"),
        lambda: journal.forget("s"),
    ]


async def _refused(function: Callable[..., Awaitable[object]], *args: Any) -> None:
    try:
        found = await function(*args)
    except JournalError:
        return
    raise AssertionError(f"expected a JournalError, found {ascii(found)[:500]}")
