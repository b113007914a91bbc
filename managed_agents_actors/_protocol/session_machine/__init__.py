"""The session machine, in parts that each open with what they decide; ``machine`` is where to begin reading.

machine ── mail finds its part
  reader ── each event once: whose it is, what it adds, what follows
  turns ── where a turn ends, and whether the request ends with it
  conversation ── requests begin, wait, end; the one place where a terminal is announced
  calls ── each call taken up once
  postman ── inputs go out until they are known to be taken
  quiet ── waits that nobody can end
  core, connection, requests ── what they share
"""

from __future__ import annotations

from .conversation import INTERRUPT_GRACE
from .core import MachineSettings
from .machine import SessionMachine
from .reader import TEXT_DELTA

__all__ = ["INTERRUPT_GRACE", "TEXT_DELTA", "MachineSettings", "SessionMachine"]
