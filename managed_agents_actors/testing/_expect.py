"""How a conformance suite says that something is not as it must be: an ``AssertionError`` with both sides in it.

A suite is run by whatever its user runs tests with, so nothing here needs pytest.
"""

from __future__ import annotations

__all__ = ["expect", "expect_that"]

MAX_SHOWN = 500  # characters of each side


def expect(found: object, wanted: object, of: str = "") -> None:
    """Compare what was found with what was wanted.

    Args:
        found: What is there.
        wanted: What must be.
        of: What it is of, for the message.

    Raises:
        AssertionError: They differ.
    """
    if found != wanted:
        subject = f"{of}: " if of else ""
        raise AssertionError(f"{subject}expected {ascii(wanted)[:MAX_SHOWN]}, found {ascii(found)[:MAX_SHOWN]}")


def expect_that(is_so: object, what: str) -> None:
    """Expect that something is so.

    Raises:
        AssertionError: It is not.
    """
    if not is_so:
        raise AssertionError(f"expected that {what}")
