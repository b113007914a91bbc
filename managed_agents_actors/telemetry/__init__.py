"""What the library tells about itself: for now its log, one event per line, silent until the application asks."""

from __future__ import annotations

from ._log import get_logger

__all__ = ["get_logger"]
