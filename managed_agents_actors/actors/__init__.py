"""The generic actor kit on trio: mailboxes, subscribers, nurseries that fail plainly. It knows nothing of agents."""

from __future__ import annotations

from ._mailbox import Mailbox, MailboxStatistics
from ._nursery import open_plain_nursery, plain_failures, sole_failure
from ._replies import PendingReply, Replies, fresh
from ._subscribers import Subscribers

__all__ = [
    "Mailbox",
    "MailboxStatistics",
    "PendingReply",
    "Replies",
    "Subscribers",
    "fresh",
    "open_plain_nursery",
    "plain_failures",
    "sole_failure",
]
