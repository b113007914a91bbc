"""What a provider is asked to make or to put away, as values: checked, with nothing sent yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ._cache import Cache
from ._progress import Course
from ._specs import AgentSpec, EnvironmentSpec

__all__ = ["Order", "Removal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a provider is asked to provision.

    Attributes:
        spec: The agent.
        environment: Where its own tools run; ``None`` if nothing was asked for.
        name: What the agent is called, if not as its spec says.
        cache: Remembers what was made.
        course: Is told of phases and looks, and makes the errors that say how far it came. Its deadline is kept from
            outside.
        options: What the provider made of its own options.
        verify: Whether to look if what is remembered is still there.
    """

    spec: AgentSpec
    environment: EnvironmentSpec | None
    name: str | None
    cache: Cache
    course: Course
    options: Any
    verify: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What a provider is asked to put away.

    Attributes:
        handle: What :func:`provision` gave, or its JSON form.
        cache: May remember it.
        timeout: The longest it may take, in seconds.
        options: What the provider made of its own options.
    """

    handle: Any
    cache: Cache
    timeout: float
    options: Any
