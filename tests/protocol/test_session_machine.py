"""The session machine by example: each law, and each way in which real servers were seen to differ."""

from __future__ import annotations

from typing import Any, TypeVar

import pytest

from managed_agents_actors import (
    ActorGone,
    AuthenticationError,
    InvalidRequestError,
    MaxTurnsExceeded,
    NotFoundError,
    OverloadedError,
    ProtocolError,
    RateLimitError,
    ServerError,
    SessionError,
    SessionGone,
    SessionResult,
    SessionTimeout,
    StreamLost,
    ToolResult,
    TurnHalted,
    UnresolvedRequiresAction,
)
from managed_agents_actors._errors import ManagedAgentsError
from managed_agents_actors._model import Event, Halt
from managed_agents_actors._protocol import effects as fx
from managed_agents_actors._protocol import mail as m
from managed_agents_actors._protocol.claude_events import classify
from managed_agents_actors._protocol.session_machine import TEXT_DELTA, MachineSettings, SessionMachine

E = TypeVar("E")
LOST = StreamLost("cut")
GATE = {"evaluated_permission": "ask"}


def event(kind: str, event_id: str, processed: str | None = "t", **fields: Any) -> Event:
    return {"type": kind, "id": event_id, "processed_at": processed, **fields}


def text(said: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": said}]


def message(event_id: str, said: str, processed: str | None = "t") -> Event:
    return event("user.message", event_id, processed, content=text(said))


def says(event_id: str, said: str) -> Event:
    return event("agent.message", event_id, content=text(said))


def call(event_id: str, name: str = "lookup", kind: str = "agent.custom_tool_use", **fields: Any) -> Event:
    return event(kind, event_id, name=name, input={}, **fields)


def answer(event_id: str, call_id: str, processed: str | None = "t") -> Event:
    return event("user.custom_tool_result", event_id, processed, custom_tool_use_id=call_id, content=[])


def running(event_id: str) -> Event:
    return event("session.status_running", event_id)


def idle(event_id: str, reason: str = "end_turn", *named: str) -> Event:
    ids = {"event_ids": list(named)} if named else {}
    return event("session.status_idle", event_id, stop_reason={"type": reason, **ids})


def thinking(event_id: str) -> Event:
    return event("span.model_request_start", event_id)


def bill(event_id: str) -> Event:
    return event("span.model_request_end", event_id, model_usage={"input_tokens": 7})


def done(call_id: str) -> ToolResult:
    return ToolResult(tool_use_id=call_id, content=({"type": "text", "text": "ok"},))


class Driver:
    """A machine and everything it has asked for."""

    def __init__(self, **options: Any) -> None:
        self.machine = SessionMachine(MachineSettings(**options), classify)
        self.generation = 0
        self.effects: list[fx.Effect] = list(self.machine.start())

    def tell(self, mail: m.Mail) -> list[fx.Effect]:
        effects = self.machine.receive(mail)
        self.effects += effects
        return effects

    def open(self, *history: Event, blank: bool = False) -> Driver:
        self.tell(m.Opened("sesn_1", blank=blank))
        return self.attach(*history, reads=not blank)

    def attach(self, *history: Event, reads: bool = True) -> Driver:
        self.generation += 1
        self.tell(m.Attached(self.generation))
        if reads:
            self.tell(m.History(self.generation, history))
            self.tell(m.HistoryRead(self.generation))
        return self

    def reconnect(self, *history: Event, cause: ManagedAgentsError | None = LOST) -> Driver:
        self.tell(m.Detached(self.generation, cause))
        self.tell(m.TimerFired("reconnect"))
        return self.attach(*history)

    def live(self, *events: Event) -> list[fx.Effect]:
        return self.tell(m.Live(self.generation, events))

    def ask(self, said: str = "hi", token: int = 1) -> list[fx.Effect]:
        return self.tell(m.Say(m.Message(said), result=token))

    def asked(self, said: str = "hi", token: int = 1) -> Driver:
        """Ask, and have the message taken."""
        self.ask(said, token)
        self.accept()
        return self

    def accept(self, echo: tuple[Event, ...] = ()) -> list[fx.Effect]:
        return self.tell(m.Posted(self.of(fx.Post)[-1].post_id, echo))

    def refuse(self, error: ManagedAgentsError) -> list[fx.Effect]:
        return self.tell(m.PostFailed(self.of(fx.Post)[-1].post_id, error))

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

    def error(self, token: int = 1) -> ManagedAgentsError:
        (failure,) = [effect.error for effect in self.of(fx.ReplyError) if effect.token == token]
        return failure


@pytest.fixture
def live() -> Driver:
    """A new session that is attached."""
    return Driver().open(blank=True)


# --- law 1 and 2: the log -------------------------------------------------------------------------------------------


def test_a_new_session_attaches_before_anything_is_posted() -> None:
    session = Driver(kickoff=m.Message("go"), kickoff_token=1)
    assert session.tell(m.Opened("sesn_1", blank=True)) == [fx.Attach(1, read_history=False)]
    assert any(isinstance(effect, fx.Post) for effect in session.tell(m.Attached(1)))


def test_a_resumed_session_posts_only_when_its_history_is_read() -> None:
    session = Driver(resumed=True, kickoff=m.Message("go"), kickoff_token=1)
    session.tell(m.Opened("sesn_1", blank=False))
    session.tell(m.Attached(1))
    session.tell(m.History(1, [message("e1", "old"), idle("e2")]))
    assert session.posted == []
    session.tell(m.HistoryRead(1))
    assert session.posted == [m.Message("go")]


def test_nothing_is_posted_while_detached(live: Driver) -> None:
    live.tell(m.Detached(1, LOST))
    live.ask()
    live.tell(m.InterruptWanted(2))
    live.tell(m.SendEvent({"type": "user.interrupt"}, 3))
    assert live.posted == []
    live.tell(m.TimerFired("reconnect"))
    live.tell(m.Attached(2))
    assert live.posted == []
    live.tell(m.HistoryRead(2))
    assert live.posted


def test_an_event_that_comes_from_history_and_live_is_delivered_once_and_in_order(live: Driver) -> None:
    log = [message("e1", "hi"), running("e2"), says("e3", "a"), says("e4", "b"), idle("e5")]
    live.asked().live(*log[:2])
    live.reconnect(*log[:4]).live(*log[2:])
    assert live.shown == log
    assert live.results[0].text == "a\nb"
    assert [kept["id"] for kept in live.results[0].events] == ["e1", "e2", "e3", "e4", "e5"]


@pytest.mark.parametrize("page", [1, 2, 3, 4, 5])
def test_a_look_between_the_pages_of_a_history_loses_nothing(live: Driver, page: int) -> None:
    log = [message("e1", "hi"), running("e2"), thinking("e3"), says("e4", "yes"), idle("e5")]
    live.asked().live(*log[:2])
    live.tell(m.InterruptWanted(2))
    live.refuse(LOST)
    live.tell(m.Detached(1, LOST))
    live.tell(m.TimerFired(("post", live.of(fx.Post)[-1].post_id)))
    live.tell(m.TimerFired("reconnect"))
    live.tell(m.Attached(2))
    live.tell(m.History(2, log[:page]))
    live.tell(m.Looked(log, "idle"))
    live.tell(m.History(2, log[page:]))
    live.tell(m.HistoryRead(2))
    assert [result.text for result in live.results] == ["yes"]
    assert live.shown == log


def test_what_an_old_stream_still_says_is_not_heard(live: Driver) -> None:
    live.asked().reconnect()
    assert live.tell(m.Live(1, [says("e1", "late")])) == []
    assert live.tell(m.Detached(1, LOST)) == []
    assert live.machine.connection.phase == "live"


@pytest.mark.parametrize("cause", [None, LOST, ProtocolError("garbled"), ServerError("down", status=500)])
def test_a_clean_end_is_a_drop_like_any_other(live: Driver, cause: ManagedAgentsError | None) -> None:
    live.asked()
    effects = live.tell(m.Detached(1, cause))
    assert [e.key for e in effects if isinstance(e, fx.Backoff)] == ["reconnect"]
    assert live.tell(m.TimerFired("reconnect")) == [fx.Attach(2, read_history=True)]


def test_losses_in_a_row_end_the_session_at_the_bound() -> None:
    session = Driver(max_attempts=1).open(blank=True).asked()
    session.tell(m.Detached(1, LOST))
    session.tell(m.TimerFired("reconnect"))
    session.tell(m.Detached(2, LOST))
    assert session.error() is LOST
    assert session.machine.closed


@pytest.mark.parametrize("error", [NotFoundError("gone", status=404), AuthenticationError("no", status=401)])
def test_a_permanent_refusal_ends_the_session(live: Driver, error: ManagedAgentsError) -> None:
    live.asked()
    live.tell(m.Detached(1, error))
    assert isinstance(live.error(), SessionGone) if isinstance(error, NotFoundError) else live.error() is error
    assert live.machine.closed
    assert len(live.results) == 1


# --- law 4 and 5: calls ---------------------------------------------------------------------------------------------


def test_a_call_starts_on_arrival_and_is_answered_before_any_idle(live: Driver) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), call("c1"))
    assert [run.use.id for run in live.of(fx.RunTool)] == ["c1"]
    live.tell(m.ToolFinished("c1", done("c1")))
    assert isinstance(live.posted[-1], m.Answer)
    live.accept()
    live.live(answer("e4", "c1"), thinking("e5"), says("e6", "done"), idle("e7"))
    assert (live.results[0].text, live.results[0].turns) == ("done", 2)


def test_each_result_goes_out_in_a_post_of_its_own_as_its_tool_finishes(live: Driver) -> None:
    live.asked().live(running("e2"), call("c1"), call("c2"), idle("e5", "requires_action", "c1", "c2"))
    live.tell(m.ToolFinished("c2", done("c2")))
    live.tell(m.ToolFinished("c1", done("c1")))
    answers = [post.use.id for post in live.posted if isinstance(post, m.Answer)]
    assert answers == ["c2", "c1"]


def test_a_call_is_not_run_again_after_a_reconnect(live: Driver) -> None:
    log = [message("e1", "hi"), running("e2"), call("c1")]
    live.asked().live(*log)
    live.reconnect(*log)
    assert len(live.of(fx.RunTool)) == 1
    live.tell(m.ToolFinished("c1", done("c1")))
    assert len([post for post in live.posted if isinstance(post, m.Answer)]) == 1


def test_an_answer_that_history_shows_is_not_posted_again(live: Driver) -> None:
    log = [message("e1", "hi"), running("e2"), call("c1")]
    live.asked().live(*log)
    live.tell(m.ToolFinished("c1", done("c1")))
    live.refuse(LOST)
    post_id = live.of(fx.Post)[-1].post_id
    live.tell(m.TimerFired(("post", post_id)))
    live.tell(m.Looked([*log, answer("e4", "c1")], "running"))
    assert len([post for post in live.posted if isinstance(post, m.Answer)]) == 1
    assert len(live.machine.outbox) == 0


def test_an_answer_that_history_does_not_show_is_posted_again(live: Driver) -> None:
    log = [message("e1", "hi"), running("e2"), call("c1")]
    live.asked().live(*log)
    live.tell(m.ToolFinished("c1", done("c1")))
    live.refuse(ServerError("failed", status=500))
    live.tell(m.TimerFired(("post", live.of(fx.Post)[-1].post_id)))
    live.tell(m.Looked(log, "running"))
    assert len([post for post in live.posted if isinstance(post, m.Answer)]) == 2


@pytest.mark.parametrize(
    "error",
    [
        RateLimitError("slow", status=429, retry_after=3.0),
        OverloadedError("busy", status=529),
        StreamLost("no connection", request_sent=False),
    ],
)
def test_a_post_that_was_certainly_not_taken_goes_out_again_without_a_look(
    live: Driver, error: ManagedAgentsError
) -> None:
    live.ask()
    effects = live.refuse(error)
    (backoff,) = [effect for effect in effects if isinstance(effect, fx.Backoff)]
    assert backoff.retry_after == getattr(error, "retry_after", None)
    live.tell(m.TimerFired(backoff.key))
    assert live.posted == [m.Message("hi"), m.Message("hi")]
    assert live.of(fx.Look) == []


def test_a_message_that_the_stream_shows_is_taken_whatever_became_of_its_post(live: Driver) -> None:
    live.ask()
    live.live(message("e1", "hi", None))
    live.refuse(LOST)
    assert live.of(fx.Backoff) == []
    live.live(running("e2"), says("e3", "yes"), idle("e4"))
    assert (live.results[0].text, live.posted) == ("yes", [m.Message("hi")])


@pytest.mark.parametrize(
    "closing",
    [
        answer("e9", "c1"),
        event("user.interrupt", "e9"),
        event("session.thread_status_terminated", "e9", session_thread_id="sthr_1"),
    ],
)
def test_a_call_that_is_closed_meanwhile_is_cancelled_and_not_answered(live: Driver, closing: Event) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), call("c1", session_thread_id="sthr_1"))
    assert fx.CancelTool("c1") in live.live(closing)
    live.tell(m.ToolFinished("c1", done("c1")))
    assert not [post for post in live.posted if isinstance(post, m.Answer)]


def test_a_resumed_session_runs_only_the_calls_that_are_still_open() -> None:
    history = [
        message("e1", "old"),
        running("e2"),
        call("c1"),
        call("c2"),
        call("c3", session_thread_id="sthr_9"),
        answer("e6", "c1"),
        event("session.thread_status_terminated", "e7", session_thread_id="sthr_9"),
        idle("e8", "requires_action", "c2"),
    ]
    session = Driver(resumed=True).open(*history)
    assert [run.use.id for run in session.of(fx.RunTool)] == ["c2"]


def test_calls_of_another_client_are_left_alone_and_end_as_requires_action() -> None:
    session = Driver(owns=lambda name: name == "mine").open(blank=True).asked()
    session.live(message("e1", "hi"), running("e2"), call("c1", "theirs"), idle("e4", "requires_action", "c1"))
    assert session.of(fx.RunTool) == []
    session.tell(m.TimerFired("stall"))
    session.tell(m.Looked(session.shown, "idle"))
    assert session.results[0].terminal == "requires_action"


def test_a_call_with_an_unusable_input_is_answered_with_an_error(live: Driver) -> None:
    live.asked().live(running("e1"), event("agent.custom_tool_use", "c1", name="lookup", input="{"))
    assert live.of(fx.RunTool) == []
    (posted,) = [post for post in live.posted if isinstance(post, m.Answer)]
    assert posted.result.is_error


def test_an_answer_that_is_refused_is_forgotten_if_the_call_is_closed_and_fails_the_request_if_not(
    live: Driver,
) -> None:
    log = [message("e1", "hi"), running("e2"), call("c1"), call("c2")]
    live.asked().live(*log)
    live.tell(m.ToolFinished("c1", done("c1")))
    live.refuse(InvalidRequestError("answered", status=400))
    live.tell(m.Looked([*log, answer("e9", "c1")], "running"))
    assert live.results == []
    live.tell(m.ToolFinished("c2", done("c2")))
    live.refuse(InvalidRequestError("no", status=400))
    live.tell(m.Looked([*log, answer("e9", "c1")], "running"))
    assert isinstance(live.error(), SessionError)
    assert "c2" in str(live.error())


# --- law 6 and 7: requests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["end_turn", "retries_exhausted", "budget_reached", "something_new"])
def test_a_turn_ends_at_an_idle_of_any_other_reason(live: Driver, reason: str) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), idle("e3", reason))
    (result,) = live.results
    assert result.stop_reason == {"type": reason}
    assert live.of(fx.Reply)[-1] == fx.Reply(1, result)


def test_neither_an_error_nor_a_threads_own_idle_ends_a_turn(live: Driver) -> None:
    retry = {"type": "overloaded", "message": "busy", "retry_status": {"type": "retrying"}}
    live.asked().live(
        message("e1", "hi"),
        running("e2"),
        event("session.error", "e3", error=retry),
        event("session.thread_status_idle", "e4", session_thread_id="sthr_1", stop_reason={"type": "end_turn"}),
    )
    assert live.results == []


def test_an_idle_that_requires_action_does_not_end_the_request(live: Driver) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), call("c1"), idle("e4", "requires_action", "c1"))
    assert live.results == []


def test_a_follow_up_waits_for_the_terminal(live: Driver) -> None:
    live.asked("one", 1)
    assert fx.Reply(3, "queued") in live.tell(m.Say(m.Message("two"), delivery=3, result=2))
    live.live(message("e1", "one"), running("e2"), says("e3", "1"))
    assert live.posted == [m.Message("one")]
    live.live(idle("e4"))
    assert live.posted == [m.Message("one"), m.Message("two")]
    live.accept()
    live.live(message("e5", "two"), running("e6"), says("e7", "2"), idle("e8"))
    assert [result.text for result in live.results] == ["1", "2"]


def test_a_message_to_a_resumed_session_waits_for_the_turn_that_is_going_on() -> None:
    session = Driver(resumed=True).open(message("e1", "old"), running("e2"), says("e3", "a"))
    session.ask("new")
    assert session.posted == []
    session.live(says("e4", "b"), idle("e5"))
    assert session.posted == [m.Message("new")]


def test_a_refused_message_ends_its_request_with_the_refusal(live: Driver) -> None:
    live.ask()
    refusal = InvalidRequestError("no", status=400)
    live.refuse(refusal)
    assert live.error() is refusal
    assert len(live.results) == 1
    live.ask("again", 2)
    assert live.posted[-1] == m.Message("again")


def test_a_terminated_session_gives_a_result_and_refuses_everybody_after_it(live: Driver) -> None:
    live.asked("one", 1)
    live.ask("two", 2)
    failed = {"type": "billing_error", "message": "no money", "retry_status": {"type": "terminal"}}
    live.live(running("e1"), event("session.error", "e2", error=failed), event("session.status_terminated", "e3"))
    assert live.results[0].terminal == "terminated"
    assert live.results[0].error is not None
    assert live.results[0].error.type == "billing_error"
    assert isinstance(live.error(2), SessionGone)
    assert live.machine.closed
    (refusal,) = live.ask("three", 3)
    assert isinstance(refusal, fx.ReplyError)
    assert isinstance(refusal.error, ActorGone)


def test_a_stop_leaves_nobody_without_an_answer(live: Driver) -> None:
    live.asked("one", 1)
    live.tell(m.Say(m.Message("two"), result=2))
    live.tell(m.SendEvent({"type": "user.interrupt"}, 3))
    live.tell(m.StopWanted())
    while live.of(fx.Post)[-1].post_id and not live.machine.closed:
        live.accept()
    answered = [effect.token for effect in live.effects if isinstance(effect, fx.Reply | fx.ReplyError)]
    assert sorted(answered) == [1, 2, 3]
    assert len(live.results) == 2


def test_a_failed_opening_fails_the_kickoff() -> None:
    session = Driver(one_shot=True, kickoff=m.Message("go"), kickoff_token=1)
    refusal = InvalidRequestError("no such agent", status=400)
    session.tell(m.OpenFailed(refusal))
    assert session.error() is refusal
    assert session.machine.closed


# --- law 8: gates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("permission", ["ask", "something_new"])
@pytest.mark.parametrize(("verdict", "runs"), [("allow", True), ("deny", False)])
def test_a_gated_custom_call_runs_only_on_an_allow(permission: str, verdict: Any, runs: bool) -> None:
    session = Driver(has_policy=True).open(blank=True).asked()
    session.live(running("e1"), call("c1", evaluated_permission=permission))
    assert session.of(fx.RunTool) == []
    assert [asked.use.id for asked in session.of(fx.AskPolicy)] == ["c1"]
    session.tell(m.PolicySpoke("c1", verdict, "because"))
    assert bool(session.of(fx.RunTool)) is runs
    assert any(isinstance(post, m.Answer) and post.result.is_error for post in session.posted) is not runs


def test_a_gated_call_of_the_provider_is_confirmed_and_waits_for_a_person_without_a_policy() -> None:
    for has_policy in (True, False):
        session = Driver(has_policy=has_policy).open(blank=True).asked()
        gated = call("c1", "bash", "agent.tool_use", **GATE)
        session.live(running("e1"), gated, idle("e3", "requires_action", "c1"))
        if has_policy:
            session.tell(m.PolicySpoke("c1", "deny", "no"))
            assert session.posted[-1] == m.Confirmation("c1", "deny", "no")
            assert session.results == []
        else:
            assert session.results[0].terminal == "requires_action"


def test_a_message_behind_a_request_that_requires_action_goes_out_at_once() -> None:
    session = Driver().open(blank=True).asked("one", 1)
    session.ask("two", 2)
    gated = call("c1", "bash", "agent.tool_use", **GATE)
    session.live(message("e1", "one"), running("e2"), gated, idle("e4", "requires_action", "c1"))
    assert session.results[0].terminal == "requires_action"
    assert session.posted[-1] == m.Message("two")


# --- law 9: cutting short -------------------------------------------------------------------------------------------


def test_an_interrupt_cancels_what_runs_at_once_and_the_request_ends_with_its_own_terminal(live: Driver) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), call("c1"))
    effects = live.tell(m.InterruptWanted(9))
    assert fx.CancelTool("c1") in effects
    assert live.posted[-1] == m.Interrupt()
    assert fx.Reply(9, None) in live.accept()
    live.live(event("user.interrupt", "e4"), idle("e5"))
    assert [result.terminal for result in live.results] == ["end_turn"]


def test_an_interrupt_of_a_session_at_rest_is_nothing(live: Driver) -> None:
    assert live.tell(m.InterruptWanted(9)) == [fx.Reply(9, None)]


@pytest.mark.parametrize("detached", [False, True])
def test_a_deadline_cancels_tools_and_fails_the_request(detached: bool) -> None:
    session = Driver(timeout=5.0).open(blank=True).asked()
    session.live(message("e1", "hi"), running("e2"), call("c1"), says("e4", "partial"))
    if detached:
        session.tell(m.Detached(1, LOST))
    effects = session.tell(m.TimerFired("deadline"))
    assert fx.CancelTool("c1") in effects
    failure = session.error()
    assert isinstance(failure, SessionTimeout)
    assert failure.result.text == "partial"


def test_what_follows_a_request_that_failed_is_not_announced_again() -> None:
    session = Driver(timeout=5.0).open(blank=True).asked()
    session.live(message("e1", "hi"), running("e2"), thinking("e3"), says("e4", "a"))
    session.tell(m.TimerFired("deadline"))
    session.live(says("e5", "b"), event("user.interrupt", "e6"), idle("e7"))
    assert len(session.results) == 1


def test_the_echo_of_a_message_that_was_given_up_begins_no_request() -> None:
    session = Driver(timeout=5.0).open(blank=True)
    session.ask()
    session.tell(m.TimerFired("deadline"))
    session.live(message("e1", "hi", None), message("e1", "hi"), running("e2"), says("e3", "late"), idle("e4"))
    assert len(session.results) == 1


def test_a_request_that_fails_while_detached_is_interrupted_when_attached_again() -> None:
    session = Driver(timeout=5.0).open(blank=True).asked()
    log = [message("e1", "hi"), running("e2"), call("c1")]
    session.live(*log)
    session.tell(m.Detached(1, LOST))
    session.tell(m.TimerFired("deadline"))
    session.tell(m.TimerFired("reconnect"))
    session.attach(*log)
    assert session.posted[-1] == m.Interrupt()


def test_nothing_is_announced_of_a_session_that_is_being_stopped() -> None:
    session = Driver().open(blank=True)
    session.ask()
    session.tell(m.InterruptWanted(2))
    session.tell(m.StopWanted())
    session.live(message("e1", "hi"), running("e2"), thinking("e3"), says("e4", "late"), idle("e5"))
    assert len(session.results) == 1


def test_turns_are_limited_and_guarded() -> None:
    turn = [running("e2"), call("c1"), idle("e4", "requires_action", "c1")]
    limited = Driver(max_turns=1).open(blank=True).asked()
    limited.live(*turn)
    assert isinstance(limited.error(), MaxTurnsExceeded)
    guarded = Driver(has_guard=True).open(blank=True).asked()
    guarded.live(*turn)
    assert [asked.turn.turns for asked in guarded.of(fx.AskGuard)] == [1]
    effects = guarded.tell(m.GuardSpoke(guarded.of(fx.AskGuard)[0].number, Halt(reason="costly")))
    assert fx.CancelTool("c1") in effects
    failure = guarded.error()
    assert isinstance(failure, TurnHalted)
    assert failure.reason == "costly"


def test_a_slow_guard_is_asked_about_one_turn_after_the_other_and_judges_each_by_itself() -> None:
    guarded = Driver(has_guard=True, max_turns=2).open(blank=True).asked()
    guarded.live(message("e1", "hi"), running("e2"), call("c1"), idle("e4", "requires_action", "c1"))
    guarded.tell(m.ToolFinished("c1", done("c1")))
    guarded.accept()
    guarded.live(answer("e5", "c1"), running("e6"), says("e7", "done"), idle("e8"))
    (first,) = guarded.of(fx.AskGuard)
    assert first.turn.turns == 1, "it is not asked about the second turn before it has judged the first"
    guarded.tell(m.GuardSpoke(first.number, None))
    assert guarded.results == []
    second = guarded.of(fx.AskGuard)[-1]
    assert (second.turn.turns, second.turn.terminal) == (2, "end_turn")
    guarded.tell(m.GuardSpoke(second.number, None))
    (result,) = guarded.results
    assert (result.terminal, result.turns) == ("end_turn", 2), "the first turn's limit is judged by the first turn"


@pytest.mark.parametrize("ripe", [False, True], ids=["while-it-thinks", "before"])
def test_a_guard_is_asked_about_a_requests_own_turns_whatever_it_was_asked_behind_another_ones(ripe: bool) -> None:
    guarded = Driver(has_guard=True).open(blank=True).asked()
    guarded.live(message("f1", "theirs"), message("e1", "hi", None), running("e2"), call("c1"))
    guarded.live(idle("e4", "requires_action", "c1"))
    (theirs,) = guarded.of(fx.AskGuard)
    if ripe:
        guarded.tell(m.GuardSpoke(theirs.number, None))
    guarded.tell(m.ToolFinished("c1", done("c1")))
    guarded.accept()
    guarded.live(answer("e5", "c1"), says("e6", "to them"), idle("e7"), message("e1", "hi"), running("e8"))
    if not ripe:
        guarded.tell(m.GuardSpoke(theirs.number, Halt(reason="theirs is costly")))
    guarded.live(says("e9", "to you"), idle("e10"))
    ours = guarded.of(fx.AskGuard)[-1]
    assert (ours.turn.turns, ours.turn.text) == (1, "to you")
    assert guarded.results == []
    guarded.tell(m.GuardSpoke(ours.number, None))
    (result,) = guarded.results
    assert (result.text, result.turns) == ("to you", 1)


def test_a_guards_verdict_on_a_request_that_is_over_is_not_taken_for_one_on_the_next() -> None:
    session = Driver(has_guard=True, timeout=5.0).open(blank=True).asked("one", 1)
    session.live(message("e1", "one"), running("e2"), call("c1"), idle("e4", "requires_action", "c1"))
    session.tell(m.TimerFired("deadline"))
    session.accept()
    session.live(event("user.interrupt", "e5"), idle("e6"))
    session.asked("two", 2)
    session.live(message("e7", "two"), running("e8"), call("c2"), idle("e10", "requires_action", "c2"))
    session.tell(m.GuardSpoke(session.of(fx.AskGuard)[0].number, Halt(reason="the first one")))
    assert not [effect for effect in session.of(fx.ReplyError) if effect.token == 2]


@pytest.mark.parametrize("error", [RateLimitError("", status=429), ServerError("", status=500), LOST])
def test_a_message_of_a_request_that_failed_is_not_posted_again(error: ManagedAgentsError) -> None:
    session = Driver(timeout=5.0).open(blank=True)
    session.ask()
    session.tell(m.TimerFired("deadline"))
    session.refuse(error)
    for backoff in session.of(fx.Backoff):
        session.tell(m.TimerFired(backoff.key))
        session.tell(m.Looked(session.shown, "idle"))
    assert session.posted.count(m.Message("hi")) == 1


@pytest.mark.parametrize("error", [RateLimitError("", status=429), ServerError("", status=500), LOST])
def test_whoever_waits_for_the_delivery_of_a_message_that_was_given_up_is_told(error: ManagedAgentsError) -> None:
    session = Driver(timeout=5.0).open(blank=True)
    session.tell(m.Say(m.Message("hi"), delivery=2, result=1))
    session.tell(m.TimerFired("deadline"))
    session.refuse(error)
    answered = [effect.token for effect in session.effects if isinstance(effect, fx.Reply | fx.ReplyError)]
    assert sorted(answered) == [1, 2]


def test_a_late_answer_to_a_message_that_was_given_up_is_not_the_next_ones() -> None:
    session = Driver(timeout=5.0).open(blank=True)
    session.ask("one", 1)
    session.ask("two", 2)
    session.tell(m.TimerFired("deadline"))
    session.accept()
    session.accept()
    session.accept()
    session.live(message("e1", "one"), running("e2"), thinking("e3"), says("e4", "to one"), idle("e5"))
    session.live(message("e6", "two"), running("e7"), thinking("e8"), says("e9", "to two"), idle("e10"))
    (reply,) = [effect.value for effect in session.of(fx.Reply) if effect.token == 2]
    assert reply.text == "to two"


def test_a_turn_of_the_providers_own_is_not_added_to_a_request_that_is_over() -> None:
    session = Driver(owns=lambda _name: False).open(blank=True).asked()
    session.live(message("e1", "hi"), running("e2"), says("e3", "a"), call("c1"), idle("e5", "requires_action", "c1"))
    unresolved(session)
    session.live(answer("e6", "c1"), running("e7"), thinking("e8"), says("e9", "b"), idle("e10"))
    session.live(running("e11"), thinking("e12"), says("e13", "by itself"), idle("e14"))
    assert [result.terminal for result in session.results] == ["requires_action", "end_turn", "end_turn"]
    assert session.results[-1].text == "by itself"


# --- law 10: servers as they are ------------------------------------------------------------------------------------


def unresolved(session: Driver) -> list[fx.Effect]:
    session.tell(m.TimerFired("stall"))
    return session.tell(m.Looked(session.shown, "idle"))


def test_a_wait_for_calls_that_nobody_knows_is_reported_after_a_look(live: Driver) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), idle("e3", "requires_action", "unknown"))
    assert live.results == []
    unresolved(live)
    assert isinstance(live.error(), UnresolvedRequiresAction)


def test_a_wait_for_calls_that_the_look_finds_goes_on(live: Driver) -> None:
    log = [message("e1", "hi"), running("e2"), call("c1"), idle("e3", "requires_action", "c1")]
    live.asked().live(log[0], log[1], log[3])
    live.tell(m.TimerFired("stall"))
    live.tell(m.Looked(log, "idle"))
    assert [run.use.id for run in live.of(fx.RunTool)] == ["c1"]
    assert live.of(fx.ReplyError) == []


def test_a_wait_that_is_broken_is_looked_into_anew(live: Driver) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), idle("e3", "requires_action", "unknown"))
    live.tell(m.TimerFired("stall"))
    live.live(running("e4"), says("e5", "on"))
    live.tell(m.Looked(live.shown, "idle"))
    assert live.of(fx.ReplyError) == []


def test_a_server_that_stays_running_while_a_tool_waits(live: Driver) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), thinking("e3"), call("c1"))
    live.tell(m.ToolFinished("c1", done("c1")))
    live.accept()
    live.live(answer("e5", "c1"), thinking("e6"), says("e7", "done"), idle("e8"))
    assert (live.results[0].turns, live.results[0].terminal) == (2, "end_turn")


@pytest.mark.parametrize("reason", [{}, {"stop_reason": None}, {"stop_reason": {"type": "end_turn"}}])
def test_an_idle_before_any_work_ends_nothing(live: Driver, reason: dict[str, Any]) -> None:
    first = event("session.status_idle", "e0", **reason)
    live.asked().live(first, message("e1", "hi", None))
    assert live.results == []
    live.live(message("e1", "hi"), running("e2"), says("e3", "yes"), idle("e4"))
    assert [result.text for result in live.results] == ["yes"]


@pytest.mark.parametrize("status", ["idle", "running", None])
def test_a_provider_that_is_slow_to_begin_is_waited_for(live: Driver, status: str | None) -> None:
    log = [message("e1", "one"), running("e2"), says("e3", "1"), idle("e4")]
    live.asked("one", 1).live(*log)
    live.asked("two", 2).live(message("e5", "two", None))
    live.tell(m.TimerFired("stall"))
    live.tell(m.Looked([*log, message("e5", "two", None)], status))
    assert len(live.results) == 1
    live.live(message("e5", "two"), running("e6"), says("e7", "2"), idle("e8"))
    assert [result.text for result in live.results] == ["1", "2"]


def test_an_idle_from_before_the_first_stream_ends_nothing_when_history_brings_it(live: Driver) -> None:
    log = [idle("e0"), message("e1", "hi"), running("e2")]
    live.asked().live(*log[1:])
    live.reconnect(*log)
    assert live.results == []
    live.live(says("e3", "yes"), idle("e4"))
    assert [result.text for result in live.results] == ["yes"]


def test_only_a_look_that_began_late_enough_settles_an_unclear_post(live: Driver) -> None:
    log = [message("e1", "hi"), running("e2"), call("c1"), call("c2")]
    live.asked("hi").live(*log)
    for call_id in ("c1", "c2"):
        live.tell(m.ToolFinished(call_id, done(call_id)))
    first, second = (post.post_id for post in live.of(fx.Post)[-2:])
    live.tell(m.PostFailed(first, LOST))
    live.tell(m.TimerFired(("post", first)))
    assert len(live.of(fx.Look)) == 1
    live.tell(m.PostFailed(second, LOST))
    live.tell(m.TimerFired(("post", second)))
    # This listing was begun before the second post: that it does not show its result means nothing.
    effects = live.tell(m.Looked(log, "running"))
    assert [effect.post_id for effect in effects if isinstance(effect, fx.Post)] == [first]
    assert len(live.of(fx.Look)) == 2
    effects = live.tell(m.Looked([*log, answer("e5", "c2")], "running"))
    assert [effect for effect in effects if isinstance(effect, fx.Post)] == []
    assert [delivery.id for delivery in live.machine.outbox] == [first]


def test_a_log_that_is_replayed_on_connect_doubles_nothing(live: Driver) -> None:
    log = [message("e1", "hi"), running("e2"), call("c1")]
    live.asked().live(*log)
    live.reconnect(*log)
    live.live(*log)
    live.tell(m.ToolFinished("c1", done("c1")))
    live.accept()
    live.live(answer("e4", "c1"), thinking("e5"), says("e6", "done"), idle("e7"))
    assert live.shown == [*log, answer("e4", "c1"), thinking("e5"), says("e6", "done"), idle("e7")]
    assert len(live.of(fx.RunTool)) == len(live.results) == 1


def test_a_message_that_is_listed_processed_after_its_turn_begins_nothing(live: Driver) -> None:
    log = [running("e2"), says("e3", "yes"), idle("e4")]
    live.asked().live(message("e1", "hi", None), *log)
    live.reconnect(message("e1", "hi"), *log)
    assert live.machine.active is None
    live.ask("again", 2)
    assert live.posted[-1] == m.Message("again")


def test_an_old_interrupt_that_is_listed_processed_closes_no_later_call(live: Driver) -> None:
    first = [message("e1", "one"), running("e2"), event("user.interrupt", "e3", None), idle("e4")]
    second = [message("e5", "two"), running("e6"), call("c1")]
    live.asked("one", 1).live(*first)
    live.asked("two", 2).live(*second)
    first[2] = event("user.interrupt", "e3")
    live.reconnect(*first, *second)
    assert live.of(fx.CancelTool) == []
    live.tell(m.ToolFinished("c1", done("c1")))
    assert isinstance(live.posted[-1], m.Answer)


def test_previews_of_a_message_that_history_brought_add_nothing(live: Driver) -> None:
    log = [message("e1", "hi"), running("e2"), says("e3", "yes")]
    delta = {"type": "content_delta", "index": 0, "content": {"type": "text", "text": "ye"}}
    live.asked().live(*log[:2])
    live.reconnect(*log)
    live.live(
        {"type": "event_start", "event": {"id": "e3", "type": "agent.message"}},
        {"type": "event_delta", "event_id": "e3", "delta": delta},
        log[2],
        idle("e4"),
    )
    assert live.results[0].text == "yes"


def test_a_post_that_is_answered_with_nothing_is_accepted(live: Driver) -> None:
    assert fx.Reply(2, []) in (live.tell(m.SendEvent({"type": "x"}, 2)) and live.accept())


def test_an_idle_without_a_reason_pauses_while_a_call_is_open_and_ends_otherwise(live: Driver) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), call("c1"), event("session.status_idle", "e4"))
    assert live.results == []
    live.tell(m.ToolFinished("c1", done("c1")))
    live.accept()
    live.live(answer("e5", "c1"), running("e6"), says("e7", "done"), event("session.status_idle", "e8"))
    assert [result.text for result in live.results] == ["done"]


def test_the_empty_cycle_after_a_duplicate_result_ends_nothing(live: Driver) -> None:
    log = [message("e1", "hi"), running("e2"), call("c1"), idle("e4", "requires_action", "c1")]
    live.asked().live(*log)
    live.tell(m.ToolFinished("c1", done("c1")))
    live.accept()
    live.live(answer("e5", "c1"), running("e6"), answer("e7", "c1"), running("e8"), idle("e9"))
    assert live.results == []
    live.live(thinking("e10"), says("e11", "done"), idle("e12"))
    assert [result.text for result in live.results] == ["done"]


def test_idles_for_the_remainder_are_waited_through(live: Driver) -> None:
    live.asked().live(running("e1"), call("c1"), call("c2"), idle("e4", "requires_action", "c1", "c2"))
    live.tell(m.ToolFinished("c1", done("c1")))
    live.accept()
    live.live(answer("e5", "c1"), idle("e6", "requires_action", "c2"))
    live.tell(m.ToolFinished("c2", done("c2")))
    live.accept()
    live.live(answer("e7", "c2"), running("e8"), says("e9", "done"), idle("e10"))
    assert live.results[0].text == "done"
    assert len(live.of(fx.RunTool)) == 2


def test_an_error_that_is_a_bare_string_explains_the_end(live: Driver) -> None:
    live.asked().live(
        running("e1"), event("session.error", "e2", error="out of luck"), event("session.status_terminated", "e3")
    )
    assert live.results[0].error is not None
    assert live.results[0].error.message == "out of luck"


@pytest.mark.parametrize(
    "found", [m.Looked([], "terminated"), m.LookFailed(NotFoundError("", status=404))], ids=["archived", "deleted"]
)
def test_an_archive_or_a_deletion_without_an_event_is_found_by_a_look(live: Driver, found: m.Mail) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), idle("e3", "requires_action", "unknown"))
    live.tell(m.TimerFired("stall"))
    live.tell(found)
    assert live.machine.closed
    assert len(live.results) == 1


def test_an_unknown_event_is_kept_and_reported_once(live: Driver) -> None:
    live.asked().live(running("e1"), event("session.novelty", "e2"), event("session.novelty", "e3"), idle("e4"))
    assert len([report for report in live.of(fx.Report) if report.what == "unrecognised_event"]) == 1
    assert [kept["id"] for kept in live.results[0].events] == ["e1", "e2", "e3", "e4"]


def test_an_answer_belongs_to_the_message_it_followed_where_the_status_comes_first(live: Driver) -> None:
    live.asked()
    live.live(running("e2"), message("f1", "theirs"), thinking("e3"), says("e4", "to them"), idle("e5"))
    live.live(running("e6"), message("e1", "hi"), thinking("e7"), says("e8", "to us"), idle("e9"))
    (reply,) = [effect.value for effect in live.of(fx.Reply) if effect.token == 1]
    assert "to us" in reply.text


def test_an_answer_belongs_to_the_message_it_followed(live: Driver) -> None:
    live.asked()
    live.live(message("f1", "theirs", None), message("e1", "hi", None), message("f1", "theirs"), running("e2"))
    live.live(thinking("e3"), says("e4", "to them"), idle("e5"))
    live.live(message("e1", "hi"), running("e6"), thinking("e7"), says("e8", "to us"), idle("e9"))
    (reply,) = [effect.value for effect in live.of(fx.Reply) if effect.token == 1]
    assert "to us" in reply.text


def test_a_raw_message_that_is_taken_behind_another_clients_is_told_from_its_first_turn(live: Driver) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), says("e3", "hello"), bill("e4"), idle("e5"))
    live.tell(m.SendEvent({"type": "user.message", "content": text("raw")}, 2))
    live.live(message("r1", "raw", None), message("f1", "theirs"), running("e6"), says("e7", "to them"), bill("e8"))
    live.live(idle("e9"), message("r1", "raw"), running("e10"), says("e11", "to you"), bill("e12"), idle("e13"))
    _, result = live.results
    assert (result.text, result.turns, result.usage.input_tokens) == ("to you", 1, 7)
    began = [(turn.turn, turn.spent.input_tokens) for turn in live.of(fx.TurnBegan) if turn.request == 2]
    ended = [(turn.turn, turn.spent.input_tokens) for turn in live.of(fx.TurnEnded) if turn.request == 2]
    assert (began, ended) == ([(2, 7), (1, 0)], [(1, 7)])


def test_a_request_that_goes_on_and_ends_at_once_tells_only_what_is_new(live: Driver) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), call("c1", kind="agent.tool_use", **GATE), bill("e4"))
    live.live(idle("e5", "requires_action", "c1"))
    live.live(running("e6"), says("e7", "done"), bill("e8"), event("session.deleted", "e9"))
    waiting, broken_off = live.results
    assert (waiting.usage.input_tokens, broken_off.usage.input_tokens) == (7, 14)
    began = [(turn.request, turn.turn, turn.spent.input_tokens) for turn in live.of(fx.TurnBegan)]
    assert began == [(1, 1, 0), (2, 2, 7)]


def test_a_look_that_shows_less_than_is_known_is_taken_again(live: Driver) -> None:
    log = [message("e1", "hi"), running("e2"), idle("e3", "requires_action", "unknown")]
    live.asked().live(*log)
    live.tell(m.TimerFired("stall"))
    for attempt in (1, 2, 3):
        assert live.tell(m.Looked(log[:2], "idle")) == [fx.Backoff("look", attempt)], "it lacks the idle: not the whole"
        assert live.tell(m.TimerFired("look")) == [fx.Look()]
    assert live.results == []
    live.tell(m.Looked(log[:2], "idle"))
    assert isinstance(live.error(), UnresolvedRequiresAction), "some listing may never show an event"


def test_a_wait_for_calls_that_are_closed_does_not_last_for_ever(live: Driver) -> None:
    live.asked().live(message("e1", "hi"), running("e2"), call("c1"), idle("e4", "requires_action", "c1"))
    live.live(event("user.interrupt", ""))
    for _ in range(3):
        unresolved(live)
    assert len(live.results) == 1


# --- law 11 and the run ---------------------------------------------------------------------------------------------


def test_nothing_is_kept_when_everything_is_settled(live: Driver) -> None:
    for turn in range(3):
        live.asked("hi", turn)
        live.live(message(f"u{turn}", "hi"), running(f"r{turn}"), call(f"c{turn}"))
        live.tell(m.ToolFinished(f"c{turn}", done(f"c{turn}")))
        live.accept()
        live.live(answer(f"a{turn}", f"c{turn}"), thinking(f"t{turn}"), idle(f"i{turn}"))
    machine = live.machine
    assert (len(machine.outbox), len(machine.log.calls), len(machine.queue)) == (0, 0, 0)
    assert not machine.tools_running
    assert machine.active is None


def test_a_run_closes_after_its_one_request() -> None:
    session = Driver(one_shot=True, kickoff=m.Message("go"), kickoff_token=1).open(blank=True)
    session.accept()
    session.live(message("e1", "go"), running("e2"), says("e3", "done"), idle("e4"))
    assert session.effects[-1] == fx.Close(None)
    assert session.of(fx.Reply)[-1].value.text == "done"


def test_a_run_that_resumes_without_a_prompt_waits_for_the_end_of_what_goes_on() -> None:
    session = Driver(one_shot=True, resumed=True, kickoff_token=1)
    session.open(message("e1", "old"), running("e2"), says("e3", "a"))
    session.live(says("e4", "b"), idle("e5"))
    assert session.of(fx.Reply)[-1].value.text == "a\nb"
    rest = Driver(one_shot=True, resumed=True, kickoff_token=1)
    rest.open(message("e1", "old"), running("e2"), says("e3", "a"), idle("e4"))
    assert rest.of(fx.Reply)[-1].value.turns == 0
    assert rest.posted == []
    assert rest.machine.closed


def test_a_run_whose_time_is_up_while_history_is_read_announces_one_terminal() -> None:
    session = Driver(one_shot=True, resumed=True, kickoff_token=1, timeout=5.0)
    session.tell(m.Opened("sesn_1", blank=False))
    session.tell(m.Attached(1))
    session.tell(m.History(1, [message("e1", "old"), running("e2"), says("e3", "a")]))
    session.tell(m.TimerFired("deadline"))
    assert isinstance(session.error(), SessionTimeout)
    assert len(session.results) == 1


def test_a_terminal_tool_that_was_not_called_is_asked_for() -> None:
    options = {"terminal_tool": "submit", "require_terminal_tool": True, "max_reprompts": 1}
    session = Driver(one_shot=True, kickoff=m.Message("go"), kickoff_token=1, **options).open(blank=True)
    session.accept()
    session.live(message("e1", "go"), running("e2"), says("e3", "done"), idle("e4"))
    assert "submit" in str(session.posted[-1])
    session.accept()
    session.live(running("e5"), says("e6", "still done"), idle("e7"))
    assert session.of(fx.Reply)[-1].value.stop_reason == "no_terminal_tool"


def test_a_turn_of_the_past_that_ended_with_its_session_has_no_terminal() -> None:
    past = [
        message("e1", "old"),
        running("e2"),
        idle("e3", "requires_action", "c9"),
        {"type": "session.status_terminated", "id": "e4"},
    ]
    session = Driver(resumed=True).open(*past)
    assert session.results == []
    assert isinstance(session.of(fx.Close)[0].error, SessionGone)


def test_what_the_log_has_shown_was_taken_though_the_session_ended_before_the_answer(live: Driver) -> None:
    live.tell(m.Say(m.Message("hi"), delivery=1))
    live.live(message("e1", "hi"), running("e2"), {"type": "session.status_terminated", "id": "e3"})
    assert live.of(fx.Reply) == [fx.Reply(1, "delivered")]
    assert live.of(fx.ReplyError) == []


def test_a_queued_message_hides_nothing_that_came_before_it(live: Driver) -> None:
    live.asked()
    live.live(message("e1", "hi"), running("e2"), says("e3", "re:A"), message("e4", "other", None))
    end = [idle("e5"), message("e4", "other"), running("e6"), says("e7", "re:B"), idle("e8")]
    live.reconnect(message("e1", "hi"), running("e2"), says("e3", "re:A"), *end)
    assert [result.text for result in live.results] == ["re:A", "re:B"]
