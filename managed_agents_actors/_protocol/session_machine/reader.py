"""Reading the log: each event absorbed exactly once, in server order, whether it came live or from a listing.

For every new event: first the request it belongs to is found, then it is accounted for, then what follows from it is
set in motion. Constant work for each, and nothing is awaited.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..._model import Event
from ..consolidate import Admission, SeenEvents
from ..effects import Landmark, Report
from ..facts import (
    NOTHING,
    OWN_EVENT,
    Activity,
    Answered,
    Broken,
    Called,
    Classify,
    Decided,
    Ended,
    Fact,
    Graded,
    Idled,
    Interrupted,
    PreviewText,
    Restarted,
    Running,
    Said,
    Spent,
    Unrecognised,
    UserSpoke,
)
from ..mail import Confirmation, Origin
from ..outbox import Stage
from .calls import Calls
from .conversation import Conversation
from .core import Core
from .endings import Endings
from .postman import Postman
from .quiet import Quiet
from .requests import Request
from .succession import Succession

TEXT_DELTA = "managed_agents.text_delta"
TURN_RESTARTED = "managed_agents.turn_restarted"

# Stages of an input at which its echo in the log settles it; one that is flying is settled by its answer.
UNSETTLED = (Stage.WAITING, Stage.UNCLEAR, Stage.CHECKING)

# What a fact is to the reader. Most events only say something: they are told apart by one look, not by matching.
_WORK = frozenset({Activity, Said, Called, PreviewText, Spent, Graded})
_PREPARED = frozenset({UserSpoke, Answered, Interrupted, Decided, Running})
_ACTED_ON = frozenset({Called, Idled, Broken, Ended, Unrecognised})


@dataclass(slots=True)
class _Listing:
    """A listing that is being read: whether nothing was known before it, and new events whose place is still open."""

    is_first: bool
    unplaced: list[Event] = field(default_factory=list)


class LogReader:
    """Reads what the provider says."""

    __slots__ = (
        "_calls",
        "_classify",
        "_conversation",
        "_core",
        "_endings",
        "_history",
        "_interrupts",
        "_postman",
        "_quiet",
        "_reported",
        "_seen",
        "_succession",
        "_turns",
    )

    def __init__(
        self,
        core: Core,
        classify: Classify,
        postman: Postman,
        calls: Calls,
        conversation: Conversation,
        endings: Endings,
        quiet: Quiet,
    ) -> None:
        self._core = core
        self._classify = classify
        self._postman = postman
        self._calls = calls
        self._conversation = conversation
        self._endings = endings
        self._quiet = quiet
        self._turns = quiet.turns
        self._succession: Succession | None = None
        self._seen = SeenEvents()
        self._history: _Listing | None = None
        # Interrupts that are queued, each with the calls it will end; emptied whenever a turn ends.
        self._interrupts: dict[str, tuple[str, ...]] = {}
        self._reported: dict[str, None] = {}

    def succeed(self, succession: Succession) -> None:
        """Begin with the log of a machine that this one takes the place of."""
        self._succession = succession

    def shown(self) -> SeenEvents:
        """Give the events that observers have been shown."""
        return self._seen if self._succession is None else self._succession.hand_on(self._seen)

    def landmark(self) -> Landmark | None:
        """Where a listing may begin that is to show what was missed; nothing if only the whole will do."""
        latest = self._seen.latest
        if latest is None or any(delivery.attempts for delivery in self._core.outbox):
            return None  # a listing from a point in time need not show what is queued, and so not what was sent
        return Landmark(str(latest["id"]), str(latest["processed_at"]))

    def read_live(self, events: Sequence[Event]) -> None:
        """Absorb events of the stream."""
        self._absorb(events, "live")

    def read_page(self, events: Sequence[Event]) -> None:
        """Absorb a page of the listing that a new stream begins with."""
        if self._succession is not None:
            for event, met in self._succession.place(events):
                self._succession.arrive_at(event)
                self._core.reread = met
                self._absorb([event], "history")
            self._core.reread = False
            return
        if self._history is None:
            self._history = _Listing(is_first=not self._seen)
        self._place(events, self._history)

    def end_history(self) -> None:
        """The listing that a new stream begins with is complete."""
        if self._succession is not None:
            self._end_succession(self._succession)
        if self._history is not None:
            self._absorb(self._history.unplaced, "history")
        self._history = None

    def _end_succession(self, succession: Succession) -> None:
        news = succession.take_news()
        if self._core.past_is_read:
            self._succession = None
            succession.complete()
            self._absorb(news, "history")
        else:
            self._absorb(news, "history")
            self._succession = None
            succession.complete()

    def drop_history(self) -> None:
        """The listing broke off: it will be read again."""
        self._history = None
        if self._succession is not None:
            self._succession.drop()

    def read_look(self, events: Sequence[Event]) -> bool:
        """Absorb a listing that was read beside the stream: what has no id in it came, or comes, on the stream.

        Returns:
            Whether the listing shows what was known last; one that does not cannot be the whole.
        """
        latest = self._seen.latest
        is_whole = latest is None or any(event.get("id") == latest["id"] for event in reversed(events))
        listing = _Listing(is_first=not self._seen)
        self._place(events, listing)
        self._absorb([event for event in listing.unplaced if event.get("id")], "history")
        return is_whole

    def _place(self, events: Sequence[Event], listing: _Listing) -> None:
        """Absorb a listing's events.

        What a listing shows before an event that is known at its place is old news: it begins and ends nothing now,
        and an event without an id there has been met before. In a first listing everything is in its place.
        """
        for event in events:
            if listing.is_first:
                self._absorb([event], "history")
            elif self._seen.anchors(event):
                old, listing.unplaced = listing.unplaced, []
                self._absorb([news for news in old if news.get("id")], "history", stale=True)
                self._absorb([event], "history")
            else:
                listing.unplaced.append(event)

    def _absorb(self, events: Sequence[Event], origin: Origin, *, stale: bool = False) -> None:
        moved = False
        for event in events:
            if self._core.closed:
                return
            admission = self._seen.admit(event)
            if not moved and admission is not Admission.KNOWN:
                moved = True
                self._quiet.broken()
            fact = self._classify(event) if admission is not Admission.KNOWN or origin == "history" else NOTHING
            if admission is Admission.NEW:
                self._take(event, self._outdated(fact) if stale else fact, origin)
            elif admission is Admission.UPDATED:
                self._update(event, fact)
            elif origin == "history":
                self._core.log.repeat(fact)

    def _outdated(self, fact: Fact) -> Fact:
        """What is left of a fact's meaning when later events have been absorbed before it."""
        if isinstance(fact, UserSpoke):
            mine = self._core.outbox.match(fact.content)
            if mine is not None and mine.stage in UNSETTLED:
                self._postman.accepted(mine)
        return NOTHING if isinstance(fact, UserSpoke | Idled | Broken | Running) else fact

    def _take(self, event: Event, fact: Fact, origin: Origin) -> None:
        kind = type(fact)
        preview = isinstance(fact, PreviewText)
        if isinstance(fact, PreviewText) and fact.event_id in self._seen:
            return  # the message itself was in the listing
        if kind in _WORK:
            self._on_work(fact)
        elif kind in _PREPARED:
            self._prepare(event, fact)
        closed = self._core.log.absorb(fact)
        account = self._conversation.account
        if event.get("type") == OWN_EVENT:
            self._note_own(event, fact, origin)
        elif not preview:
            self._core.show(event, origin)
            if account is not None:
                account.record(event)
        delta = "" if account is None else account.absorb(event, fact)
        if delta:
            shown_id = fact.event_id if isinstance(fact, PreviewText) else event.get("id")
            self._core.show({"type": TEXT_DELTA, "text": delta, "event_id": shown_id}, origin)
        for call_id in closed:
            self._calls.put_away(call_id)
        if kind in _ACTED_ON:
            self._act(fact)

    def _note_own(self, event: Event, fact: Fact, origin: Origin) -> None:
        """The provider module says what follows from the provider's events: observers see only what concerns them."""
        account = self._conversation.account
        if isinstance(fact, UserSpoke) and account is not None:
            account.record_hidden(event.get("id"))
        elif isinstance(fact, Restarted):
            self._core.show({"type": TURN_RESTARTED}, origin)

    def _update(self, event: Event, fact: Fact) -> None:
        """A queued event came back processed: only what depends on that changes."""
        if isinstance(fact, Interrupted):
            # It ends the calls that stood before it, not those of a turn that has begun since it was queued.
            for call_id in self._core.log.close(self._interrupts.pop(str(event.get("id")), ())):
                self._calls.put_away(call_id)
        elif isinstance(fact, UserSpoke):
            request = self._conversation.active
            if request is not None and request.echo_id == event.get("id"):
                self._conversation.taken(request, fact.at)
            elif self._conversation.is_given_up(event.get("id")):
                self._conversation.given_up_shows(event.get("id"), taken=True)
                if request is not None:
                    self._rival(request)

    def _prepare(self, event: Event, fact: Fact) -> None:
        match fact:
            case UserSpoke():
                self._on_user_spoke(event, fact)
            case Answered(tool_use_id=call_id):
                if self._core.log.has_answer(call_id):
                    self._turns.only_duplicate = True
            case Interrupted(thread_id=thread_id, applied=False):
                open_calls = self._core.log.calls.values()
                covered = tuple(use.id for use in open_calls if thread_id in (None, use.thread_id))
                self._interrupts[str(event.get("id"))] = covered
            case Decided(tool_use_id=call_id):
                for delivery in self._core.outbox.of_call(call_id):
                    delivery.seen = delivery.seen or isinstance(delivery.input, Confirmation)
            case Running():
                request = self._conversation.active
                if request is not None and request.sent and not self._core.reposted:
                    request.running = True
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
                if fact.waiting_for is None:
                    self._conversation.stopped(at_work=fact.at_work)
                    self._interrupts.clear()
            case Broken(error=error, at_work=at_work):
                self._turns.broke(error)
                self._conversation.stopped(at_work=at_work)
                self._interrupts.clear()
            case Ended(how=how) if not self._core.replaying:
                if how == "deleted":
                    self._endings.end_session(None)
                else:
                    self._endings.terminated()
            case Unrecognised(what=what) if what not in self._reported:
                self._reported[what] = None
                self._core.emit(Report("unrecognised_event", what))
            case _:
                pass

    def _on_user_spoke(self, event: Event, fact: UserSpoke) -> None:
        request = self._conversation.active
        if self._core.reread and request is not None and request.origin_id == event.get("id"):
            if fact.taken:
                self._conversation.taken(request, fact.at)
            return
        mine = self._core.outbox.match(fact.content, among=self._own(request))
        if mine is None:
            if self._conversation.is_given_up(event.get("id")):
                self._conversation.given_up_shows(event.get("id"), taken=fact.taken)
            elif request is None:
                self._conversation.begin_foreign(event.get("id"), fact)
            if request is not None:
                self._rival(request)
            return
        if mine.stage in UNSETTLED:
            self._postman.accepted(mine)
        if mine.unwanted:
            self._conversation.given_up_shows(event.get("id"), taken=fact.taken)
        elif request is None:
            self._conversation.begin_unasked(mine, fact)
        if request is not None and request.post_id != mine.id:
            self._rival(request)
        if self._conversation.active is not None:
            self._conversation.note_echo(mine, [event])
        if request is not None and request.post_id == mine.id and fact.taken:
            self._conversation.taken(request, fact.at)

    def _own(self, request: Request | None) -> tuple[int, ...] | None:
        """Which inputs of ours the event can be: of those met before, only the reprompts that were made once more."""
        if not self._core.reread:
            return None
        return () if self._core.replaying or request is None or request.post_id is None else (request.post_id,)

    def _rival(self, request: Request) -> None:
        """An input that is not the request's own stands in the log: work may be on that one."""
        if request.taken_at is None and (request.input is not None or request.echo_id is not None):
            request.rivalled = not request.begun

    def _on_work(self, fact: Fact) -> None:
        """The model is at work: on the request in progress, or on one that this process did not start."""
        self._turns.only_duplicate = self._core.reposted = False
        request = self._conversation.active
        if request is None:
            if isinstance(fact, Spent | Graded):
                return  # the bill of a request that is over
            request = self._conversation.reopen()
        elif (request.input is None or request.sent) and not request.rivalled:
            request.begun = True
        if request is not None and isinstance(fact, Activity) and fact.begins:
            self._turns.model_goes_on(request)
