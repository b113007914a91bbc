"""Taking the place of a machine that has crashed: the log is read again, and work goes on where it stood.

What observers have been shown is accounted for once more without a word. The account of the request that was in
progress begins at the same event as before; if it had none yet, or is not ours, the request stands as it stood.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..._model import Event
from ..consolidate import SeenEvents
from ..effects import Backoff
from .conversation import Conversation
from .core import Core
from .handover import Handover
from .postman import Postman


class Succession:
    """What a predecessor has left, until all that it had met is read again."""

    def __init__(self, core: Core, postman: Postman, conversation: Conversation, handover: Handover) -> None:
        self._core = core
        self._postman = postman
        self._conversation = conversation
        self._handover = handover
        self._held: list[Event] = []
        request = handover.active
        account = () if request is None or request.input is None else request.known.event_ids
        self._begins_at = next((event_id for event_id in account if event_id), None)

    def begin(self) -> None:
        """What was on its way when the predecessor ended is to be looked up, after a while.

        Until the log has been read again it is a look itself: another one would tell of events out of their place.
        """
        self._core.looking = True
        for delivery in self._core.outbox.outlive():
            if delivery.seen:
                self._postman.accepted(delivery)
            else:
                self._core.emit(Backoff(("post", delivery.id), delivery.attempts))

    def place(self, events: Sequence[Event]) -> Iterator[tuple[Event, bool]]:
        """Give the events of the listing that the predecessor stood behind, each with whether observers have had it.

        One that nobody has met is held back: it is news, unless one that is known follows it. One without an id that
        a known one follows has been shown.
        """
        for event in events:
            if event.get("id") in self._handover.shown:
                held, self._held = self._held, []
                yield from ((old, not old.get("id")) for old in held)
                yield event, True
            else:
                self._held.append(event)

    def drop(self) -> None:
        """The listing broke off: what was held back will be listed again."""
        self._held.clear()

    def arrive_at(self, event: Event) -> None:
        """See whether the account of the request that was in progress began with this event; then it does so again."""
        if self._begins_at is None or event.get("id") != self._begins_at:
            return
        self._begins_at = None
        request = self._conversation.inherited
        if request is None:
            return  # it has been ended here meanwhile
        delivery = None if request.post_id is None else self._core.outbox.get(request.post_id)
        if delivery is not None and request.reprompts:
            self._core.outbox.settle(delivery)  # a reprompt, which is found or made again on the way
        request.begin_anew()
        self._conversation.active, self._conversation.inherited = request, None
        self._core.replaying = False

    def take_news(self) -> list[Event]:
        """Give what was held back: nobody has met it."""
        news, self._held = self._held, []
        return news

    def complete(self) -> None:
        """All that the predecessor had met, or would have found, is read: stand where it stood, or would have."""
        if self._core.replaying:
            self._core.replaying = False
            if self._core.past_is_read:
                self._conversation.stand_where_it_stood()
        request = self._conversation.active
        if request is not None and request.earlier is not None:
            request.ledger.go_on_with(request.earlier)
            request.earlier = None
        self._core.looked()

    def hand_on(self, met: SeenEvents) -> SeenEvents:
        """The successor ends too, before it stands where its predecessor stood: give what observers have been shown."""
        return self._handover.shown.union(met)
