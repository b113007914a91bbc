"""The generic actor kit on trio: mailboxes, supervisors, registries, subscribers. It knows nothing of agents."""

from __future__ import annotations

from ._child import Child, ChildCounts, ChildInfo, ChildState
from ._exit import Exit, Shutdown
from ._mailbox import Mailbox, MailboxStatistics
from ._nursery import open_plain_nursery, plain_failures, sole_failure
from ._registry import Registry
from ._replies import PendingReply, Replies, fresh
from ._report import EventHook
from ._restart import AutoShutdown, Restart, Strategy
from ._spec import ChildSpec
from ._stop_signal import StopSignal, stop_signal
from ._subscribers import Subscribers
from ._supervisor import Supervisor, open_supervisor, run_supervisor

__all__ = [
    "AutoShutdown",
    "Child",
    "ChildCounts",
    "ChildInfo",
    "ChildSpec",
    "ChildState",
    "EventHook",
    "Exit",
    "Mailbox",
    "MailboxStatistics",
    "PendingReply",
    "Registry",
    "Replies",
    "Restart",
    "Shutdown",
    "StopSignal",
    "Strategy",
    "Subscribers",
    "Supervisor",
    "fresh",
    "open_plain_nursery",
    "open_supervisor",
    "plain_failures",
    "run_supervisor",
    "sole_failure",
    "stop_signal",
]
