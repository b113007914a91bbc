"""The session machine, in parts that each open with what they decide; ``machine`` is where to begin reading.

machine ── mail finds its part
  reader ── each event once: whose it is, what it adds, what follows
  turns ── where a turn ends, and whether the request ends with it
  conversation ── requests begin, wait, end; the one place where a terminal is announced
  endings ── refusals, deadlines, stops, the session's own end
  calls ── each call taken up once
  postman ── inputs go out until they are known to be taken
  quiet ── waits that nobody can end
  succession, handover ── taking the place of a machine whose actor has crashed
  core, connection, requests ── what they share
"""

from __future__ import annotations

from .connection import Phase, is_permanent
from .conversation import INTERRUPT_GRACE
from .core import MachineSettings
from .handover import Handover
from .machine import SessionMachine
from .reader import TEXT_DELTA, TURN_RESTARTED

__all__ = [
    "INTERRUPT_GRACE",
    "TEXT_DELTA",
    "TURN_RESTARTED",
    "Handover",
    "MachineSettings",
    "Phase",
    "SessionMachine",
    "is_permanent",
]
