"""What can only be measured by looking: the sessions that live now, each with its phase and the depth of its mailbox.

Sessions come and go in the set; whoever measures, in whatever thread, looks at what is there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

__all__ = ["SOURCES", "Reading", "readings"]


@dataclass(frozen=True, slots=True)
class Reading:
    """One session at one moment.

    Attributes:
        provider: The provider's name.
        phase: What its status tells.
        mailbox_depth: The mail that its actor has not handled yet.
    """

    provider: str
    phase: str
    mailbox_depth: int


Source: TypeAlias = Callable[[], Reading]

SOURCES: Final[set[Source]] = set()


def readings() -> list[Reading]:
    """Look at every session that lives."""
    return [source() for source in SOURCES.copy()]
