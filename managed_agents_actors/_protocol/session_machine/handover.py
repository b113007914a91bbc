"""What a machine leaves to its successor when the actor around it has crashed: only what the log cannot tell.

The successor reads the provider's log from its beginning and so comes to every conclusion anew. From here it knows who
waits for what, what was on its way, and which events observers have been shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from ..._model import Usage
from ..consolidate import SeenEvents
from ..ledger import Ledger
from ..mail import Answer, Confirmation, Token
from ..outbox import Outbox
from .requests import Request

# What the provider does after the end of a request: nothing expected, more of it, or leftovers of a failed one.
Afterwards: TypeAlias = Literal["nothing", "more", "leftovers"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """The estate of a machine. It is used up by the successor.

    Attributes:
        session_id: The session.
        generation: The number of the last stream.
        shown: The events that observers have been shown.
        outbox: Inputs on their way.
        past_is_read: Whether what the session had done before it was taken up here has been read to its end.
        active: The request that was in progress.
        last: The account of the last request before it, or of the one that goes on.
        settled: What was in that account when the request ended.
        queue: The requests that waited for their turn.
        afterwards: What the provider was doing, if no request was in progress.
        given_up: Inputs that the provider had queued though their requests are over.
        abandoned: Open calls that are not to be taken up.
        begun: Open calls that were run.
        numbered: How many requests have been told to have begun.
    """

    session_id: str
    generation: int
    shown: SeenEvents
    outbox: Outbox
    past_is_read: bool
    active: Request | None
    last: Ledger
    settled: Usage
    queue: tuple[Request, ...]
    afterwards: Afterwards
    given_up: frozenset[object]
    abandoned: frozenset[str]
    begun: frozenset[str]
    numbered: int

    def answers_sent(self) -> list[Answer]:
        """The answers that were perhaps taken, and are still wanted."""
        sent = [delivery for delivery in self.outbox if delivery.attempts and not delivery.unwanted]
        return [delivery.input for delivery in sent if isinstance(delivery.input, Answer)]

    def verdicts_sent(self) -> set[str]:
        """The gated calls whose verdict was perhaps taken: it is sent again if it was not, and nobody asked anew."""
        sent = [delivery.input for delivery in self.outbox if delivery.attempts and not delivery.unwanted]
        return {verdict.tool_use_id for verdict in sent if isinstance(verdict, Confirmation)}

    def tokens(self) -> set[Token]:
        """Everybody who waits for something that is handed over."""
        requests = (*self.queue, *([] if self.active is None else [self.active]))
        waiting = [token for request in requests for token in (request.delivery, *request.results)]
        waiting += [delivery.token for delivery in self.outbox]
        return {token for token in waiting if token is not None}
