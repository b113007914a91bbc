"""The ``managed-agents`` command. It shows what the library does through its public names, and adds nothing to it."""

from __future__ import annotations

from .commands import main

__all__ = ["main"]
