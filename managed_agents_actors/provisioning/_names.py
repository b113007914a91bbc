"""The name of a resource: what people call it, and the digest of what it is. Pure.

The digest is never cut: a name that is too long loses some of its own letters, and gets a check of all of them instead.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from .._errors import ConfigurationError
from .._protocol.digest import DIGEST_CHARS

__all__ = ["CLAUDE", "HARNESS", "NamePolicy", "check_base", "check_label", "compose", "digest_in", "fit"]

# Hexadecimal digits that stand for a base's cut letters.
CHECK_CHARS: Final = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class NamePolicy:
    """What a provider takes as a name.

    Attributes:
        max_bytes: The longest, in bytes of UTF-8.
        identifier: Whether it must be letters, digits and underscores, the first a letter.

    Raises:
        ConfigurationError: There is no room for a digest and anything else.
    """

    max_bytes: int
    identifier: bool = False

    def __post_init__(self) -> None:
        # One letter, "_", the check; then "_" and the digest.
        least = 1 + 1 + CHECK_CHARS + 1 + DIGEST_CHARS
        if self.max_bytes < least:
            raise ConfigurationError(
                f"{self.max_bytes} bytes are too few for names that can be told apart; {least} are enough"
            )

    @property
    def room(self) -> int:
        """The bytes that are left beside a digest."""
        return self.max_bytes - DIGEST_CHARS - 1


# Sources: Claude Managed Agents, "Create agent"; Bedrock AgentCore, "CreateHarness", harnessName.
CLAUDE: Final = NamePolicy(max_bytes=256)
HARNESS: Final = NamePolicy(max_bytes=40, identifier=True)


def compose(base: str, digest: str, policy: NamePolicy) -> str:
    """``<base>_<digest>``, with as much of the base as fits: the same name for the same two, always."""
    return f"{fit(base, policy)}_{digest}"


def fit(base: str, policy: NamePolicy) -> str:
    """A base as names have it; bases that are alike in this form are one base, and share their versions and tags."""
    fitted = _identifier(base) if policy.identifier else base
    if len(fitted.encode()) <= policy.room:
        return fitted
    check = hashlib.sha256(base.encode()).hexdigest()[:CHECK_CHARS]
    kept = fitted.encode()[: policy.room - CHECK_CHARS - 1].decode(errors="ignore")  # no half characters
    return f"{kept}_{check}"


def check_base(base: object, policy: NamePolicy, what: str) -> str:
    """Give a base back that can be one. Where any characters are taken it must fit whole, and people can read it.

    Raises:
        ConfigurationError: It is no name, or too long, or has a colon.
    """
    checked = check_label(base, what)
    if ":" in checked:
        raise ConfigurationError(f"{what} {checked!r} has a colon, and a tag is named <base>:<tag>")
    size = len(checked.encode())
    if size > policy.room and not policy.identifier:
        raise ConfigurationError(f"{what} has {size} bytes; beside the digest there is room for {policy.room}")
    return checked


def check_label(label: object, what: str) -> str:
    """Give back what people call something by: a text that can be sent, and read on one line.

    Raises:
        ConfigurationError: It is none.
    """
    if not isinstance(label, str) or not label.strip():
        raise ConfigurationError(f"{what} must be a non-empty text, not {label!r}")
    categories = {unicodedata.category(character) for character in label}
    if "Cs" in categories:
        raise ConfigurationError(f"{what} {label!r} holds half a surrogate pair")
    if "Cc" in categories:
        raise ConfigurationError(f"{what} {label!r} holds a control character")
    return label


def digest_in(name: object, base: str, policy: NamePolicy) -> str | None:
    """The digest in a name that was composed of this base; ``None`` if it was not."""
    found = re.fullmatch(rf"(?s)(.+)_([0-9a-f]{{{DIGEST_CHARS}}})", name) if isinstance(name, str) else None
    return found[2] if found and name == compose(base, found[2], policy) else None


def _identifier(base: str) -> str:
    """The base in the letters that an identifier may have."""
    replaced = re.sub(r"[^A-Za-z0-9_]", "_", base)
    return replaced if re.match(r"[A-Za-z]", replaced) else f"a{replaced}"
