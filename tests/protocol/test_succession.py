"""A machine that takes the place of another one reads the log again and comes to every conclusion anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pytest

from managed_agents_actors import ActorGone, ServerError, SessionResult, StreamLost, ToolResult
from managed_agents_actors._model import Event
from managed_agents_actors._protocol import effects as fx
from managed_agents_actors._protocol import mail as m
from managed_agents_actors._protocol.claude_events import classify
from managed_agents_actors._protocol.session_machine import TEXT_DELTA, MachineSettings, SessionMachine

E = TypeVar("E")
LOST = StreamLost("cut")


def event(kind: str, event_id: str, **fields: Any) -> Event:
    return {"type": kind, "id": event_id, "processed_at": f"2026-11-22T00:00:{event_id[1:]:0>2}Z", **fields}


def message(event_id: str, said: str) -> Event:
    return event("user.message", event_id, content=[{"type": "text", "text": said}])


def says(event_id: str, said: str) -> Event:
    return event("agent.message", event_id, content=[{"type": "text", "text": said}])


def call(event_id: str) -> Event:
    return event("agent.custom_tool_use", event_id, name="lookup", input={})


def answer(event_id: str, call_id: str) -> Event:
    return event("user.custom_tool_result", event_id, custom_tool_use_id=call_id, content=[])


def running(event_id: str) -> Event:
    return event("session.status_running", event_id)


def spent(event_id: str) -> Event:
    return event("span.model_request_end", event_id, model_usage={"input_tokens": 3, "output_tokens": 2})


def idle(event_id: str, reason: str = "end_turn", *named: str) -> Event:
    ids = {"event_ids": list(named)} if named else {}
    return event("session.status_idle", event_id, stop_reason={"type": reason, **ids})


class Line:
    """Machines that follow each other, and everything they have asked for."""

    def __init__(self, **options: Any) -> None:
        self.settings = MachineSettings(**options)
        self.machine = SessionMachine(self.settings, classify)
        self.effects: list[fx.Effect] = list(self.machine.start())
        self.generation = 0

    def tell(self, mail: m.Mail) -> list[fx.Effect]:
        effects = self.machine.receive(mail)
        self.effects += effects
        return effects

    def open(self, *history: Event) -> Line:
        self.tell(m.Opened("sesn_1", blank=not self.settings.resumed))
        return self.read(*history)

    def read(self, *pages: Event | Sequence[Event]) -> Line:
        """Attach, and read the listing if one was asked for; a page may be a single event."""
        attach = self.of(fx.Attach)[-1]
        self.generation = attach.generation
        self.tell(m.Attached(self.generation))
        if attach.read_history:
            for page in pages:
                self.tell(m.History(self.generation, [page] if isinstance(page, dict) else page))
            self.tell(m.HistoryRead(self.generation))
        return self

    def live(self, *events: Event) -> list[fx.Effect]:
        return self.tell(m.Live(self.generation, events))

    def ask(self, said: str = "hi", token: int = 1) -> Line:
        self.tell(m.Say(m.Message(said), result=token))
        return self

    def accept(self, *echo: Event) -> list[fx.Effect]:
        """Let the provider take what was posted last."""
        return self.tell(m.Posted(self.of(fx.Post)[-1].post_id, echo))

    def crash(self) -> list[fx.Effect]:
        """Let another machine take over; give what it begins with."""
        handover = self.machine.hand_over()
        assert handover is not None
        settings = replace(self.settings, resumed=True, kickoff=None, kickoff_token=None)
        self.machine = SessionMachine(settings, classify, handover)
        effects = list(self.machine.start())
        self.effects += effects
        return effects

    def of(self, kind: type[E]) -> list[E]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def results(self) -> list[SessionResult]:
        return [effect.result for effect in self.of(fx.Announce)]

    @property
    def posted(self) -> list[m.Input]:
        return [effect.input for effect in self.of(fx.Post)]

    @property
    def shown(self) -> list[Event]:
        events = [shown for effect in self.of(fx.Deliver) for shown in effect.events]
        return [shown for shown in events if shown["type"] != TEXT_DELTA]

    @property
    def deltas(self) -> str:
        return "".join(e["text"] for effect in self.of(fx.Deliver) for e in effect.events if e["type"] == TEXT_DELTA)

    def run(self) -> list[str]:
        return [effect.use.id for effect in self.of(fx.RunTool)]


def done(call_id: str) -> ToolResult:
    return ToolResult(tool_use_id=call_id, content=({"type": "text", "text": "ok"},))


# --- reading again ----------------------------------------------------------------------------------------------------

LOG = [
    running("e1"),
    message("e2", "hi"),
    says("e3", "Let me see."),
    call("e4"),
    call("e5"),
    spent("e6"),
    idle("e7", "requires_action", "e4", "e5"),
    answer("e8", "e4"),
    answer("e9", "e5"),
    running("e10"),
    says("e11", "Done."),
    spent("e12"),
    idle("e13"),
]


def test_it_attaches_under_a_new_number_and_reads_the_whole_log() -> None:
    line = Line().open().ask()
    assert line.generation == 1
    assert line.crash()[-1] == fx.Attach(2, read_history=True)


def test_nothing_is_posted_before_the_log_is_read() -> None:
    line = Line().open()
    line.crash()
    line.ask()
    line.tell(m.Attached(2))
    line.tell(m.History(2, []))
    assert line.posted == []
    line.tell(m.HistoryRead(2))
    assert line.posted == [m.Message("hi")]


@pytest.mark.parametrize("met", range(len(LOG)))
def test_wherever_it_takes_over_it_comes_to_the_same(met: int) -> None:
    undisturbed = Line().open().ask()
    undisturbed.accept()
    undisturbed.live(*LOG)
    (expected,) = undisturbed.results
    for listed in range(met, len(LOG) + 1):  # what happened meanwhile is in the listing
        line = Line().open().ask()
        line.accept()
        line.live(*LOG[:met])
        line.crash()
        line.read(LOG[:listed])
        line.live(*LOG[listed:])
        assert line.results == [expected], listed
        assert line.shown == LOG, listed
        assert line.deltas == expected.text, listed
        assert [post for post in line.posted if isinstance(post, m.Message)] == [m.Message("hi")]


@pytest.mark.parametrize("met", range(len(LOG)))
def test_a_second_one_may_take_over_while_the_first_reads(met: int) -> None:
    for read in range(met + 1):
        line = Line().open().ask()
        line.accept()
        line.live(*LOG[:met])
        line.crash()
        line.tell(m.Attached(2))
        line.tell(m.History(2, LOG[:read]))
        line.crash()
        line.read(LOG[:met])
        line.live(*LOG[met:])
        (result,) = line.results
        assert (list(result.events), result.text, result.turns) == (LOG, "Let me see.\nDone.", 2), read
        assert (line.shown, line.deltas) == (LOG, result.text), read


def test_a_listing_that_breaks_off_is_read_again() -> None:
    line = Line().open().ask()
    line.accept()
    line.live(*LOG[:7])
    line.crash()
    line.tell(m.Attached(2))
    line.tell(m.History(2, LOG[:5]))
    line.tell(m.Detached(2, LOST))
    line.tell(m.TimerFired("reconnect"))
    line.read(*LOG)
    (result,) = line.results
    assert (list(result.events), line.shown) == (LOG, LOG)


def test_the_past_of_a_session_that_existed_before_stays_past() -> None:
    past = [message("e1", "old"), running("e2"), says("e3", "older"), idle("e4")]
    line = Line(resumed=True)
    line.tell(m.Opened("sesn_1", blank=False))
    line.tell(m.Attached(1))
    line.tell(m.History(1, past[:2]))
    line.ask()
    line.crash()
    line.read(past)
    assert (line.results, line.shown) == ([], past)
    line.accept()
    line.live(message("e5", "hi"), running("e6"), says("e7", "new"), idle("e8"))
    assert [result.text for result in line.results] == ["new"]


# --- what was on its way ----------------------------------------------------------------------------------------------


def test_a_message_that_the_log_shows_was_taken() -> None:
    line = Line().open().ask()
    line.crash()
    line.read(message("e1", "hi"), running("e2"), says("e3", "yes"), idle("e4"))
    assert line.posted == [m.Message("hi")]
    assert [result.text for result in line.results] == ["yes"]


def test_a_message_that_the_log_does_not_show_goes_out_again_after_a_look() -> None:
    line = Line().open().ask()
    (backoff,) = [effect for effect in line.crash() if isinstance(effect, fx.Backoff)]
    line.read()
    assert line.posted == [m.Message("hi")]  # it may be taken yet: its connection has only just gone
    line.tell(m.TimerFired(backoff.key))
    assert line.of(fx.Look)
    line.tell(m.Looked([], "idle"))
    assert line.posted == [m.Message("hi"), m.Message("hi")]


def test_the_same_message_twice_is_told_apart() -> None:
    line = Line().open().ask("again", 1).ask("again", 2)
    line.accept()
    first = [message("e1", "again"), running("e2"), says("e3", "one"), idle("e4")]
    line.live(*first)
    line.crash()
    line.read(*first)
    assert [result.text for result in line.results] == ["one"]
    line.tell(m.TimerFired(("post", line.of(fx.Post)[-1].post_id)))
    line.tell(m.Looked(first, "idle"))
    assert line.posted == [m.Message("again")] * 3
    line.accept()
    line.live(message("e5", "again"), running("e6"), says("e7", "two"), idle("e8"))
    assert [result.text for result in line.results] == ["one", "two"]


def test_an_answer_that_was_not_sent_is_in_the_journal_and_not_in_the_estate() -> None:
    line = Line().open().ask()
    line.accept()
    log = [message("e1", "hi"), running("e2"), call("e3"), idle("e4", "requires_action", "e3")]
    line.live(*log)
    line.tell(m.Detached(line.generation, LOST))
    line.tell(m.ToolFinished("e3", done("e3")))
    line.crash()
    line.read(log)
    assert line.run() == ["e3", "e3"]  # whoever runs it knows whether it has run
    line.tell(m.ToolFinished("e3", done("e3")))
    assert [type(post) for post in line.posted] == [m.Message, m.Answer]


@pytest.mark.parametrize("taken", [False, True])
def test_an_answer_that_was_perhaps_taken_is_looked_up_before_it_is_sent_again(taken: bool) -> None:
    line = Line().open().ask()
    line.accept()
    log = [message("e1", "hi"), running("e2"), call("e3"), idle("e4", "requires_action", "e3")]
    line.live(*log)
    line.tell(m.ToolFinished("e3", done("e3")))
    post = line.of(fx.Post)[-1]
    (backoff,) = [effect for effect in line.crash() if isinstance(effect, fx.Backoff)]
    line.read(log)
    assert line.run() == ["e3"], "its result is in hand"
    assert line.posted[-1] is post.input, "and is not sent on a guess"
    line.tell(m.TimerFired(backoff.key))
    assert line.of(fx.Look)
    line.tell(m.Looked([*log, answer("e5", "e3")] if taken else log, "running" if taken else "idle"))
    assert [type(item) for item in line.posted] == [m.Message, m.Answer, *([] if taken else [m.Answer])]


def test_an_answer_that_the_log_shows_is_not_asked_for() -> None:
    line = Line().open().ask()
    line.accept()
    log = [message("e1", "hi"), running("e2"), call("e3")]
    line.live(*log)
    line.tell(m.ToolFinished("e3", done("e3")))
    line.crash()
    line.read(*log, answer("e4", "e3"))
    assert line.run() == ["e3"]
    assert [type(post) for post in line.posted] == [m.Message, m.Answer]


@pytest.mark.parametrize("cut", [False, True])
def test_an_interrupt_is_sent_again_if_there_is_still_something_to_cut_short(cut: bool) -> None:
    line = Line().open().ask()
    line.accept()
    log = [message("e1", "hi"), running("e2"), call("e3")]
    line.live(*log)
    line.tell(m.InterruptWanted(2))
    line.crash()
    line.read(*log, *([event("user.interrupt", "e4"), idle("e5")] if cut else []))
    assert line.run() == ["e3"]
    assert [type(post) for post in line.posted][1:] == [m.Interrupt] * (1 if cut else 2)
    if not cut:
        line.accept()
    replies = [effect.token for effect in line.of(fx.Reply)]
    assert 2 in replies


# --- who waits --------------------------------------------------------------------------------------------------------


def test_everybody_who_waits_is_in_the_estate() -> None:
    line = Line().open().ask("one", 1).ask("two", 2)
    line.tell(m.Say(m.Message("three"), delivery=3, result=4))
    line.tell(m.SendEvent({"type": "user.interrupt"}, 5))
    handover = line.machine.hand_over()
    assert handover is not None
    assert handover.tokens() == {1, 2, 4, 5}
    assert [effect.token for effect in line.of(fx.Reply)] == [3]  # it was told that its message is queued


def test_those_who_wait_for_their_turn_have_it_in_order() -> None:
    line = Line().open().ask("one", 1).ask("two", 2).ask("three", 3)
    line.accept()
    line.crash()
    line.read(message("e1", "one"), running("e2"), says("e3", "1"), idle("e4"))
    assert line.posted == [m.Message("one"), m.Message("two")]
    line.crash()
    log = [message("e1", "one"), running("e2"), says("e3", "1"), idle("e4"), message("e5", "two"), running("e6")]
    line.read(log)
    line.live(says("e7", "2"), idle("e8"))
    assert line.posted == [m.Message("one"), m.Message("two"), m.Message("three")]
    assert [(effect.token, effect.value.text) for effect in line.of(fx.Reply)] == [(1, "1"), (2, "2")]


def test_without_a_session_there_is_nothing_to_take_over() -> None:
    assert Line(kickoff=m.Message("go")).machine.hand_over() is None


def test_of_one_that_has_ended_only_the_log_is_left() -> None:
    line = Line().open().ask("one", 1).ask("two", 2)
    queued = {**message("e1", "one"), "processed_at": None}
    line.accept(queued)
    line.live(queued)
    line.tell(m.StopWanted(ServerError("over", status=500)))
    assert {effect.token for effect in line.of(fx.ReplyError)} == {1, 2}
    handover = line.machine.hand_over()
    assert handover is not None
    assert (handover.tokens(), handover.active, handover.queue) == (set(), None, ())
    line.crash()
    line.read(message("e1", "one"), running("e2"), says("e3", "1"), idle("e4"))
    assert len(line.results) == 2
    line.ask("three", 3)
    assert line.posted[-1] == m.Message("three")


@pytest.mark.parametrize("echoed", [False, True])
def test_what_becomes_of_an_input_that_was_given_up_is_nobodys(echoed: bool) -> None:
    line = Line().open().ask("one", 1)
    line.accept(*([{**message("e1", "one"), "processed_at": None}] if echoed else []))
    line.tell(m.StopWanted())
    line.crash()
    log = [message("e1", "one"), running("e2"), says("e3", "1"), idle("e4")]
    line.read(log)
    assert [result.error.type for result in line.results if result.error] == ["ActorGone"]
    assert (len(line.results), line.shown) == (1, log)


def test_one_that_has_ended_refuses_and_its_successor_does_not() -> None:
    line = Line().open()
    line.tell(m.StopWanted())
    line.ask("one", 1)
    (refusal,) = line.of(fx.ReplyError)
    assert isinstance(refusal.error, ActorGone)
    line.crash()
    line.read()
    line.ask("two", 2)
    assert line.posted == [m.Message("two")]


# --- timers -----------------------------------------------------------------------------------------------------------


def test_the_deadline_of_the_request_in_progress_is_not_set_anew() -> None:
    line = Line(timeout=5.0).open().ask()
    line.accept()
    assert [effect.key for effect in line.of(fx.SetTimer) if effect.key == "deadline"] == ["deadline"]
    log = [message("e1", "hi"), running("e2"), call("e3")]
    line.live(*log)
    line.crash()
    line.read(log)
    assert [effect.key for effect in line.of(fx.SetTimer) if effect.key == "deadline"] == ["deadline"]
    line.tell(m.TimerFired("deadline"))
    assert [result.error.type for result in line.results if result.error] == ["SessionTimeout"]
    line.tell(m.TimerFired("deadline"))
    assert len(line.results) == 1
