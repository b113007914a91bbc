"""The ``managed-agents`` command: what the library does, from a shell. It adds nothing to it.

It uses public names. Only to say what would be done, and to do none of it, does it look below them.
"""

from __future__ import annotations

from .commands import main

__all__ = ["main"]
