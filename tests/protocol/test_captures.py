"""What an independent server really sent: decoded however it is cut, and folded to the result its listing implies."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from managed_agents_actors import SessionResult, StreamLost, ToolResult
from managed_agents_actors._model import Event
from managed_agents_actors._protocol import effects as fx
from managed_agents_actors._protocol import mail as m
from managed_agents_actors._protocol.claude_events import KNOWN_TYPES, classify
from managed_agents_actors._protocol.claude_stream import ClaudeStreamDecoder
from managed_agents_actors._protocol.consolidate import Admission, SeenEvents, fold, unanswered_tool_uses
from managed_agents_actors._protocol.ledger import Ledger
from managed_agents_actors._protocol.session_machine import TEXT_DELTA, MachineSettings, SessionMachine

CAPTURES = Path(__file__).parent.parent / "captures"
STREAMS = sorted(path.stem for path in CAPTURES.glob("*.sse"))
LISTED = sorted(path.name.removesuffix(".list.json") for path in CAPTURES.glob("*.list.json"))
WHOLE = [*LISTED, "T5-interrupt-pending", "T8-deltas"]  # one request from beginning to end


def stream_bytes(name: str) -> bytes:
    return (CAPTURES / f"{name}.sse").read_bytes()


def decode(data: bytes, size: int | None = None) -> list[Any]:
    decoder = ClaudeStreamDecoder()
    if size is None:
        return decoder.feed(data)
    return [event for start in range(0, len(data), size) for event in decoder.feed(data[start : start + size])]


def stream(name: str) -> list[Event]:
    return decode(stream_bytes(name))


def listing(name: str) -> list[Event]:
    """The recorded listing, or what it would hold: everything but previews."""
    if name in LISTED:
        rows: list[Event] = json.loads((CAPTURES / f"{name}.list.json").read_text())
        return rows
    return [event for event in stream(name) if not event["type"].startswith("event_")]


@dataclass(frozen=True)
class Implied:
    """What a listing says, read with no help from the library."""

    text: str
    calls: tuple[str, ...]
    answered: frozenset[str]
    reason: Any
    output_tokens: int

    @classmethod
    def by(cls, rows: list[Event]) -> Implied:
        said = [block["text"] for row in rows if row["type"] == "agent.message" for block in row["content"]]
        spent = [row["model_usage"]["output_tokens"] for row in rows if row["type"] == "span.model_request_end"]
        answers = [row["custom_tool_use_id"] for row in rows if row["type"] == "user.custom_tool_result"]
        return cls(
            text="\n".join(said),
            calls=tuple(row["id"] for row in rows if row["type"] == "agent.custom_tool_use"),
            answered=frozenset(answers),
            reason=[row["stop_reason"] for row in rows if row["type"] == "session.status_idle"][-1],
            output_tokens=sum(spent),
        )

    def check(self, result: SessionResult) -> None:
        assert result.terminal == self.reason["type"]
        assert result.stop_reason == self.reason
        assert result.text == self.text
        assert tuple(use.id for use in result.custom_tool_uses) == self.calls
        assert result.usage.output_tokens == self.output_tokens
        ids = [event["id"] for event in result.events]
        assert len(ids) == len(set(ids))


class Session:
    """A machine that has asked what the recording asks; it is told what a test chooses."""

    def __init__(self, name: str) -> None:
        self.machine = SessionMachine(MachineSettings(), classify)
        self.effects: list[fx.Effect] = list(self.machine.start())
        self.tell(m.Opened("sesn_1", blank=True))
        self.tell(m.Attached(1))
        self.tell(m.Say(m.Message(listing(name)[0]["content"]), result=1))
        self.tell(m.Posted(1, ()))

    def tell(self, mail: m.Mail) -> None:
        self.effects += self.machine.receive(mail)

    def reconnect(self) -> None:
        self.tell(m.Detached(1, StreamLost("cut")))
        self.tell(m.TimerFired("reconnect"))
        self.tell(m.Attached(2))

    def consolidate(self, name: str) -> None:
        self.tell(m.History(2, listing(name)))
        self.tell(m.HistoryRead(2))

    @property
    def result(self) -> SessionResult:
        announced = [effect.result for effect in self.effects if isinstance(effect, fx.Announce)]
        replies = [effect.value for effect in self.effects if isinstance(effect, fx.Reply) and effect.token == 1]
        assert announced == replies
        assert len(announced) == 1
        return announced[0]

    @property
    def deltas(self) -> str:
        shown = [event for effect in self.effects if isinstance(effect, fx.Deliver) for event in effect.events]
        return "".join(event["text"] for event in shown if event["type"] == TEXT_DELTA)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 4096])
@pytest.mark.parametrize("name", STREAMS)
def test_a_recording_decodes_the_same_however_it_is_cut(name: str, size: int) -> None:
    data = stream_bytes(name)
    assert decode(data, size) == decode(data)


@pytest.mark.parametrize("trailing", [b"\n\n", b": comment\n\n", b'event: agent.message\ndata: {"type"'])
@pytest.mark.parametrize("name", STREAMS)
def test_what_follows_a_recording_changes_nothing(name: str, trailing: bytes) -> None:
    data = stream_bytes(name)
    assert decode(data + trailing) == decode(data)


@pytest.mark.parametrize("name", STREAMS)
def test_a_recording_holds_only_known_events_and_no_keep_alives(name: str) -> None:
    events = stream(name)
    assert events
    assert {event["type"] for event in events} <= KNOWN_TYPES


@pytest.mark.parametrize("name", LISTED)
def test_the_stream_holds_what_the_listing_holds(name: str) -> None:
    def undated(events: list[Event]) -> list[Event]:
        return [{key: value for key, value in event.items() if key != "processed_at"} for event in events]

    assert undated(stream(name)) == undated(listing(name))


@pytest.mark.parametrize("source", [stream, listing])
@pytest.mark.parametrize("name", WHOLE)
def test_the_fold_of_a_whole_log_waits_for_nothing(name: str, source: Callable[[str], list[Event]]) -> None:
    events = source(name)
    log = fold(events, classify)
    assert log.status == "idle"
    assert log.waiting_for is None
    assert unanswered_tool_uses(events, classify) == []


def test_the_call_before_the_disconnect_is_still_to_be_answered() -> None:
    before = stream("T2-before")
    (open_call,) = unanswered_tool_uses(before, classify)
    assert (open_call.name, open_call.input) == ("get_weather", {"city": "Oslo"})
    assert unanswered_tool_uses([*before, *stream("T2-after-reconnect")], classify) == []


@pytest.mark.parametrize("name", WHOLE)
def test_the_account_of_a_stream_is_what_its_listing_implies(name: str) -> None:
    ledger, deltas, seen = Ledger(), [], SeenEvents()
    for event in stream(name):
        if seen.admit(event) is Admission.NEW:
            if not event["type"].startswith("event_"):
                ledger.record(event)
            deltas.append(ledger.absorb(event, classify(event)))
    ledger.end_turn()
    rows = listing(name)
    result = ledger.result("sesn_1", "end_turn", rows[-1]["stop_reason"])
    Implied.by(rows).check(result)
    assert "".join(deltas) == result.text


@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("name", WHOLE)
def test_a_session_fed_from_the_stream_comes_to_what_the_listing_implies(name: str, batch: int) -> None:
    session, events = Session(name), stream(name)
    for start in range(0, len(events), batch):
        session.tell(m.Live(1, events[start : start + batch]))
    Implied.by(listing(name)).check(session.result)
    assert session.deltas == session.result.text


@pytest.mark.parametrize("name", WHOLE)
def test_a_session_fed_from_the_listing_alone_comes_to_the_same(name: str) -> None:
    session = Session(name)
    session.reconnect()
    session.consolidate(name)
    Implied.by(listing(name)).check(session.result)
    assert session.deltas == session.result.text
    assert not [effect for effect in session.effects if isinstance(effect, fx.RunTool)]


@pytest.mark.parametrize("name", WHOLE)
def test_wherever_the_stream_is_cut_and_overlaps_the_listing_the_result_is_the_same(name: str) -> None:
    events = stream(name)
    for cut in range(len(events) + 1):
        for overlap in range(cut + 1):
            session = Session(name)
            for event in events[:cut]:
                session.tell(m.Live(1, [event]))
            session.reconnect()
            session.consolidate(name)
            session.tell(m.Live(2, events[overlap:]))
            Implied.by(listing(name)).check(session.result)
            assert session.deltas == session.result.text
            assert session.machine.active is None


@pytest.mark.parametrize("name", LISTED)
def test_each_call_of_a_recording_is_run_once_and_answered_once(name: str) -> None:
    session, rows = Session(name), listing(name)
    implied = Implied.by(rows)
    for event in stream(name):
        if event["type"] == "user.custom_tool_result":
            text = event["content"]
            call_id = event["custom_tool_use_id"]
            session.tell(m.ToolFinished(call_id, ToolResult(tool_use_id=call_id, content=tuple(text))))
            (post,) = [effect for effect in session.effects if isinstance(effect, fx.Post)][-1:]
            session.tell(m.Posted(post.post_id, [event]))
        session.tell(m.Live(1, [event]))
    runs = [effect.use.id for effect in session.effects if isinstance(effect, fx.RunTool)]
    posts = [effect.input for effect in session.effects if isinstance(effect, fx.Post)]
    answered = [post.use.id for post in posts if isinstance(post, m.Answer)]
    assert tuple(runs) == implied.calls
    assert frozenset(answered) == implied.answered
    assert len(answered) == len(implied.answered)
    implied.check(session.result)


def test_an_interrupt_closes_the_call_that_waits() -> None:
    session = Session("T5-interrupt-pending")
    for event in stream("T5-interrupt-pending"):
        session.tell(m.Live(1, [event]))
    kinds = [type(effect) for effect in session.effects if isinstance(effect, fx.RunTool | fx.CancelTool | fx.Announce)]
    assert kinds == [fx.RunTool, fx.CancelTool, fx.Announce]
    assert not session.machine.tools_running


def test_a_message_sent_while_a_call_waits_is_answered_in_the_same_turn() -> None:
    session, events = Session("T5-message-while-pending"), stream("T5-message-while-pending")
    session.tell(m.Live(1, events))
    assert session.result.text == "echo: never mind"
    assert session.result.terminal == "end_turn"


def test_nothing_of_a_session_that_was_resumed_in_the_middle_is_lost() -> None:
    machine = SessionMachine(MachineSettings(resumed=True, one_shot=True, kickoff_token=1), classify)
    effects = [*machine.start(), *machine.receive(m.Opened("sesn_1", blank=False)), *machine.receive(m.Attached(1))]
    effects += machine.receive(m.History(1, stream("T2-before")))
    effects += machine.receive(m.HistoryRead(1))
    (run,) = [effect for effect in effects if isinstance(effect, fx.RunTool)]
    content = ({"type": "text", "text": "18C"},)
    (post, *_) = machine.receive(m.ToolFinished(run.use.id, ToolResult(tool_use_id=run.use.id, content=content)))
    assert isinstance(post, fx.Post)
    machine.receive(m.Posted(post.post_id, ()))
    effects = machine.receive(m.Live(1, stream("T2-after-reconnect")))
    (result,) = [effect.value for effect in effects if isinstance(effect, fx.Reply)]
    assert (result.text, result.terminal) == ("cold", "end_turn")
    assert [use.id for use in result.custom_tool_uses] == [run.use.id]
