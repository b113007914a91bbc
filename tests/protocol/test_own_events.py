"""What a provider module says of its own accord: seen by the machine alone, and as good as an event of the provider."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from managed_agents_actors import SessionResult, StreamLost, ToolUse
from managed_agents_actors._model import Event
from managed_agents_actors._protocol import effects as fx
from managed_agents_actors._protocol import mail as m
from managed_agents_actors._protocol.converse import classify
from managed_agents_actors._protocol.facts import (
    RESTARTED,
    RUNNING,
    Answered,
    Broken,
    Called,
    Fact,
    Idled,
    PreviewText,
    Said,
    UserSpoke,
    own_event,
)
from managed_agents_actors._protocol.ledger import Ledger
from managed_agents_actors._protocol.session_machine import TEXT_DELTA, TURN_RESTARTED, MachineSettings, SessionMachine

BROKE = StreamLost("cut")
ENDED = Idled("end_turn", "end_turn", None)
HELLO = UserSpoke(({"type": "text", "text": "hi"},), taken=True)


class Machine:
    """A machine that is attached to a log, and everything it has asked for."""

    def __init__(self, machine: SessionMachine | None = None, log: list[Event] | None = None) -> None:
        self.machine = machine or SessionMachine(MachineSettings(), classify)
        self.log: list[Event] = [] if log is None else log
        self.ids = itertools.count(len(self.log))
        self.effects: list[fx.Effect] = list(self.machine.start())
        if machine is None:
            self.tell(m.Opened("s", blank=False))
        self.tell(m.Attached(self.machine.connection.generation))
        self.tell(m.History(self.machine.connection.generation, list(self.log)))
        self.tell(m.HistoryRead(self.machine.connection.generation))

    def tell(self, mail: m.Mail) -> None:
        self.effects += self.machine.receive(mail)

    def entries(self, *items: Fact | str) -> list[Event]:
        """Facts, and raw events that are named by their text."""
        found: list[Event] = []
        for item in items:
            number = str(next(self.ids))
            if isinstance(item, str):
                delta = {"contentBlockIndex": 0, "delta": {"text": item}}
                found.append({"type": "contentBlockDelta", "id": number, "contentBlockDelta": delta})
            else:
                found.append(own_event("m" if isinstance(item, Said) else number, item))
        self.log += found
        return found

    def live(self, *items: Fact | str) -> None:
        self.tell(m.Live(self.machine.connection.generation, self.entries(*items)))

    def ask(self) -> None:
        self.tell(m.Say(m.Message("hi"), result=1))
        (post,) = [effect for effect in self.effects if isinstance(effect, fx.Post)]
        spoken, began = self.entries(HELLO, RUNNING)
        self.tell(m.Posted(post.post_id, [spoken]))
        self.tell(m.Live(self.machine.connection.generation, [spoken, began]))

    def crash(self) -> Machine:
        handover = self.machine.hand_over()
        assert handover is not None
        return Machine(SessionMachine(MachineSettings(resumed=True), classify, handover), self.log)

    @property
    def shown(self) -> list[Any]:
        events = [event for effect in self.effects if isinstance(effect, fx.Deliver) for event in effect.events]
        return [event.get("text", event["type"]) if event["type"] == TEXT_DELTA else event["type"] for event in events]

    @property
    def results(self) -> list[SessionResult]:
        return [effect.result for effect in self.effects if isinstance(effect, fx.Announce)]


def test_nobody_is_shown_them_and_no_result_holds_them() -> None:
    machine = Machine()
    machine.ask()
    machine.live("raw", PreviewText("m", 0, "Hel"), PreviewText("m", 0, "lo"), Said(("Hello",)), ENDED)
    (result,) = machine.results
    assert machine.shown == ["contentBlockDelta", "Hel", "lo"]
    assert [event["type"] for event in result.events] == ["contentBlockDelta"]
    assert result.text == "Hello"
    assert [entry["role"] for entry in result.transcript] == ["user", "assistant"]


def test_work_that_breaks_off_ends_the_request_and_not_the_session() -> None:
    machine = Machine()
    machine.ask()
    machine.live("raw", PreviewText("m", 0, "Hel"), Broken(BROKE))
    (result,) = machine.results
    assert result.error is not None
    assert (result.error.exception, result.text, result.turns, result.resumable) == (BROKE, "Hel", 1, True)
    assert [effect.error for effect in machine.effects if isinstance(effect, fx.ReplyError)] == [BROKE]
    # Nothing is left there that could be interrupted.
    assert [effect.input for effect in machine.effects if isinstance(effect, fx.Post)] == [m.Message("hi")]
    machine.effects.clear()
    machine.ask()
    machine.live(ENDED)
    assert [result.terminal for result in machine.results] == ["end_turn"]


def test_a_call_is_cancelled_by_work_that_breaks_off() -> None:
    machine = Machine()
    machine.ask()
    machine.live(Called(ToolUse(id="c", name="t", input={})))
    assert machine.machine.tools_running == {"c"}
    machine.live(Broken(BROKE))
    assert fx.CancelTool("c") in machine.effects
    assert machine.machine.log.calls == {}


def test_work_that_is_restarted_leaves_nothing_in_the_result_and_is_told_to_who_watches() -> None:
    machine = Machine()
    machine.ask()
    machine.live("one", PreviewText("m1", 0, "Hel"), RESTARTED, "two", PreviewText("m2", 0, "Hi"), ENDED)
    (result,) = machine.results
    assert machine.shown == ["contentBlockDelta", "Hel", TURN_RESTARTED, "contentBlockDelta", "Hi"]
    assert result.text == "Hi"
    assert [event["contentBlockDelta"]["delta"]["text"] for event in result.events] == ["two"]


def test_what_came_before_the_last_beginning_stays() -> None:
    use = ToolUse(id="c", name="t", input={})
    machine = Machine()
    machine.ask()
    waits = Idled("requires_action", "tool_use", ("c",))
    machine.live("one", PreviewText("m1", 0, "So."), Called(use), waits, Answered("c", (), is_error=False), RUNNING)
    machine.live("two", PreviewText("m2", 0, "Hel"), RESTARTED, PreviewText("m3", 0, "Done."), ENDED)
    (result,) = machine.results
    assert (result.text, result.turns, result.custom_tool_uses) == ("So.\nDone.", 2, (use,))
    assert result.last_text == "Done."


@pytest.mark.parametrize("place", range(10))
def test_a_crash_anywhere_changes_nothing(place: int) -> None:
    use = ToolUse(id="c", name="t", input={})
    steps: list[Fact | str] = [
        *("raw", PreviewText("m1", 0, "He"), PreviewText("m1", 0, "y"), Called(use)),
        *(Idled("requires_action", "tool_use", ("c",)), Answered("c", (), is_error=False), RUNNING),
        *("more", PreviewText("m2", 0, "Bye"), ENDED),
    ]
    machine = Machine()
    machine.ask()
    machine.live(*steps[:place])
    before = machine.shown
    machine = machine.crash()
    machine.live(*steps[place:])
    (result,) = machine.results
    assert (result.text, result.turns, result.custom_tool_uses) == ("Hey\nBye", 2, (use,))
    assert [event["id"] for event in result.events] == [
        event["id"] for event in machine.log if event["type"] == "contentBlockDelta"
    ]
    assert [entry["role"] for entry in result.transcript] == ["user", "assistant", "user"]
    assert before + machine.shown == ["contentBlockDelta", "He", "y", "contentBlockDelta", "\nBye"]


def test_an_account_goes_back_to_where_the_session_last_began_to_run() -> None:
    ledger = Ledger()

    def absorb(*facts: Fact) -> None:
        for number, fact in enumerate(facts):
            event = {"type": "x", "id": str(number)}
            ledger.record(event)
            ledger.absorb(event, fact)

    absorb(HELLO, RUNNING, Said(("kept",)), RUNNING)
    kept = ledger.result("s", "end_turn", None)
    result = Answered("c", (), is_error=False)
    absorb(
        Said(("lost",)), Called(ToolUse(id="c", name="t", input={}, kind="builtin")), result, PreviewText("p", 0, "x")
    )
    ledger.absorb({}, RESTARTED)
    assert ledger.result("s", "end_turn", None) == kept
