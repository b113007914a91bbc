"""Reading the log: each event absorbed exactly once, in server order, whether it came live or from a listing.

For every new event: first the request it belongs to is found, then it is accounted for, then what follows from it is
set in motion. Constant work for each, and nothing is awaited.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..._model import Event
from ..consolidate import Admission, SeenEvents
from ..facts import (
    Activity,
    Answered,
    Called,
    Classify,
    Decided,
    Ended,
    Fact,
    Graded,
    Idled,
    Interrupted,
    PreviewText,
    Running,
    Said,
    Spent,
    Unrecognised,
    UserSpoke,
)
from ..mail import Confirmation, Origin, Report
from ..outbox import Stage
from .calls import Calls
from .conversation import Conversation
from .core import Core
from .postman import Postman
from .quiet import Quiet

TEXT_DELTA = "managed_agents.text_delta"


class LogReader:
    """Reads what the provider says."""

    def __init__(
        self, core: Core, classify: Classify, postman: Postman, calls: Calls, conversation: Conversation, quiet: Quiet
    ) -> None:
        self._core = core
        self._classify = classify
        self._postman = postman
        self._calls = calls
        self._conversation = conversation
        self._quiet = quiet
        self._turns = quiet.turns
        self._seen = SeenEvents()
        self._idless: list[Event] = []
        self._reported: set[str] = set()

    def read_live(self, events: Sequence[Event]) -> None:
        """Absorb events of the stream."""
        self._absorb(events, "live")

    def read_listing(self, events: Sequence[Event]) -> None:
        """Absorb a page of a listing. An event without an id is new only if none that follows it is known already."""
        for event in events:
            event_id = event.get("id")
            if not isinstance(event_id, str) or not event_id:
                self._idless.append(event)
                continue
            fresh = [] if event_id in self._seen else self._idless
            self._absorb([*fresh, event], "history")
            self._idless = []

    def end_listing(self, *, complete: bool) -> None:
        """The listing is over. Without a gap before it (not ``complete``), events without an id came on the stream."""
        if complete:
            self._absorb(self._idless, "history")
        self._idless = []

    def _absorb(self, events: Sequence[Event], origin: Origin) -> None:
        for event in events:
            if self._core.closed:
                return
            admission = self._seen.admit(event)
            if admission is Admission.NEW:
                self._take(event, self._classify(event), origin)
            elif admission is Admission.UPDATED:
                self._update(self._classify(event))

    def _take(self, event: Event, fact: Fact, origin: Origin) -> None:
        self._quiet.broken()
        self._prepare(fact)
        closed = self._core.log.absorb(fact)
        ledger = self._conversation.ledger
        if not isinstance(fact, PreviewText):
            ledger.record(event)
            self._core.show(event, origin)
        delta = ledger.absorb(event, fact)
        if delta:
            shown_id = fact.event_id if isinstance(fact, PreviewText) else event.get("id")
            self._core.show({"type": TEXT_DELTA, "text": delta, "event_id": shown_id}, origin)
        for call_id in closed:
            self._calls.put_away(call_id)
        self._act(fact)

    def _update(self, fact: Fact) -> None:
        """A queued event came back processed: only what depends on that changes."""
        self._quiet.broken()
        if isinstance(fact, Interrupted):
            for call_id in self._core.log.absorb(fact):
                self._calls.put_away(call_id)
        elif isinstance(fact, UserSpoke):
            request = self._conversation.active
            if request is None:
                self._conversation.begin_foreign()
            elif request.sent:
                request.begun = True

    def _prepare(self, fact: Fact) -> None:
        match fact:
            case UserSpoke():
                self._on_user_spoke(fact)
            case Activity() | Said() | Called() | PreviewText() | Spent() | Graded():
                self._on_work(fact)
            case Answered(tool_use_id=call_id):
                if self._core.log.has_answer(call_id):
                    self._turns.only_duplicate = True
            case Decided(tool_use_id=call_id):
                for delivery in self._core.outbox.of_call(call_id):
                    delivery.seen = delivery.seen or isinstance(delivery.input, Confirmation)
            case Running():
                request = self._conversation.active
                if request is not None and request.sent and not self._core.reposted:
                    request.begun = True
            case _:
                pass

    def _act(self, fact: Fact) -> None:
        match fact:
            case Called(use=use, problem=problem):
                if problem is not None:
                    self._calls.note_problem(use.id, problem)
                if self._conversation.active is not None and self._calls.standing(use) != "provider":
                    self._conversation.active.round.add(use.id)
            case Idled():
                self._turns.stopped(fact)
            case Ended(how=how) if not self._core.replaying:
                if how == "deleted":
                    self._conversation.end_session(None)
                else:
                    self._conversation.terminated()
            case Unrecognised(what=what) if what not in self._reported:
                self._reported.add(what)
                self._core.emit(Report("unrecognised_event", what))
            case _:
                pass

    def _on_user_spoke(self, fact: UserSpoke) -> None:
        mine = self._core.outbox.match(fact.content)
        request = self._conversation.active
        if mine is None:
            if request is None:
                self._conversation.begin_foreign()
            return
        if mine.stage in (Stage.WAITING, Stage.UNCLEAR, Stage.CHECKING):
            self._postman.accepted(mine)
        if fact.taken and request is not None and request.post_id == mine.id:
            request.begun = True

    def _on_work(self, fact: Fact) -> None:
        """The model is at work: on the request in progress, or on one that this process did not start."""
        self._turns.only_duplicate = self._core.reposted = False
        request = self._conversation.active
        if request is None:
            if isinstance(fact, Spent | Graded):
                return  # the bill of a request that is over
            request = self._conversation.reopen()
        elif request.input is None or request.sent:
            request.begun = True
        if isinstance(fact, Activity) and fact.begins:
            self._turns.model_goes_on(request)
