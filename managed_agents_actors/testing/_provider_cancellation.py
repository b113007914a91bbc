"""The laws of cancellation: whatever is awaited is cancelled at moments spread over all of its course.

After each, no task is left, no stream is open, every request has had one terminal, and a session still works.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection
from typing import TypeAlias

import trio
from trio.testing import wait_all_tasks_blocked

from .._model import SessionResult
from .._session.handle import Session
from .._session.run import run_session
from ._expect import expect, expect_that
from ._provider_place import PATIENCE, Place, ProviderLaws, hang, open_talk, tool
from ._recording import RecordingHandler
from ._script import Script, call_tool, say
from ._virtual_time import run_in_virtual_time

# Moments at which a call is cancelled, spread evenly over its scheduling steps.
MOMENTS = 40

TOOL = [[call_tool("t", {"seconds": 0.0}), say("done")]]
HANGS = [[call_tool("t"), say("never")], [say("again")]]


class CancellationLaws(ProviderLaws):
    """What is left when a caller is cancelled."""

    def test_run_session_is_cancelled(self) -> None:
        """Its request has one terminal, and its message was sent once or not at all."""

        async def trial(place: Place, attempt: _Attempt) -> None:
            told, hears = trio.open_memory_channel[SessionResult](math.inf)
            options = {"handler": tool, "prompt": "go", "notify": told, **place.options()}
            await attempt.make(lambda: run_session(place.provider, **options))
            told.close()
            terminals = [result async for result in hears]
            expect(len(terminals), 1, "how many terminals were announced")
            (terminal,) = terminals
            expect(terminal.error is not None, terminal.terminal == "terminated", "an error in the terminal")
            if terminal.session_id is not None:
                expect_that(len(place.messages(terminal.session_id)) <= 1, "there is one message at most")

        self._sweep(TOOL, trial)

    def test_ask_is_cancelled(self) -> None:
        """What was sent goes on to its terminal, what was not is never sent, and the session works."""
        self._sweep_messages(lambda session: session.ask("go"))

    def test_message_is_cancelled(self) -> None:
        """What was sent goes on to its terminal, what was not is never sent, and the session works."""
        self._sweep_messages(lambda session: session.message("go"))

    def test_interrupt_is_cancelled(self) -> None:
        """It took effect or it did not; another one does, and the request has one terminal."""

        async def trial(place: Place, attempt: _Attempt) -> None:
            async with open_talk(place, hang) as talk:
                await talk.session.message("go")
                await wait_all_tasks_blocked()
                expect(len(talk.session.status().tools_running), 1, "tools that run")
                await attempt.make(talk.session.interrupt)
                await wait_all_tasks_blocked()
                await talk.session.interrupt()
                expect(talk.session.status().tools_running, (), "tools that run after it")
                await talk.still_works()
                expect(len(talk.hear()), 2, "terminals")
                expect(list(place.messages(talk.session.session_id)), ["go", "again"], "the messages")

        self._sweep(HANGS, trial)

    def test_a_session_is_left_by_cancellation(self) -> None:
        """Whatever it is doing: opening, asking, running a tool, waiting with a message, closing."""

        async def trial(place: Place, attempt: _Attempt) -> None:
            handler = RecordingHandler(tool)

            async def talk_and_leave() -> None:
                async with open_talk(place, handler) as talk:
                    await talk.session.message("go")
                    await talk.session.message("queued")
                    await talk.next_terminal()

            await attempt.make(talk_and_leave)
            expect_that(len(handler.calls) <= 1, "there is one call at most")

        self._sweep(TOOL, trial)

    def _sweep_messages(self, tell: Callable[[Session], Awaitable[object]]) -> None:
        """Cancel what sends a message, in a session of its own each time."""

        async def trial(place: Place, attempt: _Attempt) -> None:
            async with open_talk(place) as talk:
                await attempt.make(lambda: tell(talk.session))
                await talk.still_works()
                messages = list(place.messages(talk.session.session_id))
                expect_that(
                    messages in (["go", "again"], ["again"]), f"{messages} are what was sent, or what was sent after"
                )
                expect(len(talk.hear()), len(messages), "terminals for messages")

        self._sweep(TOOL, trial)

    def _sweep(self, script: Script, trial: _Trial) -> None:
        """Try without a cancellation, to count the steps of the call, then with one at many of them."""
        steps, _ = run_in_virtual_time(self._try, script, trial, None, patience=PATIENCE)
        cancelled = 0
        for step in range(0, steps, max(1, steps // MOMENTS)):
            _, was_cancelled = run_in_virtual_time(self._try, script, trial, step, patience=PATIENCE)
            cancelled += was_cancelled
        expect_that(cancelled, "something was cancelled")

    async def _try(self, script: Script, trial: _Trial, step: int | None) -> tuple[int, bool]:
        async with self.open_place(script) as place:
            of_place = tuple(trio.lowlevel.current_task().child_nurseries)
            before = _tasks(without=of_place)
            attempt = _Attempt(step)
            await trial(place, attempt)
            await wait_all_tasks_blocked()
            expect(place.open_streams(), 0, f"open streams after a cancellation at step {step}")
            left = [task.name for task in _tasks(without=of_place) - before]
            expect(left, [], f"tasks after a cancellation at step {step}")
        return attempt.steps, attempt.was_cancelled


class _Attempt(trio.abc.Instrument):
    """Makes a call, counts the scheduling steps of all tasks meanwhile, and cancels it at one of them."""

    def __init__(self, step: int | None) -> None:
        self._step = step
        self._scope = trio.CancelScope()
        self.steps = 0
        self.was_cancelled = False

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        if self.steps == self._step:
            self._scope.cancel()
        self.steps += 1

    async def make(self, call: Callable[[], Awaitable[object]]) -> None:
        """Await the call."""
        trio.lowlevel.add_instrument(self)
        try:
            with self._scope:
                await call()
        finally:
            trio.lowlevel.remove_instrument(self)
        self.was_cancelled = self._scope.cancelled_caught


_Trial: TypeAlias = Callable[[Place, _Attempt], Awaitable[None]]


def _tasks(*, without: Collection[trio.Nursery]) -> set[trio.lowlevel.Task]:
    """All tasks there are, but those of some nurseries."""
    root = trio.lowlevel.current_root_task()
    waiting = [] if root is None else [root]
    found = set()
    while waiting:
        task = waiting.pop()
        found.add(task)
        waiting += [
            child for nursery in task.child_nurseries if nursery not in without for child in nursery.child_tasks
        ]
    return found
